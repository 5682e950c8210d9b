"""The codecs, a family a file. To add one: a subclass of base.Codec in a file here, and its line in CODECS."""

from __future__ import annotations

from vidsr.encode.codecs.base import Codec, natural_chroma
from vidsr.encode.codecs.ffv1 import Ffv1
from vidsr.encode.codecs.nvenc import Av1Nvenc, H264Nvenc, HevcNvenc
from vidsr.encode.codecs.prores import ProRes
from vidsr.encode.codecs.svtav1 import SvtAv1
from vidsr.encode.codecs.vpx import Vpx
from vidsr.encode.codecs.x26x import X264, X265
from vidsr.errors import UsageError
from vidsr.frames import PixelFormat, StreamInfo

# By name. Of those on a GPU, --codec auto tries the first that takes the result's pixel format.
CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        X264(),
        X265(),
        SvtAv1(),
        Ffv1(),
        ProRes(),
        Vpx(),
        H264Nvenc(),
        HevcNvenc(),
        Av1Nvenc(),
    )
}
ALPHA = ("vpx", "ffv1", "prores")  # for sources with alpha the first of these that loses nothing, else the last
AUTO = ("x264", "x265")  # on the CPU, --codec auto takes the first of these that loses nothing, else the last


def find_codec(name: str) -> Codec:
    """The codec of that name or alias. UsageError, with the choices, for any other."""
    for codec in CODECS.values():
        if name in (codec.name, *codec.aliases):
            return codec
    raise UsageError(f"--codec {name}: choose one of {', '.join(CODECS)}")


def choose_codec(name: str | None, video: StreamInfo, container: str = "matroska") -> Codec:
    """The codec of that name or alias, or for None one on the CPU that keeps `video`'s bits, alpha and HDR10 metadata,
    as far as `container` (FFmpeg's muxer) takes one."""
    if name is not None:
        return find_codec(name)
    if video.alpha and (able := alpha_codecs(container)):
        format = PixelFormat("yuv", min(video.format.bits, 16), natural_chroma(video.format))
        return next((codec for codec in able if codec.holds_alpha(format)), able[-1])
    wanted = [CODECS[each] for each in AUTO]
    keep = [c for c in wanted if video.format.bits <= c.depths[-1] and (c.hdr10 or video.hdr is None)]
    return (keep or wanted[-1:])[0]


def alpha_codecs(container: str) -> list[Codec]:
    """Those that keep an alpha plane in `container`; nobody reads one beside pictures in MP4."""
    return [CODECS[name] for name in ALPHA if container in CODECS[name].containers and container != "mp4"]


def hdr10_codecs() -> str:
    """The names of those that carry HDR10 metadata, for people."""
    return " or ".join(codec.name for codec in CODECS.values() if codec.hdr10)
