"""Compact: all convolutions at source size, one PixelShuffle, added to the upscaled source.

The layout (and the names of the weights) of SRVGGNetCompact, as published with Real-ESRGAN's animevideo models
(Wang et al. 2021, arXiv:2107.10833), but on a bilinear instead of a nearest-neighbour skip: with it a small network
starts from a usable picture and has only the lines to add.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Compact(nn.Module):
    """`layers` 3x3 convolutions of `channels` between a head (3 -> channels) and a tail (channels -> 3 * scale^2).

    skip: "bilinear" or "nearest", the upscale that the tail's residual is added to.
    """

    NAME = "compact"

    def __init__(self, channels: int = 32, layers: int = 8, scale: int = 4, skip: str = "bilinear") -> None:
        super().__init__()
        if skip not in ("bilinear", "nearest"):
            raise ValueError(f"skip: got {skip!r}, expected bilinear or nearest")
        self.channels, self.layers, self.scale, self.skip = channels, layers, scale, skip
        parts: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), nn.PReLU(channels)]
        for _ in range(layers):
            parts += [nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU(channels)]
        parts.append(nn.Conv2d(channels, 3 * scale**2, 3, padding=1))
        self.body = nn.Sequential(*parts)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming initialisation with a tail a tenth as strong.

        PyTorch's default lets the signal vanish in sixteen plain layers, and the output stays the skip for good.
        """
        for module in self.body:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.25)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.body[-1].weight.mul_(0.1)  # type: ignore[union-attr,operator]

    @property
    def radius(self) -> int:
        """How many source pixels away from an output pixel the source still matters."""
        return self.layers + 2

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {"channels": self.channels, "layers": self.layers, "scale": self.scale, "skip": self.skip}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Compact:
        """Build the network that `state` is the weights of. KeyError or ValueError when they are not Compact's.

        Everything is read from the shapes but the skip, which leaves no trace in them: `metadata["skip"]`, or
        "nearest", SRVGGNetCompact's, when there is none.
        """
        convolutions = sorted(int(k.split(".")[1]) for k, v in state.items() if k.startswith("body.") and v.dim() == 4)
        head, tail = state[f"body.{convolutions[0]}.weight"], state[f"body.{convolutions[-1]}.weight"]
        scale = round((tail.shape[0] / 3) ** 0.5)
        if head.shape[1] != 3 or tail.shape[0] != 3 * scale**2:
            raise ValueError(f"expected 3 channels in and 3 * scale^2 out, got {head.shape[1]} and {tail.shape[0]}")
        model = cls(head.shape[0], len(convolutions) - 2, scale, metadata.get("skip", "nearest"))
        model.load_state_dict(state)
        return model

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] float, 0..1 -> [N, 3, scale*H, scale*W], about 0..1, not clamped."""
        return upscaled_skip(x, self.scale, self.skip) + F.pixel_shuffle(self.body(x), self.scale).to(x.dtype)


def upscaled_skip(x: Tensor, scale: int, skip: str) -> Tensor:
    """The part of Compact's output that has no weights: `x` [N, 3, H, W] enlarged `scale` times."""
    if skip == "nearest":
        return F.interpolate(x, scale_factor=scale, mode="nearest")
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
