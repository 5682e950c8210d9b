"""The GPU that is there, why it cannot be used, and what its errors mean."""

from __future__ import annotations

import ctypes
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch

from vidsr.errors import BackendError, first_line

_probing = threading.Lock()


def cuda_missing() -> str | None:
    """One line why CUDA cannot be used here, with the cure, or None when it can."""
    no_driver = None if _driver() else "no NVIDIA driver is installed"
    if not torch.backends.cuda.is_built():
        also = f", and {no_driver}" if no_driver else ""
        return f"cuda: this PyTorch ({torch.__version__}) has no CUDA{also}: install a build that has, see pytorch.org"
    with _probing, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        said = next((first_line(w.message) for w in caught if "CUDA" in str(w.message)), no_driver or "none found")
        return f"cuda: no usable NVIDIA GPU ({said}): install NVIDIA's driver, or update it"
    try:
        torch.cuda.init()
        major, minor = torch.cuda.get_device_capability()
    except (RuntimeError, AssertionError) as error:
        return f"cuda: the GPU cannot be opened ({first_line(error)})"
    if not has_kernels(major, minor, torch.cuda.get_arch_list()):
        return (
            f"cuda: this PyTorch ({torch.__version__}) has no kernels for {torch.cuda.get_device_name()} (compute "
            f"capability {major}.{minor}): install a build that has, see pytorch.org"
        )
    return None


@cache
def _driver() -> bool:
    """Whether the library is there that comes with NVIDIA's driver, not with PyTorch."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        return True
    except OSError:
        return False


def has_kernels(major: int, minor: int, built_for: Sequence[str]) -> bool:
    """Whether a device of that compute capability can run a PyTorch built for `built_for` ("sm_86", "compute_90").

    Machine code runs on its own major version from its minor version on; "compute" is compiled for anything newer.
    """
    for name in built_for:
        kind, _, number = name.rstrip("af").partition("_")
        own = divmod(int(number), 10) if number.isdigit() else (99, 0)
        if kind == "sm" and own[0] == major and own[1] <= minor:
            return True
        if kind == "compute" and own <= (major, minor):
            return True
    return not built_for


def device_name(device: torch.device) -> str:
    """For people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def gpu_name() -> str:
    """The name of the GPU that is used."""
    return device_name(torch.device("cuda", torch.cuda.current_device()))


@contextmanager
def cuda_errors_explained(device: torch.device) -> Iterator[None]:
    """CUDA's errors as a BackendError of one line. After one the device cannot be used in this process."""
    try:
        yield
    except RuntimeError as error:
        if device.type == "cuda":
            if isinstance(error, torch.OutOfMemoryError):
                said = "out of device memory: free some, or use --backend cpu"
                raise BackendError(f"{device_name(device)}: {said}") from error
            if re.search("CUDA|cuDNN|CUDNN", str(error)):
                raise BackendError(f"{device_name(device)}: {first_line(error)}; run it again to go on") from error
        raise
