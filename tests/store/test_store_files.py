"""Small files of the store that several runs add to."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from subprocess import run

import pytest

from dsgcli.errors import UsageError
from dsgcli.store.files import add_to_table, one_writer

ADD_MANY = """
import sys
from pathlib import Path
from dsgcli.store.files import add_to_table
for number in range(20):
    add_to_table(Path(sys.argv[1]), {f"{sys.argv[2]}-{number}": number})
"""


def test_runs_that_add_to_one_table_lose_no_entry(tmp_path):
    table = tmp_path / "hashes.json"

    def add(name):
        run([sys.executable, "-c", ADD_MANY, table, name], check=True, timeout=120)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(add, "abc"))
    assert sorted(json.loads(table.read_text())) == sorted(
        f"{name}-{number}" for name in "abc" for number in range(20)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["hashes.json"]


def test_a_damaged_table_starts_empty(tmp_path):
    table = tmp_path / "hashes.json"
    table.write_text("[1, 2")
    add_to_table(table, {"a": 1})
    assert json.loads(table.read_text()) == {"a": 1}


def test_a_table_that_is_held_too_long_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("dsgcli.store.files.TURN_S", 0.05)
    table = tmp_path / "hashes.json"
    started = time.monotonic()
    with one_writer(table), pytest.raises(UsageError, match="another dsg is writing"):
        add_to_table(table, {"a": 1})
    assert time.monotonic() - started < 5
