"""Pictures enlarged by the same backends as video: stills piece by piece, animations by what changes in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import tee
from pathlib import Path

import cv2
import numpy as np

from vidsr.backends.base import Backend, BackendSpec
from vidsr.errors import VerifyError
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat, Shape
from vidsr.pictures.base import Page, PictureInfo
from vidsr.pictures.fit import turn, turned
from vidsr.pictures.pixels import assembled
from vidsr.pictures.read import look_at_any, pictures
from vidsr.pictures.write import write
from vidsr.proof.check import Proof
from vidsr.proof.pictures import prove
from vidsr.reuse.reuse import reuse, windows
from vidsr.reuse.stillness import Stillness
from vidsr.run.finish import NO_TASTE, Taste, finished_still

COLOR = ColorSpec("rgb", True, "left", 0, 1, 13)  # sRGB
WHOLE = 1 << 21  # source pixels that the backend is given at once; larger pictures are worked on in pieces
PIECE = 640  # source pixels a side


@dataclass(frozen=True)
class PictureJob:
    """A picture to enlarge, every choice made. result: what is to be written, and where.

    make_spec: gives the backend for a page of the source. overwrite: whether a file at the output may be replaced.
    check: whether the result is proved. taste: see finish.py.
    """

    source: PictureInfo
    result: PictureInfo
    make_spec: Callable[[Page], BackendSpec]
    overwrite: bool = False
    check: bool = True
    taste: Taste = NO_TASTE


def upscale_picture(
    job: PictureJob, open_backend: Callable[[BackendSpec], Backend], shown: Callable[[int], None] = lambda done: None
) -> Proof | None:  # fmt: skip
    """Enlarge, write and prove; the proof, if one was wanted. shown: called with how many pages or pictures of an
    animation are done.

    SourceError where the pixels are damaged, OutputError where the result cannot be written, VerifyError where it does
    not prove to be the source; nothing is left then.
    """
    proof: Proof | None = None
    backends: dict[BackendSpec, Backend] = {}

    def backend(page: Page) -> Backend:
        spec = job.make_spec(page)
        if spec not in backends:
            backends[spec] = open_backend(spec)
        return backends[spec]

    def counted() -> Iterator[Iterable[np.ndarray]]:
        for done, bands in enumerate(_enlarged(job, backend)):
            yield bands
            shown(done + 1)

    def check(path: Path) -> None:
        nonlocal proof
        if not job.check:
            return
        proof = prove(job.source, job.result, look_at_any(path, job.result.path.suffix))
        if not proof.passed:
            failed = "; ".join(f"{each.name}: {each.detail}" for each in proof.failures)
            what = f"does not prove to be {job.source.path.name}, enlarged ({failed})"
            raise VerifyError(f"{job.result.path}: {what}, and is left out; --no-verify keeps it")

    try:
        write(job.result, counted(), job.overwrite, check)
        return proof
    finally:
        for each in backends.values():
            each.close()


def _enlarged(job: PictureJob, backend: Callable[[Page], Backend]) -> Iterator[Iterable[np.ndarray]]:
    """Bands of each picture of the result."""
    source, result = job.source, job.result
    read: Iterator[np.ndarray] = (
        turned(picture, turn(page.metadata, result.kind))
        for picture, page in zip(pictures(source), source.pages, strict=True)
    )  # fmt: skip
    if source.default:
        first = next(read)
        if result.default:
            own = backend(source.pages[0])
            yield _finished(bands(first, own), first, own, result.pages[0], job.taste)
    if source.animated:
        own, wanted = backend(source.pages[-1]), result.pages[-1]
        for_size, read = tee(read)
        both = zip(animation(read, own), for_size)
        yield from (_finished([made], small, own, wanted, job.taste) for made, small in both)
    else:
        for picture, page, wanted in zip(read, source.pages, result.pages):
            own = backend(page)
            yield _finished(bands(picture, own), picture, own, wanted, job.taste)


def _finished(
    made: Iterable[np.ndarray], small: np.ndarray, backend: Backend, page: Page, taste: Taste
) -> Iterable[np.ndarray]:  # fmt: skip
    """Bands of what was made of `small`, as they are, or where another size or taste was asked for all in one."""
    height, width = small.shape[0] * backend.scale, small.shape[1] * backend.scale
    if (width, height) == (page.width, page.height) and taste == NO_TASTE:
        return made
    whole = assembled((height, width, small.shape[2]), made)
    return [finished_still(filled(small), whole, Shape(page.width, page.height, Fraction(1)), taste)]


def bands(picture: np.ndarray, backend: Backend, whole: int = WHOLE, side: int = PIECE) -> Iterator[np.ndarray]:
    """[H, W, channels], uint8 or uint16 -> the same `scale` times as large, in bands of rows from above.

    Alpha goes through the generator as a gray picture does. A large picture is worked on in pieces with so much around
    them that no seam shows, unless nobody knows how much that is.

    whole: source pixels that are given to the backend at once. side: of a piece, source pixels.
    """
    height, width, channels = picture.shape
    picture = filled(picture)
    if height * width <= whole or backend.context is None:
        yield _through(picture, backend)
        return
    scale = backend.scale
    for top, bottom, y0, y1 in windows(height, side, backend.context):
        band = np.empty(((y1 - y0) * scale, width * scale, channels), picture.dtype)
        for left, right, x0, x1 in windows(width, side, backend.context):
            piece = _through(picture[top:bottom, left:right], backend)
            piece = piece[(y0 - top) * scale : (y1 - top) * scale, (x0 - left) * scale : (x1 - left) * scale]
            band[:, x0 * scale : x1 * scale] = piece
        yield band


def animation(pictures: Iterator[np.ndarray], backend: Backend) -> Iterator[np.ndarray]:
    """Pictures [H, W, channels] of one size, enlarged: what is the same to the bit as in the one before stays so."""
    for_color, for_alpha, sources = tee(pictures, 3)
    colors = reuse(map(_color_batch, map(filled, for_color)), backend, Stillness())
    alphas = reuse(map(_alpha_batch, for_alpha), backend, Stillness())
    for source in sources:
        large = _interleaved(next(colors), source.shape[2])
        if source.shape[2] in (2, 4):
            alpha = next(alphas).planes[0]
            large = np.concatenate([large, _firm(alpha, source[:, :, -1], backend.scale)[:, :, None]], 2)
        yield large


def _through(picture: np.ndarray, backend: Backend) -> np.ndarray:
    """[H, W, channels] -> the same, enlarged."""
    large = _interleaved(backend(_color_batch(picture)).frames[0], picture.shape[2])
    if picture.shape[2] in (1, 3):
        return large
    source = picture[:, :, -1]
    if source.min() == np.iinfo(source.dtype).max:
        alpha = np.full(large.shape[:2], source.flat[0], source.dtype)
    else:
        alpha = _firm(backend(_alpha_batch(picture)).frames[0].planes[0], source, backend.scale)
    return np.concatenate([large, alpha[:, :, None]], 2)


def _color_batch(picture: np.ndarray) -> FrameBatch:
    """FFmpeg's planar RGB has the planes G, B, R."""
    order = (1, 2, 0) if picture.shape[2] >= 3 else (0, 0, 0)
    planes = tuple(np.ascontiguousarray(picture[:, :, channel]) for channel in order)
    return FrameBatch((Frame(planes),), PixelFormat("rgb", 8 * picture.itemsize), COLOR)


def _alpha_batch(picture: np.ndarray) -> FrameBatch:
    return _color_batch(picture[:, :, -1:])


def _interleaved(frame: Frame, channels: int) -> np.ndarray:
    """[H, W, 1 or 3], without alpha."""
    green, blue, red = frame.planes
    return np.dstack([red, green, blue]) if channels >= 3 else green[:, :, None]


def _firm(large: np.ndarray, source: np.ndarray, scale: int) -> np.ndarray:
    """Enlarged alpha, opaque and clear where `source` is so all around: a generator may miss that by a level."""
    most = np.iinfo(source.dtype).max
    result = large
    for level in (0, most):
        around = cv2.erode((source == level).astype(np.uint8), np.ones((3, 3), np.uint8))
        if around.any():
            result = np.where(np.repeat(np.repeat(around, scale, 0), scale, 1) > 0, source.dtype.type(level), result)
    return result


def filled(picture: np.ndarray) -> np.ndarray:
    """The same with the colours of what nobody sees (alpha 0) taken from the nearest that can be seen, so that a
    generator, which knows nothing of alpha, brings none of them to light."""
    if picture.shape[2] in (1, 3):
        return picture
    hidden = (picture[:, :, -1] == 0).astype(np.uint8)
    if not hidden.any() or hidden.all():
        return picture
    _, labels = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    seen = np.flatnonzero(hidden == 0)
    nearest = np.zeros(int(labels.max()) + 1, np.int64)  # of each label the pixel it stands for
    nearest[labels.ravel()[seen]] = seen
    result, flat = picture.copy(), picture.reshape(-1, picture.shape[2])
    for row in np.flatnonzero(hidden.any(1)):
        here = np.flatnonzero(hidden[row])
        result[row, here, :-1] = flat[nearest[labels[row, here]], :-1]
    return result
