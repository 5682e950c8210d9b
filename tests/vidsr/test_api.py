"""vidsr as a library: every member of `__all__`, and that importing it leaves the process as it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields

import av
import numpy as np
import pytest

import vidsr
from tests.media import Track, write_episode
from tests.running import ROOT
from vidsr.choose.options import Choices, Options

QUICK = {"scale": 2, "backend": "nearest", "preset": "ultrafast", "threads": 1}


@pytest.fixture
def episode(tmp_path):
    path = tmp_path / "a.mkv"
    write_episode(path, audio=[Track("aac", "ja")], attachments=[("a.ttf", "font/ttf", b"font" * 9)])
    return path


def test_every_name_is_there_and_documented():
    assert len(set(vidsr.__all__)) == len(vidsr.__all__)
    for name in vidsr.__all__:
        member = getattr(vidsr, name)
        assert member.__doc__ or issubclass(member, vidsr.VidsrError), name
        assert name in dir(vidsr)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = vidsr.nonsense


def test_importing_changes_nothing_of_the_process():
    code = (
        "import sys, vidsr\n"
        "assert not {'torch', 'cv2', 'av'} & set(sys.modules)\n"
        "import os, logging, av, av.logging, cv2\n"  # of which cv2 sets a variable by itself
        "before = (dict(os.environ), av.logging.get_level(), logging.root.level)\n"
        "for name in vidsr.__all__: getattr(vidsr, name)\n"
        "assert (dict(os.environ), av.logging.get_level(), logging.root.level) == before\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


def test_choices_are_the_options():
    assert Choices.__annotations__.keys() == {field.name for field in fields(Options)} - {"output"}


@pytest.mark.parametrize(
    "wrong",
    [{"scale": 9}, {"scale": 2, "height": 96}, {"tile": 3}, {"jobs": 0}, {"threads": 0}, {"precision": "fp8"},
     {"hwaccel": "on"}, {"reuse": "always"}, {"start": -1.0}, {"start": float("nan")}, {"duration": -2.5},
     {"drop": ["x"]}, {"drop": "audios"}, {"scale": 2.0}, {"jobs": True}],
)  # fmt: skip
def test_options_are_checked_in_one_line(wrong):
    with pytest.raises(vidsr.UsageError) as error:
        vidsr.Options(**wrong)
    assert "\n" not in str(error.value) and str(next(reversed(wrong.values()))).strip("[']") in str(error.value)


def test_a_plan_says_what_will_run_and_runs(episode, tmp_path):
    told = []
    plan = vidsr.plan(episode, drop=["attachment"], told=told.append, **QUICK)
    assert plan.source == vidsr.probe(episode) and plan.size == (128, 96) and plan.output == tmp_path / "a.2x.mkv"
    assert (plan.backend, plan.codec, plan.model) == ("nearest", "x264", "")
    assert [track.kind for track in plan.kept] == ["audio"]
    assert len(plan.lost) == 1 and "attachment" in plan.lost[0] and tuple(told) == plan.notes
    assert plan.seconds is None and plan.frames_a_second is None
    assert not plan.output.exists()
    seen = []
    result = plan.run(progress=seen.append)
    assert result.output == plan.output and result.output.exists() and result.proof.passed
    assert result.frames == 24 == seen[-1].done
    assert {where.step for where in seen} == {"upscaling", "joining", "proving"}
    assert vidsr.verify(episode, result.output, dropped={2}).passed
    assert not vidsr.verify(episode, result.output, scale=3).passed


def test_a_plan_runs_into_another_container(episode, tmp_path):
    plan = vidsr.plan(episode, drop=["unsupported"], **QUICK)
    assert any(track.kind == "attachment" for track in plan.kept)
    with pytest.raises(vidsr.OutputError, match="no such folder"):
        plan.run(tmp_path / "nowhere" / "b.mkv")
    lossless = vidsr.plan(episode, drop=["unsupported"], **{**QUICK, "codec": "ffv1", "preset": None})
    with pytest.raises(vidsr.UsageError, match=r"ffv1 cannot live in \.mp4"):
        lossless.run(tmp_path / "b.mp4")
    kept = plan.run(tmp_path / "b.mp4", cancelled=lambda: False)
    assert [track.kind for track in vidsr.probe(kept.output).tracks] == ["video", "audio"]


def test_a_plan_can_run_again_and_counts_anew(tmp_path):
    path = tmp_path / "damaged.mkv"
    write_episode(path, frames=48, keyframes=12)
    with av.open(str(path)) as file:
        coded = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    at = data.index(coded[12])
    data[at + 8 : at + len(coded[12])] = bytes(len(coded[12]) - 8)  # a keyframe, whose length stays
    path.write_bytes(data)
    plan = vidsr.plan(path, overwrite=True, check=False, **QUICK)
    first, second = plan.run(), plan.run()
    assert first.counts == second.counts != {}
    (tmp_path / "b.mkv").write_text("mine")
    seen = []
    with pytest.raises(vidsr.UsageError, match="exists already"):
        vidsr.plan(path, check=False, **QUICK).run(tmp_path / "b.mkv", progress=seen.append)
    assert not seen


def test_what_another_container_loses_is_told(tmp_path):
    write_episode(tmp_path / "a.mkv", audio=[Track("aac", "ja", flags=("original",))])
    told = []
    plan = vidsr.plan(tmp_path / "a.mkv", told=told.append, **QUICK)
    assert not any("“original”" in line for line in told)
    result = plan.run(tmp_path / "b.mp4")
    assert any("“original”" in line for line in told) and any("“original”" in line for line in result.notes)


def test_what_is_meant_for_others_is_refused(episode, tmp_path):
    for call in (lambda: vidsr.plan(episode, "-"), lambda: vidsr.plan(episode, **QUICK).run("-")):
        with pytest.raises(vidsr.UsageError, match=r"vidsr\.stream"):
            call()
    with pytest.raises(vidsr.UsageError, match="upscale_picture"):
        vidsr.upscale(tmp_path / "a.png")
    with pytest.raises(vidsr.UsageError, match="--jobs 4"):
        vidsr.stream(episode, 1, jobs=4)
    with pytest.raises(vidsr.UsageError, match="choose a number"):
        vidsr.plan(episode, encoder_options={"threads": "auto"}, **QUICK)


def test_a_track_that_is_not_there_is_told(episode):
    plan = vidsr.plan(episode, drop=["77", "2"], **QUICK)
    assert [line for line in plan.notes if "no track" in line] == ["a.mkv: has no track #77 to leave out"]
    assert len(plan.lost) == 1


def test_a_cancelled_run_goes_on(episode, tmp_path):
    plan = vidsr.plan(episode, **QUICK)
    asked = iter([False] * 5)
    with pytest.raises(vidsr.Cancelled, match="go"):
        plan.run(cancelled=lambda: next(asked, True))
    assert not plan.output.exists() and plan.output.with_name("a.2x.mkv.vidsr").is_dir()
    assert plan.run().proof.passed


def test_a_height_is_met_or_refused(episode):
    assert vidsr.plan(episode, height=144, backend="nearest").size == (192, 144)
    assert vidsr.plan(episode, height=100, backend="nearest").size == (134, 100)
    with pytest.raises(vidsr.UsageError, match=r"--height 384: .* choose 256x192 or less$"):
        vidsr.plan(episode, height=384, model="tiny")


def test_upscale_in_one(episode, tmp_path):
    result = vidsr.upscale(episode, tmp_path / "b.mkv", **QUICK)
    assert result.proof.passed and result.frames == 24 and result.seconds > 0
    with pytest.raises(vidsr.UsageError, match="exists already"):
        vidsr.upscale(episode, tmp_path / "b.mkv", **QUICK)
    assert vidsr.upscale(episode, tmp_path / "b.mkv", overwrite=True, check=False, **QUICK).proof is None


def test_models_and_capabilities():
    assert {"fast", "balanced"} <= {model.name for model in vidsr.installed_models()}
    capabilities = vidsr.capabilities()
    assert capabilities["cpu"] is None and "hardware decoding" in capabilities


def test_pictures(tmp_path):
    import cv2

    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    output = vidsr.upscale_picture(tmp_path / "a.png", scale=2, backend="nearest")
    assert output == tmp_path / "a.2x.png" and (cv2.imread(str(output))[::2, ::2] == pixels).all()
    said = []
    vidsr.upscale_picture(tmp_path / "a.png", tmp_path / "b.png", backend="nearest", compile=True, told=said.append)
    assert said == ["a.png: --compile is left out, which takes longer than a single picture"]


def test_an_upscaler_of_arrays():
    rng = np.random.default_rng(1)
    with vidsr.Upscaler(backend="nearest", scale=3) as upscaler:
        for dtype in (np.uint8, np.uint16):
            pixels = rng.integers(0, np.iinfo(dtype).max, (7, 9, 3), dtype)
            large = upscaler(pixels)
            assert large.dtype == dtype and (large == pixels.repeat(3, 0).repeat(3, 1)).all()
        for wrong in (pixels[:, :, 0], pixels.astype(float), pixels[:0], np.zeros((4, 4, 4), np.uint8)):
            with pytest.raises(vidsr.UsageError, match="expected"):
                upscaler(wrong)


def test_an_upscaler_of_frames(episode):
    with vidsr.Upscaler("tiny", backend="cpu", precision="fp32", reuse="off") as upscaler:
        pictures = list(upscaler.frames(episode, start=0.2, duration=0.3))
        assert upscaler.scale == 4 and len(pictures) == 7
        assert all(picture.pixels.shape == (192, 256, 3) and picture.pixels.dtype == np.uint8 for picture in pictures)
        times = [picture.time for picture in pictures]
        assert times == sorted(times) and times[0] >= 0.2 and times[-1] < 0.5 and pictures[0].pts == 209
        # Sky, right of the middle: the colour that was drawn, BT.709.
        red, green, blue = pictures[0].pixels[60, 240].astype(int)
        assert abs(red - 147) < 8 and abs(green - 184) < 8 and abs(blue - 226) < 8
        for start, duration in ((-1.0, 1.0), (0.0, 0.0), (float("nan"), None)):
            with pytest.raises(vidsr.UsageError):
                next(upscaler.frames(episode, start, duration))
        both = list(zip(upscaler.frames(episode, duration=0.1), upscaler.frames(episode, duration=0.1)))
        assert len(both) == 3 and all((a.pixels == b.pixels).all() for a, b in both)
        first = next(upscaler.frames(episode))
        assert first.time == 0 and first.duration == pytest.approx(0.042, abs=0.002)


def test_the_example_in_the_readme_runs(episode, tmp_path):
    """As it stands there, on an episode of that name; the quickest model in place of the one it names."""
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    episode.rename(tmp_path / "episode.mkv")
    code = re.sub(r'"(fast|balanced|best)"', '"tiny"', example)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "episode.2x.mkv").exists() and "128x96" in done.stdout
