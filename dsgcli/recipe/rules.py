"""Allowed values of a recipe's field: ranges and choices, written into its type.

`steps: Count = 1500` says both that the value is an int and that it is at least 1, so the reader of
recipe files can list every problem at once, and a recipe built in Python meets the same rules.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from dsgcli.errors import RecipeError

MAX_COUNT = 2**31 - 1
"""Largest number of steps, pictures or rows; more is a slip of the finger."""
MAX_FLOAT = sys.float_info.max
MAX_SEED = 2**63 - 1
"""Largest seed that torch takes."""


@dataclass(frozen=True, slots=True)
class Range:
    """An inclusive range of numbers."""

    low: float
    high: float = float("inf")

    def wanted(self, value: float) -> str:
        """The rule that a number out of range breaks, as the rest of "must ..."."""
        if self.high >= MAX_COUNT:
            if value > min(self.high, MAX_FLOAT):
                return "be finite" if self.high == float("inf") else f"be at most {self.high}"
            return "not be negative" if self.low == 0 else f"be at least {self.low:g}"
        return f"be from {_number(self.low)} to {_number(self.high)}"

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high and abs(value) <= MAX_FLOAT


@dataclass(frozen=True, slots=True)
class Free:
    """Marks a field that may change between the starts of one run: it does not change results."""


Count = Annotated[int, Range(1, MAX_COUNT)]
Whole = Annotated[int, Range(0, MAX_COUNT)]
Seed = Annotated[int, Range(0, MAX_SEED)]
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
                yield f"{name} must {mark.wanted(value)}, got {_number(value)}"


def _number(value: float) -> str:
    """An int with all its digits, if they are not too many; a float in short."""
    if isinstance(value, int) and abs(value) < 10**20:
        return str(value)
    try:
        return f"{value:g}"
    except OverflowError:  # an int beyond all floats
        return "a number of hundreds of digits"


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
