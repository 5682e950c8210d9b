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


class Bits(str):
    """An H.264 bit string."""

    def u(self, count: int, value: int) -> Bits:
        return Bits(self + format(value, f"0{count}b"))

    def ue(self, *values: int) -> Bits:
        codes = (bin(value + 1)[2:] for value in values)
        return Bits(self + "".join("0" * (len(code) - 1) + code for code in codes))

    def aligned(self) -> Bits:
        return Bits(self + "0" * (-len(self) % 8))

    def nal(self, head: int) -> bytes:
        bits = Bits(self + "1").aligned()
        return b"\0\0\0\1" + bytes([head]) + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def coded_field(number: int, bottom: int) -> bytes:
    """One field of an interlaced picture of 32x32 by itself, as broadcasts and discs have them, in plain samples."""
    # No byte of the headers makes three that would have to be escaped.
    start = b"\0\0\0\1\x09\xf0"
    if not bottom:
        sps = Bits().u(8, 77).u(8, 0).u(8, 30).ue(0, 0, 0, 4, 1).u(1, 0).ue(1, 0).u(5, 0b00100)
        pps = Bits().ue(0, 0).u(2, 0).ue(0, 0, 0).u(3, 0).ue(0, 0, 0).u(3, 0b100)
        start += sps.nal(0x67) + pps.nal(0x68)
    bits = Bits().ue(0, 7, 0).u(4, 0).u(1, 1).u(1, bottom)
    bits = (bits if bottom else bits.ue(number % 2)).u(8, bottom).u(1 if bottom else 2, 0).ue(0, 1)
    plane = format(40 + number * 7 % 180, "08b") * 256 + "10000000" * 128
    for _ in range(2):
        bits = Bits(bits.ue(25).aligned() + plane)
    return start + bits.nal(0x61 if bottom else 0x65)


def test_pictures_whose_fields_are_coded_one_by_one_are_counted_once(tmp_path):
    fields = [coded_field(number, bottom) for number in range(60) for bottom in (0, 1)]
    (tmp_path / "a.h264").write_bytes(b"".join(fields))
    with av.open(str(tmp_path / "a.h264")) as raw, av.open(str(tmp_path / "a.ts"), "w") as file:
        stream = file.add_stream_from_template(raw.streams.video[0], opaque=True)
        for number, data in enumerate(fields):
            packet = av.Packet(data)
            packet.time_base, packet.pts, packet.dts, packet.stream = Fraction(1, 50), number, number, stream
            packet.is_keyframe = number % 2 == 0
            file.mux(packet)
    info = probe(tmp_path / "a.ts")
    assert info.video.interlaced and info.video.rate == 25 and info.video.field_step == 1800
    report = Report()
    upscaled(tmp_path / "a.ts", tmp_path / "b.mkv", report)
    assert len(read_numbers(tmp_path / "b.mkv")) == 60 and not report.counts
