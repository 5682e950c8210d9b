"""When the pictures of a result are shown, against its source's."""

from __future__ import annotations

from array import array
from dataclasses import replace
from fractions import Fraction

from vidsr.container import Clock, read_clock
from vidsr.frames import SourceInfo, TimeRange, Window
from vidsr.proof.check import TIME_TOLERANCE, Check
from vidsr.report import Report
from vidsr.source.decode import decode
from vidsr.source.weaving import Weaving


def _in_span(pts: array[int], first: int, time_base: Fraction, span: TimeRange) -> array[int]:
    low, high = span.limits(first, time_base)
    return array("q", (t for t in pts if (low is None or t >= low) and (high is None or t < high)))


def check_times(
    before: SourceInfo, after: SourceInfo, span: TimeRange, weaving: Weaving | None = None
) -> tuple[list[Check], Clock, Clock, Window]:
    """Every presentation time of the video; frames that do not decode in the source may be missing.

    weaving: the pictures that the result is of. Gives the clocks of the source's part and of the result, too, and which
    part that is. The times of the first clock are those of `weaving`, its keyframes the source's, in its time_base.
    """
    source, base = read_clock(before.path, before.video), before.video.time_base
    first = source.pts[0] if source.pts else 0
    result = read_clock(after.path, after.video)
    note = ""
    if weaving is None:
        source = replace(source, pts=_in_span(source.pts, first, base, span))
    else:
        note = f", made of the fields of {len(weaving.source)}; each --deinterlace makes others"
        wanted = weaving.within(*span.limits(first, base))
        shown = array("q", map(int, weaving.pts[wanted.start : wanted.stop]))
        source = replace(source, pts=shown, time_base=base / weaving.ticks)
    if weaving is None and len(source.pts) != len(result.pts):
        coded = len(source.pts)
        decoded = sorted(f.pts for f in decode(before.path, before.video, None, None, None, Report()))
        source = replace(source, pts=_in_span(array("q", decoded), first, base, span))
        note = f", {coded - len(source.pts)} coded pictures of the source do not decode"
    shift = source.pts[0] if span.start and source.pts else 0
    both = range(min(len(source.pts), len(result.pts)))
    worst = max((abs(source.seconds(i, shift) - result.seconds(i, 0)) for i in both), default=0.0)
    checks = [
        Check("frame count", len(source.pts) == len(result.pts), f"{len(source.pts)} -> {len(result.pts)}{note}"),
        Check("timestamps", worst <= TIME_TOLERANCE, f"largest difference {worst * 1000:.2f} ms"),
    ]
    end = span.limits(first, base)[1]
    window = Window(shift * source.time_base if span.start else None, None if end is None else end * base)
    return checks, source, result, window
