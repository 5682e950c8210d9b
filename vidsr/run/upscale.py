"""Batches through a backend."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from vidsr.backends.base import Backend, Pending
from vidsr.frames import Frame, FrameBatch


def upscale(
    batches: Iterable[FrameBatch], backend: Backend, turn: AbstractContextManager[Any] | None = None
) -> Iterator[Frame]:
    """Each frame of `batches` enlarged by `backend`, in order, with its own pts and duration.

    turn: a lock held while a batch is submitted, where several threads share the backend.
    """
    pending: deque[Pending] = deque()
    for batch in batches:
        with turn or nullcontext():
            pending.append(backend.submit(batch))
        if len(pending) >= backend.in_flight:
            yield from pending.popleft()().frames
    while pending:
        yield from pending.popleft()().frames
