"""Portraits -> frames, as the options say: pasted back, cut out, or the portrait alone.

A portrait that keeps what its crop shows is the photograph in other colors: the frame is graded to
these colors, and the whole person is drawn, so that neither neck nor hair shows where the drawing
ends. Another portrait replaces the head, or the face, in a frame that stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dsgcli.faces.align import crop_whole, cut
from dsgcli.faces.composite import composite, cut_out
from dsgcli.faces.grade import graded
from dsgcli.faces.masks import MaskKind, make_cutout, make_mask
from dsgcli.stylize.compare import compared
from dsgcli.types import CropTransform, Frame, Portrait

if TYPE_CHECKING:
    from dsgcli.faces.grade import Values
    from dsgcli.faces.masks import Segmenter
    from dsgcli.stylize.options import Compare
    from dsgcli.types import Mask, Pixels


@dataclass(slots=True, kw_only=True)
class Paster:
    """Puts portraits back into frames of one stream."""

    mask: MaskKind
    """The kind of mask, from `pick_kind`."""
    kept_mask: MaskKind
    """The kind of mask for portraits that keep the content of their crop."""
    segmenter: Segmenter | None
    blend: float
    color_match: float
    alpha: bool
    """Only the portraits, on a transparent background."""
    crop: bool
    """The portrait itself, instead of the frame."""
    size_px: Sequence[int]
    """Side of the portraits, one a cast."""
    compare: Compare | None = None
    """How before and after are shown together."""
    place: CropTransform | None = None
    """Where the last portrait was: what a frame without a face is cut to."""

    @property
    def shows_frame(self) -> bool:
        """Whether outputs show what is around the portraits."""
        return not (self.crop or self.alpha)

    def paste(
        self,
        frame: Frame,
        portraits: Sequence[Portrait],
        cast: int,
        grade: Values | None = None,
    ) -> Frame:
        """The output's frame, as `draw`; beside the source where that is asked for."""
        drawn = self.draw(frame, portraits, cast, grade)
        if self.compare is None or self.compare == "page":
            return drawn
        return compared(self.before(frame, cast), drawn, self.compare)

    def before(self, frame: Frame, cast: int) -> Pixels:
        """The part of a frame that `draw` has just drawn, as it was."""
        if not self.crop:
            return frame.pixels
        size_px = self.size_px[cast]
        if self.place is None:
            return crop_whole(frame, size_px).pixels
        return cut(frame.pixels, self.place.with_size(size_px))

    def draw(
        self,
        frame: Frame,
        portraits: Sequence[Portrait],
        cast: int,
        grade: Values | None = None,
    ) -> Frame:
        """The output's frame; the input's own time and number.

        Args:
            grade: what is done to the colors of the rest of the frame.

        A crop is the largest portrait; a frame without one is cut at the last one's place, so that
        there are as many frames as came.
        """
        if self.crop:
            return self._cropped(frame, portraits, self.size_px[cast])
        masks = [self._mask(portrait) for portrait in portraits]
        if self.alpha:
            return cut_out(frame, portraits, masks)
        if grade is not None:
            frame = replace(frame, pixels=graded(frame.pixels, grade))
        return composite(frame, portraits, masks, color_match=self.color_match)

    def _cropped(self, frame: Frame, portraits: Sequence[Portrait], size_px: int) -> Frame:
        if portraits:
            self.place = largest([portrait.crop.transform for portrait in portraits])
            chosen = next(p for p in portraits if p.crop.transform is self.place)
            pixels = chosen.pixels
            alpha = self._alpha(chosen) if self.alpha else None
            return replace(frame, pixels=pixels, alpha=alpha)
        if self.place is None:
            pixels = crop_whole(frame, size_px).pixels
        else:
            pixels = cut(frame.pixels, self.place.with_size(size_px))
        alpha = np.zeros((size_px, size_px), np.uint8) if self.alpha else None
        return replace(frame, pixels=pixels, alpha=alpha)

    def _alpha(self, portrait: Portrait) -> Pixels:
        alpha: Pixels = np.rint(self._mask(portrait).clip(0, 1) * 255).astype(np.uint8)
        return alpha

    def _mask(self, portrait: Portrait) -> Mask:
        kind = self.kept_mask if portrait.keeps_content else self.mask
        make = make_cutout if self.alpha else make_mask
        return make(portrait, kind, blend=self.blend, segmenter=self.segmenter)


def largest(transforms: Sequence[CropTransform]) -> CropTransform:
    """The one of the largest square; the first of several."""
    return max(transforms, key=_area)


def _area(transform: CropTransform) -> float:
    along_x = transform.quad[3] - transform.quad[0]
    along_y = transform.quad[1] - transform.quad[0]
    return float(abs(along_x[0] * along_y[1] - along_x[1] * along_y[0]))
