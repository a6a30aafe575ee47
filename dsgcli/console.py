"""Output of the command line: results, tables, messages, errors and the exit code.

Conventions
    stdout    results only: a table or a sentence for a person, one JSON document with `--json`
    stderr    everything else: progress, notes, warnings, errors
    color     only on a terminal, and never with NO_COLOR set

rich is imported when something is drawn, so that `dsg --help` does not wait for it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import shutil
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path, PurePath
from types import FrameType
from typing import TYPE_CHECKING, Literal, TextIO

from dsgcli.errors import DsgError, InterruptedRunError, MemoryShortError
from dsgcli.media.files import printable
from dsgcli.memory import PROBE_BYTES, is_short, sentence, shortage
from dsgcli.names import is_control, visible
from dsgcli.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

ProgressMode = Literal["auto", "json", "none"]
"""`auto`: bars on a terminal, else nothing; `json`: one event a line; `none`: nothing."""

Cell = str | int | float | bool | None

PIPED_WIDTH = 10_000
"""Columns when stdout is no terminal: a program that reads our tables wants one row a line."""
STARTING = "starting ..."
"""Stands on a terminal while networks are loaded, which may take seconds."""

# ── what one command prints ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for a person; columns of numbers are put to the right."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """The output of one command; made from `--json`, `-q`, `-v`, `--progress`."""

    json: bool = False
    quiet: bool = False
    verbose: int = 0
    progress_mode: ProgressMode = "auto"

    def starting(self) -> None:
        """Say on a terminal that something happens; the next output replaces it."""
        if self.progress_mode == "auto" and not (self.json or self.quiet) and sys.stderr.isatty():
            sys.stderr.write(STARTING)
            sys.stderr.flush()
            _is_starting.set(True)

    @property
    def is_watched(self) -> bool:
        """Whether results and messages come together before a person's eyes."""
        return sys.stdout.isatty() and sys.stderr.isatty()

    def show(self, document: object, *parts: Table | str) -> None:
        """Print the result: `document` with `--json`, else `parts`."""
        _erase_starting()
        if self.json:
            write_json(document)
            return
        for index, part in enumerate(parts):
            if index:
                print()  # noqa: T201
            _print(part)

    def summary(self, document: object, *parts: Table | str) -> None:
        """Print a result that is only a summary: `-q` leaves it out."""
        if self.json or not self.quiet:
            self.show(document, *parts)

    def note(self, message: str) -> None:
        """One sentence beside the result."""
        if not self.quiet:
            _say(message)

    def warn(self, message: str) -> None:
        """One sentence about what went differently from what was asked."""
        _say(message, "warning")

    @contextlib.contextmanager
    def progress(self) -> Iterator[Progress]:
        """A listener for library code, for the length of one command."""
        from dsgcli import bars

        _erase_starting()
        _log_to_stderr(logging.DEBUG if self.verbose > 1 else logging.INFO, on=self.verbose > 0)
        if self.progress_mode == "json":
            yield bars.Events(sys.stderr)
        elif self.quiet or self.progress_mode == "none" or not sys.stderr.isatty():
            yield bars.Sentences(self.note, self.warn)
        else:
            with bars.Bars(rich_console(sys.stderr)) as listener:
                yield listener


def rich_console(stream: TextIO) -> Console:
    """A rich console on `stream`; plain and wide where that is no terminal."""
    from rich.console import Console

    width = None if stream.isatty() else PIPED_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


_is_starting: ContextVar[bool] = ContextVar("is_starting", default=False)


def _erase_starting() -> None:
    if _is_starting.get():
        _is_starting.set(False)
        sys.stderr.write(f"\r{' ' * len(STARTING)}\r")
        sys.stderr.flush()


def _print(part: Table | str) -> None:
    if isinstance(part, Table):
        _print_table(part)
    else:
        print(_wrapped(visible(part), sys.stdout))  # noqa: T201


def _wrapped(text: str, stream: TextIO) -> str:
    """Whole words on lines of a terminal; one sentence a line elsewhere. Paths stay whole."""
    width = shutil.get_terminal_size().columns if stream.isatty() else PIPED_WIDTH
    wrapper = textwrap.TextWrapper(
        width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(map(wrapper.fill, printable(text).splitlines()))


def _print_table(table: Table) -> None:
    from rich import box
    from rich.table import Table as RichTable

    console = rich_console(sys.stdout)
    drawn = RichTable(
        title=visible(table.title) or None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_header=any(table.columns),
    )
    for index, name in enumerate(table.columns):
        cells = [row[index] for row in table.rows if row[index] is not None]
        numeric = bool(cells) and all(map(_is_number, cells))
        drawn.add_column(visible(name), justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(_cell_text(cell) for cell in row))
    for line in _without_trailing_spaces(console, drawn):
        print(line)  # noqa: T201


def _without_trailing_spaces(console: Console, drawn: object) -> list[str]:
    with console.capture() as capture:
        console.print(drawn)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join(lines).strip("\n").splitlines()


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _cell_text(cell: Cell) -> str:
    from rich.markup import escape

    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:g}" if isinstance(cell, float) else escape(visible(printable(str(cell))))


def _say(message: str, kind: str = "") -> None:
    """One message on stderr; `kind` stands before it, in color where that is wanted."""
    _erase_starting()
    label = f"{kind}: " if kind else ""
    text = _wrapped(label + visible(message), sys.stderr)
    if label and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        color = {"warning": "33", "error": "31"}[kind]
        text = text.replace(label, f"\x1b[1;{color}m{label}\x1b[0m", 1)
    print(text, file=sys.stderr, flush=True)  # noqa: T201


class _VisibleFormatter(logging.Formatter):
    """Shows control characters in log records as text."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _log_to_stderr(level: int, *, on: bool) -> None:
    """Show the package's own log records (`-v`, `-vv`); a later call replaces an earlier."""
    logger = logging.getLogger("dsgcli")
    for handler in [h for h in logger.handlers if h.name == "dsg-terminal"]:
        logger.removeHandler(handler)
    if on:
        handler = logging.StreamHandler(sys.stderr)
        handler.name = "dsg-terminal"
        handler.setFormatter(_VisibleFormatter("%(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(level)


# ── documents ────────────────────────────────────────────────────────────────────────────────────


_document_written: ContextVar[bool] = ContextVar("document_written", default=False)
"""Whether this command has printed its one document: an error after it must not print another."""


def write_json(document: object) -> None:
    """One JSON document and a newline on stdout."""
    _document_written.set(True)
    escape = "utf" not in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    text = json_text(plain(document), indent=2, ensure_ascii=escape)
    # what is no UTF-8 in a path is written as \\udce9, which reads back as the same path
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
    sys.stdout.flush()


def json_text(value: object, *, indent: int | None = None, ensure_ascii: bool = False) -> str:
    """JSON whose control characters are all escaped, also those that JSON would let pass."""
    text = json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(
        f"\\u{ord(letter):04x}" if letter != "\n" and is_control(letter) else letter
        for letter in text
    )


def plain(value: object) -> object:
    """Dataclasses, paths, fractions, enums and NumPy numbers as what JSON knows."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None  # NaN is no number in JSON either
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Fraction):
        return float(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    item = getattr(value, "tolist", None)
    return plain(item()) if callable(item) else str(value)


# ── errors and exit codes ────────────────────────────────────────────────────────────────────────

NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def exit_code_of(command: Callable[[], int], *, as_json: bool = False) -> int:
    """Run `command`; turn what goes wrong into a message on stderr and an exit code.

    With `as_json`, stdout gets `{"error": {"type", "message"}, "exit_code"}`, unless the command
    has printed its document before. What is not expected keeps its traceback: it is a bug.
    """
    _document_written.set(False)
    _print_what_it_can()
    try:
        with stopped_by_signals():
            return command()
    except InterruptedRunError as error:
        return _fail(error, str(error), _interrupted_code(error.signal_number), as_json)
    except DsgError as error:
        return _fail_expected(error, as_json)
    except KeyboardInterrupt:
        return _fail(InterruptedRunError(), "interrupted", _interrupted_code(), as_json)
    except BrokenPipeError:
        _discard_stdout()
        return DsgError.exit_code
    except OSError as error:
        if told := shortage(error):
            return _fail_expected(MemoryShortError(told), as_json)
        if error.filename is None and error.errno not in NO_SPACE:
            return _fail_unexpected(error, as_json)
        return _fail(error, _os_message(error), DsgError.exit_code, as_json)
    except Exception as error:
        told = shortage(error) or (sentence(PROBE_BYTES) if is_short() else "")
        if told:
            return _fail_expected(MemoryShortError(told), as_json)
        return _fail_unexpected(error, as_json)
    finally:
        _erase_starting()


_received = signal.SIGINT
"""The signal that ended the command last: Ctrl-C, or a scheduler's."""


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do in this block what Ctrl-C does, unless they are ignored (`nohup`)
    or other code handles them. Outside the main thread signals are left alone."""
    global _received
    _received = signal.SIGINT
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        global _received
        _received = signal.Signals(number)
        raise KeyboardInterrupt

    names = ("SIGTERM", "SIGHUP")
    taken = [getattr(signal, name) for name in names if hasattr(signal, name)]
    taken = [number for number in taken if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _interrupted_code(number: int = 0) -> int:
    return 128 + (number or _received)


def _print_what_it_can() -> None:
    """A terminal that lacks a letter gets a question mark, not an error; a stream that was closed
    before the start (`>&-`) swallows what it gets."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _fail_expected(error: DsgError, as_json: bool) -> int:
    if told := shortage(error):  # a file is not damaged because it found no room
        error = error if isinstance(error, MemoryShortError) else MemoryShortError(told)
    return _fail(error, str(error), error.exit_code, as_json)


def _fail(error: BaseException, message: str, exit_code: int, as_json: bool) -> int:
    if as_json and not _document_written.get():
        described = {"type": type(error).__name__, "message": message}
        write_json({"error": described, "exit_code": exit_code})
    _say(message, "error")
    if isinstance(error, DsgError) and error.see:
        _say(f"(`dsg help {error.see}` has more)")
    return exit_code


def _fail_unexpected(error: Exception, as_json: bool) -> int:
    _erase_starting()
    _print_traceback(error)
    asked = "please report the lines above, with the output of `dsg doctor --json`"
    message = f"{type(error).__name__}: {error} (a bug in dsg: {asked})"
    return _fail(error, message, DsgError.exit_code, as_json)


def _print_traceback(error: Exception) -> None:
    """Without the frames between the command line and the command, which are Typer's."""
    described = traceback.TracebackException.from_exception(error)
    ours = [frame for frame in described.stack if "typer" not in PurePath(frame.filename).parts]
    described.stack = traceback.StackSummary.from_list(ours)
    sys.stderr.write(visible("".join(described.format())))


def _os_message(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    advice = "; free some space and run the same command again" if error.errno in NO_SPACE else ""
    return f"{error.strerror or error}{where}{advice}"


def _discard_stdout() -> None:
    """The reader of our output has gone; keep the interpreter's last flush from complaining."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
