"""Detect that memory has run out, and word the message.

Libraries report a lack of memory in many ways: torch and NumPy with messages of their own, native
code with whatever its caller makes of a null pointer (an import that fails, an encoder that
"refuses", a SystemError). `shortage` knows the messages; where there is none to know, `is_short`
asks the system for memory and gives it back.
"""

from __future__ import annotations

import errno
import mmap
import re

from dsgcli.errors import MemoryShortError

PROBE_BYTES = 128 << 20
"""Memory that `is_short` asks for: about the need of a codec or of the smallest network."""

LEAST_BYTES = 512 << 20
"""Memory that must be left before detector and networks are loaded: with less, measured with the
shipped styles under `ulimit -v`, native code ended the process."""

_MESSAGES = (
    *("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED"),
    *("Cannot allocate memory", "Unable to allocate", "failed to map segment", "bad_alloc"),
    *("bad allocation", "memory allocation", "can't start new thread", "paging file is too small"),
)
"""Messages of torch on Linux, on Windows, on GPUs and from NVIDIA's libraries; of the C library,
the loader of shared libraries, NumPy and C++; of Python, if a thread gets no stack."""
_ASKED = re.compile(r"(?:allocate|allocating) ([\d.,]+) ?(bytes|[KMGT]i?B)", re.IGNORECASE)
_UNITS = {"bytes": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_MOST_CAUSES = 20


def is_short(num_bytes: int = PROBE_BYTES) -> bool:
    """Whether the system refuses this process so much memory now."""
    try:
        mmap.mmap(-1, num_bytes).close()
    except (OSError, MemoryError, ValueError, OverflowError):
        return True
    return False


def shortage(error: BaseException) -> str:
    """A sentence, if this error or one that caused it means that memory has run out; else ""."""
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen and len(seen) < _MOST_CAUSES:
        if isinstance(at, MemoryShortError):
            return str(at)
        if is_out_of_memory(at):
            return sentence(asked_for(str(at)))
        seen.append(at)
        at = at.__cause__ or at.__context__
    return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error itself means that memory has run out, on any device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return any(message in str(error) for message in _MESSAGES)


def asked_for(message: str) -> int:
    """Number of bytes in a message about a failed allocation; 0 if it has none."""
    found = _ASKED.search(message)
    if found is None:
        return 0
    try:
        number = float(found[1].replace(",", ""))
    except ValueError:
        return 0
    unit = found[2].lower()
    return int(number * 1024 ** _UNITS.get(unit if unit == "bytes" else unit[0], 0))


def sentence(num_bytes: int = 0, *, needed: bool = False) -> str:
    """The message for the user, with the bytes that were asked for, if they are known.

    Args:
        needed: the bytes are what the whole program needs, and nothing was asked for yet.
    """
    verb = "are needed" if needed else "more were asked for"
    facts = [f"{_size_text(num_bytes)} {verb}"] if num_bytes else []
    if most := limit_bytes():
        facts.append(f"this process may have {_size_text(most)}")
    told = f" ({', and '.join(facts)})" if facts else ""
    return (
        f"memory is short{told}: use a smaller --size or --batch-size, close other programs, or "
        f"raise the limit of this process"
    )


def limit_bytes() -> int:
    """Most memory that this process may have (`ulimit -v`); 0 if there is no such limit."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if most == resource.RLIM_INFINITY else most


def check_memory(error: BaseException) -> None:
    """Raise MemoryShortError if this error is probably caused by a lack of memory."""
    told = shortage(error)
    if told or is_short():
        raise MemoryShortError(told or sentence(PROBE_BYTES)) from error


def require_limit() -> None:
    """Raise MemoryShortError if this process may have less memory than its libraries take to load:
    they would end it without a message."""
    if 0 < limit_bytes() < LEAST_LIMIT:
        raise MemoryShortError(sentence(LEAST_LIMIT, needed=True))


LEAST_LIMIT = 1_300_000_000
"""Address space that PyTorch, OpenVINO and MediaPipe need to load and to draw a small picture."""


def require_memory() -> None:
    """Raise MemoryShortError if this process has a limit and little memory left: native code would
    end the process without a message."""
    if limit_bytes() and is_short(LEAST_BYTES):
        raise MemoryShortError(sentence(LEAST_BYTES))


def _size_text(num_bytes: int) -> str:
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:.1f} GB"
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes >= 1e6 else f"{num_bytes} bytes"
