"""Files whose times are not what one expects: moved, joined, running over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.media import Track, write_episode

RATE = Fraction(25)
RUNS_OVER = Fraction(2**33, 90000)  # seconds: a clock of 33 bits, as MPEG's are


def remuxed(
    source: Path, target: Path, change: Callable[[Any], bool | None] = lambda packet: None,
    key: Callable[[Any], Any] = lambda packet: 0, chapters: bool = True,
) -> Path:  # fmt: skip
    """A copy of `source`. change: changes a packet, and says False of one to leave out; key: of what they are sorted
    by then."""
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as a, av.open(str(target), "w", container_options=options) as b:
        b.set_chapters(a.chapters() if chapters else [])
        streams = [b.add_stream_from_template(stream, opaque=True) for stream in a.streams]
        for old, new in zip(a.streams, streams):
            new.metadata.update(old.metadata)
            new.disposition = old.disposition
        for packet in sorted((p for p in list(a.demux()) if p.size and change(p) is not False), key=key):
            packet.stream = streams[packet.stream_index]
            b.mux(packet)
    return target


def moved(source: Path, target: Path, seconds: Fraction | float) -> Path:
    """A copy of `source` that begins `seconds` later."""

    def later(packet: Any) -> None:
        ticks = round(Fraction(seconds) / packet.time_base)
        packet.pts, packet.dts = packet.pts + ticks, (packet.pts if packet.dts is None else packet.dts) + ticks

    return remuxed(source, target, later)


def joined(
    path: Path, frames: Sequence[int], starts: Sequence[Fraction | float] = (), sound: str | None = "mp2"
) -> list[Path]:
    """Write several files as `path`, one's bytes behind the other's, and give them.

    frames: of each; their pictures are numbered through. starts: of each one's times, seconds; none: where the muxer
    begins.
    """
    codec = "mpeg2video" if path.suffix in (".mpg", ".vob") else "libx264"
    pieces, first = [], 0
    for index, count in enumerate(frames):
        piece = path.with_name(f"{path.stem}-{index}{path.suffix}")
        made = piece.with_suffix(".mp4") if starts else piece
        write_episode(
            made, frames=count, codec=codec, rate=RATE, time_base=1 / RATE, first_number=first, keyframes=12,
            audio=[Track(sound, "ja")] if sound else [], options={"bf": "0" if path.suffix == ".mpg" else "2"},
        )  # fmt: skip
        pieces.append(moved(made, piece, starts[index]) if starts else piece)
        first += count
    path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    return pieces


def times(path: Path, kind: str) -> list[float]:
    """Seconds of all packets of the first stream of a kind, in file order."""
    with av.open(str(path)) as file:
        stream = next(stream for stream in file.streams if stream.type == kind)
        return [float(packet.pts * packet.time_base) for packet in file.demux(stream) if packet.size]


def with_edits(path: Path, edits: Sequence[tuple[float, float | None]], track: int = 0) -> None:
    """Give a track of a finished MP4 another edit list.

    edits: (seconds it lasts, 0: to the end; where in the track's own time it begins, seconds; None: nothing is shown).
    The file's moov must be its last box, as FFmpeg's muxer makes it.
    """
    data = path.read_bytes()
    at = data.rindex(b"moov") - 4
    moov = data[at:]
    assert at + int.from_bytes(moov[:4], "big") == len(data)
    movie = _inside(moov, b"mvhd")
    scale = int.from_bytes(moov[movie + 12 : movie + 16], "big")
    boxes = _children(moov, 8)
    trak = [(begin, size) for begin, size, name in boxes if name == b"trak"][track]
    own = moov[trak[0] : sum(trak)]
    media = _inside(own, b"mdhd")
    unit = int.from_bytes(own[media + 12 : media + 16], "big")
    entries = b"".join(
        round(length * scale).to_bytes(4, "big")
        + (-1 if begin is None else round(begin * unit)).to_bytes(4, "big", signed=True) + b"\0\1\0\0"
        for length, begin in edits
    )  # fmt: skip
    edts = _box(b"edts", _box(b"elst", b"\0" * 4 + len(edits).to_bytes(4, "big") + entries))
    kept = {name: own[begin : begin + size] for begin, size, name in _children(own, 8) if name != b"edts"}
    trak_new = _box(b"trak", kept.pop(b"tkhd") + edts + b"".join(kept.values()))
    parts = [trak_new if begin == trak[0] else moov[begin : begin + size] for begin, size, _ in boxes]
    path.write_bytes(data[:at] + _box(b"moov", b"".join(parts)))


def _box(name: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + name + content


def _children(data: bytes, at: int) -> list[tuple[int, int, bytes]]:
    """(begin, size, name) of the boxes in the box that `data` is, from byte `at` on."""
    found = []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((at, size, data[at + 4 : at + 8]))
        at += size
    return found


def _inside(data: bytes, name: bytes) -> int:
    """Where the version and flags of the first box of that name are."""
    return data.index(name) + 4
