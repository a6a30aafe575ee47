"""Folders and long videos over real processes, and over a real Dask cluster on this machine: what
comes out is what one process makes, also when a worker is killed in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stylize.staging import write_clip

from dsgcli.errors import WorkerError
from dsgcli.media.images import write_image
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.run import run
from dsgcli.training.drawn_clip import draw_clip
from dsgcli.workers.cluster import Cluster

pytest.importorskip("distributed")

SEGMENT = 8
"""Frames; workers load a file first that tells them, and hides from them what is called hidden."""
PRELOAD = f"""
from dsgcli.stylize import model_bundle, frame_state
frame_state.SEGMENT_FRAMES = {SEGMENT}

def other(path, usual=model_bundle.hash_file):
    return "another" if "hidden" in path.parts else usual(path)

model_bundle.hash_file = other
"""
PLAIN = {"style": ("toon",), "mask": "feather", "device": "cpu", "precision": "fp32", "size": 32}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Six photographs and a clip of five segments, all drawn."""
    folder = tmp_path_factory.mktemp("in")
    frames = list(draw_clip(5 * SEGMENT - 3, 160, 120, seed=2))
    write_clip(folder / "clip.mkv", frames, codec_options={"g": "6"})
    for number in range(6):
        write_image(folder / f"{number}.png", frames[5 * number].pixels)
    return folder


@pytest.fixture
def draw(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DSG_PRETRAINED", raising=False)
    monkeypatch.setattr("dsgcli.stylize.frame_state.SEGMENT_FRAMES", SEGMENT)

    def made(name, *inputs, progress=None, **options):
        chosen = StylizeOptions(**{**PLAIN, "pretrained": tiny_store, **options})
        listener = () if progress is None else (progress,)
        return run(inputs, tmp_path / name, chosen, *listener)

    return made


@pytest.fixture(scope="module")
def alone(inputs, tiny_store, tmp_path_factory):
    """What one process makes of the inputs, by name."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsgcli.stylize.frame_state.SEGMENT_FRAMES", SEGMENT)
        run([inputs], folder, StylizeOptions(**PLAIN, pretrained=tiny_store, codec="ffv1"))
    return contents(folder)


def contents(folder):
    """Decoded frames of what is there, by name."""
    from dsgcli.media.read import open_source

    found = {}
    for path in sorted(folder.iterdir()):
        with open_source(path) as source:
            found[path.name] = [(frame.time, frame.pixels.tobytes()) for frame in source]
    return found


class AtFirstFile:
    """Does something when the first file is finished."""

    def __init__(self, act):
        self.act, self.warnings = act, []

    def task(self, name, total=None, unit="steps", done=0):
        return AtFirstFile(self.act if name == "files" else None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def advance(self, steps=1, **figures):
        if self.act is not None:
            act, self.act = self.act, None
            act()

    def set_total(self, total):
        pass

    def note(self, message):
        pass

    def warn(self, message):
        self.warnings.append(message)


# ── processes ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_folder_is_drawn_by_processes_one_of_which_is_killed(draw, inputs, alone, tmp_path):
    import psutil

    killed = []

    def kill_one():
        children = psutil.Process().children(recursive=True)
        workers = [c for c in children if "popen_loky_posix" in " ".join(c.cmdline())]
        killed.append(workers[0].pid)
        workers[0].kill()

    photographs = sorted(inputs.glob("*.png"))
    summary = draw("out", *photographs, progress=AtFirstFile(kill_one), workers=2)
    assert killed
    status = [result.status for result in summary.files]
    assert status.count("done") >= 5 and not summary.failed
    assert status.count("skipped") <= 1  # killed between its file's name and its answer
    assert [result.source for result in summary.files] == photographs
    assert summary.stages["draw"] > 0 and summary.machine["workers"].startswith("2 of")
    assert contents(tmp_path / "out") == {k: v for k, v in alone.items() if k.endswith(".png")}


# ── a cluster ────────────────────────────────────────────────────────────────────────────────────


class RealCluster:
    """A scheduler and its workers, each a process of its own, as `dask` starts them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, []
        (folder / "preload.py").write_text(PRELOAD)
        self.file = folder / "scheduler.json"
        quiet = ["--no-dashboard", "--scheduler-file", str(self.file)]
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", *quiet)
        deadline = time.monotonic() + 60
        while not self.file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        import json

        self.address = json.loads(self.file.read_text())["address"]
        for number in (1, 2):
            self.add_worker(f"w{number}")
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)

    def add_worker(self, name, **variables):
        home = self.folder / name
        home.mkdir(exist_ok=True)
        return self._start(
            *("worker", self.address, "--no-dashboard", "--no-nanny", "--nthreads", "1"),
            *("--preload", str(self.folder / "preload.py"), "--name", name),
            *("--local-directory", str(home)),
            DSG_HOME=str(home),
            **variables,
        )

    def _start(self, *words, **variables):
        self.processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "dask", *words],
                env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return self.processes[-1]

    def close(self):
        for process in reversed(self.processes):
            process.kill()
        for process in self.processes:
            process.wait(20)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = RealCluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


def test_another_version_on_the_workers_is_told_before_work_starts(
    draw, inputs, cluster, monkeypatch, tmp_path
):
    monkeypatch.setattr("dsgcli.__version__", "99.0")
    with pytest.raises(WorkerError, match=r"the worker tcp://\S+ has dsgcli \S+ \(here 99\.0\)"):
        draw("out", inputs, cluster=cluster.address)
    assert not list(tmp_path.rglob("*.png")) and not list(tmp_path.rglob(".dsg-*"))


@pytest.mark.parametrize(
    ("hidden", "says"),
    [
        ("in", r"does not see the input \S+0\.png"),
        ("out", r"does not see the output folder \S+ as it is here"),
    ],
)
def test_a_folder_that_workers_do_not_see_is_told_before_work_starts(
    draw, inputs, cluster, tmp_path, monkeypatch, hidden, says
):
    """The folder is away while the workers look, as on a machine with another disk."""
    shutil.copytree(inputs, tmp_path / "in")
    ask = Cluster.ask

    def ask_without(self, question, *arguments, workers):
        (tmp_path / hidden).rename(tmp_path / "away")
        try:
            return ask(self, question, *arguments, workers=workers)
        finally:
            (tmp_path / "away").rename(tmp_path / hidden)

    monkeypatch.setattr(Cluster, "ask", ask_without)
    with pytest.raises(WorkerError, match=says):
        draw("out", tmp_path / "in", cluster=cluster.address)


@pytest.mark.slow
def test_a_cluster_draws_what_one_process_draws_though_a_worker_is_killed(
    draw, inputs, alone, cluster, tmp_path, monkeypatch
):
    """Models are sent, as to workers without the folder of models; photographs and the segments of
    a long video are drawn; a worker is killed in the middle."""
    from dsgcli.stylize import cluster_check

    lend = cluster_check.needed_files
    monkeypatch.setattr(
        cluster_check,
        "needed_files",
        lambda store, options: [sent(file, tmp_path) for file in lend(store, options)],
    )
    victim = cluster.processes[1]
    listener = AtFirstFile(lambda: victim.send_signal(signal.SIGKILL))
    summary = draw("out", inputs, progress=listener, cluster=cluster.address, codec="ffv1")
    assert victim.wait(10) == -signal.SIGKILL
    assert [(result.status, result.error) for result in summary.files] == [("done", None)] * 7
    assert contents(tmp_path / "out") == alone
    assert not list(tmp_path.rglob(".dsg-*"))
    kept = list((cluster.folder / "w2" / "cluster").rglob("*.safetensors"))
    assert kept and not any(path.is_symlink() for path in kept)


def sent(file, folder):
    """The same file, where no worker sees it."""
    from dataclasses import replace

    hidden = folder / "hidden" / file.place
    hidden.parent.mkdir(parents=True, exist_ok=True)
    hidden.write_bytes(Path(file.path).read_bytes())
    return replace(file, path=str(hidden))
