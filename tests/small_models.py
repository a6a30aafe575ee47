"""Small models in every layout that the store reads: ours, and the published one."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder, EncoderConfig
from dsgcli.models.style_sampler import SamplerConfig, StyleSampler
from dsgcli.models.stylegan2 import GeneratorConfig
from dsgcli.models.translator import Translator, TranslatorConfig
from dsgcli.store.codes import Codes
from dsgcli.types import LatentLayout

STYLE_DIM = 16


def small_config(size_px: int = 32, style_dim: int = STYLE_DIM) -> GeneratorConfig:
    return GeneratorConfig.compact(size_px, base=256, most=8, style_dim=style_dim, mapping_layers=3)


def small_dual(size_px: int = 32, style_dim: int = STYLE_DIM) -> DualStyleGAN:
    return DualStyleGAN(small_config(size_px, style_dim)).eval()


def small_encoder(num_latents: int = 8, **other: Any) -> Encoder:
    config = EncoderConfig(
        num_latents=num_latents,
        style_dim=STYLE_DIM,
        input_px=32,
        stem_width=4,
        widths=(4, 8, 12, 16),
        units=(1, 1, 2, 1),
        head_width=8,
        **other,
    )
    return Encoder(config).eval()


def small_sampler(num_latents: int = 8) -> StyleSampler:
    layout = LatentLayout(1 << (num_latents + 2) // 2)
    return StyleSampler(SamplerConfig(layout=layout, style_dim=STYLE_DIM, noise_dim=6)).eval()


def small_codes(*names: str, rows: int = 8, style_dim: int = STYLE_DIM, **roles: bool) -> Codes:
    def codes() -> torch.Tensor:
        return torch.randn(len(names), rows, style_dim)

    extra = {role: codes() for role, wanted in roles.items() if wanted}
    return Codes(names=names, exstyle=codes(), **extra)


def save_npy(path: Path, names: tuple[str, ...], codes: torch.Tensor) -> Path:
    """As the published scripts do: a pickled dict of (1, L, D) arrays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {name: code[None].numpy() for name, code in zip(names, codes, strict=True)}
    np.save(path, table)  # type: ignore[arg-type]
    return path


def save_pt(path: Path, content: Any, *, legacy: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def encoder_checkpoint(encoder: Encoder, decoder: nn.Module, **options: Any) -> dict[str, Any]:
    """{"state_dict", "opts", "latent_avg"} of a pSp run."""
    state = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    state |= {f"decoder.{key}": value for key, value in decoder.state_dict().items()}
    state.pop("encoder.latent_avg", None)
    average = getattr(encoder, "latent_avg", torch.zeros(8, STYLE_DIM))
    return {"state_dict": state, "opts": Namespace(**options), "latent_avg": average}


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def small_translator(seed: int = 3, code_dim: int = 8) -> Translator:
    """A translator whose residual is visible: as built, it draws next to nothing."""
    config = TranslatorConfig(
        widths=(8, 8, 12, 16), code_dim=code_dim, style_hidden=16, style_widths=(4, 8, 8)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        translator = Translator(config).eval()
        with torch.no_grad():
            for block in translator.structure:
                block.conv2.conv.weight.mul_(3.0)
            translator.color[-1].conv.weight.mul_(30.0)
            translator.shape.field.weight.mul_(100.0)
            for name, parameter in translator.named_parameters():
                if name.endswith("bias"):
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return translator.requires_grad_(False)
