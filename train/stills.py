"""Still pictures: found, split into training and validation by content, decoded once into memory, cropped at random."""

from __future__ import annotations

import fnmatch
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

SUFFIXES = {".webp", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
FLAT = 1.0  # mean step between neighbouring pixels, in 8-bit levels, below which a crop teaches nothing
TRIES = 4  # crops looked at before the least flat one is taken


@dataclass(frozen=True)
class Still:
    """path: relative to the stills folder. pixels: [H, W, 3] uint8 RGB. weight: how often it is drawn, relative."""

    path: str
    pixels: np.ndarray
    weight: float


@dataclass
class Stills:
    """Pictures of one split, all at least as large as the crops drawn from them."""

    stills: list[Still]
    _odds: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        if not self.stills:
            raise ValueError("no stills: none found that are large enough, or all of them fell into the other split")
        weights = np.array([still.weight for still in self.stills], dtype=np.float64)
        self._odds = weights / weights.sum()

    def __len__(self) -> int:
        return len(self.stills)

    def draw(self, rng: np.random.Generator, size: int, min_scale: float = 0.5) -> np.ndarray:
        """A random crop [size, size, 3] uint8 with some detail, of a picture first scaled by min_scale..1 at random.

        Scaling down makes lines as thin, and the scene as dense, as in a 1080p episode; half of the crops keep scale 1.
        """
        best, best_detail = None, -1.0
        for _ in range(TRIES):
            pixels = self.stills[rng.choice(len(self.stills), p=self._odds)].pixels
            height, width = pixels.shape[:2]
            scale = float(rng.uniform(min_scale, 1.0)) if min_scale < 1 and rng.random() < 0.5 else 1.0
            side = min(round(size / scale), height, width)
            top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
            crop = pixels[top : top + side, left : left + side]
            detail = detail_of(crop)
            if detail > best_detail:
                best, best_detail = crop, detail
            if detail >= FLAT:
                break
        assert best is not None
        if best.shape[0] != size:
            best = cv2.resize(best, (size, size), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(best)


def detail_of(pixels: np.ndarray) -> float:
    """Mean absolute step between horizontal and vertical neighbours of green, in levels. pixels: [H, W, 3] uint8."""
    green = pixels[:, :, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean()) / 2


def is_validation(content: bytes, share: float = 0.05) -> bool:
    """Whether a file with this content is kept out of training: decided by the content alone, so for good."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") < share * 2**64


def load_stills(
    folder: str | Path, split: str, weights: tuple[tuple[str, float], ...] = (), min_side: int = 384
) -> Stills:
    """Decode the pictures under `folder` that belong to `split` ("train" or "validation").

    weights: (pattern, weight) pairs; the first pattern that matches a file's path or one of its folders (relative to
    `folder`) sets its weight, 1 when none does; pictures of weight 0 are left out of both splits.
    min_side: pictures with a shorter side are left out.
    """
    folder = Path(folder)
    stills = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        relative = path.relative_to(folder).as_posix()
        weight = _weight_of(relative, weights)
        if weight <= 0:
            continue
        content = path.read_bytes()
        if is_validation(content) != (split == "validation"):
            continue
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None or min(pixels.shape[:2]) < min_side:
            continue
        stills.append(Still(relative, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), weight))
    return Stills(stills)


def _weight_of(relative: str, weights: tuple[tuple[str, float], ...]) -> float:
    names = [relative, *relative.split("/")[:-1]]
    for pattern, weight in weights:
        if any(fnmatch.fnmatchcase(name, pattern) for name in names):
            return weight
    return 1.0
