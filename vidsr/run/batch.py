"""Frames to batches, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat


def batches(frames: Iterable[Frame], size: int, format: PixelFormat, color: ColorSpec) -> Iterator[FrameBatch]:
    """Groups of `size` frames in order; the last may be smaller."""
    iterator = iter(frames)
    while group := tuple(islice(iterator, size)):
        yield FrameBatch(group, format, color)
