"""The plan: every frame in exactly one segment, cut at keyframes, whatever the source's rhythm."""

from __future__ import annotations

import threading
from array import array
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media import write_episode
from vidsr.container import Clock
from vidsr.errors import OutputError, SourceError
from vidsr.frames import SourceInfo, TimeRange
from vidsr.report import Report
from vidsr.run import segments
from vidsr.run.segments import Plan, Workspace
from vidsr.source.decode import decode
from vidsr.source.probe import probe


@pytest.fixture(scope="module")
def info(tmp_path_factory) -> SourceInfo:
    path = tmp_path_factory.mktemp("segments") / "a.mkv"
    write_episode(path, frames=60, keyframes=10, options={"bf": "3"})
    return probe(path)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_time_is_in_one_segment(data):
    steps = data.draw(st.lists(st.integers(1, 90), min_size=1, max_size=2000))
    times, now = [], data.draw(st.integers(-1000, 10**6))
    for step in steps:
        times.append(now)
        now += step
    keys = sorted({times[0], *data.draw(st.lists(st.sampled_from(times), max_size=20))})
    clock = Clock(Fraction(1, 1000), array("q", times), array("q", keys))
    begin, end = data.draw(st.sampled_from([(0, None), (20_000, None), (7_300, 27_300), (0, 10_100), (1, 200)]))  # ms
    span = TimeRange(begin / 1000, None if end is None else end / 1000)
    inside = [t for t in times if t - times[0] >= begin and (end is None or t - times[0] < end)]
    found = segments.cut(clock, span)
    if not inside:
        assert found == ()
        return
    assert segments.cut(clock, span, monotonic=False)[0].packets == len(inside)
    owners = [
        [s.index for s in found if (s.start is None or t >= s.start) and (s.end is None or t < s.end)]
        for t in times
    ]
    for t, own in zip(times, owners):
        assert len(own) == (t in inside)
    sizes = [s.packets for s in found]
    assert sum(sizes) == len(inside)
    if len(sizes) > 1:
        assert min(sizes) >= segments.MIN_FRAMES // 2 and max(sizes) <= segments.MAX_FRAMES + segments.MIN_FRAMES
    for segment in found:
        assert segment.seek is None or (segment.seek in keys and segment.start is not None)


def test_nobody_begins_in_a_folder_that_is_being_removed(tmp_path):
    """Whoever gets the lock finds an empty folder, and what they write there stays."""
    output = tmp_path / "episode.mkv"
    fresh = Plan({}, {}, {}, ())
    for _ in range(5):
        first, second = Workspace(output), Workspace(output)
        first.open()
        for i in range(1000):
            (first.path / f"segment-{i:05d}.mkv").touch()
        left: list[list[str]] = []

        def begin(second=second, left=left) -> None:
            while not left:
                try:
                    second.open()
                except OutputError:
                    continue
                left.append([path.name for path in second.path.iterdir()])
                second.save_plan(fresh)

        thread = threading.Thread(target=begin)
        thread.start()
        first.remove()
        thread.join()
        assert left == [["lock"]]
        assert second.load_plan() is not None
        second.remove()
        assert not second.path.exists()


def test_a_folder_that_cannot_be_emptied_is_no_failure_of_the_run(tmp_path):
    work = Workspace(tmp_path / "episode.mkv")
    work.open()
    (work.path / "somebodys").mkdir()
    (work.path / "segment-00000.mkv").touch()
    work.remove()
    assert [path.name for path in work.path.iterdir()] == ["somebodys"]
    work.open()  # nobody holds its lock
    with pytest.raises(OutputError, match="somebodys"):
        work.discard()
    work.close()


def test_a_part_without_a_frame_is_said(info):
    with pytest.raises(SourceError, match="no frame in the part asked for; the video is 2"):
        segments.make_plan(info, TimeRange(100), {}, {})


def test_cuts_lie_at_keyframes_where_there_are_some(tmp_path):
    write_episode(tmp_path / "a.mkv", frames=900, keyframes=100, size=(32, 32))
    plan = segments.make_plan(probe(tmp_path / "a.mkv"), TimeRange(), {}, {})
    assert [segment.packets for segment in plan.segments] == [300, 300, 300]


@pytest.mark.parametrize("start", range(0, 60, 7))
def test_decoding_from_the_middle_gives_what_decoding_all_gives(info, start):
    every = list(decode(info.path, info.video, None, None, None, Report()))
    pts = [frame.pts for frame in every]
    keys = pts[::10]
    seek = segments._seek_target(keys, pts[start])
    part = list(decode(info.path, info.video, pts[start], pts[start] + 500, seek, Report()))
    expected = [frame for frame in every if pts[start] <= frame.pts < pts[start] + 500]
    assert [frame.pts for frame in part] == [frame.pts for frame in expected]
    for a, b in zip(part, expected):
        assert all((x == y).all() for x, y in zip(a.planes, b.planes))


def test_an_index_that_lies_is_read_from_the_beginning(info):
    every = [frame.pts for frame in decode(info.path, info.video, None, None, None, Report())]
    part = [frame.pts for frame in decode(info.path, info.video, every[5], None, every[-1], Report())]
    assert part == every[5:]


def test_frames_are_views_of_the_decoders_memory(info):
    frame = next(decode(info.path, info.video, None, None, None, Report()))
    assert all(plane.base is not None for plane in frame.planes)
    assert frame.planes[0].shape == (48, 64) and frame.planes[1].shape == (24, 32)
