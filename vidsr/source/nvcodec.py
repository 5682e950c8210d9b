"""The decoder of an NVIDIA GPU (NVDEC): FFmpeg lists it on every machine, only opening it tells whether it works."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

import av
from av.codec.context import ThreadType
from av.codec.hwaccel import HWAccel

from vidsr.machine import why_it_fails

LIBRARY = "nvcuvid.dll" if os.name == "nt" else "libnvcuvid.so.1"
GPU_DECODED = ("h264", "hevc", "vp9", "av1")  # their standards leave no rounding to the decoder


def gpu_decoder(codec: str, extradata: bytes | None = None, reorder: int = 0) -> Any:
    """A decoder of `codec`, one of GPU_DECODED, on the GPU; its frames are NV12 or P010 in host memory.

    extradata, reorder: of the stream's own codec context. What the GPU cannot decode is an error of PyAV's, here or at
    the first packets, never decoded in software instead.
    """
    # A CUDA context of its own: FFmpeg refuses the process's primary one when PyTorch has opened it, with other flags.
    decoder: Any = av.CodecContext.create(codec, "r", HWAccel("cuda", allow_software_fallback=False))
    if not decoder.is_hwaccel:
        raise NotImplementedError(f"this FFmpeg has no {codec} decoder for CUDA")
    decoder.thread_type = ThreadType.NONE
    if extradata:
        decoder.extradata = extradata
    decoder.reorder_depth = reorder
    return decoder


@cache
def decoder_missing(codec: str = "h264") -> str | None:
    """One line why `codec` is not decoded on a GPU here; None when the device opens, whatever it makes of a file.

    Each is tried once in a process.
    """
    if codec not in GPU_DECODED:
        return f"{codec} is not decoded on GPUs to the same bits as anywhere else"
    return why_it_fails(lambda: gpu_decoder(codec)) or _library_missing()


def _library_missing() -> str | None:
    """One line where the driver is there without its part for video, as in containers made for computing only.

    FFmpeg opens the device all the same, and asks for that part with the first packet.
    """
    try:
        ctypes.CDLL(LIBRARY)
        return None
    except OSError:
        return f"the driver's {LIBRARY} is missing: containers need NVIDIA_DRIVER_CAPABILITIES=all, or video"
