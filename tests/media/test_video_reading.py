"""The torture set: what phones, cameras and broken disks make of a video is read right."""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from media.clips import COUNT, HEIGHT, WIDTH, drawn, number_of, see_through, write_clip

from dsgcli.errors import SourceError
from dsgcli.media import video_reader
from dsgcli.media.color import orientation
from dsgcli.media.read import open_source


def read(path, **settings):
    with open_source(path, **settings) as source:
        return list(source), source.info


def mean_error(a, b):
    return np.abs(a.astype(int) - b.astype(int)).mean()


# ── time ─────────────────────────────────────────────────────────────────────────────────────────

VARIABLE = [0, 512, 1024, 1700, 1701, 5000, 5120, 9000, 12800, 12900, 14000, 25600]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_variable_rate_keeps_every_time_exactly(tmp_path, name):
    base = Fraction(1, 12800) if name != "a.mkv" else Fraction(1, 1000)
    found, _ = read(write_clip(tmp_path / name, stamps=VARIABLE, time_base=base))
    assert [frame.time for frame in found] == [stamp * base for stamp in VARIABLE]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_late_start_is_time_zero(tmp_path, name):
    found, info = read(write_clip(tmp_path / name, start_s=Fraction(3, 2)))
    assert [frame.time for frame in found] == [Fraction(i, 25) for i in range(COUNT)]
    assert info.origin > 1


def test_picture_that_starts_after_the_sound_stays_late(tmp_path):
    path = write_clip(
        tmp_path / "a.mkv",
        stamps=[300 + 40 * i for i in range(COUNT)],
        time_base=Fraction(1, 1000),
        audio=["libopus"],
        audio_s=Fraction(1),
    )
    found, info = read(path)
    assert abs(found[0].time - Fraction(3, 10)) < Fraction(1, 100)
    assert info.duration >= Fraction(3, 4)


def test_repeated_and_backward_stamps_lose_no_frame(tmp_path):
    path = write_raw_stamps(tmp_path / "a.mkv", [0, 1, 2, 2, 4, 3, 6, 7, 8, 9, 10, 11])
    found, info = read(path)
    assert [number_of(frame.pixels) for frame in found] == list(range(COUNT))
    times = [frame.time * 25 for frame in found]
    assert times == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert "no usable timestamp" in info.warnings[0]


def test_clock_that_starts_over_is_joined(tmp_path):
    """Two recordings in one transport stream, as `cat a.ts b.ts` makes."""
    one = write_clip(tmp_path / "a.ts", start_s=Fraction(5))
    data = one.read_bytes()
    one.write_bytes(data + data)
    found, info = read(one)
    assert [number_of(frame.pixels) for frame in found] == [*range(COUNT), *range(COUNT)]
    steps = {b.time - a.time for a, b in pairwise(found)}
    assert max(steps) < Fraction(1, 5)
    assert info.warnings


def test_counts_and_rates_of_headers_are_not_trusted(tmp_path):
    """A Matroska file whose header says a hundredth of its length."""
    path = write_clip(
        tmp_path / "a.mkv", stamps=[i * 40 for i in range(COUNT)], time_base=Fraction(1, 1000)
    )
    data = path.read_bytes()
    at = data.index(b"\x44\x89")  # the element Duration
    (duration,) = struct.unpack(">d", data[at + 3 : at + 11])
    path.write_bytes(data[: at + 3] + struct.pack(">d", duration / 100) + data[at + 11 :])
    found, _ = read(path)
    assert [number_of(frame.pixels) for frame in found] == list(range(COUNT))


# ── geometry ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", ["", "h", "v"])
def test_rotation_and_flips_are_applied(tmp_path, name, degrees, flip):
    """PyAV's rotation is counter-clockwise, then the mirror; numpy's rot90 too."""
    path = write_clip(tmp_path / name, count=2, rotate=(degrees, "h" in flip, "v" in flip))
    found, info = read(path)
    expected = np.rot90(drawn(1), degrees // 90)
    expected = expected[:, ::-1] if flip == "h" else expected[::-1] if flip == "v" else expected
    assert found[1].pixels.shape == expected.shape
    assert mean_error(found[1].pixels, expected) < 1.5
    assert info.size_px == found[1].size_px


@pytest.mark.parametrize("size", [(63, 47), (64, 47), (63, 48), (50, 38)])
def test_odd_sizes_are_read_whole(tmp_path, size):
    found, info = read(write_clip(tmp_path / "a.mp4", count=2, size=size))
    assert found[0].size_px == info.size_px == size
    assert mean_error(found[1].pixels, drawn(1, *size)) < 1.5


@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(16, 11), (94, 48)), (Fraction(2, 1), (128, 48)), (Fraction(1, 2), (64, 96))],
)
def test_pixels_are_made_square(tmp_path, aspect, size):
    found, info = read(write_clip(tmp_path / "a.mp4", count=2, aspect=aspect))
    assert found[0].size_px == info.size_px == size
    assert number_of_stretched(found[1].pixels) == 1


def number_of_stretched(pixels):
    from PIL import Image

    return number_of(np.asarray(Image.fromarray(pixels).resize((WIDTH, HEIGHT))))


def test_nonsense_aspect_is_passed_over(tmp_path):
    found, _ = read(write_clip(tmp_path / "a.mkv", count=1, aspect=Fraction(1, 200)))
    assert found[0].size_px == (WIDTH, HEIGHT)


def test_turned_picture_with_oblong_pixels(tmp_path):
    path = write_clip(tmp_path / "a.mp4", count=1, aspect=Fraction(2, 1), rotate=(90, False, False))
    assert read(path)[0][0].size_px == (48, 128)


def combed(number, width, height):
    """Two fields of different times, a bar that moves between them."""
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[0::2, 4 * number : 4 * number + 8] = 220
    pixels[1::2, 4 * number + 2 : 4 * number + 10] = 220
    return pixels


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.ts", "mpeg2video")])
def test_interlaced_video_is_deinterlaced_frame_for_frame(tmp_path, name, codec):
    if codec == "libx264":
        options, base = {"x264-params": "tff=1", "crf": "1"}, Fraction(1, 12800)
    else:
        options, base = {"qmin": "1", "qmax": "2"}, Fraction(1, 25)
    path = write_clip(
        tmp_path / name,
        codec=codec,
        pix_fmt="yuv420p",
        options=options,
        interlaced=True,
        time_base=base,
        draw=combed,
    )
    found, info = read(path)
    assert info.interlaced and len(found) == COUNT
    assert [frame.time for frame in found] == [Fraction(i, 25) for i in range(COUNT)]
    for number, frame in enumerate(found[1:-1], 1):
        rows = frame.pixels[8:40, 4 * number : 4 * number + 8, 1].astype(int)
        between = np.abs(np.diff(rows, axis=0)).mean()
        assert between < 8  # combs differ by 180 in two columns of eight: 45 on average


def test_progressive_video_is_left_alone(tmp_path):
    found, info = read(write_clip(tmp_path / "a.mp4", draw=combed))
    assert not info.interlaced
    assert mean_error(found[3].pixels, combed(3, WIDTH, HEIGHT)) < 1.5


# ── color ────────────────────────────────────────────────────────────────────────────────────────

TAGS = {
    "bt601": {"colorspace": 6, "color_primaries": 6, "color_trc": 6, "color_range": 1},
    "bt601-pal": {"colorspace": 5, "color_primaries": 5, "color_trc": 6, "color_range": 1},
    "bt709": {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1},
    "full": {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 2},
    "full601": {"colorspace": 6, "color_range": 2},
    "untagged": {},
}


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv444p10le"])
def test_matrix_range_and_depth_are_read_right(tmp_path, tags, pix_fmt):
    found, info = read(write_clip(tmp_path / "a.mp4", count=2, pix_fmt=pix_fmt, color=TAGS[tags]))
    assert mean_error(found[1].pixels, drawn(1)) < 1
    assert info.color.full_range == tags.startswith("full")
    assert info.color.guessed == (tags == "untagged")
    assert info.color.bits == (10 if "10" in pix_fmt else 8)


def test_untagged_high_definition_is_taken_as_bt709(tmp_path):
    """Written with the bt709 matrix, but no tag says so."""

    def big(number, width, height):
        return np.full((height, width, 3), (200, 60, 30), np.uint8)

    path = tmp_path / "a.mkv"
    write_clip(path, count=1, size=(1280, 720), draw=big, color={"colorspace": 1}, tagged=False)
    found, info = read(path)
    assert info.color.guessed
    assert info.color.matrix == 1
    assert mean_error(found[0].pixels, big(0, 1280, 720)) < 1.5


@pytest.mark.parametrize("codec", ["ffv1", "libx264rgb", "png", "qtrle"])
def test_rgb_video_is_read_exactly(tmp_path, codec):
    pix_fmt = {"ffv1": "bgr0"}.get(codec, "rgb24")
    name = "a.mov" if codec in ("png", "qtrle") else "a.mkv"
    options = {"crf": "0"} if codec == "libx264rgb" else {}
    path = write_clip(tmp_path / name, codec=codec, pix_fmt=pix_fmt, options=options)
    for number, frame in enumerate(read(path)[0]):
        np.testing.assert_array_equal(frame.pixels, drawn(number))


def test_wide_gamut_is_converted(tmp_path):
    """A bt2020 grey stays grey; a bt2020 red is more saturated than sRGB can be."""

    def patches(number, width, height):
        pixels = np.full((height, width, 3), 128, np.uint8)
        pixels[:, width // 2 :] = (160, 90, 90)
        return pixels

    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 14, "color_range": 1}
    found, _ = read(write_clip(tmp_path / "a.mp4", count=1, draw=patches, color=tags))
    grey, red = found[0].pixels[24, 8].astype(int), found[0].pixels[24, 56].astype(int)
    assert np.abs(grey - 128).max() <= 2
    np.testing.assert_allclose(red, bt2020_to_srgb((160, 90, 90)), atol=4)


def bt2020_to_srgb(rgb):
    """BT.2087, with the transfer function of both (BT.709's)."""

    def to_linear(v):
        return np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))

    def from_linear(v):
        return np.where(v < 0.018, v * 4.5, 1.099 * v**0.45 - 0.099)

    matrix = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    linear = np.array(matrix) @ to_linear(np.array(rgb) / 255)
    return from_linear(linear.clip(0, 1)) * 255


def pq_ramp(number, width, height):
    """Grey patches of 1, 10, 100, 203 and 1000 cd/m2 in PQ (SMPTE ST 2084)."""
    y = np.array([0, 1, 10, 100, 203, 1000]) / 10_000
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    code = ((c1 + c2 * y**m1) / (1 + c3 * y**m1)) ** m2
    row = np.repeat(np.round(code * 255), -(-width // 6))[:width]
    return np.tile(row[None, :, None], (height, 1, 3)).astype(np.uint8)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_mapped_to_a_full_range_of_tones(tmp_path, transfer, name):
    draw = pq_ramp if name == "PQ" else hlg_ramp
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": transfer, "color_range": 1}
    found, info = read(
        write_clip(tmp_path / "a.mp4", count=2, pix_fmt="yuv444p10le", draw=draw, color=tags)
    )
    tones = found[1].pixels[24, 5::11].astype(int)
    assert info.color.hdr and "HDR" in info.warnings[0]
    assert np.abs(tones - tones.mean(1, keepdims=True)).max() <= 2, "grey stays grey"
    levels = tones.mean(1)
    assert (np.diff(levels) > 4).all(), "every step of brightness stays visible"
    assert levels[0] <= 2 and 200 <= levels[4] <= 240, "diffuse white is bright, with room above"


def hlg_ramp(number, width, height):
    """HLG signal levels; 0.75 is diffuse white (BT.2408)."""
    row = np.repeat(np.round(np.array([0, 0.1, 0.25, 0.5, 0.75, 1]) * 255), -(-width // 6))[:width]
    return np.tile(row[None, :, None], (height, 1, 3)).astype(np.uint8)


def with_alpha(number, width, height):
    return np.dstack([drawn(number, width, height), see_through(number, width, height)])


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("a.webm", "libvpx-vp9", "yuva420p", {"lossless": "1"}),
        ("a.mkv", "libvpx-vp9", "yuva420p", {"lossless": "1"}),
        ("a.webm", "libvpx", "yuva420p", {"auto-alt-ref": "0", "crf": "4", "b": "3000000"}),
        ("a.mov", "prores_ks", "yuva444p10le", {}),
        ("a.mov", "qtrle", "argb", {}),
        ("a.mov", "png", "rgba", {}),
        ("a.mkv", "ffv1", "bgra", {}),
    ],
)
def test_alpha_is_kept_aside(tmp_path, name, codec, pix_fmt, options):
    path = write_clip(
        tmp_path / name, codec=codec, pix_fmt=pix_fmt, options=options, draw=with_alpha
    )
    found, info = read(path)
    assert info.has_alpha and len(found) == COUNT
    for number, frame in enumerate(found):
        assert number_of(frame.pixels) == number
        assert mean_error(frame.alpha, see_through(number)) < 1


# ── damage ───────────────────────────────────────────────────────────────────────────────────────

LONG = 60
PLAIN = {"crf": "5", "g": "6"}


def noisy(number, width, height):
    """Every frame needs about as many bytes, so that half a file is half the frames."""
    noise = np.random.default_rng(number).integers(0, 60, (height, width, 3))
    return (drawn(number % 16, width, height) * 0.7 + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "codec", "mux_options"),
    [
        ("a.mp4", "libx264", {"movflags": "+faststart"}),
        ("a.mp4", "libx264", {"movflags": "+frag_keyframe+empty_moov"}),
        ("a.mkv", "libx264", {}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.avi", "libx264", {}),
        ("a.ts", "libx264", {}),
    ],
)
def test_truncated_video_yields_all_frames_that_exist(tmp_path, name, codec, mux_options):
    path = write_clip(
        tmp_path / name,
        count=LONG,
        codec=codec,
        pix_fmt="yuv420p",
        options=PLAIN if codec == "libx264" else {"crf": "5", "cpu-used": "8", "g": "6"},
        mux_options=mux_options,
        draw=noisy,
    )
    whole, _ = read(path)
    assert len(whole) == LONG
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    found, info = read(path)
    assert LONG * 0.4 < len(found) < LONG * 0.75
    for part, same in zip(found[:-2], whole, strict=False):
        np.testing.assert_array_equal(part.pixels, same.pixels)
    if name != "a.ts":  # a transport stream has no header that would promise more
        assert info.truncated and any("cut off" in text for text in info.warnings)


def test_no_frame_is_lost_before_a_cut(tmp_path):
    """Each frame whose packet is complete comes out, wherever the cut is."""
    path = write_clip(
        tmp_path / "a.mp4", count=24, options={"crf": "5", "bf": "0"}, pix_fmt="yuv420p",
        mux_options={"movflags": "+faststart"}, draw=noisy,
    )  # fmt: skip
    with av.open(str(path)) as container:
        ends = [entry.pos + entry.size for entry in container.streams.video[0].index_entries]
    data = path.read_bytes()
    for cut in (ends[7] - 1, ends[7], ends[7] + 1, ends[11] + 40):
        path.write_bytes(data[:cut])
        assert len(read(path)[0]) == sum(end <= cut for end in ends)


def test_mp4_without_index_says_what_happened(tmp_path):
    path = write_clip(tmp_path / "a.mp4", options=PLAIN)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match="cut off before its index"):
        open_source(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_damage_in_the_middle_is_survived(tmp_path, name):
    path = write_clip(tmp_path / name, count=LONG, options=PLAIN, pix_fmt="yuv420p", draw=noisy)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1500] = np.random.default_rng(0).bytes(1500)
    path.write_bytes(data)
    found, _ = read(path)
    assert LONG * 0.7 < len(found) <= LONG
    assert found[-1].time >= Fraction(LONG - 3, 25), "what follows the damage is there"


def test_damage_without_end_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(video_reader, "MAX_DAMAGED_IN_A_ROW", 5)
    path = write_clip(
        tmp_path / "a.mp4", count=LONG, options={"crf": "5", "bf": "0"}, pix_fmt="yuv420p",
        mux_options={"movflags": "+faststart"}, draw=noisy,
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    with open_source(path) as source, pytest.raises(SourceError, match="pass --end"):
        list(source)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_bytes_at_random_places_raise_nothing_unexpected(tmp_path, name, seed, one_clip):
    rng = np.random.default_rng(seed)
    data = bytearray(one_clip[name])
    for at in rng.integers(0, len(data), 30):
        data[at] = rng.integers(0, 256)
    (tmp_path / name).write_bytes(data)
    try:
        with open_source(tmp_path / name) as source:
            times = [frame.time for frame in source]
    except SourceError as error:
        assert name in str(error) or "colors" in str(error)
    else:
        assert times and all(a < b for a, b in pairwise(times))


@pytest.fixture(scope="module")
def one_clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    names = ["a.mp4", "a.mkv", "a.ts", "a.avi"]
    return {n: write_clip(folder / n, audio=["aac"], options=PLAIN).read_bytes() for n in names}


# ── streams ──────────────────────────────────────────────────────────────────────────────────────


def test_streams_are_listed(tmp_path):
    path = write_clip(
        tmp_path / "a.mkv",
        audio=["aac", "libopus"],
        subtitles="subrip",
        metadata={"title": "A film"},
    )
    info = open_source(path).info
    assert [(s.kind, s.codec, s.language) for s in info.streams] == [
        ("video", "h264", None),
        ("audio", "aac", "eng"),
        ("audio", "opus", "fra"),
        ("subtitle", "subrip", "deu"),
    ]
    assert info.metadata["title"] == "A film" and info.codec == "h264"


def test_one_frame_is_a_video_too(tmp_path):
    found, info = read(write_clip(tmp_path / "a.mp4", count=1))
    assert [number_of(frame.pixels) for frame in found] == [0]
    assert info.kind == "video" and found[0].time == 0


def write_raw_stamps(path, stamps):
    """Muxers refuse such stamps, so they are written into the blocks of a finished Matroska file:
    a size, track 1, 16 bits of time in milliseconds."""
    one_cluster = {"cluster_time_limit": "9000", "cluster_size_limit": "9000000"}
    write_clip(
        path, codec="ffv1", pix_fmt="bgr0", time_base=Fraction(1, 1000), mux_options=one_cluster
    )
    data = path.read_bytes()
    for number, stamp in reversed(list(enumerate(stamps))):
        head = re.compile(rb"\xa3..\x81" + re.escape(struct.pack(">h", 40 * number)), re.DOTALL)
        place = max(match.end() for match in head.finditer(data)) - 2
        data = data[:place] + struct.pack(">h", 40 * stamp) + data[place + 2 :]
    path.write_bytes(data)
    return path


# ── holes ────────────────────────────────────────────────────────────────────────────────────────


def without_packets(path, target, lost):
    """The same video without some of its packets: what is left where a disk lost a piece."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        stream = source.streams.video[0]
        copied = out.add_stream_from_template(stream)
        for number, packet in enumerate(p for p in source.demux(stream) if p.size):
            if number not in lost:
                packet.stream = copied
                out.mux(packet)
    return target


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_frames_that_are_missing_in_the_middle_are_mentioned(tmp_path, name):
    """A file of 12 frames with a hole gave 8, and nothing was said."""
    whole = write_clip(tmp_path / f"whole-{name}", codec="mjpeg", pix_fmt="yuvj444p")
    path = without_packets(whole, tmp_path / name, lost=range(5, 9))
    found, info = read(path)
    assert len(found) == COUNT - 4
    told = "4 frames are missing, from 0.16 to 0.36 s: the file may have lost a piece"
    assert told in info.warnings


def test_frames_that_come_unevenly_by_nature_are_not_called_missing(tmp_path):
    _, info = read(write_clip(tmp_path / "a.mkv", stamps=VARIABLE, time_base=Fraction(1, 12800)))
    assert not any("missing" in warning for warning in info.warnings)
    _, info = read(write_clip(tmp_path / "b.mp4"))
    assert not info.warnings


def test_frames_of_avi_with_b_frames_come_evenly(tmp_path):
    """AVI stamps its packets in the order in which they are decoded."""
    options = {"crf": "5", "bf": "2", "b-adapt": "0", "g": "24"}
    path = write_clip(tmp_path / "a.avi", count=15, pix_fmt="yuv420p", options=options)
    found, info = read(path)
    assert [number_of(frame.pixels) for frame in found] == list(range(15))
    steps = {later.time - frame.time for frame, later in pairwise(found)}
    assert steps == {Fraction(1, 25)}
    assert info.warnings == []


def test_side_data_of_an_unknown_kind_turns_nothing():
    """PyAV raises for all side data of a frame if one kind of it is unknown (a damaged TIFF)."""

    class Frame:
        @property
        def side_data(self):
            raise ValueError("31 is not a valid Type")

    assert orientation(Frame()) == (1, 0, 0, 1)
