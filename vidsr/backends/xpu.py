"""Intel's GPUs, by PyTorch's XPU backend."""

from __future__ import annotations

from dataclasses import replace

import torch

from vidsr.backends.base import BackendSpec, Notify
from vidsr.backends.cuda import KIND as CUDA
from vidsr.backends.cuda import CudaBackend, open_device
from vidsr.errors import BackendError

INSTALL = "pip install torch --index-url https://download.pytorch.org/whl/xpu"


def xpu_missing() -> str | None:
    """One line why no Intel GPU can be used here, with the cure, or None when one can."""
    if not torch.xpu._is_compiled():
        return f"xpu: this PyTorch ({torch.__version__}) has no XPU: {INSTALL}"
    return None if torch.xpu.is_available() else "xpu: no usable Intel GPU: install Intel's driver, or update it"


def open_xpu(spec: BackendSpec, notify: Notify | None = None) -> CudaBackend:
    """The backend `spec` describes, its weights loaded from `spec.model`. Errors as `open_cuda`."""
    if reason := xpu_missing():
        raise BackendError(reason)
    return open_device(spec, notify, torch.device("xpu", torch.xpu.current_device()), "xpu")


KIND = replace(CUDA, name="xpu", available=xpu_missing, open=open_xpu, contender=lambda: True)
