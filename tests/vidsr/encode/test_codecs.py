"""What each codec takes, refuses and tells its encoder; and that another one is a class and a line in the registry."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import av
import pytest
from click.testing import CliRunner

from tests import media
from tests.media import Track, write_episode
from tests.running import ROOT, upscaled, vidsr
from vidsr.choose.prepare import Options, prepare
from vidsr.cli.commands import main
from vidsr.encode.codecs import CODECS, choose_codec, find_codec
from vidsr.encode.codecs.base import YUV420, Codec, known_options
from vidsr.errors import BackendError, UsageError
from vidsr.frames import ColorSpec, HdrMetadata, PixelFormat, StreamInfo
from vidsr.report import Report
from vidsr.source.probe import probe

YUV420P = PixelFormat("yuv", 8, YUV420)
PRIMARIES = tuple(Fraction(n, 50000) for n in (34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450))
HDR = HdrMetadata((*PRIMARIES, Fraction(1, 10000), Fraction(1000)), (1000, 400))


def options(name, crf=None, preset=None, extra=None, location="left", hdr=None, threads=1, live=False):
    """Of the codec, without the one that only some processors need."""
    found = CODECS[name].options(
        crf, preset, extra or {}, ColorSpec(chroma_location=location), hdr, threads, live
    )  # fmt: skip
    own = [part for part in found.pop(f"{name}-params", "").split(":") if part and part != "asm=AVX2"]
    return {**found, f"{name}-params": ":".join(own)} if own else found


# ---- one more -------------------------------------------------------------------------------------------------------


class Vp9(Codec):
    """All that another encoder of FFmpeg's needs to be one of vidsr's."""

    name, aliases, encoder = "vp9", ("libvpx",), "libvpx-vp9"
    depths, chroma = (8,), (YUV420,)
    crf, crf_range = 20, (0, 63)
    containers = ("matroska", "mp4")

    def particular(self, threads, color, hdr, live):
        return {"b": "0", "cpu-used": "8"}, []


@pytest.fixture
def vp9(monkeypatch):
    for name in ("vpx", "vp9"):  # the first has its encoder and the alias
        monkeypatch.setitem(CODECS, name, Vp9())


@pytest.mark.parametrize("name", ["vp9", "libvpx"])
def test_another_codec_is_a_class_and_a_line_in_the_registry(tmp_path, vp9, name):
    source = write_episode(tmp_path / "a.mkv", frames=300, keyframes=60, audio=[Track("aac", "ja")]).path
    info = upscaled(source, tmp_path / "b.mkv", codec=name, preset=None)  # the proof included
    assert info.video.codec == "vp9" and info.video.format == YUV420P
    assert media.read_numbers(tmp_path / "b.mkv") == media.read_numbers(source)


def test_another_codec_is_asked_for_on_the_command_line(tmp_path, vp9):
    source = str(write_episode(tmp_path / "a.mkv").path)

    def run(*more, into="b.mkv"):
        wanted = ["--codec", "vp9", "--backend", "nearest", "--scale", "2", "-o", str(tmp_path / into), *more]
        return CliRunner().invoke(main, [source, *wanted])

    done = run("--crf", "30")
    assert done.exit_code == 0 and "proved" in done.output, done.output
    assert probe(tmp_path / "b.mkv").video.codec == "vp9"
    for refused, said in (
        (run("--crf", "64", into="c.mkv"), "vp9 takes 0 to 63"),
        (run("--preset", "fast", into="c.mkv"), "vp9 takes none"),
        (run(into="c.mov"), "vp9 cannot live in .mov: use .mkv"),
    ):
        assert refused.exit_code == 2 and said in refused.output


def test_an_encoder_that_this_ffmpeg_lacks_is_named(tmp_path, monkeypatch):
    class Lacking(Vp9):
        encoder = "libnosuch"

    for name in ("vpx", "vp9"):
        monkeypatch.setitem(CODECS, name, Lacking())
    source = write_episode(tmp_path / "a.mkv").path
    with pytest.raises(BackendError, match="--codec vp9: this FFmpeg has no libnosuch; use another --codec"):
        prepare(source, Options(output=tmp_path / "b.mkv", scale=2, backend="nearest", codec="vp9"), Report())


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("h264", "x264"), ("avc", "x264"), ("hevc", "x265"), ("h265", "x265"), ("av1", "svtav1"), ("ffv1", "ffv1"),
        ("vp9", "vpx"), ("prores", "prores"),
    ],
)
def test_names_that_people_type(typed, name):
    assert find_codec(typed).name == name


def test_an_unknown_name_is_answered_with_the_choices():
    with pytest.raises(UsageError, match="--codec mpeg7: choose one of x264, x265, svtav1, ffv1, prores, vpx, h264_"):
        find_codec("mpeg7")


def test_no_name_means_two_codecs():
    names = [name for codec in CODECS.values() for name in (codec.name, *codec.aliases)]
    assert len(names) == len(set(names)) and "auto" not in names
    assert all(codec.cpu_equivalent in CODECS for codec in CODECS.values() if codec.on_gpu)


def test_help_tells_the_names_and_what_each_does_unasked():
    said = " ".join(vidsr("upscale", "--help").stdout.split())
    for words in ("x264 (h264, avc)", "svtav1 (av1)", "x264 17, x265 18, svtav1 24", "x265 fast", "av1_nvenc p5"):
        assert words in said


@pytest.mark.parametrize(
    ("format", "hdr", "name"),
    [
        (YUV420P, None, "x264"),
        (PixelFormat("yuv", 10, YUV420), None, "x264"),
        (PixelFormat("yuv", 12, YUV420), None, "x265"),
        (PixelFormat("gray", 16), None, "x265"),
        (PixelFormat("yuv", 10, YUV420), HDR, "x265"),
    ],
)
def test_auto_loses_nothing_that_it_need_not(format, hdr, name):
    video = StreamInfo(
        0, "h264", 64, 48, format.name, format, ColorSpec(), Fraction(1, 24), Fraction(24), Fraction(1), hdr=hdr
    )
    assert choose_codec(None, video).name == name and choose_codec("av1", video).name == "svtav1"


# ---- what encoders are told -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "plain", "live"),
    [
        ("x264", {"threads": "3", "crf": "17", "preset": "veryfast", "x264-params": "chromaloc=2"},
         {"bf": "0", "rc-lookahead": "0", "thread_type": "slice"}),
        ("x265", {"threads": "3", "crf": "18", "preset": "fast",
                  "x265-params": "log-level=none:pools=3:frame-threads=3:chromaloc=2"},
         {"bf": "0", "x265-params": "log-level=none:pools=3:frame-threads=3:chromaloc=2:"
                                    "rc-lookahead=0:scenecut=0:cutree=0:b-adapt=0:frame-threads=1"}),
        ("svtav1", {"threads": "3", "crf": "24", "preset": "8", "svtav1-params": "lp=3"},
         {"svtav1-params": "lp=3:pred-struct=1"}),
        ("ffv1", {"threads": "3"}, {}),
        ("hevc_nvenc", {"rc": "vbr", "b": "0", "g": "250", "cq": "20", "preset": "p5",
                        "chroma_sample_location": "topleft"},
         {"bf": "0", "rc-lookahead": "0", "delay": "0", "zerolatency": "1"}),
    ],
)  # fmt: skip
def test_unfinished_work_goes_on_only_with_these_very_options(name, plain, live):
    assert options(name, location="topleft", threads=3) == plain
    assert options(name, location="topleft", threads=3, live=True) == {**plain, **live}


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_every_option_is_known_to_the_encoder(codec):
    found = codec.options(None, None, {}, ColorSpec(chroma_location="center"), HDR, 4, live=True)
    assert set(found) <= set(known_options(codec.encoder)) | {"threads"}


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_quality_and_speed_are_checked(codec):
    assert codec.refuses(None, None) is None
    assert codec.refuses(None, "warp") and codec.refuses(codec.crf_range[1] + 1, None) and codec.refuses(-1, None)
    for preset in codec.presets:
        assert codec.refuses(None, preset) is None
    for crf in codec.crf_range if codec.crf is not None else ():
        assert codec.refuses(crf, None) is None


def test_hdr10_in_the_encoders_words():
    x265 = options("x265", hdr=HDR)["x265-params"]
    assert "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)" in x265
    assert "max-cll=1000,400" in x265
    svtav1 = options("svtav1", hdr=HDR)["svtav1-params"]
    assert "R(0.6800,0.3200)" in svtav1 and "L(1000.0000,0.0001)" in svtav1 and "content-light=1000,400" in svtav1


def test_hdr10_that_a_codec_cannot_carry_is_said(tmp_path):
    params = "log-level=none:pools=1:hdr10=1:repeat-headers=1:max-cll=1000,400"
    source = write_episode(tmp_path / "a.mkv", codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": params})
    said = {}
    for name in ("x264", "svtav1"):
        report = Report()
        prepare(source.path, Options(output=tmp_path / "b.mkv", scale=2, backend="nearest", codec=name), report)
        said[name] = [line for line in report.lines if "HDR10" in line]
    assert said["svtav1"] == [] and len(said["x264"]) == 1 and "--codec x265 or svtav1" in said["x264"][0]


def test_users_options_are_added_to_ours():
    found = options("x264", 20.5, "slow", {"tune": "animation", "x264-params": "ref=3"}, threads=3)
    assert found["crf"] == "20.5" and found["preset"] == "slow" and found["tune"] == "animation"
    assert found["threads"] == "3" and found["x264-params"] == "ref=3"
    with pytest.raises(UsageError, match="tunee"):
        options("x264", extra={"tunee": "x"})


@pytest.mark.parametrize(
    ("source", "codec", "result", "said"),
    [
        (YUV420P, "x264", "yuv420p", 0),
        (PixelFormat("yuv", 12, (1, 1)), "x264", "yuv420p10le", 1),
        (PixelFormat("yuv", 12, (1, 1)), "x265", "yuv420p12le", 0),
        (PixelFormat("yuv", 10, (0, 0)), "svtav1", "yuv420p10le", 1),
        (PixelFormat("yuv", 8, (1, 0)), "x264", "yuv422p", 0),
        (PixelFormat("gray", 8), "x264", "yuv420p", 0),
        (PixelFormat("rgb", 8), "x264", "yuv444p", 1),
    ],
)
def test_the_format_of_the_result_loses_nothing_silently(source, codec, result, said):
    report = Report()
    assert CODECS[codec].result_format(source, None, report).name == result
    assert len(report.lines) == said


# ---- a process that is not ours -------------------------------------------------------------------------------------


def bare(*arguments):
    """Python with `arguments`, in an environment that says nothing about SVT-AV1's log."""
    environment = {name: value for name, value in os.environ.items() if name != "SVT_LOG"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)


def test_importing_vidsr_leaves_the_environment_to_others():
    done = bare("-c", "import os, vidsr.cli.commands; print(os.environ.get('SVT_LOG'))")
    assert done.stdout.strip() == "None", done.stderr


def test_av1_prints_nothing_past_us(tmp_path):
    source = write_episode(tmp_path / "a.mkv").path
    wanted = ("--codec", "av1", "--preset", "12", "--backend", "nearest", "--scale", "2")
    done = bare("-m", "vidsr", source, "-o", tmp_path / "b.mkv", *wanted)
    assert done.returncode == 0 and "Svt" not in done.stdout + done.stderr, done.stderr
    with av.open(str(tmp_path / "b.mkv")) as file:
        assert file.streams.video[0].codec_context.name in ("av1", "libdav1d")
