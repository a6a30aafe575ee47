"""From a source through a sink: what a video had, its copy has too."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from media.clips import COUNT, HEIGHT, WIDTH, drawn, frames, names, number_of, write_clip

from dsgcli.errors import SinkError, UsageError
from dsgcli.media.base import SinkOptions
from dsgcli.media.read import open_source
from dsgcli.media.remux import pick_layout
from dsgcli.media.segments import join_segments, open_segment
from dsgcli.media.write import open_sink

VARIABLE = [0, 512, 1024, 1700, 1701, 5000, 5120, 9000, 12800, 12900, 14000, 25600]
LOSSLESS = {
    "h264": ("a.mp4", {"codec": "h264", "crf": 0}),
    "h264-444": ("a.mp4", {"codec": "h264", "crf": 0, "pix_fmt": "yuv444p"}),
    "h264-rgb": ("a.mkv", {"codec": "libx264rgb", "crf": 0}),
    "ffv1": ("a.mkv", {"codec": "ffv1"}),
    "vp9": ("a.webm", {"codec_options": {"lossless": "1", "cpu-used": "8"}}),
    "qtrle": ("a.mov", {"codec": "qtrle"}),
}


def convert(path, target, start=None, end=None, **more):
    """Write what a source yields, unchanged."""
    options = SinkOptions(**more)
    source = open_source(path, start=start, end=end)
    with source, open_sink(target, options, source.info) as sink:
        for frame in source:
            sink.write(frame)
    return sink


def write(path, pictures, **more):
    with open_sink(path, SinkOptions(**more)) as sink:
        for frame in pictures:
            sink.write(frame)


def read(path):
    with open_source(path) as source:
        return list(source), source.info


def streams(path):
    return [(s.kind, s.codec, s.language) for s in open_source(path).info.streams]


def sound(path, track=0):
    """(samples, first time, end time) of a sound track, decoded."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[track]
        blocks = list(container.decode(stream))
    rate = blocks[0].sample_rate
    samples = np.concatenate(
        [b.to_ndarray().reshape(len(b.layout.channels), -1)[0] for b in blocks]
    )
    first = blocks[0].pts * blocks[0].time_base
    return samples, float(first), float(first) + sum(b.samples for b in blocks) / rate


def loudest_hz(samples, rate=48_000):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * rate / len(samples)


# ── picture ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
def test_variable_rate_survives(tmp_path, name):
    base = Fraction(1, 1000) if name in ("a.mkv", "a.webm") else Fraction(1, 12800)
    path = write_clip(tmp_path / "in.mov", stamps=VARIABLE, time_base=base)
    convert(path, tmp_path / name)
    found, _ = read(tmp_path / name)
    assert [frame.time for frame in found] == [stamp * base for stamp in VARIABLE]
    assert [number_of(frame.pixels) for frame in found] == list(range(COUNT))


def test_last_frame_keeps_its_duration(tmp_path):
    long = frames([Fraction(0), Fraction(1, 25), Fraction(2, 25)])
    long[-1] = replace(long[-1], duration=Fraction(2))
    write(tmp_path / "a.mp4", long)
    assert abs(read(tmp_path / "a.mp4")[1].duration - Fraction(52, 25)) < Fraction(1, 1000)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("matrix", [1, 5, 6])
def test_lossless_round_trip_keeps_colors(tmp_path, kind, matrix):
    """In, out and in again: the second reading agrees with the first within 1/255 on average."""
    tags = {"colorspace": matrix, "color_primaries": matrix, "color_trc": 6, "color_range": 1}
    path = write_clip(tmp_path / "in.mp4", count=3, pix_fmt="yuv420p", color=tags)
    name, more = LOSSLESS[kind]
    convert(path, tmp_path / name, **more)
    (before, _), (after, info) = read(path), read(tmp_path / name)
    for one, two in zip(before, after, strict=True):
        difference = one.pixels.astype(int) - two.pixels
        assert np.abs(difference).mean() < 1 and abs(difference.mean()) < 0.3
    assert info.color.matrix == (0 if kind in ("h264-rgb", "ffv1", "qtrle") else matrix)
    assert not info.color.guessed


def test_tags_agree_with_the_matrix_for_pictures(tmp_path):
    """Frames without a source are bt709, and say so."""
    write(tmp_path / "a.mp4", frames(), crf=0, pix_fmt="yuv444p")
    found, info = read(tmp_path / "a.mp4")
    color = info.color
    assert (color.matrix, color.primaries, color.transfer, color.full_range) == (1, 1, 1, False)
    assert np.abs(found[3].pixels.astype(int) - drawn(3)).mean() < 1


def test_full_range_source_keeps_its_colors(tmp_path):
    tags = {"colorspace": 1, "color_range": 2}
    path = write_clip(tmp_path / "in.mp4", count=2, color=tags)
    convert(path, tmp_path / "a.mp4", crf=0, pix_fmt="yuv444p")
    found, info = read(tmp_path / "a.mp4")
    assert np.abs(found[1].pixels.astype(int) - drawn(1)).mean() < 1
    assert not info.color.full_range


def test_rotation_is_baked_in(tmp_path):
    path = write_clip(tmp_path / "in.mp4", rotate=(90, False, False))
    convert(path, tmp_path / "a.mp4", crf=0, pix_fmt="yuv444p")
    with av.open(str(tmp_path / "a.mp4")) as container:
        first = next(container.decode(video=0))
    assert (first.width, first.height, first.rotation) == (HEIGHT, WIDTH, 0)
    assert (
        np.abs(read(tmp_path / "a.mp4")[0][2].pixels.astype(int) - np.rot90(drawn(2))).mean() < 1.5
    )


def test_default_video_plays_everywhere(tmp_path):
    """H.264 in yuv420p with the index in front."""
    convert(write_clip(tmp_path / "in.mkv"), tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.profile == "High"


# ── sound ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("codec", "origin", "target"),
    [
        ("aac", "in.mp4", "a.mp4"),
        ("aac", "in.mp4", "a.mkv"),
        ("aac", "in.ts", "a.mp4"),
        ("aac", "in.mkv", "a.mov"),
        ("libopus", "in.mkv", "a.mp4"),
        ("libopus", "in.webm", "a.webm"),
        ("libmp3lame", "in.mkv", "a.mp4"),
        ("flac", "in.mkv", "a.mkv"),
        ("pcm_s16le", "in.mov", "a.mov"),
    ],
)
def test_sound_is_copied_bit_for_bit(tmp_path, codec, origin, target):
    video = {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}} if "webm" in origin else {}
    path = write_clip(tmp_path / origin, audio=[codec], audio_s=Fraction(1), **video)
    sink = convert(path, tmp_path / target)
    assert sink.notes == []
    before, after = packets(path), packets(tmp_path / target)
    dropped = len(before) - len(after)
    assert 0 <= dropped <= 1, "at most the encoder's priming"
    strip = slice(7, None) if origin == "in.ts" else slice(None)  # ADTS has a head on each packet
    assert [data[strip] for data in before[dropped:]] == after
    _, first, end = sound(tmp_path / target)
    assert abs(first) < 0.03 and abs(end - 1) < 0.06


def packets(path):
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(audio=0) if p.size]


@pytest.mark.parametrize(
    ("codec", "origin", "target", "note"),
    [
        ("aac", "in.mp4", "a.webm", "sound re-encoded from aac to opus"),
        ("pcm_s16le", "in.mkv", "a.mp4", "sound re-encoded from pcm_s16le to aac"),
        ("libopus", "in.mkv", "a.mov", "sound re-encoded from opus to aac"),
    ],
)
def test_sound_that_does_not_fit_is_encoded_anew_and_said(tmp_path, codec, origin, target, note):
    path = write_clip(tmp_path / origin, audio=[codec, codec], audio_s=Fraction(1))
    sink = convert(path, tmp_path / target)
    assert [text for text in sink.notes if note in text] and len(sink.notes) == 1
    for track, pitch in ((0, 440), (1, 880)):
        samples, first, end = sound(tmp_path / target, track)
        assert abs(loudest_hz(samples) - pitch) < 5
        assert abs(first) < 0.03 and abs(end - 1) < 0.06
        assert np.abs(samples[4000:-4000]).max() / (1 if samples.dtype.kind == "f" else 32768) > 0.1


@pytest.mark.parametrize(("layout", "rate"), [("mono", 44_100), ("5.1", 48_000), ("stereo", 8_000)])
@pytest.mark.parametrize("target", ["a.webm", "a.mov"])
def test_encoded_sound_keeps_its_channels(tmp_path, layout, rate, target):
    path = write_clip(tmp_path / "in.mkv", audio=["flac"], layout=layout, audio_rate=rate)
    convert(path, tmp_path / target)
    with av.open(str(tmp_path / target)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.layout.name == layout
        assert stream.codec_context.sample_rate == (48_000 if target == "a.webm" else rate)
        assert stream.codec_context.name == ("opus" if target == "a.webm" else "aac")


def test_damaged_sound_is_left_out_and_said(tmp_path):
    """In a transport stream, the muxer has to repack AAC, which fails on damaged packets."""
    path = write_clip(tmp_path / "in.ts", audio=["aac"], audio_s=Fraction(1))
    data = bytearray(path.read_bytes())
    for at in [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xf1"][5:8]:
        data[at + 2 : at + 6] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    sink = convert(path, tmp_path / "a.mkv")
    assert sink.notes == ["damaged pieces of sound are left out"]
    assert len(packets(path)) - 6 <= len(packets(tmp_path / "a.mkv")) < len(packets(path))


def test_sound_stays_in_step_with_a_late_picture(tmp_path):
    """Picture from 0.3 s on, sound from 0: in the copy too."""
    stamps = [300 + 40 * i for i in range(COUNT)]
    path = write_clip(
        tmp_path / "in.mkv",
        stamps=stamps,
        time_base=Fraction(1, 1000),
        audio=["libopus"],
        audio_s=Fraction(1),
    )
    for name in ("a.mp4", "a.mkv"):
        convert(path, tmp_path / name)
        found, _ = read(tmp_path / name)
        assert abs(found[0].time - Fraction(3, 10)) < Fraction(1, 100)
        assert abs(sound(tmp_path / name)[1]) < 0.03


@pytest.mark.parametrize("target", ["a.mp4", "a.mkv", "a.webm"])
def test_trim_cuts_sound_and_picture_alike(tmp_path, target):
    """A click at 0.6 s comes at 0.2 s of what begins at 0.4 s."""
    path = write_clip(tmp_path / "in.mp4", count=14, audio=["aac"], audio_s=Fraction(2))
    convert(path, tmp_path / target, start=Fraction(1, 5), end=Fraction(2, 5))
    found, info = read(tmp_path / target)
    assert [number_of(frame.pixels) for frame in found] == [5, 6, 7, 8, 9]
    assert [frame.time for frame in found] == [Fraction(i, 25) for i in range(5)]
    samples, first, end = sound(tmp_path / target)
    assert -0.03 < first < 0.03 and 0.15 < end < 0.26
    assert abs(loudest_hz(samples[:8000]) - 440) < 30
    assert info.duration < Fraction(3, 10)


def test_sound_is_left_out_when_told_to(tmp_path):
    path = write_clip(tmp_path / "in.mp4", audio=["aac"], subtitles="mov_text")
    convert(path, tmp_path / "a.mp4", audio="none")
    assert [kind for kind, _, _ in streams(tmp_path / "a.mp4")] == ["video", "subtitle"]


# ── everything else ──────────────────────────────────────────────────────────────────────────────


def test_tracks_keep_their_order_and_language(tmp_path):
    path = write_clip(tmp_path / "in.mkv", audio=["aac", "libopus", "flac"], subtitles="subrip")
    convert(path, tmp_path / "a.mkv")
    assert streams(tmp_path / "a.mkv") == streams(path)
    convert(path, tmp_path / "a.mp4")
    assert [s[2] for s in streams(tmp_path / "a.mp4")][1:] == ["eng", "fra", "deu", "deu"]


@pytest.mark.parametrize(
    ("codec", "origin", "target", "expected"),
    [
        ("subrip", "in.mkv", "a.mkv", "subrip"),
        ("mov_text", "in.mp4", "a.mp4", "mov_text"),
        ("mov_text", "in.mp4", "a.mov", "mov_text"),
        ("subrip", "in.mkv", "a.mp4", "mov_text"),
        ("ass", "in.mkv", "a.mp4", "mov_text"),
        ("mov_text", "in.mp4", "a.mkv", "subrip"),
        ("subrip", "in.mkv", "a.webm", "webvtt"),
    ],
)
def test_subtitles_keep_text_and_time(tmp_path, codec, origin, target, expected):
    path = write_clip(tmp_path / origin, subtitles=codec)
    sink = convert(path, tmp_path / target)
    assert streams(tmp_path / target)[-1][:2] == ("subtitle", expected)
    assert len(sink.notes) == (0 if expected == codec else 1)
    assert texts(tmp_path / target) == [(0.04, 0.16, "line 0"), (0.24, 0.16, "line 1")]


def test_subtitles_are_trimmed(tmp_path):
    path = write_clip(tmp_path / "in.mkv", subtitles="subrip")
    convert(path, tmp_path / "a.mp4", start=Fraction(2, 25), end=Fraction(8, 25))
    assert texts(tmp_path / "a.mp4") == [(0.0, 0.12, "line 0"), (0.16, 0.08, "line 1")]


def texts(path):
    """(begin, duration, text) of the subtitles."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        for packet in container.demux(stream):
            if not packet.size:
                continue
            for line in packet.decode():
                text = re.sub(r"\{.*?\}", "", line.dialogue.decode()).strip()
                begin, lasts = packet.pts * packet.time_base, packet.duration * packet.time_base
                found.append((round(float(begin), 3), round(float(lasts), 3), text))
    return found


def test_attachments_are_kept_where_they_fit(tmp_path):
    """A font for the subtitles."""
    path = write_clip(tmp_path / "in.mkv", audio=["aac"])
    with_font = add_attachment(path, tmp_path / "font.mkv")
    sink = convert(with_font, tmp_path / "a.mp4")
    assert any("attachment" in note and "left out" in note for note in sink.notes)
    convert(with_font, tmp_path / "a.mkv")
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.attachments[0].data == b"font data"


def add_attachment(path, target):
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        out.add_attachment("a.ttf", "application/x-truetype-font", b"font data")
        pairs = {s.index: out.add_stream_from_template(s, opaque=True) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = pairs[packet.stream.index]
                out.mux(packet)
    return target


@pytest.mark.parametrize("target", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
def test_chapters_and_metadata_are_kept(tmp_path, target):
    said = {"title": "A film", "comment": "first line"}
    path = write_clip(tmp_path / "in.mkv", chapters=True, metadata=said)
    convert(path, tmp_path / target, metadata={"hash": "1"})
    assert chapters(tmp_path / target) == [("One", 0.0, 0.24), ("Two", 0.24, 0.48)]
    found = {
        key.lower(): text for key, text in open_source(tmp_path / target).info.metadata.items()
    }
    assert found["title"] == "A film" and found["comment"].startswith("first line")


def test_chapters_are_trimmed(tmp_path):
    path = write_clip(tmp_path / "in.mp4", chapters=True)
    convert(path, tmp_path / "a.mkv", start=Fraction(1, 25), end=Fraction(6, 25))
    assert chapters(tmp_path / "a.mkv") == [("One", 0.0, 0.2)]


def chapters(path):
    with av.open(str(path)) as container:
        return [
            (
                c["metadata"]["title"],
                float(c["start"] * c["time_base"]),
                float(c["end"] * c["time_base"]),
            )
            for c in container.chapters()
        ]


def test_truncated_source_is_copied_as_far_as_it_goes(tmp_path):
    path = write_clip(
        tmp_path / "in.mkv", count=48, audio=["aac"], draw=lambda n, w, h: drawn(n % 16)
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    convert(path, tmp_path / "a.mp4")
    found, info = read(tmp_path / "a.mp4")
    assert 5 < len(found) < 48 and not info.truncated


def test_packets_are_interleaved(tmp_path):
    """Sound lies beside the picture it belongs to, so players and memory need no long buffers."""
    path = write_clip(
        tmp_path / "in.mp4", count=150, audio=["aac"], audio_s=Fraction(6),
        draw=lambda n, w, h: drawn(n % 16), options={"g": "12", "preset": "ultrafast"},
    )  # fmt: skip
    convert(path, tmp_path / "a.mkv", preset="ultrafast")
    ahead, last = 0.0, {"video": 0.0, "audio": 0.0}
    with av.open(str(tmp_path / "a.mkv")) as container:
        for packet in container.demux():
            if packet.size:
                last[packet.stream.type] = float(packet.pts * packet.time_base)
                ahead = max(ahead, abs(last["video"] - last["audio"]))
    assert ahead < 1


# ── options ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("codec", "name", "expected"),
    [
        ("h264", "a.mp4", "h264"),
        ("hevc", "a.mp4", "hevc"),
        ("vp9", "a.mkv", "vp9"),
        ("av1", "a.mkv", "av1"),
        ("prores", "a.mov", "prores"),
        ("ffv1", "a.mkv", "ffv1"),
        ("mpeg4", "a.mp4", "mpeg4"),
        ("mjpeg", "a.mov", "mjpeg"),
    ],
)
def test_codecs_go_by_their_usual_names(tmp_path, codec, name, expected):
    write(tmp_path / name, frames(), codec=codec)
    found, info = read(tmp_path / name)
    assert info.codec == expected
    assert [number_of(frame.pixels) for frame in found] == list(range(COUNT))
    assert [frame.time for frame in found] == [Fraction(i, 25) for i in range(COUNT)]


def test_quality_preset_and_options_reach_the_encoder(tmp_path):
    from dsgcli.media.video_writer import choose_encoder

    options = SinkOptions(
        crf=23.5, preset="slow", codec_options={"tune": "film", "x264-params": "bframes=0"}
    )
    _, pix_fmt, chosen = choose_encoder(tmp_path / "a.mp4", options)
    assert pix_fmt == "yuv420p"
    assert chosen["crf"] == "23.5" and chosen["preset"] == "slow" and chosen["tune"] == "film"
    assert chosen["x264-params"].endswith("bframes=0")
    sizes = {}
    for crf in (5, 40):
        write(tmp_path / f"{crf}.mp4", frames(), crf=crf)
        sizes[crf] = (tmp_path / f"{crf}.mp4").stat().st_size
    assert sizes[5] > sizes[40]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"codec": "h265x"}, "no video encoder 'h265x'; did you mean h265"),
        ({"codec": "aac"}, "no video encoder 'aac'"),
        ({"crf": 99}, "--crf goes from 0"),
        ({"codec": "ffv1", "crf": 20}, "ffv1 has no --crf"),
        ({"codec": "ffv1", "preset": "slow"}, "ffv1 has no --preset"),
        ({"codec_options": {"tunee": "film"}}, "no option 'tunee'; did you mean 'tune'"),
        ({"pix_fmt": "rgb42"}, "no pixel format 'rgb42'"),
    ],
)
def test_wrong_options_are_told_at_once(tmp_path, more, message):
    with pytest.raises(UsageError, match=message):
        open_sink(tmp_path / "a.mp4", SinkOptions(**more))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "more",
    [
        {"preset": "warp speed"},
        {"pix_fmt": "rgba"},
        {"codec": "libx264rgb", "pix_fmt": "yuv420p"},
    ],
)
def test_encoder_that_refuses_is_an_error_with_its_options(tmp_path, more):
    with pytest.raises(SinkError, match=r"refuses|cannot be written"):
        write(tmp_path / "a.mp4", frames(), **more)
    assert names(tmp_path) == []


def test_codec_that_the_container_cannot_hold_is_an_error(tmp_path):
    with pytest.raises(SinkError, match="ffv1"):
        write(tmp_path / "a.webm", frames(), codec="ffv1")
    assert names(tmp_path) == []


# ── streams that change in the middle ────────────────────────────────────────────────────────────


def joined(tmp_path, first=None, second=None):
    """Two recordings in one file, as `cat` joins them."""
    usual = {"pix_fmt": "yuv420p", "options": {"crf": "5", "g": "6"}, "audio": ["ac3"], "count": 40}
    usual |= {"audio_s": Fraction(8, 5)}
    parts = []
    for number, changed in enumerate((first or {}, second or {})):
        path = write_clip(tmp_path / f"{number}.ts", **(usual | changed))
        parts.append(path.read_bytes())
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    return path


def through_segments(path, target):
    """The source's frames through a segment, as `dsg stylize` writes them; notes and warnings."""
    segment, options = target.with_suffix(".part"), SinkOptions(overwrite=True)
    with open_source(path) as source:
        with open_segment(segment, target, options, source.info) as sink:
            for frame in source:
                sink.write(frame)
        notes = join_segments([segment], target, options, source.info)
        return notes + source.info.warnings


@pytest.mark.parametrize("target", ["a.mp4", "a.mkv", "a.webm", "a.mov"])
@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({}, None),
        ({"layout": "5.1"}, "sound re-encoded"),
        ({"audio_rate": 44_100}, "sound re-encoded"),
        ({"size": (48, 36)}, "its picture changes from 64x48 to 48x36"),
        ({"pix_fmt": "yuv444p"}, None),
        ({"start_s": Fraction(3, 2)}, None),
    ],
)
def test_recordings_that_change_in_the_middle_are_written_whole(tmp_path, target, second, said):
    path = joined(tmp_path, second=second)
    notes = through_segments(path, tmp_path / target)
    assert said is None or any(said in note for note in notes)
    pictures, info = read(tmp_path / target)
    assert len(pictures) == 80
    assert info.size_px == (WIDTH, HEIGHT)
    samples, _, end = sound(tmp_path / target)
    assert end == pytest.approx(3.2, abs=0.2)
    assert len(samples.T) / info_rate(tmp_path / target) == pytest.approx(3.2, abs=0.2)


def info_rate(path):
    with av.open(str(path)) as container:
        return container.streams.audio[0].sample_rate


@pytest.mark.parametrize(
    ("encoder", "wanted", "picked"),
    [
        ("libopus", "7.1", "7.1"),
        ("libopus", "quad", "quad"),
        ("libopus", "4.0", "quad"),
        ("libopus", "5.1(side)", "5.1"),
        ("aac", "4.0", "4.0"),
        ("aac", "7.1", "7.1"),
        ("libopus", "22.2", "5.1"),
    ],
)
def test_sound_that_is_encoded_anew_keeps_its_speakers(encoder, wanted, picked):
    assert pick_layout(encoder, av.AudioLayout(wanted), 48_000).name == picked


def test_channels_that_are_mixed_are_said(tmp_path, monkeypatch):
    stereo = av.AudioLayout("stereo")
    monkeypatch.setattr("dsgcli.media.remux.pick_layout", lambda *_: stereo)
    path = write_clip(tmp_path / "a.mkv", audio=["pcm_s16le"], layout="quad")
    sink = convert(path, tmp_path / "a.webm")
    assert "sound of 4 channels is mixed to stereo" in sink.notes
