"""Frames a second of anything, and of a backend alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import median
from typing import Any

import torch

from benchmarks.common.pictures import Source
from vidsr.backends import open_backend
from vidsr.backends.base import Backend, BackendSpec, Notify
from vidsr.backends.cpu import TorchBackend
from vidsr.backends.cuda import KIND as CUDA
from vidsr.backends.cuda import CudaBackend
from vidsr.errors import BackendError
from vidsr.frames import FrameBatch
from vidsr.models.checkpoint import find_model, load_generator
from vidsr.run.upscale import upscale

GPU_BATCH = CUDA.batch_size


@dataclass(frozen=True)
class Effort:
    """How much to measure. seconds: about how long each repeat takes. repeats: how many."""

    seconds: float = 2.0
    repeats: int = 3

    def part(self, share: float) -> Effort:
        """For what is steady, or takes little of a frame's time."""
        return Effort(self.seconds * share, self.repeats)


def speed(work: Callable[[int], float], effort: Effort, frames: int = 1, warm_up: int = 1) -> dict[str, Any]:
    """How fast `work` is, which does a number of pieces of `frames` frames and returns the seconds they took."""
    pieces = warm_up
    taken = work(pieces)  # what libraries do at their first call included
    if taken < effort.seconds:
        taken = work(pieces)
    while taken < effort.seconds / 4:
        pieces *= 2
        taken = work(pieces)
    pieces = max(1, round(pieces * effort.seconds / taken))
    return figures(lambda: work(pieces), effort, pieces * frames)


def figures(work: Callable[[], float], effort: Effort, frames: int) -> dict[str, Any]:
    """Frames a second of `work`, which does `frames` frames and returns the seconds they took.

    fps is `frames` over the median of the repeats' seconds. Of work that takes much longer than `effort` asks for,
    there are fewer repeats.
    """
    seconds: list[float] = []
    while not seconds or (len(seconds) < effort.repeats and sum(seconds) < 2 * effort.seconds * effort.repeats):
        seconds.append(work())
    return {
        "fps": frames / median(seconds), "fps_min": frames / max(seconds), "fps_max": frames / min(seconds),
        "frames": frames, "seconds": seconds,
    }  # fmt: skip


def in_turns(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; they alternate, every second round backwards, so that what else the machine
    does hits all."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(repeats):
        for name in list(ways)[:: -1 if i % 2 else 1]:
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


# --- the backend -----------------------------------------------------------------------------------------------------


def plain_spec(name: str, model: str, scale: int, source: Source) -> BackendSpec:
    """What vidsr would choose for `source` where it is YUV 4:2:0 of 8 bits; needs no PyAV."""
    path = str(find_model(model).path)
    return BackendSpec(name, path, scale, source.format, source.color, source.format, source.color)


def open_on(
    spec: BackendSpec, device: torch.device, notify: Notify | None = None, execution: str = "graph"
) -> CudaBackend | TorchBackend:
    """The backend of `spec`; that of PyTorch on GPUs also on the CPU, for rehearsals. BackendError where it cannot run.

    execution: of PyTorch on GPUs: "graph", "eager" or "compile" (torch.compile, then a graph).
    """
    if spec.name == CUDA.name and (device.type != "cuda" or execution != "graph"):
        if device.type == "cuda" and (reason := CUDA.available()):
            raise BackendError(reason)
        spec = replace(spec, compiled=execution == "compile")
        return CudaBackend(load_generator(spec.model), spec, notify, device, graphs=execution != "eager")
    opened = open_backend(replace(spec, instead=()), notify)
    assert isinstance(opened, CudaBackend | TorchBackend)
    return opened


def make_batches(source: Source, size: int) -> list[FrameBatch]:
    """`source`'s frames in host memory, `size` at a time."""
    frames = list(source.frames)
    frames += list(islice(cycle(frames), -len(frames) % size))
    return [FrameBatch(tuple(frames[i : i + size]), source.format, source.color) for i in range(0, len(frames), size)]


def model_only(backend: Backend, batches: Sequence[FrameBatch], effort: Effort) -> dict[str, Any]:
    """Frames from host memory through the backend to host memory, as many batches in flight as it likes."""

    def work(pieces: int) -> float:
        start = time.perf_counter()
        for _ in upscale(islice(cycle(batches), pieces), backend):
            pass
        return time.perf_counter() - start

    return speed(work, effort, len(batches[0]), backend.in_flight)
