"""One timeline for a file whose times restart: recordings joined end to end, a DVD's cells, a broadcaster's new clock.

Between two restarts lies a piece. Each piece is moved by one shift for all of its streams, so that sound and picture
stay together, by the largest that any of them needs not to go back: its end so far, less its first time in the piece.
This is the rule, over packet headers; container.py reads those, and applies it to packets.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from heapq import merge
from math import ceil
from operator import itemgetter

import numpy as np

RESET = 3600.0  # seconds forward: no gap any more but another clock
REORDERED_PACKETS = 64
REORDERED = 2.0  # seconds that pictures may go back, being decoded in another order than shown
FAR = 1.0  # seconds; what goes back less needs no second look
LOOKED_AT = 5  # packets behind one that jumps: where they jump back, its time is an error, not another clock
JOINS_WITHIN = 500  # packets of a stream, from another's restart to its own
LEAST_GAP = 0.5  # seconds
MOST_TOLD = 5  # of a kind
# FFmpeg's names of containers whose every packet brings its own time. Of the others MKV is so when files are appended.
RESTARTING = {"mpegts", "mpeg", "flv", "live_flv"}


def _longs() -> array[int]:
    return array("q")


@dataclass
class Headers:
    """One stream's packets in file order; those without a time are left out, and counted in `untimed`.

    order: of each among all streams' packets. pos: its place in the file, bytes; where that is not known (own: 0) of
    the one before it. pts, dts: either in place of the other where one is missing; duration: 0 where unknown;
    time_base units. keys: 1 for keyframes.
    """

    stream: int
    kind: str
    time_base: Fraction
    order: array[int] = field(default_factory=_longs)
    pos: array[int] = field(default_factory=_longs)
    own: array[int] = field(default_factory=_longs)
    pts: array[int] = field(default_factory=_longs)
    dts: array[int] = field(default_factory=_longs)
    duration: array[int] = field(default_factory=_longs)
    keys: array[int] = field(default_factory=_longs)
    untimed: int = 0

    def add(self, order: int, pos: int, own: bool, pts: int, dts: int, duration: int, key: bool) -> None:
        self.order.append(order)
        self.pos.append(pos)
        self.own.append(own)
        self.pts.append(pts)
        self.dts.append(dts)
        self.duration.append(duration)
        self.keys.append(key)

    def usual(self) -> int:
        """The usual length of a packet, at least one unit."""
        known = np.asarray(self.duration)
        known = known[known > 0] if (known > 0).any() else np.abs(np.diff(np.sort(np.asarray(self.pts))))
        return max(1, int(np.median(known))) if len(known) else 1


@dataclass(frozen=True)
class Piece:
    """What lies behind a restart.

    begin: its place in the file, bytes. others: (stream, place) of those that come to it elsewhere, None: never.
    shift: seconds to add to the times of its packets. at: seconds from the first picture, on the timeline. jump: of its
    own times, seconds forward.
    """

    begin: int
    others: tuple[tuple[int, int | None], ...]
    shift: Fraction
    at: float
    jump: float

    def begins(self, stream: int) -> int | None:
        return next((place for other, place in self.others if other == stream), self.begin)


@dataclass(frozen=True)
class Gap:
    """Pictures that are missing. at: seconds from the first picture; length: seconds."""

    at: float
    length: float


@dataclass(frozen=True)
class Timeline:
    """The pieces of a file behind its first restart, and what is before where that is moved, too; none: its times are
    good as they are.

    keyframes: (pts on the timeline, place in the file, bytes) of those by which the video of pieces can be entered.
    start, end: seconds at which everything begins and ends; 0 where the file was not read for this.
    """

    pieces: tuple[Piece, ...] = ()
    keyframes: tuple[tuple[int, int], ...] = ()
    start: float = 0.0
    end: float = 0.0

    def shifts(self, stream: int, time_base: Fraction) -> tuple[list[int], list[int]]:
        """Where in the file the pieces of `stream` begin, the first one at 0, and what to add to the times of each,
        time_base units."""
        begins, shifts = [0], [0]
        for piece in self.pieces:
            begin = piece.begins(stream)
            if begin is not None:
                begins.append(begin)
                shifts.append(round(piece.shift / time_base))
        return begins, shifts

    def place(self, pts: int) -> int | None:
        """Where in the file the last keyframe up to `pts` lies; None where there is none."""
        number = bisect_right(self.keyframes, (pts, 1 << 62))
        return self.keyframes[number - 1][1] if number else None


@dataclass
class _Clock:
    """A stream while its restarts are looked for.

    strict: its decoding times are the container's. top: the latest time so far. join: the packet by which it comes to
    the piece that another stream has begun. errors: packets with times that only they have.
    """

    headers: Headers
    video: bool
    strict: bool
    top: int | None = None
    join: int | None = None
    errors: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.usual = self.headers.usual()
        self._unit = float(self.headers.time_base)

    def seconds(self, ticks: int) -> float:
        return ticks * self._unit

    def first(self, a: int, b: int) -> Fraction:
        """The earliest time of the packets a to b, seconds."""
        near = range(a, min(b, a + REORDERED_PACKETS))
        times = [self.headers.pts[i] for i in near if i not in self.errors]
        return (min(times) if times else self.headers.pts[a]) * self.headers.time_base

    def end(self, a: int, b: int) -> Fraction:
        """When the last of the packets a to b ends, seconds."""
        held = (i for i in range(a, b) if i not in self.errors)
        ends = (self.headers.pts[i] + (self.headers.duration[i] or self.usual) for i in held)
        return max(ends, default=self.headers.pts[a]) * self.headers.time_base

    def goes_back(self, i: int, top: int) -> bool:
        """Whether packet i, behind others up to `top`, is of another clock: no reordering and no unsteady clock."""
        headers = self.headers
        back = top - headers.pts[i]
        if not self.video:
            return back > 0 and 2 * back >= self.usual and not self.is_error(i, top)
        decoded = headers.dts[i - 1] - headers.dts[i] if self.strict and i else 0
        if headers.keys[i]:
            # Whatever is decoded before a keyframe is shown before it. Two fields of one picture may have one time.
            again = back > 0 or (back == 0 and headers.pts[i - 1] != headers.pts[i])
            again = again and (decoded >= 0 or not self.strict)
        else:
            again = self.seconds(back) > REORDERED or (back > 0 and 4 * self.seconds(decoded) > 1)
        return again and not self.is_error(i, top)

    def is_reset(self, i: int, latest: float) -> bool:
        """Whether packet i is so far behind everything up to the second `latest` that this is no gap."""
        time = self.headers.pts[i]
        if self.seconds(time) - latest <= RESET or self.top is None:
            return False
        return not self.is_error(i, self.top)

    def is_error(self, i: int, top: int) -> bool:
        """Whether only a few packets have such times, and those behind them go on as those before."""
        jump = abs(self.headers.pts[i] - top)
        if self.seconds(jump) <= FAR or jump <= 2 * LOOKED_AT * self.usual:
            return False
        return any(2 * abs(t - top) < jump for t in self.headers.pts[i + 1 : i + 1 + LOOKED_AT])

    def joins(self, after: int, time: float) -> int | None:
        """The first packet behind the one of that order whose time goes with `time`, the second at which another stream
        has begun a piece; None where none does."""
        first = bisect_right(self.headers.order, after)
        last = self.top
        for i in range(first, min(first + JOINS_WITHIN, len(self.headers.pts))):
            now = self.headers.pts[i]
            if last is None or abs(self.seconds(last) - time) <= FAR or self.goes_back(i, last):
                return i
            if abs(self.seconds(now) - time) < abs(self.seconds(now - last)):
                return i
            last = max(last, now)
        return None


@dataclass
class _Cut:
    """A restart. first: the packet of each stream that is the first of the piece, None: it has none there. pos: where
    in the file the piece begins. jump: seconds."""

    first: dict[int, int | None]
    pos: int = 0
    jump: float = 0.0


def make_timeline(streams: Sequence[Headers], video: int, reordered_dts: bool = False) -> Timeline:
    """The timeline of a file with these `streams`.

    video: the stream whose time_base shifts are counted in. It and the sound tell the time, what is sparse does not.
    reordered_dts: the container keeps no decoding times, and those made up go back behind a restart (MKV).
    """
    clocks = [_Clock(h, h.stream == video, not reordered_dts) for h in streams if h.pts and _tells(h, video)]
    picture = next((clock for clock in clocks if clock.video), None)
    if picture is None:
        return Timeline()
    unit = picture.headers.time_base
    cuts = _cuts(clocks)
    ends: dict[int, Fraction] = {}
    pieces: list[Piece] = []
    start, origin = Fraction(0), picture.first(*_held(cuts, 0, picture.headers))
    for number, cut in enumerate(cuts):
        held = [(clock, *_held(cuts, number, clock.headers)) for clock in clocks]
        held = [(clock, a, b) for clock, a, b in held if b > a]
        firsts = {clock.headers.stream: clock.first(a, b) for clock, a, b in held}
        # Before zero lies what FFmpeg makes of a clock that runs over. In an MKV it is a codec's delay, and stays.
        needed = [-first for first in firsts.values() if first < (-FAR if reordered_dts else 0)]
        if number:
            needed = [ends[stream] - first for stream, first in firsts.items() if stream in ends]
        shift = ceil(max(needed, default=Fraction(0)) / unit) * unit
        if number or shift:
            at = firsts.get(video, min(firsts.values())) + shift - origin
            pieces.append(Piece(cut.pos, _elsewhere(cut, clocks) if number else (), shift, float(at), cut.jump))
        if not number:
            start = min(firsts.values()) + shift
        for clock, a, b in held:
            ends[clock.headers.stream] = max(ends.get(clock.headers.stream, clock.end(a, b)), clock.end(a, b) + shift)
    timeline = Timeline(tuple(pieces), (), float(start), float(max(ends.values())))
    if not pieces:
        return timeline
    h = picture.headers
    times = on_timeline(h, timeline)
    entries = [(int(times[i]), h.pos[i]) for i in range(len(times)) if h.keys[i] and h.own[i]]
    return replace(timeline, keyframes=tuple(sorted(entries)))


def _tells(headers: Headers, video: int) -> bool:
    return headers.stream == video or headers.kind == "audio"


def _elsewhere(cut: _Cut, clocks: Sequence[_Clock]) -> tuple[tuple[int, int | None], ...]:
    """The streams that come to a piece elsewhere in the file than it begins."""
    found = []
    for clock in clocks:
        first = cut.first[clock.headers.stream]
        place = None if first is None else clock.headers.pos[first]
        if place != cut.pos:
            found.append((clock.headers.stream, place))
    return tuple(found)


def _cuts(clocks: list[_Clock]) -> list[_Cut]:
    """Where the file begins and where its times restart, in file order."""
    cuts = [_Cut({clock.headers.stream: 0 for clock in clocks})]
    latest = -np.inf  # of all streams in this piece, seconds
    for order, clock, i in merge(*(_in_order(clock) for clock in clocks), key=itemgetter(0)):
        time = clock.headers.pts[i]
        if clock.join is not None:
            if i >= clock.join:
                clock.join, clock.top = None, time
        elif clock.top is not None and (clock.goes_back(i, clock.top) or clock.is_reset(i, latest)):
            second = clock.seconds(time)
            cut = _Cut({clock.headers.stream: i}, clock.headers.pos[i], second - clock.seconds(clock.top))
            for other in clocks:
                if other is not clock:
                    other.join = cut.first[other.headers.stream] = other.joins(order, second)
                    if other.join is not None:
                        cut.pos = min(cut.pos, other.headers.pos[other.join])
            cuts.append(cut)
            clock.top, latest = time, second
            continue
        elif clock.top is not None and clock.is_error(i, clock.top):
            clock.errors.add(i)
            continue
        clock.top = time if clock.top is None else max(clock.top, time)
        if clock.join is None:
            latest = max(latest, clock.seconds(clock.top))
    return cuts


def _in_order(clock: _Clock) -> Iterator[tuple[int, _Clock, int]]:
    return ((order, clock, i) for i, order in enumerate(clock.headers.order))


def _held(cuts: Sequence[_Cut], number: int, headers: Headers) -> tuple[int, int]:
    """Which packets of a stream are in a piece: from, to."""
    first = cuts[number].first[headers.stream]
    if first is None:
        return 0, 0
    behind = (cut.first[headers.stream] for cut in cuts[number + 1 :])
    return first, next((i for i in behind if i is not None), len(headers.pts))


def on_timeline(headers: Headers, timeline: Timeline) -> np.ndarray:
    """The pts of a stream's packets on the timeline, in file order, time_base units."""
    begins, shifts = timeline.shifts(headers.stream, headers.time_base)
    piece = np.searchsorted(np.asarray(begins), np.asarray(headers.pos), side="right") - 1
    return np.array(headers.pts, np.int64) + np.asarray(shifts, np.int64)[piece]


def find_gaps(streams: Sequence[Headers], video: int, timeline: Timeline, own_times: bool) -> tuple[Gap, ...]:
    """Where pictures are missing, as far as their times tell.

    A picture that is held is no gap: its own length covers it, or the sound goes on meanwhile. own_times: of a
    container like MPEG-TS, in which pictures come at a steady rate, and sound that goes on says nothing.
    """
    headers = next(h for h in streams if h.stream == video)
    times = on_timeline(headers, timeline)
    if len(times) < 3:
        return ()
    order = np.argsort(times, kind="stable")
    times, lengths = times[order], np.asarray(headers.duration)[order]
    steps = np.diff(times)
    usual = max(1, int(np.median(steps)))
    long = np.flatnonzero((steps * float(headers.time_base) > LEAST_GAP) & (steps > 5 * usual))
    steady = (np.abs(steps - usual) * 2 <= usual).mean() > 0.9 and len(long) <= 1 + len(steps) // 100
    sounds = [(np.sort(on_timeline(h, timeline)), h) for h in streams if h.kind == "audio" and len(h.pts) > 1]
    found = []
    for i in long:
        begin, end = times[i] + usual, times[i + 1]
        if 10 * lengths[i] >= 9 * steps[i]:
            continue
        if not own_times and (not steady if not sounds else any(_goes_on(*s, begin, end, headers) for s in sounds)):
            continue
        unit = float(headers.time_base)
        found.append(Gap(float(begin - times[0]) * unit, float(end - begin) * unit))
    return tuple(found)


def _goes_on(times: np.ndarray, sound: Headers, begin: int, end: int, video: Headers) -> bool:
    """Whether there is sound in more than half of begin to end (units of the video)."""
    a, b = (int(t * video.time_base / sound.time_base) for t in (int(begin), int(end)))
    inside = np.searchsorted(times, b) - np.searchsorted(times, a)
    return bool(2 * int(inside) * sound.usual() > b - a)


def told_pieces(timeline: Timeline) -> list[str]:
    """What there is to say of a file's restarts, a phrase each, of the first few."""
    lines = []
    for piece in timeline.pieces[:MOST_TOLD]:
        if not piece.jump:
            lines.append(f"its times begin {_length(float(piece.shift))} before zero, and are counted from there")
        elif piece.jump < 0 or piece.jump > 12 * 3600:  # less than the time at which a clock of 33 bits runs over
            lines.append(f"its times restart at {_clock(piece.at)}: what follows is joined to what was before")
        else:
            lines.append(f"its times jump on by {_length(piece.jump)} at {_clock(piece.at)}, which is taken out")
    if len(timeline.pieces) > MOST_TOLD:
        lines.append(f"its times restart in {len(timeline.pieces)} places in all, and everything is joined")
    return lines


def told_gaps(gaps: Sequence[Gap]) -> list[str]:
    """What there is to say of gaps, a phrase each, of the first few."""
    lines = [f"{_length(gap.length)} of the picture are missing at {_clock(gap.at)}" for gap in gaps[:MOST_TOLD]]
    if len(gaps) > MOST_TOLD:
        missing = sum(gap.length for gap in gaps)
        lines.append(f"{_length(missing)} of the picture are missing in {len(gaps)} places in all")
    return lines


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else _clock(seconds)
