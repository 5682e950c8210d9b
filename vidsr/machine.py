"""What this machine has: cores, memory, and the decoder and encoders of an NVIDIA GPU (NVDEC, NVENC).

FFmpeg lists GPU codecs on every machine; only opening one tells whether it works. What is tried here is tried once in a
process. Importing this module imports neither PyAV nor PyTorch.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

GPU_DECODED = ("h264", "hevc", "vp9", "av1")  # their standards leave no rounding to the decoder
GPU_ENCODERS = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
_LOG = Lock()


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def cpu_name() -> str:
    """The processor's name for people, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def busy_seconds() -> float:
    """How long the cores that this process may use have worked for anybody, in all; 0.0 where the system tells nobody.
    """
    try:
        allowed = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        # user, nice, system, (idle, waiting for disks,) interrupts, and what was given to other virtual machines.
        ticks = sum(int(v) for words in lines if words[0] in allowed for v in [*words[1:4], *words[6:9]])
        return ticks / float(os.sysconf("SC_CLK_TCK"))
    except (AttributeError, OSError, ValueError, IndexError):
        return 0.0


def free_memory() -> int:
    """Bytes of the host's memory free for the taking, a container's own limit included."""
    try:
        words = Path("/proc/meminfo").read_text().split()
        free = int(words[words.index("MemAvailable:") + 1]) * 1024
    except (OSError, ValueError):
        try:
            free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        except (AttributeError, OSError, ValueError):  # Windows; unknown there
            return 4 << 30
    try:
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        return max(0, min(free, limit - used))
    except (OSError, ValueError):  # none, or "max"
        return free


@cache
def keep_memory() -> None:
    """Have glibc keep the memory that large tensors leave, for the next frame's: of the whole process, so only for
    programs of our own, before they begin.

    It would give each back to the system and get it anew, page by page: 65,000 faults a frame of 720x480 at 4x, 13 %
    of the time there, 21 % at 1280x720, 4 % at 480x270. One arena, because those of other threads end at 64 MiB. What
    the process holds at most stays the same. Other C libraries do as they like.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-8, 1)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX
            mallopt(parameter, value)


def gpu_decoder(codec: str, extradata: bytes | None = None, reorder: int = 0) -> Any:
    """A decoder of `codec`, one of GPU_DECODED, on the GPU; its frames are NV12 or P010 in host memory.

    extradata, reorder: of the stream's own codec context. What the GPU cannot decode is an error of PyAV's, here or at
    the first packets, never decoded in software instead.
    """
    import av
    from av.codec.context import ThreadType
    from av.codec.hwaccel import HWAccel

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
    """One line why `codec` is not decoded on a GPU here; None when the device opens, whatever it makes of a file."""
    if codec not in GPU_DECODED:
        return f"{codec} is not decoded on GPUs to the same bits as anywhere else"
    return _failure(lambda: gpu_decoder(codec))


@cache
def encoder_missing(encoder: str, layout: str = "yuv420p", width: int = 256, height: int = 144) -> str | None:
    """One line why FFmpeg's `encoder` does not work here, None when it encodes a picture of that layout and size."""

    def encode() -> None:
        import av

        context: Any = av.CodecContext.create(encoder, "w")
        context.width, context.height, context.pix_fmt = width, height, layout
        context.time_base, context.framerate = Fraction(1, 24), Fraction(24)
        picture = av.VideoFrame(width, height, layout)
        for plane in picture.planes:
            plane.update(bytes(plane.buffer_size))
        picture.pts = 0
        if not [*context.encode(picture), *context.encode(None)]:
            raise RuntimeError("it gives no packet")

    return _failure(encode)


def _failure(action: Callable[[], object]) -> str | None:
    """Why `action` fails, in FFmpeg's words, which it tells its log only; None when it does not."""
    import av
    import av.logging

    # Messages go through Python for this moment, not longer: see container.py. No decoder with frame threads runs
    # while choices are still being made.
    with _LOG:
        repeated = av.logging.get_skip_repeated()
        av.logging.set_skip_repeated(False)
        av.logging.set_level(av.logging.ERROR)
        try:
            with av.logging.Capture(local=False) as said:
                action()
            return None
        except (av.FFmpegError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
            lines = [text.strip() for _, _, text in said if text.strip()]
            return lines[0].rstrip(".") if lines else str(getattr(error, "strerror", None) or error)
        finally:
            av.logging.restore_default_callback()
            av.logging.set_libav_level(av.logging.PANIC)
            av.logging.set_skip_repeated(repeated)
