"""How help looks: options in groups, worked examples last, in plain text that fits 80 columns.

A command with forty options is read as a page, not as a table: the options stand in the groups
that their `rich_help_panel` names, and the examples come last, where the eye is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from dsgcli.errors import UsageError

OTHER_OPTIONS = "Other options"
WRONG_USAGE = 2

ALIASES = {"style-id": "exemplar", "trunc": "truncation"}
"""Spellings of the paper's own scripts, and of its neighbours, for options of ours."""


def canonical(token: str) -> str:
    """The one spelling of an option: dashes for underscores, our name for the paper's."""
    dashed = token.replace("_", "-") if len(token) > 1 else token
    return ALIASES.get(dashed, dashed)


CONTEXT_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": canonical,
    "max_content_width": 100,
}


def _write_options(command: TyperCommand | TyperGroup, ctx: Any, formatter: Any) -> None:
    """Arguments, then each group of options in the order of its first member."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        if not getattr(param, "hidden", False):
            is_argument = param.param_type_name == "argument"
            panel = getattr(param, "rich_help_panel", None)
            name = panel or ("Arguments" if is_argument else OTHER_OPTIONS)
            groups.setdefault(name, []).append((_names(param), _help(param, ctx)))
    groups[OTHER_OPTIONS] = groups.pop(OTHER_OPTIONS, [])  # last
    for name, rows in groups.items():
        if rows:
            with formatter.section(name):
                formatter.write_dl(rows, col_max=28)


def _names(param: Any) -> str:
    """`-o, --output PATH`, or the name of an argument."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name.upper())
    short_first = sorted(param.opts, key=lambda opt: opt.startswith("--"))
    names = " / ".join([", ".join(short_first), *param.secondary_opts])
    return f"{names} {param.metavar}" if param.metavar else names


def _help(param: Any, ctx: Any) -> str:
    """Help of a flag, with its default in brackets."""
    default = default_text(param, ctx)
    return f"{param.help or ''}  [{default}]" if default else param.help or ""


def default_text(param: Any, ctx: Any) -> str:
    """The default as a person reads it; empty where there is nothing to say."""
    if isinstance(param.show_default, str):
        return param.show_default
    value = param.get_default(ctx, call=False)
    if value is None or value is False or value == "" or param.show_default is False:
        return ""
    if value is True:
        return str(param.opts[-1]).lstrip("-")
    return ", ".join(value) if isinstance(value, list) else str(value)


def _write_epilog(epilog: str | None, formatter: Any) -> None:
    """Write the examples unchanged: they must not be wrapped."""
    if epilog:
        formatter.write(f"\n{epilog.strip()}\n")


def _unset(option: Any) -> Any:
    """A flag that is not given is False: for None, Typer loads pydantic first (80 ms)."""
    if option is not None:
        option.default = False
    return option


class DsgCommand(TyperCommand):
    """A command whose help is a page."""

    def get_help_option(self, ctx: Any) -> Any:
        return _unset(super().get_help_option(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_epilog(self.epilog, formatter)


class DsgGroup(TyperGroup):
    """A command with subcommands, laid out in the same way."""

    def get_params(self, ctx: Any) -> Any:
        """Typer's own options for the shell included."""
        params = super().get_params(ctx)
        for param in params:
            if param.name in ("install_completion", "show_completion"):
                _unset(param)
        return params

    def get_help_option(self, ctx: Any) -> Any:
        return _unset(super().get_help_option(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_commands(ctx, formatter)
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_epilog(self.epilog, formatter)


# ── putting commands together ────────────────────────────────────────────────────────────────────


def group(name: str, summary: str, examples: str = "") -> typer.Typer:
    """A command that only has subcommands, like `dsg models`."""
    app = typer.Typer(
        name=name,
        cls=DsgGroup,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT_SETTINGS,
        invoke_without_command=True,
        epilog=examples,
        help=summary,
        short_help=summary,
    )
    app.callback()(show_help_if_alone)
    return app


def add(
    app: typer.Typer, command: Callable[..., None], examples: str = "", *, name: str | None = None
) -> None:
    """Register `command` under its own name, with `examples` at the end of its help."""
    first_line = (command.__doc__ or "").partition("\n")[0]
    app.command(name, cls=DsgCommand, epilog=examples, short_help=first_line)(with_paths(command))


# ── paths ────────────────────────────────────────────────────────────────────────────────────────

PATH_WORDS = {"inputs", "input", "exemplar"}
"""Parameters that are text, since they may be globs or names, and paths all the same."""


def with_paths(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with `~` at the beginning of its paths replaced by the home folder, as shells do
    only where it begins a word; addresses such as s3://bucket/x.png are refused."""

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        command(**{name: usable(value, name) for name, value in values.items()})

    return wrapped


def usable(value: Any, name: str) -> Any:
    """A path, or a list of paths, of the parameter `name` that can be opened; other values as they
    are.

    Raises:
        UsageError: an address, a home folder that does not exist, or an output that is a device.
    """
    if isinstance(value, list | tuple):
        return type(value)(usable(item, name) for item in value)
    is_text = isinstance(value, str) and name in PATH_WORDS
    if not isinstance(value, Path) and not is_text:
        return value
    text = str(value)
    if match := re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+):/", text):  # one letter is a drive
        address = f"{match[1]}://{text[match.end() :].lstrip('/')}"  # Path has made // to /
        raise UsageError(
            f"{address} is an address, and dsg reads and writes files of this machine; download it "
            f"first, or name a file"
        )
    if text.startswith("~"):
        try:
            value = type(value)(Path(text).expanduser())
        except RuntimeError:
            raise UsageError(f"{text} names the home folder of a user who is not here") from None
    if name == "output" and Path(value).exists():
        kind = Path(value)
        if not kind.is_file() and not kind.is_dir():
            raise UsageError(f"{text} is a device; name a file such as out.png, or a folder")
    return value


def show_help_if_alone(ctx: typer.Context) -> None:
    """A group without a subcommand says what there is; as wrong usage, for scripts."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(WRONG_USAGE)
