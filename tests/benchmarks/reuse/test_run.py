"""A run of `python -m benchmarks reuse` over small clips, and what it says of them."""

import copy
import json
from pathlib import Path
from statistics import mean, median

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.common.pictures import YUV420, as_video_frame, encode
from benchmarks.reuse import seconds
from benchmarks.reuse.command import shared_clips
from benchmarks.reuse.picture import GAP, PANEL
from benchmarks.reuse.report import missed
from tests.benchmarks.reuse.drawn import SCALE, moving_block

pytestmark = pytest.mark.usefixtures("one_thread")
FRAMES = 6


def write_pair(folder: Path) -> Path:
    """block_worn_noisy.mkv and its original: a block that moves on by 2 of the source's samples in each frame."""
    frames = moving_block(8)
    chance = np.random.default_rng(0)
    worn = [frame.planes[0] + (chance.random(frame.planes[0].shape) < 0.02).astype(np.uint8) for frame in frames]
    for name, scale, lumas in (("worn_noisy", 1, worn), ("highres512", SCALE, [frame.planes[0] for frame in frames])):
        pictures = []
        for i, (frame, luma) in enumerate(zip(frames, lumas)):
            planes = [plane.repeat(scale, 0).repeat(scale, 1) for plane in (luma, *frame.planes[1:])]
            pictures.append(as_video_frame(planes, YUV420, i))
        encode(folder / f"block_{name}.mkv", pictures, {}, "ffv1")
    return folder / "block_worn_noisy.mkv"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reuse")
    clip = write_pair(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seconds, "MOVING_SIZE", (96, 64))
        patch.setattr(seconds, "MOVING_FRAMES", 3)
        patch.setattr(seconds, "SMALL", (96, 64))
        patch.setenv("VIDSR_CACHE", str(folder / "cache"))
        words = f"--frames {FRAMES} --repeats 2 --model tiny --score-every 3 --mode exact --mode auto --scene-frames 4"
        paths = ["--clip", clip, "--scene", clip, "--look", folder / "look", "-o", folder / "out"]
        done = CliRunner().invoke(main, ["reuse", *words.split(), *map(str, paths)])
    assert done.exit_code == 0, done.output
    return folder, json.loads((folder / "out" / "reuse.json").read_text()), done.stdout


def test_a_run_is_consistent(measured):
    _, data, _ = measured
    (clip,) = data["clips"]
    assert (clip["clip"], clip["original"]) == ("block_worn_noisy.mkv", "block_highres512.mkv")
    assert (clip["size"], clip["frames"], clip["scale"]) == ("192x128", FRAMES, SCALE)
    assert [row["mode"] for row in clip["modes"]] == ["exact", "auto"]
    for row in clip["modes"]:
        assert row["all_pixels"] == FRAMES * 192 * 128 and row["frames"] == FRAMES
        assert row["share"] == pytest.approx(row["model_pixels"] / row["all_pixels"])
        times = row["end_to_end"]
        assert times["ratios"] == [off / on for off, on in zip(times["off_s"], times["reuse_s"], strict=True)]
        assert times["ratio"] == median(times["ratios"]) and len(times["ratios"]) == 2 and row["own_ms"] > 0
        assert 0 < row["shimmer"]["share"] < 1 and row["shimmer"]["original"]["mean"] == 0
        luma = row["truth"]["luma"]
        assert luma["loss_db"] == pytest.approx(luma["off_db"] - luma["reuse_db"]) and luma["tiles"] == FRAMES * 12 * 8
        assert row["truth"]["rgb_psnr"]["frames"] == [1, 4] and row["truth"]["ssimulacra2"] is None
        assert row["truth"]["motion"]["moving"] > 0 and row["truth"]["motion"]["recall"] == 1
        assert row["shimmer"]["reuse"]["mean"] <= row["shimmer"]["off"]["mean"] and row["share"] <= 1
        assert row["truth"]["lateness"]["told"] > 0 and row["truth"]["lateness"]["late"] == 0
    exact, auto = clip["modes"]
    assert auto["share"] < exact["share"] and auto["shimmer"]["reuse"]["mean"] < 0.1 * auto["shimmer"]["off"]["mean"]
    assert [row["kind"] for row in data["moving"]] == ["noise", "scattered"]
    assert all(row["ratio"] == median(row["ratios"]) and len(row["ratios"]) == 6 for row in data["moving"])
    assert "not installed" in data["left out"][0]


def test_what_needs_no_truth_is_measured_of_scenes(measured):
    _, data, _ = measured
    (scene,) = data["scenes"]
    assert scene["original"] is None and scene["frames"] == 4
    for row in scene["modes"]:
        assert row["truth"] is None and set(row["shimmer"]) == {"share", "off", "reuse"}
        assert row["all_pixels"] == 4 * 192 * 128 and len(row["end_to_end"]["ratios"]) == 1


def test_a_run_leaves_tables_and_pictures(measured):
    folder, data, said = measured
    text = (folder / "out" / "reuse.md").read_text()
    assert said.strip() in text and "Measured on: " in text
    for row in data["clips"][0]["modes"]:
        assert f"| block_worn_noisy.mkv | {row['mode']} | {row['share']:.1%} | " in text
        assert f"| {row['truth']['luma']['reuse_db']:.2f} dB |" in text
    assert all(line in text for line in data["missed"]) and "Scenes, model tiny, 4 frames" in text
    assert cv2.imread(str(folder / "out" / "reuse.png")).shape[1] == 2 * PANEL + GAP
    sheets = sorted(path.name for path in (folder / "look").iterdir())
    assert sheets == ["block_worn_noisy-most.png", "block_worn_noisy-worst.png"]


def test_what_falls_short_is_said(measured):
    good = copy.deepcopy(measured[1])
    (clip,) = good["clips"]
    clip["modes"] = clip["modes"][1:]
    row = clip["modes"][0]
    row |= {"share": 0.35, "own_ms": 3.0, "end_to_end": {"ratio": 2.0}, "shimmer": {"reuse": {"mean": 0.1}}}
    row["truth"]["luma"]["loss_db"] = 0.05
    good["moving"] = [{"kind": "noise", "ratio": 1.03}]
    assert missed(good) == []
    bad = copy.deepcopy(good)
    row, bad["moving"] = bad["clips"][0]["modes"][0], [{"kind": "noise", "ratio": 1.04}]
    row |= {"share": 0.36, "own_ms": 3.1, "end_to_end": {"ratio": 1.9}, "shimmer": {"reuse": {"mean": 0.2}}}
    row["truth"]["luma"]["loss_db"] = 0.06
    row["truth"]["motion"] |= {"recall": 0.99, "missed": [{"frame": 3, "seconds": 0.125, "x": 64, "y": 0}]}
    name = "block_worn_noisy.mkv"
    assert missed(bad) == [
        "36.0% of the pixels computed on average, not 35%", "0 of 1 clips 2 times as fast, not 75%",
        f"{name}: 0.060 dB further from the original, not 0.05", f"{name}: shimmer of 0.200 levels, not 0.1",
        f"{name}: 99.00% of the tiles that move do so in the result, not 99.9%: frame 3 (0.12 s) at 64, 0",
        f"{name}: reuse itself takes 3.10 ms a frame, not 3", "noise: 4.0% slower where everything moves, not 3%",
    ]  # fmt: skip


def test_nine_of_twelve_clips_are_enough(measured):
    data = copy.deepcopy(measured[1])
    row = data["clips"][0]["modes"][1] | {"share": 0.1, "own_ms": 1.0, "shimmer": {"reuse": None}}
    row["truth"]["luma"]["loss_db"], data["moving"] = 0.0, []
    rows = [row | {"end_to_end": {"ratio": 1.5 + (i > 2)}, "share": 0.2 + 0.02 * i} for i in range(12)]
    data["clips"] = [{"clip": f"{i}.mkv", "modes": [row]} for i, row in enumerate(rows)]
    assert mean(row["share"] for row in rows) < 0.35 and missed(data) == []
    rows[3]["end_to_end"] = {"ratio": 1.9}
    assert missed(data) == ["8 of 12 clips 2 times as fast, not 75%"]


def test_another_clips_original_is_refused(tmp_path):
    clip = write_pair(tmp_path)
    done = CliRunner().invoke(main, ["reuse", "--no-save", "--clip", str(clip), "--original", str(clip)])
    assert done.exit_code != 0 and "block_worn_noisy.mkv: is 192x128, not 4 times" in done.output
    done = CliRunner().invoke(main, ["reuse", "--original", str(clip)])
    assert done.exit_code != 0 and "--original" in done.output


def test_clips_where_none_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDSR_SHARED", str(tmp_path))
    assert shared_clips("worn") == []
    (tmp_path / "clips" / "worn").mkdir(parents=True)
    for name in ("a_worn_dvd.mkv", "README.md"):
        (tmp_path / "clips" / "worn" / name).touch()
    assert [path.name for path in shared_clips("worn")] == ["a_worn_dvd.mkv"]
