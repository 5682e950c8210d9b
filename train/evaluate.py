"""PSNR and SSIM of a generator against bicubic on pairs kept out of training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from train.degrade import upscale_bicubic
from train.metrics import psnr, ssim
from train.pairs import LARGEST, validation_pairs
from train.stills import load_stills

Metrics = dict[str, float]


@torch.no_grad()
def evaluate(generator: nn.Module | None, lowres: Tensor, highres: Tensor, batch: int = 4) -> Metrics:
    """Mean psnr (dB) and ssim over the pairs. lowres: [N, 3, H, W], highres: [N, 3, 4H, 4W] float, 0..1.

    generator: in eval mode; None measures bicubic. Results are rounded to 8 bits first, as a frame would be.
    """
    values = []
    for low, high in zip(lowres.split(batch), highres.split(batch)):
        result = upscale_bicubic(low) if generator is None else generator(low).float().clamp(0, 1)
        result = (result * 255).round() / 255
        values.append(torch.stack([psnr(result, high), ssim(result, high)]))
    mean = torch.cat(values, dim=1).mean(dim=1)
    return {"psnr": round(float(mean[0]), 3), "ssim": round(float(mean[1]), 4)}


class Validation:
    """Measures generators on the pictures of `stills` that are kept out of training.

    Clean sources always, compressed ones when `degrade` is "video". say: takes one line for people.
    """

    def __init__(
        self, stills: str, weights: tuple[tuple[str, float], ...], degrade: str, say: Callable[[str], None]
    ) -> None:
        pictures = load_stills(stills, "validation", weights, LARGEST)
        self.pairs = {name: validation_pairs(pictures, name) for name in dict.fromkeys(["none", degrade])}
        self.bicubic = {name: evaluate(None, *pair) for name, pair in self.pairs.items()}
        self.say = say
        say(f"{len(pictures)} validation pictures; bicubic: {self.bicubic}")

    def measure(self, generator: nn.Module) -> dict[str, Metrics]:
        """Metrics by degradation. generator: in eval mode."""
        return {name: evaluate(generator, *pair) for name, pair in self.pairs.items()}

    def report(self, generator: nn.Module, log: Path, step: int, minutes: float, loss: float) -> dict[str, Metrics]:
        """Measure, append a line of JSON to `log` and say it; returns the metrics."""
        metrics = self.measure(generator)
        with log.open("a") as file:
            file.write(json.dumps({"step": step, "minutes": minutes, "loss": loss, "validation": metrics}) + "\n")
        gains = ", ".join(
            f"{name} {found['psnr']:.2f} dB ({found['psnr'] - self.bicubic[name]['psnr']:+.2f}), "
            f"SSIM {found['ssim']:.4f} ({found['ssim'] - self.bicubic[name]['ssim']:+.4f})"
            for name, found in metrics.items()
        )
        self.say(f"step {step}, {minutes:.1f} min, loss {loss:.5f}: {gains}")
        return metrics
