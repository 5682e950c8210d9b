"""Colour arithmetic: against itself, against published code values, against swscale."""

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace
from hypothesis import given, settings
from hypothesis import strategies as st

from vidsr.color import from_rgb, halve, matrix_coefficients, to_rgb
from vidsr.frames import ColorSpec, PixelFormat

MATRICES = ("bt601", "bt709", "bt2020", "fcc", "smpte240m", "ycgco")
LOCATIONS = ("left", "center", "topleft")
BT709, BT601 = ColorSpec("bt709"), ColorSpec("bt601")

colors = st.builds(ColorSpec, st.sampled_from(MATRICES), st.booleans(), st.sampled_from(LOCATIONS))
formats = st.one_of(
    st.builds(PixelFormat, st.just("yuv"), st.sampled_from((8, 10, 12, 16)), st.sampled_from(((0, 0), (1, 0), (1, 1)))),
    st.builds(PixelFormat, st.sampled_from(("gray", "rgb")), st.sampled_from((8, 10, 12, 16))),
)
sides = st.integers(1, 19)
few = settings(max_examples=60, deadline=None)


def tensors(arrays, format):
    return [torch.from_numpy(np.asarray(a).astype(format.dtype))[None] for a in arrays]


def difference(a, b):
    """The largest difference of code values between the planes `a` and `b`."""
    return max(int((p.to(torch.int32) - q.to(torch.int32)).abs().max()) for p, q in zip(a, b, strict=True))


def patch(rgb, format, color):
    """Code values of the colour `rgb` (0..1)."""
    return tuple(int(plane[0, 0, 0]) for plane in from_rgb(torch.tensor(rgb).view(1, 3, 1, 1), format, color))


@few
@given(formats, colors, sides, sides, st.randoms(use_true_random=False))
def test_full_chroma_comes_back_exactly(format, color, width, height, random):
    format = PixelFormat(format.family, format.bits)
    generator = np.random.default_rng(random.randrange(2**32))
    top = 2**format.bits
    shapes = format.plane_shapes(width, height)
    planes = tensors([generator.integers(0, top, shape) for shape in shapes], format)
    back = from_rgb(to_rgb(planes, format, color), format, color)
    assert [p.dtype for p in back] == [p.dtype for p in planes]
    assert difference(planes, back) <= (1 if format.bits == 16 else 0)


@few
@given(formats, colors, sides, sides, st.tuples(*[st.floats(0.1, 0.9)] * 3), st.floats(-0.004, 0.004))
def test_flat_and_smooth_colours_come_back(format, color, width, height, levels, slope):
    """Ramps of up to one 8-bit level a pixel; at replicated edges subsampling may pull them a fraction of that."""
    top = 2**format.bits - 1
    planes = []
    for level, (rows, columns) in zip(levels, format.plane_shapes(width, height)):
        ramp = np.add.outer(np.arange(rows), np.arange(columns)) / (rows + columns) * 8 * slope
        planes.append(np.rint((level + ramp) * top).clip(0, top))
    given_ = tensors(planes, format)
    back = from_rgb(to_rgb(given_, format, color), format, color)
    allowed = 1 if format.bits == 8 or slope == 0 or format.chroma_shift == (0, 0) else 2 ** (format.bits - 8)
    assert difference(given_, back) <= allowed


@few
@given(formats, colors, sides, sides)
def test_shapes_and_types(format, color, width, height):
    planes = from_rgb(torch.rand(2, 3, height, width), format, color)
    assert [tuple(p.shape) for p in planes] == [(2, *s) for s in format.plane_shapes(width, height)]
    assert all(p.numpy().dtype == format.dtype and p.is_contiguous() for p in planes)
    assert to_rgb(planes, format, color).shape == (2, 3, height, width)


@pytest.mark.parametrize(
    ("color", "rgb", "codes"),
    [
        (BT709, (1, 1, 1), (235, 128, 128)),
        (BT709, (0, 0, 0), (16, 128, 128)),
        (BT709, (1, 0, 0), (63, 102, 240)),
        (BT709, (0, 1, 0), (173, 42, 26)),
        (BT709, (0, 0, 1), (32, 240, 118)),
        (BT709, (0.75, 0.75, 0), (168, 44, 136)),  # SMPTE RP 219's bars
        (BT709, (0, 0.75, 0.75), (145, 147, 44)),
        (BT709, (0.75, 0, 0.75), (63, 193, 204)),
        (BT601, (1, 0, 0), (81, 90, 240)),
        (BT601, (0, 1, 0), (145, 54, 34)),
        (BT601, (0, 0, 1), (41, 240, 110)),
        (ColorSpec("bt601", full_range=True), (1, 0, 0), (76, 85, 255)),  # JFIF
        (ColorSpec("bt601", full_range=True), (1, 1, 1), (255, 128, 128)),
        (ColorSpec("ycgco", full_range=True), (0, 1, 0), (128, 255, 128)),
        (ColorSpec("ycgco"), (1, 0, 0), (71, 73, 238)),
    ],
)
def test_published_code_values(color, rgb, codes):
    assert patch([float(v) for v in rgb], PixelFormat("yuv"), color) == codes


def test_ten_bit_codes():
    assert patch([1.0, 1.0, 1.0], PixelFormat("yuv", 10), BT709) == (940, 512, 512)
    assert patch([0.0, 0.0, 1.0], PixelFormat("yuv", 10), ColorSpec("bt2020")) == (64 + 52, 960, 476)


@pytest.mark.parametrize("format", [PixelFormat("rgb"), PixelFormat("yuv")])
def test_rgb_planes_are_green_blue_red(format):
    assert patch([1.0, 0.5, 0.0], format, ColorSpec("rgb", full_range=True)) == (128, 0, 255)
    assert patch([1.0, 0.5, 0.0], format, ColorSpec("rgb", full_range=False)) == (126, 16, 235)


def test_gray_is_luma():
    assert patch([1.0, 0.0, 0.0], PixelFormat("gray"), BT709) == (63,)
    assert patch([1.0, 0.0, 0.0], PixelFormat("gray"), ColorSpec("rgb", full_range=True)) == (54,)
    rgb = to_rgb([torch.tensor([[[16, 235, 126]]], dtype=torch.uint8)], PixelFormat("gray"), BT709)
    assert torch.allclose(rgb[0, :, 0], torch.tensor([[0, 1, 110 / 219]]).expand(3, 3))


def test_superwhite_and_impossible_colours_survive():
    format = PixelFormat("yuv")
    planes = tensors([[[254, 1]], [[128, 250]], [[128, 3]]], format)
    rgb = to_rgb(planes, format, BT709)
    assert rgb.max() > 1 and rgb.min() < 0
    assert difference(planes, from_rgb(rgb, format, BT709)) == 0


def test_codes_are_clipped():
    assert patch([9.0, 9.0, 9.0], PixelFormat("yuv"), BT709)[0] == 255
    assert patch([-9.0, -9.0, -9.0], PixelFormat("yuv", 16), BT709)[0] == 0
    assert patch([9.0, 9.0, 9.0], PixelFormat("yuv", 10), BT709)[0] == 1023


@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
@pytest.mark.parametrize("location", LOCATIONS)
def test_a_chroma_edge_stays_where_it_was(location, axis):
    """Enlarged four times in RGB and subsampled again, the edge lies on the same spot of the picture."""
    format, color = PixelFormat("yuv", 16, (1, 1)), ColorSpec("bt709", chroma_location=location)
    low, high, size = 28000, 36000, 16
    chroma = np.full((size, size), low)
    chroma[(slice(size // 2, None), slice(None))[:: 1 if axis == 0 else -1]] = high
    planes = tensors([np.full((2 * size, 2 * size), 30000), chroma, chroma], format)
    rgb = to_rgb(planes, format, color).repeat_interleave(4, 2).repeat_interleave(4, 3)

    def edge(plane, scale):
        """Where the step lies, in source luma pixels, by how much of the picture lies before it."""
        codes = plane[0].double().mean(1 - axis)
        centred = location == "center" or (location == "left" and axis == 0)
        first = 1.0 if centred else 0.5  # the middle of the first chroma sample, in luma pixels of the plane
        return (first - 1 + 2 * float(((high - codes) / (high - low)).sum())) / scale

    for plane in from_rgb(rgb, format, color)[1:]:
        assert edge(plane, 4) == pytest.approx(edge(planes[1], 1), abs=0.01)


@few
@given(st.integers(1, 12), st.booleans())
def test_halve_keeps_flat_flat_at_every_edge(size, centred):
    assert torch.allclose(halve(torch.full((1, size, size), 3.0), 1, centred), torch.tensor(3.0))
    assert halve(torch.zeros(1, 2, size), 2, centred).shape == (1, 2, (size + 1) // 2)


ACCURATE = 0x2 | 0x40000 | 0x2000 | 0x4000 | 0x80000  # bicubic, accurate rounding, full chroma both ways, bit exact


def test_swscale_agrees():
    """In BT.709 4:4:4, to within a level: an implementation that is not ours."""
    generator = np.random.default_rng(0)
    rgb = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    ours = from_rgb(torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255, PixelFormat("yuv"), BT709)
    source = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    theirs = source.reformat(format="yuv444p", dst_colorspace=Colorspace.ITU709, interpolation=ACCURATE)
    for plane, reference in zip(ours, theirs.to_ndarray(), strict=True):
        assert int((plane[0].int() - torch.from_numpy(reference).int()).abs().max()) <= 1

    legal = torch.from_numpy(theirs.to_ndarray())
    back = theirs.reformat(
        format="rgb24", src_colorspace=Colorspace.ITU709, dst_colorspace=Colorspace.ITU709, interpolation=ACCURATE
    ).to_ndarray()
    mine = to_rgb([plane[None] for plane in legal], PixelFormat("yuv"), BT709)[0].permute(1, 2, 0) * 255
    assert float((mine.clamp(0, 255) - torch.from_numpy(back)).abs().max()) <= 1


def test_padded_rows_are_read_in_place():
    padded = np.arange(12 * 32, dtype=np.uint16).reshape(12, 32) % 1000
    view = torch.from_numpy(padded)[None, :, :20]
    format = PixelFormat("gray", 10)
    assert torch.equal(to_rgb([view], format, BT709), to_rgb([view.contiguous()], format, BT709))


@pytest.mark.parametrize("name", MATRICES[:-1])
def test_matrix_coefficients(name):
    kr, kb = matrix_coefficients(name)
    assert 0 < kb < kr < kr + kb < 1


@pytest.mark.parametrize("name", ["rgb", "ycgco", "bt9000"])
def test_no_coefficients(name):
    with pytest.raises(ValueError, match=name):
        matrix_coefficients(name)


def test_subsampled_rgb_is_refused():
    with pytest.raises(ValueError, match="yuv420p"):
        from_rgb(torch.zeros(1, 3, 2, 2), PixelFormat("yuv", 8, (1, 1)), ColorSpec("rgb"))
