"""The tags of a result and of its tracks against the source's, as FFmpeg reads both."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from vidsr.container import container_of, open_input
from vidsr.frames import SourceInfo
from vidsr.proof.check import Check

_OWN = (
    "encoder", "duration", "creation_time", "major_brand", "minor_version", "compatible_brands", "bps", "_statistics",
    "number_of_frames", "number_of_bytes", "title", "stereo_mode", "alpha_mode", "handler_name", "vendor_id",
    "language", "name", "filename", "mimetype", "location", "timecode",
)  # fmt: skip


def check_metadata(before: SourceInfo, after: SourceInfo, pairs: Mapping[int, int]) -> list[Check]:
    """Those of the file and of its tracks, whose indices `pairs` gives; titles and languages have checks of their own.

    MP4 holds no others than its own: what it then lacks was said before the run.
    """
    whole = container_of(after) == "matroska"
    lost: list[str] = []
    with open_input(before.path) as source, open_input(after.path) as result:
        both = [("", source.metadata, result.metadata)]
        if whole and "matroska" in before.container:
            both += [(f"#{new} ", source.streams[old].metadata, result.streams[new].metadata)
                     for old, new in pairs.items()]  # fmt: skip
        count = 0
        for label, old_tags, new_tags in both:
            old, new = _compared(old_tags), _compared(new_tags)
            count += len(old)
            for name in sorted(old.keys() | new.keys() if whole else old.keys() & new.keys()):
                if old.get(name) != new.get(name):
                    lost.append(f"{label}{name} {old.get(name)!r} -> {new.get(name)!r}")
        codes = [_compared(file.streams[info.video.index].metadata, ()).get("timecode")
                 for file, info in ((source, before), (result, after))]  # fmt: skip
        if codes[0] is not None and codes[0] != codes[1]:
            lost.append(f"timecode {codes[0]} -> {codes[1]}")
        made = [file.metadata.get("creation_time", "") for file in (source, result)]
    if _other_dates(*made):
        lost.append(f"date {made[0]} -> {made[1] or 'none'}")
    if not count and not lost:
        return []
    return [Check("tags", not lost, "; ".join(lost) if lost else f"{count} kept")]


def _other_dates(before: str, after: str) -> bool:
    """Whether a date is another one than before: written in another way, or without parts of a second as MP4 has it, it
    is the same. What is no date at all nothing can keep as one."""
    try:
        dates = [datetime.fromisoformat(text) for text in (before, after or "0001-01-01")]
    except ValueError:
        return False
    utc = [date if date.tzinfo else date.replace(tzinfo=UTC) for date in dates]
    return abs((utc[1] - utc[0]).total_seconds()) >= 1


def _compared(tags: Mapping[str, str], own: tuple[str, ...] = _OWN) -> dict[str, str]:
    return {name.lower(): value for name, value in tags.items() if not name.lower().startswith(own)}
