"""Batches of aligned (lowres, highres) crops. A batch depends on the seed and the step alone, so a resumed run sees
the batches of an uninterrupted one.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace

import click
import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from train.data.pack import CROP, Pack
from train.degrade.lines import sharpen_lines
from train.degrade.recipe import MARGIN, MAX_FRAMES, degrade, downscale
from train.degrade.views import seen_anew
from train.options import Options

FLAT = 1.0  # mean step between neighbouring pixels, in 8-bit levels, below which a crop teaches little
POOL = 768  # degraded pictures that crops are drawn from
FIRST = 64  # of these, how many must be there for the first step
MOVING = 0.4  # of the drawn scenes, those that move while they are encoded
_BATCHES, _ENTRIES = 0, 1  # streams of random numbers that must not meet

# [N, 3, H, W] float, 0..1 -> [N, 3, sH, sW] float, 0..1, on the same device.
Teacher = Callable[[Tensor], Tensor]


class Pairs:
    """Crops drawn on the device from pictures in memory: flat ones seldom, turned and mirrored in all eight ways.

    highres: [P, H, W, 3] uint8. lowres: the same, smaller by options.scale, or None where it is made of each crop
    (degradation `none`). odds: how often each picture is drawn, [P] float. teacher: see `batch`.
    """

    def __init__(
        self, options: Options, rank: int, highres: Tensor, lowres: Tensor | None, odds: np.ndarray,
        teacher: Teacher | None = None,
    ) -> None:  # fmt: skip
        self.options, self.rank, self.teacher = options, rank, teacher
        self.highres, self.lowres = highres, lowres
        self._cumulated = np.cumsum(odds)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """lowres [batch, 3, crop/scale, crop/scale] and highres [batch, 3, crop, crop] of this step, float, 0..1.

        With a teacher there is a third: what it makes of the lowres, shaped as the highres.
        """
        rng = np.random.default_rng([self.options.seed, self.rank, _BATCHES, step])
        count, size, scale = self.options.batch, self.options.crop, self.options.scale
        pictures = self._pick(rng, 2 * count)
        corners = rng.integers(0, (self.highres.shape[1] - size) // scale + 1, (2 * count, 2)) * scale
        candidates = self._cut(self.highres, pictures, corners, size)
        # Of two crops the first, but where it is flat the one with more detail. Decided on the device: no round trip.
        detail = detail_of(candidates)
        second = (detail[:count] < FLAT) & (detail[count:] > detail[:count])
        turns = torch.from_numpy(rng.integers(0, 2, (3, count))).to(candidates.device)
        highres = turned(chosen(candidates, second), turns)
        if self.lowres is None:
            lowres = downscale(highres, scale)
        else:
            lowres = self._cut(self.lowres, pictures, corners // scale, size // scale)
            lowres = turned(chosen(lowres, second), turns)
        taught = []
        if self.teacher is not None and (answers := self._answers(pictures)) is not None:
            taught = [turned(chosen(self._cut(answers, pictures, corners, size), second), turns)]
        if self.options.line_targets:
            highres = sharpen_lines(highres)
        return lowres, highres, *taught

    def _answers(self, pictures: np.ndarray) -> Tensor | None:
        """What the teacher makes of the whole of these `pictures`, laid out as `highres`; None: it is shown crops."""
        return None

    def _pick(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return np.searchsorted(self._cumulated, rng.random(count) * self._cumulated[-1], side="right")

    @staticmethod
    def _cut(pixels: Tensor, pictures: np.ndarray, corners: np.ndarray, size: int) -> Tensor:
        """-> [N, size, size, 3] uint8 on the device."""
        cut = [pixels[i, y : y + size, x : x + size] for i, (y, x) in zip(pictures, corners, strict=True)]
        return torch.stack(cut)

    def close(self) -> None:
        pass


class CleanPairs(Pairs):
    """Degradation `none`: the pack's crops, and bicubic ÷scale of whatever is cut from them."""

    def __init__(
        self, pack: Pack, options: Options, device: torch.device, rank: int = 0, teacher: Teacher | None = None
    ) -> None:
        shards, index, odds = pack.train_crops(options.weights)
        pixels = torch.empty(len(index), CROP, CROP, 3, dtype=torch.uint8)
        for row, (shard, position) in enumerate(index):
            pixels[row] = torch.from_numpy(np.array(shards[shard][position]))
        if device.type == "cuda" and pixels.numel() < torch.cuda.mem_get_info(device)[0] // 2:
            pixels = pixels.to(device)
        super().__init__(options, rank, pixels, None, odds, teacher)
        self._device = device

    def batch(self, step: int) -> tuple[Tensor, ...]:
        lowres, highres = (part.to(self._device, non_blocking=True) for part in super().batch(step))
        return (lowres, highres, self.teacher(lowres)) if self.teacher else (lowres, highres)


class VideoPairs(Pairs):
    """Degradation `video`: crops of a pool of degraded pictures, which worker processes renew ahead of the steps.

    After step s the pool holds the pictures up to FIRST + s * fresh, the oldest replaced first; picture n depends on
    the seed and n alone, whichever process makes it.
    """

    def __init__(
        self, pack: Pack, options: Options, device: torch.device, rank: int = 0, step: int = 0,
        teacher: Teacher | None = None,
    ) -> None:  # fmt: skip
        size = CROP - 2 * MARGIN
        small = size // options.scale
        highres = torch.empty(POOL, size, size, 3, dtype=torch.uint8, device=device)
        lowres = torch.empty(POOL, small, small, 3, dtype=torch.uint8, device=device)
        super().__init__(options, rank, highres, lowres, np.ones(1), teacher)
        self._known, self._all_answers = np.zeros(POOL, bool), torch.empty_like(highres) if teacher else None
        self._next = max(0, self._needed(step) - POOL)
        if options.scenes:
            options = _with_scenes(options, rank)
        workers = options.workers if options.workers >= 0 else min(14, max(1, (os.cpu_count() or 2) - 1))
        self._loader = DataLoader(
            _Degraded(pack, options, rank), batch_size=None, sampler=_CountFrom(self._next), num_workers=workers,
            prefetch_factor=8 if workers else None, multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_behave if workers else None, persistent_workers=bool(workers),
            generator=torch.Generator(),  # or opening it would move the global one, and a resumed run differ
        )  # fmt: skip
        self._fresh: Iterator[tuple[Tensor, Tensor]] | None = iter(self._loader)

    def _needed(self, step: int) -> int:
        """How many pictures have been made by the time of this step."""
        return FIRST + int(step * self.options.fresh)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        assert self._fresh is not None
        while self._next < self._needed(step):
            highres, lowres = next(self._fresh)
            slot = self._next % POOL
            self.highres[slot], self.lowres[slot] = highres, lowres  # type: ignore[index]
            self._known[slot] = False
            self._next += 1
        return super().batch(step)

    def _pick(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.integers(0, min(self._next, POOL), count)

    def _answers(self, pictures: np.ndarray) -> Tensor | None:
        # A picture is drawn from some hundred times before it is replaced, and a teacher costs many times its student.
        assert self.teacher is not None and self._all_answers is not None and self.lowres is not None
        for slot in dict.fromkeys(pictures[~self._known[pictures]].tolist()):
            answer = self.teacher(self.lowres[slot].permute(2, 0, 1)[None].float() / 255)
            self._all_answers[slot] = (answer[0].permute(1, 2, 0) * 255).round_().clamp_(0, 255).byte()
            self._known[slot] = True
        return self._all_answers

    def close(self) -> None:
        self._fresh = None  # ends the workers


def open_pairs(
    pack: Pack, options: Options, device: torch.device, rank: int = 0, step: int = 0, teacher: Teacher | None = None
) -> Pairs:
    """The batches of `options`, ready for `step` and the steps after it; with what `teacher` makes of them, if any."""
    if options.degrade == "video":
        return VideoPairs(pack, options, device, rank, step, teacher)
    return CleanPairs(pack, options, device, rank, teacher)


class _CountFrom:
    """first, first + 1, ... without end."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first)


class _Degraded(Dataset[tuple[Tensor, Tensor]]):
    """Picture n, degraded: (highres [S, S, 3], lowres [S/scale, S/scale, 3]) uint8. Opens the pack in each process."""

    def __init__(self, pack: Pack, options: Options, rank: int) -> None:
        self.scale = options.scale
        self.folder, self.weights, self.seeds = pack.folder, options.weights, [options.seed, rank, _ENTRIES]
        self.scenes = options.scenes
        self._crops: tuple[list[np.ndarray], np.ndarray, np.ndarray] | None = None

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if self._crops is None:
            self._crops = Pack.open(self.folder).train_crops(self.weights)
        shards, index, odds = self._crops
        rng = np.random.default_rng([*self.seeds, number])
        if self.scenes and rng.random() < self.scenes:
            from train.scenes.command import draw_moving_window, draw_window

            words = "/".join(map(str, self.seeds))
            moves = rng.random() < MOVING
            windows = draw_moving_window(words, number, MAX_FRAMES) if moves else [draw_window(words, number)]
        else:
            shard, row = index[rng.choice(len(index), p=odds)]
            windows = [np.array(shards[shard][row])]
        how = rng.integers(2**32)  # all frames of a scene are seen alike
        seen = {id(window): seen_anew(window, np.random.default_rng(how)) for window in windows}
        highres, lowres = degrade([seen[id(window)] for window in windows], MARGIN, rng, self.scale)
        return torch.from_numpy(np.ascontiguousarray(highres)), torch.from_numpy(np.ascontiguousarray(lowres))


def _with_scenes(options: Options, rank: int) -> Options:
    """The same; without scenes where none can be drawn, which is said."""
    from train.scenes.command import scenes_usable

    if (reason := scenes_usable()) is None:
        return options
    if rank == 0:
        click.echo(f"{reason}; training goes on with the pack alone", err=True)
    return replace(options, scenes=0.0)


def _behave(_worker: int) -> None:
    """In a worker process: one thread, after the training; Ctrl-C is the training's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def detail_of(pixels: Tensor) -> Tensor:
    """Mean absolute step between horizontal and vertical neighbours of green, in levels: [N, H, W, 3] uint8 -> [N]."""
    green = pixels[..., 1].to(torch.int16)
    steps = [green.diff(dim=dim).abs().float().mean(dim=(1, 2)) for dim in (1, 2)]
    return (steps[0] + steps[1]) / 2


def chosen(candidates: Tensor, second: Tensor) -> Tensor:
    """[2N, H, W, 3] uint8 -> [N, 3, H, W] float, 0..1: the second half's where `second` [N] says so."""
    first, other = candidates.chunk(2)
    return torch.where(second[:, None, None, None], other, first).permute(0, 3, 1, 2).float() / 255


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """[N, C, S, S] mirrored and transposed where turns [3, N] say so: all eight symmetries of the square."""
    flags = (turns == 1)[:, :, None, None, None]
    x = torch.where(flags[0], x.flip(3), x)
    x = torch.where(flags[1], x.flip(2), x)
    return torch.where(flags[2], x.transpose(2, 3), x)
