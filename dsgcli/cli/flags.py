"""Groups of flags: a dataclass whose fields become the options of a command.

A command with forty options would be a signature of forty parameters, and commands that share
options would repeat them. So a group of flags is one dataclass, each field annotated as Typer
wants it, and `expand` writes its fields into the command's signature:

    @dataclass(frozen=True, kw_only=True)
    class Video:
        crf: Annotated[int | None, typer.Option(help="Quality.")] = None

    @expand
    def stylize(inputs: list[str], video: Video, talk: OutputFlags) -> None: ...

A group with a method `begin` has it called before the command.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the fields of its flag groups in place of the groups.

    Two groups of one command must not have a field of the same name.
    """
    own = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {
        name: p.annotation for name, p in own.items() if is_dataclass(p.annotation)
    }

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        made = {
            name: group(**{f.name: values.pop(f.name) for f in fields(group)})
            for name, group in groups.items()
        }
        for made_group in made.values():
            getattr(made_group, "begin", _nothing)()
        command(**values, **made)

    parameters = []
    for name, parameter in own.items():
        parameters += _flags(groups[name]) if name in groups else [parameter]
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    wrapped.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    return wrapped


def _nothing() -> None:
    return None


def _flags(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[f.name], default=_default(f)
        )
        for f in fields(group)
    ]


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default


def values_of(*groups: Any) -> dict[str, Any]:
    """Name -> value of every flag of the groups; lists as tuples, for frozen options."""
    values = {f.name: getattr(group, f.name) for group in groups for f in fields(group)}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
