"""The `dsg` command: its subcommands, its settings, its exit codes.

Flow: argv -> settings (environment, files) -> Typer -> one library function -> exit code.
Commands raise `DsgError`; here it becomes a message and a code.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from dsgcli.cli.completion import in_bash, is_bash
from dsgcli.cli.help_topics import help_text, topics
from dsgcli.cli.layout import add, group, show_help_if_alone
from dsgcli.cli.settings import Settings, flags_of, read_settings
from dsgcli.console import exit_code_of
from dsgcli.errors import InterruptedRunError, UsageError

SUMMARY = "Portraits in the style of one chosen picture: photographs, folders, videos."
EPILOG = """
Examples:
  dsg try photo.jpg
  dsg stylize photo.jpg
  dsg stylize holiday.mp4 --style noir:3 -o drawn.mp4
  dsg styles list
  dsg doctor

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no face found, 4 model missing or
corrupt, 5 some files of several failed, 130 interrupted.
Settings: flags, then DSG_* variables, then dsg.toml; `dsg doctor` shows them.
"""


def build_app() -> typer.Typer:
    """The whole command line; nothing heavy is imported for it."""
    from dsgcli.cli import (
        destylize,
        doctor,
        interpolate,
        models,
        report,
        sample,
        styles,
        stylize,
        train,
        try_,
        watch,
    )

    app = group("dsg", SUMMARY, EPILOG)
    app.callback()(_dsg)
    add(app, try_.try_, try_.EXAMPLES, name="try")
    add(app, stylize.stylize, stylize.EXAMPLES)
    add(app, watch.watch, watch.EXAMPLES)
    add(app, report.report, report.EXAMPLES)
    add(app, sample.sample, sample.EXAMPLES)
    add(app, interpolate.interpolate, interpolate.EXAMPLES)
    add(app, destylize.destylize, destylize.EXAMPLES)
    add(app, train.train, train.EXAMPLES)
    app.add_typer(styles.styles)
    app.add_typer(models.models)
    add(app, doctor.doctor, doctor.EXAMPLES)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from dsgcli.cli.version import version_text

        typer.echo(version_text())
        raise typer.Exit()


def _dsg(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show version and system."
        ),
    ] = False,
) -> None:
    """Portraits in the style of one chosen picture: photographs, folders, videos."""
    show_help_if_alone(ctx)


# ── running it ───────────────────────────────────────────────────────────────────────────────────


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dsg` with `argv` (None: the process's own); returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["help"]:  # `dsg help no-face-found`, `dsg help stylize`
        if text := help_text(arguments[1:]):
            typer.echo(text)
            return 0
        arguments = [*arguments[1:], "--help"]
        if arguments == ["--help"]:
            typer.echo(f"Topics of dsg help: {', '.join(topics())}\n")
    if arguments and _is_media(arguments[0]):  # `dsg photo.jpg`
        arguments = ["stylize", *arguments]
    if is_bash():
        return in_bash(lambda: run(arguments))
    return exit_code_of(lambda: run(arguments), as_json="--json" in arguments)


def _is_media(word: str) -> bool:
    """Whether a first word names something to stylize, and not a command."""
    commands = set(vars(get_command(build_app())).get("commands", {}))
    return not word.startswith("-") and word not in commands and Path(word).expanduser().exists()


def run(arguments: Sequence[str]) -> int:
    """Run a command; raises `DsgError`."""
    command = get_command(build_app())
    settings = read_settings(flags_of(command), os.environ, Path.cwd())
    if not {"doctor", "--help", "-h"} & set(arguments):
        settings.check()
    try:
        code = command.main(
            args=list(arguments),
            prog_name="dsg",
            standalone_mode=False,
            default_map=settings.default_map(flags_of(command)),
        )
    except typer.TyperException as error:
        raise UsageError(_explain(error, settings)) from error
    except typer.Abort:
        raise InterruptedRunError("stopped") from None
    if code == InterruptedRunError.exit_code:
        raise KeyboardInterrupt  # Typer makes a code of Ctrl-C; we say what happened, too
    return code if isinstance(code, int) else 0


NUMBERS = {"float_parsing": "a number", "int_parsing": "a whole number"}
"""Rule of a value, by the kind of problem that pydantic, which Typer reads values with, finds
in it."""
LIMITS = ("greater_than_equal", "less_than_equal", "greater_than", "less_than")


def _wrong_value(error: typer.TyperException) -> str:
    """`--structure takes a number from 0 to 1, got 'abc'`; empty for other problems."""
    cause, param = error.__cause__, getattr(error, "param", None)
    found = cause.errors() if cause is not None and hasattr(cause, "errors") else []
    if param is None or not found:
        return ""
    problem = found[0]
    names = sorted(param.opts, key=len)
    name = names[-1] if names[-1].startswith("-") else str(param.metavar or param.name.upper())
    got = f", got {str(problem.get('input'))!r}"
    if problem["type"] in ("literal_error", "enum"):
        choices = str(problem["ctx"]["expected"]).replace("'", "")
        return f"{name} takes {choices}{got}."
    if listed := re.search(r"is not one of (.+)", problem.get("msg", "")):
        return f"{name} takes {listed[1].rstrip('.').replace(chr(39), '')}{got}."
    kind = NUMBERS.get(problem["type"]) or ("a number" if problem["type"] in LIMITS else "")
    if not kind:
        return ""
    low, dots, high = str(param.metavar or "").partition("..")
    if dots:
        return f"{name} takes {kind} from {low} to {high}{got}."
    least = problem.get("ctx", {}).get("ge")
    return f"{name} takes {kind}{'' if least is None else f' of {least:g} or more'}{got}."


def _explain(error: typer.TyperException, settings: Settings) -> str:
    """Typer's message, where a wrong setting came from, and where help is."""
    message = _wrong_value(error) or error.format_message()
    context, name = getattr(error, "ctx", None), getattr(getattr(error, "param", None), "name", "")
    if context is None:
        return message
    if isinstance(error, typer.BadParameter) is False and "No such command" in message:
        word = message.split("'")[1] if "'" in message else ""
        if Path(word).suffix or "/" in word:  # a file that is not here
            message = f"{word} is neither a file here nor a command."
    words = tuple(context.command_path.split()[1:])
    setting = settings.lookup(words, name)
    if setting is not None and context.get_parameter_source(name).name == "DEFAULT_MAP":
        message += f" It was set in {setting.origin}."
    return f"{message} Try `{context.command_path} --help`."
