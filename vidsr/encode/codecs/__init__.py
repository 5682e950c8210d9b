"""The codecs, a family a file. To add one: a subclass of base.Codec in a file here, and its line in CODECS."""

from __future__ import annotations

from vidsr.encode.codecs.base import Codec
from vidsr.encode.codecs.ffv1 import Ffv1
from vidsr.encode.codecs.nvenc import Av1Nvenc, H264Nvenc, HevcNvenc
from vidsr.encode.codecs.svtav1 import SvtAv1
from vidsr.encode.codecs.x26x import X264, X265
from vidsr.errors import UsageError
from vidsr.frames import StreamInfo

# By name. Of those on a GPU, --codec auto tries the first that takes the result's pixel format.
CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        X264(),
        X265(),
        SvtAv1(),
        Ffv1(),
        H264Nvenc(),
        HevcNvenc(),
        Av1Nvenc(),
    )
}
AUTO = ("x264", "x265")  # on the CPU, --codec auto takes the first of these that loses nothing, else the last


def find_codec(name: str) -> Codec:
    """The codec of that name or alias. UsageError, with the choices, for any other."""
    for codec in CODECS.values():
        if name in (codec.name, *codec.aliases):
            return codec
    raise UsageError(f"--codec {name}: choose one of {', '.join(CODECS)}")


def choose_codec(name: str | None, video: StreamInfo) -> Codec:
    """The codec of that name or alias, or for None one on the CPU that keeps `video`'s bits and HDR10 metadata."""
    if name is not None:
        return find_codec(name)
    wanted = [CODECS[each] for each in AUTO]
    keep = [c for c in wanted if video.format.bits <= c.depths[-1] and (c.hdr10 or video.hdr is None)]
    return (keep or wanted[-1:])[0]


def hdr10_codecs() -> str:
    """The names of those that carry HDR10 metadata, for people."""
    return " or ".join(codec.name for codec in CODECS.values() if codec.hdr10)
