"""What counts as still: pictures compared tile by tile, and how far apart a tile may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from vidsr.frames import Frame, PixelFormat

TILE = 16  # luma samples each way
SPOT = 4  # samples each way of any plane
MOST_LOCAL = 2.0  # levels: a line one pixel wide is a quarter of a spot, so one of 8 levels' contrast does not freeze


@dataclass(frozen=True)
class Tolerance:
    """How far a tile may be from its anchor and count as still, in levels of 255: on average, and at any sample.

    Both 0: only what is the same to the bit. On average over any SPOT x SPOT samples it may be three times as far as
    over the whole tile, but no more than MOST_LOCAL: that is where a faint line shows that moves, and little of noise.
    """

    mean: float = 0.0
    most: float = 0.0

    def exceeded(self, mean: np.ndarray, local: np.ndarray, most: np.ndarray) -> np.ndarray:
        return np.logical_or.reduce([mean > self.mean, local > min(3 * self.mean, MOST_LOCAL), most > self.most])


NARROWEST, WIDEST = Tolerance(0.5, 6), Tolerance(1, 12)  # that are chosen unasked


class Tiles:
    """Pictures of one size and format in tiles, the last ones cut off by the edges."""

    def __init__(self, width: int, height: int, format: PixelFormat) -> None:
        self._rows, self._columns = -(-height // TILE), -(-width // TILE)
        self._unit = 2.0 ** (format.bits - 8)
        shifts = [format.chroma_shift if i else (0, 0) for i in range(1 if format.family == "gray" else 3)]
        self._sides = [(TILE >> y, TILE >> x) for x, y in shifts]
        # Differences are written into planes of whole tiles; what lies outside the picture stays 0.
        self._room = [np.zeros((self._rows * tall, self._columns * wide), format.dtype) for tall, wide in self._sides]
        samples = [
            np.outer(_lengths(-(-height >> y), tall * self._rows), _lengths(-(-width >> x), wide * self._columns))
            for (x, y), (tall, wide) in zip(shifts, self._sides)
        ]
        self._per_spot = [1 / np.maximum(number, 1) for number in samples]
        self._per_tile = [
            1 / self._over(number, tall // SPOT, wide // SPOT, np.sum)
            for number, (tall, wide) in zip(samples, self._sides)
        ]

    def differences(
        self, a: Sequence[np.ndarray], b: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(mean, local, most) [rows, columns], absolute, of the worst plane in each tile, in levels of 255.

        local: the largest mean over SPOT x SPOT samples.
        """
        found = []
        for i, (room, (tall, wide)) in enumerate(zip(self._room, self._sides)):
            height, width = a[i].shape
            cv2.absdiff(_plain(a[i]), _plain(b[i]), dst=room[:height, :width])
            most = self._over(room, tall, wide, np.max)
            values, sums = (room, cv2.CV_32S) if room.dtype == np.uint8 else (room.astype(np.float32), cv2.CV_64F)
            total = cv2.integral(values, sdepth=sums)[::SPOT, ::SPOT]
            spots = np.diff(np.diff(total, axis=0), axis=1)
            tall, wide = tall // SPOT, wide // SPOT
            mean = self._over(spots, tall, wide, np.sum) * self._per_tile[i]
            found.append((mean, self._over(spots * self._per_spot[i], tall, wide, np.max), most))
        mean, local, most = (np.max(values, 0) / self._unit for values in zip(*found))
        return mean, local, most

    def _over(self, values: np.ndarray, tall: int, wide: int, reduce: Any) -> Any:
        """`reduce` over the `tall` x `wide` values of each tile."""
        # Rows first: that runs along the memory.
        return reduce(reduce(values.reshape(self._rows, tall, -1), 1).reshape(self._rows, self._columns, wide), 2)


def _plain(plane: np.ndarray) -> np.ndarray:
    """A plane as OpenCV takes it: rows may lie apart, but not upside down."""
    return plane if plane.strides[1] == plane.itemsize and plane.strides[0] > 0 else np.ascontiguousarray(plane)


def _lengths(samples: int, room: int) -> np.ndarray:
    """How many of `samples` in a row lie in each SPOT of a row of `room`."""
    return np.diff(np.minimum(np.arange(0, room + 1, SPOT), samples)).astype(np.float32)


def choose_tolerance(stretches: Iterable[Sequence[Frame]], format: PixelFormat) -> Tolerance:
    """The tolerance for a source, from the noise that its compression leaves where nothing moves.

    stretches: of frames that follow each other, from several places of the source.

    Still is, here, what differs from the frame before by no more than WIDEST; the noise is what 95 % of that stays
    below. Four times as much is let pass, since anchors are older than the frame before: never less than NARROWEST and
    never more than WIDEST, so that film grain and slow pans are computed. Where still parts are the same to the bit,
    nothing else passes.
    """
    means, mosts = [], []
    for frames in stretches:
        for before, after in zip(frames, frames[1:]):
            height, width = after.planes[0].shape
            mean, local, most = Tiles(width, height, format).differences(after.planes, before.planes)
            still = ~WIDEST.exceeded(mean, local, most)
            means.append(mean[still])
            mosts.append(most[still])
    mean, most = (np.concatenate(values) if values else np.zeros(0) for values in (means, mosts))
    if not mean.size or np.percentile(most, 99) == 0:
        return Tolerance()
    return Tolerance(
        float(np.clip(4 * np.percentile(mean, 95), NARROWEST.mean, WIDEST.mean)),
        float(np.clip(4 * np.percentile(most, 95), NARROWEST.most, WIDEST.most)),
    )
