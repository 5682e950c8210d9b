"""A source's own noise, laid over the result again."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vidsr.frames import PixelFormat

_SHADES = 4  # of as many tiles each, in which noise is alike
_LEAST = 2  # frames that a mean is taken of, for the rest to be noise


def noise_of(samples: np.ndarray, shown: np.ndarray, lengths: np.ndarray, number: int) -> np.ndarray:
    """[tiles, samples of a tile] float32: the noise of a frame.

    samples: the frame as it came, shown: the means that are shown instead, both [tiles, samples of a tile]. lengths:
    [tiles], how many frames each is the mean of. A mean that a frame is in has a part of its noise, so the rest is that
    much too little. What moves is no mean and has no noise to be told: it gets that of a still tile about as bright.
    number: of the frame, which decides of which one.
    """
    noise = np.subtract(samples, shown, dtype=np.float32)
    known = lengths >= _LEAST
    noise[known] *= np.sqrt(lengths[known] / (lengths[known] - 1)).astype(np.float32)[:, None]
    givers, takers = np.flatnonzero(known), np.flatnonzero(~known)
    if len(givers) and len(takers):
        brightness = shown.mean(1)
        givers = givers[np.argsort(brightness[givers], kind="stable")]
        count = max(1, len(givers) // _SHADES)
        first = _nearest(brightness[givers], brightness[takers], count)
        chosen = first + np.random.default_rng(number).integers(0, count, len(takers))
        noise[takers] = noise[givers[chosen]]
    return noise


def _nearest(values: np.ndarray, wanted: np.ndarray, count: int) -> np.ndarray:
    """Where in `values`, which rise, the `count` begin that are nearest to each of `wanted`."""
    ranks = np.searchsorted(values, wanted)
    low, high = np.maximum(ranks - count, 0), np.minimum(ranks, len(values) - count)
    for _ in range(count.bit_length()):  # halves what is between, as bisection does
        middle = (low + high) // 2
        behind = values[np.minimum(middle + count, len(values) - 1)]
        further = (low < high) & (wanted - values[middle] > behind - wanted)
        low, high = np.where(further, middle + 1, low), np.where(further, high, middle)
    return low


def overlaid(
    planes: Sequence[np.ndarray], noise: Sequence[np.ndarray], source: PixelFormat, result: PixelFormat
) -> tuple[np.ndarray, ...]:
    """`planes` of a result with `noise` over them: [rows, columns] float32 each, of the source's size and depth."""
    louder = np.float32(2.0 ** (result.bits - source.bits))
    found = list(planes)
    for i, (plane, grain) in enumerate(zip(planes, noise)):  # a grey source has none of colour
        large = cv2.resize(grain * louder, plane.shape[::-1], interpolation=cv2.INTER_CUBIC)
        total = cv2.add(plane, large, dtype=cv2.CV_8U if plane.dtype == np.uint8 else cv2.CV_16U)  # never beyond 0
        found[i] = total if result.bits in (8, 16) else np.minimum(total, 2**result.bits - 1)
    return tuple(found)
