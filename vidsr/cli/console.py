"""What a run looks like on a terminal, and in a log file."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vidsr.api import Keep, ModelInfo, PictureInfo, SourceInfo, hdr10_codecs
from vidsr.api import Progress as Where
from vidsr.errors import one_line

PLAIN_LINE_SECONDS = 10.0
SOURCES = {"none": "clean sources", "video": "compressed sources", "worn": "worn sources"}


class Console:
    """Talks to the user: results on stdout, everything else on stderr; bars only on a terminal."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.rich = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None

    def say(self, line: str) -> None:
        if not self.quiet:
            self.rich.print(escape(one_line(line)))

    def warn(self, line: str) -> None:
        self.rich.print(f"note: {escape(one_line(line))}")

    def result(self, path: Path) -> None:
        if not self.quiet:
            sys.stdout.flush()
            sys.stdout.buffer.write(os.fsencode(path) + b"\n")  # a name need not be text
            sys.stdout.buffer.flush()

    def close(self) -> None:
        """Take the progress bar down, from anywhere."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()

    @contextmanager
    def progress(self, name: str) -> Iterator[Callable[[Where], None]]:
        """A function to call with each Progress: a bar on a terminal, a line every ten seconds elsewhere."""
        if self.quiet:
            yield lambda where: None
        elif self.rich.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
                       TextColumn("{task.fields[state]}"), TimeRemainingColumn())  # fmt: skip
            self._bar = Progress(*columns, console=self.rich, speed_estimate_period=60)
            task = self._bar.add_task(escape(one_line(name)), total=None, state="planning")
            meter = _Meter()

            def show(where: Where) -> None:
                bar = self._bar  # which another thread may take down meanwhile
                if bar is not None and where.step != "upscaling":
                    bar.update(task, total=where.done, completed=where.done, state=where.step)
                elif bar is not None:
                    state = f"{meter.fps(where):.1f} fps, segment {where.segment} of {where.segments}{_reused(where)}"
                    bar.update(task, total=where.total, completed=where.done, state=state)

            self._bar.start()
            try:
                yield show
            finally:
                self.close()
        else:
            yield self._lines(name)

    def _lines(self, name: str) -> Callable[[Where], None]:
        meter = _Meter()
        last = time.monotonic()

        def show(where: Where) -> None:
            nonlocal last
            if where.step != "upscaling":
                return
            fps = meter.fps(where)
            now = time.monotonic()
            if now - last >= PLAIN_LINE_SECONDS or where.done == where.total:
                last = now
                left = (where.total - where.done) / fps if fps else 0.0
                self.say(
                    f"{name}: {where.done} of {where.total} frames, {fps:.1f} fps, {clock(left)} left, "
                    f"segment {where.segment} of {where.segments}{_reused(where)}"
                )

        return show


def _reused(where: Where) -> str:
    return f", {where.reused:.0%} reused" if where.reused >= 0.005 else ""


class _Meter:
    """Frames a second since the start of this run; what was resumed costs no time and does not count."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def fps(self, where: Where) -> float:
        return (where.done - where.resumed) / max(1e-6, time.monotonic() - self.start)


def clock(seconds: float) -> str:
    """H:MM:SS."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def print_source(info: SourceInfo) -> None:
    """`vidsr probe`: the video and its colour."""
    video, color = info.video, info.video.color
    length = "length unknown" if info.duration is None else clock(info.duration)
    print(one_line(f"{info.path}: {info.container}, {length}"))
    cropped = "" if video.crop is None else f" of {video.whole.width}x{video.whole.height}, cropped by its header,"
    shape = "" if video.sample_aspect == 1 else f", pixel shape {video.sample_aspect}"
    turned = ", rotated by the container" if video.display_matrix else ""
    print(f"  video #{video.index}: {video.codec} {video.width}x{video.height}{cropped} {video.pixel_format}, "
          f"{float(video.rate):.3f} fps{shape}{turned}")  # fmt: skip
    print(f"  colour: {color.matrix}, {'full' if color.full_range else 'limited'} range, primaries {color.primaries}, "
          f"transfer {color.transfer}, chroma {color.chroma_location}")  # fmt: skip
    for line in color.assumed:
        print(f"    assumed: {line}")
    if video.hdr:
        print(f"  HDR10 metadata: kept with --codec {hdr10_codecs()}")
    if video.alpha:
        print("  alpha: kept in .mkv and .mov by the codecs that have one")
    if video.stereo:
        print(f"  stereo 3D: {video.stereo}")
    for what in video.lost:
        print(f"  cannot be carried over: {what}")


def print_picture(info: PictureInfo, lost: Sequence[str]) -> None:
    """`vidsr probe`: a picture or an animation, and what its result cannot hold."""
    page = info.pages[-1]
    colors = {1: "gray", 2: "gray with transparency", 3: "colour", 4: "colour with transparency"}[page.channels]
    print(f"{info.path}: {info.kind.name}, {page.width}x{page.height}, {colors}, {page.samples} bit")
    if info.animated:
        shown = f"{info.plays} times" if info.plays > 1 else "once" if info.plays else "for ever"
        total = float(sum(info.seconds))
        print(f"  animation: {len(info.seconds)} pictures in {total:.3f} s, shown {shown}; {info.kind.name} again by "
              "default, -o NAME.mkv makes a video of it")  # fmt: skip
        if info.default:
            print("  and a picture for viewers without animation")
    elif len(info.pages) > 1:
        print(f"  {len(info.pages)} pages")
    for name, data in page.metadata.named().items():
        print(f"  {name}: {len(data)} bytes")
    for line in (*info.notes, *lost):
        print(f"  note: {line}")


def print_keep(info: SourceInfo, keep: Keep, target: Path) -> None:
    """`vidsr probe`: what becomes of each other track."""
    for track in info.tracks:
        if track.index == info.video.index:
            continue
        what = f"cannot live in {target.suffix}: --drop {track.index}" if track in keep.dropped else "kept"
        what = next((f"left out: {why}" for left, why in keep.left if left == track), what)
        what = next((f"kept as {s.encoder}" for s in keep.sounds if s.index == track.index and s.encoder), what)
        print(one_line(f"  {track}: {what}"))
    if info.chapters:
        print(f"  {info.chapters} chapters: kept")


def print_models(models: list[ModelInfo]) -> None:
    """`vidsr models`."""
    for model in models:
        data = model.metadata
        words = (data.get("architecture", "?"), f"{data.get('scale', '?')}x", f"licence {data.get('licence', '?')}")
        print(f"{model.name}: {', '.join(words)}")
        for source, found in _metrics(data.get("metrics", "")).items():
            own, bicubic = found["generator"], found["bicubic"]
            print(f"  {SOURCES.get(source, source)}: {own['psnr']:.2f} dB, SSIM {own['ssim']:.4f} "
                  f"(bicubic {bicubic['psnr']:.2f} dB, {bicubic['ssim']:.4f})")  # fmt: skip


def _metrics(text: str) -> dict[str, Any]:
    """What the trainer measured, from a weights file's metadata; nothing when it is not there or not ours."""
    try:
        found = json.loads(text)
        return {k: v for k, v in found.items() if {"generator", "bicubic"} <= v.keys()}
    except (ValueError, AttributeError):
        return {}
