"""The parts of `python -m benchmarks gpu`. Each finds things out, and keeps every finding as soon as it is there."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import util
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters

from benchmarks.common.machine import load
from benchmarks.common.metrics import decibels
from benchmarks.common.pictures import RATE, Source, demo_or_drawn, demo_over_and_over, drawn, no_av
from benchmarks.gpu.device import chunks, copies, profiled, race
from benchmarks.gpu.encoders import x264
from benchmarks.gpu.suite import tests
from benchmarks.gpu.tensorrt import tensorrt
from benchmarks.gpu.trial import Deadline, Found, Trial, run_command
from benchmarks.speed.fps import CLIP_FRAMES, Bench, measure, result
from benchmarks.speed.inside import device_alone
from benchmarks.speed.measure import GPU_BATCH, Effort, make_batches, model_only, open_on, plain_spec
from benchmarks.speed.memory import rss
from vidsr.backends.cuda import KIND as CUDA
from vidsr.backends.tensorrt.body import KIND as ENGINES
from vidsr.errors import BackendError, ModelError
from vidsr.frames import FrameBatch
from vidsr.models.checkpoint import installed_models
from vidsr.run.upscale import upscale

SIZES = ((480, 270), (640, 360), (720, 480), (1280, 720))
TINY = ((64, 48), (80, 48))
MODELS = ("fast", "balanced", "best", "srwgan-gp", "tiny")  # by worth; the last, which is quick, in rehearsals
CLIP_SECONDS = 20


def run_part(name: str, device: str, deadline: Deadline, path: Path) -> None:
    """Run a part and leave its findings in the file `path`."""
    rehearsal = device == "cpu"
    parts: dict[str, Callable[[Trial, list[str]], Found]] = {
        "tests": tests, "race": race, "copies": copies, "chunks": chunks, "profile": profiled, "x264": x264, "execution": execution,
        "fps": fps, "tensorrt": tensorrt, "clip": clip, "memory": memory,
    }  # fmt: skip
    models, missing = installed(MODELS[-1:] if rehearsal else MODELS)
    if rehearsal:
        torch.set_num_threads(1)  # for pictures as small as these, waiting for a second takes longer than the work
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), torch.device(device), Effort(0.02, 1) if rehearsal else Effort(0.5, 3))
        trial = Trial(bench, deadline, path)
        if missing:
            bench.note(f"without {', '.join(missing)}, whose weights are not here")
        found = trial.attempt(name, 0, lambda: parts[name](trial, models))
    if trial.failures and "failed" not in found:
        found["failed"] = "; ".join(trial.failures)
    trial.keep(**found, notes=bench.notes)


def installed(models: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those whose weights are here, and those whose are not. ModelError where there are none at all."""
    here = {model.name for model in installed_models()}
    found = [model for model in models if model in here]
    if not found:
        raise ModelError(f"no weights of {', '.join(models)} are installed")
    return found, [model for model in models if model not in here]


def fps(trial: Trial, models: list[str]) -> Found:
    """Every model at every size: first by itself everywhere, then with TensorRT, then from decoding to encoding."""
    bench, before = trial.bench, load()
    length = 24 if trial.rehearsal else CLIP_FRAMES["cuda"]
    sizes = TINY if trial.rehearsal else SIZES
    reason, lacking = ENGINES.available(), no_av()
    trial.keep(tensorrt=f"not measured: {reason}" if reason else "measured too")
    trial.keep(decode_to_encode=f"not measured: {lacking}" if lacking else "measured too")
    names = (CUDA.name,) if reason else (CUDA.name, ENGINES.name)
    passes = [(name, around) for around in (False, True)[: 1 if lacking else 2] for name in names]
    rows: dict[tuple[Any, ...], Found] = {}
    for (name, around), size, model in product(passes, sizes, models):
        key = (name, model, size)

        def work(key: tuple[str, str, tuple[int, int]] = key, around: bool = around) -> Found:
            name, model, size = key
            source = demo_or_drawn(*size, length, bench.folder) if around else drawn(*size, GPU_BATCH * 3, None)
            return measure(bench, name, model, source, around, rows.get(key))

        what = f"{model} on {name}, {size[0]}x{size[1]}{', decode to encode' if around else ''}"
        needed = 30 if around and size == SIZES[-1] else 40 if name == ENGINES.name and not around else 12 if around else 5
        found = trial.attempt(what, needed, work)
        if "model_only" in found:
            rows[key] = found
        else:
            trial.add("without", {"what": what, **found})
        trial.keep(**result(bench, list(rows.values()), before))
    return {} if rows or trial.failures else {"left out": "no time for any measurement"}


def execution(trial: Trial, models: list[str]) -> Found:
    """The same network in three ways: as vidsr runs it on a GPU, kernel by kernel, and compiled by torch.compile."""
    source = drawn(*(TINY if trial.rehearsal else SIZES)[0], GPU_BATCH * 3, None)
    models = models[:2]
    references: dict[str, FrameBatch] = {}
    for way in ("graph", "eager", "compile"):
        for model in models:

            def work(model: str = model, way: str = way) -> Found:
                found, enlarged = _execute(trial, source, model, way)
                reference = references.setdefault(model, enlarged)
                return found if reference is enlarged else {**found, **compared(enlarged, reference)}

            found = trial.attempt(f"{model}, {way}", 30 if way == "compile" else 4, work)
            trial.add("ways", {"model": model, "size": source.size, "execution": way, **found})
    return {}


def _execute(trial: Trial, source: Source, model: str, way: str) -> tuple[Found, FrameBatch]:
    bench = trial.bench
    if trial.rehearsal and way == "compile":
        torch.compiler.set_stance("force_eager")  # the same way, without minutes of a C++ compiler
        bench.note("in the rehearsal torch.compile compiles nothing")
    torch._dynamo.reset()  # and its counters
    counters.clear()
    start = time.perf_counter()
    backend = open_on(plain_spec(CUDA.name, model, 4, source), bench.device, bench.note, way)
    try:
        batches = make_batches(source, GPU_BATCH)
        for _ in range(backend.in_flight):  # each lane has its own graph
            enlarged = backend(batches[0])
        ready = time.perf_counter() - start
        compiled = counters["stats"]["unique_graphs"]
        if way == "compile" and not compiled and not trial.rehearsal:
            raise BackendError("torch.compile has compiled nothing")
        whole = model_only(backend, batches, bench.effort)
        alone = device_alone(backend, batches[0], bench.effort)["model"]
    finally:
        backend.close()
    return {"ready_s": ready, "model_only": whole, "device_alone": alone, "compiled_graphs": compiled}, enlarged


def compared(batch: FrameBatch, reference: FrameBatch) -> Found:
    """How far the codes of `batch` are from those of `reference`: in bits, codes, and dB (None: equal)."""
    pairs = [(a.astype(int), b.astype(int)) for one, other in zip(batch.frames, reference.frames, strict=True)
             for a, b in zip(one.planes, other.planes, strict=True)]  # fmt: skip
    worst = max(int(abs(a - b).max()) for a, b in pairs)
    error = sum(int(((a - b) ** 2).sum()) for a, b in pairs) / sum(a.size for a, _ in pairs)
    peak = 2**batch.format.bits - 1
    return {"same_bits": worst == 0, "most_codes_off": worst, "psnr_db": decibels(error, peak) if error else None}


def memory(trial: Trial, models: list[str]) -> Found:
    """What is held at ten moments of a run of thousands of frames, on the device and in the host."""
    source, device = drawn(*(TINY if trial.rehearsal else SIZES)[0], GPU_BATCH * 3, None), trial.bench.device
    backend = open_on(plain_spec(CUDA.name, models[0], 4, source), device, trial.bench.note)
    batches = make_batches(source, GPU_BATCH)
    pieces = 3 if trial.rehearsal else 100

    def run() -> None:
        for _ in upscale(islice(cycle(batches), pieces), backend):
            pass

    run()  # graphs, and what the allocators keep for later
    samples: list[Found] = []
    while len(samples) <= 10 and not (samples and trial.deadline.refuses(5)):
        held = (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) if device.type == "cuda" else (None, None)
        frames = len(samples) * pieces * GPU_BATCH
        samples.append({"frames": frames, "allocated": held[0], "reserved": held[1], "host_rss": rss()})
        trial.keep(samples=samples)
        if len(samples) <= 10:
            run()
    backend.close()
    first, last = samples[0], samples[-1]
    kept = ("allocated", "reserved", "host_rss")
    growth = {name: last[name] - first[name] for name in kept if last[name] is not None}
    return {"model": models[0], "size": source.size, "frames": last["frames"], "growth": growth}


def clip(trial: Trial, models: list[str]) -> Found:
    """A clip of some seconds by vidsr, with reuse of what is still and without, and what its stages take."""
    missing = [name for name in ("av", "filelock") if not util.find_spec(name)]
    if missing:
        return {"left out": f"vidsr needs {', '.join(missing)}, not installed here"}
    bench = trial.bench
    length = RATE if trial.rehearsal else CLIP_SECONDS * RATE
    source = drawn(*TINY[0], length, bench.folder) if trial.rehearsal else demo_over_and_over(length, bench.folder)
    trial.keep(frames=length, size=source.size, clip=source.name, model=models[0])
    for reuse in ("auto", "off"):
        found = trial.attempt(f"reuse {reuse}", 8, lambda reuse=reuse: _whole_run(trial, source, length, models[0], reuse))  # type: ignore[misc]
        trial.add("runs", {"reuse": reuse, **found})
    row = trial.attempt("its stages", 12, lambda: measure(bench, CUDA.name, models[0], source))
    return {"stages": {key: row[key] for key in ("stage_ms", "bound_by", "share_of_slower", "end_to_end", "workers",
                                                  "encoder", "left out", "failed") if key in row}}  # fmt: skip


# What the command does, without what the command needs beside it (click-default-group, rich).
WHOLE_RUN = """
import sys, vidsr
source, output, model, backend, reuse = sys.argv[1:]
vidsr.upscale(source, output, model=model, backend=backend, reuse=None if reuse == "auto" else reuse, overwrite=True, told=print)
"""


def _whole_run(trial: Trial, source: Source, length: int, model: str, reuse: str) -> Found:
    folder = trial.bench.folder
    backend = "cpu" if trial.rehearsal else CUDA.name
    command = [sys.executable, "-c", WHOLE_RUN, str(source.path), str(folder / "result.mkv"), model, backend, reuse]
    start = time.monotonic()
    code, said = run_command(command, trial.deadline.left)
    seconds = time.monotonic() - start
    lines = said.replace(f"{folder}/", "").splitlines()[-30:]
    found: Found = {"said": lines, "seconds": seconds}
    if code is None:
        return {**found, "left out": f"it was stopped after {seconds:.0f} s"}
    if code != 0:
        raise BackendError(f"exit code {code}: {lines[-1] if lines else 'no output'}")
    return {**found, "fps": length / seconds}
