"""Resampling and blurring of 8-bit pictures, the same bytes on every machine."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FILTERS = ("bicubic", "bilinear", "area", "lanczos")


def gaussian(picture: np.ndarray, vertical: float, horizontal: float) -> np.ndarray:
    """Gaussian blur with a sigma in pixels for each direction; 0 = none in that one."""
    if vertical == horizontal == 0:
        return picture
    # OpenCV takes sigma 0 for "as the other one", and a length of 1 for "none".
    length = [2 * int(np.ceil(3 * sigma)) + 1 for sigma in (horizontal, vertical)]
    sigmas = [max(sigma, 1e-3) for sigma in (horizontal, vertical)]
    return cv2.GaussianBlur(picture, length, sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REPLICATE)


def resize(picture: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """[H, W, 3] uint8 -> [*size, 3] uint8, antialiased, centres aligned. name: one of FILTERS; bicubic is PIL's."""
    if picture.shape[:2] == size:
        return picture
    if name == "area":
        return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    if name == "lanczos":
        rows, columns = _lanczos(picture.shape[0], size[0]), _lanczos(picture.shape[1], size[1])
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).float()
        halfway = (rows @ pixels.flatten(1)).round().clamp(0, 255).view(size[0], -1, 3)
        return (columns @ halfway).round().clamp(0, 255).byte().numpy()
    # On bytes torch computes in integers, several times faster than in float, and rounds between the axes as PIL does.
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
    scaled = F.interpolate(pixels, size=size, mode=name, antialias=True)
    return scaled[0].permute(1, 2, 0).contiguous().numpy()


@lru_cache(maxsize=128)
def _lanczos(source: int, target: int, lobes: int = 3) -> Tensor:
    """Weights [target, source] of antialiased Lanczos resampling, as PIL computes them, in multiples of 2^-14.

    So every product with a byte and every sum of them is exact in float32, whatever order a machine adds them in.
    """
    ratio = source / target
    centres = (torch.arange(target, dtype=torch.float64) + 0.5) * ratio - 0.5
    distance = (torch.arange(source, dtype=torch.float64) - centres[:, None]) / max(1.0, ratio)
    weights = torch.sinc(distance) * torch.sinc(distance / lobes) * (distance.abs() < lobes)
    return (weights / weights.sum(1, keepdim=True) * 2**14).round().float() / 2**14
