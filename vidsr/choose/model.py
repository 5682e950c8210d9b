"""Which model this machine can take: the best that reaches the source's frame rate, and what to expect of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from vidsr.backends import backend_kind, open_backend
from vidsr.backends.base import Backend, BackendSpec
from vidsr.choose.forecast import Speed, measure
from vidsr.choose.samples import part_of, stretches
from vidsr.encode.codecs import CODECS
from vidsr.errors import BackendError, ResumeError, UsageError
from vidsr.frames import Shape
from vidsr.models.checkpoint import ModelInfo, find_model, installed_models, model_scale
from vidsr.mux.keep import STDOUT
from vidsr.report import Report
from vidsr.run.job import Job
from vidsr.run.segments import Plan, Workspace

BEST = "best"
FAMILY = ("best", "balanced", "fast", "tiny")  # for episodes; the best first, each some times as fast as the one before
USUAL = "balanced"  # of these, where no speed is measured; what GPUs are measured with first
PLACES = (0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875, 0.0625)  # wherever time runs out, they lie evenly
WINDOW = 12  # frames of each; a drawing stays for two or three
SECONDS = 2.5  # for each model
WORTH_MEASURING = 12.0  # seconds of a part; shorter ones are soon done
BINDS = 1.3  # times as fast without its encoder: that is what a run waits for
HURRY = 0.25  # of SECONDS for those, and for a stream, that somebody is waiting for


def family(scale: int, best: str = FAMILY[0]) -> list[ModelInfo]:
    """The installed weights of FAMILY for that scale, from the member `best` on, the best first."""
    installed = {info.name: info for info in installed_models()}
    names = FAMILY[FAMILY.index(best) :]
    members = [installed.get(f"{name}-{scale}x") or installed.get(name) for name in names]
    return [info for info in members if info is not None]


def family_member(name: str | None, scale: int) -> ModelInfo:
    """The weights that `--model NAME --scale N` means; scale 0: the model's own.

    "best": the best of FAMILY. None, where nothing can be measured: USUAL, or what comes after it. Anything else as
    `find_model`, UsageError as there, with these words besides.
    """
    if name is None or name == BEST:
        members = family(scale, name or USUAL) or family(scale)
        if not members:
            raise UsageError(f"--model {name or 'auto'}: none of {', '.join(FAMILY)} is installed; name a weights file")
        return members[0]
    try:
        return find_model(name, scale)
    except UsageError as error:
        if Path(name).suffix:
            raise
        more = f"auto takes what this machine can, {BEST} the best of {', '.join(FAMILY)}"
        raise UsageError(f"{error}; {more}") from error


def decide(speeds: Sequence[float], rate: float) -> int:
    """Which to take of models with those frames a second, the best model first: the first that reaches `rate`, or,
    where none does, the fastest; of several about as fast, which something else holds up then, the best."""
    needed = min(rate, 0.9 * max(speeds))
    return next(i for i, speed in enumerate(speeds) if speed >= needed)


def unfinished(output: Path) -> Plan | None:
    """The plan of unfinished work for `output`; None where there is none, or none that can be read."""
    try:
        return Workspace(output).load_plan()
    except ResumeError:  # told when the run begins
        return None


# ---- what to expect -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outlook:
    """What to expect of a run. rate: frames a second of the source; frames: still to be made, None if unknown.

    too_slow: `model` was taken because none of the family reaches the rate. faster_preset: the encoder's next faster
    one, if there is one.
    """

    model: str
    speed: Speed
    rate: float
    frames: int | None
    too_slow: bool = False
    faster_preset: str | None = None

    @property
    def encoder_binds(self) -> bool:
        """Whether nearly everything waits for the encoder."""
        alone = self.speed.unencoded
        return alone is not None and 1 / alone > BINDS * self.speed.fps

    def line(self, now: datetime) -> str:
        """For people; `now` is local time."""
        low, high = self.speed.range
        if high < 1.1 * low:
            low = high = self.speed.fps
        least = "at least " if self.speed.partial else ""
        said = f"{self.model}: {least}about {_frames(low, high)} a second here, the source has {_number(self.rate)}"
        if self.frames is not None:
            soon, late = self.frames / high, self.frames / low
            most = "at most " if self.speed.partial else ""
            said += f"; done in {most}{_lengths(soon, late)}{_clock(now, late)}"
        if self.speed.busy:
            said += ". Other programs kept the cores busy while this was measured; without them it is faster"
        if self.encoder_binds and self.faster_preset:
            said += f". The encoder is what holds this up: --preset {self.faster_preset} is faster, and its file larger"
        if self.too_slow:
            said += f". No model keeps up with the source here, so this is the fastest; --model {BEST} is closer"
        return said


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.095 else f"{value:.2g}"


def _frames(low: float, high: float) -> str:
    first, last = _number(low), _number(high)
    number = last if first == last else f"{first} to {last}"
    return f"{number} frame{'' if number in ('1', '1.0') else 's'}"


_UNITS = (("day", 86400, 48 * 3600), ("hour", 3600, 90 * 60), ("minute", 60, 99), ("second", 1, 0))  # name, size, from


def _lengths(soon: float, late: float) -> str:
    """Both in the unit of the later one."""
    unit, size, _ = next(unit for unit in _UNITS if late >= unit[2])
    first, last = (_counted(value / size, size >= 3600) for value in (soon, late))
    return (f"about {last}" if first == last else f"{first} to {last}") + f" {unit}{'' if last == '1' else 's'}"


def _counted(value: float, exact: bool) -> str:
    words = f"{value:.1f}".removesuffix(".0") if exact and value < 9.5 else f"{value:.0f}"
    return "1" if words == "0" else words


def _clock(now: datetime, seconds: float) -> str:
    try:
        end = now + timedelta(seconds=seconds + 30)  # to the nearest minute
    except OverflowError:
        return ""
    return f" ({end:%H:%M})" if end.date() == now.date() else f" ({end:%a %H:%M})"


# ---- for a run ------------------------------------------------------------------------------------------------------


def choose_model(
    wanted: str | None, job: Job, report: Report, say: Callable[[str], None] | None,
    opened: Callable[[BackendSpec], Backend] | None = None,
) -> tuple[ModelInfo, Outlook | None]:  # fmt: skip
    """The weights for `job`, all of whose other choices are made, and what to expect of the run.

    wanted: a model by name or path, "best", or None. Unfinished work goes on with the model it was begun with.
    say: told what is being done; None where nobody wants to know what to expect, so that nothing is measured for that.
    opened: opens the backends that are measured, in place of `open_backend`.
    """
    scale = job.backend.scale if job.shape is None else job.shape.least_scale(job.info.video.shape)
    tell = say or (lambda line: None)
    chosen = None if wanted is None else family_member(wanted, scale)
    begun = None if wanted or job.restart or job.output == STDOUT else unfinished(job.output)
    if begun and (name := begun.settings.get("model")):
        chosen = next((info for info in installed_models() if info.name == name), None)
        if chosen is not None:
            tell(f"going on with {name}, which this run was begun with; --restart chooses anew")
    rate, frames = job.shown.video.rate, part_of(job.info, job.span).frames
    if job.weaving is not None and frames is not None:
        frames = max(1, round(frames * rate / job.info.video.rate))
    hurry = job.output == STDOUT or (frames is not None and frames < WORTH_MEASURING * rate)
    members = [chosen] if chosen else family(scale)
    if len(members) < 2 and (say is None or hurry):  # the run itself tells sooner
        return chosen or family_member(None, scale), None
    if not hurry:
        tell("measuring how fast this machine is, for a few seconds")
    places = stretches(job.info, job.span, PLACES, WINDOW)
    gpu = backend_kind(job.backend.name).device == "gpu"
    speeds: dict[str, Speed] = {}
    # Begun where the answer is likely to be: GPUs take USUAL, CPUs rarely more than the fastest. Then up while the rate
    # is reached, or down until it is, so that the slowest are tried only where there is speed left.
    at = len(members) - max(1, len(family(scale, USUAL)) if gpu and chosen is None else 1)
    refused: BackendError | None = None
    refusing: set[str] = set()
    while 0 <= at < len(members) and members[at].name not in speeds.keys() | refusing:
        try:
            speed = measure(
                _with_model(job, members[at]), places, SECONDS * (HURRY if hurry else 1),
                opened or (lambda spec: open_backend(spec, report.warn)),
            )  # fmt: skip
        except BackendError as error:  # this one cannot be run there; smaller ones may
            if chosen is not None:
                raise
            refusing.add(members[at].name)
            refused, at = error, len(members) if speeds else at + 1
            continue
        if speed is None:
            return members[-1], None  # nothing can be measured with: the run tells why
        speeds[members[at].name] = speed
        at += -1 if speed.fps >= rate else 1
    if refused and not speeds:
        raise refused
    measured = [member for member in members if member.name in speeds]
    taken = measured[decide([speeds[member.name].fps for member in measured], float(rate))]
    left = None if job.output == STDOUT else frames_left(job, frames)
    slow = len(members) > 1 and speeds[taken.name].fps < rate and taken is not members[0]
    preset = CODECS[job.encoder.codec].faster_preset(job.encoder.options.get("preset"))
    return taken, Outlook(taken.name, speeds[taken.name], float(rate), left, slow, preset)


def _with_model(job: Job, model: ModelInfo) -> Job:
    """`job` with that model, to be measured.

    Minutes until a backend opens are too long for models that may not be taken: the one that stands in is slower, so
    what reaches the rate with it does with the other.
    """
    name = backend_kind(job.backend.name).measured_by or job.backend.name
    return replace(job, backend=natively(replace(job.backend, model=str(model.path), name=name), job.shape))


def natively(spec: BackendSpec, shape: Shape | None) -> BackendSpec:
    """`spec`; for a result that is made smaller to `shape`, at its model's own scale, so that this happens once."""
    return spec if shape is None or not spec.model else replace(spec, scale=model_scale(spec.model))


def frames_left(job: Job, frames: int | None) -> int | None:
    """About how many of a job's `frames` are still to be made, without those of segments that are finished already;
    None if that is unknown."""
    plan = None if job.restart else unfinished(job.output)
    if plan is None:
        return frames
    work = Workspace(job.output)
    return sum(segment.packets for segment in plan.segments if not work.video_path(segment.index).exists())
