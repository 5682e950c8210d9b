"""Generators run by PyTorch on the CPU, frame by frame: one fills the cores, and its layers stay in the cache."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from vidsr.backends.base import BackendKind, BackendSpec, Immediate, Notify
from vidsr.backends.compiled import Ways
from vidsr.backends.planes import PlaneGenerator, available_bytes, choose_precision, cpu_has_bf16, model_name, tensor
from vidsr.backends.tiles import activation_bytes, auto_tile
from vidsr.backends.trust import made_frames
from vidsr.frames import Frame, FrameBatch
from vidsr.models.base import Generator
from vidsr.models.checkpoint import load_generator

_CPU = torch.device("cpu")


def open_cpu(spec: BackendSpec, notify: Notify | None = None) -> TorchBackend:
    """The backend `spec` describes, its weights loaded from `spec.model`.

    ModelError for weights that cannot be loaded, UsageError for a scale or precision that cannot be had.
    """
    return TorchBackend(load_generator(spec.model, notify), spec, notify)


class TorchBackend(Immediate):
    """A generator on the CPU. See `vidsr.backends.base.Backend` for what it promises.

    generator: see `PlaneGenerator`.
    notify: told, in one line, of each thing that makes the work slower than asked for; `warnings.warn` by default.

    On a CPU with AVX512_BF16, a 3x3 convolution of 32 channels at 480x270 takes one core (milliseconds of CPU time):
    bf16 channels last 11.3, bf16 planar 12.7, float32 channels last 22.9, float32 planar 50. Weights repacked for
    oneDNN beforehand save 0.3: not worth an operator without a promise. The PReLU after it takes 1.1; activations in
    place (0.7) or inside the convolution (0.1) know only one slope for all channels. The convolution itself is at 87 %
    of what the core's bf16 units can do, so what was left to gain lay after the last of them: see fused.py.
    """

    def __init__(self, generator: Generator, spec: BackendSpec, notify: Notify | None = None) -> None:
        self.spec, self.scale = spec, spec.scale
        self._notify = notify or (lambda message: warnings.warn(message, RuntimeWarning, stacklevel=3))
        precision = choose_precision(spec.precision, "cpu", generator.lacks)
        self._precision = precision
        if precision == "bf16" and not cpu_has_bf16():
            self._notify("this CPU has no bf16 arithmetic: precision bf16 is slower here than fp32")
        self._planes = PlaneGenerator(generator, spec, precision, _CPU)
        self._ways = Ways(self._planes, spec.compiled, self._notify)
        self.context = self._planes.context
        self._bytes: tuple[float, float] | None = None
        self._tiles: dict[tuple[int, int], int] = {}
        self._settled: int | None = None
        self.description = f"CPU ({torch.get_num_threads()} threads), {precision}, {model_name(spec)}"

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        if batch.format != self.spec.source_format:
            raise ValueError(f"batch: got {batch.format.name}, expected {self.spec.source_format.name}")
        tile = self._tile(batch.width, batch.height)
        frames = tuple(self._enlarge(frame, tile) for frame in batch.frames)
        return FrameBatch(frames, self.spec.result_format, self.spec.result_color)

    def settle(self, width: int, height: int, patches: bool = True) -> dict[str, Any]:
        self._settled = self._tile(width, height)
        found = {"backend": "cpu", "precision": self._precision, "tile": self._settled}
        if self.spec.compiled:  # whole pictures only: pieces have too many sizes
            made = made_frames(width, height, self.spec.source_format, self.spec.source_color)
            stacks = _stacks(made.frames[0])
            self._ways.prepare(stacks, self._settled)
            found["convolutions"] = "torch.compile" if self._ways.compiled(stacks) else "PyTorch"
        return found

    def close(self) -> None:
        self._ways.close()
        del self._planes

    def _tile(self, width: int, height: int) -> int:
        """The tile for pictures of that size, chosen when the first of them comes."""
        if self.spec.tile:
            return self.spec.tile
        if self._settled is not None:  # parts of such pictures are no larger
            return self._settled
        if (width, height) not in self._tiles:
            self._bytes = self._bytes or activation_bytes(self._planes.generator)
            tile = auto_tile(width, height, self._planes.generator, available_bytes(_CPU), self._bytes)
            if tile and not any(self._tiles.values()):
                self._notify(f"memory is short: each picture is worked on in tiles of {tile} pixels")
            self._tiles[width, height] = tile
        return self._tiles[width, height]

    def _enlarge(self, frame: Frame, tile: int) -> Frame:
        planes = self._ways(_stacks(frame), tile)
        return Frame(tuple(plane[0].numpy() for plane in planes), frame.pts, frame.duration)


def _stacks(frame: Frame) -> list[Tensor]:
    return [tensor(plane)[None] for plane in frame.planes]


KIND = BackendKind("cpu", lambda: None, open_cpu, precisions=("bf16", "fp32"), compiles=True)
