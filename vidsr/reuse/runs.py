"""Stretches of time in which nothing but noise changes, found for each tile of a video by itself.

In such a run a tile is shown as the mean of its first frames, which has less noise than any of them, and stands still.
A change ends the run: the next one begins with that very frame. What is a change is told from noise by

* its size in areas of several shapes (signature.py), against the noise that this very frame has, which is what most
  tiles as bright show: so a codec that stores each second frame better than the first needs no care of its own;
* a movement of lines, which is found where it is much smaller than the noise;
* its lasting: what two following frames agree on need be less than what one alone shows;
* its company: beside a clear change a smaller one is taken for one, too, and what lies among changes has changed;
* the mean over many tiles, for what gets brighter or darker slowly.

All that follows depends on the frames given, from the first one on, and on nothing else.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from vidsr.reuse.signature import PAIR, PATCH, TILE, Signatures

_CLEAR, _BESIDE = 1.4, 0.6  # times what passes for noise: a change, and a change beside one
_MOST = 4  # of the eight tiles around that have changed: then so has what is between
_ALONE = 1.4  # times as much, where the next frame does not agree
_FADE = 0.6  # levels by which most of 5x5 tiles are brighter or darker
_SHADES = (80.0, 160.0)  # levels of luma between dark, medium and bright tiles, whose noise differs
_FEWEST = 20  # tiles as bright as each other that tell their noise
_ASKED = 300  # tiles that are asked for their noise, about
_AT_ONCE = 128  # tiles
_SURE = 5.0  # times the noise, that what is explained as a movement has to be
_LEAST_NOISE = 0.3  # levels
_LEAST_MOTION = 0.35  # of what passes for noise, that a line which moves changes somewhere
_MOVED = 0.05  # samples by which noise seems to move lines
_LEAST_SLOPES = 60.0  # squared levels a sample, summed over a tile, below which its lines are noise
_MEAN_TO_SIGMA = 1.2533  # of a normal distribution: its deviation over the mean of its absolute values


class Runs:
    """The runs of all tiles. decided: frames of which it is known whether runs end with the frame before."""

    def __init__(self, signatures: Signatures, least: float, window: int) -> None:
        self.decided = 0
        self._signatures, self._least, self._window = signatures, least, window
        self._samples: deque[np.ndarray] = deque()  # of the frames not asked for yet
        self._asked = 0
        size = signatures.tiles, signatures.length
        self._mean = np.zeros(size, np.float32)  # of the signatures of a run's first frames
        self._edges = np.zeros(size, np.float32)  # how far edges may move, squared
        self._frames: deque[tuple[Sequence[np.ndarray], np.ndarray]] = deque()  # (planes, signature) still to decide
        self._spare = [np.empty(size, np.float32) for _ in range(2)]
        self._before = np.zeros(size, np.float32)  # the signature of the frame decided last
        self._rooms = [np.empty((_AT_ONCE, signatures.length), np.float32) for _ in range(4)]
        self._starts = [group.first for group in signatures.groups]
        self._sizes = np.array([group.end - group.first for group in signatures.groups], np.float32)
        edges = [group.edge for group in signatures.groups]
        self._factors = np.repeat(edges, self._sizes.astype(int)).astype(np.float32)
        pairs = next(group for group in signatures.groups if group.kind is PAIR)
        self._pairs = slice(pairs.first, pairs.end)  # of luma
        # Of each tile, the frame that its run began with and how many its mean is of; ended runs by that frame.
        self._begun = np.zeros(signatures.tiles, int)
        self._length = np.zeros(signatures.tiles, int)
        self._ended: defaultdict[int, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)

    def add(self, planes: Sequence[np.ndarray]) -> None:
        """The next frame; what the one before it is can now be told."""
        self._samples.append(self._signatures.samples(planes))
        self._frames.append((planes, self._signatures.of(planes, self._spare.pop())))
        if len(self._frames) == 2:
            self._decide(self._frames[1][1])

    def finish(self) -> None:
        """No further frame comes."""
        if self._frames:
            self._decide(None)

    def next(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of the next frame, the first at first: its samples, and of the runs that begin with it: (tiles [n], means
        [n, samples of a tile], of how many frames they are [n])."""
        running = np.flatnonzero(self._begun == self._asked)
        found = [*self._ended.pop(self._asked, []), (running, self._length[running])]
        tiles, lengths = (np.concatenate(parts) for parts in zip(*found))
        means = np.empty((len(tiles), self._signatures.depth), self._signatures.dtype)
        total_of = np.uint16 if self._signatures.dtype == np.uint8 else np.uint32
        for length in np.unique(lengths):
            which = lengths == length
            total = np.full((which.sum(), means.shape[1]), length // 2, total_of)
            for number in range(length):
                total += self._samples[number][tiles[which]]
            means[which] = total // total_of(length)
        self._asked += 1
        return self._samples.popleft(), tiles, means, lengths

    def _decide(self, following: np.ndarray | None) -> None:
        planes, signature = self._frames.popleft()
        number, self.decided = self.decided, self.decided + 1
        ends = self._ending(signature, following) if number else np.ones(self._signatures.tiles, bool)
        ended = np.flatnonzero(ends)
        begins = np.full(len(ended), number)
        if number:
            begins -= self._sooner(ended, signature)
            firsts = self._begun[ended]
            for first in np.unique(firsts[firsts >= self._asked]):  # of the others the means are given already
                these = firsts == first
                lengths = np.minimum(begins[these] - first, self._window)
                self._ended[int(first)].append((ended[these], lengths))
            two = ended[begins < number]
            self._mean[two] = self._before[two]
        self._begun[ended] = begins
        lengths = number + 1 - self._begun
        share = np.where(lengths <= self._window, 1 / lengths, 0).astype(np.float32)[:, None]
        self._length = np.minimum(lengths, self._window)
        for part in self._parts(self._signatures.tiles):
            if share[part].any():
                step = np.subtract(signature[part], self._mean[part], out=self._room(0, part))
                step *= share[part]
                self._mean[part] += step
        if len(ended):
            self._edges[ended] = np.square(self._signatures.contrasts(planes, ended) * self._factors)
        self._spare.append(self._before)
        self._before = signature

    def _sooner(self, tiles: np.ndarray, signature: np.ndarray) -> np.ndarray:
        """[n]: 1 where the new run of some tiles [n] has begun with the frame before the one with this signature.

        That is where that frame is nearer to this one than to the others of the old run, and where others have begun
        around: of a change that the codec shows little by little, what the first frame has may have passed for noise.
        """
        part = self._pairs
        before, length = self._before[tiles, part], self._length[tiles]
        old = np.square(before - self._mean[tiles, part]).sum(1) * np.square(length / np.maximum(length - 1, 1))
        new = np.square(before - signature[tiles, part]).sum(1)
        begun = self._begun == self.decided - 2
        beside = self._around(begun)[tiles] > 0
        possible = beside & (self._begun[tiles] < self.decided - 2) & (self._asked <= self.decided - 2)
        return (possible & (new < old)).astype(int)

    def _ending(self, signature: np.ndarray, following: np.ndarray | None) -> np.ndarray:
        """[tiles] bool: whose run ends with the frame before the one with this signature."""
        luma = self._luma(self._mean)
        loud, limits, noise = self._noise(signature, luma)
        score = np.empty(len(loud), np.float32)
        for part in self._parts(self._signatures.tiles):
            now = np.subtract(signature[part], self._mean[part], out=self._room(0, part))
            np.square(now, out=now)
            now /= np.add(self._edges[part], limits, out=self._room(1, part))
            score[part] = now.max(1)
        score = np.sqrt(score) / loud
        some = np.flatnonzero(score > _LEAST_MOTION)
        motion = self._motion(some, signature, following, loud[some, None], noise)
        score /= _ALONE
        if following is None:
            motion /= _ALONE
        else:
            more = np.flatnonzero(score > _BESIDE / _ALONE)  # two agree on no more than one of them shows
            for part in self._parts(len(more)):
                tiles = more[part]
                limit = self._take(0, tiles, self._edges)
                limit += limits
                np.sqrt(limit, out=limit)
                limit *= loud[tiles, None]
                mean = self._take(1, tiles, self._mean)
                now, after = self._take(2, tiles, signature), self._take(3, tiles, following)
                for frame in (now, after):
                    frame -= mean
                    frame /= limit
                both = np.minimum(now, after, out=mean).max(1)
                both = np.maximum(both, -np.maximum(now, after, out=now).min(1))
                score[tiles] = np.maximum(score[tiles], both)
        score[some] = np.maximum(score[some], motion)
        changed = (score > _CLEAR) | self._fading(luma, signature, following)
        changed |= (self._around(changed) > 0) & (score > _BESIDE)
        return changed | (self._around(changed) >= _MOST)

    def _around(self, tiles: np.ndarray) -> np.ndarray:
        """[tiles]: how many of the eight around each are among those marked in `tiles`, bool."""
        marked = tiles.reshape(self._signatures.shape).astype(np.uint8)
        all_nine = cv2.boxFilter(marked, -1, (3, 3), normalize=False, borderType=cv2.BORDER_REPLICATE)
        return (all_nine - marked).ravel()

    def _motion(
        self, tiles: np.ndarray, signature: np.ndarray, following: np.ndarray | None, loud: np.ndarray, noise: float
    ) -> np.ndarray:
        """[n]: how far the lines of some tiles [n] are moved, in units of _MOVED: what both frames agree on.

        By least squares from the gradients (Lucas and Kanade 1981), all of a tile as one; towards 0 where there are
        none.
        """
        part = self._pairs
        mean = self._mean[tiles, part]
        cells = mean.reshape(-1, TILE // 2, TILE // 2)
        down, right = (slope.reshape(mean.shape) / 2 for slope in np.gradient(cells, axis=(1, 2)))  # of a sample
        a, b, c = (np.einsum("ij,ij->i", one, other) for one, other in ((right, right), (right, down), (down, down)))
        a, c = a + _LEAST_SLOPES, c + _LEAST_SLOPES
        ways, scores = [], []
        for frame in (signature, following):
            if frame is not None:
                difference = (frame[tiles, part] - mean) / loud
                x, y = (np.einsum("ij,ij->i", difference, slope) for slope in (right, down))
                way = np.stack([c * x - b * y, a * y - b * x]) / (a * c - b * b)
                explained = np.sqrt(np.maximum(way[0] * x + way[1] * y, 0))  # of the difference
                ways.append(way)
                scores.append(np.minimum(np.hypot(*way) / _MOVED, explained / (_SURE * noise)))
        together = np.sum(ways[0] * ways[-1], axis=0) > 0
        return np.where(together, np.minimum(scores[0], scores[-1]), 0)

    def _noise(self, signature: np.ndarray, luma: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """What passes for noise in this frame: how loud it is in each tile, [tiles]; the square of what passes where
        that is 1, [length], in levels; the noise of pairs of samples there. luma: of the means, [tiles]."""
        # A mean of few frames has noise of its own.
        loud = np.sqrt(1 + 1 / self._length).astype(np.float32)
        some = slice(None, None, max(1, self._signatures.tiles // _ASKED))
        differences = np.abs(signature[some] - self._mean[some])
        levels = _MEAN_TO_SIGMA * np.add.reduceat(differences, self._starts, axis=1) / self._sizes / loud[some, None]
        usual = self._limits(levels)
        shade = np.digitize(luma, _SHADES)
        for which in np.unique(shade):
            alike = shade[some] == which
            if alike.sum() >= _FEWEST:
                loud[shade == which] *= np.median(self._limits(levels[alike]) / usual)
        limits = np.square(np.repeat(usual, self._sizes.astype(int)))
        return loud, limits, max(float(np.median(levels[:, 0])), _LEAST_NOISE)

    def _limits(self, levels: np.ndarray) -> np.ndarray:
        """[groups] float32: what passes for noise where tiles have these levels of it [n, groups]."""
        middle = len(levels) // 2
        usual = np.partition(levels, middle, axis=0)[middle]
        limits = [g.limit(float(level), self._least) for g, level in zip(self._signatures.groups, usual)]
        return np.array(limits, np.float32)

    def _fading(self, luma: np.ndarray, signature: np.ndarray, following: np.ndarray | None) -> np.ndarray:
        """[tiles] bool: where most tiles around are brighter, or darker, than their means, in both frames. luma: of the
        means, [tiles]."""
        found = []
        for frame in (signature, following):
            if frame is not None:
                brighter = (self._luma(frame) - luma).reshape(self._signatures.shape)
                found.append(cv2.medianBlur(brighter, 5).ravel() / (_FADE * self._least))
        return np.asarray((np.min(found, 0) > 1) | (np.max(found, 0) < -1))

    def _luma(self, signature: np.ndarray) -> np.ndarray:
        """[tiles]: the mean luma."""
        group = next(group for group in self._signatures.groups if group.kind is PATCH)
        size = group.end - group.first
        return np.asarray(signature[:, group.first : group.end] @ np.full(size, 1 / size, np.float32))

    def _parts(self, count: int) -> Iterator[slice]:
        """Of so many tiles, as many at once as what is computed of them stays in the core's cache."""
        for first in range(0, count, _AT_ONCE):
            yield slice(first, min(first + _AT_ONCE, count))

    def _room(self, number: int, part: slice) -> np.ndarray:
        return self._rooms[number][: part.stop - part.start]

    def _take(self, number: int, tiles: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Those of `rows`, in a room."""
        return np.take(rows, tiles, axis=0, out=self._rooms[number][: len(tiles)], mode="clip")
