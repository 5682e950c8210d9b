"""What is in a file, which colour it has, and what of it will be kept."""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from vidsr.container import is_cover, kind_of, open_input, packets, read_timeline, title_of
from vidsr.errors import SourceError
from vidsr.frames import HdrMetadata, PixelFormat, SourceInfo, StreamInfo, Track
from vidsr.source.alpha import decoder_of, has_alpha
from vidsr.source.colorspec import resolve_color
from vidsr.source.stereo import stereo_layout
from vidsr.timeline import Timeline

FRAMES_LOOKED_AT = 48
PICTURES_COUNTED = 240  # of one video track, where there are several
FILM_SHARE = 4  # a track with fewer than a fourth of the pictures of another is not the film
_LOST = {
    "DOVI_METADATA": "Dolby Vision metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "DYNAMIC_HDR_PLUS": "HDR10+ dynamic metadata",
    "A53_CC": "closed captions inside the video",
    "FILM_GRAIN_PARAMS": "film grain parameters",
}


def probe(path: str | Path) -> SourceInfo:
    """Read `path`'s streams and decode its first frames. SourceError when there is no picture to upscale."""
    path = Path(path)
    with open_input(path) as container:
        stream = _choose_video(path, container)
        tracks = tuple(_track(stream) for stream in container.streams)
        timeline = read_timeline(container, path, stream.index)
        sample = _look(container, stream, timeline)
        if not sample.frames:
            raise SourceError(f"{path}: no frame of its {stream.codec_context.name} video decodes; is it encrypted?")
        duration = None if container.duration is None else container.duration / av.time_base
        if timeline.pieces:  # the container knows of the first piece only, or the last; Matroska tells when it ends
            duration = timeline.end - (0 if "matroska" in container.format.name else timeline.start)
        chapters = len(container.chapters())
        video = replace(_describe(path, stream, sample), timeline=timeline)
        return SourceInfo(path, container.format.name, duration, video, tracks, chapters)


def _choose_video(path: Path, container: InputContainer) -> Any:
    """The film: the same track in a source and in its result.

    Of the tracks that have about as many pictures as any (thumbnails and titles have few) the default one, else the
    first; covers are none.
    """
    videos = [stream for stream in container.streams.video if not is_cover(stream)]
    if not videos:
        held = ", ".join(sorted({kind_of(stream) for stream in container.streams})) or "nothing"
        raise SourceError(f"{path}: has no video to upscale (it holds {held})")
    if len(videos) > 1:
        pictures = _count_pictures(path, [video.index for video in videos])
        videos = [video for video in videos if FILM_SHARE * pictures[video.index] >= max(pictures.values())]
    stream = next((video for video in videos if video.disposition & Disposition.default), videos[0])
    if stream.codec_context is None:
        raise SourceError(f"{path}: no decoder for its video ({stream.codec_tag or 'unknown codec'})")
    return stream


def _count_pictures(path: Path, indices: list[int]) -> dict[int, int]:
    """How many coded pictures each of these streams has up to where one of them has PICTURES_COUNTED."""
    found = dict.fromkeys(indices, 0)
    with open_input(path) as container:
        for packet in packets(container, [container.streams[index] for index in indices]):
            found[packet.stream_index] += packet.size > 0
            if found[packet.stream_index] == PICTURES_COUNTED:
                break
    return found


def _track(stream: Stream) -> Track:
    name = "?"
    if kind_of(stream) == "attachment":
        name = stream.metadata.get("filename", "?")
    elif stream.codec_context is not None:
        name = stream.codec_context.codec.canonical_name
    elif getattr(stream, "name", None):  # PyAV raises for subtitles of an unknown codec
        name = str(stream.name)
    flags = tuple(flag.name for flag in type(stream.disposition) if flag.name and flag in stream.disposition)
    language = stream.metadata.get("language", "")
    return Track(stream.index, kind_of(stream), name, language, title_of(stream), flags)


@dataclass
class _Sample:
    """What the first frames show that the headers do not."""

    decoder: Any
    frames: list[Any] = field(default_factory=list)
    side_data: dict[str, bytes] = field(default_factory=dict)
    damaged: int = 0
    coded: list[int] = field(default_factory=list)  # pts of the packets decoded

    def field_step(self) -> int:
        """From a picture's first field to its second where each is coded by itself, pts units; else 0."""
        shown = [frame.pts for frame in self.frames if frame.pts is not None]
        others = sorted(set(self.coded) - set(shown))
        steps = [t - shown[at - 1] for t in others if 0 < (at := bisect_left(shown, t)) < len(shown)]
        return steps[0] if 2 * len(steps) >= len(shown) > 2 and len(set(steps)) == 1 else 0


def _look(container: InputContainer, stream: Any, timeline: Timeline) -> _Sample:
    """Decode up to FRAMES_LOOKED_AT frames, keeping their headers only."""
    sample = _Sample(decoder_of(stream, alpha=True))

    def damaged(error: Exception) -> None:
        sample.damaged += 1

    for packet in packets(container, [stream], damaged, timeline):
        try:
            frames = sample.decoder.decode(packet)
        except (av.FFmpegError, ValueError) as error:
            damaged(error)
            continue
        if packet.size and packet.pts is not None and not packet.is_discard:
            sample.coded.append(packet.pts)
        for frame in frames:
            for name, data in side_data_of(frame):
                sample.side_data.setdefault(name, data)
            sample.frames.append(frame)
        if len(sample.frames) >= FRAMES_LOOKED_AT or (sample.damaged > 200 and not sample.frames):
            break
    return sample


def lost_phrases(frame: Any) -> set[str]:
    """What this picture carries that cannot survive a new encode, a phrase each."""
    return {_LOST[name] for name, _ in side_data_of(frame) if name in _LOST}


def side_data_of(frame: Any) -> list[tuple[str, bytes]]:
    """(name, bytes) of a frame's side data; PyAV raises on kinds newer than itself, which we do not need."""
    found = []
    try:
        for i in range(len(frame.side_data)):
            found.append((frame.side_data[i].type.name, bytes(frame.side_data[i])))
    except ValueError:
        pass
    return found


def _describe(path: Path, stream: Any, sample: _Sample) -> StreamInfo:
    first = sample.frames[0]
    context = stream.codec_context
    pts = [frame.pts for frame in sample.frames if frame.pts is not None]
    steps = [b - a for a, b in zip(pts, pts[1:]) if b > a]
    time_base = Fraction(stream.time_base)
    working = working_format(path, first.format.name)
    fields = sample.field_step()
    rate = _sane_rate(stream, steps, time_base)
    if fields:  # it may be theirs
        rate = Fraction(1 / (median(steps) * time_base)).limit_denominator(1001)
    color = resolve_color(
        first.width, first.height, first_code(first.colorspace, context.colorspace),
        first_code(first.color_primaries, context.color_primaries), first_code(first.color_trc, context.color_trc),
        int(first.color_range) or int(context.color_range), first.format.name, context.name,
    )  # fmt: skip
    matrix = sample.side_data.get("DISPLAYMATRIX")
    lost = {phrase for frame in sample.frames for phrase in lost_phrases(frame)}
    stereo, unseen = stereo_layout(stream.metadata, sample.side_data.get("STEREO3D"), context.extradata)
    lost |= {unseen} if unseen else set()
    return StreamInfo(
        index=stream.index,
        codec=context.codec.canonical_name,
        width=first.width,
        height=first.height,
        pixel_format=first.format.name,
        format=working,
        color=color,
        time_base=time_base,
        rate=rate,
        field_step=fields,
        sample_aspect=Fraction(stream.sample_aspect_ratio or context.sample_aspect_ratio or 1),
        coded_aspect=Fraction(context.sample_aspect_ratio or 1),
        alpha=has_alpha(first.format.name),
        display_matrix=struct.unpack("<9i", matrix[:36]) if matrix and len(matrix) >= 36 else None,
        hdr=_hdr(sample.side_data),
        interlaced=any(frame.interlaced_frame for frame in sample.frames),
        timed=bool(pts),
        monotonic=all(a < b for a, b in zip(pts, pts[1:])) and len(pts) == len(sample.frames),
        lost=tuple(sorted(lost)),
        stereo=stereo,
    )


def first_code(*values: int) -> int:
    """The first H.273 code that says something; 2 ("unspecified") otherwise."""
    return next((int(value) for value in values if int(value) != 2), 2)


def working_format(path: Path, name: str) -> PixelFormat:
    """The planar format that frames in FFmpeg's format `name` are brought to: never fewer bits, never less chroma.

    Conversions between layouts of YUV are exact rearrangements, or chroma resampling by swscale for the layouts no
    modern encoder takes (4:1:1, 4:1:0, 4:4:0). RGB in any packing becomes planar RGB, which is an exact rearrangement.
    """
    try:
        return PixelFormat.from_name(name)
    except ValueError:
        pass
    try:
        layout = av.VideoFormat(name)
    except ValueError as error:
        raise SourceError(f"{path}: unknown pixel format {name!r}") from error
    bits = max(component.bits for component in layout.components) if layout.components else 8
    depth = next((depth for depth in (8, 10, 12, 16) if depth >= bits), 16)
    if layout.is_rgb or name.startswith("pal"):
        return PixelFormat("rgb", depth)
    if len(layout.components) < 3 or name.startswith(("gray", "ya", "mono")):
        return PixelFormat("gray", depth)
    # Chroma planes of a 32x32 picture tell the subsampling of any layout.
    x, y = 32 // layout.chroma_width(32), 32 // layout.chroma_height(32)
    shift = (1, 1) if x > 1 and y > 1 else (1, 0) if x == 2 else (0, 0)
    if x == 4 or (x == 1 and y == 2):
        shift = (0, 0)
    return PixelFormat("yuv", min(depth, 12), shift)


def _sane_rate(stream: Any, steps: list[int], time_base: Fraction) -> Fraction:
    """A frame rate encoders can plan with: containers say 1000 or nothing for variable frame rates."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 1 <= rate <= 240:
            return Fraction(rate)
    if steps:
        rate = 1 / (median(steps) * time_base)
        if 1 <= rate <= 240:
            return Fraction(rate).limit_denominator(1001)
    return Fraction(25)


def _hdr(side_data: dict[str, bytes]) -> HdrMetadata | None:
    """HDR10 static metadata from FFmpeg's AVMasteringDisplayMetadata and AVContentLightMetadata structures."""
    mastering = content_light = None
    raw = side_data.get("MASTERING_DISPLAY_METADATA", b"")
    if len(raw) >= 88:
        numbers = struct.unpack("<22i", raw[:88])
        has_primaries, has_luminance = numbers[20:]
        if has_primaries and has_luminance and all(numbers[i + 1] for i in range(0, 20, 2)):
            mastering = tuple(Fraction(numbers[i], numbers[i + 1]) for i in range(0, 20, 2))
    raw = side_data.get("CONTENT_LIGHT_LEVEL", b"")
    if len(raw) >= 8:
        content_light = struct.unpack("<2I", raw[:8])
    return HdrMetadata(mastering, content_light) if mastering or content_light else None
