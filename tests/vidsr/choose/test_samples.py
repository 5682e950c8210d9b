"""Samples lie within the part that is run, wherever its times begin, and what cannot be sampled is left out."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import draw, write_episode
from vidsr.backends import open_backend
from vidsr.backends.base import BackendSpec
from vidsr.choose.forecast import measure
from vidsr.choose.options import Options
from vidsr.choose.prepare import choose_reuse, prepare
from vidsr.choose.samples import part_of, stretches
from vidsr.frames import ColorSpec, PixelFormat, TimeRange
from vidsr.report import Report
from vidsr.reuse.stillness import Stillness
from vidsr.source.decode import decode
from vidsr.source.probe import probe

YUV = PixelFormat("yuv", 8, (1, 1))
CPU = BackendSpec("cpu", "unused", 2, YUV, ColorSpec(), YUV, ColorSpec())
TEN_HOURS = 36_000
SHARES = (0.0, 0.25, 0.5, 0.75)


def write_noisy_from(path, noisy, begin=0, seconds=8, keyframes=1):
    """Without loss, 12 frames a second: the same picture until `noisy` seconds, from there each with its own noise."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as file:
        stream = file.add_stream("libx264", rate=12, options={"qp": "0", "preset": "ultrafast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = 64, 48, "yuv420p", keyframes
        for i in range(12 * seconds):
            picture = draw(5)
            luma = np.frombuffer(memoryview(picture.planes[0]), np.uint8).reshape(48, -1)
            if i >= 12 * noisy:
                luma[:] = luma + rng.integers(0, 2, luma.shape, np.uint8)
            picture.pts, picture.time_base = begin * 12 + i, Fraction(1, 12)
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    return probe(path)


@pytest.mark.parametrize("begin", [0, TEN_HOURS])
@pytest.mark.parametrize("keyframes", [1, 400])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_noise_is_found_where_the_part_has_it(tmp_path, begin, keyframes, suffix):
    info = write_noisy_from(tmp_path / f"a{suffix}", 4, begin, keyframes=keyframes)
    noisy = choose_reuse(None, CPU, info, TimeRange())
    assert noisy != Stillness()
    assert choose_reuse(None, CPU, info, TimeRange(0, 3)) == Stillness()
    assert choose_reuse(None, CPU, info, TimeRange(5, 7)) != Stillness()
    assert choose_reuse(None, CPU, info, TimeRange(2, 3.5)) == Stillness()


@pytest.mark.parametrize("begin", [0, TEN_HOURS])
@pytest.mark.parametrize("span", [(0, None), (1.5, None), (0, 2), (1.5, 3.25), (2.9, 9)])
@pytest.mark.parametrize("keyframes", [12, 400])
def test_stretches_lie_in_the_part_and_differ(tmp_path, begin, span, keyframes):
    span = TimeRange(*span)
    path = tmp_path / "a.mkv"
    write_episode(path, pts=[(begin * 24 + i) * 125 // 3 for i in range(96)], keyframes=keyframes)
    info = probe(path)
    low, high = begin + span.start, begin + (span.end or 4)
    found = []
    for part in stretches(info, span, SHARES, 6):
        frames = list(decode(path, info.video, part.start, part.end, part.seek, Report()))
        assert 1 <= len(frames) <= 7
        assert all(low - 0.001 <= frame.pts / 1000 < high for frame in frames)
        found.append(frames[0].pts)
    assert len(set(found)) == len(found) >= 3
    assert part_of(info, span).frames == pytest.approx((min(high, begin + 4) - low) * 24, abs=2)


def test_a_file_that_does_not_tell_its_length(tmp_path):
    """As a capture that was never finished: no duration, no index."""
    write_episode(tmp_path / "a.mkv", frames=96)
    with (
        av.open(str(tmp_path / "a.mkv")) as source,
        open(tmp_path / "b.mkv", "wb") as pipe,
        av.open(Forward(pipe), "w", format="matroska", container_options={"live": "1"}) as result,
    ):
        stream = result.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                result.mux(packet)
    info = probe(tmp_path / "b.mkv")
    assert info.duration is None and part_of(info, TimeRange()).frames is None
    found = stretches(info, TimeRange(), SHARES, 6)
    assert found and all(list(decode(info.path, info.video, s.start, s.end, s.seek, Report())) for s in found[:1])


class Forward:
    def __init__(self, file):
        self.file = file

    def write(self, data):
        return self.file.write(data)


def write_growing(path):
    """48 small pictures, then 48 larger ones, in one stream."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=24, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = 64, 48, "yuv420p", 12
        larger = av.CodecContext.create("libx264", "w")
        larger.width, larger.height, larger.pix_fmt, larger.gop_size = 96, 64, "yuv420p", 12
        larger.time_base, larger.framerate = Fraction(1, 24), Fraction(24)
        for encoder, size, first in ((stream, (64, 48), 0), (larger, (96, 64), 48)):
            for i in range(first, first + 49):
                picture = None if i == first + 48 else draw(i, size)
                if picture:
                    picture.pts, picture.time_base = i, Fraction(1, 24)
                for packet in encoder.encode(picture):
                    packet.stream = stream
                    file.mux(packet)


def test_where_the_picture_changes_its_size_is_left_out(tmp_path):
    """Which is no reason to refuse the part before, if that is all that was asked for."""
    path = tmp_path / "a.ts"
    write_growing(path)
    info = probe(path)
    assert isinstance(choose_reuse(None, CPU, info), Stillness)
    options = Options(output=tmp_path / "b.mkv", scale=2, backend="nearest", preset="ultrafast", threads=1)
    job = prepare(path, options, Report())
    found = stretches(info, TimeRange(), SHARES, 6)
    assert found and measure(job, found, 0.1, open_backend).fps > 0
