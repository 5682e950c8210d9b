"""What the card itself does, as parts of `python -m benchmarks gpu`: whether pictures get mixed up, how fast planes
travel, how many frames it wants at once, and what its kernels are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.common.pictures import Source, drawn
from benchmarks.gpu.trial import Found, Trial
from benchmarks.speed.inside import at_once, compute_alone, graphs, one_chunk
from benchmarks.speed.kernels import counted
from benchmarks.speed.measure import GPU_BATCH, make_batches, open_on, plain_spec
from vidsr.backends.cuda import KIND as CUDA
from vidsr.backends.cuda import CudaBackend
from vidsr.frames import FrameBatch

SIZE, TINY = (480, 270), (160, 120)  # above that of patches, of which more are done at once
CHUNKS = (1, 2, 4, 8)
MIB = (1, 12, 256)  # about a batch's planes at 480x270, the same at 1080p, and what overheads do not show in
KERNELS = 20  # of a profile, kept


def race(trial: Trial, models: list[str]) -> Found:
    """Many batches in flight through all lanes, again and again: is every picture its own?"""
    source = _source(trial, 24)
    frames = source.frames
    count, rounds = (4, 1) if trial.rehearsal else (12, 30)
    batches = [FrameBatch(tuple(frames[(5 * i + k) % 24] for k in range(GPU_BATCH)), source.format, source.color) for i in range(count)]
    for model in models[:2]:

        def work(model: str = model) -> Found:
            backend = _opened(trial, source, model)
            try:
                expected = [backend(batch) for batch in batches]
                wrong = seen = 0
                for _ in range(rounds):
                    pending = [backend.submit(batch) for batch in batches]
                    wrong += sum(mixed_up(result(), right) for result, right in zip(pending, expected, strict=True))
                    seen += GPU_BATCH * len(batches)
                    if trial.deadline.refuses(2):
                        break
                return {"wrong_frames": wrong, "of": seen, "graphs": graphs(backend)}
            finally:
                backend.close()

        found = trial.attempt(model, 5, work)
        if found.get("wrong_frames"):
            trial.failures.append(f"{model}: {found['wrong_frames']} of {found['of']} frames are not their own")
        trial.add("races", {"model": model, "size": source.size, **found})
    return {}


def mixed_up(batch: FrameBatch, expected: FrameBatch) -> int:
    """How many frames of `batch` are not those of `expected`, bit for bit."""
    return sum(not all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))
               for one, other in zip(batch.frames, expected.frames, strict=True))  # fmt: skip


def copies(trial: Trial, models: list[str]) -> Found:
    """Bytes a second between pinned memory of the host and the device, each way alone and both at once."""
    device = trial.bench.device
    on_gpu = device.type == "cuda"
    streams: Any = [torch.cuda.Stream(device) for _ in range(2)] if on_gpu else [None, None]
    for size in (1,) if trial.rehearsal else MIB:
        count = size << 20
        hosts = [torch.empty(count, dtype=torch.uint8, pin_memory=on_gpu) for _ in range(2)]
        devices = [torch.empty(count, dtype=torch.uint8, device=device) for _ in range(2)]
        ways: dict[str, list[Callable[[], object]]] = {
            "host_to_device": [lambda: devices[0].copy_(hosts[0], non_blocking=True)],  # noqa: B023
            "device_to_host": [lambda: hosts[1].copy_(devices[1], non_blocking=True)],  # noqa: B023
        }
        ways["both_at_once"] = ways["host_to_device"] + ways["device_to_host"]
        found = {name: trial.attempt(f"{name}, {size} MiB", 2, lambda s=steps, n=count: _rate(trial, streams, s, n))  # type: ignore[misc]
                 for name, steps in ways.items()}  # fmt: skip
        trial.add("copies", {"mib": size, **found})
    return {}


def _rate(trial: Trial, streams: list[Any], steps: list[Callable[[], object]], size: int) -> Found:
    """GB/s of all `steps` together, each on a stream of its own; the best of three repeats."""

    def repeated(times: int) -> float:
        start = time.perf_counter()
        for stream, step in zip(streams, steps):
            with torch.cuda.stream(stream):  # does nothing without one
                for _ in range(times):
                    step()
        if trial.bench.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    repeated(2)
    times = max(2, min(400, (4 << 30) // size)) if not trial.rehearsal else 2
    return {"gb_per_s": len(steps) * times * size / min(repeated(times) for _ in range(3)) / 1e9}


def chunks(trial: Trial, models: list[str]) -> Found:
    """Frames a second of the device alone, given so many frames at once."""
    source = _source(trial, max(CHUNKS))
    for model in models:
        for count in CHUNKS[:2] if trial.rehearsal else CHUNKS:

            def work(model: str = model, count: int = count) -> Found:
                with at_once(count):
                    backend = _opened(trial, source, model)
                    try:
                        return {"device_alone": compute_alone(backend, make_batches(source, count)[0], trial.bench.effort.part(0.4)),
                                "at_once": one_chunk(backend, make_batches(source, count)[0])[0]}  # fmt: skip
                    finally:
                        backend.close()

            found = trial.attempt(f"{model}, {count} at once", 4, work)
            trial.add("chunks", {"model": model, "size": source.size, "asked": count, **found})
    return {}


def profiled(trial: Trial, models: list[str]) -> Found:
    """The kernels of a chunk as it is run: how often each, its time; and the bytes that the code as written moves."""
    source = _source(trial, GPU_BATCH)
    for model in models:

        def work(model: str = model) -> Found:
            backend = _opened(trial, source, model)
            try:
                return kernels_of(backend, make_batches(source, GPU_BATCH)[0], trial.bench.device)
            finally:
                backend.close()

        def bytes_of(model: str = model) -> Found:
            return {"counted": counted(plain_spec(CUDA.name, model, 4, source), source.width, source.height, GPU_BATCH)}

        found = trial.attempt(model, 6, work)
        found |= trial.attempt(f"{model}, counted", 4, bytes_of)
        trial.add("profiles", {"model": model, "size": source.size, **found})
    return {}


def kernels_of(backend: CudaBackend, batch: FrameBatch, device: torch.device) -> Found:
    """{"kernels": [name, times a chunk, µs a frame] by time, "kernels_per_chunk", "us_per_frame", "frames"}.

    On the CPU, in rehearsals, operators stand in for kernels.
    """
    frames, once = one_chunk(backend, batch)
    cuda = device.type == "cuda"
    activity, kind = (ProfilerActivity.CUDA, DeviceType.CUDA) if cuda else (ProfilerActivity.CPU, DeviceType.CPU)
    with profile(activities=[activity]) as seen:
        once()
    taken: Callable[[Any], float] = lambda e: e.self_device_time_total if cuda else e.self_cpu_time_total  # noqa: E731
    events = sorted((e for e in seen.key_averages() if e.device_type == kind), key=taken, reverse=True)
    if not events:
        raise RuntimeError("the profiler saw no kernel")
    return {
        "kernels": [[e.key[:160], e.count, round(taken(e) / frames, 2)] for e in events[:KERNELS]],
        "kernels_per_chunk": sum(e.count for e in events), "us_per_frame": sum(map(taken, events)) / frames, "frames": frames,
    }  # fmt: skip


def _source(trial: Trial, length: int) -> Source:
    return drawn(*(TINY if trial.rehearsal else SIZE), length, None)


def _opened(trial: Trial, source: Source, model: str) -> CudaBackend:
    backend = open_on(plain_spec(CUDA.name, model, 4, source), trial.bench.device, trial.bench.note)
    assert isinstance(backend, CudaBackend)
    return backend
