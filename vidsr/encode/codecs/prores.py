"""Apple's ProRes, which editing programs take, by FFmpeg's prores_ks; 4444 has an alpha plane."""

from __future__ import annotations

from vidsr.encode.codecs.base import YUV422, YUV444, Codec
from vidsr.frames import ColorSpec, HdrMetadata


class ProRes(Codec):
    name, encoder = "prores", "prores_ks"
    depths, chroma = (10,), (YUV444, YUV422)
    alpha_depths, alpha_chroma = (10,), (YUV444,)
    containers = ("mov", "matroska")

    def refuses(self, crf: float | None, preset: str | None) -> str | None:
        return f"--crf: {self.name} takes none" if crf is not None else super().refuses(crf, preset)

    def particular(
        self, threads: int, color: ColorSpec, hdr: HdrMetadata | None, live: bool
    ) -> tuple[dict[str, str], list[str]]:
        return {"vendor": "apl0"}, []  # players of Apple's ask for it; every picture stands alone
