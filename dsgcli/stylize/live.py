"""Frames of a camera, drawn as they come: what comes too fast is left out.

A thread reads the camera and keeps only its newest frame; the loop takes that one whenever it has
room. So the drawing is as even as the machine allows, and never falls behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from typing import TYPE_CHECKING

from dsgcli.types import Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsgcli.stylize.flow import StylizedFrame
    from dsgcli.types import Pixels

CLOCK = 100_000
"""Ticks of a frame's time in a second."""


class LiveStream(Iterator["Pixels"]):
    """Drawn frames (H, W, 3), as `Stylizer.stream` gives them with `live=True`.

    Args:
        frames: numbered frames of the camera, as an array is made one.
        draw: the loop: frames to drawn frames.
        finish: a drawn frame to an array.
    """

    def __init__(
        self,
        frames: Generator[Frame],
        draw: Callable[[Iterator[Frame]], Generator[StylizedFrame]],
        finish: Callable[[StylizedFrame], Pixels],
    ) -> None:
        self.latency_s = 0.0
        """Seconds from the arrival of the frame that was given last to its drawing."""
        self.dropped = 0
        """Frames that were left out so far."""
        self._arrived: dict[int, float] = {}
        self._newest: Frame | None = None
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._change = threading.Condition()
        self._finish = finish
        self._reader = threading.Thread(target=self._read, args=(frames,), daemon=True)
        self._reader.start()
        self._drawn = draw(self._taken())

    def __iter__(self) -> LiveStream:
        return self

    def __next__(self) -> Pixels:
        drawn = next(self._drawn)
        self.latency_s = time.monotonic() - self._arrived.pop(drawn.shot.index)
        return self._finish(drawn)

    def close(self) -> None:
        """Stop reading and drawing. A camera that is waited for ends with its next frame."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._drawn.close()

    def __enter__(self) -> LiveStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, frames: Generator[Frame]) -> None:
        try:
            with closing(frames) as camera:
                for frame in camera:
                    with self._change:
                        if self._closed:
                            return
                        self.dropped += self._newest is not None
                        self._newest = frame
                        self._change.notify_all()
        except BaseException as error:  # told where the frames are taken
            self._error = error
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()

    def _taken(self) -> Iterator[Frame]:
        """The newest frame, whenever one is asked for, numbered and timed by its arrival."""
        index, started = 0, time.monotonic()
        while True:
            with self._change:
                self._change.wait_for(lambda: self._newest or self._ended or self._closed)
                frame, self._newest = self._newest, None
            if frame is None or self._closed:
                break
            now = time.monotonic()
            self._arrived[index] = now
            clock = Fraction(round((now - started) * CLOCK) + index, CLOCK)  # never twice the same
            yield Frame(pixels=frame.pixels, index=index, time=clock)
            index += 1
        if self._error is not None:
            raise self._error
