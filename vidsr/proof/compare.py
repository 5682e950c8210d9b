"""Pictures of a result, scaled back down, against those of its source."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from math import log10
from typing import Any

import cv2
import numpy as np
from av.container import InputContainer

from vidsr.container import Clock, open_input
from vidsr.frames import Frame, PixelFormat, SourceInfo
from vidsr.report import Report
from vidsr.source.decode import decode

PICTURES = 24
DECODED_WHOLE = 300  # frames
BLOCK = 16


@dataclass(frozen=True)
class Comparison:
    """What `compared` pictures show.

    elsewhere: of the result's pictures, as far as they were looked at, how many are not decoded at their times.
    psnr, worst: of luma, dB, over all of them and of the worst. part: over those of that part of a source whose
    pictures change which is worst, see StreamInfo.parts.
    shift: how far the mean of each plane moves, levels of 255: absolute, over squares of about BLOCK samples, so that
    colours that move apart do not cancel out while new detail does.
    """

    compared: int
    psnr: float
    worst: float
    part: float
    shift: tuple[float, ...]
    elsewhere: int = 0


def compare_pictures(before: SourceInfo, after: SourceInfo, old: Clock, new: Clock) -> Comparison:
    """Decode the same pictures of all parts of both files, reduce the result's by area, compare plane by plane.

    old, new: when the pictures of the source and the result are shown, the i-th of one being the i-th of the other.
    """
    total = np.zeros(3)
    worst, squared, compared, elsewhere = 99.0, 0.0, 0, 0
    starts = [part.start for part in before.video.parts]
    errors: dict[int, list[float]] = {}
    for wanted, small, large in _pairs(before, after, old, new):
        if wanted != large.pts:
            elsewhere += 1
            continue
        a = _planes8(small, before.video.format)
        b = _planes8(large, after.video.format, [plane.shape for plane in a])
        total[: len(a)] += [moved(x, y) for x, y in zip(a, b)]
        error = float(((a[0] - b[0]) ** 2).mean())
        errors.setdefault(bisect_right(starts, small.pts), []).append(error)
        squared, compared, worst = squared + error, compared + 1, min(worst, psnr(error))
    shift = tuple(float(value) for value in total / max(1, compared))
    part = min((psnr(sum(found) / len(found)) for found in errors.values()), default=99.0)
    return Comparison(compared, psnr(squared / max(1, compared)), worst, part, shift, elsewhere)


def _pairs(before: SourceInfo, after: SourceInfo, old: Clock, new: Clock) -> Iterator[tuple[int, Frame, Frame]]:
    """The same pictures of both files, each with when the result's has to be shown.

    Short files are decoded whole; of long ones a few pictures from each of some keyframes of the result on, so that a
    proof takes seconds, not as long as playing the file.
    """
    if len(new.pts) <= DECODED_WHOLE or not before.video.monotonic or len(old.pts) != len(new.pts):
        step = max(1, len(new.pts) // PICTURES)
        limits = (old.pts[0], old.pts[-1] + 1) if old.pts and before.video.monotonic else (None, None)
        both = zip(new.pts, _read(before, *limits), _read(after))
        yield from (pair for number, pair in enumerate(both) if number % step == 0)
        return
    rank = {pts: index for index, pts in enumerate(new.pts)}
    keys = [key for key in new.keyframes if key in rank]
    with open_input(before.path) as source, open_input(after.path) as result:
        chosen = set(keys[:: max(1, len(keys) // (PICTURES // 2))])
        for part in before.video.parts:  # and the first keyframe in each, as far as one is there
            chosen.add(next((key for key in keys if old.pts[rank[key]] >= part.start), keys[-1]))
        for key in sorted(chosen):
            # The keyframe itself and one that is predicted from it.
            start = old.pts[rank[key]]
            earlier = [k for k in old.keyframes if k <= start]
            small = _read(before, start, None, earlier[-2] if len(earlier) > 1 else None, source)
            large = _read(after, key, None, key, result)
            with closing(small), closing(large):  # type: ignore[type-var]
                yield from islice(zip(new.pts[rank[key] :], small, large), 0, 4, 3)


def _read(
    info: SourceInfo, start: int | None = None, end: int | None = None, seek: int | None = None,
    container: InputContainer | None = None,
) -> Iterator[Frame]:  # fmt: skip
    return decode(info.path, info.video, start, end, seek, Report(), container=container)


def moved(a: Any, b: Any) -> float:
    """Mean absolute difference of the means of squares of about BLOCK samples."""
    size = [max(1, length // BLOCK) for length in reversed(a.shape[:2])]
    return float(np.abs(cv2.resize(b - a, size, interpolation=cv2.INTER_AREA)).mean())


def psnr(mean_squared_error: float) -> float:
    return 99.0 if mean_squared_error == 0 else min(99.0, 10 * log10(255**2 / mean_squared_error))


def _planes8(frame: Frame, format: PixelFormat, shapes: list[Any] | None = None) -> list[np.ndarray]:
    """Planes as float32 in levels of 255, reduced by area to `shapes` (rows, columns) where given."""
    planes = []
    for number, plane in enumerate(frame.planes):
        levels: Any = plane.astype(np.float32) * np.float32(1 / (1 << (format.bits - 8)))
        if shapes is not None and number < len(shapes) and levels.shape != shapes[number]:
            rows, columns = shapes[number]
            levels = cv2.resize(levels, (columns, rows), interpolation=cv2.INTER_AREA)
        planes.append(levels)
    return planes
