"""What counts as still in a source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vidsr.frames import Frame, PixelFormat
from vidsr.reuse.signature import TILE, Signatures

WINDOW = 24  # frames a tile's mean is taken of at most, which are looked ahead
_SHORTEST = 4  # frames, however large they are
_MEMORY = 192 << 20  # bytes of frames that are looked ahead


@dataclass(frozen=True)
class Stillness:
    """noise: 0: what is the same to the bit is still. Above: what differs by no more than noise does (`runs.py`), and
    such differences are never less than this part of what a noisy source has; at most 1. window: frames looked ahead.
    grain: whether the noise that is taken out of still areas is laid over the result.
    """

    noise: float = 0.0
    window: int = WINDOW
    grain: bool = False

    def fitting(self, width: int, height: int, format: PixelFormat) -> Stillness:
        """The same with a window of which the frames fit into memory."""
        size = format.dtype.itemsize * sum(rows * columns for rows, columns in format.plane_shapes(width, height))
        return replace(self, window=min(self.window, max(_SHORTEST, _MEMORY // size)))


_STILL_MEAN, _STILL_MOST = 1.0, 12.0  # levels: what differs more from the frame before, is not still by any standard
_CLEANEST = 0.5  # of a noisy source's limits


def choose_noise(stretches: Iterable[Sequence[Frame]], format: PixelFormat) -> float:
    """`Stillness.noise` of a source, from what its compression leaves where nothing moves.

    stretches: of frames that follow each other, from several places of the source. 0 where still parts are the same to
    the bit; else four times the mean difference that 95 % of them stay below, in levels, from _CLEANEST to 1. That
    tiles of one shade are the same says nothing: they may be bars beside a grainy picture.
    """
    means, mosts = [np.zeros(0)], [np.zeros(0)]  # of still tiles; the latter of those that have something in them
    moving, unit = 0, 2.0 ** (format.bits - 8)
    for frames in stretches:
        signatures: Signatures | None = None
        before: np.ndarray | None = None
        for frame in frames:
            height, width = frame.planes[0].shape
            signatures = signatures or Signatures(width, height, format)
            samples = signatures.samples(frame.planes)
            if before is not None:
                differences = cv2.absdiff(samples, before)
                mean, most = differences.mean(1) / unit, differences.max(1) / unit
                luma = samples[:, : TILE * TILE]
                plain = luma.max(1) == luma.min(1)
                still = (mean <= _STILL_MEAN) & (most <= _STILL_MOST)
                means.append(mean[still])
                mosts.append(most[still & ~plain])
                moving += int((~still).sum())
            before = samples
    mean, most = np.concatenate(means), np.concatenate(mosts)
    if not most.size:  # all moves, or all is noise; or nothing is to be seen
        return _CLEANEST if moving else 0.0
    if np.percentile(most, 99) == 0:
        return 0.0
    return float(np.clip(4 * np.percentile(mean, 95), _CLEANEST, 1.0))
