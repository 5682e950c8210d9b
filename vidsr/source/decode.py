"""The source's frames, between two timestamps, as planes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from heapq import heappop, heappush
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer

from vidsr.container import discard_others, go_to, open_input, packets
from vidsr.frames import Frame, PixelFormat, StreamInfo
from vidsr.report import Report
from vidsr.source.alpha import alpha_plane, decoder_of, without_alpha
from vidsr.source.changes import Shapes, fitted, is_other, resized_at
from vidsr.source.nvcodec import decoder_missing, gpu_decoder

# Up to this many luma samples a picture decodes at over a thousand a second on one core: a GPU has nothing to save,
# while each decoder on it costs memory there and the way back to the host.
ONE_THREAD_SAMPLES = 1024 * 576
_GPU_LAYOUTS = {"nv12": PixelFormat("yuv", 8, (1, 1)), "p010le": PixelFormat("yuv", 10, (1, 1))}
REORDERED = 16  # pictures; more than any decoder reorders
LATE = 4  # pictures; times that FFmpeg has to guess (DVDs) may be out of order by so many
_COMPARED = 8  # frames decoded both ways before a GPU is trusted with a file


class _GpuError(Exception):
    """The GPU's decoder met something that only the software's may judge."""


def decode(
    path: Path, video: StreamInfo, start: int | None, end: int | None, seek: int | None, report: Report,
    on_gpu: bool = False, container: InputContainer | None = None,
) -> Iterator[Frame]:  # fmt: skip
    """Yield the frames with start <= pts < end (time_base units, None: no limit) in the order the decoder gives them.

    seek: where to begin decoding, a keyframe well before `start` so that no frame kept refers to one never read; None
    for the file's beginning. What the damage costs is counted in `report`; decoding goes on behind it.
    container: `path`, opened before by who reads several stretches of it, one after the other; it stays open.
    on_gpu: see `gpu_missing`. Where the GPU fails or damage is seen, the whole stretch is decoded again in software, so
    that a file's frames are the same on every machine; that is counted.
    """
    given: set[int] = set()
    if on_gpu:
        own = Report(report.warn)
        try:
            for frame in _between(path, video, start, end, seek, own, on_gpu, container):
                given.add(frame.pts)
                yield frame
        except _GpuError:
            report.count("stretches that the GPU could not decode and the CPU did")
        else:
            for what, number in own.counts.items():
                report.count(what, number)
            return
    for frame in _between(path, video, start, end, seek, report, False, container):
        if frame.pts not in given:
            yield frame


def gpu_missing(path: Path, video: StreamInfo) -> str | None:
    """One line why `video` of the file is not decoded on a GPU, None when its first frames come out bit for bit right.

    NVDEC tells nobody of damage inside a picture: what it cannot read it conceals.
    """
    format = video.format
    if video.parts:
        return "its pictures change in mid-stream"
    if video.alpha:
        return "it has an alpha plane"
    if format.family != "yuv" or format.bits > 10 or format.chroma_shift != (1, 1):
        return f"{format.name} is not decoded on GPUs"
    whole = video.whole
    if whole.width % 2 or whole.height % 2:
        return f"{whole.width}x{whole.height} is odd, and the last chroma of odd sizes does not come back from a GPU"
    if reason := decoder_missing(video.codec):
        return reason
    quiet = Report()
    try:
        both = [islice(_between(path, video, None, None, None, quiet, gpu), _COMPARED) for gpu in (True, False)]
        for found, right in zip_longest(*both):
            if found is None or right is None or not _same(found, right):
                return "its first frames are other ones there"
    except _GpuError as error:
        return str(error)
    return None


def _same(a: Frame, b: Frame) -> bool:
    same_planes = all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))
    return (a.pts, a.duration) == (b.pts, b.duration) and same_planes


def _between(
    path: Path, video: StreamInfo, start: int | None, end: int | None, seek: int | None, report: Report,
    on_gpu: bool = False, container: InputContainer | None = None,
) -> Iterator[Frame]:  # fmt: skip
    """`decode` in one way or the other; _GpuError ends what the GPU cannot do like the software."""
    landed, behind = False, 0

    def inside(pts: int | None) -> bool:
        return pts is None or ((start is None or pts >= start) and (end is None or pts < end))

    frames = _decode(path, video, seek, inside, report, on_gpu, container)
    for frame in frames if video.monotonic else _in_order(frames):
        if not landed and seek is not None and start is not None and frame.pts > start:
            # The container's index lied and we landed behind the first frame: read from the beginning instead.
            break
        landed = True
        if start is not None and frame.pts < start:
            continue
        if end is not None and frame.pts >= end:
            behind += 1
            if behind > LATE:
                return
            continue
        if frame.corrupt and on_gpu:
            raise _GpuError("a frame decodes with errors")
        if frame.corrupt:
            report.count("frames that decoded with errors")
        yield frame
    else:
        return
    yield from _between(path, video, start, end, None, report, on_gpu, container)


def _in_order(frames: Iterator[Frame]) -> Iterator[Frame]:
    """`frames` in the order they come, each with the lowest pts that is left of those near it, and that one's duration:
    some containers give pictures the times of others."""
    waiting: deque[Frame] = deque()
    times: list[tuple[int, int]] = []

    def first() -> Frame:
        pts, duration = heappop(times)
        return replace(waiting.popleft(), pts=pts, duration=duration)

    for frame in frames:
        waiting.append(frame)
        heappush(times, (frame.pts, frame.duration))
        if len(waiting) > REORDERED:
            yield first()
    while waiting:
        yield first()


def _decode(
    path: Path, video: StreamInfo, seek: int | None, inside: Callable[[int | None], bool], report: Report, on_gpu: bool,
    opened: InputContainer | None,
) -> Iterator[Frame]:  # fmt: skip
    """Every frame from `seek` on.

    inside: whether damage at a pts is to be counted; what lies before a segment is counted by the one before it.
    """

    def damaged(error: Exception) -> None:
        if on_gpu:
            raise _GpuError(getattr(error, "strerror", None) or str(error)) from error
        report.count("damaged stretches of the source skipped")

    with ExitStack() as stack:
        # Some containers cannot go back to their beginning (FLV, IVF, raw H.264): they are opened anew for that.
        begin = None if opened is None else go_to(opened, video, seek)
        if opened is not None and begin is not None:
            container = opened
        else:
            container = stack.enter_context(open_input(path))
            begin = 0 if seek is None else go_to(container, video, seek) or 0
        stream: Any = container.streams[video.index]
        decoder = decoder_of(stream, video.alpha)
        if on_gpu:
            decoder = _gpu_decoder(stream, video)
        discard_others(container, stream)
        last: int | None = None
        whole, shapes, resized = video.whole, Shapes(video), resized_at(video)
        for packet in packets(container, [stream], damaged, video.timeline, begin):
            try:
                # MPEG-2's decoder forgets the picture it still holds when the size changes.
                held = _drained(decoder) if packet.pts in resized and packet.is_keyframe else []
                decoded = [*held, *decoder.decode(packet)]
            except (av.FFmpegError, ValueError) as error:
                if inside(packet.pts):
                    damaged(error)
                continue
            shapes.note(packet, stream.codec_context)
            for picture in decoded:
                if picture.pts is None:
                    if video.timed:
                        report.count("frames without a timestamp, placed after the one before them")
                    picture.pts = 0 if last is None else last + video.step
                last = picture.pts
                given = picture
                if is_other(picture, aspect := shapes.of(picture), whole):
                    if on_gpu:  # also of a crop that GPU frames keep
                        raise _GpuError(f"its pictures are not all {whole.width}x{whole.height}")
                    if not video.parts and inside(picture.pts):
                        report.count(f"pictures of another size or shape, fitted into {whole.width}x{whole.height}")
                    given = fitted(picture, aspect, whole)
                planes, alpha = _taken(video, _planes(video, given)), None
                if video.alpha:
                    (alpha,) = _taken(video, (alpha_plane(given, video.format.bits),))
                yield Frame(planes, picture.pts, picture.duration or 0, bool(picture.is_corrupt), alpha=alpha)


def _drained(decoder: Any) -> list[Any]:
    """The pictures that a decoder still holds; it is as new afterwards."""
    held = decoder.decode(None)
    (getattr(decoder, "codec_context", None) or decoder).flush_buffers()
    return list(held)


def _gpu_decoder(stream: Any, video: StreamInfo) -> Any:
    own = stream.codec_context
    try:
        return gpu_decoder(video.codec, own.extradata, own.reorder_depth)
    except (av.FFmpegError, NotImplementedError, OSError) as error:
        raise _GpuError(getattr(error, "strerror", None) or str(error)) from error


def _planes(video: StreamInfo, picture: Any) -> tuple[np.ndarray, ...]:
    """Views of the decoder's own memory; each view keeps its frame alive."""
    name, dtype = picture.format.name, video.format.dtype
    shapes = video.format.plane_shapes(picture.width, picture.height)
    if _GPU_LAYOUTS.get(name) == video.format:
        luma, (rows, columns) = plane_view(picture.planes[0], dtype, *shapes[0]), shapes[1]
        pairs = plane_view(picture.planes[1], dtype, rows, 2 * columns)
        shift = 0 if name == "nv12" else 6  # P010's ten bits are the upper ones of sixteen
        chroma = tuple(np.right_shift(pairs[:, i::2], shift) for i in (0, 1))  # new arrays, their samples side by side
        return (np.right_shift(luma, shift) if shift else luma, *chroma)
    if name != video.format.name and not _same_layout(name, video.format):
        # One thread: with more, swscale at times gives gray where a slice of the picture should be.
        picture = picture.reformat(format=video.format.name, threads=1)
    return tuple(plane_view(plane, dtype, *shape) for plane, shape in zip(picture.planes, shapes))


def _taken(video: StreamInfo, planes: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """What `video.crop` takes of these planes, as views."""
    if (crop := video.crop) is None:
        return planes
    taken = []
    for i, (plane, (rows, columns)) in enumerate(zip(planes, video.format.plane_shapes(crop.width, crop.height))):
        x, y = video.format.chroma_shift if i else (0, 0)
        taken.append(plane[crop.y >> y : (crop.y >> y) + rows, crop.x >> x : (crop.x >> x) + columns])
    return tuple(taken)


def plane_view(plane: Any, dtype: np.dtype, rows: int, columns: int) -> np.ndarray:
    """[rows, columns] of a plane of PyAV's, sharing its memory."""
    stride = plane.line_size // dtype.itemsize
    return np.frombuffer(plane, dtype)[: rows * stride].reshape(rows, stride)[:, :columns]


def _same_layout(name: str, format: PixelFormat) -> bool:
    """Whether FFmpeg's format `name` has exactly `format`'s planes (yuvj420p has yuv420p's), alpha aside."""
    try:
        return PixelFormat.from_name(without_alpha(name)) == format
    except ValueError:
        return False
