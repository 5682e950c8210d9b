"""Planes to RGB and back: the only colour arithmetic in vidsr.

Everything is float32 on the device of the tensors given, with the chroma filters and their phases written out, since
swscale's defaults are biased and assume BT.601 (its fast path is off by a level on average, by six under the wrong
matrix). Nothing is clamped on the way in: super-white and colours outside R'G'B' come back as they were.

Formulas: ITU-T H.273 (07/2021), section 8.3 (equations 20 to 75).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidsr.frames import ColorSpec, PixelFormat

_WEIGHTS = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
}
HAVE_UINT16 = ("cpu", "cuda")  # devices on which PyTorch computes with it
_Row = tuple[float, float, float]
_Matrix = tuple[_Row, _Row, _Row]


def matrix_coefficients(name: str) -> tuple[float, float]:
    """(Kr, Kb), the weights of red and blue in luma (H.273 table 4). ValueError for "ycgco", "rgb" and unknown names.

    bt2020 is the non-constant luminance form.
    """
    if name not in _WEIGHTS:
        raise ValueError(f"matrix: got {name!r}, expected one of {', '.join(_WEIGHTS)}")
    return _WEIGHTS[name]


def to_rgb(planes: Sequence[Tensor], format: PixelFormat, color: ColorSpec) -> Tensor:
    """Planes of `format` -> R'G'B' [N, 3, H, W] float32, 0..1 for colours in range, not clamped.

    planes: one tensor [N, rows, columns] a plane, uint8 (8 bit) or uint16, shaped as `format.plane_shapes` says. Rows
        may lie apart in memory. Subsampled chroma is interpolated (Catmull-Rom) from where `color.chroma_location`
        says its samples are; edges are replicated. Of gray, R = G = B and the matrix does not matter.
    ValueError when the matrix is "rgb" and the planes are subsampled.
    """
    _check(format, color)
    luma = planes[0]
    height, width = luma.shape[-2:]
    if format.family == "gray":
        offset, scale, _, _ = _code_range(format, color)
        gray = luma.to(torch.float32).mul_(1 / scale).add_(-offset / scale)
        return gray[:, None].repeat(1, 3, 1, 1)
    channels = [plane.to(torch.float32) for plane in planes]
    if format.chroma_shift[0]:
        centred = color.chroma_location == "center"
        channels[1:] = [_double(plane, 2, centred)[..., :width] for plane in channels[1:]]
    if format.chroma_shift[1]:
        centred = color.chroma_location != "topleft"
        channels[1:] = [_double(plane, 1, centred)[:, :height] for plane in channels[1:]]
    matrix, offsets = _decoding(format, color)
    if torch.compiler.is_compiling():  # compilers take no part of a tensor for `out`, and make one kernel of it all
        each = [_combine(channels, matrix[i], offsets[i], torch.empty_like(channels[0])) for i in range(3)]
        return torch.stack(each, 1)
    rgb = torch.empty((luma.shape[0], 3, height, width), dtype=torch.float32, device=luma.device)
    for i in range(3):
        _combine(channels, matrix[i], offsets[i], rgb[:, i])
    return rgb


def from_rgb(rgb: Tensor, format: PixelFormat, color: ColorSpec) -> tuple[Tensor, ...]:
    """R'G'B' [N, 3, H, W] float32, about 0..1 -> planes of `format`, rounded to nearest, clipped to its codes.

    One new contiguous tensor [N, rows, columns] a plane, uint8 (8 bit) or uint16. Chroma is subsampled at the phase
    `color.chroma_location` says, by [1 2 1] where a sample lies on a luma sample and [1 1] where it lies between two:
    in a picture that was enlarged nothing is left for a longer filter to keep. Gray is luma.
    ValueError when the matrix is "rgb" and the planes are subsampled.
    """
    _check(format, color)
    matrix, offsets = encoding(format, color)
    channels = rgb.unbind(1)
    luma = torch.empty_like(channels[0], memory_format=torch.contiguous_format)
    _combine(channels, matrix[0], offsets[0], luma)
    planes = [quantize(luma, format.bits)]
    if format.family == "gray":
        return tuple(planes)
    # The matrix first and the filter on two planes, in memory already in use: for 1080p on one core 6.4 ms. Halving the
    # rows of R'G'B' first 6.7 (its 12 MB are new to the cache), one strided convolution with the matrix in its weights
    # 5.8 to 8.2, avg_pool2d 12.7 before any matrix; all of this in strips of rows 1.2 to 1.5 times as long.
    for i in (1, 2):
        chroma = luma if i == 1 or format.chroma_shift != (0, 0) else torch.empty_like(luma)
        _combine(channels, matrix[i], offsets[i], chroma)
        if format.chroma_shift[1]:
            chroma = halve(chroma, 1, color.chroma_location != "topleft")
        if format.chroma_shift[0]:
            chroma = halve(chroma, 2, color.chroma_location == "center")
        planes.append(quantize(chroma, format.bits))
    return tuple(planes)


def _check(format: PixelFormat, color: ColorSpec) -> None:
    if format.family == "yuv" and color.matrix == "rgb" and format.chroma_shift != (0, 0):
        raise ValueError(f"matrix: got rgb for {format.name}, expected planes of one size")


def _code_range(format: PixelFormat, color: ColorSpec) -> tuple[float, float, float, float]:
    """(code of 0, codes from 0 to 1) for luma or R'G'B', then for colour difference."""
    unit = 2.0 ** (format.bits - 8)
    if color.full_range:
        top = 2.0**format.bits - 1
        return 0.0, top, 128 * unit, top
    # YCgCo is made of R'G'B' codes, so its differences span as many codes as its luma: H.273 equations 64 to 66.
    return 16 * unit, 219 * unit, 128 * unit, (219 if color.matrix == "ycgco" else 224) * unit


def encoding(format: PixelFormat, color: ColorSpec) -> tuple[_Matrix, _Row]:
    """(matrix, offsets) of R'G'B' -> codes of the three planes, before subsampling: matrix @ rgb + offsets.

    The scale of the range and the bit depth is inside. Of gray only the first row means anything.
    """
    zero, span, middle, chroma_span = _code_range(format, color)
    if format.family == "rgb" or (color.matrix == "rgb" and format.family == "yuv"):
        return ((0.0, span, 0.0), (0.0, 0.0, span), (span, 0.0, 0.0)), (zero, zero, zero)
    if color.matrix == "ycgco":
        luma, first, second = (0.25, 0.5, 0.25), (-0.25, 0.5, -0.25), (0.5, 0.0, -0.5)
    else:
        kr, kb = matrix_coefficients("bt709" if color.matrix == "rgb" else color.matrix)
        kg = 1 - kr - kb
        luma = (kr, kg, kb)
        first = (-kr / (2 * (1 - kb)), -kg / (2 * (1 - kb)), 0.5)
        second = (0.5, -kg / (2 * (1 - kr)), -kb / (2 * (1 - kr)))
    return (_scaled(luma, span), _scaled(first, chroma_span), _scaled(second, chroma_span)), (zero, middle, middle)


def _decoding(format: PixelFormat, color: ColorSpec) -> tuple[_Matrix, _Row]:
    """Matrix and offset of codes of the three planes -> R'G'B': the inverse of `encoding`."""
    matrix, offsets = encoding(format, color)
    # By hand, in Python's own numbers: torch.compile takes those for constants, and cannot read them out of tensors.
    (a, b, c), (d, e, f), (g, h, i) = matrix
    first = (e * i - f * h, f * g - d * i, d * h - e * g)
    determinant = a * first[0] + b * first[1] + c * first[2]
    inverse = _scaled((first[0], c * h - b * i, b * f - c * e), 1 / determinant), \
        _scaled((first[1], a * i - c * g, c * d - a * f), 1 / determinant), \
        _scaled((first[2], b * g - a * h, a * e - b * d), 1 / determinant)
    # Coefficients that are zero on paper come out as 1e-18: set to zero, they cost no pass over the picture.
    clean = tuple(tuple(0.0 if abs(value) < 1e-12 else value for value in row) for row in inverse)
    zero = tuple(-sum(value * offset for value, offset in zip(row, offsets, strict=True)) for row in inverse)
    return clean, zero  # type: ignore[return-value]


def _scaled(row: _Row, factor: float) -> _Row:
    return row[0] * factor, row[1] * factor, row[2] * factor


def _combine(channels: Sequence[Tensor], weights: _Row, offset: float, out: Tensor) -> Tensor:
    """out = weights . channels + offset, in place and without a pass for weights that are zero; `out`.

    Sums of whole planes: on two cores 1 ms for 1080p, where matmul took 1.5 and a 1x1 convolution 90.
    """
    terms = [(channel, weight) for channel, weight in zip(channels, weights, strict=True) if weight]
    torch.mul(terms[0][0], terms[0][1], out=out)
    for channel, weight in terms[1:]:
        out.add_(channel, alpha=weight)
    return out.add_(offset)


def quantize(plane: Tensor, bits: int) -> Tensor:
    """Float codes -> the nearest that `bits` bits hold, uint8 or (above 8 bits) uint16; int32 on devices that have none
    of the latter. Overwrites `plane`."""
    if torch.compiler.is_compiling():
        plane = (plane + 0.5).clamp(0, 2.0**bits - 1)
    else:
        plane.add_(0.5).clamp_(0, 2.0**bits - 1)
    # By way of int16: the way from float32 straight to uint8 is not vectorised (0.6 ms for 1080p instead of 0.12).
    if bits == 8:
        return plane.to(torch.int16).to(torch.uint8)
    return plane.to(torch.uint16 if plane.device.type in HAVE_UINT16 else torch.int32)


def _double(x: Tensor, dim: int, centred: bool) -> Tensor:
    """`x` [N, rows, columns] with twice the samples along `dim`: Catmull-Rom at the phases of luma.

    Sample j of x lies on sample 2j of the result or, `centred`, between 2j and 2j + 1.
    """
    size = x.shape[dim]
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, size - 1, 1)
    padded = torch.cat([first, first, x, last, last], dim)

    def taps(weights: Sequence[float], start: int) -> Tensor:
        result = padded.narrow(dim, start, size) * weights[0]
        for i, weight in enumerate(weights[1:], 1):
            result.add_(padded.narrow(dim, start + i, size), alpha=weight)
        return result

    if centred:  # a quarter of a chroma sample before and after it
        near = (-3 / 128, 29 / 128, 111 / 128, -9 / 128)
        pair = taps(near, 0), taps(near[::-1], 1)
    else:
        pair = x, taps((-1 / 16, 9 / 16, 9 / 16, -1 / 16), 1)
    return torch.stack(pair, dim + 1).flatten(dim, dim + 1)


def halve(x: Tensor, dim: int, centred: bool) -> Tensor:
    """Every second sample along `dim`, filtered; edges are replicated.

    Sample j of the result lies on sample 2j of `x` ([1 2 1] / 4) or, `centred`, between 2j and 2j + 1 ([1 1] / 2).
    """
    even, odd = _every_second(x, dim, 0), _every_second(x, dim, 1)
    size, pairs = even.shape[dim], odd.shape[dim]
    if centred:
        if pairs == size:
            return torch.lerp(even, odd, 0.5)
        result = even.clone()  # the last of an odd length makes a pair with itself
        result.narrow(dim, 0, pairs).lerp_(odd, 0.5)
        return result
    result = even * 0.5
    result.narrow(dim, 0, pairs).add_(odd, alpha=0.25)
    result.narrow(dim, 1, size - 1).add_(odd.narrow(dim, 0, size - 1), alpha=0.25)
    result.narrow(dim, 0, 1).add_(even.narrow(dim, 0, 1), alpha=0.25)
    if pairs < size:
        result.narrow(dim, pairs, 1).add_(even.narrow(dim, pairs, 1), alpha=0.25)
    return result


def _every_second(x: Tensor, dim: int, start: int) -> Tensor:
    index: list[slice] = [slice(None)] * x.dim()
    index[dim] = slice(start, None, 2)
    return x[tuple(index)]
