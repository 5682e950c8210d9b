"""The film is the track that has the pictures, wherever it stands; what stands beside it is copied, and said."""

from fractions import Fraction

import av
import pytest

from tests.media import draw, packets, read_number
from tests.running import Opens, upscaled
from vidsr.frames import Shape
from vidsr.proof.verify import verify
from vidsr.report import Report
from vidsr.source.probe import probe


def write_tracks(path, tracks):
    """tracks: (codec, pictures, pictures a second, size, whether it is the default)."""
    with av.open(str(path), "w") as result:
        queue = []
        for codec, count, rate, size, default in tracks:
            stream = result.add_stream(codec, rate=rate)
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = av.stream.Disposition.default if default else av.stream.Disposition(0)
            for number in range(count):
                frame = draw(number, size, stream.pix_fmt)
                frame.pts, frame.time_base = number, Fraction(1, rate)
                queue += stream.encode(frame)
            queue += stream.encode(None)
        for packet in sorted(queue, key=lambda p: p.dts * p.time_base):
            result.mux(packet)
    return path


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_thumbnails_before_the_film_are_copied_and_said(tmp_path, suffix, default):
    tracks = [("mjpeg", 3, 1, (32, 32), default), ("libx264", 48, 24, (64, 48), False)]
    source = write_tracks(tmp_path / f"source.{suffix}", tracks)
    said = []
    result = upscaled(source, tmp_path / f"result.{suffix}", Report(said.append))
    assert (result.video.index, result.video.width, result.video.height) == (1, 128, 96)
    with av.open(str(result.path)) as file:
        assert [read_number(frame) for frame in file.decode(file.streams[1])] == list(range(48))
    assert [p[2] for p in packets(result.path)[0]] == [p[2] for p in packets(source)[0]]
    assert any("#0 video mjpeg" in line and "copied as it is" in line and "--drop 0" in line for line in said)


def test_of_two_films_the_default_one_is_enlarged(tmp_path):
    tracks = [("libx264", 30, 24, (64, 48), False), ("libx264", 24, 24, (64, 48), True)]
    assert probe(write_tracks(tmp_path / "two.mkv", tracks)).video.index == 1


def test_one_video_track_is_not_read_to_be_counted(tmp_path):
    source = write_tracks(tmp_path / "one.mkv", [("libx264", 24, 24, (64, 48), False)])
    with Opens(source) as opens:
        assert probe(source).video.index == 0
        assert opens.count() == 1


def test_an_enlarged_thumbnail_track_is_not_taken_for_the_film(tmp_path):
    source = write_tracks(
        tmp_path / "source.mkv", [("mjpeg", 3, 1, (32, 32), True), ("libx264", 48, 24, (64, 48), False)]
    )
    wrong = write_tracks(
        tmp_path / "wrong.mkv", [("mjpeg", 3, 1, (64, 64), True), ("libx264", 48, 24, (64, 48), False)]
    )
    proof = verify(source, wrong, Shape(128, 96, Fraction(1)))
    assert {"size"} <= {check.name for check in proof.failures}
    assert any("mjpeg" in check.name for check in proof.failures)
