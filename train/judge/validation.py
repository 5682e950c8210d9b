"""How near generators come to pictures kept out of training, while they are trained and afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from train.data.pack import CROP, Pack, Weights
from train.degrade.recipe import MARGIN, SCALE
from train.judge.metrics import psnr, ssim
from train.judge.sources import (
    BICUBIC,
    ORIGINAL,
    SOURCES,
    as_pixels,
    as_tensor,
    enlarge,
    evenly,
    shrink,
    sources_of,
    worn,
)
from train.judge.strips import richest, strip

Metrics = dict[str, float]
Figures = dict[str, Metrics]  # by source
PERFECT = 100.0  # dB, for pictures that are identical: a mean with infinity in it says nothing
STRIP = 160  # side of the crops in strips


def measure(generator: nn.Module | None, lowres: Tensor, highres: Tensor, batch: int = 4) -> Metrics:
    """Mean psnr (dB, at most PERFECT a picture) and ssim of enlarged `lowres` against `highres`.

    generator: in eval mode, on their device; None measures bicubic. lowres: [N, 3, H, W], highres: [N, 3, sH, sW], both
    float in 0..1.
    """
    scale = highres.shape[3] // lowres.shape[3]
    pairs = zip(lowres.split(batch), highres.split(batch))
    values = torch.cat([psnr_and_ssim(enlarge(generator, low, scale), high) for low, high in pairs], dim=1)
    mean = values.mean(dim=1)
    return {"psnr": round(float(mean[0]), 3), "ssim": round(float(mean[1]), 4)}


def psnr_and_ssim(result: Tensor, highres: Tensor) -> Tensor:
    """[2, N]: psnr and ssim of each picture."""
    return torch.stack([psnr(result, highres).clamp(max=PERFECT), ssim(result, highres).double()])


class Validation:
    """Measures generators on fixed pairs of pictures, for each of `sources`: clean, compressed, worn; see SOURCES.

    windows: [S, S, 3] uint8 RGB each, S = CROP, or more: then with a margin for pans around the CROP in the middle.
    pairs: (lowres [N, 3, CROP/scale, CROP/scale], highres [N, 3, CROP, CROP]), float in 0..1 on `device`, by source.
    bicubic: what there is to beat, as `measure` returns it.
    """

    def __init__(
        self, windows: Sequence[np.ndarray], sources: Iterable[str], device: torch.device | str, scale: int
    ) -> None:
        self.pairs = {source: _pairs(windows, source, device, scale) for source in sources}
        self.bicubic = self.measure(None)

    @classmethod
    def of_pack(
        cls, pack: Pack, weights: Weights, degrade: str, device: torch.device | str = "cpu", scale: int = SCALE
    ) -> Validation:
        """On the centres of the pack's validation pictures, as `degrade` has it. ValueError when there is none."""
        windows = [_window(picture.pixels) for picture in pack.pictures("validation", weights)]
        if not windows:
            cure = "prepare more pictures, or with a larger --validation"
            raise ValueError(f"{pack.folder}: no validation picture; {cure}")
        return cls(windows, sources_of(degrade), device, scale)

    def measure(self, generator: nn.Module | None) -> Figures:
        """Metrics by source. generator: in eval mode, on the same device; None measures bicubic."""
        return {name: measure(generator, *pair) for name, pair in self.pairs.items()}

    def strip(self, generator: nn.Module, pictures: int = 4) -> np.ndarray:
        """[H, W, 3] uint8: a row for each of a few pictures (worn, if there are such): bicubic, `generator`'s and
        the original, where there are most lines."""
        lowres, highres = list(self.pairs.values())[-1]
        scale = highres.shape[3] // lowres.shape[3]
        rows = []
        for index in evenly(len(lowres), pictures):
            low, high = lowres[index : index + 1], as_pixels(highres[index : index + 1])
            made = {BICUBIC: enlarge(None, low, scale), "Generator": enlarge(generator, low, scale)}
            columns = [(name, as_pixels(picture)) for name, picture in made.items()]
            where = richest(high, STRIP)
            rows.append(strip([(name, picture[where]) for name, picture in [*columns, (ORIGINAL, high)]]))
        return np.concatenate(rows)


def words(figures: Figures, bicubic: Figures | None = None) -> str:
    """Figures in a line, with what is gained over `bicubic`."""
    parts = []
    for name, found in figures.items():
        gain = f" ({found['psnr'] - bicubic[name]['psnr']:+.2f})" if bicubic else ""
        parts.append(f"{SOURCES[name]} {found['psnr']:.2f} dB{gain}, SSIM {found['ssim']:.4f}")
    return "; ".join(parts)


def _window(pixels: np.ndarray) -> np.ndarray:
    """What the centre crop is cut from: with a margin for pans where the picture is large enough."""
    return pixels[centre(pixels, CROP + 2 * MARGIN if min(pixels.shape[:2]) >= CROP + 2 * MARGIN else CROP)]


def centre(pixels: np.ndarray, size: int) -> tuple[slice, slice]:
    """Rows and columns of the size x size crop in the middle, from multiples of 4 on; smaller where the picture is."""
    tops = [max(0, side - size) // 8 * 4 for side in pixels.shape[:2]]
    return slice(tops[0], tops[0] + size), slice(tops[1], tops[1] + size)


def _pairs(
    windows: Sequence[np.ndarray], source: str, device: torch.device | str, scale: int
) -> tuple[Tensor, Tensor]:
    lowres, highres = [], []
    for index, window in enumerate(windows):
        margin = (window.shape[0] - CROP) // 2
        high = window[margin : margin + CROP, margin : margin + CROP]
        low = shrink(high, scale)
        if source != "none":
            high, low = worn(window, margin, source, index, scale)
        lowres.append(as_tensor(low))
        highres.append(as_tensor(high))
    return torch.cat(lowres).to(device), torch.cat(highres).to(device)
