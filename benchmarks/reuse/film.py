"""Frames of one size kept in memory, and their tiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vidsr.frames import Frame, PixelFormat


@dataclass(frozen=True)
class Film:
    """pictures: the planes of each frame. Nothing writes into them: those of following frames may be the same."""

    pictures: tuple[tuple[np.ndarray, ...], ...]
    format: PixelFormat

    def __len__(self) -> int:
        return len(self.pictures)

    def plane(self, number: int, plane: int = 0) -> np.ndarray:
        """Float32, in levels of 255, whatever the depth."""
        return self.pictures[number][plane].astype(np.float32) / np.float32(2.0 ** (self.format.bits - 8))

    def reduced(self, scale: int) -> list[np.ndarray]:
        """The luma of each frame, reduced by area: what of it a source `scale` times as small can show."""
        height, width = self.pictures[0][0].shape
        size = (width // scale, height // scale)
        return [np.asarray(cv2.resize(self.plane(i), size, interpolation=cv2.INTER_AREA)) for i in range(len(self))]


def film(frames: Iterable[Frame], format: PixelFormat) -> Film:
    return Film(tuple(frame.planes for frame in frames), format)


def tile_sums(values: np.ndarray, tall: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
    """(sum, number of samples), both [rows, columns] float64, of tiles of tall x wide; the last ones are cut off."""
    rows, columns = (np.arange(0, side, step) for side, step in zip(values.shape, (tall, wide)))
    sums = np.add.reduceat(np.add.reduceat(values, rows, 0, dtype=np.float64), columns, 1)
    return sums, np.outer(np.diff([*rows, values.shape[0]]), np.diff([*columns, values.shape[1]])).astype(np.float64)


def tile_means(values: np.ndarray, side: int) -> np.ndarray:
    """[rows, columns] float64, of tiles of side x side."""
    sums, sizes = tile_sums(values, side, side)
    return np.asarray(sums / sizes)


def tile_most(values: np.ndarray, tall: int, wide: int) -> np.ndarray:
    """The largest value of each tile."""
    rows, columns = (np.arange(0, side, step) for side, step in zip(values.shape, (tall, wide)))
    return np.asarray(np.maximum.reduceat(np.maximum.reduceat(values, rows, 0), columns, 1))


def tile_errors(a: Film, b: Film, number: int, side: int) -> np.ndarray:
    """Mean squared difference of the samples of all planes in each tile of side x side luma samples."""
    total, samples = 0.0, 0.0
    for i in range(len(a.pictures[number])):
        x, y = a.format.chroma_shift if i else (0, 0)
        sums, sizes = tile_sums(np.square(a.plane(number, i) - b.plane(number, i)), side >> y, side >> x)
        total, samples = total + sums, samples + sizes  # type: ignore[assignment]
    return np.asarray(total / samples)


def all_around(tiles: np.ndarray, reach: int) -> np.ndarray:
    """The tiles that are True with all tiles within `reach` of them; beyond the edges nothing is missed."""
    side = 2 * reach + 1
    return cv2.erode(tiles.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)


def changes(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each picture less the one before: one fewer."""
    return [after - before for before, after in zip(pictures, pictures[1:])]
