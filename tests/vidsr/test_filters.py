"""Pictures through FFmpeg's scaler: every sample stays where it belongs, at every depth, whatever the ratio."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidsr.filters import Filter, scaling
from vidsr.frames import PixelFormat

FORMATS = ["yuv420p", "yuv420p10le", "yuv422p", "yuv422p12le", "yuv444p", "yuv444p16le", "gray", "gray10le", "gbrp",
           "gbrp16le"]  # fmt: skip


def place(count: int, length: int, subsampled: bool, centred: bool) -> np.ndarray:
    """Where each of `count` samples lies, as a part of the picture's length, `length` luma samples."""
    if not subsampled:
        return (np.arange(count) + 0.5) / length
    return (2 * np.arange(count) + (1.0 if centred else 0.5)) / length


def ramp(format: PixelFormat, width: int, height: int, location: str) -> list[np.ndarray]:
    """Planes whose values rise along both ways with the place in the picture, as float."""
    planes = []
    for i, (rows, columns) in enumerate(format.plane_shapes(width, height)):
        sx, sy = (shift > 0 and i > 0 for shift in format.chroma_shift)
        x = place(columns, width, sx, location == "center")
        y = place(rows, height, sy, location != "topleft")
        planes.append((0.2 + 0.35 * x[None, :] + 0.25 * y[:, None]) * (2**format.bits - 1))
    return planes


@given(
    name=st.sampled_from(FORMATS), location=st.sampled_from(["left", "center", "topleft"]),
    kernel=st.sampled_from(["area", "bicubic", "lanczos"]), width=st.integers(30, 90), height=st.integers(30, 90),
    more=st.tuples(st.floats(1, 3.9), st.floats(1, 3.9)),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_ramp_stays_where_it_is(name, location, kernel, width, height, more):
    format = PixelFormat.from_name(name)
    x, y = format.chroma_shift
    width, height = width >> x << x, height >> y << y
    large = tuple(round(side * by) >> shift << shift for side, by, shift in zip((width, height), more, (x, y)))
    planes = [np.rint(plane).astype(format.dtype) for plane in ramp(format, *large, location)]
    found = Filter(format, *large, [scaling(width, height, format, location, kernel)])(planes)
    assert [plane.shape for plane in found] == list(format.plane_shapes(width, height))
    for plane, expected in zip(found, ramp(format, width, height, location)):
        inner = plane[8:-8, 8:-8] - expected[8:-8, 8:-8]
        slope = 0.35 * 2**format.bits / width  # a sample too far to a side would be off by that
        assert inner.size == 0 or np.abs(inner).max() < 1 + 0.3 * slope
        assert inner.size == 0 or abs(inner.mean()) < 0.3 + 0.03 * slope


@pytest.mark.parametrize("name", FORMATS)
def test_it_stays_as_bright_and_nothing_mixes_the_planes(name):
    format = PixelFormat.from_name(name)
    shapes = format.plane_shapes(64, 48)
    levels = [(40 + 70 * i) << (format.bits - 8) for i in range(len(shapes))]
    planes = [np.full(shape, level, format.dtype) for shape, level in zip(shapes, levels)]
    for plane, level in zip(Filter(format, 64, 48, [scaling(34, 26, format, "left", "lanczos")])(planes), levels):
        assert (plane == level).all()


@pytest.mark.parametrize("kernel", ["area", "bicubic", "lanczos"])
@pytest.mark.parametrize("location", ["left", "center", "topleft"])
def test_a_spot_of_colour_stays_on_its_spot_of_light(kernel, location):
    """Soft spots in both at one place: after a reduction to 9/16 their centres of gravity are still there."""
    format, large, small = PixelFormat("yuv", 8, (1, 1)), 128, 72

    def spots(side):
        found = []
        for i, (rows, columns) in enumerate(format.plane_shapes(side, side)):
            x = place(columns, side, i > 0, location == "center")
            y = place(rows, side, i > 0, location != "topleft")
            found.append((x, y))
        return found

    planes = [
        np.rint(250 * np.exp(-((x[None, :] - 0.55) ** 2 + (y[:, None] - 0.45) ** 2) / 0.005)).astype(np.uint8)
        for x, y in spots(large)
    ]
    found = Filter(format, large, large, [scaling(small, small, format, location, kernel)])(planes)
    for plane, (x, y) in zip(found, spots(small)):
        weight = plane.astype(float)
        centre = x @ weight.sum(0) / weight.sum(), y @ weight.sum(1) / weight.sum()
        assert np.allclose(centre, (0.55, 0.45), atol=0.02 / small)


def test_the_same_again_and_from_views():
    format = PixelFormat("yuv", 10, (1, 0))
    rng = np.random.default_rng(0)
    shapes = format.plane_shapes(96, 64)
    wide = [rng.integers(0, 1024, (rows, columns + 10)).astype(np.uint16) for rows, columns in shapes]
    views = [plane[:, 5:-5] for plane in wide]
    filter = Filter(format, 96, 64, [scaling(50, 40, format, "left", "lanczos")])
    first = filter(views)
    kept = [plane.copy() for plane in first]
    filter([plane[::-1, ::-1].copy() for plane in views])
    again = filter([plane.copy() for plane in views])
    assert all(np.array_equal(a, b) and np.array_equal(a, c) for a, b, c in zip(kept, first, again))
