"""What is compared of a picture: for each of its tiles some hundreds of means over small areas, of several shapes.

A change that people see is larger than the noise in at least one of them: a spot, an eye or a spark in squares of 2 or
4 samples, a thin line in strips of 8 by 1, a shadow that moves in squares of 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vidsr.frames import PixelFormat

TILE = 16  # luma samples each way


@dataclass(frozen=True)
class Kind:
    """Areas of one shape, and what of a difference in them is noise, in levels of 255.

    sigmas: so many standard deviations of the noise, but never less than `least` nor more than `most`. edge: besides,
    this part of the local contrast: codecs move edges to and fro by a tenth of a sample.
    """

    sigmas: float
    least: float
    most: float
    edge: float


PAIR, SPOT = Kind(6.5, 4.0, 5.5, 0.04), Kind(5.5, 1.6, 3.0, 0.02)
LINE, PATCH = Kind(5.7, 2.2, 3.8, 0.03), Kind(5.0, 1.0, 1.6, 0.015)
_COLOUR, _COLOUR_EDGE = 0.8, 2.0  # of that for the planes of colour, whose edges are half as sharp


@dataclass(frozen=True)
class Group:
    """The columns first to end of a signature: areas of one kind in one plane."""

    kind: Kind
    plane: int
    first: int
    end: int

    @property
    def edge(self) -> float:
        return self.kind.edge * (_COLOUR_EDGE if self.plane else 1.0)

    def limit(self, noise: float, least: float) -> float:
        """What passes for noise where its standard deviation is `noise`, in levels. least: a factor of the least."""
        factor = _COLOUR if self.plane else 1.0
        return factor * min(max(self.kind.sigmas * noise / factor, least * self.kind.least), self.kind.most)


class Signatures:
    """Makes signatures of pictures of one size and format: a row of numbers for each tile, tiles row by row.

    shape: (rows, columns) of tiles; tiles: their number. groups: what the columns of a signature mean, luma's first.
    length: of a signature; depth: samples of a tile, of all planes. unit: a level of 255, in samples' steps. Methods
    write into memory of its own: use it from one thread at a time.
    """

    def __init__(self, width: int, height: int, format: PixelFormat) -> None:
        self.shape = -(-height // TILE), -(-width // TILE)
        self.tiles = self.shape[0] * self.shape[1]
        self.dtype, self.unit = format.dtype, 2.0 ** (format.bits - 8)
        shifts = [format.chroma_shift if i else (0, 0) for i in range(1 if format.family == "gray" else 3)]
        self.sides = [(TILE >> y, TILE >> x) for x, y in shifts]  # (rows, columns) of a tile in each plane
        self.depth = sum(tall * wide for tall, wide in self.sides)
        self.groups: list[Group] = []
        self.length = 0
        for i, (tall, wide) in enumerate(self.sides):
            quarter = tall * wide // 4
            kinds = [(PAIR, quarter), (SPOT, quarter), (PATCH, quarter // 4)] + ([] if i else [(LINE, quarter)] * 2)
            for kind, size in kinds:
                self.groups.append(Group(kind, i, self.length, self.length + size))
                self.length += size
        # Memory that is kept: to get it anew each time takes longer than to fill it.
        self._float = [np.empty((self.shape[0] * tall, self.shape[1] * wide), np.float32) for tall, wide in self.sides]
        self._areas: dict[tuple[int, ...], np.ndarray] = {}

    def samples(self, planes: Sequence[np.ndarray]) -> np.ndarray:
        """[tiles, samples of a tile in all planes], of the picture's dtype; beyond its sides it is mirrored."""
        found = np.empty((self.tiles, self.depth), self.dtype)
        for plane, place in zip(self._whole(planes), self._places(found)):
            place[:] = self._by_tile(plane)
        return found

    def planes(self, samples: np.ndarray) -> list[np.ndarray]:
        """The way back from `samples`, of any dtype: planes of whole tiles, in memory of their own."""
        return [
            place.swapaxes(1, 2).copy().reshape(self.shape[0] * tall, self.shape[1] * wide)
            for place, (tall, wide) in zip(self._places(samples), self.sides)
        ]

    def of(self, planes: Sequence[np.ndarray], out: np.ndarray | None = None) -> np.ndarray:
        """[tiles, length] float32, in levels of 255. out: where to write it."""
        for plane, levels in zip(self._whole(planes), self._float):
            np.multiply(plane, np.float32(1 / self.unit), out=levels, casting="unsafe", dtype=np.float32)
        found = np.empty((self.tiles, self.length), np.float32) if out is None else out
        groups = iter(self.groups)
        for i, plane in enumerate(self._float):
            pairs = self._mean(plane, 2, 2, i)
            areas = [pairs, self._overlapping(pairs, 2, 2, i), self._overlapping(self._mean(pairs, 2, 2, i), 2, 2, i)]
            if i == 0:
                areas.append(self._overlapping(self._mean(plane, 4, 1, i), 2, 1, i))
                areas.append(self._overlapping(self._mean(plane, 1, 4, i), 1, 2, i))
            for area in areas:
                group, tiled = next(groups), self._by_tile(area)
                found[:, group.first : group.end].reshape(tiled.shape)[:] = tiled
        return found

    def contrasts(self, planes: Sequence[np.ndarray], tiles: np.ndarray) -> np.ndarray:
        """[n, length] float32: in the areas of some tiles [n], how far samples lie apart from their neighbours."""
        around = np.ones((3, 3), np.uint8)
        found: list[np.ndarray] = []
        for i, plane in enumerate(self._whole(planes)):
            spread = cv2.subtract(cv2.dilate(plane, around), cv2.erode(plane, around))
            every = self._by_tile(self._mean(spread, 2, 2, i))
            pairs = every[tiles // self.shape[1], tiles % self.shape[1]].astype(np.float32) / self.unit
            across = (pairs[:, :, ::2] + pairs[:, :, 1::2]) / 2
            down = (pairs[:, ::2] + pairs[:, 1::2]) / 2
            areas = [pairs, pairs, (across[:, ::2] + across[:, 1::2]) / 2]
            found += areas if i else [*areas, across.repeat(2, axis=1), down.repeat(2, axis=2)]
        return np.concatenate([area.reshape(len(tiles), -1) for area in found], axis=1)

    def _places(self, samples: np.ndarray) -> list[np.ndarray]:
        """Views of each plane's samples, [rows of tiles, columns of tiles, rows, columns]."""
        ends = np.cumsum([tall * wide for tall, wide in self.sides])
        return [
            samples[:, end - tall * wide : end].reshape(*self.shape, tall, wide)
            for end, (tall, wide) in zip(ends, self.sides)
        ]

    def _whole(self, planes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The planes, enlarged to whole tiles."""
        whole = []
        for plane, (tall, wide) in zip(planes, self.sides, strict=True):
            below, beside = self.shape[0] * tall - plane.shape[0], self.shape[1] * wide - plane.shape[1]
            whole.append(np.pad(plane, ((0, below), (0, beside)), "symmetric") if below or beside else plane)
        return whole

    def _by_tile(self, plane: np.ndarray) -> np.ndarray:
        """A view, [rows of tiles, columns of tiles, rows, columns]."""
        rows, columns = self.shape
        return plane.reshape(rows, plane.shape[0] // rows, columns, plane.shape[1] // columns).swapaxes(1, 2)

    def _mean(self, plane: np.ndarray, wide: int, tall: int, i: int) -> np.ndarray:
        """Means of areas side by side."""
        size = plane.shape[1] // wide, plane.shape[0] // tall
        room = self._room(plane, i, wide, tall, *size, 0)
        return cv2.resize(plane, size, dst=room, interpolation=cv2.INTER_AREA)

    def _overlapping(self, plane: np.ndarray, wide: int, tall: int, i: int) -> np.ndarray:
        """Means of areas that begin at each sample."""
        return cv2.blur(plane, (wide, tall), dst=self._room(plane, i, wide, tall, *plane.shape[::-1], 1), anchor=(0, 0))

    def _room(self, like: np.ndarray, *key: int) -> np.ndarray:
        """An array that is kept for this use. key: ends with its width and height, and what distinguishes it."""
        key = (like.itemsize, *key)
        if key not in self._areas:
            self._areas[key] = np.empty((key[-2], key[-3]), like.dtype)
        return self._areas[key]
