"""The paper's SRWGAN-GP: the generator against a critic with gradient penalty.

The critic's scores of real and made pictures differ by an estimate of the Wasserstein distance between the two. One
step of the critic, then one of the generator, on the same batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from train.generators import build_generator, edge_gradients, load_teacher, untrained, update_average
from train.losses import (
    content_with_teacher,
    critic_loss,
    drawn_losses,
    feature_matching,
    gradient_penalty,
    wasserstein_generator_loss,
)
from train.networks import Critic
from train.optimisers import generator_optimiser
from train.options import Options
from train.pairs import CleanPairs
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
    judge = Critic(options.critic_width).to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = generator_optimiser(options.optimiser, raw, options.rate)
    critic_optimiser = torch.optim.Adam(judge.parameters(), lr=options.critic_rate or options.rate)
    generator, critic, optimiser, critic_optimiser = run.prepare(
        average, generator=raw, critic=judge, optimiser=optimiser, critic_optimiser=critic_optimiser
    )
    content_loss = content_with_teacher(options.content, options.teacher_weight)
    teacher = load_teacher(options, run.device)
    perceptual = Perceptual(options.perceptual).to(run.device) if options.perceptual else None
    alone = int(options.pretrain_epochs * run.epoch) if untrained(start) else 0  # steps of the content loss alone

    others = None  # the critic compares two sets of pictures, not pairs: its real ones may be others
    if options.critic_weights:
        chosen = replace(options, weights=options.critic_weights)
        others = CleanPairs(run.pack, chosen, run.device, run.accelerator.process_index)

    for lowres, highres, *taught in run.batches(teacher):
        optimiser.param_groups[0]["lr"] = run.rate(options.rate)
        critic_optimiser.param_groups[0]["lr"] = run.rate(options.critic_rate or options.rate)
        highres = highres.contiguous(memory_format=torch.channels_last)
        with run.autocast():
            fake = generator(lowres.contiguous(memory_format=torch.channels_last)).float()
        content = content_loss(fake, highres, *taught)
        loss = content + drawn_losses(fake, highres, *options.drawn)
        run.record(loss__content=content, contrast=contrast(fake, highres))

        if run.step >= alone:
            judge.requires_grad_(True)
            real = highres if others is None else others.batch(run.step)[1]
            # Both in one call: without BatchNorm no picture sees another.
            with run.autocast():
                real_scores, fake_scores = critic(torch.cat([real, fake.detach()])).chunk(2)
            distance = -critic_loss(real_scores, fake_scores)
            penalty, penalty_norm = gradient_penalty(critic, real, fake)
            judging = options.penalty * penalty - distance
            critic_optimiser.zero_grad(set_to_none=True)
            run.accelerator.backward(judging)
            run.record(
                loss__critic=judging, critic__wasserstein=distance, critic__penalty=penalty,
                critic__penalty_norm=penalty_norm, **edge_gradients(critic=judge),
            )  # fmt: skip
            critic_optimiser.step()

            judge.requires_grad_(False)
            with run.autocast():
                adversarial = wasserstein_generator_loss(judge(fake))
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
