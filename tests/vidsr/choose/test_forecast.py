"""What is measured are the run's own stages, and nothing of them is left behind. How fast they are is not tested."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from tests.media import write_episode
from vidsr.backends import open_backend
from vidsr.choose.forecast import measure
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.choose.samples import stretches
from vidsr.errors import OutputError
from vidsr.frames import TimeRange
from vidsr.report import Report

SHARES = (0.5, 0.25, 0.75)


def job_of(path, **options):
    wanted = {"scale": 2, "backend": "nearest", "preset": "ultrafast", "threads": 1, "output": Path("a.mkv"), **options}
    return prepare(path, Options(**wanted), Report())


class Watched:
    """The stand-in backend, which writes down the times of the pictures that it is given."""

    def __init__(self, spec, in_flight=1, told=lambda: None):
        self.inner, self.in_flight, self.told = open_backend(spec), in_flight, told
        self.scale, self.patch, self.context, self.description = self.inner.scale, 0, 0, "watched"
        self.seen, self.closed = [], False

    def __call__(self, batch):
        self.seen += [frame.pts for frame in batch.frames]
        self.told()
        return self.inner(batch)

    def submit(self, batch):
        result = self(batch)
        return lambda: result

    def close(self):
        self.closed = True


@pytest.fixture
def episode(tmp_path):
    write_episode(tmp_path / "a.mkv", frames=96)
    return tmp_path / "a.mkv"


@pytest.mark.parametrize(("in_flight", "workers"), [(1, 1), (2, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("reuse", ["off", "exact"])
def test_every_stretch_goes_through_the_stages(episode, in_flight, workers, reuse):
    job = replace(job_of(episode, reuse=reuse), workers=workers, batch_size=4 if in_flight > 1 else 1)
    chosen, backends = stretches(job.info, job.span, SHARES, 6), []

    def opened(spec):
        backends.append(Watched(spec, in_flight))
        return backends[0]

    speed = measure(job, chosen, 60, opened)
    assert len(speed.seconds) == -(-len(chosen) // workers) and not speed.partial
    assert speed.fps > 0 and speed.range[0] <= speed.fps <= speed.range[1]
    assert len(backends) == 1 and backends[0].closed
    assert (speed.unencoded or 0) > 0 if in_flight > 1 else speed.unencoded is None
    for stretch in chosen:
        assert sum(stretch.start <= pts < stretch.end for pts in set(backends[0].seen)) >= (6 if reuse == "off" else 1)


def test_nothing_is_written_anywhere(episode, tmp_path, monkeypatch):
    """A signal may end the process at any moment, with nobody to tidy up."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(folder)
    job = job_of(episode, output=folder / "a.mkv")
    found = []
    chosen = stretches(job.info, job.span, SHARES, 24)
    assert measure(job, chosen, 60, lambda spec: Watched(spec, told=lambda: found.extend(os.listdir(folder))))
    assert found == os.listdir(folder) == []


def test_files_of_one_picture_and_of_none_that_decodes(tmp_path):
    one = tmp_path / "one.mkv"
    write_episode(one, frames=1)
    job = job_of(one)
    speed = measure(job, stretches(job.info, job.span, SHARES, 12), 1, open_backend)
    assert speed.fps > 0 and len(speed.seconds) == 1
    job = replace(job, span=TimeRange(100))
    assert measure(job, stretches(job.info, job.span, SHARES, 12), 1, open_backend) is None


def test_damage_is_no_reason_to_stop(episode):
    data = bytearray(episode.read_bytes())
    for at in range(len(data) // 3, len(data) - 200, 97):
        data[at] ^= 0x55
    episode.write_bytes(data)
    job = job_of(episode)
    assert measure(job, stretches(job.info, job.span, SHARES, 12), 1, open_backend).fps > 0


def test_a_single_keyframe_and_times_that_begin_late(tmp_path):
    path = tmp_path / "late.mp4"
    write_episode(path, pts=[36_000 * 24 + i for i in range(96)], time_base=Fraction(1, 24), keyframes=400)
    job = job_of(path)
    chosen = stretches(job.info, job.span, SHARES, 12)
    assert len(measure(job, chosen, 60, open_backend).seconds) == 3


def test_an_encoder_that_refuses_says_so_before_the_run(episode):
    job = job_of(episode)
    refused = replace(job, encoder=replace(job.encoder, options={**job.encoder.options, "profile": "nonsense"}))
    with pytest.raises(OutputError, match="libx264"):
        measure(refused, stretches(job.info, job.span, SHARES, 6), 1, open_backend)
