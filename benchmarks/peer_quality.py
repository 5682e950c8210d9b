"""PSNR, SSIM and SSIMULACRA2 of what the upscalers made, against the originals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np

from benchmarks.peer_folder import SCORER, Runner, Unusable, environment, install
from benchmarks.peer_material import Material
from benchmarks.quality_metrics import luma, psnr, ssim


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
            "psnr": _summary([psnr(a, b) for a, b in zip(pictures, originals)]),
            "ssim": _summary([ssim(a, b) for a, b in zip(pictures, originals)]),
            "luma_shift": _summary([float(a.mean() - b.mean()) for a, b in zip(pictures, originals)]),
        }
    try:
        python = environment(folder)
        install(python, SCORER)
        scores = _scores(picture, names, material, python, workers, work)
    except Unusable as error:
        return {name: {**metrics, "ssimulacra2": {"left out": str(error)}} for name, metrics in found.items()}
    return {name: {**metrics, "ssimulacra2": _summary(scores[name])} for name, metrics in found.items()}


def _summary(values: list[float]) -> dict[str, Any]:
    return {"mean": mean(values), "each": values}


def _scores(
    picture: Callable[[str, int], np.ndarray], names: Sequence[str], material: Material, python: Path, workers: int, work: Path
) -> dict[str, list[float]]:  # fmt: skip
    """By a process for each of `workers`: one picture of 1080p takes one core seconds."""

    def written(name: str, i: int, pixels: np.ndarray) -> str:
        path = str(work / f"{name}-{i}.png")
        cv2.imwrite(path, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return path

    originals = [written("original", i, pixels) for i, pixels in enumerate(material.originals)]
    waiting = [(name, i) for name in names for i in range(len(originals))]

    def work_through(part: list[tuple[str, int]]) -> dict[tuple[str, int], float]:
        runner = Runner(python, "ssimulacra2")
        try:
            return {
                (name, i): runner.ask(pictures=[originals[i], written(name, i, picture(name, i))])["score"]
                for name, i in part
            }
        finally:
            runner.close()

    with ThreadPoolExecutor(workers) as pool:
        parts = [waiting[k::workers] for k in range(workers)]
        scores = {key: score for part in pool.map(work_through, parts) for key, score in part.items()}
    return {name: [scores[name, i] for i in range(len(originals))] for name in names}
