"""Styles to look at and to extend: galleries tell the truth, added exemplars come back by name."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from command import dsg
from PIL import Image

from dsgcli.errors import NoFaceError, OutputExistsError, RecipeError, UsageError
from dsgcli.faces.align import crop_whole
from dsgcli.generate import people as people_module
from dsgcli.generate.exemplars import AddOptions, first_codes, pick_features
from dsgcli.generate.exemplars import run as add
from dsgcli.generate.gallery import (
    CaptionedPicture,
    ShowOptions,
    default_output,
    draw_gallery,
    page_of,
    plan_gallery,
    show,
)
from dsgcli.media.images import read_image, write_image
from dsgcli.portraits import load_portraits, to_pixels
from dsgcli.store import ModelStore
from dsgcli.training.drawn import draw_portrait
from dsgcli.types import StyleRef

CPU = {"device": "cpu"}


def drawn_by_codes(store, name, number, weight=1.0):
    """An exemplar, drawn by the network itself."""
    style, model = store.style(name), store.generator(name)
    instyle = style.default if style.instyle is None else style.instyle
    ws = model.generator.map_plus(instyle[number : number + 1])
    exstyle_ws = model.generator.map_plus(style.default[number : number + 1])
    with torch.no_grad():
        return to_pixels(model(ws, exstyle_ws, [weight] * model.layout.num_latents))[0]


def near(a, b):
    difference = np.abs(a.astype(int) - b.astype(int))
    return difference.max() <= 1 and (difference > 0).mean() < 0.01


def pictures_of(page):
    """Those inside a page."""
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in found]


# ── galleries ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["toon", "ink"])
def test_a_gallery_draws_each_exemplar_from_its_codes(only_tiny_store, name):
    gallery = plan_gallery(ShowOptions(name=name, precision="fp32", **CPU))
    pictures = draw_gallery(gallery)
    assert gallery.numbers == [0, 1, 2, 3, 4]
    assert pictures[3].caption == f"3: {only_tiny_store.style(name).names[3][:-4]}"
    for number in (0, 3):
        wanted = drawn_by_codes(only_tiny_store, name, number)
        assert near(pictures[number].pixels, wanted)


def test_one_exemplar_is_shown_at_several_weights(only_tiny_store):
    pictures = draw_gallery(plan_gallery(ShowOptions(name="toon:cy", precision="fp32", **CPU)))
    captions = [shown.caption for shown in pictures]
    assert captions == ["toon-cy", *(f"weight {w:g}" for w in (0, 0.25, 0.5, 0.75, 1))]
    assert near(pictures[1].pixels, drawn_by_codes(only_tiny_store, "toon", 2, 0.0))
    assert near(pictures[3].pixels, drawn_by_codes(only_tiny_store, "toon", 2, 0.5))
    np.testing.assert_array_equal(pictures[0].pixels, pictures[5].pixels)


def test_a_page_needs_no_other_file(only_tiny_store, tmp_path):
    done = show(ShowOptions(name="toon", output=tmp_path / "a.html", precision="fp32", **CPU))
    page = (tmp_path / "a.html").read_text("utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    found = pictures_of(page)
    assert len(found) == len(done["exemplars"]) == 5
    difference = np.asarray(found[1], float) - drawn_by_codes(only_tiny_store, "toon", 1)
    assert np.abs(difference).mean() < 12  # WebP
    assert "--style toon:4" in page and "license: MIT" in page


def test_a_page_escapes_names(only_tiny_store):
    gallery = plan_gallery(ShowOptions(name="ink", **CPU))
    pictures = [CaptionedPicture(caption="<script>", pixels=np.zeros((8, 8, 3), np.uint8))]
    assert "<script>" not in page_of(gallery, pictures)


def test_a_sheet_is_one_picture(only_tiny_store, tmp_path):
    show(ShowOptions(name="toon", output=tmp_path / "a.png", **CPU))
    with Image.open(tmp_path / "a.png") as sheet:
        assert 3 * 64 < sheet.width < 4 * 64 and 2 * 64 < sheet.height < 3 * 64


@pytest.mark.parametrize(
    ("name", "file"),
    [("toon", "toon.png"), ("toon:3", "toon-3.png"), ("toon:ada.png", "toon-ada.png")],
)
def test_galleries_are_named_after_what_they_show(name, file):
    assert default_output(name).name == file


def test_a_gallery_does_not_overwrite(only_tiny_store, tmp_path):
    (tmp_path / "toon.png").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        show(ShowOptions(name="toon", **CPU))
    with pytest.raises(UsageError, match="sheet"):
        show(ShowOptions(name="toon", output=tmp_path / "a.mp4", **CPU))
    assert [p.name for p in tmp_path.iterdir()] == ["toon.png"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["toon:17"], 2, "0 to 4"), (["tune"], 4, "did you mean toon"), (["toon:"], 2, "no style")],
)
def test_the_command_refuses_what_is_not_there(only_tiny_store, tmp_path, words, code, said):
    result = dsg("styles", "show", *words)
    assert result.exit_code == code and said in result.stderr
    assert not list(tmp_path.glob("*"))


def test_the_command_writes_where_it_cannot_draw(only_tiny_store, tmp_path):
    result = dsg("styles", "show", "ink:hen", "--json")
    assert result.json["exemplars"] == [{"number": 2, "name": "hen.png"}]
    assert (tmp_path / result.json["output"]).is_file()


# ── exemplars of one's own ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "mine.png"
    write_image(path, draw_portrait(3, 256, "pop"))
    return path


def test_an_added_exemplar_can_be_drawn_by_name(only_tiny_store, picture):
    before = only_tiny_store.style("toon")
    done = add(AddOptions(name="toon", picture=picture, label="me", refine=2, **CPU))
    store = ModelStore.open()  # the folder was made just now
    after = store.style("toon")
    assert after.names == (*before.names, "me") and done["number"] == 5
    assert torch.equal(after.default[:5], before.default)
    assert after.instyle is not None and torch.equal(after.instyle[:5], before.instyle)
    assert store.resolve(StyleRef.parse("toon:me")).exemplars == ("me",)
    assert not torch.equal(after.refined[5], after.exstyle[5])


def test_without_refinement_it_is_the_encoders_code(only_tiny_store, picture):
    add(AddOptions(name="ink", picture=picture, refine=0, aligned="yes", **CPU))
    portraits = load_portraits(only_tiny_store, "ink", encoder="z+", precision="fp32", **CPU)
    crop = crop_whole(read_image(picture), portraits.crop_px)
    code = ModelStore.open().style("ink").default[5]
    assert torch.equal(code, portraits.encode([crop.pixels])[0])


def test_refinement_brings_the_drawing_nearer(only_tiny_store, picture):
    done = add(AddOptions(name="toon", picture=picture, refine=20, aligned="yes", **CPU))
    before, after = done["distance"]
    assert after < 0.98 * before
    assert done["measured_by"] == "encoder"  # the tiny base has no discriminator


def test_the_intrinsic_code_keeps_the_pictures_colors(only_tiny_store):
    portraits = load_portraits(only_tiny_store, "toon", precision="fp32", **CPU)
    exstyle, instyle = first_codes(portraits, draw_portrait(1, 64, "ink"))
    colors = portraits.layout.destylized_color
    assert torch.equal(instyle[:, colors], exstyle[:, colors])
    assert not torch.equal(instyle[:, : colors.start], exstyle[:, : colors.start])


def test_the_discriminator_of_the_base_measures_where_there_is_one(only_tiny_store, monkeypatch):
    from dsgcli.generate import exemplars
    from dsgcli.models.stylegan2 import Discriminator

    portraits = load_portraits(only_tiny_store, "toon", **CPU)
    config = portraits.generator.config.generator
    monkeypatch.setattr(exemplars, "load_discriminator", lambda *_: Discriminator(config))
    features = pick_features(only_tiny_store, only_tiny_store.style("toon"), portraits)
    assert features.name == "discriminator"


def test_a_name_that_is_taken_is_refused(only_tiny_store, picture):
    add(AddOptions(name="toon", picture=picture, label="me", refine=0, aligned="yes", **CPU))
    for label in ("me", "ada.png"):
        with pytest.raises(UsageError, match="already"):
            add(AddOptions(name="toon", picture=picture, label=label, refine=0, **CPU))
    again = AddOptions(name="toon", picture=picture, label="me", refine=0, overwrite=True, **CPU)
    assert add(again)["number"] == 5


@pytest.mark.parametrize("label", ["a:b", "a*b", "a+b", "../a", "12", " "])
def test_a_name_that_no_reference_could_say_is_refused(picture, label):
    with pytest.raises(RecipeError, match="--as"):
        AddOptions(name="toon", picture=picture, label=label)


def test_a_picture_without_a_face_adds_nothing(only_tiny_store, picture, monkeypatch, tmp_path):
    class Blind:
        name = "script"

        def detect(self, *_, **__):
            return []

        def close(self):
            pass

    monkeypatch.setattr(people_module, "open_detector", lambda **_: Blind())
    with pytest.raises(NoFaceError):
        add(AddOptions(name="toon", picture=picture, **CPU))
    assert not (tmp_path / "home").exists()


def test_the_command_adds(only_tiny_store, picture):
    result = dsg("styles", "add", "ink", picture, "--refine", 0, "--aligned", "yes", "--json")
    assert result.exit_code == 0 and result.json["exemplar"] == "mine.png"
    listed = dsg("styles", "list", "--json").json["styles"]
    assert next(s for s in listed if s["name"] == "ink")["added"] == 1
    again = dsg("styles", "add", "ink", picture)
    assert again.exit_code == 2 and "already" in again.stderr
