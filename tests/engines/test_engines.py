"""The workshop, as people call it, on a machine without a GPU."""

import os
import re
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

import engines.__main__ as workshop
from engines.work import PROFILES, parse_targets, wanted
from vidsr.backends.tensorrt import compiler
from vidsr.backends.tensorrt.cache import EngineCache
from vidsr.backends.tensorrt.file import EngineKey, StoredEngine
from vidsr.errors import UsageError

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture
def rtx():
    if not compiler.installed() or not compiler.find_package().targets:
        pytest.skip("no TensorRT-RTX here: pip install -e '.[engines]'")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDSR_CACHE", str(tmp_path / "cache"))
    return EngineCache()


def call(*arguments, code=0):
    result = CliRunner().invoke(workshop.main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def test_engines_travel_to_the_machine_that_has_the_card(rtx, tmp_path, cache):
    folder = tmp_path / "for-others"
    said = call("build", "--profile", "40x30,48x32", "--target", "SM86,SM89,SM120", "-o", folder)
    assert re.search(r"1 of 2  balanced 4x 40x30 yuv420p bt601: 16 of 40x30 at once, [\d.]+ MB, built in [\d.]+", said)
    assert "2 engines in" in said and "0 refused" in said
    assert cache.entries() == []
    listed = call("list", folder)
    assert listed.count("compute capability 8.6, 8.9, 12.0, not compared yet") == 2
    assert "16x40x30 fp16, tensorrt_rtx" in listed
    assert "2 engines added" in call("add", folder)
    assert "2 engines, " in call("list")
    key = cache.entries()[0].stored.key
    assert cache.get(replace(key, gpu="NVIDIA X", capabilities=("8.9",), driver="580")).engine
    assert cache.get(replace(key, gpu="NVIDIA X", capabilities=("9.0",), driver="580")) is None
    assert "2 engines deleted" in call("clean", "--all")
    assert "0 engines, 0.0 of" in call("list")


def test_engines_for_a_file(rtx, tmp_path, cache, episode):
    call("build", "--for", episode, "--target", "8.9")
    (entry,) = cache.entries()  # no larger than a patch: one engine does
    n, channels, height, width = entry.stored.key.shape
    assert (width, height, channels) == (96, 64, 3) and n >= 1
    assert entry.stored.key.capabilities == ("8.9",)
    call("build", "--profile", "480x270", "--target", "8.9")
    shapes = {entry.stored.key.shape for entry in cache.entries()}
    assert len(shapes) == 3 and (4, 3, 270, 480) in shapes  # whole pictures, and patches for what moves


@pytest.fixture
def episode(tmp_path):
    import av
    import numpy as np

    path = tmp_path / "episode.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 40 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_damaged_or_foreign_file_is_not_added(rtx, tmp_path):
    folder = tmp_path / "for-others"
    call("build", "--profile", "40x30", "--target", "8.9", "-o", folder)
    (path,) = folder.glob("*.engine")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for command in ("add", "list"):
        said = call(command, folder, code=2)
        assert said.startswith("engines: ") and path.name in said and said.count("\n") == 1
    (tmp_path / "empty").mkdir()
    assert "no .engine files" in call("add", tmp_path / "empty", code=2)


@no_gpu
@pytest.mark.parametrize("command", ["build", "verify"])
def test_without_a_gpu_the_cure_is_told(command):
    said = call(command, "--profile", "480x270", code=1)
    assert said.startswith("engines: tensorrt: ") and said.count("\n") == 1
    assert "build --target" in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("build",), "nothing to do: name files with --for, or sizes with --profile"),
        (("build", "--profile", "99p"), "--profile 99p: use WIDTHxHEIGHT or one of 270p"),
        (("build", "--profile", "480p", "--target", "turing"), "--target turing: write compute capabilities as SM86"),
        (("build", "--profile", "480p", "-o", "x"), "name their cards with --target"),
        (("build", "--profile", "480p", "--model", "none"), "unknown model 'none'"),
        (("clean",), "say what to delete"),
    ],
)
def test_wrong_usage(arguments, reason):
    said = call(*arguments, code=2)
    assert reason in said and said.count("\n") == 1


def test_a_file_that_is_no_video(tmp_path):
    (tmp_path / "a.mkv").write_text("no video")
    said = call("build", "--for", tmp_path / "a.mkv", "--target", "8.9", code=1)
    assert "a.mkv" in said and said.count("\n") == 1


def test_cards_that_cannot_be_built_for(rtx):
    assert "cannot build for compute capability 9.0" in call("build", "--profile", "40x30", "--target", "SM90", code=1)


def test_refusals_and_what_is_old_are_deleted_apart(rtx, cache):
    call("build", "--profile", "40x30,48x32,56x32", "--target", "8.9")
    entries = cache.entries()
    refused = replace(entries[0].stored, engine=b"", refused="12.0 dB against float32, less than 45")
    cache.put(refused)
    assert "refused: 12.0 dB" in call("list")
    assert "1 engines deleted" in call("clean", "--refused")
    os.utime(entries[1].path, (0, 0))
    assert "0 engines deleted" in call("clean", "--older", 30000)
    assert "1 engines deleted" in call("clean", "--older", 30)
    assert "1 engines, " in call("list")


def test_what_could_not_be_built_is_listed_and_can_be_tried_again(cache):
    card = ("NVIDIA X", ("8.9",), "580")
    key = EngineKey("ab" * 32, (4, 3, 30, 40), "fp16", *card, "tensorrt", "11.0.1", "onnx 1", "2.13")
    why = "TensorRT 11.0.1 cannot build an engine (no kernel)"
    cache.put(StoredEngine(key, b"", "fast", 200.0, "2026-11-27T00:00:00+00:00", refused=why))
    assert f"fast 4x40x30 fp16, tensorrt 11.0.1, NVIDIA X, refused: {why}" in call("list")
    assert "1 engines deleted" in call("clean", "--refused")
    assert cache.get(key) is None


def test_what_was_built_before_a_failure_is_kept(tmp_path, monkeypatch):
    def build(network, shape, *_):
        if shape[2] == 270:
            return b"engine"
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(compiler, "build", build)
    monkeypatch.setattr(compiler, "exporter", lambda *_: "onnx 1")
    monkeypatch.setattr(compiler, "find_package", lambda: compiler.Package("tensorrt_rtx", None, "1.5"))
    said = call("build", "--profile", "480x270", "--target", "8.9", "-o", tmp_path / "made", code=1)
    assert said.splitlines()[-1] == "engines: out of memory: no memory left"
    assert "4x480x270 fp16" in call("list", tmp_path / "made")


def test_what_is_wanted(episode):
    found = wanted([episode], "480p,100x50", ["fast", "balanced"], 2, None)
    assert len(found) == 2 * (1 + len(PROFILES["480p"]) + 1)
    assert {want.spec.scale for want in found} == {2} and {want.spec.name for want in found} == {"tensorrt"}
    assert [str(want) for want in wanted([], "480p,1280x720", ["fast"], 4)][::5] == [
        "fast 4x 720x480 yuv420p bt601", "fast 4x 1280x720 yuv420p bt709",
    ]  # fmt: skip
    assert wanted([], "100x50,100x50", ["fast"], 4) == wanted([], "100x50", ["fast"], 4)
    ten = wanted([], "100x50", ["fast"], 4, "yuv420p10le")[0].spec
    assert ten.result_format.bits == 10 and ten.source_format.bits == 8


@pytest.mark.parametrize(
    ("text", "targets"),
    [("SM86,sm_89,12.0", ("8.6", "8.9", "12.0")), ("12.0,8.6,SM86", ("8.6", "12.0")), ("", ())],
)
def test_targets(text, targets):
    assert parse_targets(text) == targets


@pytest.mark.parametrize("text", ["86x", "8.66.1", "RTX3060"])
def test_no_targets(text):
    with pytest.raises(UsageError, match="--target"):
        parse_targets(text)
