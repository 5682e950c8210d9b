"""The stages of one segment, composed, and a segment as a unit of work that anybody can do.

    decode (and weave) ─► batch ─► upscale ─► finish ─► encode ─► segment file
                            (reuse: only what moves)

Every stage is a generator over the one before it; prefetch() puts decoding and upscaling into threads of their own, so
that both overlap with encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidsr.backends import open_backend
from vidsr.backends.base import Backend, BackendSpec
from vidsr.encode.encoder import Discarded, encode
from vidsr.errors import EncoderStalled
from vidsr.files import file_sha256
from vidsr.frames import Frame, SourceInfo
from vidsr.report import Report
from vidsr.reuse.reuse import ReuseCounts, reuse
from vidsr.reuse.stillness import Stillness
from vidsr.run.alpha import AlphaBeside
from vidsr.run.finish import NO_TASTE, finished
from vidsr.run.job import Job
from vidsr.run.prefetch import prefetch
from vidsr.run.segments import Segment, SegmentResult, segment_path
from vidsr.run.upscale import batches, upscale
from vidsr.source.weaving import Weaving, pictures

STALLS = 2  # of its encoder, that a segment may have


def make_segment(
    job: Job, segment: Segment, folder: Path, backend: Backend | None = None, report: Report | None = None,
    backend_lock: AbstractContextManager[Any] | None = None,
    taken: Callable[[int, ReuseCounts], None] = lambda frames, counts: None,
) -> SegmentResult:  # fmt: skip
    """Make one segment: its video in `folder`, and what is to be known of it.

    This is the unit that is resumed, and that others could be given: `job` and `segment` pickle, and whoever has the
    source under its path needs nothing else. A segment whose encoder stands still is made anew, STALLS times at most.

    backend: opened for this segment alone where none is given. backend_lock: where several threads share it.
    report: told of what was lost and slow; what is counted is in the result, too. taken: called as the encoder has
    taken each frame, with how many it has of this segment and what reuse came to; what it raises ends the work.
    """
    if backend is None:
        # Not what stands in for it: the segments of one result are made by one kind of backend.
        with closing(open_backend(replace(job.backend, instead=()), report.warn if report else None)) as own:
            own.settle(job.info.video.width, job.info.video.height, job.reuse is not None)
            return make_segment(job, segment, folder, own, report, None, taken)
    report = report or Report()
    for stalls in range(STALLS + 1):
        try:
            return _make_once(job, segment, segment_path(folder, segment.index), backend, report, backend_lock, taken)
        except EncoderStalled:
            if stalls == STALLS:
                raise
            report.warn(f"segment {segment.index + 1}: the encoder stood still; it is made once more")
    raise AssertionError


def _make_once(
    job: Job, segment: Segment, path: Path, backend: Backend, report: Report,
    backend_lock: AbstractContextManager[Any] | None, taken: Callable[[int, ReuseCounts], None],
) -> SegmentResult:  # fmt: skip
    counted, reused = Report(report.warn), ReuseCounts()
    frames: list[Frame] = []
    with closing(segment_stages(job, segment, path, backend, counted, backend_lock, reused)) as stages:
        for frame in stages:
            frames.append(replace(frame, planes=(), source=(), alpha=None))
            taken(len(frames), reused)
    frames.sort(key=lambda frame: frame.pts)
    digest = file_sha256(path) if frames else ""
    pts, durations = tuple(frame.pts for frame in frames), tuple(frame.duration for frame in frames)
    return SegmentResult(segment.index, pts, durations, digest, dict(counted.counts))


def segment_stages(
    job: Job, segment: Segment, path: Path | Discarded, backend: Backend, report: Report,
    backend_lock: AbstractContextManager[Any] | None = None, counts: ReuseCounts | None = None,
) -> Generator[Frame, None, None]:  # fmt: skip
    """The stages of one segment, composed. Yields each frame as the encoder has taken it. path: see `encode`. The rest:
    see `enlarged`."""
    video, spec = job.shown.video, job.backend
    with enlarged(
        job.info, segment, backend, report, job.batch_size, job.reuse, job.decode_on_gpu, backend_lock, counts,
        job.weaving, spec if job.encoder.alpha else None,
    ) as upscaled, finishing(upscaled, job) as frames:
        yield from encode(
            frames, path, job.encoder, spec.result_format, spec.result_color,
            video.time_base, video.rate, job.result.sample_aspect,
        )  # fmt: skip


@contextmanager
def enlarged(
    info: SourceInfo, segment: Segment, backend: Backend, report: Report, batch_size: int = 1,
    stillness: Stillness | None = None, decode_on_gpu: bool = False,
    backend_lock: AbstractContextManager[Any] | None = None, counts: ReuseCounts | None = None,
    weaving: Weaving | None = None, with_alpha: BackendSpec | None = None,
) -> Iterator[Iterator[Frame]]:  # fmt: skip
    """The stages before the encoder, composed: a segment's frames, enlarged; their threads end with the context.

    stillness: what counts as still and is reused; None: nothing. backend_lock: held while the backend is given work,
    where several segments are worked on at once. counts: counts what reuse comes to. weaving: the pictures it is of.
    with_alpha: what the backend was opened by, where the frames' alpha is enlarged as well; None: it is left out.
    """
    video = info.video
    decoded = pictures(info.path, video, segment.start, segment.end, segment.seek, report, decode_on_gpu, None, weaving)
    alpha = None
    if with_alpha is not None and video.alpha:
        alpha = AlphaBeside(video.format, video.color, backend, backend_lock)
        decoded = alpha.taken_off(decoded)
    decoded = prefetch(decoded, depth=8, name="decode")
    grouped = batches(decoded, batch_size, video.format, video.color)
    if stillness is None:
        upscaled = upscale(grouped, backend, backend_lock)
    else:
        upscaled = reuse(grouped, backend, stillness, backend_lock, counts)
    if alpha is not None and with_alpha is not None:
        upscaled = alpha.given_back(upscaled, with_alpha.result_format, with_alpha.result_color)
    upscaled = prefetch(upscaled, depth=2, name="upscale")
    # Both by name: an error that lies about keeps the stages it came through, and with them their threads.
    with closing(decoded), closing(upscaled):
        yield upscaled


@contextmanager
def finishing(upscaled: Iterator[Frame], job: Job) -> Iterator[Iterator[Frame]]:
    """The stage between those of `enlarged` and the encoder, in a thread of its own where there is anything to do."""
    if job.shape is None and job.taste == NO_TASTE:
        yield upscaled
        return
    made = finished(upscaled, job.backend, job.result, job.taste)
    with closing(prefetch(made, depth=2, name="finish")) as frames:
        yield frames
