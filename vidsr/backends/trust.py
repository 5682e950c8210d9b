"""Whether what computes can be believed: compilers, drivers and devices have been wrong before, silently."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vidsr.backends.base import BackendSpec
from vidsr.backends.planes import PlaneGenerator, tensor
from vidsr.errors import BackendError
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat
from vidsr.models.base import Generator

LEAST_PSNR = 40.0  # dB against the CPU in float32; rounding to float16 alone leaves 60 and more
TRIED = (71, 53)  # the size of the picture that a device is tried on: odd, as tiles are, which has shown faults


def made_picture(like: Sequence[Tensor], format: PixelFormat) -> list[Tensor]:
    """Planes shaped like `like`, of what upscalers find hard: shading, noise, thin lines, edges; always the same."""
    generator = torch.Generator().manual_seed(0)
    planes = []
    for plane in like:
        n, rows, columns = plane.shape
        coarse = torch.rand((n, 1, rows // 16 + 2, columns // 16 + 2), generator=generator)
        values = F.interpolate(coarse, (rows, columns), mode="bilinear", align_corners=False)[:, 0]
        values[:, rows // 2 :] += 0.1 * torch.randn((n, rows - rows // 2, columns), generator=generator)
        values[:, :, columns // 3 :: 7] = 0.1
        values[:, rows // 4 : rows // 2, columns // 2 :] = 0.9
        codes = (values.clamp(0, 1) * (2**format.bits - 1)).round()
        planes.append(codes.to(torch.int32).to(plane.dtype).to(plane.device))
    return planes


def decibels(results: Sequence[Tensor], expected: Sequence[Tensor], bits: int) -> float:
    """PSNR of the worst picture of `results` against `expected`: integer planes [N, rows, columns] of codes of `bits`
    bits, which 0 dB to infinity are held against."""
    errors = [(a.to("cpu", torch.float32) - b.to("cpu", torch.float32)).square() for a, b in zip(results, expected)]
    each = torch.stack([torch.cat([e[i].flatten() for e in errors]).mean() for i in range(len(errors[0]))])
    worst = float(each.max())
    return 10 * math.log10((2**bits - 1) ** 2 / worst) if worst else math.inf


def made_frames(width: int, height: int, format: PixelFormat, color: ColorSpec, count: int = 1) -> FrameBatch:
    """`made_picture` as frames of that size."""
    dtype = torch.uint8 if format.bits == 8 else torch.uint16
    like = [torch.empty((count, *shape), dtype=dtype) for shape in format.plane_shapes(width, height)]
    planes = [plane.numpy() for plane in made_picture(like, format)]
    return FrameBatch(tuple(Frame(tuple(p[i] for p in planes), pts=i) for i in range(count)), format, color)


def check_device(
    name: str, run: Callable[[Sequence[Tensor]], Sequence[Tensor]], generator: Generator, spec: BackendSpec
) -> None:
    """Hold what a device makes of a made picture against the CPU in float32. BackendError where it is another picture.

    name: of the device, for people. run: planes [1, rows, columns] in the host's memory -> those of the result there.
    """
    planes = made_frames(*TRIED, spec.source_format, spec.source_color).frames[0].planes
    stacks = [tensor(plane)[None] for plane in planes]
    reference = PlaneGenerator(generator, replace(spec, tile=None), "fp32", torch.device("cpu"))
    psnr = decibels(run(stacks), reference(stacks), spec.result_format.bits)
    if psnr < LEAST_PSNR:
        raise BackendError(
            f"{name} computes wrong pictures ({psnr:.1f} dB against the CPU, less than {LEAST_PSNR:g}): update its "
            "driver, or use --backend cpu"
        )
