"""Which files are drawn, and where each one's output goes: found before any work starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from dsgcli.errors import SourceMissingError, UsageError
from dsgcli.stylize.jobs import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    WRITABLE_AS,
    InputFile,
    check_pattern,
    find_sources,
    parts_folder,
    plan_jobs,
)

PATTERN = "{stem}_{style}.{ext}"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder of files as people have them; the working folder is the one above."""
    monkeypatch.chdir(tmp_path)
    names = ("b.PNG", "a.jpg", "notes.txt", ".hidden.png", "clip.mp4", "deep/c.webp")
    for name in (*names, "deep/er/a.jpg", ".git/d.png", "deep/.thumbs/e.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(sources):
    return [source.path.as_posix() for source in sources]


def outputs(*paths, output=None, labels=("toon-1",), **options):
    sources = [InputFile(path=Path(path)) for path in paths]
    options = {"pattern": PATTERN, "overwrite": False, **options}
    jobs = plan_jobs(sources, output and Path(output), labels, **options)
    return [path.as_posix() for job in jobs for path in job.outputs]


# ── inputs ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("tree")
def test_a_folder_gives_its_pictures_and_videos_sorted():
    assert names(find_sources(["photos"])) == [
        "photos/a.jpg",
        "photos/b.PNG",
        "photos/clip.mp4",
    ]


@pytest.mark.usefixtures("tree")
def test_a_folder_is_searched_deeply_only_if_asked_and_hidden_folders_never():
    deep = find_sources(["photos"], recursive=True)
    assert names(deep) == [
        "photos/a.jpg",
        "photos/b.PNG",
        "photos/clip.mp4",
        "photos/deep/c.webp",
        "photos/deep/er/a.jpg",
    ]
    assert [source.below.as_posix() for source in deep] == [".", ".", ".", "deep", "deep/er"]


@pytest.mark.usefixtures("tree")
def test_a_hidden_folder_that_is_named_is_searched():
    assert names(find_sources(["photos/.git"])) == ["photos/.git/d.png"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("photos/*.jpg", ["photos/a.jpg"]),
        ("photos/[ab].*", ["photos/a.jpg", "photos/b.PNG"]),
        ("photos/**/a.jpg", ["photos/a.jpg", "photos/deep/er/a.jpg"]),
        ("photos/d*/*", ["photos/deep/c.webp"]),
    ],
)
def test_a_glob_gives_the_files_that_match(pattern, found):
    assert names(find_sources([pattern])) == found


@pytest.mark.usefixtures("tree")
def test_a_file_whose_name_looks_like_a_glob_is_that_file():
    Path("photos/[ab].jpg").touch()
    assert names(find_sources(["photos/[ab].jpg"])) == ["photos/[ab].jpg"]


@pytest.mark.usefixtures("tree")
def test_each_file_is_taken_once_however_it_is_named():
    found = find_sources(["photos/clip.mp4", "photos", Path("photos/a.jpg"), "./photos/../photos"])
    assert names(found) == ["photos/clip.mp4", "photos/a.jpg", "photos/b.PNG"]


@pytest.mark.usefixtures("tree")
def test_a_file_that_is_named_may_have_any_ending():
    assert names(find_sources(["photos/notes.txt"])) == ["photos/notes.txt"]


@pytest.mark.usefixtures("tree")
def test_files_that_were_named_are_told_from_those_that_were_found():
    named, *found = find_sources(["photos/clip.mp4", "photos", "photos/d*/*"])
    assert not named.listed
    assert found
    assert all(source.listed for source in found)


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("nobody.jpg", "nobody.jpg does not exist"),
        ("photos/*.gif", "nothing matches"),
        ("photos/d*", "nothing matches photos/d. but folders"),
        ("photos/deep/er/..", None),
        ("empty", "pass -r"),
    ],
)
def test_what_is_not_there_is_said(item, said):
    Path("empty").mkdir()
    if said is None:
        assert find_sources([item])
        return
    with pytest.raises(SourceMissingError, match=said):
        find_sources([item])


@pytest.mark.usefixtures("tree")
def test_an_empty_tree_is_not_blamed_on_the_depth():
    Path("empty/er").mkdir(parents=True)
    with pytest.raises(SourceMissingError) as error:
        find_sources(["empty"], recursive=True)
    assert "-r" not in str(error.value)


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────


def test_one_input_goes_to_the_file_that_is_named(tmp_path):
    assert outputs("a.jpg", output=tmp_path / "b.png") == [f"{tmp_path.as_posix()}/b.png"]


@pytest.mark.parametrize("folder", ["out", "out/"])
def test_a_name_without_an_ending_is_a_folder(folder):
    assert outputs("in/a.jpg", output=folder) == ["out/a_toon-1.jpg"]


def test_a_folder_that_is_there_may_have_a_dot(tmp_path):
    (tmp_path / "v1.2").mkdir()
    assert outputs("a.jpg", output=tmp_path / "v1.2") == [
        f"{tmp_path.as_posix()}/v1.2/a_toon-1.jpg"
    ]


def test_outputs_lie_beside_their_inputs_unless_told():
    assert outputs("in/a.jpg", "b.mp4") == ["in/a_toon-1.jpg", "b_toon-1.mp4"]


def test_every_style_makes_an_output():
    assert outputs("a.jpg", "b.mp4", output="out", labels=("toon-1", "ink-fox")) == [
        "out/a_toon-1.jpg",
        "out/a_ink-fox.jpg",
        "out/b_toon-1.mp4",
        "out/b_ink-fox.mp4",
    ]


@pytest.mark.usefixtures("tree")
def test_a_tree_is_rebuilt_in_the_output():
    jobs = plan_jobs(
        find_sources(["photos"], recursive=True),
        Path("out"),
        ["x"],
        pattern="{stem}.{ext}",
        overwrite=False,
    )
    assert [job.outputs[0].as_posix() for job in jobs] == [
        "out/a.jpg",
        "out/b.png",
        "out/clip.mp4",
        "out/deep/c.webp",
        "out/deep/er/a.jpg",
    ]


@pytest.mark.parametrize("ending", sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
def test_every_input_gets_an_ending_of_its_kind_that_can_be_written(ending):
    (output,) = (Path(path) for path in outputs(f"a{ending}"))
    assert output.suffix in {ending for endings in WRITABLE_AS.values() for ending in endings}
    if ending != ".gif":
        assert (output.suffix in VIDEO_SUFFIXES) == (ending in VIDEO_SUFFIXES)


@pytest.mark.parametrize(
    ("source", "plain", "transparent"),
    [
        ("a.jpg", ".jpg", ".png"),
        ("a.JPEG", ".jpeg", ".png"),
        ("a.webp", ".webp", ".webp"),
        ("a.tif", ".png", ".png"),
        ("a.mp4", ".mp4", ".webm"),
        ("a.mkv", ".mkv", ".webm"),
        ("a.mov", ".mov", ".mov"),
        ("a.ts", ".mp4", ".webm"),
        ("a.gif", ".gif", ".gif"),
    ],
)
def test_what_is_transparent_gets_an_ending_that_can_hold_it(source, plain, transparent):
    assert Path(*outputs(source)).suffix == plain
    assert Path(*outputs(source, alpha=True)).suffix == transparent


def test_a_preview_is_a_picture():
    assert outputs("a.mp4", preview=True) == ["a_toon-1.preview.png"]
    assert outputs("a.mp4", output="sheet.png", preview=True) == ["sheet.png"]


def test_a_preview_of_the_command_that_writes_a_video_lies_beside_that_video():
    """So that `--preview 8` can be added to a command, and taken away again."""
    assert outputs("a.mp4", output="out.mp4", preview=True) == ["out.preview.png"]


def test_patterns_name_outputs():
    made = outputs(
        "in/a.jpg", "in/b.jpg", output="out", pattern="{style}/{parent}-{index}-{stem}.{ext}"
    )
    assert made == ["out/toon-1/in-00000-a.jpg", "out/toon-1/in-00001-b.jpg"]


@pytest.mark.parametrize(
    "pattern",
    ["{stem", "{}", "{0}{stem}", "{name}.{ext}", "{stem.__class__}.{ext}", "out.{ext}", "{style}"],
)
def test_patterns_that_cannot_name_outputs_are_refused(pattern):
    with pytest.raises(UsageError, match="--output-pattern"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *("{stem!x}", "{stem!r}.{ext}", "{stem:>2000000000}.{ext}", "{stem:{ext}}", "{index:d}"),
        *("{stem[0]}", "{stem\n}", "{stem}\n.{ext}", "{stem}\x00.png", "{stem}\x1b[2J.png"),
        *("{stem!}", "{stem:", "}{stem}", "{ stem}", "{stem:\x00}"),
    ],
)
def test_patterns_have_plain_fields_alone(pattern):
    with pytest.raises(UsageError, match="--output-pattern"):
        outputs("a.jpg", output="out", pattern=pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *("{stem}/../../x.png", "../{stem}.png", "/elsewhere/{stem}.png", "{stem}/..", "{stem}/"),
        *("..{stem}/../{stem}/../../a.png", "{parent}/{stem}.png", "{stem}" + "x" * 300),
    ],
)
def test_patterns_lead_to_files_in_the_output_folder(pattern, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--output-pattern"):
        outputs("b/../a.jpg", output="out", pattern=pattern)
    assert not list(tmp_path.iterdir())


def test_patterns_may_sort_into_folders():
    assert outputs("x/a.jpg", output="out", pattern="{style}/{parent}/{stem}.{ext}") == [
        "out/toon-1/x/a.jpg"
    ]


# ── what would be lost ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("output", ["a.jpg", "./a.jpg", "b/../a.jpg"])
def test_an_input_is_never_its_own_output(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="overwrite an input"):
        outputs("a.jpg", output=output, overwrite=True)


def test_a_link_to_the_input_is_the_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").touch()
    try:
        Path("b.jpg").symlink_to("a.jpg")
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.raises(UsageError, match="overwrite an input"):
        outputs("a.jpg", output="b.jpg", overwrite=True)


@pytest.fixture
def careless(monkeypatch):
    """A file system that ignores case."""
    monkeypatch.setattr("dsgcli.media.files.ignores_case", lambda folder: True)


@pytest.mark.usefixtures("careless")
def test_where_case_is_ignored_outputs_need_more_than_case_to_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="would both be written"):
        outputs("one/Me.jpg", "two/me.jpg", output="out")
    with pytest.raises(UsageError, match="overwrite an input"):
        outputs("me.jpg", output="ME.JPG", overwrite=True)


def test_no_output_overwrites_another_input():
    """The first would be written before the second is read."""
    assert outputs("a.jpg", "a_toon-1.jpg") == ["a_toon-1.jpg", "a_toon-1_toon-1.jpg"]
    with pytest.raises(UsageError, match=r"a_toon-1\.jpg would overwrite an input"):
        outputs("a.jpg", "a_toon-1.jpg", overwrite=True)


def test_two_inputs_of_one_name_are_told_apart_or_refused():
    with pytest.raises(UsageError, match=r"y/a\.jpg and x/a\.jpg would both be written"):
        outputs("x/a.jpg", "y/a.jpg", output="out")
    assert outputs("x/a.jpg", "y/a.jpg", output="out", pattern="{parent}_{stem}.{ext}") == [
        "out/x_a.jpg",
        "out/y_a.jpg",
    ]


@pytest.mark.parametrize(("inputs", "labels"), [(("a.jpg",), "xy"), (("a.jpg", "b.jpg"), "x")])
@pytest.mark.parametrize("output", ["out.mp4", "there.txt"])
def test_one_file_cannot_hold_several_outputs(inputs, labels, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("there.txt").touch()
    with pytest.raises(UsageError, match="several outputs"):
        outputs(*inputs, output=output, labels=tuple(labels))


# ── parts of a video in the making ───────────────────────────────────────────────────────────────


def test_parts_lie_hidden_beside_the_output():
    assert parts_folder(Path("out/clip.mp4")) == Path("out/.clip.mp4.dsg-parts")


@pytest.mark.parametrize("letter", ["x", "é", "漢"])
def test_parts_of_an_output_with_the_longest_name_can_be_made(letter, tmp_path):
    longest = letter * (251 // len(letter.encode())) + ".mp4"
    parts_folder(tmp_path / longest).mkdir()


# ── names of outputs ─────────────────────────────────────────────────────────────────────────────


def planned(path, label="noir-000"):
    (job,) = plan_jobs(
        [InputFile(path=path)], None, [label], pattern="{stem}_{style}.{ext}", overwrite=False
    )
    return job.outputs[0].name


def write_moving(path, format):
    first, second = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
    first.save(path, format, save_all=True, append_images=[second])


@pytest.mark.parametrize(
    ("name", "format", "ending"),
    [("a.jpg", "WEBP", ".webp"), ("a.png", "PNG", ".webp"), ("a.gif", "GIF", ".gif")],
)
def test_an_animation_with_a_pictures_ending_becomes_an_animation(tmp_path, name, format, ending):
    write_moving(tmp_path / name, format)
    assert planned(tmp_path / name) == f"a_noir-000{ending}"


@pytest.mark.parametrize("name", ["a.m2ts", "a.vob", "a.qt", "a.h264", "a.jpg", "a", "a.xyz"])
def test_a_video_becomes_an_mp4_whatever_its_ending(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(100))
    assert planned(tmp_path / name) == "a_noir-000.mp4"


def test_a_picture_with_a_videos_ending_becomes_a_picture(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.mp4", "PNG")
    assert planned(tmp_path / "a.mp4") == "a_noir-000.png"


@pytest.mark.parametrize("stem", ["n" * 251, "é" * 125])
def test_a_name_near_the_limit_is_cut_so_that_what_is_added_fits(tmp_path, stem):
    name = planned(tmp_path / f"{stem}.jpg")
    assert len(os.fsencode(name)) <= 255
    assert name.endswith("_noir-000.jpg")
    assert name != planned(tmp_path / f"{stem[:-1]}m.jpg")


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".jp2", ".tga", ".m2ts", ".vob", ".3g2"])
def test_folders_are_searched_for_endings_that_people_have(tmp_path, ending):
    (tmp_path / f"a{ending}").write_bytes(b"x")
    assert [source.path.suffix for source in find_sources([tmp_path])] == [ending]
