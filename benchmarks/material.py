"""What the upscalers are compared on: frames, and where they are known, the originals they were reduced from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.pictures import LONGEST, Scene, Source, read, write_clip
from vidsr.color import from_rgb, to_rgb
from vidsr.errors import SourceError
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat

SCALE = 4
DRAWN_FRAMES = 48
_REDUCED = re.compile(r"_lowres270_crf\d+")


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


def clip_material(path: Path, original: Path | None, count: int) -> Material:
    """`count` frames spread over the clip in `path`, at most all of it.

    SourceError when a file cannot be read, or the original is not the same frames SCALE times as large.
    """
    source = read(path)
    chosen = tuple(sorted({round(i) for i in np.linspace(0, source.length - 1, min(count, source.length))}))
    frames, format, color = _pick(path, chosen)
    batches = tuple(FrameBatch((frame,), format, color) for frame in frames)
    if original is None:
        return Material(source, chosen, batches)
    large = read(original)
    if (large.width, large.height) != (source.width * SCALE, source.height * SCALE):
        raise SourceError(f"{original}: is {large.size}, not {SCALE} times the {source.size} of {path.name}")
    if large.length != source.length:
        raise SourceError(f"{original}: has {large.length} frames and {path.name} {source.length}: not the same clip")
    frames, format, color = _pick(original, chosen)
    originals = tuple(as_picture(frame.planes, format, color) for frame in frames)
    return Material(source, chosen, batches, originals, original.name)


def halved(material: Material) -> Material:
    """The same frames, to be enlarged half as far: the originals are reduced by area."""
    scale = material.scale // 2
    size = (material.source.width * scale, material.source.height * scale)
    originals = tuple(cv2.resize(large, size, interpolation=cv2.INTER_AREA) for large in material.originals)
    return replace(material, originals=originals, scale=scale)


def find_original(clip: Path) -> Path | None:
    """The original beside a reduced clip, by name: NAME_highres1080 of NAME_lowres270_crfNN; None when there is none."""
    name, replaced = _REDUCED.subn("_highres1080", clip.name)
    path = clip.with_name(name)
    return path if replaced and path.is_file() else None


def _pick(path: Path, indices: Sequence[int]) -> tuple[list[Frame], PixelFormat, ColorSpec]:
    from vidsr.decode import decode
    from vidsr.probe import probe
    from vidsr.report import Report

    video = probe(path).video
    decoded: Iterator[Frame] = islice(decode(path, video, None, None, None, Report()), LONGEST)
    wanted = set(indices)
    frames = [
        Frame(tuple(plane.copy() for plane in frame.planes), frame.pts, frame.duration)
        for i, frame in enumerate(decoded) if i in wanted
    ]  # fmt: skip
    return frames, video.format, video.color


def as_picture(planes: Sequence[np.ndarray], format: PixelFormat, color: ColorSpec) -> np.ndarray:
    """Planes -> [H, W, 3] uint8 R'G'B', by vidsr's own colour arithmetic."""
    rgb = to_rgb([torch.from_numpy(np.ascontiguousarray(plane))[None] for plane in planes], format, color)
    return np.asarray((rgb[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def as_encoded(picture: np.ndarray, format: PixelFormat, color: ColorSpec) -> np.ndarray:
    """A picture, R'G'B' [H, W, 3] uint8, as it is after becoming planes of a video: its chroma is subsampled."""
    rgb = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    return as_picture([plane[0].numpy() for plane in from_rgb(rgb, format, color)], format, color)
