"""Which model this machine can take: the best that reaches the source's frame rate, and what to expect of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib import metadata
from math import log2
from pathlib import Path

import vidsr
from vidsr.backends import GPU_BACKENDS
from vidsr.backends.base import BackendSpec
from vidsr.checkpoint import ModelInfo, find_model, installed_models
from vidsr.encode import default_threads
from vidsr.errors import ResumeError, UsageError
from vidsr.frames import Frame
from vidsr.hardware import cores, cpu_name
from vidsr.pipeline import Job
from vidsr.report import Report
from vidsr.segments import Workspace, file_sha256
from vidsr.speed import (
    Around,
    Movement,
    Speed,
    count_movement,
    measure_around,
    measure_model,
    part_frames,
    read_windows,
    seconds_a_frame,
)  # fmt: skip
from vidsr.speed_cache import SpeedCache
from vidsr.stitch import STDOUT

AUTO, BEST = "auto", "best"
FAMILY = ("balanced", "fast", "tiny")  # for episodes; the best first, each several times as fast as the one before
LOOKING, AROUND, MODEL = 0.6, 1.0, 0.8  # seconds: of reading and of counting, of all but the model, of each model
FULL_EFFORT = 12.0  # seconds of a part that deserve them; shorter ones get as much less
QUIET = 0.85  # of the threads' time, that a measurement had if nothing else did much


def family(scale: int) -> list[ModelInfo]:
    """The installed weights of FAMILY for that scale, the best first."""
    installed = {info.name: info for info in installed_models()}
    members = [installed.get(f"{name}-{scale}x") or installed.get(name) for name in FAMILY]
    return [info for info in members if info is not None]


def family_member(name: str, scale: int) -> ModelInfo:
    """The weights that `--model NAME --scale N` means; scale 0: the model's own.

    "best", and "auto" where nothing can be measured: the best of FAMILY. Anything else as `find_model`, UsageError as
    there, with these words besides.
    """
    if name in (AUTO, BEST):
        members = family(scale)
        if not members:
            raise UsageError(f"--model {name}: none of {', '.join(FAMILY)} is installed; name a weights file")
        return members[0]
    try:
        return find_model(name, scale)
    except UsageError as error:
        if Path(name).suffix:
            raise
        more = f"{AUTO} takes what this machine can, {BEST} the best of {', '.join(FAMILY)}"
        raise UsageError(f"{error}; {more}") from error


def decide(speeds: Sequence[float], rate: float) -> int:
    """Which to take of models with those frames a second, the best model first: the first that reaches `rate`, or,
    where none does, the fastest; of several as fast, which something else holds up then, the best."""
    needed = min(rate, max(speeds))
    return next(i for i, speed in enumerate(speeds) if speed >= needed)


def begun_with(output: Path) -> str | None:
    """The name of the model that unfinished work for `output` was begun with; None where there is no such work."""
    try:
        plan = Workspace(output).load_plan()
    except ResumeError:  # told when the run begins
        return None
    return None if plan is None else str(plan.settings.get("model")) or None


# ---- what to expect -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outlook:
    """What to expect of a run. fps: frames a second; rate: the source's; frames: still to be made, None if unknown.

    better: the fps of the best of the family, where `model` was taken because none reaches the rate; 0.0 if not known.
    """

    model: str
    fps: float
    rate: float
    frames: int | None
    better: float | None = None

    def line(self, now: datetime) -> str:
        """For people; `now` is local time."""
        said = f"{self.model}: about {_frames(self.fps)} a second here, the source has {_number(self.rate)}"
        if self.frames is not None:
            seconds = self.frames / self.fps
            try:
                end = now + timedelta(seconds=seconds + 30)  # to the nearest minute
                clock = f"{end:%H:%M}" if end.date() == now.date() else f"{end:%a %H:%M}"
                said += f"; done in about {_length(seconds)} ({clock})"
            except OverflowError:
                said += "; not done in this millennium"
        if self.better is not None:
            at = f", at about {_frames(self.better)} a second" if self.better else ""
            said += f". No model keeps up with the source here, so this is the fastest; --model {BEST} is closer{at}"
        return said


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.095 else f"{value:.2g}"


def _frames(fps: float) -> str:
    number = _number(fps)
    return f"{number} frame{'' if number in ('1', '1.0') else 's'}"


def _length(seconds: float) -> str:
    for unit, size, until in (("second", 1, 99), ("minute", 60, 90 * 60), ("hour", 3600, 48 * 3600)):
        if seconds < until:
            value = seconds / size
            words = f"{value:.0f}" if value >= 9.5 or size < 3600 else f"{value:.1f}".removesuffix(".0")
            return f"{max(1, round(value)) if words == '0' else words} {unit}{'' if words in ('0', '1') else 's'}"
    return f"{seconds / 86400:.0f} days"


# ---- measuring ------------------------------------------------------------------------------------------------------


class Forecast:
    """Frames a second to expect of a job with each of several models, from as little measuring as will do.

    job: with any model. seen: frames that were read of the source already: see `read_windows`. say: told before the
    machine is measured.
    """

    def __init__(
        self, job: Job, seen: Sequence[Sequence[Frame]], report: Report, say: Callable[[str], None],
        cache: SpeedCache | None = None,
    ) -> None:  # fmt: skip
        self._job, self._seen, self._report, self._say = job, seen, report, say
        self._cache = cache or SpeedCache()
        self._gpu = job.backend.name in GPU_BACKENDS
        self._effort = effort(job)
        self._windows: list[list[Frame]] | None = None
        self._movement: Movement | None = None
        self._around: Speed | None = None
        self._machine, self._precision = machine(job.backend)

    def fps(self, model: ModelInfo) -> float | None:
        """Frames a second with that model; None where no frame of the source can be read to measure with.

        Raises what opening the backend raises.
        """
        job, video = self._job, self._job.info.video
        if not self._look():
            return None
        speed = self._model(model)
        movement, around = self._count(speed.context), self._beside(speed.context)
        moving = movement.pixels(speed.context, min(part_frames(job.info, job.span) or 300, 300))
        pixels = video.width * video.height
        return 1 / seconds_a_frame(speed, around, moving, pixels, self._gpu, cores(), job.workers)

    def _look(self) -> list[list[Frame]]:
        if self._windows is None:
            self._windows = read_windows(self._job.info, self._job.span, self._seen, LOOKING * self._effort)
        return self._windows

    def _patch(self) -> int:
        if not self._gpu:
            return 0
        from vidsr.backends.cuda import CudaBackend

        return CudaBackend.patch

    def _count(self, context: int | None) -> Movement:
        if self._movement is None:
            job, seconds = self._job, LOOKING * self._effort
            self._movement = count_movement(
                self._look(), job.info.video, job.reuse, context, self._patch(), job.batch_size, seconds
            )
        return self._movement

    def _model(self, model: ModelInfo) -> Speed:
        """The speed of a model, found or measured.

        TensorRT's engines take minutes to build, too long for models that may not be taken: PyTorch's kernels on the
        same GPU are measured in their place. They are slower, so what reaches the rate with them does with engines.
        """
        spec, seconds = replace(self._job.backend, model=str(model.path)), MODEL * self._effort
        if spec.name == "tensorrt":
            spec = replace(spec, name="cuda")
        what = (
            f"{model.name} {file_sha256(model.path)[:16]} {spec.name} {self._precision} {spec.scale}x "
            f"tile {spec.tile} {self._size_class()}"
        )
        found = self._cache.get(self._machine, what, seconds)
        if found is not None:
            return found
        self._tell()
        frames = self._look()[len(self._look()) // 2]
        speed = measure_model(spec, frames, seconds, self._report.warn)
        quiet = self._gpu or speed.cores >= QUIET * threads()
        self._cache.put(self._machine, what, speed, quiet)
        return speed

    def _beside(self, context: int | None) -> Speed:
        if self._around is None:
            job, video, spec = self._job, self._job.info.video, self._job.backend
            seconds = AROUND * self._effort
            options = " ".join(f"{key}={value}" for key, value in sorted(job.encoder.options.items()))
            what = (
                f"around: {video.codec} {video.format.name}{' on the GPU' if job.decode_on_gpu else ''} {spec.scale}x "
                f"{job.encoder.encoder} {spec.result_format.name} {options} "
                f"reuse {'off' if job.reuse is None else 'on'} {self._size_class()}"
            )
            self._around = self._cache.get(self._machine, what, seconds)
            if self._around is None:
                self._tell()
                around = Around(
                    job.info, spec.scale, job.encoder, spec.result_format, spec.result_color, job.reuse,
                    job.batch_size, context, self._patch(), job.decode_on_gpu,
                )  # fmt: skip
                self._around = measure_around(around, self._look(), seconds)
                self._cache.put(self._machine, what, self._around, True)  # the cores' own time hardly knows of others
        return self._around

    def _size_class(self) -> str:
        """Sizes within a factor of 1.4 are as fast a pixel."""
        video = self._job.info.video
        return f"2^{round(log2(video.width * video.height))} pixels"

    def _tell(self) -> None:
        if self._effort == 1:
            self._say("measuring how fast this machine is, for a few seconds; the result is kept")
            self._say = lambda line: None


def effort(job: Job) -> float:
    """How much of the time for measuring a job deserves, 0.25 to 1: a clip of seconds is soon done, and whoever wants
    a stream is waiting for it."""
    if job.output == STDOUT:
        return 0.25
    frames = part_frames(job.info, job.span)
    return 1.0 if frames is None else min(1.0, max(0.25, frames / float(job.info.video.rate) / FULL_EFFORT))


def threads() -> int:
    """Threads that PyTorch's CPU kernels use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores(), int(asked)) if asked.isascii() and asked.isdecimal() and int(asked) else cores()


def machine(spec: BackendSpec) -> tuple[str, str]:
    """(all that speeds belong to besides what is measured, the precision that `spec` comes to)."""
    from vidsr.backends.planes import choose_precision

    device = "cuda" if spec.name in GPU_BACKENDS else "cpu"
    words = [cpu_name(), f"{cores()} cores", f"{threads()} threads", f"{default_threads()} of the encoder"]
    if device == "cuda":
        from vidsr.backends.gpu import gpu_name

        words.append(gpu_name())
    words += [f"torch {metadata.version('torch')}", f"av {metadata.version('av')}", f"vidsr {vidsr.__version__}"]
    return ", ".join(words), choose_precision(spec.precision, device)


# ---- for a run ------------------------------------------------------------------------------------------------------


def choose_model(
    wanted: str, job: Job, seen: Sequence[Sequence[Frame]], report: Report, say: Callable[[str], None] | None
) -> tuple[ModelInfo, Outlook | None]:
    """The weights for `job`, all of whose other choices are made, and what to expect of the run.

    wanted: a model by name or path, "best" or "auto". Unfinished work goes on with the model it was begun with.
    say: told what is being done; None where nobody wants to know what to expect, so that nothing is measured for that.
    """
    scale, tell = job.backend.scale, say or (lambda line: None)
    chosen = None if wanted == AUTO else family_member(wanted, scale)
    if wanted == AUTO and not job.restart and job.output != STDOUT and (name := begun_with(job.output)):
        chosen = next((info for info in installed_models() if info.name == name), None)
        if chosen is not None:
            tell(f"going on with {name}, which this run was begun with; --restart chooses anew")
    rate, frames = float(job.info.video.rate), frames_left(job)
    if chosen is not None:
        if say is None or effort(job) < 1:  # the run itself tells sooner
            return chosen, None
        fps = Forecast(job, seen, report, tell).fps(chosen)
        return chosen, None if fps is None else Outlook(chosen.name, fps, rate, frames)
    members = family(scale)
    if len(members) < 2:
        return family_member(AUTO, scale), None
    forecast, speeds = Forecast(job, seen, report, tell), list[float]()
    for member in members:
        fps = forecast.fps(member)
        if fps is None:
            return members[-1], None  # nothing can be measured with: the run tells why
        speeds.append(fps)
        if fps >= rate:
            break
    i = decide(speeds, rate)
    better = speeds[0] if speeds[i] < rate and i > 0 else None
    return members[i], Outlook(members[i].name, speeds[i], rate, frames, better)


def frames_left(job: Job) -> int | None:
    """About how many frames are still to be made of a job, without those of segments that are finished already; None
    if that is unknown, or the player of a stream says how long it takes."""
    if job.output == STDOUT:
        return None
    work = Workspace(job.output)
    try:
        plan = None if job.restart else work.load_plan()
    except ResumeError:
        plan = None
    if plan is None:
        return part_frames(job.info, job.span)
    return sum(segment.packets for segment in plan.segments if not work.video_path(segment.index).exists())
