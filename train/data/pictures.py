"""Pictures and videos found in folders, and still pictures of all kinds read as 8-bit RGB."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

STILLS = {
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff",
    ".webp",
}  # fmt: skip
VIDEOS = {
    ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogm", ".ogv", ".rm", ".rmvb",
    ".ts", ".vob", ".webm", ".wmv",
}  # fmt: skip
UNREADABLE, TOO_SMALL, TOO_LARGE = "unreadable", "too small", "too large"
DUPLICATE, NEAR_FLAT, NOT_NEEDED = "duplicate", "near-flat", "more than the preset takes"
_HASH_SIDE = 16  # a 256-bit perceptual hash
_THUMB_SIDE = 64
# Recompressed copies at 35 to 90 % of the size differ by up to 12 bits and 26 levels; the nearest different pictures
# among a thousand by 16 bits (a face with another expression). A new mouth in a whole figure moves fewer bits than a
# copy does, but some place of the thumbnail by 28 levels or more, mostly.
_SAME_BITS = 12
_SAME_LEVELS = 28


class Unusable(Exception):
    """Why a picture is left out: `reason`, one of the words above, and what exactly."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Found:
    """A file. path: in the pack's words: its source folder's name, then where it is in it."""

    path: str
    file: Path

    @property
    def is_video(self) -> bool:
        return self.file.suffix.lower() in VIDEOS


@dataclass
class Finding:
    """sources: their names. files: sorted by path. unreadable: (folder, why). ignored: number of other files."""

    sources: list[str] = field(default_factory=list)
    files: list[Found] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    ignored: int = 0


def find(sources: Sequence[str | Path]) -> Finding:
    """Every still and video in the folders `sources`, and those that are sources themselves; each file once.

    Names that begin with a dot are skipped. ValueError for a source that is neither.
    """
    finding = Finding()
    seen: set[Path] = set()
    for source in map(Path, sources):
        name = _unique(source.resolve().name or "root", finding.sources)
        finding.sources.append(name)
        if not source.is_dir() and source.suffix.lower() not in STILLS | VIDEOS:
            raise ValueError(f"{source}: got neither folder, picture nor video; expected one of them")
        for file in _walk(source, name, finding.unreadable) if source.is_dir() else [source]:
            if file.suffix.lower() not in STILLS | VIDEOS:
                finding.ignored += 1
            elif (real := file.resolve()) not in seen:
                seen.add(real)
                inner = file.relative_to(source).as_posix()
                finding.files.append(Found(name if inner == "." else f"{name}/{inner}", file))
    finding.files.sort(key=lambda found: found.path)
    return finding


def _walk(source: Path, name: str, unreadable: list[tuple[str, str]]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        unreadable.append((f"{name}/{Path(error.filename).relative_to(source).as_posix()}", str(error.strerror)))

    for folder, folders, files in os.walk(source, onerror=note):
        folders[:] = [inner for inner in folders if not inner.startswith(".")]
        yield from (Path(folder, file) for file in files if not file.startswith("."))


def _unique(name: str, taken: list[str]) -> str:
    """`name`, or with a number behind it where two sources have the same."""
    return next(new for new in [name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))] if new not in taken)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Pillow's warnings off, except of decompression bombs, which become errors. Filters are shared by all threads, so
    this belongs around them, not inside."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_picture(content: bytes, min_side: int) -> np.ndarray:
    """A still picture's file -> [H, W, 3] uint8 RGB: turned as EXIF says, the first frame of an animation, alpha over
    white, 16 bits scaled to 8. Colour profiles are not applied. Inside `quiet_pillow` only.

    Unusable when it cannot be read, is a decompression bomb, or a side is below `min_side`.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content)) as image:
            if min(image.size) < min_side:
                raise Unusable(TOO_SMALL, f"{image.width}x{image.height}")
            return _rgb(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Unusable(TOO_LARGE, f"more than {Image.MAX_IMAGE_PIXELS} pixels") from None
    except Unusable:
        raise
    except Image.UnidentifiedImageError:
        raise Unusable(UNREADABLE, "no picture that Pillow knows" if content else "empty (0 bytes)") from None
    except Exception as error:  # Pillow's decoders raise all kinds on damaged files
        raise Unusable(UNREADABLE, (str(error) or type(error).__name__).splitlines()[0]) from None


def _rgb(image: Any) -> np.ndarray:
    from PIL import Image

    if image.mode.startswith("I"):  # I;16, I;16B: 16 bits; I: 32, but Pillow also puts 16 there
        gray = np.asarray(image).astype(np.int64)
        if gray.min() < 0 or gray.max() > 65535:
            raise Unusable(UNREADABLE, "32 bits a sample; save it with 8 or 16")
        return np.repeat(((gray + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise Unusable(UNREADABLE, "floating-point samples; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


# ---- which side of the split ----------------------------------------------------------------------------------------


def place_of(digest: bytes) -> float:
    """SHA-256 of a picture's content -> its place in 0..1, spread evenly and the same for good."""
    return int.from_bytes(digest[:8], "big") / 2**64


def place_of_frame(digest: bytes, seconds: float) -> float:
    """The place of a video's frame. digest: SHA-256 of the video file. Frames of a whole minute share one: neighbours
    are too alike to be on two sides."""
    return place_of(hashlib.sha256(digest + int(seconds // 60).to_bytes(8, "big")).digest())


def split_of(place: float, validation: float, test: float) -> str:
    """ "validation", "test" or "train" for a `place` in 0..1. validation, test: their shares of all pictures."""
    if place < validation:
        return "validation"
    return "test" if place < validation + test else "train"


# ---- which are the same ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What a picture looks like. bits: uint64 [4], its perceptual hash. thumb: uint8 [64, 64], its luma, made small."""

    bits: np.ndarray
    thumb: np.ndarray


def look_at(pixels: np.ndarray) -> Look:
    """pixels: [H, W, 3] uint8 RGB."""
    import imagehash
    from PIL import Image

    thumb = cv2.resize(pixels, (_THUMB_SIDE, _THUMB_SIDE), interpolation=cv2.INTER_AREA)
    bits = np.packbits(imagehash.phash(Image.fromarray(thumb), _HASH_SIDE).hash.ravel()).view(np.uint64)
    return Look(bits, cv2.cvtColor(thumb, cv2.COLOR_RGB2GRAY))


def bits_apart(bits: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Hamming distance of a hash uint64 [4] to each of others [N, 4]: int [N]."""
    return np.bitwise_count(others ^ bits).sum(axis=1, dtype=np.int64)


def duplicates(looks: Sequence[Look]) -> dict[int, int]:
    """{index of a duplicate: index of what it duplicates}, of `looks` in order of preference: the first is kept.

    Two pictures are the same when their hashes are near and no part of their thumbnails differs: copies that were
    scaled or compressed again are, sprites with another expression are not.
    """
    kept: list[int] = []
    hashes = np.empty((len(looks), 4), np.uint64)
    found = {}
    for index, look in enumerate(looks):
        near = np.flatnonzero(bits_apart(look.bits, hashes[: len(kept)]) <= _SAME_BITS)
        same = (kept[i] for i in near if cv2.absdiff(look.thumb, looks[kept[i]].thumb).max() <= _SAME_LEVELS)
        if (first := next(same, None)) is not None:
            found[index] = first
        else:
            hashes[len(kept)] = look.bits
            kept.append(index)
    return found
