"""Settings: what a flag is worth where the command line does not say.

    command line > environment DSG_* > dsg.toml here > dsg.toml of the user > default

A setting is a flag by its long name. In a file, keys at the top hold for every command that has
the flag, a table holds for one command; in the environment likewise:

    device = "cpu"              DSG_DEVICE=cpu
    [stylize]
    crf = 20                    DSG_STYLIZE_CRF=20
    [models.pull]
    offline = true              DSG_MODELS_PULL_OFFLINE=1

Values mean what they would mean on the command line, and are checked as if they stood there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dsgcli.errors import RecipeError
from dsgcli.toml import parse_toml

FILE_NAME = "dsg.toml"
ENV_PREFIX = "DSG_"

NOT_SETTINGS = frozenset(
    {"help", "version", "json", "input", "output", "install_completion", "show_completion"}
)
"""Flags that make sense for one run only."""

OTHER_VARIABLES = frozenset({"DSG_HOME", "DSG_PRETRAINED", "DSG_FACE_LANDMARKER"})
"""No flags: folders and a file, read by the code that opens them."""

Words = tuple[str, ...]
"""A command: ("models", "pull"); () is every command."""
Flags = Mapping[Words, Mapping[str, bool]]
"""For each command and group, its flags by parameter name: whether they may be repeated."""


def flags_of(command: Any, words: Words = ()) -> Flags:
    """The flags of a command and of all below it that may be set."""
    options = [p for p in command.params if p.param_type_name == "option"]
    flags: dict[Words, Mapping[str, bool]] = {
        words: {p.name: p.multiple for p in options if p.name not in NOT_SETTINGS}
    }
    for name, below in getattr(command, "commands", {}).items():
        flags |= flags_of(below, (*words, name))
    return flags


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value that was found, and where."""

    command: Words
    flag: str
    value: Any
    origin: str

    @property
    def key(self) -> str:
        """Name of the setting in a file: `stylize.crf`."""
        return ".".join((*self.command, self.flag.replace("_", "-")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that was found, the strongest first, and all that is wrong with it."""

    found: tuple[Setting, ...] = ()
    problems: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise RecipeError if there are problems, with all of them."""
        if self.problems:
            raise RecipeError("the settings", self.problems)

    def lookup(self, command: Words, flag: str) -> Setting | None:
        """The setting in force for a flag of a command, if there is one."""
        for setting in self.found:
            if setting.flag == flag and command[: len(setting.command)] == setting.command:
                return setting
        return None

    def in_force(self) -> list[Setting]:
        """Those that no stronger one of the same key hides."""
        first = {setting.key: setting for setting in reversed(self.found)}
        return [setting for setting in self.found if first[setting.key] is setting]

    def default_map(self, flags: Flags) -> dict[str, Any]:
        """Command -> flag -> value, nested, as Typer's contexts take it."""
        nested: dict[str, Any] = {}
        for command, names in flags.items():
            level = nested
            for word in command:
                level = level.setdefault(word, {})
            for name, repeats in names.items():
                setting = self.lookup(command, name)
                if setting is not None:
                    single = repeats and not isinstance(setting.value, list)
                    level[name] = [setting.value] if single else setting.value
        return nested


def read_settings(flags: Flags, environ: Mapping[str, str], folder: Path) -> Settings:
    """Read the environment, `folder`/dsg.toml and the user's dsg.toml; never raises."""
    found: list[Setting] = []
    problems: list[str] = []
    layers: list[Iterator[Setting | str]] = [_from_environment(flags, environ)]
    layers += [_from_file(path, flags) for path in (folder / FILE_NAME, user_file(environ))]
    for layer in layers:
        several = list(layer)
        problems += [item for item in several if isinstance(item, str)]
        settings = [item for item in several if isinstance(item, Setting)]
        found += sorted(settings, key=lambda setting: -len(setting.command))  # nearest first
    if "DSG_PRETRAINED" in environ:  # the store reads it, and it is stronger than a file
        found = [setting for setting in found if setting.flag != "pretrained"]
    return Settings(found=tuple(found), problems=tuple(problems))


def user_file(environ: Mapping[str, str] | None = None) -> Path:
    """The user's own settings: in DSG_HOME if that is set, else in the configuration folder."""
    home = (os.environ if environ is None else environ).get("DSG_HOME")
    if home:
        return Path(home).expanduser() / FILE_NAME
    import platformdirs

    return platformdirs.user_config_path("dsg", appauthor=False) / FILE_NAME


# ── one layer each: settings, and problems as sentences ──────────────────────────────────────────


def _from_environment(flags: Flags, environ: Mapping[str, str]) -> Iterator[Setting | str]:
    known = _variables(flags)
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX) or variable in OTHER_VARIABLES:
            continue
        if variable in known and environ[variable]:
            command, flag = known[variable]
            yield Setting(command=command, flag=flag, value=environ[variable], origin=variable)


def unknown_variables(flags: Flags, environ: Mapping[str, str]) -> list[str]:
    """A sentence for each DSG_* variable that sets nothing; other programs may own it."""
    known = {*_variables(flags), *OTHER_VARIABLES}
    strangers = [v for v in sorted(environ) if v.startswith(ENV_PREFIX) and v not in known]
    return [
        f"environment variable {v} sets nothing{_near(v, known) or '; unset it'}" for v in strangers
    ]


def _variables(flags: Flags) -> dict[str, tuple[Words, str]]:
    """DSG_DEVICE -> every command's --device; DSG_STYLIZE_CRF -> that of `dsg stylize`."""
    pairs = [(command, flag) for command, names in flags.items() for flag in names]
    everywhere = [((), flag) for _, flag in pairs]
    return {
        (ENV_PREFIX + "_".join((*command, flag))).upper().replace("-", "_"): (command, flag)
        for command, flag in [*everywhere, *pairs]
    }


def _from_file(path: Path, flags: Flags) -> Iterator[Setting | str]:
    try:
        table = parse_toml(path.read_text("utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        yield f"{path} cannot be read: {error}"
        return
    yield from _from_table(table, (), flags, str(path))


def _from_table(
    table: Mapping[str, Any], command: Words, flags: Flags, origin: str
) -> Iterator[Setting | str]:
    known = set(flags[command]) if command else {name for names in flags.values() for name in names}
    words = {
        c[len(command)] for c in flags if len(c) > len(command) and c[: len(command)] == command
    }
    where = f"{origin} [{'.'.join(command)}]" if command else origin
    for key, value in table.items():
        flag = key.replace("-", "_")
        if isinstance(value, dict) and key in words:
            yield from _from_table(value, (*command, key), flags, origin)
        elif isinstance(value, dict):
            yield f"{where}: no command {key!r}{_near(key, words)}"
        elif flag not in known:
            yield f"{where}: unknown key {key!r}{_near(key, [n.replace('_', '-') for n in known])}"
        elif not _is_plain(value):
            yield f"{where}: {key} must be a word, a number, true or false, or a list of these"
        else:
            yield Setting(command=command, flag=flag, value=_as_typed(value), origin=origin)


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str | int | float) for item in value)
    return isinstance(value, str | int | float)


def _as_typed(value: Any) -> Any:
    """Convert a value to the text on a command line: a number is its digits; true and false
    stay."""
    if isinstance(value, list):
        return [_as_typed(item) for item in value]
    return value if isinstance(value, bool) else str(value)


def _near(word: str, words: Sequence[str] | set[str]) -> str:
    near = get_close_matches(word, sorted(words), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
