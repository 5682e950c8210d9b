"""What is said of a source and its result before hours go into it: assumed, left out, lost, changed."""

from __future__ import annotations

from vidsr.container import HELD_FLAGS, NAMES
from vidsr.frames import SourceInfo, StreamInfo
from vidsr.mux.keep import Keep
from vidsr.mux.losses import losses
from vidsr.report import Report
from vidsr.timeline import told_pieces

PARTS_SAID = 6  # of a video that changes


def announce_source(info: SourceInfo, report: Report) -> None:
    """Say what was assumed and what cannot be kept whatever the container, before hours go into it."""
    if info.video.color.assumed:
        report.warn(f"{info.path.name}: {'; '.join(info.video.color.assumed)}")
    if not info.video.timed:
        report.warn(
            f"{info.path.name}: has no times; its pictures follow each other at {float(info.video.rate):.3f} a second, "
            "and the whole file is one segment: a stopped run starts over"
        )
    elif not info.video.monotonic:
        report.warn(
            f"{info.path.name}: its timestamps come out of order; pictures keep the order they decode in, and "
            "the whole file is one segment: a stopped run starts over"
        )
    if info.video.parts:
        report.warn(f"{info.path.name}: {_changes(info.video)}")
    for line in told_pieces(info.video.timeline):
        report.warn(f"{info.path.name}: {line}")
    for what in info.video.lost:
        report.warn(f"{info.path.name}: {what} cannot be carried over and will be missing")


def _changes(video: StreamInfo) -> str:
    """Where its pictures change, and what becomes of them."""
    begin, said = video.parts[0].start, []
    for part in video.parts[:PARTS_SAID]:
        shape = "" if part.sample_aspect == 1 else f" (pixel shape {part.sample_aspect})"
        format = "" if part.pixel_format == video.pixel_format else f" {part.pixel_format}"
        at = f" from {float((part.start - begin) * video.time_base):.1f} s" if part.start != begin else ""
        said.append(f"{part.width}x{part.height}{shape}{format}{at}")
    more = f" and {len(video.parts) - PARTS_SAID} more changes" if len(video.parts) > PARTS_SAID else ""
    shape = "" if video.sample_aspect == 1 else f" (pixel shape {video.sample_aspect})"
    return (
        f"its pictures change: {', '.join(said)}{more}; all are fitted into {video.width}x{video.height}{shape} before "
        "they are enlarged, with black bars where their shape is another"
    )


def announce_container(info: SourceInfo, keep: Keep, report: Report) -> None:
    """Say what is dropped, and what else the result's container cannot keep."""
    container = keep.container
    for track in keep.dropped:
        report.warn(f"dropped: {track}")
    for track, why in keep.left:
        report.warn(f"{info.path.name}: {track} is left out: {why}")
    for line in losses(container, info):
        report.warn(f"{info.path.name}: {line}")
    if keep.scripts:
        which = ", ".join(f"#{index}" for index in keep.scripts)
        report.warn(
            f"{info.path.name}: the ASS of {which} is told the size it was made for, LayoutRes {info.video.width}x"
            f"{info.video.height}, so that borders, shadows and blur stay as wide; all else of it is kept"
        )
    for sound in keep.sounds:
        if sound.note:
            report.warn(f"{info.path.name}: {sound.note}")
    for track in info.tracks:
        if track.kind == "video" and track.index in keep.copy:
            report.warn(
                f"{info.path.name}: {track} is copied as it is, only #{info.video.index} is enlarged; leave it out "
                f"with --drop {track.index}"
            )
    for track in info.tracks if container != "matroska" else ():
        held = {"default", "attached_pic", *HELD_FLAGS[container]}
        lost = [f"its flag “{flag}”" for flag in track.dispositions if flag not in held]
        if track.index in keep.copy and lost:
            report.warn(f"{info.path.name}: {NAMES[container]} has no place for {' and '.join(lost)} of {track}")
    if container == "matroska" and (info.video.time_base * 1000).denominator != 1:
        report.warn(f"{info.path.name}: MKV rounds its timestamps to milliseconds; .mp4 would keep them exactly")
