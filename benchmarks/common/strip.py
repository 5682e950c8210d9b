"""The same crop as each upscaler made it, side by side in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.common.labels import label, write_png

CROP = 160  # pixels of the enlarged picture
_ENLARGED = 2
COLUMNS = 4
_GAP, _LABEL = 6, 30


def richest(pictures: Sequence[np.ndarray], size: int = CROP) -> tuple[int, slice, slice]:
    """(which of the pictures, rows, columns): where a crop has most detail, by the mean gradient of luma.

    pictures: [H, W, 3] uint8, of one size. The crop is smaller where they are.
    """
    best = (-1.0, 0, 0, 0)
    height, width = (min(size, side) for side in pictures[0].shape[:2])
    for i, picture in enumerate(pictures):
        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        edges = cv2.magnitude(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
        sums = cv2.integral(edges, sdepth=cv2.CV_64F)
        inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        best = max(best, (float(inside[row, column]), i, int(row), int(column)))
    _, i, top, left = best
    return i, slice(top, top + height), slice(left, left + width)


def write_strip(path: Path, crops: Sequence[tuple[str, np.ndarray]], columns: int = COLUMNS) -> None:
    """(label, [h, w, 3] uint8 R'G'B') each, of one size, in rows of `columns`. OSError when it cannot be written."""
    shown = [(name, crop.repeat(_ENLARGED, 0).repeat(_ENLARGED, 1)) for name, crop in crops]
    cells = [np.concatenate([label(name, crop.shape[1], _LABEL), crop]) for name, crop in shown]
    height, width = cells[0].shape[:2]
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for i, cell in enumerate(cells):
        top, left = i // columns * (height + _GAP), i % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = cell
    write_png(path, sheet)
