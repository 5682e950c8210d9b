"""Whether TensorRT's engines of the shipped generators build on this card, run, and are right and fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common.metrics import decibels
from benchmarks.common.pictures import Source, drawn
from benchmarks.gpu.trial import Found, Trial
from benchmarks.speed.measure import GPU_BATCH, make_batches, plain_spec, speed
from benchmarks.speed.roof import stopwatch
from vidsr.backends.cuda import KIND as CUDA
from vidsr.backends.planes import PlaneGenerator, exactly
from vidsr.backends.tensorrt.compiler import Engine, Package, build, find_package
from vidsr.errors import BackendError
from vidsr.models.checkpoint import load_generator

AHEAD = ("8.0", "8.6", "8.9")  # tried on every card: whether it takes engines of its elders


def tensorrt(trial: Trial, models: list[str]) -> Found:
    """An engine for this card, and with TensorRT-RTX also engines built ahead for others, of which this one may run some.

    That an engine does not run is a finding; only what has nothing to do with engines is a failure.
    """
    try:
        package = find_package()
    except BackendError as error:
        return {"left out": str(error)}
    trial.keep(package=package.title, builds_ahead_for=list(package.targets))
    on_gpu = trial.bench.device.type == "cuda"
    if on_gpu:
        major, minor = torch.cuda.get_device_capability()
        trial.keep(compute_capability=f"{major}.{minor}")
    size = (64, 48) if trial.rehearsal else (480, 270)
    source = drawn(*size, GPU_BATCH, None)
    for target in ("", *AHEAD) if on_gpu else AHEAD[1:2]:
        for model in models:
            what = f"{model}, built {f'ahead for {target}' if target else 'for this card'}"
            if target and target not in package.targets:
                found: Found = {"left out": f"{package.title} does not build for {target}"}
            else:
                found = trial.attempt(what, 15, lambda m=model, t=target: _try(trial, package, source, m, t), True)  # type: ignore[misc]
            trial.add("engines", {"model": model, "size": source.size, "target": target or "this card", **found})
    return {}


def _try(trial: Trial, package: Package, source: Source, model: str, target: str) -> Found:
    device, spec = trial.bench.device, plain_spec(CUDA.name, model, 4, source)
    planes = PlaneGenerator(load_generator(spec.model), spec, "fp16", device)
    shape = (GPU_BATCH, 3, source.height, source.width)
    start = time.monotonic()
    data = build(planes.generator.body, shape, package, (target,) if target else ())
    found: Found = {"build_s": time.monotonic() - start, "bytes": len(data)}
    if device.type == "cpu":
        return {**found, "not run": "there is no GPU"}
    trial.keep(at=f"{trial.found['at']}: built in {found['build_s']:.1f} s, to be loaded and run")
    try:
        engine = Engine(data, package)
    except BackendError as error:  # for another card, most likely
        return {**found, "not run": str(error)}
    return {**found, **judge(trial, planes, engine, source)}


def judge(trial: Trial, planes: PlaneGenerator, engine: Callable[[Tensor], Tensor], source: Source) -> Found:
    """PSNR against float32, and frames a second of the convolutions alone, of `engine` and of PyTorch in fp16.

    planes: of the generator in fp16; its convolutions are replaced by `engine`.
    """
    device, spec = planes.device, planes.spec
    batch = make_batches(source, GPU_BATCH)[0]
    stacks = [torch.stack([torch.from_numpy(plane) for plane in row]).to(device)
              for row in zip(*(frame.planes for frame in batch.frames))]  # fmt: skip
    exact = PlaneGenerator(load_generator(spec.model), spec, "fp32", device).highres(stacks)
    network = planes.generator.body
    by_torch = planes.highres(stacks)
    planes.generator.body = _Body(network, engine)
    by_engine = planes.highres(stacks)
    x = torch.rand((GPU_BATCH, 3, source.height, source.width), device=device, dtype=planes.generator.dtype)
    return {
        "finite": bool(torch.isfinite(by_engine).all()),
        "psnr_db": _psnr(by_engine, exact, planes.peak), "pytorch_psnr_db": _psnr(by_torch, exact, planes.peak),
        "engine": _speed(trial, engine, x), "pytorch": _speed(trial, network, x.to(memory_format=torch.channels_last)),
    }  # fmt: skip


class _Body(nn.Module):
    def __init__(self, network: nn.Module, engine: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.engine = network, engine  # the network tells the dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.engine(x)


def _psnr(a: Tensor, b: Tensor, peak: float) -> float | None:
    error = F.mse_loss(a.double(), b.double()).item()
    return decibels(error, peak) if error > 0 else None  # also None for NaN


@torch.inference_mode()
def _speed(trial: Trial, network: Callable[[Tensor], Tensor], x: Tensor) -> Found:
    """As a CUDA graph, which both are in use."""

    def once() -> Tensor:
        with exactly(x.device):
            return network(x)

    step: Callable[[], Any] = once
    if x.device.type == "cuda":
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            kept = step()
        assert kept is not None
        step = graph.replay
    timer = stopwatch(x.device)

    def work(pieces: int) -> float:
        return timer(lambda: [step() for _ in range(pieces)] and None)

    return speed(work, trial.bench.effort, len(x))
