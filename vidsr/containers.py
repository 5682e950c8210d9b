"""What the containers of results can hold, found out by asking their muxers."""

from __future__ import annotations

import io

import av
from av.stream import Stream

from vidsr.frames import SourceInfo, Track

NAMES = {"matroska": "MKV", "mp4": "MP4", "mov": "MOV"}  # of FFmpeg's muxers, for users


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
