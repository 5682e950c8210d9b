"""The alpha of a result against its source's."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from vidsr.frames import Frame, PixelFormat, StreamInfo
from vidsr.proof.check import Check

_WITHOUT = ("h264", "hevc", "av1")  # codecs that have no place for one: runs say so beforehand
MIN_PSNR = 20.0  # dB; masks of one bit a sample are the hardest, a wrong one has 10


def alpha_error(small: Frame, large: Frame, before: PixelFormat, after: PixelFormat) -> list[float]:
    """The mean squared difference, in levels of 255, of the alpha of a picture of the source and of the result, reduced
    by area to the source's size; nothing where one has none. before, after: their formats."""
    if small.alpha is None or large.alpha is None:
        return []
    source, result = (
        frame.alpha.astype(np.float32) * np.float32(255 / ((1 << format.bits) - 1))  # type: ignore[union-attr]
        for frame, format in ((small, before), (large, after))
    )
    reduced: Any = result
    if result.shape != source.shape:
        reduced = cv2.resize(result, source.shape[::-1], interpolation=cv2.INTER_AREA)
    return [float(((source - reduced) ** 2).mean())]


def check_alpha(before: StreamInfo, after: StreamInfo, psnr: float | None, remade: bool) -> list[Check]:
    """psnr: of what `alpha_error` gave. remade: the result is of pictures made of the source's fields, which have no
    alpha; runs say so beforehand."""
    if not (before.alpha or after.alpha):
        return []
    if before.alpha and not after.alpha:
        why = "pictures made of fields have none" if remade else f"{after.codec} has none"
        return [Check("alpha", remade or after.codec in _WITHOUT, f"left out, {why}")]
    if psnr is None:
        return [Check("alpha", False, "none -> some")]
    return [Check("alpha", psnr >= MIN_PSNR, f"scaled back down: PSNR {psnr:.1f} dB")]
