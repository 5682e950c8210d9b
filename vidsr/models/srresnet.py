"""SRResNet: the generator of SRGAN (Ledig et al. 2017, arXiv:1609.04802) with 8 residual blocks.

The seed paper (Jin Huang, "Anime Super Resolution Using GANs") keeps SRGAN's generator and cuts its 16 blocks to 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidsr.models.base import Folded, Generator
from vidsr.models.fold import fold_batch_norm, fold_shuffle


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class Upsample(nn.Module):
    """3x3 convolution to four times the channels, PixelShuffle(2), PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.shuffle(self.conv(x)))


class SRResNet(Generator):
    """9x9 head, `blocks` residual blocks, a global skip, two PixelShuffle(2) stages, 9x9 tail, (tanh + 1) / 2."""

    NAME = "srresnet"
    scale = 4

    def __init__(self, blocks: int = 8, channels: int = 64) -> None:
        super().__init__()
        self.channels = channels
        self.head = nn.Conv2d(3, channels, 9, padding=4)
        self.head_prelu = nn.PReLU()
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.mid = nn.Conv2d(channels, channels, 3, padding=1)
        self.mid_bn = nn.BatchNorm2d(channels)
        self.up1 = Upsample(channels)
        self.up2 = Upsample(channels)
        self.tail = nn.Conv2d(channels, 3, 9, padding=4)

    @property
    def radius(self) -> int:
        """How many source pixels away from an output pixel the source still matters.

        Head 4, each block 2, mid 1, up1 1, up2 half a pixel, tail one pixel (4 at quarter size): rounded up.
        """
        return 4 + 2 * len(self.blocks) + 1 + 1 + 1 + 1

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {"blocks": len(self.blocks), "channels": self.channels, "scale": self.scale}

    @classmethod
    def fits(cls, state: Mapping[str, Tensor]) -> bool:
        return {"head.weight", "head_prelu.weight", "mid_bn.weight", "tail.weight"} <= state.keys()

    @classmethod
    def scale_of(cls, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
        if not cls.fits(state):
            raise ValueError("its weights are not named head.weight, mid_bn.weight and so on")
        return cls.scale

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SRResNet:
        """Build the network that `state` is the weights of. KeyError or RuntimeError when they are not SRResNet's."""
        blocks = 1 + max((int(k.split(".")[1]) for k in state if k.startswith("blocks.")), default=-1)
        model = cls(blocks, state["head.weight"].shape[0])
        model.load_state_dict(state)
        return model

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] float, 0..1 -> [N, 3, 4H, 4W] float, 0..1."""
        x = self.head_prelu(self.head(x))
        x = x + self.mid_bn(self.mid(self.blocks(x)))
        return (torch.tanh(self.tail(self.up2(self.up1(x)))) + 1) / 2

    def take_apart(self) -> Folded:
        return _FoldedSRResNet(_Body(self), self.scale, self.radius)


class _FoldedSRResNet(Folded):
    """BatchNorm is in the convolutions, the last PixelShuffle after them, (tanh(y) + 1) / 2 a sigmoid."""

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


class _Body(nn.Module):
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
