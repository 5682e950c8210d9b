"""Compact with the colour of the result in its last convolution.

From Compact's last convolution on, everything is linear up to the rounding: its bias, the skip, PixelShuffle, the
reduction from 4 to 3 or 2, the colour matrix, the scale of the range, half of the chroma subsampling. All of it goes
into the weights of two convolutions at source size, whose sum is the codes of the planes. For 480x270 to 1080p in
4:2:0 on one core that left 20 ms of the 70 that all steps after the last PReLU took as they are written in
`Compact.forward` and color.py, whole passes over RGB pictures of 25 MB.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidsr.backends.tiles import area_weights
from vidsr.color import encoding, halve, quantize
from vidsr.frames import ColorSpec, PixelFormat
from vidsr.models.fold import Folded, FoldedCompact

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class FusedCompact(Folded):
    """R'G'B' [N, 3, H, W] -> codes of the result's planes [N, C, H, W] float32: see `planes`.

    scale: of the result over the source; at most the generator's. The module's own `scale` is 1: its output still has
        the size of the source, the result's pixels lie in its channels.
    """

    def __init__(self, generator: FoldedCompact, scale: int, format: PixelFormat, color: ColorSpec) -> None:
        assert isinstance(generator.body, nn.Sequential)
        *layers, tail = generator.body
        super().__init__(nn.Sequential(*layers), 1, generator.radius)
        self.enlarged, self.format, self.color = scale, format, color
        # An even number of rows in each source pixel's group can be halved inside it, if that is without neighbours.
        self._rows_halved = format.chroma_shift[1] == 1 and scale % 2 == 0 and color.chroma_location != "topleft"
        matrix, offsets = encoding(format, color)
        reduction = torch.tensor(area_weights(generator.scale, scale), dtype=torch.float64)
        rows = reduction.unflatten(0, (-1, 2)).mean(1) if self._rows_halved else reduction
        phases = [torch.kron(reduction, reduction)] + [torch.kron(rows, reduction)] * 2
        count = 1 if format.family == "gray" else 3
        mixes = [torch.kron(torch.tensor([matrix[i]], dtype=torch.float64), phases[i]) for i in range(count)]
        self.sizes = [len(mix) for mix in mixes]  # channels of each plane
        mix = torch.cat(mixes)
        self.body.append(_mixed(tail, mix))
        self.skip = _mixed(_skip_convolution(generator.scale, generator.skip), mix)
        with torch.no_grad():
            self.skip.bias.copy_(torch.tensor(offsets[:count]).repeat_interleave(torch.tensor(self.sizes)))  # type: ignore

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate").contiguous(memory_format=torch.channels_last)
        return self.skip(padded).add_(self.body(x.to(self.dtype)))

    def planes(self, codes: Tensor) -> tuple[Tensor, ...]:
        """The output of `forward`, which is overwritten -> the planes [N, rows, columns], uint8 or uint16."""
        parts = codes.permute(0, 2, 3, 1).split(self.sizes, -1)
        planes: list[Tensor] = []
        for part in parts:
            shift = self.format.chroma_shift if planes else (0, 0)
            if shift == (0, 0):
                # Rounded first: integers are smaller to shuffle.
                planes.append(_shuffle(quantize(part, self.format.bits), self.enlarged))
                continue
            plane = _shuffle(part, self.enlarged)
            if shift[1] and not self._rows_halved:
                plane = halve(plane, 1, self.color.chroma_location != "topleft")
            plane = halve(plane, 2, self.color.chroma_location == "center")
            planes.append(quantize(plane, self.format.bits))
        return tuple(planes)


def _mixed(conv: nn.Conv2d, mix: Tensor) -> nn.Conv2d:
    """`conv` and then the matrix `mix` [outputs, conv's outputs], in one convolution."""
    result = nn.Conv2d(conv.in_channels, len(mix), conv.kernel_size, padding=conv.padding)  # type: ignore[arg-type]
    with torch.no_grad():
        result.weight.copy_(torch.einsum("om,mikl->oikl", mix, conv.weight.double()))
        result.bias.copy_(mix @ conv.bias.double())  # type: ignore[union-attr]
    return result.requires_grad_(False)


def _skip_convolution(scale: int, skip: str) -> nn.Conv2d:
    """`upscaled_skip` before its PixelShuffle: 3x3, [N, 3, H + 2, W + 2] -> [N, 3 * scale^2, H, W].

    Phase k of `scale` lies (k + 0.5) / scale - 0.5 away from its source pixel; bilinear gives the neighbour on that
    side so much of the weight.
    """
    taps = torch.zeros(scale, 3, dtype=torch.float64)
    for k in range(scale):
        away = (k + 0.5) / scale - 0.5 if skip == "bilinear" else 0.0
        taps[k] = torch.tensor([max(-away, 0.0), 1 - abs(away), max(away, 0.0)])
    conv = nn.Conv2d(3, 3 * scale**2, 3, dtype=torch.float64)
    both = torch.einsum("yk,xl->yxkl", taps, taps).reshape(scale**2, 3, 3)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()  # type: ignore[union-attr]
        for c in range(3):
            conv.weight[c * scale**2 : (c + 1) * scale**2, c] = both
    return conv


def _shuffle(x: Tensor, columns: int) -> Tensor:
    """[N, H, W, rows * columns] -> [N, H * rows, W * columns]: PixelShuffle of one plane, channels last."""
    n, height, width, channels = x.shape
    rows = channels // columns
    # A group's columns stay side by side, so they move as one integer: 0.2 ms for 1080p in 8 bits instead of 1.4.
    run = _INTEGERS.get(columns * x.element_size())
    if run is not None and x.is_contiguous():
        moved = torch.empty((n, height, rows, width), dtype=run, device=x.device)
        moved.copy_(x.view(run).permute(0, 1, 3, 2))
        return moved.view(x.dtype).view(n, height * rows, width * columns)
    return x.unflatten(3, (rows, columns)).permute(0, 1, 3, 2, 4).reshape(n, height * rows, width * columns)
