"""SSIMULACRA2 of pictures, by processes of the environment that the peers are in too."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from benchmarks.peers.folder import (
    SCORER,
    Runner,
    Unusable,
    environment,
    environment_python,
    install,
    not_installed,
)


def open_scorer(folder: Path) -> Path:
    """The Python that scores, of the environment in `folder`, made and filled where it is not. Unusable when it cannot be."""
    python = environment(folder)
    install(python, SCORER)
    return python


def find_scorer(folder: Path) -> Path:
    """The same, of an environment that has all it needs already. Unusable where it has not."""
    python = environment_python(folder)
    if not python.exists() or not_installed(python, SCORER):
        raise Unusable("it is not installed; python -m benchmarks quality installs it")
    return python


def scores(
    pair: Callable[[int], tuple[np.ndarray, np.ndarray]], count: int, python: Path, workers: int, work: Path
) -> list[float]:  # fmt: skip
    """The scores of `count` pictures, at most 100, by `workers` processes: one picture of 1080p takes one core seconds.

    pair: gives the i-th original and what is to be scored, [H, W, 3] uint8 R'G'B' both, in any thread. python:
    `open_scorer`'s. work: for files in between. Unusable when a process fails.
    """

    def written(name: str, i: int, pixels: np.ndarray) -> str:
        path = str(work / f"score-{i}-{name}.png")
        cv2.imwrite(path, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return path

    def work_through(part: range) -> list[float]:
        if not part:
            return []
        runner = Runner(python, "ssimulacra2")
        try:
            found = []
            for i in part:
                original, picture = pair(i)
                paths = [written("original", i, original), written("other", i, picture)]
                found.append(float(runner.ask(pictures=paths)["score"]))
                for path in paths:
                    Path(path).unlink()
            return found
        finally:
            runner.close()

    with ThreadPoolExecutor(workers) as pool:
        parts = [range(k, count, workers) for k in range(workers)]
        found = [dict(zip(part, values)) for part, values in zip(parts, pool.map(work_through, parts))]
    return [found[i % workers][i] for i in range(count)]
