"""Sources whose times restart become one: joined recordings, DVD cells, appended files, clocks that run over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.media import packets, read_numbers, write_episode
from tests.media_times import RUNS_OVER, joined, remuxed, times
from tests.running import quick, upscaled
from vidsr.backends import open_backend
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.container import open_input, read_clock
from vidsr.frames import TimeRange
from vidsr.mux.keep import STDOUT
from vidsr.proof.verify import verify
from vidsr.report import Report
from vidsr.run import segments
from vidsr.run.live import stream
from vidsr.source.decode import decode
from vidsr.source.probe import probe

SOURCES = {
    "joined.ts": ([75, 100], ()),
    "joined.mpg": ([75, 100], ()),
    "joined.vob": ([40, 75, 30], ()),
    "joined.mkv": ([75, 100], ()),
    "later.ts": ([60, 60, 60], (600, 5, 700)),  # which FFmpeg takes for a clock that has run over
    "over.ts": ([100], (RUNS_OVER - 2,)),
    "over.mpg": ([100], (RUNS_OVER - 2,)),
    "reset.ts": ([60, 60], (3, 40000)),
}


@pytest.fixture(scope="module", params=SOURCES)
def source(request, tmp_path_factory) -> tuple[Path, list[Path], list[int]]:
    path = tmp_path_factory.mktemp("restarts") / request.param
    frames, starts = SOURCES[request.param]
    return path, joined(path, frames, starts), frames


def failures(*arguments, **more):
    return {check.name.split()[0]: check.detail for check in verify(*arguments, **more).failures}


def test_the_result_is_one_whole(source, tmp_path):
    path, pieces, frames = source
    report = Report()
    upscaled(path, tmp_path / "b.mkv", report)
    shown = read_numbers(tmp_path / "b.mkv")
    assert [number for _, number in shown] == list(range(sum(frames)))
    steps = [b - a for (a, _), (b, _) in zip(shown, shown[1:])]

    assert min(steps) >= 39 and max(steps) <= 140, "each piece follows the one before it"
    sound = times(tmp_path / "b.mkv", "audio")
    assert all(0 < b - a < 0.2 for a, b in zip(sound, sound[1:]))
    if len(frames) > 1:
        assert sum("its times restart" in line or "jump on" in line for line in report.lines) == len(frames) - 1
        # Sound and picture of each piece lie as they did in its own file.
        picture, begin, heard = [pts / 1000 for pts, _ in shown], 0, 0
        for piece, count in zip(pieces, frames):
            apart = min(times(piece, "audio")) - min(times(piece, "video"))
            assert sound[heard] - picture[begin] == pytest.approx(apart, abs=0.0021)
            begin, heard = begin + count, heard + len(times(piece, "audio"))


def test_any_stretch_is_what_the_whole_has_there(source):
    info = probe(source[0])
    whole = [frame.pts for frame in decode(info.path, info.video, None, None, None, Report())]
    clock = read_clock(info.path, info.video)
    assert sorted(whole) == list(clock.pts) and info.video.monotonic
    pixels = {f.pts: f.planes[0].tobytes() for f in decode(info.path, info.video, None, None, None, Report())}
    cuts = [whole[i] for i in range(5, len(whole), 17)]
    with open_input(info.path) as container:
        for at, (start, end) in enumerate(zip(cuts, cuts[2:] + [None])):
            seek = segments._seek_target(clock.keyframes, start)
            report = Report()
            opened = container if at % 2 else None  # read on from elsewhere, or opened anew
            found = list(decode(info.path, info.video, start, end, seek, report, container=opened))
            assert [f.pts for f in found] == [t for t in whole if t >= start and (end is None or t < end)]
            assert all(pixels[f.pts] == f.planes[0].tobytes() for f in found)
            assert not report.counts


@pytest.mark.parametrize(("start", "duration"), [(0.0, 3.2), (2.0, None), (1.52, 2.0), (3.4, 0.3)])
def test_a_part(source, tmp_path, start, duration):
    report = Report()
    upscaled(source[0], tmp_path / "b.mkv", report, start=start, duration=duration)
    shown = [number for _, number in read_numbers(tmp_path / "b.mkv")]
    assert shown == list(range(shown[0], shown[0] + len(shown))) and shown[0] <= start * 25
    assert duration is None or len(shown) <= duration * 25 + 1


@pytest.mark.parametrize("options", [{}, {"start": 1.52, "duration": 2.0}, {"duration": 3.2}])
def test_a_stream(source, tmp_path, options):
    wanted = {"scale": 2, "backend": "nearest", "preset": "ultrafast", "threads": 1, **options}
    job = prepare(source[0], Options(output=STDOUT, **wanted), Report())
    target = os.open(tmp_path / "b.mkv", os.O_WRONLY | os.O_CREAT)
    try:
        assert stream(job, target, open_backend, Report())
    finally:
        os.close(target)
    assert not failures(source[0], tmp_path / "b.mkv", span=job.span)


def test_segments_of_a_joined_file(tmp_path):
    joined(tmp_path / "a.ts", [300, 500])
    info = probe(tmp_path / "a.ts")
    plan = segments.make_plan(info, TimeRange(), {}, {})
    assert len(plan.segments) > 1 and plan.packets == 800
    upscaled(tmp_path / "a.ts", tmp_path / "one.mkv", jobs=1)
    upscaled(tmp_path / "a.ts", tmp_path / "two.mkv", jobs=2)
    assert packets(tmp_path / "one.mkv") == packets(tmp_path / "two.mkv")
    assert [number for _, number in read_numbers(tmp_path / "one.mkv")] == list(range(800))


def test_an_mkv_alone_is_not_read_for_its_times(tmp_path):
    write_episode(tmp_path / "a.mkv")
    assert probe(tmp_path / "a.mkv").video.timeline.pieces == ()
    remuxed(tmp_path / "a.mkv", tmp_path / "a.ts")
    assert probe(tmp_path / "a.ts").video.timeline.pieces == ()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proof")
    joined(folder / "a.ts", [75, 100])
    upscaled(folder / "a.ts", folder / "b.mkv")
    return folder / "a.ts", folder / "b.mkv"


def second(packet) -> bool:
    """Whether it is of the second of the two pieces, in the result."""
    return packet.pts * packet.time_base > 3.07


def test_the_proof_wants_the_pieces_in_order(pair, tmp_path):
    def swapped(packet):
        ticks = round(3 / packet.time_base)
        packet.pts += -ticks if second(packet) else ticks * 4 // 3
        packet.dts = packet.pts

    found = failures(pair[0], remuxed(pair[1], tmp_path / "a.mkv", swapped, key=lambda packet: packet.pts))
    assert {"audio", "picture"} <= set(found)


def test_the_proof_wants_all_of_the_time(pair, tmp_path):
    def folded(packet):
        if second(packet):
            packet.pts -= round(3 / packet.time_base)
        packet.dts = packet.pts

    found = remuxed(pair[1], tmp_path / "a.mkv", folded, key=lambda packet: packet.pts)
    assert "timestamps" in failures(pair[0], found)


def test_the_proof_wants_the_sound_moved_with_its_picture(pair, tmp_path):
    def late(packet):
        if packet.stream.type == "audio" and second(packet):
            packet.pts += 40
            packet.dts += 40

    assert set(failures(pair[0], remuxed(pair[1], tmp_path / "a.mkv", late))) == {"audio"}


def test_the_proof_wants_gaps_kept(tmp_path):
    joined(tmp_path / "a.ts", [50, 50], (2, 34))
    report = Report()
    upscaled(tmp_path / "a.ts", tmp_path / "b.mkv", report)
    assert any("30.0 s of the picture are missing at 0:02" in line for line in report.lines)

    def closed(packet):
        if packet.pts * packet.time_base > 20:
            packet.pts -= 30000
            packet.dts -= 30000

    found = failures(tmp_path / "a.ts", remuxed(tmp_path / "b.mkv", tmp_path / "c.mkv", closed))
    assert set(found) == {"timestamps", "audio"}


def test_the_command_tells(tmp_path):
    joined(tmp_path / "a.ts", [50, 50], (2, 1))
    done = quick(tmp_path / "a.ts", "-o", tmp_path / "b.mkv")
    assert done.returncode == 0 and "its times restart at 0:02" in done.stderr + done.stdout
