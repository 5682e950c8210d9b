"""Alpha goes with the picture: read wherever it lies, enlarged beside it, kept where the result holds it, else said."""

import shutil
import subprocess
import sys
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from tests.running import upscaled, vidsr
from vidsr.backends import open_backend
from vidsr.backends.base import BackendSpec
from vidsr.backends.nearest import NearestBackend
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.container import read_clock
from vidsr.encode.codecs import choose_codec
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat
from vidsr.proof.verify import verify
from vidsr.report import Report
from vidsr.run.alpha import AlphaBeside
from vidsr.run.pipeline import run
from vidsr.run.segments import Segment, segment_path
from vidsr.run.stages import make_segment
from vidsr.source.alpha import rescaled
from vidsr.source.decode import decode
from vidsr.source.probe import probe

SIZE = 64, 48


def mask(number, size=SIZE):
    """[rows, columns] uint8: a soft disc that moves, over a slope, and all opaque at the lower edge."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    disc = np.clip((10 * width / 64 - np.hypot(x - (20 + number) * width / 64, y - height / 2)) * 128 + 128, 0, 255)
    slope = np.where(y < height // 6, x * 255 // (width - 1), 0)
    return np.maximum.reduce([disc, slope, np.where(y >= height * 7 // 8, 255, 0)]).astype(np.uint8)


def painted(number, pix_fmt, size=SIZE, alpha=mask):
    y, x = np.mgrid[: size[1], : size[0]]
    colours = [200 + 0 * x, x * 255 // size[0], y * 255 // size[1], alpha(number, size)]
    return av.VideoFrame.from_ndarray(np.dstack(colours).astype(np.uint8), "rgba").reformat(format=pix_fmt, threads=1)


def write_alpha(path, encoder, pix_fmt, count=12, size=SIZE, alpha=mask, tag=None):
    options = {"auto-alt-ref": "0", "crf": "4", "b": "0", "cpu-used": "5"} if "vpx" in encoder else {}
    with av.open(str(path), "w") as result:
        stream = result.add_stream(encoder, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.color_range = 1 if "yuv" in pix_fmt else 0
        for number in range(count):
            frame = painted(number, pix_fmt, size, alpha)
            frame.pts = number
            result.mux(stream.encode(frame))
        result.mux(stream.encode(None))
    return path


def alphas(path):
    info = probe(path)
    assert info.video.alpha
    frames = decode(path, info.video, None, None, None, Report())
    return [rescaled(frame.alpha, info.video.format.bits, 8).astype(int) for frame in frames]


SOURCES = [
    ("libvpx-vp9", "yuva420p", "webm"), ("libvpx", "yuva420p", "webm"), ("prores_ks", "yuva444p10le", "mov"),
    ("qtrle", "argb", "mov"), ("png", "rgba", "mov"), ("ffv1", "yuva420p", "mkv"), ("ffv1", "yuva422p10le", "mkv"),
    ("ffv1", "yuva444p12le", "mkv"), ("ffv1", "bgra", "mkv"), ("ffv1", "ya8", "mkv"), ("ffv1", "rgba64le", "mkv"),
]  # fmt: skip


@pytest.mark.parametrize(("encoder", "pix_fmt", "suffix"), SOURCES)
def test_every_kind_of_alpha_is_read(tmp_path, encoder, pix_fmt, suffix):
    found = alphas(write_alpha(tmp_path / f"source.{suffix}", encoder, pix_fmt))
    assert len(found) == 12
    limit = 6 if "vpx" in encoder else 0.6
    assert all(np.abs(alpha - mask(number)).mean() < limit for number, alpha in enumerate(found))


RESULTS = [("mkv", None, "vp9"), ("mov", None, "prores"), ("mkv", "ffv1", "ffv1"), ("mkv", "prores", "prores")]


@pytest.mark.parametrize(("suffix", "codec", "kept_by"), RESULTS)
def test_it_is_enlarged_and_kept_by_a_codec_that_has_it(tmp_path, suffix, codec, kept_by):
    # The stand-in for a model knows no colour: ProRes gets what has as many samples of it.
    deep = ("source.mkv", "ffv1", "yuva444p10le") if kept_by == "prores" else ("source.webm", "libvpx-vp9", "yuva420p")
    source, said = write_alpha(tmp_path / deep[0], *deep[1:]), []
    result = tmp_path / f"result.{suffix}"
    info = upscaled(source, result, Report(said.append), codec=codec, preset=None)
    assert info.video.alpha and info.video.codec == kept_by
    assert any("its alpha is enlarged, too, and kept" in line for line in said)
    for before, after in zip(alphas(source), alphas(result), strict=True):
        assert after.shape == (96, 128)
        assert np.abs(after - before.repeat(2, 0).repeat(2, 1)).mean() < (4 if kept_by == "vp9" else 1.5)


def test_alpha_that_lies_among_rgb_goes_through_the_generator(tmp_path):
    source = write_alpha(tmp_path / "source.mov", "png", "rgba", count=2)
    result = tmp_path / "result.mov"
    info = upscaled(source, result, backend="cpu", model="tiny", preset=None)
    assert info.video.codec == "prores" and info.video.alpha
    for number, after in enumerate(alphas(result)):
        small = after.reshape(48, 2, 64, 2).mean((1, 3))
        assert np.abs(small - mask(number)).mean() < 3
        assert (after[90:] == 255).all(), "opaque stays opaque"


NO_PLACE = [("mkv", "x264", "--codec vpx"), ("mp4", None, ".mkv or .mov"), ("mkv", None, "--codec vpx")]


@pytest.mark.parametrize(("suffix", "codec", "cure"), NO_PLACE)  # a preset that is x264's asks for x264
def test_where_the_result_has_no_place_it_is_said_with_a_cure_that_works(tmp_path, suffix, codec, cure):
    source, said = write_alpha(tmp_path / "source.webm", "libvpx-vp9", "yuva420p"), []
    info = upscaled(source, tmp_path / f"result.{suffix}", Report(said.append), codec=codec)
    assert not info.video.alpha and info.video.codec == "h264"
    assert [line for line in said if "alpha" in line and cure in line]
    with av.open(str(tmp_path / f"result.{suffix}")) as file:
        assert "alpha_mode" not in {name.lower() for name in file.streams.video[0].metadata}


def test_the_codec_is_the_first_that_loses_nothing(tmp_path):
    deep = probe(write_alpha(tmp_path / "deep.mkv", "ffv1", "yuva444p10le", count=2)).video
    flat = probe(write_alpha(tmp_path / "flat.mkv", "ffv1", "yuva420p", count=2)).video
    assert [choose_codec(None, video).name for video in (deep, flat)] == ["ffv1", "vpx"]
    assert [choose_codec(None, video, "mov").name for video in (deep, flat)] == ["prores", "prores"]
    assert [choose_codec(None, video, "mp4").name for video in (deep, flat)] == ["x264", "x264"]


@pytest.mark.parametrize("encoder", ["ffv1", "prores_ks", "libvpx-vp9"])
@pytest.mark.parametrize("wrong", ["lost", "opaque", "inverted"])
def test_a_wrong_or_lost_alpha_does_not_pass(tmp_path, encoder, wrong):
    pix_fmt, suffix = {"ffv1": ("yuva420p", "mkv"), "prores_ks": ("yuva444p10le", "mov"),
                       "libvpx-vp9": ("yuva420p", "mkv")}[encoder]  # fmt: skip
    source = write_alpha(tmp_path / "source.mkv", "ffv1", "yuva420p")
    large = 128, 96
    shapes = {"opaque": lambda n, s: np.full(s[::-1], 255, np.uint8), "inverted": lambda n, s: 255 - mask(n, s)}
    name = pix_fmt.replace("yuva", "yuv").replace("444", "422") if wrong == "lost" else pix_fmt
    result = write_alpha(tmp_path / f"result.{suffix}", encoder, name, size=large, alpha=shapes.get(wrong, mask))
    assert "alpha" in {check.name for check in verify(source, result).failures}
    right = write_alpha(tmp_path / f"right.{suffix}", encoder, pix_fmt, size=large)
    assert "alpha" not in {check.name for check in verify(source, right).failures}


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_nothing_lies_outside_of_what_the_source_has_around_it(bits, full_range):
    format, color = PixelFormat("yuv", bits, (1, 1)), ColorSpec(full_range=full_range)

    class Ringing(NearestBackend):
        """Sharpens until black and white overshoot."""

        def __call__(self, batch):
            (frame,) = super().__call__(batch).frames
            luma = frame.planes[0].astype(int)
            wild = luma + np.random.default_rng(0).integers(-40, 40, luma.shape) * (1 << bits - 8)
            wild = np.clip(wild, 0, (1 << bits) - 1).astype(format.dtype)
            return FrameBatch((Frame((wild, *frame.planes[1:])),), format, color)

    backend = Ringing(BackendSpec("nearest", "", 2, format, color, format, color))
    beside = AlphaBeside(format, color, backend, None)
    source = rescaled(mask(3), 8, bits)
    planes = tuple(np.zeros(shape, format.dtype) for shape in format.plane_shapes(*SIZE))
    through = [*beside.taken_off([Frame(planes, alpha=source)])]
    assert through[0].alpha is None
    (frame,) = beside.given_back(through, format, color)
    padded = np.pad(source, 1, mode="edge").astype(int)
    around = np.stack([padded[y : y + 48, x : x + 64] for y in range(3) for x in range(3)])
    low, high = (edge.repeat(2, 0).repeat(2, 1) for edge in (around.min(0), around.max(0)))
    assert frame.alpha.dtype == format.dtype
    assert (frame.alpha >= low).all() and (frame.alpha <= high).all() and (frame.alpha != low).any()


@pytest.mark.parametrize("codec", ["ffv1", "vpx"])
def test_frames_keep_their_own_alpha_wherever_the_cuts_lie(tmp_path, codec):
    source = write_alpha(tmp_path / "source.webm", "libvpx-vp9", "yuva420p", count=40)
    options = Options(output=tmp_path / "r.mkv", scale=2, backend="nearest", codec=codec, threads=1)
    job, pts = prepare(source, options, Report()), read_clock(source, probe(source).video).pts
    found = {}
    for cuts in ((0, 40), (0, 13, 27, 40)):
        folder = tmp_path / str(len(cuts))
        folder.mkdir()
        for index, (a, b) in enumerate(zip(cuts, cuts[1:])):
            segment = Segment(index, pts[a], pts[b] if b < 40 else None, pts[0] if a else None, b - a)
            assert len(make_segment(job, segment, folder).pts) == b - a
            found.setdefault(len(cuts), []).extend(alphas(segment_path(folder, index)))
    limit = 0 if codec == "ffv1" else 4
    assert all(np.abs(one - other).mean() <= limit for one, other in zip(*found.values(), strict=True))
    for number, alpha in enumerate(found[4]):
        assert np.abs(alpha - mask(number).repeat(2, 0).repeat(2, 1)).mean() < 8


def test_a_stream_keeps_it_too(tmp_path):
    source = write_alpha(tmp_path / "source.webm", "libvpx-vp9", "yuva420p")
    command = [sys.executable, "-m", "vidsr", str(source), "-o", "-", "--backend", "nearest", "--scale", "2"]
    with open(tmp_path / "streamed.mkv", "wb") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    proved = vidsr("verify", source, tmp_path / "streamed.mkv")
    assert proved.returncode == 0 and "alpha: scaled back down" in proved.stdout, proved.stdout


def test_the_shared_case(shared_clips, tmp_path):
    case = shared_clips.parent / "cases" / "alpha_vp9.webm"
    if not case.exists():
        pytest.skip("no such file beside the checkout")
    assert upscaled(case, tmp_path / "result.mkv", preset=None).video.alpha


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_ffmpeg_finds_it(tmp_path):
    for codec, suffix, layout, decoder in (
        ("vpx", "mkv", "420p", ["-c:v", "libvpx-vp9"]), ("prores", "mov", "444p10le", []), ("ffv1", "mkv", "420p", []),
    ):  # fmt: skip
        source = write_alpha(tmp_path / f"{codec}-source.mkv", "ffv1", f"yuva{layout}", count=3)
        result = tmp_path / f"{codec}.{suffix}"
        upscaled(source, result, codec=codec, preset=None)
        plane = subprocess.run(
            ["ffmpeg", "-v", "error", *decoder, "-i", result, "-frames:v", "1", "-vf", "alphaextract,format=gray",
             "-f", "rawvideo", "-"], capture_output=True, check=True,
        ).stdout  # fmt: skip
        found = np.frombuffer(plane, np.uint8).reshape(96, 128).astype(int)
        assert np.abs(found - mask(0).repeat(2, 0).repeat(2, 1)).mean() < 5


def test_a_crop_and_another_size_are_the_alphas_too(tmp_path):
    source = write_alpha(tmp_path / "source.mkv", "ffv1", "yuva420p")
    output = tmp_path / "r.mkv"
    options = Options(output=output, height=72, crop="48:40:8:4", backend="nearest", codec="ffv1", threads=1)
    job = prepare(source, options, Report())
    assert run(job, open_backend, Report()).passed
    for number, alpha in enumerate(alphas(tmp_path / "r.mkv")):
        small = cv2.resize(alpha.astype(np.float32), (48, 40), interpolation=cv2.INTER_AREA)
        assert np.abs(small - mask(number)[4:44, 8:56]).mean() < 4
        assert (alpha[70:] == 255).all(), "no ringing where it is opaque"


def test_pictures_that_change_keep_theirs(tmp_path):
    source = write_alpha(tmp_path / "source.mkv", "ffv1", "yuva420p", count=2)
    video = probe(source).video
    smaller = replace(video, width=32, height=32)
    frames = list(decode(source, smaller, None, None, None, Report()))
    alpha = frames[1].alpha.astype(int)
    assert alpha.shape == (32, 32) and (alpha[:4] == 0).all() and (alpha[28:] == 0).all()
    small = cv2.resize(mask(1).astype(np.float32), (32, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(alpha[4:28] - small).mean() < 4
