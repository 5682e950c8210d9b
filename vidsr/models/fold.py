"""Rewrites that generators share when they are folded for inference: the same function, in fewer and faster steps.

Nothing here is an approximation: each is exact in real numbers, borders included, and done in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution that does what `conv` and then `norm` (in eval mode) do."""
    assert norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = 0 if conv.bias is None else conv.bias.double()
    return _convolution_like(
        conv, conv.weight.double() * factor[:, None, None, None],
        (bias - norm.running_mean.double()) * factor + norm.bias.double(), int(conv.padding[0]),
    )  # fmt: skip


def fold_shuffle(conv: nn.Conv2d, r: int) -> nn.Conv2d:
    """PixelShuffle(r) then `conv` is the returned convolution then PixelShuffle(r).

    `conv` [outputs, C, k, k] with "same" padding at r times the size becomes [outputs * r^2, C * r^2, K, K] at source
    size: an output pixel of phase s reaches, by tap i, the pixel i - k//2 + s away from its group's corner, which
    lies (that // r) groups away in phase (that % r). Zeros pad the same pixels as before. For k = 9 and r = 2, K is 5
    and the matrix units get 12 output channels instead of 3.
    """
    weight = conv.weight.detach()
    outputs, inputs, k, _ = weight.shape
    reach = [[divmod(i - k // 2 + s, r) for i in range(k)] for s in range(r)]
    low = min(group for row in reach for group, _ in row)
    size = max(group for row in reach for group, _ in row) - low + 1
    folded = weight.new_zeros(outputs * r * r, inputs * r * r, size, size)
    for sy in range(r):
        for sx in range(r):
            for i, (qy, py) in enumerate(reach[sy]):
                for j, (qx, px) in enumerate(reach[sx]):
                    folded[sy * r + sx :: r * r, py * r + px :: r * r, qy - low, qx - low] = weight[:, :, i, j]
    assert conv.bias is not None
    return _convolution_like(conv, folded, conv.bias.detach().repeat_interleave(r * r), -low)


def _convolution_like(conv: nn.Conv2d, weight: Tensor, bias: Tensor, padding: int) -> nn.Conv2d:
    kind = {"dtype": conv.weight.dtype, "device": conv.weight.device}
    result = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=padding, **kind)  # type: ignore
    with torch.no_grad():
        result.weight.copy_(weight)
        result.bias.copy_(bias)  # type: ignore[union-attr]
    return result
