"""The few PyAV calls that every stage needs, with PyAV's traps closed, and what a result's container can hold.

Nobody opens a container otherwise.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.stream import Disposition, Stream

from vidsr.errors import SourceError
from vidsr.files import as_file
from vidsr.frames import SourceInfo, StreamInfo, Track

NAMES = {"matroska": "MKV", "mp4": "MP4", "mov": "MOV"}  # of FFmpeg's muxers, for users
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


def kind_of(stream: Stream) -> str:
    """Stream type in the words of frames.Track."""
    if stream.type == "video" and is_cover(stream):
        return "cover"
    return stream.type if stream.type in ("video", "audio", "subtitle", "attachment", "data") else "unknown"


def packets(
    container: InputContainer, streams: list[Stream], on_error: Callable[[Exception], None] = lambda error: None
) -> Iterator[Any]:
    """Demux `streams` (none: nothing, where PyAV would give all), going on after damaged stretches.

    `on_error` hears of each damaged stretch. The empty packets that PyAV ends with, to flush decoders, come too.
    SourceError when the demuxer comes no further, so that what is behind is never taken for the file's end.
    """
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
    pts, keyframes = array("q"), array("q")
    with open_input(path) as container:
        stream = container.streams[video.index]
        discard_others(container, stream)
        for packet in packets(container, [stream]):
            time = packet.pts if packet.pts is not None else packet.dts
            if packet.size and time is not None and not packet.is_discard:
                pts.append(time)
                if packet.is_keyframe:
                    keyframes.append(time)
    return Clock(video.time_base, array("q", sorted(pts)), array("q", sorted(keyframes)))


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


def cannot_hold(container: str, stream: Stream, track: Track) -> str | None:
    """Why the muxer refuses this stream (" (…)" or ""), None when it takes it: a trial of its header in memory."""
    if track.kind == "attachment":
        return None if container == "matroska" else ""
    if track.kind == "cover":
        return None
    if track.kind == "unknown" or track.codec == "?" or (track.kind == "data" and container == "matroska"):
        return ""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (ValueError, av.FFmpegError, OSError) as error:
        text = str(getattr(error, "strerror", None) or error)
        return "" if "does not support" in text else f" ({text})"
    return None
