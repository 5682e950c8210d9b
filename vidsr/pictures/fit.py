"""What a result's file will be, decided before the work: what its kind cannot hold is refused or said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from vidsr.errors import UsageError
from vidsr.pictures.base import GIF, JPEG, PNG, SUFFIXES, TIFF, Kind, Metadata, Page, PictureInfo, kind_of

ORIENTATION = 0x112  # EXIF's tag of how a picture is turned
_SEGMENT = {"EXIF": 65527, "XMP": 65504}  # bytes a JPEG's segment has for them


EnlargedPage = Callable[[Page], tuple[int, int]]  # (width, height) of what becomes of a page, as that lies in its file


def result_of(
    source: PictureInfo, output: Path, enlarged: EnlargedPage
) -> tuple[PictureInfo, list[str]]:  # fmt: skip
    """(what is to be written to `output`, what of the source that cannot hold, one line each).

    UsageError, with the cure, for what cannot be written at all.
    """
    kind = kind_of(output)
    if kind is None:
        raise UsageError(f"{output}: a picture's result is a picture: end it in {', '.join(SUFFIXES)}")
    lost: list[str] = []
    pages = source.pages
    if source.animated and kind.tick is None:
        raise UsageError(f"{output}: {kind.name} holds no animation: use .png, .webp or .gif, or .mkv for a video")
    if len(pages) > 1 and not source.animated and not kind.pages:
        raise UsageError(f"{output}: the source has {len(pages)} pages, and {kind.name} holds one: use .tif")
    if source.default and kind is not PNG:
        lost.append("its picture for viewers without animation is left out")
        pages = pages[1:]
    results = {page: _page(page, kind, output, enlarged, lost) for page in dict.fromkeys(pages)}
    if kind.tick and kind is not PNG and any((shown / kind.tick).denominator != 1 for shown in source.seconds):
        lost.append(f"its times are rounded to {float(kind.tick):g} s")
    if kind is GIF:
        lost.append("GIF holds 256 colours and no half transparency; .webp and .png hold all")
    if source.comments and kind is not GIF:
        lost.append(f"{kind.name} has no place for its comment")
    found = replace(
        source, path=output, kind=kind, pages=tuple(results[page] for page in pages), notes=(),
        default=source.default and kind is PNG, lossless=source.lossless or kind in (PNG, GIF),
    )  # fmt: skip
    return found, list(dict.fromkeys(lost))


def _page(
    page: Page, kind: Kind, output: Path, enlarged: EnlargedPage, lost: list[str]
) -> Page:  # fmt: skip
    turned = turn(page.metadata, kind) > 4
    width, height = enlarged(page)
    width, height = (height, width) if turned else (width, height)
    if max(width, height) > kind.most_side or width * height > kind.most_pixels:
        limit = f"{kind.most_side} a side"
        if max(width, height) <= kind.most_side:
            limit = f"{kind.most_pixels} in all"
        raise UsageError(f"{output}: {width}x{height} pixels are more than {kind.name} takes ({limit}): use .png")
    channels = _channels(page.channels, kind)
    if page.channels in (2, 4) and channels in (1, 3):
        lost.append(f"{kind.name} holds no transparency: what is transparent becomes white")
    if page.bits == 16 and not kind.deep:
        lost.append(f"{kind.name} holds 8 bits a sample: {page.samples} become 8")
    metadata, left = _held(page.metadata, kind)
    if left:
        lost.append(f"{kind.name} has no place for its {' and '.join(left)}")
    return Page(width, height, channels, page.samples if kind.deep else 8, metadata)


def _channels(wanted: int, kind: Kind) -> int:
    """How a picture of so many channels is written."""
    more = {1: (1, 3, 4), 2: (2, 4, 1, 3), 3: (3, 4), 4: (4, 3)}[wanted]
    return next(channels for channels in more if channels in kind.channels)


def _held(metadata: Metadata, kind: Kind) -> tuple[Metadata, list[str]]:
    """(what a kind holds of it, the names of the rest)."""
    left = [
        name for name, data in metadata.named().items()
        if name not in kind.holds or (kind is JPEG and len(data) > _SEGMENT.get(name, len(data)))
    ]  # fmt: skip
    kept = Metadata(
        b"" if "EXIF" in left else metadata.exif, b"" if "XMP" in left else metadata.xmp,
        b"" if "ICC profile" in left else metadata.icc, metadata.dots, metadata.png if kind is PNG else (),
    )  # fmt: skip
    return kept, left


def turn(metadata: Metadata, kind: Kind) -> int:
    """How a picture is to be turned before it is written, as EXIF numbers it, 1 for not at all: where its kind holds no
    EXIF that says it. A TIFF's is upright as it is read, and so is it written."""
    return 1 if "EXIF" in kind.holds and kind is not TIFF else orientation(metadata)


def orientation(metadata: Metadata) -> int:
    """How viewers turn a picture, as EXIF numbers it; 1: not at all."""
    exif = Image.Exif()
    try:
        exif.load(metadata.exif)
        told = exif.get(ORIENTATION, 1)
    except (SyntaxError, ValueError, OSError, KeyError):
        return 1
    return told if told in range(1, 9) else 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, C] as EXIF's number says it is to be looked at (Exif 2.3, 4.6.4, Orientation)."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
