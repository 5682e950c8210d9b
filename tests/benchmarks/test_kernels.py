"""Kernels and bytes are counted right, and without a GPU."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from benchmarks.__main__ import main
from benchmarks.common.pictures import drawn
from benchmarks.speed import kernels
from benchmarks.speed.kernels import STAGES, Compiling, Counting, counted
from benchmarks.speed.measure import plain_spec

pytestmark = pytest.mark.usefixtures("one_thread")


@torch.inference_mode()
def test_what_is_no_view_reads_and_writes_once():
    x = torch.rand(4, 8)  # 128 bytes
    with Counting() as count:
        y = x.view(8, 4)[2:].t().unsqueeze(0).contiguous()  # 96 bytes, copied once
        y.contiguous()  # which already is
        torch.empty_like(y).copy_(y)
        y.add_(x.flatten()[:1])
        torch.cat([x, x.to(torch.float16).float()])
    assert [row[1:] for row in count.rows] == [
        ("copy", 192), ("copy", 192), ("add_", 96 + 96 + 4), ("copy", 128 + 64), ("copy", 64 + 128), ("cat", 4 * 128),
    ]  # fmt: skip


@torch.inference_mode()
def test_a_bias_is_a_kernel_and_so_is_a_change_of_layout():
    network = nn.Conv2d(4, 8, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.rand(2, 4, 5, 6)
    bytes_in, bytes_out = 4 * x.numel(), 4 * 2 * 8 * 5 * 6
    convolution = ("convolution", bytes_in + 4 * network.weight.numel() + bytes_out)
    bias = ("bias", 2 * bytes_out + 4 * 8)
    for device in ("cpu", "meta"):
        network, x = network.to(device), x.to(device)
        with Counting() as count:
            network(x.contiguous(memory_format=torch.channels_last)).add_(1)
        assert [row[1:] for row in count.rows][-3:] == [convolution, bias, ("add_", 2 * bytes_out)]
        with Counting() as count:
            network(x)
        assert [row[1:] for row in count.rows] == [("to channels last", 2 * bytes_in), convolution, bias]


@pytest.mark.parametrize("model", ["tiny", "fast"])
def test_without_computing_it_is_counted_as_with(model, monkeypatch):
    spec = plain_spec("cuda", model, 4, drawn(64, 48, 4, None))
    found = counted(spec, 64, 48, 4)
    opened = kernels.open_on
    monkeypatch.setattr(kernels, "META", torch.device("cpu"))

    def on_the_cpu(spec, *rest, **more):
        return opened(replace(spec, precision="bf16"), *rest, **more)

    monkeypatch.setattr(kernels, "open_on", on_the_cpu)
    assert counted(spec, 64, 48, 4) == found
    stages, names = found["stages"], found["by_name"]
    assert list(stages) == list(STAGES) and names["convolution"]["kernels"] == names["bias"]["kernels"]
    for key in ("kernels", "bytes"):
        in_stages, by_name = (sum(part[key] for part in parts.values()) for parts in (stages, names))
        assert in_stages == pytest.approx(by_name, abs=9)  # bytes are rounded


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own, as it loads its compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_what_is_compiled_is_counted_as_it_is_made():
    network = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.PReLU(8)).eval()
    x = torch.rand(1, 4, 16, 16)

    def work(x):
        return network(x).mul(2).add(1)

    with Compiling() as compiling, torch.inference_mode():
        torch.compile(work, dynamic=False)(x)
    assert compiling.graphs == 1
    assert [row[1] for row in compiling.taken if "last" not in row[1]] == ["convolution", "bias", "prelu", "mul", "add"]
    picture, weights, result, vector = 4 * 4 * 16 * 16, 4 * 8 * 4 * 9, 4 * 8 * 16 * 16, 4 * 8
    # Whatever follows a convolution is one kernel.
    assert compiling.made[-2:] == [picture + weights + vector + result, result + vector + result]


def test_states_of_the_code_stand_beside_each_other(tmp_path):
    for name in ("before", "after"):
        arguments = ["--model", "tiny", "--no-compile", "--name", name, "-o", str(tmp_path)]
        done = CliRunner().invoke(main, ["kernels", *arguments])
        assert done.exit_code == 0, done.output
    runs = json.loads((tmp_path / "kernels.json").read_text())["runs"]
    assert runs["before"] == runs["after"]
    text = (tmp_path / "kernels.md").read_text()
    assert "| before | tiny | 480x270 to 4x | as written |" in text and "| after | tiny |" in text
