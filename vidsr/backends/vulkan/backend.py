"""Generators on any GPU that Vulkan knows: AMD, Intel, Apple (by MoltenVK), and NVIDIA cards that CUDA has left behind.

ncnn runs the convolutions; colour, skip and quantising are PyTorch's on the CPU in float32, as they are for all others.
Two frames are on their way at once: while the device works on one, the CPU does the rest of the other.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, RLock
from typing import Any

import torch
from torch import Tensor, nn

from vidsr.backends.base import BackendKind, BackendSpec, Notify, Pending
from vidsr.backends.planes import PlaneGenerator, model_name, tensor
from vidsr.backends.tiles import activation_bytes, auto_tile
from vidsr.backends.trust import check_device
from vidsr.backends.vulkan.convert import convert
from vidsr.backends.vulkan.process import Device, Found, Worker, WorkerError, find_devices
from vidsr.errors import BackendError, UsageError
from vidsr.frames import Frame, FrameBatch
from vidsr.machine import free_memory
from vidsr.models.architectures import own_names
from vidsr.models.base import Generator
from vidsr.models.checkpoint import load_generator

PRECISIONS = ("fp16", "fp32")
_UNKNOWN_MEMORY = 1 << 30  # bytes, where the driver does not tell
_LEAST_TILE = 16
# Times the most that a layer's input and output take (`activation_bytes`): ncnn transforms both, and gives blocks of 16
# MiB. Measured for float32 at 160x90 to 320x180: 3.1 for 64 channels, 4.1 for 96, 2.6 for SRResNet.
_DEVICE_SHARE = 4.0
_CPU = torch.device("cpu")
_CURE = "update its driver, or use --backend cpu"


def open_vulkan(spec: BackendSpec, notify: Notify | None = None) -> VulkanBackend:
    """The backend `spec` describes, its weights loaded from `spec.model`.

    ModelError for weights that cannot be loaded, BackendError where no device works or it gives wrong pictures,
    UsageError for a scale or precision that cannot be had.
    """
    found = find_devices()
    if found.reason:
        raise BackendError(f"vulkan: {found.reason}")
    return VulkanBackend(load_generator(spec.model, notify), spec, found.best, found.version, notify)


class VulkanBackend:
    """A generator on one device. See `vidsr.backends.base.Backend` for what it promises.

    device: None: ncnn does the same on the CPU, for tests of all the rest. version: ncnn's.
    notify: told, in one line, of each thing that makes the work slower than asked for; `warnings.warn` by default.
    """

    in_flight = 2
    patch = 0  # a new size costs nothing: what ncnn compiles serves all

    def __init__(
        self, generator: Generator, spec: BackendSpec, device: Device | None, version: str = "",
        notify: Notify | None = None,
    ) -> None:  # fmt: skip
        if generator.radius is None:
            raise BackendError(f"vulkan: {own_names('and')} only; use --backend cpu")
        self.spec, self.scale = spec, spec.scale
        self._notify = notify or (lambda message: warnings.warn(message, RuntimeWarning, stacklevel=3))
        self._device, self._version = device, version
        self._precision = choose_precision(spec.precision, device)
        self._planes = PlaneGenerator(generator, spec, "fp32", _CPU)
        self._bytes = activation_bytes(self._planes.generator)
        self.context = self._planes.context
        self._switch = _Switch(self._planes.generator.body, device, self._precision == "fp16", self._bytes[1] / 4)
        self.name = device.name if device else "CPU"
        self._planes.generator.body = self._switch
        try:
            self._switch.start()
            check_device(f"vulkan: {self.name}", self._planes, generator, spec)
        except BaseException as error:
            self._switch.stop()
            if isinstance(error, WorkerError):
                raise BackendError(f"vulkan: {self.name} fails ({error}): {_CURE}") from error
            raise
        if device is not None and device.kind == "software":
            self._notify(f"vulkan: {self.name} is software on the CPU, slower than --backend cpu")
        self._tiles: dict[tuple[int, int], int] = {}
        self._settled: int | None = None
        self._most: int | None = None  # the tile, since memory ran out
        self._shrinking = Lock()
        self._threads = ThreadPoolExecutor(self.in_flight, "vulkan")
        self.description = f"{self.name} (Vulkan), {self._precision}, {model_name(spec)}"

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        return self.submit(batch)()

    def submit(self, batch: FrameBatch) -> Pending:
        if batch.format != self.spec.source_format:
            raise ValueError(f"batch: got {batch.format.name}, expected {self.spec.source_format.name}")
        return self._threads.submit(self._enlarged, batch, self._tile(batch.width, batch.height)).result

    def settle(self, width: int, height: int, patches: bool = True) -> dict[str, Any]:
        self._settled = self._tile(width, height)
        return {
            "backend": "vulkan", "precision": self._precision, "tile": self._settled, "device": self.name,
            "driver": self._device.driver if self._device else "", "ncnn": self._version,
        }  # fmt: skip

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._switch.stop()
        del self._planes

    def _tile(self, width: int, height: int) -> int:
        """The tile for pictures of that size, chosen when the first of them comes."""
        if self._most:
            return self._most
        if self.spec.tile:
            return self.spec.tile
        if self._settled is not None:  # parts of such pictures are no larger
            return self._settled
        if (width, height) not in self._tiles:
            inside, share = self._bytes[0], _DEVICE_SHARE / (2 if self._precision == "fp16" else 1)
            free, generator = self._switch.free or _UNKNOWN_MEMORY, self._planes.generator
            device = auto_tile(width, height, generator, free, (share * inside, 0))
            host = auto_tile(width, height, generator, free_memory(), self._bytes)  # should the CPU have to go on
            tile = min((tile for tile in (device, host) if tile), default=0)
            if tile and not any(self._tiles.values()):
                self._notify(f"memory is short: each picture is worked on in tiles of {tile} pixels")
            self._tiles[width, height] = tile
        return self._tiles[width, height]

    @torch.inference_mode()
    def _enlarged(self, batch: FrameBatch, tile: int) -> FrameBatch:
        frames = []
        for frame in batch.frames:
            stacks = [tensor(plane)[None] for plane in frame.planes]
            planes = self._planes_of(stacks, tile, max(batch.width, batch.height))
            frames.append(Frame(tuple(plane[0].numpy() for plane in planes), frame.pts, frame.duration))
        return FrameBatch(tuple(frames), self.spec.result_format, self.spec.result_color)

    def _planes_of(self, stacks: list[Tensor], tile: int, side: int) -> tuple[Tensor, ...]:
        """One picture's planes. Where the device fails it goes on in smaller tiles, or on the CPU for good."""
        while True:
            tile = self._most or tile
            worker = self._switch.worker
            try:
                return self._planes(stacks, tile)
            except WorkerError as error:
                with self._shrinking:
                    if self._switch.worker is worker and worker is not None:  # no other thread has seen to it
                        self._recover(error, (tile or side) // 2)

    def _recover(self, error: WorkerError, tile: int) -> None:
        try:
            if error.memory and tile >= _LEAST_TILE:
                self._switch.start()
                self._most = tile
                self._notify(f"out of device memory: going on in tiles of {tile} pixels")
                return
        except WorkerError as again:
            error = again
        self._switch.stop()
        self._notify(f"vulkan: {self.name} failed ({error}): going on on the CPU, slower")


class _Switch(nn.Module):
    """The convolutions, by ncnn while there is a worker, else by PyTorch. Of several threads one at a time."""

    def __init__(self, network: nn.Module, device: Device | None, half: bool, growth: float) -> None:
        super().__init__()
        self.network = network
        self.worker: Worker | None = None
        self._args = convert(network), device, half, growth
        self._lock = RLock()

    def start(self) -> None:
        """A new worker in place of the one there is. WorkerError."""
        with self._lock:  # a frame that comes meanwhile waits, since the CPU's would be another
            self.stop()
            self.worker = Worker(*self._args)

    def stop(self) -> None:
        with self._lock:
            if self.worker is not None:
                self.worker.close()
            self.worker = None

    @property
    def free(self) -> int | None:
        """See `Worker`."""
        return self.worker.free if self.worker else None

    def forward(self, x: Tensor) -> Tensor:
        with self._lock:
            if worker := self.worker:
                return torch.stack([worker(picture) for picture in x])
        return self.network(x)


def choose_precision(requested: str | None, device: Device | None) -> str:
    """ "fp16" or "fp32": `requested`, or for None the fastest that the device has. UsageError for what it has not."""
    half = device is not None and device.half
    if requested is None:
        return "fp16" if half else "fp32"
    if requested not in PRECISIONS or (requested == "fp16" and not half):
        who = device.name if device else "ncnn on the CPU"
        raise UsageError(f"precision {requested}: {who} has {' and '.join(PRECISIONS if half else PRECISIONS[1:])}")
    return requested


def vulkan_missing() -> str | None:
    """One line why Vulkan cannot be used here, with the cure, or None when it can."""
    reason = find_devices().reason
    return f"vulkan: {reason}" if reason else None


def worth_measuring(found: Found) -> bool:
    """Whether there is a device that may be faster than the CPU: one that is more than software on it."""
    return bool(found.devices) and found.best.kind != "software"


KIND = BackendKind(
    "vulkan", vulkan_missing, open_vulkan, "gpu", PRECISIONS, contender=lambda: worth_measuring(find_devices()),
    devices=lambda: [device.line for device in find_devices().devices],
)  # fmt: skip
