"""Pictures for people: the same crop as several methods made it, side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

_SHOWN = 320  # pixels a crop is wide at least, enlarged by a whole number of times
_WIDEST = 2000  # pixels of a strip; more columns go into the next row
_GAP = 4
_LABEL = 30  # pixels above each picture
_FONT, _INK = cv2.FONT_HERSHEY_SIMPLEX, (20, 20, 20)
_LINE = 7  # pixels: wider strokes are shapes, not lines
_CLEAR = 40  # levels: a line this strong counts as much as any stronger one


def strip(columns: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """(label, picture [H, W, 3] uint8) each -> one picture [H', W', 3] uint8, white between them.

    All pictures have one size; small ones are enlarged without interpolation. Many columns wrap into rows.
    """
    factor = -(-_SHOWN // columns[0][1].shape[1])
    cells = [_labelled(label, np.repeat(np.repeat(picture, factor, 0), factor, 1)) for label, picture in columns]
    height, width = cells[0].shape[:2]
    rows = -(-len(cells) // max(1, (_WIDEST + _GAP) // (width + _GAP)))
    each = -(-len(cells) // rows)
    sheet = np.full((rows * (height + _GAP) - _GAP, each * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for index, cell in enumerate(cells):
        top, left = index // each * (height + _GAP), index % each * (width + _GAP)
        sheet[top : top + height, left : left + width] = cell
    return sheet


def richest(pixels: np.ndarray, size: int) -> tuple[slice, slice]:
    """(rows, columns) of the size x size crop with the most line detail; smaller where the picture is.

    pixels: [H, W, 3] uint8. Both begin at multiples of 4, so that the lowres has the same crop. Detail is what a
    top-hat and a black-hat transform leave: bright and dark strokes thinner than 8 pixels, strong ones all alike.
    """
    return _best(pixels, size)[1]


def line_detail(pixels: np.ndarray, size: int) -> float:
    """Line detail of the richest crop, mean levels of 255: to choose between pictures."""
    return _best(pixels, size)[0]


def _best(pixels: np.ndarray, size: int) -> tuple[float, tuple[slice, slice]]:
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    element = np.ones((_LINE, _LINE), np.uint8)
    bright, dark = (cv2.morphologyEx(gray, how, element) for how in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT))
    sums = cv2.integral(np.minimum(np.maximum(bright, dark), _CLEAR))
    height, width = (min(size, side) for side in gray.shape)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    inside = inside[::4, ::4]
    row, column = np.unravel_index(np.argmax(inside), inside.shape)
    top, left = 4 * int(row), 4 * int(column)
    return float(inside[row, column]) / (height * width), (slice(top, top + height), slice(left, left + width))


def write_png(path: Path, pixels: np.ndarray) -> None:
    """[H, W, 3] uint8 RGB to `path`. OSError when it cannot be written: cv2.imwrite does not say so."""
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes())


def _labelled(label: str, picture: np.ndarray) -> np.ndarray:
    """`picture` with `label` above it, in letters small enough to fit (OpenCV's fonts are ASCII)."""
    label = label.encode("ascii", "replace").decode()
    width = cv2.getTextSize(label, _FONT, 0.7, 1)[0][0]
    scale = 0.7 * min(1.0, (picture.shape[1] - 8) / max(1, width))
    head = np.full((_LABEL, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(head, label, (4, _LABEL - 9), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return np.concatenate([head, picture])
