"""From a high-resolution picture to the low-resolution one a generator is shown.

`none`: bicubic ÷4 with antialiasing. `video`: the same, then what a DVD or a stream does to it: 8-bit 4:2:0 and a
real codec at a random quality, as the only frame or one of a few in a slow pan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SCALE = 4
DEGRADATIONS = ("none", "video")
Planes = tuple[np.ndarray, np.ndarray, np.ndarray]

# BT.601: what SD video uses. The matrix cancels out in the round trip, but quantised chroma and clipping do not.
_KR, _KG, _KB = 0.299, 0.587, 0.114


def downscale(highres: Tensor) -> Tensor:
    """[N, 3, 4H, 4W] float, 0..1 -> [N, 3, H, W] float, 0..1: bicubic with antialiasing, as PIL's."""
    return F.interpolate(highres, scale_factor=1 / SCALE, mode="bicubic", antialias=True).clamp(0, 1)


def upscale_bicubic(lowres: Tensor) -> Tensor:
    """[N, 3, H, W] float, 0..1 -> [N, 3, 4H, 4W] float, 0..1: what every generator has to beat."""
    # antialias=True picks PIL's kernel (a = -0.5); without it torch uses a = -0.75, which overshoots more.
    return F.interpolate(lowres, scale_factor=SCALE, mode="bicubic", antialias=True).clamp(0, 1)


def to_yuv420(rgb: Tensor) -> Planes:
    """[3, H, W] float RGB, 0..1, H and W even -> planes Y [H, W], U and V [H/2, W/2] uint8, BT.601 limited range.

    Chroma is sited left, as MPEG-2 and H.264 have it: on even columns, midway between two rows.
    """
    red, green, blue = rgb
    luma = _KR * red + _KG * green + _KB * blue
    chroma = torch.stack([(blue - luma) / (2 - 2 * _KB), (red - luma) / (2 - 2 * _KR)])
    padded = F.pad(chroma[None], (1, 0, 0, 0), mode="replicate")[0]
    width = chroma.shape[2]
    cosited = (padded[:, :, 0:width:2] + 2 * padded[:, :, 1 : width + 1 : 2]) / 4 + chroma[:, :, 1::2] / 4
    chroma = (cosited[:, 0::2] + cosited[:, 1::2]) / 2
    return _to_bytes(16 + 219 * luma), _to_bytes(128 + 224 * chroma[0]), _to_bytes(128 + 224 * chroma[1])


def to_rgb(planes: Planes, mode: str = "bilinear") -> Tensor:
    """The way back, as a player does it: -> [3, H, W] float RGB, 0..1. mode: bilinear or bicubic, for the chroma."""
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


def _to_bytes(plane: Tensor) -> np.ndarray:
    return plane.round().clamp(0, 255).byte().numpy()


@dataclass(frozen=True)
class Compression:
    """One encode. codec: FFmpeg's encoder name, or "" for 4:2:0 alone. shift: (dy, dx) pan in highres pixels a frame.

    quality: CRF for libx264 and libx265, quantiser scale for mpeg2video and mpeg4. frames: how many are encoded.
    pick: the index of the frame that is taken out again.
    """

    codec: str
    quality: int = 0
    frames: int = 1
    pick: int = 0
    shift: tuple[int, int] = (0, 0)
    options: dict[str, str] = field(default_factory=dict)


# Odds of each codec; "rgb" is no compression at all. Near-clean frames keep the generator sharp on good sources.
_ODDS = {"rgb": 0.17, "": 0.08, "libx264": 0.45, "libx265": 0.10, "mpeg2video": 0.12, "mpeg4": 0.08}
MAX_PAN = 6  # highres pixels a frame
MAX_FRAMES = 3


def draw_compression(rng: np.random.Generator) -> Compression | None:
    """A random encode such as old episodes went through; None leaves the frame as it is."""
    codec = str(rng.choice(list(_ODDS), p=list(_ODDS.values())))
    if codec == "rgb":
        return None
    if codec == "":
        return Compression("")
    frames = int(rng.integers(1, MAX_FRAMES + 1))
    # Anime holds still most of the time; a hold shows what the encoder's later frames add to the first.
    shift = (0, 0) if rng.random() < 0.4 else tuple(int(v) for v in rng.integers(-MAX_PAN, MAX_PAN + 1, 2))
    options = {}
    if codec == "libx264":
        quality = int(rng.integers(12, 31))
        options = {"preset": str(rng.choice(["veryfast", "fast", "medium"]))}
        if rng.random() < 0.4:
            options["tune"] = "animation"
    elif codec == "libx265":
        quality = int(rng.integers(12, 31))
        options = {"preset": str(rng.choice(["ultrafast", "veryfast"]))}
    else:
        quality = int(rng.integers(2, 11))
    return Compression(codec, quality, frames, int(rng.integers(frames)), shift, options)  # type: ignore[arg-type]


def compress(frames: list[Planes], how: Compression) -> Planes:
    """Encode 4:2:0 `frames` (uint8, all of one even size), decode them again and return frame `how.pick`."""
    if not how.codec:
        return frames[how.pick]
    encoder = av.CodecContext.create(how.codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    height, width = frames[0][0].shape
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 24), Fraction(24, 1)
    encoder.thread_count = 1  # the output of libx264 depends on it
    if how.codec in ("libx264", "libx265"):
        # x264's MB-tree reads memory nobody has set on CPUs with AVX-512 (see vidsr/encode.py): its output varies.
        encoder.options = {"crf": str(how.quality), "mbtree": "0", **how.options}
        if how.codec == "libx265":
            quiet = {"x265-params": "log-level=none:pools=none:frame-threads=1"}
            encoder.options = {"crf": str(how.quality), **how.options, **quiet}
    else:
        scale = str(how.quality)
        encoder.options = {"qmin": scale, "qmax": scale, "flags": "+qscale", "global_quality": str(118 * how.quality)}
    packets = []
    for index, planes in enumerate(frames):
        frame = av.VideoFrame(width, height, "yuv420p")
        for source, plane in zip(planes, frame.planes):
            view = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
            view[:, : plane.width] = source
        frame.pts, frame.time_base = index, Fraction(1, 24)
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create({"libx264": "h264", "libx265": "hevc"}.get(how.codec, how.codec), "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    return tuple(  # type: ignore[return-value]
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].copy()  # type: ignore
        for plane in decoded[how.pick].planes
    )


def degrade_window(window: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One pair of the `video` degradation. window: [S, S, 3] uint8 with S >= size + 2 * MAX_PAN * MAX_FRAMES.

    Returns the highres crop [size, size, 3] that the camera saw in the frame taken, and its degraded lowres
    [size/4, size/4, 3], both uint8 RGB.
    """
    how = draw_compression(rng)
    margin = (window.shape[0] - size) // 2
    if how is None:
        highres = window[margin : margin + size, margin : margin + size]
        return highres, _as_pixels(downscale(_as_tensor(highres)[None])[0])
    crops = []
    for index in range(how.frames):
        top, left = margin + index * how.shift[0], margin + index * how.shift[1]
        crops.append(window[top : top + size, left : left + size])
    planes = compress([to_yuv420(downscale(_as_tensor(crop)[None])[0]) for crop in crops], how)
    mode = "bilinear" if rng.random() < 0.5 else "bicubic"
    return crops[how.pick], _as_pixels(to_rgb(planes, mode))


def _as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 255


def _as_pixels(rgb: Tensor) -> np.ndarray:
    return (rgb * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
