"""PNG and APNG: what is in them, and how they are written row by row, whatever their size.

After the PNG specification, third edition (W3C, 2025), which has APNG in it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from vidsr.errors import SourceError
from vidsr.pictures.base import Metadata, Page
from vidsr.pictures.compose import Patch, changed_box

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What is copied from one PNG to another: colour, texts, EXIF, pixel density.
_COPIED = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"mDCV", b"cLLI", b"pHYs", b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels
_XMP = b"XML:com.adobe.xmp"
_LEVEL = 6
_ROWS = 32  # filtered at once, which stay in the cache


@dataclass(frozen=True)
class Contents:
    """bits: of a sample, 1 to 16. channels: after palettes and transparent colours are resolved. plays: 0 for ever.

    chunks: what is worth copying. patches: of an animation; else none. default: whether the first picture of the file
    is not part of its animation.
    """

    width: int
    height: int
    bits: int
    channels: int
    chunks: tuple[tuple[bytes, bytes], ...]
    patches: tuple[Patch, ...]
    plays: int
    default: bool


def contents(data: bytes) -> Contents:
    """Look through a PNG. SourceError (without the file's name) where it is cut off or contradicts itself."""
    head, shared, copied, frames = b"", b"", [], []
    plays, animated, default, controls, whole, transparent = 0, False, False, [], False, False
    for kind, content in _chunks(data):
        if kind == b"IHDR":
            head = bytes(content)
        elif kind == b"acTL":
            animated, plays = True, struct.unpack(">II", content[:8])[1]
        elif kind == b"fcTL":
            controls.append(bytes(content))
            frames.append(b"")
        elif kind == b"IDAT":
            default = default or not controls
            if controls:
                frames[-1] += content
        elif kind == b"fdAT":
            if not frames:
                raise SourceError("an animation's picture comes before what tells of it")
            frames[-1] += content[4:]
        elif kind in (b"PLTE", b"tRNS"):
            shared += _chunk(kind, content)
            transparent = transparent or kind == b"tRNS"
        elif kind in _COPIED:
            copied.append((kind, bytes(content)))
        whole = whole or kind == b"IEND"
    if len(head) != 13:
        raise SourceError("has no header")
    if not whole:
        raise SourceError("is cut off")
    width, height, bits, color = struct.unpack(">IIBB", head[:10])
    channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(color, 3)
    channels += transparent and channels in (1, 3)
    patches = tuple(_patch(head, shared, *each) for each in zip(controls, frames)) if animated else ()
    for patch in patches:
        if patch.x + patch.width > width or patch.y + patch.height > height or not patch.width or not patch.height:
            raise SourceError("a picture of its animation lies outside of it")
    return Contents(width, height, bits, channels, tuple(copied), patches, plays, animated and default)


def _chunks(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kinds and contents, which are not copied: a picture may be large."""
    at, data = len(SIGNATURE), memoryview(data)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            return
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _patch(head: bytes, shared: bytes, control: bytes, pixels: bytes) -> Patch:
    """A picture of an APNG, as a PNG of its own."""
    _, width, height, x, y, number, unit, after, blend = struct.unpack(">IIIIIHHBB", control[:26])
    own = SIGNATURE + _chunk(b"IHDR", struct.pack(">II", width, height) + head[8:]) + shared
    file = own + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    words = {1: "clear", 2: "back"}
    return Patch(x, y, width, height, Fraction(number, unit or 100), blend == 1, words.get(after, "keep"), file)  # type: ignore[arg-type]


def _chunk(kind: bytes, content: bytes | memoryview) -> bytes:
    check = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + bytes(content) + struct.pack(">I", check)


def write_png(file: BinaryIO, page: Page, bands: Iterable[np.ndarray], metadata: Metadata) -> None:
    """Write one picture. bands: [rows, width, channels] each, from above; uint8, or uint16."""
    file.write(_header(page, metadata))
    _pixels(bands, lambda data: file.write(_chunk(b"IDAT", data)))
    file.write(_chunk(b"IEND", b""))


def write_apng(
    file: BinaryIO, page: Page, pictures: Iterable[np.ndarray], seconds: tuple[Fraction, ...], plays: int,
    default: np.ndarray | None, metadata: Metadata,
) -> None:  # fmt: skip
    """Write an animation. pictures: [H, W, channels] each. default: what is shown where animations are not known; None:
    the first of the pictures. Of each picture only the rectangle is written that differs from the one before."""
    file.write(_header(page, metadata))
    file.write(_chunk(b"acTL", struct.pack(">II", len(seconds), plays)))
    if default is not None:
        _pixels([default], lambda data: file.write(_chunk(b"IDAT", data)))
    number, before = 0, None

    def numbered(data: bytes) -> None:
        nonlocal number
        file.write(_chunk(b"fdAT", struct.pack(">I", number) + data))
        number += 1

    for shown, picture in zip(seconds, pictures, strict=True):
        x0, y0, x1, y1 = changed_box(before, picture)
        time = shown.limit_denominator(65535) if shown < 65536 else Fraction(65535)
        if time.numerator > 65535:
            time = Fraction(round(shown * 100), 100) if shown < 655 else Fraction(round(shown))
        place = struct.pack(">IIII", x1 - x0, y1 - y0, x0, y0)
        control = struct.pack(">I", number) + place + struct.pack(">HHBB", time.numerator, time.denominator, 0, 0)
        file.write(_chunk(b"fcTL", control))
        number += 1
        if before is None and default is None:
            _pixels([picture], lambda data: file.write(_chunk(b"IDAT", data)))
        else:
            _pixels([picture[y0:y1, x0:x1]], numbered)
        before = picture
    file.write(_chunk(b"IEND", b""))


def _header(page: Page, metadata: Metadata) -> bytes:
    head = struct.pack(">IIBBBBB", page.width, page.height, page.bits, _COLOR_TYPES[page.channels], 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", head) + b"".join(_chunk(*each) for each in _described(metadata))


def _described(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """The chunks that say what `metadata` says."""
    if metadata.png:
        yield from metadata.png
        return
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dots:
        yield b"pHYs", struct.pack(">IIB", *(round(dots / 0.0254) for dots in metadata.dots), 1)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield b"iTXt", _XMP + b"\0\0\0\0\0" + metadata.xmp


def _pixels(bands: Iterable[np.ndarray], write: Callable[[bytes], object]) -> None:
    """Filter and compress rows, and write what comes of it in pieces."""
    packer, kept, size = zlib.compressobj(_LEVEL), [], 0
    before: np.ndarray | None = None
    for band in bands:
        pixel = band.shape[2] * band.dtype.itemsize
        for top in range(0, len(band), _ROWS):
            part = band[top : top + _ROWS]
            rows = np.ascontiguousarray(part if part.dtype == np.uint8 else part.astype(">u2"))
            rows = rows.view(np.uint8).reshape(len(part), -1)
            before = np.zeros_like(rows[0]) if before is None else before
            kept.append(packer.compress(filtered(rows, before, pixel).data))
            before, size = rows[-1].copy(), size + len(kept[-1])
            if size >= 1 << 20:
                write(b"".join(kept))
                kept, size = [], 0
    write(b"".join((*kept, packer.flush())))


def filtered(rows: np.ndarray, before: np.ndarray, pixel: int) -> np.ndarray:
    """[n, bytes] -> [n, 1 + bytes]: each row by the filter that leaves the least (PNG, 12.7), its number before it.

    before: the row above the first. pixel: bytes of a pixel.
    """
    up = np.vstack([before, rows[:-1]])
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, pixel:], corner[:, pixel:] = rows[:, :-pixel], up[:, :-pixel]
    ways = (rows, rows - left, rows - up, rows - _paeth(left, up, corner))
    cost = np.stack([np.minimum(way, 0 - way).sum(1, dtype=np.int64) for way in ways])
    best = cost.argmin(0)
    result = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    result[:, 0] = np.array([0, 1, 2, 4])[best]
    for number, way in enumerate(ways):
        result[best == number, 1:] = way[best == number]
    return result


def _paeth(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Whichever of the three is nearest to left + up - corner (PNG, 9.4)."""
    a, b, c = (each.astype(np.int16) for each in (left, up, corner))
    to_left, to_up = np.abs(b - c), np.abs(a - c)
    to_corner = np.abs(a + b - 2 * c)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
