"""A generator with a linear end, and the colour of the result in its last convolution.

From there on everything is linear up to the rounding: its bias, the skip, PixelShuffle, the reduction from 4 to 3 or 2,
the colour matrix, the scale of the range, half of the chroma subsampling. All of it goes into the weights of two
convolutions at source size, whose sum is the codes of the planes. For Compact from 480x270 to 1080p in 4:2:0 on one
core that left 23 ms of the 75 that the steps after the last PReLU took as they are written in `Compact.forward` and
color.py: whole passes over RGB pictures of 25 MB.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidsr.backends.tiles import area_weights
from vidsr.color import encoding, halve, quantize
from vidsr.frames import ColorSpec, PixelFormat
from vidsr.models.base import Folded, LinearTail

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Fused(Folded):
    """R'G'B' [N, 3, H, W] -> codes of the result's planes, [N, C, H, W] float32; `planes` makes planes of them.

    tail: that of `generator`, whose parts become this module's.
    scale: of the result over the source; at most the generator's. The module's own `scale` is 1: its output has the
        size of the source, and the pixels of the result lie in its channels.
    """

    def __init__(
        self, generator: Folded, tail: LinearTail, scale: int, format: PixelFormat, color: ColorSpec
    ) -> None:  # fmt: skip
        groups = _Groups(generator.scale, scale, format, color)
        matrix, offsets = encoding(format, color)
        mixes = [torch.kron(torch.tensor([matrix[i]], dtype=torch.float64), kernel) for i, kernel in groups.kernels]
        # The body's output is in codes of 8 bits whatever the format, which float16 can hold.
        unit = 2.0 ** (format.bits - 8)
        super().__init__(nn.Sequential(*tail.layers, _mixed(tail.last, torch.cat(mixes) / unit)), 1, generator.radius)
        self.format, self.color, self._groups, self.unit = format, color, groups, unit
        self.skip = _mixed(tail.skip, torch.cat(mixes))
        with torch.no_grad():
            zeros = [offsets[i] * kernel.sum(1) for i, kernel in groups.kernels]
            self.skip.bias.copy_(torch.cat(zeros))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate").contiguous(memory_format=torch.channels_last)
        return self.skip(padded).add_(self.body(x.to(self.dtype)), alpha=self.unit)

    def planes(self, codes: Tensor) -> tuple[Tensor, ...]:
        """The output of `forward`, which is overwritten -> the planes [N, rows, columns], uint8 or uint16."""
        codes = codes.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)  # as `forward` left it
        groups = self._groups
        sizes = [len(kernel) for _, kernel in groups.kernels]
        if groups.carried and not torch.compiler.is_compiling():
            _, chroma, last, first = codes.split(groups.carried, -1)
            target = chroma[..., :: groups.columns[1]]  # the first column of each row in each group
            target[:, :, 1:].add_(last[:, :, :-1])
            target[:, :, :1].add_(first[:, :, :1])
        complete = not (groups.rows_left or groups.columns_left)
        if complete and not torch.compiler.is_compiling():
            # Rounded before they are shuffled: integers are smaller to move. All at once: slices take longer.
            codes = quantize(codes, self.format.bits)
        parts = list(codes.split(sizes, -1))
        if torch.compiler.is_compiling():  # each plane by itself: a kernel each, with all that comes before it
            parts = self._carried(parts)
            parts = [quantize(part, self.format.bits) for part in parts] if complete else parts
        planes = [_shuffle(part, n) for part, n in zip(parts, groups.columns, strict=False)]
        for i in () if complete else (1, 2):
            if groups.rows_left:
                planes[i] = halve(planes[i], 1, self.color.chroma_location != "topleft")
            if groups.columns_left:
                planes[i] = halve(planes[i], 2, self.color.chroma_location == "center")
        return tuple(quantize(p, self.format.bits) if p.is_floating_point() else p for p in planes)

    def _carried(self, parts: list[Tensor]) -> list[Tensor]:
        """The planes' groups, with what is carried from one source pixel to the next added to both of chroma."""
        if not self._groups.carried:
            return parts
        luma, *chroma = parts
        columns, complete = self._groups.columns[1], [luma]
        for own, last, first in zip(chroma[:2], chroma[2:4], chroma[4:], strict=True):
            before = torch.cat([first[:, :, :1], last[:, :, :-1]], 2)[..., None]
            own = own.unflatten(-1, (-1, columns))
            complete.append(torch.cat([own[..., :1] + before, own[..., 1:]], -1).flatten(-2))
        return complete


class _Groups:
    """What the output channels of a Fused generator are: groups of the result's pixels over one source pixel.

    kernels: (plane, matrix [channels, phases of the generator]) of each group of channels: first one for each plane.
    columns: for each plane, how many columns of it lie over a source pixel.
    carried: where chroma lies on every second column of luma, its sample on the first column over a source pixel needs
        a quarter of the column before, which is over another source pixel. Two more groups for each of both planes give
        a quarter of the last column, for the pixel to the right, and of the first, which is replicated at the left
        edge. The sizes of luma, chroma, last, first; or () where that is not needed.
    rows_left, columns_left: chroma still has twice the rows or columns: where `scale` is odd, pairs of them lie over
        two source pixels; chroma on every second row (topleft) is too rare to be given groups like the columns'.
    """

    def __init__(self, generator_scale: int, scale: int, format: PixelFormat, color: ColorSpec) -> None:
        (x, y), location = format.chroma_shift, color.chroma_location
        full = torch.tensor(area_weights(generator_scale, scale), dtype=torch.float64)
        self.rows_left = y == 1 and (scale % 2 == 1 or location == "topleft")
        self.columns_left = x == 1 and scale % 2 == 1
        rows, columns, carried = full, full, []
        if y and not self.rows_left:
            rows = full.unflatten(0, (-1, 2)).mean(1)
        if x and not self.columns_left:
            columns = full.unflatten(0, (-1, 2)).mean(1)
            if location != "center":
                columns = full[0::2] / 2 + full[1::2] / 4
                columns[1:] += full[1:-1:2] / 4
                carried = [full[-1:] / 4, full[:1] / 4]
        self.kernels = [(0, torch.kron(full, full))]
        if format.family != "gray":
            self.kernels += [(plane, torch.kron(rows, part)) for part in (columns, *carried) for plane in (1, 2)]
        self.columns = [scale, len(columns), len(columns)][: len(format.plane_shapes(1, 1))]
        sizes = [len(kernel) for _, kernel in self.kernels]
        self.carried = (sizes[0], *(2 * size for size in sizes[1::2])) if carried else ()


def _mixed(conv: nn.Conv2d, mix: Tensor) -> nn.Conv2d:
    """`conv` and then the matrix `mix` [outputs, conv's outputs], in one convolution."""
    result = nn.Conv2d(conv.in_channels, len(mix), conv.kernel_size, padding=conv.padding)  # type: ignore[arg-type]
    with torch.no_grad():
        result.weight.copy_(torch.einsum("om,mikl->oikl", mix, conv.weight.double()))
        result.bias.copy_(mix @ conv.bias.double())  # type: ignore[union-attr]
    return result.requires_grad_(False)


def _shuffle(x: Tensor, columns: int) -> Tensor:
    """[N, H, W, rows * columns] -> [N, H * rows, W * columns]: PixelShuffle of one plane, channels last."""
    n, height, width, channels = x.shape
    rows = channels // columns
    # A group's columns stay side by side, so they move as one integer: 0.2 ms for 1080p in 8 bits instead of 1.4.
    run = _INTEGERS.get(columns * x.element_size())
    # Not where kernels are compiled, which fuse the rounding and the shuffle into one.
    if run is not None and not x.is_floating_point() and channels > 1 and not torch.compiler.is_compiling():
        moved = torch.empty((n, height, rows, width), dtype=run, device=x.device)
        moved.copy_(x.view(run).permute(0, 1, 3, 2))
        return moved.view(x.dtype).view(n, height * rows, width * columns)
    return x.unflatten(3, (rows, columns)).permute(0, 1, 3, 2, 4).reshape(n, height * rows, width * columns)
