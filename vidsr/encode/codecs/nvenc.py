"""H.264, HEVC and AV1 by NVENC, the encoder on NVIDIA's GPUs."""

from __future__ import annotations

from vidsr.encode.codecs.base import YUV420, YUV444, Codec
from vidsr.encode.hardware import encoder_missing
from vidsr.frames import ColorSpec, HdrMetadata, PixelFormat


class Nvenc(Codec):
    """What all three share."""

    crf_range: tuple[float, float] = (1, 51)  # 0 would mean: choose for me
    crf_option = "cq"
    preset, presets = "p5", tuple(f"p{number}" for number in range(1, 8))
    on_gpu = True

    def common(self, threads: int) -> dict[str, str]:
        """Constant quality, which needs the target rate of 0; and x264's distance between keyframes."""
        return {"rc": "vbr", "b": "0", "g": "250"}

    def particular(
        self, threads: int, color: ColorSpec, hdr: HdrMetadata | None, live: bool
    ) -> tuple[dict[str, str], list[str]]:
        options = {} if color.chroma_location == "left" else {"chroma_sample_location": color.chroma_location}
        if live:
            options |= {"bf": "0", "rc-lookahead": "0", "delay": "0", "zerolatency": "1"}
        return options, []

    def layout(self, format: PixelFormat) -> str:
        """Ten bits it knows as P010 only."""
        return "p010le" if format.bits == 10 else format.name

    def missing(self, width: int, height: int, format: PixelFormat) -> str | None:
        return encoder_missing(self.encoder, self.layout(format), width, height)


class H264Nvenc(Nvenc):
    name = encoder = "h264_nvenc"
    depths, chroma = (8,), (YUV420, YUV444)
    crf = 19
    cpu_equivalent = "x264"


class HevcNvenc(Nvenc):
    name = encoder = "hevc_nvenc"
    depths, chroma = (8, 10), (YUV420,)
    crf = 20
    cpu_equivalent = "x265"


class Av1Nvenc(Nvenc):
    name = encoder = "av1_nvenc"
    depths, chroma = (8, 10), (YUV420,)
    crf, crf_range = 26, (1, 63)
    cpu_equivalent = "svtav1"
