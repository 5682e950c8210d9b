"""Bands in what should be a smooth slope of shade: steps of a level or two that 8 bits and compression leave.

A sample becomes the mean of those around it where nothing around it differs by more than such steps: first in wide
squares, nearer to lines in smaller ones. Whatever is more than a step, a line, a texture, grain, is not touched. What
the mean has beyond the result's depth is laid out as a fixed pattern, since rounding would draw the bands again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

from vidsr.frames import PixelFormat

STEPS = 3.0  # levels of 255 between the darkest and the brightest sample of a square that is smooth
REACH = (1 / 24, 1 / 48, 1 / 96, 1 / 192)  # of the picture's height from a sample to the side of its square
SIDE = 8  # of the pattern


def debanded(planes: Sequence[np.ndarray], format: PixelFormat) -> tuple[np.ndarray, ...]:
    """Planes of `format` without bands, new arrays. What a sample becomes depends on those within the widest reach."""
    return tuple(_smooth(plane, format.bits) for plane in planes)


def _smooth(plane: np.ndarray, bits: int) -> np.ndarray:
    height, width = plane.shape
    limit = STEPS * 2.0 ** (bits - 8)
    result = plane.astype(np.float32)
    left = np.ones(plane.shape, bool)  # to be decided
    for share in REACH:
        reach = max(2, round(share * height))
        side = (2 * reach + 1, 2 * reach + 1)
        square = cv2.getStructuringElement(cv2.MORPH_RECT, side)
        brightest, darkest = cv2.dilate(plane, square), cv2.erode(plane, square)
        smooth = left & (cv2.subtract(brightest, darkest) <= limit)
        if smooth.any():
            mean = cv2.blur(plane.astype(np.float32), side, borderType=cv2.BORDER_REPLICATE)
            result[smooth] = mean[smooth]
            left &= ~smooth
    touched = ~left
    dithered = np.floor(result + np.tile(_pattern(), (-(-height // SIDE), -(-width // SIDE)))[:height, :width])
    return np.where(touched, dithered, plane).astype(plane.dtype)


@cache
def _pattern() -> np.ndarray:
    """[SIDE, SIDE] float32: Bayer's ordered thresholds, above 0 and below 1, 1/2 in the mean."""
    order = np.zeros((1, 1))
    while len(order) < SIDE:
        order = np.block([[4 * order, 4 * order + 2], [4 * order + 3, 4 * order + 1]])
    return ((order + 0.5) / SIDE**2).astype(np.float32)
