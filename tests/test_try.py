"""`dsg try`: one person in every style, on a page that needs nothing else."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import matplotlib
import pytest
from command import dsg
from PIL import Image


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """A public-domain portrait that matplotlib brings, under a name with a space."""
    source = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    path = tmp_path / "my photo.jpg"
    path.write_bytes(source.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    return path


def test_page_has_a_command_for_every_picture(photo):
    done = dsg("try", photo.name, "--count", "2", "--json")
    assert done.exit_code == 0, done.stderr
    styles = done.json["styles"]
    assert {"toon", "comic", "noir", "neon"} <= styles.keys()
    page = Path(done.json["page"]).read_text("utf-8")
    pictures = sum(map(len, styles.values()))
    assert page.count("data:image/webp") == pictures + 1  # and the photograph
    assert not re.search(r"""(src|href)=["']?http""", page)
    commands = re.findall(r'data-command="(.*?)"', page)
    assert len(commands) == pictures
    words = shlex.split(commands[0].replace("&#x27;", "'"))
    assert words == ["dsg", "stylize", "my photo.jpg", "--style", styles["toon"][0]]
    assert dsg(*words[1:], "-o", "drawn.png", "-q").exit_code == 0
    with Image.open(done.json["sheet"]) as sheet:
        assert sheet.width > 3 * 192 and sheet.height > len(styles) * 192


def test_second_run_writes_beside_the_first(photo):
    pages = [
        dsg("try", photo.name, "-s", "noir", "--count", "1", "--json").json["page"] for _ in "12"
    ]
    assert pages == ["my photo_try.html", "my photo_try-2.html"]
    Path("mine.html").write_text("my own page")
    refused = dsg("try", photo.name, "-s", "noir", "--count", "1", "-o", "mine.html")
    assert refused.exit_code != 0 and Path("mine.html").read_text() == "my own page"


def test_what_cannot_be_tried_is_one_sentence(photo, tmp_path):
    Image.new("RGB", (300, 300), "gray").save(tmp_path / "wall.png")
    for words, message in [
        (["wall.png"], "no face"),
        ([photo.name, "--face", "3"], "has one face, number 0"),
        ([photo.name, "--style", "nosuch"], "no style 'nosuch'"),
        ([photo.name, "-o", "page.png"], "ends in .html"),
    ]:
        done = dsg("try", *words)
        assert done.exit_code in (2, 3, 4), words
        assert message in " ".join(done.stderr.split())
    assert not list(tmp_path.glob("*_try*"))
