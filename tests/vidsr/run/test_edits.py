"""What an MP4's edit lists show, and nothing else: exactly the pictures a player shows, and the sound that goes with
them."""

from __future__ import annotations

import os
import shutil
import subprocess
from fractions import Fraction

import av
import pytest

from tests.media import Track, read_numbers, write_episode
from tests.media_times import RATE, remuxed, with_edits
from tests.running import upscaled
from vidsr.backends import open_backend
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.container import read_clock
from vidsr.mux.keep import STDOUT
from vidsr.proof.verify import verify
from vidsr.report import Report
from vidsr.run import segments
from vidsr.run.live import stream
from vidsr.source.decode import decode
from vidsr.source.probe import probe

DELAY = Fraction(8, 100)  # at which FFmpeg's muxer puts the first picture where there are B-frames
EDITS = {
    "from a keyframe": [(2, 0.56)],
    "from the middle of a group": [(1.5, 1.0)],
    "into B-frames": [(1.3, 0.52)],
    "later": [(0.5, None), (2, 1.0)],
    "two": [(1, 0.48), (1, 2.2)],
    "twice": [(1, 0.5), (1, 0.5)],
    "backwards": [(1, 2.0), (1, 0.3)],
    "overlapping": [(1, 0.5), (1, 1.0)],
    "three": [(0.5, 0.2), (0.5, 1.2), (0.5, 2.2)],
}


@pytest.fixture(scope="module", params=EDITS)
def edited(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("edits") / "a.mp4"
    write_episode(
        path, frames=80, rate=RATE, time_base=1 / RATE, options={"bf": "2"}, keyframes=12, audio=[Track("aac", "ja")]
    )
    for track in (0, 1):
        with_edits(path, EDITS[request.param], track)
    return path, EDITS[request.param]


def shown(edits) -> list[int]:
    """The numbers of the pictures that are shown by the standard (ISO/IEC 14496-12, 8.6.6)."""
    begins = [(Fraction(begin).limit_denominator(100), length) for length, begin in edits if begin is not None]
    return [i for begin, length in begins for i in range(80) if begin <= DELAY + i / RATE < begin + Fraction(length)]


def heard(path) -> float:
    """Seconds of sound that decode."""
    with av.open(str(path)) as file:
        return sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_result_shows_what_is_shown(edited, tmp_path, suffix):
    path, edits = edited
    assert [number for _, number in read_numbers(path)] == shown(edits)
    result = tmp_path / f"b{suffix}"
    upscaled(path, result)
    assert [number for _, number in read_numbers(result)] == shown(edits)
    assert heard(result) == pytest.approx(sum(length for length, begin in edits if begin is not None), abs=0.2)


def test_any_stretch_is_what_the_whole_has_there(edited):
    info = probe(edited[0])
    whole = list(decode(info.path, info.video, None, None, None, Report()))
    clock = read_clock(info.path, info.video)
    assert sorted(frame.pts for frame in whole) == list(clock.pts)
    for start, end in zip(clock.pts[1::7], [*clock.pts[13::7], None, None]):
        seek = segments._seek_target(clock.keyframes, start)
        found = decode(info.path, info.video, start, end, seek, Report())
        expected = [f for f in whole if f.pts >= start and (end is None or f.pts < end)]
        assert [(f.pts, f.planes[0].tobytes()) for f in found] == [(f.pts, f.planes[0].tobytes()) for f in expected]


def test_a_stream_shows_it_too(edited, tmp_path):
    options = Options(output=STDOUT, scale=2, backend="nearest", preset="ultrafast", threads=1)
    job = prepare(edited[0], options, Report())
    target = os.open(tmp_path / "b.mkv", os.O_WRONLY | os.O_CREAT)
    try:
        stream(job, target, open_backend, Report())
    finally:
        os.close(target)
    assert verify(edited[0], tmp_path / "b.mkv").passed
    assert [number for _, number in read_numbers(tmp_path / "b.mkv")] == shown(edited[1])


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="no ffprobe to compare with")
def test_ffprobe_sees_the_same(edited):
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pts", "-of", "csv=p=0"]
    said = subprocess.run([*command, str(edited[0])], capture_output=True, text=True, check=True).stdout
    info = probe(edited[0])
    assert sorted(int(line.strip(",")) for line in said.split()) == list(read_clock(info.path, info.video).pts)


def test_the_proof_counts_what_is_shown(tmp_path):
    write_episode(tmp_path / "a.mp4", frames=80, rate=RATE, time_base=1 / RATE, audio=[Track("aac", "ja")])
    shutil.copy(tmp_path / "a.mp4", tmp_path / "cut.mp4")
    for track in (0, 1):
        with_edits(tmp_path / "cut.mp4", [(2, 1.0)], track)
    upscaled(tmp_path / "a.mp4", tmp_path / "b.mkv")
    failed = {check.name for check in verify(tmp_path / "cut.mp4", tmp_path / "b.mkv").failures}
    assert {"frame count", "audio aac jpn"} <= failed, "more is shown and heard than should be"
    upscaled(tmp_path / "cut.mp4", tmp_path / "c.mkv")

    def without_one(packet):
        return False if packet.stream.type == "video" and packet.pts > 1900 else None

    remuxed(tmp_path / "c.mkv", tmp_path / "d.mkv", without_one)
    failed = {check.name for check in verify(tmp_path / "cut.mp4", tmp_path / "d.mkv").failures}
    assert "frame count" in failed
