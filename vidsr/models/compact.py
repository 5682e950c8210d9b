"""Compact: all convolutions at source size, one PixelShuffle, added to the upscaled source.

The layout (and the names of the weights) of SRVGGNetCompact, as published with Real-ESRGAN's animevideo models
(Wang et al. 2021, arXiv:2107.10833), but on a bilinear instead of a nearest-neighbour skip: with it a small network
starts from a usable picture and has only the lines to add.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidsr.models.base import Folded, Generator, LinearTail

SLOPES = {"prelu": 0.25, "relu": 0.0, "leaky_relu": 0.1}  # below zero; PReLU's is where it starts


class Compact(Generator):
    """`layers` 3x3 convolutions of `channels` between a head (3 -> channels) and a tail (channels -> 3 * scale^2).

    skip: "bilinear" or "nearest", the upscale that the tail's residual is added to.
    activation: "prelu" (a slope for each channel), "relu" or "leaky_relu" (0.1), after each convolution but the tail.
    """

    NAME = "compact"

    def __init__(
        self, channels: int = 32, layers: int = 8, scale: int = 4, skip: str = "bilinear", activation: str = "prelu"
    ) -> None:
        super().__init__()
        if skip not in ("bilinear", "nearest"):
            raise ValueError(f"skip: got {skip!r}, expected bilinear or nearest")
        if activation not in SLOPES:
            raise ValueError(f"activation: got {activation!r}, expected {', '.join(SLOPES)}")
        self.channels, self.layers, self.scale, self.skip = channels, layers, scale, skip
        self.activation = activation
        parts: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), self._activation()]
        for _ in range(layers):
            parts += [nn.Conv2d(channels, channels, 3, padding=1), self._activation()]
        parts.append(nn.Conv2d(channels, 3 * scale**2, 3, padding=1))
        self.body = nn.Sequential(*parts)
        self.reset_parameters()

    def _activation(self) -> nn.Module:
        if self.activation == "prelu":
            return nn.PReLU(self.channels)
        return nn.ReLU(inplace=True) if self.activation == "relu" else nn.LeakyReLU(0.1, inplace=True)

    def reset_parameters(self) -> None:
        """Kaiming initialisation with a tail a tenth as strong.

        PyTorch's default lets the signal vanish in sixteen plain layers, and the output stays the skip for good.
        """
        for module in self.body:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPES[self.activation])
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.body[-1].weight.mul_(0.1)  # type: ignore[union-attr,operator]

    @property
    def radius(self) -> int:
        """How many source pixels away from an output pixel the source still matters."""
        return self.layers + 2

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {
            "channels": self.channels, "layers": self.layers, "scale": self.scale, "skip": self.skip,
            "activation": self.activation,
        }  # fmt: skip

    @classmethod
    def fits(cls, state: Mapping[str, Tensor]) -> bool:
        """Whether all names are those of a plain sequence that begins with a convolution."""
        names = all(re.fullmatch(r"body\.\d+\.(weight|bias)", key) for key in state)
        return names and "body.0.weight" in state and state["body.0.weight"].dim() == 4

    @classmethod
    def scale_of(cls, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
        return _sizes(state)[2]

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Self:
        """Build the network that `state` is the weights of. ValueError, which says why, when they are not Compact's.

        Everything is read from the shapes but the skip, which leaves no trace in them: `metadata["skip"]`, or
        "nearest", SRVGGNetCompact's, when there is none; and activations other than PReLU: `metadata["activation"]`, or
        "act_type" as BasicSR calls it, or ReLU. One PReLU slope for all channels becomes one for each.
        """
        channels, layers, scale = _sizes(state)
        slopes = {key: value for key, value in state.items() if int(key.split(".")[1]) % 2}
        activation = "prelu" if slopes else _named_activation(metadata) or "relu"
        for i in range(1, 2 * layers + 2, 2) if slopes else ():
            slope = slopes.pop(f"body.{i}.weight", torch.zeros(0))
            if slope.shape not in ((1,), (channels,)):
                raise ValueError(f"body.{i}.weight is no PReLU of {channels} channels")
            state = {**state, f"body.{i}.weight": slope.expand(channels)}
        if slopes:
            raise ValueError(f"{next(iter(slopes))} is no part of a PReLU")
        model = cls(channels, layers, scale, metadata.get("skip", "nearest"), activation)
        model.load_state_dict(state)
        if activation != "prelu" and not _named_activation(metadata):
            model.assumed = (
                "its activations leave no trace in the weights: taken for ReLU; if the pictures look wrong, they are "
                "LeakyReLU: save it as .safetensors with activation=leaky_relu in the metadata"
            )
        return model

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] float, 0..1 -> [N, 3, scale*H, scale*W], about 0..1, not clamped."""
        return upscaled_skip(x, self.scale, self.skip) + F.pixel_shuffle(self.body(x), self.scale).to(x.dtype)

    def take_apart(self) -> Folded:
        return _FoldedCompact(self)


class _FoldedCompact(Folded):
    """Compact has nothing to fold. Its skip stays out of the body: a picture of 10 bits keeps them all."""

    def __init__(self, generator: Compact) -> None:
        super().__init__(generator.body, generator.scale, generator.radius)
        self.skip = generator.skip

    def finish(self, x: Tensor, features: Tensor) -> Tensor:
        return upscaled_skip(x, self.scale, self.skip).add_(F.pixel_shuffle(features, self.scale).to(x.dtype))

    def linear_tail(self) -> LinearTail:
        *layers, last = self.body.children()
        assert isinstance(last, nn.Conv2d)
        return LinearTail(tuple(layers), last, _skip_convolution(self.scale, self.skip))


def upscaled_skip(x: Tensor, scale: int, skip: str) -> Tensor:
    """The part of Compact's output that has no weights: `x` [N, 3, H, W] enlarged `scale` times."""
    if skip == "nearest":
        return F.interpolate(x, scale_factor=scale, mode="nearest")
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def _skip_convolution(scale: int, skip: str) -> nn.Conv2d:
    """`upscaled_skip` before its PixelShuffle: 3x3, [N, 3, H + 2, W + 2] -> [N, 3 * scale^2, H, W].

    Phase k of `scale` lies (k + 0.5) / scale - 0.5 away from its source pixel; bilinear gives the neighbour on that
    side so much of the weight.
    """
    taps = torch.zeros(scale, 3, dtype=torch.float64)
    for k in range(scale):
        away = (k + 0.5) / scale - 0.5 if skip == "bilinear" else 0.0
        taps[k] = torch.tensor([max(-away, 0.0), 1 - abs(away), max(away, 0.0)])
    conv = nn.Conv2d(3, 3 * scale**2, 3, dtype=torch.float64)
    both = torch.einsum("yk,xl->yxkl", taps, taps).reshape(scale**2, 3, 3)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()  # type: ignore[union-attr]
        for c in range(3):
            conv.weight[c * scale**2 : (c + 1) * scale**2, c] = both
    return conv


def _sizes(state: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """(channels, layers, scale), read from the convolutions' shapes. ValueError when they are not Compact's."""
    if not Compact.fits(state):
        raise ValueError("its weights are not named body.0.weight, body.0.bias and so on")
    last = max(int(key.split(".")[1]) for key in state)
    if last < 2 or last % 2:
        raise ValueError(f"body.0 to body.{last}, expected convolutions with an activation between each two")
    convolutions = [_convolution(state, i) for i in range(0, last + 1, 2)]
    channels, inputs = convolutions[0].shape[:2]
    for i, weight in enumerate(convolutions):
        if (i and weight.shape[1] != channels) or (2 * i < last and weight.shape[0] != channels):
            shape = "x".join(map(str, weight.shape))
            raise ValueError(f"body.{2 * i}.weight is {shape}, expected {channels} channels throughout")
    outputs = convolutions[-1].shape[0]
    scale = round((outputs / 3) ** 0.5)
    if inputs != 3 or outputs != 3 * scale**2:
        raise ValueError(f"{inputs} channels in and {outputs} out, expected 3 (RGB) in and 3 * scale^2 out")
    return channels, len(convolutions) - 2, scale


def _convolution(state: Mapping[str, Tensor], i: int) -> Tensor:
    """The weights of the 3x3 convolution at body.i. ValueError when there is none."""
    weight, bias = (state.get(f"body.{i}.{part}") for part in ("weight", "bias"))
    if weight is None or weight.dim() != 4 or weight.shape[2:] != (3, 3) or not weight.is_floating_point():
        raise ValueError(f"body.{i} is no 3x3 convolution")
    if bias is None or bias.shape != weight.shape[:1]:
        raise ValueError(f"body.{i}.bias does not fit")
    return weight


def _named_activation(metadata: Mapping[str, str]) -> str:
    name = metadata.get("activation") or metadata.get("act_type") or ""
    name = {"leakyrelu": "leaky_relu"}.get(name.lower(), name.lower())
    return name if name in ("relu", "leaky_relu") else ""
