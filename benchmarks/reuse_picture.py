"""One frame as it came out, and beside it what of it was computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import cv2
import numpy as np
import torch

from benchmarks.chart import FINE, GRAY, INK, _box, _text
from vidsr.backends.base import Backend
from vidsr.color import to_rgb
from vidsr.frames import ColorSpec, FrameBatch, PixelFormat
from vidsr.reuse import Box, Saved, _Planner, reuse
from vidsr.stillness import Tolerance

PANEL = 720  # width of each of the two pictures in the PNG
GAP, FOOT = 8, 40
DIMMED = 0.3  # of the brightness is left where nothing was computed
OUTLINE = (40, 200, 255)  # amber; OpenCV's order is BGR


@dataclass(frozen=True)
class Example:
    """A frame in which something moved. picture: [H, W, 3] uint8 BGR, `scale` times the source.

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
    saved = Saved()
    planner = _Planner(groups[0], backend, tolerance, saved)
    found: list[tuple[float, float, int, tuple[Box, ...]]] = []
    before = groups[0].frames[0].planes[0]
    for i, frame in enumerate(frame for group in groups for frame in group.frames):
        whole, pixels = saved.whole, saved.pixels
        boxes = tuple(piece.computed for piece in planner.plan(frame))
        if boxes and saved.whole == whole:
            share = (saved.pixels - pixels) / (groups[0].width * groups[0].height)
            moved = np.abs(np.subtract(frame.planes[0], before, dtype=np.float32)).mean()
            found.append((share, float(moved), i, boxes))
        before = frame.planes[0]
    if not found:
        return None
    usual = median_low(share for share, *_ in found)
    near = [one for one in found if usual / 2 <= one[0] <= usual * 1.5]
    share, _, number, boxes = max(near, key=lambda one: one[1])
    planes = next(frame.planes for i, frame in enumerate(reuse(groups, backend, tolerance)) if i == number)
    return Example(as_bgr(planes, format, color), boxes, share, backend.scale)


def as_bgr(planes: Sequence[np.ndarray], format: PixelFormat, color: ColorSpec) -> np.ndarray:
    """Planes -> [H, W, 3] uint8 B'G'R'."""
    rgb = to_rgb([torch.from_numpy(np.ascontiguousarray(plane))[None] for plane in planes], format, color)[0]
    return np.ascontiguousarray((rgb.flip(0).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def marked(picture: np.ndarray, boxes: Sequence[Box], scale: int) -> np.ndarray:
    """`picture`, [H, W, 3] uint8, dark and without colour except inside `boxes`, which are in source samples."""
    gray = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    inside = _inside(picture.shape[:2], boxes, scale)
    return np.where(inside[..., None], picture, (gray * DIMMED).round().astype(np.uint8))


def _inside(shape: tuple[int, ...], boxes: Sequence[Box], scale: int) -> np.ndarray:
    inside = np.zeros(shape, bool)
    for box in boxes:
        inside[box.y0 * scale : box.y1 * scale, box.x0 * scale : box.x1 * scale] = True
    return inside


def write_picture(path: Path, example: Example) -> None:
    """The frame, and beside it the same with what was computed in colour."""
    height, width = example.picture.shape[:2]
    size = PANEL * FINE, round(PANEL * FINE * height / width / FINE) * FINE
    sheet = np.full((size[1] + FOOT * FINE, 2 * size[0] + GAP * FINE, 3), 255, np.uint8)
    right = cv2.resize(marked(example.picture, example.boxes, example.scale), size, interpolation=cv2.INTER_AREA)
    inside = _inside((height, width), example.boxes, example.scale).astype(np.uint8)
    small = cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(right, outlines, -1, OUTLINE, 3)
    sheet[: size[1], : size[0]] = cv2.resize(example.picture, size, interpolation=cv2.INTER_AREA)
    sheet[: size[1], -size[0] :] = right
    base = size[1] // FINE + 26
    _text(sheet, f"one frame, {example.scale} times as large", 0, base, 16, INK)
    left = PANEL + GAP
    _box(sheet, left + 1, base - 12, left + 15, base + 2, OUTLINE)
    end = left + 24 + _text(sheet, f"computed: {example.share:.0%} of the frame", left + 24, base, 16, INK)
    _text(sheet, "dark: taken from earlier results", end + 28, base, 16, GRAY)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = cv2.resize(sheet, None, fx=1 / FINE, fy=1 / FINE, interpolation=cv2.INTER_AREA)
    path.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
