"""What a run writes down and shows while it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

PLAIN_LINE_SECONDS = 60.0


class Journal:
    """TensorBoard's files and log.jsonl in `folder`, and progress: a bar on a terminal, else a line a minute.

    What cannot be written (a full disk) is said once and then let go: the training matters more than its record.
    """

    def __init__(self, folder: Path, step: int, say: Callable[[str], None]) -> None:
        self._log, self.say = folder / "log.jsonl", say
        self._writer: SummaryWriter | None = SummaryWriter(str(folder / "tensorboard"), purge_step=step or None)
        self._values: dict[str, list[Tensor]] = {}
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal:
            percent = TextColumn("{task.percentage:3.0f} %")
            columns = (TextColumn("{task.description}"), BarColumn(), percent, TimeRemainingColumn())
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task("", total=1.0)
            self._bar.start()
        self._said = time.monotonic()

    def record(self, values: dict[str, Tensor | float]) -> None:
        """Numbers of a step: kept on the device until `means` asks for them."""
        for name, value in values.items():
            tensor = value.detach().float() if isinstance(value, Tensor) else torch.tensor(value)
            self._values.setdefault(name, []).append(tensor)

    def means(self, step: int) -> dict[str, float]:
        """The mean of each number since the last call, also written to TensorBoard."""
        means = {name: float(torch.stack(values).mean()) for name, values in self._values.items()}
        self._values.clear()
        self._write(lambda writer: _add(writer, means, step))
        return means

    def validation(self, step: int, minutes: float, metrics: dict[str, dict[str, float]], strip: np.ndarray) -> None:
        """metrics: psnr (dB) and ssim by degradation. strip: [H, W, 3] uint8."""

        def write(writer: SummaryWriter) -> None:
            for name, found in metrics.items():
                for metric, value in found.items():
                    writer.add_scalar(f"validation/{name}_{metric}", value, step)
            writer.add_image("validation", strip, step, dataformats="HWC")
            with self._log.open("a") as file:
                file.write(json.dumps({"step": step, "minutes": round(minutes, 2), "validation": metrics}) + "\n")

        self._write(write)

    def progress(self, step: int, done: float, seconds_left: float, speed: float, means: dict[str, float]) -> None:
        """done: 0..1. speed: steps a second."""
        losses = ", ".join(f"{k.removeprefix('loss/')} {v:.4g}" for k, v in means.items() if k.startswith("loss/"))
        text = f"step {step}, {speed:.2f} steps/s, {losses}"
        if self._bar:
            self._bar.update(self._task, completed=min(1.0, done), description=text)
        elif time.monotonic() - self._said > PLAIN_LINE_SECONDS:
            self._said = time.monotonic()
            self.say(f"{text}, {100 * done:.0f} %, {seconds_left / 60:.1f} min to go")

    def close(self) -> None:
        if self._bar:
            self._bar.stop()
        self._write(lambda writer: writer.close())

    def _write(self, what: Callable[[SummaryWriter], object]) -> None:
        if self._writer is None:
            return
        try:
            what(self._writer)
        except OSError as error:
            self._writer = None
            self.say(f"the record of this run cannot be written ({error}); the training goes on without it")


def _add(writer: SummaryWriter, means: dict[str, float], step: int) -> None:
    for name, mean in means.items():
        writer.add_scalar(name, mean, step)
