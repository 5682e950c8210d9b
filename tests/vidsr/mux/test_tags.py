"""Tags on their levels, editions, dates and QuickTime's keys: what of them is kept, and what is said to be lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media import Track, write_episode
from tests.running import upscaled
from vidsr.mux.matroska import details as matroska
from vidsr.mux.matroska.details import MatroskaDetails, content_of, read_details
from vidsr.mux.matroska.ebml import children, element, master, text, to_text, uint
from vidsr.mux.matroska.restore import restore
from vidsr.proof.verify import verify
from vidsr.report import Report

TYPE_VALUE, TAG_LANGUAGE, TAG_BCP47, TAG_BINARY = 0x68CA, 0x447A, 0x447B, 0x4485


def simple(name: str, value: str | bytes = "", language: str = "", inside: bytes = b"") -> bytes:
    data = text(matroska.TAG_NAME, name)
    data += element(TAG_BINARY, value) if isinstance(value, bytes) else text(matroska.TAG_STRING, value)
    data += (text(TAG_LANGUAGE, "jpn") + text(TAG_BCP47, language)) if language else b""
    return master(matroska.SIMPLE_TAG, data + inside)


def tag(*simples: bytes, level: int = 0, track: int = 0, file: int = 0) -> bytes:
    targets = (uint(TYPE_VALUE, level) if level else b"") + (uint(matroska.TAG_TRACK_UID, track) if track else b"")
    targets += uint(matroska.TAG_ATTACHMENT_UID, file) if file else b""
    return master(matroska.TAG, master(matroska.TARGETS, targets) + b"".join(simples))


def tagged(path: Path, *tags: bytes) -> Path:
    files = read_details(path).attachments
    restore(path, [], MatroskaDetails(tags=master(matroska.TAGS, b"".join(tags)), attachments=files))
    return path


def tags_of(path: Path) -> list[bytes]:
    """Each tag but those by which FFmpeg describes its own file."""
    found = content_of(read_details(path).tags)
    own = (b"ENCODER", b"DURATION")
    tags = [each.raw for each in found if each.id == matroska.TAG]
    return [raw for raw in tags if not any(name in raw for name in own)]


@pytest.fixture
def series(tmp_path):
    fonts = [("a.ttf", "font/ttf", b"x" * 50), ("a.ttf", "font/ttf", b"y" * 60)]
    path = write_episode(tmp_path / "a.mkv", audio=[Track("aac", "ja"), Track("flac", "en")], attachments=fonts).path
    details = read_details(path)
    tracks, files = [track.uid for track in details.tracks], [file[2] for file in details.attachments]
    return tagged(
        path,
        tag(simple("TITLE", "シリーズ", "ja"), simple("TOTAL_PARTS", "2"), level=70),
        tag(simple("PART_NUMBER", "2"), level=60),
        tag(simple("DIRECTOR", "Someone", inside=simple("URL", "http://x")), simple("PICTURE", b"\0\1\2"), level=50),
        tag(simple("SOURCE", "BD"), simple("BPS", "1234"), simple("_STATISTICS_TAGS", "BPS"), track=tracks[1]),
        tag(simple("COMMENT", "a dub"), track=tracks[2]),
        tag(simple("COMMENT", "the second font"), file=files[1]),
    )


def test_tags_stay_on_their_levels(series, tmp_path):
    upscaled(series, tmp_path / "b.mkv")
    before, after = tags_of(series), tags_of(tmp_path / "b.mkv")
    assert after[:3] == before[:3] and after[4] == before[4]
    names = [[to_text(e.content) for s in children(each.content) for e in children(s.content)
              if s.id == matroska.SIMPLE_TAG and e.id == matroska.TAG_NAME]
             for each in content_of(read_details(tmp_path / "b.mkv").tags) if each.id == matroska.TAG]  # fmt: skip
    assert names[3] == ["SOURCE"]  # statistics describe another file
    font = read_details(tmp_path / "b.mkv").attachments[1]
    assert font[1] == 60 and uint(matroska.TAG_ATTACHMENT_UID, font[2]) in after[5]


def test_tags_in_a_stream(series, tmp_path):
    command = [sys.executable, "-m", "vidsr", str(series), "-o", "-", "--backend", "nearest", "--scale", "2"]
    (tmp_path / "b.mkv").write_bytes(subprocess.run(command, capture_output=True, timeout=120, check=True).stdout)
    assert tags_of(tmp_path / "b.mkv")[:3] == tags_of(series)[:3]


def test_tags_of_what_is_left_out_go_with_it(series, tmp_path):
    upscaled(series, tmp_path / "b.mkv", drop={"2", "attachment"})
    after = b"".join(tags_of(tmp_path / "b.mkv"))
    assert b"a dub" not in after and b"the second font" not in after and b"SOURCE" in after


def test_a_tag_that_is_lost_or_altered_is_noticed(series, tmp_path):
    upscaled(series, tmp_path / "b.mkv")
    assert verify(series, tmp_path / "b.mkv").passed
    for number, change in enumerate([(b"Someone", b"Nobody!"), (b"TOTAL_PARTS", b"TOTAL_PARTZ"), (b"a dub", b"a bud")]):
        bad = tmp_path / f"bad{number}.mkv"
        data = (tmp_path / "b.mkv").read_bytes()
        assert change[0] in data
        start = data.index(change[0])
        bad.write_bytes(data[:start] + change[1] + data[start + len(change[0]) :])
        assert [check.name for check in verify(series, bad).failures] == ["tags"]


def test_mkvtoolnix_reads_the_same_tags(series, tmp_path):
    if shutil.which("mkvextract") is None:
        pytest.skip("MKVToolNix is not installed")
    upscaled(series, tmp_path / "b.mkv")
    read = []
    for path in (series, tmp_path / "b.mkv"):
        subprocess.run(["mkvextract", path, "tags", tmp_path / "tags.xml"], check=True, capture_output=True)
        read.append((tmp_path / "tags.xml").read_text("utf-8-sig"))
    for words in ("<TargetTypeValue>70", "シリーズ", "<TagLanguageIETF>ja", "http://x", "a dub", "the second font"):
        assert words in read[0] and words in read[1]
    assert "BPS" not in read[1]
    seen = subprocess.run(["mkvmerge", "-J", tmp_path / "b.mkv"], check=True, capture_output=True, text=True).stdout
    assert '"errors": []' in seen and '"warnings": []' in seen


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return write_episode(folder / "a.mkv", frames=3).path


NAMES = st.text("ABCDEFGH_", min_size=1, max_size=12).filter(lambda name: not name.startswith(("BPS", "DURATION")))
SIMPLES = st.recursive(
    st.builds(simple, NAMES, st.text(max_size=20) | st.binary(max_size=40), st.sampled_from(["", "ja"])),
    lambda inner: st.builds(simple, NAMES, st.text(max_size=9), st.just(""), inner), max_leaves=4,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(st.builds(lambda s, level: tag(*s, level=level), st.lists(SIMPLES, min_size=1, max_size=4),
                          st.sampled_from([0, 30, 50, 60, 70])), min_size=1, max_size=5))  # fmt: skip
def test_any_tags_are_carried_byte_for_byte(small, tmp_path_factory, tags):
    path = tmp_path_factory.mktemp("tags") / "a.mkv"
    shutil.copyfile(small, path)
    tagged(path, *tags)
    assert tags_of(path) == tags
    with av.open(str(path)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 3


def test_the_date_and_the_name_by_which_others_find_it(tmp_path):
    source = write_episode(tmp_path / "a.mkv", metadata={"creation_time": "2011-04-07T01:02:03.000000Z"}).path
    restore(source, [], MatroskaDetails(links=element(0x73A4, b"0123456789abcdef")))
    upscaled(source, tmp_path / "b.mkv")
    assert read_details(tmp_path / "b.mkv").links == element(0x73A4, b"0123456789abcdef")
    with av.open(str(tmp_path / "b.mkv")) as file:
        assert file.metadata["creation_time"].startswith("2011-04-07T01:02:03")


@pytest.mark.parametrize(("date", "kept"), [("2016-05-31T17:01:35.000000Z", "2016-05-31T17:01:35"), ("long ago", "")])
def test_dates_written_in_another_way(tmp_path, date, kept):
    plain = write_episode(tmp_path / "p.mp4", options={"bf": "0"}).path
    with av.open(str(plain)) as old, av.open(str(tmp_path / "a.flv"), "w") as new:
        new.metadata["creation_time"] = date
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux():
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    written = date.replace("T", " ")
    (tmp_path / "a.flv").write_bytes((tmp_path / "a.flv").read_bytes().replace(date.encode(), written.encode()))
    with av.open(str(tmp_path / "a.flv")) as file:
        assert file.metadata["creation_time"] == written
    upscaled(tmp_path / "a.flv", tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as file:
        assert file.metadata.get("creation_time", "")[:19] == kept


def test_another_date_is_noticed(tmp_path):
    for name, year in (("a", 2016), ("b", 2017)):
        write_episode(tmp_path / f"{name}.mkv", metadata={"creation_time": f"{year}-05-31T17:01:35.000000Z"})
    wrong = [check for check in verify(tmp_path / "a.mkv", tmp_path / "b.mkv").checks if check.name == "tags"]
    assert [check.passed for check in wrong] == [False] and "date 2016" in wrong[0].detail


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_quicktimes_keys(tmp_path, suffix):
    source = tmp_path / "a.mov"
    tags = {"title": "T", "com.apple.quicktime.make": "Apple", "my.key": "値", "season_number": "2", "artist": "A"}
    plain = write_episode(tmp_path / "p.mp4").path
    flags = {"movflags": "use_metadata_tags"}
    with av.open(str(plain)) as old, av.open(str(source), "w", container_options=flags) as new:
        new.metadata.update(tags)
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux():
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    upscaled(source, tmp_path / f"b{suffix}")
    with av.open(str(tmp_path / f"b{suffix}")) as file:
        kept = {name.lower(): value for name, value in file.metadata.items()}
    assert {name: kept.get(name) for name in tags} == tags


def test_tags_that_many_programs_read_stay_as_they_are(tmp_path):
    """Without need of QuickTime's keys, which players of MP4 look into seldom, there are none."""
    source = write_episode(tmp_path / "a.mp4", metadata={"title": "T", "artist": "A", "show": "S"}).path
    upscaled(source, tmp_path / "b.mp4")
    data = (tmp_path / "b.mp4").read_bytes()
    assert b"\xa9nam" in data and b"tvsh" in data and b"mdta" not in data


def test_what_mp4_has_no_place_for_is_said_and_nothing_else_fails(series, tmp_path):
    report = Report()
    upscaled(series, tmp_path / "b.mp4", report, drop={"unsupported"})
    said = [line for line in report.lines if "MP4 has no place for the tags" in line]
    assert (len(said) == 1 and "EPISODE/DIRECTOR/URL" in said[0]) or "DIRECTOR/URL" in said[0]


def chaptered(path: Path, *editions: bytes) -> Path:
    restore(path, [], MatroskaDetails(chapters=master(matroska.CHAPTERS, b"".join(editions))))
    return path


def chapter(start: int, name: str = "", inside: bytes = b"") -> bytes:
    data = uint(matroska.CHAPTER_UID, start + 1) + uint(matroska.CHAPTER_START, start * 1_000_000)
    if name:
        words = text(matroska.CHAPTER_STRING, name) + text(matroska.CHAPTER_LANGUAGE, "jpn")
        data += master(matroska.CHAPTER_DISPLAY, words)
    return master(matroska.CHAPTER, data + inside)


def test_editions_are_kept_and_said(tmp_path):
    ordered = master(matroska.EDITION, uint(matroska.EDITION_DEFAULT, 1) + uint(0x45DD, 1) + chapter(0, "A"))
    source = write_episode(tmp_path / "a.mkv").path
    chaptered(source, ordered, master(matroska.EDITION, chapter(100, "B", element(0x6E67, b"u" * 16))))
    said = {
        ".mkv": "an order to play its parts in (2 editions): all of it is kept",
        ".mp4": "MP4 has no editions and no order of chapters: of 2 editions one list is kept",
    }
    for suffix, words in said.items():
        report = Report()
        upscaled(source, tmp_path / f"b{suffix}", report)
        assert sum(words in line for line in report.lines) == 1
        assert sum("play parts of other files" in line for line in report.lines) == 1
    assert read_details(tmp_path / "b.mkv").chapters == read_details(source).chapters


def test_mp4s_chapters_begin_where_they_did(tmp_path):
    """FFmpeg's MP4 would have the first at zero, whenever it began, and those without names nowhere."""
    source = write_episode(tmp_path / "a.mkv").path
    chaptered(source, master(matroska.EDITION, chapter(300, "Late") + chapter(500) + chapter(700, "Last")))
    report = Report()
    upscaled(source, tmp_path / "b.mp4", report)
    with av.open(str(tmp_path / "b.mp4")) as file:
        found = [(c["metadata"].get("title", ""), float(c["start"] * c["time_base"])) for c in file.chapters()]
    assert found == [("", 0.0), ("Late", 0.3), ("", 0.5), ("Last", 0.7)]
    assert any("keeps one name of each chapter, without its language" in line for line in report.lines)


def test_tags_that_are_no_utf8_are_kept_as_bytes(tmp_path):
    """Old AVI files have them in Shift JIS."""
    source = tmp_path / "a.avi"
    title = "第１話"
    with av.open(str(write_episode(tmp_path / "p.mkv").path)) as old, av.open(
        str(source), "w", metadata_encoding="cp932"
    ) as new:
        new.metadata["title"] = title
        stream = new.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in [*old.decode(video=0), None]:
            for packet in stream.encode(frame):
                new.mux(packet)
    upscaled(source, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv"), metadata_encoding="cp932") as file:
        assert file.metadata["title"] == title
