"""ncnn computes what PyTorch does, whatever becomes of its process. Its CPU stands in for a device but where said."""

import importlib.util
import os
import re
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.running import vidsr
from tests.vidsr.backends.test_backends import compact, picture, psnr, same, spec_for, srresnet
from vidsr import api
from vidsr.backends import contenders, fallbacks, open_backend
from vidsr.backends.cpu import TorchBackend
from vidsr.backends.vulkan.backend import VulkanBackend, choose_precision, vulkan_missing, worth_measuring
from vidsr.backends.vulkan.convert import convert
from vidsr.backends.vulkan.process import Device, Found, find_devices, understood
from vidsr.errors import BackendError, UsageError
from vidsr.frames import PixelFormat
from vidsr.models.architectures import Compact
from vidsr.models.base import Generator
from vidsr.models.checkpoint import save_generator

on_ncnn = pytest.mark.skipif(importlib.util.find_spec("ncnn") is None, reason="ncnn is not installed")
on_device = pytest.mark.skipif(vulkan_missing() is not None, reason=vulkan_missing() or "")
pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(*args, **options):
    """Compact with slopes that differ from channel to channel."""
    torch.manual_seed(0)
    model = Compact(*args, **options)
    for module in model.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0, 0.5)
    return model


GENERATORS = {
    "prelu": lambda: seeded(12, 2),
    "relu-nearest": lambda: seeded(8, 3, activation="relu", skip="nearest"),
    "leaky-2x": lambda: seeded(16, 1, scale=2, activation="leaky_relu"),
    "srresnet": srresnet,
}


def on_cpu(generator, notify=None, **options):
    spec = spec_for("vulkan", **options)
    return VulkanBackend(generator, spec, device=None, version="1", notify=notify), TorchBackend(
        generator, replace(spec, name="cpu")
    )


@on_ncnn
@pytest.mark.parametrize("tile", [None, 9])
@pytest.mark.parametrize("kind", GENERATORS)
def test_conversion_changes_nothing(kind, tile):
    """Odd sizes, one after the other, several frames, and a result of half the generator's size."""
    run, reference = on_cpu(GENERATORS[kind](), format="yuv444p10le", scale=2, tile=tile)
    for width, height, count in ((1, 1, 1), (23, 17, 3), (8, 31, 1)):
        batch = picture(run.spec.source_format, width, height, count)
        for got, expected in zip(run(batch).frames, reference(batch).frames, strict=True):
            for p, q in zip(got.planes, expected.planes, strict=True):
                assert np.abs(p.astype(int) - q).max() <= 1  # a sum on the edge of rounding
    run.close()


@on_ncnn
def test_what_its_bits_depend_on():
    run, _ = on_cpu(compact(), tile=32)
    settled = {"backend": "vulkan", "precision": "fp32", "tile": 32, "device": "CPU", "driver": "", "ncnn": "1"}
    assert run.settle(640, 480) == settled
    assert "fp32" in run.description and "\n" not in run.description
    run.close()


class Foreign(Generator):
    """Repeats pixels by a step that ncnn is told nothing of."""

    scale = 4

    def __init__(self, radius):
        super().__init__()
        self._radius = radius

    @property
    def radius(self):
        return self._radius

    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=4, mode="nearest")


@pytest.mark.parametrize("radius", [None, 0])
def test_other_architectures_are_refused(radius):
    with pytest.raises(BackendError, match=r"Compact and SRResNet only; use --backend cpu$"):
        on_cpu(Foreign(radius))


@pytest.mark.parametrize("wrong", [{"bias": False}, {"stride": 2}, {"groups": 3}, {"padding_mode": "reflect"}])
def test_convolutions_of_another_kind_are_refused(wrong):
    with pytest.raises(BackendError, match="cannot convert Conv2d"):
        convert(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, **wrong)))


# Trust


class _Halving(nn.ReLU):
    """For the CPU; ncnn takes it for a ReLU, as a device would that computes something else."""

    def forward(self, x):
        return super().forward(x) / 2


_Halving.__module__ = nn.ReLU.__module__  # so that tracing does not look inside


def wrong():
    model = seeded(8, 1, activation="relu")
    model.body[1] = _Halving()
    return model


@on_ncnn
def test_a_device_that_computes_wrong_pictures_is_refused():
    with pytest.raises(BackendError, match=r"^vulkan: CPU computes wrong pictures \(.+ dB against the CPU, .*\): upd"):
        on_cpu(wrong())


# Bad luck


def killed(run, said=""):
    """The worker's process is ended as a driver does, while pictures are on their way; `said`: what ncnn prints."""
    worker = run._switch.worker
    worker._said.write(said.encode())
    worker._said.flush()
    os.kill(worker._process.pid, signal.SIGKILL)


@on_ncnn
def test_when_the_device_is_lost_the_cpu_goes_on():
    said = []
    run, reference = on_cpu(compact(), said.append)
    batches = [picture(run.spec.source_format, count=n, seed=n) for n in (1, 2, 3, 1)]
    assert same(run(batches[0]), reference(batches[0]))
    killed(run, "vkWaitForFences failed -4\n")
    pending = [run.submit(batch) for batch in batches]
    assert all(same(result(), reference(batch)) for result, batch in zip(pending, batches, strict=True))
    assert said == ["vulkan: CPU failed (vkWaitForFences failed -4): going on on the CPU, slower"]
    run.close()


@on_ncnn
def test_a_device_that_never_comes_back_is_not_waited_for():
    said = []
    run, reference = on_cpu(compact(), said.append)
    worker, batch = run._switch.worker, picture(run.spec.source_format)
    worker._patience = 0.1
    os.kill(worker._process.pid, signal.SIGSTOP)
    assert same(run(batch), reference(batch))
    assert said == ["vulkan: CPU failed (no answer for 0.1 s): going on on the CPU, slower"]
    assert worker._process.poll() is not None and not worker._folder.exists()
    run.close()


def test_without_room_for_its_files_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(BackendError, match=r"^vulkan: CPU fails \(it cannot be started \(.*\)\): update its driver"):
        on_cpu(compact())


@on_ncnn
def test_when_memory_runs_out_it_goes_on_in_tiles():
    said = []
    run, reference = on_cpu(compact(), said.append)
    batch = picture(run.spec.source_format, 50, 40)
    for _ in range(2):
        killed(run, "vkAllocateMemory failed -2\n")
        assert psnr(run(batch), reference(batch), batch.format) > 60
    assert said == [
        "out of device memory: going on in tiles of 25 pixels",
        "vulkan: CPU failed (vkAllocateMemory failed -2): going on on the CPU, slower",
    ]
    run.close()


@on_ncnn
def test_it_ends_its_process_and_leaves_no_file():
    run, _ = on_cpu(compact())
    run(picture(run.spec.source_format))
    worker = run._switch.worker
    assert worker._process.poll() is None and worker._folder.is_dir()
    run.close()
    assert worker._process.poll() == 0 and not worker._folder.exists()
    if sys.platform == "linux":  # Windows keeps files that are mapped
        assert str(worker._folder) not in Path("/proc/self/maps").read_text()


@on_ncnn
def test_the_process_does_not_outlive_who_started_it():
    """It reads the end of what it is told, which is all that it sees of a process that was killed."""
    run, _ = on_cpu(compact())
    worker = run._switch.worker
    worker._process.stdin.close()
    assert worker._process.wait(20) == 0 and not worker._folder.exists()
    run.close()


# Devices

SAID = """[0 Intel(R) UHD (TGL GT1)]  queueC=0[1]  queueT=0[1]
[0 Intel(R) UHD (TGL GT1)]  fp16-p/s/u/a=1/1/1/1  int8-p/s/u/a=1/1/1/1  bf16-p/s=1/0
[1 GeForce GTX 970]  fp16-p/s/a=1/1/0  int8-p/s/a=1/1/0
[2 llvmpipe (LLVM 15)]  fp16-p/s/u/a=0/0/0/0
"""
ANSWER = """{"ncnn": "1.0", "devices": [
 {"number": 0, "name": "Intel(R) UHD (TGL GT1)", "kind": "integrated", "memory": 3221225472, "driver": "8086:1"},
 {"number": 1, "name": "GeForce GTX 970", "kind": "discrete", "memory": 4294967296, "driver": "10de:2"},
 {"number": 2, "name": "llvmpipe (LLVM 15)", "kind": "software", "memory": 1073741824, "driver": "10005:1"}]}"""


def test_devices_are_understood():
    found = understood(0, ANSWER, SAID)
    assert found.version == "1.0" and not found.reason
    assert [device.line for device in found.devices] == [
        "Intel(R) UHD (TGL GT1) (integrated, 3072 MiB, fp16)", "GeForce GTX 970 (discrete, 4096 MiB, fp16)",
        "llvmpipe (LLVM 15) (software, 1024 MiB, fp32 only)",
    ]  # fmt: skip


@pytest.mark.parametrize(("there", "best"), [((0, 1, 2), 1), ((0, 2), 0), ((2, 0), 0), ((2,), 2)])
def test_the_first_discrete_device_else_the_first_and_software_last(there, best):
    devices = understood(0, ANSWER, SAID).devices
    found = Found("1.0", tuple(devices[i] for i in there))
    assert found.best == devices[best]
    assert worth_measuring(found) == (best != 2)
    assert not worth_measuring(Found("1.0", (), "no device"))


@pytest.mark.parametrize(
    ("code", "answer", "said", "reason"),
    [
        (0, '{"ncnn": "1", "devices": []}', "dlopen failed libvulkan.so.1: no such file", "no Vulkan loader: install"),
        (0, '{"ncnn": "1", "devices": []}', "vkCreateInstance failed -9", "no device .*: install the driver"),
        (-11, "", "[0 X]  fp16\nvkCreateDevice failed -4\n", r"driver fails \(vkCreateDevice failed -4\): update both"),
        (1, "", "", r"fails \(exit code 1\): update both"),
        (0, "", "", r"fails \(exit code 0\): update both"),
    ],
)
def test_what_is_missing_is_said_in_one_line_with_its_cure(code, answer, said, reason):
    found = understood(code, answer, said)
    assert not found.devices and "\n" not in found.reason and re.search(reason, found.reason)


def test_precision_is_chosen():
    half = Device(0, "X", "discrete", 1 << 30, "", half=True)
    assert choose_precision(None, half) == "fp16" and choose_precision("fp32", half) == "fp32"
    assert choose_precision(None, replace(half, half=False)) == "fp32"
    with pytest.raises(UsageError, match="precision bf16: X has fp16 and fp32"):
        choose_precision("bf16", half)
    with pytest.raises(UsageError, match="precision fp16: X has fp32"):
        choose_precision("fp16", replace(half, half=False))


@pytest.mark.skipif(vulkan_missing() is None, reason="Vulkan works here")
def test_without_a_device_the_next_best_goes_on(tmp_path):
    save_generator(compact(), tmp_path / "compact.safetensors", {})
    said = []
    spec = replace(spec_for("vulkan", model=tmp_path / "compact.safetensors"), instead=("cpu",))
    assert isinstance(open_backend(spec, said.append), TorchBackend)
    assert len(said) == 1 and said[0].startswith("vulkan: ") and "going on with --backend cpu" in said[0]


# On a device, be it software


def test_the_machine_is_described():
    out = vidsr("probe", "--machine").stdout
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("vulkan: "))
    devices = [line.strip() for line in lines[at + 1 :] if line.startswith("  ")]
    assert devices == [device.line for device in find_devices().devices] == list(api.devices("vulkan"))
    assert devices or "install" in lines[at] or "update" in lines[at]


@on_device
def test_software_is_never_chosen_unasked():
    device = find_devices().best
    assert ("vulkan" in contenders("cpu")) == (device.kind != "software")
    assert "vulkan" not in fallbacks("tensorrt") and fallbacks("vulkan") == ("cpu",)


@on_device
def test_half_precision_only_where_it_is_asked_for():
    """FP32 is FP32 to the code; FP16 is not, and close."""
    batch = picture(PixelFormat.from_name("yuv444p12le"), 40, 30)
    generator, device = seeded(16, 3), find_devices().best
    expected = TorchBackend(generator, spec_for(format=batch.format.name))(batch)
    results = {}
    for precision in ("fp32", "fp16") if device.half else ("fp32",):
        spec = spec_for("vulkan", format=batch.format.name, precision=precision)
        run = VulkanBackend(generator, spec, device, notify=lambda line: None)
        results[precision] = psnr(run(batch), expected, batch.format)
        run.close()
    assert results["fp32"] > 90
    assert 50 < results.get("fp16", 60) < 85
