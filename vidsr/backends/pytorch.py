"""Generators run by PyTorch, on the CPU or on one CUDA device."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vidsr.backends.base import BackendSpec, Immediate, Notify
from vidsr.backends.fused import FusedCompact
from vidsr.backends.tiles import auto_tile, in_tiles, reduce_by_area
from vidsr.checkpoint import load_generator
from vidsr.color import from_rgb, to_rgb
from vidsr.errors import BackendError, UsageError
from vidsr.frames import Frame, FrameBatch
from vidsr.models.fold import Folded, FoldedCompact, fold

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CHUNK_PIXELS = 1 << 20  # source pixels given to a CUDA device at once


def open_torch(spec: BackendSpec, notify: Notify | None = None) -> TorchBackend:
    """The backend `spec` describes, its weights loaded from `spec.model`.

    ModelError for weights that cannot be loaded, BackendError where the device is missing, UsageError for a scale or
    precision that cannot be had.
    """
    return TorchBackend(load_generator(spec.model), spec, notify)


class TorchBackend(Immediate):
    """A generator on the device `spec.name`. See `vidsr.backends.base.Backend` for what it promises.

    generator: a module of [N, 3, H, W] in 0..1 -> `scale` times that, with the attributes `scale` and `radius`.
    notify: told, in one line, of each thing that makes the work slower than asked for; `warnings.warn` by default.

    Only convolutions run in low precision. Colour, Compact's skip and the last sigmoid of SRResNet are float32, so 10
    and 12 bits stay that.

    On a CPU with AVX512_BF16, a 3x3 convolution of 32 channels at 480x270 takes one core (milliseconds of CPU time):
    bf16 channels last 11.3, bf16 planar 12.7, float32 channels last 22.9, float32 planar 50. Weights repacked for
    oneDNN beforehand save 0.3: not worth an operator without a promise. The PReLU after it takes 1.1; activations in
    place (0.7) or inside the convolution (0.1) know only one slope for all channels. The convolution itself is at 87 %
    of what the core's bf16 units can do, so what was left to gain lay after the last of them: see fused.py.
    """

    def __init__(self, generator: nn.Module, spec: BackendSpec, notify: Notify | None = None) -> None:
        self.spec, self.scale = spec, spec.scale
        self._notify = notify or (lambda message: warnings.warn(message, RuntimeWarning, stacklevel=3))
        self._device = _open_device(spec.name)
        precision = choose_precision(spec.precision, spec.name)
        if spec.name == "cpu" and precision == "bf16" and not cpu_has_bf16():
            self._notify("this CPU has no bf16 arithmetic: precision bf16 is slower here than fp32")
        folded = fold(generator)
        if not 1 <= spec.scale <= folded.scale:
            raise UsageError(f"scale {spec.scale}: the model {_name(spec)} enlarges up to {folded.scale} times")
        self._fused: FusedCompact | None = None
        if isinstance(folded, FoldedCompact):
            self._fused = folded = FusedCompact(folded, spec.scale, spec.result_format, spec.result_color)
        self._generator: Folded = folded.to(self._device)
        self._generator.body.to(dtype=_DTYPES[precision])
        self._generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._tile: int | None = spec.tile or None
        self._chunk = 0
        self.description = f"{_device_name(self._device)}, {precision}, {_name(spec)}"

    @torch.inference_mode()
    def __call__(self, batch: FrameBatch) -> FrameBatch:
        if batch.format != self.spec.source_format:
            raise ValueError(f"batch: got {batch.format.name}, expected {self.spec.source_format.name}")
        chunk = self._chunk or self._chunk_size(batch)
        if self._tile is None:
            free = available_bytes(self._device) // chunk
            self._tile = auto_tile(batch.width, batch.height, self._generator, free)
            if self._tile:
                self._notify(f"memory is short: each picture is worked on in tiles of {self._tile} pixels")
        frames: list[Frame] = []
        while len(frames) < len(batch):
            part = batch.frames[len(frames) : len(frames) + chunk]
            try:
                frames += self._work(part, chunk)
            except torch.OutOfMemoryError:
                chunk = self._shrink(batch, chunk)
        return FrameBatch(tuple(frames), self.spec.result_format, self.spec.result_color)

    def close(self) -> None:
        del self._generator
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _chunk_size(self, batch: FrameBatch) -> int:
        """How many frames the generator is given at once.

        On a CPU one: it fills the cores, its layers stay in the cache. On CUDA several, but always the same number
        (short batches are filled up), because cuDNN chooses its kernels by the shape and a frame's bytes must not
        depend on how many came with it.
        """
        if self._device.type == "cpu":
            return 1
        return max(1, min(4, _CHUNK_PIXELS // (batch.width * batch.height)))

    def _shrink(self, batch: FrameBatch, chunk: int) -> int:
        """After running out of device memory: fewer frames at once, then smaller tiles."""
        torch.cuda.empty_cache()
        if chunk > 1:
            self._chunk = chunk // 2
            self._notify(f"out of device memory: going on with {self._chunk} frames at once")
            return self._chunk
        tile = (self._tile or max(batch.width, batch.height)) // 2
        if tile < 16:
            raise BackendError("out of device memory even for one small tile: free some, or use --backend cpu")
        self._tile = tile
        self._notify(f"out of device memory: going on in tiles of {tile} pixels")
        return chunk

    def _work(self, frames: Sequence[Frame], chunk: int) -> list[Frame]:
        spec = self.spec
        stacks = [self._upload([f.planes[i] for f in frames], chunk) for i in range(len(frames[0].planes))]
        lowres = to_rgb(stacks, spec.source_format, spec.source_color)
        with self._exactly():
            highres = in_tiles(self._generator, lowres, self._tile or 0)
        if self._fused:
            results = self._fused.planes(highres)
        else:
            highres = reduce_by_area(highres, self._generator.scale, spec.scale)
            results = from_rgb(highres, spec.result_format, spec.result_color)
        planes = [plane.cpu().numpy() for plane in results]
        return [Frame(tuple(plane[i] for plane in planes), frame.pts, frame.duration) for i, frame in enumerate(frames)]

    def _exactly(self) -> AbstractContextManager[None]:
        """float32 convolutions without TensorFloat-32, whose 10 bits would show, and the same kernels each time."""
        if self._device.type == "cpu":
            return nullcontext()
        return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)

    def _upload(self, planes: Sequence[np.ndarray], chunk: int) -> Tensor:
        """The same plane of some frames -> [chunk, rows, columns] on the device; short ones repeat the last."""
        tensors = [_tensor(plane) for plane in planes]
        if self._device.type == "cpu":
            return tensors[0][None]
        tensors += tensors[-1:] * (chunk - len(tensors))
        pinned = torch.empty((chunk, *tensors[0].shape), dtype=tensors[0].dtype, pin_memory=True)
        for row, tensor in zip(pinned, tensors, strict=True):
            row.copy_(tensor)
        return pinned.to(self._device, non_blocking=True)


def choose_precision(requested: str, device: str) -> str:
    """ "fp32", "bf16" or "fp16" for `requested`, which may be "auto": the fastest that keeps the picture."""
    if requested == "auto":
        if device == "cuda":  # before Volta, cards have no units for fp16 and are slower with it
            old = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] < 7
            return "fp32" if old else "fp16"
        return "bf16" if cpu_has_bf16() else "fp32"
    if requested not in _DTYPES:
        raise UsageError(f"precision {requested!r}: use auto, {', '.join(_DTYPES)}")
    if requested == "fp16" and device == "cpu":
        raise UsageError("precision fp16 needs a CUDA device: use auto, bf16 or fp32 on a CPU")
    return requested


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 itself (AVX512_BF16, AMX or Arm's BF16).

    oneDNN's own test (`_is_mkldnn_bf16_supported`) also says yes where it would emulate it, slower than float32.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    for test in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        if getattr(torch.cpu, test, lambda: False)():
            return True
    try:
        return "bf16" in re.findall(r"^Features\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[0].split()
    except (OSError, IndexError):  # not Linux; not Arm
        return False


def cuda_missing() -> str | None:
    """One line why CUDA cannot be used here, or None when it can."""
    if not torch.backends.cuda.is_built():
        return "cuda: this PyTorch has no CUDA"
    if not torch.cuda.is_available():
        return "cuda: no usable NVIDIA GPU or driver"
    return None


def available_bytes(device: torch.device) -> int:
    """Memory free for the taking on `device`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        words = Path("/proc/meminfo").read_text().split()
        free = int(words[words.index("MemAvailable:") + 1]) * 1024
    except (OSError, ValueError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    try:  # a container's own limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        return max(0, min(free, limit - used))
    except (OSError, ValueError):  # none, or "max"
        return free


def _open_device(name: str) -> torch.device:
    if name not in ("cpu", "cuda"):
        raise ValueError(f"name: got {name!r}, expected cpu or cuda")
    if name == "cuda" and (reason := cuda_missing()):
        raise BackendError(reason)
    return torch.device(name)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.get_num_threads()} threads)"


def _name(spec: BackendSpec) -> str:
    return Path(spec.model).stem or "unnamed model"


def _tensor(plane: np.ndarray) -> Tensor:
    """A view of `plane`, or of a copy where PyTorch cannot view it: read-only, or rows bottom up."""
    if not plane.flags.writeable or any(step < 0 or step % plane.itemsize for step in plane.strides):
        plane = plane.copy()
    return torch.from_numpy(plane)
