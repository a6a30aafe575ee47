"""The flags of `dsg stylize` are the fields of StylizeOptions: same names, same defaults."""

from __future__ import annotations

from dataclasses import MISSING, fields
from fractions import Fraction
from pathlib import Path

import pytest

from dsgcli.cli.options import Look
from dsgcli.cli.stylize import options_of, seconds, style_and_exemplar
from dsgcli.cli.stylize_options import Faces, Files, Paste, Video, Workers
from dsgcli.errors import DsgError, UsageError
from dsgcli.stylize.options import StylizeOptions

GROUPS = (Files, Look, Faces, Paste, Video, Workers)
NOT_OPTIONS = {"input", "output", "no_smooth"}
"""Flags that are arguments of their own, or another way to write one."""


def flags():
    return {f.name: f for group in GROUPS for f in fields(group)}


def default(field):
    return field.default if field.default_factory is MISSING else field.default_factory()


def options(**changed):
    """StylizeOptions as the command makes them, with some flags given."""
    groups = []
    for group in GROUPS:
        mine = {f.name: changed.pop(f.name) for f in fields(group) if f.name in changed}
        groups.append(group(**mine))
    assert not changed
    return options_of(*groups)


def test_flags_are_the_fields_of_the_options():
    assert set(flags()) - NOT_OPTIONS == {f.name for f in fields(StylizeOptions)}


def test_nothing_given_is_the_library_default():
    assert options() == StylizeOptions()


@pytest.mark.parametrize("name", [f.name for f in fields(StylizeOptions)])
def test_defaults_shown_in_help_are_those_of_the_library(name):
    shown, real = default(flags()[name]), getattr(StylizeOptions(), name)
    assert (tuple(shown) if isinstance(shown, list) else shown) == (real if real != () else None)


def test_values_of_more_than_one_word_are_read():
    made = options(
        weights="0.5, 1 1",
        start="1:02.5",
        codec_option=["tune=film"],
        style=["a:1", "b"],
        face_style=["0=a:3"],
        no_smooth=True,
    )
    assert made.weights == (0.5, 1.0, 1.0)
    assert made.start == Fraction(125, 2)
    assert made.codec_option == ("tune=film",)
    assert made.style == ("a:1", "b")
    assert made.face_style == ("0=a:3",)
    assert made.smooth == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("75", 75), ("1:15", 75), ("0:01:15.5", Fraction(151, 2)), (".5", Fraction(1, 2))],
)
def test_times_are_exact(text, expected):
    assert seconds("--start", text) == expected


@pytest.mark.parametrize("text", ["soon", "1:2:3:4", "-3", "1:-2", "", "1/0"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match="--end"):
        seconds("--end", text)


def test_an_exemplar_is_a_number_or_name_of_every_style():
    assert style_and_exemplar(["a", "b"], "12") == (("a:12", "b:12"), None)


def test_an_exemplar_that_is_a_file_is_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("me.jpg").touch()
    assert style_and_exemplar(["a"], "me.jpg") == (("a",), Path("me.jpg"))


def test_a_path_that_is_not_there_is_told_as_a_picture_not_as_a_name():
    assert style_and_exemplar(["a"], "pictures/me.jpg") == (("a",), Path("pictures/me.jpg"))


def test_options_that_contradict_each_other_are_refused_before_any_work():
    with pytest.raises(DsgError, match="end"):
        options(start="10", end="5")
