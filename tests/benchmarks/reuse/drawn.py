"""Small films of which everything is known."""

import numpy as np

from benchmarks.common.pictures import YUV420
from benchmarks.reuse.film import Film
from vidsr.frames import Frame, PixelFormat

SCALE = 4


def flat(width: int, height: int, level: int = 100, format: PixelFormat = YUV420) -> Frame:
    return Frame(tuple(np.full(shape, level, format.dtype) for shape in format.plane_shapes(width, height)))


def gray_film(*lumas: np.ndarray) -> Film:
    """8 bit 4:2:0 without colour."""
    chroma = [np.full((luma.shape[0] // 2, luma.shape[1] // 2), 128, np.uint8) for luma in lumas]
    return Film(tuple((luma.clip(0, 255).astype(np.uint8), c, c) for luma, c in zip(lumas, chroma)), YUV420)


def line_film(columns: list[int], contrast: int = 8) -> Film:
    """256x192: a line as wide as one sample of a source SCALE times as small, 64 rows long, in that of its columns."""
    lumas = []
    for column in columns:
        luma = np.full((192, 256), 100.0)
        luma[64:128, SCALE * column : SCALE * (column + 1)] += contrast
        lumas.append(luma)
    return gray_film(*lumas)


def noisy(film: Film, sigma: float, seed: int = 1) -> Film:
    """Each frame with noise of its own in the luma."""
    chance = np.random.default_rng(seed)
    return gray_film(*(picture[0] + chance.normal(0, sigma, picture[0].shape) for picture in film.pictures))


def moving_block(count: int) -> list[Frame]:
    """192x128: a still shade, and a block of 16 samples that lies at x = 32 in the first frame and moves on by 2."""
    frames = []
    for i in range(count):
        frame = flat(192, 128)
        frame.planes[0][:] = np.linspace(40, 180, 192).astype(np.uint8)
        frame.planes[0][32:48, 32 + 2 * i : 48 + 2 * i] = 230
        frames.append(Frame(frame.planes, i, 1))
    return frames
