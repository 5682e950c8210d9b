"""Pictures that change in mid-stream: their size, the shape of their pixels, their format.

Broadcasts change between films, advertisements and 4:3, calls over the network with the line. All pictures are brought
to what most of them have: sharply but plainly resampled, in the shape they have on the screen, with bars where that
is another one.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any

import av
import numpy as np

from vidsr.container import discard_others, open_input, packets, use_one_thread
from vidsr.frames import Part, PixelFormat, SourceInfo, StreamInfo, TimeRange
from vidsr.source.alpha import has_alpha
from vidsr.source.colorspec import resolve_color
from vidsr.source.probe import first_code, lost_phrases, working_format

_KEYFRAMES_IN_A_ROW = 24  # from the first picture on: then there are no others
SAME_SHAPE = Fraction(3, 100)  # pixels of 704 and of 720 columns of one television standard differ by as much
_SWS_MATRICES = {"bt709": 1, "fcc": 4, "bt601": 5, "smpte240m": 7, "bt2020": 9}  # SWS_CS_…
_RESAMPLE = 0x4 | 0x2000 | 0x4000 | 0x40000 | 0x80000  # bicubic, full chroma, accurately rounded, everywhere the same


@dataclass(frozen=True)
class _Header:
    """What a keyframe says of itself and those after it."""

    width: int
    height: int
    pixel_format: str
    aspect: Fraction
    colour: tuple[int, int, int, int]  # matrix, primaries, transfer, range: FFmpeg's numbers


def look_through(info: SourceInfo, span: TimeRange = TimeRange()) -> SourceInfo:
    """`info` with what the keyframes of the whole film show, and where they change the size, shape and format that
    most pictures in `span` have, the largest of those where there are several.

    Only keyframes are decoded. Where there are no other pictures nothing is, beyond the first ones, since that would
    take minutes: what changes then is found as it comes.
    """
    video = info.video
    headers, lost = _Headers(), set(video.lost)
    times, which = array("q"), array("i")
    with open_input(info.path) as container:
        stream: Any = container.streams[video.index]
        context = stream.codec_context
        use_one_thread(stream)
        context.skip_frame = "NONKEY"
        discard_others(container, stream)
        only_keyframes = True
        for packet in packets(container, [stream], timeline=video.timeline):
            only_keyframes = only_keyframes and (packet.is_keyframe or not packet.size)
            if only_keyframes and len(times) == _KEYFRAMES_IN_A_ROW:
                return info
            if packet.size and packet.is_keyframe:
                lost |= _read_header(stream, packet, headers)
            time = packet.pts if packet.pts is not None else packet.dts
            if packet.size and time is not None and headers.all:
                times.append(time)
                which.append(len(headers.all) - 1)
    video = replace(video, lost=tuple(sorted(lost)))
    if len({header for _, header in headers.all}) > 1:
        low, high = span.limits(min(times), video.time_base)
        inside = ((low is None or t >= low) and (high is None or t < high) for t in times)
        video = _as_most(info, video, headers, Counter(n for n, taken in zip(which, inside) if taken))
    return replace(info, video=video)


class _Headers:
    """Each header with the pts of its first keyframe, in the order of the file."""

    def __init__(self) -> None:
        self.all: list[tuple[int, _Header]] = []

    def note(self, pts: int, header: _Header) -> None:
        if not self.all or self.all[-1][1] != header:
            self.all.append((pts, header))


def _read_header(stream: Any, packet: Any, headers: _Headers) -> set[str]:
    """Decode a keyframe; what of it cannot be kept, a phrase each."""
    context = stream.codec_context
    try:
        frames = stream.decode(packet)
    except (av.FFmpegError, ValueError):
        return set()  # damage is the run's to count
    time = packet.pts if packet.pts is not None else packet.dts
    if context.width and context.pix_fmt and time is not None:
        aspect = Fraction(context.sample_aspect_ratio or 1)
        matrix, primaries, transfer = map(int, (context.colorspace, context.color_primaries, context.color_trc))
        colour = matrix, primaries, transfer, int(context.color_range)
        headers.note(time, _Header(context.width, context.height, context.pix_fmt, aspect, colour))
    return {phrase for frame in frames for phrase in lost_phrases(frame)}


def _as_most(info: SourceInfo, video: StreamInfo, headers: _Headers, pictures: Counter[int]) -> StreamInfo:
    """`video` as most of its pictures are. pictures: how many go with each header."""
    shapes: Counter[tuple[int, int, str, Fraction]] = Counter()
    for number, count in pictures.items():
        header = headers.all[number][1]
        shapes[header.width, header.height, header.pixel_format, header.aspect] += count
    if not shapes:
        return video
    width, height, name, aspect = max(shapes, key=lambda shape: (shapes[shape], shape[0] * shape[1], shape))
    parts = tuple(
        Part(start, header.width, header.height, header.pixel_format, _shown(video, header.aspect))
        for number, (start, header) in enumerate(headers.all)
        if pictures[number]
    )
    if (width, height, name) != (video.width, video.height, video.pixel_format):
        one = next(h for _, h in headers.all if (h.width, h.height, h.pixel_format) == (width, height, name))
        matrix, primaries, transfer, range_code = one.colour
        color = resolve_color(width, height, matrix, primaries, transfer, range_code, name, video.codec)
        format = working_format(info.path, name)
        video = replace(video, width=width, height=height, pixel_format=name, format=format, color=color)
    several = len({replace(part, start=0) for part in parts}) > 1
    return replace(
        video, sample_aspect=_shown(video, aspect), coded_aspect=aspect, parts=parts if several else ()
    )  # fmt: skip


def _shown(video: StreamInfo, aspect: Fraction) -> Fraction:
    """The shape of pixels whose header says `aspect`: the container may know better what it says of the first."""
    return video.sample_aspect if aspect == video.coded_aspect else aspect


class Shapes:
    """The shape of pixels that each keyframe's header says, while a stream is decoded."""

    def __init__(self, video: StreamInfo) -> None:
        self._video = video
        self._noted: list[tuple[int, Fraction]] = []

    def note(self, packet: Any, context: Any) -> None:
        """context: of the decoder, which has taken `packet`."""
        if packet.is_keyframe and packet.pts is not None:
            aspect = Fraction(context.sample_aspect_ratio or 1)
            if not self._noted or self._noted[-1][1] != aspect:
                self._noted.append((packet.pts, aspect))

    def of(self, picture: Any) -> Fraction:
        """Width over height of this picture's pixels: what the last keyframe up to its time says."""
        at = next((aspect for pts, aspect in reversed(self._noted) if pts <= picture.pts), None)
        if at is None:
            at = self._noted[0][1] if self._noted else self._video.coded_aspect
        return _shown(self._video, at)


def resized_at(video: StreamInfo) -> set[int]:
    """The pts of the keyframes with which the size of the pictures is known to change."""
    both = zip(video.parts, video.parts[1:])
    return {part.start for before, part in both if (before.width, before.height) != (part.width, part.height)}


def is_other(picture: Any, aspect: Fraction, video: StreamInfo) -> bool:
    """Whether a decoded picture differs in size or shape from what `video` says all have."""
    if (picture.width, picture.height) != (video.width, video.height):
        return True
    return not _alike(aspect, video.sample_aspect)


def fitted(picture: Any, aspect: Fraction, video: StreamInfo) -> Any:
    """A decoded picture, whose pixels have `aspect`, in the size, format and colour of `video`: an av.VideoFrame."""
    width, height = _inner(picture, aspect, video)
    name = video.format.name
    if video.alpha and has_alpha(picture.format.name):
        name = name.replace("yuv", "yuva").replace("gbrp", "gbrap")
    own = _color_of(picture, video)
    fields = picture.interlaced_frame and height != picture.height and height % 4 == picture.height % 4 == 0
    if fields and _is_planar(picture):
        halves = [_resampled(_field(picture, parity), width, height // 2, name, own, video) for parity in (0, 1)]
        inner = av.VideoFrame(width, height, name)
        for parity, half in enumerate(halves):
            for target, plane in zip(_samples(inner), _samples(half)):
                target[parity::2] = plane
    else:
        inner = _resampled(picture, width, height, name, own, video)
    if (width, height) == (video.width, video.height):
        return inner
    return _with_bars(inner, video)


def _is_planar(picture: Any) -> bool:
    try:
        return bool(PixelFormat.from_name(picture.format.name))
    except ValueError:
        return False


def _inner(picture: Any, aspect: Fraction, video: StreamInfo) -> tuple[int, int]:
    """(width, height) that a picture takes in one of `video`'s, even where chroma is halved."""
    ratio = aspect * picture.width * video.height / (picture.height * video.sample_aspect * video.width)
    if _alike(ratio, Fraction(1)):
        return video.width, video.height
    if ratio > 1:
        return video.width, min(video.height, max(4, ceil(video.height / ratio / 4 - Fraction(1, 2)) * 4))
    return min(video.width, max(4, ceil(video.width * ratio / 4 - Fraction(1, 2)) * 4)), video.height


def _alike(a: Fraction, b: Fraction) -> bool:
    return abs(a - b) <= SAME_SHAPE * b


def _color_of(picture: Any, video: StreamInfo) -> Any:
    return resolve_color(
        picture.width, picture.height, first_code(picture.colorspace), first_code(picture.color_primaries),
        first_code(picture.color_trc), int(picture.color_range), picture.format.name, video.codec,
    )  # fmt: skip


def _resampled(picture: Any, width: int, height: int, name: str, own: Any, video: StreamInfo) -> Any:
    source, result = (_SWS_MATRICES.get(color.matrix) for color in (own, video.color))
    if source is None or result is None:  # RGB, and what swscale has no numbers for
        source = result = _SWS_MATRICES.get(video.color.matrix, 1)
    # One thread: with more, swscale at times gives gray where a slice of the picture should be.
    return picture.reformat(
        width, height, name, src_colorspace=source, dst_colorspace=result,
        src_color_range=2 if own.full_range else 1, dst_color_range=2 if video.color.full_range else 1,
        interpolation=_RESAMPLE, threads=1,
    )  # fmt: skip


def _field(picture: Any, parity: int) -> Any:
    """Every second line of a picture, from line `parity` on."""
    field = av.VideoFrame(picture.width, picture.height // 2, picture.format.name)
    for target, plane in zip(_samples(field), _samples(picture)):
        target[:] = plane[parity::2][: len(target)]
    return field


def _with_bars(inner: Any, video: StreamInfo) -> Any:
    """`inner` in the middle of a black picture of `video`'s size, a transparent one where it has alpha."""
    format = video.format
    whole = av.VideoFrame(video.width, video.height, inner.format.name)
    left, top = (video.width - inner.width) // 4 * 2, (video.height - inner.height) // 4 * 2
    for number, (target, plane) in enumerate(zip(_samples(whole), _samples(inner))):
        x, y = format.chroma_shift if number in (1, 2) else (0, 0)
        target[:] = _black(format, number, video.color.full_range)
        rows, columns = plane.shape
        target[top >> y : (top >> y) + rows, left >> x : (left >> x) + columns] = plane
    return whole


def _black(format: PixelFormat, number: int, full_range: bool) -> int:
    """The sample of plane `number` that is black; of alpha, that one sees through."""
    if number == 3:
        return 0
    if number and format.family == "yuv":
        return int(128 << (format.bits - 8))
    return 0 if full_range or format.family == "rgb" else int(16 << (format.bits - 8))


def _samples(picture: Any) -> list[np.ndarray]:
    """Its planes as arrays [rows, columns] of its own memory, uint8 or uint16; not for packed formats."""
    found = []
    for plane in picture.planes:
        dtype = np.dtype(np.uint8 if picture.format.components[0].bits <= 8 else np.uint16)
        stride = plane.line_size // dtype.itemsize
        samples: np.ndarray = np.frombuffer(memoryview(plane), dtype)
        found.append(samples[: plane.height * stride].reshape(plane.height, stride)[:, : plane.width])
    return found
