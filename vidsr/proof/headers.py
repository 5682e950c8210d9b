"""The headers of subtitle tracks against the source's: styles, palettes and sizes are there."""

from __future__ import annotations

import re
from typing import Any

from vidsr.container import open_input
from vidsr.frames import SourceInfo
from vidsr.proof.check import Check

_LINES = re.compile(rb"LayoutRes([XY]): (\d+)(?:\r\n|\n|\r)")


def check_headers(before: SourceInfo, after: SourceInfo, pairs: dict[int, int]) -> list[Check]:
    """pairs: {index of a subtitle track of the source: its index in the result}, both in Matroska."""
    checks = []
    with open_input(before.path) as source, open_input(after.path) as result:
        for old, new in pairs.items():
            codec = next(track.codec for track in before.tracks if track.index == old)
            a, b = _header(source.streams[old]), _header(result.streams[new])
            if codec in ("ass", "ssa"):
                passed, detail = _same_script(a, b, before.video.width, before.video.height)
            else:
                passed, detail = a == b, f"{len(a)} -> {len(b)} bytes"
            if a or b:
                checks.append(Check(f"header of subtitle track #{new}", passed, detail))
    return checks


def _header(stream: Any) -> bytes:
    context = stream.codec_context
    return b"" if context is None else bytes(context.extradata or b"")


def _same_script(a: bytes, b: bytes, width: int, height: int) -> tuple[bool, str]:
    """A script that says for which size it was made is kept; any other is told the source's, and nothing else of it
    changes."""
    if b"layoutres" in a.lower():
        return a == b, "kept" if a == b else "altered"
    told = [(which, int(number)) for which, number in _LINES.findall(b)]
    if told != [(b"X", width), (b"Y", height)]:
        said = "x".join(str(number) for _, number in told) or "none"
        return False, f"its LayoutRes is {said}, not the source's size, {width}x{height}"
    rest = _LINES.sub(b"", b)
    same = rest == a or rest.replace(b"[Script Info]\n", b"", 1) == a
    return same, f"kept but for LayoutRes {width}x{height}" if same else "altered"
