"""The paper's "ResNet": a generator trained alone, against the picture itself. Also the fast generators' beginning."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from train.generators import build_generator, edge_gradients, load_teacher, update_average
from train.losses import content_with_teacher, drawn_losses
from train.optimisers import generator_optimiser
from train.options import Options
from train.run import Run, contrast


def train(options: Options, resume: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Train; returns the path of the exported weights. See `Run` for what interrupts and what is raised."""
    run = Run(options, resume, say)
    options = run.options
    raw, start = build_generator(options, load=resume is None)
    run.say(f"generator: {raw.NAME} {raw.hyperparameters}, starts as {start}")
    raw = raw.train().to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(raw).eval().requires_grad_(False)
    optimiser = generator_optimiser(options.optimiser, raw, options.rate)
    generator, optimiser = run.prepare(average, generator=raw, optimiser=optimiser)
    content_loss = content_with_teacher(options.content, options.teacher_weight)
    teacher = load_teacher(options, run.device)

    for lowres, highres, *taught in run.batches(teacher):
        optimiser.param_groups[0]["lr"] = run.rate(options.rate)
        with run.autocast():
            fake = generator(lowres.contiguous(memory_format=torch.channels_last))
        content = content_loss(fake.float(), highres, *taught)
        loss = content + drawn_losses(fake.float(), highres, *options.drawn)
        optimiser.zero_grad(set_to_none=True)
        run.accelerator.backward(loss)
        norm = nn.utils.clip_grad_norm_(raw.parameters(), options.clip or math.inf)
        gradients = edge_gradients(generator=raw)
        optimiser.step()
        update_average(average, raw, run.step, options.ema)
        run.record(loss__content=content, gradient__norm=norm, contrast=contrast(fake, highres), **gradients)
    return run.finish()
