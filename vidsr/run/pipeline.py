"""The whole run, from a file to its enlarged and proven copy. Read this first.

    plan ─► make_segment for each segment, several at once ─► stitch ─► verify ─► the result gets its name

stages.py has what happens to a segment's frames; segments.py the plan and the journal, by which a stopped run goes on.
Which pictures the result is of where fields have to be put together, and when they are shown, was found before, too
(choose/fields.py), and stands in the plan: segments only apply it. Times that restart are mended where packets are read
(container.py), so that nothing here knows of them.
For a stream into a pipe (`-o -`) live.py composes the same stages. What runs was decided before, in choose/.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from threading import Lock

import av

import vidsr
from vidsr.backends import BACKENDS, backend_kind
from vidsr.backends.base import Backend, BackendSpec
from vidsr.errors import Cancelled, OutputError, VerifyError
from vidsr.files import publish, write_failure
from vidsr.mux.stitch import stitch
from vidsr.proof.verify import Proof, verify
from vidsr.report import Report
from vidsr.reuse.reuse import ReuseCounts
from vidsr.run.job import Job, Progress
from vidsr.run.prefetch import in_parallel
from vidsr.run.segments import Plan, Segment, SegmentResult, Workspace, check_resumable, make_plan
from vidsr.run.stages import make_segment


def run(
    job: Job, open_backend: Callable[[BackendSpec], Backend], report: Report,
    progress: Callable[[Progress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Proof | None:  # fmt: skip
    """Upscale `job.info.path` into `job.output`, which appears only when it is complete and proven.

    A run that was stopped goes on from its last finished segment. cancelled: asked after each frame and each step.
    VerifyError leaves the unproven result in the work folder and names it; every other VidsrError, Cancelled among
    them, leaves the finished segments there.
    """

    def told(where: Progress) -> None:
        progress(where)
        if cancelled():
            again = "the same without restart" if job.restart else "the same again"
            raise Cancelled(f"{job.output}: cancelled; finished segments are kept, {again} goes on from there")

    plan = make_plan(job.info, job.span, job.settings, versions(), job.weaving)
    for line in plan.notes:
        report.warn(line)
    work = Workspace(job.output)
    work.open()
    try:
        found = None if job.restart else work.load_plan()
        if found is None:
            work.discard()
        else:
            check_resumable(found, plan, work.path)
            plan = found
        results = _make_segments(job, plan, work, open_backend, report, told)
        _count_losses(job, plan, results, report)
        partial = work.path / f"result{job.output.suffix}"
        last = next((r.durations[-1] for r in reversed(results) if r.durations and r.durations[-1] > 0), 0)
        filled = [result for result in results if result.pts]
        videos = [work.video_path(result.index) for result in filled]
        end = Progress(sum(len(r.pts) for r in results), plan.packets, len(results), len(results), 0)
        told(replace(end, step="joining"))
        window = job.window(min(min(result.pts) for result in filled), plan.segments[-1].end)
        stitch(
            job.shown, job.keep, videos, [r.pts for r in filled], last or _usual_step(filled), partial, window,
            job.result.sample_aspect,
        )  # fmt: skip
        told(replace(end, step="proving"))
        dropped, crop, proof = {track.index for track in job.keep.dropped}, job.info.video.crop, None
        if job.check:
            proof = verify(
                job.info.path, partial, job.result, dropped, job.span, crop, job.audio, job.weaving
            )  # fmt: skip
        if proof is not None and not proof.passed:
            found_wrong = "; ".join(f"{check.name}: {check.detail}" for check in proof.failures)
            name = job.info.path.name
            raise VerifyError(f"{partial}: does not prove to be {name} ({found_wrong}); kept there to look at")
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
        totals = _Totals(plan, results, progress)
        backend_lock = Lock()
        with closing(open_backend(_as_begun(job.backend, plan))) as backend:
            video = job.info.video
            settled = replace(plan, resolved=backend.settle(video.width, video.height, job.reuse is not None))
            check_resumable(plan, settled, work.path)
            if not plan.resolved:
                work.save_plan(settled)
            job = _as_opened(job, str(settled.resolved.get("backend")))

            def make(segment: Segment, go_on: Callable[[], None]) -> SegmentResult:
                def taken(frames: int, counts: ReuseCounts) -> None:
                    totals.taken(segment, frames, counts)
                    go_on()

                result = make_segment(job, segment, work.path, backend, report, backend_lock, taken)
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
    return spec if spec.tile else replace(spec, tile=plan.resolved.get("tile") or None)


def _as_opened(job: Job, name: str) -> Job:
    """`job` as it suits the backend of that name, which stands in for the one that was chosen and could not be opened:
    what many workers make of a CPU is no faster and takes their memory. The result is the same."""
    if name == job.backend.name or name not in BACKENDS:
        return job
    kind = backend_kind(name)
    workers = job.workers if kind.device == backend_kind(job.backend.name).device else 1
    return replace(job, workers=workers, batch_size=kind.batch_size)


class _Totals:
    """Where all segments together are; several threads tell it."""

    def __init__(self, plan: Plan, resumed: Sequence[SegmentResult], progress: Callable[[Progress], None]) -> None:
        self._lock, self._progress = Lock(), progress
        self._segments: dict[int, tuple[int, int, int]] = {}
        frames = sum(len(result.pts) for result in resumed)
        self._where = Progress(frames, plan.packets, 0, len(plan.segments), frames)

    def taken(self, segment: Segment, frames: int, counts: ReuseCounts) -> None:
        """`frames` of `segment` are made, which begins again when its encoder stood still."""
        with self._lock:
            self._segments[segment.index] = frames, counts.computed_pixels, counts.all_pixels
            made, computed, pixels = (sum(numbers) for numbers in zip(*self._segments.values()))
            where = self._where
            self._where = replace(
                where, done=where.resumed + made, segment=max(where.segment, segment.index + 1),
                reused=1 - computed / pixels if pixels else 0.0,
            )  # fmt: skip
            self._progress(self._where)


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
    length = float((last - first) * job.shown.video.time_base)
    if length < 0.98 * duration - 2:
        report.warn(f"{job.info.path.name}: the picture ends after {length:.1f} s of {duration:.1f} s; is it complete?")


def _usual_step(results: list[SegmentResult]) -> int:
    """A duration for the last frame when the source gives none: the last step between two frames."""
    pts = sorted(time for result in results[-2:] for time in result.pts)
    return pts[-1] - pts[-2] if len(pts) > 1 else 1
