"""Alpha beside the picture: through the same generator, as a gray picture, so that its edges get as sharp as those of
the colours they belong to; and never outside of what the source has there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from vidsr.backends.base import Backend
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat


class AlphaBeside:
    """Takes the alpha off frames on their way to the backend, and gives it, enlarged, to those that come from there.

    Both see the same frames in the same order, in whatever threads.
    """

    def __init__(
        self, format: PixelFormat, color: ColorSpec, backend: Backend,
        backend_lock: AbstractContextManager[Any] | None,
    ) -> None:  # fmt: skip
        self._format, self._color, self._backend, self._lock = format, color, backend, backend_lock
        self._waiting: deque[np.ndarray] = deque()
        self._last: tuple[np.ndarray, np.ndarray] | None = None  # before and after

    def taken_off(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """`frames` without their alpha, which waits."""
        for frame in frames:
            assert frame.alpha is not None
            self._waiting.append(frame.alpha)
            yield replace(frame, alpha=None)

    def given_back(self, frames: Iterable[Frame], format: PixelFormat, color: ColorSpec) -> Iterator[Frame]:
        """Enlarged `frames` of `format` and `color` with the alpha of each, as deep as they are."""
        for frame in frames:
            yield replace(frame, alpha=self._enlarged(self._waiting.popleft(), format, color))

    def _enlarged(self, alpha: np.ndarray, format: PixelFormat, color: ColorSpec) -> np.ndarray:
        if self._last is not None and np.array_equal(self._last[0], alpha):
            return self._last[1]
        scale, most = self._backend.scale, (1 << self._format.bits) - 1
        kernel = np.ones((3, 3), np.uint8)
        low, high = (
            np.repeat(np.repeat(change(alpha, kernel).astype(np.float32) / most, scale, 0), scale, 1)
            for change in (cv2.erode, cv2.dilate)
        )
        if (low == high).all():
            large = low
        else:
            large = np.clip(self._generated(alpha.astype(np.float32) / most, format, color), low, high)
        levels = (1 << format.bits) - 1
        self._last = alpha, np.rint(large * levels).astype(format.dtype)
        return self._last[1]

    def _generated(self, alpha: np.ndarray, format: PixelFormat, color: ColorSpec) -> np.ndarray:
        """What the generator makes of `alpha`, both 0..1, as a gray picture."""
        own = self._format
        black, white = _gray_range(own, self._color)
        gray = np.rint(black + alpha * (white - black)).astype(own.dtype)
        planes = [gray]
        for rows, columns in own.plane_shapes(alpha.shape[1], alpha.shape[0])[1:]:
            neutral = np.full((rows, columns), 1 << (own.bits - 1), own.dtype)
            planes.append(gray if own.family == "rgb" else neutral)
        with self._lock or nullcontext():
            pending = self._backend.submit(FrameBatch((Frame(tuple(planes)),), own, self._color))
        black, white = _gray_range(format, color)
        return (pending().frames[0].planes[0].astype(np.float32) - black) / (white - black)


def _gray_range(format: PixelFormat, color: ColorSpec) -> tuple[int, int]:
    """The samples of the first plane for black and white."""
    if color.full_range or format.family == "rgb":
        return 0, (1 << format.bits) - 1
    return 16 << (format.bits - 8), 235 << (format.bits - 8)
