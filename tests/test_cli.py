"""The command line as a person meets it: help, exit codes, streams.

Commands are run in this process (`command.dsg`), except where the process itself is the subject:
what it imports, how it ends on Ctrl-C, what it does when its reader goes away.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import dsg
from over_all import over_all
from typer.main import get_command

import dsgcli
from dsgcli import errors
from dsgcli.cli.app import build_app
from dsgcli.console import exit_code_of

ROOT = Path(dsgcli.__file__).parents[1]
HEAVY = ("torch", "numpy", "mediapipe", "av", "PIL", "joblib", "safetensors", "rich", "pydantic")


def python(program, *words):
    """A process of its own that can import the package wherever it stands."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def commands(command=None, words=()):
    """Every command by its words, groups included."""
    command = command or get_command(build_app())
    found = {words: command}
    for name, below in getattr(command, "commands", {}).items():
        found |= commands(below, (*words, name))
    return found


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch, tmp_path):
    for variable in [v for v in os.environ if v.startswith("DSG_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


# ── help ─────────────────────────────────────────────────────────────────────────────────────────


def test_all_commands_are_there():
    assert {words[0] for words in commands() if words} == {
        *("train", "destylize", "stylize", "sample", "interpolate", "models", "styles", "doctor"),
        *("report", "try", "watch"),
    }


@over_all(list(commands()), " ".join)
def test_help_explains_itself(words):
    result = dsg(*words, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: dsg")
    assert "Examples:" in result.stdout, "every command shows how it is used"
    assert result.stderr == ""


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = dsg(*words, "--help").stdout.splitlines()
    assert max(map(len, lines)) <= 80, max(lines, key=len)


@over_all(list(commands()), " ".join)
def test_every_option_says_what_it_does(words):
    unexplained = [p.name for p in commands()[words].params if not p.help]
    assert not unexplained


def test_examples_of_the_help_parse():
    """Each line of an `Examples:` block is a command that the parser takes."""
    from typer import TyperException

    root = get_command(build_app())
    for words, command in commands().items():
        for line in (command.epilog or "").splitlines():
            if line.strip().startswith("dsg "):
                arguments = _arguments(line)
                try:
                    _parse(root, arguments)
                except TyperException as error:
                    pytest.fail(f"{' '.join(words)}: {line.strip()}: {error.format_message()}")


def _arguments(line: str) -> list[str]:
    """The words of an example, without the remark after two spaces, pipes and redirections."""
    command = line.strip().removeprefix("dsg ").partition("  ")[0]
    return command.partition(" >")[0].partition(" |")[0].split()


def _parse(command, arguments, parent=None):
    context = command.make_context(
        arguments[0] if parent else "dsg", arguments[bool(parent) :], parent=parent
    )
    rest = [*context._protected_args, *context.args]
    if hasattr(command, "commands") and rest:
        _, below, rest = command.resolve_command(context, rest)
        _parse(below, [below.name, *rest], context)


@pytest.mark.parametrize("words", [(), ("stylize",), ("models",), ("doctor",)], ids=" ".join)
def test_help_imports_nothing_heavy(words):
    program = (
        "import sys; from dsgcli.__main__ import main; code = main(sys.argv[1:]);"
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    running = python(program, *words, "--help")
    _, stderr = running.communicate(timeout=60)
    assert (running.returncode, stderr.strip()) == (0, "[]")


def test_dsg_alone_shows_what_there_is_and_is_wrong_usage():
    result = dsg()
    assert result.exit_code == 2
    assert "Commands:" in result.stdout


def test_version_names_the_package_and_python():
    assert dsg("--version").stdout.startswith("dsg ")


def test_paper_spelling_is_understood():
    """--style_id, --preserve_color and --trunc are the names of the original's own scripts."""
    result = dsg(
        "stylize", "x.jpg", "--style_id", "x", "--preserve_color", "--trunc", "7", "--json"
    )
    assert "--truncation takes" in result.json["error"]["message"]


# ── exit codes ───────────────────────────────────────────────────────────────────────────────────


def error_types(kind=errors.DsgError):
    return [kind, *(t for sub in kind.__subclasses__() for t in error_types(sub))]


def made(kind):
    """An error of this kind with the fewest words."""
    examples = {
        errors.RecipeError: lambda: errors.RecipeError("x.toml", ["a", "b"]),
        errors.OutputExistsError: lambda: errors.OutputExistsError(Path("x.jpg")),
        errors.NoFaceError: lambda: errors.NoFaceError("x.jpg", detector="a mesh"),
        errors.FaceNumberError: lambda: errors.FaceNumberError("x.jpg", wanted=[7], num_faces=2),
    }
    return examples.get(kind, lambda: kind("what, where, what to do"))()


def raising(error):
    def command(*_, **__):
        raise error

    return command


@pytest.mark.parametrize("kind", error_types(), ids=lambda t: t.__name__)
def test_expected_errors_are_one_message_and_a_documented_code(kind, capsys):
    code = exit_code_of(raising(made(kind)))
    output = capsys.readouterr()
    assert code in (1, 2, 3, 4, 5, 130)
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert "Traceback" not in output.err


@pytest.mark.parametrize("kind", error_types(), ids=lambda t: t.__name__)
def test_expected_errors_are_one_document_with_json(kind, capsys):
    code = exit_code_of(raising(made(kind)), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == code == kind.exit_code
    assert document["error"]["type"] == kind.__name__
    assert document["error"]["message"]


def test_an_error_after_the_document_prints_no_second_one(capsys):
    from dsgcli.console import Terminal

    def command():
        Terminal(json=True).show({"plan": []})
        raise errors.TrainingError("three files are missing")

    assert exit_code_of(command, as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == {"plan": []}


def test_bugs_keep_their_traceback(capsys):
    assert exit_code_of(raising(KeyError("latent"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_bugs_are_one_document_with_json(capsys):
    exit_code_of(raising(KeyError("latent")), as_json=True)
    assert json.loads(capsys.readouterr().out)["exit_code"] == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "free some space"),
        (PermissionError(13, "Permission denied", "out/x.jpg"), "out/x.jpg"),
        (MemoryError(), "--batch-size"),
    ],
)
def test_troubles_of_the_machine_are_no_bugs(error, words, capsys):
    assert exit_code_of(raising(error)) == 1
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["styliz"], "Did you mean 'stylize'"),
        (["stylize", "x.jpg", "--stile", "y"], "--style"),
        (["stylize"], "name a picture"),
        (["stylize", "x.jpg", "--structure", "1.5"], "--structure"),
        (["stylize", "x.jpg", "--encoder", "v"], "z+"),
        (["stylize", "x.jpg", "--weights", "1,two"], "--weights"),
        (["stylize", "x.mp4", "--start", "soon"], "--start"),
        (["stylize", "x.jpg", "-s", "a:1", "--exemplar", "2"], "drop one"),
        (["models", "lst"], "Did you mean 'list'"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_right(words, says):
    result = dsg(*words)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""


def test_ctrl_c_is_130(tmp_path):
    program = (
        "import signal, time, sys; from dsgcli import console\n"
        # a background job of a shell begins with Ctrl-C ignored, and so do its children
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait():\n    print('ready', flush=True); time.sleep(60)\n"
        "sys.exit(console.exit_code_of(wait))"
    )
    running = python(program)
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=10)
    assert running.returncode == 130
    assert stderr == "error: interrupted\n"


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_ctrl_c_in_a_command_is_130_and_said(monkeypatch, json_flag):
    from dsgcli import doctor

    monkeypatch.setattr(doctor, "examine", raising(KeyboardInterrupt()))
    result = dsg("doctor", *json_flag)
    assert result.exit_code == 130
    assert result.stderr == "error: interrupted\n"
    assert not json_flag or result.json["exit_code"] == 130


def test_a_reader_that_goes_away_is_no_traceback():
    program = (
        "import sys; from dsgcli import console\n"
        "def talk():\n    [console.write_json(list(range(1000))) for _ in range(200)]; return 0\n"
        "sys.exit(console.exit_code_of(talk))"
    )
    running = python(program)
    running.stdout.read(10)
    running.stdout.close()
    assert running.stderr.read() == ""
    running.stderr.close()
    assert running.wait(timeout=10) == 1


@pytest.mark.parametrize("words", [[], ["stylize"], ["styles", "show"]])
def test_help_is_a_word_too(words):
    assert dsg("help", *words).stdout.endswith(dsg(*words, "--help").stdout)
    assert dsg("help", *words).exit_code == 0


# ── paths and numbers as people write them ───────────────────────────────────────────────────────


@pytest.mark.parametrize("option", ["--output", "--pretrained", "--exemplar"])
@pytest.mark.parametrize("address", ["s3://b/x.png", "https://example.org/x.png"])
def test_address_in_place_of_a_path_is_told(tmp_path, option, address):
    result = dsg("stylize", "x.jpg", option, address)
    assert result.exit_code == 2
    assert f"{address} is an address" in " ".join(result.stderr.split())
    assert not list(tmp_path.glob("*:*"))  # no folder `s3:`


def test_address_of_an_input_is_told():
    result = dsg("stylize", "https://example.org/x.png")
    assert result.exit_code == 2 and "is an address" in result.stderr


def test_home_is_found_where_no_shell_has_replaced_it(tmp_path, monkeypatch):
    home = tmp_path / "me"
    (home / "models").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    listed = dsg("models", "list", "--pretrained=~/models", "--json")
    assert listed.exit_code == 0, listed.stderr
    monkeypatch.setenv("DSG_HOME", "~/dsg")
    assert str(home) in dsg("models", "path").stdout
    assert not (tmp_path / "~").exists()


@pytest.mark.skipif(os.name == "nt", reason="devices are files on POSIX systems")
def test_device_as_output_is_told():
    result = dsg("stylize", "x.jpg", "--output=/dev/null")
    assert result.exit_code == 2 and "/dev/null is a device" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--structure", "abc", "--structure takes a number from 0 to 1, got 'abc'"),
        ("--strength", "2", "--strength takes a number from 0 to 1, got '2'"),
        ("--crf", "good", "--crf takes a whole number, got 'good'"),
        ("--batch-size", "0", "--batch-size takes a number of 1 or more, got '0'"),
        ("--mask", "hat", "--mask takes auto, feather, face, head, person, got 'hat'"),
    ],
)
def test_wrong_value_is_told_in_our_words(option, value, message):
    result = dsg("stylize", "x.jpg", option, value)
    assert result.exit_code == 2 and message in " ".join(result.stderr.split())


def test_first_word_may_be_a_file(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"no picture")
    assert "photo.jpg" in dsg("photo.jpg").stderr  # stylize reads it
    assert "No such command" not in dsg("photo.jpg").stderr
    assert "nosuch.jpg is neither a file here nor a command" in dsg("nosuch.jpg").stderr
    assert "No such command 'sytlize'" in dsg("sytlize").stderr


def test_settings_that_begin_with_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "dsg.toml").write_bytes(b"\xef\xbb\xbf[stylize]\ncrf = 99999999999\n")
    told = dsg("stylize", "nosuch.png").stderr
    assert "Invalid statement" not in told


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX systems")
def test_closed_stdout_is_no_error():
    command = [sys.executable, "-m", "dsgcli", "models", "list"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
