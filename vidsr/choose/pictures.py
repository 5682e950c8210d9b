"""Which picture is meant: the choices for stills and animations, made before the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from vidsr.backends.base import BackendSpec
from vidsr.choose.model import natively
from vidsr.choose.options import Options
from vidsr.choose.prepare import make_spec
from vidsr.choose.size import choose_size, expected_shape, size_name
from vidsr.choose.targets import check_output, default_output
from vidsr.errors import UsageError
from vidsr.frames import PixelFormat, Shape
from vidsr.pictures.base import Page
from vidsr.pictures.fit import EnlargedPage, orientation, result_of
from vidsr.pictures.read import look
from vidsr.run.finish import Taste
from vidsr.run.stills import COLOR, PictureJob

MOST_SCALED = 2**28  # pixels, with 128 more a side: what FFmpeg takes for a picture


def choose_picture(path: Path, options: Options, tell: Callable[[str], None]) -> PictureJob:
    """Every choice for a still or an animation. tell: told what its result cannot hold, and what is assumed.

    UsageError for what cannot be done, SourceError for what is no picture, OutputError for a place that cannot be
    written.
    """
    if options.part is not None:
        raise UsageError(f"{path}: --crop {options.crop} is for video: leave it out, and crop the picture before")
    source = look(path)
    output = options.output or default_output(path, size_name(options))
    result, lost = result_of(source, output, lambda page: _size(options, page))
    check_output(path, output, options.overwrite)
    for page in dict.fromkeys(source.pages):
        _check_scaler(path, options, page)
    notes = [*source.notes, *lost]
    if options.compile:
        notes.append("--compile is left out, which takes longer than a single picture")
    for line in notes:
        tell(f"{path.name}: {line}")

    def spec(page: Page) -> BackendSpec:
        return _spec(options, page)[0]

    taste = Taste(options.strength, options.deband)
    return PictureJob(source, result, spec, options.overwrite, options.check, taste)


def _spec(options: Options, page: Page) -> tuple[BackendSpec, Shape | None]:
    """(the backend for a page, what its result is made to; None where it is that already)."""
    format = PixelFormat("rgb", page.bits)
    scale, shape = choose_size(options, _shape(page), format, _turned(page))
    spec = make_spec(replace(options, compile=False), scale, format, COLOR, format, COLOR)
    return natively(spec, shape), shape


def _check_scaler(path: Path, options: Options, page: Page) -> None:
    """UsageError where more has to be done to all of the model's result at once, and it is too large for FFmpeg."""
    spec, shape = _spec(options, page)
    width, height = page.width * spec.scale, page.height * spec.scale
    if (width + 128) * (height + 128) < MOST_SCALED:
        return
    for name, asked in (("--strength", options.strength != 1), ("--deband", options.deband)):
        if asked:
            raise UsageError(f"{name}: {path} becomes {width}x{height}, which is too large for that: leave {name} out")
    if shape is not None:
        raise UsageError(
            f"{options.size_words()}: {path} becomes {width}x{height} first, which is too large to be made smaller "
            f"again: use --scale {shape.least_scale(_shape(page))}"
        )


def expected_size(options: Options) -> EnlargedPage | None:
    """What `options` make of a page; None where they say nothing of it."""
    if not options.sized and options.scale is None:
        return None

    def size(page: Page) -> tuple[int, int]:
        shape = expected_shape(options, _shape(page), PixelFormat("rgb"), _turned(page)) or _shape(page)
        return shape.width, shape.height

    return size


def _size(options: Options, page: Page) -> tuple[int, int]:
    scale, shape = choose_size(options, _shape(page), PixelFormat("rgb"), _turned(page))
    return (scale * page.width, scale * page.height) if shape is None else (shape.width, shape.height)


def _shape(page: Page) -> Shape:
    return Shape(page.width, page.height, Fraction(1))


def _turned(page: Page) -> bool:
    """By a quarter, by viewers."""
    return orientation(page.metadata) > 4
