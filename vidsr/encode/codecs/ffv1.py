"""FFV1, FFmpeg's own lossless codec."""

from __future__ import annotations

from vidsr.encode.codecs.base import YUV420, YUV422, YUV444, Codec
from vidsr.frames import ColorSpec, HdrMetadata, PixelFormat


class Ffv1(Codec):
    name = encoder = "ffv1"
    depths, chroma = (8, 10, 12, 16), (YUV420, YUV422, YUV444)
    alpha_depths, alpha_chroma = (8, 10, 12, 16), (YUV420, YUV422, YUV444)
    containers = ("matroska",)

    def holds_alpha(self, format: PixelFormat) -> bool:
        # FFmpeg has no 12 bit 4:2:0 with alpha.
        return super().holds_alpha(format) and (format.bits, format.chroma_shift) != (12, YUV420)

    def particular(
        self, threads: int, color: ColorSpec, hdr: HdrMetadata | None, live: bool
    ) -> tuple[dict[str, str], list[str]]:
        return {}, []  # every picture stands alone and comes out at once
