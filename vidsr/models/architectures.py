"""The architectures that vidsr runs by itself, one line each; other.py runs those of others."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vidsr.models.base import Generator
from vidsr.models.compact import Compact
from vidsr.models.srresnet import SRResNet

ARCHITECTURES: dict[str, type[Generator]] = {
    Compact.NAME: Compact,
    SRResNet.NAME: SRResNet,
}


def identify(state: Mapping[str, Tensor]) -> type[Generator] | None:
    """The architecture whose names the weights have, or None."""
    return next((kind for kind in ARCHITECTURES.values() if kind.fits(state)), None)


def own_names(joined_by: str) -> str:
    """For people: "Compact or SRResNet", or with another word."""
    return f" {joined_by} ".join(kind.__name__ for kind in ARCHITECTURES.values())


__all__ = ["ARCHITECTURES", "Compact", "SRResNet", "identify", "own_names"]
