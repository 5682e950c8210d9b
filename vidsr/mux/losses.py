"""What of a source beside its tracks a container has no place for, and what is odd in it: said before a run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from vidsr.container import NAMES, open_input
from vidsr.frames import SourceInfo
from vidsr.mux.matroska import details as matroska
from vidsr.mux.matroska.details import content_of, read_details
from vidsr.mux.matroska.ebml import Child, EbmlError, children, to_text, to_uint

EDITION_ORDERED, CHAPTER_SEGMENT = 0x45DD, 0x6E67
CONTAINER_TAGS = ("encoder", "duration", "major_brand", "minor_version", "compatible_brands")  # of the old file itself


def as_keys(container: str, info: SourceInfo) -> bool:
    """Whether the tags of an MP4 or MOV need QuickTime's keys, which hold any name, as the source's do: else those that
    more programs read, which hold no others than their own."""
    if container == "matroska" or not set(info.container.split(",")) & {"mov", "mp4"}:
        return False
    return bool(_lost_tags(container, _tags(info.path)))


def losses(container: str, info: SourceInfo) -> list[str]:
    """One line for each thing lost or odd."""
    found = []
    details = read_details(info.path) if "matroska" in info.container else None
    editions = _editions(details.chapters if details else None)
    ordered = [edition for edition in editions if _number(edition, EDITION_ORDERED)]
    chapters = [chapter for edition in editions for chapter in _below(edition, matroska.CHAPTER)]
    if any(CHAPTER_SEGMENT in {item.id for item in children(chapter.content)} for chapter in chapters):
        found.append("its chapters play parts of other files, which are not enlarged with it")
    if container == "matroska":
        if ordered:
            found.append(f"its chapters are an order to play its parts in ({_count(editions)}): all of it is kept")
        elif len(editions) > 1:
            found.append(f"it has {_count(editions)} of chapters: all are kept, players show one at a time")
        return found
    name = NAMES[container]
    if len(editions) > 1 or ordered:
        found.append(f"{name} has no editions and no order of chapters: of {_count(editions)} one list is kept")
    words = [_below(chapter, matroska.CHAPTER_DISPLAY) for chapter in chapters]
    languages = {to_text(i.content) for each in words for w in each for i in children(w.content)
                 if i.id == matroska.CHAPTER_LANGUAGE}  # fmt: skip
    if any(len(each) > 1 for each in words) or languages - {"und"}:
        found.append(f"{name} keeps one name of each chapter, without its language")
    if any(_below(chapter, matroska.CHAPTER) for chapter in chapters):
        found.append(f"{name} has no chapters within chapters: all are kept in one list")
    lost = sorted(_lost_tags(container, _tags(info.path))) if not as_keys(container, info) else []
    if lost:
        found.append(f"{name} has no place for the tag{'s' * (len(lost) > 1)} {', '.join(lost)}")
    return found


def _count(editions: list[Child]) -> str:
    return f"{len(editions)} edition{'s' * (len(editions) > 1)}"


def _editions(chapters: bytes | None) -> list[Child]:
    return [child for child in content_of(chapters or b"") if child.id == matroska.EDITION]


def _below(item: Child, element: int) -> list[Child]:
    try:
        return [child for child in children(item.content) if child.id == element]
    except EbmlError:
        return []


def _number(item: Child, element: int) -> int:
    return next((to_uint(child.content) for child in _below(item, element)), 0)


def _tags(path: Path) -> dict[str, str]:
    with open_input(path) as source:
        return {k: v for k, v in source.metadata.items() if k.lower() not in (*CONTAINER_TAGS, "creation_time")}


def _lost_tags(container: str, tags: Mapping[str, str]) -> set[str]:
    """The names of those that FFmpeg's muxer does not write: a trial in memory."""
    if not tags:
        return set()
    written = io.BytesIO()
    with av.open(written, "w", format=container, metadata_errors="surrogateescape") as trial:
        trial.metadata.update(tags)
        sound: Any = trial.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        for packet in [*sound.encode(frame), *sound.encode(None)]:
            trial.mux(packet)
    written.seek(0)
    with av.open(written, metadata_errors="surrogateescape") as again:
        kept = {name.lower() for name in again.metadata}
    return {name for name in tags if name.lower() not in kept}
