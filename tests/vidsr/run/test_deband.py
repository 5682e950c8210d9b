"""Bands go, everything else stays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vidsr
from tests.media import write_episode
from vidsr.frames import PixelFormat
from vidsr.run.deband import STEPS, debanded

GRAY = PixelFormat("gray", 8)


def slope(height=540, width=320, levels=12.0):
    y, x = np.mgrid[0:height, 0:width]
    return 60 + levels * (x / width + 0.4 * y / height)


def seen(picture):
    """What an eye sees of a fine pattern: its mean."""
    return cv2.blur(np.asarray(picture, np.float32), (8, 8))[12:-12, 12:-12]


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_a_slope_that_became_steps_is_smooth_again(bits):
    unit = 1 << (bits - 8)
    true, steps = slope() * unit, np.rint(slope()).astype(int) * unit
    (made,) = debanded([steps.astype(np.uint8 if bits == 8 else np.uint16)], PixelFormat("gray", bits))
    before, after = (np.abs(seen(each) - seen(true)) / unit for each in (steps, made))
    assert before.mean() > 0.15 and after.mean() < 0.05 and after.max() < 0.3
    assert abs((made.astype(float) - steps).mean()) < 0.02 * unit  # as bright as before


def test_lines_textures_and_grain_stay_to_the_bit():
    rng = np.random.default_rng(0)
    lines = np.full((180, 320), 120, np.uint8)
    for i in range(0, 180, 9):
        lines[i] = 120 + 5  # faint, but more than a step
    checks = np.full((180, 320), 120, np.uint8) + 4 * (np.indices((180, 320)).sum(0) % 2).astype(np.uint8)
    grain = np.clip(120 + rng.normal(0, 3, (180, 320)), 0, 255).astype(np.uint8)
    for picture in (lines, checks, grain):
        (made,) = debanded([picture], GRAY)
        assert (made != picture).mean() < 0.001
    flat = np.full((90, 160), 77, np.uint8)
    assert (debanded([flat], GRAY)[0] == 77).all()


def test_a_line_over_a_slope_is_not_blurred():
    picture = np.rint(slope()).astype(np.uint8)
    cv2.line(picture, (20, 20), (300, 160), 20, 2)
    (made,) = debanded([picture], GRAY)
    assert (made[picture == 20] == 20).all()
    beside = cv2.dilate((picture == 20).astype(np.uint8), np.ones((5, 5))) > 0
    assert (made[beside] == picture[beside]).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 10, 16]), st.integers(20, 70), st.integers(20, 70))
@settings(max_examples=40, deadline=None)
def test_nothing_moves_further_than_a_step(seed, bits, height, width):
    rng, unit = np.random.default_rng(seed), 1 << (bits - 8)
    picture = cv2.GaussianBlur(rng.integers(0, 256 * unit, (height, width)).astype(np.float32), (0, 0), 4)
    plane = np.clip(picture, 0, 256 * unit - 1).astype(np.uint8 if bits == 8 else np.uint16)
    kept = plane.copy()
    (made,) = debanded([plane], PixelFormat("gray", bits))
    assert made.dtype == plane.dtype and made.shape == plane.shape and (plane == kept).all()
    assert np.abs(made.astype(int) - plane).max() <= STEPS * unit + 1
    assert (made == debanded([plane], PixelFormat("gray", bits))[0]).all()


def test_a_run_does_it_and_says_what_is_better(tmp_path):
    write_episode(tmp_path / "a.mkv", frames=6)
    wanted = {"backend": "nearest", "scale": 2, "deband": True}
    plan = vidsr.plan(tmp_path / "a.mkv", tmp_path / "b.mkv", **wanted)
    assert any("--pixel-format yuv420p10le holds it" in note for note in plan.notes)
    assert plan.run().proof.passed
    ten = vidsr.plan(tmp_path / "a.mkv", tmp_path / "c.mkv", pixel_format="yuv420p10le", **wanted)
    assert not any("--deband" in note for note in ten.notes) and ten.run().proof.passed
    assert plan.job.settings["deband"] is True
