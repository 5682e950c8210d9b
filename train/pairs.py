"""Batches of aligned (lowres, highres) crops for the loop, and the fixed pairs it is validated on."""

from __future__ import annotations

import os
import time
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, multiprocessing

from train.degrade import MAX_FRAMES, MAX_PAN, SCALE, degrade_window, downscale
from train.stills import FLAT, TRIES, Stills, detail_of, load_stills

WINDOW = 384  # highres side of a pooled pair: large enough for a codec to behave as in a whole frame
_MARGIN = 2 * MAX_PAN * MAX_FRAMES
LARGEST = WINDOW + _MARGIN  # the side of what has to be cut from a still for that
_WORKER_SHARE = 0.35  # of a core; the rest is the training's


class Pairs(Protocol):
    def batch(self, rng: np.random.Generator, size: int, crop: int) -> tuple[Tensor, Tensor]:
        """`size` random pairs: lowres [N, 3, crop/4, crop/4] and highres [N, 3, crop, crop], float, 0..1."""

    def close(self) -> None: ...


class CleanPairs:
    """Degradation `none`: crops drawn and scaled down as they are asked for. The same rng gives the same batches."""

    def __init__(self, stills: Stills) -> None:
        self.stills = stills

    def batch(self, rng: np.random.Generator, size: int, crop: int) -> tuple[Tensor, Tensor]:
        crops = np.stack([_turned(self.stills.draw(rng, crop), int(rng.integers(8))) for _ in range(size)])
        highres = _to_float(crops)
        return downscale(highres), highres

    def close(self) -> None:
        pass


class VideoPairs:
    """Degradation `video`: crops of a pool of larger pairs in shared memory, which one process renews all the time.

    Not reproducible to the bit: what lies in the pool at a step depends on the speed of the machine.
    """

    def __init__(self, folder: str, weights: tuple[tuple[str, float], ...], seed: int, entries: int = 1536) -> None:
        self.highres = torch.zeros(entries, WINDOW, WINDOW, 3, dtype=torch.uint8).share_memory_()
        self.lowres = torch.zeros(entries, WINDOW // SCALE, WINDOW // SCALE, 3, dtype=torch.uint8).share_memory_()
        context = multiprocessing.get_context("spawn")
        self.filled, self.lock = context.Value("l", 0), context.Lock()
        arguments = (folder, weights, seed, self.highres, self.lowres, self.filled, self.lock)
        self.worker = context.Process(target=_renew, args=arguments, daemon=True)
        self.worker.start()
        while self.filled.value < min(64, entries):
            if not self.worker.is_alive():
                raise RuntimeError("the process that makes the training pairs has died: see its message above")
            time.sleep(0.1)

    def batch(self, rng: np.random.Generator, size: int, crop: int) -> tuple[Tensor, Tensor]:
        if not self.worker.is_alive():
            raise RuntimeError("the process that makes the training pairs has died: see its message above")
        lowres, highres = [], []
        with self.lock:  # or half of an entry could be new already
            for _ in range(size):
                high, low = self._crop(rng, crop)
                turn = int(rng.integers(8))
                highres.append(_turned(high, turn))
                lowres.append(_turned(low, turn))
        return _to_float(np.stack(lowres)), _to_float(np.stack(highres))

    def _crop(self, rng: np.random.Generator, crop: int) -> tuple[np.ndarray, np.ndarray]:
        small = crop // SCALE
        for _ in range(TRIES):
            entry = int(rng.integers(min(self.filled.value, len(self.highres))))
            top, left = (int(v) for v in rng.integers(0, WINDOW // SCALE - small + 1, 2))
            high = self.highres[entry].numpy()[SCALE * top :, SCALE * left :][:crop, :crop]
            if detail_of(high) >= FLAT:
                break
        return high, self.lowres[entry].numpy()[top : top + small, left : left + small]

    def close(self) -> None:
        self.worker.terminate()
        self.worker.join()


def _renew(folder, weights, seed, highres, lowres, filled, lock) -> None:  # type: ignore[no-untyped-def]
    """The worker process: fill the pool as fast as it can, then renew it at a fraction of a core."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training decides when to stop
    os.nice(5)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    parent = os.getppid()
    stills = load_stills(folder, "train", weights, LARGEST)
    rng = np.random.default_rng([seed, time.time_ns()])
    while os.getppid() == parent:
        started = time.perf_counter()
        high, low = degrade_window(stills.draw(rng, LARGEST), WINDOW, rng)
        with lock:
            entry = filled.value % len(highres)
            highres[entry], lowres[entry] = torch.from_numpy(high.copy()), torch.from_numpy(low)
            filled.value += 1
        if filled.value > len(highres):
            time.sleep((time.perf_counter() - started) * (1 / _WORKER_SHARE - 1))


def validation_pairs(stills: Stills, degrade: str, seed: int = 2004) -> tuple[Tensor, Tensor]:
    """A fixed pair of each picture: lowres [N, 3, 96, 96] and highres [N, 3, 384, 384], float, 0..1.

    The crop is the same for every degradation; `video` differs in the lowres only. Every codec and quality of the
    training occurs, also the near-clean ones.
    """
    lowres, highres = [], []
    for index, still in enumerate(stills.stills):
        rng = np.random.default_rng([seed, index])
        window = Stills([still]).draw(rng, LARGEST, min_scale=1)
        if degrade == "video":
            high, low = degrade_window(window, WINDOW, rng)
            lowres.append(_to_float(low[None]))
        else:
            margin = _MARGIN // 2
            high = window[margin : margin + WINDOW, margin : margin + WINDOW]
            lowres.append(downscale(_to_float(high[None])))
        highres.append(_to_float(high[None]))
    return torch.cat(lowres), torch.cat(highres)


def _turned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight flips and quarter turns of [H, W, 3]."""
    pixels = np.rot90(pixels, turn % 4)
    return pixels[:, ::-1] if turn >= 4 else pixels


def _to_float(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
