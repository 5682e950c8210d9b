"""Matroska's tags: which of a source's describe its result, too, and as what they stand there."""

from __future__ import annotations

from collections.abc import Callable

from vidsr.mux.matroska import details as matroska
from vidsr.mux.matroska.ebml import CRC32, VOID, Child, children, edit, master, to_text, to_uint, uint

# How the names of those begin that describe the encoding of one file.
STATISTICS = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS", "ENCODER")


def carried(tag: Child, tracks: set[int], files: dict[int, int]) -> bytes:
    """One tag of the source as it is to stand in the result, nothing when what it describes is not there."""
    if tag.id != matroska.TAG:
        return b""
    targets = next((item for item in children(tag.content) if item.id == matroska.TARGETS), None)
    named = list(children(targets.content)) if targets is not None else []
    changed, lost = b"", False
    for target in named:
        uid = to_uint(target.content) if target.id in (matroska.TAG_TRACK_UID, matroska.TAG_ATTACHMENT_UID) else 0
        if target.id == matroska.TAG_ATTACHMENT_UID and uid in files:
            changed += uint(target.id, files[uid])
        elif uid and (target.id == matroska.TAG_ATTACHMENT_UID or uid not in tracks):
            lost = True
        else:
            changed += target.raw
    of_file = all(target.id not in (matroska.TAG_TRACK_UID, matroska.TAG_ATTACHMENT_UID) for target in named)
    if lost and all(item.id not in (matroska.TAG_TRACK_UID, matroska.TAG_ATTACHMENT_UID) for item in children(changed)):
        return b""
    stale = STATISTICS if not of_file else ("ENCODER", "DURATION")
    raw = tag.raw
    if targets is not None and changed != targets.content:
        raw = edit(raw, {matroska.TARGETS: None}, add=master(matroska.TARGETS, changed))
    (again,) = children(raw)
    return only(again, lambda name: not name.startswith(stale))


def only(tag: Child, wanted: Callable[[str], bool]) -> bytes:
    """`tag` with those of its SimpleTags whose names are `wanted`; nothing when there are none."""
    items = [item for item in children(tag.content) if item.id not in (CRC32, VOID)]
    names = {
        id(item): next((to_text(e.content) for e in children(item.content) if e.id == matroska.TAG_NAME), "").upper()
        for item in items if item.id == matroska.SIMPLE_TAG
    }  # fmt: skip
    keep = [item for item in items if id(item) not in names or wanted(names[id(item)])]
    if not any(id(item) in names for item in keep):
        return b""
    if len(keep) == len(items):
        return tag.raw
    return master(matroska.TAG, b"".join(item.raw for item in keep))
