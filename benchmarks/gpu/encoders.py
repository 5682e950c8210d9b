"""How fast this host's cores encode, as a part of `python -m benchmarks gpu`: what the GPU's speed is held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from benchmarks.common.pictures import RATE, Source, drawn, no_av
from benchmarks.gpu.device import SIZE, TINY
from benchmarks.gpu.trial import Found, Trial
from benchmarks.speed.measure import GPU_BATCH, Effort, figures, make_batches, open_on, plain_spec
from vidsr.backends.cuda import KIND as CUDA
from vidsr.frames import Frame
from vidsr.machine import cores
from vidsr.run.upscale import upscale

PRESETS = ("veryfast", "superfast")  # the first is what vidsr takes
FRAMES = 24  # of each file


def x264(trial: Trial, models: list[str]) -> Found:
    """Frames a second of x264 alone, of enlarged pictures in memory: files at once, threads of each, preset."""
    if lacking := no_av():
        return {"left out": lacking}
    size = TINY if trial.rehearsal else SIZE
    source = drawn(*size, FRAMES, None)
    pictures = _enlarged(trial, source, models[0])
    trial.keep(size="x".join(map(str, pictures[0].planes[0].shape[::-1])), cores=cores())
    for preset in PRESETS:
        for jobs, threads in shared_out(cores()):

            def work(jobs: int = jobs, threads: int = threads, preset: str = preset) -> Found:
                return _speed(trial, source, pictures, jobs, threads, preset)

            found = trial.attempt(f"{jobs} at once with {threads} threads, {preset}", 3, work)
            trial.add("encoders", {"jobs": jobs, "threads": threads, "preset": preset, **found})
    return {}


def shared_out(count: int) -> list[tuple[int, int]]:
    """(files at once, threads of each): `count` cores in all, and where threads wait for each other, twice as many."""
    jobs = [n for n in (1, 2, 4, 8, 16, 32) if n <= count]
    return [(n, count // n) for n in jobs] + [(n, 2 * count // n) for n in jobs if n >= 4]


def _enlarged(trial: Trial, source: Source, model: str) -> list[Frame]:
    backend = open_on(plain_spec(CUDA.name, model, 4, source), trial.bench.device, trial.bench.note)
    try:
        enlarged = upscale(iter(make_batches(source, GPU_BATCH)), backend)
        return [Frame(tuple(plane.copy() for plane in frame.planes), i, 1) for i, frame in enumerate(enlarged)]
    finally:
        backend.close()


def _speed(trial: Trial, source: Source, pictures: list[Frame], jobs: int, threads: int, preset: str) -> Found:
    from benchmarks.speed.around import at_once
    from vidsr.encode.codecs import CODECS
    from vidsr.encode.encoder import EncodeSettings, encode

    codec = CODECS["x264"]
    options = codec.options(None, preset, {}, source.color, None, threads)
    settings = EncodeSettings("x264", codec.encoder, options)
    frames = [replace(frame, pts=n) for n, frame in enumerate([*pictures, *pictures[::-1]] if not trial.rehearsal else pictures[:4])]

    def one(index: int) -> Iterator[Frame]:
        path = trial.bench.folder / f"{index}.mkv"
        return encode(iter(frames), path, settings, source.format, source.color, Fraction(1, RATE), Fraction(RATE), Fraction(1))

    return figures(lambda: at_once(one, jobs, jobs), Effort(1.0, 1), jobs * len(frames))
