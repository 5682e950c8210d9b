"""Tiny interlaced and telecined videos for the tests: pictures of media.draw, by their numbers, cut into fields.

A film is a list of numbers; its fields are a list of numbers, too, in the order in which they are shown. Top fields are
first unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.media import BT601, draw

SIZE = (96, 64)
NTSC, FILM, PAL = Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25)

Planes = tuple[np.ndarray, ...]


@cache
def picture(number: int) -> Planes:
    """The planes of the film's picture of that number: a disc has moved, and the number is written above it."""
    frame = draw(number, SIZE)
    planes = []
    for _index, plane in enumerate(frame.planes):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        planes.append(rows[: plane.height, : plane.width].copy())
    return tuple(planes)


def telecined(film: Sequence[int], pattern: Sequence[int] = (2, 3), first: int = 0) -> list[int]:
    """The fields of a film, shown for 2 and for 3 fields in turn."""
    return [number for at, number in enumerate(film) for _ in range(pattern[(at + first) % len(pattern)])]


def woven(fields: Sequence[int], bottom_first: bool = False) -> list[Planes]:
    """The pictures of these fields, two a picture."""
    pictures = []
    for one, other in zip(fields[::2], fields[1::2]):
        top, bottom = (other, one) if bottom_first else (one, other)
        planes = tuple(plane.copy() for plane in picture(top))
        for plane, lower in zip(planes, picture(bottom)):
            plane[1::2] = lower[1::2]
        pictures.append(planes)
    return pictures


def write_pictures(
    path: Path, pictures: Sequence[Planes], rate: Fraction = NTSC, codec: str = "ffv1", **options: str
) -> Path:
    """A video of these pictures, lossless unless another codec is named. options: of the encoder."""
    with av.open(str(path), "w") as result:
        stream: Any = result.add_stream(codec, rate=rate, options=options)
        context = stream.codec_context
        height, width = pictures[0][0].shape
        context.width, context.height, context.pix_fmt, context.gop_size = width, height, "yuv420p", 12
        for name, value in BT601.items():
            setattr(context, name, value)
        for number, planes in enumerate(pictures):
            frame = av.VideoFrame(width, height, "yuv420p")
            for target, plane in zip(frame.planes, planes):
                rows = np.frombuffer(memoryview(target), np.uint8).reshape(-1, target.line_size)
                rows[: plane.shape[0], : plane.shape[1]] = plane
            frame.pts, frame.time_base = number, 1 / rate
            result.mux(stream.encode(frame))
        result.mux(stream.encode(None))
    return path


def write_fields(
    path: Path, fields: Sequence[int], rate: Fraction = NTSC, bottom_first: bool = False, codec: str = "ffv1",
    **options: str,
) -> Path:  # fmt: skip
    """A video of the pictures that these fields are woven to."""
    return write_pictures(path, woven(fields, bottom_first), rate, codec, **options)


def soft_telecine(path: Path, film: Sequence[int]) -> Path:
    """An MPEG-2 video of a film's own pictures, flagged to be shown for 2 and for 3 fields in turn, as DVDs are."""
    raw = path.with_suffix(".raw.mkv")
    write_pictures(raw, [picture(number) for number in film], FILM, "mpeg2video", b="3000000", bf="0")
    with av.open(str(raw)) as old, av.open(str(path), "w") as new:
        stream: Any = new.add_stream_from_template(old.streams.video[0], opaque=True)
        shown = 0
        for number, packet in enumerate(each for each in old.demux(video=0) if each.size):
            data = bytearray(bytes(packet))
            at = _picture_coding_extension(data)
            repeated = number % 2
            data[at + 3] = data[at + 3] & 0x7D | (shown % 2 == 0) << 7 | repeated << 1
            data[at + 4] |= 0x80
            flagged = av.Packet(bytes(data))
            flagged.time_base, flagged.pts, flagged.dts = 1 / (2 * NTSC), shown, shown
            flagged.is_keyframe, flagged.stream = packet.is_keyframe, stream
            new.mux(flagged)
            shown += 2 + repeated
    raw.unlink()
    return path


def _picture_coding_extension(data: bytearray) -> int:
    """Where it begins, behind its start code, in a packet of MPEG-2 video: ITU-T H.262, 6.2.3.1."""
    at = data.index(b"\0\0\1\xb5") + 4
    while data[at] >> 4 != 8:
        at = data.index(b"\0\0\1\xb5", at) + 4
    return at
