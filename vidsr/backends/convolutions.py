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
    compiles: whether torch.compile may take over the convolutions, too, and all around them.
    """

    name: str
    compiles: bool

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

    def runs(self, inputs: Sequence[Tensor], tile: int) -> str:
        """What does the convolutions of such planes, after `prepare`, in a few words: a run that goes on must not
        differ."""
        ...

    def close(self) -> None:
        """Give back what it holds of the device."""
        ...


class TorchBody:
    """The convolutions by PyTorch's kernels. name: of the backend."""

    compiles = True

    def __init__(self, name: str = "cuda") -> None:
        self.name = name

    def precision(self, requested: str | None, device: torch.device, lacks: frozenset[str]) -> str:
        return choose_precision(requested, device.type, lacks)

    def attach(self, generator: Generator, planes: PlaneGenerator, precision: str, notify: Notify) -> str:
        return precision

    def prepare(self, inputs: Sequence[Tensor], tile: int) -> None: ...

    def runs(self, inputs: Sequence[Tensor], tile: int) -> str:
        return "PyTorch"

    def close(self) -> None: ...
