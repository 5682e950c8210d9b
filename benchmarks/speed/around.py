"""Frames a second of the stages around a backend, by themselves and together. All of it needs PyAV."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import cycle, islice
from math import ceil
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from benchmarks.common.pictures import Source
from benchmarks.speed.measure import Effort, figures, make_batches, speed
from vidsr.backends.base import Backend
from vidsr.frames import Frame
from vidsr.run.upscale import upscale

if TYPE_CHECKING:
    from vidsr.run.job import Job

LEAST_FRAMES = 24  # of a segment, from decoding to its file: fewer would measure how it begins and ends
HELD_BYTES = 512 << 20  # enlarged frames kept for the encoder


def plan_job(source: Source, name: str, model: str, scale: int, folder: Path) -> Job:
    """The job that `vidsr --codec x264` would make of `source`'s clip."""
    from vidsr.choose.prepare import Options, prepare
    from vidsr.report import Report

    assert source.path is not None
    options = Options(scale=scale, output=folder / "result.mkv", overwrite=True, model=model, backend=name,
                      codec="x264")  # fmt: skip
    return prepare(source.path, options, Report())


def stages_alone(job: Job, source: Source, backend: Backend, effort: Effort, folder: Path) -> dict[str, dict[str, Any]]:
    """{"decode", "encode"}: of the clip, and of what `backend` makes of it, as many at once as `job` has workers."""
    from vidsr.encode.encoder import encode
    from vidsr.report import Report
    from vidsr.source.decode import decode

    assert source.path is not None
    video, spec, path, workers = job.info.video, job.backend, source.path, job.workers
    enlarged = _to_and_fro(_enlarged(source, backend, job.batch_size))

    def decoding(index: int) -> Iterator[Frame]:
        return decode(path, video, None, source.end(source.length), None, Report(), job.decode_on_gpu)

    def encoding(length: int) -> Callable[[], float]:
        def one(index: int) -> Iterator[Frame]:
            pictures = islice(cycle(enlarged), length)
            frames = (replace(f, pts=round(i / video.rate / video.time_base)) for i, f in enumerate(pictures))
            return encode(frames, folder / f"encoded-{index}.mkv", job.encoder, spec.result_format, spec.result_color,
                          video.time_base, video.rate, video.sample_aspect)  # fmt: skip

        return lambda: at_once(one, workers, workers)

    decoded = speed(lambda n: at_once(decoding, n * workers, workers), effort.part(0.25), workers * source.length)
    length = min(LEAST_FRAMES, source.length)
    per_second = length / encoding(length)()  # of each worker; it has warmed up, too
    length = max(length, min(source.length, round(effort.seconds * per_second)))
    return {"decode": decoded, "encode": figures(encoding(length), effort, workers * length)}


def end_to_end(job: Job, source: Source, backend: Backend, expected: float, effort: Effort, folder: Path) -> dict[str, Any]:
    """Through all stages from the clip to segment files, as many segments at once as `job` has workers.

    expected: frames a second, about.
    """
    from vidsr.report import Report
    from vidsr.run.segments import Segment
    from vidsr.run.stages import segment_stages

    assert source.path is not None
    wanted = effort.seconds * expected
    length = min(source.length, max(LEAST_FRAMES, ceil(wanted / job.workers)))
    segments = job.workers * max(1, round(wanted / (job.workers * length)))
    for batch in make_batches(source, job.batch_size)[: backend.in_flight]:
        backend(batch)  # warms up
    first, backend_lock = Segment(0, None, source.end(length), None, length), Lock()

    def one(index: int) -> Iterator[Frame]:
        segment = replace(first, index=index)
        return segment_stages(job, segment, folder / f"{index}.mkv", backend, Report(), backend_lock)

    return figures(lambda: at_once(one, segments, job.workers), effort, segments * length)


def at_once(make: Callable[[int], Iterator[Frame]], items: int, workers: int) -> float:
    """Run what `make(index)` gives for each of `items` to its end, `workers` of them at once; the seconds it took."""
    from vidsr.run.prefetch import in_parallel

    def consume(index: int, go_on: Callable[[], None]) -> None:
        frames = make(index)
        with closing(frames):  # type: ignore[type-var]
            for _ in frames:
                go_on()

    start = time.perf_counter()
    in_parallel(consume, range(items), workers)
    return time.perf_counter() - start


def _enlarged(source: Source, backend: Backend, batch: int) -> list[Frame]:
    """As many of the source's first frames, enlarged, as HELD_BYTES hold."""
    batches = make_batches(source, batch)
    frames: list[Frame] = []
    for frame in upscale(iter(batches), backend):
        frames.append(Frame(tuple(plane.copy() for plane in frame.planes), frame.pts, frame.duration))
        if len(frames) >= max(2, HELD_BYTES // sum(plane.nbytes for plane in frame.planes)):
            break
    return frames


def _to_and_fro(frames: Sequence[Frame]) -> list[Frame]:
    """Forwards and back, so that they can begin again without a cut."""
    return [*frames, *frames[-2:0:-1]]
