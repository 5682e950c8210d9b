"""The benchmarks measure what they say. What they find is never tested: a machine is as fast as it is."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from benchmarks.__main__ import main
from benchmarks.common.chart import Bars, draw
from benchmarks.common.machine import device_slug
from benchmarks.common.pictures import drawn, read
from benchmarks.gpu import command as gpu
from benchmarks.gpu import parts as gpu_parts
from benchmarks.gpu import tensorrt as gpu_tensorrt
from benchmarks.gpu.trial import Deadline, Trial, run_command
from benchmarks.speed.fps import Bench
from benchmarks.speed.measure import Effort, figures, plain_spec, speed
from benchmarks.speed.roof import Cost, Peaks, count, frame_cost
from tests.running import ROOT
from vidsr.backends.gpu import cuda_missing
from vidsr.backends.planes import PlaneGenerator
from vidsr.errors import BackendError
from vidsr.frames import FrameBatch
from vidsr.models.checkpoint import load_generator

CPU = torch.device("cpu")
no_gpu_here = pytest.mark.skipif(cuda_missing() is None, reason="CUDA works here")


pytestmark = pytest.mark.usefixtures("one_thread")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def quick_bench(folder):
    return Bench(folder, CPU, Effort(0.01, 1))


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
    assert found["clip"]["left out"].startswith("vidsr needs av, click_default_group")


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


# ---- gpu ------------------------------------------------------------------------------------------------------------


def test_a_rehearsal_goes_through_every_part(tmp_path):
    """Everything but CUDA itself: the parts are the same, in processes of their own."""
    data, table = gpu.run_all(4.0, "cpu", tmp_path)
    assert list(data["parts"]) == [part.name for part in gpu.PARTS]
    for name, found in data["parts"].items():
        assert "failed" not in found, (name, found)
    parts = data["parts"]
    assert parts["tests"]["exit_code"] == 0 and {"skipped", "passed"} & set(parts["tests"]["counts"])
    assert [row["size"] for row in parts["fps"]["rows"]] == ["64x48", "80x48"]
    assert all(row["end_to_end"]["fps"] > 0 and row["workers"] == 2 for row in parts["fps"]["rows"])
    assert [way["execution"] for way in parts["execution"]["ways"]] == ["graph", "eager", "compile"]
    assert parts["execution"]["ways"][1]["same_bits"]
    assert "left out" in parts["tensorrt"] or parts["tensorrt"]["engines"]
    assert parts["memory"]["samples"][-1]["frames"] == parts["memory"]["frames"] > 100
    assert parts["clip"]["fps"] > 0 and parts["clip"]["stages"]["bound_by"]
    text = table.read_text()
    assert "Rehearsal" in text and all(f"## {name}" in text for name in parts)
    assert table.with_suffix(".png").exists()
    assert json.loads(table.with_suffix(".json").read_text())["parts"] == parts


def test_a_rehearsal_is_no_result():
    done = run("gpu", "--device", "cpu")
    assert done.exit_code == 2 and "-o" in done.stderr


def test_what_there_is_no_time_for_is_said(tmp_path):
    data, table = gpu.run_all(0.001, "cpu", tmp_path)
    assert all(found["left out"].startswith("0 s were left") for found in data["parts"].values())
    assert table.read_text().count("left out: 0 s were left") == len(gpu.PARTS)


def test_a_part_without_time_leaves_measurements_out(tmp_path):
    gpu_parts.run_part("execution", "cpu", Deadline(0.2), tmp_path / "part.json")
    found = json.loads((tmp_path / "part.json").read_text())
    assert len(found["ways"]) == 3 and all("s were left" in way["left out"] for way in found["ways"])


def test_what_fails_is_kept_and_the_next_goes_on(tmp_path):
    trial = Trial(quick_bench(tmp_path), Deadline(60), tmp_path / "part.json")

    def fail():
        raise ValueError("no\nsecond line")

    def refuse():
        raise BackendError("an engine for another card")

    assert trial.attempt("first", 1, fail) == {"failed": "ValueError: no"}
    assert trial.attempt("second", 1, refuse, may_fail=True) == {"failed": "an engine for another card"}
    assert trial.attempt("third", 1, lambda: {"fps": 1}) == {"fps": 1}
    assert trial.failures == ["first: ValueError: no"]


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (-11, "", "the process ended by signal 11, at: an engine for 8.0"),
        (None, "", "stopped after"),
        (1, "Traceback\nRuntimeError: odd", "RuntimeError: odd, at: an engine for 8.0"),
    ],
)
def test_a_part_that_ends_badly_keeps_what_it_found(monkeypatch, code, said, reason):
    def crash(command, seconds):
        Path(command[command.index("-o") + 1]).write_text('{"rows": [1], "at": "an engine for 8.0"}')
        return code, said

    monkeypatch.setattr(gpu, "run_command", crash)
    found = gpu.run_apart("tensorrt", "cuda", 10)
    assert found["rows"] == [1] and found["failed"].startswith(reason) and "at" not in found


def test_commands_are_stopped_with_their_children():
    script = "import subprocess; print('here', flush=True); subprocess.run(['sleep', '60'])"
    assert run_command([sys.executable, "-c", script], 1.0) == (None, "here")
    assert run_command([sys.executable, "-c", "import sys; print('out'); sys.exit(3)"], 20) == (3, "out")


def test_planes_are_compared_code_by_code():
    source = drawn(64, 48, 2, None)
    batch = FrameBatch(source.frames, source.format, source.color)
    assert gpu_parts.compared(batch, batch) == {"same_bits": True, "most_codes_off": 0, "psnr_db": None}
    frames = [replace(f, planes=tuple(plane.copy() for plane in f.planes)) for f in source.frames]
    frames[1].planes[0][3, 4] += 2
    found = gpu_parts.compared(FrameBatch(tuple(frames), source.format, source.color), batch)
    samples = 2 * 64 * 48 * 3 // 2
    assert found["most_codes_off"] == 2 and found["psnr_db"] == pytest.approx(10 * np.log10(255**2 * samples / 4))


def test_an_engine_is_judged_by_its_picture(tmp_path):
    """The network itself in an engine's place, then one that gives NaN."""
    trial = Trial(quick_bench(tmp_path), Deadline(60), tmp_path / "part.json")
    source = drawn(64, 48, 4, None)
    spec = plain_spec("cuda", "fast", 4, source)
    planes = PlaneGenerator(load_generator(spec.model), spec, "fp32", CPU)
    planes.generator.body.to(torch.bfloat16)
    network = planes.generator.body
    found = gpu_tensorrt.judge(trial, planes, network, source)
    assert found["finite"] and found["psnr_db"] == found["pytorch_psnr_db"] > 30
    assert found["engine"]["frames"] % 4 == 0
    planes.generator.body = network
    found = gpu_tensorrt.judge(trial, planes, lambda x: network(x) * float("nan"), source)
    assert not found["finite"] and found["psnr_db"] is None


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
