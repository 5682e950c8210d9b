"""The whole run, from a file to its enlarged and proven copy. Read this first.

    plan ─► for each segment:  decode ─► batch ─► upscale ─► encode ─► segment file  ─► stitch ─► verify
                                                  (reuse: only what moves)

Every stage is a generator over the one before it; prefetch() puts decoding and upscaling into threads of their own, so
that both overlap with encoding, and in_parallel() works on several segments at once, which share one backend. A
segment whose encoder stands still is made once more. For a stream into a pipe (`-o -`) live.py composes the same
stages; which model runs was decided before, in model.py.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Any

import av

import vidsr
from vidsr.backends.base import Backend, BackendSpec
from vidsr.encode.encoder import EncodeSettings, encode
from vidsr.errors import EncoderStalled, OutputError, VerifyError
from vidsr.files import publish, write_failure
from vidsr.frames import Frame, SourceInfo, TimeRange
from vidsr.mux.stitch import Keep, stitch
from vidsr.proof.verify import Proof, verify
from vidsr.report import Report
from vidsr.reuse.reuse import Saved, reuse
from vidsr.reuse.stillness import Tolerance
from vidsr.run.batch import batches
from vidsr.run.prefetch import in_parallel, prefetch
from vidsr.run.segments import Plan, Segment, SegmentResult, Workspace, check_resumable, file_sha256, make_plan
from vidsr.run.upscale import upscale
from vidsr.source.decode import decode

WHOLE = TimeRange()
STALLS = 2  # of its encoder, that a segment may have


@dataclass(frozen=True)
class Job:
    """One episode to upscale, every choice made.

    workers: segments worked on at once. decode_on_gpu: see decode.decode. reuse: of still areas; None: never.
    settings: what plan.json remembers besides source and versions.
    """

    info: SourceInfo
    output: Path
    backend: BackendSpec
    encoder: EncodeSettings
    keep: Keep
    span: TimeRange = WHOLE
    batch_size: int = 1
    workers: int = 1
    decode_on_gpu: bool = False
    reuse: Tolerance | None = None
    restart: bool = False
    overwrite: bool = False
    check: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where a run is. done, total: frames, resumed ones included; segment: 1-based number of the furthest one begun.

    reused: the share of the pictures upscaled so far that was taken from earlier results.
    step: "upscaling", then "joining" and "proving", which take a moment with long episodes.
    """

    done: int
    total: int
    segment: int
    segments: int
    resumed: int
    reused: float = 0.0
    step: str = "upscaling"


def run(
    job: Job, open_backend: Callable[[BackendSpec], Backend], report: Report,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Proof | None:  # fmt: skip
    """Upscale `job.info.path` into `job.output`, which appears only when it is complete and proven.

    A run that was stopped goes on from its last finished segment. VerifyError leaves the unproven result in the work
    folder and names it; every other VidsrError leaves the finished segments there.
    """
    plan = make_plan(job.info, job.span, job.settings, versions())
    work = Workspace(job.output)
    work.open()
    try:
        found = None if job.restart else work.load_plan()
        if found is None:
            work.discard()
        else:
            check_resumable(found, plan, work.path)
            plan = found
        results = _make_segments(job, plan, work, open_backend, report, progress)
        _count_losses(job, plan, results, report)
        partial = work.path / f"result{job.output.suffix}"
        last = next((r.durations[-1] for r in reversed(results) if r.durations and r.durations[-1] > 0), 0)
        filled = [result for result in results if result.pts]
        videos = [work.video_path(result.index) for result in filled]
        end = Progress(sum(len(r.pts) for r in results), plan.packets, len(results), len(results), 0)
        progress(replace(end, step="joining"))
        stitch(job.info, job.keep, videos, [r.pts for r in filled], last or _usual_step(filled), partial, job.span)
        progress(replace(end, step="proving"))
        dropped = {track.index for track in job.keep.dropped}
        proof = verify(job.info.path, partial, job.backend.scale, dropped, job.span) if job.check else None
        if proof is not None and not proof.passed:
            wrong = "; ".join(f"{check.name}: {check.detail}" for check in proof.failures)
            raise VerifyError(f"{partial}: does not prove to be {job.info.path.name} ({wrong}); kept there to look at")
        _place(job, partial)
    except BaseException:
        work.close()
        raise
    work.remove()
    return proof


def _place(job: Job, partial: Path) -> None:
    """Give the finished result its name. OutputError where something has come there that may not be replaced."""
    try:
        publish(partial, job.output, job.overwrite)
    except FileExistsError as error:
        raise OutputError(
            f"{job.output}: has appeared during the run, and is kept; the finished result is {partial}: move it, or "
            "run the same command with --overwrite"
        ) from error
    except OSError as error:
        raise OutputError(write_failure(job.output, "the result cannot be put there", error)) from error


def versions() -> dict[str, str]:
    """What may change the bytes of the result from one installation to the next."""
    return {
        "vidsr": vidsr.__version__, "torch": metadata.version("torch"), "av": av.__version__,
        "ffmpeg": av.ffmpeg_version_info, "processor": platform.machine(),
    }  # fmt: skip


def _make_segments(
    job: Job, plan: Plan, work: Workspace, open_backend: Callable[[BackendSpec], Backend], report: Report,
    progress: Callable[[Progress], None],
) -> list[SegmentResult]:  # fmt: skip
    """Make every segment that is not there yet; all results in order."""
    found = [work.load_result(segment.index) for segment in plan.segments]
    results = [result for result in found if result is not None]
    missing = [segment for segment, result in zip(plan.segments, found) if result is None]
    if missing:
        resumed = sum(len(result.pts) for result in results)
        where = Progress(resumed, plan.packets, 0, len(plan.segments), resumed)
        turn, counting = Lock(), Lock()
        savings: list[Saved] = []

        def took(segment: Segment) -> None:
            nonlocal where
            with counting:
                done, furthest = where.done + 1, max(where.segment, segment.index + 1)
                given, all = sum(s.pixels for s in savings), sum(s.all for s in savings)
                where = replace(where, done=done, segment=furthest, reused=1 - given / all if all else 0.0)
                progress(where)

        def forget(frames: int, saved: Saved) -> None:
            nonlocal where
            with counting:
                where = replace(where, done=where.done - frames)
                savings[:] = [other for other in savings if other is not saved]

        with closing(open_backend(_as_begun(job.backend, plan))) as backend:
            resolved = backend.settle(job.info.video.width, job.info.video.height)
            wanted = replace(plan, resolved=resolved)
            check_resumable(plan, wanted, work.path)
            if not plan.resolved:
                work.save_plan(wanted)

            def make(segment: Segment) -> Generator[None, None, SegmentResult]:
                stalls = 0
                while True:
                    try:
                        return (yield from attempt(segment))
                    except EncoderStalled:
                        stalls += 1
                        if stalls > STALLS:
                            raise
                        report.warn(f"segment {segment.index + 1}: the encoder stood still; it is made once more")

            def attempt(segment: Segment) -> Generator[None, None, SegmentResult]:
                own, saved = Report(report.warn), Saved()
                savings.append(saved)
                frames: list[Frame] = []
                path = work.video_path(segment.index)
                try:
                    with closing(segment_stages(job, segment, path, backend, own, turn, saved)) as stages:
                        for frame in stages:
                            frames.append(replace(frame, planes=()))
                            took(segment)
                            yield
                except EncoderStalled:
                    forget(len(frames), saved)
                    raise
                frames.sort(key=lambda frame: frame.pts)  # they come in the order they decode in
                pts = tuple(frame.pts for frame in frames)
                digest = file_sha256(path) if pts else ""
                result = SegmentResult(segment.index, pts, tuple(f.duration for f in frames), digest, dict(own.counts))
                work.save_result(result)
                return result

            results += in_parallel(make, missing, job.workers)
    results.sort(key=lambda result: result.index)
    for result in results:
        for what, number in result.counts.items():
            report.count(what, number)
    return results


def _as_begun(spec: BackendSpec, plan: Plan) -> BackendSpec:
    """`spec` with the tile that the run was begun with, where none is asked for: it follows from the free memory."""
    return spec if spec.tile else replace(spec, tile=plan.resolved.get("tile", 0))


def segment_stages(
    job: Job, segment: Segment, path: Path | None, backend: Backend, report: Report,
    turn: AbstractContextManager[Any] | None = None, saved: Saved | None = None,
) -> Generator[Frame, None, None]:  # fmt: skip
    """The stages of one segment, composed. Yields each frame as the encoder has taken it. path: see `encode`. The rest:
    see `enlarged`."""
    video, spec = job.info.video, job.backend
    with enlarged(job, segment, backend, report, turn, saved) as upscaled:
        yield from encode(
            upscaled, path, job.encoder, spec.result_format, spec.result_color,
            video.time_base, video.rate, video.sample_aspect,
        )  # fmt: skip


@contextmanager
def enlarged(
    job: Job, segment: Segment, backend: Backend, report: Report,
    turn: AbstractContextManager[Any] | None = None, saved: Saved | None = None,
) -> Iterator[Iterator[Frame]]:  # fmt: skip
    """The stages before the encoder, composed: a segment's frames, enlarged; their threads end with the context.

    turn: a lock for the backend, where several segments are worked on at once. saved: counts what reuse comes to.
    """
    video = job.info.video
    decoded = decode(job.info.path, video, segment.start, segment.end, segment.seek, report, job.decode_on_gpu)
    decoded = prefetch(decoded, depth=8, name="decode")
    grouped = batches(decoded, job.batch_size, video.format, video.color)
    if job.reuse is None:
        upscaled = upscale(grouped, backend, turn)
    else:
        upscaled = reuse(grouped, backend, job.reuse, turn, saved)
    upscaled = prefetch(upscaled, depth=2, name="upscale")
    # Both by name: an error that lies about keeps the stages it came through, and with them their threads.
    with closing(decoded), closing(upscaled):
        yield upscaled


def _count_losses(job: Job, plan: Plan, results: list[SegmentResult], report: Report) -> None:
    """Say what of the source never became a picture."""
    frames = sum(len(result.pts) for result in results)
    if not frames:
        raise OutputError(f"{job.info.path}: no frame of the part asked for decodes; nothing was written")
    if frames < plan.packets:
        report.count("coded pictures of the source that do not decode and are missing", plan.packets - frames)
    first, last = results[0].pts[0] if results[0].pts else 0, max(max(r.pts, default=0) for r in results)
    warn_if_short(job, first, last, report)


def warn_if_short(job: Job, first: int, last: int, report: Report) -> None:
    """Say when the pictures, from pts `first` to `last`, end well before the source is said to."""
    duration = job.info.duration
    if duration is None or not job.span.whole:
        return
    length = float((last - first) * job.info.video.time_base)
    if length < 0.98 * duration - 2:
        report.warn(f"{job.info.path.name}: the picture ends after {length:.1f} s of {duration:.1f} s; is it complete?")


def _usual_step(results: list[SegmentResult]) -> int:
    """A duration for the last frame when the source gives none: the last step between two frames."""
    pts = sorted(time for result in results[-2:] for time in result.pts)
    return pts[-1] - pts[-2] if len(pts) > 1 else 1
