"""Train a generator alone, against the picture itself (L1 or MSE): the paper's "ResNet", and the fast ones.

Reads from top to bottom: options, data, generator, loop. Everything a run leaves is in `Options.out`:
options.json, log.jsonl, checkpoint.pt (to go on from) and generator.safetensors (to use).
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from train.evaluate import Validation
from train.export import export
from train.pairs import CleanPairs, Pairs, VideoPairs
from train.state import State, StopSignals, update_average
from train.stills import load_stills
from vidsr.models import Compact, SRResNet

LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss}


@dataclass(frozen=True)
class Options:
    """What a run is made of. weights: see load_stills. The run ends after `steps` or `minutes`, whichever is first."""

    stills: str
    out: str
    generator: str = "srresnet"
    blocks: int = 8
    channels: int = 32
    layers: int = 8
    degrade: str = "none"
    loss: str = "l1"
    batch: int = 16
    crop: int = 96
    rate: float = 4e-4
    warmup: int = 100
    clip: float = 0.5
    ema: float = 0.999
    steps: int | None = None
    minutes: float | None = None
    checkpoint_minutes: float = 2.0
    validate_minutes: float = 4.0
    seed: int = 0
    bf16: bool | None = None
    weights: tuple[tuple[str, float], ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


class NotFinite(RuntimeError):
    """The loss or its gradient became NaN or infinite; the last checkpoint is from before that."""


def train(options: Options, resume: bool = False, say: Callable[[str], None] = print) -> Path:
    """Run the training; returns the path of the exported weights. SIGINT and SIGTERM end it after a checkpoint."""
    out, checkpoint = Path(options.out), Path(options.out) / "checkpoint.pt"
    if options.steps is None and options.minutes is None:
        raise ValueError("--steps or --minutes: got neither, expected at least one")
    if checkpoint.exists() and not resume:
        raise ValueError(f"{out} already holds a run: add --resume to go on with it, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    generator = build_generator(options).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(generator).eval().requires_grad_(False)
    optimiser = torch.optim.Adam(generator.parameters(), lr=options.rate)
    state = State(generator, average, optimiser, rng)
    if resume:
        state.load(checkpoint)
    (out / "options.json").write_text(json.dumps(asdict(options), indent=2) + "\n")

    validation, log = Validation(options.stills, options.weights, options.degrade, say), out / "log.jsonl"
    pairs = open_pairs(options)
    bf16 = options.bf16 if options.bf16 is not None else torch.ops.mkldnn._is_mkldnn_bf16_supported()
    saved = validated = time.monotonic()
    started = saved - state.seconds
    losses: list[float] = []
    with StopSignals() as stop, contextlib.closing(pairs):
        while (done := progress(options, state.step, time.monotonic() - started)) < 1 and not stop.received:
            optimiser.param_groups[0]["lr"] = rate_at(options, done, state.step)
            lowres, highres = pairs.batch(rng, options.batch, options.crop)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                result = generator(lowres.contiguous(memory_format=torch.channels_last))
            loss = LOSSES[options.loss](result.float(), highres)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(generator.parameters(), options.clip)
            if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
                raise NotFinite(f"loss {loss.item()}, gradient {norm.item()} at step {state.step}: lower --rate")
            optimiser.step()
            # The average starts short, so that it soon forgets the initial weights.
            update_average(average, generator, min(options.ema, (1 + state.step) / (10 + state.step)))
            losses.append(loss.item())
            state.step += 1
            state.seconds = time.monotonic() - started
            if time.monotonic() - validated > 60 * options.validate_minutes:
                validation.report(average, log, state.step, state.seconds / 60, float(np.mean(losses)))
                losses.clear()
                validated = time.monotonic()
            if time.monotonic() - saved > 60 * options.checkpoint_minutes:
                state.save(checkpoint)
                saved = time.monotonic()
        state.save(checkpoint)
    if stop.received:
        say(f"stopped at step {state.step}: the same command with --resume goes on")
        raise SystemExit(128 + stop.received)
    metrics = validation.report(average, log, state.step, state.seconds / 60, float(np.mean(losses or [0])))
    weights = out / "generator.safetensors"
    export(average, weights, asdict(options), state.step, state.seconds / 60, metrics, validation.bicubic)
    return weights


def progress(options: Options, step: int, seconds: float) -> float:
    """How much of the run is done, 0..1 and a little above: of its steps or its minutes, whichever is further."""
    by_steps = step / options.steps if options.steps else 0.0
    return max(by_steps, seconds / (60 * options.minutes) if options.minutes else 0.0)


def rate_at(options: Options, done: float, step: int) -> float:
    """Learning rate: a short linear warm-up, then a cosine that reaches zero when the run is done."""
    return options.rate * min(1.0, (step + 1) / options.warmup) * 0.5 * (1 + math.cos(math.pi * done))


def build_generator(options: Options) -> nn.Module:
    if options.generator == "compact":
        return Compact(options.channels, options.layers)
    from train.warmstart import start_as_interpolation

    generator = SRResNet(options.blocks)
    start_as_interpolation(generator)
    return generator


def open_pairs(options: Options) -> Pairs:
    if options.degrade == "video":
        return VideoPairs(options.stills, options.weights, options.seed)
    return CleanPairs(load_stills(options.stills, "train", options.weights, options.crop))


def publish(run: Path, weights: Path, metadata: dict[str, str], say: Callable[[str], None] = print) -> None:
    """Measure the averaged weights in `run`'s checkpoint and write them, with more metadata, to `weights`."""
    options = Options(**json.loads((run / "options.json").read_text()))
    generator = build_generator(options).eval()
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True)
    generator.load_state_dict(checkpoint["average"])
    pairs = tuple((pattern, weight) for pattern, weight in options.weights)
    validation = Validation(options.stills, pairs, options.degrade, say)
    about = asdict(options) | {"metadata": options.metadata | metadata}
    metrics = validation.measure(generator)
    export(generator, weights, about, checkpoint["step"], checkpoint["seconds"] / 60, metrics, validation.bicubic)
