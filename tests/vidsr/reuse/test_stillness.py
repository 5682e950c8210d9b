"""What a source's noise is taken for."""

import numpy as np
import pytest

from tests.vidsr.reuse.test_reuse import YUV, background, frames_of
from vidsr.frames import PixelFormat
from vidsr.reuse.stillness import WINDOW, Stillness, choose_noise


def grainy(sigma, count=6, bars=0):
    """Frames of a still picture with grain, `bars` columns of black at its left."""
    random = np.random.default_rng(3)
    lumas = [background() + random.normal(0, sigma, (96, 160)) for _ in range(count)]
    for luma in lumas:
        luma[:, :bars] = 16
    return frames_of(lumas)


@pytest.mark.parametrize("sigma", [0.5, 4])
@pytest.mark.parametrize("bars", [0, 48])
def test_bars_beside_a_grainy_picture_do_not_make_it_clean(sigma, bars):
    assert choose_noise([grainy(sigma, bars=bars)], YUV) > 0


def test_a_still_picture_between_bars_is_clean():
    assert choose_noise([grainy(0, bars=48)], YUV) == 0


def test_the_window_fits_into_memory():
    small, large = PixelFormat.from_name("yuv420p"), PixelFormat.from_name("yuv444p16le")
    assert Stillness().fitting(1920, 1080, small).window == WINDOW
    window = Stillness().fitting(3840, 2160, large).window
    assert 4 <= window < WINDOW and window * 3840 * 2160 * 3 * 2 <= max(192 << 20, 4 * 3840 * 2160 * 3 * 2)
    assert Stillness(window=2).fitting(640, 480, small).window == 2
