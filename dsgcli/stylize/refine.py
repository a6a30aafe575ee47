"""Crops + latents -> better latents: optimise the intrinsic code of a still against its photograph.

The encoder answers in one pass and misses what is rare (a scar, a squint); a few hundred steps of
descent on the code find more of it (Abdal et al., arXiv:1904.03189, section 4). Only the code
moves; networks and noise stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from dsgcli.errors import ModelMissingError
from dsgcli.portraits import Portraits, area_resize, to_images
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.runtime import note_progress
from dsgcli.training.losses import ramped_rate

if TYPE_CHECKING:
    from dsgcli.store import ModelStore
    from dsgcli.types import Pixels

PEAK_RATE = 0.05
"""Adam's step; half of destylization's, since the encoder's code is a close start."""
LAMBDA_STAY = 0.1
"""Weight of the mean squared distance from the encoder's code, so that a style still fits it."""
JUDGED_PX = 256
"""Side at which pictures are compared, as everywhere in the method."""

PictureLoss = Callable[[Tensor, Tensor], Tensor]
"""(m, 3, S, S) drawn and (m, 3, S, S) wanted -> (m,) distances."""


def pyramid_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """(m,): L1 over a pyramid of pictures and of their edges; needs no trained features."""
    total = torch.zeros(len(drawn), device=drawn.device)
    while drawn.shape[-1] >= 8:
        difference = drawn - wanted
        total = total + difference.abs().mean(dim=(1, 2, 3))
        for dim in (2, 3):
            total = total + 0.5 * difference.diff(dim=dim).abs().mean(dim=(1, 2, 3))
        drawn, wanted = F.avg_pool2d(drawn, 2), F.avg_pool2d(wanted, 2)
    return total


def refine_codes(
    portraits: Portraits,
    crops: Sequence[Pixels],
    instyle: Tensor,
    steps: int,
    perceptual: PictureLoss | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Tensor:
    """(m, L, D) codes whose plain reconstructions are closer to the crops than those of `instyle`.

    Each picture keeps the best code that it met, by its own loss, so that no code gets worse.

    Args:
        crops: m aligned photographs (S, S, 3).
        instyle: (m, L, D) codes of the encoder, in `portraits.space`.
        steps: of Adam; 100 to 300 are usual.
        perceptual: added to the pixel loss, LPIPS for instance; None is the pixel loss alone.
    """
    judged_px = min(portraits.size_px, JUDGED_PX)
    wanted = area_resize(to_images(crops, portraits.device), judged_px)
    start = instyle.to(portraits.device).clone()
    code = start.clone().requires_grad_()
    best, best_loss = start.clone(), torch.full((len(start),), float("inf"), device=start.device)
    optimizer = torch.optim.Adam([code], lr=PEAK_RATE)
    with torch.enable_grad(), progress.task("Refining", steps) as task:
        for step in range(steps):
            note_progress()
            optimizer.param_groups[0]["lr"] = ramped_rate(step / steps, PEAK_RATE)
            drawn = area_resize(_reconstruct(portraits, code), judged_px)
            losses = pyramid_loss(drawn, wanted)
            if perceptual is not None:
                losses = losses + perceptual(drawn, wanted)
            with torch.no_grad():
                better = losses < best_loss
                best[better], best_loss[better] = code[better], losses[better]
            stay = (code - start).square().mean(dim=(1, 2))
            optimizer.zero_grad()
            (losses + LAMBDA_STAY * stay).sum().backward()
            optimizer.step()
            task.advance(loss=float(losses.detach().mean()))
    return best.detach()


def _reconstruct(portraits: Portraits, code: Tensor) -> Tensor:
    network = portraits.generator.generator
    ws = network.map_plus(code) if portraits.space == "z+" else code
    return portraits.generator.plain(ws)


def find_perceptual(store: ModelStore, device: torch.device) -> PictureLoss | None:
    """LPIPS, if its weights are in the store."""
    try:
        network = store.lpips(device)
    except ModelMissingError:
        return None
    return lambda drawn, wanted: network(drawn, wanted).flatten()


def loss_note(perceptual: PictureLoss | None) -> str:
    """For the user: what the codes were optimised for."""
    if perceptual is None:
        return "refined without LPIPS; `dsg models pull losses` improves it"
    return "refined with LPIPS"
