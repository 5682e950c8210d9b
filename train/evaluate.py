"""PSNR and SSIM of a generator against bicubic on pairs kept out of training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from train.degrade import upscale_bicubic
from train.metrics import psnr, ssim

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
