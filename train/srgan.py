"""The paper's "SRGAN": the generator against a discriminator that says how likely a picture is real.

Labels are smoothed and sometimes swapped. One step of the discriminator, then one of the generator, on the same batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from train.generators import build_generator, edge_gradients, untrained, update_average
from train.losses import CONTENT, discriminator_loss, feature_matching, generator_loss, noisy_labels
from train.networks import Discriminator
from train.optimisers import generator_optimiser
from train.options import Options
from train.perceptual import Perceptual
from train.run import Run, contrast


def train(options: Options, resume: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Train; returns the path of the exported weights. See `Run` for what interrupts and what is raised."""
    run = Run(options, resume, say)
    options = run.options
    raw, start = build_generator(options, load=resume is None)
    run.say(f"generator: {raw.NAME} {raw.hyperparameters}, starts as {start}")
    raw = raw.train().to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(raw).eval().requires_grad_(False)
    judge = Discriminator(options.critic_width).to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = generator_optimiser(options.optimiser, raw, options.rate)
    judge_optimiser = torch.optim.Adam(judge.parameters(), lr=options.critic_rate or options.rate)
    generator, discriminator, optimiser, judge_optimiser = run.prepare(
        average, generator=raw, discriminator=judge, optimiser=optimiser, judge_optimiser=judge_optimiser
    )
    content_loss = CONTENT[options.content]
    perceptual = Perceptual(options.perceptual).to(run.device) if options.perceptual else None
    alone = int(options.pretrain_epochs * run.epoch) if untrained(start) else 0  # steps of the content loss alone

    for lowres, highres in run.batches():
        optimiser.param_groups[0]["lr"] = run.rate(options.rate)
        judge_optimiser.param_groups[0]["lr"] = run.rate(options.critic_rate or options.rate)
        highres = highres.contiguous(memory_format=torch.channels_last)
        with run.autocast():
            fake = generator(lowres.contiguous(memory_format=torch.channels_last)).float()
        content = content_loss(fake, highres)
        loss = content
        run.record(loss__content=content, contrast=contrast(fake, highres))

        if run.step >= alone:
            judge.requires_grad_(True)
            real_labels, fake_labels = noisy_labels(
                len(fake), options.real_labels, options.fake_labels, options.flip, run.device
            )
            # Each by itself, as in the paper: BatchNorm then sees real pictures or fakes, never a mixture.
            with run.autocast():
                real_scores, fake_scores = discriminator(highres), discriminator(fake.detach())
            judging = discriminator_loss(real_scores, fake_scores, real_labels, fake_labels)
            judge_optimiser.zero_grad(set_to_none=True)
            run.accelerator.backward(judging)
            run.record(
                loss__discriminator=judging, discriminator__real=real_scores.sigmoid().mean(),
                discriminator__fake=fake_scores.sigmoid().mean(), **edge_gradients(discriminator=judge),
            )  # fmt: skip
            judge_optimiser.step()

            judge.requires_grad_(False)
            with run.autocast():
                adversarial = generator_loss(judge(fake))
                loss = loss + options.adversarial * adversarial
                if options.feature_matching:
                    loss = loss + options.feature_matching * feature_matching(judge, highres, fake)
                if perceptual:
                    loss = loss + options.perceptual_weight * perceptual(fake, highres)
            run.record(loss__adversarial=adversarial)

        if run.step >= alone + options.critic_first or run.step < alone:
            optimiser.zero_grad(set_to_none=True)
            run.accelerator.backward(loss)
            norm = nn.utils.clip_grad_norm_(raw.parameters(), options.clip or math.inf)
            run.record(loss__generator=loss, gradient__norm=norm, **edge_gradients(generator=raw))
            optimiser.step()
            update_average(average, raw, run.step, options.ema)
    return run.finish()
