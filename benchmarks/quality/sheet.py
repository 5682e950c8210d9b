"""Sheets of crops at 1:1, a row for each worn clip, a column for each upscaler; also blind, in an order that a key tells."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.common.labels import label, write_png
from benchmarks.common.metrics import luma
from benchmarks.quality.ugliness import EDGE_SLOPE, flats, slopes

SIDE = 240  # pixels of a crop, at most
WIDEST, TALLEST = 1700, 2200  # pixels of a page
_GAP, _LABEL = 6, 22
ORIGINAL = "original"


@dataclass(frozen=True)
class Row:
    """title: of the clip. crops: of each upscaler, by name, [SIDE, SIDE, 3] uint8 R'G'B', and of ORIGINAL."""

    title: str
    crops: Mapping[str, np.ndarray]


def meeting(picture: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of SIDE pixels, less where `picture` has less, where lines and flats meet.

    There the share of strong edges times the share of flats is largest. picture: [H, W, 3] uint8 R'G'B'.
    """
    y = luma(picture)
    height, width = (min(SIDE, side) for side in y.shape)

    def share(mask: np.ndarray) -> np.ndarray:
        sums = cv2.integral(mask.astype(np.float32), sdepth=cv2.CV_64F)
        return np.asarray(sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width])

    both = share(slopes(y)[2] >= EDGE_SLOPE) * share(flats(y))
    top, left = (int(i) for i in np.unravel_index(int(both.argmax()), both.shape))
    return slice(top, top + height), slice(left, left + width)


class Crops:
    """Crops kept as files between runs, so that a sheet does not need what was measured before to be made again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, *key: str) -> np.ndarray | None:
        """key: who made it, of what, and their digests."""
        path = self._path(key)
        read = cv2.imread(str(path)) if path.is_file() else None
        return None if read is None else cv2.cvtColor(read, cv2.COLOR_BGR2RGB)

    def put(self, crop: np.ndarray, *key: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(self._path(key)), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))

    def _path(self, key: tuple[str, ...]) -> Path:
        return self.folder / f"{key[0]}-{hashlib.sha256(json.dumps([SIDE, *key]).encode()).hexdigest()[:20]}.png"


def write_sheets(rows: Sequence[Row], names: Sequence[str], stem: Path) -> list[Path]:
    """The pages STEM-1.png, STEM-2.png …: in each row the crops of `names`, those that there are, labelled.

    A page is at most WIDEST wide and TALLEST tall; earlier pages are deleted. OSError when one cannot be written.
    """
    return _write([(row.title, [(name, row.crops.get(name)) for name in names]) for row in rows], stem)


def write_blind(rows: Sequence[Row], first: str, names: Sequence[str], folder: Path) -> list[Path]:
    """As `write_sheets`, as FOLDER/blind-N.png: `first` as it is, then `names` in another order in each row, called A, B …,
    and the original. FOLDER/key.json tells [{"clip", "A": name, "B": …}], row by row."""
    shown, keys = [], []
    for row in rows:
        order = [name for name in names if name in row.crops]
        random.shuffle(order)
        letters = {chr(ord("A") + i): name for i, name in enumerate(order)}
        cells = [(letter, row.crops.get(name)) for letter, name in letters.items()]
        shown.append((row.title, [(first, row.crops.get(first)), *cells, (ORIGINAL, row.crops.get(ORIGINAL))]))
        keys.append({"clip": row.title, **letters})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.json").write_text(json.dumps(keys, indent=1) + "\n")
    return _write(shown, folder / "blind")


Cells = tuple[str, Sequence[tuple[str, np.ndarray | None]]]


def _write(rows: Sequence[Cells], stem: Path) -> list[Path]:
    for old in stem.parent.glob(f"{stem.name}-[0-9]*.png"):
        old.unlink()
    if not rows:
        return []
    columns = max(len(cells) for _, cells in rows)
    width = min(SIDE, (WIDEST + _GAP) // columns - _GAP)
    fitting = TALLEST // (SIDE + 2 * _LABEL + _GAP)
    pages = -(-len(rows) // fitting)
    each = -(-len(rows) // pages)
    paths = []
    for page in range(pages):
        path = stem.with_name(f"{stem.name}-{page + 1}.png")
        sheet = np.concatenate([_band(row, columns, width) for row in rows[page * each : (page + 1) * each]])
        write_png(path, sheet)
        paths.append(path)
    return paths


def _band(row: Cells, columns: int, width: int) -> np.ndarray:
    title, cells = row
    band = np.full((SIDE + 2 * _LABEL + _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    band[:_LABEL] = label(title, band.shape[1], _LABEL, 0.5)
    for i, (name, crop) in enumerate(cells):
        left = i * (width + _GAP)
        band[_LABEL : 2 * _LABEL, left : left + width] = label(name, width, _LABEL, 0.5)
        if crop is not None:
            cut = max(0, crop.shape[1] - width) // 2
            crop = crop[:, cut : cut + width]
            band[2 * _LABEL : 2 * _LABEL + crop.shape[0], left : left + crop.shape[1]] = crop
    return band
