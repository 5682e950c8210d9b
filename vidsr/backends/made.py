"""A made picture, to find out whether a device computes what it should."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vidsr.frames import PixelFormat


def made_picture(like: Sequence[Tensor], format: PixelFormat) -> list[Tensor]:
    """Planes shaped like `like`, of what upscalers find hard: shading, noise, thin lines, edges; always the same."""
    generator = torch.Generator().manual_seed(0)
    planes = []
    for plane in like:
        n, rows, columns = plane.shape
        coarse = torch.rand((n, 1, rows // 16 + 2, columns // 16 + 2), generator=generator)
        values = F.interpolate(coarse, (rows, columns), mode="bilinear", align_corners=False)[:, 0]
        values[:, rows // 2 :] += 0.1 * torch.randn((n, rows - rows // 2, columns), generator=generator)
        values[:, :, columns // 3 :: 7] = 0.1
        values[:, rows // 4 : rows // 2, columns // 2 :] = 0.9
        codes = (values.clamp(0, 1) * (2**format.bits - 1)).round()
        planes.append(codes.to(torch.int32).to(plane.dtype).to(plane.device))
    return planes
