"""What is printed where: results on stdout, all else on stderr, bars only on a terminal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import dsgcli
from dsgcli import bars
from dsgcli.console import Table, Terminal, plain
from dsgcli.progress import NULL_PROGRESS

ROOT = Path(dsgcli.__file__).parents[1]
TABLE = Table(("style", "exemplars"), [("arcane", 100), ("pixar [new]", 7)])

# ── results ──────────────────────────────────────────────────────────────────────────────────────


def test_a_table_in_a_pipe_is_one_line_a_row(capsys):
    long = "x" * 300
    Terminal().show({}, Table(("name", "n"), [(long, 1), ("b", None)]))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[2].split() == [long, "1"]
    assert lines[3].split() == ["b", "-"]


def test_a_table_shows_brackets_as_they_are(capsys):
    Terminal().show({}, TABLE)
    assert "pixar [new]" in capsys.readouterr().out


def test_json_is_the_document_and_nothing_else(capsys):
    Terminal(json=True).show({"styles": ["arcane"]}, TABLE, "a sentence")
    output = capsys.readouterr()
    assert json.loads(output.out) == {"styles": ["arcane"]}
    assert output.err == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_drops_summaries_and_notes_but_no_results(capsys, quiet):
    terminal = Terminal(quiet=quiet)
    terminal.show({}, "result")
    terminal.summary({}, "summary")
    terminal.note("note")
    terminal.warn("trouble")
    output = capsys.readouterr()
    assert output.out.split() == (["result"] if quiet else ["result", "summary"])
    assert output.err == ("" if quiet else "note\n") + "warning: trouble\n"


def test_json_has_its_summary_even_when_quiet(capsys):
    Terminal(json=True, quiet=True).summary({"frames": 3})
    assert json.loads(capsys.readouterr().out) == {"frames": 3}


class _Mask(Enum):
    HEAD = "head"


@dataclass
class _Clip:
    path: Path
    rate: Fraction


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (_Clip(Path("a/b.mp4"), Fraction(5, 2)), {"path": str(Path("a/b.mp4")), "rate": 2.5}),
        ((1, {2}, None, True), [1, [2], None, True]),
        (_Mask.HEAD, "head"),
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        (float("nan"), None),
    ],
)
def test_plain_turns_our_values_into_what_json_knows(value, expected):
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


LATIN = """
import sys
from dsgcli.console import Table, Terminal, exit_code_of
def command():
    Terminal(json="--json" in sys.argv).show({"name": "żółw"}, Table(("name",), [("żółw",)]))
    return 0
sys.exit(exit_code_of(command))
"""


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_terminal_without_our_letters_is_no_error(words):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", LATIN, *words], capture_output=True, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    if words:
        assert json.loads(done.stdout)["name"] == "żółw"


# ── progress ─────────────────────────────────────────────────────────────────────────────────────


def use(progress):
    """A piece of library code."""
    with progress.task("Stylizing", total=4, unit="frames") as task:
        for _ in range(4):
            task.advance(1, faces=2)
        task.set_total(None)
    progress.note("audio copied")
    progress.warn("3 corrupt frames")


def test_events_are_one_json_object_a_line(capsys):
    with Terminal(progress_mode="json").progress() as progress:
        use(progress)
    output = capsys.readouterr()
    events = [json.loads(line) for line in output.err.splitlines()]
    assert [e["event"] for e in events] == ["begin", "end", "note", "warning"]
    assert events[1]["done"] == 4
    assert events[1]["figures"] == {"faces": 2}
    assert output.out == ""


def test_events_of_a_resumed_task_count_from_where_it_stood():
    stream = io.StringIO()
    with bars.Events(stream).task("Training", total=10_000_100, done=10_000_000) as task:
        time.sleep(0.01)
        task.advance(5)
    end = json.loads(stream.getvalue().splitlines()[-1])
    assert end["done"] == 10_000_005
    assert end["rate"] < 1000, "only the 5 of this run count for the rate"


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_a_pipe_gets_sentences_and_no_bar(capsys, mode):
    with Terminal(progress_mode=mode).progress() as progress:
        use(progress)
    assert capsys.readouterr().err == "audio copied\nwarning: 3 corrupt frames\n"


def test_the_silent_listener_takes_everything(capsys):
    use(NULL_PROGRESS)
    assert capsys.readouterr() == ("", "")


def test_verbose_shows_the_packages_own_log(capsys):
    import logging

    with Terminal(verbose=1).progress():
        logging.getLogger("dsgcli.media").info("opened clip.mp4")
        logging.getLogger("dsgcli.media").debug("packet 1")
    with Terminal().progress():
        logging.getLogger("dsgcli.media").info("not this")
    assert capsys.readouterr().err == "dsgcli.media: opened clip.mp4\n"


PROGRAM = """
import sys, time
from dsgcli.console import Terminal
with Terminal(progress_mode=sys.argv[1], quiet=sys.argv[2] == "quiet").progress() as progress:
    with progress.task("Stylizing", total=20, unit="frames") as task:
        for _ in range(20):
            task.advance(1, faces=2)
            time.sleep(0.02)
    progress.note("audio copied")
"""


def on_a_terminal(*words, program=PROGRAM, code=0, **environment):
    """What a terminal of 80 columns receives on stderr."""
    outer, inner = pytest.importorskip("pty").openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "TERM": "xterm", **environment}
    env.pop("NO_COLOR", None) if "NO_COLOR" not in environment else None
    process = subprocess.Popen([sys.executable, "-c", program, *words], stderr=inner, env=env)
    os.close(inner)
    received = b""
    while True:
        try:
            piece = os.read(outer, 65536)
        except OSError:
            break
        if not piece:
            break
        received += piece
    os.close(outer)
    assert process.wait(timeout=30) == code
    return received.decode()


def test_a_terminal_gets_a_bar_with_counts_and_rate():
    text = on_a_terminal("auto", "loud")
    assert "Stylizing" in text
    assert "/20 frames" in text
    assert "/s" in text
    assert "faces 2" in text
    assert "audio copied" in text
    assert "\x1b[3" in text, "colors"


def test_no_color_keeps_the_bar_without_colors():
    text = on_a_terminal("auto", "loud", NO_COLOR="1")
    assert "Stylizing" in text
    assert "\x1b[3" not in text


@pytest.mark.parametrize("words", [("none", "loud"), ("auto", "quiet")])
def test_no_bar_where_none_is_wanted(words):
    assert "Stylizing" not in on_a_terminal(*words)


STARTS = """
import sys
from dsgcli.console import Terminal, exit_code_of
from dsgcli.errors import UsageError
def command():
    Terminal(quiet="quiet" in sys.argv).starting()
    raise UsageError("a sentence that is too long for the terminal of forty columns")
sys.exit(exit_code_of(command))
"""


def test_a_terminal_sees_at_once_that_a_command_lives_and_then_whole_words():
    text = on_a_terminal(program=STARTS, code=2, COLUMNS="40", NO_COLOR="1")
    begun, _, rest = text.partition("\r")
    assert begun == "starting ..."
    assert rest.replace("\r", "").strip().splitlines() == [
        "error: a sentence that is too long for",
        "  the terminal of forty columns",
    ]
    assert "starting" not in on_a_terminal("quiet", program=STARTS, code=2)


def test_a_bar_waits_for_its_first_task():
    from rich.console import Console

    screen = io.StringIO()
    with bars.Bars(Console(file=screen, force_terminal=True, width=80)) as progress:
        time.sleep(0.2)
        waiting = screen.getvalue()
        with progress.task("Drawing", total=2):
            time.sleep(0.2)
    assert "getting ready" in waiting
    assert "getting ready" not in screen.getvalue().rpartition("Drawing")[2]


def test_a_bar_shows_its_end_though_it_came_between_two_redrawings():
    from rich.console import Console

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with bars.Bars(console) as progress, progress.task("Drawing", total=3) as task:
        task.advance(3)
    assert "3/3" in screen.getvalue()


# ── text from strangers ──────────────────────────────────────────────────────────────────────────

EVIL = "a\x1b]0;owned\x07\x1b[31mred\x9b2J\u202egnp.exe\x08\x7f\udc80"
RAW = "\x1b\x07\x9b\u202e\x08\x7f\udc80"


def is_harmless(text: str) -> bool:
    return not set(text) & set(RAW) and r"\x1b[31m" in text


def test_control_characters_are_shown_as_text_wherever_something_is_printed(capsys):
    """Names and notes in a model's header could color, clear and retitle a terminal."""
    terminal = Terminal()
    terminal.show({}, EVIL, Table((EVIL, "n"), [(EVIL, 1)], title="t"))
    terminal.note(EVIL)
    terminal.warn(EVIL)
    output = capsys.readouterr()
    assert is_harmless(output.out) and is_harmless(output.err)


def test_control_characters_in_json_are_escaped_and_come_back_whole(capsys):
    evil = EVIL.replace("\udc80", "")
    Terminal(json=True).show({"name": evil, "évé": "灰"})
    text = capsys.readouterr().out
    assert not set(text) & set(RAW) and "évé" in text
    assert json.loads(text) == {"name": evil, "évé": "灰"}


def test_control_characters_in_events_and_bars_are_shown_as_text(capsys):
    from rich.console import Console

    stream = io.StringIO()
    events = bars.Events(stream)
    events.note(EVIL)
    with events.task(EVIL):
        pass
    assert not set(stream.getvalue()) & set(RAW)
    plain_stream = io.StringIO()
    with bars.Bars(Console(file=plain_stream, force_terminal=False, width=300)) as listener:
        listener.note(EVIL)
        listener.warn(EVIL)
    assert is_harmless(plain_stream.getvalue())


def test_a_file_named_like_markup_is_drawn_in_a_bar():
    from rich.console import Console

    stream = io.StringIO()
    drawn = bars.Bars(Console(file=stream, force_terminal=True, width=100))
    with drawn as listener, listener.task("[/b] [red]x.png", 3, "frames") as task:
        task.advance()
    assert "[/b] [red]x.png" in stream.getvalue()


def test_message_of_an_error_is_shown_without_control_characters(capsys):
    from dsgcli.console import exit_code_of
    from dsgcli.errors import DsgError

    def fails():
        raise DsgError(EVIL)

    def breaks():
        raise ValueError(EVIL)

    assert exit_code_of(fails) == 1
    assert is_harmless(capsys.readouterr().err)
    assert exit_code_of(breaks) == 1
    assert is_harmless(capsys.readouterr().err)
