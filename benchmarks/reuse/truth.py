"""How near the result with reuse and the one without are to the original, and to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.common.material import as_picture, check_size, load_originals
from benchmarks.common.metrics import PERFECT, decibels, psnr
from benchmarks.peers.folder import Unusable
from benchmarks.peers.scorer import scores
from benchmarks.reuse.film import Film, tile_errors, tile_sums
from vidsr.color import from_rgb
from vidsr.frames import ColorSpec, Frame, PixelFormat, StreamInfo
from vidsr.machine import cores

WORST = 64  # side of the squares of the result that are looked at one by one, luma samples
FLOOR = 4.0  # squared levels, 42 dB: an error below this is not seen, and counts as this much
LOSSES = (1.0, 3.0)  # dB: tiles that lose more are counted


@dataclass(frozen=True)
class Truth:
    """film: the originals as the result's format has them. pictures: frame number -> [H, W, 3] uint8 R'G'B', of some."""

    name: str
    film: Film
    pictures: Mapping[int, np.ndarray]


def load_truth(clip: Path, original: Path, frames: Sequence[Frame], video: StreamInfo, scale: int, format: PixelFormat, color: ColorSpec, every: int) -> Truth:
    """The originals of the first frames of `clip`, reduced by area to `scale` times its size where they are larger.

    video: of the clip. format, color: of the result. every: of so many frames one is kept as a picture. SourceError when
    the original is not the same frames at the same times SCALE times as large.
    """
    check_size(clip, original)
    times = [(frame.pts - frames[0].pts) * video.time_base for frame in frames]
    size = (video.width * scale, video.height * scale)
    planes, kept = [], {}
    for i, picture in enumerate(load_originals(clip, original, range(len(frames)), times)):
        if picture.shape[1::-1] != size:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        rgb = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        planes.append(tuple(plane[0].numpy() for plane in from_rgb(rgb, format, color)))
        if is_kept(i, every):
            kept[i] = picture
    return Truth(original.name, Film(tuple(planes), format), kept)


def is_kept(number: int, every: int) -> bool:
    """Whether a frame is one of those that pictures are made of: one in `every`, and not the first."""
    return number % every == min(1, every - 1)


def losses(original: Film, off: Film, auto: Film) -> dict[str, Any]:
    """How far the result with reuse is from the original, beside the one without.

    off_db, reuse_db: PSNR of the luma of all frames together; loss_db: of that. worst_frame: that loses most. worst_tile:
    of WORST luma samples each way, all planes, that loses most where errors below FLOOR count as FLOOR; beyond: how many
    tiles, of how many, lose more than each of LOSSES.
    """
    errors, frame, tile = [], (-np.inf, 0), (-np.inf, (0, 0, 0))
    beyond, tiles = np.zeros(len(LOSSES), int), 0
    for n in range(len(original)):
        truth = original.plane(n)
        pair = [float(np.square(film.plane(n) - truth).mean(dtype=np.float64)) for film in (off, auto)]
        errors.append(pair)
        frame = max(frame, (_loss(*pair), n))
        each = [np.maximum(tile_errors(film, original, n, WORST), FLOOR) for film in (off, auto)]
        lost = 10 * np.log10(each[1] / each[0])
        row, column = np.unravel_index(int(lost.argmax()), lost.shape)
        tile = max(tile, (float(lost[row, column]), (n, int(column) * WORST, int(row) * WORST)))
        beyond += [int((lost > limit).sum()) for limit in LOSSES]
        tiles += lost.size
    without, with_reuse = (min(PERFECT, decibels(float(error))) for error in np.mean(errors, 0))
    n, x, y = tile[1]
    return {
        "off_db": without, "reuse_db": with_reuse, "loss_db": without - with_reuse,
        "worst_frame": {"loss_db": frame[0], "frame": frame[1]}, "worst_tile": {"loss_db": tile[0], "frame": n, "x": x, "y": y},
        "beyond": dict(zip(map(str, LOSSES), beyond.tolist())), "tiles": tiles,
    }  # fmt: skip


def _loss(without: float, with_reuse: float) -> float:
    return min(PERFECT, decibels(without)) - min(PERFECT, decibels(with_reuse))


def picture_losses(truth: Truth, off: Film, auto: Film, color: ColorSpec, scorer: Path | None, work: Path) -> dict[str, Any]:
    """PSNR of R'G'B' and SSIMULACRA2 of the frames that `truth` has pictures of: {"off", "reuse", "frames", "worst_loss"} each.

    ssimulacra2: None without a scorer; see `peers.scorer.scores`. work: for files in between.
    """
    numbers = sorted(truth.pictures)
    pairs = [
        (truth.pictures[n], as_picture(film.pictures[n], film.format, color)) for film in (off, auto) for n in numbers
    ]
    found: dict[str, Any] = {"rgb_psnr": _halves([psnr(a, b) for a, b in pairs], numbers), "ssimulacra2": None}
    if scorer is not None:
        try:
            found["ssimulacra2"] = _halves(scores(lambda i: pairs[i], len(pairs), scorer, cores(), work), numbers)
        except Unusable as error:
            found["ssimulacra2"] = {"left out": str(error)}
    return found


def _halves(values: Sequence[float], numbers: Sequence[int]) -> dict[str, Any]:
    half = len(numbers)
    return {"off": mean(values[:half]), "reuse": mean(values[half:]), "frames": list(numbers),
            "worst_loss": max(a - b for a, b in zip(values[:half], values[half:]))}  # fmt: skip


def against_off(off: Film, auto: Film) -> dict[str, Any]:
    """Whether the two are identical, and where not, the tile of WORST luma samples each way, in any plane, that differs
    most. db: at most PERFECT."""
    worst: tuple[float, tuple[int, int, int, int]] = (0.0, (0, 0, 0, 0))
    for n in range(len(off)):
        for i in range(len(off.pictures[n])):
            x, y = off.format.chroma_shift if i else (0, 0)
            sums, sizes = tile_sums(np.square(off.plane(n, i) - auto.plane(n, i)), WORST >> y, WORST >> x)
            row, column = np.unravel_index(int((sums / sizes).argmax()), sums.shape)
            worst = max(worst, (float(sums[row, column] / sizes[row, column]), (n, int(column) * WORST, int(row) * WORST, i)))
    error, (n, left, top, plane) = worst
    return {"identical": not error, "db": min(PERFECT, decibels(error)), "frame": n, "x": left, "y": top, "plane": plane}
