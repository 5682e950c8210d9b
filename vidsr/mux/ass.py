"""ASS and SSA scripts, told for which size of picture they were made.

Widths of borders, shadows and blur are, all or some (`ScaledBorderAndShadow`), in pixels of the video as it is stored,
and on a larger picture come out thinner. `LayoutResX` and `LayoutResY` in a script's header take the place of the
video's own size: libass since 0.17 (`ass_layout_res` in its ass_render.c), XySubFilter, VSFilterMod's heirs.
"""

from __future__ import annotations

import re

_SECTION = re.compile(rb"^[ \t]*\[Script Info\][^\r\n]*(\r\n|\n|\r|$)", re.IGNORECASE | re.MULTILINE)
_LAYOUT = re.compile(rb"^[ \t]*LayoutRes[XY][ \t]*:", re.IGNORECASE | re.MULTILINE)
_BOM = b"\xef\xbb\xbf"


def has_layout(header: bytes) -> bool:
    """Whether a script says for which size it was made."""
    return _LAYOUT.search(header) is not None


def with_layout(header: bytes, width: int, height: int) -> bytes:
    """`header` with that size, right below [Script Info], where it says none."""
    if has_layout(header):
        return header
    section = _SECTION.search(header.removeprefix(_BOM))
    if section is None:
        start, mark, end = len(_BOM) if header.startswith(_BOM) else 0, b"[Script Info]\n", b"\n"
    else:
        start = section.end() + len(header) - len(header.removeprefix(_BOM))
        mark, end = (b"", section[1]) if section[1] else (b"\n", b"\n")
    lines = mark + b"LayoutResX: %d%sLayoutResY: %d%s" % (width, end, height, end)
    return header[:start] + lines + header[start:]
