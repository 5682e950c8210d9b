"""What a source's fields are, and what its result's pictures are to be made of: looked at once, all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from vidsr.choose.model import unfinished
from vidsr.choose.options import Deinterlace
from vidsr.choose.samples import part_of, stretches
from vidsr.container import open_input
from vidsr.errors import SourceError
from vidsr.frames import SourceInfo, TimeRange
from vidsr.report import Report
from vidsr.run.segments import Plan, one_segment
from vidsr.source.cadence import LONE, PLAIN, SHIFTED, THREE, TWO, VIDEO, Run, find_runs
from vidsr.source.decode import decode
from vidsr.source.fields import LEAST_ROWS, Measures, measure
from vidsr.source.weaving import Weaving, weave

SMALL = 576  # rows; of a larger video that calls itself progressive, PLACES are looked at before all of it is
MOST_RATE = 31  # pictures a second: more are no pairs of fields
PLACES, PICTURES = 48, 8
COMB = 0.3  # of fields.Measures: two such pictures in one place, and all of it is looked at
MARGIN = 2.0  # seconds beside a part that are looked at with it
LONG = 1500  # pictures: looking at so many takes some seconds, and is told
CONVERTED_RATE = 25  # pictures a second: of PAL, for which others' fields were often blended
HARDER = 2  # times as much video costs where telecine is asked for
_TOGETHER = 2.0  # seconds: stretches of video that are no further apart are told as one
_TOLD = 3  # stretches, by their times


def choose_weaving(
    info: SourceInfo, span: TimeRange, wanted: Deinterlace | None, report: Report,
    say: Callable[[str], None] | None = None, output: Path | None = None,
) -> Weaving | None:  # fmt: skip
    """The pictures of `info`'s result, None: the source's own; what was found and will be done is told in one line.

    output: of a run that may have been begun: its plan says what was found then.
    """
    name, video = info.path.name, info.video
    if wanted == "off":
        if video.interlaced:
            report.warn(f"{name}: calls itself interlaced; its combs stay as they are, with --deinterlace off")
        return None
    if not video.monotonic or video.parts:
        why = "its pictures change" if video.parts else "its timestamps come out of order"
        report.warn(f"{name}: is not searched for combs, since {why}; if it has any, they stay")
        return None
    begun = None if output is None else unfinished(output)
    if begun is not None and _same_job(begun, info, span, wanted):
        with suppress(ValueError, KeyError, TypeError):  # else the plan is not whole, and resuming tells
            weaving = None if begun.weaving is None else Weaving.from_json(begun.weaving)
            if weaving is not None:
                report.warn(f"{name}: combs are removed as when this run was begun")
            return weaving
    weaving, told = look(info, span, wanted, say)
    if told:
        report.warn(f"{name}: {told}")
    return weaving


def _same_job(begun: Plan, info: SourceInfo, span: TimeRange, wanted: Deinterlace | None) -> bool:
    """Whether unfinished work is of the same fields. Its hash of the source is compared when it is gone on with."""
    then = [begun.source.get(key) for key in ("name", "size")]
    then += [begun.settings.get(key) for key in ("start", "end", "deinterlace", "crop")]
    crop = None if info.video.crop is None else str(info.video.crop)
    return then == [info.path.name, info.path.stat().st_size, span.start, span.end, wanted or "auto", crop]


def look(
    info: SourceInfo, span: TimeRange = TimeRange(), wanted: Deinterlace | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Weaving | None, str]:  # fmt: skip
    """(the pictures that `span` of a video is to be made of, None: its own; what was found, "" where nothing was)."""
    video = info.video
    if video.height < LEAST_ROWS or video.rate > MOST_RATE or (
        video.height > SMALL and not video.interlaced and not _combed(info, span)
    ):
        return None, ""
    frames = part_of(info, span).frames
    if say and (frames is None or frames > LONG):
        say(f"{info.path.name}: looking for combs and telecine in all of it")
    part = TimeRange(max(0.0, span.start - MARGIN), None if span.end is None else span.end + MARGIN)
    place = one_segment(info, part)
    found = measure(decode(info.path, video, place.start, place.end, place.seek, Report()), video.format)
    if not len(found):
        return None, ""
    runs = find_runs(found, HARDER if wanted == "ivtc" else 1)
    weaving = weave(found, runs, wanted == "bob")
    return weaving, _told(info, found, runs, weaving, wanted)


def _combed(info: SourceInfo, span: TimeRange) -> bool:
    """Whether any of some places of a video shows combs."""
    places = stretches(info, span, [place / PLACES for place in range(PLACES)], PICTURES)
    with open_input(info.path) as container:
        for place in places:
            try:
                found = measure(
                    decode(info.path, info.video, place.start, place.end, place.seek, Report(), container=container),
                    info.video.format,
                )
            except SourceError:  # the picture changes its size there
                continue
            if (found.own > COMB).sum() > 1:
                return True
    return False


def _told(
    info: SourceInfo, found: Measures, runs: Sequence[Run], weaving: Weaving | None, wanted: Deinterlace | None
) -> str:
    """One line of what was found and will be done."""
    if weaving is None:
        said = "calls itself interlaced, but no picture has combs: nothing to undo" if info.video.interlaced else ""
        return said or ("no telecine found: nothing to undo" if wanted == "ivtc" else "")
    share = {kind: sum(run.fields for run in runs if run.kind == kind) / (2 * len(found)) for kind in range(VIDEO + 1)}
    telecined, words = share[TWO] + share[THREE], []
    if telecined:
        film = info.video.rate * Fraction(4, 5)
        what = "telecined" if telecined > 0.99 - share[LONE] else f"{telecined:.0%} telecined"
        words.append(f"{what}: {float(film):.3f} pictures a second from {float(info.video.rate):.3f}")
    if share[SHIFTED]:
        words.append(f"{share[SHIFTED]:.0%} with fields of neighbouring pictures, woven together")
    if share[VIDEO]:
        how = "a picture for each field" if wanted == "bob" else "a picture for each two fields"
        order = _order(runs)
        if share[VIDEO] > 0.99:
            words.append(f"interlaced, {order} first: deinterlaced with bwdif, {how}")
        else:
            words.append(f"{_stretches(info, found, runs)} deinterlaced with bwdif, {order} first, {how}")
        if round(info.video.rate) == CONVERTED_RATE and share[VIDEO] > 0.5:  # which of it is, measures cannot tell
            words.append("what a standards converter blended in its fields cannot be undone")
    if share[PLAIN] and not telecined and not share[VIDEO] > 0.99:
        words.append(f"{share[PLAIN]:.0%} progressive, as it is")
    if wanted == "ivtc" and not telecined:
        words.append("no telecine found")
    return "; ".join(words)


def _order(runs: Sequence[Run]) -> str:
    video = [run.bottom_first for run in runs if run.kind == VIDEO]
    bottom = sum(video) / len(video)
    if 0.05 < bottom < 0.95:
        return "here top fields, there bottom fields"
    return "bottom fields" if bottom > 0.5 else "top fields"


def _stretches(info: SourceInfo, found: Measures, runs: Sequence[Run]) -> str:
    """"3 stretches of video (1:02 to 1:31, …)", counted from the file's beginning."""
    base, begin = info.video.time_base, part_of(info, TimeRange()).begin
    spans: list[list[float]] = []
    for run in runs:
        if run.kind != VIDEO:
            continue
        time = float((int(found.pts[run.first // 2]) - begin) * base)
        if spans and time - spans[-1][1] < _TOGETHER:
            spans[-1][1] = time
        else:
            spans.append([time, time])
    times = [f"{_clock(first)} to {_clock(last)}" for first, last in spans[:_TOLD]]
    more = ", …" if len(spans) > _TOLD else ""
    return f"{len(spans)} stretch{'es' if len(spans) > 1 else ''} of video ({', '.join(times)}{more})"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
