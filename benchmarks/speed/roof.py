"""How fast a device could be at best, and how much a network asks of it.

The work of a frame is counted from the network itself, layer by layer at the real sizes; the peaks are measured on the
spot, with the two things that any device does fastest: a large matrix product, and a copy of a large buffer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from vidsr.backends.base import BackendSpec
from vidsr.backends.planes import DTYPES, PlaneGenerator, available_bytes
from vidsr.models.checkpoint import load_generator

ATTEMPTS = 5


@dataclass(frozen=True)
class Cost:
    """What one frame takes. flop: floating-point operations, a multiply-add being two. traffic: bytes, at the least."""

    flop: int
    traffic: int


@dataclass(frozen=True)
class Peaks:
    """What a device reached on the spot. flops: a second, in `precision`. bandwidth: bytes a second, read and written."""

    precision: str
    flops: float
    bandwidth: float

    def fps(self, cost: Cost) -> float:
        """Frames a second that neither peak allows to exceed."""
        return 1 / max(cost.flop / self.flops, cost.traffic / self.bandwidth)

    def shares(self, cost: Cost, fps: float) -> dict[str, float]:
        return {
            "roof_fps": self.fps(cost), "flop_share": cost.flop * fps / self.flops,
            "byte_share": cost.traffic * fps / self.bandwidth,
        }  # fmt: skip


def frame_cost(spec: BackendSpec, width: int, height: int, precision: str, batch: int = 1) -> Cost:
    """The cost of one `width` x `height` frame of the backend that `spec` describes.

    traffic is a lower bound for a network whose layers are convolutions with everything else fused into them: the
    planes in and out once, the weights once a `batch`, and each convolution's output written once and read once.
    """
    network = PlaneGenerator(load_generator(spec.model), spec, precision, torch.device("meta")).generator
    flop, layers = count(network, width, height)
    planes = _plane_bytes(spec.source_format, width, height)
    planes += _plane_bytes(spec.result_format, width * spec.scale, height * spec.scale)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return Cost(flop, planes + layers + weights // batch)


def count(network: nn.Module, width: int, height: int) -> tuple[int, int]:
    """(FLOP, bytes of the outputs written and read) of `network`'s convolutions for one picture [1, 3, height, width].

    network: on the device "meta", where only shapes are worked out.
    """
    flop = traffic = 0

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal flop, traffic
        assert isinstance(layer, nn.Conv2d)
        flop += 2 * output.numel() * prod(layer.weight.shape[1:])
        traffic += 2 * output.numel() * output.element_size()

    handles = [m.register_forward_hook(record) for m in network.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.inference_mode():
            network(torch.empty(1, 3, height, width, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return flop, traffic


def _plane_bytes(format: Any, width: int, height: int) -> int:
    return sum(rows * columns for rows, columns in format.plane_shapes(width, height)) * int(format.dtype.itemsize)


def measure_peaks(device: torch.device, precision: str, seconds: float = 2.0) -> Peaks:
    """The best of some attempts, `seconds` in all. Sizes are such that the device is full, smaller where time is short."""
    sides = [8192, 4096] if device.type == "cuda" else [4096, 2048, 1024]
    if seconds < 0.5:
        sides = [sides[-1] // 4]
    flops = max(_matrix_product(device, DTYPES[precision], side, seconds / 2 / len(sides)) for side in sides)
    return Peaks(precision, flops, _copy(device, seconds / 2))


def _matrix_product(device: torch.device, dtype: torch.dtype, side: int, seconds: float) -> float:
    """FLOP a second."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / _best(lambda: torch.mm(a, b, out=out), device, seconds)


def _copy(device: torch.device, seconds: float) -> float:
    """Bytes a second, those read and those written."""
    most = 1 << 30 if seconds > 0.2 else 1 << 24
    size = min(most, available_bytes(device) // 8)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * size / _best(lambda: target.copy_(source), device, seconds)


def _best(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The fewest seconds that `work` took."""
    work()
    timer = stopwatch(device)
    first = timer(work)
    each = max(1, round(seconds / ATTEMPTS / max(first, 1e-6))) if device.type == "cuda" else 1

    def several() -> None:
        for _ in range(each):
            work()

    times = [first]
    end = time.monotonic() + seconds
    while len(times) < 3 or time.monotonic() < end:
        times.append(timer(several) / each)
    return min(times)


def stopwatch(device: torch.device) -> Callable[[Callable[[], object]], float]:
    """A function that gives the seconds which the device took for what its argument started on the current stream."""

    def on_gpu(work: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000

    def on_cpu(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return on_gpu if device.type == "cuda" else on_cpu
