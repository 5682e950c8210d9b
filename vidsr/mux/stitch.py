"""The final container: the segments' video and everything else of the source, by stream copy. Streams: see live.py."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer

from vidsr.container import open_input, packets
from vidsr.errors import OutputError
from vidsr.files import as_file, write_failure
from vidsr.frames import SourceInfo, StreamInfo, Window
from vidsr.mux.copies import add_streams, copied_packets, lost_details, muxer_options, set_chapters, when
from vidsr.mux.keep import Keep
from vidsr.mux.matroska.restore import restore


def stitch(
    info: SourceInfo, keep: Keep, videos: Sequence[Path], pts: Sequence[Sequence[int]], last_duration: int,
    partial: Path, window: Window, sample_aspect: Fraction | None = None,
) -> None:  # fmt: skip
    """Write the result to `partial`.

    videos, pts: each segment's file and its frames' timestamps, source time_base units. sample_aspect: of the result's
    pixels; None: as the source's. OutputError when the disk is full or the container refuses.
    """
    try:
        with open_input(info.path) as source, open_input(videos[0]) as template:
            options = muxer_options(info, keep)
            with av.open(
                as_file(partial), "w", format=keep.container, container_options=options,
                metadata_errors="surrogateescape",
            ) as result:  # fmt: skip
                video = template.streams.video[0]
                mapping = add_streams(
                    source, result, info, keep, lambda: result.add_stream_from_template(video, opaque=True)
                )
                set_chapters(source, result, window)
                _mux_all(source, result, mapping, info, keep, videos, pts, last_duration, window)
        if keep.container == "matroska":
            restore(partial, *lost_details(info, keep, window, sample_aspect))
    except (av.FFmpegError, OSError, ValueError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(write_failure(partial, "the result cannot be written", error)) from error


def _mux_all(
    source: InputContainer, result: OutputContainer, mapping: dict[int, Any], info: SourceInfo, keep: Keep,
    videos: Sequence[Path], pts: Sequence[Sequence[int]], last_duration: int, window: Window,
) -> None:  # fmt: skip
    shift = round(window.shift / info.video.time_base)
    video = _video_packets(mapping[info.video.index], info.video, videos, pts, last_duration, shift)
    copies = copied_packets(source, mapping, info, keep, window)
    # Both sides are in decoding order: merging them interleaves the result without holding anything back.
    for packet in heapq.merge(video, copies, key=when):
        result.mux(packet)


def _video_packets(
    stream: Any, video: StreamInfo, videos: Sequence[Path], pts: Sequence[Sequence[int]], last_duration: int, shift: int
) -> Iterator[Any]:
    """The segments' packets with their true timestamps, and decoding times that grow across the joints.

    The i-th packet of the whole is decoded at the presentation time of picture i - depth, where depth is the deepest
    reordering of any segment: never later than its own presentation, and monotonic by construction.
    """
    times = sorted(t - shift for segment in pts for t in segment)
    for i in range(1, len(times)):  # pictures of one time, which MP4 refuses
        times[i] = max(times[i], times[i - 1] + 1)
    orders, headers = zip(*(_read_order(path) for path in videos))
    if len(set(headers)) > 1:
        raise OutputError(f"{videos[0].parent}: its segments were encoded differently; start over with --restart")
    bases = [sum(len(order) for order in orders[:i]) for i in range(len(orders))]
    depth = max((i - rank for order in orders for i, rank in enumerate(order)), default=0)
    step = max(1, min((b - a for a, b in zip(times, times[1:]) if b > a), default=1))
    position = 0
    for path, order, base in zip(videos, orders, bases):
        with open_input(path) as segment:
            for packet, rank in zip((p for p in packets(segment, [segment.streams.video[0]]) if p.size), order):
                index = base + rank
                packet.time_base = video.time_base
                packet.pts = times[index]
                packet.dts = times[position - depth] if position >= depth else times[0] - (depth - position) * step
                packet.duration = times[index + 1] - times[index] if index + 1 < len(times) else last_duration
                packet.stream = stream
                position += 1
                yield packet


def _read_order(path: Path) -> tuple[list[int], bytes]:
    """The presentation rank of each packet of a segment file, in decoding order, and the codec's headers."""
    with open_input(path) as segment:
        stream = segment.streams.video[0]
        header = bytes(stream.codec_context.extradata or b"")
        return [packet.pts for packet in packets(segment, [stream]) if packet.size], header
