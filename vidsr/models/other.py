"""Architectures of others, by spandrel, which knows some forty. The only file that imports it.

It is optional: it needs torchvision, whose releases load beside one release of PyTorch each.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidsr.errors import ModelError, first_line

INSTALL = "pip install 'vidsr[spandrel]' (and the torchvision that fits your torch)"


class Other(nn.Module):
    """A generator as spandrel describes it, which pads pictures to sizes the network takes and cuts the result again.

    radius: None, since nobody has written down how far these networks see. They get whole frames.
    lacks: precisions not to be used. With bfloat16 the whole picture, not only what is added to a skip, would be left 8
        bits, of which a step is seen.
    """

    NAME = "spandrel"
    radius = None

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.network: nn.Module = descriptor.model  # so that it goes where this module goes
        self.scale = int(descriptor.scale)
        self.lacks = frozenset({"bf16"} if descriptor.supports_half else {"bf16", "fp16"})

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {"kind": self.descriptor.architecture.name, "scale": self.scale}

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


def load_other(path: Path, state: Mapping[str, Tensor], notify: Callable[[str], None]) -> Other:
    """The generator that `state`, read from `path`, is the weights of. ModelError when spandrel is not there, does not
    know it, or knows it as something else than an upscaler of RGB pictures."""
    if reason := spandrel_missing():
        raise ModelError(f"{path}: not Compact or SRResNet; {reason}")
    spandrel = importlib.import_module("spandrel")
    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        raise ModelError(
            f"{path}: not Compact or SRResNet, nor an architecture that spandrel {spandrel.__version__} knows; "
            "a newer one may: pip install -U spandrel"
        ) from None
    except Exception as error:  # the loader of an architecture that it was taken for
        raise ModelError(f"{path}: spandrel cannot load it ({first_line(error)})") from error
    name = descriptor.architecture.name
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.purpose not in ("SR", "Restoration"):
        raise ModelError(f"{path}: {name} is for {descriptor.purpose}; vidsr takes models that enlarge whole pictures")
    if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
        raise ModelError(
            f"{path}: {name} of {descriptor.input_channels} channels in and {descriptor.output_channels} out, "
            "expected RGB in and out"
        )
    notify(f"{path.name}: {name}, by spandrel: whole frames only, so no tiles, and no reuse of parts of a frame")
    return Other(descriptor).eval()
