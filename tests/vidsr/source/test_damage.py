"""Damaged files: what is left of them is the same every time, and their end is never taken for granted."""

from __future__ import annotations

import hashlib
import struct
from fractions import Fraction
from random import Random

import av
import numpy as np
import pytest

from tests import media
from tests.media import draw, write_episode
from tests.running import quick, vidsr
from vidsr.container import open_input, packets, read_clock
from vidsr.errors import SourceError
from vidsr.report import Report
from vidsr.source.decode import decode
from vidsr.source.probe import probe

LARGE = (1280, 480)  # more samples than decoders once had one thread for


def write_grain(path, codec, options, frames=24):
    """Pictures under film grain, which are coded in many bits, so that damage to some of these shows."""
    random = np.random.default_rng(0)
    grain = random.integers(-12, 12, (LARGE[1] + 64, LARGE[0] + 64))
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = *LARGE, "yuv420p", 12
        for number in range(frames):
            picture = draw(number, LARGE)
            luma, (y, x) = media._plane(picture, 0), random.integers(0, 64, 2)
            luma[:] = np.clip(luma + grain[y : y + LARGE[1], x : x + LARGE[0]], 0, 255)
            picture.pts, picture.time_base = number, Fraction(1, 24)
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))


def flip_bytes(path, every=3, flips=6):
    """Change some bytes of every third coded picture, in place."""
    random, data = Random(1), bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        pictures = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    for picture in pictures[1::every]:
        at = data.index(picture)
        for _ in range(flips):
            data[at + random.randrange(len(picture) // 8, len(picture))] ^= random.randrange(1, 256)
    path.write_bytes(data)


def digest(info):
    """Of every sample of every frame of the video."""
    found = hashlib.sha256()
    for frame in decode(info.path, info.video, None, None, None, Report()):
        for plane in frame.planes:
            found.update(plane.tobytes())
    return found.hexdigest()


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"preset": "veryfast", "crf": "23", "threads": "1", "slices": "4"}),
        ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:wpp=1"}),
    ],
)
def test_what_is_made_of_damage_is_the_same_every_time(tmp_path, codec, options):
    path = tmp_path / "a.mkv"
    write_grain(path, codec, options)
    info = probe(path)
    whole = digest(info)
    flip_bytes(path)
    found = {digest(info) for _ in range(6)}
    assert len(found) == 1 and whole not in found


HOLES, GOOD = 40, 80


@pytest.fixture(scope="module")
def holed(tmp_path_factory):
    """120 pictures of which every third has no header that the demuxer knows. What follows it has no line break, and
    is as long as 96 of the longest headers, so that it fails 97 times until it is at the next picture."""
    path, size = tmp_path_factory.mktemp("holed") / "holed.y4m", (80, 64)
    with av.open(str(path), "w", format="yuv4mpegpipe") as file:
        stream = file.add_stream("rawvideo", rate=24)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(HOLES + GOOD):
            picture = draw(number, size)
            picture.pts, picture.time_base = number, Fraction(1, 24)
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    parts = path.read_bytes().split(b"FRAME\n")
    assert len(parts) == 1 + HOLES + GOOD
    whole = parts[0]
    for number, picture in enumerate(parts[1:]):
        whole += (b"BREAK\n" if number % 3 == 2 else b"FRAME\n") + picture
    path.write_bytes(whole)
    return path


def test_what_lies_between_many_damaged_stretches_is_read(holed):
    errors = []
    with open_input(holed) as file:
        found = [packet.pts for packet in packets(file, [file.streams[0]], errors.append) if packet.size]
    assert found == [number for number in range(HOLES + GOOD) if number % 3 != 2]
    assert len(errors) == HOLES


def test_a_run_keeps_it_and_counts_the_stretches(holed, tmp_path):
    done = quick(holed, "-o", tmp_path / "b.mkv")
    assert done.returncode == 0 and f"{HOLES} damaged stretches" in done.stderr, done.stderr
    numbers = [number for _, number in media.read_numbers(tmp_path / "b.mkv")]
    assert numbers == [number for number in range(HOLES + GOOD) if number % 3 != 2]
    assert vidsr("verify", holed, tmp_path / "b.mkv").returncode == 0


@pytest.fixture(scope="module")
def stuck(tmp_path_factory):
    """96 pictures; for the 49th the demuxer is sent to a place before the file's beginning, again and again."""
    folder = tmp_path_factory.mktemp("stuck")
    write_episode(folder / "plain.mp4", frames=96, keyframes=12)
    path = folder / "stuck.mp4"
    with (
        av.open(str(folder / "plain.mp4")) as file,
        av.open(str(path), "w", container_options={"movflags": "frag_keyframe+empty_moov"}) as result,
    ):
        stream = result.add_stream_from_template(file.streams.video[0], opaque=True)
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = stream
                result.mux(packet)
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(5):  # fragments of 12 pictures
        at = data.index(b"tfhd", at + 1)
    data[at + 12 : at + 20] = struct.pack(">q", -(1 << 40))  # base_data_offset
    path.write_bytes(data)
    return path


def test_being_stuck_is_no_end(stuck, tmp_path):
    """Neither of the plan nor of the proof, which both would stop at the same picture."""
    with pytest.raises(SourceError, match=r"stuck\.mp4: cannot be read to its end"):
        read_clock(stuck, probe(stuck.with_name("plain.mp4")).video)
    done = quick(stuck, "-o", tmp_path / "b.mp4")
    assert done.returncode == 1 and "stuck.mp4: cannot be read to its end" in done.stderr
    assert not (tmp_path / "b.mp4").exists()
    write_episode(tmp_path / "half.mp4", frames=48, keyframes=12, size=(128, 96))
    proof = vidsr("verify", stuck, tmp_path / "half.mp4")
    assert proof.returncode == 1 and "stuck.mp4: cannot be read to its end" in proof.stderr
