"""How near a picture is to its original: PSNR and SSIM, of luma or of R'G'B'; and what all metrics are called."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log10

import cv2
import numpy as np

PERFECT = 100.0  # dB, for pictures that are identical: a mean with infinity in it says nothing


@dataclass(frozen=True)
class Metric:
    """title: in tables. form, short: of a value, with and without its unit. gain: of a difference. better: 1 if more is
    better, -1 if less is."""

    title: str
    form: str
    short: str
    gain: str
    better: int = 1


METRICS = {
    "psnr": Metric("PSNR", "{:.2f} dB", "{:.2f}", "{:+.2f} dB"),
    "ssim": Metric("SSIM", "{:.4f}", "{:.4f}", "{:+.4f}"),
    "ssimulacra2": Metric("SSIMULACRA2", "{:.1f}", "{:.1f}", "{:+.1f}"),
    "dirt": Metric("dirt", "{:.0f}", "{:.0f}", "{:+.1f}", -1),
    "raggedness": Metric("raggedness", "{:.3f} px", "{:.3f}", "{:+.4f} px", -1),
}

_WEIGHTS = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709's


def luma(picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 R'G'B' -> [H, W] float32, 0..255: Y' of BT.709, whatever the picture came from."""
    return np.asarray(picture.astype(np.float32) @ _WEIGHTS)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two [H, W] or [H, W, 3], 0..255: 10 log10(255² / MSE), at most PERFECT."""
    return min(PERFECT, decibels(float(np.square(a.astype(np.float64) - b).mean())))


def decibels(error: float, peak: float = 255) -> float:
    """A mean squared error -> PSNR in dB, where values reach `peak`; infinite without any error."""
    return 10 * log10(peak**2 / error) if error > 0 else inf


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two [H, W] or [H, W, 3], 0..255, at least 11 pixels each way; 1 when identical.

    Wang, Bovik, Sheikh and Simoncelli 2004, "Image quality assessment: from error visibility to structural similarity",
    equation 13: an 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03; the mean over the windows that lie wholly
    inside the picture, and over the channels.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = _blurred(a), _blurred(b)
    variance_a = _blurred(a * a) - mean_a**2
    variance_b = _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float((luminance * structure).mean())


def _blurred(x: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5)[5:-5, 5:-5])
