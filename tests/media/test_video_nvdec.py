"""Decoding on an NVIDIA GPU: what can be known of it without one.

The GPU's decoder is played by the CPU's, whose pictures are put in the format that NVDEC gives.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from media.clips import COUNT, write_clip

from dsgcli.media import video_decode, video_source
from dsgcli.media.sinks import SinkOptions
from dsgcli.media.sources import SourceInfo, open_source
from dsgcli.media.video_decode import Decoder
from dsgcli.stylize.segments import Segments

needs_nvdec = pytest.mark.skipif(not video_decode.has_nvdec(), reason="no NVIDIA GPU here")
without_nvdec = pytest.mark.skipif(video_decode.has_nvdec(), reason="an NVIDIA GPU is here")


class PlayedDecoder(Decoder):
    """Decodes on the CPU, as if it were NVDEC where `able`."""

    able = True
    asked: list[str]

    def __init__(self, path, decoder="cpu"):
        self.asked.append(decoder)
        self.played = decoder == "nvdec" and self.able
        super().__init__(path)

    def frames(self):
        for frame in super().frames():
            yield frame.reformat(format="nv12") if self.played else frame

    def decoder_of(self, frame):
        return "nvdec" if self.played else "cpu"


@pytest.fixture
def played(monkeypatch):
    """`VideoSource` with a GPU's decoder, and what it asks for."""
    PlayedDecoder.asked = []
    monkeypatch.setattr(PlayedDecoder, "able", True)
    monkeypatch.setattr(video_source, "Decoder", PlayedDecoder)
    monkeypatch.setattr(video_source, "has_nvdec", lambda: True)
    return PlayedDecoder


def read(path, **settings):
    with open_source(path, **settings) as source:
        return [frame.pixels for frame in source], source.info


def same(some, others):
    return len(some) == len(others) and all(map(np.array_equal, some, others))


@without_nvdec
def test_without_a_gpu_the_cpu_decodes_and_says_so(tmp_path):
    path = write_clip(tmp_path / "a.mp4")
    expected, plain = read(path)
    found, info = read(path, decoder="nvdec")
    assert len(found) == COUNT and same(found, expected)
    assert (info.decoder, plain.decoder) == ("cpu", "cpu")
    assert info.warnings == ["NVDEC is not here, so the CPU decodes it"]
    assert not plain.warnings


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_gpus_pictures_are_the_cpus_to_the_bit(tmp_path, played, interlaced):
    path = write_clip(
        tmp_path / "a.mp4",
        pix_fmt="yuv420p",
        options={"x264-params": "tff=1"} if interlaced else None,
        interlaced=interlaced,
    )
    expected, plain = read(path)
    found, info = read(path, decoder="nvdec")
    assert len(found) == COUNT and same(found, expected)
    assert info.decoder == "nvdec" and not info.warnings
    assert (info.color, info.interlaced) == (plain.color, interlaced)


def test_what_the_gpu_cannot_decode_is_asked_of_it_once(tmp_path, played, monkeypatch):
    path = write_clip(tmp_path / "a.mp4")
    expected, _ = read(path)
    monkeypatch.setattr(played, "able", False)
    played.asked.clear()
    with open_source(path, decoder="nvdec", skip=3) as source:
        found = [frame.pixels for frame in source]
        again = [frame.pixels for frame in source.stretch(Fraction(1, 5), None)]
    assert same(found, expected[3:]) and same(again, expected[5:])
    assert played.asked[0] == "nvdec" and set(played.asked[1:]) == {"cpu"}
    assert source.info.decoder == "cpu"
    assert source.info.warnings == ["NVDEC cannot decode this h264, so the CPU decodes it"]


def test_all_passes_over_a_video_are_decoded_alike(tmp_path, played):
    path = write_clip(tmp_path / "a.mp4", pix_fmt="yuv420p")
    with open_source(path, decoder="nvdec") as source:
        expected = [frame.pixels for frame in source]
        assert same([frame.pixels for frame in source.stretch(Fraction(1, 5), None)], expected[5:])
    assert set(played.asked) == {"nvdec"}


@pytest.mark.parametrize(("stored", "packed"), [("yuv420p", "nv12"), ("yuv420p10le", "p010le")])
def test_samples_in_two_planes_give_the_same_colors(stored, packed):
    from dsgcli.media.video_color import FrameReader, color_facts

    ten_bits = stored.endswith("10le")
    top, kind = (940, np.uint16) if ten_bits else (235, np.uint8)
    levels = np.random.default_rng(0).integers(top // 15, top, (72, 66), dtype=kind)
    frame = av.VideoFrame.from_ndarray(levels, stored)
    facts = color_facts(frame, av.CodecContext.create("h264", "r"))
    reader = FrameReader(facts, (frame.width, frame.height), (1, 0, 0, 1), with_alpha=False)
    assert packed in video_decode.NVDEC_FORMATS
    np.testing.assert_array_equal(reader(frame)[0], reader(frame.reformat(format=packed))[0])


def test_a_run_that_another_decoder_began_begins_anew(tmp_path):
    def segments(decoder):
        info = SourceInfo(kind="video", size_px=(8, 8), decoder=decoder)
        return Segments([tmp_path / "out.mp4"], [SinkOptions()], info, {"keys": ["k"]})

    mark = segments("cpu").folder / "mark"
    mark.touch()
    segments("cpu")
    assert mark.exists()
    segments("nvdec")
    assert not mark.exists()


@needs_nvdec
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_gpu_decodes_what_the_cpu_decodes(tmp_path, codec):
    path = write_clip(tmp_path / "a.mp4", codec=codec, pix_fmt="yuv420p", size=(256, 256))
    expected, _ = read(path)
    found, info = read(path, decoder="nvdec")
    assert info.decoder == "nvdec" and same(found, expected)
