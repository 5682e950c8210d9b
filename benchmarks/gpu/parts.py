"""The parts of `python -m benchmarks gpu`. Each finds things out, and keeps every finding as soon as it is there."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from importlib import util
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.machine import load
from benchmarks.common.metrics import decibels
from benchmarks.common.pictures import RATE, Source, demo_or_drawn, drawn, no_av
from benchmarks.gpu.tensorrt import tensorrt
from benchmarks.gpu.trial import ROOT, Deadline, Found, Trial, run_command
from benchmarks.speed.fps import CLIP_FRAMES, Bench, measure, result
from benchmarks.speed.inside import device_alone
from benchmarks.speed.measure import GPU_BATCH, Effort, make_batches, model_only, open_on, plain_spec
from benchmarks.speed.memory import rss
from vidsr.backends.cuda import KIND as CUDA
from vidsr.backends.tensorrt.body import KIND as ENGINES
from vidsr.frames import FrameBatch
from vidsr.run.upscale import upscale

SIZES = ((480, 270), (640, 360), (720, 480), (1280, 720))
TINY = ((64, 48), (80, 48))
MODELS = ("fast", "balanced", "srwgan-gp")
CLIP_SECONDS = 20
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
NO_TESTS = 5  # pytest's exit code


def run_part(name: str, device: str, deadline: Deadline, path: Path) -> None:
    """Run a part and leave its findings in the file `path`."""
    parts = {"tests": tests, "fps": fps, "execution": execution, "tensorrt": tensorrt, "memory": memory, "clip": clip}
    rehearsal = device == "cpu"
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), torch.device(device), Effort(0.02, 1) if rehearsal else Effort(1.0, 3))
        trial = Trial(bench, deadline, path)
        found = trial.attempt(name, 0, lambda: parts[name](trial))
    if trial.failures and "failed" not in found:
        found["failed"] = "; ".join(trial.failures)
    trial.keep(**found, notes=bench.notes)


def tests(trial: Trial) -> Found:
    """The tests marked `cuda`, none of which may be skipped on a GPU for want of one."""
    if missing := [name for name in ("pytest", "hypothesis") if util.find_spec(name) is None]:
        return {"left out": f"{' and '.join(missing)} missing: pip install {' '.join(missing)}"}
    paths = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "pytest.mark.cuda" in path.read_text()]
    names = [str(path.relative_to(ROOT)) for path in paths]
    if lacking := no_av():
        unusable = [name for name in names if run_command([*PYTEST, "--collect-only", name], 60)[0] not in (0, NO_TESTS)]
        names = [name for name in names if name not in unusable]
        trial.keep(without=[f"{name}: {lacking}" for name in unusable])
    command = [*PYTEST, "-m", "cuda", "-rfE", "--no-header", *names]
    required = {} if trial.rehearsal else {"VIDSR_REQUIRE_CUDA": "1"}
    code, said = run_command(command, trial.deadline.left - 2, **required)
    lines = said.splitlines()
    counts = re.findall(r"(\d+) (passed|failed|skipped|errors?|deselected)", lines[-1] if lines else "")
    found: Found = {"command": " ".join(["python", *command[1:]]), "exit_code": code, "tail": lines[-40:],
                    "counts": {what: int(number) for number, what in counts}}  # fmt: skip
    if code != 0:
        found["failed"] = "the tests did not end in time" if code is None else lines[-1] if lines else "no output"
    return found


def fps(trial: Trial) -> Found:
    """Every model at every size: first by itself everywhere, then from decoding to encoding."""
    bench, before = trial.bench, load()
    length = 24 if trial.rehearsal else CLIP_FRAMES["cuda"]
    models, sizes = (MODELS[:1], TINY) if trial.rehearsal else (MODELS, SIZES)
    reason, lacking = ENGINES.available(), no_av()
    trial.keep(tensorrt=f"not measured: {reason}" if reason else "measured too")
    trial.keep(decode_to_encode=f"not measured: {lacking}" if lacking else "measured too")
    passes = [(name, around) for name in (CUDA.name, *(() if reason else (ENGINES.name,))) for around in (False, True)[: 1 if lacking else 2]]
    rows: dict[tuple[Any, ...], Found] = {}
    for (name, around), size, model in product(passes, sizes, models):
        key = (name, model, size)

        def work(key: tuple[str, str, tuple[int, int]] = key, around: bool = around) -> Found:
            name, model, size = key
            source = demo_or_drawn(*size, length, bench.folder) if around else drawn(*size, GPU_BATCH * 3, None)
            return measure(bench, name, model, source, around, rows.get(key))

        what = f"{model} on {name}, {size[0]}x{size[1]}{', decode to encode' if around else ''}"
        needed = 30 if around and size == SIZES[-1] else 40 if name == ENGINES.name and not around else 8
        found = trial.attempt(what, needed, work)
        if "model_only" in found:
            rows[key] = found
        else:
            trial.add("without", {"what": what, **found})
        trial.keep(**result(bench, list(rows.values()), before))
    return {} if rows or trial.failures else {"left out": "no time for any measurement"}


def execution(trial: Trial) -> Found:
    """The same network in three ways: a CUDA graph, kernel by kernel, and compiled by torch.compile."""
    source = drawn(*(TINY if trial.rehearsal else SIZES)[0], GPU_BATCH * 3, None)
    models = MODELS[:1] if trial.rehearsal else (MODELS[0], MODELS[-1])
    references: dict[str, FrameBatch] = {}
    for way in ("graph", "eager", "compile"):
        for model in models:

            def work(model: str = model, way: str = way) -> Found:
                found, enlarged = _execute(trial, source, model, way)
                reference = references.setdefault(model, enlarged)
                return found if reference is enlarged else {**found, **compared(enlarged, reference)}

            found = trial.attempt(f"{model}, {way}", 45 if way == "compile" else 6, work)
            trial.add("ways", {"model": model, "size": source.size, "execution": way, **found})
    return {}


def _execute(trial: Trial, source: Source, model: str, way: str) -> tuple[Found, FrameBatch]:
    bench = trial.bench
    if trial.rehearsal and way == "compile":
        torch.compiler.set_stance("force_eager")  # the same way, without minutes of a C++ compiler
        bench.note("in the rehearsal torch.compile compiles nothing")
    start = time.perf_counter()
    backend = open_on(plain_spec(CUDA.name, model, 4, source), bench.device, bench.note, way)
    try:
        batches = make_batches(source, GPU_BATCH)
        for _ in range(backend.in_flight):  # each lane has its own graph
            enlarged = backend(batches[0])
        ready = time.perf_counter() - start
        whole = model_only(backend, batches, bench.effort)
        alone = device_alone(backend, batches[0], bench.effort)["model"]
    finally:
        backend.close()
    return {"ready_s": ready, "model_only": whole, "device_alone": alone}, enlarged


def compared(batch: FrameBatch, reference: FrameBatch) -> Found:
    """How far the codes of `batch` are from those of `reference`: in bits, codes, and dB (None: equal)."""
    pairs = [(a.astype(int), b.astype(int)) for one, other in zip(batch.frames, reference.frames, strict=True)
             for a, b in zip(one.planes, other.planes, strict=True)]  # fmt: skip
    worst = max(int(abs(a - b).max()) for a, b in pairs)
    error = sum(int(((a - b) ** 2).sum()) for a, b in pairs) / sum(a.size for a, _ in pairs)
    peak = 2**batch.format.bits - 1
    return {"same_bits": worst == 0, "most_codes_off": worst, "psnr_db": decibels(error, peak) if error else None}


def memory(trial: Trial) -> Found:
    """What is held at ten moments of a run of thousands of frames, on the device and in the host."""
    source, device = drawn(*(TINY if trial.rehearsal else SIZES)[0], GPU_BATCH * 3, None), trial.bench.device
    backend = open_on(plain_spec(CUDA.name, "fast", 4, source), device, trial.bench.note)
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
    return {"model": "fast", "size": source.size, "frames": last["frames"], "growth": growth}


def clip(trial: Trial) -> Found:
    """A clip of some seconds by the `vidsr` command, and what its stages take."""
    missing = [name for name in ("av", "click_default_group", "filelock", "platformdirs", "rich") if not util.find_spec(name)]
    if missing:
        return {"left out": f"vidsr needs {', '.join(missing)}, not installed here"}
    bench = trial.bench
    size, length = (TINY[0], RATE) if trial.rehearsal else (SIZES[0], CLIP_SECONDS * RATE)
    source = drawn(*size, length, bench.folder)
    options = ["--backend", "cpu" if trial.rehearsal else CUDA.name, "--model", "fast", "--overwrite"]
    start = time.monotonic()
    command = [sys.executable, "-m", "vidsr", str(source.path), "-o", str(bench.folder / "result.mkv"), *options]
    code, said = run_command(command, trial.deadline.left - 2)
    seconds = time.monotonic() - start
    said = said.replace(f"{bench.folder}/", "")
    trial.keep(command=f"vidsr {' '.join(options)}", frames=length, size=source.size, said=said.splitlines()[-30:])
    if code != 0:
        return {"failed": "it did not end in time" if code is None else f"exit code {code}: {said.splitlines()[-1:]}"}
    trial.keep(seconds=seconds, fps=length / seconds)
    row = trial.attempt("its stages", 12, lambda: measure(bench, CUDA.name, "fast", source))
    return {"stages": {key: row[key] for key in ("stage_ms", "bound_by", "share_of_slower", "end_to_end", "workers",
                                                  "encoder", "left out", "failed") if key in row}}  # fmt: skip
