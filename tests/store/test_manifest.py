"""The list of published files: complete, consistent, and read with all its problems at once."""

from __future__ import annotations

import pytest

from dsgcli.errors import ModelMissingError, RecipeError
from dsgcli.store.manifest import Entry, read_manifest, url_of

STYLES = {
    "cartoon": 317,
    "caricature": 199,
    "anime": 174,
    "arcane": 100,
    "comic": 101,
    "pixar": 122,
    "slamdunk": 120,
    "fantasy": 137,
    "illustration": 156,
    "impasto": 120,
}


@pytest.mark.parametrize("style", STYLES)
def test_every_published_style_is_listed_with_what_it_consists_of(style):
    files = {entry.file for entry in read_manifest().select([style])}
    assert {f"{style}/{name}" for name in ("generator.pt", "exstyle_code.npy", "sampler.pt")} <= (
        files
    )
    assert (f"{style}/refined_exstyle_code.npy" in files) == (
        style in ("cartoon", "caricature", "anime")
    )
    assert read_manifest().has_style(style)


def test_every_file_has_a_way_to_get_it_a_license_and_a_use():
    manifest = read_manifest()
    for entry in manifest.files:
        assert entry.pages, entry.name
        assert manifest.licenses[entry.license].summary
        assert entry.needed_for
    assert not manifest.licenses["s-lab"].commercial
    assert not manifest.licenses["nvidia"].commercial


def test_losses_are_one_group():
    files = {entry.kind for entry in read_manifest().select(["losses"])}
    assert files == {"identity", "vgg16", "vgg19", "lpips"}


def test_all_is_everything_and_names_combine():
    manifest = read_manifest()
    assert manifest.select(["all"]) == list(manifest.files)
    both = manifest.select(["encoder", "arcane", "arcane/sampler"])
    assert [entry.file for entry in both] == [
        "encoder.pt",
        "arcane/generator.pt",
        "arcane/exstyle_code.npy",
        "arcane/sampler.pt",
    ]


def test_unknown_name_offers_near_ones():
    with pytest.raises(ModelMissingError, match=r"no published model is called 'arcan'.*arcane"):
        read_manifest().select(["arcan"])


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("hf:a/b@main/c/d.pt", "https://huggingface.co/a/b/resolve/main/c/d.pt"),
        (
            "drive:XYZ",
            "https://drive.usercontent.google.com/download?id=XYZ&export=download&confirm=t",
        ),
        ("https://x.org/y", "https://x.org/y"),
    ],
)
def test_source_is_an_address(source, url):
    assert url_of(source) == url


def test_page_for_a_browser_comes_first():
    entry = Entry(
        name="a", file="a", kind="codes", license="l", needed_for="x", sources=("https://x/y",)
    )
    assert entry.pages == ("https://x/y",)


GOOD = """
[licenses.x]
title = "X"
summary = "Free."
url = "https://x"
commercial = true

[[file]]
name = "a"
file = "a.pt"
kind = "generator"
license = "x"
needed_for = "tests"
sources = ["https://x/a.pt"]
"""


def test_manifest_of_ones_own_is_read(tmp_path):
    path = tmp_path / "manifest.toml"
    path.write_text(GOOD)
    assert read_manifest(path).files[0].urls == ("https://x/a.pt",)


def test_all_problems_are_told_at_once(tmp_path):
    path = tmp_path / "manifest.toml"
    path.write_text(
        GOOD
        + """
[[file]]
name = "b"
kind = "generator"
license = "x"
size = "big"
color = "red"
needed_for = "tests"
"""
    )
    with pytest.raises(RecipeError) as error:
        read_manifest(path)
    assert error.value.problems == (
        "file 'b': missing key 'file'",
        "file 'b': size must be int, got 'big'",
        "file 'b': unknown key 'color'",
    )


def test_contradictions_are_told_at_once(tmp_path):
    path = tmp_path / "manifest.toml"
    bad = GOOD.partition("[[file]]")[2].replace('"x"', '"y"').replace("generator", "poem")
    bad = bad.replace('"a.pt"', '"../a.pt"').replace("https://x", "ftp://x")
    path.write_text(GOOD + "[[file]]" + bad + 'sha256 = "123"\nknown = "rumor"\n')
    with pytest.raises(RecipeError) as error:
        read_manifest(path)
    told = "\n".join(error.value.problems)
    for part in ("'a' occurs more than", "no license 'y'", "no kind 'poem'", "leaves the folder"):
        assert part in told
    for part in ("none of hf:, drive:, https:", "a bad sha256", "known must be"):
        assert part in told


def test_manifest_that_is_no_toml_is_told(tmp_path):
    path = tmp_path / "manifest.toml"
    path.write_text("[[file")
    with pytest.raises(RecipeError, match="1 problem"):
        read_manifest(path)
