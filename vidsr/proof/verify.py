"""The proof: is the result the source, enlarged, with nothing else touched?"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vidsr.container import NAMES, Clock, cannot_hold, container_of, is_cover, kind_of, open_input, packets, read_clock
from vidsr.frames import SourceInfo, StreamInfo, TimeRange
from vidsr.proof.compare import compare_pictures
from vidsr.report import Report
from vidsr.source.decode import decode
from vidsr.source.probe import probe

MIN_PSNR = 24.0  # dB; even a smooth upscale of line art stays above it when scaled back down, a wrong frame does not
MAX_COLOR_SHIFT = 2.5  # levels of 255, per plane; a wrong matrix costs 4 and more on the colours of anime
TIME_TOLERANCE = 0.00101  # seconds: Matroska keeps milliseconds


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. detail: what was found, fit to print."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Proof:
    """All checks of one result."""

    checks: tuple[Check, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)


def verify(
    source: Path, result: Path, scale: int | None = None, dropped: Collection[int] | None = None,
    span: TimeRange = TimeRange(),
) -> Proof:  # fmt: skip
    """Compare `result` with `source` down to packets, tags and pictures.

    scale: expected enlargement; None takes what the sizes say. dropped: indices of source tracks that may be missing;
    None: those that the result's container cannot hold. SourceError when either file is no video.
    """
    before, after = probe(source), probe(result)
    checks = [_size(before.video, after.video, scale)]
    timing, old, new = _timing(before, after, span)
    checks += timing
    checks += _video_tags(before.video, after.video)
    shift = float(old.pts[0] * old.time_base) if span.start and old.pts else 0.0
    checks += _tracks(before, after, dropped, span, shift)
    checks += _globals(source, result, span)
    checks += _pictures(before, after, old, new)
    return Proof(tuple(checks))


def _size(before: StreamInfo, after: StreamInfo, scale: int | None) -> Check:
    ratio = Fraction(after.width, before.width)
    even = ratio == Fraction(after.height, before.height) and ratio.denominator == 1
    passed = even and (scale is None or ratio == scale)
    return Check("size", passed, f"{before.width}x{before.height} -> {after.width}x{after.height}")


def _video_tags(before: StreamInfo, after: StreamInfo) -> list[Check]:
    """Colour as resolved, shape of the pixels, rotation, HDR10."""
    a, b = before.color, after.color
    same_matrix = before.format.family == "rgb" or (a.matrix, a.full_range) == (b.matrix, b.full_range)
    checks = [
        Check("colour", same_matrix and (a.primaries, a.transfer) == (b.primaries, b.transfer),
              f"{a.matrix} {'full' if a.full_range else 'limited'} range -> "
              f"{b.matrix} {'full' if b.full_range else 'limited'} range"),
        Check("pixel shape", _close(before.sample_aspect, after.sample_aspect, Fraction(1, 200)),
              f"{before.sample_aspect} -> {after.sample_aspect}"),
    ]  # fmt: skip
    if before.display_matrix or after.display_matrix:
        same = before.display_matrix is not None and after.display_matrix is not None
        checks.append(Check("rotation", same and _same_matrix(before, after), "kept" if same else "lost"))
    if before.hdr is not None:
        same = after.hdr is not None and _same_hdr(before, after)
        checks.append(Check("HDR10 metadata", same or after.codec == "h264", "kept" if same else "lost"))
    return checks


def _same_matrix(before: StreamInfo, after: StreamInfo) -> bool:
    """The rotating part; containers keep it as fixed point or as an angle."""
    a, b = before.display_matrix or (), after.display_matrix or ()
    return all(abs(a[i] - b[i]) <= 256 for i in (0, 1, 3, 4))


def _same_hdr(before: StreamInfo, after: StreamInfo) -> bool:
    a, b = before.hdr, after.hdr
    if a is None or b is None or a.content_light != b.content_light:
        return False
    if (a.mastering is None) != (b.mastering is None):
        return False
    # Encoders keep chromaticities in steps of 1/50000 and luminances in steps of 1/10000 cd/m².
    return all(abs(x - y) <= max(Fraction(1, 1000), x / 500) for x, y in zip(a.mastering or (), b.mastering or ()))


def _close(a: Fraction, b: Fraction, tolerance: Fraction) -> bool:
    return abs(a - b) <= tolerance * max(a, b)


def _in_span(pts: array[int], time_base: Fraction, span: TimeRange) -> array[int]:
    if not pts or span.whole:
        return pts
    low, high = span.limits(pts[0], time_base)
    return array("q", (t for t in pts if (low is None or t >= low) and (high is None or t < high)))


def _timing(before: SourceInfo, after: SourceInfo, span: TimeRange) -> tuple[list[Check], Clock, Clock]:
    """Every presentation time of the video; frames that do not decode in the source may be missing."""
    source = read_clock(before.path, before.video)
    source = replace(source, pts=_in_span(source.pts, before.video.time_base, span))
    result = read_clock(after.path, after.video)
    note = ""
    if len(source.pts) != len(result.pts):
        coded = len(source.pts)
        decoded = sorted(f.pts for f in decode(before.path, before.video, None, None, None, Report()))
        source = replace(source, pts=_in_span(array("q", decoded), before.video.time_base, span))
        note = f", {coded - len(source.pts)} coded pictures of the source do not decode"
    shift = source.pts[0] if span.start and source.pts else 0
    both = range(min(len(source.pts), len(result.pts)))
    worst = max((abs(source.seconds(i, shift) - result.seconds(i, 0)) for i in both), default=0.0)
    checks = [
        Check("frame count", len(source.pts) == len(result.pts), f"{len(source.pts)} -> {len(result.pts)}{note}"),
        Check("timestamps", worst <= TIME_TOLERANCE, f"largest difference {worst * 1000:.2f} ms"),
    ]
    return checks, source, result


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


def _copies(info: SourceInfo, span: TimeRange, shift: float) -> list[_Copied]:
    """Every stream but the upscaled one, in file order, with attachments and covers, `shift` seconds earlier."""
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
        for packet in packets(container, [s for s in streams if kind_of(s) != "attachment"]):
            if not packet.size or (packet.pts is None and packet.dts is None and not is_cover(packet.stream)):
                continue
            entry = found[packet.stream_index]
            time = float((packet.pts if packet.pts is not None else packet.dts or 0) * packet.time_base) - shift
            length = None if span.end is None else span.end - span.start
            if not span.whole and not is_cover(packet.stream) and (time < 0 or (length is not None and time >= length)):
                continue
            entry.packets += 1
            digests[packet.stream_index].update(bytes(packet))
            entry.times.append(time)
    for index, entry in found.items():
        entry.payload = digests[index].hexdigest()
    return list(found.values())


def _tracks(
    before: SourceInfo, after: SourceInfo, dropped: Collection[int] | None, span: TimeRange, shift: float
) -> list[Check]:
    """Each copied stream: payload, times, language, title, dispositions."""
    source = [c for c in _copies(before, span, shift) if dropped is None or c.index not in dropped]
    result = _copies(after, TimeRange(), 0.0)
    refused = _refused(before, after) if dropped is None else set()
    checks = []
    unmatched = Counter(id(copy) for copy in result)
    for copy in source:
        alike = [r for r in result if unmatched[id(r)] and r.kind == copy.kind]
        match = next((r for r in alike if r.payload == copy.payload), None)
        if match is None and _is_rewritten(copy, before):
            continue
        label = f"{copy.kind} {copy.codec} {copy.language}".strip()
        if match is None and not copy.packets and copy.kind != "attachment":
            checks.append(Check(label, True, "empty in the source, left out"))
            continue
        if match is None and copy.index in refused:
            checks.append(Check(label, True, f"{NAMES[container_of(after)]} cannot hold it, left out"))
            continue
        if match is None:
            counts = f"{copy.packets} -> {alike[0].packets if alike else 0} packets"
            checks.append(Check(label, False, f"not in the result with the same content ({counts})"))
            continue
        unmatched[id(match)] = 0
        checks.append(_track_check(label, copy, match, container_of(after)))
    return checks


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
    """container: the result's. MP4 and MOV have neither titles of tracks nor most flags: runs say so beforehand."""
    differences = []
    described = container == "matroska"
    worst = max((abs(x - y) for x, y in zip(a.times, b.times)), default=0.0)
    if a.kind != "cover" and worst > TIME_TOLERANCE:
        differences.append(f"times differ by up to {worst * 1000:.1f} ms")
    if a.kind not in ("attachment", "cover"):
        if _language(a.language) != _language(b.language):
            differences.append(f"language {a.language or 'none'} -> {b.language or 'none'}")
        if described and a.title != b.title:
            differences.append(f"title {a.title!r} -> {b.title!r}")
        if described and a.dispositions != b.dispositions:
            differences.append(f"dispositions {sorted(a.dispositions)} -> {sorted(b.dispositions)}")
    if differences:
        return Check(label, False, "; ".join(differences))
    packets = f"{a.packets} packets, " if a.packets else ""
    return Check(label, True, f"{packets}SHA-256 {a.payload[:12]}")


def _language(code: str) -> str:
    """Containers say "not known" in three ways."""
    return "" if code in ("und", "") else code


def _globals(source: Path, result: Path, span: TimeRange) -> list[Check]:
    """Chapters, title, and whether the result plays as long."""
    with open_input(source) as a, open_input(result) as b:
        checks = []
        if span.whole:
            before, after = _chapters(a), _chapters(b)
            close = len(before) == len(after) and all(
                x[0] == y[0] and abs(x[1] - y[1]) <= TIME_TOLERANCE for x, y in zip(before, after)
            )
            if before or after:
                checks.append(Check("chapters", close, f"{len(before)} -> {len(after)}"))
        old, new = a.metadata.get("title", ""), b.metadata.get("title", "")
        if old or new:
            checks.append(Check("title", old == new, f"{old!r} -> {new!r}"))
        return checks


def _chapters(container: Any) -> list[tuple[str, Fraction]]:
    return [(c["metadata"].get("title", ""), c["start"] * Fraction(c["time_base"])) for c in container.chapters()]


def _pictures(before: SourceInfo, after: SourceInfo, old: Clock, new: Clock) -> list[Check]:
    """Some pictures of all parts of the result, scaled back down, against the source's."""
    if before.video.format.family == "rgb":
        return []  # planes of RGB and YUV cannot be compared one by one
    found = compare_pictures(before, after, old, new)
    if not found.compared:
        return [Check("picture", False, "no picture of the result could be compared")]
    picture = f"{found.compared} scaled back down: luma PSNR {found.psnr:.1f} dB, the worst {found.worst:.1f} dB"
    moved = "mean of Y, U, V moves by " + ", ".join(f"{value:.2f}" for value in found.shift) + " of 255 levels"
    return [
        Check("picture", found.psnr >= MIN_PSNR, picture),
        Check("colour shift", max(found.shift) <= MAX_COLOR_SHIFT, moved),
    ]
