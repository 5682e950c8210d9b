"""How the two eyes of stereo 3D lie in a picture, whichever way the source says it."""

from __future__ import annotations

import struct
from collections.abc import Mapping

# AVStereo3DType: (left eye first, right eye first), in Matroska's words, which are FFmpeg's tag `stereo_mode`.
_PACKINGS = {
    1: ("left_right", "right_left"),
    2: ("top_bottom", "bottom_top"),
    3: ("block_lr", "block_rl"),
    4: ("checkerboard_lr", "checkerboard_rl"),
    5: ("checkerboard_lr", "checkerboard_rl"),
    6: ("row_interleaved_lr", "row_interleaved_rl"),
    7: ("col_interleaved_lr", "col_interleaved_rl"),
}
_INVERTED = 1  # AV_STEREO3D_FLAG_INVERT
_MIXED = ("checkerboard", "row_interleaved", "col_interleaved")


def stereo_layout(
    tags: Mapping[str, str], side_data: bytes | None, extradata: bytes | None
) -> tuple[str | None, str | None]:
    """(layout in Matroska's words, what of stereo 3D is lost), each None where there is nothing to say.

    tags: of the stream. side_data: a frame's STEREO3D (AVStereo3D: type, flags, …), which the codec or the container
    gave. extradata: of the codec; MVC's second view, which no decoder here gives, is known by the `mvcC` in it.
    """
    if b"mvcC" in (extradata or b""):
        return None, "the second view of stereo 3D (MVC)"
    mode = tags.get("stereo_mode")
    if mode is None and side_data is not None and len(side_data) >= 8:
        kind, flags = struct.unpack("<Ii", side_data[:8])
        if kind and kind not in _PACKINGS:
            return None, "the second view of stereo 3D"
        mode = _PACKINGS[kind][flags & _INVERTED] if kind else None
    if mode is not None and mode.startswith(_MIXED):
        return None, f"stereo 3D whose eyes lie among each other ({mode}), which enlarging mixes,"
    return (None if mode == "mono" else mode), None
