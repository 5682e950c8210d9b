"""Sources without times, or with those of other pictures: what is shown keeps its order, and its time."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
import pytest

from tests.media import Track, draw, read_numbers, write_episode
from tests.running import upscaled
from vidsr.proof.verify import verify
from vidsr.report import Report
from vidsr.source.probe import probe

SOURCES = {
    "raw.h264": ("libx264", "0"), "frames.h264": ("libx264", "2"), "frames.avi": ("libx264", "2"),
    "packed.avi": ("mpeg4", "2"), "a.m2v": ("mpeg2video", "2"),
}  # fmt: skip


@pytest.fixture(scope="module", params=SOURCES)
def source(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("untimed") / request.param
    codec, b_frames = SOURCES[request.param]
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=Fraction(25), options={"threads": "1", "bf": b_frames})
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        video.codec_context.time_base, video.codec_context.gop_size = Fraction(1, 25), 12
        for number in range(100):
            frame = draw(number, (128, 96))
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
    return path


def test_all_pictures_in_order_at_their_rate(source, tmp_path):
    report = Report()
    upscaled(source, tmp_path / "b.mkv", report)
    found = read_numbers(tmp_path / "b.mkv")
    assert [number for _, number in found] == list(range(100))
    assert {b - a for (a, _), (b, _) in pairwise(found)} == {40}
    assert any("has no times" in line for line in report.lines) == (source.suffix == ".h264")
    assert not report.counts, "nothing is wrong with it"


def test_a_part_is_the_pictures_of_that_part(source, tmp_path):
    upscaled(source, tmp_path / "b.mkv", start=1.0, duration=2.0)
    assert [number for _, number in read_numbers(tmp_path / "b.mkv")] == list(range(25, 75))


def test_the_proof_of_a_raw_stream_fails_where_a_picture_is_missing(tmp_path):
    for count, name in ((60, "a"), (59, "b")):
        write_episode(tmp_path / f"{name}.mp4", frames=count, rate=Fraction(25), time_base=Fraction(1, 25))
        with av.open(str(tmp_path / f"{name}.mp4")) as file, av.open(str(tmp_path / f"{name}.h264"), "w") as raw:
            stream = raw.add_stream_from_template(file.streams.video[0], opaque=True)
            for packet in file.demux():
                if packet.size:
                    packet.stream = stream
                    raw.mux(packet)
    assert not probe(tmp_path / "a.h264").video.timed
    upscaled(tmp_path / "b.h264", tmp_path / "c.mkv")
    assert "frame count" in {check.name for check in verify(tmp_path / "a.h264", tmp_path / "c.mkv").failures}


@pytest.mark.parametrize("rate", [Fraction(120), Fraction(240000, 1001)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_many_pictures_a_second_stay_in_order(tmp_path, rate, suffix):
    write_episode(
        tmp_path / "a.mp4", frames=300, rate=rate, time_base=1 / rate, options={"bf": "3"}, audio=[Track("aac", "ja")]
    )
    upscaled(tmp_path / "a.mp4", tmp_path / f"b{suffix}")
    found = read_numbers(tmp_path / f"b{suffix}")
    assert [number for _, number in found] == list(range(300)) and all(a < b for (a, _), (b, _) in pairwise(found))
