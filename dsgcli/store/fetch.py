"""One file over HTTP: whole, as published, and resumed where it was broken off.

    urls -> .NAME.part beside the target, grown over as many attempts as it takes -> hash -> rename

Proxies are those of the environment (urllib). Nothing gets the target's name before its size and
hash are right; a part that is left over, by a lost connection or Ctrl-C, is resumed next time.
"""

from __future__ import annotations

import email.message
import errno
import http.client
import json
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dsgcli
from dsgcli.errors import DsgError, ModelCorruptError, ModelMissingError
from dsgcli.media.files import publish
from dsgcli.progress import NULL_PROGRESS, Progress, Task
from dsgcli.store.files import sha256_of

MB = 1e6
"""Unit of progress."""
_CHUNK_BYTES = 1 << 20
_ASK_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same question may be asked again."""
_RANGE_REFUSED = 416
_CONNECTION_ERRORS = (
    http.client.HTTPException,
    urllib.error.URLError,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
)
_NO_WAY_THERE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})
_KEPT_FREE_BYTES = 50_000_000
"""The disk is not filled to the last byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to try one source."""

    attempts: int = 5
    """In a row without a byte of progress."""
    attempts_unreachable: int = 2
    """Attempts in a row without a connection, as without a network."""
    wait_s: float = 1.0
    """After the first; doubled each time."""
    longest_wait_s: float = 60.0
    timeout_s: float = 30.0
    """Without a byte, in seconds."""
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file, and what is known of it."""

    target: Path
    size: int = 0
    """Exact bytes; 0 if not known."""
    sha256: str = ""
    check: Callable[[Path], object] = lambda path: None
    """Looks at the whole file before it gets its name; raises ModelCorruptError."""

    @property
    def part(self) -> Path:
        return self.target.with_name(f".{self.target.name}.part")

    @property
    def origin(self) -> Path:
        """Where the part is from: another source's bytes must not follow it unchecked."""
        return self.target.with_name(f".{self.target.name}.part.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Result of a download."""

    url: str
    sha256: str
    num_bytes: int


class NoConnectionError(ModelMissingError):
    """No source could even be connected to; others will hardly be."""


class _SourceError(Exception):
    """This source will not do; the next one may."""

    def __init__(self, reason: str, reached: bool = True) -> None:
        super().__init__(reason)
        self.reached = reached


class _TryAgainError(Exception):
    """A failure that the same source may not have later."""

    def __init__(self, reason: str, wait_s: float = 0.0, reached: bool = True) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.reached = reached


def fetch(
    wanted: Download,
    urls: Sequence[str],
    *,
    patience: RetryPolicy | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Fetched:
    """Fetch a file from the first of `urls` that gives it whole.

    Raises:
        NoConnectionError: none of them could be connected to.
        ModelMissingError: none of them does; with what each of them said.
        ModelCorruptError: all that was given is another file.
        DsgError: the disk is full, or cannot be written to.
    """
    patience = patience or RetryPolicy()
    reasons: list[str] = []
    unreachable: set[str] = set()
    corrupt = reached = False
    try:
        wanted.target.parent.mkdir(parents=True, exist_ok=True)
        have = _size_of(wanted.part)
        total = wanted.size / MB or None
        with progress.task(wanted.target.name, total, "MB", have / MB) as task:
            for url in urls:
                if host_of(url) in unreachable:
                    continue
                try:
                    return _from_source(wanted, url, patience, task)
                except _SourceError as error:
                    reached = reached or error.reached
                    if not error.reached:
                        unreachable.add(host_of(url))
                    reasons.append(f"{host_of(url)}: {error}")
                except ModelCorruptError as error:
                    corrupt = reached = True
                    reasons.append(f"{host_of(url)}: {error}")
    except OSError as error:
        raise DsgError(f"cannot write {wanted.target}: {error.strerror or error}") from error
    kind = ModelMissingError if reached else NoConnectionError
    raise (ModelCorruptError if corrupt else kind)(
        f"{wanted.target.name} could not be fetched ({'; '.join(reasons)})"
    )


def host_of(url: str) -> str:
    """For messages: whose answer it was."""
    return url.split("/")[2] if "//" in url else url


def _from_source(wanted: Download, url: str, patience: RetryPolicy, task: Task) -> Fetched:
    """All of it from one source; what turns out wrong after a resume is fetched once more whole."""
    resumed = _ready_part(wanted, url)
    while True:
        _fill(wanted, url, patience, task)
        try:
            sha256 = _check(wanted)
        except ModelCorruptError:
            _forget(wanted)
            if not resumed:
                raise
            resumed = False
            continue
        num_bytes = wanted.part.stat().st_size
        publish(wanted.part, wanted.target)
        _forget(wanted)
        return Fetched(url=url, sha256=sha256, num_bytes=num_bytes)


def _ready_part(wanted: Download, url: str) -> bool:
    """Whether there is a part to resume: of this source, or of one known to be the same."""
    if wanted.part.is_file() and (_origin(wanted).get("url") == url or wanted.sha256):
        return wanted.part.stat().st_size > 0
    _forget(wanted)
    return False


def _origin(wanted: Download) -> dict[str, str]:
    """Where the part is from: "url" and, if the server gave one, "version" (its ETag)."""
    try:
        return dict(json.loads(wanted.origin.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _forget(wanted: Download) -> None:
    wanted.part.unlink(missing_ok=True)
    wanted.origin.unlink(missing_ok=True)


def _check(wanted: Download) -> str:
    """The hash of the part, which is whole now.

    Raises:
        ModelCorruptError: it is another file.
    """
    size, sha256 = wanted.part.stat().st_size, sha256_of(wanted.part)
    if wanted.sha256 and sha256 != wanted.sha256:
        raise ModelCorruptError(
            f"another file: its sha256 is {sha256[:12]}..., that of the published one "
            f"{wanted.sha256[:12]}..."
        )
    if wanted.size and size != wanted.size:
        raise ModelCorruptError(f"another file: {size:,} bytes instead of {wanted.size:,}")
    wanted.check(wanted.part)
    return sha256


# ── filling the part ─────────────────────────────────────────────────────────────────────────────


def _fill(wanted: Download, url: str, patience: RetryPolicy, task: Task) -> None:
    """Ask until the part is whole, or until asking brings nothing more."""
    failures, wait_s, most = 0, patience.wait_s, _size_of(wanted.part)
    if _origin(wanted).get("url") != url:
        wanted.origin.write_text(json.dumps({"url": url}), "utf-8")
    while True:
        try:
            _ask(wanted, url, patience, task)
            return
        except _TryAgainError as error:
            have = _size_of(wanted.part)
            if have > most:
                failures, wait_s, most = 0, patience.wait_s, have
                continue
            failures += 1
            most_failures = (
                patience.attempts
                if error.reached
                else min(patience.attempts, patience.attempts_unreachable)
            )
            if failures >= most_failures:
                if wanted.sha256 and have and sha256_of(wanted.part) == wanted.sha256:
                    return  # whole, whatever the server said of its length
                told = f"{error} ({failures} attempts)"
                raise _SourceError(told, error.reached) from error
            task.advance(0, attempt=f"{failures + 1} of {most_failures}")
            patience.sleep(min(max(wait_s, error.wait_s), patience.longest_wait_s))
            wait_s *= 2


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _ask(wanted: Download, url: str, patience: RetryPolicy, task: Task) -> None:
    """One request for what is still missing.

    Raises:
        _TryAgainError: broken off, or asked to come back. _SourceError: refused.
    """
    have = _size_of(wanted.part)
    if wanted.size and have == wanted.size:
        return
    headers = {"User-Agent": f"dsg/{dsgcli.__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if version := _origin(wanted).get("version"):
            headers["If-Range"] = version  # the whole of a file that has changed meanwhile
    try:
        request = urllib.request.Request(url, headers=headers)
        opener = urllib.request.build_opener()  # with the proxies of the environment as it is now
        with opener.open(request, timeout=patience.timeout_s) as answer:
            _receive(answer, wanted, have, task)
    except urllib.error.HTTPError as error:
        error.close()
        _refused(error, wanted, have)
    except _CONNECTION_ERRORS as error:
        reason = getattr(error, "reason", error)
        told = f"the connection failed: {reason}"
        raise _TryAgainError(told, reached=not _is_unreachable(error)) from error


def _is_unreachable(error: Exception) -> bool:
    """Whether no connection was made: no such name, no way there, or no answer (urllib wraps
    what happens before the request is sent, and nothing later)."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else None
    return isinstance(reason, socket.gaierror | TimeoutError) or (
        isinstance(reason, OSError) and reason.errno in _NO_WAY_THERE
    )


def _refused(error: urllib.error.HTTPError, wanted: Download, have: int) -> None:
    """Advice for an answer that is no file."""
    if error.code == _RANGE_REFUSED:
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if have and total == str(have):
            return  # nothing is missing: `_check` says whether it is right
        wanted.part.unlink(missing_ok=True)
        raise _TryAgainError("the part on this machine does not belong to it") from error
    told = f"it answered {error.code} ({error.reason})"
    if error.code in _ASK_LATER:
        after = error.headers.get("Retry-After", "")
        raise _TryAgainError(told, float(after) if after.isdecimal() else 0.0) from error
    raise _SourceError(told) from error


def _receive(answer: http.client.HTTPResponse, wanted: Download, have: int, task: Task) -> None:
    """Append the body to the part; start again if the server does."""
    if "text/html" in answer.headers.get("Content-Type", ""):
        raise _SourceError("it answered with a web page (quota, or sign-in)")
    start, total = _range_of(answer.status, answer.headers)
    if start != have:
        if start:
            raise _SourceError(f"it answered with other bytes than asked for (from {start:,})")
        have = 0
    _announce(wanted, total, have, task)
    _remember_version(wanted, answer.headers.get("ETag", ""))
    with wanted.part.open("ab" if have else "wb") as file:
        while chunk := answer.read(_CHUNK_BYTES):
            file.write(chunk)
            have += len(chunk)
            task.advance(len(chunk) / MB)
            if wanted.size and have > wanted.size:
                raise _SourceError(f"another file: more than the {wanted.size:,} bytes it has")
    if have < (wanted.size or total):
        raise _TryAgainError(f"it ended after {have:,} of {wanted.size or total:,} bytes")


def _remember_version(wanted: Download, etag: str) -> None:
    """A weak ETag (W/...) does not promise the same bytes."""
    if etag and not etag.startswith("W/"):
        known = {**_origin(wanted), "version": etag}
        wanted.origin.write_text(json.dumps(known), "utf-8")


def _range_of(status: int, headers: email.message.Message) -> tuple[int, int]:
    """First byte and total length of an answer; 0 where it does not say."""
    if status == http.HTTPStatus.PARTIAL_CONTENT:
        span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
        return int(first) if first.isdecimal() else 0, int(total) if total.isdecimal() else 0
    length = headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else 0


def _announce(wanted: Download, total: int, have: int, task: Task) -> None:
    """Say how much there is to come, and see whether it fits on the disk."""
    whole = wanted.size or total
    if not whole:
        return
    task.set_total(whole / MB)
    free = shutil.disk_usage(wanted.target.parent).free
    if free - _KEPT_FREE_BYTES < whole - have:
        raise DsgError(
            f"{wanted.target.name} takes {whole - have:,} more bytes, and the disk has {free:,} "
            f"free; make room, or set DSG_HOME to a folder on another disk"
        )
