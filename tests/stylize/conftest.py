"""Runs of the whole command, with faces as scripted and segments of a few frames."""

from __future__ import annotations

import pytest
from stylize.staging import PLAIN

from dsgcli.portraits import Portraits, load_portraits
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.run import run


@pytest.fixture
def short_segments(monkeypatch):
    """Segments of four frames."""
    monkeypatch.setattr("dsgcli.stylize.frame_state.SEGMENT_FRAMES", 4)
    return 4


@pytest.fixture(scope="session")
def load_once():
    """As `load_portraits`; networks of the tiny models are read once for all tests. They are bound
    anew in each run: after some looks `Portraits` folds no more of them, and draws by rounding
    otherwise."""
    loaded = {}

    def load(store, style, **options):
        key = (style, *sorted(options.items()))
        if key not in loaded:
            loaded[key] = load_portraits(store, style, **options)
        kept = loaded[key]
        return Portraits(
            kept.generator, kept.encoder, kept.device, kept.dtype, kept.size, kept.backend
        )

    return load


@pytest.fixture
def stage(tiny_store, tmp_path, monkeypatch, load_once):
    """`stage(play)` lets the run's detector see the play; `stage.run(...)` is `dsg stylize` with
    the tiny models and small portraits, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dsgcli.pipeline.load_portraits", load_once)
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DSG_PRETRAINED", raising=False)
    monkeypatch.delenv("DSG_FACE_LANDMARKER", raising=False)

    class Stage:
        def __call__(self, play):
            monkeypatch.setattr("dsgcli.stylize.studio.open_detector", lambda **_: play.detector)
            return play

        def run(self, *inputs, output=None, progress=None, **options):
            chosen = StylizeOptions(**{**PLAIN, "size": 32, "pretrained": tiny_store, **options})
            listener = () if progress is None else (progress,)
            return run(inputs, output and tmp_path / output, chosen, *listener)

    return Stage()
