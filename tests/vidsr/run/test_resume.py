"""A crash costs one segment: kill -9, signals, changed settings, damaged leftovers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import av
import pytest

from tests.media import Track, write_episode
from tests.running import vidsr
from vidsr.backends import open_backend
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.errors import BackendError, OutputError, ResumeError
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import save_generator
from vidsr.report import Report
from vidsr.run.pipeline import run

FRAMES = 1000


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    """Four segments: 1000 frames with a keyframe every 50."""
    path = tmp_path_factory.mktemp("resume") / "episode.mkv"
    write_episode(path, frames=FRAMES, keyframes=50, size=(64, 48), audio=[Track("aac", "ja")])
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A real network, so that the bytes depend on what a backend computes."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_generator(Compact(8, 2), path, {"licence": "none"})
    return path


def command(episode, output, weights, *more):
    return [sys.executable, "-m", "vidsr", str(episode), "-o", str(output), "--model", str(weights), "--backend", "cpu",
            "--preset", "superfast", "--threads", "2", "--no-verify", *more]  # fmt: skip


def video_packets(path):
    with av.open(str(path)) as file:
        return [(p.pts, p.dts, p.is_keyframe, bytes(p)) for p in file.demux(video=0) if p.size]


def wait_for(path, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def uninterrupted(episode, weights, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "episode.mkv"
    subprocess.run(command(episode, output, weights), check=True, capture_output=True, timeout=120)
    return video_packets(output)


def test_kill_9_then_the_same_command(episode, weights, uninterrupted, tmp_path):
    output = tmp_path / "episode.mkv"
    work = tmp_path / "episode.mkv.vidsr"
    for segment in (0, 2):
        process = subprocess.Popen(command(episode, output, weights), stderr=subprocess.DEVNULL)
        wait_for(work / f"segment-0000{segment}.json", process)
        time.sleep(0.2)
        process.kill()
        process.wait()
        assert not output.exists()
    made = (work / "segment-00000.mkv").stat().st_mtime_ns
    process = subprocess.Popen(command(episode, output, weights), stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    if work.exists():
        assert (work / "segment-00000.mkv").stat().st_mtime_ns == made
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert len(uninterrupted) == FRAMES
    assert video_packets(output) == uninterrupted
    assert not work.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_at_once_and_say_how_to_go_on(episode, weights, tmp_path, number):
    output = tmp_path / "episode.mkv"
    process = subprocess.Popen(command(episode, output, weights), stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "episode.mkv.vidsr" / "segment-00000.mkv.part", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert "same command" in errors and str(episode) in errors and "episode.mkv.vidsr" in errors
    assert not output.exists()


def stopped(episode, weights, output):
    """A run killed after its first segment; its work folder."""
    process = subprocess.Popen(command(episode, output, weights), stderr=subprocess.DEVNULL)
    work = output.with_name(output.name + ".vidsr")
    wait_for(work / "segment-00000.json", process)
    process.kill()
    process.wait()
    return work


def test_changed_settings_say_what_differs(episode, weights, tmp_path):
    output = tmp_path / "episode.mkv"
    work = stopped(episode, weights, output)
    done = vidsr(*command(episode, output, weights, "--crf", "30")[3:])
    assert done.returncode == 1 and "crf" in done.stderr and "--restart" in done.stderr
    assert (work / "segment-00000.json").exists()
    assert vidsr(*command(episode, output, weights, "--crf", "30", "--restart")[3:]).returncode == 0
    assert not work.exists()


def test_a_changed_source_is_noticed(episode, weights, tmp_path):
    copy = tmp_path / "copy.mkv"
    copy.write_bytes(episode.read_bytes())
    output = tmp_path / "result.mkv"
    stopped(copy, weights, output)
    with open(copy, "ab") as file:
        file.write(b"\0")
    done = vidsr(*command(copy, output, weights)[3:])
    assert done.returncode == 1 and "source" in done.stderr and "--restart" in done.stderr


class Settling:
    """The stand-in backend on a machine that comes to `settled`; `fails_at` a frame."""

    in_flight, context, patch = 1, 0, 0

    def __init__(self, spec, settled, fails_at=None):
        self.spec, self._settled, self._fails_at, self._inner = spec, settled, fails_at, open_backend(spec)
        self.scale, self.description, self.close = self._inner.scale, "", self._inner.close

    def submit(self, batch):
        if self._fails_at is not None and batch.frames[0].pts >= self._fails_at:
            raise BackendError("the power is gone")
        return self._inner.submit(batch)

    def __call__(self, batch):
        return self.submit(batch)()

    def settle(self, width, height, patches=True):
        return self._settled


def run_settled(episode, output, settled, fails_at=None, **options):
    """A run whose backend settles so; the spec it was opened with."""
    specs = []

    def opened(spec):
        specs.append(spec)
        return Settling(spec, settled, fails_at)

    wanted = {"scale": 2, "backend": "nearest", "preset": "ultrafast", "threads": 1, "check": False, **options}
    run(prepare(episode, Options(output=output, **wanted), Report()), opened, Report())
    return specs[0]


AS_BEGUN = {"backend": "cpu", "precision": "bf16", "tile": 0, "batch": "4 frames"}


@pytest.mark.parametrize(
    ("key", "now", "cure"),
    [("backend", "cuda", "--backend cpu"), ("precision", "fp32", "--precision bf16"),
     ("tile", 256, "free memory"), ("batch", "2 frames", "free memory")],
)  # fmt: skip
def test_what_the_machine_came_to_must_be_the_same(episode, tmp_path, key, now, cure):
    output = tmp_path / "episode.mkv"
    with pytest.raises(BackendError):
        run_settled(episode, output, AS_BEGUN, fails_at=20_000)
    with pytest.raises(ResumeError) as error:
        run_settled(episode, output, AS_BEGUN | {key: now})
    said = str(error.value)
    assert key in said and f"{AS_BEGUN[key]} then, {now} now" in said and cure in said and "--restart" in said
    run_settled(episode, output, AS_BEGUN)
    assert output.exists()


def test_a_run_goes_on_with_the_tile_it_was_begun_with(episode, tmp_path):
    settled = AS_BEGUN | {"tile": 48}
    with pytest.raises(BackendError):
        run_settled(episode, tmp_path / "episode.mkv", settled, fails_at=20_000)
    assert run_settled(episode, tmp_path / "episode.mkv", settled).tile == 48


def test_the_same_by_name_is_no_difference(episode, weights, tmp_path):
    """What is asked for by name the second time is what was chosen the first time."""
    work = stopped(episode, weights, tmp_path / "episode.mkv")
    precision = json.loads((work / "plan.json").read_text())["resolved"]["precision"]
    done = vidsr(*command(episode, tmp_path / "episode.mkv", weights, "--precision", precision)[3:])
    assert done.returncode == 0, done.stderr


def test_what_appears_at_the_output_meanwhile_is_not_replaced(episode, tmp_path):
    output = tmp_path / "episode.mkv"
    options = Options(output=output, scale=2, backend="nearest", preset="ultrafast", threads=1)

    def appear(where):
        if where.step == "proving":
            output.write_text("mine")

    with pytest.raises(OutputError, match="--overwrite"):
        run(prepare(episode, options, Report()), open_backend, Report(), appear)
    assert output.read_text() == "mine"
    run(prepare(episode, replace(options, overwrite=True), Report()), open_backend, Report(), appear)
    assert len(video_packets(output)) == FRAMES and not (tmp_path / "episode.mkv.vidsr").exists()


def test_damaged_leftovers_are_made_again(episode, weights, uninterrupted, tmp_path):
    output = tmp_path / "episode.mkv"
    work = stopped(episode, weights, output)
    segment = work / "segment-00000.mkv"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    assert vidsr(*command(episode, output, weights)[3:]).returncode == 0
    assert video_packets(output) == uninterrupted


def test_an_unreadable_plan_is_said(episode, weights, tmp_path):
    output = tmp_path / "episode.mkv"
    work = stopped(episode, weights, output)
    (work / "plan.json").write_text('{"version": 1}')
    done = vidsr(*command(episode, output, weights)[3:])
    assert done.returncode == 1 and "plan.json" in done.stderr and "--restart" in done.stderr


def test_two_runs_at_once_are_kept_apart(episode, weights, tmp_path):
    output = tmp_path / "episode.mkv"
    process = subprocess.Popen(command(episode, output, weights), stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "episode.mkv.vidsr" / "lock", process)
    process.send_signal(signal.SIGSTOP)  # or it may be done before the other has begun
    done = vidsr(*command(episode, output, weights)[3:])
    assert done.returncode == 1 and "another vidsr" in done.stderr
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=120) == 0


def test_the_plan_says_what_made_it(episode, weights, tmp_path):
    work = stopped(episode, weights, tmp_path / "episode.mkv")
    plan = json.loads((work / "plan.json").read_text())
    assert len(plan["source"]["sha256"]) == 64
    assert {"scale", "weights", "codec", "encoder_options", "pixel_format"} <= plan["settings"].keys()
    assert {"vidsr", "torch", "av"} <= plan["versions"].keys()
    assert sum(segment["packets"] for segment in plan["segments"]) == FRAMES
    assert len(plan["segments"]) == 4
