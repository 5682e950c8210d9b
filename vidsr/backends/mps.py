"""Apple's GPUs, by PyTorch's Metal backend."""

from __future__ import annotations

from dataclasses import replace

import torch

from vidsr.backends.base import BackendSpec, Notify
from vidsr.backends.cuda import KIND as CUDA
from vidsr.backends.cuda import CudaBackend, open_device
from vidsr.errors import BackendError


def mps_missing() -> str | None:
    """One line why Metal cannot be used here, or None when it can."""
    if torch.backends.mps.is_available():
        return None
    if not torch.backends.mps.is_built():
        return "mps: this PyTorch has no Metal: it is for Macs"
    return "mps: no usable Apple GPU: it takes macOS 14 and an Apple chip"


def open_mps(spec: BackendSpec, notify: Notify | None = None) -> CudaBackend:
    """The backend `spec` describes, its weights loaded from `spec.model`. Errors as `open_cuda`."""
    if reason := mps_missing():
        raise BackendError(reason)
    return open_device(spec, notify, torch.device("mps"), "mps")


KIND = replace(CUDA, name="mps", available=mps_missing, open=open_mps, contender=lambda: True)
