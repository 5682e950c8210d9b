"""Decoding from a container that is open already: the same frames as from one that is opened for it."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import draw
from tests.running import quick
from vidsr.container import open_input
from vidsr.report import Report
from vidsr.source.decode import decode
from vidsr.source.probe import probe


def write(path, codec, frames, begin):
    """A file whose first picture is shown `begin` seconds after 0."""
    rate = 25
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = 64, 48, "yuv420p", 12
        for number in range(frames):
            picture = draw(number)
            picture.pts, picture.time_base = number + begin * rate, Fraction(1, rate)
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "libx264"), ("a.mp4", "libx264"), ("a.ts", "libx264"), ("a.avi", "mpeg4"), ("a.flv", "flv1"),
     ("a.ivf", "libvpx")],
)  # fmt: skip
def test_whatever_was_read_of_it_before(tmp_path, name, codec):
    """FLV and IVF whose first picture is not at 0 cannot be moved back to their beginning."""
    info = probe(write(tmp_path / name, codec, 40, 2))
    first = [frame.pts for frame in decode(info.path, info.video, None, None, None, Report())]
    assert len(first) == 40

    def read(seek, container=None):
        frames = decode(info.path, info.video, first[20], first[30], seek, Report(), container=container)
        return [(frame.pts, *(plane.copy() for plane in frame.planes)) for frame in frames]

    with open_input(info.path) as container:
        for seek in (None, first[12], None):
            expected, found = read(seek), read(seek, container)
            assert len(found) == 10
            for a, b in zip(expected, found, strict=True):
                assert a[0] == b[0] and all(np.array_equal(x, y) for x, y in zip(a[1:], b[1:]))
        next(decode(info.path, info.video, None, None, None, Report(), container=container))
        assert len(read(None, container)) == 10


@pytest.mark.parametrize(("name", "codec", "frames"), [("a.flv", "flv1", 40), ("a.ivf", "libvpx", 340)])
def test_whole_runs_of_what_cannot_go_back(tmp_path, name, codec, frames):
    write(tmp_path / name, codec, frames, 2)
    done = quick(tmp_path / name, "-o", tmp_path / "b.mkv")
    assert done.returncode == 0 and "proved" in done.stderr, done.stderr
