"""One frame as it came out, and beside it what of it was computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import cv2
import numpy as np

from benchmarks.common.labels import label, write_png
from benchmarks.common.material import as_picture
from vidsr.backends.base import Backend
from vidsr.frames import ColorSpec, FrameBatch, PixelFormat
from vidsr.reuse.reuse import Box, ReuseCounts, _Planner, reuse
from vidsr.reuse.stillness import Tolerance

PANEL = 720  # width of each of the two pictures in the PNG
GAP, FOOT = 8, 40
DIMMED = 0.3  # of the brightness is left where nothing was computed
OUTLINE = (255, 200, 40)  # amber


@dataclass(frozen=True)
class Example:
    """A frame in which something moved. picture: [H, W, 3] uint8 R'G'B', `scale` times the source.

    boxes: what the model was given, in source samples. share: of the frame, what the model was given.
    """

    picture: np.ndarray
    boxes: tuple[Box, ...]
    share: float
    scale: int


def find_example(
    groups: Sequence[FrameBatch], backend: Backend, tolerance: Tolerance, format: PixelFormat, color: ColorSpec
) -> Example | None:
    """Of the frames computed in part, about as much as usual, the one that differs most from the frame before; None
    where none is.

    format, color: of the result.
    """
    saved = ReuseCounts()
    planner = _Planner(groups[0], backend, tolerance, saved)
    found: list[tuple[float, float, int, tuple[Box, ...]]] = []
    before = groups[0].frames[0].planes[0]
    for i, frame in enumerate(frame for group in groups for frame in group.frames):
        whole, pixels = saved.whole, saved.computed_pixels
        boxes = tuple(piece.computed for piece in planner.plan(frame))
        if boxes and saved.whole == whole:
            share = (saved.computed_pixels - pixels) / (groups[0].width * groups[0].height)
            moved = np.abs(np.subtract(frame.planes[0], before, dtype=np.float32)).mean()
            found.append((share, float(moved), i, boxes))
        before = frame.planes[0]
    if not found:
        return None
    usual = median_low(share for share, *_ in found)
    near = [one for one in found if usual / 2 <= one[0] <= usual * 1.5]
    share, _, number, boxes = max(near, key=lambda one: one[1])
    planes = next(frame.planes for i, frame in enumerate(reuse(groups, backend, tolerance)) if i == number)
    return Example(as_picture(planes, format, color), boxes, share, backend.scale)


def marked(picture: np.ndarray, boxes: Sequence[Box], scale: int) -> np.ndarray:
    """`picture`, [H, W, 3] uint8, dark and without colour except inside `boxes`, which are in source samples."""
    gray = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    inside = _inside(picture.shape[:2], boxes, scale)
    return np.where(inside[..., None], picture, (gray * DIMMED).round().astype(np.uint8))


def _inside(shape: tuple[int, ...], boxes: Sequence[Box], scale: int) -> np.ndarray:
    inside = np.zeros(shape, bool)
    for box in boxes:
        inside[box.y0 * scale : box.y1 * scale, box.x0 * scale : box.x1 * scale] = True
    return inside


def write_picture(path: Path, example: Example) -> None:
    """The frame, and beside it the same with what was computed in colour. OSError when it cannot be written."""
    height, width = example.picture.shape[:2]
    size = PANEL, round(PANEL * height / width)
    left = cv2.resize(example.picture, size, interpolation=cv2.INTER_AREA)
    right = cv2.resize(marked(example.picture, example.boxes, example.scale), size, interpolation=cv2.INTER_AREA)
    inside = _inside((height, width), example.boxes, example.scale).astype(np.uint8)
    small = cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(right, outlines, -1, OUTLINE, 2)
    words = (
        f"one frame, {example.scale} times as large",
        f"outlined: computed, {example.share:.0%} of the frame; dark: taken from earlier results",
    )
    halves = [np.concatenate([shown, label(said, PANEL, FOOT)]) for shown, said in zip((left, right), words)]
    write_png(path, np.concatenate([halves[0], np.full((size[1] + FOOT, GAP, 3), 255, np.uint8), halves[1]], 1))
