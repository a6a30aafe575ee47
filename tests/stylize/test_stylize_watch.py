"""`dsg watch`: what arrives in a folder is drawn when it is complete, and once."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest

from dsgcli.errors import DsgError, SourceMissingError, UsageError
from dsgcli.progress import NULL_PROGRESS
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.summary import FileResult
from dsgcli.stylize.watched_folder import watch_folder

PHOTO = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
"""A public-domain portrait."""


class Watch:
    """A watched folder in a thread of its own."""

    def __init__(self, folder: Path, output: Path, settle_s: float = 0.6) -> None:
        self.results: list[FileResult] = []
        self.error: DsgError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(folder, output, settle_s))
        self._thread.start()

    def _run(self, folder: Path, output: Path, settle_s: float) -> None:
        options = StylizeOptions(style=("noir:1",))
        try:
            for result in watch_folder(
                folder, output, options, NULL_PROGRESS, settle_s=settle_s, until=self._stop.is_set
            ):
                self.results.append(result)
        except DsgError as error:
            self.error = error

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < deadline, [r.as_json() for r in self.results]
            time.sleep(0.05)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def inbox(tmp_path, monkeypatch):
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def test_what_is_there_and_what_arrives_is_drawn_once_and_whole(inbox, tmp_path):
    shutil.copy(PHOTO, inbox / "first.jpg")
    (inbox / "notes.txt").write_text("no picture")
    data, out = PHOTO.read_bytes(), tmp_path / "out"
    with Watch(inbox, out) as watch:
        watch.wait(lambda: len(watch.results) == 1)
        with (inbox / "slow.jpg").open("wb") as file:  # a copy that takes its time
            for start in range(0, len(data), len(data) // 4 + 1):
                file.write(data[start : start + len(data) // 4 + 1])
                file.flush()
                time.sleep(0.3)
        (inbox / "broken.jpg").write_bytes(data[:5000])
        watch.wait(lambda: len(watch.results) == 3)
    states = {result.source.name: result.status for result in watch.results}
    assert states == {"first.jpg": "done", "slow.jpg": "done", "broken.jpg": "failed"}
    drawn = sorted(path.name for path in out.iterdir())
    assert drawn == ["first_noir-1.jpg", "slow_noir-1.jpg"]
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with Watch(inbox, out) as again:  # after a restart
        again.wait(lambda: len(again.results) == 3)
    states = {result.source.name: result.status for result in again.results}
    assert states == {"first.jpg": "skipped", "slow.jpg": "skipped", "broken.jpg": "failed"}
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_folder_that_vanishes_is_told(inbox, tmp_path):
    with Watch(inbox, tmp_path / "out") as watch:
        time.sleep(1.5)
        inbox.rename(tmp_path / "elsewhere")
        watch.wait(lambda: watch.error is not None)
    assert isinstance(watch.error, SourceMissingError)
    assert "has vanished" in str(watch.error)


def test_folders_that_cannot_be_watched_are_told(inbox, tmp_path):
    def begin(folder: Path, output: Path) -> None:
        next(
            iter(watch_folder(folder, output, StylizeOptions(), NULL_PROGRESS, until=lambda: True)),
            None,
        )

    with pytest.raises(SourceMissingError, match="is no folder"):
        begin(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UsageError, match="another folder"):
        begin(inbox, inbox)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        begin(inbox, tmp_path / "file")
