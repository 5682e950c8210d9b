"""Small pictures and animations for the tests."""

from __future__ import annotations

import numpy as np


def scene(number: int = 0, width: int = 48, height: int = 36, clear: bool = True) -> np.ndarray:
    """[height, width, 4] uint8: a disc with a dark edge moves over a coloured ground, which is clear to the left."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.zeros((height, width, 4), np.uint8)
    picture[:] = np.stack([x * 4 % 256, y * 5 % 256, np.full_like(x, 90), np.full_like(x, 255)], 2)
    if clear:
        picture[:, : width // 3] = 0
    distance = np.hypot(x - 8 - 5 * number, y - height / 2)
    picture[distance < 8] = 20, 20, 30, 255
    picture[distance < 6] = 220, 60, 40, 255
    return picture


def deep(pixels: np.ndarray) -> np.ndarray:
    """The same with 16 bits, the lower ones used."""
    return pixels.astype(np.uint16) * 257 ^ 3


def near(a: np.ndarray, b: np.ndarray, levels: float) -> bool:
    """Whether two pictures look the same, but for so many levels of 255 in the mean."""
    return float(np.abs(shown(a) - shown(b)).mean()) <= levels


def shown(picture: np.ndarray) -> np.ndarray:
    """What is seen on magenta, [H, W, 3] float, levels of 255."""
    levels = picture.astype(float) * 255 / np.iinfo(picture.dtype).max
    levels = levels if levels.ndim == 3 else levels[:, :, None]
    color = levels[:, :, : 1 if levels.shape[2] < 3 else 3]
    alpha = levels[:, :, -1:] / 255 if levels.shape[2] in (2, 4) else 1
    return np.broadcast_to(color * alpha + np.array([255, 0, 255]) * (1 - alpha), (*levels.shape[:2], 3))
