"""One contract for all backends, then what is particular to each."""

import importlib.util
import os
import re
import subprocess
import sys
import threading
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vidsr.backends import available_backends, backend_kind, choose_backend, fallbacks, open_backend
from vidsr.backends.base import BackendSpec
from vidsr.backends.cpu import TorchBackend
from vidsr.backends.cuda import CudaBackend
from vidsr.backends.fused import Fused
from vidsr.backends.gpu import cuda_missing, has_kernels
from vidsr.backends.nearest import NearestBackend
from vidsr.backends.openvino import openvino_missing
from vidsr.backends.planes import choose_precision, cpu_has_bf16
from vidsr.backends.tensorrt.body import tensorrt_missing
from vidsr.backends.tiles import activation_bytes, area_weights, auto_tile, in_tiles, reduce_by_area, windows
from vidsr.backends.vulkan.backend import VulkanBackend, vulkan_missing
from vidsr.backends.vulkan.process import find_devices
from vidsr.color import from_rgb
from vidsr.errors import BackendError, UsageError
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat
from vidsr.models.architectures import Compact, SRResNet
from vidsr.models.base import Generator
from vidsr.models.checkpoint import load_generator, save_generator

pytestmark = pytest.mark.usefixtures("one_thread")

FORMATS = ["yuv420p", "yuv420p10le", "yuv422p", "yuv444p12le", "yuv444p16le", "gray", "gray10le", "gbrp"]
no_bf16 = pytest.mark.skipif(not cpu_has_bf16(), reason="no bf16 in this CPU")
on_tensorrt = (
    pytest.mark.cuda,
    pytest.mark.skipif(cuda_missing() is None and tensorrt_missing() is not None, reason=tensorrt_missing() or ""),
)
no_ncnn = pytest.mark.skipif(importlib.util.find_spec("ncnn") is None, reason="ncnn is not installed")
_software = vulkan_missing() is None and find_devices().best.kind == "software"  # minutes, on the cores of the tests
_no_device = vulkan_missing() or "" if not _software else "Vulkan is software here: VIDSR_SOFTWARE_VULKAN=1 tries it"
no_device = pytest.mark.skipif(bool(_no_device) and "VIDSR_SOFTWARE_VULKAN" not in os.environ, reason=_no_device)
no_openvino = pytest.mark.skipif(openvino_missing() is not None, reason=openvino_missing() or "")
BACKENDS = {
    "nearest": ("nearest", None, ()),
    "cpu-fp32": ("cpu", "fp32", ()),
    "cpu-bf16": ("cpu", "bf16", no_bf16),
    "openvino": ("openvino", "int8", no_openvino),
    "lanes-on-cpu": ("lanes", "fp32", ()),  # the CUDA backend without its streams and graphs
    "ncnn-on-cpu": ("ncnn", "fp32", no_ncnn),  # the Vulkan backend without Vulkan
    "vulkan-fp32": ("vulkan", "fp32", no_device),
    "vulkan-fp16": ("vulkan", "fp16", no_device),
    "cuda-fp32": ("cuda", "fp32", pytest.mark.cuda),
    "cuda-fp16": ("cuda", "fp16", pytest.mark.cuda),
    "tensorrt": ("tensorrt", "fp16", on_tensorrt),
}
every_backend = pytest.mark.parametrize(
    "backend", [pytest.param(value[:2], id=name, marks=value[2]) for name, value in BACKENDS.items()]
)


def compact():
    torch.manual_seed(0)
    return Compact(16, 3)


def srresnet():
    """With a tail strong enough for pictures that are not all mid-gray."""
    torch.manual_seed(0)
    model = SRResNet(1, 8)
    with torch.no_grad():
        model.tail.weight.mul_(6)
    return model.eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = {"compact": folder / "compact.safetensors", "srresnet": folder / "srresnet.safetensors"}
    save_generator(compact(), paths["compact"], {})
    save_generator(srresnet(), paths["srresnet"], {})
    return paths


def spec_for(name="cpu", format="yuv420p", scale=4, precision="fp32", model="", result_format=None, **options):
    source = PixelFormat.from_name(format)
    result = PixelFormat.from_name(result_format or format)
    color = ColorSpec(options.pop("matrix", "rgb" if source.family == "rgb" else "bt709"))
    return BackendSpec(name, str(model), scale, source, color, result, color, precision=precision, **options)


def opened(backend, models, model="compact", **options):
    name, precision = backend
    if name == "lanes":
        spec = spec_for("cpu", precision=precision, model=models[model], **options)
        return CudaBackend(load_generator(spec.model), spec, device=torch.device("cpu"))
    if name == "ncnn":
        spec = spec_for("cpu", precision=precision, model=models[model], **options)
        return VulkanBackend(load_generator(spec.model), spec, device=None)
    told = (lambda line: None) if name == "vulkan" else None  # of a device that is software
    return open_backend(spec_for(name, precision=precision, model=models[model], **options), told)


def picture(format, width=20, height=14, count=1, seed=0):
    """Frames of smooth noise with a hard edge; the planes are views of wider arrays, as decoders give them."""
    generator = np.random.default_rng(seed)
    top = 2**format.bits - 1
    frames = []
    for i in range(count):
        planes = []
        for rows, columns in format.plane_shapes(width, height):
            noise = cv2.GaussianBlur(generator.random((rows + 1, columns + 7)), (0, 0), 2) * 0.6 + 0.2
            noise[:, columns // 2 :] += 0.15
            planes.append((noise.clip(0, 1) * top).astype(format.dtype)[:rows, :columns])
        frames.append(Frame(tuple(planes), pts=100 + 7 * i, duration=i))
    return FrameBatch(tuple(frames), format, ColorSpec())


def same(a, b):
    return all(
        np.array_equal(p, q) for f, g in zip(a.frames, b.frames, strict=True) for p, q in zip(f.planes, g.planes)
    )


def psnr(a, b, format):
    errors = [(p.astype(float) - q) ** 2 for f, g in zip(a.frames, b.frames) for p, q in zip(f.planes, g.planes)]
    mean = np.mean([e.mean() for e in errors])
    return 10 * np.log10((2**format.bits - 1) ** 2 / mean) if mean else np.inf


# The contract


@every_backend
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("format", FORMATS)
def test_shapes_types_and_times(backend, models, format, scale):
    run = opened(backend, models, format=format, scale=scale)
    assert run.scale == scale and run.description and "\n" not in run.description
    for width, height in ((1, 1), (13, 6)):
        batch = picture(PixelFormat.from_name(format), width, height, 2)
        result = run(batch)  # FrameBatch itself checks the types and the chroma
        assert (result.width, result.height) == (scale * width, scale * height)
        assert (result.format, result.color) == (run.spec.result_format, run.spec.result_color)
        assert [(f.pts, f.duration) for f in result.frames] == [(100, 0), (107, 1)]
    run.close()


@every_backend
def test_a_frame_does_not_depend_on_its_batch(backend, models):
    run = opened(backend, models)
    batch = picture(run.spec.source_format, count=3)
    together = run(batch)
    alone = [run(replace(batch, frames=(frame,))).frames[0] for frame in batch.frames]
    assert same(together, replace(together, frames=tuple(alone)))
    assert same(together, run(batch))
    assert not same(replace(together, frames=together.frames[:1]), replace(together, frames=together.frames[1:2]))


@every_backend
def test_batches_may_be_pending(backend, models):
    """Several on their way, taken out of order and by another thread: the same bytes as one by one."""
    run = opened(backend, models)
    batches = [picture(run.spec.source_format, count=n, seed=n) for n in (1, 4, 2, 5, 3)]
    expected = [run(batch) for batch in batches]
    pending = [run.submit(batch) for batch in batches]
    results = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: pending[i]()})) for i in (3, 0, 4, 2, 1)]
    for thread in threads:
        thread.start()
        thread.join()
    assert run.in_flight >= 1
    for i, reference in enumerate(expected):
        assert same(results[i], reference)
        assert [f.pts for f in results[i].frames] == [f.pts for f in batches[i].frames]


@every_backend
def test_sizes_may_change(backend, models):
    run = opened(backend, models)
    small, large = picture(run.spec.source_format, 9, 7), picture(run.spec.source_format, 26, 18, 2)
    first = run(small)
    assert (run(large).width, run(large).height) == (26 * 4, 18 * 4)
    assert same(run(small), first)


@every_backend
def test_results_are_the_callers(backend, models):
    """Written to by the encoder, kept by reuse: no result may alias the source or another result."""
    run = opened(backend, models)
    batch = picture(run.spec.source_format, count=2)
    first, second = run(batch), run(batch)
    kept = [plane.copy() for frame in second.frames for plane in frame.planes]
    for frame in first.frames:
        for plane in frame.planes:
            assert plane.flags.writeable and plane.flags.c_contiguous
            assert not any(np.shares_memory(plane, p) for source in batch.frames for p in source.planes)
            plane[:] = 0
    assert all(np.array_equal(a, b) for a, b in zip(kept, [p for f in second.frames for p in f.planes]))


@every_backend
def test_sources_may_be_read_only_or_upside_down(backend, models):
    run = opened(backend, models)
    batch = picture(run.spec.source_format)
    flipped = tuple(np.ascontiguousarray(p[::-1])[::-1] for p in batch.frames[0].planes)
    for plane in batch.frames[0].planes:
        plane.flags.writeable = False
    assert same(run(batch), run(replace(batch, frames=(replace(batch.frames[0], planes=flipped),))))


@every_backend
@pytest.mark.parametrize("result_format", ["yuv420p10le", "yuv420p"])
def test_bit_depth_may_change(backend, models, result_format):
    run = opened(backend, models, format="yuv420p", result_format=result_format)
    batch = picture(run.spec.source_format)
    result = run(batch)
    levels = [
        np.mean(f.planes[0]) / 2**f_.bits
        for f, f_ in ((batch.frames[0], batch.format), (result.frames[0], result.format))
    ]
    assert levels[0] == pytest.approx(levels[1], abs=0.1)


@every_backend
def test_other_formats_are_refused(backend, models):
    run = opened(backend, models, format="yuv420p")
    with pytest.raises(ValueError, match="yuv444p, expected yuv420p"):
        run(picture(PixelFormat.from_name("yuv444p")))


# Generators through PyTorch

TORCH = {name: value for name, value in BACKENDS.items() if value[0] not in ("nearest", "openvino")}
every_torch = pytest.mark.parametrize(
    "backend", [pytest.param(value[:2], id=name, marks=value[2]) for name, value in TORCH.items()]
)


@every_torch
@pytest.mark.parametrize("model", ["compact", "srresnet"])
@pytest.mark.parametrize("format", ["yuv420p", "yuv444p10le"])
def test_close_to_float32(backend, models, model, format):
    batch = picture(PixelFormat.from_name(format), 48, 40)
    reference = opened(("cpu", "fp32"), models, model=model, format=format)(batch)
    assert np.std(reference.frames[0].planes[0]) > 0.02 * 2**batch.format.bits
    assert psnr(opened(backend, models, model=model, format=format)(batch), reference, batch.format) >= 45


@every_torch
@pytest.mark.parametrize("model", ["compact", "srresnet"])
@pytest.mark.parametrize("tile", [1, 17])
def test_tiles_do_not_show(backend, models, model, tile):
    batch = picture(PixelFormat.from_name("yuv420p10le"), 45, 38)
    options = {"model": model, "format": "yuv420p10le"}
    if tile == 1:  # as many generator runs as pixels
        batch = picture(batch.format, 4, 3)
    whole = opened(backend, models, **options)(batch)
    tiled = opened(backend, models, tile=tile, **options)(batch)
    if backend[1] == "fp32":
        for p, q in zip(whole.frames[0].planes, tiled.frames[0].planes):
            assert np.abs(p.astype(int) - q).max() <= 1  # a sum on the edge of rounding
    assert psnr(tiled, whole, batch.format) >= 50


@pytest.mark.parametrize("generator", [compact, srresnet])
@pytest.mark.parametrize("tile", [13, 64])
def test_tiling_is_exact(generator, tile):
    folded = generator().folded()
    x = torch.rand(1, 3, 27, 32)
    with torch.inference_mode():
        assert (in_tiles(folded, x, tile) - folded(x)).abs().max() <= 1e-5


@pytest.mark.parametrize("location", ["left", "center", "topleft"])
@pytest.mark.parametrize(("own", "scale"), [(4, 1), (4, 2), (4, 3), (4, 4), (2, 2), (3, 2), (3, 3), (8, 5), (8, 8)])
@pytest.mark.parametrize("format", ["yuv420p", "yuv422p10le", "yuv444p", "yuv420p12le", "gray", "gbrp"])
def test_fused_is_the_written_out_way(format, own, scale, location):
    """The colour in Compact's last convolution gives what the whole way over RGB pictures does."""
    torch.manual_seed(0)
    kind = PixelFormat.from_name(format)
    color = ColorSpec("rgb" if kind.family == "rgb" else "bt601", chroma_location=location)
    generator = Compact(8, 1, own, "nearest" if scale == 2 else "bilinear")
    with torch.inference_mode():
        for size in ((1, 1), (5, 7)):
            x = torch.rand(2, 3, *size)
            expected = from_rgb(reduce_by_area(generator(x), own, scale), kind, color)
            folded = generator.folded()
            fused = Fused(folded, folded.linear_tail(), scale, kind, color).to(memory_format=torch.channels_last)
            for plane, reference in zip(fused.planes(fused(x)), expected, strict=True):
                assert plane.shape == reference.shape and plane.dtype == reference.dtype
                off = (plane.int() - reference.int()).abs()
                assert off.max() <= 1 and off.float().mean() < 0.02  # sums on the edge of rounding


@given(st.integers(1, 200), st.integers(0, 90), st.integers(0, 30))
def test_windows_have_one_size_and_all_their_context(length, tile, radius):
    size, found = windows(length, tile, radius)
    assert [part[1] for part in found] + [length] == [0] + [part[2] for part in found]  # no gap, no overlap
    for begin, start, end in found:
        assert 0 <= begin <= max(start - radius, 0) and min(end + radius, length) <= begin + size <= length


class Enlarge(Generator):
    """A generator that only repeats pixels; may refuse pictures, as a device out of memory does."""

    scale, radius = 4, 0

    def __init__(self, most=0):
        super().__init__()
        self.most = most

    def forward(self, x):
        if self.most and x.shape[0] * x.shape[2] * x.shape[3] > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return nn.functional.interpolate(x, scale_factor=4, mode="nearest")


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("location", ["left", "center", "topleft"])
@pytest.mark.parametrize("format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gray", "gbrp"])
def test_the_picture_survives(format, location, scale):
    """Pixels repeated and averaged again are the source: colour, range, siting and order of planes are all right."""
    spec = spec_for(format=format, scale=scale)
    color = replace(spec.source_color, chroma_location=location)
    run = TorchBackend(Enlarge(), replace(spec, source_color=color, result_color=color))
    batch = picture(spec.source_format, 96, 64)
    result = run(batch)
    for i, (before, after) in enumerate(zip(batch.frames[0].planes, result.frames[0].planes, strict=True)):
        x, y = spec.source_format.chroma_shift if i else (0, 0)
        mean = reduced(after, scale, 0, y == 1 and location == "topleft")
        mean = reduced(mean, scale, 1, x == 1 and location != "center")
        assert np.abs(mean - before).mean() <= 0.5 * 2 ** (spec.source_format.bits - 8)
        assert abs(mean.mean() - before.mean()) <= 0.1 * 2 ** (spec.source_format.bits - 8)


def reduced(plane, scale, axis, on_luma):
    """`plane` with `scale` times fewer samples along `axis`, at the spots where the source had its samples."""
    groups = np.moveaxis(plane.astype(float), axis, 0).reshape(-1, scale, plane.shape[1 - axis])
    # Chroma on the first of two luma samples: (2j + 0.5) * scale is that much after sample j * scale of the result.
    after = (scale - 1) / 4
    mean = groups[:, 0] * (1 - after) + groups[:, 1] * after if on_luma else groups.mean(1)
    return np.moveaxis(mean, 0, axis)


def test_out_of_memory_means_smaller_pieces():
    said = []
    batch = picture(PixelFormat.from_name("yuv420p"), 40, 30, 5)
    run = on_cpu(Enlarge(most=500), notify=said.append)
    assert same(run(batch), TorchBackend(Enlarge(), spec_for())(batch))
    assert said == [f"out of device memory: going on with {n} frames at once" for n in (8, 4, 2, 1)] + [
        "out of device memory: going on in tiles of 20 pixels",
    ]
    run(batch)
    assert len(said) == 5
    run = on_cpu(Enlarge(), spec_for(tile=64), said.append)
    run._planes.generator.body.most = 1
    with pytest.raises(BackendError, match="out of device memory"):
        run(batch)


def test_chunk_and_tile_fit_the_memory(monkeypatch):
    """Fewer frames at once before tiles; and the same bytes, since neither shows in the picture."""
    said = []
    batch = picture(PixelFormat.from_name("yuv420p"), 96, 64, 4)
    needed = sum(a * b for a, b in zip(activation_bytes(compact().folded()), (1, 3))) * 96 * 64
    results = []
    for share, chunk, tiles in ((8.5, 4, False), (4.5, 2, False), (2.1, 1, False), (1.2, 1, True)):
        monkeypatch.setattr("vidsr.backends.cuda.available_bytes", lambda device, n=share: int(needed * n))
        run = on_cpu(compact(), notify=said.append)
        results.append(run(batch))
        assert (run._chunk, bool(run._tile)) == (chunk, tiles)
    assert len(said) == 1 and "tiles of" in said[0]
    assert all(psnr(result, results[0], batch.format) > 60 for result in results)


def on_cpu(generator, spec=None, notify=None):
    return CudaBackend(generator, spec or spec_for(), notify, torch.device("cpu"))


def test_precision_is_chosen():
    assert choose_precision(None, "cpu") == ("bf16" if cpu_has_bf16() else "fp32")
    assert all(choose_precision(None, device) == "fp16" for device in ("cuda", "xpu", "mps"))
    assert choose_precision("fp32", "cuda") == "fp32"
    with pytest.raises(UsageError, match="int8"):
        choose_precision("int8", "cpu")
    with pytest.raises(UsageError, match="GPU"):
        choose_precision("fp16", "cpu")


def test_scales_beyond_the_generator_are_refused():
    with pytest.raises(UsageError, match="up to 2"):
        TorchBackend(Compact(8, 1, scale=2), spec_for(scale=3))


def test_emulated_bf16_is_said(monkeypatch):
    monkeypatch.setattr("vidsr.backends.cpu.cpu_has_bf16", lambda: False)
    with pytest.warns(RuntimeWarning, match="slower"):
        TorchBackend(Enlarge(), spec_for(precision="bf16"))


# Geometry


def test_area_weights():
    assert area_weights(4, 3) == [[0.75, 0.25, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.25, 0.75]]
    assert area_weights(4, 2) == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]
    assert area_weights(2, 2) == [[1, 0], [0, 1]]


def test_reduce_by_area_keeps_means_and_phase():
    x = torch.rand(1, 2, 12, 8)
    reduced = reduce_by_area(x, 4, 3)
    assert reduced.shape == (1, 2, 9, 6)
    assert torch.allclose(reduced.mean((2, 3)), x.mean((2, 3)))
    assert torch.allclose(reduced.flip(2, 3), reduce_by_area(x.flip(2, 3), 4, 3))
    halved = nn.functional.avg_pool2d(x, 2)
    assert torch.allclose(reduce_by_area(x, 4, 2), halved)


@pytest.mark.parametrize("generator", [compact, srresnet])
def test_auto_tile(generator):
    folded = generator().folded()
    assert auto_tile(1920, 1080, folded, 1 << 40) == 0
    tiles = [auto_tile(1920, 1080, folded, n << 20) for n in (100, 800, 1200, 1600)]
    assert tiles[0] == 32 and tiles == sorted(tiles) and all(t % 16 == 0 for t in tiles if t)
    assert auto_tile(64, 64, folded, 100 << 20) == 0


# Choosing


def test_names():
    backends = available_backends()
    assert list(backends) == ["tensorrt", "cuda", "xpu", "mps", "vulkan", "openvino", "cpu", "nearest"]
    assert backends["cpu"] is None and backends["nearest"] is None
    kinds = [backend_kind(name) for name, reason in backends.items() if reason is None]
    best = next(kind.name for kind in kinds if kind.chosen_unasked and kind.contender is None)
    assert choose_backend() == best
    assert choose_backend("nearest") == "nearest"
    assert fallbacks("cpu") == fallbacks("nearest") == ()
    # What would refuse the precision is nothing to go on with.
    assert "cpu" in fallbacks("cuda", "fp32") and not {"cpu", "openvino"} & {*fallbacks("cuda", "fp16")}
    assert fallbacks("openvino", "int8") == ()
    with pytest.raises(UsageError, match=r"'tpu'.*auto"):
        choose_backend("tpu")
    with pytest.raises(UsageError, match="'tpu'"):
        open_backend(spec_for("tpu"))


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
@pytest.mark.skipif(cuda_missing() is None, reason="CUDA works here")
def test_what_is_missing_is_explained(name):
    reason = available_backends()[name]
    assert reason and reason.startswith(f"{name}: ") and "\n" not in reason
    assert "install" in reason  # the cure
    for call in (lambda: choose_backend(name), lambda: open_backend(spec_for(name))):
        with pytest.raises(BackendError) as caught:
            call()
        assert str(caught.value) == reason


def warn(message):
    warnings.warn(message, stacklevel=2)


def raising(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize(
    ("patches", "reason"),
    [
        ({"backends.cuda.is_built": lambda: False}, r"this PyTorch \(.*\) has no CUDA.*: install a build that has"),
        ({"cuda.is_available": lambda: False}, r"no usable NVIDIA GPU \(.+\): install NVIDIA's driver, or update it"),
        ({"cuda.is_available": lambda: warn("CUDA: driver too old.\nUpdate it")}, r"\(CUDA: driver too old\): inst"),
        ({"cuda.init": raising(RuntimeError("CUDA error: in use\nmore"))}, r"cannot be opened \(CUDA error: in use\)"),
        ({"cuda.get_device_capability": lambda: (6, 1)}, r"no kernels for NVIDIA X \(compute capability 6\.1\): inst"),
        # AMD's, by ROCm: a card's number is another, and there is no NVIDIA driver to be asked for.
        ({"version.hip": "7.1", "cuda.get_arch_list": lambda: ["gfx1100"]}, None),
        ({"version.hip": "7.1", "cuda.is_available": lambda: False}, r"no usable AMD GPU \(none found\): install AMD"),
        ({}, None),
    ],
)
def test_why_cuda_cannot_be_used(monkeypatch, patches, reason):
    good = {
        "backends.cuda.is_built": lambda: True, "cuda.is_available": lambda: True, "cuda.init": lambda: None,
        "cuda.get_device_capability": lambda: (8, 9), "cuda.get_arch_list": lambda: ["sm_75", "sm_86"],
        "cuda.get_device_name": lambda: "NVIDIA X",
    }  # fmt: skip
    for name, value in (good | patches).items():
        monkeypatch.setattr(f"torch.{name}", value)
    if "version.hip" not in patches:
        monkeypatch.setattr("torch.version.hip", None)
    found = cuda_missing()
    assert found is None if reason is None else re.search(rf"^cuda: .*{reason}", found) and "\n" not in found


@pytest.mark.skipif(cuda_missing() is None, reason="CUDA works here")
def test_the_next_best_backend_goes_on(models):
    said = []
    spec = replace(spec_for("tensorrt", model=models["compact"]), instead=("cuda", "cpu"))
    run = open_backend(spec, said.append)
    assert isinstance(run, TorchBackend)
    assert len(said) == 2 and all("\n" not in line for line in said)
    assert said[0].startswith("tensorrt: ") and said[0].endswith("going on with --backend cuda")
    with pytest.raises(BackendError, match="cuda"):
        open_backend(replace(spec, instead=("cuda",)), said.append)
    with pytest.raises(UsageError, match="enlarges"):  # another backend would not help
        open_backend(replace(spec, name="cpu", scale=5), said.append)


def test_fallbacks_are_the_slower_ones_that_work(monkeypatch):
    works = dict.fromkeys(backend for backend in available_backends() if backend != "openvino")
    works["openvino"] = "openvino: no"
    monkeypatch.setattr("vidsr.backends.why_not", works.get)
    assert choose_backend() == "tensorrt" and fallbacks("tensorrt") == ("cuda", "cpu")
    assert choose_backend(None, "fp16") == "tensorrt" and choose_backend(None, "fp32") == "cuda"
    works["cuda"] = "cuda: no"
    assert fallbacks("tensorrt") == ("cpu",)
    works["tensorrt"] = "tensorrt: no"
    assert choose_backend() == "cpu"
    works["openvino"] = None  # asked for by its precision
    assert choose_backend(None, "int8") == "openvino" and choose_backend(None, "bf16") == "cpu"


@pytest.mark.parametrize(
    ("built_for", "device", "runs"),
    [
        (["sm_80", "sm_86"], (8, 9), True),
        (["sm_75", "sm_90"], (8, 6), False),
        (["sm_75", "compute_80"], (12, 0), True),
        (["sm_100", "sm_120"], (12, 1), True),
        (["sm_90a"], (9, 0), True),
        (["sm_75"], (6, 1), False),
        ([], (8, 0), True),
    ],
)
def test_kernels_for_a_device(built_for, device, runs):
    assert has_kernels(*device, built_for) == runs


def test_nearest_repeats_samples():
    spec = spec_for("nearest", scale=3)
    result = NearestBackend(spec)(picture(spec.source_format, 5, 3))
    source = picture(spec.source_format, 5, 3).frames[0].planes[0]
    assert np.array_equal(result.frames[0].planes[0][::3, 1::3], source)


def test_nearest_converts_no_colour():
    with pytest.raises(UsageError, match="makes no yuv444p of yuv420p"):
        NearestBackend(spec_for("nearest", result_format="yuv444p"))


def test_importing_the_protocol_is_cheap():
    modules = "vidsr.backends.base, vidsr.source.colorspec, vidsr.backends.nearest"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
