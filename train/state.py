"""What a run is at a moment: saved to a checkpoint, loaded to go on, and the signals that end it in between."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn


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
        """ValueError when the checkpoint is another generator's."""
        checkpoint = torch.load(path, weights_only=True)
        try:
            self.generator.load_state_dict(checkpoint["generator"])
            self.average.load_state_dict(checkpoint["average"])
        except RuntimeError as error:
            raise ValueError(f"{path}: of another generator ({str(error).splitlines()[0]})") from None
        self.optimiser.load_state_dict(checkpoint["optimiser"])
        self.rng.bit_generator.state = checkpoint["numpy"]
        torch.set_rng_state(checkpoint["torch"])
        self.step, self.seconds = checkpoint["step"], checkpoint["seconds"]


@torch.no_grad()
def update_average(average: nn.Module, generator: nn.Module, decay: float) -> None:
    """Move `average` towards `generator`; BatchNorm's running statistics are averaged with the weights they suit."""
    for mean, value in zip(average.state_dict().values(), generator.state_dict().values()):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


class StopSignals:
    """While entered, SIGINT and SIGTERM only set `received` to their number, so that a step is never cut in two."""

    received = 0

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, number: int, _frame: object) -> None:
        self.received = number

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
