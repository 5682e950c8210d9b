"""`python -m benchmarks gpu`: everything but CUDA itself, and above all what happens when something goes wrong."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.common.pictures import drawn
from benchmarks.gpu import command as gpu
from benchmarks.gpu import parts as gpu_parts
from benchmarks.gpu import tensorrt as gpu_tensorrt
from benchmarks.gpu.device import mixed_up
from benchmarks.gpu.encoders import shared_out
from benchmarks.gpu.report import report
from benchmarks.gpu.suite import PYTEST, judged, noted
from benchmarks.gpu.trial import Deadline, Trial, run_command
from benchmarks.speed.fps import Bench
from benchmarks.speed.measure import Effort, plain_spec
from tests.running import ROOT
from vidsr.backends.planes import PlaneGenerator
from vidsr.errors import BackendError, UsageError
from vidsr.frames import FrameBatch
from vidsr.models.checkpoint import load_generator

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def quick_bench(folder):
    return Bench(folder, CPU, Effort(0.01, 1))


def test_a_rehearsal_goes_through_every_part(tmp_path, monkeypatch):
    """Everything but CUDA itself: the parts are the same, in processes of their own. Nothing is written elsewhere."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    data, table = gpu.run_all(9.0, "cpu", tmp_path / "out")
    assert list(home.iterdir()) == []
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
    assert [found["wrong_frames"] for found in parts["race"]["races"]] == [0] and parts["race"]["races"][0]["of"] == 16
    assert parts["copies"]["copies"][0]["both_at_once"]["gb_per_s"] > 0
    assert [found["at_once"] for found in parts["chunks"]["chunks"]] == [1, 2]
    (profile,) = parts["profile"]["profiles"]
    assert profile["kernels_per_chunk"] > 20 and profile["frames"] == profile["counted"]["frames"] == 4
    encoders = parts["x264"]["encoders"]
    assert {found["preset"] for found in encoders} == {"veryfast", "superfast"}
    assert all(found["fps"] > 0 for found in encoders + parts["clip"]["runs"])
    assert [found["reuse"] for found in parts["clip"]["runs"]] == ["auto", "off"]
    assert parts["clip"]["stages"]["bound_by"]
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


# A part that hangs: it heeds no signal, and neither does what it has started in a session of its own.
HANGING = """#!{python}
import os, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open({pids!r}, "a") as file:
            file.write(str(os.getpid()) + chr(10))
time.sleep(600)
"""


def hanging(folder):
    """(a program that never ends, where it says which processes it has left behind)."""
    pids, program = folder / "pids", folder / "python"
    program.write_text(HANGING.format(python=sys.executable, pids=str(pids)))
    program.chmod(0o755)
    return program, pids


def alive(pids):
    """Those that still run; what has ended and nobody has asked after has no memory left."""
    paths = [Path(f"/proc/{pid}/statm") for pid in pids.read_text().split()]
    return [path for path in paths if path.exists() and path.read_text().split()[0] != "0"]


def test_where_every_part_hangs_the_whole_ends_in_time(tmp_path, monkeypatch):
    program, pids = hanging(tmp_path)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(gpu, "PARTS", tuple(replace(part, least=0.5, most=60) for part in gpu.PARTS))
    monkeypatch.setattr(gpu, "GRACE", 1.0)
    monkeypatch.setattr(gpu, "OVERTIME", 1.0)
    start = time.monotonic()
    data, table = gpu.run_all(0.2, "cpu", tmp_path / "out")
    assert time.monotonic() - start < 12 + 15
    stopped = [name for name, found in data["parts"].items() if found.get("failed", "").startswith("stopped after")]
    assert len(stopped) >= 3 and stopped == gpu.NAMES[: len(stopped)]  # one that hangs stops none of the others
    assert all("left out" in data["parts"][name] for name in gpu.NAMES[len(stopped) :])
    assert json.loads(table.with_suffix(".json").read_text())["parts"] == data["parts"]
    assert pids.read_text() and alive(pids) == []


def test_a_command_that_hangs_is_stopped_with_all_it_started(tmp_path):
    program, pids = hanging(tmp_path)
    assert run_command([str(program)], 5.0) == (None, "")
    assert pids.read_text() and alive(pids) == []


def test_what_is_asked_of_the_driver_cannot_hold_the_whole(tmp_path):
    """A driver that hangs: not one of Python's threads comes back."""
    script = """
import sys, time
from benchmarks.gpu import command
import vidsr.backends.gpu
import ctypes
vidsr.backends.gpu.cuda_missing = lambda: ctypes.PyDLL(None).sleep(600)  # and the interpreter's lock with it
command.LAST_RESORT = 1.0
command.gpu(["--minutes", "0.01"])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Timeout" in done.stderr


def test_some_parts_are_run_again_and_the_others_kept(tmp_path):
    data, table = gpu.run_all(2.0, "cpu", tmp_path, ["copies"])
    assert list(data["parts"]) == ["copies"] and "failed" not in data["parts"]["copies"]
    path = table.with_suffix(".json")
    kept = json.loads(path.read_text())
    kept["parts"] = {"tests": {"left out": "no time"}, "copies": {"failed": "long ago"}, "memory": {"left out": "none"}}
    path.write_text(json.dumps(kept))
    data, _ = gpu.run_all(2.0, "cpu", tmp_path, ["copies"])
    assert list(data["parts"]) == ["tests", "copies", "memory"]
    assert "failed" not in data["parts"]["copies"] and data["parts"]["tests"] == {"left out": "no time"}
    assert data["before"] == kept["before"] and json.loads(path.read_text())["parts"] == data["parts"]
    path.write_text(json.dumps({**kept, "machine": {**kept["machine"], "torch": "1.0"}}))
    with pytest.raises(UsageError, match=r"another machine \(torch\)"):
        gpu.run_all(2.0, "cpu", tmp_path, ["copies"])
    assert run("gpu", "--only", "copies,naps").exit_code == 2


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
def test_a_part_that_ends_badly_keeps_what_it_found(monkeypatch, tmp_path, code, said, reason):
    def crash(command, seconds, **variables):
        Path(command[command.index("-o") + 1]).write_text('{"rows": [1], "at": "an engine for 8.0"}')
        return code, said

    monkeypatch.setattr(gpu, "run_command", crash)
    found = gpu.run_apart("tensorrt", "cuda", 10, Deadline(60), tmp_path)
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


# ---- the tests of the GPU -------------------------------------------------------------------------------------------

SUITE = """
import pytest
def test_right(): pass
def test_wrong(): assert 1 == 2
@pytest.mark.skip(reason="no tape")
def test_skipped(): pass
@pytest.fixture
def broken():
    raise ValueError("odd")
def test_without_its_fixture(broken): pass
"""


def test_pytest_runs_where_its_plugins_are_missing(tmp_path):
    """pyproject.toml sets options of pytest-timeout's, and makes errors of warnings: of options unknown, too."""
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "test_other.py").write_text("import no_such_module")
    outcomes = tmp_path / "outcomes.jsonl"
    lacking = ["-p", "no:timeout", "-p", "no:xdist", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path]
    command = [*PYTEST, *lacking, *sorted(tmp_path.glob("test_*.py"))]
    code, said = run_command([str(part) for part in command], 120, VIDSR_OUTCOMES=str(outcomes))
    found = judged(code, said, noted(outcomes))
    assert found["counts"] == {"passed": 1, "failed": 2, "skipped": 1}, said
    wrong, broken = found["failures"]
    assert "test_wrong: " in wrong and "1 == 2" in wrong and broken.endswith("ValueError: odd")
    assert found["skips"] == ["Skipped: no tape"] and found["not_run"] == found["running"] == []
    (without,) = found["without"]
    assert "test_other.py" in without and "no_such_module" in without
    assert found["failed"] == "2 of 4 tests"


def test_what_time_did_not_allow_is_not_run_and_no_failure():
    notes = [
        {"planned": ["a.py::one", "a.py::two", "b.py::three", "b.py::four"]}, {"begun": "a.py::one"},
        {"test": "a.py::one", "outcome": "passed", "seconds": 2.0, "why": None}, {"begun": "a.py::two"},
    ]  # fmt: skip
    found = judged(None, "", notes)
    assert "failed" not in found and found["counts"] == {"passed": 1}
    assert found["running"] == ["a.py::two"] and found["not_run"] == ["b.py::three", "b.py::four"]
    part = {"command": "pytest", "took_s": 90, **found}
    shown = "\n".join(report({"minutes": 8, "before": {}, "parts": {"tests": part}}))
    assert "1 passed, 2 not run" in shown and "2 of b.py" in shown and "a.py::two" in shown
    assert "failed" in judged(None, "", []) and "failed" in judged(-11, "", notes)
    notes.append({"test": "a.py::two", "outcome": "failed", "seconds": 1.0, "why": "wrong"})
    assert judged(None, "", notes)["failed"] == "1 of 4 tests"


def test_findings_that_make_no_table_stop_nothing():
    parts = {"race": {"took_s": 1, "races": [{"of": 3}]}, "copies": {"left out": "no time"}}
    shown = "\n".join(report({"minutes": 8, "before": {}, "parts": parts}))
    assert "No table of it: KeyError" in shown and "left out: no time" in shown


# ---- what the card does ---------------------------------------------------------------------------------------------


def test_frames_that_are_not_their_own_are_counted():
    source = drawn(64, 48, 4, None)
    batch = FrameBatch(source.frames, source.format, source.color)
    swapped = FrameBatch((*source.frames[:2], source.frames[3], source.frames[2]), source.format, source.color)
    assert mixed_up(batch, batch) == 0 and mixed_up(swapped, batch) == 2


def test_cores_are_shared_out():
    assert shared_out(2) == [(1, 2), (2, 1)]
    assert shared_out(16) == [(1, 16), (2, 8), (4, 4), (8, 2), (16, 1), (4, 8), (8, 4), (16, 2)]
