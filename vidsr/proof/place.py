"""Whether the pictures of a result lie where those of its source do: a part that begins two rows too far is as large as
the right one, and much like it."""

from __future__ import annotations

import numpy as np

REACH = 2  # samples of the source; what lies further off is nearer at that than where it belongs
SHIFTS = [(0, 0), *((x, 0) for x in (-2, -1, 1, 2)), *((0, y) for y in (-2, -1, 1, 2))]
CLEARLY = 0.6  # of the squared difference where it belongs; what is plain or all noise is alike everywhere


class Place:
    """Over all pictures that are compared."""

    def __init__(self) -> None:
        self._errors = np.zeros(len(SHIFTS))

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        """Luma of a source and its result, reduced to the same size: [rows, columns] float."""
        rows, columns = before.shape
        if min(rows, columns) <= 4 * REACH:
            return
        inner = before[REACH:-REACH, REACH:-REACH]
        for i, (x, y) in enumerate(SHIFTS):
            beside = after[REACH + y : rows - REACH + y, REACH + x : columns - REACH + x]
            self._errors[i] += float(((inner - beside) ** 2).mean())

    @property
    def off(self) -> tuple[int, int]:
        """(columns, rows) of the source by which results lie too far right and down; (0, 0) where they belong."""
        nearest = int(self._errors.argmin())
        return SHIFTS[nearest] if self._errors[nearest] < CLEARLY * self._errors[0] else (0, 0)
