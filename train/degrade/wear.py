"""What old episodes suffer before they are compressed, each fault a function of 8-bit pictures at source size.

Pictures are [H, W, 3] uint8 RGB, planes are Y [H, W], U and V [H/2, W/2] uint8 (see codec.py). Lengths are in
source (lowres) pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from train.degrade.codec import Planes
from train.degrade.filters import gaussian


@dataclass(frozen=True)
class Ringing:
    """Overshoot at edges.

    Unsharp mask: amount times the difference to a Gaussian blur of sigma (vertical, horizontal; 0 = none).
    cutoff > 0 instead: an ideal low-pass (windowed sinc) at this share of the Nyquist frequency.
    """

    amount: float = 0.0
    sigma: tuple[float, float] = (0.0, 0.0)
    cutoff: float = 0.0


@dataclass(frozen=True)
class Noise:
    """Gaussian noise, new in every frame. sigma: of 255. luma: the same in R, G and B.

    grain: sigma of the blur that correlates neighbours; 0 = white noise. dark: only where the picture is dark, as
    cameras and telecines have it: full in black, none in white.
    """

    sigma: float
    luma: bool = False
    grain: float = 0.0
    dark: bool = False


@dataclass(frozen=True)
class Chroma:
    """Colour beside its lines. shift: (down, right), pixels. bleed: sigma of a blur along rows, chroma samples."""

    shift: tuple[float, float] = (0.0, 0.0)
    bleed: float = 0.0


@dataclass(frozen=True)
class DotCrawl:
    """What is left of a composite signal's colour carrier in the luma, where colours change along a row.

    amount: share of the colour step. phase: 0..1, of the carrier in the first frame; half a period on in the next.
    """

    amount: float
    phase: float = 0.0


def ring(picture: np.ndarray, ringing: Ringing | None) -> np.ndarray:
    """The picture with overshoot on both sides of its edges."""
    if ringing is None:
        return picture
    pixels = picture.astype(np.float32)
    if ringing.cutoff:
        taps = np.arange(-8, 9)
        kernel = np.sinc(ringing.cutoff * taps) * np.sinc(taps / 9)
        kernel /= kernel.sum()
        rung = cv2.sepFilter2D(pixels, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    else:
        rung = pixels + ringing.amount * (pixels - gaussian(pixels, *ringing.sigma))
    return _bytes(rung)


def add_noise(picture: np.ndarray, noise: Noise | None, rng: np.random.Generator) -> np.ndarray:
    """The picture with noise drawn from `rng`."""
    if noise is None:
        return picture
    height, width = picture.shape[:2]
    field: np.ndarray = rng.standard_normal((height, width, 1 if noise.luma else 3), np.float32)
    if noise.grain:
        blurred = gaussian(field, noise.grain, noise.grain).reshape(field.shape)
        # What is left of a variance of 1 is the sum of the squared weights, which is separable as the kernel is.
        weights = cv2.getGaussianKernel(2 * int(np.ceil(3 * noise.grain)) + 1, noise.grain)
        field = blurred / np.float32((weights**2).sum())
    strength: np.ndarray | float = noise.sigma
    if noise.dark:
        strength = noise.sigma * np.square(1 - picture.max(axis=2, keepdims=True).astype(np.float32) / 255)
    return _bytes(picture + strength * field)


def band(picture: np.ndarray, bits: int) -> np.ndarray:
    """Gradients in steps: each channel rounded to `bits` bits, 8 for none."""
    if bits == 8:
        return picture
    steps = np.float32(2**bits - 1)
    return _bytes(np.rint(picture * (steps / 255)) * (255 / steps))


def lose_fields(picture: np.ndarray, share: float, first: int) -> np.ndarray:
    """A badly deinterlaced picture: every second row, from row `first`, replaced by the mean of its neighbours.

    share: how much of it is replaced, 0..1. Slanted lines become stairs.
    """
    pixels = picture.astype(np.float32)
    padded = np.pad(pixels, ((1, 1), (0, 0), (0, 0)), mode="reflect" if len(picture) > 1 else "edge")
    between = (padded[:-2] + padded[2:]) / 2
    pixels[first::2] += share * (between - pixels)[first::2]
    return _bytes(pixels)


def weave(picture: np.ndarray, following: np.ndarray, share: float, first: int) -> np.ndarray:
    """Combs that a deinterlacer has left: every second row, from row `first`, has `share` of the next frame's."""
    pixels = picture.astype(np.float32)
    pixels[first::2] += share * (following.astype(np.float32) - pixels)[first::2]
    return _bytes(pixels)


def move_chroma(planes: Planes, chroma: Chroma | None) -> Planes:
    """Chroma planes blurred along rows, then shifted by part of a sample; edges are held."""
    if chroma is None:
        return planes
    down, right = (step / 2 for step in chroma.shift)
    matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)

    def moved(plane: np.ndarray) -> np.ndarray:
        plane = gaussian(plane, 0, chroma.bleed)
        if (down, right) == (0, 0):
            return plane
        size = plane.shape[::-1]
        return cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    return planes[0], moved(planes[1]), moved(planes[2])


def crawl(planes: Planes, dots: DotCrawl | None, frame: int) -> Planes:
    """Luma with the colour carrier's dots where colours change along a row.

    NTSC's carrier turns by half a period from row to row and from frame to frame; sampled at 13.5 MHz a period is
    13.5 / 3.579545 = 3.77 pixels.
    """
    if dots is None:
        return planes
    luma = planes[0].astype(np.float32)
    height, width = luma.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = 2 * np.pi * (columns * np.float32(3.579545 / 13.5) + (rows + frame) / 2 + np.float32(dots.phase))
    for plane, carrier in ((planes[1], np.sin(angle)), (planes[2], np.cos(angle))):
        wide = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        luma += dots.amount * carrier * np.abs(wide - gaussian(wide, 0, 1.5))
    return _bytes(luma), planes[1], planes[2]


def _bytes(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
