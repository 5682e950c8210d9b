"""Batches through a backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vidsr.backends.base import Backend
from vidsr.frames import Frame, FrameBatch


def upscale(batches: Iterable[FrameBatch], backend: Backend) -> Iterator[Frame]:
    """Each frame of `batches` enlarged by `backend`, in order, with its own pts and duration."""
    for batch in batches:
        yield from backend(batch).frames
