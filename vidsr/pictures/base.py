"""What is known of a picture's file, and of the kinds of files there are."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Kind:
    """A kind of file. name: for people; suffixes: the first is the usual one.

    most_side, most_pixels: what its files, or the decoders that people have, take at most. channels: what is written:
    1 gray, 2 gray and alpha, 3 RGB, 4 RGBA. deep: whether 16 bits are kept (12 in AVIF). pages: several pictures of
    their own sizes. tick: seconds that the times of an animation are counted in; None: it holds none. holds: of "EXIF",
    "XMP" and "ICC profile".
    """

    name: str
    suffixes: tuple[str, ...]
    channels: tuple[int, ...]
    most_side: int = 2**31 - 1
    most_pixels: int = 2**62
    deep: bool = False
    pages: bool = False
    tick: Fraction | None = None
    holds: tuple[str, ...] = ()


_ALL = ("EXIF", "XMP", "ICC profile")
PNG = Kind("PNG", (".png", ".apng"), (1, 2, 3, 4), deep=True, tick=Fraction(1, 65535), holds=_ALL)
JPEG = Kind("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), (1, 3), 65535, holds=_ALL)
WEBP = Kind("WebP", (".webp",), (3, 4), 16383, tick=Fraction(1, 1000), holds=_ALL)
GIF = Kind("GIF", (".gif",), (4,), 65535, tick=Fraction(1, 100))
TIFF = Kind("TIFF", (".tif", ".tiff"), (1, 2, 3, 4), deep=True, pages=True, holds=_ALL)
# Decoders made of libavif refuse more unless they are told otherwise, browsers among them.
AVIF = Kind("AVIF", (".avif",), (1, 3, 4), 32768, 16384**2, deep=True, holds=_ALL)
JP2 = Kind("JPEG 2000", (".jp2",), (1, 3, 4), deep=True)
BMP = Kind("BMP", (".bmp", ".dib"), (1, 3, 4))
TGA = Kind("TGA", (".tga",), (1, 3, 4), 65535)
PNM = Kind("PNM", (".ppm", ".pgm", ".pnm"), (1, 3), deep=True)
KINDS = (PNG, JPEG, WEBP, GIF, TIFF, AVIF, JP2, BMP, TGA, PNM)
SUFFIXES = tuple(suffix for kind in KINDS for suffix in kind.suffixes)
READ_ONLY = (".j2k", ".j2c", ".jpf", ".jpx", ".pbm", ".mpo")  # suffixes that are read, and written as another


def kind_of(path: Path) -> Kind | None:
    """The kind that is written under this name; None for a suffix that is not written."""
    return next((kind for kind in KINDS if path.suffix.lower() in kind.suffixes), None)


@dataclass(frozen=True)
class Metadata:
    """EXIF (TIFF's bytes, without "Exif\\0\\0"), XMP (XML) and ICC profile; b"" where there is none.

    dots: (horizontal, vertical) dots an inch as told; None: not told. png: a PNG's own chunks, which hold all of these
    and more, for another PNG.
    """

    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes = b""
    dots: tuple[float, float] | None = None
    png: tuple[tuple[bytes, bytes], ...] = ()

    def named(self) -> dict[str, bytes]:
        """What there is, by the words of `Kind.holds`."""
        every = {"EXIF": self.exif, "XMP": self.xmp, "ICC profile": self.icc}
        return {name: data for name, data in every.items() if data}


@dataclass(frozen=True)
class Page:
    """One picture of a file. channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA. samples: bits that a sample has in the
    file."""

    width: int
    height: int
    channels: int
    samples: int = 8
    metadata: Metadata = Metadata()

    @property
    def bits(self) -> int:
        """8 or 16, of a sample of its array; all of them are used."""
        return 8 if self.samples <= 8 else 16

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)


@dataclass(frozen=True)
class PictureInfo:
    """What is in a picture's file.

    pages: its pictures, all of one size in an animation. seconds: how long each is shown, as the file says it, which
    may be 0; empty where it is no animation. plays: how often it is shown; 0: for ever. default: an APNG's picture for
    viewers without animation, which is not part of it, comes first and is the first page. lossless: whether its pixels
    are kept to the bit. comments: a GIF's. notes: what is assumed of it, or cannot be had, one line each.
    """

    path: Path
    kind: Kind
    pages: tuple[Page, ...]
    seconds: tuple[Fraction, ...] = ()
    plays: int = 0
    default: bool = False
    lossless: bool = True
    comments: bytes = b""
    notes: tuple[str, ...] = ()

    @property
    def animated(self) -> bool:
        return bool(self.seconds)
