"""H.264 by x264 and HEVC by x265."""

from __future__ import annotations

from numpy._core._multiarray_umath import __cpu_features__

from vidsr.encode.codecs.base import YUV420, YUV422, YUV444, Codec
from vidsr.frames import ColorSpec, HdrMetadata

_FRAME_PACKING = {"left_right": 3, "top_bottom": 4}  # of H.264's SEI; x264 writes those with the left eye first
_CHROMA_LOCATION = {"center": 1, "topleft": 2}  # in the standards' numbers; left is 0 and needs no word


class X26x(Codec):
    """What both share."""

    chroma = (YUV420, YUV422, YUV444)
    crf_range = (0, 51)
    presets = (
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
    )  # fmt: skip

    def faster_preset(self, preset: str | None) -> str | None:
        # Not the very first, which does without deblocking and CABAC.
        at = self.presets.index(preset or self.preset or "medium")
        return self.presets[at - 1] if at > 1 else None

    def chroma_location(self, color: ColorSpec) -> list[str]:
        location = _CHROMA_LOCATION.get(color.chroma_location)
        return [f"chromaloc={location}"] if location else []


class X264(X26x):
    name, aliases, encoder = "x264", ("h264", "avc"), "libx264"
    depths = (8, 10)
    crf, preset = 17, "veryfast"

    def frame_packing(self, stereo: str | None) -> list[str]:
        return [f"frame-packing={_FRAME_PACKING[stereo]}"] if stereo in _FRAME_PACKING else []

    def particular(
        self, threads: int, color: ColorSpec, hdr: HdrMetadata | None, live: bool
    ) -> tuple[dict[str, str], list[str]]:
        # x264's AVX-512 code for MB-tree reads memory nobody has set: the same frames gave up to 13 different files in
        # 40 encodes on such a CPU, and one with AVX2, without MB-tree, or without B-frames.
        own = ["asm=AVX2"] if __cpu_features__.get("AVX512F") else []
        # Live, it still keeps one picture, to know how long it is shown.
        options = {"bf": "0", "rc-lookahead": "0", "thread_type": "slice"} if live else {}
        return options, own + self.chroma_location(color)


class X265(X26x):
    name, aliases, encoder = "x265", ("hevc", "h265"), "libx265"
    depths = (8, 10, 12)
    crf, preset = 18, "fast"
    hdr10 = True

    def particular(
        self, threads: int, color: ColorSpec, hdr: HdrMetadata | None, live: bool
    ) -> tuple[dict[str, str], list[str]]:
        own = ["log-level=none", f"pools={threads}", f"frame-threads={min(threads, 3)}", *self.chroma_location(color)]
        if hdr is not None:
            own += ["hdr10=1", "repeat-headers=1"]
            if hdr.mastering is not None:  # chromaticity in 1/50000, luminance in 1/10000 cd/m²
                rx, ry, gx, gy, bx, by, wx, wy = (round(v * 50000) for v in hdr.mastering[:8])
                low, high = (round(v * 10000) for v in hdr.mastering[8:])
                own.append(f"master-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})")
            if hdr.content_light is not None:
                own.append(f"max-cll={hdr.content_light[0]},{hdr.content_light[1]}")
        if live:
            own.append("rc-lookahead=0:scenecut=0:cutree=0:b-adapt=0:frame-threads=1")
        return {"bf": "0"} if live else {}, own
