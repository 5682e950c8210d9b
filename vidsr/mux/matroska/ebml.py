"""EBML, the binary XML that Matroska is written in: numbers, elements, and walking through them. No Matroska here.

All offsets and sizes are in bytes. Reading never trusts a size: whatever does not fit raises EbmlError.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

VOID, CRC32 = 0xEC, 0xBF
MAX_CHILDREN = 100_000  # of one element: more is an attack or a mistake, never a header


class EbmlError(ValueError):
    """These bytes are not the EBML they claim to be."""


class Element(NamedTuple):
    """id: with its length marker, as in the specification; start, body, end: where it, its content and the next begin.

    end is None when the size is unknown (allowed by live writers for Segment and Cluster).
    """

    id: int
    start: int
    body: int
    end: int | None


class Child(NamedTuple):
    """An element in memory. raw: all its bytes; content: those after its header."""

    id: int
    raw: bytes
    content: bytes


def read_vint(data: bytes, offset: int, longest: int = 8) -> tuple[int, int]:
    """(number with its length marker, length in bytes) of the variable-length integer at `offset`."""
    if offset >= len(data) or not data[offset]:
        raise EbmlError(f"no variable-length integer at offset {offset}")
    length = 9 - data[offset].bit_length()
    if length > longest or offset + length > len(data):
        raise EbmlError(f"variable-length integer of {length} bytes at offset {offset}")
    return int.from_bytes(data[offset : offset + length], "big"), length


def read_size(data: bytes, offset: int) -> tuple[int | None, int]:
    """(size, or None when unknown; length of the field) of the size field at `offset`."""
    value, length = read_vint(data, offset)
    marker = 1 << (7 * length)
    return (None if value == 2 * marker - 1 else value - marker), length


def encode_size(size: int, length: int | None = None) -> bytes:
    """`size` as a size field of `length` bytes, by default of the fewest that hold it."""
    fewest = next((n for n in range(1, 9) if size < (1 << (7 * n)) - 1), 9)
    length = length or fewest
    if size < 0 or not fewest <= length <= 8:
        raise EbmlError(f"size {size} does not fit a field of {min(length, 8)} bytes")
    return (size | 1 << (7 * length)).to_bytes(length, "big")


def element(element_id: int, content: bytes = b"", size_length: int | None = None) -> bytes:
    """One whole element."""
    head = element_id.to_bytes((element_id.bit_length() + 7) // 8, "big")
    return head + encode_size(len(content), size_length) + content


def uint(element_id: int, value: int) -> bytes:
    return element(element_id, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def text(element_id: int, value: str) -> bytes:
    return element(element_id, value.encode())


def master(element_id: int, children: bytes, checked: bool = False) -> bytes:
    """An element of elements; checked: begin it with their CRC-32."""
    crc = element(CRC32, zlib.crc32(children).to_bytes(4, "little")) if checked else b""
    return element(element_id, crc + children)


def void(size: int) -> bytes:
    """A filler of `size` bytes in all; nothing is shorter than 2."""
    if size < 2:
        raise EbmlError(f"no filler is {size} bytes long")
    return element(VOID, bytes(size - 2)) if size - 2 < 127 else element(VOID, bytes(size - 9), 8)


def children(content: bytes) -> Iterator[Child]:
    """The elements that a master element's `content` is made of, in order."""
    start = 0
    for _ in range(MAX_CHILDREN):
        if start >= len(content):
            return
        found = _parse(content, start, 0)
        if found.end is None or found.end > len(content):
            raise EbmlError(f"element 0x{found.id:X} at offset {start} does not end inside its parent")
        yield Child(found.id, content[start : found.end], content[found.body : found.end])
        start = found.end
    raise EbmlError(f"more than {MAX_CHILDREN} elements in one")


def edit(raw: bytes, change: dict[int, bytes | None], add: bytes = b"") -> bytes:
    """A master element with children replaced by id (None: dropped) or added; fillers go, a CRC-32 is made anew."""
    (outer,) = children(raw)
    items = list(children(outer.content))
    kept = [item.raw for item in items if item.id not in (CRC32, VOID, *change)]
    new = [data for data in change.values() if data is not None]
    return master(outer.id, b"".join([*kept, *new, add]), checked=any(item.id == CRC32 for item in items))


def walk(file: BinaryIO, start: int, end: int, most: int = 500_000) -> Iterator[Element]:
    """The elements of file[start:end] in order, reading their headers only; at most `most` of them.

    What lies in an element of unknown size follows it as if it were its sibling. An element that claims to go beyond
    `end` is not given: EbmlError.
    """
    for _ in range(most):
        if start >= end:
            return
        file.seek(start)
        found = _parse(file.read(min(12, end - start)), 0, start)
        if found.end is not None and found.end > end:
            raise EbmlError(f"element 0x{found.id:X} at offset {start} goes beyond its parent")
        yield found
        start = found.body if found.end is None else found.end
    raise EbmlError(f"more than {most} elements")


def _parse(data: bytes, offset: int, base: int) -> Element:
    element_id, id_length = read_vint(data, offset, 4)
    size, size_length = read_size(data, offset + id_length)
    body = base + offset + id_length + size_length
    return Element(element_id, base + offset, body, None if size is None else body + size)


def to_uint(content: bytes) -> int:
    if len(content) > 8:
        raise EbmlError(f"unsigned integer of {len(content)} bytes")
    return int.from_bytes(content, "big")


def to_text(content: bytes) -> str:
    return content.split(b"\0", 1)[0].decode("utf-8", "replace")
