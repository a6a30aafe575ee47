"""Batches of inputs, through the library: what is skipped, what is refused, what one bad file does
to the others, and what is said at the end."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media.clips import write_clip as write_torture
from media.clips import write_sound
from PIL import Image
from stylize.staging import (
    BLUE,
    FACE_PX,
    RATE,
    Actor,
    Listener,
    Play,
    difference,
    make_studio,
    paint,
    read_clip,
    same_clip,
    still,
    write_clip,
)

from dsgcli.errors import (
    NoFaceError,
    OutputExistsError,
    RecipeError,
    SinkError,
    SourceError,
    SourceMissingError,
    UsageError,
)
from dsgcli.media.images import read_image, write_image
from dsgcli.media.read import open_source, read_metadata
from dsgcli.portraits import Portraits
from dsgcli.stylize.options import StylizeOptions
from dsgcli.stylize.settings import _IRRELEVANT, KEY, is_made, job_keys

HERE = Actor(80)


@pytest.fixture
def picture(stage, tmp_path):
    """A photograph of one face."""
    stage(Play(1, still(HERE)))
    write_image(tmp_path / "a.png", paint([HERE]))
    return tmp_path / "a.png"


@pytest.fixture
def folder(stage, tmp_path):
    """Three photographs and a video of the same face."""
    stage(play := Play(6, still(HERE)))
    (tmp_path / "in").mkdir()
    for number in range(3):
        write_image(tmp_path / "in" / f"{number}.png", paint([HERE], scene=2 * number))
    write_clip(tmp_path / "in" / "clip.mp4", play.frames)
    return tmp_path / "in"


def states(summary):
    return {result.source.name: result.status for result in summary.files}


def visible(path):
    return sorted(p.name for p in path.iterdir())


# ── stills ───────────────────────────────────────────────────────────────────────────────────────


def test_a_photograph_is_drawn_and_the_rest_of_it_stays(stage, picture, tmp_path):
    summary = stage.run(picture, output="b.png")
    drawn, before = read_image(tmp_path / "b.png").pixels, paint([HERE])
    assert drawn.shape == before.shape
    assert difference(drawn[40:80, 60:100], before[40:80, 60:100]) > 5
    np.testing.assert_array_equal(drawn[:, :45], before[:, :45])
    (result,) = summary.files
    assert (result.status, result.frames, result.faces) == ("done", 1, 1)
    assert result.outputs == [tmp_path / "b.png"]


def test_the_same_command_makes_the_same_bytes(stage, picture, tmp_path):
    for name in ("b.png", "c.png"):
        stage.run(picture, output=name)
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()


def test_a_photograph_without_a_face_leaves_nothing(stage, picture, tmp_path):
    stage(Play(1, still()))
    with pytest.raises(NoFaceError, match="--aligned yes"):
        stage.run(picture, output="b.png")
    assert visible(tmp_path) == ["a.png"]


def test_an_aligned_photograph_becomes_its_portrait(stage, picture, tmp_path):
    stage(Play(1, still()))
    stage.run(picture, output="b.png", aligned="yes")
    assert read_image(tmp_path / "b.png").pixels.shape == (32, 32, 3)


@pytest.mark.parametrize(("size", "side"), [(None, 64), (16, 16), (32, 32)])
def test_portraits_may_be_smaller_than_the_model_draws_them(stage, picture, tmp_path, size, side):
    stage.run(picture, output="b.png", crop=True, size=size)
    assert read_image(tmp_path / "b.png").pixels.shape == (side, side, 3)


def test_a_size_that_the_model_cannot_draw_is_refused(stage, picture):
    with pytest.raises(UsageError, match="--size"):
        stage.run(picture, output="b.png", size=128)


def test_transparency_of_the_head_alone_is_written(stage, picture, tmp_path):
    stage.run(picture, output="b.png", alpha=True)
    alpha = read_image(tmp_path / "b.png").alpha
    assert alpha is not None
    assert (alpha[60, 80], alpha[5, 5]) == (255, 0)
    with pytest.raises(SinkError, match="JPEG"):
        stage.run(picture, output="b.jpg", alpha=True)


def test_face_numbers_that_are_not_there_are_named(stage, picture, tmp_path):
    stage(Play(1, lambda i: [Actor(40), Actor(120)]))
    with pytest.raises(NoFaceError, match=r"no face 7; there are faces 0 to 1, .*\(--faces\)"):
        stage.run(picture, output="b.png", faces="7,")
    assert not (tmp_path / "b.png").exists()
    summary = stage.run(picture, output="b.png", faces="0,5", face_style=("6=ink:2", "1=ink:2"))
    assert summary.files[0].faces == 1
    notes = " ".join(summary.files[0].notes)
    assert "no face 5; there are faces 0 to 1, from the left (--faces)" in notes
    assert "no face 6; there are faces 0 to 1, from the left (--face-style)" in notes


def test_a_folder_tells_each_picture_without_the_face_of_that_number(stage, folder):
    (folder / "clip.mp4").unlink()
    summary = stage.run(folder, output="out", faces="3,")
    assert set(states(summary).values()) == {"failed"}
    assert all("no face 3; there is only face 0" in str(file.error) for file in summary.files)


def test_a_video_without_the_face_of_that_number_says_so(stage, folder, tmp_path):
    with pytest.raises(NoFaceError, match="no face 3; there is only face 0"):
        stage.run(folder / "clip.mp4", output="out.mp4", faces="3,")
    assert visible(tmp_path) == ["in"]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_one_name_that_the_system_refuses_fails_alone(stage, folder, tmp_path, workers):
    """A folder lies where one output belongs, as on a disk that refuses one name."""
    (folder / "clip.mp4").unlink()
    stage.run(folder / "0.png", output="first", aligned="yes")
    (name,) = visible(tmp_path / "first")
    (tmp_path / "out" / name / "kept").mkdir(parents=True)
    summary = stage.run(folder, output="out", aligned="yes", workers=workers)
    assert states(summary) == {"0.png": "failed", "1.png": "done", "2.png": "done"}
    assert summary.exit_code == 5
    assert (tmp_path / "out" / name / "kept").is_dir()


def test_a_picture_is_not_written_as_a_video(stage, picture, tmp_path):
    with pytest.raises(SinkError, match=r"b\.mp4 is the name of a video, .*a\.png is a picture"):
        stage.run(picture, output="b.mp4")
    assert visible(tmp_path) == ["a.png"]


def test_several_styles_are_several_files(stage, picture, tmp_path):
    summary = stage.run(picture, output="out", style=("toon", "toon:bo.png", "ink:2"))
    assert visible(tmp_path / "out") == ["a_ink-hen.png", "a_toon-ada.png", "a_toon-bo.png"]
    assert summary.files[0].faces == 1
    pixels = [read_image(path).pixels for path in (tmp_path / "out").iterdir()]
    assert all(difference(a, b) > 1 for a, b in [pixels[:2], pixels[1:], pixels[::2]])


def test_two_styles_that_are_one_are_refused(stage, picture):
    with pytest.raises(UsageError, match="same"):
        stage.run(picture, output="out", style=("toon", "toon:ada.png"))


# ── refining, and exemplars of one's own ─────────────────────────────────────────────────────────


def test_refining_says_by_which_loss(stage, picture, tmp_path):
    plain = stage.run(picture, output="b.png")
    assert plain.files[0].notes == []
    refined = stage.run(picture, output="c.png", refine=3)
    (note,) = refined.files[0].notes
    assert "without LPIPS" in note
    assert difference(*(read_image(tmp_path / f"{name}.png").pixels for name in "bc")) > 0


def test_videos_are_not_refined(stage, folder):
    summary = stage.run(folder / "clip.mp4", output="out", refine=3)
    assert not any("refined" in note for note in summary.files[0].notes)


def test_a_picture_may_be_the_exemplar(stage, picture, tmp_path):
    """Its face is encoded once; the result is called after it."""
    write_image(tmp_path / "mine.png", paint([Actor(70, color=BLUE)], scene=1))
    stage.run(picture, output="out", style=("toon:1",))
    stage.run(picture, output="out", exemplar=tmp_path / "mine.png")
    assert visible(tmp_path / "out") == ["a_toon-bo.png", "a_toon-mine.png"]
    one, other = (read_image(path).pixels for path in sorted((tmp_path / "out").iterdir()))
    assert difference(one, other) > 1


def test_an_exemplar_may_be_refined(stage, picture, tmp_path):
    write_image(tmp_path / "mine.png", paint([Actor(70, color=BLUE)], scene=1))
    listener = Listener()
    stage.run(picture, output="b.png", exemplar=tmp_path / "mine.png")
    stage.run(picture, output="c.png", exemplar=tmp_path / "mine.png", refine=3, progress=listener)
    assert any("mine.png: refined" in note for note in listener.notes)
    assert difference(*(read_image(tmp_path / f"{name}.png").pixels for name in "bc")) > 0


def test_an_exemplar_of_a_style_that_encodes_to_w_plus_needs_a_z_plus_encoder(
    stage, picture, tmp_path, monkeypatch
):
    """Extrinsic codes are z+, whatever photographs are encoded to."""
    spaces = []

    def load(store, style, *, encoder, **options):
        spaces.append(encoder)
        return usual(store, style, encoder="auto", **options)

    from dsgcli import pipeline
    from dsgcli.stylize import output_styles

    usual = pipeline.load_portraits
    monkeypatch.setattr(pipeline, "load_portraits", load)
    monkeypatch.setattr(output_styles, "load_portraits", load)
    monkeypatch.setattr(
        Portraits, "space", property(lambda self: "w+" if spaces == ["w+"] else "z+")
    )
    stage.run(picture, output="b.png", exemplar=picture, encoder="w+")
    assert spaces == ["w+", "z+"]


def test_an_exemplar_without_a_face_is_told_before_any_work(stage, picture, tmp_path):
    stage(Play(1, still()))
    with pytest.raises(UsageError, match=r"no face found in the exemplar .*a\.png"):
        stage.run(picture, output="b.png", exemplar=picture)


def test_an_exemplar_goes_with_one_style(stage, picture):
    with pytest.raises(UsageError, match="one --style"):
        stage.run(picture, output="out", style=("toon", "ink"), exemplar=picture)


# ── what is there already ────────────────────────────────────────────────────────────────────────


def test_a_folder_is_not_drawn_twice(stage, folder, tmp_path):
    assert set(states(stage.run(folder, output="out")).values()) == {"done"}
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert set(states(stage.run(folder, output="out")).values()) == {"skipped"}
    assert times == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def test_what_the_same_command_has_made_is_not_refused_but_skipped(stage, picture):
    stage.run(picture, output="b.png")
    assert states(stage.run(picture, output="b.png")) == {"a.png": "skipped"}


def test_a_file_that_moved_keeps_what_it_was_made_with(stage, folder, tmp_path):
    stage.run(folder, output="out")
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert set(states(stage.run(folder, output="elsewhere")).values()) == {"skipped"}


@pytest.mark.parametrize(
    "options", [{"structure": 0.1}, {"seed": 1}, {"match_color": 0.5}], ids=str
)
def test_other_settings_draw_a_folder_again(stage, folder, tmp_path, options):
    stage.run(folder, output="out")
    assert set(states(stage.run(folder, output="out", **options)).values()) == {"done"}
    assert len(visible(tmp_path / "out")) == 4


def test_an_input_that_changed_is_drawn_again(stage, folder):
    stage.run(folder, output="out")
    write_image(folder / "1.png", paint([HERE], scene=3), overwrite=True)
    assert states(stage.run(folder, output="out")) == {
        "0.png": "skipped",
        "1.png": "done",
        "2.png": "skipped",
        "clip.mp4": "skipped",
    }


def test_everything_is_drawn_again_if_asked(stage, folder):
    stage.run(folder, output="out")
    assert set(states(stage.run(folder, output="out", overwrite=True)).values()) == {"done"}


def test_a_file_of_somebody_else_is_never_replaced_unasked(stage, folder, tmp_path):
    (tmp_path / "out").mkdir()
    shutil.copy(folder / "0.png", tmp_path / "out" / "0_toon-ada.png")
    (tmp_path / "out" / "1_toon-ada.png").write_text("my notes")
    summary = stage.run(folder, output="out")
    assert states(summary) == {
        "0.png": "failed",
        "1.png": "failed",
        "2.png": "done",
        "clip.mp4": "done",
    }
    assert all("--overwrite" in result.error for result in summary.failed)
    assert (tmp_path / "out" / "1_toon-ada.png").read_text() == "my notes"


def test_an_output_that_is_named_and_of_somebody_else_is_refused_before_any_work(
    stage, picture, tmp_path
):
    other = tmp_path / "other.png"
    write_image(other, paint([HERE], scene=1))
    target = tmp_path / "a_toon-ada.png"
    shutil.copy(picture, target)
    before = target.read_bytes()
    with pytest.raises(OutputExistsError, match=r"a_toon-ada\.png exists"):
        stage.run(other, picture)
    assert target.read_bytes() == before
    assert not (tmp_path / "other_toon-ada.png").exists()


def test_an_output_made_with_other_settings_gets_a_neighbor(stage, picture, tmp_path):
    first = stage.run(picture, structure=0.2).files[0]
    before = first.outputs[0].read_bytes()
    second = stage.run(picture, structure=0.9).files[0]
    assert [path.name for path in second.outputs] == ["a_toon-ada-2.png"]
    assert first.outputs[0].read_bytes() == before
    again = stage.run(picture, structure=0.9).files[0]  # the same settings: nothing to do
    assert (again.status, again.outputs) == ("skipped", second.outputs)
    third = stage.run(picture, structure=0.5).files[0]
    assert [path.name for path in third.outputs] == ["a_toon-ada-3.png"]


def test_a_second_run_over_a_folder_does_not_draw_the_drawings_of_the_first(stage, folder):
    first = stage.run(folder)
    made = visible(folder)
    listener = Listener()
    again = stage.run(folder, progress=listener)
    assert visible(folder) == made
    assert (len(first.files), set(states(again).values())) == (4, {"skipped"})
    assert any("left out 4 files" in note for note in listener.notes)
    other = stage.run(folder, style=("ink",))
    assert set(states(other)) == set(states(first))


def test_a_drawing_that_is_named_is_drawn_once_more(stage, folder, tmp_path):
    stage.run(folder, output="out")
    again = stage.run(tmp_path / "out" / "0_toon-ada.png")
    assert states(again) == {"0_toon-ada.png": "done"}
    with pytest.raises(SourceMissingError, match="all 5 files there were made by dsg"):
        stage.run(tmp_path / "out")


def test_files_that_are_named_are_looked_at_in_the_order_given(stage, folder):
    summary = stage.run(folder / "2.png", folder / "0.png", output="out")
    assert list(states(summary)) == ["2.png", "0.png"]


# ── the key of what is made ──────────────────────────────────────────────────────────────────────

CHANGED = {
    "strength": 0.5,
    "structure": 0.5,
    "color": 0.5,
    "weights": (1.0,) * 10,
    "preset": "anime",
    "preserve_color": True,
    "truncation": 0.5,
    "encoder": "z+",
    "refine": 5,
    "size": 16,
    "seed": 5,
    "aligned": "yes",
    "crop": True,
    "faces": "largest",
    "grade": False,
    "compare": "side",
    "mask": "face",
    "blend": 0.2,
    "match_color": 1.0,
    "alpha": True,
    "location": False,
    "rate": Fraction(24),
    "smooth": 0.3,
    "on_missing": "hold",
    "start": Fraction(1),
    "end": Fraction(2),
    "codec": "hevc",
    "crf": 20,
    "codec_preset": "fast",
    "codec_option": ("a=b",),
    "audio": "none",
    "device": "cuda",
    "precision": "bf16",
    "backend": "torch",
}
"""Another value of every option that counts."""


@pytest.fixture
def keys(tiny_store, picture):
    """The keys of a picture under some options, without running anything."""
    studio = make_studio(tiny_store, None)

    def make(**options):
        chosen = StylizeOptions(**{**asdict(studio.options), **options})
        return job_keys(picture, studio.casts, chosen, chosen.mask)

    return make


def test_every_option_counts_or_is_known_not_to():
    assert set(CHANGED) | set(_IRRELEVANT) == {field.name for field in fields(StylizeOptions)}
    assert not set(CHANGED) & set(_IRRELEVANT)


@pytest.mark.parametrize("option", CHANGED)
def test_an_option_that_counts_changes_the_key(keys, option):
    assert keys() == keys()
    assert keys() != keys(**{option: CHANGED[option]})


@pytest.mark.parametrize(
    "casts",
    [
        {"style": ("toon:1",)},
        {"style": ("ink",)},
        {"structure": 0.1},
        {"face_style": ("0=ink",)},
        {"face_style": ("1=ink",)},
        {"face_style": ("0=ink", "1=toon")},
        {"face_style": ("1=ink", "0=toon")},
        {"style": ("toon*0.5+toon:1*0.5",)},
    ],
    ids=str,
)
def test_what_is_drawn_changes_the_key(tiny_store, picture, casts):
    plain = make_studio(tiny_store, None)
    others = [make_studio(tiny_store, None, **casts) for _ in range(2)]
    one, two = (job_keys(picture, s.casts, plain.options, "feather") for s in others)
    assert one == two != job_keys(picture, plain.casts, plain.options, "feather")


@pytest.mark.parametrize("network", ["generator", "encoder"])
def test_other_weights_change_the_key(tiny_store, picture, network):
    studio = make_studio(tiny_store, None)
    before = job_keys(picture, studio.casts, studio.options, "feather")
    weights = getattr(studio.casts[0].role.portraits, network).state_dict()
    next(iter(weights.values())).add_(0.1)
    assert job_keys(picture, studio.casts, studio.options, "feather") != before


def test_faces_that_change_their_styles_change_the_key(tiny_store, picture):
    one = make_studio(tiny_store, None, face_style=("0=ink", "1=toon:1"))
    other = make_studio(tiny_store, None, face_style=("1=ink", "0=toon:1"))
    assert job_keys(picture, one.casts, one.options, "feather") != job_keys(
        picture, other.casts, one.options, "feather"
    )


@pytest.mark.parametrize("name", ["b.png", "b.jpg", "b.webp", "b.mp4", "b.mkv", "b.gif"])
def test_every_kind_of_output_says_what_it_was_made_with(stage, picture, folder, name, tmp_path):
    source = picture if name[2:] in ("png", "jpg", "webp") else folder / "clip.mp4"
    stage.run(source, output=name)
    found = read_metadata(tmp_path / name)
    assert len(found[KEY]) == 64
    assert found["dsg-style"] == "toon-ada"
    assert is_made(tmp_path / name, found[KEY])
    assert is_made(tmp_path / name, "another") is False
    assert is_made(tmp_path / name, None)
    assert is_made(picture, None) is False
    assert is_made(tmp_path / "nothing.png", None) is None


# ── one bad file ─────────────────────────────────────────────────────────────────────────────────


def test_a_bad_file_does_not_stop_the_others(stage, folder, tmp_path):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (folder / "empty.mp4").touch()
    (folder / "text.mkv").write_text("hello\n" * 100)
    write_sound(folder / "sound.mp4")
    listener = Listener()
    summary = stage.run(folder, output="out", progress=listener)
    bad = {"broken.jpg", "empty.mp4", "text.mkv", "sound.mp4"}
    assert {name for name, state in states(summary).items() if state == "failed"} == bad
    assert summary.exit_code == 5
    assert len(listener.warnings) == 4
    assert len(visible(tmp_path / "out")) == 4
    written = json.loads(json.dumps(summary.as_json()))
    assert {Path(f["source"]).name for f in written["files"] if f["error"]} == bad
    assert (written["exit_code"], written["frames"]) == (5, 9)


def test_a_face_that_is_missing_in_one_file_does_not_stop_the_others(stage, folder, tmp_path):
    """Pictures have frame 0, and videos have it with a face a moment later."""
    stage(Play(6, lambda i: [HERE] if i else []))
    summary = stage.run(folder, output="out")
    assert summary.exit_code == 5
    assert [result.exit_code for result in summary.failed] == [3, 3, 3]
    assert visible(tmp_path / "out") == ["clip_toon-ada.mp4"]


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("empty.mp4", SourceError, "0 bytes"),
        ("text.mp4", SourceError, "text.mp4"),
        ("sound.mp4", SourceError, "only audio"),
        ("nothing.mp4", SourceMissingError, "does not exist"),
    ],
)
def test_a_single_bad_file_is_an_error_of_its_own(stage, folder, tmp_path, name, error, said):
    path = tmp_path / name
    if name == "text.mp4":
        path.write_text("hello\n" * 100)
    elif name == "sound.mp4":
        write_sound(path)
    elif name == "empty.mp4":
        path.touch()
    before = visible(tmp_path)
    with pytest.raises(error, match=said):
        stage.run(path, output="out.mp4")
    assert visible(tmp_path) == before


def test_a_video_of_no_frames_says_so_and_does_not_blame_the_faces(stage, folder, tmp_path):
    path = write_clip(tmp_path / "short.mkv", Play(3, still(HERE)).frames)
    with pytest.raises(SourceError, match="nothing is left after --start 5"):
        stage.run(path, output="out.mp4", start=Fraction(5))
    assert "out.mp4" not in visible(tmp_path)


# ── outputs that cannot be ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        ("out.png", {}, SinkError, "holds one picture"),
        ("out.jpg", {}, SinkError, "holds one picture"),
        ("out.xyz", {}, SinkError, "xyz"),
        ("out.mp4", {"codec": "nonsense"}, UsageError, "nonsense"),
        ("out.mp4", {"codec_option": ("nonsense=1",)}, UsageError, "nonsense"),
        ("out.mp4", {"alpha": True}, SinkError, "no transparency"),
    ],
)
def test_an_output_that_cannot_be_written_is_told_before_any_frame(
    stage, folder, tmp_path, monkeypatch, name, options, error, said
):
    drawn = []
    monkeypatch.setattr(Portraits, "draw", lambda *_: drawn.append(1))
    before = visible(tmp_path)
    with pytest.raises(error, match=said):
        stage.run(folder / "clip.mp4", output=name, **options)
    assert not drawn
    assert visible(tmp_path) == before


def test_an_animated_png_is_not_taken_for_a_picture(stage, folder, tmp_path):
    stills = [Image.fromarray(paint([Actor(70 + 3 * i)])) for i in range(4)]
    stills[0].save(folder / "moving.png", save_all=True, append_images=stills[1:], duration=40)
    with pytest.raises(SinkError, match=r"name a \.mp4, a \.webm or a \.gif"):
        stage.run(folder / "moving.png", output="out.png")
    stage.run(folder / "moving.png", output="out")
    (drawn,) = (tmp_path / "out").iterdir()
    assert drawn.suffix == ".webp"
    assert len(read_clip(drawn)) == 4
    stage.run(folder / "moving.png", output="out.gif")
    assert len(read_clip(tmp_path / "out.gif")) == 4


def test_options_that_contradict_each_other_are_all_told_at_once():
    with pytest.raises(RecipeError) as error:
        StylizeOptions(structure=2.0, blend=0.9, start=Fraction(3), end=Fraction(1), style=())
    assert len(error.value.problems) == 4


# ── videos ───────────────────────────────────────────────────────────────────────────────────────


def test_a_video_keeps_its_frames_its_times_and_its_sound(stage, tmp_path):
    stamps = [0, 512, 1100, 2600, 2700, 3600, 6000, 6512, 7024, 7536]
    source = write_torture(
        tmp_path / "in.mp4",
        stamps=stamps,
        audio=("aac", "aac"),
        size=(160, 120),
        draw=lambda number, width, height: paint([Actor(60 + 3 * number)], size=(width, height)),
    )
    stage(Play(10, lambda i: [Actor(60 + 3 * i)]))
    summary = stage.run(source, output="out.mp4")
    assert summary.files[0].frames == 10
    assert [f.time for f in read_clip(source)] == [f.time for f in read_clip(tmp_path / "out.mp4")]
    with open_source(tmp_path / "out.mp4") as made:
        kinds = [stream.kind for stream in made.info.streams]
    assert kinds.count("audio") == 2
    stage.run(source, output="quiet.mp4", audio="none")
    with open_source(tmp_path / "quiet.mp4") as made:
        assert [stream.kind for stream in made.info.streams] == ["video"]


def test_a_part_of_a_video_is_drawn(stage, tmp_path):
    play = stage(Play(25, lambda i: [Actor(50 + 2 * i)]))
    source = write_clip(tmp_path / "in.mkv", play.frames)
    summary = stage.run(source, output="out.mkv", start=Fraction(1, 5), end=Fraction(3, 5))
    made = read_clip(tmp_path / "out.mkv")
    assert summary.files[0].frames == len(made) == 10
    assert [frame.time for frame in made] == [Fraction(i, RATE) for i in range(10)]


def test_a_truncated_video_gives_all_frames_there_are_and_says_so(stage, folder, tmp_path):
    play = stage(Play(40, lambda i: [Actor(50 + i)]))
    whole = write_clip(tmp_path / "in.mkv", play.frames, codec="h264", codec_options={"g": "5"})
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    there = len(read_clip(cut))
    assert 5 < there < 40
    summary = stage.run(cut, output="out.mp4")
    (result,) = summary.files
    assert (result.status, result.frames, result.truncated) == ("done", there, True)
    assert len(read_clip(tmp_path / "out.mp4")) == there
    assert (summary.exit_code, summary.as_json()["truncated"]) == (0, True)
    assert len(result.notes) == len(set(result.notes)) >= 1


def test_a_transparent_video_is_written_and_read(stage, folder, tmp_path):
    stage.run(
        folder / "clip.mp4",
        output="out.webm",
        alpha=True,
        codec_option=("deadline=realtime", "cpu-used=8"),
    )
    frames = read_clip(tmp_path / "out.webm")
    assert len(frames) == 6
    for frame in frames:
        assert frame.alpha is not None
        assert frame.alpha[60, 80] > 250
        assert frame.alpha[5, 5] < 5


def test_one_frame_is_a_video(stage, folder, tmp_path):
    source = write_clip(tmp_path / "one.mkv", Play(1, still(HERE)).frames)
    assert stage.run(source, output="out.mp4").files[0].frames == 1
    assert len(read_clip(tmp_path / "out.mp4")) == 1


def test_a_gif_becomes_a_gif(stage, folder, tmp_path):
    source = write_clip(tmp_path / "in.gif", Play(6, still(HERE)).frames)
    stage.run(source, output="out")
    made = tmp_path / "out" / "in_toon-ada.gif"
    assert [f.time for f in read_clip(made)] == [f.time for f in read_clip(source)]


def test_several_styles_of_a_video_are_encoded_once(stage, folder, tmp_path, monkeypatch):
    encoded, encode = [], Portraits.encode
    monkeypatch.setattr(
        Portraits,
        "encode",
        lambda self, crops, rows: encoded.append(len(crops)) or encode(self, crops, rows),
    )
    stage.run(folder / "clip.mp4", output="out", style=("toon", "ink", "toon:3"))
    assert sum(encoded) == 6
    stage.run(folder / "clip.mp4", output="alone/clip_ink-fox.mp4", style=("ink",))
    assert same_clip(tmp_path / "out" / "clip_ink-fox.mp4", tmp_path / "alone" / "clip_ink-fox.mp4")


@pytest.mark.parametrize(
    ("options", "spared"),
    [({}, True), ({"color": 0.9}, False), ({"preserve_color": True}, False)],
)
def test_codes_that_no_style_draws_with_are_not_computed(
    stage, folder, tmp_path, monkeypatch, options, spared
):
    asked, encode = [], Portraits.encode
    stage.run(folder / "clip.mp4", output="out.mp4", **options)

    def encode_all(self, crops, rows):
        asked.append(rows == self.layout.num_structure)
        return encode(self, crops)

    monkeypatch.setattr(Portraits, "encode", encode_all)
    stage.run(folder / "clip.mp4", output="whole.mp4", **options)
    assert set(asked) == {spared}
    assert same_clip(tmp_path / "whole.mp4", tmp_path / "out.mp4")


# ── previews ─────────────────────────────────────────────────────────────────────────────────────


def test_a_preview_shows_frames_before_and_after(stage, folder, tmp_path):
    summary = stage.run(folder / "clip.mp4", output="out.mp4", preview=3)
    sheet = read_image(tmp_path / "out.preview.png").pixels
    assert sheet.shape[1] > 300
    assert (summary.files[0].frames, summary.files[0].faces) == (3, 3)
    assert "out.mp4" not in visible(tmp_path)


def test_a_preview_loses_no_faces_that_may_not_be_lost(stage, tmp_path):
    """Between frames far apart anything may happen."""
    play = stage(Play(12, lambda i: [HERE] if i < 5 else []))
    source = write_clip(tmp_path / "in.mkv", play.frames)
    assert stage.run(source, output="s.png", preview=4, on_missing="fail").files[0].frames == 4


def test_a_preview_without_a_face_is_an_error(stage, folder, tmp_path):
    stage(Play(6, still()))
    with pytest.raises(NoFaceError, match=r"3 frames of .*clip\.mp4"):
        stage.run(folder / "clip.mp4", output="s.png", preview=3)
    assert not (tmp_path / "s.png").exists()


def test_previews_of_a_folder_are_made_again_and_never_drawn(stage, folder):
    for structure in (0.2, 0.8):
        summary = stage.run(folder, preview=2, structure=structure)
        assert set(states(summary).values()) == {"done"}
        assert len(summary.files) == 4
    assert len(visible(folder)) == 8


def test_a_preview_replaces_no_file_of_somebody_else(stage, folder):
    (folder / "0_toon-ada.preview.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(OutputExistsError):
        stage.run(folder / "0.png", preview=2)
    assert states(stage.run(folder, preview=1))["0.png"] == "failed"


def test_a_preview_is_bounded_whatever_is_asked_for(stage, tmp_path):
    play = stage(Play(40, still(HERE)))
    source = write_clip(tmp_path / "long.mkv", play.frames)
    result = stage.run(source, output="s.png", preview=39).files[0]
    assert result.frames == 24
    assert "the sheet shows 24 frames of 39" in result.notes


def test_a_preview_of_one_picture_says_nothing_about_the_number_of_frames(stage, folder):
    result = stage.run(folder / "0.png", output="s.png", preview=8).files[0]
    assert result.frames == 1
    assert not [note for note in result.notes if "the sheet shows" in note]


def test_a_preview_stops_after_a_while(stage, folder, monkeypatch):
    monkeypatch.setattr("dsgcli.stylize.preview.LIMIT_S", 0.0)
    result = stage.run(folder / "clip.mp4", output="s.png", preview=3).files[0]
    assert (result.frames, result.faces) == (1, 1)


def test_a_face_with_a_style_of_its_own_is_in_the_name_and_the_summary(stage, folder):
    summary = stage.run(folder / "clip.mp4", preview=2, face_style=("0=ink:2",))
    (name,) = [name for name in visible(folder) if "preview" in name]
    assert name.startswith("clip_toon-ada_0-ink-") and name.endswith(".preview.png")
    (shown,) = summary.styles
    assert shown.startswith("toon:ada, face 0 ink:")


def test_every_style_has_its_preview(stage, folder):
    stage.run(folder / "clip.mp4", preview=2, style=("toon", "ink"))
    previews = [name for name in visible(folder) if "preview" in name]
    assert previews == ["clip_ink-fox.preview.png", "clip_toon-ada.preview.png"]


# ── the summary ──────────────────────────────────────────────────────────────────────────────────


def test_the_summary_counts_files_frames_faces_and_time(stage, tmp_path):
    play = stage(Play(5, still(Actor(45), Actor(115, size=FACE_PX, color=BLUE))))
    source = write_clip(tmp_path / "in.mkv", play.frames)
    written = json.loads(json.dumps(stage.run(source, output="out.mp4").as_json()))
    assert (written["frames"], written["faces"], written["exit_code"]) == (5, 10, 0)
    assert written["frames_per_second"] > 0
    assert set(written["stages"]) >= {"load", "find", "align", "encode", "draw", "paste", "write"}
    assert all(seconds >= 0 for seconds in written["stages"].values())
    assert written["machine"]["detector"] == "script"
    (file,) = written["files"]
    assert (file["status"], file["error"], file["truncated"]) == ("done", None, False)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_output_that_the_system_refuses_is_that_files_failure(stage, folder, tmp_path, workers):
    """A file in the place of one output's folder; the others are drawn."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1").write_text("in the way")
    pattern = "{stem}/{style}.{ext}"
    summary = stage.run(folder, output="out", output_pattern=pattern, workers=workers)
    found = states(summary)
    assert found.pop("1.png") == "failed"
    assert set(found.values()) == {"done"} and len(found) == 3
    assert summary.exit_code == 5
    assert (tmp_path / "out" / "1").read_text() == "in the way"


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_link_that_leads_back_to_itself_is_replaced_by_the_output(stage, picture, tmp_path):
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    assert stage.run(picture, output=loop).files[0].status == "done"
    assert loop.is_file() and not loop.is_symlink()
