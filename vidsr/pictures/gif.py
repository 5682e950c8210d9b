"""GIF: what is in it, and how it is written. After CompuServe's GIF89a specification (1990)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image

from vidsr.errors import SourceError
from vidsr.pictures.compose import Patch, ticks
from vidsr.pictures.palette import Palette

_CLEAR = 1 << 24  # a pixel through which one sees, among packed colours


@dataclass(frozen=True)
class Contents:
    """plays: how often it is shown, 0 for ever. comments: as they are, one after the other."""

    width: int
    height: int
    patches: tuple[Patch, ...]
    plays: int
    comments: bytes


def contents(data: bytes) -> Contents:
    """Look through a GIF. SourceError (without the file's name) where it is cut off or holds no picture."""
    if len(data) < 13:
        raise SourceError("is cut off")
    try:
        return _contents(data)
    except (IndexError, struct.error) as error:
        raise SourceError("is cut off") from error


def _contents(data: bytes) -> Contents:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, shared = 13, b""
    if flags & 0x80:
        at += 3 << (flags & 7) + 1
        shared = data[13:at]
    patches: list[Patch] = []
    control, plays, comments = bytes(4), 1, b""
    while (kind := data[at]) != 0x3B:
        if kind == 0x21:
            label = data[at + 1]
            blocks, at = _blocks(data, at + 2)
            if label == 0xF9 and blocks and len(blocks[0]) >= 4:
                control = blocks[0]
            elif label == 0xFF and blocks[0] == b"NETSCAPE2.0" and len(blocks) > 1 and blocks[1][:1] == b"\1":
                again = struct.unpack_from("<H", blocks[1], 1)[0]
                plays = again + 1 if again else 0  # it counts how often it begins anew
            elif label == 0xFE:
                comments += b"".join(blocks)
        elif kind == 0x2C:
            x, y, wide, high, flags = struct.unpack_from("<HHHHB", data, at + 1)
            colors, begin = shared, at + 10
            if flags & 0x80:
                begin += 3 << (flags & 7) + 1
                colors = data[at + 10 : begin]
            at = _blocks(data, begin + 1)[1]
            if not wide or not high:
                raise SourceError("holds a picture without any pixels")
            file = _alone(wide, high, colors, control, flags & 0x40, data[begin:at])
            after = {2: "clear", 3: "back"}.get(control[0] >> 2 & 7, "keep")
            delay = Fraction(control[1] + 256 * control[2], 100)
            patches.append(Patch(x, y, wide, high, delay, True, after, file))  # type: ignore[arg-type]
            control = bytes(4)
        elif kind == 0:  # some writers leave such bytes between blocks
            at += 1
        else:
            raise SourceError("is damaged")
    if not patches:
        raise SourceError("holds no picture")
    # Browsers make room for a first picture that is larger than what the file says, and cut the others.
    first = patches[0]
    return Contents(
        max(width, first.x + first.width), max(height, first.y + first.height), tuple(patches), plays, comments
    )  # fmt: skip


def _blocks(data: bytes, at: int) -> tuple[list[bytes], int]:
    """The sub-blocks that begin at `at`, and where they end."""
    found = []
    while size := data[at]:
        if at + 1 + size > len(data):
            raise IndexError
        found.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return found, at + 1


def _alone(width: int, height: int, colors: bytes, control: bytes, interlaced: int, pixels: bytes) -> bytes:
    """One picture of a GIF as a GIF of its own."""
    size = max(len(colors) // 3, 2).bit_length() - 2
    own = struct.pack("<HHBBB", width, height, (0x80 if colors else 0) | size, 0, 0) + colors
    controlled = b"\x21\xf9\4" + bytes([control[0] & 1, 0, 0, control[3], 0])
    place = struct.pack("<HHHHB", 0, 0, width, height, interlaced)
    return b"GIF89a" + own + controlled + b"," + place + pixels + b";"


def write_gif(
    file: BinaryIO, width: int, height: int, pictures: Iterable[np.ndarray], palettes: Sequence[Palette],
    seconds: Sequence[Fraction], plays: int, comments: bytes = b"",
) -> None:  # fmt: skip
    """Write pictures [H, W, 4], RGBA. palettes: of each, the same for all of a scene, so that what stands still does.
    seconds: how long each is shown; none for a single picture.

    Of each picture only what differs from the one before is written; where one can be seen through that covered the
    ground before, the one before is cleared.
    """
    shared = palettes[0]
    file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF0 | _size(shared), 0, 0) + shared.table().tobytes())
    if seconds and plays != 1:
        file.write(b"\x21\xff\x0bNETSCAPE2.0\3\1" + struct.pack("<H", min(max(plays - 1, 0), 65535)) + b"\0")
    for start in range(0, len(comments), 255):
        piece = comments[start : start + 255]
        file.write((b"\x21\xfe" if not start else b"") + bytes([len(piece)]) + piece)
    file.write(b"\0" * bool(comments))
    canvas = np.full((height, width), _CLEAR, np.uint32)
    drawn = chain(((palette, palette.indices(picture)) for palette, picture in zip(palettes, pictures)), [None])
    times = iter(ticks(seconds, 100) or [0])
    for now, following in pairwise(drawn):
        assert now is not None
        palette, indices = now
        shown = _packed(palette, indices)
        opened = (shown != _CLEAR) & (_packed(*following) == _CLEAR) if following else np.zeros(shown.shape, bool)
        clears = bool(opened.any())
        x0, y0, x1, y1 = _box((shown != canvas) | opened)
        place = slice(y0, y1), slice(x0, x1)
        part = np.where(shown[place] == canvas[place], palette.clear, indices[place]).astype(np.uint8)
        own = palette is not shared
        control = struct.pack("<BHB", (2 if clears else 1) << 2 | 1, next(times), palette.clear)
        file.write(b"\x21\xf9\4" + control + b"\0")
        file.write(b"," + struct.pack("<HHHHB", x0, y0, x1 - x0, y1 - y0, 0x80 | _size(palette) if own else 0))
        file.write(palette.table().tobytes() if own else b"")
        file.write(b"".join(GifImagePlugin.getdata(Image.fromarray(part)))[10:])  # without its own place
        canvas = shown
        if clears:
            canvas[place] = _CLEAR
    file.write(b";")


def _size(palette: Palette) -> int:
    """Of its table, as GIF tells it: the binary logarithm, less one."""
    return len(palette.table()).bit_length() - 2


def _packed(palette: Palette, indices: np.ndarray) -> np.ndarray:
    """Colours as numbers, [H, W] uint32."""
    table = palette.table().astype(np.uint32)
    numbers = table[:, 0] << 16 | table[:, 1] << 8 | table[:, 2]
    numbers[palette.clear] = _CLEAR
    return numbers[indices]


def _box(differs: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not rows.size:
        return 0, 0, 1, 1
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
