"""What can be asked for, checked once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Literal, TypedDict, get_args

from vidsr.backends.base import Precision
from vidsr.errors import UsageError
from vidsr.frames import TimeRange
from vidsr.models.checkpoint import MOST_SCALE
from vidsr.mux.keep import DROP_WORDS

SCALES = range(2, MOST_SCALE + 1)
LEAST_TILE = 16
Hwaccel = Literal["cuda", "off"]
Reuse = Literal["exact", "off"]
Grain = Literal["keep"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a source is to be upscaled. What is None is chosen for the source and the machine.

    output: the result; None: beside the source, named after the scale.
    scale: 2 to 8 times the size, as far as the model goes. height: rows of the result instead, a whole number of times
    the source's.
    model: an installed model's name, a weights file, or "best" for the best there is whatever it costs; None: the best
    that keeps up with the source on this machine; "balanced" for a still picture.
    backend: a name of `vidsr.capabilities()`. precision: of the convolutions. tile: work on squares of that many source
    pixels, 16 and more. compile: let torch.compile fuse PyTorch's kernels: up to a minute at first, then faster.
    codec: by a name or alias of encode.codecs. crf, preset: as the encoder has them. encoder_options: others of it, by
    FFmpeg's names. pixel_format: FFmpeg's name.
    threads: of each encoder. jobs: segments worked on at once.
    hwaccel: "cuda": decode and encode on the GPU or fail; "off": never.
    reuse: "exact": compute anew what differs to the bit; "off": everything; None: what differs by more than noise.
    grain: "keep": lay the noise that is taken out of what stands still over the result; None: leave it out.
    start, duration: seconds, a part of the source. drop: kinds of tracks (audio, subtitle, …, unsupported) or their
    numbers as text, to be left out.
    check: prove the result at the end. overwrite: replace a file at `output`. restart: throw unfinished work away.

    UsageError, one line with the cure, for what makes no sense whatever the source.
    """

    output: Path | None = None
    scale: int | None = None
    height: int | None = None
    model: str | None = None
    backend: str | None = None
    precision: Precision | None = None
    tile: int | None = None
    compile: bool = False
    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    encoder_options: Mapping[str, str] = field(default_factory=dict)
    pixel_format: str | None = None
    threads: int | None = None
    jobs: int | None = None
    hwaccel: Hwaccel | None = None
    reuse: Reuse | None = None
    grain: Grain | None = None
    start: float = 0.0
    duration: float | None = None
    drop: Collection[str] = frozenset()
    check: bool = True
    overwrite: bool = False
    restart: bool = False

    def __post_init__(self) -> None:
        if self.output is not None:
            object.__setattr__(self, "output", Path(self.output))
        if self.model is not None:
            object.__setattr__(self, "model", str(self.model))
        dropped = [self.drop] if isinstance(self.drop, str) else self.drop
        object.__setattr__(self, "drop", frozenset(map(str, dropped)))
        for name in ("scale", "height", "tile", "threads", "jobs"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise UsageError(f"--{name} {value}: choose a whole number")
        if self.scale is not None and self.scale not in SCALES:
            raise UsageError(f"--scale {self.scale}: choose a number from {SCALES[0]} to {SCALES[-1]}")
        if self.scale is not None and self.height is not None:
            raise UsageError(f"height {self.height}: leave it out, or scale {self.scale}")
        for name, least in (("height", 1), ("tile", LEAST_TILE), ("threads", 1), ("jobs", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name} {value}: choose {least} or more")
        for name, words in (("precision", Precision), ("hwaccel", Hwaccel), ("reuse", Reuse), ("grain", Grain)):
            value = getattr(self, name)
            if value is not None and value not in get_args(words):
                raise UsageError(f"--{name} {value}: choose one of auto, {', '.join(get_args(words))}")
        if self.grain and self.reuse:
            raise UsageError(f"--grain keep: with --reuse {self.reuse} none is taken out; leave one of them out")
        if not (isfinite(self.start) and self.start >= 0):
            raise UsageError(f"--start {self.start}: choose a time from 0 on")
        if self.duration is not None and not (isfinite(self.duration) and self.duration > 0):
            raise UsageError(f"--duration {self.duration:g}: choose more than nothing")
        for word in self.drop:
            if word not in DROP_WORDS and not is_number(word):
                raise UsageError(f"--drop {word}: choose a track number or one of {', '.join(DROP_WORDS)}")


    @property
    def span(self) -> TimeRange:
        """The part of the source that is meant."""
        return TimeRange(self.start, None if self.duration is None else self.start + self.duration)


class Choices(TypedDict, total=False):
    """The same as keyword arguments."""

    scale: int | None
    height: int | None
    model: str | None
    backend: str | None
    precision: Precision | None
    tile: int | None
    compile: bool
    codec: str | None
    crf: float | None
    preset: str | None
    encoder_options: Mapping[str, str]
    pixel_format: str | None
    threads: int | None
    jobs: int | None
    hwaccel: Hwaccel | None
    reuse: Reuse | None
    grain: Grain | None
    start: float
    duration: float | None
    drop: Collection[str]
    check: bool
    overwrite: bool
    restart: bool


def is_number(text: str) -> bool:
    """Whether `text` is a whole number without a sign as people write it; "²" and "٣" are digits to Python, too."""
    return text.isascii() and text.isdecimal()
