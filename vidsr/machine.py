"""What this machine has: cores, memory, and in FFmpeg's words what it lacks.

Importing this module imports neither PyAV nor PyTorch.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock

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


def why_it_fails(action: Callable[[], object]) -> str | None:
    """Why `action` fails, in FFmpeg's words, which it tells its log only; None when it does not.

    PyAV's logging is as before afterwards; but FFmpeg's own printing, which PyAV cannot ask for, is taken for none.
    """
    import av
    import av.logging

    # Messages go through Python for this moment, not longer: with frame threads that can deadlock, when a container is
    # dropped whose worker waits for the GIL that its own joiner holds.
    with _LOG:
        level, repeated = av.logging.get_level(), av.logging.get_skip_repeated()
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
            av.logging.set_level(level)
            av.logging.set_skip_repeated(repeated)
