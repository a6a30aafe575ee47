"""Destylization and refinement: codes come nearer to their portraits, each for itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.recipe import DestylizeRecipe, RefineRecipe
from dsgcli.training.perceptual import DiscriminatorFeatures, EncoderIdentity, frozen, mean_code
from dsgcli.training.stage import SeededDraws
from dsgcli.training.stages.destylize import Destylizer, flagged, note_scores, write_sheets
from dsgcli.training.stages.refine import Refiner

CPU = torch.device("cpu")


@pytest.fixture
def portraits() -> Tensor:
    return torch.rand(3, 3, 32, 32) * 2 - 1


@pytest.fixture
def destylizer(tiny_config: GeneratorConfig, tiny_encoder: Encoder) -> Destylizer:
    torch.manual_seed(3)
    base, finetuned = Generator(tiny_config), Generator(tiny_config)
    center = mean_code(tiny_encoder, torch.rand(4, 3, 32, 32) * 2 - 1)
    return Destylizer(
        frozen(base),
        frozen(finetuned),
        frozen(tiny_encoder),
        DiscriminatorFeatures(Discriminator(tiny_config)),
        EncoderIdentity(tiny_encoder, base.layout.structure, center),
        DestylizeRecipe(steps=8, lambda_noise=1.0),
        base.layout,
    )


def noise_of(network: Destylizer | DualStyleGAN, rows: range) -> list[Tensor]:
    return SeededDraws(0, 0, "x", rows, CPU).noise(network.layout.noise_sizes_px, len(rows))


# ── destylization ────────────────────────────────────────────────────────────────────────────────


def test_fitted_code_draws_the_portrait_better_than_the_first_one(destylizer, portraits):
    with torch.no_grad():
        first = destylizer.encode(portraits)
        image = destylizer.finetuned(
            destylizer.finetuned.map_plus(first), noise_of(destylizer, range(3))
        )
    before = destylizer.features.distance(image, portraits)
    found = destylizer.run(portraits, noise_of(destylizer, range(3)))
    after = destylizer.features.distance(found.drawn, portraits)
    assert (after < before).all()
    torch.testing.assert_close(found.exstyle, first)


def test_colors_of_the_recovered_photograph_are_the_portraits_own(destylizer, portraits):
    """As published, the encoder's color rows are kept in the intrinsic code, one row later."""
    found = destylizer.run(portraits, noise_of(destylizer, range(3)))
    rows = destylizer.layout.destylized_color
    assert rows.start == destylizer.layout.color.start + 1
    assert torch.equal(found.instyle[:, rows], found.exstyle[:, rows])
    kept = slice(0, rows.start)
    assert not torch.equal(found.instyle[:, kept], found.exstyle[:, kept])


def test_code_of_a_portrait_does_not_depend_on_its_batch(destylizer, portraits):
    together = destylizer.run(portraits, noise_of(destylizer, range(3)))
    alone = destylizer.run(portraits[1:2], noise_of(destylizer, range(1, 2)))
    torch.testing.assert_close(alone.instyle, together.instyle[1:2], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(alone.score, together.score[1:2], atol=1e-3, rtol=1e-3)


def test_portrait_gets_a_sheet_of_four_pictures_and_a_score(destylizer, portraits, tmp_path):
    from PIL import Image

    found = destylizer.run(portraits, noise_of(destylizer, range(3)))
    names = ["a", "folder/b", "c"]
    write_sheets(tmp_path / "sheets", names, found)
    sheets = sorted(path.name for path in (tmp_path / "sheets").iterdir())
    assert sheets == ["a.jpg", "c.jpg", "folder_b.jpg"]
    with Image.open(tmp_path / "sheets" / "a.jpg") as sheet:
        assert sheet.width > 4 * 32 > sheet.height
    for part in ([0, 1], [2]):  # scores of later batches join those of earlier ones
        some = replace(found, perceptual=found.perceptual[part], identity=found.identity[part])
        note_scores(tmp_path / "scores.json", [names[i] for i in part], some)
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert list(scores) == names
    assert list(scores.values()) == pytest.approx(found.score.tolist(), abs=1e-5)


def test_failure_is_flagged_and_a_spread_is_not():
    scores = {f"p{i}": 0.5 + 0.01 * i for i in range(10)}
    assert flagged(scores) == []
    assert flagged(scores | {"bad": 1.5}) == ["bad"]


# ── refinement ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def refiner(tiny_generator: DualStyleGAN) -> Refiner:
    torch.manual_seed(4)
    features = DiscriminatorFeatures(Discriminator(tiny_generator.config.generator))
    recipe = RefineRecipe(steps=8, lr_structure=0.02, lr_color=0.05, lambda_noise=1.0)
    return Refiner(frozen(tiny_generator), features, recipe)


def codes_of(refiner: Refiner) -> tuple[Tensor, Tensor]:
    rows, width = refiner.dual.layout.num_latents, refiner.dual.config.generator.style_dim
    instyle, exstyle = torch.randn(2, 3, rows, width, generator=torch.Generator().manual_seed(5))
    return instyle, exstyle


def distance_to(
    refiner: Refiner, portraits: Tensor, exstyle: Tensor, noise: list[Tensor]
) -> Tensor:
    generator = refiner.dual.generator
    instyle, _ = codes_of(refiner)
    with torch.no_grad():
        image = refiner.dual(generator.map_plus(instyle), generator.map_plus(exstyle), noise=noise)
    return refiner.features.distance(image, portraits)


def test_refined_codes_draw_their_exemplars_better(refiner):
    """Exemplars that can be drawn, with codes that are a little off."""
    instyle, exstyle = codes_of(refiner)
    first, generator = noise_of(refiner.dual, range(3)), refiner.dual.generator
    with torch.no_grad():
        ws = generator.map_plus(instyle)
        exemplars = refiner.dual(ws, generator.map_plus(exstyle), noise=first)
    off = exstyle + 0.5 * torch.randn_like(exstyle)
    refined, fitted = refiner.run(exemplars, instyle, off, first)
    before = distance_to(refiner, exemplars, off, first)
    assert (distance_to(refiner, exemplars, refined, fitted) < before).all()


def test_rows_whose_rate_is_zero_stay(refiner, portraits):
    instyle, exstyle = codes_of(refiner)
    structure, color = refiner.dual.layout.structure, refiner.dual.layout.color
    refiner.recipe = replace(refiner.recipe, lr_structure=1e-12)
    refined, _ = refiner.run(portraits, instyle, exstyle, noise_of(refiner.dual, range(3)))
    torch.testing.assert_close(refined[:, structure], exstyle[:, structure])
    assert (refined[:, color] - exstyle[:, color]).abs().amax() > 0.1


def test_refined_code_does_not_depend_on_its_batch(refiner, portraits):
    instyle, exstyle = codes_of(refiner)
    together, _ = refiner.run(portraits, instyle, exstyle, noise_of(refiner.dual, range(3)))
    one = slice(1, 2)
    alone, _ = refiner.run(
        portraits[one], instyle[one], exstyle[one], noise_of(refiner.dual, range(1, 2))
    )
    torch.testing.assert_close(alone, together[one], atol=1e-3, rtol=1e-3)


def test_sheet_names_hold_no_folders(tmp_path: Path, destylizer, portraits):
    found = destylizer.run(portraits[:1], noise_of(destylizer, range(1)))
    write_sheets(tmp_path, ["../../escaped"], found)
    assert [path.name for path in tmp_path.iterdir()] == [".._.._escaped.jpg"]
