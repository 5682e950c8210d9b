"""Planes of one format and colour as those of another, at the size they have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from vidsr.backends.base import BackendSpec
from vidsr.backends.planes import tensor
from vidsr.color import from_rgb, to_rgb
from vidsr.frames import PixelFormat

Recolor = Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]


def recoloring(spec: BackendSpec) -> tuple[PixelFormat, Recolor]:
    """(a format, a function that brings planes of `spec`'s source to it): the family, depth and colours of its result,
    the chroma of its source where that can be; then planes are not touched."""
    source, result = spec.source_format, spec.result_format
    before, after = spec.source_color, spec.result_color
    if (source.family, source.bits, before.matrix, before.full_range) == (
        result.family, result.bits, after.matrix, after.full_range,
    ):  # fmt: skip
        return source, tuple
    format = PixelFormat(result.family, result.bits)

    @torch.inference_mode()
    def recolored(planes: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        made = from_rgb(to_rgb([tensor(plane)[None] for plane in planes], source, before), format, after)
        return tuple(plane[0].numpy() for plane in made)

    return format, recolored
