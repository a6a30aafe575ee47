"""Number the faces of a stream: a face gets the number that the same person had before.

[FrameDetections] -> [Face] with `track` set, one frame after another. A face gets the track
whose expected place, size and colors it fits best; a face that fits none begins a new track, and so
does everything after a scene cut. A track that is lost for a moment waits for its face, and may be
held meanwhile: its last face is carried along, and fades.

Conventions
    distance    in face sizes (`detect.size_of`)
    appearance  (APPEARANCE_PX, APPEARANCE_PX, 3) float32, 0 to 1: the middle of a face, upright
    thumbnail   (GRID, GRID, 3) float32, 0 to 1: the whole frame
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsgcli.errors import UsageError
from dsgcli.faces.align import ffhq_quad
from dsgcli.faces.detect import size_of
from dsgcli.types import Face, Frame

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

Thumbnail = NDArray[np.float32]

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
COLOR_WEIGHT = 2.0
"""How much a difference in colors, from 0 to 1, counts against a distance."""
MAX_COLOR_CHANGE = 0.2
"""A greater difference in colors is another person. Measured on real clips: one person's differ by
0.02 from frame to frame and 0.05 to 0.15 over seconds, two persons' by 0.1 to 0.25; so colors
decide who is who where faces cross, and alone they decide little."""
APPEARANCE_PX, APPEARANCE_SAMPLES, APPEARANCE_SIDE = 12, 3, 0.7
"""Side of an appearance, the frame pixels read for each of its pixels in both directions, and its
share of the FFHQ quad's side."""
REFRESH = 0.1
"""How fast the memory of a track's appearance follows the face, a frame."""
KEEP_CHOICE = 1.3
"""A face that was chosen stays chosen until another is this much larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameDetections:
    """The faces found in a frame, and colors enough to follow them by. It is small, so that
    detection and tracking may run in different processes."""

    time_s: float
    size_px: tuple[int, int]
    faces: Sequence[Face]
    """Faces in the order of the detector."""
    appearances: Sequence[Thumbnail]
    """One for each face, see `appearance_of`."""
    thumbnail: Thumbnail
    """The whole frame, see `thumbnail_of`."""


def describe(frame: Frame, faces: Sequence[Face]) -> FrameDetections:
    """Make of a frame and the faces found in it what a tracker needs."""
    return FrameDetections(
        time_s=float(frame.time),
        size_px=frame.size_px,
        faces=faces,
        appearances=[appearance_of(frame.pixels, face.landmarks) for face in faces],
        thumbnail=thumbnail_of(frame.pixels),
    )


def appearance_of(pixels: Pixels, landmarks: Points) -> Thumbnail:
    """The middle of the face as a small upright picture, by whose colors a person is recognized."""
    face = Face(landmarks=landmarks)
    quad = ffhq_quad(face.eyes, face.mouth)
    side = APPEARANCE_PX * APPEARANCE_SAMPLES
    x, y = np.meshgrid(*[APPEARANCE_SIDE * ((np.arange(side) + 0.5) / side - 0.5)] * 2)
    along_x, along_y = quad[3] - quad[0], quad[1] - quad[0]
    points = quad.mean(0) + x[:, :, None] * along_x + y[:, :, None] * along_y  # (side, side, 2)
    last = np.array([pixels.shape[1] - 1, pixels.shape[0] - 1])
    column, row = np.moveaxis(np.clip(points, 0, last).astype(int), 2, 0)
    return _cell_means(pixels[row, column], APPEARANCE_PX)


def _cell_means(samples: Pixels, cells: int) -> Thumbnail:
    """(cells * n, cells * n, 3) uint8 -> (cells, cells, 3) means, 0 to 1."""
    n = len(samples) // cells
    blocks = samples.astype(np.float32).reshape(cells, n, cells, n, 3)
    means: Thumbnail = blocks.mean(axis=(1, 3)) / np.float32(255.0)
    return means


# ── scene cuts ───────────────────────────────────────────────────────────────────────────────────
# Two frames are compared in two ways: where things are (a thumbnail) and what colors there are (a
# histogram). Motion changes the first, a flash the second, a cut both; and a cut stands out against
# the frames just before it.

GRID = 16
"""The thumbnail's side in cells."""
SAMPLES = 6
"""Pixels read in each cell and direction: exact averages would cost more and change nothing."""
MIN_SPREAD = 0.05
"""Contrast below which a frame is called plain: its noise must not pass for structure."""
BINS = 8
"""Bins of the histogram of a channel."""
CUT, STAND_OUT = 0.09, 3.0
"""A change above the first, and this many times the usual one, is a cut. Measured on real clips:
0.02 at most within a scene, 0.05 if only every fifth frame is looked at, a flash of half a stop
0.09; 0.10 between two people before the same wall, 0.15 and more between other scenes."""
MOVED_ALONE = 0.25
"""How much places count without colors: scenes of one palette differ by 0.5 in places, a pan by a
quarter of the picture from one frame to the next by 0.35."""
MEMORY = 0.8
"""How much of the usual change is kept from frame to frame."""


def thumbnail_of(pixels: Pixels) -> Thumbnail:
    """Pixels on a grid, averaged over their cells: (H, W, 3) uint8 -> (GRID, GRID, 3), 0 to 1."""
    side = GRID * SAMPLES
    rows = (np.arange(side) + 0.5) * pixels.shape[0] / side
    columns = (np.arange(side) + 0.5) * pixels.shape[1] / side
    return _cell_means(pixels[rows.astype(int)][:, columns.astype(int)], GRID)


class CutDetector:
    """Detects where a new scene begins, frame by frame."""

    def __init__(self) -> None:
        self._last: Thumbnail | None = None
        self._usual = 0.0

    def would_cut(self, thumbnail: Thumbnail) -> bool:
        """Whether this frame would begin a new scene; False for the first frame."""
        if self._last is None:
            return False
        return difference(self._last, thumbnail) > max(CUT, STAND_OUT * self._usual)

    def update(self, thumbnail: Thumbnail) -> bool:
        """Go on to this frame; returns whether it begins a new scene, as `would_cut` does."""
        cut = self.would_cut(thumbnail)
        if self._last is not None:
            change = difference(self._last, thumbnail)
            self._usual = 0.0 if cut else MEMORY * self._usual + (1.0 - MEMORY) * change
        self._last = thumbnail
        return cut

    def state(self) -> dict[str, Any]:
        """Values that `restore` takes."""
        return {"last": self._last, "usual": self._usual}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another detector was."""
        self._last, self._usual = state["last"], float(state["usual"])


def difference(thumbnail: Thumbnail, other: Thumbnail) -> float:
    """How different two thumbnails are, from 0 to 1: by the lesser of both comparisons, or by
    places alone if nothing is where it was."""

    def leveled(thumbnail: Thumbnail) -> Thumbnail:
        """Each channel with mean 0 and spread 1, as a flash or an exposure meter leaves it."""
        spread = np.maximum(thumbnail.std(axis=(0, 1)), MIN_SPREAD)
        level: Thumbnail = (thumbnail - thumbnail.mean(axis=(0, 1))) / spread
        return level

    moved = float(np.abs(leveled(thumbnail) - leveled(other)).mean()) / 2.0
    recolored = float(np.abs(_histogram(thumbnail) - _histogram(other)).sum()) / 6.0
    # a flash changes colors alone, motion places alone: a cut changes both
    return max(min(moved, recolored), MOVED_ALONE * moved)


def _histogram(thumbnail: Thumbnail) -> NDArray[np.float64]:
    """(3, BINS): shares of the cells, a channel; a cell between two bins counts in both."""
    place = thumbnail.reshape(-1, 3) * (BINS - 1)
    low = np.minimum(place.astype(int), BINS - 2)
    share = place - low
    counts = np.zeros((3, BINS))
    for channel in range(3):
        np.add.at(counts[channel], low[:, channel], 1.0 - share[:, channel])
        np.add.at(counts[channel], low[:, channel] + 1, share[:, channel])
    return counts / len(place)


# ── tracks ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Track:
    """One person, as last seen."""

    number: int
    landmarks: Points
    score: float
    appearance: Thumbnail
    seen_s: float
    """Time when last seen."""
    velocity: Points = field(default_factory=lambda: np.zeros(2))
    """Velocity of the center, pixels a second."""
    opacity: float = 1.0
    """Share that has faded in by now, and not yet out."""

    def expected(self, time_s: float) -> Points:
        """Where the center should be now; a lost face is taken to slow down and stop."""
        gap_s = time_s - self.seen_s
        center: Points = self.landmarks.mean(0) + self.velocity * min(gap_s, 0.5)
        return center

    def as_face(self) -> Face:
        """The face as last seen, held."""
        return Face(landmarks=self.landmarks, score=self.score, track=self.number, held=True)


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
        """Number of the scene, which grows by one at every cut."""

    def update(self, found: FrameDetections) -> list[Face]:
        """Number the faces of the next frame.

        Returns:
            The faces in the order given, then the held ones; all with `track` set.
        """
        time_s = found.time_s
        begins = self._cuts.update(found.thumbnail) or self._time_s is None
        if begins:  # no track of the last scene continues
            self._tracks = []
            self.scene += 1
        step_s = 0.0 if self._time_s is None else max(time_s - self._time_s, 0.0)
        self._time_s = time_s
        matched = self._match(found)
        numbered = []
        for i, (face, appearance) in enumerate(zip(found.faces, found.appearances, strict=True)):
            track = matched.get(i)
            if track is None:
                shown = 1.0 if begins else 0.0
                number, self._next_number = self._next_number, self._next_number + 1
                track = Track(number, face.landmarks, face.score, appearance, time_s, opacity=shown)
                self._tracks.append(track)
            # velocity is the mean of the last one and the new one: one jump is not believed
            unseen_s = time_s - track.seen_s
            if unseen_s > 0.0:
                moved = (face.landmarks.mean(0) - track.landmarks.mean(0)) / unseen_s
                track.velocity = 0.5 * track.velocity + 0.5 * moved
            # appearance follows slowly, so that a hand before the face does not change it
            track.appearance = (1.0 - REFRESH) * track.appearance + REFRESH * appearance
            track.landmarks, track.score, track.seen_s = face.landmarks, face.score, time_s
            numbered.append(replace(face, track=track.number, held=False))
        # lost faces, unless they have left the picture
        lost = [t for t in self._tracks if self.hold and t.seen_s < time_s]
        centers = [track.expected(time_s) for track in lost]
        held = [
            track.as_face()
            for track, center in zip(lost, centers, strict=True)
            if (center >= 0.0).all() and (center <= found.size_px).all()
        ]
        # tracks that are shown fade in; tracks that were lost fade out
        for track in self._tracks:
            fades_in = time_s - track.seen_s < HOLD_S - FADE_S
            change = step_s / FADE_S if fades_in else -step_s / FADE_S
            track.opacity = float(np.clip(track.opacity + change, 0.0, 1.0))
        self._tracks = [t for t in self._tracks if time_s - t.seen_s <= GAP_S]
        return numbered + [face for face in held if self.opacity(face.track) > 0.0]

    def begins_scene(self, found: FrameDetections) -> bool:
        """Whether `update` with this frame would begin a scene, where numbering starts again."""
        return self._time_s is None or self._cuts.would_cut(found.thumbnail)

    @property
    def num_tracks(self) -> int:
        """Number of different faces so far; they are numbered from 0."""
        return self._next_number

    @property
    def hints(self) -> list[Face]:
        """Where to look for faces in the next frame: `FaceDetector.detect` takes them."""
        return [track.as_face() for track in self._tracks]

    def opacity(self, number: int) -> float:
        """How much of this track's face to show now: below 1 while it fades in or out, which only
        happens with `hold`. A face that is there when a scene begins does not fade in."""
        if not self.hold:
            return 1.0
        return next((t.opacity for t in self._tracks if t.number == number), 0.0)

    def state(self) -> dict[str, Any]:
        """Plain values and arrays that `restore` takes."""
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

    def _match(self, found: FrameDetections) -> dict[int, Track]:
        """The track of each face that has one, best fits first."""
        misfits = [
            (_misfit(track, face.landmarks, appearance, found.time_s), i, track)
            for i, (face, appearance) in enumerate(zip(found.faces, found.appearances, strict=True))
            for track in self._tracks
        ]
        matched: dict[int, Track] = {}
        taken: set[int] = set()
        for misfit, i, track in sorted(misfits, key=lambda fit: fit[0]):
            if np.isfinite(misfit) and i not in matched and track.number not in taken:
                matched[i] = track
                taken.add(track.number)
        return matched


def _misfit(track: Track, landmarks: Points, appearance: Thumbnail, time_s: float) -> float:
    """How badly a face fits a track; infinite if it cannot be the same person."""
    size, was = size_of(landmarks), size_of(track.landmarks)
    growth = max(size, was) / max(min(size, was), 1e-6)
    distance = float(np.hypot(*(landmarks.mean(0) - track.expected(time_s)))) / max(was, 1e-6)
    reach = MAX_DISTANCE + DISTANCE_PER_S * (time_s - track.seen_s)
    changed = float(np.abs(appearance - track.appearance).mean())
    near = distance < 0.5 * MAX_DISTANCE  # then even a shadow, or a hand, does not end the track
    if growth > MAX_GROWTH or distance > reach or (changed > MAX_COLOR_CHANGE and not near):
        return float("inf")
    return float(distance + COLOR_WEIGHT * changed + np.log(growth))


# ── which faces to draw ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class FaceChoice:
    """The value of `--faces`: `all`, `largest`, a number of faces, or their numbers `0,2`."""

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
