"""Whether an encoder on a GPU works here: FFmpeg lists them on every machine, only encoding with one tells."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import av

from vidsr.machine import why_it_fails


@cache
def encoder_missing(encoder: str, layout: str, width: int, height: int) -> str | None:
    """One line why FFmpeg's `encoder` does not work here, None when it encodes a picture of that layout and size.

    Each is tried once in a process.
    """

    def encode() -> None:
        context: Any = av.CodecContext.create(encoder, "w")
        context.width, context.height, context.pix_fmt = width, height, layout
        context.time_base, context.framerate = Fraction(1, 24), Fraction(24)
        picture = av.VideoFrame(width, height, layout)
        for plane in picture.planes:
            plane.update(bytes(plane.buffer_size))
        picture.pts = 0
        if not [*context.encode(picture), *context.encode(None)]:
            raise RuntimeError("it gives no packet")

    return why_it_fails(encode)
