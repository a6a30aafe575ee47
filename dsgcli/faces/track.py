"""Who is who over time: faces get the number of the person they were in the frame before.

Data flow: Frame + [Face] -> [Face] with `track` set, one frame after another. A face goes on with
the track whose expected place, size and colors it fits best; what fits none begins a new track, and
so does everything after a scene cut. A track that is lost for a moment waits for its face, and may
be held meanwhile: its last face is carried along, and fades.

Conventions
    distance  in face sizes (`search.size_of`)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsgcli.errors import UsageError
from dsgcli.faces.align import ffhq_quad
from dsgcli.faces.cuts import CutDetector, thumbnail_of
from dsgcli.faces.search import size_of
from dsgcli.types import Face, Frame

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

GAP_S = 2.0
"""A person who is back within this time keeps their number."""
HOLD_S = 0.4
"""How long a lost face is carried along before it has faded; most misses are shorter."""
FADE_S = 0.2
"""How long a face takes to fade in or out."""
MAX_DISTANCE, DISTANCE_PER_S = 0.5, 1.0
"""How far a face may be from where it was expected: at once, and for each second of a gap more."""
MAX_GROWTH = 1.8
"""How much larger or smaller it may be."""
LOOKS_WEIGHT = 2.0
"""How much a difference in colors, from 0 to 1, counts against a distance."""
MAX_LOOKS = 0.2
"""A greater difference in colors is another person. Measured on real clips: one person's differ by
0.02 from frame to frame and 0.05 to 0.15 over seconds, two persons' by 0.1 to 0.25; so colors
decide who is who where faces cross, and alone they decide little."""
LOOKS_PX, LOOKS_SAMPLES, LOOKS_SIDE = 12, 3, 0.7
"""The little picture that colors are compared in, the pixels looked at for each of its own in both
directions, and its share of the FFHQ quad's side."""
REFRESH = 0.1
"""How fast the memory of a track's looks follows the face, a frame."""
KEEP_CHOICE = 1.3
"""A face that was chosen stays chosen until another is this much larger."""


@dataclass(slots=True)
class Track:
    """One person, as last seen."""

    number: int
    landmarks: Points
    score: float
    looks: NDArray[np.float32]
    """(LOOKS_PX, LOOKS_PX, 3), 0 to 1."""
    seen_s: float
    """When last seen."""
    velocity: Points = field(default_factory=lambda: np.zeros(2))
    """Of the center, pixels a second."""
    opacity: float = 1.0
    """What has faded in by now, and not yet out."""

    def expected(self, time_s: float) -> Points:
        """Where the center should be now; a lost face is taken to slow down and stop."""
        gap_s = time_s - self.seen_s
        center: Points = self.landmarks.mean(0) + self.velocity * min(gap_s, 0.5)
        return center


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a tracker takes from a frame: its faces, and colors enough to follow them by. It is
    small, so that those who look and the one who follows may be in different processes."""

    time_s: float
    size_px: tuple[int, int]
    faces: Sequence[Face]
    """As they were found."""
    looks: Sequence[NDArray[np.float32]]
    """One a face, see `looks_of`."""
    thumbnail: NDArray[np.float32]
    """Of the whole frame, see `cuts.thumbnail_of`."""


def see(frame: Frame, faces: Sequence[Face]) -> Sight:
    """A frame and the faces found in it, as a tracker sees them."""
    return Sight(
        time_s=float(frame.time),
        size_px=frame.size_px,
        faces=faces,
        looks=[looks_of(frame.pixels, face.landmarks) for face in faces],
        thumbnail=thumbnail_of(frame.pixels),
    )


class Tracker:
    """Numbers the faces of one stream.

    Args:
        hold: give out lost faces, held, until they have faded.
    """

    def __init__(self, *, hold: bool = False) -> None:
        self.hold = hold
        self._cuts = CutDetector()
        self._tracks: list[Track] = []
        self._next_number = 0
        self._time_s: float | None = None
        self.scene = 0
        """Grows by one at every cut."""

    def update(self, faces: Sequence[Face], frame: Frame) -> list[Face]:
        """Number the faces of the next frame.

        Returns:
            The faces in the order given, then the held ones; all with `track` set.
        """
        return self.follow(see(frame, faces))

    def follow(self, sight: Sight) -> list[Face]:
        """The same by what was seen of the frame."""
        faces, looks, time_s = sight.faces, sight.looks, sight.time_s
        begins = self._cuts.follow(sight.thumbnail) or self._time_s is None
        if begins:
            self._tracks = []
            self.scene += 1
        step_s = 0.0 if self._time_s is None else max(time_s - self._time_s, 0.0)
        self._time_s = time_s
        matched = self._match(faces, looks, time_s)
        numbered = []
        for i, face in enumerate(faces):
            track = matched.get(i) or self._new_track(face, looks[i], time_s, shown=begins)
            _see(track, face, looks[i], time_s)
            numbered.append(replace(face, track=track.number, held=False))
        held = self._lost_faces(sight.size_px, time_s)
        self._fade(step_s, time_s)
        self._tracks = [t for t in self._tracks if time_s - t.seen_s <= GAP_S]
        return numbered + [face for face in held if self.opacity(face.track) > 0.0]

    @property
    def hints(self) -> list[Face]:
        """Where to look for faces in the next frame: `FaceDetector.detect` takes them."""
        return [
            Face(landmarks=t.landmarks, score=t.score, track=t.number, held=True)
            for t in self._tracks
        ]

    def opacity(self, number: int) -> float:
        """How much of this track's face to show now: below 1 while it fades in or out, which only
        happens with `hold`. A face that is there when a scene begins does not fade in."""
        if not self.hold:
            return 1.0
        return next((t.opacity for t in self._tracks if t.number == number), 0.0)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on from here: plain values and arrays."""
        tracks = [
            {name: getattr(track, name) for name in Track.__dataclass_fields__}
            for track in self._tracks
        ]
        return {
            "cuts": self._cuts.state(),
            "tracks": tracks,
            "next_number": self._next_number,
            "time_s": self._time_s,
            "scene": self.scene,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another tracker was."""
        self._cuts.restore(state["cuts"])
        self._tracks = [Track(**values) for values in state["tracks"]]
        self._next_number, self._time_s = int(state["next_number"]), state["time_s"]
        self.scene = int(state["scene"])

    def _match(
        self, faces: Sequence[Face], looks: Sequence[NDArray[np.float32]], time_s: float
    ) -> dict[int, Track]:
        """The track of each face that has one, best fits first."""
        fits = sorted(
            (
                (_misfit(track, face.landmarks, looks[i], time_s), i, track)
                for i, face in enumerate(faces)
                for track in self._tracks
            ),
            key=lambda fit: fit[0],
        )
        matched: dict[int, Track] = {}
        taken: set[int] = set()
        for misfit, i, track in fits:
            if np.isfinite(misfit) and i not in matched and track.number not in taken:
                matched[i] = track
                taken.add(track.number)
        return matched

    def _new_track(
        self, face: Face, looks: NDArray[np.float32], time_s: float, *, shown: bool
    ) -> Track:
        track = Track(
            self._next_number,
            face.landmarks,
            face.score,
            looks,
            time_s,
            opacity=1.0 if shown else 0.0,
        )
        self._tracks.append(track)
        self._next_number += 1
        return track

    def _lost_faces(self, size_px: tuple[int, int], time_s: float) -> list[Face]:
        """Held faces of tracks not seen in this frame, unless they have left the picture."""
        if not self.hold:
            return []
        return [
            Face(landmarks=t.landmarks, score=t.score, track=t.number, held=True)
            for t in self._tracks
            if t.seen_s < time_s and _inside(t.expected(time_s), size_px)
        ]

    def _fade(self, step_s: float, time_s: float) -> None:
        for track in self._tracks:
            shown = time_s - track.seen_s < HOLD_S - FADE_S
            change = step_s / FADE_S if shown else -step_s / FADE_S
            track.opacity = float(np.clip(track.opacity + change, 0.0, 1.0))


def looks_of(pixels: Pixels, landmarks: Points) -> NDArray[np.float32]:
    """The middle of the face as a little upright picture: by its colors one knows a person."""
    face = Face(landmarks=landmarks)
    quad = ffhq_quad(face.eyes, face.mouth)
    side = LOOKS_PX * LOOKS_SAMPLES
    x, y = np.meshgrid(*[LOOKS_SIDE * ((np.arange(side) + 0.5) / side - 0.5)] * 2)
    along_x, along_y = quad[3] - quad[0], quad[1] - quad[0]
    points = quad.mean(0) + x[:, :, None] * along_x + y[:, :, None] * along_y
    last = np.array([pixels.shape[1] - 1, pixels.shape[0] - 1])
    column, row = np.moveaxis(np.clip(points, 0, last).astype(int), 2, 0)
    looked_at = pixels[row, column].astype(np.float32)
    cells = looked_at.reshape(LOOKS_PX, LOOKS_SAMPLES, LOOKS_PX, LOOKS_SAMPLES, 3)
    looks: NDArray[np.float32] = cells.mean(axis=(1, 3)) / np.float32(255.0)
    return looks


def _misfit(track: Track, landmarks: Points, looks: NDArray[np.float32], time_s: float) -> float:
    """How badly a face fits a track; infinite if it cannot be the same person."""
    size, was = size_of(landmarks), size_of(track.landmarks)
    growth = max(size, was) / max(min(size, was), 1e-6)
    distance = float(np.hypot(*(landmarks.mean(0) - track.expected(time_s)))) / max(was, 1e-6)
    reach = MAX_DISTANCE + DISTANCE_PER_S * (time_s - track.seen_s)
    changed = float(np.abs(looks - track.looks).mean())
    near = distance < 0.5 * MAX_DISTANCE  # then even a shadow, or a hand, does not end the track
    if growth > MAX_GROWTH or distance > reach or (changed > MAX_LOOKS and not near):
        return float("inf")
    return float(distance + LOOKS_WEIGHT * changed + np.log(growth))


def _see(track: Track, face: Face, looks: NDArray[np.float32], time_s: float) -> None:
    """Bring a track up to date with its face in this frame."""
    step_s = time_s - track.seen_s
    if step_s > 0.0:
        moved = (face.landmarks.mean(0) - track.landmarks.mean(0)) / step_s
        track.velocity = 0.5 * track.velocity + 0.5 * moved
    track.looks = (1.0 - REFRESH) * track.looks + REFRESH * looks
    track.landmarks, track.score, track.seen_s = face.landmarks, face.score, time_s


def _inside(center: Points, size_px: tuple[int, int]) -> bool:
    return bool((center >= 0.0).all() and (center <= size_px).all())


# ── which faces to draw ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class FaceChoice:
    """What `--faces` names: `all`, `largest`, a number of faces, or their numbers `0,2`."""

    count: int | None = None
    """At most so many, the largest first; None for no limit."""
    tracks: frozenset[int] | None = None
    """Only these; None for any."""

    @classmethod
    def parse(cls, text: str) -> FaceChoice:
        """Read the option.

        Raises:
            UsageError: something else.
        """
        words = [word.strip() for word in text.split(",")]
        if words in (["all"], ["largest"]):
            return cls(count=None if words == ["all"] else 1)
        if len(words) > 1 and words[-1] == "":
            words.pop()  # `2,` is face number 2 alone; `2` are two faces
            numbers = words
        else:
            numbers = words if len(words) > 1 else []
        if not all(word.isdecimal() for word in words) or (not numbers and int(words[0]) < 1):
            raise UsageError(
                f"--faces takes all, largest, how many (2), or their numbers from the left, from 0 "
                f"(0,2 or 1,), got {text!r}"
            )
        if numbers:
            return cls(tracks=frozenset(int(word) for word in numbers))
        return cls(count=int(words[0]))

    def choose(self, faces: Sequence[Face], kept: Collection[int] = ()) -> list[Face]:
        """The faces to draw, in the order given.

        Args:
            kept: tracks drawn in the frame before; they stay unless others are plainly larger, so
                that a choice by size does not flicker.
        """
        if self.tracks is not None:
            return [face for face in faces if face.track in self.tracks]
        if self.count is None:
            return list(faces)

        def rank(face: Face) -> float:
            return face.height_px * (KEEP_CHOICE if face.track in kept else 1.0)

        chosen = sorted(range(len(faces)), key=lambda i: -rank(faces[i]))[: self.count]
        return [faces[i] for i in sorted(chosen)]
