"""The `dsg` command: its subcommands, its settings, its exit codes.

Flow: argv -> settings (environment, files) -> Typer -> one library function -> exit code.
Commands raise `DsgError`; here it becomes a message and a code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from dsgcli.cli.completion import in_bash, is_bash
from dsgcli.cli.layout import add, group, show_help_if_alone
from dsgcli.cli.settings import Settings, flags_of, read_settings
from dsgcli.console import exit_code_of
from dsgcli.errors import InterruptedRunError, UsageError

SUMMARY = "Portraits in the style of one chosen picture: photographs, folders, videos."
EPILOG = """
Examples:
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
    )

    app = group("dsg", SUMMARY, EPILOG)
    app.callback()(_dsg)
    add(app, stylize.stylize, stylize.EXAMPLES)
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
    if arguments[:1] == ["help"]:  # `dsg help stylize`, as other programs have it
        arguments = [*arguments[1:], "--help"]
    if is_bash():
        return in_bash(lambda: run(arguments))
    return exit_code_of(lambda: run(arguments), as_json="--json" in arguments)


def run(arguments: Sequence[str]) -> int:
    """The same, raising `DsgError`."""
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


def _explain(error: typer.TyperException, settings: Settings) -> str:
    """Typer's message, where a wrong setting came from, and where help is."""
    message = error.format_message()
    context, name = getattr(error, "ctx", None), getattr(getattr(error, "param", None), "name", "")
    if context is None:
        return message
    words = tuple(context.command_path.split()[1:])
    setting = settings.lookup(words, name)
    if setting is not None and context.get_parameter_source(name).name == "DEFAULT_MAP":
        message += f" It was set in {setting.origin}."
    return f"{message} Try `{context.command_path} --help`."
