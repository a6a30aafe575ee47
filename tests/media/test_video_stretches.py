"""Parts of a video, found by seeking, hold what reading all of it gives."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from media.clips import write_clip

from dsgcli.media import video_reader
from dsgcli.media.read import open_source

COUNT = 60
STAMPS = [512 * i + 37 * (i % 3) for i in range(COUNT)]
"""Of a varying rate, 25 a second on average."""


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("start", [None, Fraction(1, 2)])
def test_a_stretch_is_what_reading_gives(tmp_path, monkeypatch, ending, start):
    """Open groups of pictures, with frames stored in another order than shown."""
    monkeypatch.setattr(video_reader, "SEEK_MARGIN_S", Fraction(1, 5))
    options = {"g": "8", "bf": "3", "x264-params": "open-gop=1"}
    path = write_clip(tmp_path / f"a.{ending}", count=COUNT, stamps=STAMPS, options=options)
    with open_source(path, start=start) as source:
        frames = list(source)
        for first, last in ((0, 5), (9, 20), (33, len(frames) - 1)):
            end = frames[last].time
            found = list(source.stretch(frames[first].time, end))
            assert [frame.time for frame in found] == [f.time for f in frames[first:last]]
            for one, other in zip(found, frames[first:last], strict=True):
                np.testing.assert_array_equal(one.pixels, other.pixels)
        rest = list(source.stretch(frames[40].time, None))
        assert [frame.time for frame in rest] == [frame.time for frame in frames[40:]]
        assert not source.irregular


def test_stamps_that_have_to_be_repaired_are_irregular(tmp_path):
    """What is repaired depends on what came before, which a stretch does not know."""
    path = write_clip(tmp_path / "a.ts")
    path.write_bytes(2 * path.read_bytes())
    with open_source(path) as source:
        assert list(source.stretch(Fraction(0), None)) and source.irregular
