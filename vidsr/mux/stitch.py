"""The final container: the segments' video and everything else of the source, by stream copy. Streams: see live.py."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from vidsr.container import NAMES, cannot_hold, is_cover, kind_of, open_input, packets
from vidsr.errors import OutputError, UsageError
from vidsr.files import write_failure
from vidsr.frames import SourceInfo, StreamInfo, TimeRange, Track
from vidsr.mux.matroska.details import MatroskaDetails, read_details
from vidsr.mux.matroska.restore import TrackPatch, restore

STDOUT = Path("-")  # as a result's name: it is streamed
FORMATS = {".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
DROP_WORDS = ("audio", "subtitle", "attachment", "cover", "data", "video", "unsupported")
_STALE_TAGS = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS", "ENCODER")
_CONTAINER_TAGS = ("encoder", "duration", "major_brand", "minor_version", "compatible_brands", "creation_time")
_CURES = {
    "mp4": "use .mkv, which holds it",
    "mov": "use .mkv, which holds it",
    "matroska": "use .mp4 or .mov if it came from there",
}


@dataclass(frozen=True)
class Keep:
    """What becomes of the source's tracks. copy: stream indices to copy; dropped: tracks the user gave up."""

    container: str
    copy: tuple[int, ...]
    dropped: tuple[Track, ...] = ()


def output_format(path: Path) -> str:
    """FFmpeg's muxer for a result's name. UsageError for a suffix vidsr does not write."""
    if path == STDOUT:
        return "matroska"
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path}: vidsr writes {', '.join(FORMATS)}; give the result one of these suffixes") from None


def default_suffix(source: Path) -> str:
    """Of the result's name: the source's own; containers that vidsr does not write become .mkv."""
    return source.suffix.lower() if source.suffix.lower() in FORMATS else ".mkv"


def choose_tracks(info: SourceInfo, output: Path, drop: Collection[str]) -> Keep:
    """Decide for each track whether the result's container holds it, by asking the muxer itself.

    drop: kinds (DROP_WORDS) or stream indices that may be lost; "unsupported" is whatever the container cannot hold.
    UsageError naming the first track that would be lost without leave, and the cure.
    """
    container = output_format(output)
    copy, dropped = [], []
    with open_input(info.path) as source:
        for track in info.tracks:
            stream = source.streams[track.index]
            if track.index == info.video.index or _is_chapter_text(stream, info):
                continue
            if track.kind in drop or str(track.index) in drop:
                dropped.append(track)
                continue
            reason = cannot_hold(container, stream, track)
            if reason is None:
                copy.append(track.index)
            elif "unsupported" in drop:
                dropped.append(track)
            else:
                cure = "" if track.kind in ("data", "unknown") else _CURES[container] + ", or "
                raise UsageError(
                    f"{info.path}: {_what(track)} cannot live in {NAMES[container]}{reason}: "
                    f"{cure}leave it out with --drop {track.index} (all such: --drop unsupported)"
                )
    return Keep(container, tuple(copy), tuple(dropped))


def _what(track: Track) -> str:
    names = {"ass": "ASS", "ssa": "ASS", "subrip": "SRT", "hdmv_pgs_subtitle": "PGS", "dvd_subtitle": "VobSub"}
    name = names.get(track.codec, "" if track.codec == "?" else track.codec)
    return f"{name} ({track.kind} track #{track.index})" if name else f"{track.kind} track #{track.index}"


def _is_chapter_text(stream: Stream, info: SourceInfo) -> bool:
    """MP4 keeps chapters as a text track, which the muxer writes anew from the chapters."""
    return info.chapters > 0 and kind_of(stream) == "data" and _tag(stream) in ("text", "")


def _tag(stream: Stream) -> str:
    try:
        return str(stream.codec_tag or "").strip("\0")
    except (AttributeError, ValueError):
        return ""


def stitch(
    info: SourceInfo, keep: Keep, videos: Sequence[Path], pts: Sequence[Sequence[int]], last_duration: int,
    partial: Path, span: TimeRange,
) -> None:  # fmt: skip
    """Write the result to `partial`.

    videos, pts: each segment's file and its frames' timestamps, source time_base units. OutputError when the disk is
    full or the container refuses.
    """
    try:
        with open_input(info.path) as source, open_input(videos[0]) as template:
            options = muxer_options(info, keep)
            with av.open(str(partial), "w", format=keep.container, container_options=options) as result:
                shift = _shift(info, pts, span)
                video = template.streams.video[0]
                mapping = add_streams(
                    source, result, info, keep, lambda: result.add_stream_from_template(video, opaque=True)
                )
                set_chapters(source, result, span, shift * info.video.time_base)
                _mux_all(source, result, mapping, info, keep, videos, pts, last_duration, shift, span)
        if keep.container == "matroska":
            restore(partial, *lost_details(info, keep, span))
    except (av.FFmpegError, OSError, ValueError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(write_failure(partial, "the result cannot be written", error)) from error


def muxer_options(info: SourceInfo, keep: Keep) -> dict[str, str]:
    """FFmpeg's options of the result's container."""
    options = {}
    if keep.container != "matroska":  # the start of a track is kept in this unit, milliseconds by default
        options["movie_timescale"] = str(max(1000, min(info.video.time_base.denominator, 10**8)))
    if keep.container == "matroska":
        # Times stay as they are. Else FFmpeg would move the whole file later when a track begins before zero, as Opus's
        # pre-skip and AAC's priming make it do.
        options["avoid_negative_ts"] = "disabled"
    return options


def _shift(info: SourceInfo, pts: Sequence[Sequence[int]], span: TimeRange) -> int:
    """How much earlier everything becomes, in video time_base units: a part of an episode starts at zero."""
    return 0 if span.start == 0 else min(min(times) for times in pts if times)


def add_streams(
    source: InputContainer, result: OutputContainer, info: SourceInfo, keep: Keep, add_video: Callable[[], Any]
) -> dict[int, Any]:
    """Create the result's streams in the source's order, the video by `add_video`; {source index: result stream}."""
    result.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in _CONTAINER_TAGS})
    mapping: dict[int, Any] = {}
    for stream in source.streams:
        if stream.index == info.video.index:
            added: Any = add_video()
            added.time_base = info.video.time_base
            _describe_video(added, info.video)
        elif stream.index not in keep.copy:
            continue
        elif kind_of(stream) == "attachment":
            result.add_stream_from_template(stream)  # type: ignore[type-var]
            continue
        elif is_cover(stream) and keep.container == "matroska":
            name = stream.metadata.get("filename", f"cover.{_cover_suffix(stream)}")
            mime = stream.metadata.get("mimetype", f"image/{_cover_suffix(stream).replace('jpg', 'jpeg')}")
            attached = result.add_attachment(name, mime, _cover_bytes(info.path, stream.index))
            attached.metadata.update({k: v for k, v in stream.metadata.items() if k not in ("filename", "mimetype")})
            continue
        else:
            added = result.add_stream_from_template(stream, opaque=True)
        added.metadata.update(clean_tags(stream.metadata))
        added.disposition = stream.disposition
        mapping[stream.index] = added
    return mapping


def _describe_video(stream: Any, video: StreamInfo) -> None:
    context = stream.codec_context
    if context is not None:
        context.framerate = video.rate
        context.sample_aspect_ratio = video.sample_aspect
    if video.display_matrix is not None:
        stream.set_display_matrix(video.display_matrix)


def clean_tags(metadata: dict[str, str]) -> dict[str, str]:
    """A stream's tags without statistics that the new encode makes wrong and the muxer writes anew."""
    return {k: v for k, v in metadata.items() if not k.upper().startswith(_STALE_TAGS)}


def _cover_suffix(stream: Stream) -> str:
    return {"mjpeg": "jpg"}.get(stream.codec_context.name, stream.codec_context.name)


def _cover_bytes(path: Path, index: int) -> bytes:
    with open_input(path) as source:
        for packet in packets(source, [source.streams[index]]):
            if packet.size:
                return bytes(packet)
    raise OutputError(f"{path}: its cover (#{index}) is empty; leave it out with --drop {index}")


def set_chapters(source: InputContainer, result: OutputContainer, span: TimeRange, shift: Fraction) -> None:
    """The source's chapters; of a part of it those that reach into it, `shift` seconds earlier."""
    chapters = source.chapters()
    if span.whole:
        result.set_chapters(chapters)
        return
    kept = []
    for chapter in chapters:
        base = Fraction(chapter["time_base"] or 1)
        start, end = chapter["start"] * base - shift, chapter["end"] * base - shift
        limit = None if span.end is None else Fraction(span.end) - Fraction(span.start)
        if end > 0 and (limit is None or start < limit):
            low, high = max(start, Fraction(0)), end if limit is None else min(end, limit)
            cut: Any = {**chapter, "start": round(low / base), "end": round(high / base)}
            kept.append(cut)
    result.set_chapters(kept)


def _mux_all(
    source: InputContainer, result: OutputContainer, mapping: dict[int, Any], info: SourceInfo, keep: Keep,
    videos: Sequence[Path], pts: Sequence[Sequence[int]], last_duration: int, shift: int, span: TimeRange,
) -> None:  # fmt: skip
    video = _video_packets(mapping[info.video.index], info.video, videos, pts, last_duration, shift)
    copies = copied_packets(source, mapping, info, shift * info.video.time_base, span)
    # Both sides are in decoding order: merging them interleaves the result without holding anything back.
    for packet in heapq.merge(video, copies, key=when):
        result.mux(packet)


def when(packet: Any) -> float:
    """Seconds at which a packet has its place among those of other tracks."""
    return float((packet.dts if packet.dts is not None else packet.pts) * packet.time_base)


def _video_packets(
    stream: Any, video: StreamInfo, videos: Sequence[Path], pts: Sequence[Sequence[int]], last_duration: int, shift: int
) -> Iterator[Any]:
    """The segments' packets with their true timestamps, and decoding times that grow across the joints.

    The i-th packet of the whole is decoded at the presentation time of picture i - depth, where depth is the deepest
    reordering of any segment: never later than its own presentation, and monotonic by construction.
    """
    times = sorted(t - shift for segment in pts for t in segment)
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


def copied_packets(
    source: InputContainer, mapping: dict[int, Any], info: SourceInfo, shift: Fraction, span: TimeRange,
    clock: bool = False,
) -> Iterator[Any]:  # fmt: skip
    """Every packet of the copied streams, as it is; of a part of the source those that begin in it, `shift` earlier.

    clock: the source's own video packets come too, their times changed alike, to tell how far the file has been read.
    """
    wanted = [source.streams[index] for index in mapping if clock or index != info.video.index]
    for stream in source.streams:
        if stream not in wanted:
            stream.discard = av.stream.Discard.all
    length = None if span.end is None else span.end - span.start
    for packet in packets(source, wanted):
        if is_cover(packet.stream) and packet.size:
            packet.pts = packet.dts = 0  # a picture for the whole file; MP4 wants a time all the same
        if packet.pts is None and packet.dts is None:
            continue
        if not span.whole:
            offset = ceil(shift / packet.time_base)
            begin = float((packet.pts if packet.pts is not None else packet.dts) * packet.time_base - shift)
            if not is_cover(packet.stream):
                outside = begin < 0 or (length is not None and begin >= length)
                if outside and packet.stream_index != info.video.index:
                    continue
                packet.pts = None if packet.pts is None else packet.pts - offset
                packet.dts = None if packet.dts is None else packet.dts - offset
        packet.stream = mapping[packet.stream_index]
        yield packet


def lost_details(
    info: SourceInfo, keep: Keep, span: TimeRange
) -> tuple[list[TrackPatch], MatroskaDetails | None]:
    """What FFmpeg's Matroska muxer leaves out: BCP-47 languages, the pixels' shape, chapters in several languages.

    For restore.restore or restore.restored_header.
    """
    details = read_details(info.path) if "matroska" in info.container else None
    if details is not None and not span.whole:
        details = replace(details, chapters=None)  # they were cut and moved
    tracks = [track for track in info.tracks if track.kind not in ("attachment", "cover")]
    kept = [track for track in tracks if track.index in keep.copy or track.index == info.video.index]
    same_order = details is not None and len(details.tracks) == len(tracks)
    patches = []
    for position, track in enumerate(kept):
        aspect = info.video.sample_aspect if track.index == info.video.index else None
        patches.append(TrackPatch(position, tracks.index(track) if same_order else None, sample_aspect=aspect))
    return patches, details
