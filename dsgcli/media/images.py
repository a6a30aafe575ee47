"""Read and write pictures (Pillow).

Data flow: path -> Frame, and pixels -> path. Whatever a file holds (CMYK, 16 bits, a palette, grey,
an ICC profile, an EXIF orientation), a Frame is upright 8-bit sRGB with its alpha kept aside.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError

from dsgcli.errors import SinkError, SourceError
from dsgcli.media.files import Beside, check_input, check_output, sink_error
from dsgcli.types import Frame

if TYPE_CHECKING:
    from dsgcli.types import Pixels

MAX_PICTURE_PIXELS = 1 << 28
"""Largest picture that is read: 268 million pixels, 0.8 GB of RGB. Above the largest cameras (200
million), and far below what a decompression bomb unfolds to."""

FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "AVIF"),
    *("JPEG2000", "PCX", "QOI", "SGI", "PSD", "DDS"),
)
"""What Pillow may try; the rest of its plugins are obscure, run other programs, or are videos."""

HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
"""What the first box of a HEIC file says it is compatible with (ISO/IEC 23008-12, annex B)."""

JPEG_QUALITY = 95
WEBP_QUALITY = 90
"""Visually lossless; `quality=` overrides either."""

Image.MAX_IMAGE_PIXELS = None  # Pillow warns by its own limit; `open_picture` enforces ours
warnings.filterwarnings("ignore", module=r"PIL\.")  # what it says of odd tags helps no user

BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    MemoryError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    AttributeError,
)
"""What Pillow's decoders raise on damaged files."""
_SRGB = ImageCms.createProfile("sRGB")
_LAB = ImageCms.createProfile("LAB")
_TEXT_KEY = "dsg"
_LAST_BYTES = 1 << 16
_ORIENTATION = ExifTags.Base.Orientation
_OF_THE_FILE = (
    *(ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength, ExifTags.Base.Compression),
    *(ExifTags.Base.JpegIFOffset, ExifTags.Base.JpegIFByteCount, ExifTags.Base.StripOffsets),
    *(ExifTags.Base.StripByteCounts, ExifTags.Base.RowsPerStrip, ExifTags.Base.BitsPerSample),
    *(ExifTags.Base.SamplesPerPixel, ExifTags.Base.PhotometricInterpretation),
    *(ExifTags.Base.PlanarConfiguration, ExifTags.Base.InterColorProfile),
)
"""Tags that describe how the old file stores its pixels."""
_DETAILS_OF_THE_FILE = (
    *(ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.Base.MakerNote),
    *(ExifTags.Base.ColorSpace, ExifTags.Base.ComponentsConfiguration),
)
_USER_COMMENT, _ASCII = ExifTags.Base.UserComment, b"ASCII\0\0\0"


JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
"""How JPEG XL files begin: a bare codestream, a container (ISO/IEC 18181-2)."""

# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def identify(path: Path) -> str | None:
    """ "picture", "animation" (more than one frame), or None if Pillow does not know the content.

    Raises:
        SourceMissingError, SourceError: nothing readable there, or larger than
            `MAX_PICTURE_PIXELS`.
    """
    check_input(path)
    image = _try_open(path)
    if image is None:
        return None
    with image:
        moving = image.format in ("GIF", "WEBP", "PNG", "AVIF")
        return "animation" if moving and num_frames(image) > 1 else "picture"


def read_image(path: Path) -> Frame:
    """The picture in a file, upright, sRGB; the first frame of several.

    Raises:
        SourceMissingError: it does not exist, or is a folder.
        SourceError: empty, no picture, truncated, damaged, or larger than `MAX_PICTURE_PIXELS`.
    """
    with open_picture(path) as image:
        return load_frame(image, path)


def read_opaque(path: Path) -> Frame:
    """The picture in a file on a white ground, as viewers show it: colors that are stored under
    transparent pixels must not be learnt. Raises as `read_image`."""
    frame = read_image(path)
    if frame.alpha is None:
        return frame
    share = frame.alpha[:, :, None].astype(np.float32) / 255.0  # (H, W, 1)
    pixels = np.rint(255.0 + share * (frame.pixels.astype(np.float32) - 255.0))
    return replace(frame, pixels=pixels.astype(np.uint8), alpha=None)


def open_picture(path: Path) -> Image.Image:
    """Open a picture without decoding it yet. Raises as `read_image`."""
    check_input(path)
    image = _try_open(path)
    if image is None:
        raise SourceError(f"{path} is no picture that can be read; convert it to PNG or JPEG")
    return image


def load_frame(image: Image.Image, path: Path) -> Frame:
    """Decode the frame at which an open picture stands."""
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        return Frame(pixels=_rgb(upright), alpha=_alpha(upright))
    except BROKEN as error:
        raise SourceError(f"{path} is damaged or cut off ({error}); get the file again") from error


def exif_of(image: Image.Image) -> bytes:
    """EXIF data of an open picture that still hold when it is drawn: date, camera, position; not
    the orientation, which `load_frame` applies, nor sizes and thumbnails. Empty if there are
    none."""
    try:
        exif = image.getexif()
        for tag in (_ORIENTATION, *_OF_THE_FILE):
            exif.pop(tag, None)
        details = exif.get_ifd(ExifTags.IFD.Exif)
        for tag in _DETAILS_OF_THE_FILE:
            details.pop(tag, None)
        exif.get_ifd(ExifTags.IFD.GPSInfo)
        return exif.tobytes() if len(exif) else b""
    except BROKEN:
        return b""


def num_frames(image: Image.Image) -> int:
    """Frames of an open picture, counted; damaged ends do not count."""
    try:
        return int(getattr(image, "n_frames", 1))
    except BROKEN:
        return 1


def read_own_text(path: Path) -> bytes | str:
    """The text that a sink or `write_image` put into a picture or an animation; empty if none did.
    Raises as `open_picture`."""
    with open_picture(path) as image:
        if image.format == "GIF":
            return _last_comment(path)
        if _TEXT_KEY in image.info:
            return str(image.info[_TEXT_KEY])
        try:
            comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(_USER_COMMENT, b"")
        except BROKEN as error:  # that of a PNG may lie behind its pixels
            raise SourceError(
                f"{path} is damaged or cut off ({error}); get the file again"
            ) from error
        return comment.removeprefix(_ASCII) if isinstance(comment, bytes) else str(comment)


def _last_comment(path: Path) -> bytes:
    """Of a GIF: the text of a comment block at the very end, in parts of up to 255 bytes."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST_BYTES))
        tail = file.read()
    at, text = tail.rfind(b"\x21\xfe") + 2, b""
    while 2 <= at < len(tail) and tail[at]:
        text += tail[at + 1 : at + 1 + tail[at]]
        at += 1 + tail[at]
    return text


def _try_open(path: Path) -> Image.Image | None:
    try:
        image = Image.open(path, formats=_learn_heic(path) if _is_heic(path) else FORMATS)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            if file.read(12).startswith(JPEG_XL):
                raise SourceError(
                    f"{path} is a JPEG XL picture, which dsg does not read; export it as PNG"
                ) from None
        return None
    except BROKEN as error:
        raise SourceError(f"{path} cannot be read ({error}); get the file again") from error
    width, height = image.size
    if width * height > MAX_PICTURE_PIXELS:
        image.close()
        raise SourceError(
            f"{path} unfolds to {width}x{height} pixels; at most "
            f"{MAX_PICTURE_PIXELS / 1e6:.0f} million are read, so make it smaller first"
        )
    return image


def _is_heic(path: Path) -> bool:
    """Whether a file is a photograph as telephones take it."""
    with path.open("rb") as file:
        head = file.read(64)
    size = int.from_bytes(head[:4])
    brands = {head[at : at + 4] for at in range(8, min(size, len(head)), 4)}
    return head[4:8] == b"ftyp" and bool(brands & HEIC_BRANDS)


def _learn_heic(path: Path) -> tuple[str, ...]:
    """Let Pillow read HEIC, with the plugin that does, if it is installed; the format's name.

    Raises:
        SourceError: it is not.
    """
    try:
        import pillow_heif
    except ImportError:
        raise SourceError(
            f"{path} is a HEIC photograph, which takes a package of its own to read: "
            f"pip install pillow-heif, or export it as JPEG"
        ) from None
    pillow_heif.register_heif_opener()
    return ("HEIF",)


def _rgb(image: Image.Image) -> Pixels:
    """(H, W, 3) uint8 sRGB."""
    plain = _eight_bits(image)
    profiled = _through_profile(plain, image.info.get("icc_profile"))
    if profiled is None:
        # RGBA first: a palette's or tRNS's transparent entry must not be blended with black
        profiled = plain.convert("RGBA") if _has_alpha(plain) else plain
        profiled = profiled.convert("RGB")
    return np.array(profiled)


def _alpha(image: Image.Image) -> Pixels | None:
    """(H, W) uint8, or None for a picture without transparency."""
    if not _has_alpha(image):
        return None
    return np.array(_eight_bits(image).convert("RGBA").getchannel("A"))


def _has_alpha(image: Image.Image) -> bool:
    return bool(image.has_transparency_data)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow clips 16-bit grey when it converts; scale it instead. Floats are taken as 0 to 1."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        return Image.fromarray((np.asarray(image).clip(0, 1) * 255).round().astype(np.uint8))
    return image


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Convert from the embedded profile to sRGB; None if there is none, or it cannot be used."""
    if image.mode == "LAB":
        return ImageCms.profileToProfile(image, _LAB, _SRGB, outputMode="RGB")
    if not profile:
        return None
    source = image
    if image.mode in ("P", "PA", "LA", "RGBA", "1"):
        source = image.convert("L" if image.mode in ("LA", "1") else "RGB")
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(embedded).lower():
            return None
        return ImageCms.profileToProfile(source, embedded, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None  # a broken profile, or one of another color model, is as good as none


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def write_image(
    path: Path,
    pixels: Pixels,
    *,
    alpha: Pixels | None = None,
    quality: int | None = None,
    metadata: Mapping[str, str] | None = None,
    exif: bytes = b"",
    overwrite: bool = False,
) -> None:
    """Write a PNG, JPEG or WebP, as the name says, whole or not at all.

    Args:
        pixels: (H, W, 3) uint8 sRGB.
        alpha: (H, W) uint8, for PNG and WebP.
        quality: 1 to 100; default 95 for JPEG (without chroma subsampling), 90 for WebP, which is
            lossless at 100. PNG is always lossless.
        metadata: `sources.read_metadata` finds it; a text chunk in PNG, EXIF in the others.
        exif: of the photograph, as `exif_of` gives it.

    Raises:
        OutputExistsError: the file exists and `overwrite` is False.
        SinkError: another suffix, alpha in a JPEG, or the disk refuses.
    """
    _save_options(path, quality, {})  # says at once if the suffix is no good
    check_output(path, overwrite=overwrite)
    beside = Beside(path)
    try:
        save(beside.temporary, pixels, alpha=alpha, quality=quality, metadata=metadata, exif=exif)
    except BaseException:
        beside.discard()
        raise
    beside.commit()


def save(
    path: Path,
    pixels: Pixels,
    *,
    alpha: Pixels | None = None,
    quality: int | None = None,
    metadata: Mapping[str, str] | None = None,
    exif: bytes = b"",
) -> None:
    """As `write_image`, straight to its place: for files in a folder that is renamed itself."""
    options = _save_options(path, quality, dict(metadata or {}), exif)
    if alpha is not None and options["format"] == "JPEG":
        raise SinkError(f"{path}: a JPEG has no transparency; write a .png or a .webp")
    stored = pixels if alpha is None else np.dstack([pixels, alpha])
    try:
        Image.fromarray(np.ascontiguousarray(stored)).save(path, **options)
    except OSError as error:
        raise sink_error(path, error) from error
    except ValueError as error:  # larger than the format allows
        raise SinkError(f"{path} cannot be written: {error}") from error


def can_write(path: Path) -> bool:
    """Whether `write_image` knows the suffix."""
    return path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp")


def _save_options(
    path: Path, quality: int | None, metadata: dict[str, str], exif: bytes = b""
) -> dict[str, Any]:
    """Arguments for Pillow's save."""
    match path.suffix.lower():
        case ".png":
            own = {"exif": exif} if exif else {}
            return {"format": "PNG", "pnginfo": _text_chunk(metadata), **own}
        case ".jpg" | ".jpeg":
            return {
                "format": "JPEG",
                "quality": quality or JPEG_QUALITY,
                "subsampling": "4:4:4",
                "optimize": True,
                **_exif(metadata, exif),
            }
        case ".webp":
            return {
                "format": "WEBP",
                "quality": quality or WEBP_QUALITY,
                "lossless": quality == 100,
                **_exif(metadata, exif),
            }
        case suffix:
            raise SinkError(
                f"{path}: pictures are written as .png, .jpg or .webp, not {suffix or 'nameless'}"
            )


def _text_chunk(metadata: dict[str, str]) -> PngImagePlugin.PngInfo | None:
    if not metadata:
        return None
    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt(_TEXT_KEY, json.dumps(metadata))
    return chunk


def _exif(metadata: dict[str, str], own: bytes) -> dict[str, bytes]:
    if not metadata and not own:
        return {}
    return {"exif": exif_bytes(metadata, own) if metadata else own}


def exif_bytes(metadata: dict[str, str], own: bytes = b"") -> bytes:
    """EXIF data of a photograph, if any, with the metadata as the user's comment."""
    exif = Image.Exif()
    if own:
        exif.load(own)
        exif.get_ifd(ExifTags.IFD.GPSInfo)
    exif.get_ifd(ExifTags.IFD.Exif)[_USER_COMMENT] = _ASCII + json.dumps(metadata).encode("ascii")
    return exif.tobytes()
