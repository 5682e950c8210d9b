"""What is to be done of one source, every choice made, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidsr.backends.base import BackendSpec
from vidsr.encode.encoder import EncodeSettings
from vidsr.frames import Shape, SourceInfo, TimeRange, Window
from vidsr.mux.keep import Keep
from vidsr.mux.sound import Audio
from vidsr.reuse.stillness import Stillness
from vidsr.run.finish import NO_TASTE, Taste
from vidsr.source.weaving import Weaving


@dataclass(frozen=True)
class Job:
    """One episode to upscale, every choice made. It pickles: another process or machine can work on it.

    info: of the source as it is; shown: as it is upscaled, made of `weaving`, None: the source's own pictures.
    workers: segments worked on at once. decode_on_gpu: see source.decode.decode. reuse: of still areas; None: never.
    restart: whether unfinished work is thrown away; overwrite: whether a file at `output` may be replaced; check:
    whether the result is proved. settings: what plan.json remembers besides source and versions. shape: what the
    enlarged pictures are made to; None: they stay `backend.scale` times as large. taste: what else is done to them; see
    finish.py for both. audio: what all sound is encoded anew as; None: it is kept.
    """

    info: SourceInfo
    output: Path
    backend: BackendSpec
    encoder: EncodeSettings
    keep: Keep
    span: TimeRange = field(default_factory=TimeRange)
    batch_size: int = 1
    workers: int = 1
    decode_on_gpu: bool = False
    reuse: Stillness | None = None
    weaving: Weaving | None = None
    restart: bool = False
    overwrite: bool = False
    check: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    shape: Shape | None = None
    audio: Audio | None = None
    taste: Taste = NO_TASTE

    def window(self, first: int, end: int | None) -> Window:
        """`span` as it has come out: the pts of the result's first picture, and the lowest behind it in the source."""
        begin = first * self.shown.video.time_base if self.span.start else None
        return Window(begin, None if end is None else end * self.info.video.time_base)

    @property
    def result(self) -> Shape:
        """Of the result's pictures."""
        video, scale = self.info.video, self.backend.scale
        return self.shape or Shape(scale * video.width, scale * video.height, video.sample_aspect)

    @property
    def shown(self) -> SourceInfo:
        return self.info if self.weaving is None else self.weaving.info(self.info)


@dataclass(frozen=True)
class Progress:
    """Where a run is. done, total: frames, resumed ones included; segment: 1-based number of the furthest one begun.

    reused: the share of the pictures upscaled so far that was taken from earlier results.
    step: "upscaling", then "joining" and "proving", which take a moment with long episodes.
    """

    done: int
    total: int
    segment: int
    segments: int
    resumed: int
    reused: float = 0.0
    step: str = "upscaling"
