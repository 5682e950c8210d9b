"""Architectures of others, by spandrel, which knows some forty. The only file that imports it.

It is optional: it needs torchvision, whose releases load beside one release of PyTorch each.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from vidsr.errors import ModelError, first_line
from vidsr.models.architectures import own_names
from vidsr.models.base import Generator

INSTALL = "pip install 'vidsr[spandrel]' (and the torchvision that fits your torch)"


class Other(Generator):
    """A generator as spandrel describes it, which pads pictures to sizes the network takes and cuts the result again.

    Its radius is unknown, since nobody has written down how far these networks see. With bfloat16 the whole picture,
    not only what is added to a skip, would be left 8 bits, of which a step is seen.
    """

    NAME = "spandrel"

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.network: nn.Module = descriptor.model  # so that it goes where this module goes
        self.scale = int(descriptor.scale)
        self.lacks = frozenset({"bf16"} if descriptor.supports_half else {"bf16", "fp16"})
        name = descriptor.architecture.name
        self.assumed = f"{name}, by spandrel: whole frames only, so no tiles, and no reuse of parts of a frame"

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {"kind": self.descriptor.architecture.name, "scale": self.scale}

    @classmethod
    def fits(cls, state: Mapping[str, Tensor]) -> bool:
        """It is asked last: which names spandrel knows, only loading them tells."""
        return True

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Self:
        """ModelError when spandrel is not there, does not know the weights, or knows them as something else than an
        upscaler of RGB pictures."""
        if reason := spandrel_missing():
            raise ModelError(f"not {own_names('or')}; {reason}")
        spandrel = importlib.import_module("spandrel")
        try:
            descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
        except spandrel.UnsupportedModelError:
            raise ModelError(
                f"not {own_names('or')}, nor an architecture that spandrel {spandrel.__version__} knows; "
                "a newer one may: pip install -U spandrel"
            ) from None
        except Exception as error:  # the loader of an architecture that it was taken for
            raise ModelError(f"spandrel cannot load it ({first_line(error)})") from error
        name = descriptor.architecture.name
        if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.purpose not in ("SR", "Restoration"):
            raise ModelError(f"{name} is for {descriptor.purpose}; vidsr takes models that enlarge whole pictures")
        if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
            raise ModelError(
                f"{name} of {descriptor.input_channels} channels in and {descriptor.output_channels} out, "
                "expected RGB in and out"
            )
        return cls(descriptor)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in 0..1, of the weights' dtype -> [N, 3, scale*H, scale*W], clamped to 0..1."""
        return torch.cat([self.descriptor(picture[None].contiguous()) for picture in x])  # it takes one at a time


def spandrel_missing() -> str | None:
    """One line why spandrel cannot be used, with the cure, or None when it can."""
    try:
        importlib.import_module("spandrel")
    except ModuleNotFoundError as error:
        if error.name == "spandrel":
            return f"other architectures need spandrel: {INSTALL}"
        return f"spandrel lacks {error.name}: {INSTALL}"
    except Exception as error:  # torchvision beside another PyTorch than its own raises whatever comes first
        return (
            f"spandrel does not load ({first_line(error)}): install the torchvision that fits your torch, "
            f"{torch.__version__}"
        )
    return None
