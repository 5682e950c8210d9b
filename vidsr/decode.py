"""The source's frames, between two timestamps, as planes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType

from vidsr.errors import SourceError
from vidsr.frames import Frame, PixelFormat, StreamInfo
from vidsr.media import discard_others, open_input, packets
from vidsr.report import Report

# Up to this many luma samples a picture decodes at over a thousand a second on one core: threads would only add delay.
ONE_THREAD_SAMPLES = 1024 * 576


def decode(
    path: Path, video: StreamInfo, start: int | None, end: int | None, seek: int | None, report: Report
) -> Iterator[Frame]:
    """Yield the frames with start <= pts < end (time_base units, None: no limit) in the order the decoder gives them.

    seek: where to begin decoding, a keyframe well before `start` so that no frame kept refers to one never read; None
    for the file's beginning. What the damage costs is counted in `report`; decoding goes on behind it.
    """
    landed = False

    def inside(pts: int | None) -> bool:
        return pts is None or ((start is None or pts >= start) and (end is None or pts < end))

    for frame, corrupt in _decode(path, video, seek, inside, report):
        if not landed and seek is not None and start is not None and frame.pts > start:
            # The container's index lied and we landed behind the first frame: read from the beginning instead.
            break
        landed = True
        if start is not None and frame.pts < start:
            continue
        if end is not None and frame.pts >= end:
            return
        if corrupt:
            report.count("frames that decoded with errors")
        yield frame
    else:
        return
    yield from decode(path, video, start, end, None, report)


def _decode(
    path: Path, video: StreamInfo, seek: int | None, inside: Callable[[int | None], bool], report: Report
) -> Iterator[tuple[Frame, bool]]:
    """Every frame from `seek` on, and whether the decoder found errors in it.

    inside: whether damage at a pts is to be counted; what lies before a segment is counted by the one before it.
    """

    def damaged(error: Exception) -> None:
        report.count("damaged stretches of the source skipped")

    with open_input(path) as container:
        stream: Any = container.streams[video.index]
        # Frame threads make the concealment of damaged frames depend on timing; slices do not.
        small = video.width * video.height <= ONE_THREAD_SAMPLES
        stream.thread_type = ThreadType.NONE if small else ThreadType.AUTO
        discard_others(container, stream)
        if seek is not None:
            try:
                container.seek(seek, stream=stream, backward=True, any_frame=False)
            except (av.FFmpegError, OSError):
                container.seek(0)
        last: int | None = None
        for packet in packets(container, [stream], damaged):
            try:
                decoded = packet.decode()
            except (av.FFmpegError, ValueError) as error:
                if inside(packet.pts):
                    damaged(error)
                continue
            for picture in decoded:
                if picture.pts is None:
                    report.count("frames without a timestamp, placed after the one before them")
                    picture.pts = 0 if last is None else last + max(1, round(1 / (video.rate * video.time_base)))
                last = picture.pts
                yield Frame(_planes(path, video, picture), picture.pts, picture.duration or 0), picture.is_corrupt


def _planes(path: Path, video: StreamInfo, picture: Any) -> tuple[np.ndarray, ...]:
    """Views of the decoder's own memory; each view keeps its frame alive."""
    if (picture.width, picture.height) != (video.width, video.height):
        raise SourceError(
            f"{path}: the picture changes from {video.width}x{video.height} to {picture.width}x{picture.height} at "
            f"{float(picture.pts * video.time_base):.3f} s; cut it there with --start and --duration"
        )
    if picture.format.name != video.format.name and not _same_layout(picture.format.name, video.format):
        picture = picture.reformat(format=video.format.name)
    shapes = video.format.plane_shapes(picture.width, picture.height)
    dtype = video.format.dtype
    views = []
    for plane, (rows, columns) in zip(picture.planes, shapes):
        stride = plane.line_size // dtype.itemsize
        views.append(np.frombuffer(plane, dtype)[: rows * stride].reshape(rows, stride)[:, :columns])
    return tuple(views)


def _same_layout(name: str, format: PixelFormat) -> bool:
    """Whether FFmpeg's format `name` has exactly `format`'s planes (yuvj420p has yuv420p's)."""
    try:
        return PixelFormat.from_name(name) == format
    except ValueError:
        return False
