"""People of a style's base, for runs without pictures: as photographs, or drawn in styles.

The base's generator makes them of random numbers: they do not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsgcli.training.perceptual import fit

if TYPE_CHECKING:
    from dsgcli.store import ModelStore

PEOPLE = "people"
"""Name of a folder of photographs."""
BASE_STYLE = "default"
TRUNCATION = 0.6
"""How far people are from the average one: further away, some faces of a small base tear."""


def styles_of(folder: str) -> list[str]:
    """The styles that a folder's name asks for: `noir+neon` is between the two; none for people."""
    return [] if folder == PEOPLE else folder.split("+")


@torch.inference_mode()
def base_people(store: ModelStore, folder: str, count: int, size_px: int) -> Iterator[Tensor]:
    """Pictures (3, S, S) in [-1, 1]: other people for each folder, always the same ones.

    Args:
        folder: `people`, or styles of the store that a translator draws, joined by +.

    Raises:
        ModelError: a style that is not there, or has no base.
    """
    styles = styles_of(folder)
    network = store.people(styles[0] if styles else BASE_STYLE)
    translator = store.translator(styles[0]).eval() if styles else None
    codes = [store.style(style).default for style in styles]  # (N, L, D) each
    dice = torch.Generator().manual_seed(sum(folder.encode()))
    for number in range(count):
        z = torch.randn(1, network.config.style_dim, generator=dice)
        ws = network.truncate(network.random_ws(z), TRUNCATION)
        picture = network(ws).clamp(-1, 1)  # (1, 3, S, S)
        if translator is not None:
            between = torch.stack([own[number % len(own)] for own in codes]).mean(dim=0)[None]
            weights = torch.ones(translator.layout.num_latents)
            picture = translator(picture, between, weights).clamp(-1, 1)
        yield fit(picture, size_px)[0]
