"""Generators: RGB [N, 3, H, W] float in 0..1 in, [N, 3, scale*H, scale*W] out.

An architecture is a class with `NAME`, `scale`, `radius` (how many source pixels away an output pixel can see) and
`from_state_dict(state, metadata)`, which reads its hyper-parameters back from the weights.
"""

from vidsr.models.compact import Compact
from vidsr.models.srresnet import SRResNet

ARCHITECTURES: dict[str, type[Compact] | type[SRResNet]] = {Compact.NAME: Compact, SRResNet.NAME: SRResNet}

__all__ = ["ARCHITECTURES", "Compact", "SRResNet"]
