"""A lack of memory is told as such, whatever a library makes of it."""

from __future__ import annotations

import errno
import subprocess
import sys
from fractions import Fraction

import pytest
from command import dsg
from PIL import Image

from dsgcli import memory
from dsgcli.errors import MemoryShortError, ModelCorruptError
from dsgcli.media.base import SinkOptions
from dsgcli.media.write import open_sink
from dsgcli.memory import asked_for, check_memory, shortage
from dsgcli.training.drawn import draw_portrait
from dsgcli.types import Frame

TORCH = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 2400000000 bytes."


@pytest.mark.parametrize(
    ("message", "num_bytes"),
    [
        (TORCH, 2_400_000_000),
        ("CUDA out of memory. Tried to allocate 20.00 MiB", 20 << 20),
        ("Unable to allocate 7.45 GiB for an array with shape (1000000000,)", int(7.45 * 2**30)),
        ("not enough memory: you tried to allocate 4 bytes", 4),
        ("bad allocation", 0),
        ("you tried to allocate ,,, bytes", 0),
    ],
)
def test_bytes_that_were_asked_for_are_read_from_the_message(message, num_bytes):
    assert asked_for(message) == num_bytes


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(TORCH),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libx.so: failed to map segment from shared object"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
    ],
)
def test_lack_of_memory_is_known_behind_other_errors(error):
    assert "memory is short" in shortage(error)
    try:
        try:
            raise error
        except Exception as cause:
            raise ModelCorruptError("the file is damaged") from cause
    except ModelCorruptError as outer:
        assert "memory is short" in shortage(outer)
        with pytest.raises(MemoryShortError, match="memory is short"):
            check_memory(outer)


def test_errors_that_go_round_in_circles_end():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert shortage(one) == ""


def test_other_errors_are_left_alone():
    check_memory(ValueError("the encoder refuses"))
    assert not shortage(ValueError("the encoder refuses"))


def test_error_without_a_reason_is_put_down_to_memory_where_there_is_none(monkeypatch):
    """libx264 "refused", and MediaPipe came "without a face model"."""
    monkeypatch.setattr(memory, "is_short", lambda: True)
    with pytest.raises(MemoryShortError, match="134 MB more were asked for"):
        check_memory(ValueError("Generic error in an external library"))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError(TORCH), OSError(errno.ENOMEM, "x"), SystemError("bad")]
)
def test_command_that_finds_no_memory_says_so_without_a_traceback(monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr("dsgcli.store.ModelStore.models", fails)
    monkeypatch.setattr("dsgcli.console.is_short", lambda: True)
    result = dsg("models", "list")
    assert result.exit_code == 1
    assert "memory is short" in result.stderr and "Traceback" not in result.stderr
    assert ("2.4 GB more were asked for" in result.stderr) == (TORCH in str(error))


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), resource.RLIM_INFINITY))
from dsgcli.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize("num_bytes", [400_000_000, 600_000_000, 1_000_000_000])
def test_command_under_a_limit_of_memory_says_that_memory_is_short(tmp_path, tiny_store, num_bytes):
    words = ("sample", "--n", "4", "--pretrained", tiny_store, "-o", tmp_path / "x.png")
    command = [sys.executable, "-c", LIMITED, str(num_bytes), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert "memory is short" in done.stderr
        assert "this process may have" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize("num_bytes", [600_000_000, 1_000_000_000, 1_250_000_000, 1_500_000_000])
@pytest.mark.parametrize("kind", ["picture", "video"])
def test_drawing_under_a_limit_of_memory_works_or_says_why_not(tmp_path, kind, num_bytes):
    """Native code ended the process at 1 GB, without a message."""
    portrait = draw_portrait(3, 256)
    path = tmp_path / ("a.png" if kind == "picture" else "a.mp4")
    if kind == "picture":
        Image.fromarray(portrait).save(path)
    else:
        with open_sink(path, SinkOptions(codec="mpeg4"), None) as sink:
            for i in range(6):
                sink.write(Frame(pixels=portrait, index=i, time=Fraction(i, 10)))
    words = ("stylize", path, "--style", "noir:1", "-o", tmp_path / f"out{path.suffix}")
    command = [sys.executable, "-c", LIMITED, str(num_bytes), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 3), done.stderr
    assert "Traceback" not in done.stderr
    if done.returncode == 1:
        assert "memory is short" in done.stderr
