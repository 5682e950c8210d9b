"""Drawn scenes: decided by seed and number, never flat, lines of every width; as material of prepare and training."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.packs import make_pack, picture
from tests.running import ROOT
from train.__main__ import main
from train.data.pack import CROP, Pack
from train.degrade.recipe import MARGIN, downscale
from train.judge.metrics import psnr
from train.options import Options
from train.run.pairs import _Degraded
from train.scenes.command import (
    draw_frames,
    draw_moving_window,
    draw_scene,
    draw_window,
    motion_of,
    nearly_flat,
    scenes_usable,
)

needs_skia = pytest.mark.skipif(scenes_usable() is not None, reason=str(scenes_usable()))


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=given)


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


@needs_skia
def test_a_scene_is_the_same_in_another_process_and_order() -> None:
    code = """
import hashlib
from train.scenes.command import draw_frames, draw_scene, draw_window
drawn = [draw_scene(3, 11, 200), draw_window("3/0", 6), *draw_frames(3, 2, 96, 4), draw_scene(3, 10, 200)]
print(*(hashlib.sha256(pixels.tobytes()).hexdigest() for pixels in drawn))
"""
    drawn = [draw_scene(3, 10, 200), *draw_frames(3, 2, 96, 4), draw_scene(3, 11, 200), draw_window("3/0", 6)]
    other = run_python(code)
    assert other.returncode == 0, other.stderr
    assert sorted(other.stdout.split()) == sorted(map(digest, drawn))
    assert digest(draw_scene(3, 10, 200)) == digest(drawn[0])
    assert len({digest(draw_scene(seed, number, 96)) for seed in range(2) for number in range(3)}) == 6


@needs_skia
@settings(max_examples=15, deadline=None)
@given(st.integers(-5, 10**9), st.integers(0, 10**7), st.integers(64, 420))
def test_scenes_have_the_size_asked_for_and_are_never_flat(seed: int, number: int, size: int) -> None:
    pixels = draw_scene(seed, number, size)
    assert pixels.shape == (size, size, 3) and pixels.dtype == np.uint8
    assert not nearly_flat(pixels)


@needs_skia
@pytest.mark.parametrize(("number", "size", "frames"), [(0, 63, 1), (0, 4097, 1), (-1, 128, 1), (0, 128, 0)])
def test_what_cannot_be_drawn_is_refused_at_once(number: int, size: int, frames: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        draw_frames(0, number, size, frames)
    if frames:
        with pytest.raises(ValueError, match="expected"):
            draw_scene(0, number, size)


def test_pens_are_log_uniform_from_thin_to_thick() -> None:
    from train.scenes.style import PENS, Dice, Style

    pens = np.sort(np.log([Style.draw(Dice(0, number)).pen for number in range(600)]))
    low, high = np.log(PENS)
    assert (round(np.exp(low), 1), round(np.exp(high), 1)) == (1.5, 14.0)
    assert np.abs((pens - low) / (high - low) - np.linspace(0, 1, 600)).max() < 0.07  # Kolmogorov and Smirnov's 1 %


@needs_skia
@settings(max_examples=25, deadline=None)
@given(st.floats(1.5, 14), st.floats(0, 3.1), st.sampled_from([0.0, 0.4]))
def test_lines_are_as_wide_as_the_pen_says(pen: float, angle: float, taper: float) -> None:
    from train.scenes.brush import Brush, skia
    from train.scenes.style import BLACK, Dice, Style

    style = Style(pen, BLACK, 0.0, 1, 0.0, 0.0, BLACK)
    surface = skia.Surface(200, 200)
    surface.getCanvas().clear(skia.ColorWHITE)
    way = 70 * np.array([np.cos(angle), np.sin(angle)])
    Brush(surface.getCanvas(), Dice(0), 200, style).line([100 - way, (100, 100), 100 + way], start=taper, end=taper)
    ink = 1 - surface.makeImageSnapshot().toarray()[:, :, 0] / 255.0
    down, right = np.mgrid[:200, :200] - 99.5
    inked = ink[np.hypot(down, right) < 20].sum()  # of a disc that the stroke crosses in the middle
    expected = pen * np.sqrt(20**2 - pen**2 / 4) + 2 * 20**2 * np.arcsin(pen / 40)
    assert 0.90 < inked / expected < 1.08  # whole pixels at the rim of the disc are up to 2.5 %, antialiasing as much
    widest = 2 * cv2.distanceTransform((ink > 0.5).astype(np.uint8), cv2.DIST_L2, 5).max()
    assert abs(widest - pen) < 1.8


@needs_skia
def test_drawn_lines_span_the_range_and_flats_are_flat() -> None:
    """Widths as measured in the pictures: dark strokes by their distance to the edge."""
    from train.scenes.plans import Plan

    widths, pens, still = [], [], []
    for number in range(24):
        pixels = draw_scene(1, number, 400)
        gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        still.append(float((np.abs(np.diff(pixels.astype(int), axis=1)).max(2) == 0).mean()))
        strokes = cv2.morphologyEx(gray, cv2.MORPH_BLACKHAT, np.ones((19, 19), np.uint8)) > 40
        distance = cv2.distanceTransform(strokes.astype(np.uint8), cv2.DIST_L2, 5)
        ridge = distance[(distance == cv2.dilate(distance, np.ones((3, 3)))) & strokes]
        if len(ridge) > 200:
            widths.append(2 * float(np.percentile(ridge, 80)))
            pens.append(Plan.draw(f"1/{number}/0").style.pen)
    assert min(widths) < 3.5 and max(widths) > 8
    assert np.corrcoef(np.log(pens), np.log(widths))[0, 1] > 0.5
    assert np.median(still) > 0.5


# ---- in motion ------------------------------------------------------------------------------------------------------


def moving(kind: str, size: int, frames: int) -> list[np.ndarray]:
    """The frames of some scene with this kind of motion."""
    from train.scenes.motion import Motion
    from train.scenes.plans import Plan
    from train.scenes.style import Dice

    for number in range(400):
        plan = Plan.draw(f"8/{number}/0")  # what is tried first, and mostly taken
        likely = Motion.draw(Dice(plan.words, "motion"), frames, size, plan.talks, plan.rolls)
        if likely.kind == kind and motion_of(8, number, size, frames).kind == kind:
            return list(draw_frames(8, number, size, frames))
    raise AssertionError(f"no {kind}")


@needs_skia
def test_a_hold_holds_and_a_mouth_moves_on_threes() -> None:
    held = moving("hold", 96, 5)
    assert len(held) == 5 and len({digest(frame) for frame in held}) == 1
    spoken = [digest(frame) for frame in moving("mouth", 160, 9)]
    assert all(len(set(spoken[first : first + 3])) == 1 for first in (0, 3, 6))
    assert spoken[0] != spoken[3] != spoken[6]


@needs_skia
@pytest.mark.parametrize("kind", ["pan", "pull", "slide", "shake", "roll"])
def test_what_moves_differs_from_frame_to_frame(kind: str) -> None:
    frames = moving(kind, 96, 8)
    assert all(frame.shape == (96, 96, 3) for frame in frames)
    assert len({digest(frame) for frame in frames}) >= 3


@needs_skia
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(64, 2048), st.booleans(), st.booleans())
def test_the_window_never_leaves_what_is_drawn(number: int, frames: int, size: int, talks: bool, text: bool) -> None:
    from train.scenes.motion import Motion
    from train.scenes.style import Dice

    motion = Motion.draw(Dice(number), frames, size, talks, text)
    assert motion.views.shape == (frames, 2) and len(motion.mouths) == frames
    assert motion.views.min() >= 0 and motion.views.max() <= motion.margin and 0 <= motion.far <= 1


# ---- the command ----------------------------------------------------------------------------------------------------


@needs_skia
def test_the_command_writes_pictures(tmp_path: Path) -> None:
    words = ["scenes", "--count", "2", "--first", "4", "--size", "96", "--seed", "7", str(tmp_path / "out")]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["scene-7-00004.png", "scene-7-00005.png"]
    pixels = cv2.imread(str(tmp_path / "out/scene-7-00005.png"))[:, :, ::-1]
    assert np.array_equal(pixels, draw_scene(7, 5, 96))


@needs_skia
def test_the_command_writes_videos_of_the_drawn_frames(tmp_path: Path) -> None:
    words = ["scenes", "--count", "1", "--size", "128", "--seed", "2", "--frames", "7", str(tmp_path)]
    assert CliRunner().invoke(main, words).exit_code == 0
    with av.open(str(tmp_path / "scene-2-00000.mkv")) as file:
        assert file.streams.video[0].average_rate == 24
        frames = list(file.decode(video=0))
    assert len(frames) == 7 and {(frame.colorspace, frame.color_range) for frame in frames} == {(1, 1)}
    assert [round(frame.time * 24) for frame in frames] == list(range(7))
    for frame, drawn in zip(frames, draw_frames(2, 0, 128, 7)):
        y, u, v = frame.to_ndarray().astype(np.float64)
        y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
        shown = 255 * np.stack([y + 1.5748 * v, y - 0.18733 * u - 0.46813 * v, y + 1.8556 * u], 2)
        assert np.abs(shown - drawn).max() < 3


@needs_skia
@pytest.mark.parametrize("words", [["--size", "10"], ["--count", "0"], ["--frames", "0"], ["--first", "-1"]])
def test_the_command_refuses_what_it_cannot_do(words: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["scenes", *words, str(tmp_path)])
    assert result.exit_code == 2 and "Invalid value" in result.output


# ---- without Skia, without fonts ------------------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["skia"] = None
"""


def test_without_skia_the_command_says_what_to_install(tmp_path: Path) -> None:
    ran = run_python(f"{WITHOUT}\nfrom train.__main__ import main\nmain(['scenes', {str(tmp_path)!r}])")
    assert ran.returncode == 1 and len(ran.stderr.strip().splitlines()) == 1
    assert "pip install 'skia-python" in ran.stderr and "libegl1" in ran.stderr


def test_without_skia_a_training_goes_on_with_stills(tmp_path: Path) -> None:
    make_pack(tmp_path / "pack", train=2, kept=1)
    code = f"""{WITHOUT}
import torch, train.run.pairs
from train.options import Options
from train.data.pack import Pack
from train.run.pairs import VideoPairs
torch.set_num_threads(1)
train.run.pairs.FIRST = 2
def first(**more):
    options = Options("resnet", {str(tmp_path / "pack")!r}, "", degrade="video", workers=0, batch=2, crop=32, **more)
    return VideoPairs(Pack.open(options.pack), options, torch.device("cpu")).batch(0)
assert all(map(torch.equal, first(scenes=0.9), first()))
"""
    ran = run_python(code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("Skia") == 1 and "goes on" in ran.stderr


@needs_skia
def test_without_fonts_there_is_no_text_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "fonts.conf").write_text("<?xml version='1.0'?><!DOCTYPE fontconfig SYSTEM 'fonts.dtd'><fontconfig/>")
    code = """
from train.scenes.brush import Brush, skia
from train.scenes.style import Dice, Style
from train.scenes.text import caption, credits_roll
surface = skia.Surface(300, 300)
for number in range(6):
    dice = Dice(number)
    brush = Brush(surface.getCanvas(), dice, 300, Style.draw(dice))
    caption(brush)
    credits_roll(brush)
print(surface.makeImageSnapshot().toarray()[:, :, 3].any())
"""
    ran = run_python(code, FONTCONFIG_FILE=str(tmp_path / "fonts.conf"))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "False"


@needs_skia
def test_letters_that_a_face_lacks_are_left_out() -> None:
    from train.scenes.brush import Brush, skia
    from train.scenes.style import WHITE, Dice, Style

    face = skia.Typeface("")
    if not skia.Font(face, 20).unicharToGlyph(ord("A")):
        pytest.skip("no font is installed")
    from train.scenes.text import write

    drawn = []
    for text in ("AB", "A\U000f1234B\U0010fffd"):
        surface = skia.Surface(120, 60)
        write(Brush(surface.getCanvas(), Dice(0), 120, Style.draw(Dice(0))), text, 5, 40, 20, face, WHITE, 1.0, False)
        drawn.append(surface.makeImageSnapshot().toarray())
    assert drawn[0].any() and np.array_equal(*drawn)


# ---- as training material -------------------------------------------------------------------------------------------


@needs_skia
def test_prepare_puts_scenes_into_the_pack(tmp_path: Path) -> None:
    (tmp_path / "stills").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"stills/{number}.png"), picture(number, 520))
    words = ["prepare", str(tmp_path / "stills"), "--out", str(tmp_path / "pack"), "--validation", "0.6"]
    result = CliRunner().invoke(main, [*words, "--scenes", "2", "--scenes-seed", "5"])
    assert result.exit_code == 0, result.output
    pack = Pack.open(tmp_path / "pack", verify=True)
    entries = [entry for entry in pack.manifest["pictures"] if entry["path"].startswith("scenes/")]
    assert [entry["path"] for entry in entries] == ["scenes/5-00000", "scenes/5-00001"]
    assert {entry["split"] for entry in entries} == {"train"} and all(entry["crops"] for entry in entries)
    assert (pack.manifest["options"]["scenes"], pack.manifest["options"]["scenes_seed"]) == (2, 5)
    _, index, odds = pack.train_crops((("scenes", 0.5), ("*", 1.0)))
    drawn = {tuple(crop) for entry in entries for crop in entry["crops"]}
    light = np.array([tuple(row) in drawn for row in index.tolist()])
    assert light.sum() == len(drawn) and (not (~light).any() or np.allclose(odds[light].max() * 2, odds[~light].min()))
    shards = [entry["sha256"] for entry in pack.manifest["shards"]]
    again = CliRunner().invoke(main, [*words, "--scenes", "2", "--scenes-seed", "5", "--replace"])
    assert again.exit_code == 0
    assert [entry["sha256"] for entry in json.loads((tmp_path / "pack/manifest.json").read_text())["shards"]] == shards


def test_prepare_without_skia_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "stills").mkdir()
    cv2.imwrite(str(tmp_path / "stills/0.png"), picture(0, 520))
    given = [str(tmp_path / "stills"), "--scenes", "1", "--out", str(tmp_path / "pack")]
    ran = run_python(f"{WITHOUT}\nfrom train.__main__ import main\nmain(['prepare', *{given!r}])")
    assert ran.returncode == 1 and "pip install 'skia-python" in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["stills"]


@needs_skia
def test_windows_are_pieces_with_something_to_see() -> None:
    windows = [draw_window("9/0/1", number) for number in range(0, 24, 3)]
    assert {window.shape for window in windows} == {(CROP, CROP, 3)}
    assert not any(map(nearly_flat, windows)) and len({digest(window) for window in windows}) == 8


@needs_skia
def test_worn_scenes_stand_beside_their_originals(tmp_path: Path) -> None:
    for frames in ([], ["--frames", "5"]):
        out = tmp_path / str(len(frames))
        result = CliRunner().invoke(main, ["scenes", str(out), "--count", "2", "--size", "160", "--worn", *frames])
        assert result.exit_code == 0, result.output
        suffix = ".mkv" if frames else ".png"
        assert sorted(path.name for path in out.iterdir()) == [
            f"scene-0-0000{number}_{what}{suffix}" for number in (0, 1) for what in ("highres", "worn")
        ]
        for number in (0, 1):
            highres, worn = (pictures(out / f"scene-0-0000{number}_{what}{suffix}") for what in ("highres", "worn"))
            assert len(highres) == len(worn) == (5 if frames else 1)
            assert highres[0].shape == (160, 160, 3) and worn[0].shape == (40, 40, 3)
            small = cv2.resize(highres[0], (40, 40), interpolation=cv2.INTER_AREA)
            assert np.abs(small.astype(int) - worn[0]).mean() < 40
    odd = CliRunner().invoke(main, ["scenes", str(tmp_path), "--size", "100", "--worn"])
    assert odd.exit_code == 2 and "expected a multiple of 8" in odd.output


def pictures(path: Path) -> list[np.ndarray]:
    """Of a still or a video, RGB."""
    if path.suffix == ".png":
        return [cv2.cvtColor(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)]
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@needs_skia
def test_windows_of_moving_scenes_are_the_same_place_of_each_frame() -> None:
    rows = [draw_moving_window("9/0/1", number, 3) for number in range(0, 32, 4)]
    assert {len(row) for row in rows} == {3} and {window.shape for row in rows for window in row} == {(CROP, CROP, 3)}
    moves = [len({digest(window) for window in row}) > 1 for row in rows]
    assert any(moves) and not all(moves)  # some hold
    for row in rows:
        assert len({id(window) for window in row}) == len({digest(window) for window in row})  # what holds is one array


@needs_skia
def test_training_pictures_are_drawn_whatever_came_before(tmp_path: Path) -> None:
    pack = make_pack(tmp_path, train=3, kept=1)
    options = Options("resnet", str(pack.folder), "", degrade="video", scenes=0.5, seed=4)
    first, other = _Degraded(pack, options, 0), _Degraded(pack, options, 0)
    forward = [first[number] for number in range(6)]
    backward = [other[number] for number in reversed(range(6))][::-1]
    assert all(torch.equal(a, b) for one, two in zip(forward, backward) for a, b in zip(one, two))
    side = CROP - 2 * MARGIN
    assert {highres.shape for highres, _ in forward} == {(side, side, 3)}
    stills = _Degraded(pack, Options("resnet", str(pack.folder), "", degrade="video", seed=4), 0)
    assert any(not torch.equal(highres, stills[number][0]) for number, (highres, _) in enumerate(forward))
    for highres, lowres in forward:
        small = downscale(highres.permute(2, 0, 1)[None].float() / 255)
        lowres_picture = lowres.permute(2, 0, 1)[None].float() / 255
        assert psnr(lowres_picture, small).item() > psnr(lowres_picture, small.flip(3)).item()


@pytest.mark.parametrize(("share", "degrade"), [(0.2, "none"), (1.5, "video"), (-0.1, "video")])
def test_a_share_of_scenes_needs_degraded_pictures(share: float, degrade: str) -> None:
    with pytest.raises(ValueError, match="scenes: got"):
        Options("resnet", "", "", degrade=degrade, scenes=share)
