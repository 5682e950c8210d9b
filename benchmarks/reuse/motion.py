"""What moves and what stands still in the original, and whether a result does so too.

How a result follows a change of the original is told by the share of that change which it has: the projection of its
own change on the original's, over a tile. That is 1 where it follows, 0 where it is frozen, and about 0 of noise,
however strong. Both are reduced to the source's size first: what is finer, no source could show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from benchmarks.reuse.film import Film, all_around, changes, tile_means, tile_most

TILE = 16  # samples of the source each way

# All in levels of 255, and found by looking at the four originals, which lie at 0 exactly in nearly all tiles that nobody
# drew anew: of the rest most have changed by 1 or 2 somewhere, by the rounding of colour and of compression.
STILL = 2.0  # at any sample: nothing has changed
# Root mean square over a tile of the original, at the source's size: it has moved. A line of one sample of the source
# that is 3 levels from its ground and moves aside comes to this.
MOVED = 1.0
SHOWN = 0.25  # of a change: as much of it as the full result must have, so that it can be missed. Less has been worn away
FOLLOWED = 0.5  # of what the full result shows of a change: the result shows it, too
FLICKER = 0.5  # mean change of a tile
NEARER = 0.6  # of the way from the own original to another frame's: it is that one's rather
DRAWN = 0.25  # of that way, further than the full result: something of another frame is in it
APART = 2.0  # root mean square between the originals of two frames, so that telling which one it is means something
# A source that nobody knows the original of: still is what changes by less than these on average over SPOT x SPOT and
# by its root mean square in a tile. Film grain passes (3 to 4 levels), lines that move do not.
SPOT, SPOT_STILL, GRAIN = 16, 2.0, 6.0
WORST = 10  # places that are named

_TINY = 1e-6  # squared levels, so that nothing is divided by 0


# --- what stands still -----------------------------------------------------------------------------------------------


def still_in_original(original: Film, scale: int, context: int | None) -> list[np.ndarray]:
    """[rows, columns] bool for each frame but the first: the source's tiles in which, and in all around them that the
    model sees, the original has not changed since the frame before."""
    found = []
    for n in range(1, len(original)):
        still = []
        for i in range(len(original.pictures[n])):
            x, y = original.format.chroma_shift if i else (0, 0)
            change = cv2.absdiff(original.plane(n, i), original.plane(n - 1, i))
            still.append(tile_most(change, TILE * scale >> y, TILE * scale >> x) <= STILL)
        found.append(all_around(np.all(still, 0), reach(context)))
    return found


def still_in_source(source: Film, context: int | None) -> list[np.ndarray]:
    """The same by the source's own measure: nothing but noise has changed."""
    found = []
    for n in range(1, len(source)):
        change = source.plane(n) - source.plane(n - 1)
        spots = tile_most(np.abs(cv2.blur(change, (SPOT, SPOT))), TILE, TILE)
        still = (spots <= SPOT_STILL) & (np.sqrt(tile_means(change**2, TILE)) <= GRAIN)
        found.append(all_around(still, reach(context)))
    return found


def reach(context: int | None) -> int:
    """How many tiles around one the model sees."""
    return -(-(context or 0) // TILE)


def shimmer(films: Mapping[str, Film], still: Sequence[np.ndarray], scale: int) -> dict[str, Any]:
    """How much each of `films` changes from frame to frame in the tiles that are `still`.

    Of each: mean, the mean absolute change of luma; flicker, the share of tiles that change by more than FLICKER on
    average; worst, the tile that changes most, and where. share: of the picture, how much is still. Where nothing is, of
    the films None.
    """
    count = sum(int(tiles.sum()) for tiles in still)
    found: dict[str, Any] = {"share": count / max(1, sum(tiles.size for tiles in still))}
    for name, film in films.items():
        total, flickering, worst = 0.0, 0, {"change": -1.0}
        for n, tiles in enumerate(still, 1):
            if not tiles.any():
                continue
            change = tile_means(np.abs(film.plane(n) - film.plane(n - 1)), TILE * scale)
            total += float(change[tiles].sum())
            flickering += int((change[tiles] > FLICKER).sum())
            peak = float(change[tiles].max())
            if peak > worst["change"]:
                row, column = np.argwhere(tiles & (change == peak))[0]
                worst = {"change": peak, **place(n, row, column, scale)}
        found[name] = {"mean": total / count, "flicker": flickering / count, "worst": worst} if count else None
    return found


# --- what moves ------------------------------------------------------------------------------------------------------


def recall(original: Film, off: Film, auto: Film, scale: int) -> dict[str, Any]:
    """How many of the tiles that move in the original move in the result, within a frame.

    moving: tiles and frames of the original that have moved since the frame before. shown: those of them that the full
    result shows (the rest has been worn away). recall: the share of those that the result with reuse shows as well; None
    where nothing is shown. missed: the worst of those it does not, and where.
    """
    truth, full, reused = (changes(film.reduced(scale)) for film in (original, off, auto))
    moving, shown = 0, 0
    missed: list[dict[str, Any]] = []
    for n, change in enumerate(truth):
        energy = tile_means(change**2, TILE)
        moves = np.sqrt(energy) >= MOVED
        if not moves.any():
            continue
        near = range(max(0, n - 1), min(len(truth), n + 2))
        parts = [np.max([_part(steps[k], change, energy) for k in near], 0) for steps in (full, reused)]
        visible = moves & (parts[0] >= SHOWN)
        frozen = visible & (parts[1] < FOLLOWED * parts[0])
        moving, shown = moving + int(moves.sum()), shown + int(visible.sum())
        for row, column in np.argwhere(frozen):
            without, with_reuse = (float(part[row, column]) for part in parts)
            size = float(np.sqrt(energy[row, column]))
            missed.append({"off": without, "reuse": with_reuse, "change": size, **place(n + 1, row, column, scale)})
    missed.sort(key=lambda one: one["change"] * (one["off"] - one["reuse"]), reverse=True)
    return {"moving": moving, "shown": shown, "recall": 1 - len(missed) / shown if shown else None,
            "missed_count": len(missed), "missed": missed[:WORST]}  # fmt: skip


def lateness(original: Film, off: Film, auto: Film, scale: int) -> dict[str, Any]:
    """The tiles that are another frame's, one or two before or after, rather than their own, where those without reuse
    are not.

    told: tiles and frames that differ from one of those frames, and so can be told apart. late: of those, how many are
    nearer to it by a clear margin. ghosts: how many have something of it, late ones included. worst: places, and shift,
    of which frame they are: -1 of the one before. part: how far from the own original to the other, with reuse and off.
    """
    truth, full, reused = (film.reduced(scale) for film in (original, off, auto))
    told, late, ghosts, found = 0, 0, 0, []
    for n in range(len(truth)):
        same = np.array_equal(full[n], reused[n])
        each: list[tuple[np.ndarray, ...]] = []
        for shift in (-2, -1, 1, 2):
            if not 0 <= n + shift < len(truth):
                continue
            way = truth[n + shift] - truth[n]
            energy = tile_means(way**2, TILE)
            apart = np.sqrt(energy) >= APART
            if same or not apart.any():
                each.append((apart, np.zeros_like(energy), np.zeros_like(energy), np.full(energy.shape, shift)))
                continue
            parts = [_part(film[n] - truth[n], way, energy) for film in (full, reused)]
            each.append((apart, *parts, np.full(energy.shape, shift)))
        apart, without, with_reuse, shifts = (np.array(values) for values in zip(*each))
        further = np.where(apart, with_reuse - without, -np.inf)
        ghost = (further >= DRAWN) & (with_reuse >= DRAWN)
        is_late = ghost & (with_reuse >= NEARER) & (without < 0.5)
        told += int(apart.any(0).sum())
        late, ghosts = late + int(is_late.any(0).sum()), ghosts + int(ghost.any(0).sum())
        further[~ghost] = -np.inf
        worst = further.argmax(0)
        for row, column in np.argwhere(ghost.any(0)):
            at = (worst[row, column], row, column)
            found.append({"late": bool(is_late[:, row, column].any()), "part": float(with_reuse[at]), "off": float(without[at]),
                          "shift": int(shifts[at]), **place(n, row, column, scale)})  # fmt: skip
    found.sort(key=lambda one: (one["late"], one["part"] - one["off"]), reverse=True)
    return {"told": told, "late": late, "ghosts": ghosts, "worst": found[:WORST]}


def _part(change: np.ndarray, of: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """The share of the change `of` that is in `change`, tile by tile. energy: the mean square of `of`."""
    return np.asarray(tile_means(change * of, TILE) / np.maximum(energy, _TINY))


def place(frame: int, row: int, column: int, scale: int) -> dict[str, int]:
    """frame: from 0. x, y: of the first sample of a source's tile, in luma samples of the result."""
    return {"frame": frame, "x": int(column) * TILE * scale, "y": int(row) * TILE * scale}
