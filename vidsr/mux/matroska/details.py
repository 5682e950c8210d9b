"""What the header of a Matroska file says and FFmpeg does not pass on. restore.py writes it into another file.

Numbers are bytes unless said otherwise. Ids are those of the Matroska specification (RFC 9559), with their marker.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from vidsr.mux.matroska import ebml
from vidsr.mux.matroska.ebml import EbmlError, Element, children, to_text, to_uint

EBML, DOC_TYPE, SEGMENT, CLUSTER = 0x1A45DFA3, 0x4282, 0x18538067, 0x1F43B675
SEEK_HEAD, SEEK, SEEK_ID, SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
INFO, TITLE, DURATION = 0x1549A966, 0x7BA9, 0x4489
# SegmentUUID and SegmentFilename, the same of the previous and the next one, SegmentFamily, ChapterTranslate
LINKS = (0x73A4, 0x7384, 0x3CB923, 0x3C83AB, 0x3EB923, 0x3E83BB, 0x4444, 0x6924)
TRACKS, TRACK_ENTRY, TRACK_NUMBER, TRACK_UID, TRACK_TYPE, CODEC_ID = 0x1654AE6B, 0xAE, 0xD7, 0x73C5, 0x83, 0x86
NAME, LANGUAGE, LANGUAGE_BCP47, DEFAULT_DURATION = 0x536E, 0x22B59C, 0x22B59D, 0x23E383
VIDEO, PIXEL_WIDTH, PIXEL_HEIGHT = 0xE0, 0xB0, 0xBA
DISPLAY = DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
STEREO_MODE = 0x53B8
CROP = (0x54CC, 0x54BB, 0x54DD, 0x54AA)  # left, top, right, bottom
CHAPTERS, EDITION, EDITION_DEFAULT = 0x1043A770, 0x45B9, 0x45DB
CHAPTER, CHAPTER_TRACK, CHAPTER_DISPLAY = 0xB6, 0x8F, 0x80
CHAPTER_STRING, CHAPTER_LANGUAGE, CHAPTER_BCP47, CHAPTER_UID, CHAPTER_START = 0x85, 0x437C, 0x437D, 0x73C4, 0x91
TAGS, TAG, TARGETS, TAG_TRACK_UID, SIMPLE_TAG, TAG_NAME, TAG_STRING = (
    0x1254C367, 0x7373, 0x63C0, 0x63C5, 0x67C8, 0x45A3, 0x4487)  # fmt: skip
TAG_ATTACHMENT_UID = 0x63C6
ATTACHMENTS, ATTACHED_FILE, FILE_NAME, FILE_UID, FILE_DATA = 0x1941A469, 0x61A7, 0x466E, 0x46AE, 0x465C

PIXELS, RATIO, UNKNOWN = 0, 3, 4  # DisplayUnit
# StereoModes in which the eyes lie beside and above each other: how often the display size, that of one eye, fits in
_EYES = {1: (2, 1), 11: (2, 1), 8: (2, 1), 9: (2, 1), 2: (1, 2), 3: (1, 2), 6: (1, 2), 7: (1, 2)}
# Larger ones are not believed.
LIMITS = {SEEK_HEAD: 1 << 16, INFO: 1 << 20, TRACKS: 1 << 24, CHAPTERS: 1 << 20, TAGS: 1 << 24}
LANGUAGE_TAG = re.compile(r"[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8}){0,8}")


@dataclass(frozen=True)
class TrackDetails:
    """A track as its header describes it.

    type: Matroska's number: 1 video, 2 audio, 17 subtitles, others rare.
    language: ISO 639-2, "eng" when not written; language_bcp47 overrules it.
    default_duration: nanoseconds a frame, None when not written.
    pixels: (width, height) as coded; crop: pixels to hide at (left, top, right, bottom).
    display: (width, height) in `display_unit`: PIXELS, RATIO, UNKNOWN or centimetres and inches (1, 2); of one eye.
    stereo_mode: Matroska's number, 0 for flat pictures.
    """

    number: int = 0
    uid: int = 0
    type: int = 0
    codec_id: str = ""
    language: str = "eng"
    language_bcp47: str | None = None
    name: str | None = None
    default_duration: int | None = None
    pixels: tuple[int, int] = (0, 0)
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    display: tuple[int, int] | None = None
    display_unit: int = PIXELS
    stereo_mode: int = 0

    @property
    def visible(self) -> tuple[int, int]:
        """(width, height) in pixels after cropping."""
        left, top, right, bottom = self.crop
        return self.pixels[0] - left - right, self.pixels[1] - top - bottom

    @property
    def eyes(self) -> tuple[int, int]:
        """How many pictures of an eye lie (beside, above) each other in one picture."""
        return _EYES.get(self.stereo_mode, (1, 1))

    @property
    def sample_aspect(self) -> Fraction | None:
        """Width of a pixel divided by its height, None when the header does not say."""
        width, height = self.visible
        if self.display is None or self.display_unit >= UNKNOWN or min(width, height, *self.display) <= 0:
            return None
        beside, above = self.eyes
        return Fraction(self.display[0] * beside * height, self.display[1] * above * width)


@dataclass(frozen=True)
class MatroskaDetails:
    """What a Matroska file says beside its streams.

    tracks: in file order. chapters: the whole Chapters element as it stands, None when absent or damaged.
    tags: the whole Tags element, None likewise. attachments: of each its (name, bytes, UID), in file order.
    title: of the segment. links: the raw elements by which files name themselves and their neighbours (an opening that
    many episodes share is found by them).
    """

    tracks: tuple[TrackDetails, ...] = ()
    chapters: bytes | None = None
    title: str | None = None
    links: bytes = b""
    tags: bytes | None = None
    attachments: tuple[tuple[str, int, int], ...] = ()


def read_details(path: str | Path) -> MatroskaDetails | None:
    """The details of `path`, None when it is not Matroska or WebM.

    Only an unreadable file raises (OSError). Damaged or missing parts are left out.
    """
    with open(path, "rb") as file:
        try:
            segment = find_segment(file)
        except EbmlError:
            return None
        found = {e.id: e for e in _find(file, segment, (INFO, TRACKS, CHAPTERS, TAGS, ATTACHMENTS))}
        files = found.pop(ATTACHMENTS, None)
        attachments = () if files is None else read_attachments(file, files)
        raw = {e.id: _read(file, e) for e in found.values()}
    info = content_of(raw.get(INFO, b""))
    titles = [to_text(child.content) for child in info if child.id == TITLE]
    chapters, tags = raw.get(CHAPTERS), raw.get(TAGS)
    return MatroskaDetails(
        tracks=read_tracks(raw.get(TRACKS, b"")),
        chapters=chapters if chapters and _is_sound(chapters) else None,
        tags=tags if tags and _is_sound(tags) else None,
        attachments=attachments,
        title=titles[0] if titles else None,
        links=b"".join(child.raw for child in info if child.id in LINKS and len(child.raw) < 1024),
    )


def find_segment(file: BinaryIO) -> Element:
    """The first Segment of a Matroska or WebM file; its end as claimed."""
    size = file.seek(0, os.SEEK_END)
    head = next(ebml.walk(file, 0, size), None)
    if head is None or head.id != EBML or head.end is None or head.end - head.start > 4096:
        raise EbmlError("no EBML header")
    types = [to_text(child.content) for child in children(_read(file, head)[head.body :]) if child.id == DOC_TYPE]
    if types[:1] not in (["matroska"], ["webm"]):
        raise EbmlError("neither Matroska nor WebM")
    file.seek(head.end)
    data = file.read(12)
    segment_id, id_length = ebml.read_vint(data, 0, 4)
    length, size_length = ebml.read_size(data, id_length)
    body = head.end + id_length + size_length
    if segment_id != SEGMENT:
        raise EbmlError("no Segment")
    return Element(SEGMENT, head.end, body, None if length is None else body + length)


def _find(file: BinaryIO, segment: Element, wanted: Iterable[int]) -> list[Element]:
    """The first element of each wanted id, through the SeekHead when there is a good one, else by walking past
    every Cluster."""
    missing, found, promised = set(wanted), list[Element](), dict[int, int]()
    size = file.seek(0, os.SEEK_END)
    end = size if segment.end is None else min(size, segment.end)
    try:
        for item in ebml.walk(file, segment.body, end):
            if item.id in missing and item.end is not None:
                found.append(item)
                missing.discard(item.id)
            elif item.id == SEEK_HEAD and item.end is not None:
                promised |= _read_seek_head(_read(file, item))
            elif item.id == CLUSTER and promised:
                places = [segment.body + promised[i] for i in (*missing, SEEK_HEAD) if i in promised]
                there = [_element_at(file, place, end) for place in places]
                second = [e for e in there if e and e.id == SEEK_HEAD and e.start != segment.body]
                for extra in second:  # a second SeekHead may list what the first had no room for
                    promised |= _read_seek_head(_read(file, extra))
                there += [_element_at(file, segment.body + promised[i], end) for i in missing if i in promised]
                good = {e.id: e for e in there if e and e.id in missing and e.end is not None}
                if all(i in good for i in missing if i in promised):
                    return found + list(good.values())
                promised.clear()  # it lies: walk on
            if not missing:
                break
    except EbmlError:
        pass  # a damaged or cut file: what was found before is still true
    return found


def _element_at(file: BinaryIO, offset: int, end: int) -> Element | None:
    try:
        return next(ebml.walk(file, offset, end), None)
    except EbmlError:
        return None


def _read(file: BinaryIO, item: Element) -> bytes:
    """All bytes of an element; none when it is unreasonably large or cut."""
    assert item.end is not None
    size = item.end - item.start
    if size > LIMITS.get(item.id, size):
        return b""
    file.seek(item.start)
    data = file.read(size)
    return data if len(data) == size else b""


def content_of(raw: bytes) -> list[ebml.Child]:
    """The children of a raw element, none when any is damaged."""
    try:
        return [grandchild for child in children(raw) for grandchild in children(child.content)]
    except EbmlError:
        return []


def read_attachments(file: BinaryIO, files: Element) -> tuple[tuple[str, int, int], ...]:
    """(name, bytes, UID) of each attached file in an Attachments element, whose contents are not read."""
    found = []
    try:
        assert files.end is not None
        for attached in ebml.walk(file, files.body, files.end):
            if attached.id != ATTACHED_FILE or attached.end is None:
                continue
            name, size, uid = "", 0, 0
            for item in ebml.walk(file, attached.body, attached.end):
                assert item.end is not None
                if item.id == FILE_DATA:
                    size = item.end - item.body
                elif item.id in (FILE_NAME, FILE_UID) and item.end - item.body < 4096:
                    file.seek(item.body)
                    content = file.read(item.end - item.body)
                    name, uid = (to_text(content), uid) if item.id == FILE_NAME else (name, to_uint(content))
            found.append((name, size, uid))
    except (EbmlError, AssertionError):
        return ()
    return tuple(found)


def _read_seek_head(raw: bytes) -> dict[int, int]:
    """{element id: first position}, in bytes from the start of the Segment's content."""
    positions: dict[int, int] = {}
    try:
        for seek in content_of(raw):
            values = {child.id: to_uint(child.content) for child in children(seek.content) if seek.id == SEEK}
            if SEEK_ID in values and SEEK_POSITION in values:
                positions.setdefault(values[SEEK_ID], values[SEEK_POSITION])
    except EbmlError:
        pass
    return positions


def read_tracks(raw: bytes) -> tuple[TrackDetails, ...]:
    try:
        return tuple(_read_track(child.content) for child in content_of(raw) if child.id == TRACK_ENTRY)
    except EbmlError:
        return ()  # positions would no longer be those of the file


def _read_track(content: bytes) -> TrackDetails:
    items = {child.id: child.content for child in children(content)}
    number = {i: to_uint(items[i]) for i in (TRACK_NUMBER, TRACK_UID, TRACK_TYPE, DEFAULT_DURATION) if i in items}
    bcp47 = to_text(items.get(LANGUAGE_BCP47, b""))
    video = {child.id: child.content for child in children(items.get(VIDEO, b""))}
    picture = {i: to_uint(video[i]) for i in (PIXEL_WIDTH, PIXEL_HEIGHT, STEREO_MODE, *DISPLAY, *CROP) if i in video}
    left, top, right, bottom = (picture.get(i, 0) for i in CROP)
    track = TrackDetails(
        number=number.get(TRACK_NUMBER, 0),
        uid=number.get(TRACK_UID, 0),
        type=number.get(TRACK_TYPE, 0),
        codec_id=to_text(items.get(CODEC_ID, b"")),
        language=to_text(items.get(LANGUAGE, b"eng")),
        language_bcp47=bcp47 if LANGUAGE_TAG.fullmatch(bcp47) else None,
        name=to_text(items[NAME]) if NAME in items else None,
        default_duration=number.get(DEFAULT_DURATION),
        pixels=(picture.get(PIXEL_WIDTH, 0), picture.get(PIXEL_HEIGHT, 0)),
        crop=(left, top, right, bottom),
        display_unit=picture.get(DISPLAY_UNIT, PIXELS),
        stereo_mode=picture.get(STEREO_MODE, 0),
    )
    if DISPLAY_WIDTH not in picture and DISPLAY_HEIGHT not in picture:
        return track
    width, height = track.visible  # each is the other's default
    return replace(track, display=(picture.get(DISPLAY_WIDTH, width), picture.get(DISPLAY_HEIGHT, height)))


def _is_sound(raw: bytes, depth: int = 0) -> bool:
    """Whether a Chapters or Tags element is whole down to its leaves, so that a player will not stumble over it."""
    try:
        return depth < 32 and all(
            _is_sound(child.content, depth + 1)
            for child in children(raw)
            if child.id in (CHAPTERS, EDITION, CHAPTER, CHAPTER_TRACK, CHAPTER_DISPLAY, TAGS, TAG, TARGETS, SIMPLE_TAG)
        )
    except EbmlError:
        return False
