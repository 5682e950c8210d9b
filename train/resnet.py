"""Train a generator alone, against the picture itself (L1 or MSE): the paper's "ResNet", and the fast ones.

Reads from top to bottom: options, data, generator, loop. Everything a run leaves is in `Options.out`:
options.json, log.jsonl, checkpoint.pt (to go on from) and generator.safetensors (to use).
"""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from train.evaluate import evaluate
from train.export import export
from train.pairs import CleanPairs, Pairs, VideoPairs, validation_pairs
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
    """The loss became NaN or infinite; the last checkpoint is from before that."""


def train(options: Options, resume: bool = False, say: Callable[[str], None] = print) -> Path:
    """Run the training; returns the path of the exported weights. SIGINT and SIGTERM end it after a checkpoint."""
    if options.steps is None and options.minutes is None:
        raise ValueError("steps or minutes: got neither, expected at least one")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "options.json").write_text(json.dumps(asdict(options), indent=2) + "\n")
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)

    generator = build_generator(options).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(generator).eval().requires_grad_(False)
    optimiser = torch.optim.Adam(generator.parameters(), lr=options.rate)
    state = State(generator, average, optimiser, rng)
    if resume:
        state.load(out / "checkpoint.pt")

    pairs = open_pairs(options)
    held_out = load_stills(options.stills, "validation", options.weights, 420)
    fixed = {name: validation_pairs(held_out, name) for name in dict.fromkeys(["none", options.degrade])}
    bicubic = {name: evaluate(None, *pair) for name, pair in fixed.items()}
    say(f"{len(held_out)} validation pictures; bicubic {bicubic}")

    bf16 = options.bf16 if options.bf16 is not None else torch.ops.mkldnn._is_mkldnn_bf16_supported()
    stopped: list[int] = []
    handlers = {s: signal.signal(s, lambda number, _: stopped.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    log = (out / "log.jsonl").open("a")
    saved = validated = time.monotonic()
    started = saved - state.seconds
    losses: list[float] = []

    def progress() -> float:
        return max(
            state.step / options.steps if options.steps else 0.0,
            (time.monotonic() - started) / (60 * options.minutes) if options.minutes else 0.0,
        )

    def report() -> dict[str, Any]:
        metrics = {name: evaluate(average, *pair) for name, pair in fixed.items()}
        entry = {"step": state.step, "minutes": round(state.seconds / 60, 2), "loss": float(np.mean(losses or [0])),
                 "rate": optimiser.param_groups[0]["lr"], "validation": metrics}  # fmt: skip
        log.write(json.dumps(entry) + "\n")
        log.flush()
        gains = ", ".join(f"{n} {m['psnr']:.2f} dB ({m['psnr'] - bicubic[n]['psnr']:+.2f}) {m['ssim']:.4f} "
                          f"({m['ssim'] - bicubic[n]['ssim']:+.4f})" for n, m in metrics.items())  # fmt: skip
        say(f"step {state.step}, {entry['minutes']} min, loss {entry['loss']:.5f}: {gains}")
        losses.clear()
        return metrics

    try:
        while (done := progress()) < 1 and not stopped:
            rate = options.rate * 0.5 * (1 + math.cos(math.pi * done)) * min(1.0, (state.step + 1) / options.warmup)
            optimiser.param_groups[0]["lr"] = rate
            lowres, highres = pairs.batch(rng, options.batch, options.crop)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                result = generator(lowres.contiguous(memory_format=torch.channels_last))
            loss = LOSSES[options.loss](result.float(), highres)
            if not torch.isfinite(loss):
                raise NotFinite(f"loss is {loss.item()} at step {state.step}: go on from the checkpoint, lower the rate")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(generator.parameters(), options.clip)
            optimiser.step()
            # The average starts short, so that it forgets the initial weights.
            update_average(average, generator, min(options.ema, (1 + state.step) / (10 + state.step)))
            losses.append(loss.item())
            state.step += 1
            now = time.monotonic()
            state.seconds = now - started
            if now - validated > 60 * options.validate_minutes:
                report()
                validated = time.monotonic()
            if now - saved > 60 * options.checkpoint_minutes:
                state.save(out / "checkpoint.pt")
                saved = time.monotonic()
        state.save(out / "checkpoint.pt")
        weights = out / "generator.safetensors"
        export(average, weights, asdict(options), state.step, state.seconds / 60, report(), bicubic)
    finally:
        pairs.close()
        log.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if stopped:
        raise SystemExit(128 + stopped[0])
    return weights


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


@torch.no_grad()
def update_average(average: nn.Module, generator: nn.Module, decay: float) -> None:
    """Move `average` towards `generator`; BatchNorm's running statistics are averaged with the weights they suit."""
    for mean, value in zip(average.state_dict().values(), generator.state_dict().values()):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


@dataclass
class State:
    """All that a checkpoint holds: resuming goes on as if the run had never stopped."""

    generator: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    rng: np.random.Generator
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        checkpoint = {
            "generator": self.generator.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "numpy": self.rng.bit_generator.state,
            "torch": torch.get_rng_state(),
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = path.with_name(path.name + ".part")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def load(self, path: Path) -> None:
        checkpoint = torch.load(path, weights_only=True)
        self.generator.load_state_dict(checkpoint["generator"])
        self.average.load_state_dict(checkpoint["average"])
        self.optimiser.load_state_dict(checkpoint["optimiser"])
        self.rng.bit_generator.state = checkpoint["numpy"]
        torch.set_rng_state(checkpoint["torch"])
        self.step, self.seconds = checkpoint["step"], checkpoint["seconds"]
