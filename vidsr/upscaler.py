"""A model for pictures in memory: arrays, and the frames of a video one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from vidsr.backends import open_backend
from vidsr.backends.base import Backend, BackendSpec, Notify
from vidsr.choose.crop import shown
from vidsr.choose.fields import choose_weaving
from vidsr.choose.options import Options, Precision, Reuse
from vidsr.choose.prepare import choose_reuse, make_spec
from vidsr.choose.size import choose_scale
from vidsr.errors import UsageError
from vidsr.frames import Frame, FrameBatch, PixelFormat
from vidsr.report import Report
from vidsr.run.segments import one_segment
from vidsr.run.stages import enlarged
from vidsr.run.stills import COLOR
from vidsr.source.colorspec import result_color
from vidsr.source.probe import probe


@dataclass(frozen=True)
class Picture:
    """One enlarged frame. pixels: [H, W, 3] R'G'B', uint8, or uint16 of 0..65535 where the source has more than 8 bits.

    time, duration: seconds; pts: in the source's time_base units, or parts of them where combs were removed.
    """

    pixels: np.ndarray
    time: float
    duration: float
    pts: int


class Upscaler:
    """A model, ready for pictures in memory; backends open when they are first needed, and stay until `close`.

    model: a name or a weights file; "balanced" by default. scale: by default the model's own. backend, precision, tile,
    reuse: see Options. told: called with a line for each thing that makes it slower. Use it from one thread at a time.
    """

    def __init__(
        self, model: str | None = None, *, scale: int | None = None, backend: str | None = None,
        precision: Precision | None = None, tile: int | None = None, reuse: Reuse | None = None,
        told: Notify | None = None,
    ) -> None:  # fmt: skip
        self._options = Options(
            model=model, scale=scale, backend=backend, precision=precision, tile=tile, reuse=reuse
        )  # fmt: skip
        self._told = told or (lambda line: None)
        self._lock = Lock()  # frames() of two videos at once have a thread each
        self._backends: dict[BackendSpec, Backend] = {}
        self.scale = choose_scale(self._options)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """[H, W, 3] R'G'B', uint8 or uint16, sRGB or any other -> [scale*H, scale*W, 3], the same."""
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16) or not pixels.size:
            got = f"{'x'.join(map(str, pixels.shape))} {pixels.dtype}"
            raise UsageError(f"pixels: got {got}, expected [H, W, 3] uint8 or uint16")
        format = PixelFormat("rgb", 8 * pixels.itemsize)
        backend = self._open(make_spec(self._options, self.scale, format, COLOR, format, COLOR))
        planes = tuple(np.ascontiguousarray(pixels[:, :, channel]) for channel in (1, 2, 0))  # FFmpeg's order: G, B, R
        with self._lock:
            pending = backend.submit(FrameBatch((Frame(planes),), format, COLOR))
        return _rgb(pending().frames[0])

    def frames(self, path: str | Path, start: float = 0.0, duration: float | None = None) -> Iterator[Picture]:
        """The frames of a video, decoded and enlarged, in order; only what moves is computed, see Options.reuse.

        start, duration: seconds, a part of it. What was damaged is told at the end.
        """
        part = Options(start=start, duration=duration)  # which checks them
        report = Report(self._told)
        info = shown(probe(path), report)
        video, span = info.video, part.span
        format = PixelFormat("rgb", 8 if video.format.bits == 8 else 16)
        color = result_color(video.color, format)
        spec = make_spec(self._options, self.scale, video.format, video.color, format, color)
        weaving = choose_weaving(info, span, self._options.deinterlace, Report(self._told))
        stillness = choose_reuse(self._options.reuse, spec, info, span, weaving=weaving)
        base = video.time_base / (weaving.ticks if weaving else 1)
        segment, backend = one_segment(info, span), self._open(spec)
        with enlarged(info, segment, backend, report, 1, stillness, backend_lock=self._lock, weaving=weaving) as frames:
            for frame in frames:
                yield Picture(_rgb(frame), float(frame.pts * base), float(frame.duration * base), frame.pts)
        for line in report.summary():
            self._told(line)

    def close(self) -> None:
        """Give back memory and devices."""
        while self._backends:
            self._backends.popitem()[1].close()

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _open(self, spec: BackendSpec) -> Backend:
        if spec not in self._backends:
            self._backends[spec] = open_backend(spec, self._told)
        return self._backends[spec]


def _rgb(frame: Frame) -> np.ndarray:
    """FFmpeg's planar RGB has the planes G, B, R."""
    green, blue, red = frame.planes
    return np.dstack([red, green, blue])
