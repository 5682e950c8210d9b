"""Each sample repeated: a backend without a generator, for tests and for measuring everything else."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidsr.backends.base import BackendKind, BackendSpec, Immediate
from vidsr.errors import UsageError
from vidsr.frames import Frame, FrameBatch


class NearestBackend(Immediate):
    """Repeats the samples of each plane `scale` times both ways; bit depths are converted by shifting.

    UsageError when source and result differ in more than bit depth, since no colour is computed here.
    """

    def __init__(self, spec: BackendSpec) -> None:
        source, result = spec.source_format, spec.result_format
        if (source.family, source.chroma_shift) != (result.family, result.chroma_shift):
            raise UsageError(f"--backend nearest: makes no {result.name} of {source.name}: it knows no colour")
        self.spec, self.scale, self.context = spec, spec.scale, 0
        self.description = "nearest neighbour, no model"

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        spec = self.spec
        if batch.format != spec.source_format:
            raise ValueError(f"batch: got {batch.format.name}, expected {spec.source_format.name}")
        shapes = spec.result_format.plane_shapes(batch.width * self.scale, batch.height * self.scale)
        frames = tuple(
            Frame(tuple(map(self._enlarge, frame.planes, shapes)), frame.pts, frame.duration) for frame in batch.frames
        )
        return FrameBatch(frames, spec.result_format, spec.result_color)

    def settle(self, width: int, height: int, patches: bool = True) -> dict[str, Any]:
        return {"backend": "nearest"}

    def close(self) -> None:
        pass

    def _enlarge(self, plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        bits = self.spec.result_format.bits - self.spec.source_format.bits
        if bits > 0:
            plane = plane.astype(self.spec.result_format.dtype) << bits
        elif bits < 0:
            plane = (plane >> -bits).astype(self.spec.result_format.dtype)
        rows, columns = shape  # of odd sizes, chroma rounded up before enlarging has a little too much
        large = np.repeat(np.repeat(plane, self.scale, axis=0)[:rows], self.scale, axis=1)
        return np.ascontiguousarray(large[:, :columns])


KIND = BackendKind(
    "nearest", lambda: None, lambda spec, notify: NearestBackend(spec), needs_model=False, chosen_unasked=False
)
