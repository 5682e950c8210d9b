"""Frames a second of the parts of a backend's own work.

How backends work inside is theirs to change, and only this file looks there: the time that a batch takes as a whole
does not tell where it goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.common.pictures import Source
from benchmarks.speed.measure import Effort, make_batches, speed
from benchmarks.speed.roof import stopwatch
from vidsr.backends import cuda
from vidsr.backends.cpu import TorchBackend
from vidsr.backends.cuda import CudaBackend
from vidsr.backends.lanes import copy_all
from vidsr.backends.planes import PlaneGenerator, tensor
from vidsr.frames import FrameBatch


def device_alone(backend: CudaBackend | TorchBackend, batch: FrameBatch, effort: Effort) -> dict[str, dict[str, Any]]:
    """{"upload", "model", "download"}: the parts of a backend's own work, each by itself; "model" is colour, generator
    and colour on tensors of the device, and on CUDA in the device's own time.

    On the CPU tensors are views of planes and planes views of tensors; only what PyTorch cannot view is copied.
    """
    parts = _parts_of_lane(backend, batch) if isinstance(backend, CudaBackend) else _parts_of_cpu(backend, batch)
    frames, upload, model, download = parts
    little = effort.part(0.1)
    return {"upload": speed(upload, little, frames), "model": speed(model, effort, frames),
            "download": speed(download, little, frames)}  # fmt: skip


def planes_of(backend: CudaBackend | TorchBackend) -> PlaneGenerator:
    """The generator inside, with its colour."""
    return backend._planes


def graphs(backend: CudaBackend) -> list[bool]:
    """For each lane, whether a CUDA graph does its work."""
    return [lane.graph is not None for lane in backend._lanes]


@contextmanager
def at_once(frames: int) -> Iterator[None]:
    """Backends for GPUs that are opened and used inside give the device so many frames at once, of any size that fits."""
    before = cuda.MOST_FRAMES, cuda.MOST_PATCHES
    cuda.MOST_FRAMES = cuda.MOST_PATCHES = frames
    try:
        yield
    finally:
        cuda.MOST_FRAMES, cuda.MOST_PATCHES = before


def one_chunk(backend: CudaBackend, batch: FrameBatch) -> tuple[int, Callable[[], None]]:
    """(frames at once, what computes them once more and waits for it): a graph's replay where there is one."""
    for _ in range(backend.in_flight):
        backend(batch)
    lane, streams = backend._lanes[0], backend._streams

    @torch.inference_mode()
    def once() -> None:
        streams.run(streams.compute, lambda: backend._compute(lane))
        streams.compute.synchronize()

    return len(lane.inputs[0]), once


def compute_of(backend: CudaBackend, source: Source, frames: int) -> Callable[[], None]:
    """What the device does for `frames` frames of `source` with its planes there; on any device, "meta" too."""
    batch = make_batches(source, frames)[0]
    with at_once(frames):
        backend._make_lanes(batch.format.plane_shapes(batch.width, batch.height), batch.frames[0])
    lane = backend._lanes[0]
    if len(lane.inputs[0]) != frames:
        raise ValueError(f"frames: {frames} of {source.size} do not fit at once")

    @torch.inference_mode()
    def compute() -> None:
        backend._compute(lane)

    with torch.inference_mode():
        backend._prepare(lane)
    return compute


def compute_alone(backend: CudaBackend, batch: FrameBatch, effort: Effort) -> dict[str, Any]:
    """Frames a second of the device's own work on tensors of its own, nothing uploaded or downloaded."""
    frames, _, model, _ = _parts_of_lane(backend, batch)
    return speed(model, effort, frames)


def _parts_of_cpu(backend: TorchBackend, batch: FrameBatch) -> tuple[Any, ...]:
    frame = batch.frames[0]
    backend(FrameBatch((frame,), batch.format, batch.color))  # chooses the tile
    timer, tile = stopwatch(torch.device("cpu")), backend._tile(batch.width, batch.height)
    stacks = [tensor(plane)[None] for plane in frame.planes]
    results = backend._planes(stacks, tile)

    def upload() -> object:
        return [tensor(plane)[None] for plane in frame.planes]

    def model() -> object:
        return backend._planes(stacks, tile)

    def download() -> object:
        return [plane[0].numpy() for plane in results]

    return 1, *(_repeated(timer, step) for step in (upload, model, download))


def _parts_of_lane(backend: CudaBackend, batch: FrameBatch) -> tuple[Any, ...]:
    backend(batch)
    lane, streams = backend._lanes[0], backend._streams
    streams.synchronize()
    count = len(lane.inputs[0])
    frames = (batch.frames * count)[:count]

    def upload() -> None:
        pinned = [backend._gather([f.planes[i] for f in frames], target) for i, target in enumerate(lane.inputs)]
        streams.run(streams.upload, lambda: copy_all(pinned, lane.inputs))

    def download() -> None:
        results = [backend._host(output.shape, output.dtype) for output in lane.outputs]
        streams.run(streams.download, lambda: copy_all(lane.outputs, results))

    def through_host(step: Callable[[], None], stream: Any) -> Callable[[int], float]:
        def work(pieces: int) -> float:
            start = time.perf_counter()
            with torch.inference_mode():
                for _ in range(pieces):
                    step()
            stream.synchronize()
            return time.perf_counter() - start

        return work

    computed = _repeated(stopwatch(backend.device), lambda: backend._compute(lane))

    def on_device(pieces: int) -> float:
        seconds: list[float] = []
        with torch.inference_mode():
            streams.run(streams.compute, lambda: seconds.append(computed(pieces)))
        return seconds[0]

    return count, through_host(upload, streams.upload), on_device, through_host(download, streams.download)


def _repeated(
    timer: Callable[[Callable[[], object]], float], step: Callable[[], object]
) -> Callable[[int], float]:
    def work(pieces: int) -> float:
        def several() -> None:
            for _ in range(pieces):
                step()

        return timer(several)

    return work
