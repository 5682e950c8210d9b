"""Pictures seen from nearer and in another light."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from train.degrade.views import closer, graded, seen_anew

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(1, 1.8))
def test_a_closer_look_keeps_edges_steep_and_adds_no_colour(seed: int, times: float) -> None:
    window = np.full((96, 96, 3), 200, np.uint8)
    window[:, 48:] = 60
    near = closer(window, times, np.random.default_rng(seed))
    assert near.shape == window.shape and near.dtype == np.uint8
    assert near.min() >= 45 and near.max() <= 215  # bicubic overshoots a little; sharpening adds nothing
    if len(np.unique(near)) > 2:  # the edge is still in the picture
        assert np.abs(np.diff(near[0, :, 1].astype(int))).max() > 60
    assert np.array_equal(near, closer(window, times, np.random.default_rng(seed)))


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_another_light_keeps_flats_flat_and_what_is_darker_darker(seed: int) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    steps = np.diff(graded(ramp, np.random.default_rng(seed)).astype(int), axis=1)
    assert steps.min() >= 0 and steps.sum(axis=1).min() > 30
    flat = np.full((8, 8, 3), (10, 130, 200), np.uint8)
    assert len(np.unique(graded(flat, np.random.default_rng(seed)).reshape(-1, 3), axis=0)) == 1


def test_some_pictures_are_seen_as_they_are() -> None:
    window = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    seen = [seen_anew(window, np.random.default_rng([1, number])) for number in range(400)]
    assert all(picture.shape == window.shape and picture.dtype == np.uint8 for picture in seen)
    assert 0.38 < np.mean([np.array_equal(picture, window) for picture in seen]) < 0.53
