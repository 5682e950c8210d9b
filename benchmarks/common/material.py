"""What the upscalers are compared on: frames, and where they are known, the originals they were reduced from."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.common.pictures import LONGEST, Scene, Source, decoded, read, write_clip
from vidsr.color import from_rgb, to_rgb
from vidsr.errors import SourceError, VidsrError
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat

SCALE = 4
DRAWN_FRAMES = 48
APART = Fraction(1, 100)  # seconds between a frame and its original, at most: containers round
_REDUCED = re.compile(r"_lowres270_crf\d+")
_WORN = re.compile(r"(.+)_worn(?:_(\w+))?")


@dataclass(frozen=True)
class Material:
    """source: the clip. indices: which of its frames are compared. batches: those, one in each.

    originals: uint8 R'G'B' for each, [H, W, 3] `scale` times as large; none where they are not known. original: where
    they are from. scale: how far the frames are enlarged.
    """

    source: Source
    indices: tuple[int, ...]
    batches: tuple[FrameBatch, ...]
    originals: tuple[np.ndarray, ...] = ()
    original: str = ""
    scale: int = SCALE


class _Reduced(Scene):
    """A scene drawn SCALE times as large and reduced by area."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.large = Scene(width * SCALE, height * SCALE)

    def picture(self, number: int) -> np.ndarray:
        size = (self.width, self.height)
        return np.asarray(cv2.resize(self.large.picture(number), size, interpolation=cv2.INTER_AREA))


def drawn_material(width: int, height: int, count: int, folder: Path) -> Material:
    """`count` frames of a clip drawn SCALE times as large, reduced and compressed; `folder` is for the clip."""
    scene = _Reduced(width, height)
    path = folder / f"drawn-{width}x{height}.mkv"
    write_clip(path, scene, max(count, DRAWN_FRAMES))
    material = clip_material(path, None, count)
    originals = tuple(scene.large.picture(i)[:, :, ::-1].copy() for i in material.indices)
    return Material(read(path, "drawn clip"), material.indices, material.batches, originals, "as drawn")


def clip_material(path: Path, original: Path | None, count: int, longer: bool = False) -> Material:
    """`count` frames spread over the clip in `path`, at most all of it; the middle one, if it is one.

    longer: the original may go on after the clip ends. SourceError when a file cannot be read, or the original is not the
    same frames at the same times SCALE times as large.
    """
    source = read(path)
    chosen = tuple(sorted({round(i) for i in np.linspace(0, source.length - 1, min(count, source.length))}))
    chosen = (source.length // 2,) if count == 1 else chosen
    frames, format, color, times = _pick(path, chosen)
    batches = tuple(FrameBatch((frame,), format, color) for frame in frames)
    if original is None:
        return Material(source, chosen, batches)
    check_size(path, original)
    if not longer and (length := read(original).length) != source.length:
        raise SourceError(f"{original}: has {length} frames and {path.name} {source.length}: not the same clip")
    originals = tuple(load_originals(path, original, chosen, times))
    return Material(source, chosen, batches, originals, original.name)


def load_originals(clip: Path, original: Path, chosen: Sequence[int], times: Sequence[Fraction]) -> Iterator[np.ndarray]:
    """Those frames of `original`, uint8 R'G'B' [H, W, 3]; `times`: of the clip's, in seconds from its first frame's.

    SourceError when the original cannot be read, or its frames are not at the same times.
    """
    frames, format, color, others = _pick(original, chosen)
    for i, time, other in zip(chosen, times, others):
        if abs(time - other) > APART:
            raise SourceError(f"{original}: its frame {i} is at {float(other):.3f} s, that of {clip.name} at {float(time):.3f} s: not the same clip")
    return (as_picture(frame.planes, format, color) for frame in frames)


def halved(material: Material) -> Material:
    """The same frames, to be enlarged half as far: the originals are reduced by area."""
    scale = material.scale // 2
    size = (material.source.width * scale, material.source.height * scale)
    originals = tuple(cv2.resize(large, size, interpolation=cv2.INTER_AREA) for large in material.originals)
    return replace(material, originals=originals, scale=scale)


def check_size(clip: Path, original: Path) -> None:
    """SourceError when `original` is not SCALE times as large as `clip`, or one of them is no video."""
    from vidsr.source.probe import probe

    small, large = probe(clip).video, probe(original).video
    if (large.width, large.height) != (small.width * SCALE, small.height * SCALE):
        raise SourceError(f"{original}: is {large.width}x{large.height}, not {SCALE} times the {small.width}x{small.height} of {clip.name}")


def find_original(clip: Path) -> Path | None:
    """The original beside a reduced clip, by name: NAME_highres1080 of NAME_lowres270_crfNN; None when there is none."""
    name, replaced = _REDUCED.subn("_highres1080", clip.name)
    path = clip.with_name(name)
    return path if replaced and path.is_file() else None


def worn_kind(clip: Path) -> str | None:
    """How a clip called NAME_worn_KIND was worn, "" for NAME_worn; None for another name."""
    found = _WORN.fullmatch(clip.stem)
    return found and (found[2] or "")


def find_worn_original(clip: Path, folders: Sequence[Path] = ()) -> Path | None:
    """NAME_highres1080 or another NAME_highres* of NAME_worn_KIND; None when there is none.

    It is looked for beside the clip, in `folders`, and in the folders beside the clip's: the first of SCALE times its
    size, or the first, if none is.
    """
    found = _WORN.fullmatch(clip.stem)
    if not found:
        return None
    beside = sorted(path for path in clip.resolve().parent.parent.iterdir() if path.is_dir())
    paths = [
        path for folder in (clip.parent, *folders, *beside)
        for path in sorted(folder.glob(f"{glob.escape(found[1])}_highres*"), key=lambda path: (path.suffix != clip.suffix, path.name))
        if path.is_file() and re.fullmatch(r"\d*", path.stem.removeprefix(f"{found[1]}_highres"))
    ]  # fmt: skip
    return next((path for path in paths if _fits(clip, path)), next(iter(paths), None))


def _fits(clip: Path, original: Path) -> bool:
    try:
        check_size(clip, original)
    except VidsrError:
        return False
    return True


def _pick(path: Path, indices: Sequence[int]) -> tuple[list[Frame], PixelFormat, ColorSpec, list[Fraction]]:
    """Those frames, their format and colour, and their times in seconds from the first frame's. SourceError where there
    are less."""
    video, found = decoded(path)
    frames: list[Frame] = []
    start = 0
    for i, frame in enumerate(islice(found, LONGEST)):
        start = start if i else frame.pts
        if i in indices:
            frames.append(Frame(tuple(plane.copy() for plane in frame.planes), frame.pts, frame.duration))
        if i == max(indices):
            break
    if len(frames) < len(indices):
        raise SourceError(f"{path}: has less than {max(indices) + 1} frames")
    return frames, video.format, video.color, [(frame.pts - start) * video.time_base for frame in frames]


def as_picture(planes: Sequence[np.ndarray], format: PixelFormat, color: ColorSpec) -> np.ndarray:
    """Planes -> [H, W, 3] uint8 R'G'B', by vidsr's own colour arithmetic."""
    rgb = to_rgb([torch.from_numpy(np.ascontiguousarray(plane))[None] for plane in planes], format, color)
    return np.asarray((rgb[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def as_encoded(picture: np.ndarray, format: PixelFormat, color: ColorSpec) -> np.ndarray:
    """A picture, R'G'B' [H, W, 3] uint8, as it is after becoming planes of a video: its chroma is subsampled."""
    rgb = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    return as_picture([plane[0].numpy() for plane in from_rgb(rgb, format, color)], format, color)
