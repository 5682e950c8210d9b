"""Plan, journal, resume: an episode as segments that are made once each and survive a crash.

The work folder OUTPUT.vidsr/ holds `plan.json` (source hash, settings, versions, where each segment begins and ends)
and a pair of files for each finished segment: its video, and a journal entry with its timestamps and hash. Every file
is written under another name, forced to the disk and renamed, so a file that is there is whole.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from filelock import FileLock, Timeout

from vidsr.container import Clock, discard_others, open_input, packets, read_clock, read_times
from vidsr.errors import OutputError, ResumeError, SourceError
from vidsr.files import file_sha256, fit_name, write_failure, write_whole
from vidsr.frames import SourceInfo, TimeRange
from vidsr.source.weaving import Weaving
from vidsr.timeline import told_gaps

PLAN_VERSION = 3
MIN_FRAMES = 240  # shorter segments cost size and quality, each begins with a keyframe
MAX_FRAMES = 2 * MIN_FRAMES
BEFORE = 4  # pictures before a segment's first that may be needed to make it
FIRST_PACKETS = 64  # of a file, among which the first picture shown is


@dataclass(frozen=True)
class Segment:
    """A stretch of the source. start, end, seek: pts in the stream's time_base units (None: no limit, no seek).

    packets: how many pictures are expected of it; fewer frames than that mean damage.
    """

    index: int
    start: int | None
    end: int | None
    seek: int | None
    packets: int


@dataclass(frozen=True)
class Plan:
    """The whole run, fixed before its first frame. settings, versions, resolved: what must not change on resuming.

    settings: what was chosen. resolved: what that came to on the machine, see backends.base.Backend.settle; empty until
    the backend is open. notes: what is to be said of the source's times; it is found each time anew. weaving: of
    `Weaving.as_json`, the pictures where they are not the source's own.
    """

    source: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    segments: tuple[Segment, ...]
    resolved: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    weaving: Mapping[str, Any] | None = None
    version: int = PLAN_VERSION

    @property
    def packets(self) -> int:
        return sum(segment.packets for segment in self.segments)


@dataclass(frozen=True)
class SegmentResult:
    """A finished segment. pts, durations: of its frames in presentation order, in the source's time_base units.

    counts: what report.Report counted while it was made, kept so that a resumed run still tells.
    """

    index: int
    pts: tuple[int, ...]
    durations: tuple[int, ...]
    sha256: str
    counts: Mapping[str, int] = field(default_factory=dict)


def make_plan(
    info: SourceInfo, span: TimeRange, settings: Mapping[str, Any], versions: Mapping[str, str],
    weaving: Weaving | None = None,
) -> Plan:  # fmt: skip
    """Read every packet header of video and sound once and cut the video at keyframes. SourceError when nothing is in
    `span`."""
    clock, gaps = read_times(info)
    if not clock.pts:
        raise SourceError(f"{info.path}: its video has no timestamps; remux it first")
    segments = cut(clock, span, info.video.monotonic)
    if not segments:
        length = clock.seconds(-1, clock.pts[0])
        raise SourceError(f"{info.path}: no frame in the part asked for; the video is {length:.1f} s long")
    inside = [gap for gap in gaps if span.start <= gap.at and (span.end is None or gap.at < span.end)]
    notes = tuple(f"{info.path.name}: {line}" for line in told_gaps(inside))
    if weaving is not None:
        segments = tuple(replace(each, packets=len(weaving.within(each.start, each.end))) for each in segments)
    made_of = None if weaving is None else weaving.as_json()
    return Plan(_identity(info.path), dict(settings), dict(versions), segments, notes=notes, weaving=made_of)


def cut(clock: Clock, span: TimeRange, monotonic: bool = True) -> tuple[Segment, ...]:
    """The part `span` of a video in segments of MIN_FRAMES and more, cut at keyframes where there are any; none where
    no picture is in it. monotonic: whether it may be cut at all, see StreamInfo."""
    pts, keyframes = clock.pts, clock.keyframes
    low, high = span.limits(pts[0], clock.time_base)
    chosen = [t for t in pts if (low is None or t >= low) and (high is None or t < high)]
    if not chosen:
        return ()
    keys, skipped = set(keyframes), bisect_left(pts, chosen[0])
    cuts = [0]
    while monotonic and len(chosen) - cuts[-1] >= MIN_FRAMES + MIN_FRAMES // 2:
        at = range(cuts[-1] + MIN_FRAMES, min(cuts[-1] + MAX_FRAMES, len(chosen) - MIN_FRAMES // 2) + 1)
        own = [i for i in at if i < len(chosen) and chosen[i] != chosen[i - 1]]  # not between pictures of one time
        if not own:
            break
        cuts.append(next((i for i in own if chosen[i] in keys), own[-1]))
    segments = []
    for index, (a, b) in enumerate(zip(cuts, cuts[1:] + [len(chosen)])):
        start = low if index == 0 else chosen[a]
        end = high if b == len(chosen) else chosen[b]
        seek = _seek_target(keyframes, None if start is None else min(start, pts[max(0, skipped + a - BEFORE)]))
        segments.append(Segment(index, start, end, seek, b - a))
    return tuple(segments)


def one_segment(info: SourceInfo, span: TimeRange) -> Segment:
    """`span` as a single segment, found through the container's index; the whole file is read only where that fails.

    Its `packets` are not counted.
    """
    if span.whole:
        return Segment(0, None, None, None, 0)
    video = info.video
    if video.timeline.pieces:
        clock = read_clock(info.path, video)
        low, high = span.limits(clock.pts[0], video.time_base)
        return Segment(0, low, high, _seek_target(clock.keyframes, low), 0)
    with open_input(info.path) as container:
        stream: Any = container.streams[video.index]
        discard_others(container, stream)
        shown = (p.pts if p.pts is not None else p.dts for p in packets(container, [stream]) if not p.is_discard)
        first = min(islice((time for time in shown if time is not None), FIRST_PACKETS), default=0)
        low, high = span.limits(first, video.time_base)
        seek = None
        if low is not None:
            before = low - round(BEFORE / video.rate / video.time_base)
            at = _keyframe_below(container, stream, max(first, before))
            seek = None if at is None else _keyframe_below(container, stream, at - 1)
            if seek is None and at != first:
                seek = _seek_target(read_clock(info.path, video).keyframes, before)
    return Segment(0, low, high, seek, 0)


def _keyframe_below(container: Any, stream: Any, time: int) -> int | None:
    """The pts of the last keyframe up to `time`, where the container's index leads straight to it."""
    try:
        container.seek(time, stream=stream, backward=True, any_frame=False)
    except (av.FFmpegError, OSError):
        return None
    packet: Any = next(packets(container, [stream]), None)
    found = packet is not None and packet.is_keyframe and packet.pts is not None and packet.pts <= time
    return int(packet.pts) if found else None


def _seek_target(keyframes: Sequence[int], start: int | None) -> int | None:
    """The keyframe before the one at or below `start`: leading pictures of an open GOP then have their references."""
    if start is None:
        return None
    position = bisect_right(keyframes, start)
    return keyframes[position - 2] if position >= 2 else None


def _identity(path: Path) -> dict[str, Any]:
    return {"name": path.name, "size": path.stat().st_size, "sha256": file_sha256(path)}


def work_folder(output: Path) -> Path:
    """The folder of the run that makes `output`: OUTPUT.vidsr/, or a shorter name where that is none."""
    return output.with_name(fit_name(output.name, ".vidsr"))


class Workspace:
    """The folder OUTPUT.vidsr/ of one run; one process at a time."""

    def __init__(self, output: Path) -> None:
        self.path = work_folder(output)
        self._lock: FileLock | None = None

    def open(self) -> None:
        """Create the folder and lock it. OutputError when the place cannot be written or another run has it."""
        while self._lock is None:
            try:
                self.path.mkdir(parents=False, exist_ok=True)
                lock = FileLock(self._lock_path, timeout=0)
                lock.acquire()
            except Timeout as error:
                raise OutputError(f"{self.path}: another vidsr is working there; wait for it or stop it") from error
            except FileNotFoundError as error:
                if self.path.parent.is_dir():
                    continue  # the run before has just removed the folder
                raise OutputError(f"{self.path.parent}: no such folder to write into; create it first") from error
            except OSError as error:
                reason = error.strerror or error
                raise OutputError(f"{self.path}: cannot be written ({reason}); choose another place with -o") from error
            if self._lock_path.exists():
                self._lock = lock
            else:  # a lock on a file that the run before has removed keeps nobody out
                lock.release()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def remove(self) -> None:
        """Delete the folder: the run is finished. Until nothing is left in it nobody else can begin there.

        What cannot be deleted stays; the result is good all the same.
        """
        with suppress(OutputError):
            self.discard()
        if os.name == "posix":  # elsewhere an open file cannot be deleted
            self._lock_path.unlink(missing_ok=True)
        self.close()
        with suppress(OSError):  # another run has it now, or something is left
            if os.name != "posix":
                self._lock_path.unlink()
            self.path.rmdir()

    def discard(self) -> None:
        """Throw the unfinished work away but keep the folder and its lock. OutputError, at the end, for what stays."""
        left = []
        for path in self.path.iterdir():
            if path != self._lock_path:
                try:
                    path.unlink()
                except OSError as error:
                    left.append(f"{path.name}: {error.strerror}")
        if left:
            raise OutputError(f"{self.path}: cannot be emptied ({left[0]}); delete what is in it, or move it away")

    @property
    def _lock_path(self) -> Path:
        return self.path / "lock"

    @property
    def plan_path(self) -> Path:
        return self.path / "plan.json"

    def video_path(self, index: int) -> Path:
        return segment_path(self.path, index)

    def _journal_path(self, index: int) -> Path:
        return self.path / f"segment-{index:05d}.json"

    def load_plan(self) -> Plan | None:
        """The plan of unfinished work, None when there is none. ResumeError when it cannot be read."""
        if not self.plan_path.exists():
            return None
        try:
            raw = json.loads(self.plan_path.read_text())
            if raw["version"] != PLAN_VERSION:
                raise ValueError(f"format {raw['version']}")
            segments = tuple(Segment(**segment) for segment in raw["segments"])
            fixed = raw["source"], raw["settings"], raw["versions"], segments, raw["resolved"]
            return Plan(*fixed, weaving=raw["weaving"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ResumeError(f"{self.plan_path}: unreadable ({error}); start over with --restart") from error

    def save_plan(self, plan: Plan) -> None:
        self._write(self.plan_path, asdict(plan))

    def save_result(self, result: SegmentResult) -> None:
        self._write(self._journal_path(result.index), asdict(result))

    def load_result(self, index: int) -> SegmentResult | None:
        """The journal entry of a segment whose video is there, whole and unchanged; None: it must be made."""
        try:
            raw = json.loads(self._journal_path(index).read_text())
            result = SegmentResult(
                raw["index"], tuple(raw["pts"]), tuple(raw["durations"]), raw["sha256"], raw["counts"]
            )
            return result if file_sha256(self.video_path(index)) == result.sha256 else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, path: Path, content: Any) -> None:
        try:
            write_whole(path, json.dumps(content, indent=1, default=_plain).encode())
        except OSError as error:
            raise OutputError(write_failure(path, "cannot be written", error)) from error


def segment_path(folder: Path, index: int) -> Path:
    """The video of a segment, by its number."""
    return folder / f"segment-{index:05d}.mkv"


def _plain(value: Any) -> Any:
    if isinstance(value, (Fraction, Path)):
        return str(value)
    raise TypeError(f"{type(value).__name__} in a plan")


# Options whose values are words that a plan has, too.
_OPTIONS = {name: f"--{name.replace('_', '-')}"
            for name in ("backend", "precision", "tile", "scale", "codec", "pixel_format")}  # fmt: skip


def check_resumable(found: Plan, wanted: Plan, folder: Path) -> None:
    """ResumeError that names every difference when `found`'s finished segments are not `wanted`'s.

    What the machine made of the settings is compared when both say.
    """
    differences, options = [], []
    if found.source["sha256"] != wanted.source["sha256"]:
        differences.append("the source file's content")
    for what in ("settings", "versions", "resolved"):
        old, new = (json.loads(json.dumps(getattr(plan, what), default=_plain)) for plan in (found, wanted))
        if what == "resolved" and not (old and new):
            continue
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                differences.append(f"{key.replace('_', ' ')} ({old.get(key)} then, {new.get(key)} now)")
                if key in _OPTIONS and old.get(key):
                    options.append(f"{_OPTIONS[key]} {old[key]}")
                elif key in ("tile", "batch"):
                    options.append("as much free memory")
    if not differences and found.weaving != wanted.weaving:
        differences.append("which fields its pictures are made of")
    if not differences and found.segments != wanted.segments:
        differences.append("where the segments are cut")
    if differences:
        repeat = f"repeat it as it was{', with ' if options else ''}{' and '.join(options)}"
        raise ResumeError(
            f"{folder}: holds unfinished work that differs in {', '.join(differences)}; "
            f"{repeat}, or throw it away with --restart"
        )
