"""Whether an engine gives the picture that PyTorch gives in float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vidsr.backends.base import BackendSpec
from vidsr.backends.planes import PlaneGenerator
from vidsr.backends.trust import made_picture
from vidsr.models.base import Generator

LEAST_PSNR = 45.0  # dB against float32; rounding to FP16 alone leaves 60 and more
_TILE = 128  # of what engines are compared with: float32 takes twice the memory, and no graph plans for it


class Unfit(Exception):
    """Why an engine must not be used."""


def judge(
    tried: Callable[[Sequence[Tensor]], Tensor], inputs: Sequence[Tensor], generator: Generator, planes: PlaneGenerator
) -> tuple[float | None, str]:
    """(PSNR in dB of the worst picture against float32, why the engine must not be used or "").

    On the pictures at hand and on a made one, since episodes begin in black, on which anything is right. Needs no more
    device memory than the work itself.

    tried: planes like `inputs` -> what the engine makes of them, as `planes.highres` but on the CPU; raises Unfit.
    generator: what `planes` was made of. torch.OutOfMemoryError where there is no memory even for the work.
    """
    reference, worst, peak = Reference(generator, planes.spec, planes.device), math.inf, planes.peak
    for stacks in (inputs, made_picture(inputs, planes.spec.source_format)):
        try:
            results = tried(stacks)
        except Unfit as error:
            return None, str(error)
        if not torch.isfinite(results).all():
            return None, "it gives NaN or infinity"
        for i in range(len(results)):
            expected = reference([stack[i : i + 1] for stack in stacks])
            squared = F.mse_loss(results[i : i + 1].double(), expected.double()).item()
            worst = min(worst, 10 * math.log10(peak**2 / max(squared, 1e-12 * peak**2)))
    return worst, f"{worst:.1f} dB against float32, less than {LEAST_PSNR:g}" if worst < LEAST_PSNR else ""


class Reference:
    """What float32 makes of planes, one picture at a time: in tiles, and where even those do not fit, on the CPU."""

    def __init__(self, generator: Generator, spec: BackendSpec, device: torch.device) -> None:
        self._generator, self._spec, self._device = generator, spec, device
        self._planes: PlaneGenerator | None = None
        self._last_resort = False

    def __call__(self, stacks: Sequence[Tensor]) -> Tensor:
        """As `PlaneGenerator.highres`, on the CPU."""
        try:
            self._planes = self._planes or PlaneGenerator(self._generator, self._spec, "fp32", self._device)
            return self._planes.highres([stack.to(self._device) for stack in stacks], _TILE).cpu()
        except torch.OutOfMemoryError:
            if self._last_resort:
                raise
        self._last_resort, self._planes, self._device = True, None, torch.device("cpu")
        return self(stacks)
