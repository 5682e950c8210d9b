"""Everything of a result but its video against its source: copied streams, chapters, title."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vidsr.container import (
    HELD_FLAGS,
    NAMES,
    cannot_hold,
    container_of,
    heard,
    is_cover,
    kept_otherwise,
    kind_of,
    open_input,
    packets,
)
from vidsr.frames import SourceInfo, Window
from vidsr.proof.check import TIME_TOLERANCE, Check
from vidsr.proof.headers import check_headers
from vidsr.proof.sound import same_aac, same_sound
from vidsr.proof.tags import check_metadata

LOSSY = ("opus", "aac")  # what sound may be encoded anew as that leaves something out


@dataclass
class _Copied:
    """A copied stream in short. payload: SHA-256 of all its packets' bytes in order; times: of its packets,
    seconds."""

    index: int
    kind: str
    codec: str
    packets: int = 0
    payload: str = ""
    times: array[float] = field(default_factory=lambda: array("d"))
    language: str = ""
    title: str = ""
    dispositions: frozenset[str] = frozenset()


def _copies(info: SourceInfo, window: Window) -> list[_Copied]:
    """Every stream but the upscaled one, in file order, with attachments and covers: what of it is in `window`."""
    found: dict[int, _Copied] = {}
    digests: dict[int, Any] = {}
    with open_input(info.path) as container:
        streams = [stream for stream in container.streams if stream.index != info.video.index]
        for stream, track in zip(streams, (t for t in info.tracks if t.index != info.video.index)):
            entry = _Copied(stream.index, track.kind, track.codec)
            entry.language, entry.title, entry.dispositions = track.language, track.title, frozenset(track.dispositions)
            found[stream.index] = entry
            digests[stream.index] = hashlib.sha256()
            if kind_of(stream) == "attachment":
                digests[stream.index].update(stream.data)  # type: ignore[attr-defined]
        container.streams[info.video.index].discard = av.stream.Discard.all
        others = [s for s in streams if kind_of(s) != "attachment"]
        for packet in heard(packets(container, others, timeline=info.video.timeline)):
            if not packet.size or (packet.pts is None and packet.dts is None and not is_cover(packet.stream)):
                continue
            entry = found[packet.stream_index]
            time = (packet.pts if packet.pts is not None else packet.dts or 0) * packet.time_base
            if not is_cover(packet.stream) and not window.holds(time):
                continue
            entry.packets += 1
            digests[packet.stream_index].update(bytes(packet))
            entry.times.append(float(time - window.shift))
    for index, entry in found.items():
        entry.payload = digests[index].hexdigest()
    return list(found.values())


def check_tracks(
    before: SourceInfo, after: SourceInfo, dropped: Collection[int] | None, window: Window, audio: str | None = None
) -> list[Check]:
    """Each kept stream: payload, or what it decodes to; times, language, title, dispositions; and their order.

    audio: what all sound was encoded anew as, None: kept as it is.
    """
    source = [c for c in _copies(before, window) if dropped is None or c.index not in dropped]
    result = _copies(after, Window())
    refused = _refused(before, after) if dropped is None else set()
    checks = []
    pairs = _matches(source, result)
    unmatched = [r for r in result if all(r is not match for match in pairs.values())]
    for copy in source:
        alike = [r for r in unmatched if r.kind == copy.kind]
        match = pairs.get(copy.index)
        label = f"{copy.kind} {copy.codec} {copy.language}".strip()
        if copy.kind == "data":
            if not _is_rewritten(copy, before):
                checks.append(Check(label, True, "no data tracks are kept, left out"))
            continue
        if match is None and not copy.packets and copy.kind != "attachment":
            checks.append(Check(label, True, "empty in the source, left out"))
            continue
        if match is None and alike and copy.kind == "audio":
            heard = pairs[copy.index] = alike[0]
            unmatched.remove(heard)
            checks.append(_sound_check(label, copy, heard, before, after, window, audio))
            continue
        if match is None and copy.index in refused and not kept_otherwise(copy.kind, copy.codec):
            checks.append(Check(label, True, f"{NAMES[container_of(after)]} cannot hold it, left out"))
            continue
        if match is None:
            counts = f"{copy.packets} -> {alike[0].packets if alike else 0} packets"
            checks.append(Check(label, False, f"not in the result with the same content ({counts})"))
            continue
        checks.append(_track_check(label, copy, match, container_of(after)))
    if container_of(after) == container_of(before) == "matroska":
        texts = {index: match.index for index, match in pairs.items() if match.kind == "subtitle"}
        checks += check_headers(before, after, texts)
    same = {index: match.index for index, match in pairs.items()}
    checks += check_metadata(before, after, {**same, before.video.index: after.video.index})
    return [*checks, *_order_check(before, after, pairs)]


def _matches(source: list[_Copied], result: list[_Copied]) -> dict[int, _Copied]:
    """{source index: the track of the result with the same content}; of several such those in the same order."""
    left, pairs = list(result), dict[int, _Copied]()
    for copy in source:
        match = next((r for r in left if r.kind == copy.kind and r.payload == copy.payload), None)
        if match is not None:
            left.remove(match)
            pairs[copy.index] = match
    return pairs


def _order_check(before: SourceInfo, after: SourceInfo, pairs: dict[int, _Copied]) -> list[Check]:
    """Whether tracks follow each other as in the source; files attached to Matroska come last wherever they were."""
    places = {index: match.index for index, match in pairs.items() if match.kind in ("video", "audio", "subtitle")}
    order = [place for _, place in sorted({**places, before.video.index: after.video.index}.items())]
    return [Check("order of tracks", order == sorted(order), " ".join(f"#{place}" for place in order))]


def _sound_check(
    label: str, copy: _Copied, heard: _Copied, before: SourceInfo, after: SourceInfo, window: Window, audio: str | None
) -> Check:
    """A track of sound that is not the source's packets: by what it decodes to."""
    tracks = before, copy.index, after, heard.index, window
    if audio is not None and heard.codec != audio:
        return Check(label, False, f"is {heard.codec}, not {audio}")
    if audio is None and copy.codec in ("aac", "aac_latm") and heard.codec == "aac":
        passed, detail = same_aac(*tracks)
    else:
        passed, detail = same_sound(*tracks, audio in LOSSY)
    named = _differences(copy, heard, container_of(after))
    return Check(label, passed and not named, "; ".join([f"as {heard.codec}, {detail}", *named]))


def _refused(before: SourceInfo, after: SourceInfo) -> set[int]:
    """The indices of the source's tracks that the result's container cannot hold."""
    container = container_of(after)
    with open_input(before.path) as source:
        others = [track for track in before.tracks if track.index != before.video.index]
        return {t.index for t in others if cannot_hold(container, source.streams[t.index], t) is not None}


def _is_rewritten(copy: _Copied, before: SourceInfo) -> bool:
    """MP4's chapter text track is written anew by the muxer; chapters are compared by themselves."""
    return copy.kind == "data" and before.chapters > 0


def _track_check(label: str, a: _Copied, b: _Copied, container: str) -> Check:
    """container: the result's. MP4 and MOV have no place for most flags: runs say so beforehand."""
    differences = []
    worst = max((abs(x - y) for x, y in zip(a.times, b.times)), default=0.0)
    if a.kind != "cover" and worst > TIME_TOLERANCE:
        differences.append(f"times differ by up to {worst * 1000:.1f} ms")
    differences += _differences(a, b, container)
    if differences:
        return Check(label, False, "; ".join(differences))
    packets = f"{a.packets} packets, " if a.packets else ""
    return Check(label, True, f"{packets}SHA-256 {a.payload[:12]}")


def _differences(a: _Copied, b: _Copied, container: str) -> list[str]:
    """How two tracks are described differently."""
    differences = []
    if a.kind not in ("attachment", "cover"):
        if _language(a.language) != _language(b.language):
            differences.append(f"language {a.language or 'none'} -> {b.language or 'none'}")
        if a.title != b.title:
            differences.append(f"title {a.title!r} -> {b.title!r}")
        old, new = (each.dispositions & HELD_FLAGS.get(container, each.dispositions) for each in (a, b))
        if old != new:
            differences.append(f"dispositions {sorted(old)} -> {sorted(new)}")
    return differences


def _language(code: str) -> str:
    """Containers say "not known" in three ways."""
    return "" if code in ("und", "") else code


def check_whole(source: Path, result: Path, window: Window) -> list[Check]:
    """Chapters and title."""
    with open_input(source) as a, open_input(result) as b:
        checks = []
        before, after = _chapters(a, window), _chapters(b, Window())
        if before and before[0][1] > 0 and after[:1] == [("", 0)] and "matroska" not in b.format.name:
            after = after[1:]  # MP4's begin at zero: the time before the first is one without a name
        close = len(before) == len(after) and all(
            x[0] == y[0] and abs(x[1] - y[1]) <= TIME_TOLERANCE for x, y in zip(before, after)
        )
        if before or after:
            checks.append(Check("chapters", close, f"{len(before)} -> {len(after)}"))
        old, new = a.metadata.get("title", ""), b.metadata.get("title", "")
        if old or new:
            checks.append(Check("title", old == new, f"{old!r} -> {new!r}"))
        return checks


def _chapters(container: Any, window: Window) -> list[tuple[str, Fraction]]:
    """(title, second at which it begins) of each chapter that reaches into `window`."""
    found = []
    for chapter in container.chapters():
        base = Fraction(chapter["time_base"] or 1)
        start, end = chapter["start"] * base, chapter["end"] * base
        if window.whole or (end > window.shift and (window.end is None or start < window.end)):
            begin = start if window.whole else max(start - window.shift, Fraction(0))
            found.append((chapter["metadata"].get("title", ""), begin))
    return found
