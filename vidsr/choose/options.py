"""What can be asked for, checked once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Literal, TypedDict, get_args

from vidsr.backends.base import Precision
from vidsr.errors import UsageError
from vidsr.frames import Crop, TimeRange
from vidsr.models.checkpoint import MOST_SCALE
from vidsr.mux.keep import DROP_WORDS
from vidsr.mux.sound import Audio

SCALES = range(2, MOST_SCALE + 1)
LEAST_TILE = 16
AUTO_CROP: Literal["auto"] = "auto"
Hwaccel = Literal["cuda", "off"]
Reuse = Literal["exact", "off"]
Grain = Literal["keep"]
Deinterlace = Literal["off", "bob", "ivtc"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a source is to be upscaled. What is None is chosen for the source and the machine.

    output: the result; None: beside the source, named after the scale.
    scale: 2 to 8 times the size, as far as the model goes. height, width, fit: rows, columns, or (width, height) of a
    box of the result instead, its shape kept; square_pixels: with pixels as wide as high, else those of the source.
    crop: "W:H:X:Y" or (W, H, X, Y): only that part of each picture, from column X and row Y on; "auto": all but black
    bars; None or "off": all that players show.
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
    strength: of the model, from 1, what it makes, down to 0, the source plainly enlarged (Catmull-Rom).
    deband: smooth slopes of shade that have become steps.
    deinterlace: None: film that was telecined gets its own pictures back, video becomes a picture for each two fields;
    "bob": for each field; "ivtc": look harder for telecine; "off": leave combs.
    start, duration: seconds, a part of the source. drop: kinds of tracks (audio, subtitle, …, unsupported) or their
    numbers as text, to be left out.
    audio: "opus", "aac" or "flac": encode all sound anew; None: keep it as it is.
    check: prove the result at the end. overwrite: replace a file at `output`. restart: throw unfinished work away.

    UsageError, one line with the cure, for what makes no sense whatever the source.
    """

    output: Path | None = None
    scale: int | None = None
    height: int | None = None
    width: int | None = None
    fit: tuple[int, int] | str | None = None
    square_pixels: bool = False
    crop: tuple[int, int, int, int] | str | None = None
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
    strength: float = 1.0
    deband: bool = False
    deinterlace: Deinterlace | None = None
    start: float = 0.0
    duration: float | None = None
    drop: Collection[str] = frozenset()
    audio: Audio | None = None
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
        _ = self.box, self.part  # which check them
        for name in ("scale", "height", "width", "tile", "threads", "jobs"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise UsageError(f"--{name} {value}: choose a whole number")
        if self.scale is not None and self.scale not in SCALES:
            raise UsageError(f"--scale {self.scale}: choose a number from {SCALES[0]} to {SCALES[-1]}")
        given = [name for name in ("scale", "height", "width", "fit") if getattr(self, name) is not None]
        if len(given) > 1:
            both = " and ".join(f"--{name} {getattr(self, name)}" for name in given)
            box = "; --fit WIDTHxHEIGHT keeps the shape within both" if {"height", "width"} <= set(given) else ""
            raise UsageError(f"{both}: choose one of them{box}")
        for name, least in (("height", 1), ("width", 1), ("tile", LEAST_TILE), ("threads", 1), ("jobs", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name} {value}: choose {least} or more")
        for name, words in (
            ("precision", Precision), ("hwaccel", Hwaccel), ("reuse", Reuse), ("grain", Grain), ("audio", Audio),
            ("deinterlace", Deinterlace),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value not in get_args(words):
                raise UsageError(f"--{name} {value}: choose one of auto, {', '.join(get_args(words))}")
        if self.grain and self.reuse:
            raise UsageError(f"--grain keep: with --reuse {self.reuse} none is taken out; leave one of them out")
        if not 0 <= self.strength <= 1:
            raise UsageError(f"--strength {self.strength:g}: choose a number from 0 to 1")
        if not (isfinite(self.start) and self.start >= 0):
            raise UsageError(f"--start {self.start}: choose a time from 0 on")
        if self.duration is not None and not (isfinite(self.duration) and self.duration > 0):
            raise UsageError(f"--duration {self.duration:g}: choose more than nothing")
        for word in self.drop:
            if word not in DROP_WORDS and not is_number(word):
                raise UsageError(f"--drop {word}: choose a track number or one of {', '.join(DROP_WORDS)}")

    @property
    def sized(self) -> bool:
        """Whether the result's size is asked for in pixels, or their shape."""
        return self.square_pixels or any(value is not None for value in (self.height, self.width, self.fit))

    @property
    def box(self) -> tuple[int, int] | None:
        """`fit` as (width, height)."""
        if self.fit is None:
            return None
        parts = self.fit.lower().split("x") if isinstance(self.fit, str) else [str(side) for side in self.fit]
        if len(parts) != 2 or not all(is_number(part) and int(part) > 0 for part in parts):
            raise UsageError(f"--fit {self.fit}: write it as WIDTHxHEIGHT, such as 1920x1080")
        return int(parts[0]), int(parts[1])

    @property
    def part(self) -> Crop | Literal["auto"] | None:
        """`crop`, as far as it can be told without a source."""
        if self.crop is None or self.crop == "off":
            return None
        if self.crop == AUTO_CROP:
            return AUTO_CROP
        parts = self.crop.split(":") if isinstance(self.crop, str) else [str(number) for number in self.crop]
        if len(parts) != 4 or not all(is_number(part) for part in parts) or 0 in map(int, parts[:2]):
            raise UsageError(f"--crop {self.crop}: write it as WIDTH:HEIGHT:X:Y, such as 704:480:8:0, auto or off")
        return Crop(*map(int, parts))

    def size_words(self) -> str:
        """How the size was asked for, on the command line."""
        fit = None if self.box is None else "x".join(map(str, self.box))
        sizes = (("scale", self.scale), ("height", self.height), ("width", self.width), ("fit", fit))
        words = [f"--{name} {value}" for name, value in sizes if value is not None]
        return " ".join(words + ["--square-pixels"] * self.square_pixels)

    @property
    def span(self) -> TimeRange:
        """The part of the source that is meant."""
        return TimeRange(self.start, None if self.duration is None else self.start + self.duration)


class Expected(TypedDict, total=False):
    """Those that a result's size, its pictures and their times, and its sound follow from, as keyword arguments."""

    scale: int | None
    height: int | None
    width: int | None
    fit: tuple[int, int] | str | None
    square_pixels: bool
    crop: tuple[int, int, int, int] | str | None
    deinterlace: Deinterlace | None
    start: float
    duration: float | None
    audio: Audio | None


class Choices(Expected, total=False):
    """All of them but the output."""

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
    strength: float
    deband: bool
    drop: Collection[str]
    check: bool
    overwrite: bool
    restart: bool


def is_number(text: str) -> bool:
    """Whether `text` is a whole number without a sign as people write it; "²" and "٣" are digits to Python, too."""
    return text.isascii() and text.isdecimal()
