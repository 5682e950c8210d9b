"""What becomes of each track of the source in the result's container."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from av.stream import Stream

from vidsr.container import NAMES, cannot_hold, kept_otherwise, kind_of, open_input
from vidsr.errors import UsageError
from vidsr.frames import SourceInfo, TimeRange, Track
from vidsr.mux.ass import has_layout
from vidsr.mux.losses import as_keys
from vidsr.mux.sound import Audio, Sound, Survey, choose_sound, may_be_wrapped, survey

STDOUT = Path("-")  # as a result's name: it is streamed
FORMATS = {".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
DROP_WORDS = ("audio", "subtitle", "attachment", "cover", "data", "video", "unsupported")


@dataclass(frozen=True)
class Keep:
    """What becomes of the source's tracks. copy: stream indices to keep; dropped: tracks the user gave up.

    sounds: of those to keep the audio tracks that are not copied as they are; scripts: the ASS tracks that are told for
    which size of picture they were made. as_keys: see losses.py. left: tracks that are left out whatever the user says,
    and why.
    """

    container: str
    copy: tuple[int, ...]
    dropped: tuple[Track, ...] = ()
    sounds: tuple[Sound, ...] = ()
    scripts: tuple[int, ...] = ()
    as_keys: bool = False
    left: tuple[tuple[Track, str], ...] = ()


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


def choose_tracks(
    info: SourceInfo, output: Path, drop: Collection[str], audio: Audio | None = None, span: TimeRange | None = None
) -> Keep:
    """Decide for each track whether the result's container holds it, by asking the muxer itself.

    drop: kinds (DROP_WORDS) or stream indices that may be lost; "unsupported" is whatever the container cannot hold.
    audio: what all sound is to be encoded anew as. span: the part that is meant; None: the file is not read for what
    only its packets tell, and the tracks in question are taken to be kept.
    UsageError naming the first track that would be lost without leave, and the cure.
    """
    container = output_format(output)
    copy, dropped, sounds, left = list[int](), list[Track](), list[Sound](), list[tuple[Track, str]]()
    scripts = list[int]()
    looked = _look_into(info, container, drop, span)
    with open_input(info.path) as source:
        for track in info.tracks:
            stream = source.streams[track.index]
            if track.index == info.video.index or _is_chapter_text(stream, info):
                continue
            if track.kind in drop or str(track.index) in drop:
                dropped.append(track)
                continue
            if track.kind == "data":
                left.append((track, _why_no_data(container, stream)))
                continue
            seen = looked.get(track.index)
            if seen is not None and not seen.packets:
                left.append((track, "it is announced, but empty"))
                continue
            sound = choose_sound(container, stream, track, seen, audio) if track.kind == "audio" else None
            reason = None if sound else cannot_hold(container, stream, track)
            if sound is not None:
                copy.append(track.index)
                sounds.append(sound)
            elif reason is None or (span is None and kept_otherwise(track.kind, track.codec)):
                copy.append(track.index)
                if track.codec in ("ass", "ssa") and not has_layout(bytes(stream.codec_context.extradata or b"")):
                    scripts.append(track.index)
            elif "unsupported" in drop:
                dropped.append(track)
            else:
                cure = _cure(container, stream, track, output)
                raise UsageError(
                    f"{info.path}: {_what(track)} cannot live in {NAMES[container]}{reason}: "
                    f"{cure}leave it out with --drop {track.index} (all such: --drop unsupported)"
                )
    return Keep(
        container, tuple(copy), tuple(dropped), tuple(sounds), tuple(scripts), as_keys(container, info), tuple(left)
    )  # fmt: skip


def _look_into(
    info: SourceInfo, container: str, drop: Collection[str], span: TimeRange | None
) -> dict[int, Survey]:  # fmt: skip
    """What the packets of tracks tell that the container would not hold, or FFmpeg knows too little of."""
    if span is None:
        return {}
    with open_input(info.path) as source:
        asked = [
            track.index
            for track in info.tracks
            if track.kind in ("audio", "subtitle", "unknown") and not {track.kind, str(track.index)} & set(drop)
            and (may_be_wrapped(source.streams[track.index])
                 or cannot_hold(container, source.streams[track.index], track) is not None)
        ]  # fmt: skip
    return survey(info, asked, span)


def _why_no_data(container: str, stream: Stream) -> str:
    if "timecode" in stream.metadata:
        if container == "matroska":
            return "MKV has no timecode tracks; the time it begins with is kept as a tag of the video"
        return "the timecode track is written anew"
    return f"{NAMES[container]} gets no data tracks"


def _cure(container: str, stream: Stream, track: Track, output: Path) -> str:
    """What would keep this track: another container, if one holds it, or for sound another encoding."""
    cures = list[str]()
    for suffix, other in ((".mkv", "matroska"), (".mov", "mov"), (".mp4", "mp4")):
        if other != container and output != STDOUT and not cures and cannot_hold(other, stream, track) is None:
            cures.append(f"use {suffix}, which holds it, or ")
    if track.kind == "audio" and stream.codec_context is not None:
        cures.append("encode all sound anew with --audio aac, or ")
    return "".join(cures)


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
