"""A download is whole and right, or it is not there: whatever the server does."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from web_server import WebServer

from dsgcli.errors import DsgError, ModelCorruptError, ModelMissingError
from dsgcli.store.fetch import Download, Fetched, NoConnectionError, RetryPolicy, fetch

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = CONTENT[::-1]


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with WebServer() as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "generator.pt"


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def patience(waits: list[float]) -> RetryPolicy:
    return RetryPolicy(attempts=3, timeout_s=5.0, sleep=waits.append)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def get(
    target: Path, *urls: str, patience: RetryPolicy, size: int = 0, sha256: str = ""
) -> Fetched:
    return fetch(Download(target=target, size=size, sha256=sha256), urls, patience=patience)


# ── as it should be ──────────────────────────────────────────────────────────────────────────────


def test_file_is_fetched_whole_and_alone(web, target, patience):
    url = web.serve("/g.pt", CONTENT)
    fetched = get(target, url, patience=patience, size=len(CONTENT), sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert fetched == Fetched(url=url, sha256=SHA256, num_bytes=len(CONTENT))
    assert names_in(target.parent) == ["generator.pt"]


def test_progress_counts_all_that_comes(web, target, patience):
    counted = []

    class Listener:
        def task(self, name, total=None, unit="steps", done=0):
            counted.append((name, total, unit, done))
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def advance(self, steps=1, **_):
            counted.append(steps)

        def set_total(self, total):
            counted.append(("total", total))

    url = web.serve("/g.pt", CONTENT)
    fetch(Download(target=target), [url], patience=patience, progress=Listener())
    assert counted == [
        ("generator.pt", None, "MB", 0),
        ("total", len(CONTENT) / 1e6),
        len(CONTENT) / 1e6,
    ]


def test_proxy_of_the_environment_is_asked(web, target, patience, monkeypatch):
    monkeypatch.setenv("http_proxy", web.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    web.serve("http://models.invalid/g.pt", CONTENT)
    get(target, "http://models.invalid/g.pt", patience=patience, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert web.requests[0].path == "http://models.invalid/g.pt"


# ── broken connections ───────────────────────────────────────────────────────────────────────────


def test_broken_connection_is_gone_on_with(web, target, patience, waits):
    web.serve("/g.pt", CONTENT, drop_after=3000)
    web.serve("/g.pt", CONTENT, drop_after=2000)
    url = web.serve("/g.pt", CONTENT)
    get(target, url, patience=patience, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    asked = [request.headers.get("Range") for request in web.requests]
    assert asked == [None, "bytes=3000-", "bytes=5000-"]
    assert waits == []  # there was progress: nothing to wait for


def test_server_without_ranges_begins_anew(web, target, patience):
    web.serve("/g.pt", CONTENT, drop_after=3000, ranges=False)
    url = web.serve("/g.pt", CONTENT, ranges=False)
    get(target, url, patience=patience, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_part_of_an_earlier_run_is_gone_on_with(web, target, patience):
    web.serve("/g.pt", CONTENT, drop_after=4000)
    url = web.serve("/g.pt", b"", status=503)
    with pytest.raises(ModelMissingError, match="answered 503"):
        get(target, url, patience=patience, sha256=SHA256)
    assert names_in(target.parent) == [".generator.pt.part", ".generator.pt.part.json"]
    web.behaviors.clear()
    web.requests.clear()
    web.serve("/g.pt", CONTENT)
    get(target, url, patience=patience, sha256=SHA256)
    assert web.requests[0].headers["Range"] == "bytes=4000-"
    assert target.read_bytes() == CONTENT
    assert names_in(target.parent) == ["generator.pt"]


def test_part_of_another_file_is_thrown_away_and_all_is_fetched(web, target, patience):
    target.parent.mkdir(parents=True)
    target.with_name(".generator.pt.part").write_bytes(OTHER[:4000])
    url = web.serve("/g.pt", CONTENT)
    get(target, url, patience=patience, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert [request.headers.get("Range") for request in web.requests] == ["bytes=4000-", None]


def test_part_of_another_source_is_not_mixed_in_where_no_hash_would_tell(web, target, patience):
    web.serve("/one.pt", OTHER, drop_after=4000)
    one = web.serve("/one.pt", b"", status=404)
    two = web.serve("/two.pt", CONTENT)
    get(target, one, two, patience=patience)
    assert target.read_bytes() == CONTENT


def test_file_that_changed_between_two_attempts_is_fetched_anew(web, target, patience):
    web.serve("/g.pt", OTHER, drop_after=4000, headers={"ETag": '"1"'})
    url = web.serve("/g.pt", CONTENT, headers={"ETag": '"2"'})
    get(target, url, patience=patience)
    assert target.read_bytes() == CONTENT
    assert web.requests[1].headers["If-Range"] == '"1"'


def test_part_that_is_whole_already_is_only_checked(web, target, patience):
    target.parent.mkdir(parents=True)
    target.with_name(".generator.pt.part").write_bytes(CONTENT)
    url = web.serve("/g.pt", CONTENT)
    get(target, url, patience=patience, sha256=SHA256)  # the server says: nothing after that
    assert target.read_bytes() == CONTENT


def test_part_that_is_too_long_is_fetched_anew(web, target, patience):
    target.parent.mkdir(parents=True)
    target.with_name(".generator.pt.part").write_bytes(CONTENT + b"more")
    url = web.serve("/g.pt", CONTENT)
    get(target, url, patience=patience, size=len(CONTENT), sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_nobody_there_is_told(target, patience, waits):
    with WebServer() as gone:
        url = gone.serve("/g.pt", CONTENT)
    with pytest.raises(ModelMissingError, match=r"127\.0\.0\.1:\d+: the connection failed.*ref"):
        get(target, url, patience=patience)
    assert waits == [1.0, 2.0]


def test_without_a_network_little_time_is_spent(target, patience, waits, monkeypatch):
    def no_names(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_names)
    urls = [f"http://{host}.example/g.pt" for host in ("models", "models", "mirror")]
    with pytest.raises(NoConnectionError, match=r"Name or service not known \(2 attempts\); mirr"):
        get(target, *urls, patience=patience)
    assert waits == [1.0, 1.0], "two attempts at each host"


# ── lies ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("known", [True, False], ids=["size known", "size unknown"])
@pytest.mark.parametrize("ranges", [True, False])
def test_server_that_promises_too_much_is_seen_through(web, target, patience, known, ranges):
    url = web.serve("/g.pt", CONTENT, lie=5000, ranges=ranges)
    size = len(CONTENT) if known else 0
    get(target, url, patience=patience, size=size, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_server_that_promises_too_little_is_asked_for_the_rest(web, target, patience):
    web.serve("/g.pt", CONTENT, lie=-5000)
    url = web.serve("/g.pt", CONTENT)
    get(target, url, patience=patience, size=len(CONTENT), sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_server_that_promises_too_little_is_found_out_by_the_hash(web, target, patience):
    url = web.serve("/g.pt", CONTENT, lie=-5000)
    with pytest.raises(ModelCorruptError, match="another file: its sha256 is"):
        get(target, url, patience=patience, sha256=SHA256)
    assert names_in(target.parent) == []


def test_server_that_never_gives_the_last_byte_is_left(web, target, patience):
    """Each attempt brings bytes, and none of them more than before."""
    url = web.serve("/g.pt", CONTENT, drop_after=9000, ranges=False)
    with pytest.raises(
        ModelMissingError, match=r"ended after 9,000 of 10,240 bytes \(3 attempts\)"
    ):
        get(target, url, patience=patience, sha256=SHA256)
    assert len(web.requests) == 4


def test_endless_body_is_cut_off(web, target, patience):
    url = web.serve("/g.pt", CONTENT * 9)
    with pytest.raises(ModelMissingError, match="more than the 10,240 bytes"):
        get(target, url, patience=patience, size=len(CONTENT), sha256=SHA256)
    assert not target.exists()


def test_range_that_was_not_asked_for_is_refused(web, target, patience):
    web.serve("/g.pt", CONTENT, drop_after=3000)
    url = web.serve("/g.pt", CONTENT, shift=100)
    with pytest.raises(ModelMissingError, match="other bytes than asked for"):
        get(target, url, patience=patience)


@pytest.mark.parametrize("wrong", [OTHER, CONTENT[:-1], b""])
def test_wrong_bytes_are_left_and_the_next_source_is_asked(web, target, patience, wrong):
    first = web.serve("/one.pt", wrong)
    second = web.serve("/two.pt", CONTENT)
    fetched = get(target, first, second, patience=patience, size=len(CONTENT), sha256=SHA256)
    assert fetched.url == second
    assert target.read_bytes() == CONTENT


def test_wrong_bytes_everywhere_leave_nothing(web, target, patience):
    urls = [web.serve(f"/{n}.pt", OTHER) for n in range(2)]
    with pytest.raises(ModelCorruptError, match="could not be fetched"):
        get(target, *urls, patience=patience, size=len(CONTENT), sha256=SHA256)
    assert names_in(target.parent) == []
    assert len(web.requests) == 2


def test_web_page_is_refused_although_no_hash_is_known(web, target, patience):
    url = web.serve("/g.pt", b"<html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(ModelMissingError, match="web page"):
        get(target, url, patience=patience)
    assert not target.exists()


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refusal_goes_on_to_the_next_source_at_once(web, target, patience, waits, status):
    first = web.serve("/one.pt", b"", status=status)
    second = web.serve("/two.pt", CONTENT)
    assert get(target, first, second, patience=patience, sha256=SHA256).url == second
    assert len(web.requests) == 2
    assert waits == []


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_passing_trouble_is_waited_out(web, target, patience, waits, status):
    web.serve("/g.pt", b"", status=status)
    url = web.serve("/g.pt", CONTENT)
    get(target, url, patience=patience, sha256=SHA256)
    assert waits == [1.0]


def test_server_says_how_long_to_wait_within_reason(web, target, waits):
    patience = RetryPolicy(attempts=4, longest_wait_s=20.0, sleep=waits.append)
    for seconds in ("7", "9999", "Wed, 21 Oct 2015 07:28:00 GMT"):
        web.serve("/g.pt", b"", status=429, headers={"Retry-After": seconds})
    url = web.serve("/g.pt", CONTENT)
    get(target, url, patience=patience, sha256=SHA256)
    assert waits == [7.0, 20.0, 4.0]


@pytest.mark.parametrize("status", [429, 500])
def test_lasting_trouble_ends_after_so_many_attempts(web, target, patience, status):
    url = web.serve("/g.pt", b"", status=status)
    with pytest.raises(ModelMissingError, match=rf"answered {status} .*\(3 attempts\)"):
        get(target, url, patience=patience)
    assert len(web.requests) == 3


def test_each_source_is_named_with_its_answer(web, target, patience):
    urls = [web.serve("/one.pt", b"", status=403), web.serve("/two.pt", b"", status=404)]
    with pytest.raises(ModelMissingError, match=r"answered 403 .*; .*answered 404 "):
        get(target, *urls, patience=patience)


# ── this machine ─────────────────────────────────────────────────────────────────────────────────


def test_full_disk_is_told_before_it_is_full(web, target, patience, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=60_000_000 - 10_000))
    url = web.serve("/g.pt", CONTENT, lie=50_000_000)
    with pytest.raises(DsgError, match=r"the disk has 59,990,000 free.*DSG_HOME"):
        get(target, url, patience=patience)


def test_target_that_cannot_be_written_is_told(web, tmp_path, patience):
    (tmp_path / "models").write_text("a file")
    url = web.serve("/g.pt", CONTENT)
    with pytest.raises(DsgError, match="cannot write"):
        get(tmp_path / "models" / "generator.pt", url, patience=patience)


def test_interrupted_download_leaves_its_part(web, target, patience):
    """Ctrl-C: the part is resumed next time."""

    class Stop:
        def task(self, *_, **__):
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def set_total(self, _):
            return None

        def advance(self, *_):
            raise KeyboardInterrupt

    url = web.serve("/g.pt", CONTENT)
    with pytest.raises(KeyboardInterrupt):
        fetch(Download(target=target, sha256=SHA256), [url], patience=patience, progress=Stop())
    assert not target.exists()
    assert target.with_name(".generator.pt.part").read_bytes() == CONTENT
    get(target, url, patience=patience, sha256=SHA256)
    assert target.read_bytes() == CONTENT
