"""Generators: RGB [N, 3, H, W] float in 0..1 in, [N, 3, scale*H, scale*W] out.

An architecture is a class with `NAME`, `scale`, `radius` (how many source pixels away an output pixel can see),
`fits(state)`, whether weights have its names, `from_state_dict(state, metadata)`, which reads its hyper-parameters back
from the weights, and `assumed(state, metadata)`, what it could not read there. Of architectures that are none of these,
which other.py runs, `radius` is None: unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vidsr.models.compact import Compact
from vidsr.models.srresnet import SRResNet

ARCHITECTURES: dict[str, type[Compact] | type[SRResNet]] = {Compact.NAME: Compact, SRResNet.NAME: SRResNet}


def identify(state: Mapping[str, Tensor]) -> type[Compact] | type[SRResNet] | None:
    """The architecture whose names the weights have, or None."""
    return next((architecture for architecture in ARCHITECTURES.values() if architecture.fits(state)), None)


__all__ = ["ARCHITECTURES", "Compact", "SRResNet", "identify"]
