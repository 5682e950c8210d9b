"""Animations as their files hold them: small patches, laid over each other as a viewer does it, and made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Patch:
    """One picture of an animation, as the file has it. file: a whole file of this patch alone.

    x, y: where its upper left corner lies. over: laid over what is there, where it is transparent; else in its place.
    after: what becomes of its place before the next: it is kept, cleared, or put back as it was.
    """

    x: int
    y: int
    width: int
    height: int
    seconds: Fraction
    over: bool
    after: Literal["keep", "clear", "back"]
    file: bytes


def composed(
    patches: Iterable[tuple[Patch, np.ndarray]], width: int, height: int, dtype: np.dtype
) -> Iterator[np.ndarray]:  # fmt: skip
    """What a viewer shows, [height, width, 4] each, from patches and their pixels [rows, columns, 4].

    What reaches beyond the picture is cut away.
    """
    canvas = np.zeros((height, width, 4), dtype)
    for patch, pixels in patches:
        place = slice(patch.y, min(patch.y + patch.height, height)), slice(patch.x, min(patch.x + patch.width, width))
        there = canvas[place]
        before = there.copy() if patch.after == "back" else None
        pixels = pixels[: there.shape[0], : there.shape[1]]
        there[:] = _over(pixels, there) if patch.over else pixels
        yield canvas.copy()
        if patch.after == "clear":
            there[:] = 0
        elif before is not None:
            there[:] = before


def _over(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Porter and Duff's "over" of colours that are not premultiplied."""
    alpha, most = upper[:, :, 3:], np.iinfo(upper.dtype).max
    result = np.where(alpha == 0, lower, upper)
    mixed = ((alpha > 0) & (alpha < most))[:, :, 0]
    if mixed.any():
        a, b = upper[mixed].astype(np.float64) / most, lower[mixed].astype(np.float64) / most
        below = b[:, 3:] * (1 - a[:, 3:])
        total = a[:, 3:] + below
        color = (a[:, :3] * a[:, 3:] + b[:, :3] * below) / total
        result[mixed] = np.rint(np.concatenate([color, total], 1) * most).astype(upper.dtype)
    return result


def changed_box(before: np.ndarray | None, now: np.ndarray, even: bool = False) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of what differs between two pictures [H, W, C]; one pixel where nothing does.

    before: None: all. even: the upper left corner lies at even numbers, as WebP has it.
    """
    height, width = now.shape[:2]
    if before is None:
        return 0, 0, width, height
    differs = (before != now).any(2)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not rows.size:
        return 0, 0, 1, 1
    x0, y0 = int(columns[0]), int(rows[0])
    return (x0 & ~1, y0 & ~1, *_ends(columns, rows)) if even else (x0, y0, *_ends(columns, rows))


def _ends(columns: np.ndarray, rows: np.ndarray) -> tuple[int, int]:
    return int(columns[-1]) + 1, int(rows[-1]) + 1


def ticks(seconds: Sequence[Fraction], rate: int) -> list[int]:
    """How many `rate`-ths of a second each picture is shown, so that rounding never adds up."""

    def counted() -> Iterator[int]:
        end, done = Fraction(0), 0
        for shown in seconds:
            end += shown
            yield max(0, round(end * rate) - done)
            done = max(done, round(end * rate))

    return list(counted())
