"""What reuse does to the result, and what it costs and saves."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from benchmarks.common.metrics import PERFECT, decibels, ssim
from benchmarks.speed.measure import in_turns
from vidsr.backends.base import Backend, Immediate
from vidsr.frames import Frame, FrameBatch, PixelFormat
from vidsr.report import Report
from vidsr.reuse.reuse import ReuseCounts, _Canvas, _order, _Planner, reuse
from vidsr.reuse.stillness import TILE, WIDEST, Tolerance
from vidsr.run.job import Job
from vidsr.run.segments import Segment
from vidsr.run.stages import segment_stages
from vidsr.run.upscale import batches, upscale

WORST = 64  # side of the squares of the result that are looked at one by one, luma samples
SMALL = (720, 480)  # width and height at which comparing and painting are timed
SSIM_EVERY = 5  # frames, of which the second is compared: SSIM takes longer than all else
_HELD = 3  # results that the stages behind keep: painting cannot have their memory back yet


# --- the picture -----------------------------------------------------------------------------------------------------


class Quality:
    """Results with reuse against those without, frame after frame. All in levels of 255, whatever the depth."""

    def __init__(self, source: PixelFormat, result: PixelFormat, scale: int, context: int | None) -> None:
        self._source, self._result, self._scale = source, result, scale
        self._reach = 2 * -(-(context or 0) // TILE) + 1
        self._errors: list[float] = []
        self._ssim: list[float] = []
        self._worst: tuple[float, dict[str, Any]] = (0.0, {})
        self._before: tuple[Frame, Frame, Frame] | None = None
        self._change, self._still, self._seen = np.zeros(2), 0.0, 0.0

    def add(self, source: Frame, full: Frame, reused: Frame) -> None:
        """The next frame: as it came, enlarged as a whole, and enlarged with reuse."""
        unit, number = 2.0 ** (self._result.bits - 8), len(self._errors)
        same = all(map(np.array_equal, full.planes, reused.planes))
        lumas = [] if same else [np.divide(frame.planes[0], unit, dtype=np.float32) for frame in (full, reused)]
        self._errors.append(0.0 if same else float(np.square(lumas[0] - lumas[1]).mean(dtype=np.float64)))
        if number % SSIM_EVERY == 1:
            self._ssim.append(1.0 if same else ssim(*lumas))
        if not same:
            error, x, y, plane = worst_tile(full.planes, reused.planes, self._result)
            if error > self._worst[0]:
                place = {"frame": number, "pts": full.pts, "x": x, "y": y, "plane": plane}
                self._worst = error, place
        if self._before is not None:
            self._add_change(source, full, reused, self._before)
        self._before = source, full, reused

    def _add_change(self, source: Frame, full: Frame, reused: Frame, before: tuple[Frame, Frame, Frame]) -> None:
        # Only where all that the model sees is still: elsewhere the result has reasons to change.
        still = still_tiles(before[0].planes, source.planes, self._source)
        inside = cv2.erode(still.astype(np.uint8), np.ones((self._reach, self._reach), np.uint8)).astype(bool)
        side, unit = TILE * self._scale, 2.0 ** (self._result.bits - 8)
        for i, (after, earlier) in enumerate(zip((full, reused), before[1:])):
            change = cv2.absdiff(np.ascontiguousarray(after.planes[0]), np.ascontiguousarray(earlier.planes[0]))
            sums, sizes = _tile_sums(change, side, side)
            self._change[i] += sums[inside].sum() / unit
        self._still += sizes[inside].sum()
        self._seen += sizes.sum()

    def figures(self) -> dict[str, Any]:
        """psnr_db: of the luma of all frames together; ssim: the mean of one frame's in SSIM_EVERY.

        worst: the tile that is furthest off, of all planes and frames; frame: from 0; x, y: of its first sample, in
        luma samples of the result. shimmer: mean absolute change of luma from frame to frame where the source is
        still; still_share: how much of the picture that is.
        """
        error, place = self._worst
        full, reused = (self._change / self._still).tolist() if self._still else (None, None)
        share = float(self._still / self._seen) if self._seen else None
        return {
            "identical": not place, "psnr_db": min(PERFECT, decibels(float(np.mean(self._errors)))), "ssim": float(np.mean(self._ssim)),
            "worst": {"db": min(PERFECT, decibels(error)), **place},
            "shimmer": {"full": full, "reused": reused, "still_share": share},
        }  # fmt: skip


def worst_tile(
    a: Sequence[np.ndarray], b: Sequence[np.ndarray], format: PixelFormat
) -> tuple[float, int, int, int]:
    """(mean squared error in levels of 255, x, y, plane) of the tile in which two pictures differ most.

    Tiles are WORST luma samples each way, those at the edges cut off; x and y are in luma samples.
    """
    found = []
    for i, (plane, other) in enumerate(zip(a, b, strict=True)):
        x, y = format.chroma_shift if i else (0, 0)
        error = np.square(np.subtract(plane, other, dtype=np.float32) / 2.0 ** (format.bits - 8))
        sums, sizes = _tile_sums(error, WORST >> y, WORST >> x)
        row, column = np.unravel_index(int((sums / sizes).argmax()), sums.shape)
        found.append((float(sums[row, column] / sizes[row, column]), int(column) * WORST, int(row) * WORST, i))
    return max(found, key=lambda tile: tile[0])


def still_tiles(before: Sequence[np.ndarray], after: Sequence[np.ndarray], format: PixelFormat) -> np.ndarray:
    """[rows, columns] bool: the tiles of TILE luma samples that differ by no more than WIDEST in every plane."""
    still = []
    for i, (plane, other) in enumerate(zip(after, before, strict=True)):
        x, y = format.chroma_shift if i else (0, 0)
        tall, wide, unit = TILE >> y, TILE >> x, 2.0 ** (format.bits - 8)
        change = cv2.absdiff(np.ascontiguousarray(plane), np.ascontiguousarray(other))
        sums, sizes = _tile_sums(change, tall, wide)
        rows, columns = (range(0, side, step) for side, step in zip(change.shape, (tall, wide)))
        most = np.maximum.reduceat(np.maximum.reduceat(change, rows, 0), columns, 1)
        still.append((sums / sizes <= WIDEST.mean * unit) & (most <= WIDEST.most * unit))
    return np.asarray(np.all(still, 0))


def _tile_sums(values: np.ndarray, tall: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
    """(sum, number of samples), both [rows, columns] float64, of tiles of tall x wide; the last ones are cut off."""
    rows, columns = (np.arange(0, side, step) for side, step in zip(values.shape, (tall, wide)))
    sums = np.add.reduceat(np.add.reduceat(values, rows, 0, dtype=np.float64), columns, 1)
    return sums, np.outer(np.diff([*rows, values.shape[0]]), np.diff([*columns, values.shape[1]])).astype(np.float64)


def measure_quality(groups: Sequence[FrameBatch], backend: Backend, tolerances: Mapping[str, Tolerance], result: PixelFormat) -> dict[str, dict[str, Any]]:
    """What reuse computes of these frames with each of `tolerances`, and what becomes of the picture."""
    saved = {name: ReuseCounts() for name in tolerances}
    qualities = {name: Quality(groups[0].format, result, backend.scale, backend.context) for name in tolerances}
    sources = (frame for group in groups for frame in group.frames)
    ways = [reuse(groups, backend, tolerance, counts=saved[name]) for name, tolerance in tolerances.items()]
    for source, full, *reused in zip(sources, upscale(groups, backend), *ways, strict=True):
        for quality, frame in zip(qualities.values(), reused):
            quality.add(source, full, frame)
    return {
        name: {
            "frames": s.frames, "whole": s.whole, "model_pixels": s.computed_pixels, "all_pixels": s.all_pixels,
            "share": s.computed_pixels / s.all_pixels, "times_fewer": s.all_pixels / s.computed_pixels, **qualities[name].figures(),
        }
        for name, s in saved.items()
    }  # fmt: skip


# --- time ------------------------------------------------------------------------------------------------------------


def ratios(seconds: Mapping[str, list[float]], name: str) -> dict[str, Any]:
    """How many times as fast as "off" the way `name` is: in each round, and the median of that."""
    times = [off / on for off, on in zip(seconds["off"], seconds[name], strict=True)]
    return {"off_s": seconds["off"], "reuse_s": seconds[name], "ratios": times, "ratio": median(times)}


def model_path(groups: Sequence[FrameBatch], backend: Backend, tolerances: Mapping[str, Tolerance], repeats: int) -> dict[str, list[float]]:
    """Seconds from frames in memory to enlarged frames: "off", and with each of `tolerances`."""

    def way(tolerance: Tolerance | None) -> Callable[[], object]:
        return lambda: deque(upscale(groups, backend) if tolerance is None else reuse(groups, backend, tolerance), _HELD)

    ways = {"off": way(None), **{name: way(tolerance) for name, tolerance in tolerances.items()}}
    deque(upscale(groups[: backend.in_flight + 1], backend), 0)  # what libraries do at their first call
    return in_turns(ways, repeats)


def end_to_end(job: Job, backend: Backend, frames: int, end: int | None, tolerances: Mapping[str, Tolerance], repeats: int, folder: Path) -> dict[str, list[float]]:
    """Seconds from the file to the encoded segment, through the pipeline's own stages."""
    segment = Segment(0, None, end, None, frames)

    def way(tolerance: Tolerance | None) -> Callable[[], object]:
        own = replace(job, reuse=tolerance)
        return lambda: deque(segment_stages(own, segment, folder / "segment.mkv", backend, Report()), 0)

    return in_turns({"off": way(None), **{name: way(tolerance) for name, tolerance in tolerances.items()}}, repeats)


class Instant(Immediate):
    """In a model's place, at no cost: parts of one picture that lies ready."""

    description = "a picture that lies ready"

    def __init__(self, width: int, height: int, format: PixelFormat, scale: int, context: int | None, patch: int = 0) -> None:
        self.scale, self.context, self.patch = scale, context, patch
        chance = np.random.default_rng(0)
        shapes = format.plane_shapes(width * scale, height * scale)
        self._planes = [chance.integers(0, 1 << format.bits, shape, format.dtype) for shape in shapes]

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        shapes = batch.format.plane_shapes(batch.width * self.scale, batch.height * self.scale)
        planes = tuple(plane[:rows, :columns] for plane, (rows, columns) in zip(self._planes, shapes))
        return replace(batch, frames=tuple(replace(frame, planes=planes) for frame in batch.frames))

    def close(self) -> None:
        pass


def own_cost(groups: Sequence[FrameBatch], tolerance: Tolerance, like: Backend, repeats: int) -> dict[str, float]:
    """Milliseconds a frame that reuse itself takes on one core, the frames resized to SMALL, with a backend like `like`.

    plan_ms: comparing, choosing the pieces and cutting them out; paint_ms: copying the last result and pasting into it.
    Of each frame's times the least counts.
    """
    width, height = SMALL
    sample = groups[0]
    shapes = sample.format.plane_shapes(width, height)
    resized = [
        tuple(cv2.resize(plane, shape[::-1]) for plane, shape in zip(frame.planes, shapes))
        for group in groups for frame in group.frames
    ]  # fmt: skip
    singles = list(batches(map(Frame, resized), 1, sample.format, sample.color))
    backend = Instant(width, height, sample.format, like.scale, like.context, like.patch)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        times = [_own_times(singles, backend, tolerance) for _ in range(repeats)]
    finally:
        cv2.setNumThreads(threads)
    plan, paint = (np.min(times, 0).mean(0) * 1000).tolist()
    return {"plan_ms": plan, "paint_ms": paint, "both_ms": plan + paint}


def _own_times(singles: Sequence[FrameBatch], backend: Instant, tolerance: Tolerance) -> list[tuple[float, float]]:
    planner, canvas = _Planner(singles[0], backend, tolerance, ReuseCounts()), _Canvas(backend.scale)
    held: deque[Frame] = deque(maxlen=_HELD)
    times = []
    for single in singles:
        start = time.perf_counter()
        ordered = _order(single, [planner.plan(single.frames[0])], backend)
        planned = time.perf_counter()
        held.extend(canvas.paint(ordered))
        times.append((planned - start, time.perf_counter() - planned))
    return times


# --- where nothing is saved ------------------------------------------------------------------------------------------


def moving_frames(kind: str, width: int, height: int, count: int) -> list[Frame]:
    """Frames of 8-bit 4:2:0 that no reuse helps. "noise": all of it new in each; "scattered": half of the tiles, here
    and there, which is the most work to plan."""
    chance = np.random.default_rng(0)
    shapes = PixelFormat("yuv", 8, (1, 1)).plane_shapes(width, height)
    frames: list[Frame] = []
    for i in range(count):
        planes = [chance.integers(16, 236, shape, np.uint8) for shape in shapes]
        if kind == "scattered" and frames:
            fresh = chance.random((-(-height // TILE), -(-width // TILE))) < 0.5
            sides = (TILE, TILE // 2, TILE // 2)
            places = [
                fresh.repeat(side, 0).repeat(side, 1)[: plane.shape[0], : plane.shape[1]]
                for plane, side in zip(planes, sides)
            ]
            planes = [np.where(place, plane, old) for place, plane, old in zip(places, planes, frames[-1].planes)]
        frames.append(Frame(tuple(planes), i, 1))
    return frames
