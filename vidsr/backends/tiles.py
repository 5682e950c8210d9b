"""Pictures in pieces that fit the memory, and results made smaller: the geometry around a generator."""

from __future__ import annotations

import torch
from torch import Tensor

from vidsr.models.base import Folded


def in_tiles(generator: Folded, x: Tensor, tile: int) -> Tensor:
    """`generator(x)`, but in squares of `tile` source pixels and their context; 0 for all at once.

    x: [N, 3, H, W] float. The pieces given to the generator all have one size, so that one engine does them all; at the
    picture's edges they end where it ends, and the generator pads as it would have: the result is that of the whole
    picture but for rounding. A generator whose radius is unknown gets all at once.
    """
    height, width = x.shape[2:]
    scale, radius = generator.scale, generator.radius
    if not tile or radius is None or (tile >= height and tile >= width):
        return generator(x)
    tall, rows = windows(height, tile, radius)
    wide, columns = windows(width, tile, radius)
    result: Tensor | None = None
    for y, top, bottom in rows:
        for x0, left, right in columns:
            piece = generator(x[:, :, y : y + tall, x0 : x0 + wide])
            if result is None:
                size = (x.shape[0], piece.shape[1], height * scale, width * scale)
                result = torch.empty(size, dtype=piece.dtype, device=x.device, memory_format=_layout(piece))
            result[:, :, top * scale : bottom * scale, left * scale : right * scale] = piece[
                :, :, (top - y) * scale : (bottom - y) * scale, (left - x0) * scale : (right - x0) * scale
            ]
    assert result is not None
    return result


def windows(length: int, tile: int, radius: int) -> tuple[int, list[tuple[int, int, int]]]:
    """One dimension of `in_tiles`: the size of all windows; of each its start, and from where to where it is good.

    tile: 0 for one window of the whole length.
    """
    if not tile or tile >= length:
        return length, [(0, 0, length)]
    size = min(tile + 2 * radius, length)
    return size, [
        (min(max(start - radius, 0), length - size), start, min(start + tile, length))
        for start in range(0, length, tile)
    ]


def _layout(x: Tensor) -> torch.memory_format:
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last


def auto_tile(
    width: int, height: int, generator: Folded, available_bytes: int, needed: tuple[float, float] | None = None
) -> int:
    """The tile for pictures `width` x `height` that keeps the work in half of `available_bytes`; 0 for whole pictures.

    At least 32, however short memory is; 0 for a generator whose radius is unknown. needed:
    `activation_bytes(generator)`, if it is known.
    """
    if generator.radius is None:
        return 0
    layer, output = needed or activation_bytes(generator)
    budget = available_bytes / 2 - 3 * output * width * height  # the result, and twice as much to make planes of it
    if width * height * layer <= budget:
        return 0
    side = int((max(budget, 0) / layer) ** 0.5) - 2 * generator.radius
    return max(32, side // 16 * 16)


def activation_bytes(generator: Folded) -> tuple[float, float]:
    """Bytes a source pixel takes inside `generator` (the most that a layer's input and output take) and in its output.

    Measured by giving it a small picture; half as much again is added inside for what libraries copy.
    """
    most = 0
    side = 16

    def record(_: object, inputs: tuple[object, ...], output: object) -> None:
        nonlocal most
        tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
        each = {t.data_ptr(): t.numel() * t.element_size() for t in tensors}  # in place: the same memory
        most = max(most, sum(each.values()))

    handles = [module.register_forward_hook(record) for module in generator.modules()]
    device = next((p.device for p in generator.parameters()), torch.device("cpu"))
    try:
        with torch.inference_mode():
            output = generator(torch.zeros(1, 3, side, side, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return 1.5 * most / side**2, output.numel() * output.element_size() / side**2


def area_weights(scale: int, wanted: int) -> list[list[float]]:
    """[wanted][scale]: how much of each of `scale` pixels is in the means over `wanted` equal parts of them.

    From 4 to 3 they are (3 1 0 0), (0 2 2 0), (0 0 1 3), a quarter each. `interpolate(mode="area")` would take the
    plain mean of every pixel touched, which is blurrier and further off from the middle of each part.
    """
    # In parts of 1 / wanted of a pixel, so that all numbers are whole: pixel k is k * wanted to (k + 1) * wanted.
    return [
        [max(0, min((i + 1) * scale, (k + 1) * wanted) - max(i * scale, k * wanted)) / scale for k in range(scale)]
        for i in range(wanted)
    ]


def reduce_by_area(x: Tensor, scale: int, wanted: int) -> Tensor:
    """[N, C, scale*H, scale*W] -> [N, C, wanted*H, wanted*W]: each result pixel is the mean of the area it covers."""
    if wanted == scale:
        return x
    rows = area_weights(scale, wanted)
    return _reduce(_reduce(x, 2, rows), 3, rows)


def _reduce(x: Tensor, dim: int, rows: list[list[float]]) -> Tensor:
    groups = x.unflatten(dim, (-1, len(rows[0]))).unbind(dim + 1)
    results = []
    for row in rows:
        terms = [(group, weight) for group, weight in zip(groups, row, strict=True) if weight]
        total = terms[0][0] * terms[0][1]
        for group, weight in terms[1:]:
            total.add_(group, alpha=weight)
        results.append(total)
    return torch.stack(results, dim + 1).flatten(dim, dim + 1)
