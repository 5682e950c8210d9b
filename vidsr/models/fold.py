"""Generators rewritten for inference: the same function of the picture, in fewer and faster steps.

Nothing here is an approximation: each rewrite is exact in real numbers, borders included, and done in float64.
"""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidsr.models.compact import Compact, upscaled_skip
from vidsr.models.srresnet import ResidualBlock, SRResNet


class Folded(nn.Module):
    """A generator in two halves, so that only the first need run in low precision.

    body: all the convolutions, at whatever dtype and device it is moved to; its input is R'G'B' in that dtype.
    finish: the rest, in the float32 of the picture.
    radius: see `vidsr.models`.
    """

    def __init__(self, body: nn.Module, scale: int, radius: int | None) -> None:
        super().__init__()
        self.body, self.scale, self.radius = body, scale, radius

    @property
    def dtype(self) -> torch.dtype:
        """What the body computes in (float32 for a body without weights)."""
        return next((p.dtype for p in self.body.parameters()), torch.float32)

    def finish(self, x: Tensor, features: Tensor) -> Tensor:
        """x [N, 3, H, W] and the body's output for it -> [N, 3, scale*H, scale*W], both in x's dtype."""
        return features.to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] float, 0..1 -> [N, 3, scale*H, scale*W] in the same dtype."""
        return self.finish(x, self.body(x.to(self.dtype)))


class FoldedCompact(Folded):
    """Compact has nothing to fold. Its skip stays out of the body: a picture of 10 bits keeps them all."""

    def __init__(self, generator: Compact) -> None:
        super().__init__(generator.body, generator.scale, generator.radius)
        self.skip = generator.skip

    def finish(self, x: Tensor, features: Tensor) -> Tensor:
        return upscaled_skip(x, self.scale, self.skip).add_(F.pixel_shuffle(features, self.scale).to(x.dtype))


class FoldedSRResNet(Folded):
    def finish(self, x: Tensor, features: Tensor) -> Tensor:
        # (tanh(y) + 1) / 2 is sigmoid(2 y); the factor 2 is in the tail's weights.
        return F.pixel_shuffle(features, 2).to(x.dtype).sigmoid_()


class _Slope(nn.Module):
    """PReLU of one slope, in place."""

    def __init__(self, prelu: nn.PReLU) -> None:
        super().__init__()
        self.slope = float(prelu.weight.item())

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(x, self.slope)


class _Block(nn.Module):
    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv1 = fold_batch_norm(block.conv1, block.bn1)
        self.slope = _Slope(block.prelu)
        self.conv2 = fold_batch_norm(block.conv2, block.bn2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.slope(self.conv1(x))).add_(x)


class _SRResNetBody(nn.Module):
    def __init__(self, generator: SRResNet) -> None:
        super().__init__()
        self.head = nn.Sequential(generator.head, _Slope(generator.head_prelu))
        blocks = [_Block(block) for block in generator.blocks]  # type: ignore[arg-type]
        self.trunk = nn.Sequential(*blocks, fold_batch_norm(generator.mid, generator.mid_bn))
        self.up1 = nn.Sequential(generator.up1.conv, _Slope(generator.up1.prelu), nn.PixelShuffle(2))
        tail = fold_shuffle(generator.tail, 2)
        with torch.no_grad():
            tail.weight.mul_(2)
            tail.bias.mul_(2)  # type: ignore[union-attr]
        # One slope for all channels: the PReLU may as well come before the shuffle, which is now in `finish`.
        self.up2 = nn.Sequential(generator.up2.conv, _Slope(generator.up2.prelu), tail)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        return self.up2(self.up1(self.trunk(x).add_(x)))


def fold(generator: nn.Module) -> Folded:
    """`generator` for inference: equal to it but for rounding, with its `scale` and `radius`, in eval mode.

    Leaves `generator` as it was and shares nothing with it. A generator of an unknown kind runs as it is.
    """
    generator = deepcopy(generator).eval()
    if isinstance(generator, Compact):
        folded: Folded = FoldedCompact(generator)
    elif isinstance(generator, SRResNet):
        folded = FoldedSRResNet(_SRResNetBody(generator), generator.scale, generator.radius)
    else:
        folded = Folded(generator, int(generator.scale), generator.radius)  # type: ignore[arg-type]
    return folded.eval().requires_grad_(False)


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
