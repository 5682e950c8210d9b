"""Results of a size that was asked for: whole runs, streams and stills, the same wherever they are cut."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

import vidsr
from tests.media import read_numbers, write_episode
from tests.running import upscaled
from tests.running import vidsr as command
from vidsr.backends import open_backend
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.frames import Shape
from vidsr.proof.verify import verify
from vidsr.report import Report
from vidsr.run.segments import Segment, make_plan, segment_path
from vidsr.run.stages import make_segment

DVD = Fraction(8, 9)


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    path = tmp_path_factory.mktemp("size") / "a.mkv"
    write_episode(path, frames=40, size=(96, 64), sar=DVD)
    return path


def failures(source, result, **made):
    return {check.name for check in vidsr.verify(source, result, **made).failures}


def pictures(path):
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="yuv420p") for frame in file.decode(video=0)]


def test_a_run_of_that_size_is_proved(episode, tmp_path):
    made = upscaled(episode, tmp_path / "b.mkv", scale=None, height=100)
    assert made.video.shape == Shape(150, 100, DVD)
    assert read_numbers(tmp_path / "b.mkv") == read_numbers(episode)
    assert not failures(episode, tmp_path / "b.mkv", height=100) and not failures(episode, tmp_path / "b.mkv")
    assert failures(episode, tmp_path / "b.mkv", height=102) == {"size"}
    assert failures(episode, tmp_path / "b.mkv", scale=2) == {"size"}


def test_square_pixels_look_the_same(episode, tmp_path):
    result = tmp_path / "b.mkv"
    made = upscaled(episode, result, scale=None, fit="200x150", square_pixels=True)
    assert made.video.shape == Shape(200, 150, Fraction(1))
    assert not failures(episode, result, fit="200x150", square_pixels=True) and not failures(episode, result)
    assert failures(episode, result, fit="200x150") == {"size", "pixel shape"}


def test_a_result_of_another_shape_is_refused(episode, tmp_path):
    """Made wrong on purpose: pixels called square that are not, or called the source's that are square."""
    upscaled(episode, tmp_path / "b.mkv", scale=None, height=100)
    job = prepare(episode, Options(output=tmp_path / "c.mkv", backend="nearest", height=100), Report())
    assert job.shape is not None
    square = replace(job, shape=replace(job.shape, sample_aspect=Fraction(1)), check=False)
    vidsr.api.run_job(square, open_backend, Report())
    assert failures(episode, tmp_path / "c.mkv", height=100) == {"pixel shape"}
    assert failures(episode, tmp_path / "c.mkv") == {"pixel shape"}
    wide = replace(job, shape=replace(job.shape, width=180), output=tmp_path / "d.mkv", check=False)
    vidsr.api.run_job(wide, open_backend, Report())
    assert failures(episode, tmp_path / "d.mkv") == {"pixel shape"}
    assert failures(episode, tmp_path / "d.mkv", height=100) == {"size"}


def test_others_read_the_size(episode, tmp_path):
    if not shutil.which("ffprobe"):
        pytest.skip("no ffprobe")
    upscaled(episode, tmp_path / "b.mkv", scale=None, height=128, square_pixels=True)
    entries = "stream=width,height,sample_aspect_ratio"
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", entries, "-of", "csv=p=0"]
    found = subprocess.run([*command, str(tmp_path / "b.mkv")], capture_output=True, text=True, check=True).stdout
    assert found.strip().rstrip(",") == "170,128,1:1"


@pytest.mark.parametrize("reuse", ["off", "exact"])
def test_cuts_anywhere_and_reuse_change_nothing(tmp_path, reuse):
    source = tmp_path / "a.mkv"
    write_episode(source, frames=30, size=(96, 64), keyframes=10)
    wanted = {"backend": "nearest", "codec": "ffv1", "height": 100, "threads": 1, "reuse": reuse}
    job = prepare(source, Options(output=tmp_path / "b.mkv", **wanted), Report())
    (whole,) = make_plan(job.info, job.span, {}, {}).segments
    times = make_segment(job, whole, tmp_path).pts
    expected = pictures(segment_path(tmp_path, 0))
    found = []
    for i, (a, b) in enumerate(((0, 7), (7, 8), (8, 23), (23, 30)), 1):
        start, end = times[a], times[b] if b < len(times) else None
        make_segment(job, Segment(i, start, end, None, b - a), tmp_path)
        found += pictures(segment_path(tmp_path, i))
    assert len(found) == 30 and all(np.array_equal(x, y) for x, y in zip(found, expected))
    plain = prepare(source, Options(output=tmp_path / "b.mkv", **{**wanted, "reuse": "off"}), Report())
    make_segment(plain, Segment(9, None, None, None, 30), tmp_path)
    assert all(np.array_equal(x, y) for x, y in zip(pictures(segment_path(tmp_path, 9)), expected))


def test_a_stream_has_that_size(episode, tmp_path):
    with open(tmp_path / "b.mkv", "wb") as file:
        assert vidsr.stream(episode, file.fileno(), backend="nearest", height=96, square_pixels=True)
    found = vidsr.probe(tmp_path / "b.mkv").video
    assert found.shape == Shape(128, 96, Fraction(1))
    assert verify(episode, tmp_path / "b.mkv", found.shape).passed


def test_unfinished_work_of_another_size_is_not_gone_on_with(episode, tmp_path):
    wanted = {"output": tmp_path / "b.mkv", "backend": "nearest", "threads": 1}

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vidsr.api.run_job(prepare(episode, Options(height=100, **wanted), Report()), open_backend, Report(), stop)
    with pytest.raises(vidsr.ResumeError, match=r"size \(150x100 then, 156x104 now\)"):
        vidsr.api.run_job(prepare(episode, Options(height=104, **wanted), Report()), open_backend, Report())
    vidsr.api.run_job(prepare(episode, Options(width=150, **wanted), Report()), open_backend, Report())


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3), (40, 60, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_stills(tmp_path, shape, dtype):
    picture = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    small = cv2.GaussianBlur(picture, (9, 9), 3)
    cv2.imwrite(str(tmp_path / "a.png"), small)
    made = vidsr.upscale_picture(tmp_path / "a.png", height=90, backend="nearest")
    assert made == tmp_path / "a.90p.png"
    large = cv2.imread(str(made), cv2.IMREAD_UNCHANGED)
    assert large.dtype == dtype and large.shape == (90, 135, *shape[2:])
    back = cv2.resize(large, (60, 40), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(back - small).mean() < 0.03 * np.iinfo(dtype).max
    with pytest.raises(vidsr.UsageError, match="smaller"):
        vidsr.upscale_picture(tmp_path / "a.png", height=30, backend="nearest")


def test_the_command(episode):
    done = command(episode, "--backend", "nearest", "--preset", "ultrafast", "--height", 128, "--square-pixels")
    assert done.returncode == 0, done.stderr
    result = episode.with_name("a.128p.mkv")
    assert done.stdout.strip() == str(result) and result.exists()
    wrong = command(episode, "--backend", "nearest", "--preset", "ultrafast", "--height", 30)
    assert wrong.returncode == 2 and "which is smaller" in wrong.stderr and wrong.stderr.count("\n") == 1
