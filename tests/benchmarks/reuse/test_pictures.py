"""Pictures of reuse: the example of the README, and the sheets for people."""

import cv2
import numpy as np

from benchmarks.common.pictures import BT601
from benchmarks.reuse.look import CROP, LOUDER, most_reuse, write_sheet
from benchmarks.reuse.picture import DIMMED, FOOT, GAP, OUTLINE, PANEL, Example, find_example, marked, write_picture
from tests.benchmarks.reuse.drawn import gray_film


def with_spots(count: int, at: tuple[int, int] | None, by: int = 20):
    """640x512 frames; those of odd number are brighter in 32x32 samples at (x, y)."""
    lumas = [np.full((512, 640), 100) for _ in range(count)]
    for luma in lumas[1::2] if at else []:
        luma[at[1] : at[1] + 32, at[0] : at[0] + 32] += by
    return gray_film(*lumas)


# ---- the example ----------------------------------------------------------------------------------------------------


def test_exactly_the_fresh_tiles_stay_as_they_were():
    picture = np.random.default_rng(0).integers(100, 256, (80, 120, 3), np.uint8)
    fresh = np.zeros((3, 4), bool)
    fresh[0, 0] = fresh[2, 3] = True
    kept = (marked(picture, fresh, 32) == picture).all(2)
    expected = np.zeros((80, 120), bool)
    expected[:32, :32] = expected[64:80, 96:120] = True
    assert (kept == expected).all()
    dark = marked(picture, fresh, 32)[~expected]
    assert (dark.min(1) == dark.max(1)).all() and dark.max() <= 255 * DIMMED + 1


def test_the_example_is_a_frame_that_is_new_in_part():
    found = find_example(with_spots(4, (70, 130)), 4, BT601)
    assert found is not None and found.side == 64 and found.picture.shape == (512, 640, 3)
    assert np.argwhere(found.fresh).tolist() == [[2, 1]]
    assert find_example(with_spots(4, None), 4, BT601) is None
    cut = gray_film(np.full((64, 128), 10), np.full((64, 128), 200))
    assert find_example(cut, 4, BT601) is None


def test_the_outline_runs_around_the_tiles(tmp_path):
    picture = np.full((540, 960, 3), 128, np.uint8)
    fresh = np.zeros((9, 15), bool)
    fresh[2:6, 4:8] = True  # 64 samples each
    write_picture(tmp_path / "one.png", Example(picture, fresh, 64))
    image = cv2.imread(str(tmp_path / "one.png"))[..., ::-1]
    height = PANEL * 540 // 960
    assert image.shape == (height + FOOT, 2 * PANEL + GAP, 3)
    assert (image[:height, :PANEL] == 128).all()
    right = image[:height, -PANEL:]
    amber = np.argwhere((np.abs(right.astype(int) - OUTLINE) < 60).all(2))
    (top, left), (bottom, last) = amber.min(0), amber.max(0)
    assert np.abs(np.array([left, top, last + 1, bottom + 1]) - np.array([256, 128, 512, 384]) * PANEL / 960).max() <= 2
    assert (right[200, 250] == 128).all() and (right[10, 10] == round(128 * DIMMED)).all()


# ---- sheets ---------------------------------------------------------------------------------------------------------


def test_the_crop_is_where_reuse_takes_away_most():
    first, x, y = most_reuse(with_spots(14, (400, 300)), with_spots(14, None))
    assert first == 0 and 432 - CROP <= x <= 400 and 332 - CROP <= y <= 300
    both = [with_spots(14, (10, 10)), with_spots(14, (10, 10))]
    for i in range(1, 14, 2):  # reuse stops a fainter flicker than the one that it lets be
        both[0].pictures[i][0][400:432, 500:532] += 5
    first, x, y = most_reuse(*both)
    assert 532 - CROP <= x <= 500 and 432 - CROP <= y <= 400


def test_a_sheet_shows_what_differs(tmp_path):
    off, auto = with_spots(4, (400, 300), by=10), with_spots(4, None)
    for original, columns in ((auto, 6), (None, 5)):
        write_sheet(tmp_path / "sheet.png", (0, 380, 290), (original, off, auto), BT601, "spots")
        sheet = cv2.imread(str(tmp_path / "sheet.png"))
        column, label = sheet.shape[1] // columns, (sheet.shape[0] - 4 * CROP) // 6
        top, left = 2 * label + CROP + label, 640 - CROP  # frame 1; the crop ends where the picture does
        spot = (top + 310 - min(290, 512 - CROP), 410 - min(380, left))
        difference, of_off, of_reuse = (int(sheet[spot[0], (columns - k) * column + spot[1], 0]) for k in (3, 2, 1))
        assert (difference, of_off, of_reuse) == (128 - LOUDER * 10, 128 + LOUDER * 10, 128)


def test_films_smaller_than_a_crop_are_shown_whole(tmp_path):
    film = gray_film(*[np.full((48, 64), 100)] * 2)
    write_sheet(tmp_path / "sheet.png", (0, 0, 0), (film, film, film), BT601, "small")
    assert most_reuse(film, film) == (0, 0, 0) and cv2.imread(str(tmp_path / "sheet.png")).shape[1] < 6 * CROP
