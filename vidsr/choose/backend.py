"""Which backend this machine is faster with, where that cannot be told without trying."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from math import inf
from pathlib import Path

from vidsr.backends import backend_kind, contenders, fallbacks, open_backend
from vidsr.backends.base import BackendSpec
from vidsr.choose.forecast import first_frame, picture_seconds
from vidsr.choose.model import WORTH_MEASURING, unfinished
from vidsr.choose.samples import part_of, stretches
from vidsr.errors import BackendError
from vidsr.frames import Frame, FrameBatch, SourceInfo, StreamInfo, TimeRange
from vidsr.mux.keep import STDOUT
from vidsr.report import Report

_WHOLE = 0.4  # seconds: pictures that take no longer are measured whole, for as long, else by a piece of them


def faster_backend(
    spec: BackendSpec, info: SourceInfo, span: TimeRange, output: Path, restart: bool, report: Report,
    say: Callable[[str], None] | None,
) -> BackendSpec:  # fmt: skip
    """`spec`, or with the name of a contender that was measured to be faster: see `BackendKind.contender`.

    Short parts and streams are not worth it. Unfinished work goes on with the backend that it was begun with.
    """
    rivals = [replace(spec, name=name, instead=fallbacks(name, spec.precision)) for name in contenders(spec.name)]
    if spec.precision is not None:
        rivals = [rival for rival in rivals if spec.precision in backend_kind(rival.name).precisions]
    if not rivals or output == STDOUT:
        return spec
    plan = None if restart else unfinished(output)
    begun = plan.resolved.get("backend") if plan else None
    if begun in (spec.name, *(rival.name for rival in rivals)):
        return next((rival for rival in rivals if rival.name == begun), spec)
    frames = part_of(info, span).frames
    frame = first_frame(info, stretches(info, span, (0.5,), 1)[0])
    if frame is None or (frames is not None and frames < WORTH_MEASURING * info.video.rate):
        return spec
    seconds: dict[BackendSpec, float] = {}
    for one in (spec, *rivals):
        try:
            # What stands in for a rival is no rival; what stands in for `spec` is what there would be without one.
            seconds[one] = _seconds(one if one is spec else replace(one, instead=()), frame, info.video, report)
        except BackendError as error:
            report.warn(str(error))
    taken = min(seconds, key=lambda one: seconds[one], default=spec)
    if say and len(seconds) > 1:
        speeds = ", ".join(f"{one.name} {1 / seconds[one]:.2g}" for one in seconds)
        say(f"pictures a second, by themselves: {speeds}; going on with --backend {taken.name}")
    return taken


def _seconds(spec: BackendSpec, frame: Frame, video: StreamInfo, report: Report) -> float:
    """How long a whole picture takes."""
    with closing(open_backend(spec, report.warn)) as backend:
        # As many as a run gives it: what has room for more takes as long for one.
        count = backend_kind(spec.name).batch_size
        estimate = picture_seconds(backend, frame, video, count)
        if estimate > _WHOLE:
            return estimate
        whole, batch = inf, FrameBatch((frame,) * count, video.format, video.color)
        backend(batch)  # libraries choose how to do it
        end = time.perf_counter() + _WHOLE
        while whole == inf or time.perf_counter() < end:
            begin = time.perf_counter()
            backend(batch)
            whole = min(whole, (time.perf_counter() - begin) / count)
        return whole
