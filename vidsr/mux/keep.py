"""What becomes of each track of the source in the result's container."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from av.stream import Stream

from vidsr.container import NAMES, cannot_hold, kind_of, open_input
from vidsr.errors import UsageError
from vidsr.frames import SourceInfo, Track

STDOUT = Path("-")  # as a result's name: it is streamed
FORMATS = {".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
DROP_WORDS = ("audio", "subtitle", "attachment", "cover", "data", "video", "unsupported")
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
