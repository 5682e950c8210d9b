"""Which part of a picture is enlarged: what containers crop, what is asked for, all but bars; no drawing is cut."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vidsr
from tests.media import write_episode
from tests.running import upscaled
from vidsr.choose.crop import find_bars
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.errors import UsageError
from vidsr.frames import ColorSpec, Crop, Frame, PixelFormat, Shape, StreamInfo
from vidsr.mux.matroska.details import read_details
from vidsr.mux.matroska.restore import TrackPatch, restore
from vidsr.report import Report


def stream(format, width=96, height=72, full=False, **more):
    color, rate = ColorSpec(full_range=full), Fraction(24)
    return StreamInfo(0, "h264", width, height, format.name, format, color, 1 / rate, rate, Fraction(1), **more)


def black(format, width, height, full=False):
    unit, zero = 1 << (format.bits - 8), 0 if full or format.family == "rgb" else 16
    shapes = format.plane_shapes(width, height)
    yuv = format.family == "yuv"
    return [np.full(shape, (128 if i and yuv else zero) * unit, format.dtype) for i, shape in enumerate(shapes)]


def drawn(video, crop, rng, brightness=1.0):
    """A frame with a drawing within `crop`, noise of a level or two everywhere, and black around it."""
    format = video.format
    planes = black(format, video.width, video.height, video.color.full_range)
    unit = 1 << (format.bits - 8)
    for i, plane in enumerate(planes):
        x, y = format.chroma_shift if i else (0, 0)
        rows = slice(crop.y >> y, -(-(crop.y + crop.height) >> y))
        part = plane[rows, crop.x >> x : -(-(crop.x + crop.width) >> x)]
        if i == 0 or format.family == "rgb":
            part[:] = part + (brightness * rng.uniform(60, 200, part.shape) * unit).astype(format.dtype)
        plane[:] = np.clip(plane.astype(int) + rng.integers(-1, 2, plane.shape) * unit, 0, 2**format.bits - 1)
    return Frame(tuple(planes))


@given(
    name=st.sampled_from(["yuv420p", "yuv420p10le", "yuv422p", "yuv444p", "gray", "gbrp"]), full=st.booleans(),
    x=st.integers(0, 20), y=st.integers(0, 20), right=st.integers(0, 20), bottom=st.integers(0, 20),
    interlaced=st.booleans(),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_bars_are_found_and_no_sample_of_the_drawing_is_cut(name, full, x, y, right, bottom, interlaced):
    format = PixelFormat.from_name(name)
    video = stream(format, full=full, interlaced=interlaced)
    crop = Crop(96 - x - right, 72 - y - bottom, x, y)
    rng = np.random.default_rng(x + y)
    frames = [drawn(video, crop, rng, [1, 0.1, 0, 0.5][i % 4]) for i in range(24)]
    found = find_bars(frames, video) or Crop(96, 72, 0, 0)
    assert found.x <= x and found.y <= y
    assert found.x + found.width >= x + crop.width and found.y + found.height >= y + crop.height
    steps = video.crop_steps
    assert x - found.x < steps[0] and y - found.y < steps[1]
    assert found.width - crop.width < steps[0] + 2 and found.height - crop.height < steps[1] + 2
    assert not (found.x % steps[0] or found.y % steps[1] or found.width % 2 or found.height % 2)
    video.cropped(found)


def test_dark_drawings_are_no_bars():
    """A night sky above roofs, a vignette, a lamp in the dark, a fade: black above, but the drawing begins anywhere."""
    video, rng = stream(PixelFormat("yuv", 8, (1, 1))), np.random.default_rng(0)
    y, x = np.mgrid[0:72, 0:96]
    scenes = []
    for i in range(60):
        luma = np.full((72, 96), 16.0)
        if i % 4 == 0:  # roofs
            luma[y > 30 + 9 * np.sin(x / 7 + i)] = 90
        elif i % 4 == 1:  # a vignette
            luma += 120 * np.clip(1.2 - np.hypot((x - 48) / 48, (y - 36) / 36), 0, 1)
        elif i % 4 == 2:  # a lamp
            luma[np.hypot(x - 20 - i % 7 * 8, y - 40) < 12] = 200
        else:  # a fade
            luma += i % 20
        planes = black(video.format, 96, 72)
        planes[0] = np.clip(luma + rng.normal(0, 0.7, luma.shape), 0, 255).astype(np.uint8)
        scenes.append(Frame(tuple(planes)))
    assert find_bars(scenes, video) is None


def test_what_is_drawn_in_a_bar_once_stays():
    video, rng = stream(PixelFormat("yuv", 8, (1, 1))), np.random.default_rng(0)
    frames = [drawn(video, Crop(96, 40, 0, 16), rng) for _ in range(40)]
    assert find_bars(frames, video) == Crop(96, 40, 0, 16)
    frames[20].planes[0][64:67, 30:60] = 180  # a line of subtitles
    found = find_bars(frames, video)
    assert found.y + found.height >= 67
    frames[21].planes[1][3:5, 10:14] = 160  # a dark blue spot above
    assert find_bars(frames, video) is None


def test_nothing_but_black_is_not_cropped():
    video = stream(PixelFormat("yuv", 8, (1, 1)))
    assert find_bars([Frame(tuple(black(video.format, 96, 72)))] * 30, video) is None
    assert find_bars([], video) is None


def write_with_bars(path, frames=60, size=(96, 72), crop=(96, 48, 0, 12)):
    """`write_episode`'s drawing between black bars, and black for the first third."""
    width, height, x, y = crop
    inner = path.with_name("inner.mkv")
    write_episode(inner, frames=frames, size=(width, height))
    with av.open(str(inner)) as source, av.open(str(path), "w") as result:
        video = result.add_stream("libx264", rate=24, options={"crf": "8", "threads": "1", "g": "12"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        for i, picture in enumerate(source.decode(video=0)):
            planes = black(PixelFormat("yuv", 8, (1, 1)), *size)
            for n, plane in enumerate(planes):
                shift = 1 if n else 0
                own = np.frombuffer(picture.planes[n], np.uint8).reshape(-1, picture.planes[n].line_size)
                if i >= frames // 3:
                    plane[y >> shift : (y + height) >> shift, x >> shift : (x + width) >> shift] = own[
                        : height >> shift, : width >> shift
                    ]
            samples = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, size[0])
            result.mux(video.encode(av.VideoFrame.from_ndarray(samples, "yuv420p")))
        result.mux(video.encode(None))


def failures(source, result, **made):
    return {check.name for check in vidsr.verify(source, result, **made).failures}


def test_a_run_crops_bars_and_proves_it(tmp_path):
    source, result, report = tmp_path / "a.mkv", tmp_path / "b.mkv", Report()
    write_with_bars(source)
    made = upscaled(source, result, report, crop="auto", scale=None, height=96)
    assert made.video.shape == Shape(192, 96, Fraction(1))
    assert any("cropped to 96x48 of 96x72" in line for line in report.lines)
    assert not failures(source, result, crop="auto", height=96)
    assert failures(source, result) and "size" in failures(source, result, height=96)
    for off in (6, 10, 14, 20):
        wrong = failures(source, result, crop=f"96:48:0:{off}", height=96)
        assert "place" in wrong if abs(off - 12) < 4 else wrong, off
    # A part is cropped like the whole, even one in which all is black.
    wanted = {"output": tmp_path / "c.mkv", "backend": "nearest", "scale": 2, "crop": "auto"}
    part = prepare(source, Options(**wanted, duration=0.4), Report())
    whole = prepare(source, Options(**wanted), Report())
    assert part.info.video.crop == whole.info.video.crop is not None
    assert part.settings["crop"] == str(whole.info.video.crop)


@pytest.mark.parametrize(
    ("crop", "words"),
    [
        ("90:48:10:0", "goes beyond the picture, which is 64x48"), ("32:24:3:0", "in steps of 2: choose 32:24:2:0"),
        ("32:24:0", "WIDTH:HEIGHT:X:Y"), ("0:24:0:0", "WIDTH:HEIGHT:X:Y"), ("a:b:c:d", "WIDTH:HEIGHT:X:Y"),
        ((32, 24, -1, 0), "WIDTH:HEIGHT:X:Y"),
    ],
)  # fmt: skip
def test_what_cannot_be_cropped_is_refused_before_the_work(tmp_path, crop, words):
    write_episode(tmp_path / "a.mkv", frames=3)
    with pytest.raises(UsageError) as error:
        vidsr.plan(tmp_path / "a.mkv", backend="nearest", crop=crop)
    assert words in str(error.value) and not (tmp_path / "a.4x.mkv.vidsr").exists()


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv422p10le"])
def test_a_part_is_that_part(tmp_path, pix_fmt):
    write_episode(tmp_path / "a.mkv", frames=6, pix_fmt=pix_fmt)
    part = "31:27:8:4" if pix_fmt == "yuv444p" else "32:28:8:4"
    made = upscaled(tmp_path / "a.mkv", tmp_path / "b.mkv", crop=part, codec="ffv1", preset=None)
    with av.open(str(tmp_path / "a.mkv")) as a, av.open(str(tmp_path / "b.mkv")) as b:
        for old, new in zip(a.decode(video=0), b.decode(video=0), strict=True):
            for i, (before, after) in enumerate(zip(old.planes, new.planes)):
                dtype = np.uint16 if "10" in pix_fmt else np.uint8
                x, y = made.video.format.chroma_shift if i else (0, 0)
                small, large = (
                    np.frombuffer(p, dtype).reshape(-1, p.line_size // np.dtype(dtype).itemsize)[: p.height, : p.width]
                    for p in (before, after)
                )
                part = small[4 >> y :, 8 >> x :].repeat(2, 0).repeat(2, 1)
                assert np.array_equal(part[: large.shape[0], : large.shape[1]], large)


# ---- what Matroska's header crops -----------------------------------------------------------------------------------


@pytest.fixture
def header_crop(tmp_path):
    """An episode of 64x48 whose header hides 8, 4, 8 and 4 pixels."""
    path = tmp_path / "a.mkv"
    write_episode(path, frames=12)
    restore(path, [TrackPatch(0, crop=(8, 4, 8, 4), sample_aspect=Fraction(1))])
    return path


def test_what_players_show_is_what_is_enlarged(header_crop, tmp_path):
    report = Report()
    made = upscaled(header_crop, tmp_path / "b.mkv", report)
    assert made.video.shape == Shape(96, 80, Fraction(1))
    assert any("header crops 64x48 to 48x40" in line for line in report.lines)
    assert vidsr.probe(header_crop).video.shape == Shape(48, 40, Fraction(1))
    details = read_details(tmp_path / "b.mkv")
    assert details.tracks[0].crop == (0, 0, 0, 0) and details.tracks[0].visible == (96, 80)
    assert not failures(header_crop, tmp_path / "b.mkv", scale=2)
    assert upscaled(header_crop, tmp_path / "c.mkv", crop="40:32:4:4").video.shape == Shape(80, 64, Fraction(1))


def test_a_result_that_forgot_the_crop_fails(header_crop, tmp_path):
    whole = tmp_path / "whole.mkv"
    write_episode(whole, frames=12)
    upscaled(whole, tmp_path / "b.mkv")
    assert {"size"} <= failures(header_crop, tmp_path / "b.mkv", scale=2)
    assert failures(header_crop, tmp_path / "b.mkv")


def test_others_see_no_crop_in_the_result(header_crop, tmp_path):
    if not shutil.which("mkvmerge"):
        pytest.skip("no mkvmerge")
    upscaled(header_crop, tmp_path / "b.mkv")

    def described(path):
        told = subprocess.run(["mkvmerge", "-J", str(path)], capture_output=True, text=True, check=True).stdout
        return json.loads(told)["tracks"][0]["properties"]

    assert described(header_crop)["cropping"] == "8,4,8,4" and "cropping" not in described(tmp_path / "b.mkv")
    assert described(tmp_path / "b.mkv")["display_dimensions"] == "96x80"


def test_a_crop_between_two_samples_of_chroma_shows_one_more(tmp_path):
    write_episode(tmp_path / "a.mkv", frames=6)
    restore(tmp_path / "a.mkv", [TrackPatch(0, crop=(7, 3, 8, 5), sample_aspect=Fraction(1))])
    assert vidsr.probe(tmp_path / "a.mkv").video.crop == Crop(50, 41, 6, 2)


def test_a_crop_of_more_than_there_is_is_none(tmp_path):
    write_episode(tmp_path / "a.mkv", frames=6)
    data = (tmp_path / "a.mkv").read_bytes()
    restore(tmp_path / "a.mkv", [TrackPatch(0, crop=(8, 4, 8, 4))])
    assert data != (tmp_path / "a.mkv").read_bytes()
    info = vidsr.probe(tmp_path / "a.mkv")
    small = replace(info.video.whole, width=16, height=8)
    with pytest.raises(ValueError):
        small.cropped(Crop(0, 0, 8, 4))


def test_a_file_of_the_wild(shared_clips, tmp_path):
    source = shared_clips.parent / "cases" / "mkv_pixelcrop.mkv"
    if not source.exists():
        pytest.skip("not there")
    made = upscaled(source, tmp_path / "b.mkv", duration=0.5)
    assert made.video.shape == Shape(352, 224, Fraction(28, 33))
