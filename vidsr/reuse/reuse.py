"""Only what moves is computed: the rest of a picture is taken from the last result that it has.

Where a tile has changed (runs.py says which have), its result and that of all pixels it reaches is computed anew, from
a piece with so much source around it that no seam shows.

State belongs to one call, so to one segment: what a segment's frames become does not depend on those before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import cv2
import numpy as np

from vidsr.backends.base import Backend, Pending
from vidsr.frames import Frame, FrameBatch, PixelFormat
from vidsr.reuse.grain import overlaid
from vidsr.reuse.rectangles import merged
from vidsr.reuse.shown import Shown, exactly, without_noise
from vidsr.reuse.signature import TILE
from vidsr.reuse.stillness import Stillness

CALL_PIXELS = 2000  # what a call of the backend costs beside its pixels, in pixels
WHOLE_SHARE = 0.8  # pieces that cost more than this part of a whole frame are not worth cutting


@dataclass(frozen=True)
class Box:
    """A part of the source: columns x0 to x1, rows y0 to y1, luma samples."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.x1 - self.x0, self.y1 - self.y0

    def grown(self, by: int, width: int, height: int) -> Box:
        """With `by` samples more on each side, as far as the picture goes."""
        return Box(max(self.x0 - by, 0), max(self.y0 - by, 0), min(self.x1 + by, width), min(self.y1 + by, height))


@dataclass(frozen=True)
class Piece:
    """What to compute, and the part of that which is right and taken."""

    computed: Box
    taken: Box


@dataclass
class ReuseCounts:
    """What reuse came to. computed_pixels: source pixels given to the backend; all_pixels: those of all frames; frames,
    whole: frames seen, and those computed as a whole."""

    computed_pixels: int = 0
    all_pixels: int = 0
    frames: int = 0
    whole: int = 0

    @property
    def reused(self) -> float:
        """The share of all pixels that was taken from earlier results."""
        return 1 - self.computed_pixels / self.all_pixels if self.all_pixels else 0.0


def reuse(
    batches: Iterable[FrameBatch], backend: Backend, stillness: Stillness,
    backend_lock: AbstractContextManager[Any] | None = None, counts: ReuseCounts | None = None,
) -> Iterator[Frame]:  # fmt: skip
    """Each frame of `batches` enlarged by `backend`, in order, with its own pts and duration.

    Planes of a result are shared with later frames where nothing has changed: read them, do not write into them.
    backend_lock: held while a batch is submitted, where several threads share the backend. counts: counts up.
    """
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        return
    frames = (frame for batch in chain([first], batches) for frame in batch.frames)
    looked = (frames, first.width, first.height, first.format)
    shown = without_noise(*looked, stillness) if stillness.noise else exactly(*looked)
    planner = _Planner(first, backend, not stillness.noise, counts or ReuseCounts())
    canvas = _Canvas(first.format, backend.scale)
    waiting: deque[_Ordered] = deque()
    while group := tuple(islice(shown, len(first))):
        plans = [planner.plan(one.changed) for one in group]
        batch = replace(first, frames=tuple(one.frame for one in group))
        with backend_lock or nullcontext():
            waiting.append(_order(batch, group, plans, backend))
        if len(waiting) >= backend.in_flight:
            yield from canvas.paint(waiting.popleft())
    while waiting:
        yield from canvas.paint(waiting.popleft())


@dataclass
class _Ordered:
    """A batch, what is known of its frames, the pieces of each, what was submitted for them: (pending, its index)."""

    batch: FrameBatch
    shown: Sequence[Shown]
    plans: list[list[Piece]]
    pending: list[list[tuple[Pending, int]]]


def _order(batch: FrameBatch, shown: Sequence[Shown], plans: list[list[Piece]], backend: Backend) -> _Ordered:
    """Submit all pieces of a batch's frames, those of one size together."""
    sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, pieces in enumerate(plans):
        for j, piece in enumerate(pieces):
            sizes.setdefault(piece.computed.size, []).append((i, j))
    found: dict[tuple[int, int], tuple[Pending, int]] = {}
    for places in sizes.values():
        cuts = tuple(_cut(batch.frames[i], plans[i][j].computed, batch.format) for i, j in places)
        pending = _once(backend.submit(replace(batch, frames=cuts)))
        found |= {place: (pending, k) for k, place in enumerate(places)}
    return _Ordered(batch, shown, plans, [[found[i, j] for j in range(len(pieces))] for i, pieces in enumerate(plans)])


def _once(pending: Pending) -> Pending:
    """`pending` for several to ask: it is waited for by the first."""
    results: list[FrameBatch] = []

    def result() -> FrameBatch:
        if not results:
            results.append(pending())
        return results[0]

    return result


def _cut(frame: Frame, box: Box, format: PixelFormat) -> Frame:
    return replace(frame, planes=tuple(plane[part] for plane, part in zip(frame.planes, _parts(box, format))))


def _parts(box: Box, format: PixelFormat, scale: int = 1) -> list[tuple[slice, slice]]:
    """Where `box` lies in each plane of a picture `scale` times as large."""
    parts = []
    for i in range(1 if format.family == "gray" else 3):
        x, y = format.chroma_shift if i else (0, 0)
        rows = slice(box.y0 * scale >> y, -(-box.y1 * scale >> y))
        parts.append((rows, slice(box.x0 * scale >> x, -(-box.x1 * scale >> x))))
    return parts


class _Canvas:
    """The last result, which the next one is painted over."""

    def __init__(self, source: PixelFormat, scale: int) -> None:
        self._source, self._scale = source, scale
        self._planes: tuple[np.ndarray, ...] = ()
        self._format = source  # of the result, as soon as there is one

    def paint(self, ordered: _Ordered) -> Iterator[Frame]:
        height, width = ordered.batch.height, ordered.batch.width
        whole = Box(0, 0, width, height)
        for shown, pieces, pending in zip(ordered.shown, ordered.plans, ordered.pending):
            planes = self._planes
            if len(pieces) == 1 and pieces[0].taken == whole:
                waiting, k = pending[0]
                result = waiting()
                planes, self._format = result.frames[k].planes, result.format
            elif pieces:
                planes = tuple(plane.copy() for plane in planes)
                for piece, (waiting, k) in zip(pieces, pending):
                    result = waiting()
                    self._paste(result.frames[k].planes, piece, planes, result.format)
            if shown.changed is not None:
                self._planes = planes
            source = shown.frame.planes
            if shown.noise:
                planes = overlaid(planes, shown.noise, self._source, self._format)
                source = overlaid(source, shown.noise, self._source, self._source)
            yield replace(shown.frame, planes=planes, source=source)

    def _paste(
        self, source: tuple[np.ndarray, ...], piece: Piece, target: tuple[np.ndarray, ...], format: PixelFormat
    ) -> None:
        outer, inner, scale = piece.computed, piece.taken, self._scale
        within = Box(inner.x0 - outer.x0, inner.y0 - outer.y0, inner.x1 - outer.x0, inner.y1 - outer.y0)
        for plane, into, part, place in zip(
            source, target, _parts(within, format, scale), _parts(inner, format, scale), strict=True
        ):
            into[place] = plane[part]


class _Planner:
    """What has to be computed of each frame.

    exact: of all samples that the generator looks at. Otherwise of those within half as far: what lies further away
    changes a result by a level, by two or three at single samples (docs/evaluation.md).
    """

    def __init__(self, batch: FrameBatch, backend: Backend, exact: bool, counts: ReuseCounts) -> None:
        self.width, self.height, self.format = batch.width, batch.height, batch.format
        self.context, self.patch, self.counts = backend.context, backend.patch, counts
        self.reach = backend.context
        if self.reach is not None and not exact:
            self.reach = -(-self.reach // 4) * 2  # even, as halved chroma wants it

    def plan(self, changed: np.ndarray | None) -> list[Piece]:
        """The pieces to compute of the next frame; none where nothing has changed. changed: see `Shown`."""
        pieces = whole = self._whole()
        if changed is not None:
            pieces = self._pieces(changed)
            cost = sum(_pixels(piece.computed) + CALL_PIXELS for piece in pieces)
            if cost > WHOLE_SHARE * self.width * self.height:
                pieces = whole
        counts = self.counts
        counts.frames, counts.whole = counts.frames + 1, counts.whole + (pieces == whole)
        counts.all_pixels += self.width * self.height
        counts.computed_pixels += sum(_pixels(piece.computed) for piece in pieces)
        return pieces

    def _pieces(self, changed: np.ndarray) -> list[Piece]:
        reach = self.reach
        if not changed.any():
            return []
        if reach is None:
            return self._whole()
        if self.patch:
            return self._patches(changed, reach)
        # What would have to be computed at the least, before any time goes into rectangles.
        if _spread(changed, 2 * reach).mean() > WHOLE_SHARE:
            return self._whole()
        boxes = [
            Box(x0 * TILE, y0 * TILE, min(x1 * TILE, self.width), min(y1 * TILE, self.height))
            for x0, y0, x1, y1 in merged(changed, 4 * reach / TILE, CALL_PIXELS / TILE**2)
        ]
        taken = [box.grown(reach, self.width, self.height) for box in boxes]
        return [Piece(box.grown(reach, self.width, self.height), box) for box in taken]

    def _whole(self) -> list[Piece]:
        box = Box(0, 0, self.width, self.height)
        return [Piece(box, box)]

    def _patches(self, changed: np.ndarray, reach: int) -> list[Piece]:
        """Squares of one size on one grid, for devices that want the same work every time.

        On a CPU merged rectangles take half as long as squares of 32, 64 or 96 (three clips at 270p).

        Shifted inwards at the edges, which odd pictures with halved chroma do not allow: those are done as a whole.
        """
        x, y = self.format.chroma_shift
        if self.width % (1 << x) or self.height % (1 << y):
            return self._whole()
        reached = _spread(changed, reach)  # a patch is right in its own square only
        columns, rows = (windows(length, self.patch, self.context or 0) for length in (self.width, self.height))
        pieces = []
        for top, bottom, y0, y1 in rows:
            for left, right, x0, x1 in columns:
                if reached[y0 // TILE : -(-y1 // TILE), x0 // TILE : -(-x1 // TILE)].any():
                    pieces.append(Piece(Box(left, top, right, bottom), Box(x0, y0, x1, y1)))
        return pieces


def windows(length: int, patch: int, context: int) -> list[tuple[int, int, int, int]]:
    """Of each patch along one side: where it begins and ends with its context, and without."""
    size = min(patch + 2 * context, length)
    starts = range(0, length, patch)
    begins = [min(max(start - context, 0), length - size) for start in starts]
    return [(begin, begin + size, start, min(start + patch, length)) for begin, start in zip(begins, starts)]


def _spread(changed: np.ndarray, by: int) -> np.ndarray:
    """The tiles within `by` luma samples of one that has changed, and a little more."""
    side = 2 * -(-by // TILE) + 1
    return cv2.dilate(changed.astype(np.uint8), np.ones((side, side), np.uint8))


def _pixels(box: Box) -> int:
    width, height = box.size
    return width * height
