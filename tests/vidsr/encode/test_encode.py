"""Encoding: the same frames give the same bytes, and a file appears when it is whole."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from vidsr.encode.codecs import CODECS
from vidsr.encode.encoder import EncodeSettings, encode
from vidsr.frames import ColorSpec, Frame, PixelFormat

YUV420P = PixelFormat("yuv", 8, (1, 1))


def settings_of(name, preset=None, threads=1):
    codec = CODECS[name]
    return EncodeSettings(name, codec.encoder, codec.options(None, preset, {}, ColorSpec(), None, threads))


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
    settings = settings_of(codec, preset, threads=2)
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
    settings = settings_of("x264")
    path = tmp_path / "a.mkv"
    running = encode(pan(64, 48, 9), path, settings, YUV420P, ColorSpec(), Fraction(1, 24), Fraction(24), Fraction(1))
    for _ in range(5):
        next(running)
        assert not path.exists()
    running.close()
    assert list(tmp_path.iterdir()) == []
