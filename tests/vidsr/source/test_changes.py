"""Pictures that change in mid-stream: found while planning, all brought to one size, in their shape on the screen."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import draw
from tests.running import quick, upscaled, vidsr
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.container import read_clock
from vidsr.frames import TimeRange
from vidsr.proof.verify import verify
from vidsr.report import Report
from vidsr.run.segments import Segment
from vidsr.source.changes import look_through
from vidsr.source.decode import decode
from vidsr.source.probe import probe

FPS = 25


def write_parts(path, parts, codec="libx264", options=(), gop=12):
    """A transport stream of parts one after the other, as cutting broadcasts makes it.

    parts: (number of pictures, size, sample aspect, pixel format, attributes of the encoder, draw).
    """
    first = 0
    pieces = []
    for number, (count, size, aspect, pix_fmt, attributes, painted) in enumerate(parts):
        piece = path.with_name(f"part{number}.ts")
        with av.open(str(piece), "w") as result:
            stream = result.add_stream(codec, rate=FPS, options=dict(options))
            context = stream.codec_context
            context.width, context.height, context.pix_fmt, context.gop_size = *size, pix_fmt, gop
            context.sample_aspect_ratio, context.time_base = aspect, Fraction(1, FPS)
            for name, value in attributes.items():
                setattr(context, name, value)
            for i in range(first, first + count):
                frame = painted(i, size, pix_fmt)
                frame.pts, frame.time_base = FPS + i, Fraction(1, FPS)  # nothing before zero, which would move a part
                result.mux(stream.encode(frame))
            result.mux(stream.encode(None))
        pieces.append(piece.read_bytes())
        first += count
    path.write_bytes(b"".join(pieces))
    return path


def part(count, size, aspect=1, pix_fmt="yuv420p", painted=draw, **attributes):
    return count, size, Fraction(aspect), pix_fmt, attributes, painted


def flat(levels):
    def painted(number, size, pix_fmt):
        frame = av.VideoFrame(*size, pix_fmt)
        for plane, level in zip(frame.planes, levels):
            np.frombuffer(memoryview(plane), np.uint8)[:] = level
        return frame

    return painted


def frames_of(info, report=None):
    return list(decode(info.path, info.video, None, None, None, report or Report()))


@pytest.fixture(scope="module")
def wide_and_wider(tmp_path_factory):
    folder = tmp_path_factory.mktemp("changes")
    return write_parts(folder / "source.ts", [part(40, (128, 96)), part(20, (160, 96)), part(30, (128, 96), "4/3")])


def test_the_size_most_pictures_have_is_everyones_and_said_before(wide_and_wider, tmp_path):
    said = []
    job = prepare(wide_and_wider, Options(output=tmp_path / "r.mkv", scale=2, backend="nearest"), Report(said.append))
    video = job.info.video
    assert (video.width, video.height, video.sample_aspect) == (128, 96, 1)
    assert [(p.width, p.height, p.sample_aspect) for p in video.parts] == [
        (128, 96, 1), (160, 96, 1), (128, 96, Fraction(4, 3)),
    ]  # fmt: skip
    assert any("160x96 from 1.6 s" in line and "fitted into 128x96" in line for line in said)
    assert job.settings["fitted into"][:2] == [128, 96]


def test_the_part_asked_for_decides(wide_and_wider):
    inside = look_through(probe(wide_and_wider), TimeRange(1.7, 2.2)).video
    assert (inside.width, inside.height, inside.parts) == (160, 96, ())


def test_a_run_over_changes_is_proved(wide_and_wider, tmp_path):
    result = upscaled(wide_and_wider, tmp_path / "result.mkv").video
    assert (result.width, result.height, result.parts) == (256, 192, ())
    result = upscaled(wide_and_wider, tmp_path / "part.mkv", start=1.7, duration=0.5).video
    assert (result.width, result.height) == (320, 192)


def test_the_shape_on_the_screen_stays_and_bars_fill_the_rest(wide_and_wider):
    info = look_through(probe(wide_and_wider))
    frames = frames_of(info)
    assert len(frames) == 90 and all(frame.planes[0].shape == (96, 128) for frame in frames)
    letterboxed, wide = frames[50], frames[80]  # 5:3 and 16:9 in 4:3
    for frame, rows in ((letterboxed, 76), (wide, 72)):
        luma, blue, red = (plane.astype(int) for plane in frame.planes)
        top = (96 - rows) // 2 // 2 * 2
        assert (luma[:top] == 16).all() and (luma[top + rows :] == 16).all() and (luma[top + 4] > 40).any()
        assert (blue[: top // 2] == 128).all() and (red[: top // 2] == 128).all()
    painted = draw(80, (128, 96))
    (before,) = (np.frombuffer(p, np.uint8).reshape(96, p.line_size)[:, :128] for p in painted.planes[:1])
    assert abs(wide.planes[0][12:84].mean() - before.mean()) < 2, "the whole picture lies between the bars"


@pytest.mark.parametrize("cuts", [(0, 30, 55, 90), (0, 41, 42, 62, 90), (0, 13, 39, 40, 59, 60, 61, 90)])
def test_frames_are_the_same_wherever_the_cuts_lie(wide_and_wider, cuts):
    info = look_through(probe(wide_and_wider))
    whole, clock = frames_of(info), read_clock(info.path, info.video)
    times = [*clock.pts, None]
    found = []
    for index, (a, b) in enumerate(zip(cuts, cuts[1:])):
        keys = [key for key in clock.keyframes if key <= clock.pts[a]]
        segment = Segment(index, times[a], times[b], keys[-2] if len(keys) > 1 else None, b - a)
        found += list(decode(info.path, info.video, segment.start, segment.end, segment.seek, Report()))
    assert [frame.pts for frame in found] == [frame.pts for frame in whole]
    for one, other in zip(found, whole):
        assert all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes))


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264", "libx265"])
def test_no_picture_is_lost_where_the_size_changes(tmp_path, codec):
    parts = [part(30, (128, 96)), part(20, (160, 96)), part(30, (128, 96))]
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {"bf": "2"}
    source = write_parts(tmp_path / "source.ts", parts, codec, options.items())
    assert len(frames_of(look_through(probe(source)))) == 80


def test_a_change_that_was_not_foreseen_is_fitted_and_counted(wide_and_wider):
    report, info = Report(), probe(wide_and_wider)
    assert info.video.parts == ()
    frames, planned = frames_of(info, report), frames_of(look_through(info))
    assert list(report.counts.values()) == [50] and "fitted into 128x96" in next(iter(report.counts))
    for one, other in zip(frames, planned, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes))


def test_a_stream_says_beforehand_that_it_does_not_look_and_goes_on(wide_and_wider, tmp_path):
    done = quick(wide_and_wider, "-o", tmp_path / "result.mkv")
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "vidsr", str(wide_and_wider), "-o", "-", "--backend", "nearest", "--scale", "2"]
    with open(tmp_path / "streamed.mkv", "wb") as file:
        streamed = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, timeout=120)
    assert streamed.returncode == 0 and "not looked through" in streamed.stderr and "50 pictures" in streamed.stderr
    assert vidsr("verify", wide_and_wider, tmp_path / "streamed.mkv").returncode == 0


def test_depth_and_colour_are_brought_to_those_of_most(tmp_path):
    in_601, in_709 = (157, 75, 160), _yuv(_rgb((157, 75, 160), 0.299, 0.114), 0.2126, 0.0722)
    bt601 = {"colorspace": 5, "color_primaries": 1, "color_trc": 1, "color_range": 1}
    bt709 = {**bt601, "colorspace": 1}
    source = write_parts(
        tmp_path / "source.ts",
        [
            part(10, (64, 48), painted=flat(in_601), **bt601),
            part(30, (128, 96), painted=flat(in_709), **bt709),
            part(10, (128, 96), pix_fmt="yuv420p10le"),
        ],
        options={"crf": "4"}.items(),
    )
    info = look_through(probe(source))
    assert (info.video.width, info.video.format.name, info.video.color.matrix) == (128, "yuv420p", "bt709")
    frames = frames_of(info)
    assert len(frames) == 50 and all(plane.dtype == np.uint8 for frame in frames for plane in frame.planes)
    rgb601 = _rgb(in_601, 0.299, 0.114)
    for number in (2, 20):
        means = [float(plane.mean()) for plane in frames[number].planes]
        assert np.abs(np.array(_rgb(means, 0.2126, 0.0722)) - rgb601).max() < 4, (number, means)


def _rgb(levels, kr, kb):
    y, b, r = ((levels[0] - 16) / 219, (levels[1] - 128) / 224, (levels[2] - 128) / 224)
    red, blue = y + 2 * (1 - kr) * r, y + 2 * (1 - kb) * b
    return np.array([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue]) * 255


def _yuv(rgb, kr, kb):
    red, green, blue = rgb / 255
    y = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = 128 + 112 * (blue - y) / (1 - kb), 128 + 112 * (red - y) / (1 - kr)
    return tuple(round(level) for level in (16 + 219 * y, *chroma))


def test_fields_of_interlaced_parts_are_not_mixed(tmp_path):
    def combed(number, size, pix_fmt):
        frame = flat((60, 128, 128))(number, size, pix_fmt)
        plane = frame.planes[0]
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[1::2] = 200
        return frame

    options = {"flags": "+ildct+ilme", "top": "1", "qscale": "1", "b": "4M"}.items()
    parts = [part(30, (128, 96)), part(12, (128, 64), aspect="2/3", painted=combed)]
    source = write_parts(tmp_path / "source.ts", parts, "mpeg2video", options)
    last = frames_of(look_through(probe(source)))[-1].planes[0].astype(int)
    assert abs(last[0::2].mean() - 60) < 8 and abs(last[1::2].mean() - 200) < 8


def wrong_result(path, source, painted):
    """A result whose times and tags are right, its pictures made by `painted` from those decoded in their own size."""
    with av.open(str(source)) as file, av.open(str(path), "w") as result:
        stream = result.add_stream("libx264", rate=FPS, options={"crf": "10", "preset": "ultrafast"})
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = 256, 192, "yuv420p"
        context.time_base = stream.time_base = file.streams.video[0].time_base
        context.sample_aspect_ratio = Fraction(1)
        for name, value in {"colorspace": 6, "color_primaries": 1, "color_trc": 1, "color_range": 1}.items():
            setattr(context, name, value)
        for frame in file.decode(video=0):
            large = painted(frame)
            large.pts, large.time_base = frame.pts, file.streams.video[0].time_base
            large.pict_type = 0
            result.mux(stream.encode(large))
        result.mux(stream.encode(None))
    return path


def test_a_part_that_was_stretched_out_of_shape_does_not_pass(wide_and_wider, tmp_path):
    wrong = wrong_result(tmp_path / "wrong.mkv", wide_and_wider, lambda frame: frame.reformat(256, 192, threads=1))
    assert [check.name for check in verify(wide_and_wider, wrong).failures] == ["picture", "colour shift"]


def test_a_result_that_changes_itself_does_not_pass(wide_and_wider, tmp_path):
    wrong = write_parts(tmp_path / "wrong.ts", [part(40, (256, 192)), part(20, (320, 192)), part(30, (256, 192))])
    failed = {check.name: check for check in verify(wide_and_wider, wrong).failures}
    assert "256x192 and 320x192" in failed["size"].detail


def test_what_only_later_pictures_carry_is_said(tmp_path):
    captions = bytes([0xB5, 0, 0x31]) + b"GA94" + bytes([3, 0xC1, 0xFF, 0xFC, 0x94, 0x2C, 0xFF])
    message = b"\0\0\0\1\x06\x04" + bytes([len(captions)]) + captions + b"\x80"
    path = tmp_path / "captions.ts"
    with av.open(str(path), "w") as result:
        stream = result.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = 64, 48, "yuv420p", 20
        for number in range(120):
            frame = draw(number)
            frame.pts = number
            for packet in stream.encode(frame):
                if packet.is_keyframe and number >= 80:
                    changed = av.Packet(message + bytes(packet))
                    changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                    changed.stream, changed.is_keyframe = stream, True
                    packet = changed
                result.mux(packet)
        result.mux(stream.encode(None))
    assert probe(path).video.lost == ()
    assert look_through(probe(path)).video.lost == ("closed captions inside the video",)
