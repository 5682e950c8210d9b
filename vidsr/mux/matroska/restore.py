"""Puts back into a finished Matroska file what FFmpeg's muxer cannot carry over, in place.

    restore("result.mkv", [TrackPatch(0, source=0, sample_aspect=Fraction(8, 9))], read_details("source.mkv"))

The header before the first Cluster keeps its length, so no picture or sound moves and the index stays true: what grows
takes the room of the fillers there, and what then finds no room goes to the end of the file. A file that is cut short
in between is a work file still: mux it again.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from vidsr.errors import OutputError
from vidsr.mux.matroska import details as matroska
from vidsr.mux.matroska import ebml
from vidsr.mux.matroska.details import MatroskaDetails, TrackDetails
from vidsr.mux.matroska.ebml import (
    CRC32,
    VOID,
    EbmlError,
    Element,
    children,
    edit,
    master,
    text,
    to_text,
    to_uint,
    uint,
)
from vidsr.mux.matroska.tags import STATISTICS, carried, only


@dataclass(frozen=True)
class TrackPatch:
    """What to write into one track's header; None leaves it as it is.

    position: of the track in the finished file, from 0; attachments (fonts, a cover) are not tracks.
    source: position of the track it was made from, whose language tag, UID and (video) default
    frame duration it then gets.
    language_bcp47: overrules the source's. sample_aspect: width of a pixel divided by its height.
    crop: pixels of the finished picture that players are to hide, at (left, top, right, bottom).
    """

    position: int
    source: int | None = None
    language_bcp47: str | None = None
    sample_aspect: Fraction | None = None
    crop: tuple[int, int, int, int] | None = None


@dataclass
class _Block:
    """An element of the Segment that is not a Cluster. place: its offset in the file; old: its bytes there."""

    id: int
    place: int
    old: bytes
    data: bytes


@dataclass
class _Layout:
    """segment: as found; head_end: offset of the first Cluster; checked: elements begin with their CRC-32."""

    segment: Element
    head_end: int
    blocks: list[_Block]
    checked: bool = False

    def block(self, block_id: int) -> _Block:
        found = next((block for block in self.blocks if block.id == block_id), None)
        if found is None or found.place >= self.head_end:
            raise EbmlError(f"element 0x{block_id:X} is not where FFmpeg writes it")
        return found

    def block_or_new(self, block_id: int, after: int) -> _Block:
        """The block of this id; an empty one behind block `after` when there is none."""
        found = next((block for block in self.blocks if block.id == block_id), None)
        if found is None:
            found = _Block(block_id, 0, b"", b"")
            self.blocks.insert(1 + self.blocks.index(self.block(after)), found)
        return found


def restore(path: str | Path, patches: Iterable[TrackPatch] = (), source: MatroskaDetails | None = None) -> list[str]:
    """Edit the closed file at `path`; give one line for each thing restored, none when nothing was missing.

    source: when the source is Matroska itself: its chapters and tags replace those in the file, and its title, its
    links and (through TrackPatch.source) its tracks' language tags, UIDs and default frame durations are kept.
    OutputError, with nothing written, when the file is not one that FFmpeg finished.
    """
    try:
        with open(path, "r+b") as file:
            layout = _load(file)
            done = _patch(layout, patches, source)
            if any(block.data != block.old for block in layout.blocks):
                _store(file, layout)
    except EbmlError as error:
        raise OutputError(f"{path}: cannot restore what the muxer left out: {error}") from error
    return done


def restored_header(
    header: bytes, patches: Iterable[TrackPatch] = (), source: MatroskaDetails | None = None,
    duration: float | None = None,
) -> bytes:  # fmt: skip
    """`restore` for a stream: what is to be sent in place of `header`, all that FFmpeg wrote before the first Cluster.

    duration: seconds, when known beforehand. OutputError when it is not the header of a stream without an end.
    """
    try:
        file = io.BytesIO(header)
        segment = matroska.find_segment(file)
        if segment.end is not None:
            raise EbmlError("it has an end")
        layout = _Layout(segment, len(header), [])
        for item in ebml.walk(file, segment.body, len(header)):
            if item.end is None or item.id == matroska.CLUSTER:
                raise EbmlError(f"element 0x{item.id:X} does not belong there")
            # An index would have to tell where things lie that are not yet written.
            if item.id not in (VOID, matroska.SEEK_HEAD):
                data = header[item.start : item.end]
                layout.blocks.append(_Block(item.id, item.start, data, data))
        _patch(layout, patches, source)
        if duration is not None:
            info = layout.block(matroska.INFO)
            length = ebml.element(matroska.DURATION, struct.pack(">d", duration * 1000))  # of FFmpeg's unit, 1 ms
            info.data = edit(info.data, {matroska.DURATION: length})
        return header[: segment.body] + b"".join(block.data for block in layout.blocks)
    except EbmlError as error:
        raise OutputError(f"cannot restore what the muxer left out of the stream's header: {error}") from error


def _patch(layout: _Layout, patches: Iterable[TrackPatch], source: MatroskaDetails | None) -> list[str]:
    """Change the blocks of `layout`; one line for each thing restored."""
    source = source or MatroskaDetails()
    done: list[str] = []
    uids = _patch_tracks(layout.block(matroska.TRACKS), list(patches), source, done)
    other_title = _patch_info(layout.block(matroska.INFO), source, done)
    _patch_tags(layout, uids, other_title if source.tags is None else None)
    if source.tags is not None:
        _restore_tags(layout, source, done)
    chapters = source.chapters
    if chapters and all(block.data != chapters for block in layout.blocks):
        layout.block_or_new(matroska.CHAPTERS, after=matroska.TRACKS).data = chapters
        done.append("chapters: as in the source, with all their names and languages")
    return done


def _load(file: BinaryIO) -> _Layout:
    segment = matroska.find_segment(file)
    size, layout = file.seek(0, os.SEEK_END), _Layout(segment, 0, [])
    if segment.end != size:
        raise EbmlError("it is unfinished or cut short")
    for item in ebml.walk(file, segment.body, size):
        if item.end is None:
            raise EbmlError("it is unfinished")
        if item.id == matroska.CLUSTER:
            layout.head_end = layout.head_end or item.start
        elif item.id != VOID:
            file.seek(item.start)
            data = file.read(item.end - item.start)
            if item.id == matroska.SEEK_HEAD:
                layout.checked = any(child.id == CRC32 for child in matroska.content_of(data))
            else:
                layout.blocks.append(_Block(item.id, item.start, data, data))
    layout.head_end = layout.head_end or size
    return layout


# ---- what to write --------------------------------------------------------------------------------------------------


def _patch_tracks(block: _Block, patches: list[TrackPatch], source: MatroskaDetails, done: list[str]) -> dict[int, int]:
    """Patch the Tracks element; give {old UID: new UID}."""
    (outer,) = children(block.data)
    items = list(children(outer.content))
    entries = [i for i, item in enumerate(items) if item.id == matroska.TRACK_ENTRY]
    tracks = matroska.read_tracks(block.data)
    known = dict(enumerate(source.tracks))
    origins = {p.position: known[p.source] for p in patches if p.source in known}
    uids = [origins[i].uid if i in origins else track.uid for i, track in enumerate(tracks)]
    unique = 0 not in uids and len(set(uids)) == len(uids)
    raw = [item.raw for item in items]
    for patch in patches:
        if not 0 <= patch.position < len(tracks):
            raise EbmlError(f"it has {len(tracks)} tracks, none at position {patch.position}")
        track, place = tracks[patch.position], entries[patch.position]
        changes, lines = _track_changes(track, patch, origins.get(patch.position))
        if unique and track.uid != uids[patch.position]:
            changes[matroska.TRACK_UID] = uint(matroska.TRACK_UID, uids[patch.position])
        if patch.sample_aspect is not None or patch.crop is not None:
            changes |= _video_change(items[place], track, patch, lines)
        if changes:
            raw[place] = edit(raw[place], changes)
            done += [f"track {patch.position}: {line}" for line in lines]
    if raw != [item.raw for item in items]:
        checked = any(item.id == CRC32 for item in items)
        fillers = (CRC32, VOID)
        block.data = master(outer.id, b"".join(r for r, i in zip(raw, items) if i.id not in fillers), checked)
    return {track.uid: uid for track, uid in zip(tracks, uids) if unique and track.uid != uid}


def _track_changes(
    track: TrackDetails, patch: TrackPatch, origin: TrackDetails | None
) -> tuple[dict[int, bytes | None], list[str]]:
    changes: dict[int, bytes | None] = {}
    lines: list[str] = []
    language = patch.language_bcp47 or (origin.language_bcp47 if origin else None)
    if language and language != track.language_bcp47:
        changes[matroska.LANGUAGE_BCP47] = text(matroska.LANGUAGE_BCP47, language)
        lines.append(f"language {language}")
    # Only of pictures: that of sound would overrule the true length of a shorter last packet.
    if origin and origin.type == 1 and origin.default_duration != track.default_duration:
        duration = origin.default_duration
        changes[matroska.DEFAULT_DURATION] = None if duration is None else uint(matroska.DEFAULT_DURATION, duration)
        lines.append("no default frame duration" if duration is None else f"default frame duration {duration} ns")
    return changes, lines


def _video_change(entry: ebml.Child, track: TrackDetails, patch: TrackPatch, lines: list[str]) -> dict[int, bytes]:
    """The Video element with the patch's crop, and the display size that its sample aspect then makes."""
    crop = track.crop if patch.crop is None else patch.crop
    aspect = track.sample_aspect if patch.sample_aspect is None else patch.sample_aspect
    cropped = replace(track, crop=crop)
    video = next((item.raw for item in children(entry.content) if item.id == matroska.VIDEO), None)
    if video is None or min(cropped.visible) <= 0 or (aspect is not None and aspect <= 0):
        raise EbmlError(f"track {patch.position} has no picture to which crop {crop} and sample aspect {aspect} apply")
    if crop == track.crop and aspect == track.sample_aspect:
        return {}
    changes: dict[int, bytes | None] = {i: uint(i, n) if n else None for i, n in zip(matroska.CROP, crop)}
    if aspect is not None:
        width, height, unit = display_size(cropped.visible, aspect, track.eyes)
        changes |= {
            matroska.DISPLAY_WIDTH: uint(matroska.DISPLAY_WIDTH, width),
            matroska.DISPLAY_HEIGHT: uint(matroska.DISPLAY_HEIGHT, height),
            matroska.DISPLAY_UNIT: uint(matroska.DISPLAY_UNIT, unit) if unit else None,
        }
    if crop != track.crop:
        lines.append(f"crop {crop}")
    if aspect != track.sample_aspect and aspect is not None:
        lines.append(f"sample aspect {aspect.numerator}:{aspect.denominator}")
    return {matroska.VIDEO: edit(video, changes)}


def display_size(
    visible: tuple[int, int], sample_aspect: Fraction, eyes: tuple[int, int] = (1, 1)
) -> tuple[int, int, int]:  # fmt: skip
    """(width, height, DisplayUnit) of exactly that aspect: pixels, never fewer, when whole ones do; else a ratio.

    eyes: see TrackDetails; the display size is that of one eye.
    """
    wider, higher = max(Fraction(1), sample_aspect), max(Fraction(1), 1 / sample_aspect)
    width, height = visible[0] * wider / eyes[0], visible[1] * higher / eyes[1]
    if width.denominator == height.denominator == 1:
        return int(width), int(height), matroska.PIXELS
    ratio = width / height
    return ratio.numerator, ratio.denominator, matroska.RATIO


def _patch_info(block: _Block, source: MatroskaDetails, done: list[str]) -> str | None:
    """Restore title and links; give the title that the file had, when it was another."""
    items = matroska.content_of(block.data)
    title = next((to_text(item.content) for item in items if item.id == matroska.TITLE), None)
    links = b"".join(item.raw for item in items if item.id in matroska.LINKS)
    other = None
    if source.title and source.title != title:
        block.data = edit(block.data, {matroska.TITLE: text(matroska.TITLE, source.title)})
        other = title
        done.append(f"title: {source.title}")
    if source.links and links != source.links:
        block.data = edit(block.data, dict.fromkeys(matroska.LINKS), add=source.links)
        done.append("links: the identity by which other episodes find this one")
    return other


def _patch_tags(layout: _Layout, uids: dict[int, int], title: str | None) -> None:
    """Let tags that name a track name it by its new UID; keep `title`, which came from a tag, as one."""
    if title:
        simple = master(matroska.SIMPLE_TAG, text(matroska.TAG_NAME, "TITLE") + text(matroska.TAG_STRING, title))
        block = layout.block_or_new(matroska.TAGS, after=matroska.TRACKS)
        tag = master(matroska.TAG, master(matroska.TARGETS, b"") + simple)
        block.data = edit(block.data or master(matroska.TAGS, b""), {}, add=tag)
    for block in layout.blocks:
        if block.id == matroska.TAGS and uids:
            (outer,) = children(block.data)
            tags = list(children(outer.content))
            checked = any(tag.id == CRC32 for tag in tags)
            new = (_retarget(tag, uids) for tag in tags if tag.id not in (CRC32, VOID))
            block.data = master(outer.id, b"".join(new), checked)


def _restore_tags(layout: _Layout, source: MatroskaDetails, done: list[str]) -> None:
    """The source's tags as they stand, with their levels, languages, nesting and binaries, in place of FFmpeg's flat
    ones; of the latter those that describe the new file."""
    assert source.tags is not None
    tracks = {track.uid for track in matroska.read_tracks(layout.block(matroska.TRACKS).data)}
    files = _attachment_uids(layout, source)
    kept = [carried(tag, tracks, files) for tag in matroska.content_of(source.tags)]
    items = [tag for block in layout.blocks if block.id == matroska.TAGS for tag in matroska.content_of(block.data)]
    own = [only(tag, lambda name: name.startswith(STATISTICS)) for tag in items if tag.id == matroska.TAG]
    raw = b"".join(tag for tag in [*kept, *own] if tag)
    if raw and raw != b"".join(tag.raw for tag in items):
        data = master(matroska.TAGS, raw, checked=layout.checked)
        layout.block_or_new(matroska.TAGS, after=matroska.TRACKS).data = data
        done.append("tags: as in the source, on their levels and in their languages")


def _attachment_uids(layout: _Layout, source: MatroskaDetails) -> dict[int, int]:
    """{UID of an attached file in the source: in the result}."""
    block = next((block for block in layout.blocks if block.id == matroska.ATTACHMENTS), None)
    if block is None or not source.attachments:
        return {}
    length = len(block.data)
    body = length - len(next(children(block.data)).content)
    left = list(matroska.read_attachments(io.BytesIO(block.data), Element(block.id, 0, body, length)))
    uids = {}
    for name, size, uid in source.attachments:
        match = next((found for found in left if found[:2] == (name, size)), None)
        if match is not None:
            left.remove(match)
            uids[uid] = match[2]
    return uids


def _retarget(tag: ebml.Child, uids: dict[int, int]) -> bytes:
    def renamed(target: ebml.Child) -> bytes:
        uid = to_uint(target.content) if target.id == matroska.TAG_TRACK_UID else 0
        return uint(target.id, uids[uid]) if uid in uids else target.raw

    for targets in children(tag.content):
        if tag.id == matroska.TAG and targets.id == matroska.TARGETS:
            new = master(targets.id, b"".join(renamed(target) for target in children(targets.content)))
            return edit(tag.raw, {targets.id: None}, add=new) if new != targets.raw else tag.raw
    return tag.raw


# ---- where to write it ----------------------------------------------------------------------------------------------


def _store(file: BinaryIO, layout: _Layout) -> None:
    """Write the changed blocks, the SeekHead and the Segment's size: first what goes to the end of the file."""
    segment, end = layout.segment, file.seek(0, os.SEEK_END)
    head = [block for block in layout.blocks if block.place < layout.head_end]
    tail = [block for block in layout.blocks if block.place >= layout.head_end]
    outgrown = [block for block in tail if len(block.data) != len(block.old)]
    emptied = [(block.place, ebml.void(len(block.old))) for block in outgrown]
    width = ((end + sum(len(block.data) for block in layout.blocks)).bit_length() + 7) // 8
    seek_size = len(_seek_head([(block.id, 0) for block in layout.blocks], width, layout.checked))
    for evicted in (None, matroska.TAGS, matroska.CHAPTERS, matroska.ATTACHMENTS):
        outgrown += [block for block in head if block.id == evicted]
        head = [block for block in head if block.id != evicted]
        gap = layout.head_end - segment.body - seek_size - sum(len(block.data) for block in head)
        if gap == 0 or gap >= 2:  # no filler is 1 byte long
            break
    else:
        raise EbmlError("its header has no room")

    places = dict[int, int]()
    for start, group in ((segment.body + seek_size + gap, head), (end, outgrown)):
        for block in group:
            places[id(block)] = start
            start += len(block.data)
    new_end = start
    moves = [(places.get(id(block), block.place), block) for block in layout.blocks]
    seek_head = _seek_head([(block.id, place - segment.body) for place, block in moves], width, layout.checked)
    size_field = ebml.encode_size(new_end - segment.body, segment.body - segment.start - 4)

    _write(file, [(place, block.data) for place, block in moves if place >= end])
    changed = [(place, b.data) for place, b in moves if place < end and (place != b.place or b.data != b.old)]
    front = size_field + seek_head + (ebml.void(gap) if gap else b"")
    _write(file, [*emptied, (segment.start + 4, front), *changed])


def _seek_head(entries: list[tuple[int, int]], width: int, checked: bool) -> bytes:
    """entries: (element id, position in the Segment's content); width: bytes a position takes."""
    seeks = b""
    for block_id, position in entries:
        number = ebml.element(matroska.SEEK_POSITION, position.to_bytes(width, "big"))
        seeks += master(matroska.SEEK, uint(matroska.SEEK_ID, block_id) + number)
    return master(matroska.SEEK_HEAD, seeks, checked)


def _write(file: BinaryIO, pieces: list[tuple[int, bytes]]) -> None:
    for offset, data in pieces:
        file.seek(offset)
        file.write(data)
    file.flush()
    os.fsync(file.fileno())
