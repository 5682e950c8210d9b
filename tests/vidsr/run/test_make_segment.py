"""One segment as a unit of work: sent to another process, stopped, and always the same."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import av
import pytest

from tests.media import write_episode
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.report import Report
from vidsr.run.segments import make_plan, segment_path
from vidsr.run.stages import make_segment


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """(job, its two segments)"""
    folder = tmp_path_factory.mktemp("segment")
    write_episode(folder / "a.mkv", frames=500, keyframes=50)
    options = Options(scale=2, backend="nearest", preset="ultrafast", threads=1, output=folder / "b.mkv")
    job = prepare(folder / "a.mkv", options, Report())
    segments = make_plan(job.info, job.span, {}, {}).segments
    assert len(segments) == 2
    return job, segments


def video(path):
    with av.open(str(path)) as file:
        return [(p.pts, p.dts, bytes(p)) for p in file.demux(video=0) if p.size]


def test_another_process_makes_the_same(work, tmp_path):
    job, segments = work
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
    here = make_segment(job, segments[1], tmp_path / "here")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(make_segment, job, segments[1], tmp_path / "there").result(timeout=120)
    assert (there.index, there.pts, there.durations) == (1, here.pts, here.durations)
    assert len(there.pts) == segments[1].packets and there.pts == tuple(sorted(there.pts))
    assert video(segment_path(tmp_path / "there", 1)) == video(segment_path(tmp_path / "here", 1))


def test_what_is_sent_is_small(work):
    job, segments = work
    assert pickle.loads(pickle.dumps((job, segments))) == (job, segments)
    assert len(pickle.dumps((job, segments[0]))) < 10_000


def test_whoever_is_told_of_each_frame_can_end_it(work, tmp_path):
    job, segments = work
    seen = []

    def taken(frames, counts):
        seen.append((frames, counts.all_pixels))
        if frames == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_segment(job, segments[0], tmp_path, taken=taken)
    assert [frames for frames, _ in seen] == list(range(1, 8)) and seen[-1][1] >= 7 * 64 * 48
    assert list(tmp_path.iterdir()) == []
