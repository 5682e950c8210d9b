"""All of a result but its video: streams set up as the source has them, their packets by stream copy, chapters, tags.

stitch.py makes a file of it, run/live.py a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from vidsr.container import copy_stream, heard, is_cover, kind_of, open_input, packets
from vidsr.errors import OutputError
from vidsr.frames import SourceInfo, StreamInfo, Window
from vidsr.mux.ass import with_layout
from vidsr.mux.keep import Keep
from vidsr.mux.losses import CONTAINER_TAGS
from vidsr.mux.making import Maker, add_sound
from vidsr.mux.matroska.details import MatroskaDetails, read_details
from vidsr.mux.matroska.restore import TrackPatch

_STALE_TAGS = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS", "ENCODER")


def muxer_options(info: SourceInfo, keep: Keep) -> dict[str, str]:
    """FFmpeg's options of the result's container."""
    options = {}
    if keep.container != "matroska":  # the start of a track is kept in this unit, milliseconds by default
        options["movie_timescale"] = str(max(1000, min(info.video.time_base.denominator, 10**8)))
        if keep.as_keys:
            options["movflags"] = "use_metadata_tags"
    if keep.container == "matroska":
        # Times stay as they are. Else FFmpeg would move the whole file later when a track begins before zero, as Opus's
        # pre-skip and AAC's priming make it do.
        options["avoid_negative_ts"] = "disabled"
    return options


def add_streams(
    source: InputContainer, result: OutputContainer, info: SourceInfo, keep: Keep, add_video: Callable[[], Any]
) -> dict[int, Any]:
    """Create the result's streams in the source's order, the video by `add_video`; {source index: result stream}."""
    result.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in CONTAINER_TAGS})
    mapping: dict[int, Any] = {}
    sounds = {sound.index: sound for sound in keep.sounds}
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
        elif stream.index in sounds:
            added = add_sound(result, sounds[stream.index])
        else:
            added = copy_stream(result, stream)
            if stream.index in keep.scripts:
                header = bytes(added.codec_context.extradata or b"")
                added.codec_context.extradata = with_layout(header, info.video.width, info.video.height)
        tags = clean_tags(stream.metadata)
        if "name" in tags and "title" not in tags:  # as MP4 and MOV call it
            tags["title"] = tags.pop("name")
        added.metadata.update(tags)
        if stream.index == info.video.index and keep.container == "matroska":
            _set_tags(added, info.video)
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


def _set_tags(stream: Any, video: StreamInfo) -> None:
    """FFmpeg's Matroska muxer makes the track's StereoMode and AlphaMode of tags."""
    tags = {name: value for name, value in stream.metadata.items() if name.lower() not in ("stereo_mode", "alpha_mode")}
    tags |= {"stereo_mode": video.stereo} if video.stereo else {}
    tags |= {"alpha_mode": "1"} if video.alpha else {}
    stream.metadata.clear()
    stream.metadata.update(tags)


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


def set_chapters(source: InputContainer, result: OutputContainer, window: Window) -> None:
    """The source's chapters; of a part of it those that reach into it."""
    chapters = source.chapters()
    if window.whole:
        result.set_chapters(_from_the_start(chapters, result))
        return
    kept = []
    for chapter in chapters:
        base = Fraction(chapter["time_base"] or 1)
        start, end = chapter["start"] * base, chapter["end"] * base
        if end > window.shift and (window.end is None or start < window.end):
            low, high = max(start - window.shift, Fraction(0)), end if window.end is None else min(end, window.end)
            cut: Any = {**chapter, "start": round(low / base), "end": round((high - window.shift) / base)}
            kept.append(cut)
    result.set_chapters(_from_the_start(kept, result))


def _from_the_start(chapters: list[Any], result: OutputContainer) -> list[Any]:
    """MP4 and MOV count the time of chapters from the first one on: one without a name covers what comes before it.
    Their muxer leaves out those that have no title at all."""
    if result.format.name == "matroska" or not chapters:
        return chapters
    named = [{**chapter, "metadata": {"title": "", **chapter["metadata"]}} for chapter in chapters]
    first = min(named, key=lambda chapter: chapter["start"] * Fraction(chapter["time_base"] or 1))
    if first["start"] > 0:
        named.insert(0, {**first, "id": 0, "start": 0, "end": first["start"], "metadata": {"title": ""}})
    return named


def when(packet: Any) -> float:
    """Seconds at which a packet has its place among those of other tracks."""
    return float((packet.dts if packet.dts is not None else packet.pts) * packet.time_base)


def copied_packets(
    source: InputContainer, mapping: dict[int, Any], info: SourceInfo, keep: Keep, window: Window, clock: bool = False,
    begin: int = 0,
) -> Iterator[Any]:  # fmt: skip
    """Every packet of the kept streams, as it is or as `keep.sounds` says; of a part of the source those that begin in
    it, as much earlier.

    clock: the source's own video packets come too, their times changed alike, to tell how far the file has been read.
    begin: see `container.packets`.
    """
    wanted = [source.streams[index] for index in mapping if clock or index != info.video.index]
    for stream in source.streams:
        if stream not in wanted:
            stream.discard = av.stream.Discard.all
    makers = {sound.index: Maker(sound, mapping[sound.index], window) for sound in keep.sounds}
    found = packets(source, wanted, timeline=info.video.timeline, begin=begin)
    for packet in heard(found, makers):
        if is_cover(packet.stream) and packet.size:
            packet.pts = packet.dts = 0  # a picture for the whole file; MP4 wants a time all the same
        if packet.pts is None and packet.dts is None:
            continue
        maker = makers.get(packet.stream_index)
        if maker is not None and not maker.sound.config:
            yield from maker.take(packet)
            continue
        if not window.whole and not is_cover(packet.stream):
            time = (packet.pts if packet.pts is not None else packet.dts) * packet.time_base
            if packet.stream_index != info.video.index and not window.holds(time):
                continue
            offset = ceil(window.shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - offset
            packet.dts = None if packet.dts is None else packet.dts - offset
        if maker is not None:
            yield from maker.take(packet)
            continue
        packet.stream = mapping[packet.stream_index]
        yield packet
    for index, maker in makers.items():
        yield from maker.finish(source.streams[index])


def lost_details(
    info: SourceInfo, keep: Keep, window: Window, sample_aspect: Fraction | None = None
) -> tuple[list[TrackPatch], MatroskaDetails | None]:
    """What FFmpeg's Matroska muxer leaves out: BCP-47 languages, the pixels' shape, chapters in several languages.

    sample_aspect: of the result's pixels; None: as the source's. For restore.restore or restore.restored_header.
    """
    details = read_details(info.path) if "matroska" in info.container else None
    if details is not None and not window.whole:
        details = replace(details, chapters=None)  # they were cut and moved
    if details is not None and info.video.remade:
        rate = info.video.rate
        duration = round(10**9 / rate) if rate.denominator in (1, 1001) else None
        own = [replace(track, default_duration=duration) if track.type == 1 else track for track in details.tracks]
        details = replace(details, tracks=tuple(own))
    tracks = [track for track in info.tracks if track.kind not in ("attachment", "cover")]
    kept = [track for track in tracks if track.index in keep.copy or track.index == info.video.index]
    same_order = details is not None and len(details.tracks) == len(tracks)
    patches = []
    for position, track in enumerate(kept):
        aspect = (sample_aspect or info.video.sample_aspect) if track.index == info.video.index else None
        patches.append(TrackPatch(position, tracks.index(track) if same_order else None, sample_aspect=aspect))
    return patches, details
