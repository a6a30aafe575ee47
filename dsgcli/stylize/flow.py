"""The loop: frames -> faces -> crops -> latents -> portraits -> frames.

Each step is a generator: it takes shots and gives them on with one thing more known. Steps that
look ahead (steadying) give them on later, in the same order. `prefetch` puts a thread between two
steps, so that decoding, finding, cutting out, drawing and pasting overlap; it changes nothing else.
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
from dsgcli.faces.track import Sight, see
from dsgcli.runtime import Prefetch, prefetch
from dsgcli.stylize.backoff import Batches
from dsgcli.stylize.memory import Memory
from dsgcli.stylize.refine import PictureLoss, refine_codes
from dsgcli.stylize.shots import Shot, batched_shots
from dsgcli.stylize.steady import Values, steadied
from dsgcli.stylize.watch import Watcher
from dsgcli.types import Frame, Portrait

if TYPE_CHECKING:
    from dsgcli.faces.detect import FaceDetector
    from dsgcli.faces.search import Effort
    from dsgcli.portraits import Portraits
    from dsgcli.stylize.cast import Cast, Role
    from dsgcli.stylize.known import Known
    from dsgcli.stylize.options import StylizeOptions
    from dsgcli.stylize.paste import Paster
    from dsgcli.stylize.summary import Stopwatch
    from dsgcli.types import Face, Pixels

T = TypeVar("T")

AHEAD = 8
"""Frames that a step may be ahead of the next one. Cutting out is one batch ahead: frames may be
large, and it is quick."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One frame, finished: a picture for each cast."""

    shot: Shot
    pictures: list[Frame]


@dataclass(slots=True, kw_only=True)
class Crew:
    """Everything that works on one source: what finds, encodes, draws and pastes."""

    detector: FaceDetector
    encoders: Sequence[Portraits]
    """One for each encoder that the casts use."""
    face_rows: Sequence[int]
    """How many rows of its codes they draw with; later ones are not computed."""
    paster: Paster
    options: StylizeOptions
    smooth_s: float
    """Reach of the smoothing to both sides, in seconds; 0 for stills."""
    refine_steps: int = 0
    perceptual: PictureLoss | None = None
    """For refining, where its weights are at hand."""
    aligned: bool = False
    """Frames are FFHQ crops themselves: nothing is looked for."""
    batches: Batches
    clock: Stopwatch
    memory: Memory | None = None
    """The past of a run that goes on."""
    source: str = ""
    """For messages."""

    def run(
        self, frames: Iterable[Frame], casts: Sequence[Cast], known: Known | None = None
    ) -> Generator[Drawn]:
        """Every frame, drawn once for each cast: the whole flow.

        Args:
            known: shots whose faces were found before; `frames` are those that it wants.

        However it ends, the threads have ended with it: an error in one step does not close the
        steps before it, whose frames it keeps alive, and the source is closed next.
        """
        with ExitStack() as stack:
            threads: list[Prefetch[Any]] = []

            def ahead(items: Iterable[T], depth: int = AHEAD) -> Iterator[T]:
                thread = prefetch(items, depth)
                threads.append(stack.enter_context(closing(thread)))
                return thread

            def cut(placed: Iterable[Shot]) -> Iterator[Shot]:
                return ahead(self.align(placed), self.batches.size)

            if known is None:
                found = self.watch(ahead(frames))
                placed = self.steady_faces(ahead(found))
                coded = _with_frames(self.steady_codes(self.encode(cut(placed))))
            else:
                found = known.with_pictures(ahead(frames))
                placed = known.placed(self.steady_faces(ahead(found)))
                coded = known.to_draw(self.steady_codes(self.encode(cut(placed))))
            drawn = ahead(self.draw(coded, casts))
            try:
                yield from self.paste(drawn, casts)
            finally:
                for thread in threads:  # all at once: each may wait for the one before it
                    thread.stop()

    # ── frames -> faces ──────────────────────────────────────────────────────────────────────────

    def watch(self, frames: Iterable[Frame]) -> Iterator[Shot]:
        """Find the faces of each frame, tell who is who, and choose whom to draw."""
        if self.memory is not None:
            yield from self.memory.recent
        watcher = self.watcher()
        for frame in frames:
            with self.clock.stage("find"):
                look = partial(self._look, frame)
                shot = watcher.shot(frame.index, float(frame.time), look, frame)
            yield shot

    def watcher(self) -> Watcher:
        """Who follows the faces of this source."""
        return Watcher(
            self.options,
            aligned=self.aligned,
            memory=self.memory,
            source=self.source,
            detector=self.detector.name,
        )

    def _look(self, frame: Frame, hints: Sequence[Face], effort: Effort) -> Sight:
        return see(frame, self.detector.detect(frame, hints=hints, effort=effort))

    def steady_faces(self, shots: Iterable[Shot]) -> Iterator[Shot]:
        """Smooth the landmarks of each track over time."""
        return steadied(
            shots,
            lambda shot: {face.track: face.landmarks for face in shot.seen},
            _put_faces,
            seconds=self.smooth_s,
            guessed=lambda shot: frozenset(face.track for face in shot.seen if face.held),
        )

    # ── faces -> crops -> latents ────────────────────────────────────────────────────────────────

    def align(self, shots: Iterable[Shot]) -> Iterator[Shot]:
        """Cut every face out, at the size that the networks want."""
        size_px = max(portraits.crop_px for portraits in self.encoders)
        for shot in shots:
            if shot.frame is not None:
                with self.clock.stage("align"):
                    if self.aligned:
                        shot.crops = [crop_whole(shot.frame, size_px)]
                    else:
                        shot.crops = [crop_face(shot.frame, face, size_px) for face in shot.faces]
            yield shot

    def encode(self, shots: Iterable[Shot]) -> Iterator[Shot]:
        """The code of every face, by every encoder."""
        for batch in batched_shots(shots, self.batches.size):
            pixels = [crop.pixels for shot in batch if not shot.encoded for crop in shot.crops]
            with self.clock.stage("encode"):
                found = [
                    iter(self._codes(portraits, rows, pixels))
                    for portraits, rows in zip(self.encoders, self.face_rows, strict=True)
                ]
            for shot in batch:
                if not shot.encoded:
                    shot.encoded = [[next(codes) for _ in shot.crops] for codes in found]
                yield shot

    def _codes(self, portraits: Portraits, rows: int, pixels: Sequence[Pixels]) -> list[Tensor]:
        wanted = None if self.refine_steps else rows  # refining draws the photograph
        codes = self.batches.run(lambda part: list(portraits.encode(part, wanted)), pixels)
        if not self.refine_steps or not codes:
            return codes
        stacked = torch.stack(codes)
        return list(refine_codes(portraits, pixels, stacked, self.refine_steps, self.perceptual))

    def steady_codes(self, shots: Iterable[Shot]) -> Iterator[Shot]:
        """Smooth the codes of each track over time."""
        return steadied(
            shots, _codes_by_track, _put_codes, seconds=self.smooth_s, guessed=_guessed_codes
        )

    # ── latents -> portraits -> frames ───────────────────────────────────────────────────────────

    def draw(
        self, shots: Iterable[Shot], casts: Sequence[Cast]
    ) -> Iterator[tuple[Shot, list[list[Portrait]]]]:
        """Each shot with its portraits, by cast, then one a crop."""
        for batch in batched_shots(shots, self.batches.size):
            with self.clock.stage("draw"):
                by_cast = [self._draw_cast(batch, cast) for cast in casts]
            for number, shot in enumerate(batch):
                yield shot, [portraits[number] for portraits in by_cast]

    def _draw_cast(self, batch: Sequence[Shot], cast: Cast) -> list[list[Portrait]]:
        """Portraits of one cast, by shot: all faces of one role go through the network together."""
        places: dict[Role, list[tuple[int, int]]] = defaultdict(list)
        for number, shot in enumerate(batch):
            for crop, track in enumerate(shot.tracks):
                places[cast.role_of(track)].append((number, crop))
        drawn: list[list[Portrait | None]] = [[None] * len(shot.crops) for shot in batch]
        for role, found in places.items():
            encoder = self._encoder_of(role.portraits)
            codes = [batch[number].codes[encoder][crop] for number, crop in found]
            pixels = self.batches.run(_drawing(role), codes)
            for (number, crop), portrait in zip(found, pixels, strict=True):
                shot = batch[number]
                opacity = shot.opacity[crop] if shot.opacity else 1.0
                drawn[number][crop] = Portrait(
                    pixels=portrait, crop=shot.crops[crop], opacity=opacity
                )
        return [[p for p in portraits if p is not None] for portraits in drawn]

    def _encoder_of(self, portraits: Portraits) -> int:
        """Which of `encoders` made the codes for these networks."""
        return next(
            number
            for number, other in enumerate(self.encoders)
            if other.encoder is portraits.encoder
        )

    def paste(
        self, drawn: Iterable[tuple[Shot, list[list[Portrait]]]], casts: Sequence[Cast]
    ) -> Generator[Drawn]:
        """Put the portraits back into their frames."""
        for shot, by_cast in drawn:
            assert shot.frame is not None, "only what is to be written is drawn"
            with self.clock.stage("paste"):
                pictures = [
                    self.paster.paste(shot.frame, portraits, number)
                    for number, portraits in enumerate(by_cast)
                ]
            yield Drawn(shot, pictures)


def _with_frames(shots: Iterable[Shot]) -> Iterator[Shot]:
    """Without what an earlier run drew."""
    return (shot for shot in shots if shot.frame is not None)


def _drawing(role: Role) -> Callable[[Sequence[Tensor]], Sequence[Pixels]]:
    """Codes (L, D) to portraits (S, S, 3) in this role."""
    return lambda codes: list(role.portraits.draw(torch.stack(list(codes)), role.look))


def _key(encoder: int, track: int) -> int:
    """One number for an encoder's codes of a track."""
    return encoder * 1_000_000 + track


def _put_faces(shot: Shot, landmarks: Mapping[int, Values]) -> None:
    shot.faces = [replace(face, landmarks=landmarks[face.track]) for face in shot.seen]


def _codes_by_track(shot: Shot) -> dict[int, Values]:
    return {
        _key(encoder, track): code.double().cpu().numpy()
        for encoder, codes in enumerate(shot.encoded)
        for code, track in zip(codes, shot.tracks, strict=True)
    }


def _guessed_codes(shot: Shot) -> frozenset[int]:
    """Keys of codes whose face was not seen: its crop may show whatever hides it."""
    return frozenset(
        _key(encoder, face.track)
        for encoder in range(len(shot.encoded))
        for face in shot.seen
        if face.held
    )


def _put_codes(shot: Shot, values: Mapping[int, Values]) -> None:
    shot.codes = [
        [
            torch.from_numpy(values[_key(encoder, track)]).to(code)
            for code, track in zip(codes, shot.tracks, strict=True)
        ]
        for encoder, codes in enumerate(shot.encoded)
    ]
