"""TIFF, written in strips of rows, whatever its size up to 4 GiB. After Adobe's TIFF 6.0 (1992)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from vidsr.errors import OutputError
from vidsr.pictures.base import Metadata, Page

_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 2, 3, 4, 5, 7
_GROUPS = (0x8769, 0x8825)  # EXIF and GPS, which have directories of their own
_STRIP = 64  # rows
_MOST = 2**32 - 2**24  # bytes, with room for the last directory


def write_tiff(file: BinaryIO, pages: Iterable[tuple[Page, Iterable[np.ndarray], Metadata]]) -> None:
    """Write pages one after the other. Bands of each: [rows, width, channels], from above; uint8, or uint16.

    OutputError when they do not fit into 4 GiB.
    """
    file.write(b"II*\0\0\0\0\0")
    link = 4  # where the place of the next directory is told
    for page, bands, metadata in pages:
        places, sizes = [], []
        for strip in _strips(bands, page):
            places.append(file.tell())
            sizes.append(file.write(strip))
            if file.tell() > _MOST:
                raise OutputError("does not fit into a TIFF, which ends at 4 GiB: use .png")
        file.write(b"\0" * (file.tell() % 2))
        at = file.tell()
        file.seek(link)
        file.write(struct.pack("<I", at))
        file.seek(at)
        entries = {**_described(metadata), **_structure(page, places, sizes)}
        directory = _directory(entries, at)
        file.write(directory)
        link = at + 2 + 12 * len(entries)


def _strips(bands: Iterable[np.ndarray], page: Page) -> Iterator[bytes]:
    """Deflated, each sample less the one to its left (TIFF's predictor 2)."""
    for rows in _regrouped(bands):
        less = rows.copy()
        less[:, 1:] -= rows[:, :-1]
        yield zlib.compress(less.astype("<u2" if page.bits == 16 else "u1").tobytes(), 6)


def _regrouped(bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows, _STRIP at once."""
    rest: np.ndarray | None = None
    for band in bands:
        rows = band if rest is None else np.concatenate([rest, band])
        whole = len(rows) // _STRIP * _STRIP
        for top in range(0, whole, _STRIP):
            yield rows[top : top + _STRIP]
        rest = rows[whole:].copy() if whole < len(rows) else None
    if rest is not None:
        yield rest


def _structure(page: Page, places: list[int], sizes: list[int]) -> dict[int, tuple[int, Any]]:
    """Tags that say how the pixels lie: {tag: (type, values)}."""
    entries = {
        256: (_LONG, [page.width]), 257: (_LONG, [page.height]), 258: (_SHORT, [page.bits] * page.channels),
        259: (_SHORT, [8]), 262: (_SHORT, [1 if page.channels < 3 else 2]), 273: (_LONG, places),
        277: (_SHORT, [page.channels]), 278: (_LONG, [_STRIP]), 279: (_LONG, sizes), 284: (_SHORT, [1]),
        317: (_SHORT, [2]),
    }  # fmt: skip
    if page.channels in (2, 4):
        entries[338] = (_SHORT, [2])  # alpha that is not premultiplied
    return entries


def _described(metadata: Metadata) -> dict[int, tuple[int, Any]]:
    """Tags that say what `metadata` says."""
    entries: dict[int, tuple[int, Any]] = {}
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        texts = {tag: (_ASCII, value) for tag, value in exif.items() if isinstance(value, str)}
        groups = {tag: (_LONG, exif.get_ifd(tag)) for tag in _GROUPS if exif.get_ifd(tag)}
        entries |= texts | groups
    if metadata.dots:
        entries |= {282 + n: (_RATIONAL, [Fraction(d).limit_denominator(1000)]) for n, d in enumerate(metadata.dots)}
        entries[296] = (_SHORT, [2])
    if metadata.xmp:
        entries[700] = (_UNDEFINED, metadata.xmp)
    if metadata.icc:
        entries[34675] = (_UNDEFINED, metadata.icc)
    return entries


def _directory(entries: dict[int, tuple[int, Any]], at: int) -> bytes:
    """A directory for the place `at`, with all it refers to behind it."""
    table, behind = struct.pack("<H", len(entries)), b""
    data_at = at + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        place = data_at + len(behind)
        if tag in _GROUPS:
            group = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0", group=tag)
            for name, value in values.items():
                group[name] = value
            data, count, told = group.tobytes(place), 1, struct.pack("<I", place)
        else:
            data, count = _packed(kind, values)
            told = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", place)
            data = b"" if len(data) <= 4 else data
        table += struct.pack("<HHI", tag, kind, count) + told
        behind += data + b"\0" * (len(data) % 2)
    return table + bytes(4) + behind


def _packed(kind: int, values: Any) -> tuple[bytes, int]:
    if kind == _ASCII:
        text = values.encode("utf-8", "replace") + b"\0"
        return text, len(text)
    if kind == _UNDEFINED:
        return values, len(values)
    if kind == _RATIONAL:
        return b"".join(struct.pack("<II", v.numerator, v.denominator) for v in values), len(values)
    return struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values), len(values)
