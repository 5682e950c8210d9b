"""The benchmarks measure what they say. What they find is never tested: a machine is as fast as it is."""

import json
import subprocess
import sys
from dataclasses import replace
from statistics import median

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from torch import nn

from benchmarks.__main__ import main
from benchmarks.common.chart import Bars, draw
from benchmarks.common.machine import device_slug
from benchmarks.common.pictures import decoded, demo_over_and_over, drawn, read
from benchmarks.speed.measure import Effort, figures, plain_spec, speed
from benchmarks.speed.roof import Cost, Peaks, count, frame_cost
from tests.running import ROOT
from vidsr.backends.gpu import cuda_missing

no_gpu_here = pytest.mark.skipif(cuda_missing() is None, reason="CUDA works here")


pytestmark = pytest.mark.usefixtures("one_thread")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# ---- counting -------------------------------------------------------------------------------------------------------


def test_work_is_counted_at_the_real_shapes():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.PReLU(8), nn.PixelShuffle(2), nn.Conv2d(2, 4, 5, padding=2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
    ).to("meta")  # fmt: skip
    pixels = 10 * 6
    first, second, third = pixels * 8, 4 * pixels * 4, pixels * 6  # values of the outputs
    macs = first * 3 * 9 + second * 2 * 25 + third * 2 * 9
    assert count(network, 10, 6) == (2 * macs, 2 * 4 * (first + second + third))
    assert count(network, 20, 6)[0] == 4 * macs


def test_the_shipped_generator_costs_what_it_is_made_of():
    source = drawn(64, 48, 1, None)
    cost = frame_cost(plain_spec("cpu", "srwgan-gp", 4, source), 64, 48, "bf16", batch=2)
    head, trunk, mid, up1 = 81 * 3 * 64, 8 * 2 * 9 * 64 * 64, 9 * 64 * 64, 9 * 64 * 256
    up2, tail = 4 * 9 * 64 * 256, 4 * 25 * 256 * 12  # at twice the size; the tail is a folded 5x5
    assert cost.flop == 2 * 64 * 48 * (head + trunk + mid + up1 + up2 + tail)
    outputs = 64 * (1 + 16 + 1) + 256 + 4 * (256 + 12)
    weights = (head + trunk + mid + up1 + up2 // 4 + tail // 4) + 64 * 18 + 256 + 256 + 12  # with biases
    planes = 64 * 48 * 3 // 2 * (1 + 16)
    assert cost.traffic == planes + 2 * 2 * 64 * 48 * outputs + 2 * weights // 2


@pytest.mark.parametrize("scale", [2, 4])
def test_a_smaller_result_of_the_fast_model_costs_less(scale):
    spec = plain_spec("cpu", "fast", scale, drawn(64, 48, 1, None))
    flop = frame_cost(spec, 64, 48, "bf16").flop
    assert (flop < frame_cost(replace(spec, scale=4), 64, 48, "bf16").flop) is (scale == 2)
    assert frame_cost(spec, 128, 48, "bf16").flop == 2 * flop


def test_the_roof_is_the_lower_one():
    peaks = Peaks("fp16", flops=1000.0, bandwidth=100.0)
    assert peaks.fps(Cost(flop=100, traffic=5)) == 10 and peaks.fps(Cost(flop=100, traffic=50)) == 2
    assert peaks.shares(Cost(100, 5), 4.0) == {"roof_fps": 10, "flop_share": 0.4, "byte_share": 0.2}


def test_frames_a_second_are_frames_over_seconds():
    asked = []

    def work(pieces):
        asked.append(pieces)
        return pieces * 0.01

    found = speed(work, Effort(1.0, 3), frames=4, warm_up=3)
    assert found["frames"] == 400 and found["fps"] == pytest.approx(400)
    assert asked[:2] == [3, 3] and asked[-3:] == [100, 100, 100]
    seconds = iter([4.0, 1.0, 2.0])
    found = figures(lambda: next(seconds), Effort(1.0, 3), 8)
    assert (found["fps_min"], found["fps"], found["fps_max"]) == (2, 4, 8)
    assert len(figures(lambda: 100.0, Effort(1.0, 3), 1)["seconds"]) == 1  # too slow to be repeated


# ---- fps ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fps")
    done = run("fps", "--backend", "cpu", "--size", "64x48", "--seconds", 0.02, "--repeats", 2, "-o", folder)
    assert done.exit_code == 0, done.output
    (path,) = folder.glob("fps-*.json")
    return path, json.loads(path.read_text()), done.stdout


def test_a_run_is_consistent(measured):
    _, data, _ = measured
    (row,) = data["rows"]
    assert list(row["stages"]) == ["decode", "upload", "model", "download", "encode"]
    for found in (row["model_only"], row["device_alone"], row["end_to_end"], *row["stages"].values()):
        assert found["fps"] == pytest.approx(found["frames"] / median(found["seconds"]))
        assert found["fps_min"] <= found["fps"] <= found["fps_max"] and 1 <= len(found["seconds"]) <= 2
    for name, stage in row["stages"].items():
        assert row["stage_ms"][name] == pytest.approx(1000 / stage["fps"])
    assert row["stage_ms"][row["bound_by"]] == max(row["stage_ms"].values())
    slower = min(row["model_only"]["fps"], row["stages"]["encode"]["fps"])
    assert row["share_of_slower"] == pytest.approx(row["end_to_end"]["fps"] / slower)
    peaks = data["peaks"][row["precision"]]
    roof, fps = row["roof"], row["model_only"]["fps"]
    assert roof["flop_share"] == pytest.approx(row["flop_per_frame"] * fps / peaks["flops"])
    assert roof["byte_share"] == pytest.approx(row["bytes_per_frame"] * fps / peaks["bandwidth"])
    assert fps / roof["roof_fps"] == pytest.approx(max(roof["flop_share"], roof["byte_share"]))
    assert row["memory"]["peak_rss"] > 50 << 20
    assert data["threads"] == 1 and data["machine"]["torch"] and data["before"]["load"] is not None


def test_a_run_leaves_table_and_picture(measured):
    path, _, said = measured
    text = path.with_suffix(".md").read_text()
    assert "| fast | cpu, " in text and "64x48 to 4x" in text and "Measured on: " in text and said.strip() in text
    image = cv2.imread(str(path.with_suffix(".png")))
    assert image.shape[1] == 1000 and (image[0, 0] == 255).all() and (image < 200).any()


def test_a_clip_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.speed.fps.peak_alone", lambda *arguments: {"left out": "takes seconds"})
    path = drawn(80, 64, 30, tmp_path).path
    done = run("fps", "--backend", "cpu", "--clip", path, "--scale", 2, "--seconds", 0.01, "--repeats", 1, "--no-save")
    assert done.exit_code == 0 and "80x64 to 2x" in done.output
    assert run("fps", "--clip", path, "--size", "64x48").exit_code == 2


@pytest.mark.parametrize("size", ["480", "64x47", "16x16", "axb"])
def test_sizes_that_are_none(size):
    assert run("fps", "--backend", "cpu", "--size", size).exit_code == 2


@no_gpu_here
@pytest.mark.parametrize("arguments", [["fps", "--backend", "tensorrt"], ["fps", "--backend", "cuda"], ["gpu"]])
def test_without_a_gpu_the_reason_is_one_line(arguments):
    done = run(*arguments)
    assert done.exit_code == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith("benchmarks: ")
    assert done.stdout == ""


def test_drawn_pictures_are_the_clip(tmp_path):
    source = drawn(64, 48, 30, tmp_path)
    again = read(source.path)
    assert (again.size, again.length, again.end(24), again.end(30)) == ("64x48", 30, 1000, None)
    memory = drawn(64, 48, 30, None)
    assert source.color.matrix == memory.color.matrix and source.format == memory.format
    for a, b in zip(source.frames, memory.frames, strict=True):
        assert np.abs(a.planes[0].astype(int) - b.planes[0]).mean() < 5
    assert not np.array_equal(memory.frames[0].planes[0], memory.frames[1].planes[0])


def test_the_demo_goes_on_and_on_without_a_cut(tmp_path):
    source = demo_over_and_over(200, tmp_path)
    assert (source.size, source.length, source.name) == ("480x270", 200, "the bundled clip to and fro")
    planes = [frame.planes[0].astype(int) for frame in decoded(source.path)[1]]
    steps = [np.abs(a - b).mean() for a, b in zip(planes, planes[1:])]
    assert 0.5 < max(steps) < 6 and source.color.matrix == "bt709"
    assert np.abs(planes[20] - planes[2 * 72 - 20]).mean() < 1  # on the way back


# ---- where PyAV is missing ------------------------------------------------------------------------------------------

HIDING = """
import json, sys
from pathlib import Path

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        hidden = name.split(".")[0] in ("av", "click_default_group", "platformdirs")
        return None if hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def without_av(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HIDING + code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_without_av_what_needs_it_is_left_out(tmp_path):
    done = without_av(f"""
from benchmarks.gpu.parts import run_part
from benchmarks.gpu.trial import Deadline
for name in ("fps", "memory", "clip"):
    run_part(name, "cpu", Deadline(60), Path({str(tmp_path)!r}) / (name + ".json"))
assert "av" not in sys.modules
""")
    assert done.returncode == 0, done.stderr
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert not any("failed" in part for part in found.values()), found
    assert "PyAV is not installed" in found["fps"]["decode_to_encode"]
    for row in found["fps"]["rows"]:
        assert row["model_only"]["fps"] > 0 and list(row["stages"]) == ["upload", "model", "download"]
        assert row["end_to_end"] == {"left out": "PyAV is not installed: pip install av"}
    assert len(found["memory"]["samples"]) == 11
    assert found["clip"]["left out"] == "vidsr needs av, not installed here"


def test_without_av_commands_that_need_it_say_so():
    done = without_av("""
from benchmarks.__main__ import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
main(["stages", "--part", "time"])
""")
    assert done.returncode == 1 and "stages needs av" in done.stdout and " fps " in done.stdout
    assert done.stderr == "benchmarks: stages needs av, which is not installed: pip install av\n"


# ---- names and pictures ---------------------------------------------------------------------------------------------


def test_devices_make_names_of_files():
    facts = {"processor": "Intel(R) Xeon(R) Processor @ 2.30GHz", "gpu": "NVIDIA H100 80GB HBM3"}
    assert device_slug(facts, "cuda") == "nvidia-h100-80gb-hbm3"
    assert device_slug(facts, "cpu").startswith("intel-xeon")
    assert device_slug({"processor": "AMD Ryzen 7 CPU @ 3 GHz"}, "cpu") == "amd-ryzen-7"


def test_bars_are_as_high_as_their_values(tmp_path):
    panel = Bars("title", ["a", "b"], {"one": [100.0, 50.0], "two": [None, 25.0]}, [120.0, 9000.0])
    draw([panel, panel], tmp_path / "chart.png", "caption")
    image = cv2.imread(str(tmp_path / "chart.png")).astype(int)
    first = image[40 : len(image) // 2]  # below the key
    blue, orange = (np.abs(first - color).sum(2) < 30 for color in ((176, 114, 46), (74, 158, 232)))
    a, b = slice(0, 370), slice(370, None)
    highest = blue[:, a].sum(0).max()
    assert highest > 100 and blue[:, b].sum(0).max() == pytest.approx(highest / 2, abs=3)
    assert orange[:, a].sum() == 0 and orange[:, b].sum(0).max() == pytest.approx(highest / 4, abs=3)


def test_what_was_measured_outlives_a_missing_matplotlib(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    draw([Bars("title", ["a"], {"one": [1.0]}, [2.0])], tmp_path / "chart.png", "caption")
    assert "chart.png: not drawn, matplotlib is missing: pip install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
