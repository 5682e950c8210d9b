"""How well the fields of a video's pictures fit each other: what is measured of each picture, in one pass.

A picture's even rows are its top field, its odd rows its bottom field. Two fields of one moment woven together make a
picture; two of different moments make a comb where something moved: rows that go up and down in turn. Each picture is
woven as it is, and each of its fields with the other kind's of the picture before; besides, each field is compared with
the one of its own kind before it. What these numbers mean together is cadence.py's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from vidsr.frames import Frame, PixelFormat

COLUMNS = 360  # looked at, at least, where there are as many; combs run along rows, so that the others show the same
LEAST_ROWS = 16
NOISE = 5  # levels of 255: how far rows must stand apart to be a comb, or fields to have moved
WINDOW = (8, 8)  # columns looked at, rows of a field: of the place at which a comb is worst; a mouth has a few of them
_STRONG = 8.0  # levels above NOISE that the samples of a WINDOW stand apart on average: a comb that nobody overlooks


@dataclass(frozen=True)
class Measures:
    """Of N pictures that follow each other, arrays [N].

    pts, durations: int64, time_base units, as decoded.
    own, tops_first, bottoms_first: float32, how bad the comb is at its worst place, 0 none, 1 strong; of the picture as
    it is; of its top field in the bottom field of the picture before, which is one field earlier where top fields come
    first and three where they do not; and of its bottom field in the top field of the picture before.
    top, bottom: float32, levels of 255, by how much the field differs from that of the picture before, on average.
    """

    pts: np.ndarray
    durations: np.ndarray
    own: np.ndarray
    tops_first: np.ndarray
    bottoms_first: np.ndarray
    top: np.ndarray
    bottom: np.ndarray

    def __len__(self) -> int:
        return len(self.pts)


def measure(frames: Iterable[Frame], format: PixelFormat) -> Measures:
    """Measure `frames`, which follow each other; their pictures are not kept."""
    found: list[tuple[float, ...]] = []
    times: list[tuple[int, int]] = []
    last: _Picture | None = None
    waiting: _Steps | None = None  # from the picture before `last` to `last`
    for frame in frames:
        times.append((frame.pts, frame.duration))
        now = _Picture(_luma(frame, format))
        if last is not None:
            steps = _Steps(last, now)
            found.append((_own(last, waiting, steps), *_found(waiting)))
            waiting = steps
        last = now
    if last is not None:
        found.append((_own(last, waiting, waiting) if waiting else 0.0, *_found(waiting)))
    columns = np.array(found, np.float32).reshape(-1, 5).T
    stamps = np.array(times, np.int64).reshape(-1, 2).T
    return Measures(stamps[0], stamps[1], *columns)


def _luma(frame: Frame, format: PixelFormat) -> Any:
    """[rows, columns] uint8: an even number of rows, some of the columns."""
    plane = frame.planes[0]
    rows, step = plane.shape[0] // 2 * 2, max(1, plane.shape[1] // COLUMNS)
    luma = np.ascontiguousarray(plane[:rows, ::step])
    return luma if format.bits == 8 else (luma >> (format.bits - 8)).astype(np.uint8)


class _Picture:
    """A picture's two fields, and of each pair of their neighbouring rows the darker and the lighter samples."""

    def __init__(self, luma: Any) -> None:
        self.top, self.bottom = np.ascontiguousarray(luma[0::2]), np.ascontiguousarray(luma[1::2])
        self.darker, self.lighter = [], []
        for field in (self.top, self.bottom):
            self.darker.append(cv2.min(field[:-1], field[1:]))
            self.lighter.append(cv2.max(field[:-1], field[1:]))


class _Steps:
    """From one picture to the next: where each field moved, and how the fields of both fit."""

    def __init__(self, before: _Picture, after: _Picture) -> None:
        top, bottom = cv2.absdiff(before.top, after.top), cv2.absdiff(before.bottom, after.bottom)
        self.top, self.bottom = (cv2.max(moved[:-1], moved[1:]) for moved in (top, bottom))
        moved = cv2.max(self.top, self.bottom)
        self.found = (
            _worst(cv2.min(_comb(after, before), moved)), _worst(cv2.min(_comb(before, after), moved)),
            cv2.mean(top)[0], cv2.mean(bottom)[0],
        )  # fmt: skip


def _found(steps: _Steps | None) -> tuple[float, ...]:
    return steps.found if steps else (0.0,) * 4


def _own(picture: _Picture, before: _Steps | None, after: _Steps) -> float:
    """The comb of a picture as it is. If its fields are of two moments, the earlier one's successor and the later one's
    predecessor differ from them wherever they differ from each other; fine drawing that only looks like a comb stays
    where it is."""
    before = before or after
    moved = cv2.max(cv2.min(before.bottom, after.top), cv2.min(before.top, after.bottom))
    return _worst(cv2.min(_comb(picture, picture), moved))


def _comb(tops: _Picture, bottoms: _Picture) -> Any:
    """By how many levels two rows of one field lie above the two of the other among them, or below.

    Of both fields the upper row may be the uppermost: of what moves up or down, only one of the two ways shows it.
    """
    (darker, _), (lighter, _) = tops.darker, tops.lighter
    (_, dark), (_, light) = bottoms.darker, bottoms.lighter
    comb = cv2.max(cv2.subtract(darker, light), cv2.subtract(dark, lighter))  # saturating: the wrong way round is 0
    below = cv2.max(cv2.subtract(darker[1:], light[:-1]), cv2.subtract(dark[:-1], lighter[1:]))
    comb[:-1] = cv2.max(comb[:-1], below)
    return comb


def _worst(comb: Any) -> float:
    above = cv2.subtract(comb, np.full(4, NOISE, np.float64))
    if not cv2.countNonZero(above):
        return 0.0
    return float(cv2.boxFilter(above, cv2.CV_32F, WINDOW, borderType=cv2.BORDER_CONSTANT).max()) / _STRONG
