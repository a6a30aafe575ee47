"""A cluster's workers, looked over before they are given work: versions, folders, models.

Each worker keeps what a run needs of models in a folder named by their hash, below the user's data
folder: files that it finds itself are linked there, others are sent, once. Whatever is wrong is
said before work starts, worker by worker; a worker that cannot take part is left out, and the
others go on.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import dsgcli
from dsgcli.errors import WorkerError
from dsgcli.media.files import make_folder
from dsgcli.stylize.model_bundle import LentFile, gather_models, keep_model, needed_files
from dsgcli.workers.cluster import Cluster, Refusal

if TYPE_CHECKING:
    from dsgcli.progress import Progress
    from dsgcli.stylize.jobs import Job
    from dsgcli.stylize.studio import Studio

R = TypeVar("R")

SAME = ("torch", "numpy", "joblib")
"""Packages that must be the same everywhere: pictures depend on the first, and pickles on all."""
BLOCK_BYTES = 32 * 2**20
"""Models are sent in pieces of this size."""
KEEPING = "cannot keep models"
SAMPLE = 64
"""Inputs that every worker is asked for by name; output folders are all asked for."""


@contextmanager
def checked_cluster(
    jobs: Sequence[Job], studio: Studio, progress: Progress
) -> Iterator[tuple[Cluster, str]]:
    """A cluster whose workers can do these jobs, and the name of the models that each has.

    Raises:
        UsageError, WorkerError: it cannot be reached, or none of its workers can take part.
    """
    assert studio.options.cluster is not None
    check = _ClusterCheck(jobs, needed_files(studio.store, studio.options), progress)
    with check.tokens(), Cluster(studio.options.cluster, check.welcome) as cluster:
        yield cluster, check.bundle


class _ClusterCheck:
    """Looks workers over as they come."""

    def __init__(self, jobs: Sequence[Job], files: Sequence[LentFile], progress: Progress) -> None:
        self.files, self.progress = files, progress
        self.inputs = [str(job.source.path.absolute()) for job in jobs[:SAMPLE]]
        self.folders = sorted({str(p.parent.absolute()) for job in jobs for p in job.outputs})
        self.token = f".dsg-{uuid.uuid4().hex}.token"
        named = "".join(sorted(f"{file.place}\n{file.hash}\n" for file in files))
        self.bundle = hashlib.blake2b(named.encode(), digest_size=12).hexdigest()
        self.any_welcome = False

    @contextmanager
    def tokens(self) -> Iterator[None]:
        """A file in each output folder for as long as this lasts, by which workers know it."""
        made = [Path(folder) / self.token for folder in self.folders]
        try:
            for path in made:
                make_folder(path.parent)
                path.write_text(self.token, "utf-8")
            yield
        finally:
            for path in made:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def welcome(self, cluster: Cluster, new: Sequence[str]) -> Sequence[str]:
        """Those of these workers that can take part.

        Raises:
            WorkerError: none of the first ones can.
        """
        problems: dict[str, str] = {}
        for look in (self._versions, self._folders, self._models):
            if asked := [worker for worker in new if worker not in problems]:
                problems |= look(cluster, asked)
        welcome = [worker for worker in new if worker not in problems]
        self.any_welcome |= bool(welcome)
        told = "; ".join(f"the worker {worker} {why}" for worker, why in problems.items())
        if problems and not self.any_welcome:
            raise WorkerError(told)
        if problems:
            self.progress.warn(f"{told}: it is given no work")
        return welcome

    def _versions(self, cluster: Cluster, workers: Sequence[str]) -> dict[str, str]:
        question = _versions_question()
        mine = question() | {"dsgcli": dsgcli.__version__}
        return _told(cluster.ask(question, workers=workers), lambda theirs: _apart(mine, theirs))

    def _folders(self, cluster: Cluster, workers: Sequence[str]) -> dict[str, str]:
        question = _folders_question(self.inputs, self.folders, self.token)
        return _told(cluster.ask(question, workers=workers), lambda problem: problem)

    def _models(self, cluster: Cluster, workers: Sequence[str]) -> dict[str, str]:
        answers = cluster.ask(gather_models, self.bundle, list(self.files), workers=workers)
        problems = _told(answers, lambda missing: "", KEEPING)
        for file in self.files:
            lacking = [w for w, a in answers.items() if isinstance(a, list) and file.place in a]
            if lacking:
                problems |= self._send(cluster, lacking, file)
        return problems

    def _send(self, cluster: Cluster, workers: Sequence[str], file: LentFile) -> dict[str, str]:
        problems: dict[str, str] = {}
        size = Path(file.path).stat().st_size
        with (
            self.progress.task(f"sending {file.place}", size, unit="bytes") as task,
            Path(file.path).open("rb") as content,
        ):
            while (block := content.read(BLOCK_BYTES)) and len(problems) < len(workers):
                begin, last = content.tell() - len(block), content.tell() == size
                asked = [worker for worker in workers if worker not in problems]
                answers = cluster.ask(
                    keep_model, self.bundle, file, begin, block, last, workers=asked
                )
                problems |= _told(answers, lambda kept: "", KEEPING)
                task.advance(len(block))
        return problems


def _told(
    answers: dict[str, R | Refusal],
    problem: Callable[[R], str],
    trying: str = "cannot report its files",
) -> dict[str, str]:
    """Problem of each worker, from its answer; workers without one are left out."""
    told = {}
    for worker, answer in answers.items():
        if isinstance(answer, Refusal):
            told[worker] = f"{trying}: {answer.why}"
        elif text := problem(answer):
            told[worker] = text
    return told


# ── questions ────────────────────────────────────────────────────────────────────────────────────
# Functions inside functions go to the workers whole: one whose dsgcli is another, or missing, can
# answer them too.


def _versions_question() -> Callable[[], dict[str, str]]:
    names = SAME

    def versions() -> dict[str, str]:
        import importlib.metadata
        import platform

        found = {"python": ".".join(platform.python_version_tuple()[:2])}
        for name in names:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = ""
        try:
            import dsgcli

            found["dsgcli"] = dsgcli.__version__
        except ImportError:
            found["dsgcli"] = ""
        return found

    return versions


def _apart(mine: dict[str, str], theirs: dict[str, str]) -> str:
    """Which versions differ, in words."""
    apart = [
        f"{name} {theirs.get(name) or 'not at all'} (here {version})"
        for name, version in mine.items()
        if theirs.get(name) != version
    ]
    return f"has {' and '.join(apart)}; install the same on both" if apart else ""


def _folders_question(
    inputs: Sequence[str], folders: Sequence[str], token: str
) -> Callable[[], str]:
    share = "inputs and outputs must lie where all workers see them, by the same name"

    def folders_seen() -> str:
        import os

        unseen = [path for path in inputs if not os.path.isfile(path)]  # noqa: PTH113
        if unseen:
            return f"does not see the input {unseen[0]}; {share}"
        for folder in folders:
            if not os.path.isfile(os.path.join(folder, token)):  # noqa: PTH113, PTH118
                return f"does not see the output folder {folder} as it is here; {share}"
            if not os.access(folder, os.W_OK | os.X_OK):
                return f"may not write to {folder}; run it as a user who may"
        return ""

    return folders_seen
