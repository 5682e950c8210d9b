"""A few rectangles for many tiles."""

from __future__ import annotations

import numpy as np

_MOST_RUNS = 32  # more pieces than this are not merged one by one, which takes long


def merged(changed: np.ndarray, margin: float, call: float) -> list[tuple[int, int, int, int]]:
    """Rectangles (x0, y0, x1, y1), in tiles, that cover all that is True, at about the least cost.

    margin: tiles that a rectangle costs beyond its own width, and height; call: tiles that each costs besides.
    """
    boxes = _runs(changed)
    if len(boxes) > _MOST_RUNS:  # scattered all over: coarser, so that merging stays cheap
        rows, columns = changed.shape
        coarse = np.pad(changed, ((0, rows % 2), (0, columns % 2))).reshape(-(-rows // 2), 2, -(-columns // 2), 2)
        return [
            (2 * x0, 2 * y0, min(2 * x1, columns), min(2 * y1, rows))
            for x0, y0, x1, y1 in merged(np.any(coarse, (1, 3)), margin / 2, call / 4)
        ]
    found = np.array(boxes)
    left = np.ones(len(found), bool)

    def cost(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return (high[..., 0] - low[..., 0] + margin) * (high[..., 1] - low[..., 1] + margin) + call

    def gains(one: np.ndarray, others: np.ndarray) -> np.ndarray:
        low, high = np.minimum(one[..., :2], others[..., :2]), np.maximum(one[..., 2:], others[..., 2:])
        apart = cost(one[..., :2], one[..., 2:]) + cost(others[..., :2], others[..., 2:])
        return apart - cost(low, high)

    gain = gains(found[:, None], found[None])
    np.fill_diagonal(gain, -1)
    while True:
        i, j = divmod(int(gain.argmax()), len(found))
        if gain[i, j] < 0:
            break
        found[i] = [*np.minimum(found[i, :2], found[j, :2]), *np.maximum(found[i, 2:], found[j, 2:])]
        left[j] = False
        gain[j] = gain[:, j] = -1
        gain[i] = gain[:, i] = np.where(left, gains(found[i], found), -1)
        gain[i, i] = -1
    return [tuple(map(int, box)) for box in found[left]]  # type: ignore[misc]


def _runs(changed: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Runs of each row; those of following rows that are alike are one."""
    edges = np.diff(np.pad(changed, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    boxes: list[tuple[int, int, int, int]] = []
    open_runs: dict[tuple[int, int], int] = {}
    for row in range(len(changed) + 1):
        runs: set[tuple[int, int]] = set()
        if row < len(changed):
            starts, ends = np.flatnonzero(edges[row] == 1), np.flatnonzero(edges[row] == -1)
            runs = {(int(start), int(end)) for start, end in zip(starts, ends)}
        for run in [run for run in open_runs if run not in runs]:
            boxes.append((run[0], open_runs.pop(run), run[1], row))
        for run in runs:
            open_runs.setdefault(run, row)
    return sorted(boxes)
