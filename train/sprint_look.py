"""What a sprint shows for itself: figures of validation pictures, a log, and weights that are always the newest."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from train.degrade import upscale_bicubic
from train.metrics import ssim
from train.pack import CROP
from train.sources import SOURCES, shrink, worn
from vidsr.checkpoint import save_generator
from vidsr.models import Compact

Figures = dict[str, dict[str, float]]


class Yardstick:
    """Fixed pairs of validation pictures on the device, for each of SOURCES: clean, compressed and worn.

    windows: [S, S, 3] uint8 RGB each, with S = CROP and a margin or none. bicubic: what there is to beat.
    """

    def __init__(self, windows: Sequence[np.ndarray], scale: int, device: torch.device) -> None:
        self.scale = scale
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for source in SOURCES:
            pairs = [_pair(window, source, index, scale) for index, window in enumerate(windows)]
            highres, lowres = (torch.cat([_tensor(pair[i]) for pair in pairs]).to(device) for i in (0, 1))
            self._pairs[source] = lowres, highres
        self.bicubic = self.measure(None)

    @torch.no_grad()
    def measure(self, generator: nn.Module | None) -> Figures:
        """Mean psnr (dB) and ssim by degradation; of bicubic for None. Of 8-bit pictures, as they are stored."""
        found = {}
        for name, (lowres, highres) in self._pairs.items():
            values = []
            for low, high in zip(lowres.split(4), highres.split(4), strict=True):
                made = upscale_bicubic(low, self.scale) if generator is None else generator(low)
                made = (made.float().clamp(0, 1) * 255).round() / 255
                values.append(torch.stack([_psnr(made, high), ssim(made, high)]))
            psnr, similarity = torch.cat(values, dim=1).mean(dim=1).tolist()
            found[name] = {"psnr": round(psnr, 3), "ssim": round(similarity, 4)}
        return found


def _pair(window: np.ndarray, source: str, index: int, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """(highres, lowres) of the middle of a window."""
    margin = (window.shape[0] - CROP) // 2
    if source != "none":
        return worn(window, margin, source, index, scale)
    centre = window[margin : margin + CROP, margin : margin + CROP]
    return centre, shrink(centre, scale)


def _psnr(a: Tensor, b: Tensor) -> Tensor:
    """[N, 3, H, W] float, 0..1, twice -> [N] dB, at most 100. Without torchmetrics, which a rented machine may lack."""
    return -10 * torch.log10((a - b).square().mean(dim=(1, 2, 3)).clamp_min(1e-10))


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


def words(figures: Figures, bicubic: Figures | None = None) -> str:
    parts = []
    for name, found in figures.items():
        gain = f" ({found['psnr'] - bicubic[name]['psnr']:+.2f})" if bicubic else ""
        parts.append(f"{SOURCES[name]} {found['psnr']:.2f} dB{gain}")
    return ", ".join(parts)


class Log:
    """log.jsonl in the folder: a line for each event, there as soon as it is written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")

    def write(self, **values: Any) -> None:
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


@torch.no_grad()
def merged(generator: Compact) -> Compact:
    """A plain copy of `generator` on the CPU, its branches added up.

    Not by `branches.merge`: it would take the branches of what its argument is a copy of, too: both share a class.
    """
    plain = Compact(generator.channels, generator.layers, generator.scale, generator.skip, generator.activation)
    for target, source in zip(plain.body, generator.body, strict=True):
        for name in ("weight", "bias"):
            if (value := getattr(source, name, None)) is not None:
                getattr(target, name).copy_(value)
    return plain.eval()


def export(average: Compact, path: Path, figures: Figures, bicubic: Figures, metadata: dict[str, str]) -> bool:
    """Write the averaged weights, their branches added up, to `path`, whole or not at all.

    False, and nothing is written, where the weights give no finite pictures. OSError for a full disk.
    """
    if not all(math.isfinite(value) for found in figures.values() for value in found.values()):
        return False
    measured = {name: {"generator": figures[name], "bicubic": bicubic[name]} for name in figures}
    save_generator(merged(average), path, {**metadata, "metrics": json.dumps(measured)})
    return True
