"""Frozen networks that tell how alike two pictures are, and how alike two faces.

Flow: pictures -> feature maps, distances, embeddings -> losses.py. The published ones are VGG19,
LPIPS and IR-SE50, whose weights are not ours to ship. In their place the discriminator or the
encoder of the run's own base can serve: they know faces of this domain, and need no download. The
recipe chooses ([features]), and what it chose is part of the run.

Conventions
    pictures  (B, 3, S, S) in [-1, 1], any size; each network takes them at its own
    maps      five of them, at 1, 1/2, 1/4, 1/8 and 1/16 of the resolution, shallow to deep
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgcli.models.encoder import Encoder
from dsgcli.models.features import LPIPS, VGG19
from dsgcli.models.irse import IRSE50
from dsgcli.models.patch import Judge
from dsgcli.store.networks import load_discriminator, load_encoder
from dsgcli.training.stage import Pictures, RunContext

PUBLISHED_PX = 256
"""Input size of the published networks."""
NUM_MAPS = 5
CENTER_PICTURES = 64
"""Portraits whose mean code is the center of identities."""
EPSILON = 1e-6

Network = TypeVar("Network", bound=nn.Module)
Distance = Callable[[Tensor], Tensor]
"""Pictures (B, 3, S, S) -> (B,)."""


def fit(images: Tensor, size_px: int) -> Tensor:
    """Pictures (B, 3, S, S) at another size: block means when smaller, repeated pixels when larger
    (as the published code, which pools to 256 px whatever comes)."""
    if images.shape[2] == size_px:
        return images
    return F.adaptive_avg_pool2d(images, size_px)


def encoded(encoder: Encoder, images: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) of any size -> codes (B, L, D), in the encoder's space."""
    codes: Tensor = encoder(fit(images, encoder.config.input_px))
    return codes


def frozen(network: Network) -> Network:
    """In inference mode, without gradients of its own."""
    return network.eval().requires_grad_(False)


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────


class Features(Protocol):
    """How alike two pictures are."""

    name: str

    @property
    def size_px(self) -> int:
        """Side of the pictures that the network is shown."""
        ...

    def maps(self, images: Tensor, count: int = NUM_MAPS) -> list[Tensor]:
        """The first `count` of five feature maps (B, C_k, H / 2^k, W / 2^k)."""
        ...

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        """(B,): perceptual distance of each picture to its target."""
        ...

    def towards(self, target: Tensor) -> Distance:
        """Pictures -> their distances to targets that are looked at once, and stay as they are."""
        ...


class VggFeatures:
    """The published features: VGG19's maps, and LPIPS for the distance, at 256 px."""

    name = "vgg"
    size_px = PUBLISHED_PX

    def __init__(self, vgg: VGG19, lpips: LPIPS) -> None:
        self.vgg, self.lpips = frozen(vgg), frozen(lpips)

    def maps(self, images: Tensor, count: int = NUM_MAPS) -> list[Tensor]:
        maps: list[Tensor] = self.vgg(fit(images, PUBLISHED_PX), count)
        return maps

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        return self._between(self._look(images), self._look(target))

    def towards(self, target: Tensor) -> Distance:
        with torch.no_grad():
            seen = self._look(target)
        return lambda images: self._between(self._look(images), seen)

    def _look(self, images: Tensor) -> list[Tensor]:
        return self.lpips.look(fit(images, PUBLISHED_PX))

    def _between(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        return self.lpips.between(a, b).flatten()


class DiscriminatorFeatures:
    """Maps of a discriminator that has learnt what real portraits look like."""

    name = "discriminator"

    def __init__(self, discriminator: Judge) -> None:
        self.discriminator = frozen(discriminator)
        self.size_px = discriminator.config.size_px

    def maps(self, images: Tensor, count: int = NUM_MAPS) -> list[Tensor]:
        images = fit(images, self.size_px)
        return _in_proportion(self.discriminator.features(images)[:count])

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        return _distance(self.maps(images), self.maps(target))

    def towards(self, target: Tensor) -> Distance:
        return _towards(self, target)


class EncoderFeatures:
    """Maps of an encoder's body, which has learnt what makes one face differ from another."""

    name = "encoder"

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = frozen(encoder)
        self.size_px = encoder.config.input_px
        self._ends = (encoder.config.units[0] - 1, *encoder.config.taps)

    def maps(self, images: Tensor, count: int = NUM_MAPS) -> list[Tensor]:
        x = self.encoder.input_layer(fit(images, self.size_px))
        maps = [x]
        for index, unit in enumerate(self.encoder.body):
            if len(maps) == count:
                break
            x = unit(x)
            if index in self._ends:
                maps.append(x)
        return _in_proportion(maps)

    def distance(self, images: Tensor, target: Tensor) -> Tensor:
        return _distance(self.maps(images), self.maps(target))

    def towards(self, target: Tensor) -> Distance:
        return _towards(self, target)


def _towards(features: Features, target: Tensor) -> Distance:
    with torch.no_grad():
        wanted = features.maps(target)
    return lambda images: _distance(features.maps(images), wanted)


def _in_proportion(maps: Sequence[Tensor]) -> list[Tensor]:
    """Each place's vector of channels scaled to a mean square of one: maps that were not trained to
    be compared have no scale of their own."""
    wide = [m.float() if m.dtype == torch.bfloat16 else m for m in maps]
    return [m * torch.rsqrt(m.square().mean(dim=1, keepdim=True) + EPSILON) for m in wide]


def _distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """(B,): mean squared distance of the maps, mean over maps; between 0 and 4."""
    pairs = zip(a, b, strict=True)
    return torch.stack([(x - y).square().mean(dim=(1, 2, 3)) for x, y in pairs]).mean(dim=0)


# ── faces ────────────────────────────────────────────────────────────────────────────────────────


class Identity(Protocol):
    """How alike two faces are."""

    name: str

    def embed(self, images: Tensor) -> Tensor:
        """Pictures -> (B, E) of unit length, near each other for the same person."""
        ...


class IrseIdentity:
    """The published identity: a face recognition network on the face in a 256 px crop."""

    name = "irse50"

    def __init__(self, network: IRSE50) -> None:
        self.network = frozen(network)

    def embed(self, images: Tensor) -> Tensor:
        return self.network.of_crop(fit(images, PUBLISHED_PX))


class EncoderIdentity:
    """The structure rows of an encoder's code, relative to the mean face's.

    Args:
        rows: rows that carry the face's shape, not its colors.
        center: (L, D) mean code; without it all faces would look alike.
    """

    name = "encoder"

    def __init__(self, encoder: Encoder, rows: slice, center: Tensor) -> None:
        self.encoder, self.rows, self.center = frozen(encoder), rows, center

    def embed(self, images: Tensor) -> Tensor:
        codes = encoded(self.encoder, images) - self.center
        return F.normalize(codes[:, self.rows].float().flatten(1), dim=1)


@torch.no_grad()
def mean_code(encoder: Encoder, images: Tensor) -> Tensor:
    """(L, D): mean of the codes of pictures."""
    return encoded(encoder.eval(), images).mean(dim=0)


# ── from the recipe ──────────────────────────────────────────────────────────────────────────────


def load_features(context: RunContext) -> Features:
    """The recipe's choice for pictures.

    Raises:
        ModelError: its weights are not there, with the command that gets them.
    """
    choice, device = context.recipe.features.perceptual, context.device
    if choice == "vgg":
        vgg = context.store.vgg(19, device)
        assert isinstance(vgg, VGG19)
        return VggFeatures(vgg, context.store.lpips(device))
    if choice == "discriminator":
        return DiscriminatorFeatures(load_discriminator(context.find("base"), device))
    return EncoderFeatures(load_encoder(context.find("encoder"), device))


def load_identity(context: RunContext, pictures: Pictures) -> Identity | None:
    """The recipe's choice for faces; None if it wants no identity loss.

    Args:
        pictures: portraits of the stage, whose mean code centers an encoder's.

    Raises:
        ModelError: its weights are not there, with the command that gets them.
    """
    choice, device = context.recipe.features.identity, context.device
    if choice == "none":
        return None
    if choice == "irse50":
        return IrseIdentity(context.store.identity(device))
    encoder = load_encoder(context.find("encoder"), device)
    first = list(range(min(CENTER_PICTURES, len(pictures))))
    images = pictures.get(first, encoder.config.input_px).to(device)
    rows = slice(0, context.recipe.model.last_structure + 1)
    return EncoderIdentity(encoder, rows, mean_code(encoder, images))
