"""Crops -> latents -> portraits: the networks of one style, ready to run.

`stylize`, `generate` and `destylize` all draw through `Portraits`; nothing above this module knows
which form of the generator runs.

Shapes: m pictures, L rows of a code, D style width, S the generator's resolution in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsgcli.errors import ModelMismatchError, UsageError
from dsgcli.inference.backend import TorchBackend, pick_backend
from dsgcli.inference.base import Backend, ExtrinsicStyle, LRUCache, Run
from dsgcli.runtime import BackendName, Precision, keep_freed_memory, pick_device, pick_precision
from dsgcli.types import LatentLayout, StyleWeights

if TYPE_CHECKING:
    from dsgcli.models.dualstylegan import DualStyleGAN
    from dsgcli.models.encoder import CodeSpace, Encoder
    from dsgcli.models.stylegan2 import Generator
    from dsgcli.store import ModelStore
    from dsgcli.types import Pixels

# ── pictures and tensors ─────────────────────────────────────────────────────────────────────────


def to_images(pixels: Sequence[Pixels], device: torch.device) -> Tensor:
    """(m, 3, S, S) float32 in [-1, 1] from m pictures (S, S, 3) uint8 of one size."""
    stacked = torch.from_numpy(np.stack(pixels))
    if device.type == "cuda":
        stacked = stacked.pin_memory()  # copied by the GPU itself, beside what runs
    stacked = stacked.to(device, non_blocking=True)  # bytes, a quarter of the floats
    return stacked.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_pixels(images: Tensor) -> Pixels:
    """(m, S, S, 3) uint8 from (m, 3, S, S) in [-1, 1], clamped; rounds down, as published, but for
    a hair's breadth, so that a picture survives `to_images` and back."""
    scaled = images.float().clamp(-1.0, 1.0).add(1.0).mul_(127.5).add_(1e-3)
    packed = scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    if packed.device.type == "cuda":
        pinned = torch.empty(packed.shape, dtype=torch.uint8, pin_memory=True)
        pinned.copy_(packed, non_blocking=True)
        torch.cuda.current_stream(packed.device).synchronize()  # this stream alone
        packed = pinned
    pixels: Pixels = packed.cpu().numpy()
    return pixels


def area_resize(images: Tensor, size_px: int) -> Tensor:
    """(m, 3, size, size): block means when shrinking by whole factors (as the published code pools
    to 256 px), an antialiased bilinear filter otherwise."""
    side = images.shape[-1]
    if side == size_px:
        return images
    if side % size_px == 0:
        return F.avg_pool2d(images, side // size_px)
    return F.interpolate(images, (size_px, size_px), mode="bilinear", antialias=True)


# ── what to draw ─────────────────────────────────────────────────────────────────────────────────

WEIGHT_PRESETS: dict[str, tuple[float, ...]] = {
    "default": (0.75,) * 7 + (1.0,) * 11,
    "caricature": (1.0,) * 18,
    "anime": (0.0,) * 4 + (0.75,) * 3 + (1.0,) * 11,
    "arcane": (0.6,) * 11 + (1.0,) * 7,
    "plain": (0.0,) * 18,
}
"""Published weights by style, written for 1024 px; a smaller model takes the first rows."""

STYLELESS_PRESETS = ("default", "plain")
"""Presets that are meant for no style in particular."""

PRESERVE_COLOR_PRESETS = frozenset({"arcane"})
"""Presets that the method's authors show together with the photograph's own colors."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """How to draw a face: everything that does not depend on the face."""

    exstyle: Tensor
    """(L, D) extrinsic code of the exemplar, z+."""
    weights: StyleWeights
    """How far each layer goes towards the exemplar."""
    preserve_color: bool = False
    """Take the color rows of the extrinsic code from the photograph."""
    truncation: float = 0.75
    """The intrinsic code is scaled by this in W; 1 leaves it. The extrinsic code never is."""
    label: str = ""
    """For file names and tables: `arcane-12`."""

    def __post_init__(self) -> None:
        if not 0 <= self.truncation <= 1:
            raise UsageError(f"--truncation lies between 0 and 1, got {self.truncation:g}")


def pick_weights(
    layout: LatentLayout,
    *,
    structure: float | None = None,
    color: float | None = None,
    weights: Sequence[float] | None = None,
    preset: str | None = None,
    usual: float | None = None,
) -> StyleWeights:
    """Per-row weights from what was asked: all rows, or a preset, or two numbers. Two numbers
    given beside a preset replace the preset's rows of that kind.

    Args:
        usual: of every row where nothing is asked for, or the preset "default"; None is the
            published default.

    Raises:
        UsageError: an unknown preset, weights of a wrong number, or weights beside a preset.
    """
    if weights is not None:
        if preset is not None or structure is not None or color is not None:
            raise UsageError("--weights sets every layer; leave out --preset, --structure, --color")
        return StyleWeights.fit(weights, layout)
    if preset is not None and preset not in WEIGHT_PRESETS:
        raise UsageError(f"no preset {preset!r}; there are {', '.join(sorted(WEIGHT_PRESETS))}")
    layers = list(StyleWeights.fit(WEIGHT_PRESETS[preset or "default"], layout).layers)
    if usual is not None and preset in (None, "default"):
        layers = [usual] * layout.num_latents
    if structure is not None:
        layers[layout.structure] = [structure] * layout.num_structure
    if color is not None:
        layers[layout.color] = [color] * layout.num_color
    return StyleWeights(tuple(layers))


# ── the networks of a style ──────────────────────────────────────────────────────────────────────


MOST_ENCODERS = 2
"""Encoders that stay ready: of all rows, and of those that a run draws with."""
MOST_FOLDED, MOST_LOOKS = 8, 64
"""Looks that are made as fast as can be, and looks that stay ready. In plain torch the first are
copies of the generator's convolutions each; those that come later share one, for little speed."""


@dataclass(eq=False)
class Portraits:
    """The generator of one style and the encoder that goes with it.

    Networks are bound (made fast) on first use, the generator once for each look. Intrinsic codes
    are in the encoder's latent space, z+ or w+; noise is the generator's stored maps, so the same
    code gives the same picture.
    """

    keeps_content: ClassVar[bool] = False
    """Whether all that a crop shows, hair and ground too, is drawn where it was."""
    generator: DualStyleGAN
    encoder: Encoder | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    """Number format of the feature maps of drawing; pictures are summed up in float32."""
    size: int | None = None
    """Side of the portraits, for smaller ones than the model's; None is the model's own."""
    backend: Backend | None = None
    """Backend of the networks; None is plain torch."""
    _bound: LRUCache[Run] = field(default_factory=lambda: LRUCache(MOST_LOOKS))
    _folded: set[Look | None] = field(default_factory=set)
    _bound_encoders: LRUCache[Run] = field(default_factory=lambda: LRUCache(MOST_ENCODERS))

    def __post_init__(self) -> None:
        self._runs: Backend = self.backend or TorchBackend(self.dtype, self.size)
        self.generator.eval().requires_grad_(False).to(self.device)
        if self.encoder is not None:
            self.encoder.eval().requires_grad_(False).to(self.device)
        if self.size is not None and self.size not in self.layout.resolutions_px:
            sizes = ", ".join(map(str, self.layout.resolutions_px))
            raise UsageError(f"--size of this style is one of {sizes}, got {self.size}")

    @property
    def layout(self) -> LatentLayout:
        return self.generator.layout

    @property
    def space(self) -> CodeSpace:
        """Latent space of the intrinsic codes."""
        return self.encoder.config.latent_space if self.encoder is not None else "z+"

    @property
    def size_px(self) -> int:
        """Side of the portraits."""
        return self.size or self.layout.size_px

    @property
    def crop_px(self) -> int:
        """Side of the crops that `encode` wants: the portrait's, or the encoder's if larger."""
        input_px = self.encoder.config.input_px if self.encoder is not None else 0
        return max(self.size_px, input_px)

    def crop_size(self, side_px: float) -> int:
        """Side of a portrait, whatever the size of the face in the frame."""
        return self.crop_px

    @property
    def usual_weight(self) -> float | None:
        return None

    @property
    def model(self) -> DualStyleGAN:
        return self.generator

    @property
    def network(self) -> Generator:
        """The photographic generator, which draws random people."""
        return self.generator.generator

    @property
    def networks(self) -> list[nn.Module]:
        """All that a portrait depends on."""
        return [self.generator, *([] if self.encoder is None else [self.encoder])]

    @torch.inference_mode()
    def style_ws(self, exstyle: Tensor) -> Tensor:
        """(m, L, D) z+ of exemplars -> (m, L, D) w+."""
        return self.network.map_plus(exstyle)

    def face_rows(self, look: Look) -> int:
        """How many rows of an intrinsic code, from the first, a look's pictures depend on: colors
        that follow the exemplar wholly do not, nor do rows of resolutions that are not drawn."""
        drawn, weights = 2 * self.layout.blocks_to(self.size_px) + 2, look.weights.layers
        if look.preserve_color:
            return drawn
        first_color = self.layout.num_structure
        return 1 + max(row for row in range(drawn) if row < first_color or weights[row] != 1.0)

    @property
    def num_weights(self) -> int:
        """Number of weights of both networks."""
        return sum(weight.numel() for network in self.networks for weight in network.parameters())

    @torch.inference_mode()
    def encode(self, crops: Sequence[Pixels], rows: int | None = None) -> Tensor:
        """(m, L, D) intrinsic codes in `space` of m aligned crops (S, S, 3).

        Args:
            rows: how many are wanted, from the first (see `face_rows`); later ones are the
                encoder's mean, and cost nothing. None is all.
        """
        return self.encode_images(to_images(crops, self.device), rows)

    @torch.inference_mode()
    def encode_images(self, images: Tensor, rows: int | None = None) -> Tensor:
        """Encode (m, 3, S, S) in [-1, 1]."""
        encoder = self.encoder
        if encoder is None:
            raise ModelMismatchError("this style has no encoder, so photographs cannot be encoded")
        if rows is not None and rows >= self.layout.num_latents:
            rows = None
        run = self._bound_encoders.get(rows, lambda: self._runs.bind_encoder(encoder, rows))
        codes: Tensor = run(area_resize(images, encoder.config.input_px))
        return codes[:, : self.layout.num_latents].float()

    @torch.inference_mode()
    def intrinsic_ws(self, instyle: Tensor, truncation: float) -> Tensor:
        """(m, L, D) w+ that drives the intrinsic path: mapped if z+, then truncated about 0."""
        network = self.generator.generator
        ws = network.map_plus(instyle) if self.space == "z+" else instyle
        return network.truncate(ws, truncation)

    @torch.inference_mode()
    def extrinsic_ws(self, look: Look, instyle: Tensor) -> Tensor:
        """(L, D) w+ of the exemplar, or (m, L, D) where the photograph's colors are kept.

        In z+ the photograph's rows replace the exemplar's before the mapping, in w+ after it.
        """
        network, color = self.generator.generator, self.layout.color
        exstyle = look.exstyle.to(instyle)
        if not look.preserve_color:
            return network.map_plus(exstyle[None])[0]
        several = exstyle.expand(len(instyle), -1, -1).clone()
        if self.space == "z+":
            several[:, color] = instyle[:, color]
            return network.map_plus(several)
        several = network.map_plus(several)
        several[:, color] = instyle[:, color]
        return several

    def draw_images(self, instyle: Tensor, look: Look) -> Tensor:
        """(m, 3, S, S) float32 portraits in about [-1, 1], not clamped, of codes (m, L, D)."""
        instyle = instyle.to(self.device)
        ws = self.intrinsic_ws(instyle, look.truncation)
        if look.preserve_color:
            ws = self._with_colors(ws, instyle, look)
        images: Tensor = self.bound(look)(ws)
        return images

    def draw(self, instyle: Tensor, look: Look) -> Pixels:
        """(m, S, S, 3) uint8 portraits of m intrinsic codes (m, L, D)."""
        return to_pixels(self.draw_images(instyle, look))

    def draw_crops(
        self, crops: Sequence[Pixels], codes: Tensor, look: Look, size_px: int
    ) -> Pixels:
        """Draw from codes and ignore the crops (see `pipeline.StylePipeline`)."""
        return self.draw(codes, look)

    @torch.inference_mode()
    def draw_plain(self, instyle: Tensor, truncation: float = 1.0) -> Pixels:
        """(m, S, S, 3) uint8: the extrinsic path off, which is the reconstruction."""
        return to_pixels(self.bound(None)(self.intrinsic_ws(instyle.to(self.device), truncation)))

    def expect(self, num_pictures: int) -> None:
        """Say how many pictures are to come, before they are drawn: a backend that takes long to
        get ready is worth it for many."""
        if self._runs.expect(num_pictures):
            self._bound.clear()
            self._folded.clear()
            self._bound_encoders.clear()

    @property
    def backend_name(self) -> str:
        """Name of the backend, for summaries."""
        return self._runs.name

    def bound(self, look: Look | None) -> Run:
        """The generator made ready for one look, or for none (the extrinsic path off): codes
        (m, L, D) in W+ to pictures."""
        return self._bound.get(look, lambda: self._bind(look))

    @torch.no_grad()
    def _bind(self, look: Look | None) -> Run:
        once = look not in self._folded and len(self._folded) >= MOST_FOLDED
        if not once:
            self._folded.add(look)
        if look is None:
            return self._runs.bind(self.generator, None, once=once)
        exstyle = look.exstyle.to(self.device)
        weights = list(look.weights.layers)
        if look.preserve_color:  # these rows depend on the face, see `_with_colors`
            weights[self.layout.color] = [0.0] * self.layout.num_color
        exstyle_ws = self.generator.generator.map_plus(exstyle[None])
        style = ExtrinsicStyle(exstyle_ws=exstyle_ws, weights=weights)
        return self._runs.bind(self.generator, style, once=once)

    def bound_once(self, model: DualStyleGAN, style: ExtrinsicStyle) -> Run:
        """Bind for one picture or few, in a style of any model with this one's layout."""
        return self._runs.bind(model, style.to(self.device), once=True)

    def _with_colors(self, ws: Tensor, instyle: Tensor, look: Look) -> Tensor:
        """(m, L, D): color rows blended with the photograph's own colors through T_c."""
        exstyle_ws = self.extrinsic_ws(look, instyle)
        return self.generator.blend(ws, exstyle_ws, look.weights.layers)


def load_portraits(
    store: ModelStore,
    style: str,
    *,
    encoder: Literal["auto", "z+", "w+"] | None = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    backend: BackendName = "auto",
    size: int | None = None,
) -> Portraits:
    """The networks of a style from the store.

    Args:
        encoder: latent space of the encoder; None loads none, where no photograph is encoded.
        size: side of the portraits, if smaller than the model's.

    Raises:
        UsageError: a device, precision or backend that is not here, or a size that the model
            cannot draw.
        ModelError: no such style, or files that are missing or cannot be used.
    """
    keep_freed_memory()
    place = pick_device(device)
    dtype = pick_precision(precision, place)
    runs = pick_backend(backend, place, dtype, size)
    return Portraits(
        generator=store.generator(style, place, owned=False),
        encoder=None if encoder is None else store.encoder(style, encoder, place, owned=False),
        device=place,
        dtype=dtype,
        size=size,
        backend=runs,
    )
