"""Where a picture has the most to teach."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from train.data.pack import CROP

FLAT = 1.0  # mean step between neighbouring pixels, in 8-bit levels, below which a crop teaches nothing
_STRIDE = 16  # pixels between the places looked at
_MAX_OVERLAP = 0.5  # of a crop's area, with another of the same picture


@dataclass(frozen=True)
class Crop:
    """CROP x CROP pixels at (top, left) of a picture whose sides were divided by `reduced`, 1 or 2.

    detail: mean absolute step between neighbours, levels.
    """

    reduced: int
    top: int
    left: int
    detail: float = 0.0

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """[H, W, 3] uint8, the whole picture -> [CROP, CROP, 3] uint8."""
        if self.reduced > 1:
            pixels = halve(pixels)
        return pixels[self.top : self.top + CROP, self.left : self.left + CROP]


def choose_crops(pixels: np.ndarray, crops: str, per_picture: int) -> list[Crop]:
    """The crops of a picture worth training on; empty when all of it is nearly flat (detail below FLAT).

    pixels: [H, W, 3] uint8, both sides at least CROP.
    crops: "centre", the one in the middle, or "many": up to `per_picture`, the richest first; half of them of the
    picture halved where it is large enough, because there lines are as thin as in a 1080p episode.
    """
    if crops == "centre":
        top, left = ((side - CROP) // 2 for side in pixels.shape[:2])
        detail = _detail_at(pixels, np.array([top]), np.array([left])).item()
        return [Crop(1, top, left, detail)] if detail >= FLAT else []
    found: list[Crop] = []
    if min(pixels.shape[:2]) >= 2 * CROP:
        found = _richest(halve(pixels), 2, per_picture // 2)
    return _richest(pixels, 1, per_picture - len(found)) + found


def halve(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 -> [H // 2, W // 2, 3] uint8, by area."""
    height, width = pixels.shape[:2]
    return cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)


def _richest(pixels: np.ndarray, reduced: int, number: int) -> list[Crop]:
    """Greedy: the place with the most detail next, less the share of it that an earlier crop holds already."""
    tops, lefts = (np.append(np.arange(0, side - CROP, _STRIDE), side - CROP) for side in pixels.shape[:2])
    detail = _detail_at(pixels, tops, lefts)
    overlap = np.zeros_like(detail)
    found: list[Crop] = []
    while len(found) < number:
        worth = np.where((detail < FLAT) | (overlap > _MAX_OVERLAP), 0, detail * (1 - overlap))
        row, column = np.unravel_index(np.argmax(worth), worth.shape)
        if worth[row, column] <= 0:
            break
        found.append(Crop(reduced, int(tops[row]), int(lefts[column]), float(detail[row, column])))
        rows = np.clip(CROP - np.abs(tops - tops[row]), 0, None) / CROP
        columns = np.clip(CROP - np.abs(lefts - lefts[column]), 0, None) / CROP
        overlap = np.maximum(overlap, np.outer(rows, columns))
    return found


def _detail_at(pixels: np.ndarray, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
    """Mean absolute step of green between vertical and horizontal neighbours in the crops at tops x lefts, levels."""
    green = pixels[:, :, 1]
    steps = np.zeros(green.shape, np.float32)
    steps[:-1] += cv2.absdiff(green[1:], green[:-1])
    steps[:, :-1] += cv2.absdiff(green[:, 1:], green[:, :-1])
    sums = cv2.integral(steps)
    above, before = sums[np.ix_(tops, lefts)], sums[np.ix_(tops + CROP, lefts)]
    beside, below = sums[np.ix_(tops, lefts + CROP)], sums[np.ix_(tops + CROP, lefts + CROP)]
    return (below - before - beside + above) / (2 * CROP * CROP)
