"""The pictures that a result is of, where they are not simply the source's: woven anew, deinterlaced, dropped.

Decided once for the whole source (`weave`, from cadence.py's runs), kept in the plan, and applied wherever pictures are
read (`pictures`, in place of decode.decode): each depends on the pictures of its own fields and their neighbours alone,
so that it is the same wherever reading begins.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer

from vidsr.frames import Frame, SourceInfo, StreamInfo
from vidsr.report import Report
from vidsr.source.bwdif import Bwdif
from vidsr.source.cadence import LONE, PLAIN, THREE, TWO, VIDEO, Run
from vidsr.source.decode import decode
from vidsr.source.fields import Measures

Time = int | Fraction  # in the source's time_base; pictures may be shown between two of its units

# How a picture is made: the source's own; of two fields; of one field, with what is missing interpolated by bwdif.
AS_IT_IS, WOVEN, INTERPOLATED = range(3)
COMBED = 1.0  # of cadence.Run.comb: a film's picture that shows one all the same is interpolated
_EVEN = 2.5  # fields from one picture of a 3:2 cadence to the next
_LATE = 0.5  # fields by which that may be off what the fields say; beyond that it is anchored anew
_SUSPECT = 0.1  # of the fields: where as many are no whole pictures, combs of others are none of the drawing's
_GAP = 1.6  # usual durations: a longer one is no picture's
_FINEST = 30  # ticks that a picture lasts at least, for times between those of the source
_RATES = tuple(Fraction(*pair) for pair in ((24000, 1001), (25, 1), (30000, 1001), (50, 1), (60000, 1001)))
_COLUMNS = ("source", "how", "top", "bottom", "field", "pts", "durations")


@dataclass(frozen=True)
class Weaving:
    """Pictures in order of presentation; those it says nothing of are not shown.

    ticks: units of `pts` and `durations` in one of the source's time_base.
    source: int64 [N], pts of the source's pictures, in its own time_base, growing.
    how: int8 [M], AS_IT_IS to INTERPOLATED. top, bottom: int32 [M], which picture of the source the field is of, by its
    place in `source`. field: int8 [M], of what is interpolated: the field that is kept, 0 top, 1 bottom, and 2 more
    where bottom fields come first.
    pts, durations: int64 [M].
    """

    ticks: int
    source: np.ndarray
    how: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    field: np.ndarray
    pts: np.ndarray
    durations: np.ndarray

    def __len__(self) -> int:
        return len(self.pts)

    def within(self, start: Time | None, end: Time | None) -> range:
        """The numbers of the pictures shown with start <= pts < end; in the source's time_base; None: no limit."""
        first = 0 if start is None else int(np.searchsorted(self.pts, ceil(start * self.ticks)))
        last = len(self) if end is None else int(np.searchsorted(self.pts, ceil(end * self.ticks)))
        return range(first, max(first, last))

    def info(self, info: SourceInfo) -> SourceInfo:
        """`info` as if these were the pictures in the file."""
        video, step = info.video, self._usual()
        rate = video.rate if not step else _known(1 / (step * video.time_base / self.ticks))
        base = video.time_base / self.ticks
        return replace(info, video=replace(video, rate=rate, time_base=base, interlaced=False, remade=True))

    def _usual(self) -> Fraction | None:
        steps = np.diff(self.pts)
        return Fraction(int(self.pts[-1] - self.pts[0]), len(steps)) if len(steps) else None

    def as_json(self) -> dict[str, Any]:
        """For plan.json: what repeats itself takes little room."""
        return {"ticks": self.ticks, **{name: _packed(getattr(self, name)) for name in _COLUMNS}}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Weaving:
        """ValueError, KeyError or TypeError for what `as_json` did not give."""
        columns = {name: _unpacked(raw[name]) for name in _COLUMNS}
        return cls(int(raw["ticks"]), **columns)

    def combed(self) -> Weaving:
        """As many pictures at the same times, each the source's own that has its top field."""
        return replace(self, how=np.full_like(self.how, AS_IT_IS), bottom=self.top)

    def same(self, other: Weaving | None) -> bool:
        return other is not None and self.as_json() == other.as_json()


def _known(rate: Fraction) -> Fraction:
    """The rate in use that is within a thousandth, or one of small numbers."""
    return next((known for known in _RATES if abs(rate / known - 1) < 0.001), rate.limit_denominator(1001))


def _packed(values: np.ndarray) -> str:
    steps = np.diff(values.astype(np.int64), prepend=0)
    return base64.b64encode(zlib.compress(steps.astype("<i8").tobytes(), 9)).decode()


def _unpacked(text: str) -> np.ndarray:
    try:
        return np.cumsum(np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8"))
    except zlib.error as error:
        raise ValueError(str(error)) from error


# ---- deciding -------------------------------------------------------------------------------------------------------


def weave(found: Measures, runs: Sequence[Run], each_field: bool = False) -> Weaving | None:
    """The pictures that `runs` of the fields of `found` come to; None where they are the source's own.

    each_field: of video, a picture for each field, not for each other one.
    """
    if all(run.kind == PLAIN for run in runs):
        return None
    clock = _FieldClock(found)
    made: list[tuple[int, int, int, int, float]] = []  # how, top, bottom, field, when it is shown in fields
    suspect = sum(run.fields for run in runs if run.kind != PLAIN) > _SUSPECT * 2 * len(found)
    last: Run | None = None
    even = 0.0
    video = 0  # fields since video began
    for run in runs:
        video = video + 1 if run.kind == VIDEO else 0
        when = float(run.first)
        if run.kind in (TWO, THREE):
            steady = last is not None and last.kind in (TWO, THREE, LONE) and abs(even + _EVEN - when) <= _LATE
            even = even + _EVEN if steady else when
            when = even
        if run.kind == VIDEO:
            if each_field or video % 2:
                made.append((*_interpolated(run, run.first), when))
        elif run.kind != LONE:
            made.append((*_film(run, suspect), when))
        last = run
    if not made:
        return None
    how, top, bottom, field, shown = (np.array(column) for column in zip(*made))
    shown[0] = 0.0
    ticks = 1 if clock.usual >= _FINEST else -(-_FINEST // max(1, int(clock.usual)))
    pts = np.array([round(clock.time(x) * ticks) for x in shown], np.int64)
    end = round(clock.time(2 * len(found)) * ticks)
    durations = np.diff(pts, append=max(end, pts[-1] + 1))
    usual = clock.usual * ticks * 2
    durations = np.where(durations > usual * 2, round(usual / 2), durations)
    return Weaving(
        ticks, found.pts, how.astype(np.int8), top.astype(np.int32), bottom.astype(np.int32), field.astype(np.int8),
        pts, durations,
    )  # fmt: skip


def _film(run: Run, suspect: bool) -> tuple[int, int, int, int]:
    """(how, top, bottom, field) of a picture of two fields or three. suspect: the source's own may have combs, too."""
    first, second = run.pair
    if run.comb > COMBED and (run.kind != PLAIN or suspect):
        return _interpolated(run, first)
    top, bottom = (first, second) if _is_top(first, run.bottom_first) else (second, first)
    return (AS_IT_IS if top // 2 == bottom // 2 else WOVEN), top // 2, bottom // 2, 0


def _interpolated(run: Run, field: int) -> tuple[int, int, int, int]:
    kept = 0 if _is_top(field, run.bottom_first) else 1
    return INTERPOLATED, field // 2, field // 2, kept + 2 * run.bottom_first


def _is_top(field: int, bottom_first: bool) -> bool:
    return (field % 2 == 1) == bottom_first


class _FieldClock:
    """When fields are shown, in the source's time_base: halves of their pictures' time. usual: a picture's duration."""

    def __init__(self, found: Measures) -> None:
        steps = np.diff(found.pts)
        known = steps if len(steps) else found.durations[found.durations > 0]
        self.usual = float(np.median(known)) if len(known) else 1.0
        self._pts = found.pts
        own = np.append(steps, self.usual)
        self._durations = np.where(own > _GAP * self.usual, self.usual, own)

    def time(self, field: float) -> float:
        picture = min(int(field // 2), len(self._pts) - 1)
        return float(self._pts[picture] + (field / 2 - picture) * self._durations[picture])


# ---- applying -------------------------------------------------------------------------------------------------------


def pictures(
    path: Path, video: StreamInfo, start: Time | None, end: Time | None, seek: int | None, report: Report,
    on_gpu: bool = False, container: InputContainer | None = None, weaving: Weaving | None = None,
) -> Iterator[Frame]:  # fmt: skip
    """As `decode`, but the pictures of `weaving`, with its times; None: the source's own.

    A picture whose fields do not decode is left out.
    """
    if weaving is None:
        low, high = (None if time is None else ceil(time) for time in (start, end))
        yield from decode(path, video, low, high, seek, report, on_gpu, container)
        return
    wanted = weaving.within(start, end)
    if not wanted:
        return
    first, last = (int(place) for place in _needed(weaving, wanted))
    low, high = int(weaving.source[first]), int(weaving.source[last]) + 1
    frames = decode(path, video, low, high, seek, report, on_gpu, container)
    yield from _applied(weaving, wanted, frames, video)


def _needed(weaving: Weaving, wanted: range) -> tuple[int, int]:
    """The first and the last picture of the source that these depend on, by their places."""
    chosen = slice(wanted.start, wanted.stop)
    around = (weaving.how[chosen] == INTERPOLATED).astype(int)
    first = np.minimum(weaving.top[chosen], weaving.bottom[chosen]) - around
    last = np.maximum(weaving.top[chosen], weaving.bottom[chosen]) + around
    return max(0, int(first.min())), min(len(weaving.source) - 1, int(last.max()))


def _applied(weaving: Weaving, wanted: range, frames: Iterable[Frame], video: StreamInfo) -> Iterator[Frame]:
    places = {int(pts): place for place, pts in enumerate(weaving.source)}
    held: dict[int, Frame] = {}
    bwdif = Bwdif(video)
    todo = iter(wanted)
    number = next(todo, None)
    for frame in frames:
        place = places.get(frame.pts)
        if place is None:
            continue
        held[place] = frame
        while number is not None and _needed(weaving, range(number, number + 1))[1] <= place:
            yield from _picture(weaving, number, held, bwdif)
            number = next(todo, None)
        if number is None:
            return
        oldest = _needed(weaving, range(number, min(number + 3, wanted.stop)))[0]
        for old in [old for old in held if old < oldest]:
            del held[old]
    while number is not None:
        yield from _picture(weaving, number, held, bwdif)
        number = next(todo, None)


def _picture(weaving: Weaving, number: int, held: Mapping[int, Frame], bwdif: Bwdif) -> Iterator[Frame]:
    top, bottom = held.get(int(weaving.top[number])), held.get(int(weaving.bottom[number]))
    if top is None or bottom is None:
        return
    how, corrupt = int(weaving.how[number]), top.corrupt or bottom.corrupt
    if how == INTERPOLATED:
        kept, bottom_first = int(weaving.field[number]) % 2, int(weaving.field[number]) >= 2
        planes = bwdif(int(weaving.top[number]), held, kept, bottom_first, len(weaving.source))
    elif how == WOVEN:
        planes = tuple(_woven(*pair) for pair in zip(top.planes, bottom.planes))
    else:
        planes = top.planes
    yield Frame(planes, int(weaving.pts[number]), int(weaving.durations[number]), corrupt)


def _woven(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    plane = top.copy()
    plane[1::2] = bottom[1::2]
    return plane
