"""Style references as people write them."""

from __future__ import annotations

import pytest

from dsgcli.errors import StyleRefError
from dsgcli.types import StyleRef


@pytest.mark.parametrize(
    ("text", "style", "exemplar"),
    [
        ("noir", "noir", None),
        ("noir:3", "noir", "3"),
        ("noir:a b.png", "noir", "a b.png"),
        ("x:1", "x", "1"),
        ("models/noir.safetensors:3", "models/noir.safetensors", "3"),
        (r"C:\models\noir.safetensors", r"C:\models\noir.safetensors", None),
        (r"C:\models\noir.safetensors:3", r"C:\models\noir.safetensors", "3"),
        ("d:/models/noir:portrait 07", "d:/models/noir", "portrait 07"),
    ],
)
def test_a_reference_is_a_style_and_its_exemplar(text, style, exemplar):
    (term,) = StyleRef.parse(text).terms
    assert (term.style, term.exemplar, term.share) == (style, exemplar, 1.0)
    assert str(StyleRef.parse(text)) == text


def test_shares_of_a_blend_sum_to_one():
    blend = StyleRef.parse("noir:1*3 + noir:2")
    assert [(t.exemplar, t.share) for t in blend.terms] == [("1", 0.75), ("2", 0.25)]


@pytest.mark.parametrize("text", ["", ":3", "noir:", "noir*0", "noir*x", "noir*inf", "a:1+b:1"])
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(StyleRefError):
        StyleRef.parse(text)
