"""Steady what trembles: shots -> shots, a moment later, with faces or codes smoothed over time.

Each track is smoothed by itself, over the moments on both sides of a frame (zero phase: no lag), as
far as the track reaches and never across its beginning or end; so a scene cut, which begins new
tracks, is never smoothed over. Work is done in seconds, so a variable frame rate is right.

Memory is bounded: a shot waits until the stream is `seconds` ahead of it, or has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dsgcli.faces.smooth import zero_phase
from dsgcli.stylize.shots import Shot

Values = NDArray[np.float64]
Reader = Callable[[Shot], Mapping[int, Values]]
"""Shot -> what is to be steadied, by a key that is a track's own."""
Writer = Callable[[Shot, Mapping[int, Values]], None]
"""Put the steadied values, by key, into the shot."""

EDGE_S = 1e-6
"""Moments this far beyond the reach still count, as `zero_phase` has it: or rounding would let a
frame on the very edge count on one side only."""
GUESS_TRUST = 0.02
"""Weight of a face that was carried over, not seen: it counts where nothing was seen."""


@dataclass(frozen=True, slots=True)
class _Moment:
    shot: Shot
    values: Mapping[int, Values]
    guessed: frozenset[int] = field(default_factory=frozenset)


def steadied(
    shots: Iterable[Shot],
    read: Reader,
    write: Writer,
    *,
    seconds: float,
    guessed: Callable[[Shot], frozenset[int]] = lambda shot: frozenset(),
) -> Iterator[Shot]:
    """The same shots in the same order, each written to once its surroundings are known.

    Args:
        seconds: of the past and of the future that count; 0 only copies.
        guessed: keys whose values were carried over from the past.
    """
    around: deque[_Moment] = deque()
    waiting: deque[_Moment] = deque()
    for shot in shots:
        moment = _Moment(shot, read(shot), guessed(shot))
        around.append(moment)
        waiting.append(moment)
        while waiting and waiting[0].shot.time_s <= shot.time_s - seconds + EDGE_S:
            yield _written(waiting.popleft(), around, write, seconds)
    while waiting:
        yield _written(waiting.popleft(), around, write, seconds)


def _written(now: _Moment, around: deque[_Moment], write: Writer, seconds: float) -> Shot:
    time_s = now.shot.time_s
    while around[0].shot.time_s < time_s - seconds - EDGE_S:
        around.popleft()
    smooth = {key: _steady(key, time_s, around, seconds) for key in now.values}
    write(now.shot, smooth)
    return now.shot


def _steady(key: int, time_s: float, around: Iterable[_Moment], seconds: float) -> Values:
    near = [
        moment
        for moment in around
        if key in moment.values and moment.shot.time_s - time_s <= seconds + EDGE_S
    ]
    return zero_phase(
        np.array([moment.shot.time_s for moment in near]),
        np.stack([moment.values[key] for moment in near]),
        at=time_s,
        seconds=seconds,
        trust=np.array([GUESS_TRUST if key in moment.guessed else 1.0 for moment in near]),
    )
