"""Pictures of a result, scaled back down, against those of its source."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import ceil, log10
from typing import Any

import cv2
import numpy as np
from av.container import InputContainer

from vidsr.container import Clock, open_input
from vidsr.frames import Frame, PixelFormat, SourceInfo
from vidsr.proof.alpha import alpha_error
from vidsr.proof.place import Place
from vidsr.report import Report
from vidsr.source.weaving import Weaving, pictures

PICTURES = 24
DECODED_WHOLE = 300  # frames
BLOCK = 16
COMB = 12  # levels of 255
_BEFORE = 4  # pictures


@dataclass(frozen=True)
class Comparison:
    """What `compared` pictures show.

    elsewhere: of the result's pictures, as far as they were looked at, how many are not decoded at their times.
    psnr, worst: of luma, dB, over all of them and of the worst. part: over those of that part of a source whose
    pictures change which is worst, see StreamInfo.parts.
    alpha: the same as psnr, of the alpha planes, where both have one.
    shift: how far the mean of each plane moves, levels of 255: absolute, over squares of about BLOCK samples, so that
    colours that move apart do not cancel out while new detail does.
    combs: levels of 255, how far luma is from that of the expected pictures and from that of the source's own, on
    average where these differ by more than COMB; None where they nowhere do. off: see place.Place.
    """

    compared: int
    psnr: float
    alpha: float | None
    worst: float
    part: float
    shift: tuple[float, ...]
    elsewhere: int = 0
    combs: tuple[float, float] | None = None
    off: tuple[int, int] = (0, 0)


def compare_pictures(
    before: SourceInfo, after: SourceInfo, old: Clock, new: Clock, weaving: Weaving | None = None
) -> Comparison:
    """Decode the same pictures of all parts of both files, reduce the result's by area, compare plane by plane.

    old, new: when the pictures of the source, or of `weaving`, and the result are shown, the i-th of one being the i-th
    of the other; see `check_times`.
    """
    total, combs = np.zeros(3), np.zeros(3)
    worst, squared, compared, elsewhere = 99.0, 0.0, 0, 0
    starts, place = [part.start for part in before.video.parts], Place()
    errors: dict[int, list[float]] = {}
    alphas: list[float] = []
    for wanted, small, combed, large in _quadruples(before, after, old, new, weaving):
        if wanted != large.pts:
            elsewhere += 1
            continue
        a = _planes8(small, before.video.format)
        b = _planes8(large, after.video.format, [plane.shape for plane in a])
        total[: len(a)] += [moved(x, y) for x, y in zip(a, b)]
        error = float(((a[0] - b[0]) ** 2).mean())
        alphas += alpha_error(small, large, before.video.format, after.video.format)
        place.add(a[0], b[0])
        if combed is not None:
            raw = _planes8(combed, before.video.format)[0]
            apart = np.abs(raw - a[0]) > COMB
            combs += [np.abs(a[0] - b[0])[apart].sum(), np.abs(raw - b[0])[apart].sum(), apart.sum()]
        errors.setdefault(bisect_right(starts, small.pts), []).append(error)
        squared, compared, worst = squared + error, compared + 1, min(worst, psnr(error))
    shift = tuple(float(value) for value in total / max(1, compared))
    part = min((psnr(sum(found) / len(found)) for found in errors.values()), default=99.0)
    alpha = psnr(sum(alphas) / len(alphas)) if alphas else None
    near = (combs[0] / combs[2], combs[1] / combs[2]) if combs[2] else None
    mean = psnr(squared / max(1, compared))
    return Comparison(compared, mean, alpha, worst, part, shift, elsewhere, near, place.off)


def _quadruples(
    before: SourceInfo, after: SourceInfo, old: Clock, new: Clock, weaving: Weaving | None
) -> Iterator[tuple[int, Frame, Frame | None, Frame]]:
    """When a picture of the result has to be shown; the source's, or that of `weaving`, and then what the source has in
    its place itself; the result's.

    Short files are decoded whole; of long ones a few pictures from each of some keyframes of the result on, so that a
    proof takes seconds, not as long as playing the file.
    """
    ticks = weaving.ticks if weaving else 1
    if len(new.pts) <= DECODED_WHOLE or not before.video.monotonic or len(old.pts) != len(new.pts):
        step = max(1, len(new.pts) // PICTURES)
        start, end = (Fraction(old.pts[0], ticks), Fraction(old.pts[-1] + 1, ticks)) if old.pts else (None, None)
        found = zip(new.pts, *_source(before, weaving, start, end), _read(after))
        yield from (each for number, each in enumerate(found) if number % step == 0)
        return
    rank = {pts: index for index, pts in enumerate(new.pts)}
    keys = [key for key in new.keyframes if key in rank]
    # What a picture is made of may lie a few pictures before it.
    earlier_by = 0 if weaving is None else ceil(_BEFORE / before.video.rate / before.video.time_base)
    with open_input(before.path) as source, open_input(after.path) as result:
        chosen = set(keys[:: max(1, len(keys) // (PICTURES // 2))])
        for part in before.video.parts:  # and the first keyframe in each, as far as one is there
            chosen.add(next((key for key in keys if old.pts[rank[key]] >= part.start), keys[-1]))
        for key in sorted(chosen):
            # The keyframe itself and one that is predicted from it.
            start = Fraction(old.pts[rank[key]], ticks)
            earlier = [k for k in old.keyframes if k + earlier_by <= start]
            seek = earlier[-2] if len(earlier) > 1 else None
            small, combed = _source(before, weaving, start, None, seek, source)
            large = _read(after, key, None, key, result)
            with closing(small), closing(combed), closing(large):
                yield from islice(zip(new.pts[rank[key] :], small, combed, large), 0, 4, 3)


def _source(
    info: SourceInfo, weaving: Weaving | None, start: Fraction | None, end: Fraction | None, seek: int | None = None,
    container: InputContainer | None = None,
) -> tuple[Generator[Frame], Generator[Frame | None]]:  # fmt: skip
    """The source's pictures, or those of `weaving`, and its own in their places; None where nothing is woven."""

    def nothing() -> Generator[Frame | None]:
        while True:
            yield None

    small = _read(info, start, end, seek, container, weaving)
    # By itself: two that read one file in turn would lead each other astray.
    return small, nothing() if weaving is None else _read(info, start, end, seek, None, weaving.combed())


def _read(
    info: SourceInfo, start: Fraction | int | None = None, end: Fraction | int | None = None, seek: int | None = None,
    container: InputContainer | None = None, weaving: Weaving | None = None,
) -> Generator[Frame]:  # fmt: skip
    yield from pictures(info.path, info.video, start, end, seek, Report(), False, container, weaving)


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
