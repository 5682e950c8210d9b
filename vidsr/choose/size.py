"""How large results become: a number of times the source's size, or what was asked for in pixels.

The model enlarges by its own scale, and run/finish.py makes that smaller in one step: nothing is enlarged twice.
"""

from __future__ import annotations

from fractions import Fraction

from vidsr.backends import backend_kind
from vidsr.choose.model import FAMILY, family, family_member
from vidsr.choose.options import SCALES, Options
from vidsr.errors import UsageError
from vidsr.frames import PixelFormat, Shape
from vidsr.models.checkpoint import model_scale


def choose_scale(options: Options) -> int:
    """How many times as large, where no size in pixels is asked for: as asked for, or the model's own; 4 for a backend
    that stands in for a model.

    UsageError for a scale that the model cannot give, ModelError for weights that cannot be loaded.
    """
    wanted = options.scale
    if not _needs_model(options):
        return wanted or 4
    model = family_member(options.model, wanted or 0)
    most = model_scale(model.path)
    if wanted is not None and wanted > most:
        raise UsageError(f"--scale {wanted}: {model.name} enlarges {most} times: leave --scale out, or change --model")
    return wanted or most


def choose_size(
    options: Options, source: Shape, format: PixelFormat, turned: bool = False
) -> tuple[int, Shape | None]:
    """(the scale that a model needs at the least, what its result is made to; None where it is that already).

    format: of the result, whose subsampled chroma wants even sizes. turned: by a quarter, by players: what is asked for
    as rows is what is seen as rows. UsageError for a size below the source's, or beyond what the model can give.
    """
    if not options.sized:
        return choose_scale(options), None
    asked, steps = options.size_words(), _steps(format)
    shape, most = _shape(options, source, steps, turned), _most(options)
    if shape.width < source.width or shape.height < source.height:
        raise UsageError(
            f"{asked}: makes {_seen(shape, turned)} of {_seen(source, turned)}, which is smaller; choose a larger size"
        )
    if shape.width > most * source.width or shape.height > most * source.height:
        largest = _fitting(most * source.width, most * source.height, *_ratio(options, source), steps)
        raise UsageError(
            f"{asked}: {_seen(shape, turned)} is more than {most} times the source's {_seen(source, turned)}, and "
            f"{_who(options)} enlarges no further: choose {_seen(largest, turned)} or less"
        )
    least = shape.least_scale(source)
    whole = Shape(least * source.width, least * source.height, source.sample_aspect)
    return least, None if shape == whole else shape


def expected_shape(options: Options, source: Shape, format: PixelFormat, turned: bool = False) -> Shape | None:
    """What `options` make of such pictures in a result of `format`; None where they say nothing of it."""
    if options.sized:
        return _shape(options, source, _steps(format), turned)
    if options.scale is None:
        return None
    return Shape(options.scale * source.width, options.scale * source.height, source.sample_aspect)


def size_name(options: Options) -> str:
    """What the result's file is called after: "4x", "1080p", "1920w", "1920x1080"."""
    if options.height is not None:
        return f"{options.height}p"
    if options.width is not None:
        return f"{options.width}w"
    if options.box is not None:
        return "x".join(map(str, options.box))
    return f"{choose_scale(options)}x"


def _needs_model(options: Options) -> bool:
    return options.backend is None or backend_kind(options.backend).needs_model


def _most(options: Options) -> int:
    """How many times as large it can be made."""
    if not _needs_model(options):
        return SCALES[-1]
    members = family(0) if options.model is None else [family_member(options.model, 0)]
    return max(model_scale(info.path) for info in members)


def _who(options: Options) -> str:
    if not _needs_model(options):
        return str(options.backend)
    return FAMILY[0] if options.model is None else family_member(options.model, 0).name


def _steps(format: PixelFormat) -> tuple[int, int]:
    """What columns and rows of that format are multiples of."""
    x, y = format.chroma_shift
    return 1 << x, 1 << y


def _shape(options: Options, source: Shape, steps: tuple[int, int], turned: bool) -> Shape:
    """What is asked for, in pixels as they are stored."""
    height, width, box = options.height, options.width, options.box
    if turned:
        height, width, box = width, height, None if box is None else (box[1], box[0])
    ratio, aspect = _ratio(options, source)
    if height is not None:
        return Shape(_nearest(height * ratio, steps[0]), height, aspect)
    if width is not None:
        return Shape(width, _nearest(width / ratio, steps[1]), aspect)
    if box is None:
        scale = choose_scale(options)
        box = scale * source.width, scale * source.height
    return _fitting(*box, ratio, aspect, steps)


def _ratio(options: Options, source: Shape) -> tuple[Fraction, Fraction]:
    """(width over height of the result in pixels, width over height of a pixel)."""
    stored = Fraction(source.width, source.height)
    return (stored * source.sample_aspect, Fraction(1)) if options.square_pixels else (stored, source.sample_aspect)


def _fitting(width: int, height: int, ratio: Fraction, aspect: Fraction, steps: tuple[int, int]) -> Shape:
    """The largest of that shape that is no larger than `width` x `height`, in whole steps both ways."""
    x, y = steps
    width, height = max(x, width // x * x), max(y, height // y * y)
    if height * ratio <= width:
        return Shape(min(width, _nearest(height * ratio, x)), height, aspect)
    return Shape(width, min(height, _nearest(width / ratio, y)), aspect)


def _nearest(value: Fraction, step: int) -> int:
    return max(step, round(value / step) * step)


def _seen(shape: Shape, turned: bool) -> str:
    """For people: rows where they see rows."""
    return f"{shape.height}x{shape.width}" if turned else f"{shape.width}x{shape.height}"
