"""Destylization and refinement agree with the published scripts, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from reference import fill, golden
from torch import Tensor, nn

from dsgcli.recipe import DestylizeRecipe, RefineRecipe
from dsgcli.training.fitting import Fit, Terms
from dsgcli.training.losses import noise_regularizer, normalize_noise
from dsgcli.training.perceptual import IrseIdentity, VggFeatures, frozen
from dsgcli.training.stages.destylize import Destylizer
from dsgcli.training.stages.refine import Refiner
from dsgcli.types import LatentLayout

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fast_double")]
STEPS = 3


class AsPublished(Fit):
    """Terms are means over the batch but for the perceptual one, and noise is treated as a whole;
    records what the cases hold."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.gradients: list[list[Tensor]] = []
        self.losses: list[float] = []
        self.terms: list[dict[str, float]] = []
        self.used: list[float] = []

    def total(self, terms: Terms) -> Tensor:
        sums = {k: v.sum() if k == "perceptual" else v.mean() for k, (_, v) in terms.items()}
        loss = torch.stack([w * sums[k] for k, (w, _) in terms.items()]).sum()
        self.terms.append({k: float(v.detach()) for k, v in sums.items()})
        self.losses.append(float(loss.detach()))
        return loss

    def noise_term(self) -> Tensor:
        return noise_regularizer(self.noise)[None]

    def normalize(self) -> None:
        self.used.append(self.optimizer.param_groups[0]["lr"])
        self.gradients.append([v.grad.clone() for v in [*self.values, self.noise[8]]])
        normalize_noise(self.noise)


def picture(seed: str, width: int = 256, height: int = 256) -> Tensor:
    """A portrait as the published scripts read it: shorter side to 256 px, the middle, [-1, 1]."""
    values = fill.image(seed, 1, max(width, height))[0, :, :height, :width]
    pixels = np.rint((values + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(pixels)
    scale = 256 / min(width, height)
    size = (int(width * scale), int(height * scale))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 256) / 2), round((size[1] - 256) / 2)
    cropped = np.asarray(image.crop((left, top, left + 256, top + 256)))
    return torch.from_numpy(cropped.copy()).permute(2, 0, 1).double()[None] / 127.5 - 1.0


def first_noise(case: str, batch: int) -> list[Tensor]:
    sizes = LatentLayout(256).noise_sizes_px
    shapes = [(batch, 1, s, s) for s in sizes]
    maps = [fill.unit(f"{case}:normal_{k}", shape) for k, shape in enumerate(shapes)]
    return [torch.from_numpy(m).double() for m in maps]


def pooled(images: Tensor) -> np.ndarray:
    return F.adaptive_avg_pool2d(images, 32).detach().numpy()


def check(name: str, outputs: dict[str, np.ndarray]) -> None:
    case = golden.case(name)
    wrong = [r for r in golden.check(case, outputs, f64=True) if not r[1]]
    assert not wrong, wrong
    assert set(outputs) == set(case["outputs"]), set(case["outputs"]) ^ set(outputs)


class PublishedDestylizer(Destylizer):
    def fit(self, exstyle: Tensor, noise: Sequence[Tensor]) -> AsPublished:
        plain = super().fit(exstyle, noise)
        self.fitting = AsPublished(
            [(exstyle, self.recipe.lr)],
            noise,
            noise_rate=self.recipe.lr,
            lambda_noise=self.recipe.lambda_noise,
            rate=plain.rate,
        )
        return self.fitting


@pytest.mark.golden("script.destylize")
def test_destylization_follows_the_published_script(made: Callable[[str], nn.Module]) -> None:
    name = "script.destylize"
    destylizer = PublishedDestylizer(
        frozen(made("gen256")),
        frozen(made("finetuned256")),
        frozen(made("encoder256")),
        VggFeatures(made("vgg19"), made("lpips")),
        IrseIdentity(made("irse50")),
        DestylizeRecipe(steps=STEPS),
        LatentLayout(256),
    )
    portraits = torch.cat([picture("destylize:a"), picture("destylize:b", 320, 288)])
    found = destylizer.run(portraits, first_noise(name, 2))
    fitting = destylizer.fitting
    outputs: dict[str, np.ndarray] = {
        "loss": np.array(fitting.losses),
        "lr": np.array(fitting.used),
        "noise8_grad_norm": np.array([float(g[1].norm()) for g in fitting.gradients]),
        "latent_before_step1": first_latent(fitting, found.exstyle),
        "img_dsty.pool": pooled(found.recovered),
    }
    base, noise = destylizer.base, [n.detach() for n in fitting.noise]
    with torch.no_grad():  # previews that we draw otherwise: ours show what the codes alone do
        outputs["img_rec.pool"] = pooled(base(base.map_plus(found.exstyle)))
        refined = base.truncate(base.map_plus(found.instyle), 0.7)
        outputs["img_refine.pool"] = pooled(base(refined, noise))
    letters = {"Lperc": "perceptual", "LID": "identity", "Lreg": "spread", "Lnoise": "noise"}
    for letter, term in letters.items():
        outputs[letter] = np.array([terms[term] for terms in fitting.terms])
    for step, gradients in enumerate(fitting.gradients):
        outputs[f"grad{step}"] = gradients[0][..., :16].numpy()
        outputs[f"grad{step}.norm"] = gradients[0].norm(dim=2).numpy()
    for k, file in enumerate(("a.png", "b.png")):
        outputs[f"instyle.{file}"] = found.instyle[k : k + 1, :, :128].numpy()
        outputs[f"exstyle.{file}"] = found.exstyle[k : k + 1, :, :128].numpy()
    check(name, outputs)


def first_latent(fitting: AsPublished, exstyle: Tensor) -> np.ndarray:
    """The first step has rate 0, so the code is still the encoder's before the second."""
    assert fitting.used[0] == 0.0
    return exstyle[..., :64].numpy()


class PublishedRefiner(Refiner):
    def fit(self, exstyle: Tensor, noise: Sequence[Tensor]) -> AsPublished:
        layout = self.dual.layout
        self.fitting = AsPublished(
            [
                (exstyle[:, layout.structure], self.recipe.lr_structure),
                (exstyle[:, layout.color], self.recipe.lr_color),
            ],
            noise,
            noise_rate=0.1,
            lambda_noise=self.recipe.lambda_noise,
        )
        return self.fitting


@pytest.mark.golden("script.refine")
def test_refinement_follows_the_published_script(made: Callable[[str], nn.Module]) -> None:
    name = "script.refine"
    recipe = RefineRecipe(steps=STEPS, lr_color=0.1, lr_structure=0.005)
    refiner = PublishedRefiner(
        frozen(made("dual256")), VggFeatures(made("vgg19"), made("lpips")), recipe
    )
    codes = [
        torch.from_numpy(fill.unit(f"refine:{k}", (1, 14, 512))).double() for k in ("in", "ex")
    ]
    refined, _ = refiner.run(picture("destylize:a"), codes[0], codes[1], first_noise(name, 1))
    fitting = refiner.fitting
    outputs = {"loss": np.array(fitting.losses), "refined": refined[..., :128].numpy()}
    letters = {"Lperc": "perceptual", "LCX": "contextual", "Lnoise": "noise"}
    for letter, term in letters.items():
        outputs[letter] = np.array([terms[term] for terms in fitting.terms])
    for step, gradients in enumerate(fitting.gradients):
        outputs[f"gs{step}"] = gradients[0][..., :16].numpy()
        outputs[f"gc{step}"] = gradients[1][..., :16].numpy()
    check(name, outputs)
