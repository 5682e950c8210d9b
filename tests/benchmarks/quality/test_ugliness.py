"""Dirt and raggedness say what they are called after, and nothing of what is not ugly."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.common.metrics import luma
from benchmarks.quality.ugliness import dirt, flats, raggedness

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 160


def gray(values):
    return np.repeat(np.clip(np.round(values), 0, 255).astype(np.uint8)[:, :, None], 3, 2)


def line(angle=0.0, width=5.0, shift=0.0, wave=0.0, period=12.0, beads=0.0, soft=1.0):
    """A dark line across a bright field: `wave` and `beads` are how far both edges go to one side, and to both.

    `soft`: over how many pixels an edge goes from dark to bright.
    """
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    phase = np.sin(2 * np.pi * along / period)
    inside = (width / 2 + beads * phase - np.abs(across - shift - wave * phase)) / soft + 0.5
    return gray(210 - 170 * np.clip(inside, 0, 1))


def grained(picture, sigma, where=True, seed=0):
    noise = np.random.default_rng(seed).normal(0, 1, picture.shape[:2]).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return gray(picture[:, :, 0] + np.where(where, noise / noise.std() * sigma, 0))


angles = st.floats(0, 3.14)


@given(angles, st.floats(0, 6), st.integers(0, 9))
@settings(max_examples=15)
def test_nothing_is_ugly_about_the_original(angle, sigma, seed):
    picture = grained(line(angle), sigma, seed=seed)
    assert dirt(picture, picture) in (0, None) and raggedness(picture, picture) in (0, None)


def test_there_must_be_something_to_look_at():
    flat, noise = gray(np.full((SIDE, SIDE), 99.0)), gray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)))
    assert raggedness(flat, noise) is None and dirt(noise, flat) is None


# ---- dirt -----------------------------------------------------------------------------------------------------------


@given(angles, st.floats(1.5, 8), st.floats(1.2, 2))
@settings(max_examples=15)
def test_more_noise_is_more_dirt(angle, sigma, factor):
    original = line(angle)
    less, more = (dirt(original, grained(original, level)) for level in (sigma, sigma * factor))
    assert 0 < less < more


def test_noise_a_few_pixels_from_a_line_is_dirt_and_on_it_is_not():
    original = line(0.3)
    ink = (luma(original) < 205).astype(np.uint8)
    away = cv2.distanceTransform(1 - ink, cv2.DIST_L2, 5)
    near = grained(original, 6, (away > 7) & (away < 14))
    assert dirt(original, near) > 50
    assert dirt(original, grained(original, 6, away < 2)) < dirt(original, near) / 10
    assert not flats(luma(original))[away < 5].any() and flats(luma(original))[(away > 9) & (away < 20)].all()


def test_another_brightness_a_shade_and_rounding_are_no_dirt():
    original = line(0.3)
    assert dirt(original, original + np.uint8(9)) == 0
    shade = gray(original[:, :, 0] + np.linspace(0, 12, SIDE))
    blocks = np.random.default_rng(0).random((SIDE // 8, SIDE // 8)) < 0.5
    steps = gray(original[:, :, 0] + blocks.repeat(8, 0).repeat(8, 1))
    assert dirt(original, shade) == pytest.approx(0, abs=1) and dirt(original, steps) < 6


def test_smoothing_in_one_place_does_not_pay_for_dirt_in_another():
    clean = gray(np.full((SIDE, SIDE), 120.0))
    left = np.arange(SIDE) < SIDE / 2
    original = grained(clean, 1.2, left)  # still flat enough
    assert flats(luma(original))[:, : SIDE // 2].mean() > 0.5
    assert dirt(original, clean) == pytest.approx(0, abs=1)
    moved = grained(clean, 3, ~left)
    assert dirt(original, moved) > 0.9 * dirt(clean, moved) > 0


# ---- raggedness -----------------------------------------------------------------------------------------------------


@given(angles, st.floats(-1.2, 1.2), st.floats(3.5, 6.5), st.floats(1, 3))
@settings(max_examples=25)
def test_shifted_thinner_and_softer_lines_are_not_ragged(angle, shift, width, soft):
    assert raggedness(line(angle), line(angle, width, shift, soft=soft)) < 0.12  # 0.103 near 45 degrees, where hard


@given(angles, st.floats(0.3, 1), st.floats(8, 16))
@settings(max_examples=25)
def test_waves_are_measured_in_pixels(angle, wave, period):
    assume(wave / period < 0.08)
    found = raggedness(line(angle), line(angle, wave=wave, period=period))
    assert 0.6 < found / (wave / np.sqrt(2)) < 1.15
    assert raggedness(line(angle), line(angle, wave=wave / 2, period=period)) < found


def test_beads_and_steps_are_ragged():
    original = line(0.2)
    assert raggedness(original, line(0.2, beads=0.5)) > 0.25
    small = cv2.resize(original, (SIDE // 4, SIDE // 4), interpolation=cv2.INTER_AREA)
    large = (SIDE, SIDE)
    stepped, smooth = (cv2.resize(small, large, interpolation=how) for how in (cv2.INTER_NEAREST, cv2.INTER_CUBIC))
    assert raggedness(original, stepped) > 2 * raggedness(original, smooth)


def test_a_lost_line_is_not_ragged_and_a_dirty_one_is():
    original = np.concatenate([line(0.2), line(0.9)])
    half = np.concatenate([line(0.2), gray(np.full((SIDE, SIDE), 210.0))])
    assert raggedness(original, half) < 0.02
    assert raggedness(original, grained(original, 12)) > 0.05
