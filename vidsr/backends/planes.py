"""From planes to larger planes, on tensors of one device: the part of the work that all PyTorch backends share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidsr.backends.base import BackendSpec
from vidsr.backends.fused import Fused
from vidsr.backends.tiles import in_tiles, reduce_by_area
from vidsr.color import from_rgb, to_rgb
from vidsr.errors import UsageError
from vidsr.machine import free_memory
from vidsr.models.base import Folded, Generator

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class PlaneGenerator:
    """A generator between the planes of `spec`'s source and those of its result.

    generator: folded here, and fused with the colour of the result where it ends linearly.
    precision: "fp32", "bf16" or "fp16", of the convolutions alone. Colour, Compact's skip and the last sigmoid of
        SRResNet are float32 on every device, so 10 and 12 bits stay that (float16 has 11).
    UsageError for a scale that cannot be had, and for tiles where the generator takes whole frames only.
    """

    def __init__(self, generator: Generator, spec: BackendSpec, precision: str, device: torch.device) -> None:
        self.spec, self.device = spec, device
        folded = generator.folded()
        if not 1 <= spec.scale <= folded.scale:
            raise UsageError(f"scale {spec.scale}: the model {model_name(spec)} enlarges up to {folded.scale} times")
        if spec.tile and folded.radius is None:
            raise UsageError(f"--tile {spec.tile}: {model_name(spec)} takes whole frames only: leave --tile out")
        self._fused: Fused | None = None
        if tail := folded.linear_tail():
            self._fused = folded = Fused(folded, tail, spec.scale, spec.result_format, spec.result_color)
        self.generator: Folded = folded.to(device)
        self.generator.body.to(dtype=DTYPES[precision])
        if folded.radius is not None:  # others may count on the layout they were written for
            self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, stacks: Sequence[Tensor], tile: int = 0) -> tuple[Tensor, ...]:
        """Planes [N, rows, columns] of the source format -> those of the result, new tensors of the same device.

        tile: see `in_tiles`. Above 8 bits, planes are uint16, or int32 where the device has none (color.HAVE_UINT16).
        """
        with exactly(self.device):
            return self.whole_way(stacks, tile)

    def whole_way(self, stacks: Sequence[Tensor], tile: int = 0) -> tuple[Tensor, ...]:
        """The same, without what PyTorch is told beforehand: fit for torch.export and torch.compile."""
        highres = self._highres(stacks, tile)
        if self._fused:
            return self._fused.planes(highres)
        highres = reduce_by_area(highres, self.generator.scale, self.spec.scale)
        return from_rgb(highres, self.spec.result_format, self.spec.result_color)

    @torch.inference_mode()
    def highres(self, stacks: Sequence[Tensor], tile: int = 0) -> Tensor:
        """What the generator makes of the planes, before it is rounded to codes: float32, 0..`peak`."""
        with exactly(self.device):
            return self._highres(stacks, tile)

    def _highres(self, stacks: Sequence[Tensor], tile: int) -> Tensor:
        return in_tiles(self.generator, to_rgb(stacks, self.spec.source_format, self.spec.source_color), tile)

    @property
    def context(self) -> int | None:
        """How many source pixels around a part its result depends on, rounded up to even; None: unknown."""
        if self.generator.radius is None:
            return None
        chroma = 5 if any(self.spec.source_format.chroma_shift) else 0  # its interpolation reaches two samples further
        return (self.generator.radius + chroma + 2) // 2 * 2  # and the result's is filtered by one pixel

    @property
    def peak(self) -> float:
        """The brightest value of `highres`."""
        return 2.0**self.spec.result_format.bits - 1 if self._fused else 1.0


def exactly(device: torch.device) -> AbstractContextManager[None]:
    """float32 convolutions without TensorFloat-32, whose 10 bits would show, and the same kernels each time."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def choose_precision(requested: str | None, device: str, lacks: frozenset[str] = frozenset()) -> str:
    """ "fp32", "bf16" or "fp16": `requested`, or for None the fastest that keeps the picture.

    lacks: what the generator cannot be run in. UsageError for that, and for what the device or nobody has.
    """
    if requested is None:
        if device != "cpu":  # before Volta, NVIDIA's cards have no units for fp16 and are slower with it
            nvidia = device == "cuda" and torch.cuda.is_available() and not torch.version.hip
            old = nvidia and torch.cuda.get_device_capability()[0] < 7
            return "fp32" if old or "fp16" in lacks else "fp16"
        return "bf16" if cpu_has_bf16() and "bf16" not in lacks else "fp32"
    if requested in lacks:
        raise UsageError(f"precision {requested}: this model's architecture does not bear it: use auto or fp32")
    if requested == "int8":
        raise UsageError("precision int8 is OpenVINO's: use --backend openvino")
    if requested not in DTYPES:
        raise UsageError(f"precision {requested!r}: use auto, {', '.join(DTYPES)}")
    if requested == "fp16" and device == "cpu":
        raise UsageError("precision fp16 needs a GPU: use auto, bf16 or fp32 on a CPU")
    return requested


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 itself (AVX512_BF16, AMX or Arm's BF16).

    oneDNN's own test (`_is_mkldnn_bf16_supported`) also says yes where it would emulate it, slower than float32.
    """
    if not torch.backends.mkldnn.is_available():  # builds for Apple's chips have no oneDNN, nor the test below
        return False
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    for test in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        if getattr(torch.cpu, test, lambda: False)():
            return True
    try:
        return "bf16" in re.findall(r"^Features\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[0].split()
    except (OSError, IndexError):  # not Linux; not Arm
        return False


def available_bytes(device: torch.device) -> int:
    """Memory free for the taking on `device`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "xpu" and hasattr(torch.xpu, "mem_get_info"):
        return int(torch.xpu.mem_get_info(device)[0])
    if device.type == "mps":  # a part of the host's
        return min(free_memory(), torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return free_memory()


def model_name(spec: BackendSpec) -> str:
    """For people."""
    return Path(spec.model).stem or "unnamed model"


def tensor(plane: np.ndarray) -> Tensor:
    """A view of `plane`, or of a copy where PyTorch cannot view it: read-only, or rows bottom up."""
    if not plane.flags.writeable or any(step < 0 or step % plane.itemsize for step in plane.strides):
        plane = plane.copy()
    return torch.from_numpy(plane)
