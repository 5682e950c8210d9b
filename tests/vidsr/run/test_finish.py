"""Results of a size that was asked for: whole runs, streams and stills, the same wherever they are cut."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vidsr
from tests.media import read_numbers, write_episode
from tests.running import upscaled
from tests.running import vidsr as command
from vidsr.backends import open_backend
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.frames import PixelFormat, Shape
from vidsr.proof.verify import verify
from vidsr.report import Report
from vidsr.run.pipeline import run
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
    run(square, open_backend, Report())
    assert failures(episode, tmp_path / "c.mkv", height=100) == {"pixel shape"}
    assert failures(episode, tmp_path / "c.mkv") == {"pixel shape"}
    wide = replace(job, shape=replace(job.shape, width=180), output=tmp_path / "d.mkv", check=False)
    run(wide, open_backend, Report())
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
        run(prepare(episode, Options(height=100, **wanted), Report()), open_backend, Report(), stop)
    with pytest.raises(vidsr.ResumeError, match=r"size \(150x100 then, 156x104 now\)"):
        run(prepare(episode, Options(height=104, **wanted), Report()), open_backend, Report())
    run(prepare(episode, Options(width=150, **wanted), Report()), open_backend, Report())


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


@given(
    name=st.sampled_from(["yuv420p", "yuv444p", "yuv422p10le"]), width=st.integers(33, 70), height=st.integers(33, 70),
    sar=st.fractions(Fraction(1, 2), 2, max_denominator=16), square=st.booleans(), more=st.floats(1, 3.9),
    crop=st.none() | st.tuples(*[st.integers(0, 6)] * 4),
)  # fmt: skip
@settings(max_examples=10, deadline=None)
def test_any_source_has_its_size_and_is_proved(name, width, height, sar, square, more, crop):
    """Odd sizes, pixels of any shape, a part of the picture: the result is what is proved, and looks as the source."""
    format = PixelFormat.from_name(name)
    x, y = (1 << shift for shift in format.chroma_shift)
    width, height = width // x * x, height // y * y  # which encoders want; parts may be odd
    part = None
    if crop is not None:
        left, top, right, bottom = crop
        part = (width - left // x * x - right, height - top // y * y - bottom, left // x * x, top // y * y)
    with TemporaryDirectory() as folder:
        source, result = Path(folder) / "a.mkv", Path(folder) / "b.mkv"
        write_episode(source, frames=3, size=(width, height), pix_fmt=name, sar=sar, codec="ffv1")
        rows = part[1] if part else height
        wanted = {"height": round(rows * more) // y * y, "square_pixels": square, "crop": part}
        options = Options(output=result, backend="nearest", codec="ffv1", threads=1, **wanted)
        try:
            job = prepare(source, options, Report())
        except vidsr.UsageError as error:
            assert "smaller" in str(error) or "enlarges no further" in str(error)
            return
        assert run(job, open_backend, Report()).passed
        assert not failures(source, result, **wanted)
        found = vidsr.probe(result).video
        assert found.shape == job.result and (found.height == wanted["height"])


# ---- the model's strength -------------------------------------------------------------------------------------------


def made(source, folder, **options):
    """The pictures of a lossless run, [frames][samples], and its video."""
    wanted = {"backend": "nearest", "codec": "ffv1", "threads": 1, "output": folder / "b.mkv", "overwrite": True}
    job = prepare(source, Options(**{**wanted, **options}), Report())
    assert run(job, open_backend, Report()).passed
    with av.open(str(folder / "b.mkv")) as file:
        return [np.concatenate([rows(plane).reshape(-1) for plane in frame.planes]) for frame in file.decode(video=0)]


def rows(plane, dtype=np.uint8):
    return np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width]


@pytest.mark.parametrize("size", [{"scale": 3}, {"height": 100}])
def test_half_the_strength_is_half_of_each(episode, tmp_path, size):
    full, half, none = (made(episode, tmp_path, strength=part, **size) for part in (1.0, 0.5, 0.0))
    assert not np.array_equal(full[5], none[5])
    for a, b, c in zip(full, half, none, strict=True):
        assert np.abs((a.astype(float) + c) / 2 - b).max() <= 0.51
    assert np.array_equal(made(episode, tmp_path, **size), full)


def test_without_any_it_is_plainly_enlarged(tmp_path):
    """Catmull-Rom goes through the source's samples: where one lies on another's place, it is the same."""
    write_episode(tmp_path / "a.mkv", frames=3, pix_fmt="yuv444p")
    large = made(tmp_path / "a.mkv", tmp_path, scale=3, strength=0.0)
    with av.open(str(tmp_path / "a.mkv")) as file:
        small = [frame.to_ndarray(format="yuv444p") for frame in file.decode(video=0)]
    for before, after in zip(small, large, strict=True):
        middle = after[: 192 * 144].reshape(144, 192)[1::3, 1::3]
        assert np.abs(middle.astype(int) - before[0]).max() <= 1


def test_strength_is_the_same_wherever_it_is_cut_and_whatever_is_reused(tmp_path):
    source = tmp_path / "a.mkv"
    write_episode(source, frames=24, size=(96, 64), keyframes=8)
    found = []
    for reuse in ("exact", "off"):
        options = Options(
            output=tmp_path / "b.mkv", backend="nearest", codec="ffv1", scale=3, threads=1, reuse=reuse, strength=0.4
        )
        job = prepare(source, options, Report())
        (whole,) = make_plan(job.info, job.span, {}, {}).segments
        times = make_segment(job, whole, tmp_path).pts
        found.append(pictures(segment_path(tmp_path, 0)))
        make_segment(job, Segment(1, None, times[9], None, 9), tmp_path)
        make_segment(job, Segment(2, times[9], None, None, 15), tmp_path)
        found.append([picture for i in (1, 2) for picture in pictures(segment_path(tmp_path, i))])
    for others in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("gbrp10le", "ffv1", {}), ("gray", "ffv1", {}), ("yuv420p", "libx264", {"pixel_format": "yuv420p10le"}),
     ("yuv444p", "libx264", {"codec": "svtav1"}), ("yuv422p", "ffv1", {"height": 99, "pixel_format": "yuv444p"})],
)  # fmt: skip
def test_what_is_mixed_has_the_same_colours(tmp_path, one_thread, name, codec, options):
    write_episode(tmp_path / "a.mkv", frames=3, pix_fmt=name, codec=codec)
    means = []
    for part in (1.0, 0.0):
        wanted = {"model": "tiny", "backend": "cpu", "precision": "fp32", "threads": 1, "codec": "ffv1", **options}
        if wanted["codec"] == "svtav1":
            wanted["crf"] = 4
        job = prepare(tmp_path / "a.mkv", Options(output=tmp_path / f"{part}.mkv", strength=part, **wanted), Report())
        assert run(job, open_backend, Report()).passed
        with av.open(str(tmp_path / f"{part}.mkv")) as file:
            (frame, *_) = file.decode(video=0)
            dtype = np.uint16 if "10" in frame.format.name else np.uint8
            planes = [rows(plane, dtype) for plane in frame.planes]
            # The middle of the disc and a corner of the ground, of each plane.
            unit = 4 if dtype is np.uint16 else 1
            places = [(0.6, 0.2), (0.95, 0.95), (0.4, 0.9)]
            means.append([[float(p[int(y * len(p)), int(x * p.shape[1])]) / unit for y, x in places] for p in planes])
    assert np.abs(np.subtract(*means)).max() <= 3


def test_grain_is_kept_at_every_strength_and_size(tmp_path):
    """Noise over a still drawing: what is laid over the result is as loud as without a size, and at half strength."""
    rng = np.random.default_rng(0)
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        video = file.add_stream("ffv1", rate=24)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for _ in range(24):
            luma = np.clip(120 + rng.normal(0, 3, (64, 96)), 0, 255)
            planes = [luma, *(np.full((32, 48), 128.0) + rng.normal(0, 2, (32, 48)) for _ in range(2))]
            samples = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, 96)
            file.mux(video.encode(av.VideoFrame.from_ndarray(samples.astype(np.uint8), "yuv420p")))
        file.mux(video.encode(None))

    def loudness(**options):
        wanted = {"backend": "cpu", "model": "tiny", "precision": "fp32", **options}
        found = made(tmp_path / "a.mkv", tmp_path, **wanted)
        width, height = (162, 108) if "height" in options else (384, 256)
        large = [picture[: width * height].reshape(height, width) for picture in found]
        return float(np.std(large, 0).mean())

    clean, kept = loudness(), loudness(grain="keep")
    assert clean < 0.5 < 1.5 < kept
    for options in ({"height": 108}, {"height": 108, "strength": 0.5}, {"strength": 0.5}):
        assert abs(loudness(grain="keep", **options) / kept - 1) < 0.25
        assert loudness(**options) < 0.5


def test_a_still_of_half_strength(tmp_path):
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8), (5, 5), 2)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    found = []
    for part in (1.0, 0.5, 0.0):
        path = vidsr.upscale_picture(tmp_path / "a.png", tmp_path / f"{part}.png", backend="nearest", strength=part)
        found.append(cv2.imread(str(path)).astype(float))
    assert np.abs((found[0] + found[2]) / 2 - found[1]).max() <= 0.51 and not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("part", [-0.1, 1.1, float("nan")])
def test_no_other_strength(part):
    with pytest.raises(vidsr.UsageError, match="from 0 to 1"):
        Options(strength=part)
