"""Outputs appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from media.clips import names

from dsgcli.errors import (
    OutputBusyError,
    OutputExistsError,
    SinkError,
    SourceError,
    SourceMissingError,
)
from dsgcli.media.files import (
    AtomicFile,
    check_input,
    check_output,
    hash_file,
    ignores_case,
    locked_outputs,
    no_empty_folders,
    place_of,
)


def test_committed_file_replaces_the_old_one(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    beside = AtomicFile(target)
    beside.temporary.write_text("new")
    assert target.read_text() == "old"
    beside.commit()
    assert target.read_text() == "new" and names(tmp_path) == ["a.txt"]


def test_discarded_file_leaves_nothing(tmp_path):
    beside = AtomicFile(tmp_path / "a.txt")
    beside.temporary.write_text("half")
    beside.discard()
    beside.discard()
    assert names(tmp_path) == []


def test_commit_says_so_when_nothing_was_written(tmp_path):
    with pytest.raises(SinkError, match=r"a\.txt cannot be written"):
        AtomicFile(tmp_path / "a.txt").commit()


@contextmanager
def in_another_process(code, *words):
    """A Python that has run this code up to the line that it prints; it is killed at the end."""
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


BEGINS = """
import sys, time
from pathlib import Path
from dsgcli.media.files import AtomicFile
beside = AtomicFile(Path(sys.argv[1]))
if sys.argv[2] == "folder":
    beside.temporary.mkdir()
    beside = AtomicFile(beside.temporary / "000000.png")
beside.temporary.write_text("half")
print("ready", flush=True)
time.sleep(600)
"""
NEXT_RUN = """
import sys
from pathlib import Path
from dsgcli.media.files import AtomicFile
AtomicFile(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_leftover_of_a_killed_run_is_removed_and_that_of_a_running_one_is_not(tmp_path, kind):
    with in_another_process(BEGINS, tmp_path / "a.txt", kind):
        assert len(names(tmp_path)) == 1
        AtomicFile(tmp_path / "b.txt")
        assert len(names(tmp_path)) == 1
    subprocess.run([sys.executable, "-c", NEXT_RUN, str(tmp_path / "a.txt")], check=True)
    assert names(tmp_path) == []


def test_no_two_writers_share_a_temporary_name(tmp_path):
    """With one name for all, a second run on an output destroyed what the first was writing."""
    first, second = AtomicFile(tmp_path / "a.txt"), AtomicFile(tmp_path / "a.txt")
    first.temporary.write_text("first")
    second.temporary.write_text("second")
    second.commit()
    first.commit()
    assert (tmp_path / "a.txt").read_text() == "first" and names(tmp_path) == ["a.txt"]


def test_files_that_only_look_like_leftovers_stay(tmp_path):
    kept = [".a.part.txt", ".a.123-4-5.part.txt", "a.abcdef-999999999-0.part.txt", ".env"]
    for name in kept:
        (tmp_path / name).touch()
    AtomicFile(tmp_path / "a.txt")
    assert names(tmp_path) == sorted(kept)


def test_leftover_that_is_a_link_is_removed_and_not_what_it_leads_to(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    monkeypatch.setattr(os, "getpid", lambda: 999_999_999)
    AtomicFile(tmp_path / "a.txt").temporary.symlink_to(precious)
    monkeypatch.undo()
    AtomicFile(tmp_path / "b.txt")
    assert names(tmp_path) == ["precious"] and (precious / "file").exists()


LOCKS = """
import sys, time
from pathlib import Path
from dsgcli.media.files import locked_outputs
with locked_outputs([Path(sys.argv[1])]):
    print("ready", flush=True)
    time.sleep(600)
"""


def test_output_of_a_running_process_is_refused_and_that_of_a_killed_one_is_not(tmp_path):
    target = tmp_path / "a.mp4"
    refused = pytest.raises(OutputBusyError, match=r"another dsg is writing .*a\.mp4; wait")
    with in_another_process(LOCKS, target):
        with refused, locked_outputs([tmp_path / "b.mp4", target]):
            pass
        assert names(tmp_path) == [".a.mp4.dsg-lock"]
    with locked_outputs([target]):
        assert names(tmp_path) == [".a.mp4.dsg-lock"]
    assert names(tmp_path) == []


def test_lock_is_let_go_when_the_work_fails(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locked_outputs([tmp_path / "a.png"]):
            _ = 1 / 0
    assert names(tmp_path) == []


def test_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / ".a.png.dsg-lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SinkError), locked_outputs([tmp_path / "a.png"]):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_folders_that_stay_empty_are_removed_and_others_are_not(tmp_path):
    (tmp_path / "mine").mkdir()
    outputs = [tmp_path / "mine" / "a.png", tmp_path / "new" / "deep" / "b.png"]
    with pytest.raises(ZeroDivisionError), no_empty_folders(outputs):
        outputs[1].parent.mkdir(parents=True)
        _ = 1 / 0
    assert names(tmp_path) == ["mine"]
    with no_empty_folders(outputs):
        outputs[1].parent.mkdir(parents=True)
        outputs[1].touch()
    assert outputs[1].exists()


def test_temporary_name_fits_where_the_target_fits(tmp_path):
    target = tmp_path / ("ü" * 120 + ".mp4")  # 244 bytes
    beside = AtomicFile(target)
    beside.temporary.write_text("x")
    beside.commit()
    assert target.read_text() == "x"


def test_output_folder_is_made(tmp_path):
    check_output(tmp_path / "a" / "b" / "c.png", overwrite=False)
    assert (tmp_path / "a" / "b").is_dir()


def test_output_is_refused_where_it_cannot_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        check_output(tmp_path / "file", overwrite=False)
    with pytest.raises(SinkError, match="cannot be made"):
        check_output(tmp_path / "file" / "inside.png", overwrite=True)
    with pytest.raises(SinkError, match="is a folder"):
        check_output(tmp_path, overwrite=True)
    check_output(tmp_path / "file", overwrite=True)


def test_output_is_refused_in_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(SinkError, match="not writable"):
        check_output(tmp_path / "a.png", overwrite=False)


def test_input_is_checked(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(SourceMissingError, match="does not exist"):
        check_input(tmp_path / "none")
    with pytest.raises(SourceMissingError, match="is a folder"):
        check_input(tmp_path)
    with pytest.raises(SourceError, match="0 bytes"):
        check_input(tmp_path / "empty")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_pipe_is_no_input(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="no regular file"):
        check_input(tmp_path / "pipe")


def test_hash_depends_on_the_content_alone(tmp_path):
    one, two, three = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    one.write_bytes(b"a" * 100_000)
    two.write_bytes(b"a" * 100_000)
    three.write_bytes(b"a" * 99_999 + b"b")
    assert hash_file(one) == hash_file(two) != hash_file(three)
    assert hash_file(one) == hashlib.blake2b(b"a" * 100_000, digest_size=16).hexdigest()


# ── systems that ignore case ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path):
    """A folder that is also found under its name in the other case, as where case is ignored."""
    made = tmp_path / "Photos"
    made.mkdir()
    try:
        (tmp_path / "pHOTOS").symlink_to(made)
    except FileExistsError:
        pass  # case is ignored here
    except OSError:
        pytest.skip("this system makes no links")
    return made


def test_case_counts_where_the_file_system_says_so(tmp_path, folder):
    assert ignores_case(folder) and ignores_case(folder / "not" / "there" / "yet")
    (tmp_path / "other").mkdir()
    assert ignores_case(tmp_path / "other") is (tmp_path / "OTHER").exists()


def test_names_that_differ_in_case_or_composition_are_one_place_there(folder):
    assert place_of(folder / "Ärger.PNG") == place_of(folder / "a\u0308RGER.png")
    assert place_of(folder / "a.png") != place_of(folder / "b.png")


@pytest.mark.skipif(os.name == "nt", reason="case is ignored there")
def test_they_are_two_places_elsewhere(tmp_path):
    (tmp_path / "strict").mkdir()
    if not ignores_case(tmp_path / "strict"):
        assert place_of(tmp_path / "strict/A.png") != place_of(tmp_path / "strict/a.png")
