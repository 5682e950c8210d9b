"""Encoding: the same frames give the same bytes, options are checked, and choices are said."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from vidsr.encode.encoder import CODECS, encode, make_settings, result_format
from vidsr.errors import UsageError
from vidsr.frames import ColorSpec, Frame, HdrMetadata, PixelFormat, StreamInfo
from vidsr.report import Report

YUV420P = PixelFormat("yuv", 8, (1, 1))


def stream(format=YUV420P, hdr=None):
    return StreamInfo(
        0, "h264", 320, 176, format.name, format, ColorSpec(), Fraction(1, 24), Fraction(24), Fraction(1), hdr=hdr
    )


def pan(width, height, count):
    """Frames of a pan over soft noise: every block moves, so every part of the encoder works."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (height + 100, width + 200), np.uint8), (0, 0), 3)
    for i in range(count):
        luma = wide[2 * i : 2 * i + height, 3 * i : 3 * i + width]
        chroma = np.full((height // 2, width // 2), 110 + i % 9, np.uint8)
        yield Frame((luma, chroma, chroma), i, 1)


@pytest.mark.parametrize("codec", ["x264", "x265", "svtav1", "ffv1"])
def test_the_same_frames_give_the_same_bytes(tmp_path, codec):
    """With x264's AVX-512 code these frames gave a dozen different files."""
    preset = "medium" if codec == "x264" else None
    settings = make_settings(CODECS[codec], None, preset, {}, stream(), ColorSpec(), 2, Report())
    rng = np.random.default_rng(1)
    path, seen = tmp_path / "a.mkv", set()
    for _ in range(16 if codec == "x264" else 3):
        dirt = [rng.bytes(int(size)) for size in rng.integers(100, 60_000, 300)]  # memory that the encoder will reuse
        del dirt
        list(encode(pan(64, 48, 45), path, settings, YUV420P, ColorSpec(), Fraction(1, 24), Fraction(24), Fraction(1)))
        with av.open(str(path)) as file:
            seen.add(hashlib.sha256(b"".join(bytes(p) for p in file.demux(video=0))).hexdigest())
    assert len(seen) == 1


def test_nothing_appears_under_the_name_before_the_end(tmp_path):
    settings = make_settings(CODECS["x264"], None, None, {}, stream(), ColorSpec(), 1, Report())
    path = tmp_path / "a.mkv"
    running = encode(pan(64, 48, 9), path, settings, YUV420P, ColorSpec(), Fraction(1, 24), Fraction(24), Fraction(1))
    for _ in range(5):
        next(running)
        assert not path.exists()
    running.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "codec", "result", "said"),
    [
        (YUV420P, "x264", "yuv420p", 0),
        (PixelFormat("yuv", 12, (1, 1)), "x264", "yuv420p10le", 1),
        (PixelFormat("yuv", 12, (1, 1)), "x265", "yuv420p12le", 0),
        (PixelFormat("yuv", 10, (0, 0)), "svtav1", "yuv420p10le", 1),
        (PixelFormat("yuv", 8, (1, 0)), "x264", "yuv422p", 0),
        (PixelFormat("gray", 8), "x264", "yuv420p", 0),
        (PixelFormat("rgb", 8), "x264", "yuv444p", 1),
    ],
)
def test_the_format_of_the_result_loses_nothing_silently(source, codec, result, said):
    report = Report()
    assert result_format(source, CODECS[codec], None, report).name == result
    assert len(report.lines) == said


def test_hdr10_in_the_encoders_words():
    mastering = tuple(Fraction(n, 50000) for n in (34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450))
    hdr = HdrMetadata((*mastering, Fraction(1, 10000), Fraction(1000)), (1000, 400))
    report = Report()
    x265 = make_settings(CODECS["x265"], None, None, {}, stream(hdr=hdr), ColorSpec(), 1, report).options["x265-params"]
    assert "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)" in x265
    assert "max-cll=1000,400" in x265 and not report.lines
    make_settings(CODECS["x264"], None, None, {}, stream(hdr=hdr), ColorSpec(), 1, report)
    assert "--codec x265" in report.lines[0]


def test_users_options_are_added_to_ours():
    settings = make_settings(CODECS["x264"], 20.5, "slow", {"tune": "animation"}, stream(), ColorSpec(), 3, Report())
    assert settings.options["crf"] == "20.5" and settings.options["preset"] == "slow"
    assert settings.options["tune"] == "animation" and settings.options["threads"] == "3"
    with pytest.raises(UsageError, match="tunee"):
        make_settings(CODECS["x264"], None, None, {"tunee": "x"}, stream(), ColorSpec(), 1, Report())
