"""Pairs for a sprint: worker processes degrade crops without end, the device holds the newest pairs and cuts batches.

Between the two lies a row of slots in shared memory, a few for each worker. A slot's state is a byte that only its
worker sets to FULL and only the main process to EMPTY: no lock that a dying process could keep.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Generator

import cv2
import numpy as np
import torch
from torch import Tensor

from train.data.pack import CROP
from train.degrade.recipe import MARGIN, degrade
from train.degrade.views import seen_anew
from train.run.pairs import FLAT, chosen, detail_of, turned
from train.sprint.machine import shared

SIDE = CROP - 2 * MARGIN  # of a highres picture in the pool
SLOTS = 16  # of each worker: what it makes while a block of steps of a large generator runs
EMPTY, FULL = 0, 1


def default_size(scale: int, device: torch.device) -> int:
    """Pairs to be kept on the device: as many as its workers make in half a minute, in a third of its free memory."""
    if device.type != "cuda":
        return 256
    pair = 3 * (SIDE**2 + (SIDE // scale) ** 2)
    return max(1, min(49152, torch.cuda.mem_get_info(device)[0] // 3 // pair))


class Workers:
    """Processes that degrade crops into slots. They wait for start(), and end with this process, however it ends.

    crops: [N, CROP, CROP, 3] uint8 of `shared` memory, which may be filled later. odds: [N], adding up to 1.
    Open it before the process uses CUDA: the workers are forked.
    """

    def __init__(self, crops: np.ndarray, odds: np.ndarray, count: int, scale: int, seed: int) -> None:
        slots = count * SLOTS
        self.highres = shared((slots, SIDE, SIDE, 3))
        self.lowres = shared((slots, SIDE // scale, SIDE // scale, 3))
        self.state = shared((slots,))
        self._message = shared((400,))
        self._crops, self._odds, self._scale, self._seed = crops, np.cumsum(odds), scale, seed
        context = multiprocessing.get_context("fork")
        self._ready, self._parent = context.Event(), os.getpid()
        with warnings.catch_warnings():
            # Python 3.12 warns of threads when it forks; those of NumPy and PyTorch sleep, and the workers use none.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._processes = [context.Process(target=self._run, args=(n,), daemon=True) for n in range(count)]
            for process in self._processes:
                process.start()

    def start(self) -> None:
        """The crops are there."""
        self._ready.set()

    def fault(self) -> str:
        """A line about a worker that has ended; empty where all are at work."""
        for process in self._processes:
            if process.exitcode is not None:
                said = self._message.tobytes().rstrip(b"\0").decode(errors="replace")
                killed = "killed, perhaps because memory ran out" if process.exitcode == -signal.SIGKILL else ""
                reason = said or killed or f"exit code {process.exitcode}"
                return f"a process that degrades pictures ended ({reason}); try fewer --workers"
        return ""

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def _run(self, number: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the training's business
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.nice(5)
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        try:
            while not self._ready.wait(1):
                if os.getppid() != self._parent:
                    return
            self._degrade(range(number * SLOTS, (number + 1) * SLOTS), np.random.default_rng([self._seed, number]))
        except Exception as error:
            if not self._message[0]:  # the first speaks for all
                line = f"{type(error).__name__}: {error}".splitlines()[0].encode()[:400]
                self._message[: len(line)] = np.frombuffer(line, np.uint8)
                traceback.print_exc()
            os._exit(1)

    def _degrade(self, slots: range, rng: np.random.Generator) -> None:
        while os.getppid() == self._parent:
            empty = [slot for slot in slots if self.state[slot] == EMPTY]
            if not empty:
                time.sleep(0.002)
            for slot in empty:
                picked = np.searchsorted(self._odds, rng.random() * self._odds[-1], side="right")
                window = self._crops[picked].copy()  # others read it, too
                self.highres[slot], self.lowres[slot] = degrade(seen_anew(window, rng), MARGIN, rng, self._scale)
                self.state[slot] = FULL


class Pool:
    """The newest `size` pairs on the device; draw() cuts a batch of crops without asking the host for anything.

    fresh: pairs that have come from the workers so far.
    """

    def __init__(self, workers: Workers, size: int, scale: int, device: torch.device) -> None:
        self.workers, self.size, self.scale, self.device = workers, size, scale, device
        self.highres = torch.zeros(size, SIDE, SIDE, 3, dtype=torch.uint8, device=device)
        self.lowres = torch.zeros(size, SIDE // scale, SIDE // scale, 3, dtype=torch.uint8, device=device)
        self.fresh = 0
        self._filled = torch.zeros((), device=device)  # of `size`; on the device, where a recorded graph reads it
        cuda = device.type == "cuda"
        slots = len(workers.state)
        # Pinned memory can be copied from while the program goes on.
        self._staged = [torch.empty(slots, *p.shape[1:], dtype=torch.uint8, pin_memory=cuda) for p in self._pixels]
        self._copied = torch.cuda.Event(blocking=True) if cuda else None

    @property
    def _pixels(self) -> tuple[Tensor, Tensor]:
        return self.highres, self.lowres

    def refill(self) -> int:
        """Take what the workers have finished, in place of the oldest pairs; returns how many came."""
        full = np.flatnonzero(self.workers.state == FULL)[: self.size]
        if not len(full):
            return 0
        if self._copied:
            self._copied.synchronize()
        first = self.fresh % self.size
        until_end = min(len(full), self.size - first)
        for target, staged, source in zip(
            self._pixels, self._staged, (self.workers.highres, self.workers.lowres), strict=True
        ):
            np.take(source, full, axis=0, out=staged[: len(full)].numpy(), mode="clip")
            target[first : first + until_end].copy_(staged[:until_end], non_blocking=True)
            target[: len(full) - until_end].copy_(staged[until_end : len(full)], non_blocking=True)
        self.workers.state[full] = EMPTY
        if self._copied:
            self._copied.record()
        self.fresh += len(full)
        self._filled.fill_(min(self.fresh, self.size))
        return len(full)

    def wait_for(self, pairs: int, left: Callable[[], float]) -> None:
        """Until so many pairs have come. TimeoutError when no time is `left`; ChildProcessError, in one line, when a
        worker has ended."""
        while self.fresh < pairs:
            if fault := self.workers.fault():
                raise ChildProcessError(fault)
            if left() <= 0:
                raise TimeoutError("the time is over before the first step: give more --minutes, or carry less")
            if not self.refill():
                time.sleep(0.01)

    def draw(self, batch: int, crop: int) -> tuple[Tensor, Tensor]:
        """lowres [batch, 3, crop/scale, crop/scale] and highres [batch, 3, crop, crop], float, 0..1; as `Pairs.batch`.

        Of two crops the one with more detail where the first is flat; turned and mirrored in all eight ways. Random by
        the device's own generator, which a recorded graph moves on each time it is played.
        """
        places = (SIDE - crop) // self.scale + 1
        random = torch.rand(3, 2 * batch, device=self.device)
        pictures = (random[0] * self._filled).long().clamp_(max=self.size - 1)
        corners = (random[1:] * places).long().clamp_(max=places - 1)
        candidates = _cut(self.highres, pictures, corners * self.scale, crop)
        detail = detail_of(candidates)
        second = (detail[:batch] < FLAT) & (detail[batch:] > detail[:batch])
        turns = (torch.rand(3, batch, device=self.device) < 0.5).int()
        lowres = _cut(self.lowres, pictures, corners, crop // self.scale)
        return turned(chosen(lowres, second), turns), turned(chosen(candidates, second), turns)


def _cut(pixels: Tensor, pictures: Tensor, corners: Tensor, size: int) -> Tensor:
    """[P, H, W, 3], [N], rows and columns [2, N] -> [N, size, size, 3]."""
    steps = torch.arange(size, device=pixels.device)
    rows, columns = corners[:, :, None] + steps
    return pixels[pictures[:, None, None], rows[:, :, None], columns[:, None, :]]


@contextlib.contextmanager
def open_workers(
    crops: np.ndarray, odds: np.ndarray, count: int, scale: int, seed: int
) -> Generator[Workers, None, None]:
    """`Workers` that are gone afterwards, whatever happens."""
    workers = Workers(crops, odds, count, scale, seed)
    try:
        yield workers
    finally:
        workers.close()
