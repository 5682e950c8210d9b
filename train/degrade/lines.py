"""Line-aware targets: highres pictures whose dark lines are drawn a little darker and thinner.

The idea is APISR's (Wang et al., CVPR 2024): anime lives by its lines, so the target's are sharpened, and nothing but
them. There the lines are traced with XDoG on the CPU; here a black-hat transform finds them on the device.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

_WIDEST = 7  # highres pixels: wider dark strokes are shapes, not lines
_FAINT, _CLEAR = 0.08, 0.25  # depth of a line below its surroundings where sharpening begins and where it is full
_SIGMA = 1.5  # highres pixels of the unsharp mask
_AMOUNT = 0.8
_DARKEST = 0.08  # how far below its darkest neighbour a pixel may get


def sharpen_lines(highres: Tensor) -> Tensor:
    """[N, 3, H, W] float, 0..1 -> the same, with dark thin lines unsharp-masked. Pixels off the lines keep every bit.

    No pixel gets brighter than its brightest neighbour was (no white halos), in any channel.
    """
    luma = (highres * highres.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    # Black-hat: closing (a maximum filter, then a minimum filter) fills whatever is dark and narrow.
    depth = -_maximum(-_maximum(luma, _WIDEST), _WIDEST) - luma
    mask = ((depth - _FAINT) / (_CLEAR - _FAINT)).clamp(0, 1)
    mask = F.avg_pool2d(_maximum(mask, 3), 3, 1, 1)  # onto the slopes of the line, softly
    edge = luma - _gaussian(luma)
    sharpened = highres + _AMOUNT * mask * edge
    lowest, highest = -_maximum(-highres, 3), _maximum(highres, 3)
    sharpened = torch.minimum(torch.maximum(sharpened, lowest - _DARKEST), highest).clamp(0, 1)
    return torch.where(mask > 0, sharpened, highres)


def _maximum(picture: Tensor, size: int) -> Tensor:
    # Of shifted views, one axis after the other: max_pool2d takes several times as long, as it keeps the indices.
    padded = F.pad(picture, [size // 2] * 4, mode="replicate")
    rows = reduce(torch.maximum, padded.unfold(3, size, 1).unbind(-1))
    return reduce(torch.maximum, rows.unfold(2, size, 1).unbind(-1))


def _gaussian(picture: Tensor) -> Tensor:
    radius = int(3 * _SIGMA + 0.5)
    offsets = torch.arange(-radius, radius + 1, device=picture.device, dtype=picture.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(picture, [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
