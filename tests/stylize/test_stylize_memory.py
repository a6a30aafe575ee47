"""What a run remembers at the beginning of a segment comes back to the bit, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save
from stylize.staging import BLUE, Actor, Play

from dsgcli.errors import SinkError
from dsgcli.faces.track import Tracker, describe
from dsgcli.stylize.checkpoint import LoopState, read_memory, write_memory
from dsgcli.stylize.frame_state import FrameState
from dsgcli.types import CropTransform, Face


def drawn_shot(index, faces=2, encoders=2):
    dice = np.random.default_rng(index)
    seen = [
        Face(
            landmarks=dice.normal(80, 30, (478, 2)),
            score=float(dice.uniform()),
            track=3 * number,
            held=bool(number % 2),
        )
        for number in range(faces)
    ]
    codes = [[torch.from_numpy(dice.normal(size=(10, 32))).float() for _ in seen]] * encoders
    return FrameState(
        frame=None,
        index=index,
        time_s=index / 29.97,
        scene=3,
        seen=seen,
        encoded=codes,
    )


def aligned_shot(index):
    """A frame that is a crop itself: a code without a face."""
    return FrameState(frame=None, index=index, time_s=index / 3, encoded=[[torch.randn(10, 32)]])


@pytest.fixture
def tracker():
    """That of someone who has seen one face come and another one go."""
    made = Tracker(hold=True)
    play = Play(9, lambda i: [Actor(40 + i), Actor(110, color=BLUE, seen=i < 7)])
    for frame in play.frames:
        made.update(describe(frame, play.detector.detect(frame)))
    return made


PLACE = CropTransform(quad=np.random.default_rng(0).normal(size=(4, 2)), size_px=64)


@pytest.fixture
def memory(tracker):
    shots = [drawn_shot(5), drawn_shot(6, faces=0), drawn_shot(7, faces=1), aligned_shot(8)]
    return LoopState(tracker=tracker.state(), recent=shots, faces=123, place=PLACE)


def same_shot(one, other):
    return (
        (one.index, one.time_s, one.frame) == (other.index, other.time_s, other.frame)
        and one.scene == other.scene
        and len(one.seen) == len(other.seen)
        and all(
            (a.score, a.track, a.held) == (b.score, b.track, b.held)
            and np.array_equal(a.landmarks, b.landmarks)
            for a, b in zip(one.seen, other.seen, strict=True)
        )
        and len(one.encoded) == len(other.encoded)
        and all(
            len(codes) == len(others)
            and all(torch.equal(a, b) for a, b in zip(codes, others, strict=True))
            for codes, others in zip(one.encoded, other.encoded, strict=True)
        )
    )


def same_value(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_value(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_value, one, other))
    return type(one) is type(other) and one == other


def test_memory_comes_back_to_the_bit(tmp_path, memory):
    write_memory(tmp_path / "1.state", memory)
    again = read_memory(tmp_path / "1.state")
    assert again.faces == 123
    assert len(again.recent) == 4
    assert all(map(same_shot, memory.recent, again.recent))
    assert [shot.tracks for shot in again.recent] == [[0, 3], [], [0], [0]]
    assert same_value(memory.tracker, again.tracker)
    assert again.place is not None
    assert again.place.size_px == 64
    np.testing.assert_array_equal(again.place.quad, PLACE.quad)
    assert [path.name for path in tmp_path.iterdir()] == ["1.state"]


def test_the_memory_of_a_run_that_saw_nobody_comes_back(tmp_path):
    """The very first state: no thumbnail, no tracks, no time."""
    write_memory(tmp_path / "1.state", LoopState(tracker=Tracker().state()))
    again = read_memory(tmp_path / "1.state")
    assert again == LoopState(tracker=Tracker().state(), recent=[])


def test_a_tracker_goes_on_from_what_was_read_as_if_it_had_never_stopped(tmp_path, tracker):
    write_memory(tmp_path / "1.state", LoopState(tracker=tracker.state()))
    other = Tracker(hold=True)
    other.restore(read_memory(tmp_path / "1.state").tracker)
    play = Play(30, lambda i: [Actor(40 + i), Actor(110, color=BLUE, seen=i > 12)])
    for frame in play.frames[9:]:
        found = play.detector.detect(frame)
        for one, two in zip(
            tracker.update(describe(frame, found)),
            other.update(describe(frame, found)),
            strict=True,
        ):
            assert (one.track, one.held) == (two.track, two.held)
            assert tracker.opacity(one.track) == other.opacity(two.track)
            np.testing.assert_array_equal(one.landmarks, two.landmarks)


def test_a_shot_without_its_pictures_is_what_memory_keeps():
    shot = drawn_shot(4)
    shot.crops, shot.opacity, shot.tracker = ["large"], [1.0, 0.5], {"large": 1}
    small = shot.without_pictures()
    assert same_shot(shot, small)
    assert (small.crops, small.tracker) == ([], None)


def header_without(key):
    def damage(path):
        arrays, head = load_file(path), header(path)
        del head[key]
        path.write_bytes(save(arrays, {"dsg": json.dumps(head)}))

    return damage


def header(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["dsg"])


def without_an_array(path):
    arrays = load_file(path)
    del arrays["shot0.landmarks"], arrays["place"]
    path.write_bytes(save(arrays, {"dsg": json.dumps(header(path))}))


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "another file": lambda path: path.write_bytes(b"hello world, this is no state"),
    "no header": lambda path: path.write_bytes(save(load_file(path))),
    "broken header": lambda path: path.write_bytes(save(load_file(path), {"dsg": "{"})),
    "no table": lambda path: path.write_bytes(save(load_file(path), {"dsg": "[1]"})),
    "no tracker": header_without("tracker"),
    "no shots": header_without("recent"),
    "no faces": header_without("faces"),
    "no place": header_without("place_px"),
    "an array lacks": without_an_array,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_told_with_the_way_out(tmp_path, memory, damage):
    path = tmp_path / "1.state"
    write_memory(path, memory)
    DAMAGES[damage](path)
    with pytest.raises(SinkError, match="--no-resume"):
        read_memory(path)


def test_a_state_that_cannot_be_written_leaves_nothing(tmp_path, memory, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(SinkError, match="No space left"):
        write_memory(tmp_path / "1.state", memory)
    assert not list(tmp_path.iterdir())
