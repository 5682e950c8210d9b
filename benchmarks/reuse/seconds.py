"""What reuse saves of a run's time, and what it takes itself."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.common.pictures import BT601, YUV420, Source
from benchmarks.speed.measure import in_turns, plain_spec
from vidsr.backends import backend_kind, choose_backend, open_backend
from vidsr.backends.base import Backend, Immediate
from vidsr.frames import Frame, FrameBatch, PixelFormat
from vidsr.report import Report
from vidsr.reuse.reuse import reuse
from vidsr.run.job import Job
from vidsr.run.segments import Segment
from vidsr.run.stages import segment_stages
from vidsr.run.upscale import batches, upscale

Settings = Any  # what vidsr.choose.prepare.choose_reuse gives and vidsr.reuse.reuse.reuse takes
SMALL = (720, 480)  # width and height at which reuse alone is timed
MOVING_SIZE, MOVING_FRAMES, MOVING_TILE = (480, 270), 12, 16
_HELD = 3  # results that the stages behind keep: reuse cannot have their memory back yet


def ratios(seconds: Mapping[str, list[float]], name: str) -> dict[str, Any]:
    """How many times as fast as "off" the way `name` is: in each round, and the median of that."""
    times = [off / on for off, on in zip(seconds["off"], seconds[name], strict=True)]
    return {"off_s": seconds["off"], "reuse_s": seconds[name], "ratios": times, "ratio": median(times)}


def end_to_end(job: Job, segment: Segment, backend: Backend, settings: Mapping[str, Settings], repeats: int, folder: Path) -> dict[str, list[float]]:
    """Seconds from the file to the encoded segment, through the pipeline's own stages: "off", and with each of `settings`."""

    def way(chosen: Settings) -> Callable[[], object]:
        own = replace(job, reuse=chosen)
        return lambda: deque(segment_stages(own, segment, folder / "segment.mkv", backend, Report()), 0)

    return in_turns({"off": way(None), **{name: way(chosen) for name, chosen in settings.items()}}, repeats)


# --- reuse alone -----------------------------------------------------------------------------------------------------


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


def own_cost(groups: Sequence[FrameBatch], settings: Settings, like: Backend, repeats: int) -> float:
    """Milliseconds a frame that reuse itself takes on one core, the frames resized to SMALL, with a backend like `like`
    that computes nothing. Of all rounds the fastest counts."""
    width, height = SMALL
    sample = groups[0]
    shapes = sample.format.plane_shapes(width, height)
    resized = [
        replace(frame, planes=tuple(cv2.resize(plane, shape[::-1]) for plane, shape in zip(frame.planes, shapes)))
        for group in groups for frame in group.frames
    ]  # fmt: skip
    resized_groups = list(batches(resized, len(sample), sample.format, sample.color))
    backend = Instant(width, height, sample.format, like.scale, like.context, like.patch)
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            deque(reuse(resized_groups, backend, settings), _HELD)
            times.append(time.perf_counter() - start)
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    return 1000 * min(times) / len(resized)


# --- where nothing is saved ------------------------------------------------------------------------------------------


def measure_moving(kind: str, model: str, settings: Settings, repeats: int) -> dict[str, Any]:
    """What reuse costs where it saves nothing: seconds over those of plain upscaling, in more and shorter rounds."""
    pictures = tuple(moving_frames(kind, *MOVING_SIZE, MOVING_FRAMES))
    name = choose_backend()
    spec = plain_spec(name, model, 4, Source(kind, *MOVING_SIZE, pictures, YUV420, BT601))
    groups = list(batches(pictures, backend_kind(name).batch_size, YUV420, BT601))
    with closing(open_backend(spec)) as backend:
        list(upscale(groups[:2], backend))
        ways = {"off": lambda: list(upscale(groups, backend)), "reuse": lambda: list(reuse(groups, backend, settings))}
        seconds = in_turns(ways, 3 * repeats)
        own = own_cost(groups, settings, backend, repeats)
    over = [on / off for off, on in zip(seconds["off"], seconds["reuse"])]
    return {"kind": kind, "frames": MOVING_FRAMES, "off_s": seconds["off"], "reuse_s": seconds["reuse"], "ratios": over,
            "ratio": median(over), "own_ms": own}  # fmt: skip


def moving_frames(kind: str, width: int, height: int, count: int) -> list[Frame]:
    """Frames of 8-bit 4:2:0 that no reuse helps. "noise": all of it new in each; "scattered": half of the tiles, here
    and there, which is the most work to plan."""
    chance = np.random.default_rng(0)
    shapes = PixelFormat("yuv", 8, (1, 1)).plane_shapes(width, height)
    frames: list[Frame] = []
    for i in range(count):
        planes = [chance.integers(16, 236, shape, np.uint8) for shape in shapes]
        if kind == "scattered" and frames:
            fresh = chance.random((-(-height // MOVING_TILE), -(-width // MOVING_TILE))) < 0.5
            sides = (MOVING_TILE, MOVING_TILE // 2, MOVING_TILE // 2)
            places = [
                fresh.repeat(side, 0).repeat(side, 1)[: plane.shape[0], : plane.shape[1]]
                for plane, side in zip(planes, sides)
            ]
            planes = [np.where(place, plane, old) for place, plane, old in zip(places, planes, frames[-1].planes)]
        frames.append(Frame(tuple(planes), i, 1))
    return frames
