"""Scenes -> pictures. A scene holds everything that may differ from one picture to the next.

A scene is a face's code and its styles: one exemplar, or several of models that share their
photographic generator, each with its share. Structure and color can have different ones.

    structure row l   x <- x + weight_l * sum_k share_k * ModRes_k,l(x, T_s,k(exstyle_k,l))
    color row l       ws_l <- weight_l * sum_k share_k * T_c,k,l(exstyle_k,l)
                              + (1 - weight_l) * ws_l

A translator draws a scene from a picture: the one that the photographic generator draws from the
code, or a photograph itself. Its styles are mixtures of codes (L, D), row by row.

With one exemplar this is DualStyleGAN as it is (`models/dualstylegan.py`). With two models it mixes
their results, not their weights, so that each end of a transition is exactly one of them.

Shapes: B pictures drawn together, L rows of a code, D style width, S size in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, islice
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from dsgcli.inference.base import ExtrinsicStyle, Run
from dsgcli.inference.generator import fold
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.pipeline import TranslatorPipeline
from dsgcli.portraits import Portraits, area_resize
from dsgcli.runtime import batched
from dsgcli.types import LatentLayout, StyleWeights

if TYPE_CHECKING:
    from dsgcli.models.translator import Translator

GPU_BATCH = 4
"""Pictures drawn together on a GPU: enough to fill it, small enough for any."""


@dataclass(frozen=True, slots=True, eq=False)
class WeightedStyle:
    """One exemplar with its share of a scene."""

    model: DualStyleGAN | Translator
    exstyle_ws: Tensor
    """(L, D), extrinsic code in W+; a translator's code as it is."""
    share: float = 1.0
    """Share of the scene's structure, or color; the shares of a scene add up to 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """One picture to draw."""

    ws: Tensor
    """(L, D), intrinsic code in W+, truncated; (3, S, S) in [-1, 1], a photograph's crop, where a
    translator draws it."""
    structure: tuple[WeightedStyle, ...] = ()
    color: tuple[WeightedStyle, ...] = ()
    """Without styles, the photographic generator's own picture is drawn."""
    weights: StyleWeights = field(default_factory=lambda: StyleWeights(()))
    """One number a row; unused without styles."""

    @property
    def models(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The models of structure and of color; scenes with the same can be drawn together."""
        return (
            tuple(id(style.model) for style in self.structure),
            tuple(id(style.model) for style in self.color),
        )

    def one_style(self, layout: LatentLayout) -> tuple[DualStyleGAN, ExtrinsicStyle] | None:
        """The model and the style of a scene that has one exemplar; else None."""
        if len(self.structure) != 1 or len(self.color) != 1:
            return None
        (structure,), (color,) = self.structure, self.color
        if structure.model is not color.model or (structure.share, color.share) != (1.0, 1.0):
            return None
        assert isinstance(structure.model, DualStyleGAN)
        rows = structure.exstyle_ws[layout.structure], color.exstyle_ws[layout.color]
        exstyle_ws = torch.cat(rows)[None]
        return structure.model, ExtrinsicStyle(exstyle_ws=exstyle_ws, weights=self.weights.layers)


@dataclass(frozen=True, slots=True, eq=False)
class SceneRenderer:
    """Draws scenes with the photographic generator of one style.

    On a CPU pictures are drawn one by one: batches gain nothing there, and the last bit of a sum
    depends on how many pictures are summed together. So a scene has one picture, to the bit.
    """

    portraits: Portraits
    batch_size: int | None = None
    """Pictures drawn together on a GPU; None is `GPU_BATCH`."""

    @property
    def layout(self) -> LatentLayout:
        return self.portraits.layout

    @property
    def device(self) -> torch.device:
        return self.portraits.device

    @property
    def num_together(self) -> int:
        return 1 if self.device.type == "cpu" else self.batch_size or GPU_BATCH

    def faces(self, bound: Run, ws: Iterable[Tensor]) -> Iterator[Tensor]:
        """(3, S, S) in about [-1, 1] of each code (L, D) in W+, all in the style that `bound` is
        bound to: faster than `images`, where only faces differ."""
        for rows in batched(ws, self.num_together):
            yield from bound(torch.stack(rows).to(self.device))

    def images(self, scenes: Iterable[Scene]) -> Iterator[Tensor]:
        """(3, S, S) in about [-1, 1], not clamped; one after the other."""
        for _, alike in groupby(scenes, key=lambda scene: scene.models):
            while batch := list(islice(alike, self.num_together)):
                yield from self._draw(batch)

    @torch.inference_mode()
    def _draw(self, scenes: Sequence[Scene]) -> Tensor:
        # (B, L, D)
        ws = torch.stack([scene.ws for scene in scenes]).to(self.device)
        # one exemplar: the network bound to it, which is faster, draws the same
        if len(scenes) == 1 and (found := scenes[0].one_style(self.layout)) is not None:
            return self.portraits.bound_once(*found)(ws)
        none = (0.0,) * ws.shape[1]
        layers = [scene.weights.layers or none for scene in scenes]
        weights = [self._numbers(row) for row in zip(*layers, strict=True)]  # one for each row
        structure = self._together([scene.structure for scene in scenes])
        codes = [model.structure_codes(exstyle_ws) for model, exstyle_ws, _ in structure]

        def residual(row: int, x: Tensor) -> Tensor:
            if row >= self.layout.num_structure or not structure or _is_zero(weights[row]):
                return x
            residuals = [
                _over_maps(share) * model.res[row](x, code[:, row], _over_maps(weights[row]))
                for (model, _, share), code in zip(structure, codes, strict=True)
            ]
            return torch.stack(residuals).sum(dim=0) if len(residuals) > 1 else residuals[0]

        colored = self._color(ws, self._together([scene.color for scene in scenes]), weights)
        network, dtype = self.portraits.generator.generator, self.portraits.dtype
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            images = network.synthesize(colored, residual=residual, size_px=self.portraits.size_px)[
                1
            ]
        return images.float()

    def _color(self, ws: Tensor, color: Sequence[Together], weights: Sequence[Number]) -> Tensor:
        """(B, L, D) with the color rows moved towards the styles' colors."""
        rows = list(ws.unbind(dim=1))
        for row in range(self.layout.num_structure, len(rows)):
            weight = weights[row]
            if color and not _is_zero(weight):
                codes = [share * model.color_code(row, code) for model, code, share in color]
                rows[row] = weight * sum(codes[1:], codes[0]) + (1.0 - weight) * rows[row]
        return torch.stack(rows, dim=1)

    def _together(self, styles: Sequence[tuple[WeightedStyle, ...]]) -> list[Together]:
        """The styles of several scenes, one model after the other."""
        return [
            (
                cast("DualStyleGAN", several[0].model),
                torch.stack([style.exstyle_ws for style in several]).to(self.device),
                self._numbers([style.share for style in several]),
            )
            for several in zip(*styles, strict=True)
        ]

    def _numbers(self, values: Sequence[float]) -> Number:
        """A number where all agree, so that 0 and 1 can save work; else (B, 1)."""
        if len(set(values)) == 1:
            return values[0]
        return torch.tensor(values, device=self.device)[:, None]


@dataclass(frozen=True, eq=False)
class TranslatorRenderer:
    """Draws scenes with a translator; has the interface of `SceneRenderer`."""

    portraits: TranslatorPipeline
    batch_size: int | None = None

    @property
    def device(self) -> torch.device:
        return self.portraits.device

    @property
    def num_together(self) -> int:
        return 1 if self.device.type == "cpu" else self.batch_size or GPU_BATCH

    @cached_property
    def _draw_people(self) -> Run:
        return fold(self.portraits.network, dtype=self.portraits.dtype)

    @torch.inference_mode()
    def content(self, ws: Tensor) -> Tensor:
        """(B, 3, S, S) that the translator starts from, of codes (B, L, D) in W+ or of photographs
        (B, 3, S', S')."""
        images = self._draw_people(ws.to(self.device)) if ws.ndim == 3 else ws.to(self.device)
        return area_resize(images.float().clamp(-1.0, 1.0), self.portraits.size_px)

    def faces(self, bound: Run, ws: Iterable[Tensor]) -> Iterator[Tensor]:
        """(3, S, S) in about [-1, 1] of each person, all in the style that `bound` is bound to."""
        for code in ws:
            with torch.inference_mode():
                yield bound(self.content(code[None]))[0]

    def images(self, scenes: Iterable[Scene]) -> Iterator[Tensor]:
        """(3, S, S) in about [-1, 1], not clamped; one after the other."""
        return map(self._image, scenes)

    @torch.inference_mode()
    def _image(self, scene: Scene) -> Tensor:
        content = self.content(scene.ws[None])
        if not scene.structure or not scene.color:
            return content[0]
        layout = self.portraits.layout
        # (B, 3, S, S) content, (L, D) code: structure rows of one mixture, color rows of the other
        code = torch.cat(
            [_mixed(scene.structure)[layout.structure], _mixed(scene.color)[layout.color]]
        )
        return self.portraits.bound_once(code, scene.weights.layers)(content)[0]


def _mixed(styles: Sequence[WeightedStyle]) -> Tensor:
    """(L, D): the codes of several exemplars, each with its share."""
    return torch.stack([style.share * style.exstyle_ws for style in styles]).sum(dim=0)


AnyRenderer = SceneRenderer | TranslatorRenderer


def make_renderer(
    portraits: Portraits | TranslatorPipeline, batch_size: int | None = None
) -> AnyRenderer:
    """Make the renderer of scenes for a pipeline of either kind."""
    if isinstance(portraits, TranslatorPipeline):
        return TranslatorRenderer(portraits, batch_size)
    return SceneRenderer(portraits, batch_size)


Number = float | Tensor
"""One for all pictures, or (B, 1)."""
Together = tuple["DualStyleGAN", Tensor, Number]
"""A model, extrinsic codes (B, L, D), and their shares."""


def _is_zero(number: Number) -> bool:
    return isinstance(number, float | int) and number == 0.0


def _over_maps(number: Number) -> Number:
    return number[:, :, None, None] if isinstance(number, Tensor) else number
