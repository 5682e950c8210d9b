"""Frames as they are to be enlarged: what stands still in them without its noise, and what of them has changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from vidsr.frames import Frame, PixelFormat
from vidsr.reuse.grain import noise_of
from vidsr.reuse.runs import Runs
from vidsr.reuse.signature import Signatures
from vidsr.reuse.stillness import Stillness


@dataclass(frozen=True)
class Shown:
    """A frame as it is to be enlarged.

    changed: [rows, columns] bool, the tiles that differ from the last one's. None: it decoded with errors; it is shown
    as it came, and nothing of it is taken over. noise: of each plane, what was taken out of it, float32; none: not
    asked for.
    """

    frame: Frame
    changed: np.ndarray | None
    noise: tuple[np.ndarray, ...] = ()


def exactly(frames: Iterable[Frame], width: int, height: int, format: PixelFormat) -> Iterator[Shown]:
    """Each of `frames` as it came; what differs from the frame before to the bit has changed."""
    signatures = Signatures(width, height, format)
    before: np.ndarray | None = None
    for frame in frames:
        if frame.corrupt:
            yield Shown(frame, None)
            continue
        samples = signatures.samples(frame.planes)
        changed = np.ones(signatures.tiles, bool) if before is None else (samples != before).any(1)
        before = samples
        yield Shown(frame, changed.reshape(signatures.shape))


def without_noise(
    frames: Iterable[Frame], width: int, height: int, format: PixelFormat, stillness: Stillness
) -> Iterator[Shown]:
    """`frames` in order, what stands still in them as the mean of its run.

    A frame comes when `stillness.window` frames from it on are known, and the one after them; no more are kept, but for
    as many that decoded with errors. Its planes may be shared with those of the next ones: read them, do not write into
    them.
    """
    signatures = Signatures(width, height, format)
    runs, picture = Runs(signatures, stillness.noise, stillness.window), _Picture(signatures, width, height, format)
    waiting: deque[Frame] = deque()
    shown = 0  # frames without errors

    def show(until: int) -> Iterator[Shown]:
        nonlocal shown
        while waiting and (waiting[0].corrupt or shown < until):
            frame = waiting.popleft()
            if frame.corrupt:
                yield Shown(frame, None)
                continue
            samples, *begun = runs.next()
            changed = picture.put(*begun)
            noise = picture.noise(samples, shown) if stillness.grain else ()
            shown += 1
            yield Shown(replace(frame, planes=picture.planes), changed, noise)

    for frame in frames:
        if frame.corrupt:
            waiting.append(frame)
        else:
            waiting.append(replace(frame, planes=()))  # its samples are kept
            runs.add(frame.planes)
        if len(waiting) > 2 * stillness.window:  # so many with errors that nothing good is waited for
            runs.finish()
            yield from show(runs.decided)
        yield from show(runs.decided - stillness.window + 1)
    runs.finish()
    yield from show(runs.decided)


class _Picture:
    """What is shown, tile by tile. planes: the same as a frame has them."""

    def __init__(self, signatures: Signatures, width: int, height: int, format: PixelFormat) -> None:
        self._signatures, self._sizes = signatures, format.plane_shapes(width, height)
        self._samples = np.zeros((signatures.tiles, signatures.depth), format.dtype)
        self._lengths = np.zeros(signatures.tiles, int)
        self.planes: tuple[np.ndarray, ...] = ()

    def put(self, tiles: np.ndarray, samples: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Show `samples` [n, samples of a tile], means of `lengths` [n] frames, at `tiles` [n]; returns [rows, columns]
        bool: where that differs from what was shown."""
        changed = np.full(self._signatures.tiles, not self.planes)
        changed[tiles] |= (self._samples[tiles] != samples).any(1)
        self._samples[tiles], self._lengths[tiles] = samples, lengths
        if changed.any():  # in new memory: the last ones are still being enlarged
            self.planes = self._as_planes(self._samples)
        return changed.reshape(self._signatures.shape)

    def noise(self, samples: np.ndarray, number: int) -> tuple[np.ndarray, ...]:
        """What a frame with these samples has beyond what is shown of it, as planes."""
        return self._as_planes(noise_of(samples, self._samples, self._lengths, number))

    def _as_planes(self, samples: np.ndarray) -> tuple[np.ndarray, ...]:
        planes = self._signatures.planes(samples)
        return tuple(plane[:rows, :columns] for plane, (rows, columns) in zip(planes, self._sizes, strict=True))
