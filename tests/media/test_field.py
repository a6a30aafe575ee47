"""Inputs as people have them: names that are no text, photographs with their data, signals."""

from __future__ import annotations

import json
import os
import signal
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media.clips import COUNT, drawn, number_of, see_through, write_clip
from PIL import ExifTags, Image, PngImagePlugin

from dsgcli.console import exit_code_of, write_json
from dsgcli.errors import InterruptedRunError, MediaError, SourceError
from dsgcli.media.base import PhotoData, SinkOptions
from dsgcli.media.files import (
    MAX_NAME_BYTES,
    AtomicFile,
    cut_name,
    files_refused,
    printable,
)
from dsgcli.media.images import read_image, write_image
from dsgcli.media.read import open_source, read_metadata
from dsgcli.media.write import holds_alpha, open_sink

BAD = os.fsdecode(b"caf\xe9")
"""A name in Latin-1, as old disks have them; no UTF-8."""
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
PIXELS = np.full((12, 16, 3), (90, 140, 200), np.uint8)


@pytest.mark.parametrize("name", ["n" * 300, "é" * 200, "名" * 100, "short"])
@pytest.mark.parametrize("limit", [20, 21, 22, 23, 255])
def test_a_name_is_cut_between_letters(name, limit):
    cut = cut_name(name, limit)
    assert name.startswith(cut)
    assert len(os.fsencode(cut)) <= limit
    assert cut == name or len(os.fsencode(cut)) > limit - 4


@linux_only
@pytest.mark.parametrize("stem", [BAD, 120 * BAD])
def test_a_file_whose_name_is_no_text_is_written(tmp_path, stem):
    path = tmp_path / f"{cut_name(stem, MAX_NAME_BYTES - 4)}.png"
    beside = AtomicFile(path)
    beside.temporary.write_bytes(b"x")
    beside.commit()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_what_the_system_refuses_for_a_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(MediaError, match=r"n\.png cannot be used: .*rename it"), files_refused():
        (tmp_path / f"{'n' * 300}.png").write_bytes(b"x")


@linux_only
def test_a_name_that_is_no_text_is_escaped_in_messages_and_comes_back_from_json(capsys):
    write_json({"source": f"{BAD}.jpg"})
    assert json.loads(capsys.readouterr().out) == {"source": f"{BAD}.jpg"}
    assert printable(f"{BAD}.jpg") == "caf\\xe9.jpg"
    assert printable("café.jpg") == "café.jpg"


# ── photographs ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def photograph(tmp_path):
    """A JPEG on its side, with date, camera and position."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Model] = "Camera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:05:06 07:08:09"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (1.0, 2.0, 3.0)
    path = tmp_path / "photo.jpg"
    Image.fromarray(PIXELS).save(path, exif=exif)
    return path


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("about", [{}, {"dsg-key": "one"}])
def test_a_photograph_keeps_its_data(tmp_path, photograph, ending, about):
    target = tmp_path / f"out.{ending}"
    with open_source(photograph) as source:
        assert source.info.size_px == (12, 16)
        with open_sink(target, SinkOptions(metadata=about), source.info) as sink:
            for frame in source:
                sink.write(frame)
    assert read_metadata(target) == about
    with Image.open(target) as image:
        exif = image.getexif()
        assert image.size == (12, 16)
        assert exif[ExifTags.Base.Model] == "Camera"
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        taken = exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal]
        assert taken == "2024:05:06 07:08:09"
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] == (1.0, 2.0, 3.0)


def test_a_picture_without_data_gets_none(tmp_path):
    write_image(tmp_path / "a.jpg", PIXELS)
    with open_source(tmp_path / "a.jpg") as source:
        assert source.info.photo == PhotoData()


@pytest.mark.parametrize(
    ("name", "options", "holds"),
    [
        ("a.png", {}, True),
        ("a.webp", {}, True),
        ("a.gif", {}, True),
        ("a.webm", {}, True),
        ("a.mov", {}, True),
        ("a.jpg", {}, False),
        ("a.mp4", {}, False),
    ],
)
def test_which_outputs_hold_transparency(tmp_path, name, options, holds):
    assert holds_alpha(tmp_path / name, SinkOptions(**options)) is holds


# ── signals ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(os.name == "nt", reason="this system has no such signals")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("says", [False, True])
def test_what_a_scheduler_sends_ends_a_run_as_ctrl_c_does(name, code, says, capsys):
    def command():
        try:
            signal.raise_signal(getattr(signal, name))
        except KeyboardInterrupt as error:
            if says:
                raise InterruptedRunError("stopped after 3 frames") from error
            raise
        return 0

    before = signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        assert exit_code_of(command) == code
        assert signal.getsignal(getattr(signal, name)) is signal.SIG_DFL
    finally:
        signal.signal(getattr(signal, name), before)
    assert ("stopped after 3 frames" if says else "interrupted") in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="this system has no such signals")
def test_a_signal_that_is_ignored_stays_ignored():
    """As `nohup` starts programs."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert exit_code_of(lambda: signal.raise_signal(signal.SIGHUP) or 0) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("head", [b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"])
def test_jpeg_xl_gets_advice_that_helps(tmp_path, head):
    path = tmp_path / "a.jxl"
    path.write_bytes(head + bytes(64))
    with pytest.raises(SourceError, match=r"a JPEG XL picture.*export it as PNG"):
        open_source(path)


# ── what photographs say ─────────────────────────────────────────────────────────────────────────

XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="urn:rdf">
<rdf:Description xmlns:tiff="urn:tiff" tiff:Orientation="6"
 xmlns:xmp="urn:xmp" xmp:Rating="4"/></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
IPTC = b"\x1c\x02\x78\x00\x05Smile\x1c\x02\x5a\x00\x06Lisbon"
"""Records 2:120 (caption) and 2:90 (city)."""


@pytest.fixture
def captioned(tmp_path, photograph):
    """The photograph with XMP, which has an orientation too, and with IPTC."""
    with Image.open(photograph) as image:
        image.save(tmp_path / "b.jpg", exif=image.getexif(), xmp=XMP, extra=app13(IPTC))
    return tmp_path / "b.jpg"


def app13(fields):
    padded = fields + b"\0" * (len(fields) % 2)
    data = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(fields).to_bytes(4, "big") + padded
    return b"\xff\xed" + (len(data) + 2).to_bytes(2, "big") + data


def redraw(source, target, **options):
    with (
        open_source(source) as frames,
        open_sink(target, SinkOptions(**options), frames.info) as sink,
    ):
        for frame in frames:
            sink.write(frame)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_captions_and_ratings_stay_and_the_orientation_goes(tmp_path, captioned, ending):
    redraw(captioned, tmp_path / f"out.{ending}")
    with Image.open(tmp_path / f"out.{ending}") as image:
        xmp = image.info["xmp"]
        assert b'xmp:Rating="4"' in xmp and b"Orientation" not in xmp
        if ending == "jpg":
            assert image.info["photoshop"][0x0404] == IPTC


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_no_word_of_the_place_stays_where_it_is_unwanted(tmp_path, captioned, ending):
    redraw(captioned, tmp_path / f"out.{ending}", location=False, metadata={"dsg-key": "one"})
    with Image.open(tmp_path / f"out.{ending}") as image:
        exif = image.getexif()
        assert exif[ExifTags.Base.Model] == "Camera"
        assert ExifTags.IFD.GPSInfo not in exif
        taken = exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal]
        assert taken == "2024:05:06 07:08:09"
    assert b"Lisbon" not in (tmp_path / f"out.{ending}").read_bytes()
    assert read_metadata(tmp_path / f"out.{ending}") == {"dsg-key": "one"}


@pytest.mark.parametrize("location", [True, False])
def test_a_video_keeps_its_place_unless_it_is_unwanted(tmp_path, location):
    path = write_clip(tmp_path / "a.mp4", metadata={"location": "+38.7-009.1/", "title": "Day"})
    redraw(path, tmp_path / "b.mp4", location=location)
    with open_source(tmp_path / "b.mp4") as source:
        found = source.info.metadata
    assert found["title"] == "Day"
    assert ("location" in found) is location


def test_data_that_a_jpeg_cannot_hold_are_left_out(tmp_path):
    """A PNG may carry more than the 64 KB of a JPEG's segment."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    redraw(tmp_path / "a.png", tmp_path / "b.jpg", metadata={"dsg-key": "one"})
    assert read_metadata(tmp_path / "b.jpg") == {"dsg-key": "one"}


# ── pictures that only seem to be readable ───────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"II\xbc\x01", "JPEG XR"),
        (b"FUJIFILMCCD-RAW 0201", "raw photograph"),
        (b"\0\0\0\x18ftypcrx ", "raw photograph"),
        (b"II*\0\x10\0\0\0CR\x02\0", "raw photograph"),
        (b"v/1\x01", "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance"),
        (b"<svg width='9'>", "vector drawing"),
        (b"%PDF-1.7\n", "PDF"),
    ],
)
def test_picture_of_a_kind_that_is_not_read_is_named(tmp_path, head, kind):
    (tmp_path / "a.jpg").write_bytes(head + bytes(200))
    with pytest.raises(SourceError, match=f"{kind}.*export it as PNG"):
        open_source(tmp_path / "a.jpg")


def test_thumbnail_of_a_raw_photograph_is_not_drawn_for_it(tmp_path):
    """DNG, NEF and ARW are TIFF files that begin with a small preview."""
    Image.fromarray(PIXELS).save(tmp_path / "a.dng", format="TIFF", tiffinfo={254: 1})
    with pytest.raises(SourceError, match="raw photograph"):
        open_source(tmp_path / "a.dng")


# ── inputs of the kind that public reports are about ─────────────────────────────────────────────


@pytest.mark.parametrize("name", ["12:30.mp4", "pipe:1.gif", "concat:a.mkv", "%03d.mp4", "a|b.gif"])
@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_name_that_looks_like_an_address_is_written(tmp_path, monkeypatch, name):
    """FFmpeg takes what stands before a colon for a protocol, in a relative path."""
    monkeypatch.chdir(tmp_path)
    redraw(write_clip(tmp_path / "in.mkv"), Path(name))
    assert (tmp_path / name).stat().st_size


@pytest.mark.parametrize("cut", [1, 2])
def test_jpeg_that_lacks_only_its_end_mark_is_read(tmp_path, cut):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (96, 128, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    whole = read_image(tmp_path / "a.jpg").pixels
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:-cut])
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg").pixels, whole)
    (tmp_path / "a.jpg").write_bytes(data[:-40])
    with pytest.raises(SourceError, match="damaged or cut off"):
        read_image(tmp_path / "a.jpg")


def test_png_with_megabytes_of_text_is_read(tmp_path):
    """Generators of pictures store their settings in them."""
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "a" * 2_000_000, zip=True)
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=text)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, PIXELS)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_that_does_not_exist_turns_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, PIXELS)


def test_first_picture_of_a_multi_picture_jpeg_is_drawn(tmp_path):
    """Telephones store a gain map or a second view behind the photograph."""
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second])
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    with open_source(tmp_path / "a.jpg") as source:
        (frame,) = source
    assert np.abs(frame.pixels.astype(int) - PIXELS).mean() < 4


def test_shape_of_pixels_that_changes_is_mentioned(tmp_path):
    options = {"crf": "10"}
    parts = [
        write_clip(tmp_path / f"{i}.ts", pix_fmt="yuv420p", options=options, aspect=aspect)
        for i, aspect in enumerate([None, Fraction(4, 3)])
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_source(tmp_path / "a.ts") as source:
        assert len({frame.size_px for frame in source}) == 1
        assert any("shape of its pixels changes" in text for text in source.info.warnings)


@pytest.mark.parametrize(("codec", "pix_fmt"), [("qtrle", "argb"), ("png", "rgba")])
def test_cut_out_of_an_editor_keeps_its_transparency(tmp_path, codec, pix_fmt):
    def cut_out(number, *_):
        return np.dstack([drawn(number), see_through(number)])

    path = write_clip(tmp_path / "a.mov", codec=codec, pix_fmt=pix_fmt, options={}, draw=cut_out)
    redraw(path, tmp_path / "b.mov", alpha=True)
    with open_source(tmp_path / "b.mov") as source:
        assert (source.info.codec, source.info.has_alpha) == ("prores", True)
        shown = list(source)
    assert [number_of(frame.pixels) for frame in shown] == list(range(COUNT))
    assert shown[0].alpha.min() < 8 and shown[0].alpha.max() > 247


def test_clock_of_a_broadcast_that_wraps_is_followed(tmp_path):
    """MPEG-TS counts 33 bits of 90 kHz: it starts over after 26.5 hours, here in the middle."""
    path = write_clip(
        tmp_path / "a.ts", pix_fmt="yuv420p", options={"crf": "10"}, start_s=Fraction(954435, 10)
    )
    with open_source(path) as source:
        shown = list(source)
    assert [frame.time for frame in shown] == [Fraction(i, 25) for i in range(COUNT)]


def test_recording_that_lost_its_start_says_so(tmp_path):
    """Cut anywhere, it begins with frames that need one which is gone."""
    options = {"crf": "10", "g": "4"}
    path = write_clip(tmp_path / "a.ts", pix_fmt="yuv420p", options=options)
    with open_source(path) as source:
        assert len(list(source)) == COUNT and source.info.warnings == []
    path.write_bytes(path.read_bytes()[1000:])
    with open_source(path) as source:
        shown = list(source)
    assert [number_of(frame.pixels) for frame in shown] == list(range(4, COUNT))
    (said,) = source.info.warnings
    assert said.startswith("its start is missing: at least 3 frames before the first key frame")


@pytest.mark.parametrize("text", ["<html>", "  <!DOCTYPE HTML><html><body>404</body></html>"])
@pytest.mark.parametrize("name", ["photo.jpg", "clip.mp4"])
def test_web_page_in_place_of_a_download_is_named(tmp_path, text, name):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=f"{name} is a web page"):
        open_source(tmp_path / name)
