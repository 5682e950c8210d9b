"""The paper's three ways to train a generator, one loop: alone, against a discriminator, against a critic.

"ResNet" learns from the picture itself alone. "SRGAN" also from a discriminator that says how likely a picture is
real; labels are smoothed and sometimes swapped. "SRWGAN-GP" also from a critic with gradient penalty, whose scores of
real and made pictures differ by an estimate of the Wasserstein distance between the two. One step of the judge, then
one of the generator, on the same batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from train.generators.build import build_generator, edge_gradients, load_teacher, untrained, update_average
from train.options import Options
from train.recipes.losses import (
    content_with_teacher,
    critic_loss,
    discriminator_loss,
    drawn_losses,
    feature_matching,
    generator_loss,
    gradient_penalty,
    noisy_labels,
    wasserstein_generator_loss,
)
from train.recipes.networks import Critic, Discriminator
from train.recipes.optimisers import generator_optimiser
from train.recipes.perceptual import Perceptual
from train.run.pairs import CleanPairs
from train.run.run import Run, contrast

Numbers = dict[str, Tensor]  # for `Run.record`


class _Judge:
    """What tells made pictures from real ones, as it learns.

    network: as it is; `parallel`: as several processes wrap it. NAME, OPTIMISER: of its parts in a checkpoint.
    """

    NAME: str
    OPTIMISER: str

    def __init__(self, run: Run) -> None:
        self.run, self.options = run, run.options
        network: Any = self.build(self.options.critic_width)
        self.network = network.to(run.device, memory_format=torch.channels_last)
        self.rate = self.options.critic_rate or self.options.rate
        self.parallel, self.optimiser = self.network, torch.optim.Adam(self.network.parameters(), lr=self.rate)
        self.parts = {self.NAME: self.network, self.OPTIMISER: self.optimiser}
        self.perceptual = Perceptual(self.options.perceptual).to(run.device) if self.options.perceptual else None

    def build(self, width: int) -> nn.Module:
        raise NotImplementedError

    def loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Numbers]:
        """Its own, and what else is known of it. `fake` is cut off from the generator."""
        raise NotImplementedError

    def adversarial(self, scores: Tensor) -> Tensor:
        """The generator's, of the scores of what it made."""
        raise NotImplementedError

    def learn(self, real: Tensor, fake: Tensor) -> None:
        """One step of its own."""
        self.network.requires_grad_(True)
        loss, numbers = self.loss(real, fake.detach())
        self.optimiser.param_groups[0]["lr"] = self.run.rate(self.rate)
        self.optimiser.zero_grad(set_to_none=True)
        self.run.accelerator.backward(loss)
        self.run.record(**{f"loss__{self.NAME}": loss}, **numbers, **edge_gradients(**{self.NAME: self.network}))
        self.optimiser.step()
        self.network.requires_grad_(False)

    def weighed(self, highres: Tensor, fake: Tensor) -> Tensor:
        """What the generator's loss gets from it."""
        options = self.options
        with self.run.autocast():
            adversarial = self.adversarial(self.network(fake))
            loss = options.adversarial * adversarial
            if options.feature_matching:
                loss = loss + options.feature_matching * feature_matching(self.network, highres, fake)
            if self.perceptual:
                loss = loss + options.perceptual_weight * self.perceptual(fake, highres)
        self.run.record(loss__adversarial=adversarial)
        return loss


class _Discriminator(_Judge):
    NAME, OPTIMISER = "discriminator", "judge_optimiser"

    def build(self, width: int) -> nn.Module:
        return Discriminator(width)

    def loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Numbers]:
        options = self.options
        labels = noisy_labels(len(fake), options.real_labels, options.fake_labels, options.flip, self.run.device)
        # Each by itself, as in the paper: BatchNorm then sees real pictures or fakes, never a mixture.
        with self.run.autocast():
            real_scores, fake_scores = self.parallel(real), self.parallel(fake)
        loss = discriminator_loss(real_scores, fake_scores, *labels)
        numbers = {"real": real_scores.sigmoid().mean(), "fake": fake_scores.sigmoid().mean()}
        return loss, {f"discriminator__{name}": value for name, value in numbers.items()}

    def adversarial(self, scores: Tensor) -> Tensor:
        return generator_loss(scores)


class _Critic(_Judge):
    NAME, OPTIMISER = "critic", "critic_optimiser"

    def build(self, width: int) -> nn.Module:
        return Critic(width)

    def loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Numbers]:
        # Both in one call: without BatchNorm no picture sees another.
        with self.run.autocast():
            real_scores, fake_scores = self.parallel(torch.cat([real, fake])).chunk(2)
        distance = -critic_loss(real_scores, fake_scores)
        penalty, norm = gradient_penalty(self.parallel, real, fake)
        numbers = {"wasserstein": distance, "penalty": penalty, "penalty_norm": norm}
        return self.options.penalty * penalty - distance, {f"critic__{name}": value for name, value in numbers.items()}

    def adversarial(self, scores: Tensor) -> Tensor:
        return wasserstein_generator_loss(scores)


_JUDGES: dict[str, type[_Judge]] = {"srgan": _Discriminator, "srwgan-gp": _Critic}  # by recipe; "resnet" has none


def train(options: Options, resume: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Train as `options.recipe` says; returns the path of the exported weights.

    See `Run` for what interrupts and what is raised.
    """
    run = Run(options, resume, say)
    options = run.options
    raw, start = build_generator(options, load=resume is None)
    run.say(f"generator: {raw.NAME} {raw.hyperparameters}, starts as {start}")
    raw = raw.train().to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(raw).eval().requires_grad_(False)
    judge = _JUDGES[options.recipe](run) if options.recipe in _JUDGES else None
    optimiser = generator_optimiser(options.optimiser, raw, options.rate)
    parts = {"generator": raw, "optimiser": optimiser, **(judge.parts if judge else {})}
    generator, optimiser, *judging = run.prepare(average, **parts)
    content_loss = content_with_teacher(options.content, options.teacher_weight)
    alone = 0  # steps of the content loss alone
    others = None  # a judge compares two sets of pictures, not pairs: its real ones may be others
    if judge:
        judge.parallel, judge.optimiser = judging
        alone = int(options.pretrain_epochs * run.epoch) if untrained(start) else 0
    if options.critic_weights:
        chosen = replace(options, weights=options.critic_weights)
        others = CleanPairs(run.pack, chosen, run.device, run.accelerator.process_index)

    for lowres, highres, *taught in run.batches(load_teacher(options, run.device)):
        optimiser.param_groups[0]["lr"] = run.rate(options.rate)
        highres = highres.contiguous(memory_format=torch.channels_last)
        with run.autocast():
            fake = generator(lowres.contiguous(memory_format=torch.channels_last)).float()
        content = content_loss(fake, highres, *taught)
        loss = content + drawn_losses(fake, highres, options.drawn)
        run.record(loss__content=content, contrast=contrast(fake, highres))
        if judge and run.step >= alone:
            judge.learn(highres if others is None else others.batch(run.step)[1], fake)
            loss = loss + judge.weighed(highres, fake)
        if not judge or run.step >= alone + options.critic_first or run.step < alone:
            optimiser.zero_grad(set_to_none=True)
            run.accelerator.backward(loss)
            norm = nn.utils.clip_grad_norm_(raw.parameters(), options.clip or math.inf)
            run.record(loss__generator=loss, gradient__norm=norm, **edge_gradients(generator=raw))
            optimiser.step()
            update_average(average, raw, run.step, options.ema)
    return run.finish()
