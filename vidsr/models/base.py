"""What a generator is, and what inference makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """RGB [N, 3, H, W] float in 0..1 -> [N, 3, scale*H, scale*W], about 0..1. An architecture is a subclass.

    NAME: in the metadata of its weights.
    scale: how many times the result is as large as the source.
    lacks: precisions ("bf16", "fp16") that its convolutions must not be run in.
    assumed: in one line, what `from_state_dict` had to guess, and what cannot be done with it; "" for nothing.
    """

    NAME: ClassVar[str]
    scale: int
    lacks: frozenset[str] = frozenset()
    assumed: str = ""

    @property
    def radius(self) -> int | None:
        """How many source pixels away from an output pixel the source still matters; None: unknown, it gets whole
        pictures."""
        return None

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What its constructor was given, its scale besides, by name: what is written beside its weights."""
        return {"scale": self.scale}

    @classmethod
    def fits(cls, state: Mapping[str, Tensor]) -> bool:
        """Whether weights have its names."""
        raise NotImplementedError

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Self:
        """The generator that `state` is the weights of, its hyper-parameters read back from them, or from `metadata`
        where they leave no trace there.

        KeyError, IndexError, ValueError or RuntimeError when they are another's; ModelError, without the file's name,
        where there is more to say than that.
        """
        raise NotImplementedError

    @classmethod
    def scale_of(cls, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
        """The scale of `from_state_dict(state, metadata)`, by building it; architectures whose weights tell override
        this. Errors as there."""
        return cls.from_state_dict(state, metadata).scale

    def folded(self) -> Folded:
        """For inference: equal to it but for rounding, with its scale and radius, in eval mode, without gradients.

        Leaves the generator as it was and shares nothing with it.
        """
        return deepcopy(self).eval().take_apart().eval().requires_grad_(False)

    def take_apart(self) -> Folded:
        """What `folded` makes of a copy of it, whose parts are free to be used: here it runs as it is."""
        return Folded(self, self.scale, self.radius)


class Folded(nn.Module):
    """A generator in two halves, so that only the first need run in low precision.

    body: all the convolutions, at whatever dtype and device it is moved to; its input is R'G'B' in that dtype.
    finish: the rest, in the float32 of the picture.
    radius: see `Generator`.
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

    def linear_tail(self) -> LinearTail | None:
        """Its end, where all of that is linear, for fusing with what follows; None where it is not."""
        return None


@dataclass(frozen=True, eq=False)
class LinearTail:
    """A folded generator that is PixelShuffle(scale) of last(layers(x)) + skip(x, with a border of one pixel repeated).

    layers: all that is not linear, at source size.
    last: a convolution to [N, 3 * scale^2, H, W].
    skip: float64, 3x3 without padding, [N, 3, H + 2, W + 2] -> [N, 3 * scale^2, H, W].
    """

    layers: tuple[nn.Module, ...]
    last: nn.Conv2d
    skip: nn.Conv2d
