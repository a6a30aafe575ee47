"""Everything that a user can cause, as a tree of errors with exit codes.

    DsgError                    1   expected failure: a message, no traceback
    ├── UsageError              2   the command cannot be carried out as given
    │   ├── RecipeError             a recipe with problems, all of them at once
    │   ├── StyleRefError           `name:exemplar` that is not one
    │   ├── SourceMissingError      the input is not there, or a folder where a file is wanted
    │   ├── OutputExistsError       would overwrite, and was not told to
    │   └── OutputBusyError         another run is writing the output
    ├── MediaError              1   a file that cannot be read or written as picture or video
    │   ├── SourceError             the input is there and is not what it claims to be
    │   └── SinkError               the output cannot be written
    ├── NoFaceError             3   nothing to stylize
    │   └── FaceNumberError         faces, and none of the numbers asked for
    ├── ModelError              4   a model that cannot be used
    │   ├── ModelMissingError       not in the store
    │   ├── ModelCorruptError       cannot be read, or holds what it must not (NaN, code)
    │   └── ModelMismatchError      readable, and of another kind or size than needed
    ├── TrainingError           1   a run that cannot start or go on
    ├── WorkerError             1   a process or a cluster that cannot do its share
    │   └── WorkerLostError         it died, or the scheduler is gone
    ├── MemoryShortError        1   the system gives no more memory
    ├── StalledError            1   a run that hangs
    ├── PartialBatchError       5   some inputs of a batch failed
    └── InterruptedRunError   130   Ctrl-C

Each message is one sentence or two: what happened, to what, what to do. `DsgError` is for what a
user can cause; `assert` is for what only we can; anything else that reaches the top is a bug and
keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class DsgError(Exception):
    """Expected failure: a message and `exit_code`, no traceback."""

    exit_code = 1
    see = ""
    """Topic of `dsg help` that has more, where there is more to try."""


class UsageError(DsgError):
    """The command cannot be carried out as it was given."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe (or another table of settings) with problems; all of them are listed."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where, self.problems = where, tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in problems)
        alone = where == "the command" and len(problems) == 1
        super().__init__(
            problems[0] if alone else f"{where} has {len(problems)} problem(s):{lines}"
        )


class StyleRefError(UsageError):
    """A style reference that cannot be read, or names what is not there."""


class SourceMissingError(UsageError):
    """The input does not exist, or is a folder where a file is wanted (or the reverse)."""


class OutputExistsError(UsageError):
    """The output exists and overwriting was not asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} exists; pass --overwrite to replace it, or choose another -o/--output"
        )


class OutputBusyError(UsageError):
    """Another run is writing the output."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"another dsg is writing {path}; wait until it is done, or choose another -o/--output"
        )


class MediaError(DsgError):
    """A file that cannot be read or written as picture or video."""

    see = "files"


class SourceError(MediaError):
    """The input is there and cannot be read as what it claims to be."""


class SinkError(MediaError):
    """The output cannot be written."""


class NoFaceError(DsgError):
    """No face in the input, so nothing to stylize."""

    exit_code = 3
    see = "no-face-found"

    def __init__(self, source: str, *, detector: str) -> None:
        super().__init__(
            f"no face found in {source} (by {detector}); pass --aligned yes if it is already a "
            f"face crop, or try a larger or less turned face"
        )


class FaceNumberError(NoFaceError):
    """The input has faces, and none with a number that `--faces` names."""

    def __init__(self, source: str, *, wanted: Sequence[int], num_faces: int) -> None:
        DsgError.__init__(self, f"{source} has {no_such_faces(wanted, num_faces)} (--faces)")


def no_such_faces(wanted: Sequence[int], num_faces: int) -> str:
    """Part of a sentence: which numbers no face has, and which there are."""
    missing = ", ".join(str(number) for number in wanted)
    there = "only face 0" if num_faces == 1 else f"faces 0 to {num_faces - 1}, from the left"
    return f"no face {missing}; there {'is' if num_faces == 1 else 'are'} {there}"


class ModelError(DsgError):
    """A model that cannot be used."""

    exit_code = 4
    see = "styles-and-models"


class ModelMissingError(ModelError):
    """A model, or a file of it, that is not in the store."""


class ModelCorruptError(ModelError):
    """A model file that cannot be read, or holds what it must not."""


class ModelMismatchError(ModelError):
    """A model file that can be read and is of another kind, size or layout than needed."""


class TrainingError(DsgError):
    """A training run that cannot start, or cannot go on."""


class WorkerError(DsgError):
    """A worker process, or a cluster, that cannot do what it is asked to."""


class WorkerLostError(WorkerError):
    """A worker died with its piece, or the scheduler is gone."""


class MemoryShortError(DsgError):
    """The system gives no more memory to this process, or to its device."""

    see = "memory-and-time"


class StalledError(DsgError):
    """A run in which nothing has moved for minutes."""

    see = "a-run-hangs"


class PartialBatchError(DsgError):
    """Some inputs of a batch failed; the others are done."""

    exit_code = 5


class InterruptedRunError(DsgError):
    """Stopped by the user (Ctrl-C) or by a scheduler; the message says how to go on.

    Args:
        signal_number: what was received; the exit code is 128 more, as shells have it. 0 leaves
            that to the handler of signals.
    """

    exit_code = 130

    def __init__(self, message: str = "", signal_number: int = 0) -> None:
        super().__init__(message)
        self.signal_number = signal_number
