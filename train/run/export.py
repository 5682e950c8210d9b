"""Weights for vidsr, with what is known about them written inside."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

from train.judge.validation import Figures, Validation
from train.options import Options
from vidsr.models.base import Generator
from vidsr.models.checkpoint import save_generator

HALF_LOSS = 0.02  # dB of PSNR that weights in FP16 may cost at most


def export(
    generator: Generator, path: Path, options: Options, steps: int, minutes: float, metrics: Figures,
    validation: Validation, say: Callable[[str], None],
) -> None:  # fmt: skip
    """Write `generator` (FP32) to `path`, with its history; beside it X.fp16.safetensors where that costs < 0.02 dB.

    metrics: of `generator` on `validation`, by source. `options.metadata` (name, data, licence ...) goes in as it
    is. OSError when it cannot be written.
    """
    taught = {}
    if options.teacher:
        taught = {"teacher": Path(options.teacher).stem, "teacher_weight": f"{options.teacher_weight:g}"}
    measured = {name: {"generator": metrics[name], "bicubic": validation.bicubic[name]} for name in metrics}
    metadata = {
        "recipe": options.recipe,
        "steps": str(steps),
        "minutes": f"{minutes:.1f}",
        "degrade": options.degrade,
        "loss": options.content,
        **taught,
        "metrics": json.dumps(measured),
        **options.metadata,
    }
    save_generator(generator, path, metadata)
    half_path = path.with_suffix(".fp16.safetensors")
    half_path.unlink(missing_ok=True)
    rounded = validation.measure(copy.deepcopy(generator).half().float())
    loss = max(metrics[name]["psnr"] - rounded[name]["psnr"] for name in metrics)
    if loss < HALF_LOSS:
        save_generator(copy.deepcopy(generator).half(), half_path, metadata)
        say(f"wrote {path} and, {loss:.3f} dB worse, {half_path.name}")
    else:
        say(f"wrote {path}; no FP16 file beside it: that would cost {loss:.3f} dB, and {HALF_LOSS} is the limit")
