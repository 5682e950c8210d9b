"""What keeps batches apart that are on their way through a device at once: its streams, memory for each, and events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidsr.frames import Frame

Shapes = tuple[tuple[int, int], ...]  # rows and columns of each plane


class Lane:
    """Device memory for one batch, its graph, and the events that keep batches apart."""

    def __init__(self, shapes: Shapes, chunk: int, dtype: torch.dtype, device: torch.device, streams: Streams) -> None:
        self.shapes = shapes
        self.inputs = [torch.empty((chunk, *shape), dtype=dtype, device=device) for shape in shapes]
        self.outputs: list[Tensor] = []
        self.graph: Any = None
        self.uploaded, self.computed, self.downloaded = streams.event(), streams.event(), streams.event()


class Place:
    """A frame that was submitted, and where its result will be: number `index` of the batch it went up in."""

    def __init__(self, frame: Frame) -> None:
        self.frame: Frame | None = frame  # until it is on its way
        self._times = frame.pts, frame.duration
        self._results: list[Tensor] = []
        self._index = 0
        self._arrived: Any = None

    def started(self, results: list[Tensor], index: int, arrived: Any) -> None:
        self._results, self._index, self._arrived = results, index, arrived
        self.frame = None  # last: other threads ask that whether the rest is there

    def result(self, dtype: np.dtype[Any]) -> Frame:
        """The enlarged frame, as soon as it is in the host's memory; its planes in that type."""
        self._arrived.synchronize()
        planes = (result.numpy()[self._index] for result in self._results)
        return Frame(tuple(plane.astype(dtype, copy=False) for plane in planes), *self._times)


class Streams:
    """Three streams of a device that has some; of others three that have done everything once they are waited for."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        module = getattr(torch, device.type, None)  # torch.mps, torch.xpu; the CPU's has nothing to wait for
        wait: Callable[[], None] = getattr(module, "synchronize", lambda: None)
        make: Any = (lambda: torch.cuda.Stream(device)) if self._cuda else (lambda: _InOrder(wait))
        self.upload, self.compute, self.download = make(), make(), make()
        self._make_event = (lambda: torch.cuda.Event(blocking=True)) if self._cuda else make

    def run(self, stream: Any, work: Callable[[], None]) -> None:
        """Give `work` to a stream; it is done after all that the stream was given, and told to wait for, before."""
        with torch.cuda.stream(stream) if self._cuda else nullcontext():
            work()

    def event(self) -> Any:
        """A new event. Blocking: a thread that waits sleeps, and leaves its core to an encoder."""
        return self._make_event()

    def synchronize(self) -> None:
        for stream in (self.upload, self.compute, self.download):
            stream.synchronize()


class _InOrder:
    """A stream or an event of a device that does all it is given in that order."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self.synchronize = wait

    def wait_event(self, event: Any) -> None: ...

    def record(self, stream: Any) -> None: ...


def copy_all(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Of the same shapes. Begun, not waited for, on devices that have streams for that."""
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source, non_blocking=source.is_cuda or target.is_cuda)
