"""Branches beside each inner convolution while it is trained; one plain convolution afterwards.

Beside the 3x3 kernel K a layer learns a 1x1 kernel P, how much of its input passes unchanged, s, and a 1x1 expansion E
followed by a 3x3 kernel T. All of that is linear, so it is the one kernel K + P + s I + T∘E: the idea of RepVGG (Ding
et al. 2021, arXiv:2101.03697) and of ECBSR (Zhang et al. 2021). Here the kernels are added up before the convolution,
not the pictures after it (OREPA, Hu et al. 2022, arXiv:2204.00826): a step then costs about what a plain step costs.
The generator can do no more than without branches; what changes is how the optimiser gets there.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vidsr.models.architectures import Compact
from vidsr.models.base import Generator

_EXPANSION = 2  # times the channels, between E and T


class _Branches(nn.Module):
    """K [C, C, 3, 3] -> K + P + s I + T∘E. Begins as K alone: the other branches add nothing at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = _EXPANSION * channels
        self.point = nn.Parameter(torch.zeros(channels, channels))
        self.passed = nn.Parameter(torch.zeros(channels))
        self.expand = nn.Parameter(torch.randn(wide, channels) * channels**-0.5)
        self.reduce = nn.Parameter(torch.zeros(channels, wide, 3, 3))

    def forward(self, kernel: Tensor) -> Tensor:
        # FP32: a sum of kernels rounded to bfloat16 would not be the kernel that is exported.
        with torch.autocast(kernel.device.type, enabled=False):
            wide = torch.einsum("owij,wc->ocij", self.reduce, self.expand)
            middle = self.point + torch.diag(self.passed)
            return kernel + wide + nn.functional.pad(middle[:, :, None, None], (1, 1, 1, 1))


def branch(generator: Compact) -> Compact:
    """Give the inner convolutions of `generator` branches, in place; its output is the same as before."""
    for convolution in _inner(generator):
        parametrize.register_parametrization(convolution, "weight", _Branches(convolution.in_channels))
    return generator


@torch.no_grad()
def merged(generator: Generator) -> Generator:
    """A copy of `generator`, its branches added up to plain convolutions; without branches just a copy.

    Not by removing the parametrizations from a deep copy: it shares a class with what it is a copy of, which would lose
    its branches, too.
    """
    if not isinstance(generator, Compact):
        return copy.deepcopy(generator)
    plain = Compact(generator.channels, generator.layers, generator.scale, generator.skip, generator.activation)
    for target, source in zip(plain.body, generator.body, strict=True):
        for name in ("weight", "bias"):
            if (value := getattr(source, name, None)) is not None:
                getattr(target, name).copy_(value)
    return plain.to(next(generator.parameters()).device).train(generator.training)


def _inner(generator: Compact) -> list[nn.Conv2d]:
    """All convolutions but the first and the last: those whose input has as many channels as their output."""
    return [module for module in generator.body if isinstance(module, nn.Conv2d)][1:-1]
