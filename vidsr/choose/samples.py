"""Short stretches from all over the part of a source that is to be run: to look at, or to measure with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from vidsr.container import open_input
from vidsr.errors import SourceError
from vidsr.frames import SourceInfo, TimeRange
from vidsr.report import Report
from vidsr.run.segments import Segment, one_segment
from vidsr.source.decode import decode

LEAD = 10.0  # seconds of the source that are decoded at most to get to a place
ASSUMED = 10.0  # seconds of a part whose length the container does not tell


@dataclass(frozen=True)
class Part:
    """What will be run of a source, as far as its header and its first picture tell.

    begin: pts; end: pts behind it, frames: about how many it has; both None where the container does not tell.
    """

    begin: int
    end: int | None
    frames: int | None


def part_of(info: SourceInfo, span: TimeRange) -> Part:
    """The part `span` of a source."""
    video = info.video
    first = _first_pictures(info, [None])[0] or 0
    low, high = span.limits(first, video.time_base)
    begin = first if low is None else low
    if info.duration is not None:
        # Matroska's header tells when it ends, others how long it is.
        before = float(first * video.time_base) if "matroska" in info.container else 0.0
        length = info.duration - before if info.duration > before else info.duration
        last = first + round(length / video.time_base)
        high = last if high is None else min(high, last)
    frames = None if high is None else max(1, round((high - begin) * video.time_base * video.rate))
    return Part(begin, high, frames)


def stretches(info: SourceInfo, span: TimeRange, shares: Sequence[float], frames: int) -> list[Segment]:
    """Stretches of about `frames` frames within `span`, none twice, as segments for `decode` and the stages.

    shares: of the part's length, where they lie: each begins at the keyframe before, or there if that is outside the
    part or another's. Places that cannot be found are left out; the part's beginning remains in any case.
    """
    video, part = info.video, part_of(info, span)
    step = round(frames / video.rate / video.time_base)
    length = round(ASSUMED / video.time_base) if part.end is None else part.end - part.begin
    found: dict[int, Segment] = {}
    places = [part.begin + int(length * share) for share in shares]
    for at, landed in zip(places, _first_pictures(info, places)):
        if landed is None or landed > at:  # nothing can be read there, or the container's index is wrong
            continue
        start = landed if landed >= part.begin and landed not in found else at
        if start not in found and (start - landed) * video.time_base <= LEAD:
            end = start + step if part.end is None else min(start + step, max(part.end, start + 1))
            found[start] = Segment(len(found), start, end, at, frames)
    whole = replace(one_segment(info, span), end=part.begin + step, packets=frames)
    return list(found.values()) or [whole]


def _first_pictures(info: SourceInfo, places: Sequence[int | None]) -> list[int | None]:
    """The pts of the first picture that decodes from each place on; None where none does."""
    found: list[int | None] = []
    with open_input(info.path) as container:
        for place in places:
            frames = decode(info.path, info.video, None, None, place, Report(), container=container)
            try:
                with closing(frames):  # type: ignore[type-var]
                    found.append(next((frame.pts for frame in frames), None))
            except SourceError:  # the picture changes its size there
                found.append(None)
    return found
