"""Stage `enlarge`: a style that was learnt at one size draws at a larger one.

Flow: style + codes of the small model, the small base with more layers on top -> style + codes of
the larger one. A base that has grown by `learns = "new"` makes the picture that it made before and
adds detail, whatever bends the layers below; so the style needs no training at that size, which
would cost four times as much. In the rows that are new the colors' T_c is the identity, and codes
are what the larger encoder says of the exemplars.

Shapes: N exemplars, L rows of the small model, M of the larger one, D style width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from dsgcli.errors import ModelMismatchError, TrainingError
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder
from dsgcli.models.ops import EqualLinear
from dsgcli.models.patch import PatchDiscriminator
from dsgcli.models.stylegan2 import Generator
from dsgcli.store.codes import Codes
from dsgcli.store.contents import open_model
from dsgcli.store.networks import (
    find_discriminator,
    load_dualstylegan,
    load_encoder,
    load_generator,
)
from dsgcli.store.write import save_codes, save_dualstylegan, save_encoder, save_generator
from dsgcli.training.adversary import take_over
from dsgcli.training.perceptual import encoded, frozen
from dsgcli.training.stage import Pictures, RunContext
from dsgcli.training.stages.codes import exemplar_indices, open_codes
from dsgcli.types import LatentLayout

ENCODED_AT_ONCE = 16


def cut_base(path: Path, size_px: int, folder: Path) -> Path:
    """The file itself if it makes pictures of this size, else one in `folder` that does.

    Raises:
        ModelError: as `open_model`.
    """
    model = open_model(path)
    layout = model.header.layout
    if layout is None or layout.size_px <= size_px:
        return path
    target = folder / f"{path.stem}-{size_px}px.safetensors"
    if not target.is_file():
        judge = find_discriminator(model)
        save_generator(
            target,
            cut_generator(load_generator(model), size_px),
            # one of patches looks at pictures of any size, StyleGAN2's at one
            discriminator=judge if isinstance(judge, PatchDiscriminator) else None,
            provenance=model.header.provenance,
        )
    return target


@torch.no_grad()
def cut_generator(generator: Generator, size_px: int) -> Generator:
    """The layers up to a size; its pictures are those that `synthesize` gives for it."""
    channels = {px: n for px, n in generator.config.channels.items() if px <= size_px}
    small = Generator(replace(generator.config, size_px=size_px, channels=channels))
    own, rows = small.state_dict(), LatentLayout(size_px).num_latents
    state = {key: value for key, value in generator.state_dict().items() if key in own}
    if generator.config.prior_axes:
        state["prior.mean"] = state["prior.mean"][:rows]
        state["prior.axes"] = state["prior.axes"][:, :rows]
    small.load_state_dict(state)
    return small


@torch.no_grad()
def enlarged(dual: DualStyleGAN, larger: Generator) -> DualStyleGAN:
    """The style with the layers that `larger` has on top.

    Raises:
        ModelMismatchError: `larger` has not grown from the generator inside.
    """
    check_grown(dual.generator, larger)
    config = replace(dual.config, generator=larger.config)
    result = DualStyleGAN.of(config).to(larger.input.input.device)
    result.generator.load_state_dict(larger.state_dict())
    result.style.load_state_dict(dual.style.state_dict())
    for ours, theirs in zip(result.res, dual.res, strict=False):
        ours.load_state_dict(theirs.state_dict())
    for row in result.res[len(dual.res) :]:
        transform = cast(EqualLinear, row)
        width = config.generator.style_dim
        transform.weight.copy_(torch.eye(width) * math.sqrt(width))
        assert transform.bias is not None
        transform.bias.zero_()
    return result


def check_grown(small: Generator, larger: Generator) -> None:
    """Refuse a generator whose lower layers are not those of the small one.

    Raises:
        ModelMismatchError: names the first difference.
    """
    was, now = small.config.size_px, larger.config.size_px
    if was >= now:
        raise ModelMismatchError(
            f"a style of {was} px cannot be enlarged by a base of {now} px; name a larger one in "
            f"[enlarge] base"
        )
    theirs = larger.state_dict()
    for key, value in small.state_dict().items():
        if key.startswith("prior."):
            continue  # of random faces; has a row for each layer
        other = theirs.get(key)
        if other is None or other.shape != value.shape or not _alike(value, other):
            raise ModelMismatchError(
                f"the base of {now} px has not grown from the style's base of {was} px (first "
                f"difference: {key}); grow it with learns = 'new'"
            )


def _alike(value: Tensor, other: Tensor) -> bool:
    """Equal, or equal once rounded as packaged files are."""
    return torch.equal(value, other) or torch.equal(value.half(), other.half())


@torch.no_grad()
def enlarged_codes(codes: Codes, encoder: Encoder, portraits: Sequence[Tensor]) -> Codes:
    """Codes (N, L, D) -> (N, M, D): new rows are those of the exemplars themselves.

    Args:
        encoder: of the larger model.
        portraits: the exemplars in the order of the codes, batches of (B, 3, S, S) in [-1, 1].
    """
    first = codes.exstyle.shape[1]
    new = torch.cat([encoded(encoder, images)[:, first:] for images in portraits]).float().cpu()
    longer = {role: torch.cat([rows, new], dim=1) for role, rows in codes.roles.items()}
    return Codes(names=codes.names, **longer)


class EnlargeStage:
    """From a style and a larger base to the style at that size, with all that goes with it."""

    name = "enlarge"
    needs: tuple[str, ...] = ("style", "codes", "enlarge.base", "enlarge.encoder")
    makes: tuple[str, ...] = ("base", "encoder", "style", "codes")

    def run(self, context: RunContext) -> None:
        device = context.device
        base = open_model(context.find("enlarge.base"))
        larger = load_generator(base, device)
        rows = larger.layout.num_latents
        encoder = load_encoder(context.find("enlarge.encoder"), device, num_latents=rows)
        dual = enlarged(load_dualstylegan(context.find("style"), device), larger)
        codes, pictures = open_codes(context), context.pictures("style")
        portraits = _portraits(codes.names, pictures, encoder.config.input_px, device)
        codes = enlarged_codes(codes, frozen(encoder), portraits)
        with suppress(TrainingError):  # a run that starts from codes has none
            finetuned = load_generator(context.find("finetuned"), device)
            self._save_finetuned(context, finetuned, larger)
        save_generator(context.target("base"), larger, discriminator=find_discriminator(base))
        save_encoder(context.target("encoder"), encoder)
        save_codes(context.target("codes"), codes, layout=dual.layout, keep_order=True)
        save_dualstylegan(context.target("style"), dual)

    @torch.no_grad()
    def _save_finetuned(self, context: RunContext, finetuned: Generator, larger: Generator) -> None:
        """g' with the same layers on top, for `dsg destylize`."""
        result = deepcopy(larger)
        take_over(result, finetuned.state_dict(), but=("prior.",))
        save_generator(context.target("finetuned"), result)


def _portraits(
    names: Sequence[str], pictures: Pictures, size_px: int, device: torch.device
) -> list[Tensor]:
    """The exemplars by their names, in batches (B, 3, S, S)."""
    places = exemplar_indices(names, pictures.names)
    chunks = [places[i : i + ENCODED_AT_ONCE] for i in range(0, len(places), ENCODED_AT_ONCE)]
    return [pictures.get(chunk, size_px).to(device) for chunk in chunks]
