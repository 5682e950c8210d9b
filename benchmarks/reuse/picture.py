"""One frame as it came out, and beside it what of it was new."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import cv2
import numpy as np

from benchmarks.common.labels import label, write_png
from benchmarks.common.material import as_picture
from benchmarks.reuse.film import Film, tile_most
from benchmarks.reuse.motion import TILE
from vidsr.frames import ColorSpec

PANEL = 720  # width of each of the two pictures in the PNG
GAP, FOOT = 8, 40
DIMMED = 0.3  # of the brightness is left where nothing is new
OUTLINE = (255, 200, 40)  # amber


@dataclass(frozen=True)
class Example:
    """A frame in which something moved. picture: [H, W, 3] uint8 R'G'B'.

    fresh: [rows, columns] bool, the tiles of `side` samples that differ from the frame before.
    """

    picture: np.ndarray
    fresh: np.ndarray
    side: int


def find_example(film: Film, scale: int, color: ColorSpec) -> Example | None:
    """Of the frames of a result with reuse that are new in part, about as much as usual, the one that differs most from
    the frame before; None where none is. color: of the result."""
    found = []
    for n in range(1, len(film)):
        tiles = fresh_tiles(film, n, TILE * scale)
        if tiles.any() and not tiles.all():
            moved = float(np.abs(film.plane(n) - film.plane(n - 1)).mean())
            found.append((float(tiles.mean()), moved, n, tiles))
    if not found:
        return None
    usual = median_low(share for share, *_ in found)
    near = [one for one in found if usual / 2 <= one[0] <= usual * 1.5]
    _, _, number, tiles = max(near, key=lambda one: one[1])
    return Example(as_picture(film.pictures[number], film.format, color), tiles, TILE * scale)


def fresh_tiles(film: Film, number: int, side: int) -> np.ndarray:
    """[rows, columns] bool: the tiles of side x side luma samples of which any sample differs from the frame before."""
    fresh = []
    for i, (plane, before) in enumerate(zip(film.pictures[number], film.pictures[number - 1])):
        x, y = film.format.chroma_shift if i else (0, 0)
        fresh.append(tile_most((plane != before).astype(np.uint8), side >> y, side >> x) > 0)
    return np.asarray(np.any(fresh, 0))


def marked(picture: np.ndarray, fresh: np.ndarray, side: int) -> np.ndarray:
    """`picture`, [H, W, 3] uint8, dark and without colour except in the tiles that are `fresh`."""
    gray = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    inside = _inside(picture.shape, fresh, side)
    return np.where(inside[..., None], picture, (gray * DIMMED).round().astype(np.uint8))


def _inside(shape: tuple[int, ...], fresh: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(fresh.repeat(side, 0).repeat(side, 1)[: shape[0], : shape[1]])


def write_picture(path: Path, example: Example) -> None:
    """The frame, and beside it the same with what was new in colour. OSError when it cannot be written."""
    height, width = example.picture.shape[:2]
    size = PANEL, round(PANEL * height / width)
    left = cv2.resize(example.picture, size, interpolation=cv2.INTER_AREA)
    right = cv2.resize(marked(example.picture, example.fresh, example.side), size, interpolation=cv2.INTER_AREA)
    inside = _inside((height, width), example.fresh, example.side).astype(np.uint8)
    small = cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(right, outlines, -1, OUTLINE, 2)
    words = ("one frame, enlarged", f"outlined: new, {example.fresh.mean():.0%} of the frame; dark: taken from earlier results")
    halves = [np.concatenate([shown, label(said, PANEL, FOOT)]) for shown, said in zip((left, right), words)]
    write_png(path, np.concatenate([halves[0], np.full((size[1] + FOOT, GAP, 3), 255, np.uint8), halves[1]], 1))
