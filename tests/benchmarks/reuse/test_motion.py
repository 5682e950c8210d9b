"""What is frozen, late or restless in a result is found where it is."""

import numpy as np
import pytest

from benchmarks.reuse.motion import lateness, recall, shimmer, still_in_original, still_in_source
from tests.benchmarks.reuse.drawn import SCALE, gray_film, line_film, noisy

STEPS = [20, 20, 21, 21, 22, 22]  # on twos
AT = {"x": 64, "y": 64}  # the tile that the line is in


def test_what_follows_the_original_is_found_to():
    original = line_film(STEPS)
    off = noisy(original, 2)
    for reused in (off, original, noisy(original, 2, seed=2)):
        found = recall(original, off, reused, SCALE)
        assert found == {"moving": 2, "shown": 2, "recall": 1, "missed_count": 0, "missed": []}


@pytest.mark.parametrize("sigma", [0, 2])
def test_a_thin_faint_line_that_is_frozen_is_found(sigma):
    """Noise that goes on in the tile does not hide it."""
    original = line_film(STEPS)
    frozen = noisy(line_film([20, 20, 21, 21, 21, 21]), sigma)
    found = recall(original, noisy(original, 2, seed=3), frozen, SCALE)
    assert (found["moving"], found["shown"], found["recall"], found["missed_count"]) == (2, 2, 0.5, 1)
    (missed,) = found["missed"]
    assert {**AT, "frame": 4}.items() <= missed.items() and missed["reuse"] < 0.2 and missed["off"] > 0.7
    assert missed["change"] == pytest.approx(8 / 8**0.5)


def test_the_whole_frozen_film_shows_nothing_of_the_motion():
    original = line_film(STEPS)
    assert recall(original, original, gray_film(*[original.pictures[0][0]] * 6), SCALE)["recall"] == 0


def test_a_frame_late_still_shows_it_and_two_do_not():
    original = line_film([20, 20, 20, 21, 21, 21, 21, 21])
    late = [line_film([20] * (3 + by) + [21] * (5 - by)) for by in (1, 2)]
    assert [recall(original, original, film, SCALE)["recall"] for film in late] == [1, 0]


def test_what_the_wear_took_away_is_not_asked_of_reuse():
    original = line_film(STEPS)
    worn = noisy(gray_film(*[np.full((192, 256), 100)] * 6), 1)
    found = recall(original, worn, worn, SCALE)
    assert (found["moving"], found["shown"], found["recall"]) == (2, 0, None)


def test_a_late_drawing_is_found_with_the_frame_that_it_is_of():
    original = line_film([20, 20, 24, 24, 24, 24], contrast=60)
    late = line_film([20, 20, 20, 24, 24, 24], contrast=60)
    found = lateness(original, noisy(original, 2), noisy(late, 2, seed=2), SCALE)
    assert (found["late"], found["ghosts"]) == (1, 1)
    (worst,) = found["worst"]
    assert {**AT, "frame": 2, "late": True}.items() <= worst.items() and worst["shift"] in (-1, -2)
    assert worst["part"] == pytest.approx(1, abs=0.1) and abs(worst["off"]) < 0.1
    assert found["told"] == 4  # frames 0 to 3 have another drawing within two frames


def test_a_mixture_of_two_drawings_has_something_of_the_other():
    original = line_film([20, 20, 24, 24, 24, 24], contrast=60)
    pictures = [picture[0].astype(float) for picture in original.pictures]
    pictures[1] = 0.6 * pictures[1] + 0.4 * pictures[2]
    found = lateness(original, original, gray_film(*pictures), SCALE)
    assert (found["late"], found["ghosts"]) == (0, 1)
    assert found["worst"][0]["frame"] == 1 and found["worst"][0]["part"] == pytest.approx(0.4, abs=0.02)


def test_what_is_late_without_reuse_is_not_its_fault():
    original, late = line_film([20, 20, 24, 24], contrast=60), line_film([20, 20, 20, 24], contrast=60)
    assert lateness(original, late, late, SCALE)["late"] == lateness(original, late, original, SCALE)["late"] == 0


def test_shimmer_is_that_of_still_areas():
    """The original moves in its first tile; the full result flickers by 2 everywhere, reused only where it moves."""
    shape = (256, 256)
    original, off, reused = [], [], []
    for i in range(4):
        frames = [np.full(shape, 100), np.full(shape, 100 + 2 * (i % 2)), np.full(shape, 100)]
        for luma in frames:
            luma[:64, :64] = 50 * i
        for films, luma in zip((original, off, reused), frames):
            films.append(luma)
    reused[3][192:, 128:192] += 5
    films = {"off": gray_film(*off), "reuse": gray_film(*reused), "original": gray_film(*original)}
    still = still_in_original(films["original"], SCALE, context=16)
    assert [int(tiles.sum()) for tiles in still] == [12, 12, 12]  # less the tile that moves and its neighbours
    found = shimmer(films, still, SCALE)
    assert found["share"] == pytest.approx(12 / 16) and found["original"]["mean"] == found["original"]["flicker"] == 0
    assert found["off"]["mean"] == 2 and found["off"]["flicker"] == 1
    assert found["reuse"]["mean"] == pytest.approx(5 / 36) and found["reuse"]["flicker"] == pytest.approx(1 / 36)
    assert found["reuse"]["worst"] == {"change": 5, "frame": 3, "x": 128, "y": 192}


def test_nothing_is_still_in_a_cut():
    cut = gray_film(np.full((64, 64), 20), np.full((64, 64), 200))
    assert shimmer({"off": cut}, still_in_original(cut, SCALE, 0), SCALE) == {"share": 0, "off": None}


def test_a_moved_colour_is_not_still():
    film = gray_film(*[np.full((128, 128), 100)] * 2)
    film.pictures[1][2][40:44, 40:44] += 3
    assert still_in_original(film, SCALE, 0)[0].tolist() == [[True, True], [True, False]]


def test_grain_is_still_and_a_line_that_moves_is_not():
    pictures = [np.full((64, 96), 100.0) for _ in range(2)]
    for picture, column in zip(pictures, (40, 44)):
        picture[16:32, column : column + 2] += 40
    found = still_in_source(noisy(gray_film(*pictures), 2.5), context=0)
    far = np.ones((4, 6), bool)
    far[0:3, 1:4] = False  # what moves reaches a little into the tiles around
    assert not found[0][1, 2] and found[0][far].all()
