"""Read and write pictures (Pillow).

Data flow: path -> Frame, and pixels -> path. Whatever a file holds (CMYK, 16 bits, a palette, grey,
an ICC profile, an EXIF orientation), a Frame is upright 8-bit sRGB with its alpha kept aside.
"""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError

from dsgcli.errors import SinkError, SourceError
from dsgcli.media.base import PhotoData
from dsgcli.media.files import AtomicFile, check_input, check_output, sink_error
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
"""Formats that Pillow may try; its other plugins are rare, run other programs, or are videos."""

HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
"""Brands in the first box of a HEIC file (ISO/IEC 23008-12, annex B)."""
UNREAD = {
    b"\xff\x0a": "JPEG XL picture",
    b"\0\0\0\x0cJXL ": "JPEG XL picture",
    b"II\xbc\x01": "JPEG XR picture",
    b"FUJIFILMCCD-RAW": "raw photograph of a camera",
    b"IIRO": "raw photograph of a camera",
    b"IIU\0": "raw photograph of a camera",
    b"II*\0\x10\0\0\0CR": "raw photograph of a camera",
    b"\0\0\0\x18ftypcrx ": "raw photograph of a camera",
    b"v/1\x01": "OpenEXR picture",
    b"#?RADIANCE": "Radiance HDR picture",
    b"<svg": "vector drawing (SVG)",
    b"%PDF": "PDF document",
    b"%!PS": "PostScript document",
}
"""First bytes of pictures that are not read. Some would open as a video, or as a thumbnail."""

READ_SUFFIXES = frozenset(
    {
        *(
            ".png",
            ".apng",
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".jp2",
            ".j2k",
            ".jpx",
            ".webp",
            ".gif",
        ),
        *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".tga", ".ico", ".avif", ".pcx"),
        *(".qoi", ".sgi", ".psd", ".dds", ".heic", ".heif"),
    }
)
"""Endings by which a picture is found in a folder; when it is opened, its content decides."""

JPEG_QUALITY = 95
WEBP_QUALITY = 90
"""Visually lossless; `quality=` overrides either."""

Image.MAX_IMAGE_PIXELS = None  # Pillow warns by its own limit; `open_picture` enforces ours
PngImagePlugin.MAX_TEXT_CHUNK = 1 << 24  # generators of pictures store megabytes of their settings
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
"""Exceptions of Pillow's decoders on damaged files."""
_SRGB = ImageCms.createProfile("sRGB")
_LAB = ImageCms.createProfile("LAB")
_TEXT_KEY = "dsg"
_PNG_XMP = "XML:com.adobe.xmp"
_IPTC = 0x0404
"""Number of the block with the IPTC fields among those of Photoshop."""
_MAX_JPEG_BLOCK = 65_000
"""Bytes of XMP or IPTC that fit into one segment of a JPEG with its head."""
_MAX_COMMENT_BYTES = 1 << 16
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
    """Decode the frame at which an open picture stands.

    Raises:
        SourceError: it is damaged or cut off. A JPEG that lacks nothing but its end mark is whole.
    """
    try:
        try:
            image.load()
        except OSError:
            image = _without_end_mark(path)
        upright = ImageOps.exif_transpose(image)
        alpha = None
        if upright.has_transparency_data:
            alpha = np.array(_eight_bits(upright).convert("RGBA").getchannel("A"))  # (H, W)
        return Frame(pixels=_rgb(upright), alpha=alpha)
    except BROKEN as error:
        raise SourceError(f"{path} is damaged or cut off ({error}); get the file again") from error


def _without_end_mark(path: Path) -> Image.Image:
    """A JPEG whose pixels are all there, though its last two bytes or more are not.

    Raises:
        OSError: pixels are missing. Then what is decoded depends on what is put behind.
    """
    data = path.read_bytes().rstrip(b"\xff")  # half an end mark
    pictures = [
        Image.open(io.BytesIO(data + more + b"\xff\xd9"), formats=("JPEG",))
        for more in (b"", b"\x55" * 64)
    ]
    if pictures[0].tobytes() != pictures[1].tobytes():
        raise OSError("pixels are missing")
    return pictures[0]


def photo_data(image: Image.Image) -> PhotoData:
    """Data of an open picture that still hold when it is drawn: date, camera, position, captions;
    not the orientation, which `load_frame` applies, nor sizes and thumbnails."""
    info = image.info
    xmp = info.get("xmp") or info.get(_PNG_XMP) or b""
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    blocks = info.get("photoshop")  # {number: data}, of a JPEG
    iptc = blocks.get(_IPTC, b"") if isinstance(blocks, dict) else b""
    xmp = re.sub(rb"""\s*tiff:Orientation\s*=\s*(["']).*?\1""", b"", xmp, flags=re.DOTALL)
    for name in (rb"tiff:Orientation", rb"xmp:Thumbnails", rb"xap:Thumbnails"):
        xmp = re.sub(rb"<%b\b.*?</%b\s*>" % (name, name), b"", xmp, flags=re.DOTALL)
    return PhotoData(exif=_lasting_exif(image), xmp=xmp, iptc=iptc)


def _lasting_exif(image: Image.Image) -> bytes:
    try:
        exif = image.getexif()
        for tag in (_ORIENTATION, *_OF_THE_FILE):
            exif.pop(tag, None)
        details = exif.get_ifd(ExifTags.IFD.Exif)
        for tag in _DETAILS_OF_THE_FILE:
            details.pop(tag, None)
        exif.get_ifd(ExifTags.IFD.GPSInfo)  # read now, so that it is written
        return exif.tobytes() if len(exif) else b""
    except BROKEN:
        return b""


def without_location(photo: PhotoData) -> PhotoData:
    """Remove GPS data; XMP and IPTC, which may name places in any words, are removed completely."""
    if not photo.exif:
        return PhotoData()
    exif = Image.Exif()
    exif.load(photo.exif)
    exif.get_ifd(ExifTags.IFD.Exif)
    exif.pop(ExifTags.IFD.GPSInfo, None)
    return PhotoData(exif=exif.tobytes())


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
    """Text of a comment block at the very end of a GIF, in parts of up to 255 bytes."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MAX_COMMENT_BYTES))
        tail = file.read()
    at, text = tail.rfind(b"\x21\xfe") + 2, b""
    while 2 <= at < len(tail) and tail[at]:
        text += tail[at + 1 : at + 1 + tail[at]]
        at += 1 + tail[at]
    return text


def _try_open(path: Path) -> Image.Image | None:
    """An open picture; None if Pillow does not know the content."""
    with path.open("rb") as file:
        head = file.read(64)
    for begin, kind in UNREAD.items():
        if head.startswith(begin):
            raise SourceError(f"{path} is a {kind}, which dsg does not read; export it as PNG")
    brands = {head[at : at + 4] for at in range(8, min(int.from_bytes(head[:4]), len(head)), 4)}
    is_heic = head[4:8] == b"ftyp" and bool(brands & HEIC_BRANDS)
    try:
        image = Image.open(path, formats=_learn_heic(path) if is_heic else FORMATS)
    except UnidentifiedImageError:
        if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
            raise SourceError(
                f"{path} is a web page, not a picture or a video; download the file itself"
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
    # tag 254, bit 0: what comes first in the file is a thumbnail, as in DNG, NEF and ARW
    if image.format == "TIFF" and image.tag_v2.get(254, 0) == 1:  # type: ignore[attr-defined]
        image.close()
        raise SourceError(
            f"{path} is a raw photograph of a camera, which dsg does not read; export it as PNG"
        )
    return image


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
        profiled = plain.convert("RGBA") if plain.has_transparency_data else plain
        profiled = profiled.convert("RGB")
    return np.array(profiled)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow clips 16-bit grey when it converts; scale it instead. Floats are taken as 0 to 1."""
    if image.mode.startswith("I"):
        # 65535 / 257 = 255: exact, where a shift by 8 bits would darken
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
    # profiles are of RGB, grey or CMYK: transparency goes aside, palettes are unfolded
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
    photo: PhotoData | None = None,
    overwrite: bool = False,
) -> None:
    """Write a PNG, JPEG or WebP, as the name says, whole or not at all.

    Args:
        pixels: (H, W, 3) uint8 sRGB.
        alpha: (H, W) uint8, for PNG and WebP.
        quality: 1 to 100; default 95 for JPEG (without chroma subsampling), 90 for WebP, which is
            lossless at 100. PNG is always lossless.
        metadata: `read.read_metadata` finds it; a text chunk in PNG, EXIF in the others.
        photo: data of the photograph, as `photo_data` returns it. PNG and WebP hold no IPTC.

    Raises:
        OutputExistsError: the file exists and `overwrite` is False.
        SinkError: another suffix, alpha in a JPEG, or the disk refuses.
    """
    check_writable(path)
    check_output(path, overwrite=overwrite)
    beside = AtomicFile(path)
    try:
        save(beside.temporary, pixels, alpha=alpha, quality=quality, metadata=metadata, photo=photo)
    except BaseException:
        beside.discard()
        raise
    beside.commit()


def data_url(pixels: Pixels, kind: Literal["JPEG", "WEBP"], quality: int) -> str:
    """A picture (H, W, 3) inside an address, for pages that need no other file.

    Args:
        quality: 1 to 100.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, kind, quality=quality)
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{content}"


def save(
    path: Path,
    pixels: Pixels,
    *,
    alpha: Pixels | None = None,
    quality: int | None = None,
    metadata: Mapping[str, str] | None = None,
    photo: PhotoData | None = None,
) -> None:
    """Write as `write_image` does, straight to `path`: for files in a folder that is renamed
    itself."""
    check_writable(path)
    about, photo = dict(metadata or {}), photo or PhotoData()
    options: dict[str, Any]
    match path.suffix.lower():
        case ".png":
            text = PngImagePlugin.PngInfo()
            if about:
                text.add_itxt(_TEXT_KEY, json.dumps(about))
            if photo.xmp:
                text.add_itxt(_PNG_XMP, photo.xmp.decode("utf-8", "replace"))
            options = {"format": "PNG", "pnginfo": text, "exif": photo.exif}
        case ".webp":
            options = {
                "format": "WEBP",
                "quality": quality or WEBP_QUALITY,
                "lossless": quality == 100,
                "exif": exif_bytes(about, photo.exif),
                "xmp": photo.xmp,
            }
        case _:
            if alpha is not None:
                raise SinkError(f"{path}: a JPEG has no transparency; write a .png or a .webp")
            own = photo.exif if len(photo.exif) < _MAX_JPEG_BLOCK - len(json.dumps(about)) else b""
            options = {
                "format": "JPEG",
                "quality": quality or JPEG_QUALITY,
                "subsampling": "4:4:4",
                "optimize": True,
                "exif": exif_bytes(about, own),
                "xmp": photo.xmp if len(photo.xmp) < _MAX_JPEG_BLOCK else b"",
                "extra": _iptc_segment(photo.iptc),
            }
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


def can_read(path: Path) -> bool:
    """Whether a name ends as those of pictures do that `read_image` reads."""
    return path.suffix.lower() in READ_SUFFIXES


def check_writable(path: Path) -> None:
    """Raise a SinkError if `write_image` does not know the suffix."""
    if not can_write(path):
        suffix = path.suffix.lower() or "nameless"
        raise SinkError(f"{path}: pictures are written as .png, .jpg or .webp, not {suffix}")


def exif_bytes(metadata: Mapping[str, str], own: bytes = b"") -> bytes:
    """EXIF data of a photograph, if any, with the metadata as the user's comment; empty if there
    is neither."""
    if not metadata:
        return own
    exif = Image.Exif()
    if own:
        exif.load(own)
        if ExifTags.IFD.GPSInfo in exif:
            exif.get_ifd(ExifTags.IFD.GPSInfo)  # read now, so that it is written
    comment = _ASCII + json.dumps(dict(metadata)).encode("ascii")
    exif.get_ifd(ExifTags.IFD.Exif)[_USER_COMMENT] = comment
    return exif.tobytes()


def _iptc_segment(fields: bytes) -> bytes:
    """An APP13 segment of a JPEG with these IPTC fields, as Photoshop writes them."""
    if not 0 < len(fields) < _MAX_JPEG_BLOCK:
        return b""
    block = (
        struct.pack(">4sHHI", b"8BIM", _IPTC, 0, len(fields)) + fields + b"\0" * (len(fields) % 2)
    )
    data = b"Photoshop 3.0\0" + block
    return b"\xff\xed" + struct.pack(">H", len(data) + 2) + data
