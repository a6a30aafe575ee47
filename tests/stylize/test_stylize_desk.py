"""The process that a run begins in: light where others draw, and the same answers."""

from __future__ import annotations

import gc
import subprocess
import sys
from concurrent.futures import Future

import pytest
from stylize.staging import PLAIN

from dsgcli.errors import WorkerLostError
from dsgcli.media.images import write_image
from dsgcli.progress import NULL_PROGRESS
from dsgcli.runtime import gc_paused, set_threads
from dsgcli.stylize.desk import Called, Desk
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.tasks import WorkerInfo
from dsgcli.training.drawn_clip import draw_clip

HEAVY = ("torch", "mediapipe", "av")
DRAW = f"""
import sys
from dsgcli.__main__ import main
code = main(sys.argv[1:])
assert code == 0, code
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, loaded
"""


def test_pictures_are_handed_out_without_loading_what_draws_them(tiny_store, tmp_path):
    for number, frame in enumerate(draw_clip(3, 160, 120, seed=2)):
        write_image(tmp_path / f"{number}.png", frame.pixels)
    words = ["stylize", str(tmp_path), "-o", str(tmp_path / "out"), "--workers", "2", "--json"]
    words += ["--pretrained", str(tiny_store), "--style", "toon", "--mask", "feather"]
    words += ["--device", "cpu", "--backend", "torch"]
    done = subprocess.run(
        [sys.executable, "-c", DRAW, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert '"workers": "2 of' in done.stdout and '"detector": "MediaPipe' in done.stdout
    assert len(list((tmp_path / "out").iterdir())) == 3


def answer(result=None, error=None):
    future = Future()
    future.set_exception(error) if error else future.set_result(result)
    return future


def test_what_the_first_helper_says_is_taken():
    ready = WorkerInfo(labels=("toon-ada",), references=("toon:ada",), machine={"device": "cpu"})
    died = answer(error=WorkerLostError("killed"))
    with Desk(StylizeOptions(), Called(None, [died, answer(ready)]), NULL_PROGRESS) as desk:
        assert (desk.labels, desk.machine) == (("toon-ada",), {"device": "cpu"})
        assert "studio" not in vars(desk)


@pytest.mark.parametrize("error", [None, WorkerLostError("killed")])
def test_where_no_helper_is_ready_this_process_finds_out_why(tiny_store, error):
    options = StylizeOptions(**{**PLAIN, "pretrained": tiny_store})
    before = gc.get_freeze_count()
    with Desk(options, Called(None, [answer(error=error)]), NULL_PROGRESS) as desk:
        assert desk.labels == ("toon-ada",) and desk.machine["detector"] == "MediaPipe face mesh"
        assert gc.get_freeze_count() > before and gc.isenabled()
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    ("weights", "said", "threads"), [(10**9, None, 1), (10**9, "2", 2), (10, None, 2)]
)
def test_small_networks_are_drawn_by_one_thread(tiny_store, monkeypatch, weights, said, threads):
    monkeypatch.setattr("dsgcli.stylize.studio.SMALL_WEIGHTS", weights)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    options, usual = StylizeOptions(**{**PLAIN, "pretrained": tiny_store}), set_threads(None)
    try:
        set_threads(2)
        with Desk(options, None, NULL_PROGRESS) as desk:
            assert desk.studio.detector is not None and set_threads(None) == threads
        assert set_threads(None) == 2
    finally:
        set_threads(usual)


def test_garbage_is_collected_again_after_loading():
    with gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count()
    gc.unfreeze()
    with pytest.raises(ValueError, match="bad"), gc_paused():
        raise ValueError("bad")
    assert gc.isenabled() and not gc.get_freeze_count()
