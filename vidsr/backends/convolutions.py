"""What runs the convolutions of a backend for GPUs: PyTorch here, TensorRT's engines in tensorrt/body.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from vidsr.backends.base import Notify
from vidsr.backends.planes import PlaneGenerator, choose_precision
from vidsr.models.base import Generator


class Body(Protocol):
    """What runs the convolutions of a CudaBackend, all the rest of which stays as it is. Of one backend only.

    name: of the backend that this makes it, as `settle` says it.
    """

    name: str

    def precision(self, requested: str | None, device: torch.device, lacks: frozenset[str]) -> str:
        """What the convolutions compute in, "fp32", "bf16" or "fp16". UsageError for a request that cannot be met."""
        ...

    def attach(self, generator: Generator, planes: PlaneGenerator, precision: str, notify: Notify) -> str:
        """Take over `planes.generator.body`, once; what it is, for people: "fp16", with more before it.

        generator: as it was before `planes` folded it, float32. notify: told what makes the work slower, later on.
        """
        ...

    def prepare(self, inputs: Sequence[Tensor], tile: int) -> None:
        """Before the first work on such planes, on the stream for computing: real ones, [N, rows, columns] each, that
        are given to the generator in tiles of that size, or whole for 0."""
        ...

    def close(self) -> None:
        """Give back what it holds of the device."""
        ...


class TorchBody:
    """The convolutions by PyTorch's kernels. compiled: by what torch.compile makes of them, to compare with."""

    name = "cuda"

    def __init__(self, compiled: bool = False) -> None:
        self._compiled = compiled

    def precision(self, requested: str | None, device: torch.device, lacks: frozenset[str]) -> str:
        return choose_precision(requested, device.type, lacks)

    def attach(self, generator: Generator, planes: PlaneGenerator, precision: str, notify: Notify) -> str:
        if self._compiled:
            planes.generator.body.compile(mode="max-autotune-no-cudagraphs", dynamic=False)
        return precision

    def prepare(self, inputs: Sequence[Tensor], tile: int) -> None: ...

    def close(self) -> None: ...
