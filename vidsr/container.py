"""The few PyAV calls that every stage needs, with PyAV's traps closed, and what a result's container can hold.

Nobody opens a container otherwise.
"""

from __future__ import annotations

import io
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.codec.context import ThreadType
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream

from vidsr.errors import SourceError
from vidsr.files import as_file
from vidsr.frames import SourceInfo, StreamInfo, Track
from vidsr.timeline import RESTARTING, Gap, Headers, Timeline, find_gaps, make_timeline, on_timeline

NAMES = {"matroska": "MKV", "mp4": "MP4", "mov": "MOV"}  # of FFmpeg's muxers, for users
PRIMING = Fraction(1, 10)  # seconds of sound, more than any decoder wants before the first that is heard
# Flags of tracks beside "default" that FFmpeg's muxers have a place for: MP4's are kinds in DASH's words; MKV has all.
HELD_FLAGS = {
    "mp4": {"dub", "comment", "forced", "hearing_impaired", "visual_impaired", "captions", "descriptions"},
    "mov": set[str](),
}
STUCK_AFTER = 100_000  # errors in a row; MP4 has one for each sample of a damaged stretch, an hour of sound 170,000


def open_input(path: str | Path) -> InputContainer:
    """Open a media file for reading. SourceError, with the cure, when it is missing, unreadable or no media file."""
    path = Path(path)
    try:
        if path.is_dir():
            raise SourceError(f"{path}: is a folder; name the files in it")
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: is empty (0 bytes); copy or download it again")
        return av.open(as_file(path), metadata_errors="surrogateescape")
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except PermissionError as error:
        raise SourceError(f"{path}: no permission to read it") from error
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{path}: not a media file FFmpeg can read ({reason}); is it complete?") from error


def is_cover(stream: Stream) -> bool:
    """Cover art shows up as a video stream of one picture."""
    return bool(stream.disposition & Disposition.attached_pic)


def title_of(stream: Stream) -> str:
    """A track's title; MP4 and MOV call it its name."""
    return stream.metadata.get("title") or stream.metadata.get("name", "")


def kind_of(stream: Stream) -> str:
    """Stream type in the words of frames.Track."""
    if stream.type == "video" and is_cover(stream):
        return "cover"
    return stream.type if stream.type in ("video", "audio", "subtitle", "attachment", "data") else "unknown"


def packets(
    container: InputContainer, streams: list[Stream], on_error: Callable[[Exception], None] = lambda error: None,
    timeline: Timeline = Timeline(), begin: int = 0,
) -> Iterator[Any]:  # fmt: skip
    """Demux `streams` (none: nothing, where PyAV would give all), going on after damaged stretches.

    `on_error` hears of each damaged stretch. timeline: where their times are brought to. begin: what `go_to` gave: what
    lies before is left out. The empty packets that PyAV ends with, to flush decoders, come too. SourceError when the
    demuxer comes no further, so that what is behind is never taken for the file's end.
    """
    if not timeline.pieces:
        yield from _demuxed(container, streams, on_error)
        return
    places: dict[int, int] = {}  # of a stream's last packet whose place is known
    shifts: dict[int, tuple[list[int], list[int]]] = {}
    for packet in _demuxed(container, streams, on_error):
        stream = packet.stream_index
        if packet.pos is not None:
            places[stream] = packet.pos
        if packet.size:
            place = places.get(stream, 0 if begin == 0 else -1)
            if place < begin:
                continue
            if stream not in shifts:
                shifts[stream] = timeline.shifts(stream, packet.time_base)
            begins, ticks = shifts[stream]
            shift = ticks[bisect_right(begins, place) - 1]
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        yield packet


def heard(found: Iterator[Any], decoded: Collection[int] = ()) -> Iterator[Any]:
    """The packets `found` without the sound and the subtitles that an MP4's edit lists hide.

    What a decoder needs to begin with stays where it lies before zero, as it does in most MP4s. decoded: indices of
    streams that are decoded, for which everything is needed.
    """
    hidden: dict[int, list[Any]] = {}  # of a stream of which nothing is heard yet
    begun = set()
    for packet in found:
        stream = packet.stream_index
        if not packet.size or packet.stream.type == "video" or stream in decoded:
            yield packet
        elif stream in begun:
            if not packet.is_discard:
                yield packet
        elif packet.is_discard:
            hidden.setdefault(stream, []).append(packet)
        else:
            begun.add(stream)
            first = _time(packet)
            yield from (p for p in hidden.pop(stream, []) if first <= 0 and first - PRIMING <= _time(p) < first)
            yield packet


def _time(packet: Any) -> Fraction:
    return Fraction((packet.pts if packet.pts is not None else packet.dts or 0) * packet.time_base)


def _demuxed(
    container: InputContainer, streams: list[Stream], on_error: Callable[[Exception], None]
) -> Iterator[Any]:
    failures = 0  # since the last packet
    while streams:
        try:
            for packet in container.demux(*streams):
                failures = 0
                yield packet
            return
        except av.error.EOFError:
            return
        except (av.FFmpegError, OSError) as error:
            failures += 1
            if failures == 1:
                on_error(error)
            if failures == STUCK_AFTER:
                reason = getattr(error, "strerror", None) or error
                path = container.name.removeprefix(as_file(""))
                raise SourceError(
                    f"{path}: cannot be read to its end, {failures} errors follow each other ({reason}); "
                    "copy or download it again, or remux it"
                ) from error


@dataclass(frozen=True)
class Clock:
    """When the pictures of a video stream are shown.

    pts: of all coded pictures to be shown, sorted; keyframes: of those that can be decoded by themselves. time_base
    units.
    """

    time_base: Fraction
    pts: array[int]
    keyframes: array[int]

    def seconds(self, index: int, shift: int = 0) -> float:
        """When picture `index` is shown, with everything `shift` units earlier."""
        return float((self.pts[index] - shift) * self.time_base)


def read_clock(path: Path, video: StreamInfo) -> Clock:
    """Read all packet headers of one video stream; nothing is decoded."""
    return clock_of(read_headers(path, video.index, sound=False), video)


def clock_of(headers: Sequence[Headers], video: StreamInfo) -> Clock:
    """The clock of `video` from what `read_headers` gave."""
    own = next(h for h in headers if h.stream == video.index)
    if not video.timed:
        return Clock(video.time_base, array("q", range(0, own.untimed * video.step, video.step)), array("q"))
    pts = on_timeline(own, video.timeline)
    shown, keyframes = np.sort(pts), np.sort(pts[np.asarray(own.keys, bool)])
    if video.field_step:
        # Pictures are two fields apart at least: what comes one field behind another is its second.
        firsts: list[int] = []
        for time in shown.tolist():
            if not firsts or time != firsts[-1] + video.field_step:
                firsts.append(time)
        shown = np.asarray(firsts, np.int64)
        keyframes = keyframes[np.isin(keyframes, shown)]
    return Clock(video.time_base, array("q", shown.tolist()), array("q", keyframes.tolist()))


def read_times(info: SourceInfo) -> tuple[Clock, tuple[Gap, ...]]:
    """The clock of the source's video, and where pictures are missing, from all packet headers of video and sound."""
    # What tells its times in one place (MP4) also tells how long a picture is held: its sound need not be read.
    headers = read_headers(info.path, info.video.index, sound="mp4" not in info.container)
    gaps = find_gaps(headers, info.video.index, info.video.timeline, info.container in RESTARTING)
    return clock_of(headers, info.video), gaps


def read_headers(path: Path, video: int, sound: bool = True) -> list[Headers]:
    """All packet headers of the video stream of that index, and of all sound: times as they are in the file. Samples
    that an MP4 holds only for decoding others are left out."""
    with open_input(path) as container:
        found = {}
        for stream in container.streams:
            if stream.index == video or (sound and stream.type == "audio"):
                found[stream.index] = Headers(stream.index, kind_of(stream), Fraction(stream.time_base or 1))
            else:
                stream.discard = av.stream.Discard.all
        places = dict.fromkeys(found, 0)
        for order, packet in enumerate(packets(container, [container.streams[index] for index in found])):
            index, pos, pts, dts = packet.stream_index, packet.pos, packet.pts, packet.dts
            if pos is not None:
                places[index] = pos
            if packet.size and not packet.is_discard and (pts is not None or dts is not None):
                found[index].add(
                    order, places[index], pos is not None, dts if pts is None else pts, pts if dts is None else dts,
                    packet.duration or 0, packet.is_keyframe,
                )  # fmt: skip
            elif packet.size and not packet.is_discard:
                found[index].untimed += 1
    return list(found.values())


def read_timeline(container: InputContainer, path: Path, video: int) -> Timeline:
    """The timeline of a file, for which it is read to its end if its times may restart at all. Of files that tell all
    times in one place (MP4), or that one program has written as a whole (most MKV), nothing is read."""
    name = container.format.name
    matroska = "matroska" in name
    if name not in RESTARTING and not (matroska and may_be_appended(path)):
        return Timeline()
    return make_timeline(read_headers(path, video), video, reordered_dts=matroska)


def may_be_appended(path: Path) -> bool:
    """Whether an MKV may have another one behind it: its size does not say where it ends, or more follows there."""
    with path.open("rb") as file:
        for _ in range(2):  # the EBML header, and the segment, which is all of the rest
            id_length = 9 - (file.read(1) or b"\xff")[0].bit_length()
            file.seek(id_length - 1, io.SEEK_CUR)
            first = (file.read(1) or b"\0")[0]
            length = 9 - first.bit_length()
            size = int.from_bytes(bytes([first & 0xFF >> length]) + file.read(length - 1), "big")
            if length > 8 or size == (1 << 7 * length) - 1:
                return True
            file.seek(size, io.SEEK_CUR)
        return file.read(4) == b"\x1a\x45\xdf\xa3"


def go_to(container: InputContainer, video: StreamInfo, place: int | None) -> int | None:
    """Move to the keyframe at or before the pts `place`, None: to the beginning.

    Gives what to begin with in `packets`; None where that fails: the container is at its beginning, as far as can be
    told. Times that restart are no way to a place: there it is one in the file, and where the demuxer cannot go to
    that (MKV), what lies before is read and left out.
    """
    begin = 0 if place is None else video.timeline.place(place) or 0
    try:
        if video.timeline.pieces:
            if container.format.name in RESTARTING:
                container.seek(begin, unsupported_byte_offset=True)
            else:
                container.seek(0)
        elif place is None:
            container.seek(0)
        else:
            container.seek(place, stream=container.streams[video.index], backward=True, any_frame=False)
        return begin
    except (av.FFmpegError, OSError):
        with suppress(av.FFmpegError, OSError):
            container.seek(0)
        return None


def discard_others(container: InputContainer, kept: Stream) -> None:
    """Let the demuxer skip every stream but one."""
    for stream in container.streams:
        if stream is not kept:
            stream.discard = av.stream.Discard.all


def use_one_thread(stream: Any) -> None:
    """Decode `stream` in one thread. With several, whatever their kind and number, what a decoder makes of damage
    depends on which of them comes first: frame threads in any codec, slice threads in HEVC and MPEG-2."""
    stream.thread_type = ThreadType.NONE
    stream.codec_context.thread_count = 1  # dav1d asks for nothing else


def container_of(info: SourceInfo) -> str:
    """FFmpeg's muxer for a file that is there."""
    if "matroska" in info.container:
        return "matroska"
    return "mov" if info.path.suffix.lower() == ".mov" else "mp4"


def copy_stream(result: OutputContainer, stream: Stream) -> Any:
    """A stream of `result` for the packets of `stream` as they are. ValueError or FFmpegError where its muxer has none.

    Matroska takes what AVI and ASF hold of sound (WMA, ADPCM) as those describe it, though FFmpeg's list of its codecs
    leaves it out.
    """
    try:
        return result.add_stream_from_template(stream, opaque=True)
    except ValueError:
        if result.format.name != "matroska" or stream.type != "audio":
            raise
        added = result.add_mux_stream("flac")
        BitStreamFilterContext("null", stream, added)  # which hands all that is known of `stream` on
        added.time_base = stream.time_base
        return added


def kept_otherwise(kind: str, codec: str) -> bool:
    """Whether a track that a container cannot hold is kept without loss all the same: AAC out of LATM, plain samples of
    another order."""
    return kind == "audio" and (codec == "aac_latm" or codec.startswith("pcm_"))


def cannot_hold(container: str, stream: Stream, track: Track) -> str | None:
    """Why the muxer refuses this stream (" (…)" or ""), None when it takes it: a trial of its header in memory."""
    if track.kind == "attachment":
        return None if container == "matroska" else ""
    if track.kind == "cover":
        return None
    if track.kind == "unknown" or track.codec == "?" or (track.kind == "data" and container == "matroska"):
        return ""
    written = io.BytesIO()
    try:
        with av.open(written, "w", format=container) as trial:
            added = copy_stream(trial, stream)
            trial.start_encoding()
            if added.codec_context is None:
                packet = av.Packet(bytes(1 << 10))
                packet.pts, packet.dts, packet.time_base, packet.stream = 0, 0, Fraction(1, 1000), added
                trial.mux(packet)
        if added.codec_context is None:  # nobody knows beforehand what is read of it
            written.seek(0)
            with av.open(written) as again:
                codec = again.streams[0].codec_context
                return None if codec is not None and codec.codec.canonical_name == track.codec else ""
    except (ValueError, av.FFmpegError, OSError) as error:
        text = str(getattr(error, "strerror", None) or error)
        return "" if "does not support" in text else f" ({text})"
    return None
