"""The steps of a sprint: everything in them happens on the device, so that a CUDA graph can hold a whole one.

A step of a small generator is hundreds of kernels of a few microseconds each. Started one by one from Python they take
several times as long as they run; recorded once and played as one graph they do not.
"""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.recipes.losses import Drawn, critic_loss, drawn_losses, gradient_penalty, wasserstein_generator_loss
from train.recipes.networks import Critic
from train.recipes.optimisers import generator_optimiser
from train.sprint.pool import Pool

WARM_UP = 3  # eager steps before a step is recorded: cuDNN chooses its kernels, the optimiser makes its state


@dataclass(frozen=True)
class Settings:
    """Of both stages. batch, crop: of the first; the critic's crops are critic_crop. optimiser: of the first stage, one
    of OPTIMISERS; against the critic it is Adam. rate: of the first stage, a tenth in the second; the critic's is a
    fifth. ema: decay of the averaged weights. warmup: steps of a linear warm-up. critic_first: steps in which the
    critic learns and the generator does not listen yet. smooth_flats and the three below it: `losses.Drawn`, in both
    stages.
    """

    batch: int = 32
    crop: int = 192
    critic_crop: int = 128
    optimiser: str = "muon"
    rate: float = 3e-4
    clip: float = 0.5
    ema: float = 0.999
    warmup: int = 100
    adversarial: float = 1e-3
    critic_width: int = 32
    critic_first: int = 500
    penalty: float = 10.0
    smooth_flats: float = 0.35
    even_lines: float = 2.5
    line_colours: float = 0.35
    structure: float = 1.0

    @property
    def drawn(self) -> Drawn:
        return Drawn(self.smooth_flats, self.even_lines, self.line_colours, self.structure)


class Step:
    """One training step of `generator` on batches of `pool`, against the pictures themselves.

    Call it for a step. The generator must be on the pool's device; `average` follows it. Numbers for people add up in
    `totals` on the device, in the order of `NAMES`. recorded: whether a CUDA graph plays it.
    """

    NAMES: tuple[str, ...] = ("content", "gradient")
    STAGE = "content"

    def __init__(self, generator: nn.Module, average: nn.Module, pool: Pool, settings: Settings, batch: int) -> None:
        self.generator, self.average, self.pool, self.settings, self.batch = generator, average, pool, settings, batch
        self.device, self.steps = pool.device, 0
        self.crop, self.peak_rate = settings.crop, settings.rate
        self._rate = torch.tensor(settings.rate, device=self.device)
        self.optimiser = generator_optimiser(settings.optimiser, generator, self._rate)
        self.totals = torch.zeros(len(self.NAMES), device=self.device)
        self._toward = torch.zeros((), device=self.device)  # how far the average moves
        self._means: list[Tensor] = list(average.parameters())
        self._values: list[Tensor] = list(generator.parameters())
        bf16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        self._autocast = partial(torch.autocast, self.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)
        self.play: Callable[[], None] = self._body
        self.recorded = False

    def networks(self) -> list[nn.Module]:
        """All that learns."""
        return [self.generator]

    def optimisers(self) -> list[torch.optim.Optimizer]:
        return [self.optimiser]

    def __call__(self) -> None:
        self.play()
        self.steps += 1

    def set_rate(self, done: float, factor: float = 1.0) -> None:
        """The rate of the next steps. done: of this stage, 0..1. A short linear warm-up, then a cosine down to zero."""
        warm = min(1.0, (self.steps + 1) / self.settings.warmup)
        self._set_rates(factor * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
        # The average starts short, so that it soon forgets the first weights.
        self._toward.fill_(1 - min(self.settings.ema, (1 + self.steps) / (10 + self.steps)))

    def _set_rates(self, share: float) -> None:
        self._rate.fill_(self.peak_rate * share)

    def numbers(self, steps: int) -> dict[str, float]:
        """Means over the last so many steps; waits for the device. Begins anew."""
        means = (self.totals / max(1, steps)).tolist()
        self.totals.zero_()
        return dict(zip(self.NAMES, means, strict=True))

    def _body(self) -> None:
        highres, fake = self._make()
        content = F.l1_loss(fake, highres)
        norm = self._learn(content + drawn_losses(fake, highres, self.settings.drawn))
        self.totals += torch.stack([content.detach(), norm])

    def _make(self) -> tuple[Tensor, Tensor]:
        """(highres, what the generator makes of its lowres) of a new batch, float32, plane by plane for the losses."""
        lowres, highres = self.pool.draw(self.batch, self.crop)
        with self._autocast():
            fake = self.generator(lowres.contiguous(memory_format=torch.channels_last))
        return highres.contiguous(), fake.float().contiguous()

    def _learn(self, loss: Tensor) -> Tensor:
        """One step of the generator and its average; returns the norm of the gradient."""
        self.optimiser.zero_grad(set_to_none=True)  # so that a graph writes gradients instead of adding them up
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.generator.parameters(), self.settings.clip)
        self.optimiser.step()
        with torch.no_grad():
            differences = torch._foreach_sub(self._values, self._means)
            torch._foreach_mul_(differences, self._toward)
            torch._foreach_add_(self._means, differences)  # type: ignore[arg-type]
        return norm.detach()


class CriticStep(Step):
    """The same against a critic with gradient penalty, too: one step of each. See `train.recipes.loop`."""

    NAMES = ("content", "gradient", "wasserstein", "penalty")
    STAGE = "critic"

    def __init__(self, generator: nn.Module, average: nn.Module, pool: Pool, settings: Settings, batch: int) -> None:
        super().__init__(generator, average, pool, replace(settings, optimiser="adam"), batch)
        self.crop, self.peak_rate = min(settings.crop, settings.critic_crop), settings.rate / 10
        critic: Any = Critic(settings.critic_width)
        self.critic = critic.to(self.device, memory_format=torch.channels_last)
        self._critic_rate = torch.tensor(settings.rate / 5, device=self.device)
        self.critic_optimiser = generator_optimiser("adam", self.critic, self._critic_rate)
        self._adversarial = torch.zeros((), device=self.device)

    def networks(self) -> list[nn.Module]:
        return [self.generator, self.critic]

    def optimisers(self) -> list[torch.optim.Optimizer]:
        return [self.optimiser, self.critic_optimiser]

    def _set_rates(self, share: float) -> None:
        super()._set_rates(share)
        self._critic_rate.fill_(self.settings.rate / 5 * share)
        # Until the critic has learnt something the generator need not listen.
        self._adversarial.fill_(self.settings.adversarial if self.steps >= self.settings.critic_first else 0.0)

    def _body(self) -> None:
        highres, fake = self._make()
        content = F.l1_loss(fake, highres)
        self.critic.requires_grad_(True)
        with self._autocast():
            real_scores, fake_scores = self.critic(torch.cat([highres, fake.detach()])).chunk(2)
        distance = -critic_loss(real_scores, fake_scores)
        penalty, _ = gradient_penalty(self.critic, highres, fake)
        self.critic_optimiser.zero_grad(set_to_none=True)
        (self.settings.penalty * penalty - distance).backward()
        self.critic_optimiser.step()
        self.critic.requires_grad_(False)
        with self._autocast():
            adversarial = wasserstein_generator_loss(self.critic(fake))
        norm = self._learn(content + drawn_losses(fake, highres, self.settings.drawn) + self._adversarial * adversarial)
        self.totals += torch.stack([content.detach(), norm, distance.detach(), penalty.detach()])


def prepared(make: Callable[[int], Step], batch: int, say: Callable[[str], None]) -> Step:
    """`make(batch)`, warmed up and, on a GPU, recorded; with half the batch as often as memory runs out."""
    while True:
        step: Step | None = None
        try:
            step = make(batch)
            return _recorded(step, say)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise ValueError("out of memory with one crop a step: give a smaller --crop or --pool") from None
            batch //= 2
            say(f"out of memory: going on with batches of {batch}")
        step = None  # or its memory would stay, as it would without a collection: a step holds its own method
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _recorded(step: Step, say: Callable[[str], None]) -> Step:
    step.set_rate(0.0)
    if step.device.type != "cuda":
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    return with_graph(step, partial(record, stream=side), say)


def with_graph(
    step: Step, record: Callable[[Callable[[], None]], Callable[[], None]], say: Callable[[str], None]
) -> Step:
    """`step`, played as what `record` makes of its body, or as it is where that fails."""
    try:
        step.play = record(step._body)
        step.recorded = True
    except RuntimeError as error:
        _forget_recording(step.device)
        if isinstance(error, torch.OutOfMemoryError):
            raise
        say(f"no CUDA graph ({str(error).splitlines()[0]}): going on with single kernels, several times as slow")
    return step


def record(body: Callable[[], None], stream: torch.cuda.Stream) -> Callable[[], None]:
    """A CUDA graph of `body`, to be played. RuntimeError where it does what cannot be recorded.

    stream: the one it was warmed up on, which autograd remembers.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        body()
    return graph.replay


def _forget_recording(device: torch.device) -> None:
    """A recording that failed leaves its stream in use, and the random generator waiting for its end: back to the usual
    stream, and to a random state of its own."""
    if device.type == "cuda":
        torch.cuda.set_stream(torch.cuda.default_stream())
        torch.cuda.synchronize()
        fresh = torch.Generator(device).manual_seed(torch.initial_seed())
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].graphsafe_set_state(fresh.graphsafe_get_state())


class Rescue:
    """The last weights that were all right, to go back to when numbers stop being numbers."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.keep()

    def keep(self) -> None:
        step = self._step
        self._kept = [copy.deepcopy(network.state_dict()) for network in (*step.networks(), step.average)]

    @torch.no_grad()
    def go_back(self) -> None:
        """In place, where a recorded graph finds it. The optimisers begin anew: no moments, no steps behind them."""
        step = self._step
        for network, kept in zip((*step.networks(), step.average), self._kept, strict=True):
            for name, value in network.state_dict().items():
                value.copy_(kept[name])
        for optimiser in step.optimisers():
            for state in optimiser.state.values():
                for value in state.values():
                    value.zero_()
        step.totals.zero_()
