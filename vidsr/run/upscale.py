"""Frames in batches through a backend. Needs no PyAV, which borrowed GPU machines lack."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
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
    pending: deque[Pending] = deque()
    for batch in batches:
        with backend_lock or nullcontext():
            pending.append(backend.submit(batch))
        if len(pending) >= backend.in_flight:
            yield from pending.popleft()().frames
    while pending:
        yield from pending.popleft()().frames
