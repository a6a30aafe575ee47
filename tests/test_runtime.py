"""Steps that run ahead, steps that hang, threads of linear algebra, and parallel maps."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from dsgcli import runtime
from dsgcli.errors import StalledError
from dsgcli.runtime import note_progress, parallel_map, prefetch


@pytest.fixture
def hung():
    """A source that gives one item and then hangs, until the test is over."""
    over = threading.Event()

    def items():
        yield 1
        over.wait()

    yield items()
    over.set()


def test_prefetch_keeps_items_and_their_order():
    assert list(prefetch(range(100), depth=3)) == list(range(100))


def test_prefetch_raises_an_error_of_its_source_in_its_place():
    def items():
        yield 1
        raise OSError("torn")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="torn"):
        next(ahead)


def test_closing_a_prefetch_closes_its_source():
    closed = []

    def items():
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    with closing(prefetch(items(), depth=2)) as ahead:
        assert next(ahead) == 0
    assert closed


def test_a_run_that_hangs_ends_with_a_sentence_and_the_stacks(hung, monkeypatch, caplog):
    monkeypatch.setattr(runtime, "STALL_S", 0.3)
    caplog.set_level(logging.INFO, "dsgcli")
    outer = prefetch(item for item in prefetch(hung))
    assert next(outer) == 1
    with pytest.raises(StalledError, match="no step has moved"):
        next(outer)
    assert "over.wait()" in caplog.text


def test_a_step_that_says_it_is_at_work_does_not_hang(monkeypatch):
    monkeypatch.setattr(runtime, "STALL_S", 0.5)

    def slow():
        for _ in range(10):
            threading.Event().wait(0.15)
            note_progress()
        yield 1

    assert list(prefetch(slow())) == [1]


def test_waiting_steps_end_together_when_they_are_stopped(hung):
    """As after Ctrl-C on a run that hangs: whoever waits for the hung step is let go."""
    inner = prefetch(hung)
    outer = prefetch(item for item in inner)
    assert next(outer) == 1
    for ahead in (inner, outer):
        ahead.stop()
    outer._thread.join(timeout=5)
    assert not outer._thread.is_alive()
    assert next(outer, None) is None


COUNT = """
{first}
{second}
from dsgcli.runtime import _openblas_controls, prefetch
count = lambda: [get() for get, _ in _openblas_controls()]
inside = [count() for _ in prefetch([1])]
before = count()
with __import__("contextlib").closing(prefetch(iter([1, 2]))) as ahead:
    next(ahead)
    print(max(count(), default=1), end=" ")
print(count() == before)
"""


@pytest.mark.parametrize("first", ["import dsgcli", "import numpy"])
def test_linear_algebra_has_one_thread_whichever_is_imported_first(first, monkeypatch):
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "GOTO_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    code = COUNT.format(first=first, second="import dsgcli, numpy")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1", "True"]


def test_relative_paths_mean_the_same_in_processes_kept_from_before(tmp_path, monkeypatch):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        paths = [Path(f"{folder}-{n}") for n in range(3)]
        for path in paths:
            path.write_text(folder)
        assert list(parallel_map(Path.is_file, paths, workers=2)) == [True] * 3
