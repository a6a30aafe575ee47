"""What TAB offers, asked in the way the shell asks: words and cursor in the environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dsgcli
from dsgcli.cli import completion

ROOT = Path(dsgcli.__file__).parents[1]


@pytest.fixture
def offered(tiny_store, tmp_path):
    """The shell's question for a line that ends at the cursor."""

    def ask(line: str, **environment: str) -> list[str]:
        words = re.findall(r"[^ :]+|:", line) + ([""] if line[-1] == " " else [])
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DSG_HOME": str(tmp_path / "home"),
            "DSG_PRETRAINED": str(tiny_store),
            "_DSG_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(words),
            "COMP_CWORD": str(len(words) - 1),
            **environment,
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            env=env,
            cwd=tmp_path,
        )
        assert done.stderr.strip() == "[]", "TAB must not wait for torch"
        return done.stdout.split()

    return ask


PROGRAM = """
import sys
from dsgcli.__main__ import main
try:
    main()
finally:
    print([m for m in ("torch", "mediapipe", "av") if m in sys.modules], file=sys.stderr)
"""


def test_published_names_are_offered_to_pull(offered):
    assert "arcane" in offered("dsg models pull ar")
    assert "arcane" not in offered("dsg models pull arcane a")


def test_commands_are_offered(offered):
    assert {"stylize", "styles"} <= set(offered("dsg sty"))


def test_styles_are_offered(offered):
    assert {"toon", "ink"} <= set(offered("dsg stylize x.jpg --style "))


def test_exemplars_are_offered_after_the_colon(offered):
    """bash splits words at colons, and replaces only what follows one."""
    assert offered("dsg stylize x.jpg --style ink:")[:2] == ["fox.png", "gnu.png"]
    assert offered("dsg stylize x.jpg --style ink:g") == ["gnu.png"]


def test_other_shells_get_whole_words(offered):
    words = offered(
        "dsg",
        _DSG_COMPLETE="complete_fish",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        _TYPER_COMPLETE_ARGS="dsg stylize x.jpg --style ink:g",
    )
    assert words[0] == "ink:gnu.png"


@pytest.mark.parametrize(
    ("words", "cursor", "joined"),
    [
        (["dsg", "stylize", "--style", "ink", ":", "fo"], 5, ("ink:fo", 3)),
        (["dsg", "stylize", "--style", "ink", ":"], 4, ("ink:", 3)),
        (["dsg", "-s", "ink", ":", "fo", "--seed"], 5, ("--seed", 3)),
        (["dsg", "sty"], 1, ("sty", 1)),
    ],
)
def test_words_that_bash_split_are_joined(words, cursor, joined):
    whole, at = completion._joined(words, cursor)
    assert (whole[at], at) == joined


def test_exemplars_of_the_style_on_the_line_are_offered(offered):
    assert "gnu.png" in offered("dsg stylize x.jpg --style ink --exemplar ")


def test_only_what_fits_is_offered(offered):
    assert offered("dsg stylize x.jpg --style in") == ["ink"]


def test_a_store_that_cannot_be_read_offers_nothing(offered, tmp_path):
    assert offered("dsg stylize x.jpg --style in", DSG_PRETRAINED=str(tmp_path / "no")) == []
