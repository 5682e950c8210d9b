"""The proof: is the result the source, enlarged, with nothing else touched?"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import log10
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from vidsr.decode import decode
from vidsr.errors import SourceError
from vidsr.frames import Frame, PixelFormat, SourceInfo, StreamInfo, TimeRange
from vidsr.media import is_cover, kind_of, open_input, packets
from vidsr.probe import probe
from vidsr.report import Report

PICTURES_COMPARED = 24
MIN_PSNR = 24.0  # dB; scaled back down, even a smooth upscale of line art stays above it, a wrong frame does not
MAX_COLOR_SHIFT = 1.5  # levels of 255, mean over the compared pictures, per plane
"""Measured: 4x and back without a codec shifts the mean by under 0.1 level; x264 at crf 30 by under 0.5."""
TIME_TOLERANCE = Fraction(1, 1000)  # Matroska keeps milliseconds


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
    None: those of kinds the result's container cannot hold. SourceError when either file is no video.
    """
    before, after = probe(source), probe(result)
    checks = [_size(before.video, after.video, scale)]
    timing, decodable = _timing(before, after, span)
    checks += timing
    checks += _video_tags(before.video, after.video)
    checks += _tracks(before, after, dropped, span)
    checks += _globals(source, result, span)
    checks += _pictures(before, after, decodable, span)
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
    pairs = zip(a.mastering or (), b.mastering or ())
    return bool(a.mastering) == bool(b.mastering) and all(abs(x - y) <= max(Fraction(1, 1000), x / 500) for x, y in pairs)


def _close(a: Fraction, b: Fraction, tolerance: Fraction) -> bool:
    return abs(a - b) <= tolerance * max(a, b)


def _timing(before: SourceInfo, after: SourceInfo, span: TimeRange) -> tuple[list[Check], int]:
    """Every presentation time of the video; frames that do not decode in the source may be missing."""
    source = _shown(before)
    result = _shown(after)
    in_range = _in_span(source, span)
    shift = in_range[0] if in_range and span.start else Fraction(0)
    expected = [t - shift for t in in_range]
    note = ""
    if len(expected) != len(result):
        decoded = _in_span(_decoded(before), span)
        expected = [t - (decoded[0] if span.start and decoded else 0) for t in decoded]
        note = f", {len(in_range) - len(decoded)} coded pictures of the source do not decode"
    worst = max((abs(a - b) for a, b in zip(expected, result)), default=Fraction(0))
    checks = [
        Check("frame count", len(expected) == len(result), f"{len(expected)} -> {len(result)}{note}"),
        Check("timestamps", worst <= TIME_TOLERANCE, f"largest difference {float(worst) * 1000:.2f} ms"),
    ]
    return checks, len(result)


def _in_span(times: Sequence[Fraction], span: TimeRange) -> list[Fraction]:
    if not times or span.whole:
        return list(times)
    low = times[0] + Fraction(span.start)
    high = None if span.end is None else times[0] + Fraction(span.end)
    return [t for t in times if t >= low and (high is None or t < high)]


def _shown(info: SourceInfo) -> list[Fraction]:
    """Presentation times, seconds, of all coded pictures to be shown, sorted."""
    times = []
    with open_input(info.path) as container:
        stream = container.streams[info.video.index]
        for other in container.streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        for packet in packets(container, [stream]):
            time = packet.pts if packet.pts is not None else packet.dts
            if packet.size and time is not None and not packet.is_discard:
                times.append(time * info.video.time_base)
    return sorted(times)


def _decoded(info: SourceInfo) -> list[Fraction]:
    """Presentation times, seconds, of the frames that decode, sorted."""
    return sorted(f.pts * info.video.time_base for f in decode(info.path, info.video, None, None, None, Report()))


@dataclass
class _Copied:
    """A copied stream in short. packets: how many; payload: SHA-256 of all payloads in order; first, last: seconds."""

    kind: str
    codec: str
    packets: int = 0
    payload: str = ""
    first: Fraction | None = None
    last: Fraction | None = None
    times: list[Fraction] = field(default_factory=list)
    language: str = ""
    title: str = ""
    dispositions: frozenset[str] = frozenset()


def _copies(info: SourceInfo, span: TimeRange, shift: Fraction) -> list[_Copied]:
    """Every stream but the upscaled one, in file order, with attachments and covers."""
    found: dict[int, _Copied] = {}
    digests: dict[int, Any] = {}
    with open_input(info.path) as container:
        streams = [stream for stream in container.streams if stream.index != info.video.index]
        for stream, track in zip(streams, (t for t in info.tracks if t.index != info.video.index)):
            found[stream.index] = _Copied(track.kind, track.codec, language=track.language, title=track.title,
                                          dispositions=frozenset(track.dispositions))  # fmt: skip
            digests[stream.index] = hashlib.sha256()
            if kind_of(stream) == "attachment":
                digests[stream.index].update(stream.data)  # type: ignore[attr-defined]
        container.streams[info.video.index].discard = av.stream.Discard.all
        for packet in packets(container, [s for s in streams if kind_of(s) != "attachment"]):
            if not packet.size or (packet.pts is None and packet.dts is None and not is_cover(packet.stream)):
                continue
            entry = found[packet.stream_index]
            time = (packet.pts if packet.pts is not None else packet.dts or 0) * packet.time_base
            if not is_cover(packet.stream) and not span.whole:
                begin = time - shift
                if begin < 0 or (span.end is not None and begin >= span.end - span.start):
                    continue
                time = begin
            entry.packets += 1
            digests[packet.stream_index].update(bytes(packet))
            entry.times.append(time)
    for index, entry in found.items():
        entry.payload = digests[index].hexdigest()
    return list(found.values())


def _tracks(
    before: SourceInfo, after: SourceInfo, dropped: Collection[int] | None, span: TimeRange
) -> list[Check]:
    """Each copied stream: payload, times, language, title, dispositions."""
    shift = Fraction(0)
    if span.start:
        kept = _in_span(_shown(before), span)
        shift = kept[0] if kept else shift
    source = [
        copy for copy, track in zip(_copies(before, span, shift), (t for t in before.tracks if t.index != before.video.index))
        if dropped is None or track.index not in dropped
    ]  # fmt: skip
    result = _copies(after, TimeRange(), Fraction(0))
    checks = []
    unmatched = Counter(id(copy) for copy in result)
    for copy in source:
        match = next((r for r in result if unmatched[id(r)] and r.kind == copy.kind and r.payload == copy.payload), None)
        if match is None and _is_rewritten(copy, before):
            continue
        label = f"{copy.kind} {copy.codec} {copy.language}".strip()
        if match is None:
            other = next((r for r in result if unmatched[id(r)] and r.kind == copy.kind), None)
            counts = f"{copy.packets} -> {other.packets if other else 0} packets"
            checks.append(Check(label, False, f"not in the result with the same content ({counts})"))
            continue
        unmatched[id(match)] = 0
        checks.append(_track_check(label, copy, match))
    return checks


def _is_rewritten(copy: _Copied, before: SourceInfo) -> bool:
    """MP4's chapter text track is written anew by the muxer; chapters are compared by themselves."""
    return copy.kind == "data" and before.chapters > 0


def _track_check(label: str, a: _Copied, b: _Copied) -> Check:
    differences = []
    worst = max((abs(x - y) for x, y in zip(a.times, b.times)), default=Fraction(0))
    if a.kind != "cover" and worst > TIME_TOLERANCE:
        differences.append(f"times differ by up to {float(worst) * 1000:.1f} ms")
    if a.kind not in ("attachment", "cover"):
        if _language(a.language) != _language(b.language):
            differences.append(f"language {a.language or 'none'} -> {b.language or 'none'}")
        if a.title != b.title:
            differences.append(f"title {a.title!r} -> {b.title!r}")
        if a.dispositions != b.dispositions:
            differences.append(f"dispositions {sorted(a.dispositions)} -> {sorted(b.dispositions)}")
    if differences:
        return Check(label, False, "; ".join(differences))
    return Check(label, True, f"{a.packets} packets, SHA-256 {a.payload[:12]}" if a.packets else f"SHA-256 {a.payload[:12]}")


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


def _pictures(before: SourceInfo, after: SourceInfo, frames: int, span: TimeRange) -> list[Check]:
    """Some pictures of all parts of the result, scaled back down, against the source's."""
    total = np.zeros(3)
    worst, squared, samples, compared = np.inf, 0.0, 0, 0
    step = max(1, frames // PICTURES_COMPARED)
    low = _span_pts(before, span)
    originals = decode(before.path, before.video, low[0], low[1], None, Report())
    enlarged = decode(after.path, after.video, None, None, None, Report())
    # Sources whose times come out of order give their pictures in the order shown all the same.
    for number, (small, large) in enumerate(zip(originals, enlarged)):
        if number % step:
            continue
        a = _planes8(small, before.video.format)
        b = _planes8(large, after.video.format, [plane.shape for plane in a])
        if len(a) == 1 or before.video.format.family == "rgb" or len(a) != len(b):
            a, b = a[:1], b[:1]
            if before.video.format.family == "rgb":
                continue  # planes of RGB and YUV cannot be compared one by one
        total[: len(a)] += [float((y - x).mean()) for x, y in zip(a, b)]
        error = float(((a[0] - b[0]) ** 2).mean())
        squared, samples, compared = squared + error, samples + 1, compared + 1
        worst = min(worst, _psnr(error))
    if not compared:
        return []
    shift = np.abs(total / compared)
    mean = _psnr(squared / samples)
    return [
        Check("picture", mean >= MIN_PSNR,
              f"scaled back down: luma PSNR {mean:.1f} dB over {compared} pictures, worst {worst:.1f} dB"),
        Check("colour shift", bool((shift <= MAX_COLOR_SHIFT).all()),
              "mean of Y, U, V moves by " + ", ".join(f"{value:.2f}" for value in shift) + " of 255 levels"),
    ]  # fmt: skip


def _span_pts(info: SourceInfo, span: TimeRange) -> tuple[int | None, int | None]:
    if span.whole:
        return None, None
    times = _in_span(_shown(info), span)
    if not times:
        raise SourceError(f"{info.path}: no frame in the part asked for")
    end = None if span.end is None else int(times[-1] / info.video.time_base) + 1
    return (int(times[0] / info.video.time_base) if span.start else None), end


def _psnr(mean_squared_error: float) -> float:
    return 99.0 if mean_squared_error == 0 else min(99.0, 10 * log10(255**2 / mean_squared_error))


def _planes8(frame: Frame, format: PixelFormat, shapes: list[Any] | None = None) -> list[np.ndarray]:
    """Planes as float32 in levels of 255, reduced by area to `shapes` (rows, columns) where given."""
    planes = []
    for number, plane in enumerate(frame.planes):
        levels = plane.astype(np.float32) * np.float32(1 / (1 << (format.bits - 8)))
        if shapes is not None and number < len(shapes) and levels.shape != shapes[number]:
            rows, columns = shapes[number]
            levels = cv2.resize(levels, (columns, rows), interpolation=cv2.INTER_AREA)
        planes.append(levels)
    return planes
