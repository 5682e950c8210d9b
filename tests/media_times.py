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
    key: Callable[[Any], Any] = lambda packet: 0,
) -> Path:  # fmt: skip
    """A copy of `source`. change: changes a packet, and says False of one to leave out; key: of what they are sorted
    by then."""
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as a, av.open(str(target), "w", container_options=options) as b:
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
