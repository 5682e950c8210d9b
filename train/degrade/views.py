"""One picture seen in many ways: from nearer, at night, faded. Its degraded twin is made of what is seen."""

from __future__ import annotations

import cv2
import numpy as np

from train.degrade.filters import gaussian, resize

NEARER = 0.3  # how often a picture is looked at from nearer, so that lines of every width are seen
GRADED = 0.35  # how often its light is another: dark scenes and dull masters lose their lines to compression first


def seen_anew(window: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[S, S, 3] uint8 RGB -> the same picture, now and then from nearer, now and then in another light."""
    if rng.random() < NEARER:
        window = closer(window, float(2 ** rng.uniform(0, 0.8)), rng)
    return graded(window, rng) if rng.random() < GRADED else window


def closer(window: np.ndarray, times: float, rng: np.random.Generator) -> np.ndarray:
    """[S, S, 3] uint8 -> a part of it, enlarged `times` to the same size, its edges as steep as before, no halo.

    What is only enlarged has soft edges, which a generator would learn to leave soft; so they are sharpened, and no
    pixel leaves the range of its neighbours.
    """
    size = window.shape[0]
    side = max(1, round(size / times))
    top, left = (int(corner) for corner in rng.integers(0, size - side + 1, 2))
    part = resize(window[top : top + side, left : left + side], (size, size), "bicubic")
    if side == size:
        return part
    around = np.ones((3, 3), np.uint8)
    pixels = part.astype(np.float32)
    sharp = pixels + 1.5 * (times - 1) * (pixels - gaussian(pixels, times, times))
    return np.clip(np.rint(sharp), cv2.erode(part, around), cv2.dilate(part, around)).astype(np.uint8)


def graded(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[H, W, 3] uint8 RGB -> darker by up to 1.3 stops, of another gamma, tinted, with black lifted and white lowered.

    One table of 256 values for each channel, all of them rising: flat areas stay flat, and edges where they are.
    """
    levels = np.linspace(0, 1, 256)[:, None].repeat(3, axis=1)
    if rng.random() < 0.6:
        levels = levels * 2 ** -rng.uniform(0, 1.3)
    if rng.random() < 0.5:
        levels = levels ** (2 ** rng.uniform(-0.5, 0.7))
    if rng.random() < 0.5:
        levels = levels * rng.uniform(0.75, 1, 3)
    if rng.random() < 0.3:
        black, white = rng.uniform(0, 0.12), rng.uniform(0.75, 1)
        levels = black + (white - black) * levels
    table = np.clip(np.rint(255 * levels), 0, 255).astype(np.uint8)
    return cv2.LUT(picture, table[None])
