"""A whole store of tiny models with random weights: what the commands are tested on.

default/base, encoder              64 px pictures, 10 rows of 32 numbers
default/toon, toon-finetuned       refined and intrinsic codes, a sampling network
default/ink                        first codes alone
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from dsgcli.models.dualstylegan import DualConfig, DualStyleGAN
from dsgcli.models.encoder import Encoder, EncoderConfig
from dsgcli.models.style_sampler import SamplerConfig, StyleSampler
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.store.codes import Codes
from dsgcli.store.write import save_encoder, save_generator, save_style
from dsgcli.types import Provenance

SIZE_PX, STYLE_DIM = 64, 32
EXEMPLARS = {
    "toon": ("ada.png", "bo.png", "cy.png", "di.png", "ed.png"),
    "ink": ("fox.png", "gnu.png", "hen.png", "ibis.png", "jay.png"),
}
LICENSE = Provenance(license="MIT", source="random weights")

CONFIG = GeneratorConfig.compact(SIZE_PX, base=1024, most=24, style_dim=STYLE_DIM, mapping_layers=2)


def write_tiny_store(
    root: Path,
    exemplars: dict[str, tuple[str, ...]] = EXEMPLARS,
    *,
    discriminator: bool = False,
) -> Path:
    """Write the models into `root`, the same every time; returns `root`.

    Args:
        exemplars: names by style; the first style is the default, and has all kinds of codes.
        discriminator: give the base one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        folder = root / "default"
        folder.mkdir(parents=True)
        base = Generator(CONFIG).eval()
        provenance = Provenance(
            license="MIT", source="random weights", extra={"default_style": next(iter(exemplars))}
        )
        path = folder / "base.safetensors"
        judge = Discriminator(CONFIG).eval() if discriminator else None
        save_generator(path, base, discriminator=judge, provenance=provenance)
        save_encoder(folder / "encoder.safetensors", _encoder(), provenance=LICENSE)
        for number, (name, names) in enumerate(exemplars.items()):
            _write_style(folder, name, names, base, whole=number == 0)
        finetuned = folder / f"{next(iter(exemplars))}-finetuned.safetensors"
        save_generator(finetuned, _disturbed(base, 0.1))
    return root


def _write_style(
    folder: Path, name: str, names: tuple[str, ...], base: Generator, *, whole: bool
) -> None:
    config = DualConfig(generator=CONFIG)
    model = DualStyleGAN.of(config)
    model.generator.load_state_dict(base.state_dict())
    with torch.no_grad():  # a fresh extrinsic path changes next to nothing: make it visible
        for key, weight in model.res.named_parameters():
            if "conv" in key and weight.ndim == 4:
                weight.mul_(30.0)
    sampler_config = SamplerConfig(layout=model.layout, style_dim=STYLE_DIM, noise_dim=8)
    save_style(
        folder / f"{name}.safetensors",
        model,
        _codes(names, whole=whole),
        base=folder / "base.safetensors",
        sampler=StyleSampler(sampler_config).eval() if whole else None,
        provenance=LICENSE,
    )


def _codes(names: tuple[str, ...], *, whole: bool) -> Codes:
    drawn = torch.randn(3, len(names), CONFIG.layout.num_latents, STYLE_DIM)
    extra = {"refined": drawn[1], "instyle": drawn[2]} if whole else {}
    return Codes(names=names, exstyle=drawn[0], **extra)


def _encoder() -> Encoder:
    config = EncoderConfig(
        num_latents=CONFIG.layout.num_latents,
        style_dim=STYLE_DIM,
        input_px=SIZE_PX,
        stem_width=8,
        widths=(8, 12, 16, 24),
        units=(1, 1, 1, 1),
        head_width=16,
    )
    return Encoder(config).eval()


def _disturbed(generator: Generator, spread: float) -> Generator:
    """The same with its weights moved a little: as fine-tuning does."""
    other = copy.deepcopy(generator)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(spread * torch.randn_like(weight))
    return other
