"""What is done to enlarged pictures before they are encoded: they are made smaller to the size that was asked for.

A stage of its own, after reuse: what a picture becomes depends on that picture alone, so nothing here depends on where
segments are cut, or on what of a picture was computed and what was taken from an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from vidsr.backends.base import BackendSpec
from vidsr.filters import Filter, Kernel, scaling
from vidsr.frames import Frame, PixelFormat, Shape

KERNEL: Kernel = "lanczos"


def finished(frames: Iterable[Frame], spec: BackendSpec, shape: Shape) -> Iterator[Frame]:
    """Each of `frames`, which come from a backend of `spec`, as `shape` has it.

    Pictures that share their planes with the one before, as reuse gives them, share the result.
    """
    filter: Filter | None = None
    before: tuple[np.ndarray, ...] = ()
    planes: tuple[np.ndarray, ...] = ()
    format, location = spec.result_format, spec.result_color.chroma_location
    for frame in frames:
        if filter is None:
            height, width = frame.planes[0].shape
            chain = [scaling(shape.width, shape.height, format, location, KERNEL)]
            filter = Filter(format, width, height, chain)
        if len(before) != len(frame.planes) or any(a is not b for a, b in zip(before, frame.planes)):
            before, planes = frame.planes, filter(frame.planes)
        yield replace(frame, planes=planes)


def finished_still(picture: np.ndarray, shape: Shape) -> np.ndarray:
    """[H, W] or [H, W, channels], uint8 or uint16, as `shape` has it; each channel by itself."""
    rows, columns = picture.shape[:2]
    gray = PixelFormat("gray", 8 * picture.dtype.itemsize)
    filter = Filter(gray, columns, rows, [scaling(shape.width, shape.height, gray, "left", KERNEL)])
    channels = [filter((channel,))[0] for channel in np.moveaxis(np.atleast_3d(picture), 2, 0)]
    return np.dstack(channels) if picture.ndim == 3 else channels[0].copy()
