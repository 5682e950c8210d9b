"""Sheets for people: the same crop of some frames, as the original, without and with reuse, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.common.labels import label, write_png
from benchmarks.common.material import as_picture
from benchmarks.reuse.film import Film
from vidsr.frames import ColorSpec

CROP = 256  # samples of the result, shown one to one
STEPS = (0, 1, 2, 3, 6, 12)  # the frames of a sheet, from the first one on
LOUDER = 8  # times: differences, around grey
_GAP, _LABEL = 4, 24


def write_sheet(path: Path, where: tuple[int, int, int], films: tuple[Film | None, Film, Film], color: ColorSpec, title: str) -> None:
    """films: original or None, without reuse, with it. where: first frame, and x and y of the crop. color: of the result.

    Columns: original, off, reuse, what reuse differs by, what off and reuse differ by from the frame before. Differences
    are LOUDER times as strong, grey is none. OSError when it cannot be written.
    """
    original, off, auto = films
    first, x, y = where
    height, width = off.pictures[0][0].shape
    x, y = max(0, min(x, width - CROP)), max(0, min(y, height - CROP))
    part = (slice(y, y + CROP), slice(x, x + CROP))
    names = ["original", "off", "reuse", f"reuse - off, x{LOUDER}", f"off - its frame before, x{LOUDER}", f"reuse - its frame before, x{LOUDER}"]
    rows = []
    for n in [first + step for step in STEPS if first + step < len(off)]:
        pictures = [as_picture(film.pictures[n], film.format, color)[part] for film in (original, off, auto) if film]
        loud = [_louder(auto.plane(n)[part], off.plane(n)[part])]
        loud += [_louder(film.plane(n)[part], film.plane(max(0, n - 1))[part]) for film in (off, auto)]
        rows.append((n, [*pictures, *loud]))
    shown = names if original else names[1:]
    wide = rows[0][1][0].shape[1]
    sheet = [label(title, (wide + _GAP) * len(shown), _LABEL), _row([label(name, wide, _LABEL) for name in shown])]
    for n, cells in rows:
        sheet += [_row(cells), label(f"frame {n}", (wide + _GAP) * len(shown), _LABEL)]
    write_png(path, np.concatenate(sheet))


def _row(cells: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.pad(cell, ((0, 0), (0, _GAP), (0, 0)), constant_values=255) for cell in cells], 1)


def _louder(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    gray = np.clip(128 + LOUDER * (after - before), 0, 255).round().astype(np.uint8)
    return np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB))


def most_reuse(off: Film, auto: Film) -> tuple[int, int, int]:
    """(first frame, x, y) of the crop in which reuse takes away most of what changes without it, over the frames of a sheet.

    That is flicker that is gone, or motion.
    """
    best = (-1.0, (0, 0, 0))
    gone: list[np.ndarray] = [np.zeros(auto.pictures[0][0].shape, np.float32)]
    for n in range(1, len(off)):
        without, with_reuse = (np.abs(film.plane(n) - film.plane(n - 1)) for film in (off, auto))
        gone.append(np.maximum(without - with_reuse, 0))
    tall, wide = (min(CROP, length) for length in gone[0].shape)
    span = min(STEPS[-1] + 1, len(off))
    for first in range(0, len(off) - span + 1, max(1, span // 2)):
        sums = cv2.integral(np.sum(gone[first : first + span], 0), sdepth=cv2.CV_64F)
        inside = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        best = max(best, (float(inside[row, column]), (first, int(column), int(row))))
    return best[1]
