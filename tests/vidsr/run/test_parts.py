"""A part of a source counts from its first picture, for every track alike, wherever the file's own times begin."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from tests.media import Track, read_numbers, write_episode
from tests.media_times import RATE, moved, remuxed, times
from tests.running import upscaled, vidsr
from vidsr.frames import TimeRange
from vidsr.proof.verify import verify
from vidsr.report import Report

LATE = 1400  # ms at which the file begins
CHAPTERS = [(LATE, {"en": "One"}), (LATE + 1000, {"en": "Two"}), (LATE + 3200, {"en": "Three"})]


@pytest.fixture(scope="module", params=["a.mkv", "a.ts"])
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    mkv = folder / "late.mkv"
    write_episode(
        mkv, pts=[LATE + 40 * i for i in range(150)], rate=RATE, keyframes=12,
        audio=[Track("mp2", "ja", offset=LATE - 10), Track("mp2", "en", offset=LATE + 2000)],
        subtitles=[Track("subrip", "en", offset=LATE)] if request.param == "a.mkv" else [], chapters=CHAPTERS,
    )  # fmt: skip
    if request.param == "a.mkv":
        return mkv
    remuxed(mkv, folder / request.param)
    return folder / request.param


def chapters(path):
    with av.open(str(path)) as file:
        return [(c["metadata"]["title"], float(c["start"] * c["time_base"])) for c in file.chapters()]


@pytest.mark.parametrize(("start", "duration"), [(0.0, 3.0), (1.0, 2.0), (2.52, None)])
def test_every_track_ends_with_the_picture(source, tmp_path, start, duration):
    upscaled(source, tmp_path / "b.mkv", start=start, duration=duration)
    picture = times(tmp_path / "b.mkv", "video")
    first = min(picture)
    assert first == 0 if start else first == pytest.approx(min(times(source, "video")), abs=0.001)
    length = 6.0 - start if duration is None else duration
    assert len(picture) == round(length * 25)
    sound = times(tmp_path / "b.mkv", "audio")
    assert min(sound) == pytest.approx(first, abs=0.03)
    if duration is not None:
        assert max(sound) == pytest.approx(first + length, abs=0.03)
    with av.open(str(tmp_path / "b.mkv")) as file:
        late = [float(p.pts * p.time_base) for p in file.demux(file.streams.audio[1]) if p.size]
    assert min(late) == pytest.approx(first + max(2.0 - start, 0), abs=0.03), "what begins later stays later"
    if source.suffix == ".mkv":
        whole = [("One", 0.0), ("Two", 1.0), ("Three", 3.2)]
        ends = [begin for _, begin in whole[1:]] + [99.0]
        kept = [(t, max(b - start, 0)) for (t, b), e in zip(whole, ends) if e > start and b < start + length]
        assert [title for title, _ in chapters(tmp_path / "b.mkv")] == [title for title, _ in kept]
        for (_, found), (_, wanted) in zip(chapters(tmp_path / "b.mkv"), kept):
            assert found == pytest.approx(first + wanted, abs=0.002)


def test_the_proof_of_a_part_wants_its_end_and_its_chapters(source, tmp_path):
    upscaled(source, tmp_path / "b.mkv", duration=3.0)
    span = TimeRange(0.0, 3.0)
    assert verify(source, tmp_path / "b.mkv", span=span).passed

    def short(packet):
        return False if packet.stream.type == "audio" and packet.pts > 3000 else None

    remuxed(tmp_path / "b.mkv", tmp_path / "c.mkv", short)
    failed = {check.name.split()[0] for check in verify(source, tmp_path / "c.mkv", span=span).failures}
    assert "audio" in failed
    if source.suffix == ".mkv":
        remuxed(tmp_path / "b.mkv", tmp_path / "d.mkv", chapters=False)
        assert "chapters" in {check.name for check in verify(source, tmp_path / "d.mkv", span=span).failures}


def test_a_hole_is_told(tmp_path):
    write_episode(tmp_path / "a.mkv", frames=250, rate=RATE, time_base=1 / RATE, audio=[Track("mp2", "ja")])

    def hole(packet):
        return False if 3 <= packet.pts * packet.time_base < 5 else None

    remuxed(tmp_path / "a.mkv", tmp_path / "b.mkv", hole)
    report = Report()
    upscaled(tmp_path / "b.mkv", tmp_path / "c.mkv", report)
    assert any("s of the picture are missing at 0:0" in line for line in report.lines)
    assert "s of the picture are missing at 0:0" in vidsr("probe", tmp_path / "b.mkv").stdout

    def held(packet):
        return hole(packet) if packet.stream.type == "video" else None

    remuxed(tmp_path / "a.mkv", tmp_path / "d.mkv", held)
    report = Report()
    upscaled(tmp_path / "d.mkv", tmp_path / "e.mkv", report)
    assert not any("missing" in line for line in report.lines), "sound goes on: a picture is held"
    assert len(read_numbers(tmp_path / "e.mkv")) == len(read_numbers(tmp_path / "d.mkv"))


def test_a_file_far_from_zero(tmp_path):
    write_episode(tmp_path / "a.mp4", frames=50, rate=RATE, time_base=1 / RATE, audio=[Track("mp2", "ja")])
    moved(tmp_path / "a.mp4", tmp_path / "b.ts", Fraction(36_000))
    upscaled(tmp_path / "b.ts", tmp_path / "c.mkv", start=0.4, duration=1.0)
    assert len(read_numbers(tmp_path / "c.mkv")) == 25
