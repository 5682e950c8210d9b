"""The alpha plane of pictures: whether a stream has one, and where its decoders leave it."""

from __future__ import annotations

from typing import Any

import av
import numpy as np

from vidsr.container import use_one_thread

# WebM keeps the alpha of these beside their pictures, where FFmpeg's own decoders do not look: libvpx's do.
_BESIDE = {"vp8": "", "vp9": "-vp9"}


def has_alpha(name: str) -> bool:
    """Whether FFmpeg's pixel format `name` has a plane or channel of alpha; palettes count as none."""
    return name != "pal8" and any(component.is_alpha for component in av.VideoFormat(name).components)


def coded_beside(stream: Any) -> bool:
    """Whether a stream of VP8 or VP9 has its alpha beside it."""
    tags = {name.lower(): value for name, value in stream.metadata.items()}
    return tags.get("alpha_mode") == "1" and stream.codec_context.codec.canonical_name in _BESIDE


def alpha_decoder(stream: Any) -> Any:
    """A decoder that gives what is `coded_beside` along with the picture, whose samples are the same."""
    decoder: Any = av.CodecContext.create(f"libvpx{_BESIDE[stream.codec_context.codec.canonical_name]}", "r")
    decoder.thread_count = 1
    return decoder


def decoder_of(stream: Any, alpha: bool) -> Any:
    """What decodes a stream's packets, in one thread. alpha: whether its alpha is wanted."""
    if alpha and coded_beside(stream):
        return alpha_decoder(stream)
    if not stream.codec_context.is_open:
        use_one_thread(stream)
    return stream


def without_alpha(name: str) -> str:
    """The format whose planes are the first of FFmpeg's format `name`; `name` itself where it has none of alpha."""
    return name.replace("yuva", "yuv").replace("gbrap", "gbrp")


def alpha_plane(picture: Any, bits: int) -> np.ndarray:
    """[rows, columns], uint8 or uint16: the alpha of a decoded picture, 0 to 2^bits - 1."""
    name = picture.format.name
    if without_alpha(name) == name:  # packed, or beside gray
        deep = picture.format.components[0].bits > 8
        picture = picture.reformat(format="gbrap16le" if deep else "gbrap", threads=1)
    own = picture.format.components[-1].bits
    plane = picture.planes[3]
    dtype = np.dtype(np.uint8 if own <= 8 else np.uint16)
    stride = plane.line_size // dtype.itemsize
    samples = np.frombuffer(plane, dtype)[: picture.height * stride].reshape(picture.height, stride)
    return rescaled(samples[:, : picture.width], own, bits)


def rescaled(alpha: np.ndarray, bits: int, wanted: int) -> np.ndarray:
    """`alpha` of `bits` in `wanted` bits a sample, none to none and full to full."""
    if bits == wanted:
        return alpha
    most, dtype = (1 << bits) - 1, np.uint8 if wanted == 8 else np.uint16
    return ((alpha.astype(np.uint32) * ((1 << wanted) - 1) + most // 2) // most).astype(dtype)
