"""Decoding and encoding on a GPU: what is asked, said and chosen without one, and that planes survive its layouts."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import write_episode
from tests.running import quick, upscaled, vidsr
from vidsr.choose import prepare as jobs
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.encode.codecs import CODECS
from vidsr.encode.codecs.base import known_options
from vidsr.encode.encoder import EncodeSettings, _fill, encode
from vidsr.encode.hardware import encoder_missing
from vidsr.errors import BackendError, UsageError
from vidsr.frames import ColorSpec, Frame, HdrMetadata, PixelFormat, StreamInfo
from vidsr.report import Report
from vidsr.source import decode as decoding
from vidsr.source import nvcodec
from vidsr.source.decode import ONE_THREAD_SAMPLES, decode, gpu_missing
from vidsr.source.nvcodec import decoder_missing
from vidsr.source.probe import probe

GPU_CODECS = [codec for codec in CODECS.values() if codec.on_gpu]
GPU_NAMES = [codec.name for codec in GPU_CODECS]

no_gpu = pytest.mark.skipif(decoder_missing() is None, reason="a GPU decodes here")
YUV420P, YUV420P10 = PixelFormat("yuv", 8, (1, 1)), PixelFormat("yuv", 10, (1, 1))
LARGE = (1088, 640)
assert LARGE[0] * LARGE[1] > ONE_THREAD_SAMPLES


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("hardware") / "large.mkv"
    write_episode(path, frames=12, keyframes=6, size=LARGE, options={"preset": "ultrafast"})
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("hardware") / "small.mkv"
    write_episode(path, frames=60, keyframes=10, options={"bf": "3"})
    return path


def video(path):
    with av.open(str(path)) as file:
        return [(p.pts, p.dts, bytes(p)) for p in file.demux(video=0) if p.size]


# ---- what works here ------------------------------------------------------------------------------------------------


def lacks(codec):
    return codec.missing(256, 144, YUV420P)


@no_gpu
def test_reasons_are_ffmpegs_in_one_line_and_nothing_else_is_printed(capfd):
    for probe_ in (decoder_missing, *(lambda c=c: lacks(c) for c in GPU_CODECS)):
        decoder_missing.cache_clear()
        encoder_missing.cache_clear()
        for _ in range(2):  # FFmpeg does not repeat itself, we do
            reason = probe_()
            assert reason and "\n" not in reason and "Operation not permitted" not in reason
    encoder_missing("libx264", "p010le", 256, 144)
    assert capfd.readouterr() == ("", "")


def test_an_encoder_is_tried_with_a_picture_like_those_to_come():
    assert encoder_missing("libx264", "yuv420p10le", 256, 144) is None
    assert "p010le" in (encoder_missing("libx264", "p010le", 256, 144) or "")
    assert encoder_missing("libx264", "yuv420p", 17000, 64)  # wider than H.264 goes


def test_what_was_tried_is_known_for_the_process():
    before = encoder_missing.cache_info().misses
    for _ in range(3):
        encoder_missing("libx264", "yuv420p", 320, 176)
    assert encoder_missing.cache_info().misses == before + 1


@pytest.mark.parametrize(("library", "missing"), [("libc.so.6", False), ("libnvcuvid-of-nobody.so.1", True)])
def test_a_driver_without_its_part_for_video_decodes_nothing(monkeypatch, library, missing):
    """The device opens; what decodes on it comes with the first packet."""
    monkeypatch.setattr(nvcodec, "gpu_decoder", lambda codec: None)
    monkeypatch.setattr(nvcodec, "LIBRARY", library)
    decoder_missing.cache_clear()
    reason = decoder_missing()
    decoder_missing.cache_clear()
    assert (library in reason and "\n" not in reason) if missing else reason is None


def test_codecs_that_leave_room_for_rounding_are_not_trusted():
    assert "mpeg2video" in (decoder_missing("mpeg2video") or "")


# ---- asked for, where it does not work ------------------------------------------------------------------------------


def refused(done, *words):
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note:")]
    assert done.returncode == 1 and len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


@no_gpu
def test_auto_is_off_where_there_is_no_gpu(large, tmp_path):
    notes = []
    for way in ("auto", "off"):
        done = quick(large, "-o", tmp_path / f"{way}.mkv", "--hwaccel", way)
        assert done.returncode == 0, done.stderr
        notes.append([line for line in done.stderr.splitlines() if line.startswith("note:")])
    assert notes[0] == notes[1] and "GPU" not in "".join(notes[0])
    assert video(tmp_path / "auto.mkv") == video(tmp_path / "off.mkv")


@no_gpu
def test_demanding_it_says_what_is_missing_and_the_cure(small, tmp_path):
    done = quick(small, "-o", tmp_path / "a.mkv", "--hwaccel", "cuda")
    refused(done, "small.mkv", decoder_missing(), "--hwaccel auto")
    for codec in GPU_CODECS:
        done = vidsr(small, "-o", tmp_path / "a.mkv", "--codec", codec.name, "--backend", "nearest")
        refused(done, f"--codec {codec.name}", lacks(codec), f"--codec {codec.cpu_equivalent}")
    assert list(tmp_path.iterdir()) == []


@no_gpu
def test_the_machine_says_what_it_lacks():
    lines = vidsr("probe", "--machine").stdout.splitlines()
    assert f"hardware decoding: {decoder_missing()}" in lines
    for codec in GPU_CODECS:
        assert f"{codec.name}: {lacks(codec)}" in lines


# ---- layouts --------------------------------------------------------------------------------------------------------


def planes_of(format, width, height):
    rng = np.random.default_rng(width)
    shapes = format.plane_shapes(width, height)
    return tuple(rng.integers(0, 1 << format.bits, shape).astype(format.dtype) for shape in shapes)


def stream_of(format, width, height, codec="h264", **more):
    return StreamInfo(
        0, codec, width, height, format.name, format, ColorSpec(), Fraction(1, 24), Fraction(24), Fraction(1), **more
    )


@pytest.mark.parametrize(
    ("format", "layout", "size"),
    [  # swscale itself loses the last chroma of odd sizes on the way to P010
        *((YUV420P, "nv12", size) for size in [(64, 48), (70, 46), (71, 47), (1, 1)]),
        *((YUV420P10, "p010le", size) for size in [(64, 48), (70, 46)]),
    ],
)
def test_interleaved_chroma_gives_the_same_planes(format, layout, size):
    planes = planes_of(format, *size)
    picture = av.VideoFrame(*size, format.name)
    _fill(picture, planes)
    found = decoding._planes(stream_of(format, *size), picture.reformat(format=layout, threads=1))
    assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(found, planes, strict=True))


@pytest.mark.parametrize("size", [(64, 48), (70, 46), (71, 47), (1, 1)])
def test_ten_bits_for_the_encoder_are_the_same_ten_bits(size):
    assert CODECS["hevc_nvenc"].layout(YUV420P10) == "p010le" and CODECS["x265"].layout(YUV420P10) == "yuv420p10le"
    planes = planes_of(YUV420P10, *size)
    picture = av.VideoFrame(*size, "p010le")
    _fill(picture, planes)
    for back in (picture, picture.reformat(format="yuv420p10le", threads=1)):
        found = decoding._planes(stream_of(YUV420P10, *size), back)
        assert all(np.array_equal(a, b) for a, b in zip(found, planes, strict=True))


# ---- decoding, with a stand-in for the GPU --------------------------------------------------------------------------


class StandIn:
    """What `gpu_decoder` gives: a software decoder of its own behind the layouts of a GPU, that can fail."""

    def __init__(self, codec, extradata, reorder, fails_at=None, corrupt_at=None, wrong=False):
        self._decoder = av.CodecContext.create({"av1": "libdav1d"}.get(codec, codec), "r")
        self._decoder.extradata = extradata
        if codec != "av1":
            self._decoder.reorder_depth = reorder
        self._fails_at, self._corrupt_at, self._wrong, self._taken = fails_at, corrupt_at, wrong, 0

    def decode(self, packet):
        self._taken += 1
        if self._taken == self._fails_at:
            raise av.error.ExternalError(0, "the GPU is lost")
        return [self._given(picture) for picture in self._decoder.decode(packet)]

    def _given(self, picture):
        layout = "nv12" if picture.format.components[0].bits == 8 else "p010le"
        given = picture.reformat(format=layout, threads=1)
        if self._wrong:
            given.planes[0].update(bytes(255 - value for value in bytes(given.planes[0])))
        return Corrupt(given) if self._taken == self._corrupt_at else given


class Corrupt:
    is_corrupt = True

    def __init__(self, picture):
        object.__setattr__(self, "_picture", picture)

    def __getattr__(self, name):
        return getattr(self._picture, name)


@pytest.fixture
def gpu(monkeypatch):
    """A machine whose GPU decodes; keyword arguments as StandIn's."""

    def behaves(**how):
        def made(*given):
            if how.get("fails_at") == 0:
                raise PermissionError(1, "no device")
            return StandIn(*given, **how)

        monkeypatch.setattr(decoding, "gpu_decoder", made)
        monkeypatch.setattr(decoding, "decoder_missing", lambda codec="h264": None)
        monkeypatch.setattr(jobs, "decoder_missing", lambda codec="h264": None)

    return behaves


def frames_of(path, on_gpu, report, start=None, end=None, seek=None):
    info = probe(path)
    return list(decode(path, info.video, start, end, seek, report, on_gpu))


def same(found, expected):
    assert [(f.pts, f.duration) for f in found] == [(f.pts, f.duration) for f in expected]
    for a, b in zip(found, expected):
        assert all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("libx264", "yuv420p"), ("libx265", "yuv420p"), ("libx265", "yuv420p10le"), ("libsvtav1", "yuv420p10le")],
)
def test_a_gpu_that_works_gives_the_same_frames(tmp_path, gpu, codec, pix_fmt, suffix):
    path = tmp_path / f"a{suffix}"
    write_episode(path, codec=codec, pix_fmt=pix_fmt, frames=40, size=(128, 96))
    gpu()
    report = Report()
    expected = frames_of(path, False, Report())
    same(frames_of(path, True, report), expected)
    assert not report.counts and gpu_missing(path, probe(path).video) is None
    part = expected[30].pts
    same(frames_of(path, True, report, part, None, expected[12].pts), expected[30:])


@pytest.mark.parametrize("how", [{"fails_at": n} for n in (0, 1, 7, 60)] + [{"corrupt_at": n} for n in (5, 20)])
def test_where_the_gpu_fails_the_software_takes_over(small, gpu, how):
    gpu(**how)
    report = Report()
    same(frames_of(small, True, report), frames_of(small, False, Report()))
    assert sum(report.counts.values()) == 1 and "GPU" in next(iter(report.counts))


def test_damage_is_judged_by_the_software(small, gpu, tmp_path):
    data = bytearray(small.read_bytes())
    for at in range(len(data) // 3, len(data) - 500, 701):
        data[at : at + 20] = bytes(20)
    path = tmp_path / "damaged.mkv"
    path.write_bytes(data)
    gpu()
    hard, soft = Report(), Report()
    same(frames_of(path, True, hard), frames_of(path, False, soft))
    assert soft.counts
    assert {what: n for what, n in hard.counts.items() if "GPU" not in what} == dict(soft.counts)


def test_a_gpu_is_trusted_only_with_what_it_gets_right(small, gpu, tmp_path):
    gpu(wrong=True)
    info = probe(small)
    assert "first frames" in (gpu_missing(small, info.video) or "")
    gpu(fails_at=1)
    assert "the GPU is lost" in (gpu_missing(small, info.video) or "")
    gpu()
    assert gpu_missing(small, info.video) is None
    assert "odd" in (gpu_missing(small, replace(info.video, width=63)) or "")
    for format in (PixelFormat("yuv", 8, (1, 0)), PixelFormat("yuv", 12, (1, 1)), PixelFormat("rgb")):
        assert format.name in (gpu_missing(small, replace(info.video, format=format)) or "")


def test_a_run_that_decodes_on_the_gpu(large, small, gpu, tmp_path):
    gpu()
    report = Report()
    upscaled(large, tmp_path / "auto.mkv", report)
    assert any("--hwaccel off" in line for line in report.lines)
    upscaled(large, tmp_path / "off.mkv", quiet := Report(), hwaccel="off")
    assert video(tmp_path / "auto.mkv") == video(tmp_path / "off.mkv")
    assert not any("GPU" in line for line in quiet.lines)
    options = {"scale": 2, "backend": "nearest"}  # and too small a picture gains nothing
    assert not prepare(small, Options(output=tmp_path / "s.mkv", **options), Report()).decode_on_gpu
    assert prepare(small, Options(output=tmp_path / "s.mkv", hwaccel="cuda", **options), Report()).decode_on_gpu
    gpu(wrong=True)
    report = Report()
    assert not prepare(large, Options(output=tmp_path / "w.mkv", **options), report).decode_on_gpu
    assert any(line.startswith("decoding on the CPU") for line in report.lines)
    with pytest.raises(BackendError, match="--hwaccel cuda: its first frames"):
        prepare(large, Options(output=tmp_path / "w.mkv", hwaccel="cuda", **options), Report())


def test_where_it_was_decoded_does_not_matter_to_resuming(large, gpu, tmp_path):
    gpu()
    job, other = (
        prepare(large, Options(output=tmp_path / "a.mkv", scale=2, backend="nearest", hwaccel=way), Report())
        for way in (None, "off")
    )
    assert job.decode_on_gpu and not other.decode_on_gpu and job.settings == other.settings


# ---- encoding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", GPU_CODECS, ids=GPU_NAMES)
def test_options_are_ones_the_encoder_has(codec):
    color = ColorSpec(chroma_location="topleft")
    known = known_options(codec.encoder)
    for preset in (None, *codec.presets):
        options = codec.options(None, preset, {}, color, None, 4)
        assert "threads" not in options and {"rc", "cq", "b", "preset"} <= options.keys()
        for key, value in options.items():
            option = known[key]
            if option.choices:
                assert value in {choice.name for choice in option.choices}
            else:
                assert option.min <= float(value) <= option.max
    assert known["cq"].max == codec.crf_range[1]
    for layout in {codec.layout(PixelFormat("yuv", bits, (1, 1))) for bits in codec.depths}:
        assert layout in {format.name for format in av.Codec(codec.encoder, "w").video_formats}


def test_quality_is_the_users():
    def options(**given):
        asked = {"crf": None, "preset": None, "extra": {}, **given}
        return CODECS["hevc_nvenc"].options(**asked, color=ColorSpec(), hdr=None, threads=1)

    assert options(crf=23.5)["cq"] == "23.5" and options(preset="p7")["preset"] == "p7"
    assert options(extra={"spatial_aq": "1"})["spatial_aq"] == "1"
    for wrong in ({"crf": 0.0}, {"crf": 52.0}, {"preset": "slow"}, {"extra": {"crf": "3"}}):
        with pytest.raises(UsageError):
            options(**wrong)


@pytest.fixture
def encoders(monkeypatch):
    """Registers GPU codecs of which those named work; gives what they were asked for."""

    def work(*names):
        asked = []

        def stand_in(codec):
            class Registered(type(codec)):
                def missing(self, width, height, format):
                    asked.append((self.encoder, self.layout(format), width, height))
                    return None if self.name in names else "no capable device"

            return Registered()

        for codec in GPU_CODECS:
            monkeypatch.setitem(CODECS, codec.name, stand_in(codec))
        return asked

    return work


HDR = HdrMetadata(None, (1000, 400))


@pytest.mark.parametrize(
    ("video_", "options", "chosen"),
    [
        ({}, {}, "h264_nvenc"),
        ({"format": YUV420P10}, {}, "hevc_nvenc"),
        ({"format": PixelFormat("yuv", 8, (0, 0))}, {}, "h264_nvenc"),
        ({"format": PixelFormat("yuv", 8, (1, 0))}, {}, "x264"),
        ({"format": PixelFormat("yuv", 10, (0, 0))}, {}, "x264"),
        ({"format": PixelFormat("yuv", 12, (1, 1))}, {}, "x265"),
        ({"format": YUV420P10, "hdr": HDR}, {}, "x265"),
        ({}, {"hwaccel": "off"}, "x264"),
        ({}, {"codec": "x265"}, "x265"),
        ({}, {"hwaccel": "off", "codec": "av1_nvenc"}, "av1_nvenc"),
        ({}, {"preset": "slow"}, "x264"),
        ({}, {"preset": "p2"}, "h264_nvenc"),
        ({}, {"crf": 0.0}, "x264"),
        ({}, {"crf": 23.0}, "h264_nvenc"),
        ({}, {"encoder_options": {"g": "5"}}, "x264"),
    ],
)
def test_which_encoder_is_taken(small, encoders, monkeypatch, tmp_path, video_, options, chosen):
    asked = encoders(*GPU_NAMES)
    info = probe(small)
    monkeypatch.setattr(jobs, "probe", lambda path: replace(info, video=replace(info.video, **video_)))
    report = Report()
    job = prepare(small, Options(output=tmp_path / "a.mkv", scale=4, backend="nearest", **options), report)
    assert job.encoder.codec == job.settings["codec"] == chosen
    said = [line for line in report.lines if "on the GPU" in line]
    assert len(said) == (chosen in GPU_NAMES and "codec" not in options)
    assert all("--codec x26" in line for line in said)
    for encoder, layout, *size in asked:
        assert layout == ("p010le" if encoder == "hevc_nvenc" else job.backend.result_format.name)
        assert size == [4 * 64, 4 * 48]


def test_without_an_encoder_on_the_gpu_all_is_as_before(small, encoders, tmp_path):
    encoders()
    wanted = {"output": tmp_path / "a.mkv", "scale": 2, "backend": "nearest"}
    quiet = Report()
    auto, off = (prepare(small, Options(hwaccel=way, **wanted), quiet) for way in (None, "off"))
    assert auto == off and not any("GPU" in line for line in quiet.lines)
    encoders("hevc_nvenc")
    assert prepare(small, Options(**wanted), Report()).encoder.codec == "x264"
    with pytest.raises(BackendError, match="--codec h264_nvenc: no capable device; use --codec x264"):
        prepare(small, Options(codec="h264_nvenc", **wanted), Report())


def test_demanding_the_gpu_says_where_the_encoding_stays(small, encoders, gpu, tmp_path):
    gpu()
    encoders()
    report = Report()
    wanted = Options(output=tmp_path / "a.mkv", scale=2, backend="nearest", hwaccel="cuda")
    assert prepare(small, wanted, report).encoder.codec == "x264"
    assert any("no capable device" in line and "x264" in line for line in report.lines)


# ---- with a GPU -----------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.skipif(decoder_missing() is not None, reason=decoder_missing() or "")
@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("libx264", "yuv420p"), ("libx265", "yuv420p"), ("libx265", "yuv420p10le")]
)
def test_the_gpu_decodes_to_the_same_bits(tmp_path, codec, pix_fmt):
    path = tmp_path / "a.mkv"
    write_episode(path, codec=codec, pix_fmt=pix_fmt, frames=60, size=(640, 360))
    assert gpu_missing(path, probe(path).video) is None
    report = Report()
    expected = frames_of(path, False, Report())
    same(frames_of(path, True, report), expected)
    same(frames_of(path, True, report, expected[30].pts, None, expected[12].pts), expected[30:])
    assert not report.counts


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("name", "format"),
    [("h264_nvenc", YUV420P), ("hevc_nvenc", YUV420P), ("hevc_nvenc", YUV420P10), ("av1_nvenc", YUV420P10)],
)
def test_the_gpu_encodes_what_it_is_given(tmp_path, name, format):
    codec = CODECS[name]
    if reason := codec.missing(320, 176, format):
        pytest.skip(reason)
    settings = EncodeSettings(name, codec.encoder, codec.options(None, None, {}, ColorSpec(), None, 1))
    ramp = [np.add.outer(np.arange(h), np.arange(w)) % 200 + 20 for h, w in format.plane_shapes(320, 176)]
    planes = tuple((plane << format.bits - 8).astype(format.dtype) for plane in ramp)
    path, seen = tmp_path / "a.mkv", []
    for _ in range(2):
        frames = [Frame(planes, i, 1) for i in range(30)]
        list(encode(frames, path, settings, format, ColorSpec(), Fraction(1, 24), Fraction(24), Fraction(1)))
        seen.append(video(path))
    assert seen[0] == seen[1] and len(seen[0]) == 30
    info = probe(path)
    assert info.video.format == format and info.video.color.matrix == "bt709" and not info.video.color.assumed
    for frame in decode(path, info.video, None, None, None, Report()):
        error = np.abs(frame.planes[0].astype(int) - planes[0]).mean() / (1 << format.bits - 8)
        assert error < 4
