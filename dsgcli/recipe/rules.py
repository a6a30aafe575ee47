"""What a recipe's field may hold: ranges and choices, written into its type.

`steps: Count = 1500` says both that the value is an int and that it is at least 1, so the reader of
recipe files can list every problem at once, and a recipe built in Python meets the same rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from dsgcli.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Range:
    """An inclusive range of numbers."""

    low: float
    high: float = float("inf")

    def __str__(self) -> str:
        if self.high == float("inf"):
            return "not be negative" if self.low == 0 else f"be at least {self.low:g}"
        return f"be from {self.low:g} to {self.high:g}"

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high and abs(value) != float("inf")


@dataclass(frozen=True, slots=True)
class Free:
    """Marks a field that may change between the starts of one run: it does not change results."""


Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Positive = Annotated[float, Range(1e-12)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
SizePx = Annotated[int, Range(16, 1024)]


def hints_of(table: type) -> dict[str, Any]:
    """Field name -> annotated type."""
    hints = get_type_hints(table, include_extras=True)
    return {f.name: hints[f.name] for f in fields(table)}


def required_of(table: type) -> list[str]:
    """Names of the fields without a default."""
    return [f.name for f in fields(table) if f.default is MISSING and f.default_factory is MISSING]


def is_free(kind: Any) -> bool:
    """True if a field of this type may change between the starts of one run."""
    return any(isinstance(mark, Free) for mark in marks_of(kind))


def marks_of(kind: Any) -> tuple[Any, ...]:
    return get_args(kind)[1:] if get_origin(kind) is Annotated else ()


def bare(kind: Any) -> Any:
    """The type without its marks."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def problems_of(name: str, value: object, kind: Any) -> Iterator[str]:
    """Every reason why `value` does not fit `kind`, as `name must ..., got ...`."""
    plain = bare(kind)
    if get_origin(plain) is tuple:
        yield from _tuple_problems(name, value, get_args(plain)[0])
    elif get_origin(plain) is Literal:
        choices = get_args(plain)
        if value not in choices:
            listed = ", ".join(repr(choice) for choice in choices)
            yield f"{name} must be one of {listed}, got {value!r}"
    elif not _fits(value, plain):
        yield f"{name} must be {plain.__name__}, got {value!r}"
    else:
        for mark in marks_of(kind):
            if isinstance(mark, Range) and isinstance(value, int | float) and not mark.holds(value):
                yield f"{name} must {mark}, got {value:g}"


def _tuple_problems(name: str, value: object, kind: Any) -> Iterator[str]:
    if not isinstance(value, tuple | list):
        yield f"{name} must be a list, got {value!r}"
        return
    for index, item in enumerate(value):
        yield from problems_of(f"{name}[{index}]", item, kind)


def _fits(value: object, kind: type) -> bool:
    """TOML writes 1 for 1.0, so an int may stand for a float; a bool stands for nothing else."""
    return type(value) is kind or (kind is float and type(value) is int)


def check(table: object, *extra: str) -> None:
    """Raise one RecipeError that lists every field out of its range, and `extra` problems.

    Called by each table's `__post_init__`, so a recipe built in Python is checked like a file.
    """
    assert is_dataclass(table) and not isinstance(table, type)
    problems = [
        problem
        for name, kind in hints_of(type(table)).items()
        for problem in problems_of(name, getattr(table, name), kind)
    ]
    problems.extend(extra)
    if problems:
        raise RecipeError(type(table).__name__, problems)


# ── names ────────────────────────────────────────────────────────────────────────────────────────

_MEANS_SOMETHING = frozenset(':*+/\\<>"|?')
"""In `--style NAME:EXEMPLAR*SHARE+...`, or in paths of one system or another."""
_DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in "123456789"
}
"""No names of files on Windows, with any ending."""


def why_no_name(name: str) -> str:
    """Why a folder of a run, and a style that `--style` names, cannot be called so; "" if they can.

    The same on every system, so that what is trained on one can be used on another.
    """
    if bad := sorted(letter for letter in set(name) if letter in _MEANS_SOMETHING):
        return f"must not have {' '.join(bad)} in it"
    if not name.isprintable():
        return "must not have control characters in it"
    if name[:1] in (".", "-", " ") or name[-1:] in (".", " "):
        return "must not begin with a dot, a dash or a space, nor end with a dot or a space"
    if name.partition(".")[0].lower() in _DEVICES:
        return "is the name of a device on Windows; choose another"
    return ""
