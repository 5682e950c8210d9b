"""AV1 by SVT-AV1."""

from __future__ import annotations

from collections.abc import Mapping

from vidsr.encode.codecs.base import YUV420, Codec
from vidsr.frames import ColorSpec, HdrMetadata


class SvtAv1(Codec):
    name, aliases, encoder = "svtav1", ("av1",), "libsvtav1"
    depths, chroma = (8, 10), (YUV420,)
    crf, crf_range = 24, (0, 63)
    preset, presets = "8", tuple(str(number) for number in range(14))
    hdr10 = True
    environment: Mapping[str, str] = {"SVT_LOG": "1"}  # it prints past FFmpeg's log: errors only
    can_stall = True  # 4.1's threads have been seen to wait for each other for ever, at the last picture

    def particular(
        self, threads: int, color: ColorSpec, hdr: HdrMetadata | None, live: bool
    ) -> tuple[dict[str, str], list[str]]:
        own = [f"lp={min(threads, 6)}"]
        if hdr is not None and hdr.mastering is not None:
            rx, ry, gx, gy, bx, by, wx, wy, low, high = (f"{float(v):.4f}" for v in hdr.mastering)
            own.append(f"mastering-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})")
        if hdr is not None and hdr.content_light is not None:
            own.append(f"content-light={hdr.content_light[0]},{hdr.content_light[1]}")
        return {}, own + (["pred-struct=1"] if live else [])
