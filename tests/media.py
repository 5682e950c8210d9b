"""Tiny real media for the tests: episodes in MKV or MP4 whose pictures carry their own number.

Plain functions, no fixtures. `write_episode` makes a file, `read_numbers` and `packets` look into one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.media_subtitles import subtitle_stream
from vidsr.mux.matroska import details as matroska
from vidsr.mux.matroska.details import MatroskaDetails
from vidsr.mux.matroska.ebml import master, text, uint
from vidsr.mux.matroska.restore import TrackPatch, restore

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints past FFmpeg's log: errors only

BITS = 12  # of a picture's number, drawn along its upper edge
RATE = 48000  # samples a second of every sound
ISO_639_2 = {"ja": "jpn", "en": "eng", "en-GB": "eng", "de": "ger", "und": "und"}
BT709 = {"color_primaries": 1, "color_trc": 1, "colorspace": 1, "color_range": 1}
BT601 = {"color_primaries": 6, "color_trc": 6, "colorspace": 6, "color_range": 1}
_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast", "crf": "12", "threads": "1", "sc_threshold": "0"},
    "libx265": {"preset": "ultrafast", "crf": "12", "x265-params": "log-level=none:pools=1:scenecut=0:open-gop=0"},
    "libsvtav1": {"preset": "12", "crf": "12", "svtav1-params": "lp=1"},
}


@dataclass(frozen=True)
class Track:
    """A sound or subtitle track. language: BCP-47; offset: of its start, in ms; flags: FFmpeg's disposition names."""

    codec: str
    language: str = "und"
    offset: int = 0
    title: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Episode:
    """What was written. pts: of the pictures in order of presentation, in time_base units as the file keeps them.

    subtitles: the payloads of each track's cues.
    """

    path: Path
    pts: list[int]
    time_base: Fraction
    subtitles: list[list[bytes]] = field(default_factory=list)


# ---- looking into files ---------------------------------------------------------------------------------------------


def packets(path: Path) -> dict[int, list[tuple[int | None, int | None, str]]]:
    """{stream index: [(pts, duration, MD5 of the payload)]} of a file, in file order."""
    found: dict[int, list[tuple[int | None, int | None, str]]] = {}
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.size:
                digest = hashlib.md5(bytes(packet)).hexdigest()
                found.setdefault(packet.stream_index, []).append((packet.pts, packet.duration, digest))
    return found


def read_numbers(path: Path) -> list[tuple[int | None, int]]:
    """(pts, number drawn into it) of every picture of a file, at whatever size it now has."""
    with av.open(str(path)) as file:
        return [(frame.pts, read_number(frame)) for frame in file.decode(video=0)]


def read_number(frame: av.VideoFrame) -> int:
    """The number that `draw` put into this picture, or into the one it was scaled from."""
    luma = _plane(frame, 0)
    height, width = luma.shape
    row = luma[height // 12]
    middle = (1 << (_bits(frame) - 1)) - 1
    return sum(1 << bit for bit in range(BITS) if row[int((bit + 0.5) * width / BITS)] > middle)


# ---- pictures -------------------------------------------------------------------------------------------------------


def draw(number: int, size: tuple[int, int] = (64, 48), pix_fmt: str = "yuv420p") -> av.VideoFrame:
    """A flat cartoon: a dark-outlined disc that moves over two-coloured ground, `number` in bits above it."""
    frame = av.VideoFrame(*size, pix_fmt)
    scale = 1 << (_bits(frame) - 8)
    for index in range(len(frame.planes)):
        plane = _plane(frame, index)
        levels = _LUMA if index == 0 or pix_fmt.startswith("gbr") else (_BLUE, _RED)[index - 1]
        plane[:] = (_paint(plane.shape, number, levels) * scale).astype(plane.dtype)
    return frame


# Levels (8 bit) of sky, ground, disc, outline, bit 0, bit 1.
_LUMA, _BLUE, _RED = (170, 90, 200, 20, 30, 220), (150, 110, 90, 128, 128, 128), (110, 120, 160, 128, 128, 128)


def _paint(shape: tuple[int, ...], number: int, levels: Sequence[int]) -> np.ndarray:
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    y, x = (y + 0.5) / shape[0], (x + 0.5) / shape[1]
    distance = np.hypot(x - (0.2 + 0.6 * (number % 25) / 25), (y - 0.6) * 0.75)
    picture = np.where(y < 0.75, levels[0], levels[1])
    picture = np.where(distance < 0.2, levels[3], picture)
    picture = np.where(distance < 0.15, levels[2], picture)
    bit = number >> (x * BITS).astype(int) & 1
    return np.where(y < 1 / 6, np.where(bit, levels[5], levels[4]), picture)


def _bits(frame: av.VideoFrame) -> int:
    return int(frame.format.components[0].bits)


def _plane(frame: av.VideoFrame, index: int) -> np.ndarray:
    """A plane's samples [rows, columns], sharing the frame's memory."""
    plane = frame.planes[index]
    dtype = np.dtype(np.uint8 if _bits(frame) == 8 else np.uint16)
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)  # type: ignore[call-overload]
    return rows[: plane.height, : plane.width]


# ---- whole files ----------------------------------------------------------------------------------------------------


def write_episode(
    path: Path,
    *,
    frames: int = 24,
    size: tuple[int, int] = (64, 48),
    pix_fmt: str = "yuv420p",
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    keyframes: int = 12,
    rate: Fraction = Fraction(24000, 1001),
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 1000),
    color: Mapping[str, int] = BT709,
    sar: Fraction | None = None,
    rotation: int = 0,
    audio: Iterable[Track] = (),
    subtitles: Iterable[Track] = (),
    attachments: Iterable[tuple[str, str, bytes]] = (),
    cover: bool = False,
    chapters: Sequence[tuple[int, Mapping[str, str]]] = (),
    metadata: Mapping[str, str] | None = None,
    language: str = "ja",
    first_number: int = 0,
) -> Episode:
    """Write a small episode; its container follows the suffix of `path` (.mkv, .mp4).

    options: of the encoder, over the quick ones used otherwise. keyframes: pictures between two.
    pts: of each picture in `time_base` units, for variable rate or a start other than 0; made from `rate` otherwise.
    MKV rounds every time to 1 ms. sar: width of a pixel divided by its height. rotation: degrees, for players to turn.
    attachments: (name, MIME type, content), MKV only. chapters: (start in ms, {BCP-47 language: name}).
    """
    audio, subtitles, is_mkv = list(audio), list(subtitles), path.suffix == ".mkv"
    times = list(pts) if pts is not None else [round(i / rate / time_base) for i in range(frames)]
    seconds = float(max(times) * time_base + 1 / rate)
    # FFmpeg would move everything later when the very first packet is a sound that begins before 0.
    with av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"} if is_mkv else {}) as result:
        result.metadata.update(metadata or {})
        if chapters:
            result.set_chapters(_plain_chapters(chapters, seconds))
        video: Any = result.add_stream(codec, rate=rate, options={**_ENCODERS.get(codec, {}), **(options or {})})
        context = video.codec_context
        context.width, context.height, context.pix_fmt, context.gop_size = *size, pix_fmt, keyframes
        context.time_base = video.time_base = time_base
        for name, value in color.items():
            setattr(context, name, value)
        if sar:
            context.sample_aspect_ratio = sar
        _describe(video, Track(codec, language, flags=("default",)))
        if rotation:
            video.set_display_rotation(rotation)
        queue: list[Any] = []
        sounds: list[Any] = [result.add_stream(track.codec, rate=RATE, layout="stereo") for track in audio]
        texts = [subtitle_stream(result, track.codec, track.offset, seconds) for track in subtitles]
        for stream, track in zip([*sounds, *(stream for stream, _ in texts)], [*audio, *subtitles]):
            _describe(stream, track)
        for name, mime, content in attachments:
            result.add_attachment(name, mime, content)
        if cover:
            queue += _add_cover(result, is_mkv)

        for number, time in enumerate(times, first_number):
            frame = draw(number, size, pix_fmt)
            frame.pts, frame.time_base = time, time_base
            queue += video.encode(frame)
        queue += video.encode(None)
        for index, (stream, track) in enumerate(zip(sounds, audio)):
            queue += _sound(stream, 440 * (index + 1), seconds, track.offset)
        queue += [packet for _, cues in texts for packet in cues]
        for packet in sorted(queue, key=lambda p: (p.dts if p.dts is not None else p.pts) * p.time_base):
            result.mux(packet)
        kept = Fraction(1, 1000) if is_mkv else Fraction(video.time_base)
    if is_mkv:
        languages = [language, *(track.language for track in [*audio, *subtitles])]
        patches = [TrackPatch(i, language_bcp47=tag) for i, tag in enumerate(languages) if tag != "und"]
        patches += [TrackPatch(0, sample_aspect=sar)] if sar else []
        restore(path, patches, MatroskaDetails(chapters=_chapters(chapters) if chapters else None))
    contents = [[bytes(packet) for packet in cues] for _, cues in texts]
    return Episode(path, [round(time * time_base / kept) for time in sorted(times)], kept, contents)


def _describe(stream: Any, track: Track) -> None:
    stream.metadata["language"] = ISO_639_2[track.language]
    if track.title:
        stream.metadata["title"] = track.title
    stream.disposition = sum((av.stream.Disposition[flag] for flag in track.flags), av.stream.Disposition(0))


def _sound(stream: Any, pitch: float, seconds: float, offset: int) -> list[Any]:
    """Packets of a sine of `pitch` Hz that begins `offset` ms after the picture."""
    wave = (8000 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * RATE)) / RATE)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], "s16", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    found = [*stream.encode(frame), *stream.encode(None)]
    for packet in found:
        shift = round(Fraction(offset, 1000) / packet.time_base)
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
    return found


def _add_cover(result: Any, is_mkv: bool) -> list[Any]:
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 32, 32, "yuvj420p", Fraction(1, 25)
    (packet,) = list(encoder.encode(draw(1, (32, 32), "yuvj420p")))
    if is_mkv:
        result.add_attachment("cover.jpg", "image/jpeg", bytes(packet))
        return []
    stream = result.add_stream("mjpeg", rate=25)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic
    picture = av.Packet(bytes(packet))
    picture.pts, picture.dts, picture.time_base, picture.stream = 0, 0, Fraction(1, 90000), stream
    return [picture]


def _plain_chapters(chapters: Sequence[tuple[int, Mapping[str, str]]], seconds: float) -> list[Any]:
    ends = [start for start, _ in chapters[1:]] + [round(seconds * 1000)]
    titles = [next(iter(names.values())) for _, names in chapters]
    return [
        {"id": i, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
        for i, ((start, _), title, end) in enumerate(zip(chapters, titles, ends), 1)
    ]


def _chapters(chapters: Sequence[tuple[int, Mapping[str, str]]]) -> bytes:
    atoms = b""
    for i, (start, names) in enumerate(chapters, 1):
        atom = uint(matroska.CHAPTER_UID, i) + uint(matroska.CHAPTER_START, start * 1_000_000)
        for tag, name in names.items():
            words = text(matroska.CHAPTER_STRING, name) + text(matroska.CHAPTER_LANGUAGE, ISO_639_2[tag])
            atom += master(matroska.CHAPTER_DISPLAY, words + text(matroska.CHAPTER_BCP47, tag))
        atoms += master(matroska.CHAPTER, atom)
    return master(matroska.CHAPTERS, master(matroska.EDITION, uint(matroska.EDITION_DEFAULT, 1) + atoms))
