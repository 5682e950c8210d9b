"""A sprint: several generators, one after the other, in the minutes there are. See `run`."""

from __future__ import annotations

import copy
import dataclasses
import gc
import math
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from train.data.pack import CROP
from train.generators.build import build_generator
from train.judge.sources import SOURCES
from train.judge.validation import Validation, words
from train.options import STUDENTS, Options
from train.run.signals import StopSignals
from train.sprint.look import Log, export
from train.sprint.machine import Clock, check_codecs, choose_device, shared, use_wheels
from train.sprint.parts import Parts
from train.sprint.pool import Pool, default_size, open_workers
from train.sprint.steps import CriticStep, Rescue, Settings, Step, prepared
from vidsr.errors import VidsrError
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import installed_models, load_generator

BLOCK = 16  # steps given to a GPU at once; two blocks are under way at most
LOOK = 10.0  # seconds between two looks at the numbers
RESCUES = 3  # times that a stage goes back to weights that were all right, before it is given up
Say = Callable[[str], None]


@dataclass(frozen=True)
class Sprint:
    """What is asked for. plan: generators (names of STUDENTS, or CHANNELSxLAYERS) with their share of the minutes, of
    any sum. critic_share: of a generator's time, for the second stage, by its name; "": of the others'. init: by
    generator, as `Options.init`; others see `first_weights`. pool, first: pairs kept on the device (none given: see
    `pool.default_size`), and wanted before the first step.
    """

    parts: Path
    out: Path
    minutes: float
    plan: tuple[tuple[str, float], ...]
    settings: Settings = field(default_factory=Settings)
    scale: int = 4
    critic_share: dict[str, float] = field(default_factory=lambda: {"": 0.35})
    branches: bool = True
    init: dict[str, str] = field(default_factory=dict)
    device: str = "auto"
    workers: int | None = None
    pool: int | None = None
    first: int | None = None
    partial: bool = False
    export_minutes: float = 1.0
    seed: int = 0
    metadata: dict[str, str] = field(default_factory=dict)


def size_of(name: str) -> tuple[int, int]:
    """Channels and layers of a generator of the plan. ValueError for a name that is none."""
    if name in STUDENTS:
        return STUDENTS[name]
    try:
        channels, layers = (int(number) for number in name.split("x"))
        if channels < 4 or layers < 1:
            raise ValueError
    except ValueError:
        known = ", ".join(STUDENTS)
        raise ValueError(f"--plan: got {name!r}, expected one of {known}, or CHANNELSxLAYERS such as 48x12") from None
    return channels, layers


def run(sprint: Sprint, say: Say) -> list[Path]:
    """Train; returns the weights files, OUT/NAME.safetensors each, which are there from the first export on.

    ValueError and OSError, of one line, for what a user can mend; ValueError, after the others are trained, for
    generators that failed. SystemExit (after an export) for SIGINT and SIGTERM.
    """
    clock = Clock(sprint.minutes)
    for name, _ in sprint.plan:
        size_of(name)
        if (earlier := sprint.out / f"{name}.safetensors").exists():
            raise ValueError(f"{earlier} is there already: give another --out; --init {name}={earlier} goes on with it")
    for option, names in (("--init", set(sprint.init)), ("--critic-share", set(sprint.critic_share) - {""})):
        if odd := sorted(names - {name for name, _ in sprint.plan}):
            raise ValueError(f"{option} {odd[0]}: not in the plan")
    parts = Parts(sprint.parts, sprint.partial)
    if parts.missing:
        say(f"{parts.missing} of {len(parts.index['parts'])} parts are not there: going on with the others")
    packages = use_wheels(sprint.parts / "wheels", "av")
    check_codecs(say)
    cores = os.cpu_count() or 2
    workers = max(1, cores - 2) if sprint.workers is None else sprint.workers
    crops = shared((len(parts), CROP, CROP, 3))
    log = Log(sprint.out)
    try:
        with open_workers(crops, parts.odds, workers, sprint.scale, sprint.seed) as pairs:
            parts.decode_into(crops, min(14, cores))
            pairs.start()
            say(f"{len(parts)} crops, {workers} processes that degrade them, {clock.now():.0f} s since the start")
            device = choose_device(sprint.device)
            cuda = device.type == "cuda"
            pool = Pool(pairs, sprint.pool or default_size(sprint.scale, device), sprint.scale, device)
            yardstick = Validation(parts.validation(), SOURCES, device, sprint.scale)
            runner = _Runner(sprint, clock, pool, yardstick, log, say)
            pool.wait_for(min(pool.size, sprint.first or (512 if cuda else 16)), clock.left)
            return runner.run()
    finally:
        log.close()
        if packages:
            packages.cleanup()


def first_weights(name: str, sprint: Sprint) -> str:
    """What a generator of the plan begins as, as `Options.init`: what `sprint.init` says; weights of its name that came
    with the parts; or the largest, up to its size, of those that this sprint has trained and those installed: a smaller
    one is grown. Else interpolation."""
    if name in sprint.init:
        return sprint.init[name]
    if (brought := sprint.parts / "init" / f"{name}.safetensors").is_file():
        return str(brought)
    wanted = size_of(name)
    trained = [sprint.out / f"{other}.safetensors" for other, _ in sprint.plan if other != name]
    installed = [model.path for model in installed_models()]
    fitting: list[tuple[tuple[int, int], int, str]] = []
    for rank, path in enumerate([*reversed(installed), *trained]):  # of two as large, the one trained here
        if path.is_file():
            found: Any = load_generator(path)
            fits = isinstance(found, Compact) and found.activation == "prelu" and found.scale in (sprint.scale, 4)
            if fits and found.skip == "bilinear" and found.channels <= wanted[0] and found.layers <= wanted[1]:
                fitting.append(((found.channels, found.layers), rank - 100 * (found.scale != sprint.scale), str(path)))
    return max(fitting)[2] if fitting else "interpolation"


class _Runner:
    """The plan, worked off."""

    def __init__(self, sprint: Sprint, clock: Clock, pool: Pool, yardstick: Validation, log: Log, say: Say) -> None:
        self.sprint, self.clock, self.pool = sprint, clock, pool
        self.yardstick, self.log, self.say = yardstick, log, say
        self.stop = StopSignals()
        self._total = 0  # steps of the generator at work, both stages

    def run(self) -> list[Path]:
        sprint, device = self.sprint, self.pool.device
        torch.manual_seed(sprint.seed)
        torch.backends.cudnn.benchmark = True
        name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
        asked = {"plan": dict(sprint.plan), **dataclasses.asdict(sprint.settings), "critic_share": sprint.critic_share}
        self.log.write(event="start", device=name, torch=torch.__version__, seconds=round(self.clock.now(), 1), **asked)
        self.say(f"on {name}; bicubic: {words(self.yardstick.bicubic)}")
        written: list[Path] = []
        failed = []
        with self.stop:
            for index, (generator, share) in enumerate(sprint.plan):
                rest = sum(more for _, more in sprint.plan[index:])
                if (left := self.clock.left()) <= 0 or self.stop.received:
                    self.say(f"{generator}: no time left")
                    continue
                try:
                    written.append(self._train(generator, self.clock.now() + left * share / rest))
                except Exception as error:  # the others have paid for their minutes
                    failed.append(f"{generator}: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
                    self.log.write(event="failed", generator=generator, trace=traceback.format_exc())
                    self.say(f"{failed[-1]}; what it has exported stays, and its time goes to the others")
        if self.stop.received:
            raise SystemExit(128 + self.stop.received)
        self.say(f"done after {self.clock.now():.0f} s: {', '.join(map(str, written))}")
        if failed:
            raise ValueError(f"not all could be trained; {'; '.join(failed)}; more in {sprint.out / 'log.jsonl'}")
        return written

    def _train(self, name: str, end: float) -> Path:
        """Both stages of one generator, until the clock says `end`."""
        sprint, began = self.sprint, self.clock.now()
        channels, layers = size_of(name)
        options = Options(
            recipe="resnet", pack="", out="", init=first_weights(name, sprint), generator="compact",
            channels=channels, layers=layers, scale=sprint.scale, branches=sprint.branches,
        )  # fmt: skip
        try:
            raw, start = build_generator(options)
        except VidsrError as error:
            raise ValueError(str(error)) from None
        generator: Any = raw.train()
        generator = generator.to(self.pool.device, memory_format=torch.channels_last)
        average = copy.deepcopy(generator).eval().requires_grad_(False)
        figures = self.yardstick.measure(average)
        self.say(f"{name}: starts as {start}: {words(figures, self.yardstick.bicubic)}")
        self.log.write(event="generator", generator=name, start=start, seconds=round(began, 1), validation=figures)
        self._total = 0
        critic_share = sprint.critic_share.get(name, sprint.critic_share.get("", 0.0))
        content_end = began + (end - began) * (1 - critic_share)
        batch = self._stage(name, Step, generator, average, content_end, sprint.settings.batch)
        if critic_share and not self.stop.received and self.clock.now() < end:
            self._export(name, average, "content", f"{name}-content")
            self._stage(name, CriticStep, generator, average, end, batch)
        return sprint.out / f"{name}.safetensors"

    def _stage(self, name: str, kind: type[Step], generator: Compact, average: Compact, end: float, batch: int) -> int:
        """Returns the batch that fitted into memory."""
        began = self.clock.now()
        gc.collect()  # a step that could not be recorded holds itself, and its memory

        def make(size: int) -> Step:
            return kind(generator, average, self.pool, self.sprint.settings, size)

        step = prepared(make, batch, self.say)
        self.log.write(event="stage", generator=name, stage=kind.STAGE, batch=step.batch, recorded=step.recorded)
        pace, rescue = _Pace(self.pool.device), Rescue(step)
        looked, exported, at, factor, rescues = self.clock.now(), self.clock.now(), 0, 1.0, 0
        while ((now := self.clock.now()) < end or not step.steps) and not self.stop.received:
            step.set_rate((now - began) / max(1e-3, end - began), factor)
            for _ in range(pace.block):
                step()
            pace.wait()
            self.pool.refill()
            if self.clock.now() - looked > LOOK:
                if not self._look(name, step, step.steps - at, self.clock.now() - looked):
                    rescue.go_back()
                    factor, rescues = factor / 2, rescues + 1
                    if rescues > RESCUES:
                        self.say(f"{name}: given up in this stage; the weights of the last export stay")
                        break
                looked, at = self.clock.now(), step.steps
            if self.clock.now() - exported > 60 * self.sprint.export_minutes:
                if self._export(name, average, kind.STAGE, name, step):
                    rescue.keep()
                exported = self.clock.now()
        if not self._look(name, step, step.steps - at, self.clock.now() - looked):
            rescue.go_back()
        self._export(name, average, kind.STAGE, name, step)
        self._total += step.steps
        return step.batch

    def _look(self, name: str, step: Step, steps: int, seconds: float) -> bool:
        """Say and log the numbers of the last steps; whether they are numbers."""
        if fault := self.pool.workers.fault():
            self.say(f"{fault}; going on with the pairs there are and those of the other processes")
        if not steps:
            return True
        numbers = step.numbers(steps)
        if not all(map(math.isfinite, numbers.values())):
            self.say(f"{name}: the numbers became NaN or infinite: back to the weights before, at half the rate")
            self.log.write(event="rescue", generator=name, stage=step.STAGE, step=self._total + step.steps)
            return False
        speed, now = round(steps / max(seconds, 1e-3), 1), round(self.clock.now(), 1)
        self.log.write(
            event="look", generator=name, stage=step.STAGE, step=self._total + step.steps, seconds=now,
            steps_a_second=speed, fresh=self.pool.fresh, **{key: round(value, 6) for key, value in numbers.items()},
        )  # fmt: skip
        shown = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
        self.say(f"{now:.0f} s, {name}, {step.STAGE} {step.steps}: {speed:g} steps/s, {shown}, {self.pool.fresh} pairs")
        return True

    def _export(self, name: str, average: Compact, stage: str, file: str, step: Step | None = None) -> bool:
        steps = self._total + (step.steps if step else 0)
        figures = self.yardstick.measure(average)
        metadata = {
            "recipe": "sprint" if stage == "content" else "sprint-critic", "steps": str(steps), "degrade": "video",
            "minutes": f"{self.clock.now() / 60:.1f}", "loss": "l1", **self.sprint.metadata,
        }  # fmt: skip
        path = self.sprint.out / f"{file}.safetensors"
        try:
            written = export(average, path, figures, self.yardstick.bicubic, metadata)
        except OSError as error:
            self.say(f"{path}: could not be written ({error}); going on")
            return False
        now = round(self.clock.now(), 1)
        self.log.write(event="export", generator=name, stage=stage, step=steps, seconds=now, file=path.name,
                       written=written, validation=figures)  # fmt: skip
        self.say(f"{now:.0f} s, {path.name} at step {steps}: {words(figures, self.yardstick.bicubic)}")
        return written


class _Pace:
    """Keeps the host two blocks of steps ahead of a GPU and no more, so that the clock means something."""

    def __init__(self, device: torch.device) -> None:
        self.block = BLOCK if device.type == "cuda" else 1
        cuda = device.type == "cuda"
        self._events = [torch.cuda.Event(blocking=True) for _ in range(2)] if cuda else []  # the workers have the core

    def wait(self) -> None:
        """Called behind a block: until the block before it is done."""
        if self._events:
            self._events[0].record()
            self._events.reverse()
            self._events[0].synchronize()


__all__ = ["Sprint", "first_weights", "run", "size_of"]
