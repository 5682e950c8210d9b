"""The command a person types: names, output, progress, pictures."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from tests.media import Track, write_episode
from tests.running import quick, vidsr


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "my episode [01].mkv"
    write_episode(path, audio=[Track("aac", "ja", title="Stereo")], chapters=[(0, {"en": "One"})], color={})
    return path


def test_help_names_every_option():
    done = vidsr("upscale", "--help")
    options = (
        "output model backend codec crf preset encoder-option pixel-format start duration scale tile drop overwrite "
        "restart quiet verbose precision threads jobs hwaccel no-verify"
    )
    for option in options.split():
        assert f"--{option}" in done.stdout
    assert vidsr("--help").returncode == 0 and vidsr("--version").stdout.startswith("vidsr")


def test_the_result_lies_beside_the_source_and_its_name_is_printed(episode):
    done = quick(episode)
    result = episode.with_name("my episode [01].2x.mkv")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(result) and result.exists()
    assert sorted(p.name for p in episode.parent.iterdir()) == [result.name, episode.name]
    assert "24 of 24 frames" in done.stderr and "fps" in done.stderr and "segment 1 of 1" in done.stderr
    assert "BT.601" in done.stderr  # the guess is said
    assert "\x1b" not in done.stderr  # no control codes in a log


def test_quiet_prints_notes_only(episode, tmp_path):
    done = quick(episode, "-o", tmp_path / "b.mkv", "-q")
    assert done.stdout == "" and all(line.startswith("note:") for line in done.stderr.splitlines())


def test_verbose_prints_the_proof(episode, tmp_path):
    done = quick(episode, "-o", tmp_path / "b.mkv", "-v")
    assert "timestamps:" in done.stderr and "SHA-256" in done.stderr


def test_several_inputs_into_a_folder(episode, tmp_path):
    write_episode(tmp_path / "two.mp4")
    (tmp_path / "out").mkdir()
    done = quick(episode, tmp_path / "two.mp4", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["my episode [01].2x.mkv", "two.2x.mp4"]
    refused = quick(episode, tmp_path / "two.mp4", "-o", tmp_path / "one.mkv")
    assert refused.returncode == 2 and "existing folder" in refused.stderr


@pytest.fixture
def seasons(tmp_path):
    """Two seasons whose episodes have the same names, and a folder for the results."""
    for season in ("s1", "s2"):
        (tmp_path / season).mkdir()
        write_episode(tmp_path / season / "01.mkv", frames=4)
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_two_inputs_with_one_result_are_refused_before_anything_is_made(seasons, more):
    done = quick(seasons / "s1/01.mkv", seasons / "s2/01.mkv", "-o", seasons / "out", *more)
    assert done.returncode == 2
    assert "s1/01.mkv" in done.stderr and "s2/01.mkv" in done.stderr and "01.2x.mkv" in done.stderr
    assert not list((seasons / "out").iterdir())


def test_no_result_replaces_an_input(seasons):
    other = seasons / "s1" / "01.2x.mkv"
    write_episode(other, frames=4, first_number=7)
    before = other.read_bytes()
    done = quick(seasons / "s1/01.mkv", other, "--overwrite")
    assert done.returncode == 2 and "01.2x.mkv" in done.stderr and "replace" in done.stderr
    assert other.read_bytes() == before


def test_targets_that_cannot_be_written_are_said_before_the_others_are_made(seasons):
    write_episode(seasons / "s1" / "02.mkv", frames=4)
    (seasons / "out" / "02.2x.mkv").write_text("mine")
    done = quick(seasons / "s1/01.mkv", seasons / "s1/02.mkv", "-o", seasons / "out")
    assert done.returncode == 2 and done.stdout.strip() == str(seasons / "out" / "01.2x.mkv")
    assert done.stderr.index("exists already") < done.stderr.index("4 of 4 frames")
    assert (seasons / "out" / "02.2x.mkv").read_text() == "mine"


@pytest.mark.parametrize(("option", "value"), [("--tile", "²"), ("--tile", "٦٤"), ("--drop", "²"), ("--tile", "-1")])
def test_digits_that_are_no_numbers_are_refused_in_one_line(episode, tmp_path, option, value):
    done = quick(episode, "-o", tmp_path / "a.mkv", option, value)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and f"{option} {value}" in done.stderr


def test_probe_says_what_is_kept_and_assumed(episode):
    done = vidsr("probe", episode)
    assert done.returncode == 0
    assert "h264 64x48 yuv420p" in done.stdout and "assumed: colour matrix not given: BT.601" in done.stdout
    assert "audio aac jpn “Stereo”: kept" in done.stdout.replace(" default", "") and "1 chapters: kept" in done.stdout
    into_mp4 = vidsr("probe", episode, "-o", "x.mp4")
    assert into_mp4.returncode == 0


@pytest.mark.parametrize(("name", "words"), [("a.mov", "cannot live in .mov"), ("a.mkv", "kept")])
def test_probe_plans_for_the_sources_own_container(tmp_path, name, words):
    write_episode(tmp_path / "b.mkv", subtitles=[Track("ass", "en")])
    (tmp_path / "b.mkv").rename(tmp_path / name)
    done = vidsr("probe", tmp_path / name)
    assert done.returncode == 0 and f"subtitle ass eng: {words}" in done.stdout


def test_probe_machine_and_models():
    machine = vidsr("probe", "--machine")
    assert "cpu: ready" in machine.stdout and "cuda" in machine.stdout
    models = vidsr("models")
    assert models.returncode == 0 and "fast: compact, 4x" in models.stdout and "resnet-8: srresnet" in models.stdout


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_a_picture_in_gives_a_picture_out(tmp_path, suffix):
    rng = np.random.default_rng(1)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (37, 51, 3), np.uint8), (0, 0), 2)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), picture)
    done = quick(tmp_path / f"a{suffix}")
    assert done.returncode == 0, done.stderr
    large = cv2.imread(str(tmp_path / f"a.2x{suffix}"), cv2.IMREAD_UNCHANGED)
    assert large.shape == (74, 102, 3)
    small = cv2.resize(large, (51, 37), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(small - cv2.imread(str(tmp_path / f"a{suffix}"))).mean() < 3


def test_depth_alpha_gray_and_profile_of_a_picture_are_kept(tmp_path):
    rng = np.random.default_rng(2)
    deep = rng.integers(0, 65535, (20, 30, 4), np.uint16)

    exif = np.frombuffer(b"II*\0\x08\0\0\0\0\0\0\0", np.uint8)
    done, data = cv2.imencodeWithMetadata(".png", deep, [cv2.IMAGE_METADATA_EXIF], [exif])
    assert done
    data.tofile(tmp_path / "deep.png")
    cv2.imwrite(str(tmp_path / "gray.png"), deep[:, :, 0])
    assert quick(tmp_path / "deep.png", tmp_path / "gray.png").returncode == 0
    large, kinds, _ = cv2.imreadWithMetadata(str(tmp_path / "deep.2x.png"), cv2.IMREAD_UNCHANGED)
    assert large.dtype == np.uint16 and (large[::2, ::2] == deep).all()
    assert cv2.IMAGE_METADATA_EXIF in kinds
    gray = cv2.imread(str(tmp_path / "gray.2x.png"), cv2.IMREAD_UNCHANGED)
    assert gray.ndim == 2 and (gray[::2, ::2] == deep[:, :, 0]).all()


def test_a_picture_is_not_overwritten_and_stays_a_picture(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "a.2x.png").write_text("mine")
    assert quick(tmp_path / "a.png").returncode == 2
    assert quick(tmp_path / "a.png", "-o", tmp_path / "a.mkv").returncode == 2
    assert (tmp_path / "a.2x.png").read_text() == "mine"


def test_several_segments_at_once(tmp_path):
    write_episode(tmp_path / "long.mkv", frames=760, keyframes=20)
    done = quick(tmp_path / "long.mkv", "-o", tmp_path / "a.mkv", "--jobs", 3)
    assert done.returncode == 0, done.stderr
    assert "760 of 760 frames" in done.stderr and "segment 3 of 3" in done.stderr and "proved" in done.stderr
    for number in (0, 33):
        assert quick(tmp_path / "long.mkv", "-o", tmp_path / "b.mkv", "--jobs", number).returncode == 2


def test_encoder_options_reach_the_encoder(episode, tmp_path):
    small = quick(episode, "-o", tmp_path / "s.mkv", "--crf", 30)
    large = quick(episode, "-o", tmp_path / "l.mkv", "--crf", 5)
    assert small.returncode == large.returncode == 0
    assert (tmp_path / "l.mkv").stat().st_size > 1.5 * (tmp_path / "s.mkv").stat().st_size
    keyed = quick(episode, "-o", tmp_path / "k.mkv", "--encoder-option", "g=3", "--encoder-option", "bf=0")
    assert keyed.returncode == 0, keyed.stderr
    with av.open(str(tmp_path / "k.mkv")) as file:
        assert sum(p.is_keyframe for p in file.demux(video=0) if p.size) >= 8
