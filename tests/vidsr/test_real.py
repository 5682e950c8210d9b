"""Real weights on real pictures: the bundled episode, and files in the wild where they lie beside the checkout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.running import ROOT, upscaled, vidsr
from vidsr.backends import open_backend
from vidsr.choose.model import FAMILY
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.color import to_rgb
from vidsr.frames import FrameBatch
from vidsr.models.checkpoint import installed_models
from vidsr.mux.matroska.details import read_details
from vidsr.report import Report
from vidsr.source.decode import decode
from vidsr.source.probe import probe

EPISODE = ROOT / "demo" / "episode.mkv"


def first_frames(path, count):
    info = probe(path)
    frames = []
    for frame in decode(info.path, info.video, None, None, None, Report()):
        frames.append(frame)
        if len(frames) == count:
            break
    return info, frames


def rgb(info, frame):
    planes = [torch.from_numpy(plane.copy())[None] for plane in frame.planes]
    return to_rgb(planes, info.video.format, info.video.color)[0].clamp(0, 1).permute(1, 2, 0).numpy()


def test_the_bundled_episode_with_the_default_model(tmp_path):
    done = vidsr(EPISODE, "-o", tmp_path / "a.mkv", "--duration", 0.5)
    assert done.returncode == 0, done.stderr
    assert any(f", {name}\n" in done.stderr for name in FAMILY)
    info, frames = first_frames(tmp_path / "a.mkv", 12)
    assert (info.video.width, info.video.height, len(frames)) == (1920, 1080, 12)
    before, small = first_frames(EPISODE, 1)
    shift = np.abs(rgb(info, frames[0]).mean((0, 1)) - rgb(before, small[0]).mean((0, 1)))
    assert shift.max() < 0.005


def test_everything_else_of_the_bundled_episode(tmp_path):
    upscaled(EPISODE, tmp_path / "a.mkv")
    before, after = read_details(EPISODE), read_details(tmp_path / "a.mkv")
    assert [t.language_bcp47 for t in after.tracks] == [t.language_bcp47 for t in before.tracks]
    assert "en-GB" in [t.language_bcp47 for t in after.tracks]
    assert after.chapters == before.chapters and before.chapters is not None


@pytest.mark.parametrize("clip", ["saha_head_talk_twos", "prologue_kid_close_threes", "pirates_pan_hold"])
@pytest.mark.parametrize("model", ["fast", "balanced", "resnet-8"])
def test_compressed_video_comes_closer_to_its_original_than_bicubic(shared_clips, clip, model):
    """Frames of 270p at CRF 23 against the 1080p they were made from."""
    source = shared_clips / "animated" / f"{clip}_lowres270_crf23.mkv"
    original_info, originals = first_frames(shared_clips / "animated" / f"{clip}_highres1080.mkv", 3)
    job = prepare(source, Options(model=model, output=Path("unused.mkv")), Report())
    info, frames = first_frames(source, 3)
    batch = FrameBatch((frames[2],), info.video.format, info.video.color)
    large, truth = rgb(info, open_backend(job.backend)(batch).frames[0]), rgb(original_info, originals[2])
    bicubic = cv2.resize(rgb(info, frames[2]), truth.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    errors = [float(((picture - truth) ** 2).mean()) for picture in (large, bicubic)]
    gain = 10 * np.log10(errors[1] / errors[0])
    assert gain > (3 if model != "resnet-8" else 1)


def test_shipped_weights_say_what_they_are():
    names = {info.name for info in installed_models()}
    assert {"fast", "balanced", "resnet-8", "srgan", "srwgan-gp", "srwgan-gp-video"} <= names
    for info in installed_models():
        assert {"architecture", "scale", "steps", "data", "licence", "metrics"} <= info.metadata.keys()
        assert info.path.with_suffix(".md").exists()


WILD = [
    "anime_episode_full.mkv", "bitflips.mkv", "truncated.mkv", "sample_with_vobsub.mp4", "nasa_13013_rotated.mp4",
    "xvid_old.avi", "sample-with-large-length.avi", "sample_with_invalid_nalu.mp4", "sample_with_junk",
    "test_non_zero_start.mp4", "testsrc2_odd_height_and_width_vp9_10bit.mp4", "vfr_dropdup.mkv",
]  # fmt: skip


@pytest.mark.parametrize("name", WILD)
def test_files_in_the_wild_are_upscaled_and_proved(shared_clips, tmp_path, name):
    source = shared_clips / "structure" / name
    suffix = source.suffix if source.suffix in (".mkv", ".mp4") else ".mkv"
    upscaled(source, tmp_path / f"a{suffix}", drop=frozenset({"unsupported"}))
