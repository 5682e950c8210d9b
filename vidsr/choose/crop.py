"""Which part of a source's pictures is enlarged: what its container shows of them, what was asked for, or all but black
bars.

Bars are looked for over the whole video, whatever part of it is wanted, and what was found is in the plan: all segments
take the same, and so do parts that are made one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import islice

import cv2
import numpy as np

from vidsr.choose.options import AUTO_CROP, Options
from vidsr.choose.samples import part_of
from vidsr.errors import SourceError, UsageError
from vidsr.frames import Crop, Frame, SourceInfo, StreamInfo, TimeRange
from vidsr.mux.matroska.details import read_details
from vidsr.report import Report
from vidsr.source.decode import decode

PLACES = 80  # all over the video
IN_A_ROW, STEP = 4, 4  # frames of each, and every which
LOOKED_AT = PLACES * IN_A_ROW
SHORT = 2000  # frames of a video that is read as a whole
ENOUGH = 12  # places
BLACK = 8  # levels of 255 that the means of a bar are away from black at most
NOISE = 5  # samples side by side that a mean is taken of
SOFT = 2  # rows or columns over which an edge goes from a bar to the picture
STRIPS = 16  # into which an edge is cut: bars end along a straight line
STRAIGHT = 0.5  # of them, that begin at once
SEEN = (6, 0.1)  # pictures in which that is so: as many, and that part of those that are not black
LEAST = 0.25  # of a picture's side that is left


def shown(info: SourceInfo, report: Report) -> SourceInfo:
    """`info` with what its container shows of the pictures: Matroska's PixelCrop. The decoder does what codecs say.

    Where a crop begins between two samples of chroma, as much more is taken. One that leaves nothing is no crop.
    """
    if "matroska" not in info.container:
        return info
    video, details = info.video, read_details(info.path)
    tracks = [track.index for track in info.tracks if track.kind not in ("attachment", "cover")]
    if details is None or len(details.tracks) != len(tracks):
        return info
    left, top, right, bottom = details.tracks[tracks.index(video.index)].crop
    if not any((left, top, right, bottom)):
        return info
    x, y = _before(left, video.crop_steps[0]), _before(top, video.crop_steps[1])
    try:
        cropped = video.cropped(Crop(video.width - right - x, video.height - bottom - y, x, y))
    except ValueError:
        report.warn(f"{info.path.name}: its header crops more than its pictures have, which is not done")
        return info
    report.warn(f"{info.path.name}: its header crops {_size(video)} to {_size(cropped)}, and so is the result")
    return replace(info, video=cropped)


def cropped(info: SourceInfo, options: Options, report: Report) -> SourceInfo:
    """`info` with the part that `options` ask for. UsageError where that is none of its pictures."""
    video, asked = info.video, options.part
    if asked is None:
        return info
    if asked == AUTO_CROP:
        crop = find_bars(_spread(info), video)
        if crop is None:
            report.warn(f"{info.path.name}: no black bars found, nothing is cropped")
            return info
        report.warn(f"{info.path.name}: cropped to {_size(crop)} of {_size(video)}, --crop {crop}: the rest is black")
    else:
        crop = asked
    if crop.x + crop.width > video.width or crop.y + crop.height > video.height:
        raise UsageError(f"--crop {crop}: goes beyond the picture, which is {_size(video)}")
    x, y = video.crop_steps
    if crop.x % x or crop.y % y:
        nearest = replace(crop, x=_before(crop.x, x), y=_before(crop.y, y))
        what = f"interlaced {video.format.name}" if video.interlaced else video.format.name
        raise UsageError(f"--crop {crop}: {what} takes X in steps of {x} and Y in steps of {y}: choose {nearest}")
    return replace(info, video=video.cropped(crop))


def _before(value: int, step: int) -> int:
    return value // step * step


def _size(what: StreamInfo | Crop) -> str:
    return f"{what.width}x{what.height}"


def _spread(info: SourceInfo) -> Iterator[Frame]:
    """Frames from all over the video: some of each of many places, or, of a short one and where it cannot be sought,
    each of so many."""
    part, seen = part_of(info, TimeRange()), set[int]()
    if part.end is not None and part.frames is not None and part.frames > SHORT:
        length = part.end - part.begin
        for i in range(PLACES):
            frames = islice(_each(info, part.begin + length * (2 * i + 1) // (2 * PLACES), STEP), IN_A_ROW)
            first = next(frames, None)
            if first is not None and first.pts not in seen:
                seen.add(first.pts)
                yield first
                yield from frames
    if len(seen) < ENOUGH:
        yield from _each(info, None, max(1, (part.frames or 0) // LOOKED_AT))


def _each(info: SourceInfo, place: int | None, every: int) -> Iterator[Frame]:
    """Every so many frames from the keyframe before `place`, None: the beginning."""
    frames = decode(info.path, info.video, None, None, place, Report())
    with closing(frames), suppress(SourceError):  # type: ignore[type-var]
        yield from (frame for i, frame in enumerate(frames) if i % every == 0 and not frame.corrupt)


@dataclass
class _Edge:
    """What lies before the picture at one side, over all pictures: of each, where each strip's picture begins."""

    begins: list[np.ndarray]

    def bar(self, length: int) -> int:
        """How wide the bar is; 0 where there is none for certain."""
        if not self.begins:
            return 0
        found = np.stack(self.begins)
        width = int(found.min())
        straight = (found <= width + SOFT).mean(1) >= STRAIGHT
        least = max(SEEN[0], SEEN[1] * len(found))
        return width if straight.sum() >= least and width < length else 0


def find_bars(frames: Iterable[Frame], video: StreamInfo) -> Crop | None:
    """What is not black bars in `frames` of `video`, from all over it; None where there are none.

    A bar is black in all of them, and ends along a straight line where pictures are bright: dark scenes, skies and
    vignettes begin wherever their drawing does. No sample that was ever anything but black is cut.
    """
    edges = [_Edge([]) for _ in range(4)]  # top, bottom, left, right
    sides = [video.height, video.height, video.width, video.width]
    for frame in frames:
        begins = _begins_of(frame, video)
        if any((found < side).any() for found, side in zip(begins, sides)):
            for edge, found in zip(edges, begins):
                edge.begins.append(found)
    top, bottom = (edge.bar(video.height) for edge in edges[:2])
    left, right = (edge.bar(video.width) for edge in edges[2:])
    x, y = _before(left, video.crop_steps[0]), _before(top, video.crop_steps[1])
    width = -(-(video.width - right - x) // 2) * 2 if video.width % 2 == 0 else video.width - right - x
    height = -(-(video.height - bottom - y) // 2) * 2 if video.height % 2 == 0 else video.height - bottom - y
    if (width, height) == (video.width, video.height):
        return None
    if width < LEAST * video.width or height < LEAST * video.height:
        return None
    return Crop(width, height, x, y)


def _begins_of(frame: Frame, video: StreamInfo) -> list[np.ndarray]:
    """From each side (top, bottom, left, right) [STRIPS]: how far from it each strip's picture begins; the whole way
    where all is black. The means that samples are judged by are taken along a side, not across it."""
    format, unit = video.format, 1 << (video.format.bits - 8)
    found = [np.full(STRIPS, length) for length in (video.height, video.height, video.width, video.width)]
    for i, plane in enumerate(frame.planes):
        difference = format.family == "yuv" and i > 0
        black = (128 if difference else 0 if format.family == "rgb" or video.color.full_range else 16) * unit
        x, y = format.chroma_shift if difference else (0, 0)
        along, across = (cv2.blur(plane, size) for size in ((NOISE, 1), (1, NOISE)))
        for n, means in enumerate((along, along[::-1], across.T, across.T[::-1])):
            lit = means > black + BLACK * unit
            if difference:
                lit |= means < black - BLACK * unit
            begins, shift, length = _begins(lit), y if n < 2 else x, video.height if n < 2 else video.width
            if n % 2:  # the last sample of an odd side stands for less
                begins = np.maximum((begins << shift) - (len(lit) << shift) + length, 0)
            else:
                begins = begins << shift
            found[n] = np.minimum(found[n], begins)
    return found


def _begins(lit: np.ndarray) -> np.ndarray:
    """[STRIPS] of `lit` [rows, columns]: the first row in which each upright strip is lit; behind the last for one that
    never is."""
    rows, columns = lit.shape
    bounds = np.linspace(0, columns, STRIPS + 1).astype(int)
    begins = np.full(STRIPS, rows)
    for i, (a, b) in enumerate(zip(bounds, bounds[1:])):
        seen = lit[:, a:b].any(1)
        if seen.any():
            begins[i] = int(seen.argmax())
    return begins
