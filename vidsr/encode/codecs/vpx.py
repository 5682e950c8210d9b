"""VP9 by libvpx, which keeps an alpha plane as a second stream beside the pictures."""

from __future__ import annotations

from vidsr.encode.codecs.base import YUV420, Codec
from vidsr.frames import ColorSpec, HdrMetadata


class Vpx(Codec):
    name, aliases, encoder = "vpx", ("vp9",), "libvpx-vp9"
    depths, chroma = (8,), (YUV420,)
    alpha_depths, alpha_chroma = (8,), (YUV420,)
    crf, crf_range = 20, (0, 63)
    containers = ("matroska", "mp4")

    def particular(
        self, threads: int, color: ColorSpec, hdr: HdrMetadata | None, live: bool
    ) -> tuple[dict[str, str], list[str]]:
        # A crf rules only where no rate does. Hidden pictures would have to be hidden in both streams alike.
        options = {"b": "0", "deadline": "good", "cpu-used": "3", "auto-alt-ref": "0"}
        return options | ({"lag-in-frames": "0"} if live else {}), []
