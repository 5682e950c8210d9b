"""What storing a picture as video does to it: 8-bit 4:2:0 and a real encoder, through PyAV.

APISR (Wang et al., CVPR 2024) calls it prediction-oriented compression: encoded as video, even a single frame shows
the intra prediction, block and deblocking artefacts of episodes, which no JPEG does.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidsr.color import from_rgb
from vidsr.frames import ColorSpec, PixelFormat

if TYPE_CHECKING:
    import av

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]

# BT.601: what SD video uses. The matrix cancels out in the round trip, but quantised chroma and clipping do not.
_KR, _KG, _KB = 0.299, 0.587, 0.114
_YUV420, _BT601 = PixelFormat("yuv", 8, (1, 1)), ColorSpec("bt601")

# FFmpeg's encoders, how often each is drawn, and the decoder of what it writes. Most episodes that people have are
# H.264; MPEG-2 is the DVDs, MPEG-4 part 2 the old rips of them.
_ODDS = {"libx264": 0.60, "libx265": 0.13, "mpeg2video": 0.16, "mpeg4": 0.11}
_FIRST = {"libx264": 0.30, "libx265": 0.0, "mpeg2video": 0.40, "mpeg4": 0.30}
_MILD = {"libx264": (12, 33), "libx265": (17, 36), "mpeg2video": (2, 9), "mpeg4": (2, 9)}  # of quality: from, below
_HARD = {"libx264": (17, 37), "libx265": (20, 39), "mpeg2video": (2, 13), "mpeg4": (2, 13)}
_DECODERS = {"libx264": "h264", "libx265": "hevc", "mpeg2video": "mpeg2video", "mpeg4": "mpeg4"}
CODECS = tuple(_ODDS)
SMALLEST = 40  # pixels a side that every encoder takes, with the same output for the same input


@dataclass(frozen=True)
class Compression:
    """How one encode is made. codec: FFmpeg's encoder, one of CODECS.

    quality: CRF for libx264 and libx265 (0..51), quantiser scale for mpeg2video and mpeg4 (1..31); higher is worse.
    preset: of libx264 and libx265. animation: libx264's tune. bframes: at most so many between two others, for
    mpeg2video and mpeg4 (the presets decide for the other two).
    """

    codec: str
    quality: int
    preset: str = "veryfast"
    animation: bool = False
    bframes: int = 0

    def options(self) -> dict[str, str]:
        """FFmpeg's options: quiet, on one thread, and with the same output for the same input."""
        if self.codec == "libx264":
            # x264's MB-tree reads memory nobody has set on CPUs with AVX-512 (see vidsr/encode/encoder.py).
            tune = {"tune": "animation"} if self.animation else {}
            return {"crf": str(self.quality), "preset": self.preset, "mbtree": "0", **tune}
        if self.codec == "libx265":
            # x265's CU-tree writes past the end of its buffers when a side is below some 50 pixels, and what comes of a
            # picture of exactly one coding tree unit varies: hence no CU-tree, and units smaller than SMALLEST.
            quiet = "log-level=none:pools=none:frame-threads=1:wpp=0:cutree=0:ctu=32"
            return {"crf": str(self.quality), "preset": self.preset, "x265-params": quiet}
        scale = str(self.quality)
        lagrangian = str(118 * self.quality)  # FF_QP2LAMBDA
        return {"flags": "+qscale", "qmin": scale, "qmax": scale, "global_quality": lagrangian, "bf": str(self.bframes)}


def draw_compression(rng: np.random.Generator, hard: bool = False, first: bool = False) -> Compression:
    """One encode such as episodes go through, with an encoder that is there.

    CRF 12..32 for H.264 and 17..35 for H.265 (nearly transparent to a small download): some 2 and 5 above what people
    ask for, because MB-tree and CU-tree, which are off here, coarsen whatever moves by about so much. Quantiser scale
    2..8 for MPEG-2 and MPEG-4 (a good DVD to a crowded one). Milder than APISR's, which go on to what leaves little of
    so small a picture.
    hard: CRF 17..36 and 20..38, quantiser scale 2..12, the better ones more often. first: of two, the one that
    was made long ago: MPEG-2 and MPEG-4 mostly, never H.265 unless there is nothing else.
    """
    codecs = usable_codecs()
    odds = np.array([(_FIRST if first else _ODDS)[codec] for codec in codecs])
    odds = odds if odds.sum() else np.ones(len(codecs))
    codec = codecs[int(rng.choice(len(codecs), p=odds / odds.sum()))]
    ranges = _HARD if hard else _MILD

    def quality() -> int:
        drawn = int(rng.integers(*ranges[codec]))
        # What is hardly watchable is hardly kept: the better of two.
        return min(drawn, int(rng.integers(*ranges[codec]))) if hard else drawn

    if codec == "libx264":
        preset = ("veryfast", "fast", "medium")[int(rng.integers(3))]
        return Compression(codec, quality(), preset, bool(rng.random() < 0.4))
    if codec == "libx265":
        return Compression(codec, quality(), ("ultrafast", "veryfast")[int(rng.integers(2))])
    return Compression(codec, quality(), bframes=int(rng.integers(3)))


@lru_cache(maxsize=1)
def usable_codecs() -> tuple[str, ...]:
    """Those of CODECS that this PyAV can encode and decode: tried once, each missing one named on stderr.

    Call it before worker processes are forked: they inherit the answer and repeat no message. Raises
    click.ClickException without PyAV, and where it has none of the encoders.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        cure = "install it (pip install av), or train with --degrade none"
        raise click.ClickException(f"--degrade video encodes pictures with PyAV, which is missing: {cure}") from error
    usable = tuple(codec for codec in CODECS if _works(codec))
    if not usable:
        cure = "install PyAV's own wheel (pip install --force-reinstall av), or train with --degrade none"
        raise click.ClickException(f"this PyAV can encode with none of {', '.join(CODECS)}: {cure}")
    for codec in CODECS:
        if codec not in usable:
            click.echo(f"this PyAV cannot encode with {codec}: training goes on without it", err=True)
    return usable


def _works(codec: str) -> bool:
    grey = np.full((64, 64), 128, np.uint8)
    try:
        compress([(grey, grey[::2, ::2], grey[::2, ::2])], Compression(codec, 20))
    except (ValueError, OSError):  # what PyAV raises for an unknown codec, and for one that does not open
        return False
    return True


def compress(frames: list[Planes], how: Compression) -> list[Planes]:
    """Encode 4:2:0 `frames` (in display order) and decode them again, as many.

    All are of one size, with even sides of at least SMALLEST pixels.
    """
    import av

    encoder = av.CodecContext.create(how.codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    height, width = frames[0][0].shape
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 24), Fraction(24, 1)
    encoder.thread_count = 1  # the output of libx264 depends on it
    encoder.options = how.options()
    packets = []
    for index, planes in enumerate(frames):
        frame = av.VideoFrame(width, height, "yuv420p")
        for source, plane in zip(planes, frame.planes):
            view = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
            view[:, : plane.width] = source
        frame.pts, frame.time_base = index, Fraction(1, 24)
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create(_DECODERS[how.codec], "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    decoded = [_planes(frame) for packet in [*packets, None] for frame in decoder.decode(packet)]
    if len(decoded) != len(frames):
        raise ValueError(f"{how}: {len(frames)} frames went in, {len(decoded)} came out")
    return decoded


def _planes(frame: av.VideoFrame) -> Planes:
    return tuple(  # type: ignore[return-value]
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].copy()  # type: ignore
        for plane in frame.planes
    )


def to_yuv420(rgb: Tensor) -> Planes:
    """[3, H, W] float RGB, 0..1, H and W even -> planes Y [H, W], U and V [H/2, W/2] uint8, BT.601 limited range.

    Chroma is sited left, as MPEG-2 and H.264 have it: on even columns, midway between two rows.
    """
    luma, blue, red = from_rgb(rgb[None], _YUV420, _BT601)
    return luma[0].numpy(), blue[0].numpy(), red[0].numpy()


def to_rgb(planes: Planes, mode: str = "bilinear") -> Tensor:
    """The way back, as players do it: -> [3, H, W] float RGB, 0..1. mode: bilinear or bicubic, for the chroma.

    Not `vidsr.color.to_rgb`, whose one filter is better than a player's: up to 6 levels apart.
    """
    luma = (torch.from_numpy(planes[0]).float() - 16) / 219
    chroma = (torch.from_numpy(np.stack(planes[1:])).float() - 128) / 224
    height, width = luma.shape
    # Rows are centred between two luma rows, as interpolate() takes them. Columns are not: every even luma column has
    # its own chroma sample, every odd one lies half way between two.
    chroma = F.interpolate(chroma[None], size=(height, width // 2), mode=mode, align_corners=False)
    padded = F.pad(chroma, (1, 2, 0, 0), mode="replicate")[0]
    before, here, after, beyond = (padded[:, :, i : i + width // 2] for i in range(4))
    between = (here + after) / 2 if mode == "bilinear" else (9 * (here + after) - before - beyond) / 16
    blue_difference, red_difference = torch.stack([here, between], dim=3).flatten(2)
    red = luma + (2 - 2 * _KR) * red_difference
    blue = luma + (2 - 2 * _KB) * blue_difference
    return torch.stack([red, (luma - _KR * red - _KB * blue) / _KG, blue]).clamp(0, 1)
