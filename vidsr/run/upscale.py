"""Frames in batches through a backend. Needs no PyAV, which borrowed GPU machines lack."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

from vidsr.backends.base import Backend, Pending
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat


def batches(frames: Iterable[Frame], size: int, format: PixelFormat, color: ColorSpec) -> Iterator[FrameBatch]:
    """Groups of `size` frames in order; the last may be smaller."""
    iterator = iter(frames)
    while group := tuple(islice(iterator, size)):
        yield FrameBatch(group, format, color)


def upscale(
    batches: Iterable[FrameBatch], backend: Backend, backend_lock: AbstractContextManager[Any] | None = None
) -> Iterator[Frame]:
    """Each frame of `batches` enlarged by `backend`, in order, with its own pts and duration.

    backend_lock: held while a batch is submitted, where several threads share the backend.
    """
    waiting: deque[tuple[FrameBatch, Pending]] = deque()
    for batch in batches:
        with backend_lock or nullcontext():
            waiting.append((batch, backend.submit(batch)))
        if len(waiting) >= backend.in_flight:
            yield from _made(*waiting.popleft())
    while waiting:
        yield from _made(*waiting.popleft())


def _made(batch: FrameBatch, pending: Pending) -> Iterator[Frame]:
    for before, after in zip(batch.frames, pending().frames):
        yield replace(after, source=before.planes)
