"""A run: its folder, its clock, its checkpoints, and what happens between its steps.

The recipes hold the training itself; everything around a step is here. In a run's folder lie options.json, log.jsonl
and TensorBoard's files (to look at), checkpoints/ (to go on from) and, at the end, generator.safetensors (to use).
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast
from torch import Tensor

from train.data.pack import Pack
from train.generators.branches import merged
from train.judge.validation import Validation, words
from train.options import Options
from train.run.checkpoints import Checkpoints, read_options
from train.run.export import export
from train.run.journal import Journal
from train.run.pairs import Teacher, open_pairs
from train.run.signals import StopSignals
from vidsr.backends.planes import cpu_has_bf16
from vidsr.models.base import Generator

LOOK = 20  # steps between two looks at the numbers: each look makes the device wait
FLATTEST = 0.1  # a generator whose pictures have less than this share of the originals' contrast has collapsed


class Diverged(ValueError):
    """The training went wrong (NaN, infinity, flat pictures); the checkpoints are from before that."""


class Run:
    """Everything around the steps of a recipe. say: takes one line for people.

    resume: the folder of a run to go on with; `options` then only extend it. ValueError for what does not fit.
    """

    def __init__(self, options: Options, resume: Path | None, say: Callable[[str], None] = print) -> None:
        self.folder = resume or Path(options.out)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", options.keep)
        # Precision is not left to accelerate: it wraps whole models, and the gradient penalty needs its critic in FP32.
        quiet = DistributedDataParallelKwargs(broadcast_buffers=False)
        self.accelerator = Accelerator(mixed_precision="no", kwargs_handlers=[quiet])
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process
        torch.backends.cudnn.benchmark = True  # all batches have one shape: cuDNN may try which kernels are fastest
        self.say = say if self.main else _silent
        self.step, self.seconds, self._saved = 0, 0.0, {}  # type: ignore[var-annotated]
        if resume:
            options = self._take_up(resume, options)
        elif self.checkpoints.paths():
            cure = f"--resume {self.folder} goes on with it, --out FOLDER starts another"
            raise ValueError(f"{self.folder} already holds a run: {cure}")
        self.options, self.pack = options, Pack.open(options.pack)
        if self._saved and self._saved["pack"] != self.pack.digest:
            self.say(f"{options.pack} has changed since the run began: its batches are not those it would have had")
        bf16 = options.precision == "bf16" or (options.precision == "auto" and _has_bf16(self.device))
        self.autocast = partial(torch.autocast, self.device.type, torch.bfloat16, enabled=bf16)
        crops = len(self.pack.train_crops(options.weights)[1])
        self.epoch = max(1, crops // (options.batch * self.accelerator.num_processes))
        self._parts: dict[str, Any] = {}
        torch.manual_seed(options.seed + self.accelerator.process_index)
        self.say(f"{self.folder}: {options.recipe} on {self.device}, {'bf16' if bf16 else 'fp32'}, "
                 f"{crops} crops, {self.epoch} steps an epoch")  # fmt: skip

    def _take_up(self, resume: Path, given: Options) -> Options:
        """The options of the run in `resume`, its end moved on by the steps or minutes `given`."""
        saved = read_options(resume)
        if saved.recipe != given.recipe:
            raise ValueError(f"{resume}: a run of {saved.recipe}, expected {given.recipe}")
        self._saved, path, damaged = self.checkpoints.load()
        for line in damaged:
            self.say(f"{line}: going on from {path.name}")
        self.step, self.seconds = self._saved["step"], self._saved["seconds"]
        if given.steps is None and given.minutes is None:
            return saved
        steps = None if given.steps is None else self.step + given.steps
        minutes = None if given.minutes is None else self.seconds / 60 + given.minutes
        return replace(saved, steps=steps, minutes=minutes)

    def prepare(self, average: Generator, **parts: Any) -> list[Any]:
        """Put networks and optimisers where they belong and into the state of the checkpoint, if there is one.

        Returns `parts` in order, wrapped for several processes where there are several.
        """
        average.to(self.device)
        self._parts = {"average": average, **parts}  # as they are, not as several processes wrap them
        self.average = average
        if self._saved:
            try:
                for name, part in self._parts.items():
                    part.load_state_dict(self._saved[name])
            except (KeyError, RuntimeError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise ValueError(f"{self.folder}: the checkpoint does not fit its options ({reason})") from None
            _set_random_state(self._saved["random"])
        if self.main:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "options.json").write_text(json.dumps(asdict(self.options), indent=2) + "\n")
        return list(self.accelerator.prepare(*parts.values()))

    def batches(self, teacher: Teacher | None = None) -> Iterator[tuple[Tensor, ...]]:
        """(lowres, highres) of each step until the run is done, with all that is due between two steps.

        With a teacher, what it makes of lowres is the third. Ends the process (after a checkpoint) on SIGINT and
        SIGTERM. Diverged when the numbers say so.
        """
        options = self.options
        self.validation = Validation.of_pack(self.pack, options.weights, options.degrade, self.device, options.scale)
        self.say("validation, bicubic: " + words(self.validation.bicubic))
        self.journal = Journal(self.folder, self.step, self.say) if self.main else None
        pairs = open_pairs(self.pack, options, self.device, self.accelerator.process_index, self.step, teacher)
        self._first, self._began, self._looked, self._waited = self.step, time.monotonic(), time.monotonic(), 0.0
        started, saved, validated = self._began - self.seconds, self._began, self._began
        with contextlib.closing(pairs), StopSignals() as stop:
            try:
                while True:
                    self.done, stopped = self._agree(self._progress(), float(stop.received))
                    if self.done >= 1 or stopped:
                        break
                    asked = time.monotonic()
                    batch = pairs.batch(self.step)
                    self._waited += time.monotonic() - asked
                    yield batch
                    self.step += 1
                    now = time.monotonic()
                    self.seconds = now - started
                    if self.step % LOOK == 0:
                        self._look()
                    by_step = options.checkpoint_steps and self.step % options.checkpoint_steps == 0
                    if by_step or now - saved > 60 * options.checkpoint_minutes:
                        self.save()
                        saved = time.monotonic()
                    if self.main and now - validated > 60 * options.validate_minutes:
                        self.validate()
                        validated = time.monotonic()
                if self.step > self._first:
                    self.save(last=True)
            except BaseException:
                self._close_journal()
                raise
        if stopped:
            self._close_journal()
            self.say(f"stopped at step {self.step}: --resume {self.folder} goes on")
            raise SystemExit(128 + int(stopped))

    def record(self, **values: Tensor | float) -> None:
        """Numbers of this step for TensorBoard; "__" in a name becomes its "/"."""
        if self.journal:
            self.journal.record({name.replace("__", "/"): value for name, value in values.items()})

    def rate(self, base: float) -> float:
        """The learning rate of this step. cosine: a short linear warm-up, then down to zero at the run's end."""
        if self.options.schedule == "constant":
            return base
        return base * min(1.0, (self.step + 1) / self.options.warmup) * 0.5 * (1 + math.cos(math.pi * self.done))

    def _progress(self) -> float:
        """How much of the run is done, 0..1: of its epochs, steps or minutes, whichever is furthest."""
        options = self.options
        ends = [
            (self.step, options.epochs and options.epochs * self.epoch),
            (self.step, options.steps),
            (self.seconds, options.minutes and 60 * options.minutes),
        ]
        return max(where / end for where, end in ends if end)

    def _agree(self, *values: float) -> list[float]:
        """The main process's `values` in every process, so that all stop at the same step."""
        if self.accelerator.num_processes == 1:
            return list(values)
        return broadcast(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()

    def _look(self) -> None:
        """Read the numbers since the last look; Diverged when they are not those of a training."""
        if not self.journal:
            return
        now = time.monotonic()
        speed, waiting = (self.step - self._first) / (now - self._began), self._waited / (now - self._looked)
        self._looked, self._waited = now, 0.0
        self.record(speed__steps_a_second=speed, speed__share_of_time_waiting_for_data=waiting)
        means = self.journal.means(self.step)
        kept = next((f"; {path} is from before" for path in self.checkpoints.paths()), "")
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise Diverged(f"{name} became {mean} by step {self.step}: lower --rate, or set --clip{kept}")
        if means.get("contrast", 1.0) < FLATTEST:
            raise Diverged(
                f"the pictures became flat by step {self.step} ({100 * means['contrast']:.0f} % of the originals' "
                f"contrast): lower --adversarial or --rate, or use a larger --batch{kept}"
            )
        left = self.seconds * (1 / self.done - 1) if self.done else math.inf
        self.journal.progress(self.step, self.done, left, speed, means)

    def _close_journal(self) -> None:
        if self.journal:
            self.journal.close()

    def save(self, last: bool = False) -> None:
        """A checkpoint. A disk that is full costs this checkpoint only, unless it is the `last`: OSError."""
        if not self.main:
            return
        if self.step % LOOK:
            self._look()  # what has diverged must not replace what has not
        state = {name: part.state_dict() for name, part in self._parts.items()}
        state |= {"step": self.step, "seconds": self.seconds, "pack": self.pack.digest, "random": _random_state()}
        try:
            self.checkpoints.save(state, self.step)
        except OSError as error:
            if last:
                raise
            self.say(f"{error}: going on; the next checkpoint is tried in {self.options.checkpoint_minutes:g} minutes")

    def validate(self) -> dict[str, dict[str, float]]:
        """Measure the averaged generator, write it down and say it."""
        metrics = self.validation.measure(self.average)
        if self.journal:
            self.journal.validation(self.step, self.seconds / 60, metrics, self.validation.strip(self.average))
        self.say(f"step {self.step}, {self.seconds / 60:.1f} min: {words(metrics, self.validation.bicubic)}")
        return metrics

    def finish(self) -> Path:
        """Validate and export the averaged generator; returns the path of its weights."""
        weights = self.folder / "generator.safetensors"
        if self.main:
            metrics = self.validate()
            self._close_journal()
            minutes = self.seconds / 60
            export(merged(self.average), weights, self.options, self.step, minutes, metrics, self.validation, self.say)
        self.accelerator.wait_for_everyone()
        return weights


def publish(run: Path, weights: Path, metadata: dict[str, str], say: Callable[[str], None] = print) -> None:
    """Measure the averaged weights in `run`'s newest checkpoint and write them, with more metadata, to `weights`."""
    from train.generators.build import build_generator

    options = read_options(run)
    options = replace(options, metadata=options.metadata | metadata)
    saved, _, damaged = Checkpoints(run / "checkpoints", options.keep).load()
    for line in damaged:
        say(line)
    generator, _ = build_generator(options, load=False)
    generator.load_state_dict(saved["average"])
    validation = Validation.of_pack(Pack.open(options.pack), options.weights, options.degrade, scale=options.scale)
    metrics = validation.measure(generator.eval())
    say(words(metrics, validation.bicubic))
    export(merged(generator), weights, options, saved["step"], saved["seconds"] / 60, metrics, validation, say)


def _has_bf16(device: torch.device) -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else cpu_has_bf16()


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _silent(_line: str) -> None:
    pass


def contrast(fake: Tensor, highres: Tensor) -> Tensor:
    """How much of the originals' contrast the made pictures have: the ratio of their standard deviations."""
    return fake.detach().float().std(dim=(1, 2, 3)).mean() / highres.std(dim=(1, 2, 3)).mean().clamp_min(1e-3)
