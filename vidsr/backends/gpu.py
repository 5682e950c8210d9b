"""The GPU that is there, why it cannot be used, and what its errors mean."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from vidsr.errors import BackendError, first_line
from vidsr.files import cache_folder, make_cache_folder, write_whole

_probing = threading.Lock()


def cuda_missing() -> str | None:
    """One line why CUDA cannot be used here, with the cure, or None when it can."""
    vendor = "AMD" if torch.version.hip else "NVIDIA"
    no_driver = None if torch.version.hip or _driver() else "no NVIDIA driver is installed"
    if not torch.backends.cuda.is_built():
        also = f", and {no_driver}" if no_driver else ""
        return f"cuda: this PyTorch ({torch.__version__}) has no CUDA{also}: install a build that has, see pytorch.org"
    with _probing, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        said = next((first_line(w.message) for w in caught if "CUDA" in str(w.message)), no_driver or "none found")
        return f"cuda: no usable {vendor} GPU ({said}): install {vendor}'s driver, or update it"
    if torch.version.hip:  # AMD's: their architectures have names of their own, and PyTorch finds those it cannot use
        return None
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
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "xpu":
        return torch.xpu.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else "CPU"


def gpu_name() -> str:
    """The name of the GPU that is used."""
    return device_name(torch.device("cuda", torch.cuda.current_device()))


@contextmanager
def device_errors_explained(device: torch.device) -> Iterator[None]:
    """A device's errors as a BackendError of one line. After one it cannot be used in this process."""
    try:
        yield
    except RuntimeError as error:
        if device.type != "cpu":
            if out_of_memory(error):
                said = "out of device memory: free some, or use --backend cpu"
                raise BackendError(f"{device_name(device)}: {said}") from error
            if re.search("CUDA|cuDNN|CUDNN|HIP|MPS|Metal|XPU|SYCL|Level.?Zero", str(error)):
                raise BackendError(f"{device_name(device)}: {first_line(error)}; run it again to go on") from error
        raise


def out_of_memory(error: BaseException) -> bool:
    """Whether a device has no memory left, which Metal says in its own way."""
    return isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error)


def graphs_refused(device: torch.device) -> str | None:
    """One line why CUDA graphs are not recorded here: it went wrong before, with this card, driver and PyTorch."""
    path = _refusal(device)
    try:
        reason = path.read_text().strip()
    except OSError:
        return None
    return f"no CUDA graphs, which went wrong here before ({reason}): slower; delete {path} to try again"


def refuse_graphs(device: torch.device, reason: str) -> str:
    """Remember that recording a graph went wrong; what to do now, for people."""
    path = _refusal(device)
    try:
        make_cache_folder(path.parent)
        write_whole(path, reason.encode())
    except OSError:
        return "run it again to go on"
    return "run it again: it goes on without graphs, slower"


def _refusal(device: torch.device) -> Path:
    card = f"{device_name(device)} {torch.__version__} {torch.version.cuda} {torch.version.hip} {driver_version()}"
    return cache_folder("graphs") / f"{hashlib.sha256(card.encode()).hexdigest()[:16]}.refused"


def driver_version() -> str:
    """Of NVIDIA's driver, and of the CUDA that it knows; "" where there is none."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
        found = re.search(r"\d+\.\d+(?:\.\d+)?", text)
    except OSError:  # not Linux
        found = None
    ask = getattr(torch._C, "_cuda_getDriverVersion", None)
    api = str(ask()) if ask and torch.cuda.is_available() else ""
    return f"{found[0]} ({api})" if found else api
