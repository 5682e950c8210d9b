"""The whole way from planes to planes, compiled: the same picture, or PyTorch's own kernels and a line saying why."""

import shutil
from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters

from tests.vidsr.backends.test_backends import FORMATS, compact, picture, psnr, same, spec_for, srresnet
from vidsr.backends.compiled import _Whole
from vidsr.backends.cpu import TorchBackend
from vidsr.backends.cuda import CudaBackend
from vidsr.backends.planes import PlaneGenerator
from vidsr.backends.trust import made_picture
from vidsr.frames import PixelFormat
from vidsr.models.base import Generator
from vidsr.models.compact import Compact

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")
compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler, which torch.compile needs on a CPU"
)


def small():
    """A C++ compiler takes seconds for each kernel."""
    torch.manual_seed(0)
    return Compact(8, 1)


@compiler
@pytest.mark.parametrize(("generator", "format", "scale"), [(small, "yuv420p", 4), (srresnet, "yuv420p10le", 2)])
def test_compiled_is_what_it_was_compiled_from(generator, format, scale):
    spec = spec_for("cpu", format=format, scale=scale)
    said = []
    counters.clear()
    run = CudaBackend(generator(), replace(spec, compiled=True), said.append, CPU)
    assert run.settle(28, 18, False)["convolutions"] == "torch.compile" and said == []
    batch = picture(PixelFormat.from_name(format), 28, 18, 3)
    expected, result = CudaBackend(generator(), spec, device=CPU)(batch), run(batch)
    for one, other in zip(expected.frames, result.frames, strict=True):
        for p, q in zip(one.planes, other.planes, strict=True):
            assert abs(p.astype(int) - q).max() <= 1  # sums in another order, on the edge of rounding
    assert same(run(batch), result)
    assert counters["stats"]["unique_graphs"] == 1  # not anew for what is compared, nor for the next picture
    run.close()


@compiler
def test_on_the_cpu_whole_pictures_are_compiled():
    spec, said = spec_for("cpu"), []
    counters.clear()
    run = TorchBackend(small(), replace(spec, compiled=True), said.append)
    assert run.settle(28, 18)["convolutions"] == "torch.compile" and said == []
    plain = TorchBackend(small(), spec)
    assert "convolutions" not in plain.settle(28, 18)  # as before there was a choice
    for size in ((28, 18), (13, 11)):
        batch = picture(PixelFormat.from_name("yuv420p"), *size, 2)
        assert psnr(run(batch), plain(batch), batch.format) > 60
    assert counters["stats"]["unique_graphs"] == 1
    run.close()


@pytest.mark.parametrize("generator", [compact, srresnet])
@pytest.mark.parametrize("location", ["left", "topleft"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("format", FORMATS)
def test_every_way_can_be_exported(generator, format, scale, location):
    """In one piece: a compiler is given the whole of it. Here PyTorch's kernels run it, which takes no minutes."""
    spec = spec_for("cpu", format=format, scale=scale)
    spec = replace(spec, source_color=replace(spec.source_color, chroma_location=location))
    planes = PlaneGenerator(generator(), replace(spec, result_color=spec.source_color), "fp32", CPU)
    dtype = torch.uint8 if spec.source_format.bits == 8 else torch.uint16
    like = [torch.empty((2, *shape), dtype=dtype) for shape in spec.source_format.plane_shapes(14, 10)]
    stacks = made_picture(like, spec.source_format)
    with torch.no_grad():
        program = torch.export.export(_Whole(planes), tuple(stacks)).module()
    with torch.inference_mode():
        for a, b in zip(program(*stacks), planes(stacks), strict=True):
            assert (a.to(torch.int32) - b.to(torch.int32)).abs().max() <= 1


class Stubborn(Generator):
    """Asks for a number in between, which no graph can hold."""

    scale, radius = 4, 0

    def forward(self, x):
        factor = 4 if float(x.mean()) > -1e9 else 2
        return torch.nn.functional.interpolate(x, scale_factor=factor, mode="nearest")


class Treacherous(Stubborn):
    """Another picture, as soon as it is compiled."""

    def forward(self, x):
        x = 1 - x if torch.compiler.is_compiling() else x
        return torch.nn.functional.interpolate(x, scale_factor=4, mode="nearest")


@pytest.mark.parametrize(
    ("generator", "reason"), [(Stubborn, "torch.compile fails ("), pytest.param(Treacherous, "wrong (", marks=compiler)]
)
def test_what_does_not_compile_goes_on_without(generator, reason):
    spec, said = spec_for("cpu"), []
    run = CudaBackend(generator(), replace(spec, compiled=True), said.append, CPU)
    assert run.settle(28, 18, False)["convolutions"] == "PyTorch"
    batch = picture(PixelFormat.from_name("yuv420p"), 28, 18, 4)
    assert same(run(batch), CudaBackend(generator(), spec, device=CPU)(batch))
    (line,) = said
    assert reason in line and line.endswith("PyTorch's own kernels do the same, slower") and "\n" not in line


def test_tiles_are_not_compiled():
    said = []
    run = CudaBackend(compact(), spec_for("cpu", compiled=True, tile=16), said.append, CPU)
    assert run.settle(40, 30, False)["convolutions"] == "PyTorch"
    assert said == ["--compile changes nothing where pictures are worked on in tiles"]
