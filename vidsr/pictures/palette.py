"""256 colours for what has many: chosen for a whole scene, and dithered by place, so that still areas stay still."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

_BINS = 1 << 18  # six bits a channel
_COLORS = 255  # and one to see through
_ROUNDS = 10  # of k-means
_NOISE = 0.15  # how much dithering is disliked: of the variance it adds, beside what it takes off the colour's error
_OPAQUE = 128  # GIF knows no half transparency


def _bayer(order: int) -> np.ndarray:
    """Bayer's matrix of 2^order rows, thresholds between 0 and 1."""
    matrix = np.zeros((1, 1))
    for _ in range(order):
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return (matrix + 0.5) / matrix.size


_THRESHOLDS = (_bayer(3) * 256).astype(np.uint8)


@dataclass
class Colors:
    """Counts the colours of a scene. exact: packed colours, as long as a palette holds them all; else None."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(_BINS))
    sums: np.ndarray = field(default_factory=lambda: np.zeros((3, _BINS)))
    exact: np.ndarray | None = field(default_factory=lambda: np.zeros(0, np.uint32))

    def add(self, picture: np.ndarray) -> None:
        """Those of a picture, [H, W, 4] uint8."""
        seen = picture[picture[:, :, 3] >= _OPAQUE][:, :3]
        bins = _bins(seen)
        self.counts += np.bincount(bins, minlength=_BINS)
        for channel in range(3):
            self.sums[channel] += np.bincount(bins, seen[:, channel], _BINS)
        if self.exact is not None:
            self.exact = np.union1d(self.exact, _packed(seen))
            self.exact = self.exact if len(self.exact) <= _COLORS else None

    def palette(self) -> Palette:
        """The colours that come nearest to all that were counted."""
        if self.exact is not None:
            colors = np.stack([self.exact >> shift & 255 for shift in (16, 8, 0)], 1).astype(np.uint8)
            return Palette(colors, exact=self.exact)
        used = np.flatnonzero(self.counts)
        means = (self.sums[:, used] / self.counts[used]).T.astype(np.float32)
        colors = _chosen(means, np.sqrt(self.counts[used]))  # the root: small things count, too
        first, second, ratio = (np.zeros(_BINS, np.uint8) for _ in range(3))
        first[used], second[used], ratio[used] = _mixtures(means, colors)
        return Palette(np.rint(colors).astype(np.uint8), mixtures=(first, second, ratio))


@dataclass(frozen=True)
class Palette:
    """colors: [n, 3] uint8. exact: the same packed and sorted, where there are no others. mixtures: else of each bin
    its nearest colour, another to mix it with, and how many of 256 pixels take that."""

    colors: np.ndarray
    exact: np.ndarray | None = None
    mixtures: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @property
    def clear(self) -> int:
        """The index of what one sees through."""
        return len(self.colors)

    def table(self) -> np.ndarray:
        """[2, 4, ... or 256, 3] uint8, filled up with black."""
        size = 1 << max(1, self.clear.bit_length())
        return np.concatenate([self.colors, np.zeros((size - len(self.colors), 3), np.uint8)])

    def indices(self, picture: np.ndarray) -> np.ndarray:
        """[H, W, 4] -> [H, W] uint8. The same colour in the same place is always the same index."""
        if self.mixtures is None:
            assert self.exact is not None
            found = np.searchsorted(self.exact, _packed(picture)).astype(np.uint8)
        else:
            bins = _bins(picture)
            first, second, ratio = self.mixtures
            height, width = bins.shape
            side = len(_THRESHOLDS)
            limits = np.tile(_THRESHOLDS, (-(-height // side), -(-width // side)))[:height, :width]
            found = np.where(ratio[bins] > limits, second[bins], first[bins])
        return np.where(picture[:, :, 3] >= _OPAQUE, found, np.uint8(self.clear))


def _bins(pixels: np.ndarray) -> np.ndarray:
    high = (pixels[..., :3] >> 2).astype(np.int64)
    return high[..., 0] << 12 | high[..., 1] << 6 | high[..., 2]


def _packed(pixels: np.ndarray) -> np.ndarray:
    wide = pixels[..., :3].astype(np.uint32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _chosen(means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[at most 255, 3] float32: k-means of colours [n, 3], begun with those that are furthest from all before them."""
    if len(means) <= _COLORS:
        return means
    picked = [int(weights.argmax())]
    distance = ((means - means[picked[0]]) ** 2).sum(1)
    while len(picked) < _COLORS:
        picked.append(int((weights * distance).argmax()))
        distance = np.minimum(distance, ((means - means[picked[-1]]) ** 2).sum(1))
    colors = means[picked]
    for _ in range(_ROUNDS):
        nearest = _distances(means, colors).argmin(1)
        total = np.bincount(nearest, weights, len(colors))
        sums = [np.bincount(nearest, weights * means[:, channel], len(colors)) for channel in range(3)]
        held = total > 0
        colors[held] = (np.stack(sums, 1)[held] / total[held, None]).astype(np.float32)
    return colors


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared, [len(a), len(b)]."""
    return (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)[None]


def _mixtures(means: np.ndarray, colors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(nearest, other, of 256 pixels those that take the other) of each colour: of all pairs with its nearest the one
    whose mixture comes closest to it and whose colours are not far apart."""
    parts = []
    for start in range(0, len(means), 2048):
        wanted = means[start : start + 2048]
        nearest = _distances(wanted, colors).argmin(1)
        off = wanted - colors[nearest]  # [n, 3]
        to = colors[None] - colors[nearest][:, None]  # [n, 255, 3]
        length = (to**2).sum(2)
        along = np.clip((off[:, None] * to).sum(2) / np.maximum(length, 1e-6), 0, 0.5)
        missed = ((off[:, None] - along[:, :, None] * to) ** 2).sum(2)
        other = (missed + _NOISE * along * (1 - along) * length).argmin(1)
        ratio = along[np.arange(len(wanted)), other] * 256
        parts.append((nearest, other, np.rint(ratio)))
    return tuple(np.concatenate(each).astype(np.uint8) for each in zip(*parts))  # type: ignore[return-value]
