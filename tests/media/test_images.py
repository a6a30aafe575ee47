"""Whatever a picture file holds, a frame is upright 8-bit sRGB with its alpha aside."""

from __future__ import annotations

import struct
import sys
import zlib

import numpy as np
import pytest
from media.clips import HEIGHT, WIDTH, drawn, names, see_through
from PIL import Image, ImageCms, ImageOps

from dsgcli.errors import OutputExistsError, SinkError, SourceError, SourceMissingError
from dsgcli.media import images
from dsgcli.media.images import identify, read_image, write_image
from dsgcli.media.read import read_metadata

PIXELS = drawn(5)


def picture() -> Image.Image:
    return Image.fromarray(PIXELS)


def mean_error(a, b):
    return np.abs(np.asarray(a, int) - np.asarray(b, int)).mean()


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "tga", "webp", "qoi"])
def test_lossless_formats_read_exactly(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    picture().save(path, **({"lossless": True} if suffix == "webp" else {}))
    frame = read_image(path)
    np.testing.assert_array_equal(frame.pixels, PIXELS)
    assert frame.alpha is None and frame.pixels.flags.writeable


def test_content_decides_not_the_name(tmp_path):
    picture().save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "claims.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "claims.jpg").pixels, PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "a.png", exif=exif)
    marked = Image.open(tmp_path / "a.png")
    expected = np.asarray(ImageOps.exif_transpose(marked))
    frame = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(frame.pixels, expected)
    assert frame.size_px == ((HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT))
    if orientation == 6:  # stored turned left: to be turned right by a quarter
        np.testing.assert_array_equal(frame.pixels, np.rot90(PIXELS, -1))


def test_cmyk_reads_as_its_colors(tmp_path):
    picture().convert("CMYK").save(tmp_path / "a.tif")
    assert mean_error(read_image(tmp_path / "a.tif").pixels, PIXELS) < 2


def test_sixteen_bit_grey_keeps_its_tones(tmp_path):
    ramp = np.linspace(0, 65535, WIDTH).round().astype(np.uint16)
    stored = np.tile(ramp, (HEIGHT, 1))
    for name in ("a.png", "a.tif"):
        Image.fromarray(stored).save(tmp_path / name)
        frame = read_image(tmp_path / name)
        expected = np.round(stored / 257)
        np.testing.assert_array_equal(frame.pixels, np.dstack([expected] * 3))


def test_sixteen_bit_color_keeps_its_tones(tmp_path):
    _write_png16(tmp_path / "a.png", (PIXELS.astype(np.uint16) * 257))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, PIXELS)


def test_palette_with_transparency(tmp_path):
    stored = Image.fromarray((np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) % 3).astype("u1"))
    stored.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    stored.save(tmp_path / "a.png", transparency=1)
    frame = read_image(tmp_path / "a.png")
    assert frame.pixels[0, :3].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert frame.alpha is not None and frame.alpha[0, :3].tolist() == [255, 0, 255]


def test_grey_with_alpha(tmp_path):
    grey, alpha = PIXELS[..., 0], see_through(3)
    Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).save(tmp_path / "a.png")
    frame = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(frame.pixels, np.dstack([grey] * 3))
    np.testing.assert_array_equal(frame.alpha, alpha)


def test_one_bit_picture(tmp_path):
    Image.fromarray(PIXELS[..., 0] > 128).save(tmp_path / "a.png")
    expected = np.where(PIXELS[..., :1] > 128, 255, 0).repeat(3, 2)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, expected)


def test_profile_is_converted_to_srgb(tmp_path):
    lab = ImageCms.createProfile("LAB")
    srgb = ImageCms.createProfile("sRGB")
    stored = ImageCms.profileToProfile(picture(), srgb, lab, outputMode="LAB")
    stored.save(tmp_path / "a.tif")
    assert mean_error(read_image(tmp_path / "a.tif").pixels, PIXELS) < 2


def test_wide_profile_is_converted_to_srgb(tmp_path):
    """A profile with red and green exchanged shows that it is used at all."""
    profile = _profile_with_red_and_green_exchanged()
    picture().save(tmp_path / "a.png", icc_profile=profile)
    assert mean_error(read_image(tmp_path / "a.png").pixels, PIXELS[..., [1, 0, 2]]) < 3


def test_broken_profile_is_passed_over(tmp_path):
    picture().save(tmp_path / "a.png", icc_profile=b"no profile at all")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, PIXELS)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif"])
def test_truncated_picture_is_an_error(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match="a\\." + suffix):
        read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("seed", range(40))
def test_damaged_picture_reads_or_is_an_error(tmp_path, seed):
    """Bytes at random places: never an exception that a user should not see."""
    rng = np.random.default_rng(seed)
    suffix = ("png", "jpg", "webp", "gif", "tif", "bmp")[seed % 6]
    path = tmp_path / f"a.{suffix}"
    picture().save(path)
    data = bytearray(path.read_bytes())
    for at in rng.integers(0, min(len(data), 400), 12):
        data[at] = rng.integers(0, 256)
    path.write_bytes(data)
    try:
        read_image(path)
    except SourceError as error:
        assert str(path) in str(error)


def write_heic(path):
    """A smooth picture; the photograph of a telephone."""
    heif = pytest.importorskip("pillow_heif")
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    pixels = np.stack([*np.meshgrid(ramp, ramp), np.full((64, 64), 90, np.uint8)], axis=-1)
    heif.from_pillow(Image.fromarray(pixels)).save(path, quality=95)
    return pixels


def test_a_photograph_of_a_telephone_is_read(tmp_path):
    pixels = write_heic(tmp_path / "a.heic")
    assert identify(tmp_path / "a.heic") == "picture"
    assert np.abs(read_image(tmp_path / "a.heic").pixels.astype(int) - pixels).mean() < 4


def test_without_the_plugin_the_message_names_it(tmp_path, monkeypatch):
    box = b"ftypheic\0\0\0\0mif1heic"
    (tmp_path / "a.jpg").write_bytes((len(box) + 4).to_bytes(4) + box + bytes(99))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(SourceError, match=r"a\.jpg is a HEIC .* pip install pillow-heif"):
        identify(tmp_path / "a.jpg")


def test_an_avif_is_none_of_those(tmp_path):
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "a.avif")
    assert read_image(tmp_path / "a.avif").pixels.shape == (16, 16, 3)


def test_no_picture_is_an_error(tmp_path):
    (tmp_path / "a.png").write_text("I am a text file")
    with pytest.raises(SourceError, match="no picture"):
        read_image(tmp_path / "a.png")


def test_missing_empty_and_folder_are_errors(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(SourceError, match="0 bytes"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(SourceMissingError):
        read_image(tmp_path / "missing.png")
    with pytest.raises(SourceMissingError, match="folder"):
        read_image(tmp_path)


def test_decompression_bomb_is_refused_unread(tmp_path):
    _write_png_header(tmp_path / "bomb.png", 40_000, 40_000)
    with pytest.raises(SourceError, match="40000x40000"):
        read_image(tmp_path / "bomb.png")


def test_large_camera_picture_is_no_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PICTURE_PIXELS", WIDTH * HEIGHT)
    picture().save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").size_px == (WIDTH, HEIGHT)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("suffix", "tolerance"), [("png", 0), ("jpg", 2), ("webp", 3)])
def test_written_picture_reads_back(tmp_path, suffix, tolerance):
    write_image(tmp_path / f"a.{suffix}", PIXELS)
    assert mean_error(read_image(tmp_path / f"a.{suffix}").pixels, PIXELS) <= tolerance


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_alpha_reads_back(tmp_path, suffix):
    write_image(tmp_path / f"a.{suffix}", PIXELS, alpha=see_through(0))
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}").alpha, see_through(0))


def test_lossless_webp_is_lossless(tmp_path):
    write_image(tmp_path / "a.webp", PIXELS, quality=100)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp").pixels, PIXELS)


def test_quality_makes_a_difference(tmp_path):
    for name, quality in (("low", 20), ("high", None)):
        write_image(tmp_path / f"{name}.jpg", PIXELS, quality=quality)
    assert (tmp_path / "low.jpg").stat().st_size < (tmp_path / "high.jpg").stat().st_size


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_metadata_reads_back(tmp_path, suffix):
    said = {"hash": "1234", "style": "ärcane:12 “x”"}
    write_image(tmp_path / f"a.{suffix}", PIXELS, metadata=said)
    write_image(tmp_path / f"b.{suffix}", PIXELS)
    assert read_metadata(tmp_path / f"a.{suffix}") == said
    assert read_metadata(tmp_path / f"b.{suffix}") == {}


def test_refusals_leave_nothing(tmp_path):
    with pytest.raises(SinkError, match="JPEG has no transparency"):
        write_image(tmp_path / "a.jpg", PIXELS, alpha=see_through(0))
    with pytest.raises(SinkError, match=r"not \.bmp"):
        write_image(tmp_path / "a.bmp", PIXELS)
    with pytest.raises(SinkError):
        write_image(tmp_path / "a.webp", np.zeros((2, 20_000, 3), np.uint8))
    assert names(tmp_path) == []


def test_existing_picture_is_kept_without_overwrite(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("mine")
    with pytest.raises(OutputExistsError):
        write_image(path, PIXELS)
    assert path.read_text() == "mine"
    write_image(path, PIXELS, overwrite=True)
    np.testing.assert_array_equal(read_image(path).pixels, PIXELS)


# ── files made by hand ───────────────────────────────────────────────────────────────────────────


def _png_chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _write_png_header(path, width, height, depth=8, rows=b""):
    head = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*chunk) for chunk in chunks))


def _write_png16(path, pixels):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    _write_png_header(path, pixels.shape[1], pixels.shape[0], 16, rows)


def _profile_with_red_and_green_exchanged() -> bytes:
    """sRGB's matrix profile, with the entries of two primaries exchanged in its table of tags."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    for text in (b"sRGB", "sRGB".encode("utf-16-be")):  # else it is taken for sRGB by its name
        while text in data:
            at = data.index(text)
            data[at : at + len(text)] = text.replace(b"s", b"x")
    return bytes(data)


def test_metadata_of_a_damaged_picture_is_refused_in_a_sentence(tmp_path):
    """A PNG that was cut off ended a run over its folder in a traceback."""
    whole = tmp_path / "whole.png"
    dice = np.random.default_rng(3)
    Image.fromarray(dice.integers(0, 255, (40, 40, 3), np.uint8)).save(whole)
    data, path, refused = whole.read_bytes(), tmp_path / "a.png", 0
    for at in range(40, len(data), 37):
        for damaged in (data[:at], data[:at] + b"\xff" * 8 + data[at + 8 :]):
            path.write_bytes(damaged)
            try:
                read_metadata(path)
            except SourceError as error:
                refused += "damaged or cut off" in str(error)
    assert refused
