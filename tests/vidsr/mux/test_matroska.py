"""ebml.py, details.py and restore.py: what FFmpeg's muxer leaves out is read from a source and put back in place."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidsr.errors import OutputError
from vidsr.mux.matroska import details as matroska
from vidsr.mux.matroska import ebml
from vidsr.mux.matroska.details import MatroskaDetails, TrackDetails, read_details
from vidsr.mux.matroska.ebml import EbmlError, children, master, text, uint
from vidsr.mux.matroska.restore import TrackPatch, display_size, restore

FRAMES, SIZE = 30, (64, 48)


# ---- making files ---------------------------------------------------------------------------------------------------


def chapters_element(names: list[dict[str, str]], padding: int = 0) -> bytes:
    """names: for each chapter, {BCP-47 language: name}; padding: bytes added to the first English name."""
    atoms = b""
    for i, by_language in enumerate(names):
        displays = b"".join(
            master(
                matroska.CHAPTER_DISPLAY,
                text(matroska.CHAPTER_STRING, name + "x" * (padding if (i, language) == (0, "en") else 0))
                + text(matroska.CHAPTER_LANGUAGE, {"ja": "jpn", "en": "eng"}[language])
                + text(matroska.CHAPTER_BCP47, language),
            )
            for language, name in by_language.items()
        )
        start = uint(matroska.CHAPTER_START, i * 400_000_000)
        atoms += master(matroska.CHAPTER, uint(matroska.CHAPTER_UID, 1000 + i) + start + displays)
    flags = uint(0x45BC, 99) + uint(matroska.EDITION_DEFAULT, 1)  # 0x45BC: EditionUID
    return master(matroska.CHAPTERS, master(matroska.EDITION, flags + atoms))


BILINGUAL = chapters_element([{"en": "Opening", "ja": "オープニング"}, {"en": "Part A", "ja": "Aパート"}])


def header(doc_type: str = "matroska") -> bytes:
    return master(matroska.EBML, uint(0x4286, 1) + text(matroska.DOC_TYPE, doc_type))


def track_entry(number: int, kind: int, **more: bytes) -> bytes:
    return master(
        matroska.TRACK_ENTRY,
        uint(matroska.TRACK_NUMBER, number) + uint(matroska.TRACK_UID, 500 + number) + uint(matroska.TRACK_TYPE, kind)
        + text(matroska.CODEC_ID, "V_AV1" if kind == 1 else "A_FLAC") + b"".join(more.values()),
    )  # fmt: skip


VIDEO_ELEMENT = master(
    matroska.VIDEO, uint(0xB0, 720) + uint(0xBA, 480) + uint(matroska.DISPLAY_WIDTH, 4)
    + uint(matroska.DISPLAY_HEIGHT, 3) + uint(matroska.DISPLAY_UNIT, 3),
)  # fmt: skip
TRACKS_ELEMENT = master(
    matroska.TRACKS,
    track_entry(1, 1, duration=uint(matroska.DEFAULT_DURATION, 41708333), video=VIDEO_ELEMENT)
    + track_entry(2, 2, language=text(matroska.LANGUAGE, "eng"), bcp47=text(matroska.LANGUAGE_BCP47, "en-GB")),
)
LINK = ebml.element(matroska.LINKS[0], bytes(range(16)))
INFO_ELEMENT = master(matroska.INFO, text(matroska.TITLE, "The title") + LINK)
CLUSTER = ebml.element(matroska.CLUSTER, uint(0xE7, 0) + ebml.element(0xA3, b"\x81\0\0\x80" + bytes(40)))


def source_bytes(*level1: bytes, size: int | None = None) -> bytes:
    content = b"".join(level1)
    return header() + ebml.element(matroska.SEGMENT, content, 8)


EXPECTED = MatroskaDetails(
    tracks=(
        TrackDetails(
            1, 501, 1, "V_AV1", default_duration=41708333, pixels=(720, 480), display=(4, 3), display_unit=3
        ),
        TrackDetails(2, 502, 2, "A_FLAC", language="eng", language_bcp47="en-GB"),
    ),
    chapters=BILINGUAL,
    title="The title",
    links=LINK,
)  # fmt: skip


def mux(path: Path, *, chapters: int = 2, tags: bool = True, attachment: int = 0, crc: bool = True) -> None:
    """A file as FFmpeg makes it: FFV1 pictures (no aspect in the bitstream) and FLAC sound, several Clusters."""
    options = {"cluster_time_limit": "200", "write_crc32": str(int(crc))}
    with av.open(str(path), "w", format="matroska", container_options=options) as result:
        if tags:
            result.metadata["comment"] = "kept"
        result.metadata["title"] = "Muxed title"
        if chapters:
            result.set_chapters([
                {"id": i + 1, "start": i * 400, "end": i * 400 + 400, "time_base": Fraction(1, 1000),
                 "metadata": {"title": f"C{i}"}} for i in range(chapters)
            ])  # fmt: skip
        video = result.add_stream("ffv1", rate=24)
        video.width, video.height, video.pix_fmt, video.gop_size = *SIZE, "yuv420p", 6
        audio = result.add_stream("flac", rate=48000)
        audio.metadata["language"] = "eng"
        if attachment:
            result.add_attachment("a.ttf", "font/ttf", bytes(attachment))
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((SIZE[1] * 3 // 2, SIZE[0]), 16 + 7 * i, np.uint8), "yuv420p")
            frame.pts = i
            result.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(np.full((1, 4000), 100 * i, np.int16), "s16", "stereo")
            sound.sample_rate, sound.pts = 48000, i * 2000
            result.mux(audio.encode(sound))
        result.mux(video.encode(None))
        result.mux(audio.encode(None))


def packets(path: Path) -> list[tuple[object, ...]]:
    with av.open(str(path)) as file:
        return [(p.stream_index, p.pts, p.dts, p.duration, bytes(p)) for p in file.demux() if p.size]


def level1(path: Path) -> list[ebml.Element]:
    with open(path, "rb") as file:
        segment = matroska.find_segment(file)
        assert segment.end == path.stat().st_size, "the Segment's size must be that of the file"
        return list(ebml.walk(file, segment.body, segment.end))


def check_structure(path: Path) -> None:
    """Every SeekHead entry points at its element, every important element has one, every CRC-32 is true."""
    data, items = path.read_bytes(), level1(path)
    assert items[0].id == matroska.SEEK_HEAD
    base = items[0].start
    where = {(item.id, item.start - base) for item in items}
    seeks = set()
    for seek in matroska.content_of(data[items[0].start : items[0].end]):
        if seek.id == matroska.SEEK:
            values = {child.id: ebml.to_uint(child.content) for child in children(seek.content)}
            seeks.add((values[matroska.SEEK_ID], values[matroska.SEEK_POSITION]))
    assert seeks == {(i, at) for i, at in where if i not in (matroska.SEEK_HEAD, ebml.VOID, matroska.CLUSTER)}
    for item in items:
        (outer,) = children(data[item.start : item.end])
        first = next(children(outer.content), None) if item.id != ebml.VOID else None
        if first is not None and first.id == ebml.CRC32:
            assert master(item.id, outer.content[6:], checked=True)[-len(outer.content) :] == outer.content
    if mkvmerge := shutil.which("mkvmerge"):
        answer = json.loads(subprocess.run([mkvmerge, "-J", str(path)], capture_output=True, check=False).stdout)
        assert (answer["errors"], answer["warnings"]) == ([], [])
        remux = subprocess.run([mkvmerge, "-q", "-o", f"{path}.re.mkv", str(path)], capture_output=True, check=False)
        assert remux.returncode == 0, remux.stdout.decode()


# ---- numbers and elements -------------------------------------------------------------------------------------------


@given(st.integers(0, (1 << 56) - 2))
def test_sizes_survive_the_round_trip(size: int) -> None:
    data = ebml.encode_size(size)
    assert ebml.read_size(data, 0) == (size, len(data))
    assert ebml.read_size(ebml.encode_size(size, 8), 0) == (size, 8)


@pytest.mark.parametrize(("size", "length"), [(126, 1), (127, 2), (16382, 2), (16383, 3)])
def test_all_ones_are_kept_for_unknown_sizes(size: int, length: int) -> None:
    assert len(ebml.encode_size(size)) == length
    assert ebml.read_size(b"\xff", 0) == (None, 1)
    assert ebml.read_size(b"\x01" + b"\xff" * 7, 0) == (None, 8)


def test_a_size_that_fits_no_field_is_refused() -> None:
    for size, length in ((127, 1), (-1, None), (1 << 56, None)):
        with pytest.raises(EbmlError):
            ebml.encode_size(size, length)


@given(st.lists(st.tuples(st.sampled_from([0xEC, 0x4DBB, 0x22B59D, 0x1654AE6B]), st.binary(max_size=300)), max_size=5))
def test_elements_survive_the_round_trip(pieces: list[tuple[int, bytes]]) -> None:
    data = b"".join(ebml.element(*piece) for piece in pieces)
    found = list(children(data))
    assert [(child.id, child.content) for child in found] == pieces
    assert b"".join(child.raw for child in found) == data
    walked = list(ebml.walk(io.BytesIO(data), 0, len(data)))
    assert [(e.id, data[e.body : e.end]) for e in walked] == pieces


@given(st.integers(2, 1000))
def test_fillers_are_as_long_as_asked(size: int) -> None:
    (filler,) = children(ebml.void(size))
    assert (filler.id, len(filler.raw)) == (ebml.VOID, size)


@given(st.integers(0, (1 << 64) - 1))
def test_unsigned_integers_survive_the_round_trip(value: int) -> None:
    (child,) = children(uint(matroska.TRACK_UID, value))
    assert ebml.to_uint(child.content) == value


# ---- reading --------------------------------------------------------------------------------------------------------


def layouts() -> dict[str, bytes]:
    late = INFO_ELEMENT + TRACKS_ELEMENT + CLUSTER * 3
    seek_size = len(seek_head(0))
    return {
        "in front": source_bytes(INFO_ELEMENT, ebml.void(20), TRACKS_ELEMENT, BILINGUAL, CLUSTER),
        "after the clusters": source_bytes(late, BILINGUAL),
        "by SeekHead": source_bytes(seek_head(seek_size + len(late)), late, BILINGUAL),
        "by a SeekHead that lies": source_bytes(seek_head(3), late, BILINGUAL),
        "unknown sizes": header() + unknown(matroska.SEGMENT) + INFO_ELEMENT + TRACKS_ELEMENT
        + (unknown(matroska.CLUSTER) + CLUSTER[8:] + uint(0xE7, 4)) * 2 + BILINGUAL,
        "a Segment longer than the file": source_bytes(late, BILINGUAL + CLUSTER)[: -len(CLUSTER)],
    }  # fmt: skip


def unknown(element_id: int) -> bytes:
    return element_id.to_bytes(4, "big") + b"\x01" + b"\xff" * 7


def seek_head(position: int) -> bytes:
    number = ebml.element(matroska.SEEK_POSITION, position.to_bytes(4, "big"))
    return master(matroska.SEEK_HEAD, master(matroska.SEEK, uint(matroska.SEEK_ID, matroska.CHAPTERS) + number))


@pytest.mark.parametrize("name", layouts())
def test_details_are_found_wherever_they_lie(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(layouts()[name])
    assert read_details(path) == EXPECTED
    assert EXPECTED.tracks[0].sample_aspect == Fraction(8, 9)


@pytest.mark.parametrize("data", [b"", b"\x1a", b"RIFF....AVI ", b"\0\0\0\x20ftypisom", header("dummy") + b"\x18"])
def test_other_formats_have_no_details(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(data)
    assert read_details(path) is None


def test_crop_counts_for_the_aspect() -> None:
    track = TrackDetails(pixels=(720, 576), crop=(8, 0, 8, 0), display=(704, 528))
    assert (track.visible, track.sample_aspect) == ((704, 576), Fraction(12, 11))
    assert TrackDetails(pixels=(720, 576), crop=(720, 0, 0, 0), display=(4, 3)).sample_aspect is None
    assert TrackDetails(pixels=(720, 576), display=(4, 3), display_unit=matroska.UNKNOWN).sample_aspect is None


def test_damaged_chapters_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    broken = bytearray(BILINGUAL)
    broken[BILINGUAL.index(b"\x80", 20) + 1] = 0xFE  # a ChapterDisplay longer than its parent
    path.write_bytes(source_bytes(INFO_ELEMENT, TRACKS_ELEMENT, bytes(broken), CLUSTER))
    details = read_details(path)
    assert details is not None and details.chapters is None and details.tracks == EXPECTED.tracks


def test_chapters_nested_without_end_are_left_out(tmp_path: Path) -> None:
    path, nested = tmp_path / "a.mkv", b""
    for _ in range(2000):
        nested = master(matroska.CHAPTER, nested)
    path.write_bytes(source_bytes(TRACKS_ELEMENT, master(matroska.CHAPTERS, master(matroska.EDITION, nested)), CLUSTER))
    details = read_details(path)
    assert details is not None and details.chapters is None


# ---- hostile files: never raises, never hangs -----------------------------------------------------------------------


@settings(deadline=2000)
@given(st.binary(max_size=400), st.booleans())
def test_random_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, behind_a_header: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "random.mkv"
    path.write_bytes(header() + unknown(matroska.SEGMENT) + data if behind_a_header else data)
    read_details(path)


def test_every_truncation(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    whole = layouts()["by SeekHead"]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        details = read_details(path)
        assert details is None or details.tracks in ((), EXPECTED.tracks)
        with pytest.raises(OutputError):
            restore(path, [TrackPatch(0, sample_aspect=Fraction(1))])
        assert path.read_bytes() == whole[:length]


@pytest.mark.parametrize("name", layouts())
def test_bit_flips(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    whole = layouts()[name]
    for bit in range(0, 8 * len(whole), 7):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        read_details(path)


def test_bit_flips_of_a_finished_file_never_break_restore_otherwise(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.mkv", tmp_path / "whole.mkv"
    mux(whole)
    good = whole.read_bytes()
    for bit in range(0, 8 * 1400, 5):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            restore(path, [TrackPatch(0, source=0), TrackPatch(1, source=1)], EXPECTED)
        except OutputError:
            assert path.read_bytes() == data, "a refusal writes nothing"


def test_many_tiny_elements_end_soon(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(header() + unknown(matroska.SEGMENT) + ebml.void(2) * 600_000 + TRACKS_ELEMENT)
    assert read_details(path) == MatroskaDetails()


# ---- restoring ------------------------------------------------------------------------------------------------------

PATCHES = [TrackPatch(0, source=0, sample_aspect=Fraction(8, 9)), TrackPatch(1, source=1)]


@pytest.mark.parametrize("crc", [True, False])
@pytest.mark.parametrize("attachment", [0, 20_000])
@pytest.mark.parametrize("chapters", [0, 2])
@pytest.mark.parametrize("padding", [0, 3000])
def test_everything_is_restored(tmp_path: Path, crc: bool, attachment: int, chapters: int, padding: int) -> None:
    path = tmp_path / "a.mkv"
    mux(path, crc=crc, attachment=attachment, chapters=chapters)
    before = packets(path)
    names = chapters_element([{"en": "Opening", "ja": "オープニング"}, {"en": "Part A"}], padding)
    source = MatroskaDetails(EXPECTED.tracks, names, "The title", LINK)
    lines = restore(path, PATCHES, source)
    assert len(lines) == 6, lines

    check_structure(path)
    after = read_details(path)
    assert after is not None
    assert (after.chapters, after.title, after.links) == (names, "The title", LINK)
    assert after.tracks[1].language_bcp47 == "en-GB" and after.tracks[1].language == "eng"
    assert [track.uid for track in after.tracks] == [501, 502]
    assert after.tracks[0].sample_aspect == Fraction(8, 9) and after.tracks[0].default_duration == 41708333
    with av.open(str(path)) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(8, 9)
        assert file.metadata["COMMENT"] == "kept"
        assert file.metadata["TITLE"] == "Muxed title"  # a title that a tag gave stays one, beside the segment's
        assert {s.metadata["DURATION"][:8] for s in (file.streams.video[0], file.streams.audio[0])} == {"00:00:01"}
        found = [chapter["metadata"]["title"] for chapter in file.chapters()]
        assert found == ["オープニング", "Part A"]  # FFmpeg shows the last name
        if attachment:
            (font,) = file.streams.attachments
            assert font.data == bytes(attachment)
    content = [packet[:2] + packet[4:] for packet in before]
    assert [packet[:2] + packet[4:] for packet in packets(path)] == content

    content_of_file = path.read_bytes()
    assert restore(path, PATCHES, source) == [] and path.read_bytes() == content_of_file, "again: nothing to do"


def test_packets_and_seeking_stay(tmp_path: Path) -> None:
    path, original = tmp_path / "a.mkv", tmp_path / "original.mkv"
    mux(original)
    shutil.copy(original, path)
    patches = [TrackPatch(0, sample_aspect=Fraction(8, 9)), TrackPatch(1, language_bcp47="en-GB")]
    assert restore(path, patches) == ["track 0: sample aspect 8:9", "track 1: language en-GB"]
    assert packets(path) == packets(original)
    assert path.stat().st_size == original.stat().st_size
    for target in range(0, 1250, 100):
        pictures = []
        for name in (path, original):
            with av.open(str(name)) as file:
                file.seek(target, stream=file.streams.video[0], backward=True)
                pictures.append([(f.pts, f.to_ndarray().tobytes()) for f in file.decode(video=0)])
        assert pictures[0] == pictures[1] and (pictures[0][0][0] or 0) <= target


def test_chapters_that_fit_no_header_go_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    mux(path)
    clusters = [e for e in level1(path) if e.id == matroska.CLUSTER]
    for padding in (5000, 9000):  # the second time the first ones are in the way, at the end
        names = chapters_element([{"en": "Opening"}], padding)
        restore(path, [], MatroskaDetails(chapters=names))
        check_structure(path)
        details = read_details(path)
        assert details is not None and details.chapters == names
    items = level1(path)
    assert [e for e in items if e.id == matroska.CLUSTER] == clusters
    assert items[-1].id == matroska.CHAPTERS


@pytest.mark.parametrize(
    ("visible", "aspect", "expected"),
    [
        ((720, 480), Fraction(8, 9), (720, 540, 0)),
        ((2880, 1920), Fraction(8, 9), (2880, 2160, 0)),
        ((704, 576), Fraction(16, 11), (1024, 576, 0)),
        ((720, 480), Fraction(32, 27), (16, 9, 3)),
        ((64, 48), Fraction(1), (64, 48, 0)),
    ],
)
def test_display_sizes(visible: tuple[int, int], aspect: Fraction, expected: tuple[int, int, int]) -> None:
    width, height, unit = display_size(visible, aspect)
    assert (width, height, unit) == expected
    assert Fraction(width, height) == Fraction(*visible) * aspect


def test_crop_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    mux(path)
    assert restore(path, [TrackPatch(0, crop=(8, 2, 4, 0), sample_aspect=Fraction(1))])
    details = read_details(path)
    assert details is not None
    assert (details.tracks[0].crop, details.tracks[0].display) == ((8, 2, 4, 0), (52, 46))
    check_structure(path)


def test_uids_that_would_clash_are_not_restored(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    mux(path)
    twin = MatroskaDetails(tracks=(TrackDetails(uid=7), TrackDetails(uid=7)))
    assert restore(path, [TrackPatch(0, source=0), TrackPatch(1, source=1)], twin) == []


@pytest.mark.parametrize("patch", [TrackPatch(2, language_bcp47="ja"), TrackPatch(1, sample_aspect=Fraction(1))])
def test_patches_that_do_not_apply_are_refused(tmp_path: Path, patch: TrackPatch) -> None:
    path = tmp_path / "a.mkv"
    mux(path)
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"a\.mkv"):
        restore(path, [patch])
    assert path.read_bytes() == before


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
def test_ffprobe_sees_the_aspect(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    mux(path)
    restore(path, PATCHES, EXPECTED)
    command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(path)]
    streams = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["streams"]
    assert streams[0]["sample_aspect_ratio"] == "8:9"
