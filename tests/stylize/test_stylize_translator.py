"""A style of a translator through every job: nothing above the pipeline knows which kind runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import small_translator
from stylize.staging import (
    Actor,
    Listener,
    Play,
    make_crew,
    make_studio,
    perform,
    read_clip,
    same_clip,
    still,
    write_clip,
)
from tiny_store import write_tiny_store

from dsgcli.errors import NoFaceError, UsageError
from dsgcli.generate.destylize import DestylizeOptions, destylize
from dsgcli.generate.exemplars import AddOptions
from dsgcli.generate.exemplars import run as add_exemplar
from dsgcli.generate.gallery import ShowOptions, show
from dsgcli.generate.interpolate import InterpolateOptions
from dsgcli.generate.interpolate import run as interpolate
from dsgcli.generate.sample import SampleOptions, prepare
from dsgcli.media.images import read_image, write_image
from dsgcli.models.style_sampler import SamplerConfig, StyleSampler
from dsgcli.pipeline import SHARP_PX, USUAL_PX, TranslatorPipeline, load_pipeline
from dsgcli.portraits import Look
from dsgcli.store import ModelStore
from dsgcli.store.places import Root
from dsgcli.store.write import save_translator, save_translator_style
from dsgcli.types import StyleRef, StyleWeights

STYLE = {"style": ("sketch",), "size": None}
WALK = Play(10, lambda i: [Actor(50 + 2 * i), Actor(115, color=(60, 110, 240))])
CPU = {"device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """The tiny store with a translator and two styles of it, `sketch` with a sampling network."""
    root = write_tiny_store(tmp_path_factory.mktemp("models"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        translator, path = small_translator(), root / "default" / "translator.safetensors"
        save_translator(path, translator)
        config = SamplerConfig(layout=translator.layout, style_dim=8, noise_dim=6)
        for name, sampler in (("sketch", StyleSampler(config).eval()), ("wash", None)):
            save_translator_style(
                root / "default" / f"{name}.safetensors",
                torch.randn(3, 14, 8),
                ("ada.png", "bo.png", "cy.png"),
                translator=path,
                sampler=sampler,
            )
    return root


@pytest.fixture
def store(models):
    return ModelStore([Root(models, "tests")])


@pytest.fixture
def pipeline(store):
    return load_pipeline(store, "sketch", **CPU)


def crops(side=64, count=2):
    return list(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def look(pipeline, weight=1.0, **other):
    code = torch.randn(pipeline.layout.num_latents, 8)
    return Look(exstyle=code, weights=StyleWeights((weight,) * 14), **other)


# ── the pipeline ─────────────────────────────────────────────────────────────────────────────────


def test_weights_of_zero_give_the_photograph(pipeline):
    drawn = pipeline.draw_crops(crops(), pipeline.encode(crops()), look(pipeline, 0.0), 64)
    np.testing.assert_array_equal(drawn, np.stack(crops()))


def test_a_portrait_is_the_translators(pipeline):
    style = look(pipeline, 0.6)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    wanted = pipeline.translator(images, style.exstyle[None], style.weights.layers)
    torch.testing.assert_close(pipeline.draw_images(images, style), wanted, atol=1e-4, rtol=1e-4)


def test_preserved_color_is_a_weight_of_zero_in_color_rows(pipeline):
    style = look(pipeline, preserve_color=True)
    only_structure = StyleWeights((1.0,) * 7 + (0.0,) * 7)
    images = torch.rand(1, 3, 64, 64)
    wanted = pipeline.draw_images(images, Look(exstyle=style.exstyle, weights=only_structure))
    assert pipeline.draw_images(images, style).equal(wanted)


def test_crops_are_larger_where_the_face_is_large(pipeline):
    assert pipeline.crop_size(200.0) == USUAL_PX
    assert pipeline.crop_size(600.0) == SHARP_PX


@pytest.mark.parametrize("size", [100, 0, -32, 1 << 20])
def test_sizes_are_multiples_of_the_stride(store, size):
    with pytest.raises(UsageError, match="multiple of 32"):
        load_pipeline(store, "sketch", size=size, **CPU)


def test_a_larger_crop_is_shrunk_to_the_portraits_size(pipeline):
    drawn = pipeline.draw_crops(crops(128), pipeline.encode(crops(128)), look(pipeline), 64)
    assert drawn.shape == (2, 64, 64, 3)


# ── the loop ─────────────────────────────────────────────────────────────────────────────────────


def test_faces_are_drawn_with_default_weights_of_one(models):
    studio = make_studio(models, WALK.detector, **STYLE)
    assert set(studio.casts[0].role.look.weights.layers) == {1.0}
    drawn = perform(models, WALK, **STYLE)
    assert [len(d.shot.crops) for d in drawn] == [2] * 10
    changed = [np.abs(d.pictures[0].pixels.astype(int) - d.shot.frame.pixels).max() for d in drawn]
    assert min(changed) > 10


def test_both_kinds_of_style_are_drawn_in_one_run(models):
    alone = [perform(models, WALK, style=(s,), size=64) for s in ("sketch", "toon")]
    both = perform(models, WALK, style=("sketch", "toon"), size=64)
    for number, lonely in enumerate(alone):
        for one, other in zip(both, lonely, strict=True):
            difference = one.pictures[number].pixels.astype(int) - other.pictures[0].pixels
            assert np.abs(difference).max() <= 1


def test_the_size_of_a_track_does_not_flicker(models):
    """About the bound the face of a track grows and shrinks; its portraits keep one size."""
    bound = 352 / 1.44
    play = Play(12, lambda i: [Actor(300, 250, size=bound + 30 * (-1) ** i)])
    studio = make_studio(models, play.detector, **STYLE)
    watcher = make_crew(studio).watcher()
    sides = []
    for index in range(12):
        frame = play.frame(0)
        found = play.detector.detect(type(frame)(pixels=frame.pixels, index=index))
        sides += [watcher._side(face) for face in found]
    assert len(set(sides)) == 1


def test_a_face_that_comes_near_is_drawn_larger(models):
    studio = make_studio(models, WALK.detector, **STYLE)
    watcher = make_crew(studio).watcher()
    play = Play(2, lambda i: [Actor(300, 250, size=(150, 400)[i])])
    pipeline = studio.casts[0].role.portraits
    frame = play.frame(0)
    sizes = []
    for index in range(2):
        (face,) = play.detector.detect(type(frame)(pixels=frame.pixels, index=index))
        sizes.append(pipeline.crop_size(watcher._side(face)))
    assert sizes == [USUAL_PX, SHARP_PX]


def test_a_video_goes_on_where_it_was_stopped(stage, models, tmp_path, short_segments):
    clip = write_clip(tmp_path / "clip.mkv", WALK.frames)
    options = {**STYLE, "size": 64, "pretrained": models, "crf": 10}
    stage(WALK)
    stage.run(clip, output="whole.mkv", **options)

    class Stop(Listener):
        def advance(self, steps=1, **figures):
            self.count = getattr(self, "count", 0) + 1
            if self.count == 7:
                raise KeyboardInterrupt

    with pytest.raises(Exception, match="goes on from frame 4"):
        stage.run(clip, output="parts.mkv", progress=Stop(), **options)
    stage.run(clip, output="parts.mkv", **options)
    assert same_clip(tmp_path / "whole.mkv", tmp_path / "parts.mkv")


def test_cropped_frames_of_a_video_have_one_size(stage, models, tmp_path):
    play = Play(6, lambda i: [Actor(80, seen=i > 1)])
    stage(play)
    clip = write_clip(tmp_path / "clip.mkv", play.frames)
    stage.run(clip, output="crop.mkv", crop=True, pretrained=models, **STYLE)
    assert {frame.size_px for frame in read_clip(tmp_path / "crop.mkv")} == {(USUAL_PX, USUAL_PX)}


def test_refining_a_code_is_refused(models):
    with pytest.raises(UsageError, match="drop --refine"):
        make_studio(models, None, style=("sketch",), refine=5)


# ── exemplars of one's own ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    write_image(path, Play(1, still(Actor(80))).frame(0).pixels)
    return path


def test_an_exemplar_is_one_pass_of_the_style_encoder(stage, models, picture, tmp_path):
    stage(Play(1, still(Actor(80))))
    stage.run(picture, output="own.png", exemplar=picture, pretrained=models, **STYLE)
    stage.run(picture, output="first.png", pretrained=models, **STYLE)
    own, first = (read_image(tmp_path / name).pixels for name in ("own.png", "first.png"))
    assert not np.array_equal(own, first)


def test_an_exemplar_without_a_face_is_refused(stage, models, picture):
    stage(Play(1, still()))
    with pytest.raises(UsageError, match="no face found in the exemplar"):
        stage.run(picture, output="own.png", exemplar=picture, pretrained=models, **STYLE)


def test_an_exemplar_is_added_without_fitting(models, store, picture, tmp_path, monkeypatch):
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)  # where the sheet goes
    options = AddOptions(
        name="sketch", picture=picture, label="me", aligned="yes", pretrained=models, device="cpu"
    )
    done = add_exemplar(options)
    assert (done["number"], done["steps"]) == (3, 0)
    assert (tmp_path / done["sheet"]).is_file()
    found = ModelStore.open(models).resolve(StyleRef.parse("sketch:me"))
    pipeline = load_pipeline(store, "sketch", **CPU)
    assert isinstance(pipeline, TranslatorPipeline)
    assert found.exstyle.shape == (14, 8)
    write_image(picture, np.zeros((64, 64, 3), np.uint8), overwrite=True)
    with pytest.raises(NoFaceError):
        add_exemplar(
            AddOptions(name="sketch", picture=picture, label="you", pretrained=models, device="cpu")
        )


def test_a_translators_portraits_are_destylized_by_its_base_and_itself(models, picture, tmp_path):
    def recovered(steps):
        output = tmp_path / f"{steps}.png"
        made = DestylizeOptions(
            source=picture,
            style="sketch",
            pretrained=models,
            device="cpu",
            output=output,
            steps=steps,
        )
        scores = destylize(made)["scores"]
        return read_image(output), next(iter(scores.values()))

    (first, before), (last, after) = recovered(1), recovered(20)
    assert first.size_px == last.size_px
    assert after < before


# ── random people, ways between codes ────────────────────────────────────────────────────────────


def images(models, **options):
    options = {"n": 2, "size": 64, "pretrained": models, "device": "cpu", **options}
    return torch.stack(list(prepare(SampleOptions(**options)).images))


def test_random_people_are_translated(models):
    drawn, plain = images(models, style="sketch"), images(models, style="sketch", plain=True)
    assert drawn.shape == (2, 3, 64, 64)
    assert (drawn - plain).abs().max() > 0.05
    none = images(models, style="sketch", structure=0.0, color=0.0)
    torch.testing.assert_close(none, plain)


@pytest.mark.parametrize("style", ["sketch", "wash"])
def test_random_styles_come_from_the_sampler_or_mix_exemplars(models, style):
    fixed = {"fix_content": True, "style": style}
    drawn = images(models, style_random=True, **fixed)
    assert (drawn[0] - drawn[1]).abs().max() > 0.01


def test_layers_of_a_translator_are_not_swapped(models):
    with pytest.raises(UsageError, match="--layer-swap"):
        images(models, style="sketch", layer_swap=True)


@pytest.mark.parametrize(
    "choices",
    [
        {"style": ("sketch:0", "sketch:1")},
        {"style": ("sketch:0", "wash:1"), "axis": "color", "space": "z+"},
        {"style": ("sketch",), "content": ("0", "1"), "axis": "content"},
        {"style": ("sketch",), "axis": "weight"},
        {"style": ("sketch",), "matrix": (2, 2)},
        {"style": ("sketch",), "sweep": "structure,color"},
    ],
)
def test_ways_and_figures_are_drawn(models, tmp_path, choices):
    target = tmp_path / "way.png"
    frames = {} if "matrix" in choices or "sweep" in choices else {"frames": 3}
    shared = {"size": 64, "pretrained": models, "device": "cpu", "output": target, **frames}
    done = interpolate(InterpolateOptions(**shared, **choices))
    assert done["size_px"] == 64
    assert read_image(target).pixels.std() > 1


def test_a_gallery_shows_every_exemplar(models, tmp_path):
    target = tmp_path / "sketch.html"
    done = show(ShowOptions(name="sketch", output=target, pretrained=models, device="cpu"))
    assert [exemplar["name"] for exemplar in done["exemplars"]] == ["ada.png", "bo.png", "cy.png"]
    assert target.read_text("utf-8").count("<img") == 3
    assert json.dumps(done)
