"""Stereo 3D: where the two eyes lie is kept, by Matroska's flag or in the coded pictures, and proved."""

import shutil
import struct
import subprocess
import sys
from fractions import Fraction

import av
import pytest

from tests.media import draw
from tests.running import upscaled, vidsr
from vidsr.mux.matroska.details import read_details
from vidsr.mux.matroska.restore import TrackPatch, restore
from vidsr.proof.verify import verify
from vidsr.report import Report
from vidsr.source.probe import probe
from vidsr.source.stereo import stereo_layout


def write_stereo(path, mode=None, packing=None, aspect=None, codec="libx264"):
    """mode: of Matroska; packing: of H.264's SEI."""
    params = {"x264-params": f"frame-packing={packing}"} if packing is not None else {}
    with av.open(str(path), "w") as result:
        stream = result.add_stream(codec, rate=24, options={"preset": "ultrafast", **params})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if mode:
            stream.metadata["stereo_mode"] = mode
        for number in range(12):
            frame = draw(number)
            frame.pts = number
            result.mux(stream.encode(frame))
        result.mux(stream.encode(None))
    if aspect and path.suffix == ".mkv":
        restore(path, [TrackPatch(0, sample_aspect=aspect)])
    return path


@pytest.mark.parametrize(
    ("mode", "aspect"), [("left_right", 2), ("right_left", 1), ("top_bottom", Fraction(1, 2)), ("anaglyph_cyan_red", 1)]
)
def test_the_flag_and_the_shape_of_an_eye_are_kept_in_mkv(tmp_path, mode, aspect):
    source = write_stereo(tmp_path / "source.mkv", mode, aspect=Fraction(aspect))
    before = probe(source).video
    result = upscaled(source, tmp_path / "result.mkv").video
    assert before.stereo == result.stereo == mode
    assert before.sample_aspect == result.sample_aspect == aspect
    (old,), (new,) = (read_details(path).tracks for path in (source, tmp_path / "result.mkv"))
    assert new.stereo_mode == old.stereo_mode > 0
    assert Fraction(*new.display) == Fraction(*old.display), "of one eye"


def test_what_the_coded_pictures_say_becomes_the_flag_and_stays_in_them(tmp_path):
    source = write_stereo(tmp_path / "source.mp4", packing=4)
    assert probe(source).video.stereo == "top_bottom"
    assert upscaled(source, tmp_path / "result.mp4").video.stereo == "top_bottom"
    upscaled(source, tmp_path / "result.mkv", codec="x265")
    assert read_details(tmp_path / "result.mkv").tracks[0].stereo_mode == 3


def test_what_neither_container_nor_codec_can_say_is_said_before(tmp_path):
    source, said = write_stereo(tmp_path / "source.mkv", "right_left"), []
    assert upscaled(source, tmp_path / "result.mp4", Report(said.append)).video.stereo is None
    assert any("stereo 3D" in line and ".mkv" in line for line in said)


@pytest.mark.parametrize("wrong", [None, "right_left", "top_bottom"])
def test_a_lost_or_another_flag_does_not_pass(tmp_path, wrong):
    source = write_stereo(tmp_path / "source.mkv", "left_right")
    result = write_stereo(tmp_path / "result.mkv", wrong, aspect=Fraction(1))
    assert "stereo 3D" in {check.name for check in verify(source, result).failures}


def test_eyes_among_each_other_are_said_to_be_mixed_and_not_flagged(tmp_path):
    source, said = write_stereo(tmp_path / "source.mkv", "row_interleaved_lr"), []
    assert upscaled(source, tmp_path / "result.mkv", Report(said.append)).video.stereo is None
    assert any("row_interleaved_lr" in line and "mixes" in line for line in said)
    assert read_details(tmp_path / "result.mkv").tracks[0].stereo_mode == 0


def test_a_second_view_that_no_decoder_gives_is_lost_and_not_flagged():
    assert stereo_layout({"stereo_mode": "block_lr"}, None, b"....mvcC...")[0] is None
    assert "second view" in stereo_layout({"stereo_mode": "block_lr"}, None, b"....mvcC...")[1]
    assert stereo_layout({"stereo_mode": "mono"}, None, None) == (None, None)
    assert stereo_layout({}, struct.pack("<Ii", 1, 1), b"") == ("right_left", None)
    assert stereo_layout({}, struct.pack("<Ii", 99, 0), b"")[0] is None


@pytest.mark.skipif(shutil.which("mkvinfo") is None, reason="mkvinfo (mkvtoolnix) is not installed")
def test_mkvtoolnix_and_a_stream_agree(tmp_path):
    source = write_stereo(tmp_path / "source.mkv", "left_right", aspect=Fraction(2))
    done = subprocess.run(
        f"{sys.executable} -m vidsr {source} -o - --backend nearest --scale 2 > {tmp_path}/streamed.mkv",
        shell=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    upscaled(source, tmp_path / "result.mkv")
    for name in ("streamed.mkv", "result.mkv"):
        told = subprocess.run(["mkvinfo", str(tmp_path / name)], capture_output=True, text=True).stdout
        assert "Stereo mode: 1" in told and "Display width: 128" in told
    assert vidsr("verify", source, tmp_path / "streamed.mkv").returncode == 0
