"""How fast this machine is at a job: the stages of the run itself, on stretches of the source, by the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from math import inf
from threading import Lock

from vidsr.backends.base import Backend, BackendSpec
from vidsr.encode.encoder import Discarded
from vidsr.errors import EncoderStalled, SourceError
from vidsr.frames import Frame, FrameBatch, SourceInfo, StreamInfo
from vidsr.machine import busy_seconds, cores
from vidsr.report import Report
from vidsr.run.job import Job
from vidsr.run.prefetch import in_parallel
from vidsr.run.segments import Segment
from vidsr.run.stages import enlarged, finishing, segment_stages
from vidsr.source.decode import decode

PIECE = (192, 96)  # of the first picture that a model is tried on, which may be very slow
TOO_LONG = 10.0  # seconds for a whole picture
TRYING = 2.0  # seconds, to find out
OTHERS = 0.1  # of the cores' time, that other programs may have where a machine counts as quiet


@dataclass(frozen=True)
class Speed:
    """How long a frame takes.

    seconds: a frame, as measured in each of several stretches; never empty, all above 0. busy: other programs had the
    cores meanwhile. partial: there was time for whole pictures only, or for a piece of one; what stands still is
    faster. frame_bytes: of the result, on average; None where that is not known. unencoded: a frame without its
    encoder; None where that was not measured, as on a CPU, whose cores both share.
    """

    seconds: tuple[float, ...]
    busy: bool = False
    partial: bool = False
    frame_bytes: float | None = None
    unencoded: float | None = None

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        return 1 / statistics.fmean(self.seconds)

    @property
    def range(self) -> tuple[float, float]:
        """Frames a second, at the least and at the most: two standard errors of what was measured around its mean."""
        mean, number = statistics.fmean(self.seconds), len(self.seconds)
        error = 2 * statistics.stdev(self.seconds) / number**0.5 if number > 1 else 0.0
        return 1 / (mean + error), 1 / max(mean - error, min(self.seconds))


def measure(
    job: Job, stretches: Sequence[Segment], seconds: float, open_backend: Callable[[BackendSpec], Backend]
) -> Speed | None:
    """How fast `job` is on `stretches`, in about `seconds`; None where none of them decodes.

    Each stretch's first frame does not count, which is computed whole and has to wait for its encoder to open. Two are
    measured at least, where they do not take several times as long. Raises what the backend or the encoder raises.
    """
    with closing(open_backend(job.backend)) as backend:
        device = backend.in_flight > 1
        others = _Others()
        if not device and (whole := _whole_frame(job, stretches, backend)) > TOO_LONG:
            return Speed((whole,), others.busy, partial=True)
        rounds = [stretches[i : i + job.workers] for i in range(0, len(stretches), job.workers)]
        if device:  # libraries choose kernels in the first round, and work is recorded
            _frame_seconds(job, rounds[0], backend, time.perf_counter() + seconds, Discarded())
        found: list[tuple[float, bool]] = []
        begin, others, encoded = time.perf_counter(), _Others(), Discarded()
        for chosen in rounds:
            one = _frame_seconds(job, chosen, backend, begin + 2 * seconds, encoded)
            found += [] if one is None else [one]
            if time.perf_counter() - begin > seconds * (1 if len(found) > 1 else 2):
                break
        counted = tuple(value for value, first in found if not first)
        if found and not counted:
            return Speed(tuple(value for value, _ in found), others.busy, partial=True)
        if not counted:
            return None
        alone = None
        if device and statistics.fmean(counted) < seconds / 4:  # slower ones wait for the model, and for minutes
            alone = _frame_seconds(job, rounds[0], backend, time.perf_counter() + seconds / 2, None)
        return Speed(counted, others.busy, False, encoded.frame_bytes(), alone[0] if alone else None)


class _Others:
    """What other programs do to the cores from now on."""

    def __init__(self) -> None:
        self._begin, self._all, self._own = time.perf_counter(), busy_seconds(), time.process_time()

    @property
    def busy(self) -> bool:
        used = busy_seconds() - self._all - (time.process_time() - self._own)
        return used > OTHERS * (time.perf_counter() - self._begin) * cores()


def _frame_seconds(
    job: Job, chosen: Sequence[Segment], backend: Backend, end: float, encoded: Discarded | None
) -> tuple[float, bool] | None:  # fmt: skip
    """(seconds a frame of these stretches, worked on as the run would: those of all workers at once; whether there was
    time for first frames only); None where nothing decodes. end: when to stop, by the clock of `perf_counter`.
    encoded: counts what comes of it; None: nothing is encoded."""
    backend_lock = Lock()

    def frames_a_second(segment: Segment, go_on: Callable[[], None]) -> tuple[float, bool]:
        times = [time.perf_counter()]
        try:
            with _stages(job, segment, backend, backend_lock, encoded) as stages:
                for _ in stages:
                    times.append(time.perf_counter())
                    if times[-1] > end:
                        break
                    go_on()
                else:
                    times[-1] = time.perf_counter()  # the encoder gave all it held
        except (SourceError, EncoderStalled):  # the run tells, if that is in its way
            return 0.0, False
        only = len(times) == 2
        taken = len(times) - 1 if only else len(times) - 2
        return taken / (times[-1] - times[0 if only else 1]) if taken > 0 else 0.0, only

    found = [one for one in in_parallel(frames_a_second, chosen, job.workers) if one[0]]
    return (1 / sum(fps for fps, _ in found), all(only for _, only in found)) if found else None


@contextmanager
def _stages(
    job: Job, segment: Segment, backend: Backend, backend_lock: Lock, encoded: Discarded | None
) -> Iterator[Iterator[Frame]]:  # fmt: skip
    if encoded is not None:
        with closing(segment_stages(job, segment, encoded, backend, Report(), backend_lock)) as stages:
            yield stages
    else:
        gpu, size = job.decode_on_gpu, job.batch_size
        with (
            enlarged(
                job.info, segment, backend, Report(), size, job.reuse, gpu, backend_lock, weaving=job.weaving,
                with_alpha=job.backend if job.encoder.alpha else None,
            ) as upscaled,
            finishing(upscaled, job) as stages,
        ):
            yield stages


def _whole_frame(job: Job, stretches: Sequence[Segment], backend: Backend) -> float:
    """`picture_seconds` of the first of these stretches; 0 where it does not decode."""
    frame = first_frame(job.info, stretches[0])
    return 0.0 if frame is None else picture_seconds(backend, frame, job.info.video)


def first_frame(info: SourceInfo, segment: Segment) -> Frame | None:
    """The first picture of a stretch of the source; None where it does not decode."""
    try:
        return next(decode(info.path, info.video, segment.start, segment.end, segment.seek, Report()), None)
    except SourceError:
        return None


def picture_seconds(backend: Backend, frame: Frame, video: StreamInfo, count: int = 1) -> float:
    """About how many seconds the backend takes for a whole picture, from a piece of one, `count` of them at once.

    The quickest of several tries, since all that goes wrong makes them slower, as soon as that is not TOO_LONG.
    """
    width, height = min(PIECE[0], video.width), min(PIECE[1], video.height)
    shapes = video.format.plane_shapes(width, height)
    planes = tuple(plane[:rows, :columns] for plane, (rows, columns) in zip(frame.planes, shapes))
    batch = FrameBatch((replace(frame, planes=planes),) * count, video.format, video.color)
    pieces = count * width * height
    whole, end = inf, time.perf_counter() + TRYING
    backend(batch)  # libraries choose how to do it
    while whole > TOO_LONG and (whole == inf or time.perf_counter() < end):
        begin = time.perf_counter()
        backend(batch)
        whole = min(whole, (time.perf_counter() - begin) * video.width * video.height / pieces)
    return whole
