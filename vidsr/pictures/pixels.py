"""Pixels in memory, as one kind has them, made what another wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np


def widened(pixels: np.ndarray, most: int) -> np.ndarray:
    """From 0..most to all 16 bits."""
    return ((pixels.astype(np.uint32) * 65535 + most // 2) // most).astype(np.uint16)


def fitted(pixels: np.ndarray, channels: int) -> np.ndarray:
    """[H, W] or [H, W, any] -> [H, W, channels]: gray is repeated, or is green; alpha is opaque, or left away."""
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    has = pixels.shape[2]
    if has == channels:
        return pixels
    color = pixels[:, :, : 1 if has < 3 else 3]
    if channels < 3 and has >= 3:
        color = color[:, :, 1:2]
    elif channels >= 3 and has < 3:
        color = np.repeat(color, 3, 2)
    if channels in (1, 3):
        return np.ascontiguousarray(color)
    full = np.full((*color.shape[:2], 1), np.iinfo(pixels.dtype).max, pixels.dtype)
    return np.concatenate([color, pixels[:, :, -1:] if has in (2, 4) else full], 2)


def narrowed(pixels: np.ndarray) -> np.ndarray:
    """uint16, all of it used -> uint8."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def on_white(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 2 or 4] -> [H, W, 1 or 3]: as it looks on white."""
    most = np.float32(np.iinfo(pixels.dtype).max)
    alpha = pixels[:, :, -1:] / most
    return np.rint(pixels[:, :, :-1] * alpha + most * (1 - alpha)).astype(pixels.dtype)


def assembled(shape: tuple[int, int, int], bands: Iterable[np.ndarray]) -> np.ndarray:
    """[H, W, channels] from bands of its rows, from above, uint8 or uint16."""
    result: np.ndarray | None = None
    top = 0
    for band in bands:
        if len(band) == shape[0]:
            return band
        result = np.empty(shape, band.dtype) if result is None else result
        result[top : top + len(band)] = band
        top += len(band)
    if result is None or top != shape[0]:
        raise ValueError(f"bands: got {top} rows, expected {shape[0]}")
    return result


@contextmanager
def quietly() -> Iterator[None]:
    """OpenCV prints nothing meanwhile: what fails is told otherwise."""
    logging = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)
