"""Apple's and Intel's GPUs, where there are some; elsewhere the CPU does their work, as strictly as they would."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.vidsr.backends.test_backends import compact, picture, psnr, spec_for, srresnet
from vidsr.backends import available_backends, backend_kind, open_backend
from vidsr.backends.cpu import TorchBackend
from vidsr.backends.cuda import CudaBackend
from vidsr.backends.gpu import device_errors_explained, out_of_memory
from vidsr.backends.planes import cpu_has_bf16
from vidsr.backends.trust import check_device
from vidsr.errors import BackendError
from vidsr.frames import PixelFormat
from vidsr.models.checkpoint import save_generator

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


class Strict(TorchDispatchMode):
    """Refuses what Metal has no kernels for."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.float64, torch.uint16, torch.bfloat16):
                raise TypeError(f"{function}: {leaf.dtype}")
        return result


@pytest.mark.parametrize("generator", [compact, srresnet])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("format", ["yuv420p", "yuv420p10le", "yuv444p16le", "gray10le", "gbrp"])
def test_devices_without_uint16_and_float64(monkeypatch, generator, format, scale):
    monkeypatch.setattr("vidsr.color.HAVE_UINT16", ())
    monkeypatch.setattr("vidsr.backends.cuda.HAVE_UINT16", ())
    spec = spec_for("cpu", format=format, scale=scale)
    run = CudaBackend(generator(), spec, device=CPU)
    ways = run._ways

    def strictly(stacks, tile):
        with Strict():
            return ways(stacks, tile)

    strictly.prepare, strictly.compiled = ways.prepare, ways.compiled
    run._ways = strictly
    batch = picture(PixelFormat.from_name(format), 28, 18, 2)
    monkeypatch.undo()
    expected = TorchBackend(generator(), spec)(batch)
    monkeypatch.setattr("vidsr.color.HAVE_UINT16", ())
    monkeypatch.setattr("vidsr.backends.cuda.HAVE_UINT16", ())
    result = run(batch)
    assert result.format == expected.format and psnr(result, expected, batch.format) > 70


@pytest.mark.parametrize("name", ["mps", "xpu"])
def test_the_device_itself(name, tmp_path):
    if reason := available_backends()[name]:
        assert reason.startswith(f"{name}: ") and "\n" not in reason
        pytest.skip(reason)
    save_generator(compact(), tmp_path / "compact.safetensors", {})
    batch = picture(PixelFormat.from_name("yuv420p10le"), 96, 64, 3)
    spec = spec_for(name, format="yuv420p10le", model=tmp_path / "compact.safetensors", precision=None)
    run = open_backend(spec)
    assert psnr(run(batch), TorchBackend(compact(), spec_for("cpu", format="yuv420p10le"))(batch), batch.format) > 45
    assert run.settle(96, 64)["backend"] == name == backend_kind(name).name
    run.close()


def test_a_device_that_computes_wrong_pictures_is_not_used():
    spec, generator = spec_for("cpu"), compact()
    run = CudaBackend(generator, spec, device=CPU)
    check_device("this CPU", run.try_once, generator, spec)
    with pytest.raises(BackendError, match=r"^a card computes wrong pictures \(\d+\.\d dB against the CPU"):
        check_device("a card", lambda stacks: [255 - plane for plane in run.try_once(stacks)], generator, spec)
    broken = CudaBackend(generator, replace(spec, precision="bf16"), lambda line: None, CPU)
    with torch.no_grad():
        broken._planes.generator.body[0].weight.fill_(float("nan"))
    with pytest.raises(BackendError, match="wrong pictures"):
        check_device("a card", broken.try_once, generator, spec)


@pytest.mark.parametrize(
    ("device", "said", "line"),
    [
        ("mps", "MPS backend out of memory (MPS allocated: 9 GB)", "Apple GPU: out of device memory: free some"),
        ("mps", "Metal: command buffer failed\nmore", "Apple GPU: Metal: command buffer failed; run it again"),
    ],
)
def test_what_a_device_says_becomes_one_line(device, said, line):
    with pytest.raises(BackendError, match=f"^{line}") as caught, device_errors_explained(torch.device(device)):
        raise RuntimeError(said)
    assert "\n" not in str(caught.value)
    assert out_of_memory(RuntimeError(said)) == ("out of memory" in said)


def test_a_pytorch_without_onednn_has_no_bf16_test(monkeypatch):
    """Builds for Apple's chips: the test that x86 builds have is not there at all."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert cpu_has_bf16() is False
