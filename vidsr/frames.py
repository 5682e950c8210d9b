"""The nouns that travel between the stages: pixel formats, colour, frames, batches.

Frames hold planes, never RGB pixels that swscale made: the way from YUV to the generator and back is color.py's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np

from vidsr.timeline import Timeline

_NAME = re.compile(r"(?:yuv(?P<chroma>420|422|444)p|(?P<gray>gray)|(?P<rgb>gbrp))(?P<bits>10|12|16)?(?:le)?")


@dataclass(frozen=True)
class PixelFormat:
    """A planar, little-endian pixel format.

    family: "yuv" (planes Y, U, V), "gray" (Y) or "rgb" (planes G, B, R, FFmpeg's order).
    bits: 8, 10, 12 or 16 bits a sample; above 8 a sample takes two bytes.
    chroma_shift: (x, y) binary logarithms of the chroma subsampling; (0, 0) unless family is "yuv".
    """

    family: str
    bits: int = 8
    chroma_shift: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.family not in ("yuv", "gray", "rgb"):
            raise ValueError(f"family: got {self.family!r}, expected yuv, gray or rgb")
        if self.bits not in (8, 10, 12, 16):
            raise ValueError(f"bits: got {self.bits}, expected 8, 10, 12 or 16")
        if self.chroma_shift not in ((0, 0), (1, 0), (1, 1)):
            raise ValueError(f"chroma_shift: got {self.chroma_shift}, expected (0, 0), (1, 0) or (1, 1)")

    @classmethod
    def from_name(cls, name: str) -> PixelFormat:
        """From FFmpeg's name (`yuv420p10le`, `gray`, `gbrp`; `yuvj…` counts as `yuv…`). ValueError for any other."""
        match = _NAME.fullmatch(name.replace("yuvj", "yuv"))
        if not match:
            raise ValueError(f"{name!r} is not one of yuv420p, yuv422p, yuv444p, gray, gbrp (8, 10, 12 or 16 bit)")
        bits = int(match["bits"] or 8)
        if match["gray"]:
            return cls("gray", bits)
        if match["rgb"]:
            return cls("rgb", bits)
        return cls("yuv", bits, {"420": (1, 1), "422": (1, 0), "444": (0, 0)}[match["chroma"]])

    @property
    def name(self) -> str:
        """FFmpeg's name of this format."""
        depth = "" if self.bits == 8 else f"{self.bits}le"
        if self.family == "yuv":
            return {(1, 1): "yuv420p", (1, 0): "yuv422p", (0, 0): "yuv444p"}[self.chroma_shift] + depth
        return {"gray": "gray", "rgb": "gbrp"}[self.family] + depth

    @property
    def dtype(self) -> np.dtype:
        """uint8, or uint16 above 8 bits."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    def plane_shapes(self, width: int, height: int) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each plane of a `width` x `height` picture; chroma of odd sizes is rounded up."""
        if self.family == "gray":
            return ((height, width),)
        x, y = self.chroma_shift
        chroma = (-(-height >> y), -(-width >> x))
        return ((height, width), chroma, chroma)


@dataclass(frozen=True)
class ColorSpec:
    """How samples mean colours. Codes are those of ITU-T H.273 (= FFmpeg's enums).

    matrix: "bt601", "bt709", "bt2020", "fcc", "smpte240m", "ycgco" or "rgb": the coefficients used for the arithmetic.
    full_range: True when luma spans 0..2^n-1, False when 16..235 (scaled to the depth).
    chroma_location: "left", "center" or "topleft": where a subsampled chroma sample sits among its luma samples.
    matrix_code, primaries, transfer: the H.273 codes to write into the result.
    assumed: one sentence for each property that the source left unspecified.
    """

    matrix: str = "bt709"
    full_range: bool = False
    chroma_location: str = "left"
    matrix_code: int = 1
    primaries: int = 1
    transfer: int = 1
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """One picture as the decoder gave it or the encoder takes it.

    planes: arrays [rows, columns], uint8 or uint16 as the format says; rows may be padded apart in memory (strides).
    pts: presentation timestamp in the stream's time_base units.
    duration: in time_base units; 0 when unknown.
    corrupt: the decoder met errors in it.
    source: of an enlarged one, the planes that it was made from.
    alpha: [rows, columns] of the picture, 0 to 2^bits - 1 of the planes' format; None: it is opaque.
    """

    planes: tuple[np.ndarray, ...]
    pts: int = 0
    duration: int = 0
    corrupt: bool = False
    source: tuple[np.ndarray, ...] = ()
    alpha: np.ndarray | None = None


@dataclass(frozen=True)
class FrameBatch:
    """Frames of one size, format and colour; the unit a backend works on. Never empty."""

    frames: tuple[Frame, ...]
    format: PixelFormat
    color: ColorSpec

    def __post_init__(self) -> None:
        if not self.frames:
            raise ValueError("frames: got none, expected at least one")
        expected = self.format.plane_shapes(self.width, self.height)
        for frame in self.frames:
            got = tuple(plane.shape for plane in frame.planes)
            if got != expected:
                raise ValueError(f"planes: got shapes {got}, expected {expected} for {self.format.name}")
            if any(plane.dtype != self.format.dtype for plane in frame.planes):
                raise ValueError(f"planes: got {frame.planes[0].dtype}, expected {self.format.dtype}")

    @property
    def width(self) -> int:
        return int(self.frames[0].planes[0].shape[1])

    @property
    def height(self) -> int:
        return int(self.frames[0].planes[0].shape[0])

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class HdrMetadata:
    """HDR10's static metadata (SMPTE ST 2086 and CTA-861.3).

    mastering: ten values: red x, red y, green x, y, blue x, y, white x, y (CIE 1931), lowest and highest luminance in
    cd/m²; or None.
    content_light: (MaxCLL, MaxFALL) in cd/m²; or None.
    """

    mastering: tuple[Fraction, ...] | None
    content_light: tuple[int, int] | None


@dataclass(frozen=True)
class Track:
    """One stream of a container, as far as keeping it is concerned.

    kind: "video", "audio", "subtitle", "attachment", "data", "cover" or "unknown". codec: FFmpeg's name, "?" if none.
    """

    index: int
    kind: str
    codec: str
    language: str = ""
    title: str = ""
    dispositions: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [self.kind, self.codec, self.language, f"“{self.title}”" if self.title else "", *self.dispositions]
        return f"#{self.index} " + " ".join(word for word in words if word)


@dataclass(frozen=True)
class Part:
    """A stretch of a video whose pictures are alike, from pts `start` on, which is a keyframe's. The rest: see
    StreamInfo."""

    start: int
    width: int
    height: int
    pixel_format: str
    sample_aspect: Fraction


@dataclass(frozen=True)
class Crop:
    """A part of a picture: `width` x `height` luma samples from column `x` and row `y` on."""

    width: int
    height: int
    x: int
    y: int

    def __str__(self) -> str:
        return f"{self.width}:{self.height}:{self.x}:{self.y}"


@dataclass(frozen=True)
class Shape:
    """What pictures become: `width` x `height` pixels, each `sample_aspect` times as wide as high."""

    width: int
    height: int
    sample_aspect: Fraction

    def least_scale(self, source: Shape) -> int:
        """How many times as large, 2 at the least, `source` has to be made for it never to be enlarged afterwards."""
        return max(2, ceil(max(Fraction(self.width, source.width), Fraction(self.height, source.height))))


@dataclass(frozen=True)
class StreamInfo:
    """The video stream to upscale.

    width, height: pixels of what is taken of each picture, before rotation: all of it where `crop` is None. crop: where
    that lies; decoded: (width, height) of the decoder's pictures, None where all is taken. pixel_format: FFmpeg's name
    of what the decoder gives; format: what the stages work on. time_base: seconds a pts unit. rate: a sane average
    frame rate, frames a second. sample_aspect: width over height of a pixel, 1 when the source says nothing.
    display_matrix: the nine integers of the container's rotation, or None. monotonic: False when timestamps come out of
    order (AVI with B-frames). lost: what only lives inside the coded pictures and cannot survive a new encode, one
    phrase each. alpha: whether its pictures have an alpha plane that is to be kept: their frames then have one.
    remade: its pictures and their times are not those of the file but made of their fields, see source.weaving.
    coded_aspect: what the codec says where the pixels have `sample_aspect`; containers may know better.
    parts: none where all pictures are alike as far as known; else what they are, and are not to the stages: those get
    all of them as the rest of this says, see source.changes.
    stereo: where the two eyes of stereo 3D lie, in Matroska's words ("left_right", "top_bottom", …); None: it is flat.
    timeline: what becomes of times that restart; pts are always meant to be on it.
    field_step: pts units from a picture's first field to its second, where each is coded by itself; else 0.
    timed: whether its pictures have times at all; else they follow each other by `rate` from 0 on (raw streams).
    """

    index: int
    codec: str
    width: int
    height: int
    pixel_format: str
    format: PixelFormat
    color: ColorSpec
    time_base: Fraction
    rate: Fraction
    sample_aspect: Fraction
    display_matrix: tuple[int, ...] | None = None
    hdr: HdrMetadata | None = None
    interlaced: bool = False
    monotonic: bool = True
    remade: bool = False
    lost: tuple[str, ...] = ()
    stereo: str | None = None
    alpha: bool = False
    coded_aspect: Fraction = Fraction(1)
    parts: tuple[Part, ...] = ()
    crop: Crop | None = None
    decoded: tuple[int, int] | None = None
    timeline: Timeline = field(default_factory=Timeline, repr=False)
    field_step: int = 0
    timed: bool = True

    @property
    def step(self) -> int:
        """From one picture to the next by `rate`, time_base units."""
        return max(1, round(1 / (self.rate * self.time_base)))

    @property
    def whole(self) -> StreamInfo:
        """The same with all of the decoder's pictures."""
        width, height = self.decoded or (self.width, self.height)
        return replace(self, width=width, height=height, crop=None, decoded=None)

    @property
    def shape(self) -> Shape:
        """Of what is taken."""
        return Shape(self.width, self.height, self.sample_aspect)

    @property
    def turned(self) -> bool:
        """Whether players turn it by a quarter, so that its rows become columns."""
        matrix = self.display_matrix
        return matrix is not None and abs(matrix[1]) > abs(matrix[0])

    @property
    def crop_steps(self) -> tuple[int, int]:
        """What the columns and rows at which a part may begin are multiples of: chroma is shared by two each, and of
        interlaced video each field has its own."""
        x, y = self.format.chroma_shift
        return 1 << x, (1 << y) * (2 if self.interlaced else 1)

    def cropped(self, crop: Crop) -> StreamInfo:
        """With `crop` of what is taken so far. ValueError where it does not lie within that, or between two samples of
        chroma."""
        if min(crop.x, crop.y) < 0 or min(crop.width, crop.height) < 1:
            raise ValueError(f"crop {crop}: got a part of nothing")
        if crop.x + crop.width > self.width or crop.y + crop.height > self.height:
            raise ValueError(f"crop {crop}: got more than {self.width}x{self.height}")
        if crop.x % self.crop_steps[0] or crop.y % self.crop_steps[1]:
            raise ValueError(f"crop {crop}: got a beginning between two samples of {self.format.name}'s chroma")
        before, whole = self.crop or Crop(self.width, self.height, 0, 0), self.whole
        within = Crop(crop.width, crop.height, before.x + crop.x, before.y + crop.y)
        decoded = whole.width, whole.height
        return replace(self, width=crop.width, height=crop.height, crop=within, decoded=decoded)


@dataclass(frozen=True)
class SourceInfo:
    """What probe found in a file. duration: seconds, None when the container does not say."""

    path: Path
    container: str
    duration: float | None
    video: StreamInfo
    tracks: tuple[Track, ...]
    chapters: int


@dataclass(frozen=True)
class TimeRange:
    """A part of the source: seconds from its first frame; end None means to the end."""

    start: float = 0.0
    end: float | None = None

    @property
    def whole(self) -> bool:
        return self.start == 0 and self.end is None

    def limits(self, first: int, time_base: Fraction) -> tuple[int | None, int | None]:
        """(lowest pts inside, lowest pts behind) in `time_base` units, for a stream whose first pts is `first`; None:
        no limit."""

        def units(seconds: float) -> int:
            # 0.2 s means a fifth of a second, not the nearest binary fraction above it.
            return first + ceil(Fraction(seconds).limit_denominator(1_000_000) / time_base)

        return units(self.start) if self.start else None, None if self.end is None else units(self.end)


@dataclass(frozen=True)
class Window:
    """A part of a source on its own clock, for all of its tracks.

    start: seconds of its first picture, by which everything becomes earlier; end: seconds behind it; None: no limit.
    """

    start: Fraction | None = None
    end: Fraction | None = None

    @property
    def shift(self) -> Fraction:
        """How much earlier everything becomes, seconds."""
        return self.start or Fraction(0)

    @property
    def whole(self) -> bool:
        return self.start is None and self.end is None

    def holds(self, time: Fraction) -> bool:
        """Whether what begins at that second is in it."""
        return (self.start is None or time >= self.start) and (self.end is None or time < self.end)
