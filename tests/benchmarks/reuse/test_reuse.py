"""What `python -m benchmarks reuse` says of reuse. How fast anything is is never tested."""

import json
import math
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.common.metrics import decibels
from benchmarks.common.pictures import BT601, DEMO, YUV420
from benchmarks.reuse import command
from benchmarks.reuse import measure as reuse_measure
from benchmarks.reuse.measure import (
    Instant,
    Quality,
    moving_frames,
    ratios,
    still_tiles,
    worst_tile,
)
from benchmarks.reuse.picture import DIMMED, FOOT, GAP, OUTLINE, PANEL, Example, find_example, marked, write_picture
from benchmarks.speed.measure import in_turns
from vidsr.backends import open_backend
from vidsr.backends.base import BackendSpec
from vidsr.frames import Frame, PixelFormat
from vidsr.reuse.reuse import Box, ReuseCounts, reuse
from vidsr.reuse.stillness import NARROWEST, Tolerance
from vidsr.run.upscale import batches

pytestmark = pytest.mark.usefixtures("one_thread")


def flat(width: int, height: int, level: int = 100, format: PixelFormat = YUV420) -> Frame:
    return Frame(tuple(np.full(shape, level, format.dtype) for shape in format.plane_shapes(width, height)))


def moving_block(count: int) -> list[Frame]:
    """192x128: a still shade, and a block of 16 samples that lies at x = 32 in the first frame and moves on by 2."""
    frames = []
    for i in range(count):
        frame = flat(192, 128)
        frame.planes[0][:] = np.linspace(40, 180, 192).astype(np.uint8)
        frame.planes[0][32:48, 32 + 2 * i : 48 + 2 * i] = 230
        frames.append(Frame(frame.planes, i, 1))
    return frames


# ---- the picture ----------------------------------------------------------------------------------------------------


def test_decibels_of_known_errors():
    assert decibels(0) == math.inf and decibels(255**2) == decibels(1, 1) == 0 and decibels(65.025) == pytest.approx(30)


@pytest.mark.parametrize("bits", [8, 10])
def test_the_worst_tile_is_found_where_it_is(bits):
    format = PixelFormat("yuv", bits, (1, 1))
    level = 1 << (bits - 8)
    a, b = flat(200, 150, 100 * level, format), flat(200, 150, 100 * level, format)
    b.planes[0][:] += 1 * level
    b.planes[0][128:150, 192:200] += 3 * level  # the last tile, cut off on both sides
    assert worst_tile(a.planes, b.planes, format) == (16, 192, 128, 0)
    b.planes[2][32:64, 32:64] -= 5 * level
    assert worst_tile(a.planes, b.planes, format) == (25, 64, 64, 2)


def test_still_is_what_differs_little_on_average_and_everywhere():
    before, after = flat(40, 33), flat(40, 33)
    assert still_tiles(before.planes, after.planes, YUV420).shape == (3, 3)
    after.planes[0][0:16, 0:16] += 1  # as far as it may be
    after.planes[0][5, 20] += 12
    after.planes[0][20, 20] += 13
    after.planes[1][16, 19] -= 13  # the last tile, of one row of chroma
    after.planes[0][0:16, 32:40] += 2
    expected = np.ones((3, 3), bool)
    expected[1, 1] = expected[2, 2] = expected[0, 2] = False
    assert (still_tiles(before.planes, after.planes, YUV420) == expected).all()


def test_shimmer_is_counted_where_nothing_moves_around():
    """The source moves in its first tile; the full result flickers by 2 everywhere, reused only where it moves."""
    quality = Quality(YUV420, YUV420, 2, context=16)
    for i in range(3):
        source, full, reused = flat(64, 64), flat(128, 128, 100 + 2 * (i % 2)), flat(128, 128)
        source.planes[0][:16, :16] = 50 * i
        reused.planes[0][:32, :32] = 50 * i
        quality.add(source, full, reused)
    shimmer = quality.figures()["shimmer"]
    assert shimmer["full"] == pytest.approx(2) and shimmer["reused"] == 0
    assert shimmer["still_share"] == pytest.approx(12 / 16)  # less the tile that moves and its neighbours


def test_quality_of_known_errors():
    quality = Quality(YUV420, YUV420, 4, context=8)
    for i, off in enumerate((0, 0, 10)):
        full, reused = flat(128, 128), flat(128, 128)
        reused.planes[0][64:, :64] += off
        quality.add(flat(32, 32), Frame(full.planes, pts=40 + i), Frame(reused.planes, pts=40 + i))
    found = quality.figures()
    assert found["psnr_db"] == pytest.approx(decibels(100 / 4 / 3)) and not found["identical"]
    assert found["worst"] == {"db": decibels(100), "frame": 2, "pts": 42, "x": 0, "y": 64, "plane": 0}
    same = Quality(YUV420, YUV420, 4, context=8)
    same.add(flat(32, 32), full, full)
    same.add(flat(32, 32), full, full)
    assert same.figures()["identical"] and same.figures()["psnr_db"] == 100 and same.figures()["ssim"] == 1


# ---- time -----------------------------------------------------------------------------------------------------------


def test_ways_take_turns_and_rounds_are_compared():
    order: list[str] = []
    seconds = in_turns({"off": lambda: order.append("off"), "auto": lambda: order.append("auto")}, 3)
    assert order == ["off", "auto", "auto", "off", "off", "auto"] and [len(s) for s in seconds.values()] == [3, 3]
    found = ratios({"off": [4.0, 6.0, 9.0], "auto": [2.0, 2.0, 1.0]}, "auto")
    assert found["ratios"] == [2, 3, 9] and found["ratio"] == 3


def test_what_only_moves_gives_reuse_nothing():
    for kind in ("noise", "scattered"):
        frames = moving_frames(kind, 160, 96, 5)
        saved, backend = ReuseCounts(), Instant(160, 96, YUV420, 2, 8)
        results = list(reuse(batches(frames, 1, YUV420, BT601), backend, NARROWEST, counts=saved))
        assert saved.whole == len(results) == 5 and results[0].planes[0].shape == (192, 320)
    tiles = (frames[1].planes[0] == frames[0].planes[0]).reshape(6, 16, 10, 16).all((1, 3))
    assert 0.25 < tiles.mean() < 0.75


def test_own_cost_is_of_small_frames_one_by_one(monkeypatch):
    monkeypatch.setattr(reuse_measure, "SMALL", (96, 64))
    seen: list[tuple[int, int, int]] = []
    monkeypatch.setattr(Instant, "__call__", lambda self, batch, call=Instant.__call__: (
        seen.append((batch.width, batch.height, len(batch))), call(self, batch))[1])  # fmt: skip
    groups = list(batches(moving_block(4), 2, YUV420, BT601))
    found = reuse_measure.own_cost(groups, Tolerance(), Instant(8, 8, YUV420, 4, 2), 1)
    assert found["both_ms"] == found["plan_ms"] + found["paint_ms"] and seen[0] == (96, 64, 1)
    assert len(seen) >= 4 and all(width <= 64 for width, _, _ in seen[1:])


# ---- the picture of it ----------------------------------------------------------------------------------------------


def test_exactly_the_computed_boxes_stay_as_they_were():
    picture = np.random.default_rng(0).integers(100, 256, (80, 120, 3), np.uint8)
    boxes = [Box(0, 0, 5, 7), Box(20, 10, 30, 20)]
    kept = (marked(picture, boxes, 4) == picture).all(2)
    expected = np.zeros((80, 120), bool)
    expected[:28, :20] = expected[40:80, 80:120] = True
    assert (kept == expected).all()
    dark = marked(picture, boxes, 4)[~expected]
    assert (dark.min(1) == dark.max(1)).all() and dark.max() <= 255 * DIMMED + 1


def nearest(scale: int = 4) -> BackendSpec:
    return BackendSpec("nearest", "", scale, YUV420, BT601, YUV420, BT601)


@pytest.mark.parametrize("size", [1, 2])
def test_the_example_is_a_frame_computed_in_part(size):
    frames = moving_block(6)
    groups = list(batches(frames, size, YUV420, BT601))
    found = find_example(groups, open_backend(nearest()), Tolerance(), YUV420, BT601)
    assert found is not None and found.picture.shape == (512, 768, 3)
    (box,) = found.boxes
    assert (box.y0, box.y1) == (32, 48) and 32 <= box.x0 < box.x1 <= 64
    assert found.share == pytest.approx((box.x1 - box.x0) * 16 / (192 * 128))
    still = list(batches([flat(64, 48), flat(64, 48)], 1, YUV420, BT601))
    assert find_example(still, open_backend(nearest()), Tolerance(), YUV420, BT601) is None


def test_the_outline_runs_around_the_box(tmp_path):
    picture = np.full((540, 960, 3), 128, np.uint8)
    write_picture(tmp_path / "one.png", Example(picture, (Box(60, 30, 120, 90),), 0.1, 4))
    image = cv2.imread(str(tmp_path / "one.png"))[..., ::-1]
    height = PANEL * 540 // 960
    assert image.shape == (height + FOOT, 2 * PANEL + GAP, 3)
    assert (image[:height, :PANEL] == 128).all()
    right = image[:height, -PANEL:]
    amber = np.argwhere((np.abs(right.astype(int) - OUTLINE) < 60).all(2))
    (top, left), (bottom, last) = amber.min(0), amber.max(0)
    assert np.abs(np.array([left, top, last + 1, bottom + 1]) - np.array([240, 120, 480, 360]) * PANEL / 960).max() <= 2
    assert (right[200, 250] == 128).all() and (right[10, 10] == round(128 * DIMMED)).all()


# ---- a run ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reuse")
    path = folder / "block.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for frame in moving_block(8):
            picture = av.VideoFrame.from_ndarray(np.concatenate([p.reshape(-1, 192) for p in frame.planes]), "yuv420p")
            picture.pts, picture.time_base = frame.pts, Fraction(1, 24)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "MOVING_SIZE", (96, 64))
        patch.setattr(command, "MOVING_FRAMES", 3)
        patch.setattr(reuse_measure, "SMALL", (96, 64))
        arguments = ["reuse", "--clip", str(path), "--frames", "6", "--repeats", "2", "-o", str(folder / "out")]
        done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return folder / "out", json.loads((folder / "out" / "reuse.json").read_text()), done.stdout


def test_a_run_is_consistent(measured):
    _, data, _ = measured
    (clip,) = data["clips"]
    assert (clip["clip"], clip["size"], clip["frames"], clip["scale"]) == ("block.mkv", "192x128", 6, 4)
    assert [row["mode"] for row in clip["modes"]] == ["exact", "auto"]
    for row in clip["modes"]:
        assert row["all_pixels"] == 6 * 192 * 128 and row["frames"] == 6 and row["whole"] >= 1
        assert row["share"] == pytest.approx(row["model_pixels"] / row["all_pixels"])
        assert row["times_fewer"] == pytest.approx(1 / row["share"]) and row["times_fewer"] > 1
        assert row["worst"]["db"] <= row["psnr_db"] <= 100 and (row["identical"] or row["worst"]["frame"] < 6)
        assert row["own"]["both_ms"] == row["own"]["plan_ms"] + row["own"]["paint_ms"]
        assert 0 < row["shimmer"]["still_share"] < 1 and row["shimmer"]["reused"] <= row["shimmer"]["full"]
        times = row["model_path"]
        assert times["ratios"] == [off / on for off, on in zip(times["off_s"], times["reuse_s"], strict=True)]
        assert times["ratio"] == median(times["ratios"]) and len(times["ratios"]) == 2
    exact, auto = clip["modes"]
    assert exact["tolerance"] == {"mean": 0, "most": 0}
    assert exact["end_to_end"] is None and auto["end_to_end"]["ratio"] > 0
    assert [row["kind"] for row in data["moving"]] == ["noise", "scattered"]
    assert all(row["ratio"] == median(row["ratios"]) and len(row["ratios"]) == 6 for row in data["moving"])


def test_a_run_leaves_table_and_picture(measured):
    folder, data, said = measured
    text = (folder / "reuse.md").read_text()
    assert said.strip() in text and "Measured on: " in text
    for row in data["clips"][0]["modes"]:
        assert f"| block.mkv | {row['mode']} | " in text and f"| {row['times_fewer']:.2f}x (" in text
        assert f"| {row['model_path']['ratio']:.2f}x |" in text
    assert all(line in text for line in data["missed"])
    assert cv2.imread(str(folder / "reuse.png")).shape[1] == 2 * PANEL + GAP


def test_what_falls_short_is_said(measured):
    _, data, _ = measured
    row = data["clips"][0]["modes"][1]
    worst = {"db": 34.9, "frame": 3, "seconds": 0.5, "x": 64, "y": 0, "plane": 1}
    bad = {**row, "times_fewer": 2.4, "psnr_db": 44.0, "worst": worst, "own": {"both_ms": 1.6}}
    slow = {"kind": "noise", "ratio": 1.04}
    lines = command.missed({"clips": [{"clip": "a.mkv", "modes": [bad]}], "moving": [slow]})
    assert lines == [
        "a.mkv, auto: 2.40 times fewer model pixels, not 2.5", "a.mkv, auto: 44.0 dB overall, not 45",
        "a.mkv, auto: a tile at 34.9 dB, not 35: frame 3 (0.50 s) at 64, 0, first chroma",
        "a.mkv, auto: comparing and painting take 1.60 ms a frame, not 1.5",
        "noise: 4.0% slower where everything moves, not 3%",
    ]  # fmt: skip
    good = {**bad, "times_fewer": 2.5, "psnr_db": 45.0, "worst": {"db": 35.0}, "own": {"both_ms": 1.5}}
    assert command.missed({"clips": [{"clip": "a.mkv", "modes": [good]}], "moving": [{"ratio": 1.03}]}) == []


def test_clips_where_none_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDSR_SHARED", str(tmp_path))
    assert command.default_clips() == [DEMO]
    (tmp_path / "clips" / "animated").mkdir(parents=True)
    for name in ("a_lowres270_crf16.mkv", "a_highres1080.mkv"):
        (tmp_path / "clips" / "animated" / name).touch()
    assert [Path(path).name for path in command.default_clips()] == ["a_lowres270_crf16.mkv"]
