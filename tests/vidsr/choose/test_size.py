"""Sizes in pixels: what is asked for becomes what is stored, or is refused with what can be had."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vidsr.choose.options import Options
from vidsr.choose.size import choose_size, size_name
from vidsr.errors import UsageError
from vidsr.frames import PixelFormat, Shape

YUV420 = PixelFormat("yuv", 8, (1, 1))
YUV444 = PixelFormat("yuv", 8)
ONE = Fraction(1)


def chosen(source, format=YUV420, turned=False, **options):
    return choose_size(Options(backend="nearest", **options), source, format, turned)


@pytest.mark.parametrize(
    ("source", "options", "scale", "shape"),
    [
        (Shape(640, 480, ONE), {"height": 1080}, 3, Shape(1440, 1080, ONE)),
        (Shape(720, 480, Fraction(8, 9)), {"height": 1080}, 3, Shape(1620, 1080, Fraction(8, 9))),
        (Shape(720, 480, Fraction(8, 9)), {"height": 1080, "square_pixels": True}, 3, Shape(1440, 1080, ONE)),
        (Shape(720, 480, Fraction(32, 27)), {"height": 1080, "square_pixels": True}, 3, Shape(1920, 1080, ONE)),
        (Shape(720, 576, Fraction(64, 45)), {"fit": "1920x1080", "square_pixels": True}, 3, Shape(1920, 1080, ONE)),
        (Shape(720, 480, Fraction(8, 9)), {"fit": (1920, 1080)}, 3, Shape(1620, 1080, Fraction(8, 9))),
        (Shape(853, 480, ONE), {"height": 1080}, 3, Shape(1920, 1080, ONE)),
        (Shape(854, 480, ONE), {"fit": "1920x1080"}, 3, Shape(1920, 1080, ONE)),
        (Shape(1280, 720, ONE), {"width": 1920}, 2, Shape(1920, 1080, ONE)),
        (Shape(640, 480, ONE), {"height": 960}, 2, None),
        (Shape(720, 480, ONE), {"height": 480}, 2, Shape(720, 480, ONE)),
        (Shape(640, 480, ONE), {"scale": 2, "square_pixels": True}, 2, None),
        (Shape(720, 480, Fraction(8, 9)), {"scale": 2, "square_pixels": True}, 2, Shape(1280, 960, ONE)),
        (Shape(720, 480, Fraction(32, 27)), {"square_pixels": True}, 4, Shape(2880, 1620, ONE)),
    ],
)  # fmt: skip
def test_what_is_asked_for(source, options, scale, shape):
    assert chosen(source, **options) == (scale, shape)


def test_what_players_turn_is_as_high_as_it_is_seen():
    source = Shape(640, 360, ONE)
    assert chosen(source, turned=True, height=1280) == (2, None)
    assert chosen(source, turned=True, width=1080) == (3, None)
    assert chosen(source, turned=True, fit="800x1600")[1] == Shape(1422, 800, ONE)


@given(
    width=st.integers(16, 900), height=st.integers(16, 900), sar=st.fractions(Fraction(1, 2), 2, max_denominator=64),
    asked=st.integers(16, 4000), other=st.integers(16, 4000), kind=st.sampled_from(["height", "width", "fit"]),
    square=st.booleans(), turned=st.booleans(), even=st.booleans(),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_source_keeps_its_shape(width, height, sar, asked, other, kind, square, turned, even):
    source, format = Shape(width, height, sar), YUV420 if even else YUV444
    wanted = {kind: (asked, other) if kind == "fit" else asked, "square_pixels": square}
    try:
        scale, shape = chosen(source, format, turned, **wanted)
    except UsageError as error:
        assert str(error).count("\n") == 0 and ("smaller" in str(error) or "choose" in str(error))
        return
    assume(shape is not None)
    assert width <= shape.width <= scale * width and height <= shape.height <= scale * height
    assert shape.sample_aspect == (1 if square else sar)
    seen = (shape.height, shape.width) if turned else (shape.width, shape.height)
    step = 2 if even else 1
    if kind == "height":
        assert seen[1] == asked
    elif kind == "width":
        assert seen[0] == asked
    else:
        assert seen[0] <= asked and seen[1] <= other and not (shape.width % step or shape.height % step)
        assert asked - seen[0] < step or other - seen[1] < step  # no larger one would fit
    # Shown, it has the source's shape: no side is further off than what it is rounded to.
    before, after = source.width * sar / height, shape.width * shape.sample_aspect / shape.height
    room = Fraction(2 * step, min(shape.width, shape.height))
    assert abs(after / before - 1) <= room


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"height": 470}, "--height 470: makes 704x470 of 720x480, which is smaller"),
        ({"height": 1080, "square_pixels": True, "model": "fast-2x"},
         "--height 1080 --square-pixels: 1440x1080 is more than 2 times the source's 720x480, and fast-2x enlarges no "
         "further: choose 1280x960 or less"),
        ({"height": 2160}, "choose 2880x1920 or less"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_with_what_can(options, words):
    with pytest.raises(UsageError) as error:
        choose_size(Options(**options), Shape(720, 480, Fraction(8, 9)), YUV420)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"height": 1080, "width": 1920}, "--fit WIDTHxHEIGHT"), ({"scale": 2, "height": 1080}, "choose one of them"),
        ({"fit": "1080"}, "1920x1080"), ({"fit": "0x5"}, "1920x1080"), ({"fit": (1, 2, 3)}, "1920x1080"),
        ({"width": 0}, "choose 1 or more"), ({"height": True}, "whole number"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(options, words):
    with pytest.raises(UsageError, match=words):
        Options(**options)


def test_names_of_results():
    asked = ({}, {"scale": 2}, {"height": 1080}, {"width": 1920}, {"fit": "1920X1080"}, {"square_pixels": True})
    names = [size_name(Options(backend="nearest", **words)) for words in asked]
    assert names == ["4x", "2x", "1080p", "1920w", "1920x1080", "4x"]


def test_weights_for_twice_the_size_are_taken_where_they_suffice():
    """A model that is made for it, and else the whole of what a larger one makes: never reduced twice."""
    fast = Options(model="fast", height=1080)
    assert choose_size(fast, Shape(1280, 720, ONE), YUV420)[0] == 2
    assert choose_size(fast, Shape(854, 480, ONE), YUV420)[0] == 3
