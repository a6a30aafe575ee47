"""Pieces of work: handed out as they are wanted, tried again when their worker dies."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from dsgcli.errors import WorkerError, WorkerLostError
from dsgcli.workers.pieces import Here, hand_out
from dsgcli.workers.processes import ProcessPool


def test_pieces_may_depend_on_what_others_found():
    """The next one is asked for again after each outcome."""
    found, waiting = [], [1]
    for outcome in hand_out(Here(), lambda n: 2 * n, lambda: waiting.pop() if waiting else None):
        found.append(outcome.value)
        if outcome.value < 30:
            waiting.append(outcome.value)
    assert found == [2, 4, 8, 16, 32]


def test_an_error_is_its_pieces_alone():
    pieces = iter([2, 0, 5])
    outcomes = list(hand_out(Here(), lambda n: 10 // n, lambda: next(pieces, None)))
    assert [outcome.result for outcome in outcomes] == [5, None, 2]
    with pytest.raises(ZeroDivisionError):
        outcomes[1].value  # noqa: B018 - it raises


def test_a_worker_that_dies_loses_only_its_piece(tmp_path):
    """Piece 2 kills its first worker, piece 4 every one; loky's processes, for good."""
    died = tmp_path / "died"

    def work(number):
        import os
        import signal

        if number == 4 or (number == 2 and not died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number, os.environ["OMP_NUM_THREADS"], os.getpid()

    pieces = iter(range(7))
    with ProcessPool(2, threads=3) as workers:
        outcomes = {o.piece: o for o in hand_out(workers, work, lambda: next(pieces, None))}
    assert sorted(outcomes) == list(range(7))
    assert isinstance(outcomes[4].error, WorkerLostError)
    assert [n for n, outcome in sorted(outcomes.items()) if outcome.again] == [2, 4]
    assert {outcome.value[1] for n, outcome in outcomes.items() if n != 4} == {"3"}


def test_a_worker_that_keeps_much_memory_stays(monkeypatch):
    """loky takes what networks need for a leak, and would end the process."""

    def grow(number):
        import os
        import time

        from joblib.externals.loky import process_executor

        process_executor._MEMORY_LEAK_CHECK_DELAY = 0.0
        kept = globals().setdefault("kept", [])
        kept.append(bytearray(os.urandom(1) * 200_000_000))
        time.sleep(0.05)
        return os.getpid()

    pieces = iter(range(5))
    with ProcessPool(1) as workers:
        pids = {o.value for o in hand_out(workers, grow, lambda: next(pieces, None))}
    assert len(pids) == 1


def test_gpus_are_shared_in_turns():
    def see(number):
        import os
        import time

        time.sleep(0.3)
        return os.environ["CUDA_VISIBLE_DEVICES"]

    pieces = iter(range(4))
    with ProcessPool(2, gpus=("0", "5")) as workers:
        seen = {o.value for o in hand_out(workers, see, lambda: next(pieces, None))}
    assert seen == {"0", "5"}


class ChangingClient:
    """A scheduler whose only worker is replaced by another."""

    status, there = "running", ("a",)

    def scheduler_info(self, n_workers):
        return {"workers": dict.fromkeys(self.there)}

    def wait_for_workers(self, count, timeout):
        pass

    def close(self, timeout):
        pass


def test_a_piece_whose_workers_are_all_replaced_goes_to_the_others(monkeypatch):
    """As where a cluster starts a killed worker again, with another address."""
    pytest.importorskip("distributed")
    from dsgcli.workers import cluster

    client, sent = ChangingClient(), []
    monkeypatch.setattr("distributed.Client", lambda *_, **__: client)
    workers = cluster.Cluster("tcp://here", lambda workers, new: new)
    backend = SimpleNamespace(
        start_call=lambda: None,
        get_nested_backend=lambda: (None, 1),
        submit=lambda calls, callback: sent.append(Future()) or sent[-1],
        retrieve_result_callback=lambda result: result,
    )
    monkeypatch.setattr("joblib.parallel_config", lambda **_: nullcontext())
    monkeypatch.setattr("joblib.parallel.get_active_backend", lambda: (backend, 1))
    outcome = workers.start(len, "piece")
    workers.check()
    assert len(sent) == 1 and workers.capacity == cluster.AHEAD
    client.there = ("b",)
    workers.check()
    assert len(sent) == 2 and workers.workers() == ("b",)
    sent[1].set_result([5])
    sent[0].set_result(["too late"])
    assert outcome.result(0) == 5

    hopeless = workers.start(len, "piece")
    for name in "cdef":
        client.there = (name,)
        workers.check()
    assert isinstance(hopeless.exception(0), WorkerLostError)


def test_no_scheduler_is_a_sentence(monkeypatch):
    pytest.importorskip("distributed")
    from dsgcli.workers import cluster

    monkeypatch.setattr(cluster, "CONNECT_S", 0.3)
    with pytest.raises(WorkerError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        cluster.Cluster("tcp://127.0.0.1:9")
