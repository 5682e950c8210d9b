"""Noise that is taken out of what stands still, laid over the result again."""

from dataclasses import replace

import numpy as np
import pytest

from tests.vidsr.backends.test_backends import spec_for
from tests.vidsr.reuse import drawn
from tests.vidsr.reuse.drawn import HEIGHT, WIDTH, YUV, film, white
from vidsr.backends.nearest import NearestBackend
from vidsr.frames import FrameBatch, PixelFormat
from vidsr.reuse.grain import overlaid
from vidsr.reuse.reuse import reuse
from vidsr.reuse.stillness import Stillness


def enlarged(frames, format=YUV, grain=True, window=24, result=None):
    """The frames after reuse, twice as large, every sample four times."""
    spec = spec_for("nearest", format=format.name, scale=2, result_format=result)
    batches = (FrameBatch((frame,), format, spec.source_color) for frame in frames)
    return list(reuse(batches, NearestBackend(spec), Stillness(1.0, window, grain)))


def twice(plane):
    return plane.repeat(2, 0).repeat(2, 1)


def of_all(frames, which=0):
    return np.array([frame.planes[which] for frame in frames], np.float64)


def laid_over(frames, format=YUV, which=0, **options):
    """[frames, rows, columns]: what is there with grain and is not without."""
    return of_all(enlarged(frames, format, **options), which) - of_all(enlarged(frames, format, grain=False), which)


@pytest.mark.parametrize("format", ["yuv420p", "yuv420p10le", "gray", "yuv444p", "gbrp"])
@pytest.mark.parametrize("noise", [white(2), drawn.blotchy(2)], ids=["white", "blotchy"])
def test_it_is_as_loud_as_the_source_and_new_in_each_frame(noise, format):
    format = PixelFormat.from_name(format)
    truth, frames = film(drawn.still, noise, 24, format)
    for which in range(len(frames[0].planes)):
        source = of_all(frames, which) - np.array([picture[which] for picture in truth]) * 2.0 ** (format.bits - 8)
        grain = laid_over(frames, format, which)
        # White noise loses a seventh by being enlarged without steps.
        assert 0.85 <= grain.std() / source.std() <= 1.15
        for now, after in zip(grain, grain[1:]):
            assert abs(np.mean(now * after)) <= 0.3 * np.mean(now**2)


def test_it_is_the_frames_own():
    """In what stands still: what was taken out of a frame, and not out of another."""
    truth, frames = film(drawn.still, drawn.blotchy(2), 24)
    grain = laid_over(frames)
    for frame, picture, now in zip(frames, truth, grain, strict=True):
        own = twice(frame.planes[0] - picture[0])
        assert np.corrcoef(own.ravel(), now.ravel())[0, 1] > 0.8


def test_its_mean_over_time_is_the_result_without():
    _, frames = film(drawn.still, white(2), 24)
    with_grain, without = (of_all(enlarged(frames, grain=grain)) for grain in (True, False))
    assert np.abs(with_grain.mean(0) - without.mean(0)).max() <= 1  # by rounding
    assert abs(with_grain.mean() - without.mean()) <= 0.05


@pytest.mark.parametrize("window", [4, 24])
def test_it_stays_as_loud(window):
    """Also after the frames that the mean was taken of."""
    _, frames = film(drawn.still, drawn.blotchy(2), 48)
    grain = laid_over(frames, window=window)
    early, late = grain[:window].std(), grain[window:].std()
    assert late == pytest.approx(early, rel=0.1)


def moving_box(i):
    luma = drawn.ground()
    x = 16 + 4 * i
    luma[48:96, x : x + 48] = 110
    luma[60:80, x + 10 : x + 30] = 140
    return luma


def test_what_moves_has_as_much_as_what_stands_still():
    """None can be told from motion, so that of still parts is taken, of other ones each time."""
    _, frames = film(moving_box, white(2), 16)
    grain = laid_over(frames)
    moving = np.array([now[96:192, 2 * (16 + 4 * i) : 2 * (16 + 4 * i + 48)] for i, now in enumerate(grain)])
    still = grain[:, :64]
    assert moving.std() == pytest.approx(still.std(), rel=0.2)
    for now, after in zip(moving, moving[1:]):
        assert abs(np.mean(now * after)) <= 0.2 * np.mean(now**2)


def test_what_moves_has_that_of_still_parts_as_bright():
    """Where dark parts have three times the noise of bright ones, so do dark ones that move."""

    def two_boxes(i):
        luma = np.full((HEIGHT, WIDTH), 60.0, np.float32)
        luma[:, WIDTH // 2 :] = 190
        for left, level in ((8, 75.0), (104, 175.0)):
            luma[56:88, left + 4 * i : left + 4 * i + 32] = level
            luma[64:72, left + 4 * i + 8 : left + 4 * i + 16] = 120
        return luma

    _, frames = film(two_boxes, drawn.by_brightness(2), 12)
    grain = laid_over(frames)
    dark, bright = (
        np.array([now[112:176, 2 * (left + 4 * i) : 2 * (left + 4 * i + 32)] for i, now in enumerate(grain)]).std()
        for left in (8, 104)
    )
    assert dark > 2 * bright > 0.5


@pytest.mark.parametrize("format", ["yuv420p", "yuv420p10le"])
def test_it_does_not_run_over(format):
    """Black stays near black and white near white."""
    format = PixelFormat.from_name(format)
    most = 2**format.bits - 1

    def extremes(i):
        luma = drawn.ground()
        luma[:64, :96], luma[:64, 96:] = 0.0, 255.0
        return luma

    _, frames = film(extremes, white(3), 16, format)
    for frame in enlarged(frames, format):
        black, bright = frame.planes[0][4:120, 4:184], frame.planes[0][4:120, 200:-4]
        assert black.max() < 0.15 * most and bright.min() > 0.85 * most
        assert black.dtype == format.dtype and bright.max() <= most


@pytest.mark.parametrize("scene", [drawn.still, drawn.mouth, drawn.rain, drawn.fade(4)])
def test_a_clean_source_gets_none(scene):
    _, frames = film(scene, count=12)
    for a, b in zip(enlarged(frames), enlarged(frames, grain=False), strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes))


def test_it_is_scaled_to_the_results_depth():
    _, frames = film(drawn.still, drawn.blotchy(2), 12)
    ten, eight = (enlarged(frames, result=name) for name in ("yuv420p10le", "yuv420p"))
    for a, b in zip(ten, eight):
        assert np.abs(a.planes[0] / 4.0 - b.planes[0]).max() <= 1


def test_a_gray_source_gets_none_in_colour():
    planes = tuple(np.full(shape, 100, np.uint8) for shape in YUV.plane_shapes(8, 6))
    noise = (np.array([[4.0, -4.0], [0.0, 8.0]], np.float32).repeat(2, 1),)
    luma, *colours = overlaid(planes, noise, PixelFormat.from_name("gray"), YUV)
    assert luma.max() >= 106 and luma.min() <= 96
    assert all(np.array_equal(p, q) for p, q in zip(colours, planes[1:], strict=True))


def test_a_frame_with_errors_gets_none():
    _, frames = film(drawn.still, white(2), 12)
    frames[5] = replace(frames[5], corrupt=True)
    assert np.array_equal(enlarged(frames)[5].planes[0], twice(frames[5].planes[0]))


def test_it_is_the_same_each_time():
    _, frames = film(moving_box, white(2), 10)
    for a, b in zip(enlarged(frames), enlarged(frames), strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes))
