"""The proof for pictures: is the result the source, enlarged, with every page, time and note of it?"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from vidsr.pictures.base import GIF, PNG, Page, PictureInfo
from vidsr.pictures.compose import ticks
from vidsr.pictures.fit import EnlargedPage, result_of, turn, turned
from vidsr.pictures.pixels import narrowed, on_white
from vidsr.pictures.read import look, look_at_any, pictures
from vidsr.proof.check import Check, Proof
from vidsr.proof.compare import moved, psnr

MIN_PSNR = 22.0  # dB, of a result scaled back down; 256 colours cost some
MAX_SHIFT = 4.0  # levels of 255, of the means of small squares
MOST_COMPARED = 1 << 27  # pixels of a result's picture: decoding more takes more memory than enlarging did
_ROWS = 256
COMPARED = 24  # pictures of an animation, at most


def verify_picture(source: Path, result: Path, enlarged: EnlargedPage | None = None) -> Proof:
    """Compare `result` with `source`: pictures, sizes, times, transparency, depth, metadata, and the pixels.

    enlarged: what the size of a page becomes; None: any larger one of the same shape. SourceError when either is no
    picture.
    """
    before, after = look(source), look_at_any(result, result.suffix)
    return prove(before, result_of(before, result, enlarged or _any_larger(before, after))[0], after)


def _any_larger(before: PictureInfo, after: PictureInfo) -> EnlargedPage:
    """The size that pages have, where it is right."""
    sizes: dict[Page, tuple[int, int]] = {}
    for page, made in zip(before.pages[len(before.pages) - len(after.pages) :], after.pages):
        width, height = made.width, made.height
        if turn(page.metadata, after.kind) > 4:
            width, height = height, width
        across, down = Fraction(width, page.width), Fraction(height, page.height)
        rounded = min(abs(width - page.width * down), abs(height - page.height * across))
        if rounded <= Fraction(1, 2) and min(across, down) >= 1:
            sizes[page] = width, height
    return lambda page: sizes.get(page, (page.width, page.height))


def prove(before: PictureInfo, wanted: PictureInfo, after: PictureInfo) -> Proof:
    """Compare what was made, `after`, with what was to be made of `before`, and with its pixels."""
    checks = [*_check_structure(wanted, after), *_check_metadata(wanted, after)]
    if all(check.passed for check in checks):
        checks += _check_pixels(before, wanted, after)
    return Proof(tuple(checks))


def _check_structure(wanted: PictureInfo, found: PictureInfo) -> list[Check]:
    sizes = [[(page.width, page.height) for page in info.pages] for info in (wanted, found)]
    first = "x".join(map(str, sizes[1][0]))
    checks = [
        Check("kind", wanted.kind is found.kind, found.kind.name),
        Check("pictures", len(sizes[0]) == len(sizes[1]), f"{len(sizes[1])} of {len(sizes[0])}"),
        Check("size", sizes[0] == sizes[1], first),
        Check("depth", _least(wanted, "bits") <= _least(found, "bits"), f"{_least(found, 'bits')} bit"),
    ]
    if found.kind is not GIF:  # of which the pixels tell
        lost = any(p.channels in (2, 4) and q.channels not in (2, 4) for p, q in zip(wanted.pages, found.pages))
        checks.append(Check("transparency", not lost, "lost" if lost else "kept"))
    if wanted.animated or found.animated:
        checks.append(_check_times(wanted, found))
        plays = [str(info.plays) if info.plays else "for ever" for info in (wanted, found)]
        checks.append(Check("plays", wanted.plays == found.plays, f"{plays[0]} -> {plays[1]}"))
    return checks


def _least(info: PictureInfo, name: str) -> int:
    return min(getattr(page, name) for page in info.pages)


def _check_times(wanted: PictureInfo, found: PictureInfo) -> Check:
    """Exactly in a PNG, else in the kind's own units."""
    if found.kind is PNG:
        worst = max((abs(a - b) for a, b in zip(wanted.seconds, found.seconds)), default=Fraction(0))
        passed = worst <= Fraction(1, 1000) and len(wanted.seconds) == len(found.seconds)
    else:
        rate = round(1 / (found.kind.tick or Fraction(1)))
        passed = ticks(wanted.seconds, rate) == [round(shown * rate) for shown in found.seconds]
    return Check("times", passed, f"{len(found.seconds)} pictures in {float(sum(found.seconds)):.3f} s")


def _check_metadata(wanted: PictureInfo, found: PictureInfo) -> list[Check]:
    """That there is what there should be, and that a profile is the same to the byte."""
    a, b = wanted.pages[0].metadata.named(), found.pages[0].metadata.named()
    return [
        Check(name, name in b and (name != "ICC profile" or a[name] == b[name]), "kept" if name in b else "lost")
        for name in a
    ]  # fmt: skip


def _check_pixels(before: PictureInfo, wanted: PictureInfo, after: PictureInfo) -> list[Check]:
    most = max(page.width * page.height for page in after.pages)
    if most > MOST_COMPARED:
        return [Check("pixels", True, f"not compared, since {most} of them take too much memory")]
    squared, shift, compared, worst = 0.0, 0.0, 0, 99.0
    for small, large in _pairs(before, wanted, after):
        a = _seen(small).astype(np.float32)
        b = cv2.resize(_seen(large), (a.shape[1], a.shape[0]), interpolation=cv2.INTER_AREA).astype(np.float32)
        error = float(((a - b) ** 2).mean())
        squared, compared, worst = squared + error, compared + 1, min(worst, psnr(error))
        shift = max(shift, moved(a, b))
    words = f"{compared} scaled back down: PSNR {psnr(squared / max(1, compared)):.1f} dB, the worst {worst:.1f} dB"
    return [
        Check("pixels", compared > 0 and worst >= MIN_PSNR, words),
        Check("colours", shift <= MAX_SHIFT, f"means move by {shift:.2f} of 255 levels"),
    ]


def _pairs(before: PictureInfo, wanted: PictureInfo, after: PictureInfo) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    old = islice(zip(pictures(before), before.pages), len(before.pages) - len(wanted.pages), None)
    step = max(1, len(after.pages) // COMPARED)
    for number, ((small, page), large) in enumerate(zip(old, pictures(after))):
        if number % step == 0:
            yield turned(small, turn(page.metadata, after.kind)), large


def _seen(picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8: as it looks on white; rows by rows, since it may be large."""
    result = np.empty((*picture.shape[:2], 3), np.uint8)
    for top in range(0, len(picture), _ROWS):
        rows = picture[top : top + _ROWS]
        rows = on_white(rows) if rows.shape[2] in (2, 4) else rows
        result[top : top + _ROWS] = narrowed(rows) if rows.dtype == np.uint16 else rows  # gray is repeated
    return result
