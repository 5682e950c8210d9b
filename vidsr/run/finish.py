"""What is done to enlarged pictures before they are encoded: they are made smaller to the size that was asked for,
mixed with the source plainly enlarged, where less than the model's full strength is wanted, and rid of bands.

A stage of its own, after reuse: what a picture becomes depends on that picture alone, so nothing here depends on where
segments are cut, or on what of a picture was computed and what was taken from an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vidsr.backends.base import BackendSpec
from vidsr.filters import Filter, Kernel, scaling
from vidsr.frames import ColorSpec, Frame, PixelFormat, Shape
from vidsr.run.deband import debanded

KERNEL: Kernel = "lanczos"  # by 0.1 to 1 dB better than area and bicubic: docs/evaluation.md
PLAIN: Kernel = "bicubic"

Planes = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Taste:
    """strength: how much of 1 is what the model made. deband: see deband.py."""

    strength: float = 1.0
    deband: bool = False


NO_TASTE = Taste()


def finished(frames: Iterable[Frame], spec: BackendSpec, shape: Shape, taste: Taste = NO_TASTE) -> Iterator[Frame]:
    """Each of `frames`, which come from a backend of `spec`, as `shape` and `taste` have it.

    Pictures that share their planes with the one before, as reuse gives them, share the result.
    """
    finish: _Finish | None = None
    last: Frame | None = None
    planes: Planes = ()
    for frame in frames:
        finish = finish or _Finish(frame, spec, shape, taste)
        if last is None or not (_same(last.planes, frame.planes) and _same(last.source, frame.source)):
            planes = finish(frame)
        last = frame
        yield replace(frame, planes=planes, source=(), alpha=finish.of_alpha(frame.alpha))


def _same(before: Planes, after: Planes) -> bool:
    return len(before) == len(after) and all(a is b for a, b in zip(before, after))


class _Finish:
    """For frames of one size. like: the first of them."""

    def __init__(self, like: Frame, spec: BackendSpec, shape: Shape, taste: Taste) -> None:
        format, location, size = spec.result_format, spec.result_color.chroma_location, (shape.width, shape.height)
        self._taste, self._format = taste, format
        self._smaller: Filter | None = None
        self._plain: Filter | None = None
        self._alpha: Filter | None = None
        height, width = like.planes[0].shape
        if (width, height) != size:
            self._smaller = Filter(format, width, height, [scaling(*size, format, location, KERNEL)])
            gray = PixelFormat("gray", format.bits)  # by area, which does not ring
            self._alpha = Filter(gray, width, height, [scaling(*size, gray, location, "area")])
        if taste.strength < 1:
            from vidsr.backends.recolor import recoloring  # which needs PyTorch, and importing vidsr must not

            own, self._recolored = recoloring(spec)
            height, width = like.source[0].shape
            self._plain = Filter(own, width, height, [scaling(*size, own, location, PLAIN, format)], format)

    def of_alpha(self, alpha: np.ndarray | None) -> np.ndarray | None:
        """A frame's alpha in the size of its result."""
        return alpha if alpha is None or self._alpha is None else self._alpha((alpha,))[0]

    def __call__(self, frame: Frame) -> Planes:
        made = self._smaller(frame.planes) if self._smaller else frame.planes
        if self._plain is not None:
            plain, part = self._plain(self._recolored(frame.source)), self._taste.strength
            made = tuple(cv2.addWeighted(a, part, b, 1 - part, 0) for a, b in zip(made, plain))
        return debanded(made, self._format) if self._taste.deband else made


def finished_still(picture: np.ndarray, large: np.ndarray, shape: Shape, taste: Taste = NO_TASTE) -> np.ndarray:
    """`large`, [H, W] or [H, W, channels], uint8 or uint16, which a model made of `picture`, as `finished` has frames;
    each channel by itself."""
    gray = PixelFormat("gray", 8 * picture.dtype.itemsize)
    both = (np.moveaxis(np.atleast_3d(each), 2, 0) for each in (picture, large))
    spec = BackendSpec("", "", 1, gray, ColorSpec(), gray, ColorSpec())
    channels: list[np.ndarray] = []
    for small, made in zip(*both):
        frame = Frame((np.ascontiguousarray(made),), source=(np.ascontiguousarray(small),))
        channels += next(finished([frame], spec, shape, taste)).planes
    return np.dstack(channels) if picture.ndim == 3 else channels[0].copy()
