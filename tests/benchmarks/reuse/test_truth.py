"""How near results are to the original, and where they are not."""

import numpy as np
import pytest

from benchmarks.common.metrics import decibels
from benchmarks.reuse.film import Film, film
from benchmarks.reuse.truth import FLOOR, against_off, is_kept, losses
from tests.benchmarks.reuse.drawn import flat, gray_film
from vidsr.frames import PixelFormat


def wrong_by(*errors: int, at: tuple[int, int, int] | None = None, more: int = 0) -> Film:
    """192x128 frames, each that far from grey; `at`: (number, x, y) of a 64x64 tile that is `more` from it instead."""
    lumas = [np.full((128, 192), 100 + error) for error in errors]
    if at:
        lumas[at[0]][at[2] : at[2] + 64, at[1] : at[1] + 64] = 100 + more
    return gray_film(*lumas)


def test_losses_of_known_errors():
    original = wrong_by(0, 0, 0)
    found = losses(original, wrong_by(4, 4, 4), wrong_by(4, 2, 4, at=(2, 64, 0), more=8))
    assert found["off_db"] == pytest.approx(decibels(16))
    assert found["reuse_db"] == pytest.approx(decibels((16 + 4 + (16 * 5 + 64) / 6) / 3))
    assert found["loss_db"] == pytest.approx(found["off_db"] - found["reuse_db"])
    assert found["worst_frame"] == {"loss_db": pytest.approx(decibels(16) - decibels(24)), "frame": 2}
    tile = found["worst_tile"]  # the colour is right, and is a third of all samples
    assert (tile["frame"], tile["x"], tile["y"]) == (2, 64, 0)
    assert tile["loss_db"] == pytest.approx(decibels(16) - decibels(64))
    assert (found["beyond"], found["tiles"]) == ({"1.0": 1, "3.0": 1}, 18)


def test_what_nobody_sees_is_no_loss_of_a_tile():
    """Two levels where nothing was wrong are many decibels."""
    found = losses(wrong_by(0, 0), wrong_by(0, 0), wrong_by(0, 2))
    assert found["worst_tile"]["loss_db"] == 0 and found["beyond"]["1.0"] == 0
    seen = losses(wrong_by(0, 0), wrong_by(0, 0), wrong_by(0, 4))
    assert seen["worst_tile"]["loss_db"] == pytest.approx(10 * np.log10(16 / 1.5 / FLOOR))


def test_better_than_without_is_a_gain():
    found = losses(wrong_by(0, 0), wrong_by(8, 8), wrong_by(4, 4))
    assert found["loss_db"] == found["worst_frame"]["loss_db"] == pytest.approx(-decibels(1, 2))


@pytest.mark.parametrize("bits", [8, 10])
def test_the_worst_tile_against_off_is_found_where_it_is(bits):
    format = PixelFormat("yuv", bits, (1, 1))
    level = 1 << (bits - 8)
    a, b = flat(200, 150, 100 * level, format), flat(200, 150, 100 * level, format)
    same = against_off(film([a], format), film([b], format))
    assert same["identical"] and same["db"] == 100
    b.planes[0][:] += 1 * level
    b.planes[0][128:150, 192:200] += 3 * level  # the last tile, cut off on both sides
    found = against_off(film([a, a], format), film([a, b], format))
    assert found == {"identical": False, "db": decibels(16), "frame": 1, "x": 192, "y": 128, "plane": 0}
    b.planes[2][32:64, 32:64] -= 5 * level
    found = against_off(film([a, a], format), film([a, b], format))
    assert found == {"identical": False, "db": decibels(25), "frame": 1, "x": 64, "y": 64, "plane": 2}


def test_frames_that_pictures_are_kept_of():
    assert [n for n in range(12) if is_kept(n, 4)] == [1, 5, 9] and [n for n in range(3) if is_kept(n, 1)] == [0, 1, 2]
