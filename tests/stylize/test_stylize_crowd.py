"""How many workers, and which workers of a cluster are given work."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from dsgcli.errors import WorkerError
from dsgcli.stylize import cluster_check, crowd
from dsgcli.stylize.jobs import InputFile, Job
from dsgcli.stylize.model_bundle import LentFile, gather_models, keep_model
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.summary import FileResult
from dsgcli.workers.cluster import Refusal


@pytest.fixture
def machine(monkeypatch):
    def of(cores, gigabytes=1000.0, gpus=()):
        monkeypatch.setattr(crowd, "num_cpus", lambda: cores)
        monkeypatch.setattr(crowd, "free_bytes", lambda: int(gigabytes * 1e9))
        monkeypatch.setattr(crowd, "visible_gpus", lambda: gpus)

    return of


def test_auto_takes_a_core_each_as_far_as_memory_reaches(machine):
    machine(8)
    assert crowd.pick_crowd("auto", "auto", bytes_each=10**9) == crowd.Crowd(8, 1)
    machine(8, gigabytes=4)
    assert crowd.pick_crowd("auto", "auto", bytes_each=10**9) == crowd.Crowd(3, 2)
    machine(8, gigabytes=0.5)
    assert crowd.pick_crowd("auto", "auto", bytes_each=10**9).count == 1


def test_gpus_are_taken_one_each_unless_one_is_named(machine):
    machine(16, gpus=("0", "1"))
    assert crowd.pick_crowd("auto", "auto") == crowd.Crowd(2, 8, ("0", "1"))
    assert crowd.pick_crowd(3, "cuda:1") == crowd.Crowd(3, 5)
    assert crowd.pick_crowd("auto", "cuda").gpus == ("0", "1")


def test_threads_are_shared_out(machine):
    machine(8)
    assert [crowd.pick_crowd(count, "cpu").threads for count in (1, 3, 8, 20)] == [8, 2, 1, 1]


def drawn(*seconds):
    return [FileResult(source=Path("a.png"), seconds=value) for value in seconds]


def test_auto_starts_processes_when_what_is_left_is_worth_it():
    assert not crowd._is_worth_it(drawn(), 64)
    assert not crowd._is_worth_it(drawn(9.0), 64)  # the first one is slow for other reasons
    assert crowd._is_worth_it(drawn(9.0, 1.0), 62)
    assert not crowd._is_worth_it(drawn(9.0, 0.1), 62)


class Workers:
    """Processes that are none."""

    def __init__(self, *answers):
        self.answers = answers

    def warm_up(self, *_):
        return self.answers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __str__(self):
        return "some"


@pytest.mark.parametrize(
    ("workers", "cores", "files", "called"),
    [
        *[("auto", 2, 32, True), ("auto", 2, 31, False), ("auto", 1, 99, False)],
        *[(2, 1, 2, True), (2, 2, 1, False), (1, 2, 99, False)],
    ],
)
def test_processes_are_called_at_once_where_they_pay(
    machine, monkeypatch, workers, cores, files, called
):
    machine(cores)
    monkeypatch.setattr("dsgcli.workers.processes.ProcessPool", lambda *_, **__: Workers())
    sources = [InputFile(path=Path(f"{number}.png")) for number in range(files)]
    with crowd.called(StylizeOptions(workers=workers, device="cpu"), sources) as helpers:
        assert (helpers is not None) == called


def test_auto_goes_on_until_those_it_called_are_ready(machine, monkeypatch):
    """The first two say how long the others take; the third and fourth are drawn meanwhile."""
    machine(2)
    ready, alone, shared = Future(), [], []

    def draw(jobs, studio, progress, *, only):
        alone.extend(jobs)
        if len(alone) == 4:
            ready.set_result(None)
        return drawn(9.0)

    def spread(jobs, desk, workers, progress, *, only):
        shared.extend(jobs)
        return drawn(*[9.0] * len(jobs))

    monkeypatch.setattr("dsgcli.stylize.batch.draw_jobs", draw)
    monkeypatch.setattr("dsgcli.stylize.dispatch.spread", spread)
    monkeypatch.setattr("dsgcli.workers.processes.ProcessPool", lambda *_, **__: Workers(ready))
    jobs = [Job(source=InputFile(path=Path(f"{n}.png")), outputs=()) for n in range(9)]
    desk = SimpleNamespace(
        options=StylizeOptions(workers="auto", device="cpu"), helpers=None, studio=None
    )
    results, who = crowd.draw_all(jobs, desk, None)
    assert (alone, shared) == (jobs[:4], jobs[4:])
    assert len(results) == 9 and who == "some"


def test_without_a_driver_no_gpu_is_looked_for(monkeypatch):
    def no_library(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", no_library)
    monkeypatch.setattr(Path, "exists", lambda path: False)  # AMD's /dev/kfd
    monkeypatch.setattr("torch.cuda.is_available", lambda: pytest.fail("torch was asked"))
    assert crowd.visible_gpus() == ()


# ── a cluster's workers, looked over ─────────────────────────────────────────────────────────────


class Told:
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


class ScriptedCluster:
    """Workers `a` and `b`; some answers are given instead of asked for."""

    def __init__(self, **instead):
        self.instead, self.asked = instead, []

    def ask(self, question, *arguments, workers):
        self.asked.append((question.__name__, tuple(workers)))
        given = self.instead.get(question.__name__, {})
        return {w: given[w] if w in given else question(*arguments) for w in workers}


@pytest.fixture
def look_over(tmp_path, monkeypatch):
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    (tmp_path / "in.png").write_bytes(b"x")
    job = Job(source=InputFile(path=tmp_path / "in.png"), outputs=(tmp_path / "out" / "in.png",))
    told = Told()

    def look(cluster, files=(), workers=("a", "b")):
        overseer = cluster_check._ClusterCheck([job], files, told)
        with overseer.tokens():
            return list(overseer.welcome(cluster, workers)), told.warnings

    return look


def test_workers_that_lack_nothing_are_welcome(look_over, tmp_path):
    assert look_over(ScriptedCluster()) == (["a", "b"], [])
    assert not list((tmp_path / "out").iterdir())  # the token is gone


def test_a_worker_whose_disk_is_full_is_left_out(look_over):
    full = {"gather_models": {"b": Refusal("No space left on device")}}
    welcome, warnings = look_over(ScriptedCluster(**full))
    assert welcome == ["a"]
    assert warnings == [
        "the worker b cannot keep models: No space left on device: it is given no work"
    ]


def test_a_worker_without_a_package_is_left_out_and_asked_no_more(look_over):
    cluster = ScriptedCluster(versions={"a": {"python": "3.11", "torch": "", "dsgcli": ""}})
    welcome, warnings = look_over(cluster)
    assert welcome == ["b"]
    assert "the worker a has torch not at all (here " in warnings[0]
    assert [workers for _, workers in cluster.asked] == [("a", "b"), ("b",), ("b",)]


def test_nobody_left_is_an_error(look_over):
    blind = {"folders_seen": {"a": "does not see it", "b": "does not see it"}}
    with pytest.raises(WorkerError, match="the worker a does not see it; the worker b does not"):
        look_over(ScriptedCluster(**blind))


# ── models lent to workers ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def lent(tmp_path, monkeypatch):
    from dsgcli.media.files import hash_file

    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    path = tmp_path / "base.safetensors"
    path.write_bytes(b"weights" * 100)
    return LentFile(str(path), "set/base.safetensors", hash_file(path))


def test_models_that_are_there_are_linked(lent, tmp_path):
    assert gather_models("b1", [lent]) == []
    kept = tmp_path / "home" / "cluster" / "b1" / "set" / "base.safetensors"
    assert kept.read_bytes() == Path(lent.path).read_bytes()


def test_models_that_are_not_are_sent_in_blocks_and_checked(lent, tmp_path):
    content = Path(lent.path).read_bytes()
    Path(lent.path).write_bytes(b"another")
    assert gather_models("b1", [lent]) == ["set/base.safetensors"]
    keep_model("b1", lent, 0, content[:300], False)
    kept = tmp_path / "home" / "cluster" / "b1" / "set" / "base.safetensors"
    assert not kept.exists()
    keep_model("b1", lent, 300, content[300:], True)
    assert kept.read_bytes() == content and gather_models("b1", [lent]) == []
    with pytest.raises(ValueError, match="damaged on its way"):
        keep_model("b1", lent, 0, b"weighty", True)
    assert [path.name for path in kept.parent.iterdir()] == ["base.safetensors"]
