"""PSNR, SSIM and SSIMULACRA2 of what the upscalers made, against the originals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.common.material import Material
from benchmarks.common.metrics import luma, psnr, ssim
from benchmarks.peers.folder import Unusable
from benchmarks.peers.scorer import open_scorer, scores


def quality(
    picture: Callable[[str, int], np.ndarray], names: Sequence[str], material: Material, folder: Path, workers: int, work: Path
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """For each of `names` {"psnr", "ssim", "luma_shift", "ssimulacra2"}, each {"mean", "each"} over the material's frames.

    luma_shift: how much brighter a picture is than its original on average, in levels of 255. picture: gives that of a name and a frame's number. ssimulacra2 is {"left out": why} where it cannot be computed.
    folder: of the peers' environment. workers: pictures scored at once.
    """
    found: dict[str, dict[str, Any]] = {}
    originals = [luma(original) for original in material.originals]
    for name in names:
        pictures = [luma(picture(name, i)) for i in range(len(originals))]
        found[name] = {
            "psnr": summary([psnr(a, b) for a, b in zip(pictures, originals)]),
            "ssim": summary([ssim(a, b) for a, b in zip(pictures, originals)]),
            "luma_shift": summary([float(a.mean() - b.mean()) for a, b in zip(pictures, originals)]),
        }

    def pair(k: int) -> tuple[np.ndarray, np.ndarray]:
        i = k % len(originals)
        return material.originals[i], picture(names[k // len(originals)], i)

    try:
        every = scores(pair, len(names) * len(originals), open_scorer(folder), workers, work)
    except Unusable as error:
        return {name: {**metrics, "ssimulacra2": {"left out": str(error)}} for name, metrics in found.items()}
    for k, name in enumerate(names):
        found[name]["ssimulacra2"] = summary(every[k * len(originals) : (k + 1) * len(originals)])
    return found


def summary(values: list[float]) -> dict[str, Any]:
    """What is kept of a metric's values."""
    return {"mean": mean(values), "each": values}
