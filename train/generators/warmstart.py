"""Start SRResNet as an interpolation of its input instead of as noise.

The generator has no skip from the input to the output: untrained, it has to find the identity through 9x9
convolutions, BatchNorm and tanh first, which takes thousands of steps. Nothing of that needs to be learnt. The
architecture stays as it is; only the initial weights differ.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vidsr.models.architectures import SRResNet

# Bilinear x2 as a 3x3 filter for each of the four pixels that PixelShuffle(2) makes of one, rows and columns alike.
_PHASES = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])
# (sign, knot): hinges max(0, sign * (colour - knot)). The first is the straight line, the others bend the two ends
# only, so that no large terms have to cancel in the middle: bfloat16 could not hold that.
_HINGES = [(1, 0.0)] + [h for k in (0.02, 0.05, 0.1, 0.2, 0.35) for h in ((-1, k), (1, 1 - k))]
_DARKEST = 0.004  # atanh is infinite at black and white; one 8-bit level from them is near enough


@torch.no_grad()
def start_as_interpolation(generator: SRResNet) -> None:
    """Set the weights so that the output is about the input, bilinearly enlarged four times.

    Three channels carry R, G and B through the head and the first upsampling. The second one makes hinges of them,
    max(0, colour - knot), of which the tail adds up atanh(2 colour - 1), so that (tanh + 1) / 2 gives the colour back.
    All other channels keep their random weights, and reach the output through a weak tail: they are there to learn.
    """
    for block in generator.blocks:
        nn.init.constant_(block.bn2.weight, 0.1)  # type: ignore[union-attr,arg-type]
    nn.init.constant_(generator.mid_bn.weight, 0.1)

    for colour in range(3):
        generator.head.weight[colour] = 0
        generator.head.weight[colour, colour, 4, 4] = 1
        generator.head.bias[colour] = 0  # type: ignore[index]
        # What the blocks add to these three must not disturb the picture at first.
        generator.mid_bn.weight[colour] = 0
        _carry(generator.up1.conv, colour, colour, 1, 0.0)
        for index, (sign, knot) in enumerate(_HINGES):
            _carry(generator.up2.conv, colour, 3 * index + colour, sign, knot)
    nn.init.zeros_(generator.up2.prelu.weight)

    slopes, offset = _fit_atanh()
    generator.tail.weight *= 0.1
    generator.tail.weight[:, : 3 * len(_HINGES)] = 0
    for colour in range(3):
        generator.tail.weight[colour, colour : 3 * len(_HINGES) : 3, 4, 4] = slopes
    generator.tail.bias[:] = offset  # type: ignore[index]


def _carry(conv: nn.Conv2d, source: int, target: int, sign: int, knot: float) -> None:
    """Make channel `target` after PixelShuffle(2) sign * (the bilinear enlargement of channel `source`, less knot)."""
    for row in range(2):
        for column in range(2):
            output = 4 * target + 2 * row + column
            conv.weight[output] = 0
            conv.weight[output, source] = sign * torch.outer(_PHASES[row], _PHASES[column])
            conv.bias[output] = -sign * knot  # type: ignore[index]


def _fit_atanh() -> tuple[Tensor, float]:
    """Weights of the hinges and an offset that add up to atanh(2x - 1), fitted by the error after tanh."""
    x = np.linspace(0, 1, 1001)
    hinges = [np.maximum(0, sign * (x - knot)) for sign, knot in _HINGES]
    design = np.stack([*hinges, np.ones_like(x)], axis=1)
    inner = np.clip(x, _DARKEST, 1 - _DARKEST)
    sensitivity = 1 - (2 * inner - 1) ** 2  # the derivative of tanh there
    target = np.arctanh(2 * inner - 1)
    solution = np.linalg.lstsq(design * sensitivity[:, None], target * sensitivity, rcond=None)[0]
    return torch.tensor(solution[:-1], dtype=torch.float32), float(solution[-1])
