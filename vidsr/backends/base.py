"""What the pipeline knows of a backend, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vidsr.frames import ColorSpec, FrameBatch, PixelFormat


@dataclass(frozen=True)
class BackendSpec:
    """Everything needed to open a backend, here or in another process: small, frozen, picklable.

    name: "cpu", "cuda" or "nearest".
    model: path of the weights; "" for a backend without any.
    scale: 2, 3 or 4, the size of the result over the source; a generator of a larger scale is reduced by area.
    source_format, source_color: of the batches that come in.
    result_format, result_color: of the batches that go out.
    tile: side of the largest square given to the generator at once, in source pixels; 0 for whole
        frames, or tiles where memory is short.
    precision: "auto", "fp32", "bf16" or "fp16".
    """

    name: str
    model: str
    scale: int
    source_format: PixelFormat
    source_color: ColorSpec
    result_format: PixelFormat
    result_color: ColorSpec
    tile: int = 0
    precision: str = "auto"


class Backend(Protocol):
    """Planes in, planes out. Not thread-safe: one thread at a time calls it.

    description: one line for people: device, precision, model.
    """

    scale: int
    description: str

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        """A batch of the spec's source format -> the same pictures `scale` times as large in its result format.

        The result's pts and durations are the source's. Its planes are new arrays, the caller's to keep. The same batch
        gives the same bytes each time, and a frame's result does not depend on the others of its batch.
        """
        ...

    def close(self) -> None:
        """Give back memory and devices; the backend is not called again."""
        ...
