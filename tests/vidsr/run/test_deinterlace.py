"""Whole runs of interlaced and telecined videos: proved, resumed, streamed; and what the proof does not let pass."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import read_numbers
from tests.media_fields import telecined, write_fields
from tests.running import quick, upscaled, vidsr
from vidsr import api
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.errors import Cancelled
from vidsr.report import Report
from vidsr.run.segments import MIN_FRAMES
from vidsr.source.decode import decode
from vidsr.source.fields import measure


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_fields(tmp_path_factory.mktemp("film") / "film.mkv", telecined(range(40)))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_fields(tmp_path_factory.mktemp("video") / "video.mkv", range(60), bottom_first=True)


def failures(source, result, **options):
    return {check.name for check in api.verify(source, result, **options).failures}


def packets_of(path):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


def retimed(source, target, change):
    """`source`'s video with `change` of the list of its packets."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in change([packet for packet in old.demux(video=0) if packet.size]):
            packet.stream = stream
            new.mux(packet)
    return target


def test_telecine_comes_out_as_film(film, tmp_path):
    report = Report()
    info = upscaled(film, tmp_path / "a.mkv", report)
    assert [number for _, number in read_numbers(tmp_path / "a.mkv")] == list(range(40))
    assert abs(info.video.rate / Fraction(24000, 1001) - 1) < 0.001 and not info.video.interlaced
    assert any("telecined: 23.976 pictures a second from 29.970" in line for line in report.lines)
    assert not failures(film, tmp_path / "a.mkv", scale=2)


def test_video_comes_out_without_combs(video, tmp_path):
    info = upscaled(video, tmp_path / "a.mkv")
    frames = decode(info.path, info.video, None, None, None, Report())
    assert measure(frames, info.video.format).own.max() < 0.3 and not info.video.interlaced
    upscaled(video, tmp_path / "b.mkv", deinterlace="bob")
    assert len(read_numbers(tmp_path / "b.mkv")) == 60
    assert not failures(video, tmp_path / "b.mkv", deinterlace="bob")
    assert "frame count" in failures(video, tmp_path / "b.mkv")


def test_combs_stay_where_that_is_asked_for_and_are_said(film, tmp_path):
    upscaled(film, tmp_path / "a.mkv", deinterlace="off")
    assert len(read_numbers(tmp_path / "a.mkv")) == 50
    assert not failures(film, tmp_path / "a.mkv", deinterlace="off")


def test_the_proof_sees_combs_that_were_left_in(video, tmp_path):
    upscaled(video, tmp_path / "a.mkv", deinterlace="off")
    assert failures(video, tmp_path / "a.mkv") >= {"combs"}


def test_the_proof_sees_pictures_and_times_of_the_telecine(film, tmp_path):
    upscaled(film, tmp_path / "off.mkv", deinterlace="off")
    assert "frame count" in failures(film, tmp_path / "off.mkv")
    right = upscaled(film, tmp_path / "a.mkv", codec="ffv1", preset=None).path

    def late(packets):
        for packet in packets[10:12]:
            packet.pts += 16
        return packets

    assert "timestamps" in failures(film, retimed(right, tmp_path / "late.mkv", late))
    assert "frame count" in failures(film, retimed(right, tmp_path / "short.mkv", lambda packets: packets[:-1]))
    assert not failures(film, retimed(right, tmp_path / "same.mkv", lambda packets: packets))


def test_parts_and_streams_have_the_same_pictures(film, tmp_path):
    upscaled(film, tmp_path / "part.mkv", start=0.5, duration=0.6)
    numbers = [number for _, number in read_numbers(tmp_path / "part.mkv")]
    assert numbers == list(range(12, 12 + len(numbers))) and 13 <= len(numbers) <= 15
    with open(tmp_path / "stream.mkv", "wb") as pipe:
        assert api.stream(film, pipe.fileno(), scale=2, backend="nearest", preset="ultrafast")
    assert [number for _, number in read_numbers(tmp_path / "stream.mkv")] == list(range(40))


def test_a_stopped_run_goes_on_with_what_was_decided(tmp_path):
    fields = [*telecined(range(150)), *range(200, 320), *telecined(range(400, 540))]
    source = write_fields(tmp_path / "a.mkv", fields[: len(fields) // 2 * 2])
    upscaled(source, tmp_path / "whole.mkv")
    output = tmp_path / "b.mkv"
    choices = {"scale": 2, "backend": "nearest", "preset": "ultrafast", "threads": 1}
    seen = []

    def stop():
        return bool(seen) and seen[-1].done > MIN_FRAMES

    with pytest.raises(Cancelled):
        api.plan(source, output, **choices).run(progress=seen.append, cancelled=stop)
    plan = json.loads((tmp_path / "b.mkv.vidsr" / "plan.json").read_text())
    assert sum(segment["packets"] for segment in plan["segments"]) < len(fields) / 2
    result = api.plan(source, output, **choices).run()
    assert any("as when this run was begun" in line for line in result.notes)
    assert result.proof is not None and result.proof.passed
    assert packets_of(output) == packets_of(tmp_path / "whole.mkv")


def test_cuts_between_segments_change_no_picture(tmp_path):
    fields = [*telecined(range(300)), *range(400, 600)]
    source = write_fields(tmp_path / "a.mkv", fields[: len(fields) // 2 * 2])
    upscaled(source, tmp_path / "a.2x.mkv", codec="ffv1", preset=None)
    job = prepare(source, Options(output=tmp_path / "b.mkv", scale=2, backend="nearest"), Report())
    found = read_numbers(tmp_path / "a.2x.mkv")
    assert len(found) == len(job.weaving)
    assert [number for _, number in found[:295]] == list(range(295))
    assert [pts for pts, _ in found] == job.weaving.pts.tolist()


def test_the_command_takes_and_explains_it(video, tmp_path):
    done = quick(video, "-o", tmp_path / "a.mkv", "--deinterlace", "bob", "--codec", "x264")
    assert done.returncode == 0 and "a picture for each field" in done.stderr
    assert quick(video, "-o", tmp_path / "b.mkv", "--deinterlace", "weave").returncode == 2
    assert np.diff([pts for pts, _ in read_numbers(tmp_path / "a.mkv")]).max() <= 18


def test_probe_tells_what_was_found(film, tmp_path):
    found = vidsr("probe", film)
    assert found.returncode == 0 and "telecined: 23.976 pictures a second from 29.970" in found.stdout
