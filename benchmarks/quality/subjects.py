"""What quality is measured on: reduced clips beside their originals, and still pictures, enlarged by 4 and by 2."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.common.material import (
    SCALE,
    Material,
    check_size,
    clip_material,
    find_original,
    find_worn_original,
    halved,
    worn_kind,
)
from benchmarks.common.pictures import Source
from vidsr.errors import SourceError, UsageError, VidsrError
from vidsr.frames import Frame, FrameBatch, PixelFormat
from vidsr.pictures.base import SUFFIXES
from vidsr.pictures.pixels import fitted, narrowed, on_white
from vidsr.pictures.read import look, pictures
from vidsr.run.stills import COLOR

SMALLEST = 64  # pixels a side of a still: a smaller one has too few to be scored
STILLS = "stills"
WORN, SCENES, WORN_STILLS = "worn clips", "worn scenes", "worn stills"
WORN_GROUPS = (WORN, SCENES, WORN_STILLS)


@dataclass(frozen=True)
class Subject:
    """name: a clip's, without its suffix, or STILLS. group: those whose means are taken together. scale: 4 or 2.

    digest: of all that decides what is compared. load: gives one material of a clip, or one for each still; SourceError
    for a file that is not what it should be.
    """

    name: str
    group: str
    scale: int
    digest: str
    load: Callable[[], list[Material]]


def enlarged(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] uint8 -> [*size, 3] uint8 by bicubic interpolation, antialiased where it gets smaller.

    PIL's, which is what the pictures of training were reduced by: cubic convolution with a = -0.5, in integers. PyTorch
    computes the same within one level of 255, and PIL is not needed to run vidsr.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
    scaled = F.interpolate(pixels, size=size, mode="bicubic", antialias=True)
    return np.asarray(scaled[0].permute(1, 2, 0).contiguous().numpy())


# --- clips -----------------------------------------------------------------------------------------------------------


def find_clips(paths: Iterable[Path], frames: int, originals: Sequence[Path] = ()) -> tuple[list[Subject], list[str]]:
    """At 4x and at 2x each of the clips `paths`, or in them where they are folders, and a line for each that is left out.

    frames: how many of each clip, spread over it. originals: folders of the originals of worn clips.
    """
    found: dict[str, list[Subject]] = {}
    lines: list[str] = []
    for path in paths:
        clips = [path]
        if path.is_dir():
            clips = [clip for clip in sorted(path.iterdir()) if find_original(clip) or worn_kind(clip) is not None]
            if not clips:
                lines.append(f"{path}: no clip in it is called NAME_lowres270_crfNN and has its NAME_highres1080 beside it, or NAME_worn_KIND")
        for clip in clips:
            try:
                if clip.stem in found:
                    raise SourceError(f"{clip}: another clip has this name: rename one")
                found[clip.stem] = _clip(clip, frames, originals)
            except VidsrError as error:
                lines.append(str(error))
    return [subject for subjects in found.values() for subject in subjects], lines


def _clip(path: Path, frames: int, originals: Sequence[Path]) -> list[Subject]:
    worn = worn_kind(path) is not None
    original = find_worn_original(path, originals) if worn else find_original(path)
    if original is None:
        needed = "NAME_worn_KIND needs a NAME_highres* there, in a folder beside that, or in --originals" if worn else "NAME_lowres270_crfNN needs a NAME_highres1080 of the same kind"
        raise SourceError(f"{path}: no original beside it: {needed}")
    check_size(path, original)
    digest = _digest(_digest_of(path), _digest_of(original), str(frames) if frames > 1 else "the middle one")
    crf = re.search(r"_crf(\d+)$", path.stem)
    kind = SCENES if path.stem.startswith("scene") else WORN_STILLS if path.stem.startswith("still") else WORN
    group = kind if worn else f"clips at CRF {crf[1]}" if crf else "clips"

    def load(scale: int) -> list[Material]:
        material = _clip_material(path, original, frames, worn)
        return [material if scale == SCALE else halved(material)]

    return [Subject(path.stem, group, scale, _digest(digest, str(scale)), lambda scale=scale: load(scale)) for scale in (4, 2)]  # type: ignore[misc]


_clip_material = lru_cache(maxsize=1)(clip_material)  # at 2x right after 4x: decoding takes seconds


# --- stills ----------------------------------------------------------------------------------------------------------


def folder_stills(folder: Path) -> list[Path]:
    """The pictures in `folder`, sorted. UsageError when there is none."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UsageError(f"{folder}: no picture in it ({', '.join(SUFFIXES)})")
    return found


def pack_stills(folder: Path, without: Sequence[str]) -> list[Path]:
    """The test pictures of a training pack, sorted by the names they had, less those that match a pattern of `without`.

    A pattern (fnmatch) is of a name or of one of its folders. UsageError when there is no pack, or no picture left.
    """
    try:
        entries = json.loads((folder / "manifest.json").read_bytes())["pictures"]
        tests = sorted((entry["path"], entry["file"]) for entry in entries if entry["split"] == "test")
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder}: no pack there; make one with python -m train prepare, or use --stills") from None
    left = [
        folder / file for path, file in tests
        if not any(fnmatch.fnmatchcase(part, pattern) for part in path.split("/") for pattern in without)
    ]  # fmt: skip
    if not left:
        raise UsageError(f"{folder}: no test picture in it is left")
    return left


def find_stills(paths: Sequence[Path]) -> tuple[list[Subject], list[str]]:
    """The pictures `paths` at 4x and at 2x, all of them one subject, and a line for each that cannot be used."""
    used, digests, lines = [], [], []
    for path in paths:
        try:
            _still(path)
            used.append(path)
            digests.append(_digest_of(path))
        except SourceError as error:
            lines.append(str(error))
    if not used:
        return [], lines

    def load(scale: int) -> list[Material]:
        return [_still_material(path, scale) for path in used]

    digest = _digest(*digests)
    return [Subject(STILLS, STILLS, scale, _digest(digest, str(scale)), lambda scale=scale: load(scale)) for scale in (4, 2)], lines  # type: ignore[misc]


def _still(path: Path) -> np.ndarray:
    """A picture as [H, W, 3] uint8 R'G'B', its right and lower edges cut to multiples of 4; alpha over white."""
    picture = next(pictures(look(path)))
    picture = narrowed(picture) if picture.dtype == np.uint16 else picture
    picture = fitted(on_white(picture) if picture.shape[2] in (2, 4) else picture, 3)
    height, width = (side - side % SCALE for side in picture.shape[:2])
    if min(height, width) < SMALLEST:
        raise SourceError(f"{path}: is {picture.shape[1]}x{picture.shape[0]}; stills have {SMALLEST} pixels a side at least")
    return np.ascontiguousarray(picture[:height, :width])


def _still_material(path: Path, scale: int) -> Material:
    original = _still(path)
    height, width = (side // scale for side in original.shape[:2])
    small = enlarged(original, (height, width))
    frame = Frame(tuple(np.ascontiguousarray(small[:, :, channel]) for channel in (1, 2, 0)))  # G, B, R
    format = PixelFormat("rgb")
    source = Source(path.name, width, height, (frame,), format, COLOR)
    return Material(source, (0,), (FrameBatch((frame,), format, COLOR),), (original,), path.name, scale)


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
