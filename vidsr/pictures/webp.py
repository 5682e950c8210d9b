"""WebP: what is in it, and how animations are put together. After Google's WebP container specification."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

from vidsr.errors import SourceError
from vidsr.pictures.base import Metadata
from vidsr.pictures.compose import Patch, changed_box, ticks

QUALITY = 95  # where the source was lossy, too
_LONGEST = 2**24 - 1  # milliseconds that a picture is shown
_ICC, _ALPHA, _EXIF, _XMP, _ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02


@dataclass(frozen=True)
class Contents:
    """lossless: of all pictures. patches: of an animation; else none."""

    lossless: bool
    width: int = 0
    height: int = 0
    patches: tuple[Patch, ...] = ()
    plays: int = 0
    alpha: bool = False


def contents(data: bytes) -> Contents:
    """Look through a WebP. SourceError (without the file's name) where it is cut off or contradicts itself."""
    if len(data) < 12 or struct.unpack_from("<I", data, 4)[0] + 8 > len(data) + 1:
        raise SourceError("is cut off")
    chunks = list(_chunks(data[12:]))
    lossless = not any(kind == b"VP8 " for kind, _ in chunks)
    found = dict(reversed(chunks))
    if b"ANIM" not in found or b"VP8X" not in found:
        return Contents(lossless)
    extended = found[b"VP8X"]
    width, height = _number(extended[4:7]) + 1, _number(extended[7:10]) + 1
    frames = [content for kind, content in chunks if kind == b"ANMF"]
    lossless = not any(kind == b"VP8 " for frame in frames for kind, _ in _chunks(frame[16:]))
    patches = tuple(map(_patch, frames))
    for patch in patches:
        if patch.x + patch.width > width or patch.y + patch.height > height:
            raise SourceError("a picture of its animation lies outside of it")
    if not patches:
        raise SourceError("holds no picture")
    plays = struct.unpack_from("<H", found[b"ANIM"], 4)[0]
    return Contents(lossless, width, height, patches, plays, bool(extended[0] & _ALPHA))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if at + 8 + size > len(data):
            raise SourceError("is cut off")
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _number(three: bytes) -> int:
    return int.from_bytes(three, "little")


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _patch(frame: bytes) -> Patch:
    x, y, width, height, shown = (_number(frame[at : at + 3]) for at in range(0, 15, 3))
    flags = frame[15]
    pixels = b"".join(_chunk(*each) for each in _chunks(frame[16:]) if each[0] in (b"ALPH", b"VP8 ", b"VP8L"))
    extended = _chunk(b"VP8X", bytes([_ALPHA, 0, 0, 0]) + _three(width) + _three(height))
    body = b"WEBP" + extended + pixels
    file = b"RIFF" + struct.pack("<I", len(body)) + body
    after = "clear" if flags & 1 else "keep"
    return Patch(2 * x, 2 * y, width + 1, height + 1, Fraction(shown, 1000), not flags & 2, after, file)  # type: ignore[arg-type]


def still(picture: np.ndarray, lossless: bool, metadata: Metadata = Metadata()) -> bytes:
    """One picture, [H, W, 3 or 4] uint8, as a file."""
    file = BytesIO()
    Image.fromarray(picture).save(
        file, "WEBP", lossless=lossless, quality=75 if lossless else QUALITY, method=4,
        exif=metadata.exif, xmp=metadata.xmp, icc_profile=metadata.icc,
    )  # fmt: skip
    return file.getvalue()


def write_webp(
    file: BinaryIO, width: int, height: int, pictures: Iterable[np.ndarray], seconds: tuple[Fraction, ...],
    plays: int, lossless: bool, metadata: Metadata,
) -> None:  # fmt: skip
    """Write an animation. pictures: [H, W, 3 or 4] uint8. Of each only the rectangle is written that differs from the
    one before."""
    flags = _ANIMATION | _ICC * bool(metadata.icc) | _EXIF * bool(metadata.exif) | _XMP * bool(metadata.xmp)
    begin = file.tell()
    file.write(b"RIFF\0\0\0\0WEBP")
    file.write(_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + _three(width - 1) + _three(height - 1)))
    if metadata.icc:
        file.write(_chunk(b"ICCP", metadata.icc))
    file.write(_chunk(b"ANIM", bytes(4) + struct.pack("<H", min(plays, 65535))))
    before: np.ndarray | None = None
    for shown, picture in zip(ticks(seconds, 1000), pictures, strict=True):
        flags |= _ALPHA * (picture.shape[2] == 4)
        x0, y0, x1, y1 = changed_box(before, picture, even=True)
        own = still(np.ascontiguousarray(picture[y0:y1, x0:x1]), lossless)
        pixels = b"".join(_chunk(*each) for each in _chunks(own[12:]) if each[0] in (b"ALPH", b"VP8 ", b"VP8L"))
        place = b"".join(map(_three, (x0 // 2, y0 // 2, x1 - x0 - 1, y1 - y0 - 1, min(shown, _LONGEST))))
        file.write(_chunk(b"ANMF", place + b"\2" + pixels))  # in place of what is there
        before = picture
    if metadata.exif:
        file.write(_chunk(b"EXIF", metadata.exif))
    if metadata.xmp:
        file.write(_chunk(b"XMP ", metadata.xmp))
    end = file.tell()
    file.seek(begin + 4)
    file.write(struct.pack("<I", end - begin - 8))
    file.seek(begin + 20)
    file.write(bytes([flags]))
    file.seek(end)
