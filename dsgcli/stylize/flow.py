"""The loop: frames -> faces -> crops -> latents -> portraits -> frames.

Each step is a generator: it takes shots and gives them on with one thing more known. Steps that
look ahead (steadying faces, codes and grades) give them on later, in the same order. `prefetch`
puts a thread between two steps, so that decoding, finding, cutting out, drawing and pasting
overlap; it changes nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from dsgcli.faces.align import crop_face, crop_whole
from dsgcli.faces.grade import IDENTITY
from dsgcli.faces.track import FrameDetections, describe
from dsgcli.pipeline import by_group
from dsgcli.portraits import Portraits
from dsgcli.runtime import Prefetch, prefetch, return_freed_memory
from dsgcli.stylize.backoff import Batches
from dsgcli.stylize.checkpoint import LoopState
from dsgcli.stylize.face_tracking import FaceTracking
from dsgcli.stylize.frame_state import FrameState, batched_shots
from dsgcli.stylize.refine import PictureLoss, refine_codes
from dsgcli.stylize.steady import (
    GRADE_REACH_S,
    PortraitAverages,
    fit_frame,
    graded_by_nearest_face,
    steadied,
)
from dsgcli.types import Frame, Portrait

if TYPE_CHECKING:
    from dsgcli.faces.detect import Effort, FaceDetector
    from dsgcli.faces.grade import Values
    from dsgcli.pipeline import StylePipeline
    from dsgcli.stylize.frame_state import GradeReference, TrackedSegment
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.stylize.output_styles import FaceStyle, OutputStyle
    from dsgcli.stylize.paste import Paster
    from dsgcli.stylize.summary import Stopwatch
    from dsgcli.types import Face, Pixels

T = TypeVar("T")

FRAMES_BETWEEN_TRIMS = 50
"""Frames after which free memory is given back: frames of all ages lie between one another in the
heap, and its gaps add up."""
AHEAD = 8
"""Frames that a step may be ahead of the next one. Cutting out is one batch ahead: frames may be
large, and it is quick."""


@dataclass(frozen=True, slots=True)
class StylizedFrame:
    """One frame, finished: a picture for each cast."""

    shot: FrameState
    pictures: list[Frame]


@dataclass(slots=True, kw_only=True)
class Crew:
    """Everything that works on one source: what finds, encodes, draws and pastes."""

    detector: FaceDetector
    encoders: Sequence[StylePipeline]
    """One for each encoder that the casts use, and one for all that need none."""
    face_rows: Sequence[int]
    """How many rows of its codes they draw with; later ones are not computed."""
    paster: Paster
    options: StylizeOptions
    smooth_s: float
    """Reach of the smoothing to both sides, in seconds; 0 for stills."""
    refine_steps: int = 0
    perceptual: PictureLoss | None = None
    """For refining, if its weights are installed."""
    aligned: bool = False
    """Frames are FFHQ crops themselves: nothing is looked for."""
    one_side: float | None = None
    """Choose the size of every portrait as for a face whose crop has this side, where all frames
    have to be of one size; None chooses for each face."""
    batches: Batches
    clock: Stopwatch
    memory: LoopState | None = None
    """The past of a run that goes on."""
    source: str = ""
    """For messages."""
    still: bool = False
    """The source is one picture."""
    live: bool = False
    """The source is a camera: nothing looks ahead, and frames do not wait for one another."""
    read_frame: Callable[[GradeReference], Frame] | None = None
    """Reads a frame of the past once more: for a run that goes on, or a worker that draws a part of
    a video."""
    _scene_grades: tuple[int, list[Values | None]] | None = None
    """Frame that the grades were fitted to, and the grades by cast."""

    def run(
        self,
        frames: Iterable[Frame],
        casts: Sequence[OutputStyle],
        known: TrackedSegment | None = None,
    ) -> Generator[StylizedFrame]:
        """Every frame, drawn once for each cast: the whole flow.

        Args:
            known: shots whose faces were found before; `frames` are those that it wants.

        However it ends, the threads have ended with it: an error in one step does not close the
        steps before it, whose frames it keeps alive, and the source is closed next.
        """
        with ExitStack() as stack:
            threads: list[Prefetch[Any]] = []

            def ahead(
                items: Iterable[T], depth: int = AHEAD, *, always: bool = False
            ) -> Iterator[T]:
                if self.live and not always:  # each thread would hold three frames
                    return iter(items)
                thread = prefetch(items, 1 if self.live else depth)
                threads.append(stack.enter_context(closing(thread)))
                return thread

            def cut(placed: Iterable[FrameState]) -> Iterator[FrameState]:
                return ahead(self.align(placed), self.batches.size)

            if known is None:
                found = self.watch(ahead(frames))
                placed = self.fade_grades(self.steady_faces(ahead(found, always=True)))
                coded = _with_frames(self.steady_codes(self.encode(cut(placed))))
            else:
                found = known.with_pictures(ahead(frames))
                placed = known.placed(self.fade_grades(self.steady_faces(ahead(found))))
                coded = known.to_draw(self.steady_codes(self.encode(cut(placed))))
            written = self.draw(coded, casts)
            if self.smooth_s > 0.0:
                written = self.average(ahead(written, self.batches.size))
            written = ahead(written, self.batches.size)
            try:
                yield from self.paste(written)
            finally:
                for thread in threads:  # all at once: each may wait for the one before it
                    thread.stop()

    # ── frames -> faces ──────────────────────────────────────────────────────────────────────────

    def watch(self, frames: Iterable[Frame]) -> Iterator[FrameState]:
        """Find the faces of each frame, tell who is who, and choose whom to draw."""
        if self.memory is not None:
            yield from self.memory.recent
        watcher = self.watcher()
        for frame in frames:
            with self.clock.stage("find"):
                look = partial(self._look, frame)
                shot = watcher.shot(frame.index, frame.time, look, frame)
            yield shot

    def watcher(self) -> FaceTracking:
        """Make the tracker of the faces of this source."""
        return FaceTracking(
            self.options,
            aligned=self.aligned,
            memory=self.memory,
            source=self.source,
            detector=self.detector.name,
        )

    def _look(self, frame: Frame, hints: Sequence[Face], effort: Effort) -> FrameDetections:
        return describe(frame, self.detector.detect(frame, hints=hints, effort=effort))

    def steady_faces(self, shots: Iterable[FrameState]) -> Iterator[FrameState]:
        """Smooth the landmarks of each track over time."""
        return steadied(
            shots,
            lambda shot: {face.track: face.landmarks for face in shot.seen},
            _put_faces,
            seconds=self.smooth_s,
            ahead=not self.live,
            guessed=lambda shot: frozenset(face.track for face in shot.seen if face.held),
        )

    # ── faces -> crops -> latents ────────────────────────────────────────────────────────────────

    def align(self, shots: Iterable[FrameState]) -> Iterator[FrameState]:
        """Cut every face out, at the size that the networks want."""
        for shot in shots:
            if shot.frame is not None:
                with self.clock.stage("align"):
                    if self.aligned:
                        shot.sides = [float(min(shot.frame.size_px))]
                        shot.crops = [crop_whole(shot.frame, self._crop_px(shot, 0))]
                    else:
                        shot.crops = [
                            crop_face(shot.frame, face, self._crop_px(shot, number))
                            for number, face in enumerate(shot.faces)
                        ]
            yield shot

    def _crop_px(self, shot: FrameState, number: int) -> int:
        """Side of a face's crop: the largest that one of the networks wants."""
        return max(pipeline.crop_size(self._side(shot, number)) for pipeline in self.encoders)

    def _side(self, shot: FrameState, number: int) -> float:
        return shot.sides[number] if self.one_side is None else self.one_side

    def encode(self, shots: Iterable[FrameState]) -> Iterator[FrameState]:
        """The code of every face, by every encoder."""
        for batch in batched_shots(shots, self.batches.size):
            pixels = [crop.pixels for shot in batch if not shot.encoded for crop in shot.crops]
            with self.clock.stage("encode"):
                found = [
                    iter(self._codes(pipeline, rows, pixels))
                    for pipeline, rows in zip(self.encoders, self.face_rows, strict=True)
                ]
            for shot in batch:
                if not shot.encoded:
                    shot.encoded = [[next(codes) for _ in shot.crops] for codes in found]
                yield shot

    def _codes(self, pipeline: StylePipeline, rows: int, pixels: Sequence[Pixels]) -> list[Tensor]:
        """One code (L, D) a crop; crops of one size go through the network together."""
        codes: dict[int, Tensor] = {}
        for group in by_group([len(crop) for crop in pixels]):
            crops = [pixels[number] for number in group]
            codes |= zip(group, self._codes_of_one_size(pipeline, rows, crops), strict=True)
        return [codes[number] for number in range(len(pixels))]

    def _codes_of_one_size(
        self, pipeline: StylePipeline, rows: int, pixels: Sequence[Pixels]
    ) -> list[Tensor]:
        wanted = None if self.refine_steps else rows  # refining draws the photograph
        codes = self.batches.run(lambda part: list(pipeline.encode(part, wanted)), pixels)
        if not self.refine_steps:
            return codes
        assert isinstance(pipeline, Portraits), "others have no codes of faces"
        stacked = torch.stack(codes)
        return list(refine_codes(pipeline, pixels, stacked, self.refine_steps, self.perceptual))

    def steady_codes(self, shots: Iterable[FrameState]) -> Iterator[FrameState]:
        """Smooth the codes of each track over time."""
        return steadied(
            shots,
            _codes_by_track,
            _put_codes,
            seconds=self.codes_smooth_s,
            ahead=not self.live,
            guessed=_guessed_codes,
        )

    @property
    def codes_smooth_s(self) -> float:
        """Reach of the smoothing of codes, in seconds; 0 where crops are the content."""
        has_codes = any(pipeline.encoder is not None for pipeline in self.encoders)
        return self.smooth_s if has_codes else 0.0

    # ── latents -> portraits -> frames ───────────────────────────────────────────────────────────

    def draw(
        self, shots: Iterable[FrameState], casts: Sequence[OutputStyle]
    ) -> Iterator[tuple[FrameState, list[list[Portrait]]]]:
        """Each shot with its portraits, by cast, then one a crop; and with its grades."""
        for batch in batched_shots(shots, self.batches.size):
            with self.clock.stage("draw"):
                by_cast = [self._draw_cast(batch, cast) for cast in casts]
            for number, shot in enumerate(batch):
                portraits = [by_shot[number] for by_shot in by_cast]
                shot.grades = self._grades(shot, portraits, casts)
                yield shot, portraits

    def _draw_cast(self, batch: Sequence[FrameState], cast: OutputStyle) -> list[list[Portrait]]:
        """Portraits of one cast, by shot: all faces of one role, and of one size, go through the
        network together."""
        places: dict[tuple[FaceStyle, int, int], list[tuple[int, int]]] = defaultdict(list)
        for number, shot in enumerate(batch):
            for crop, track in enumerate(shot.tracks):
                role = cast.role_of(track)
                size_px = role.portraits.crop_size(self._side(shot, crop))
                places[role, size_px, len(shot.crops[crop].pixels)].append((number, crop))
        drawn: list[list[Portrait | None]] = [[None] * len(shot.crops) for shot in batch]
        for (role, size_px, _), found in places.items():
            encoder = self._encoder_of(role.portraits)
            faces = [
                (batch[number].crops[crop].pixels, batch[number].codes[encoder][crop])
                for number, crop in found
            ]
            pixels = self.batches.run(_drawing(role, size_px), faces)
            for (number, crop), portrait in zip(found, pixels, strict=True):
                shot = batch[number]
                opacity = shot.opacity[crop] if shot.opacity else 1.0
                drawn[number][crop] = Portrait(
                    pixels=portrait,
                    crop=shot.crops[crop],
                    opacity=opacity,
                    keeps_content=role.portraits.keeps_content,
                )
        return [[p for p in portraits if p is not None] for portraits in drawn]

    def _encoder_of(self, portraits: StylePipeline) -> int:
        """Which of `encoders` made the codes for these networks."""
        return next(
            number
            for number, other in enumerate(self.encoders)
            if other.encoder is portraits.encoder
        )

    # ── grades ───────────────────────────────────────────────────────────────────────────────────

    @property
    def grades_frames(self) -> bool:
        """Whether there are frames to grade."""
        kept = any(portraits.keeps_content for portraits in self.encoders)
        wanted = kept if self.options.grade is None else self.options.grade
        return wanted and self.paster.shows_frame

    @property
    def grade_s(self) -> float:
        """How far from a face frames are graded, in seconds; 0 for frames with a face alone."""
        return GRADE_REACH_S if self.grades_frames and self.smooth_s > 0.0 else 0.0

    def fade_grades(self, shots: Iterator[FrameState]) -> Iterator[FrameState]:
        """Find out how far each frame is graded."""
        if not self.grades_frames:
            return shots
        return graded_by_nearest_face(shots, seconds=self.grade_s, ahead=not self.live)

    def _grades(
        self, shot: FrameState, by_cast: Sequence[Sequence[Portrait]], casts: Sequence[OutputStyle]
    ) -> list[Values | None]:
        """By cast: what is done to the colors of this frame; [] if nothing is."""
        if not self.grades_frames or shot.reference is None or shot.strength == 0.0:
            return []
        if self.still:
            return self._fits(by_cast)
        if self._scene_grades is None or self._scene_grades[0] != shot.reference.index:
            self._scene_grades = shot.reference.index, self._fits_of(shot.reference, casts)
        full = self._scene_grades[1]
        if shot.strength == 1.0:
            return full
        return [None if v is None else IDENTITY + shot.strength * (v - IDENTITY) for v in full]

    def _fits_of(
        self, reference: GradeReference, casts: Sequence[OutputStyle]
    ) -> list[Values | None]:
        """By cast: the change of colors by drawing, fitted to a frame that is drawn by itself: the
        grade of a scene so does not depend on where a run, or the segment of a worker, begins."""
        frame = reference.frame
        if frame is None:
            assert self.read_frame is not None, "frames of the past can be read again"
            frame = self.read_frame(reference)
        alone = FrameState(
            frame=frame,
            index=reference.index,
            time_s=float(reference.time),
            seen=list(reference.faces),
            faces=list(reference.faces),
            sides=list(reference.sides),
        )
        (alone,) = self.encode(self.align([alone]))
        alone.codes = alone.encoded
        reference.frame = None
        return self._fits([self._draw_cast([alone], cast)[0] for cast in casts])

    def _fits(self, by_cast: Sequence[Sequence[Portrait]]) -> list[Values | None]:
        with self.clock.stage("grade"):
            return [
                fit_frame(portraits, self.options.grade, self.options.match_color)
                for portraits in by_cast
            ]

    def average(
        self, drawn: Iterable[tuple[FrameState, list[list[Portrait]]]]
    ) -> Iterator[tuple[FrameState, list[list[Portrait]]]]:
        """Average portraits over the last frames, against noise that the style makes stronger."""
        averages = PortraitAverages()
        for shot, by_cast in drawn:
            with self.clock.stage("average"):
                averaged = averages.add(shot, by_cast)
            yield shot, averaged

    def paste(
        self, drawn: Iterable[tuple[FrameState, list[list[Portrait]]]]
    ) -> Generator[StylizedFrame]:
        """Put the portraits back into their frames."""
        for number, (shot, by_cast) in enumerate(drawn):
            assert shot.frame is not None, "only what is to be written is drawn"
            if number % FRAMES_BETWEEN_TRIMS == FRAMES_BETWEEN_TRIMS - 1:
                return_freed_memory()
            with self.clock.stage("paste"):
                pictures = [
                    self.paster.paste(
                        shot.frame, portraits, cast, shot.grades[cast] if shot.grades else None
                    )
                    for cast, portraits in enumerate(by_cast)
                ]
            yield StylizedFrame(shot, pictures)


def _with_frames(shots: Iterable[FrameState]) -> Iterator[FrameState]:
    """Without what an earlier run drew."""
    return (shot for shot in shots if shot.frame is not None)


def _drawing(
    role: FaceStyle, size_px: int
) -> Callable[[Sequence[tuple[Pixels, Tensor]]], Sequence[Pixels]]:
    """Crops with their codes (L, D) to portraits (S, S, 3) in this role."""

    def draw(faces: Sequence[tuple[Pixels, Tensor]]) -> Sequence[Pixels]:
        crops, codes = [crop for crop, _ in faces], torch.stack([code for _, code in faces])
        return list(role.portraits.draw_crops(crops, codes, role.look, size_px))

    return draw


def _key(encoder: int, track: int) -> int:
    """One number for an encoder's codes of a track."""
    return encoder * 1_000_000 + track


def _put_faces(shot: FrameState, landmarks: Mapping[int, Values]) -> None:
    shot.faces = [replace(face, landmarks=landmarks[face.track]) for face in shot.seen]


def _codes_by_track(shot: FrameState) -> dict[int, Values]:
    return {
        _key(encoder, track): code.double().cpu().numpy()
        for encoder, codes in enumerate(shot.encoded)
        for code, track in zip(codes, shot.tracks, strict=True)
    }


def _guessed_codes(shot: FrameState) -> frozenset[int]:
    """Keys of codes whose face was not seen: its crop may show whatever hides it."""
    return frozenset(
        _key(encoder, face.track)
        for encoder in range(len(shot.encoded))
        for face in shot.seen
        if face.held
    )


def _put_codes(shot: FrameState, values: Mapping[int, Values]) -> None:
    shot.codes = [
        [
            torch.from_numpy(values[_key(encoder, track)]).to(code)
            for code, track in zip(codes, shot.tracks, strict=True)
        ]
        for encoder, codes in enumerate(shot.encoded)
    ]
