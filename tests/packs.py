"""Pictures and packs for the tests of the trainer."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from train.data.pack import CROP, Pack, PackWriter


def picture(seed: int, height: int = CROP, width: int | None = None) -> np.ndarray:
    """Flat shapes with dark outlines, [height, width, 3] uint8 RGB; a square where no width is given."""
    rng = np.random.default_rng(seed)
    width = width or height
    pixels = np.full((height, width, 3), rng.integers(100, 256, 3), np.uint8)
    for _ in range(40):
        center = tuple(int(v) for v in rng.integers(0, width, 2))
        radius = int(rng.integers(10, 60))
        cv2.circle(pixels, center, radius, tuple(int(v) for v in rng.integers(0, 256, 3)), -1)
        cv2.circle(pixels, center, radius, (20, 10, 30), 4, cv2.LINE_AA)
    return pixels


def make_pack(folder: Path, train: int = 8, kept: int = 2, size: int = CROP + 40) -> Pack:
    """A pack of `train` crops and `kept` pictures each for validation and test; every second one in folder "few"."""
    writer = PackWriter(folder)
    for seed in range(train):
        writer.add_crops([picture(seed)], path=f"{'few' if seed % 2 else 'many'}/{seed}.png")
    for number, split in enumerate(("validation", "test")):
        for seed in range(kept):
            name = f"{split}-{seed}"
            writer.add_whole(split, name, picture(1000 + 100 * number + seed, size), path=f"many/{name}.png")
    writer.finish(rejected={})
    return Pack.open(folder)
