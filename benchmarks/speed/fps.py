"""Frames a second on this machine: of the model alone and from decoding to encoding, beside what the device could do at best."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.common.chart import Bars, draw, number
from benchmarks.common.machine import RESULTS, device_slug, gpu_state, load, load_words, machine, write_result
from benchmarks.common.pictures import Source, demo_or_drawn, no_av, read
from benchmarks.speed.around import end_to_end, plan_job, stages_alone
from benchmarks.speed.inside import device_alone, planes_of
from benchmarks.speed.measure import GPU_BATCH, Effort, make_batches, model_only, open_on, plain_spec
from benchmarks.speed.memory import peak_alone, peak_rss
from benchmarks.speed.roof import Cost, Peaks, frame_cost, measure_peaks
from vidsr.backends import BACKENDS, backend_kind, choose_backend
from vidsr.backends.base import BackendSpec
from vidsr.backends.cpu import TorchBackend
from vidsr.backends.cuda import CudaBackend
from vidsr.backends.planes import DTYPES

SIZES = "480x270,640x360,720x480,1280x720"
CLIP_FRAMES = {"cpu": 48, "cuda": 240}
STAGES = ("decode", "upload", "model", "download", "encode")


class Sizes(click.ParamType):
    """ "480x270,640x360": widths and heights, even."""

    name = "WxH,…"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[tuple[int, int]]:
        if isinstance(value, list):
            return value
        try:
            sizes = [(int(width), int(height)) for width, height in (size.split("x") for size in value.split(","))]
        except ValueError:
            self.fail(f"{value!r}: write sizes like 480x270,1280x720", param, ctx)
        if any(width < 32 or height < 32 or width % 2 or height % 2 for width, height in sizes):
            self.fail(f"{value!r}: widths and heights are even, and 32 at least", param, ctx)
        return sizes


@dataclass
class Bench:
    """What all measurements of a run share. notes: what the backends said of things that made them slower.

    device: what backends of GPUs run on; the CPU in rehearsals. around: what was measured of decoders and encoders.
    """

    folder: Path
    device: torch.device
    effort: Effort
    scale: int = 4
    notes: list[str] = field(default_factory=list)
    peaks: dict[str, Peaks] = field(default_factory=dict)
    around: dict[Any, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @property
    def rehearsal(self) -> bool:
        """Whether the CPU stands in for the GPU that the backends would have."""
        return self.device.type == "cpu"

    def note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)

    def peaks_of(self, precision: str) -> Peaks:
        if precision not in self.peaks:
            self.peaks[precision] = measure_peaks(self.device, precision, min(2.0, self.effort.seconds))
        return self.peaks[precision]


@click.command()
@click.option("--backend", type=click.Choice(["auto", *BACKENDS]), default="auto", show_default=True)
@click.option("--model", "models", multiple=True, default=("fast",), show_default=True, help="Repeat it for several.")
@click.option("--size", "sizes", type=Sizes(), help=f"Of the source.  [default: {SIZES}]")
@click.option("--clip", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Measure with this file instead.")
@click.option("--scale", type=click.IntRange(2, 4), default=4, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.001), default=2.0, show_default=True, help="Length of each repeat.")
@click.option("--save/--no-save", default=True, help="Write JSON, table and picture.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, help="Folder to write them into.  [default: benchmarks/results]")
def fps(
    backend: str, models: tuple[str, ...], sizes: list[tuple[int, int]] | None, clip: Path | None, scale: int,
    repeats: int, seconds: float, save: bool, output: Path,
) -> None:  # fmt: skip
    """Measure frames a second of each model at each size, by itself, stage by stage, and from decoding to encoding."""
    name = choose_backend(None if backend == "auto" else backend)
    if not backend_kind(name).needs_model:
        raise click.UsageError(f"--backend {name}: runs no model; name one that does")
    if clip and sizes:
        raise click.UsageError("--size: the size is the one of --clip; give one of both")
    if clip and (reason := no_av()):
        raise click.UsageError(f"--clip: {reason}")
    before = {**load(), **gpu_state()}
    device = torch.device("cpu" if backend_kind(name).device == "cpu" else "cuda")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), device, Effort(seconds, repeats), scale)
        wanted: Iterable[tuple[int, int]] = sizes or Sizes().convert(SIZES, None, None)
        length = CLIP_FRAMES[device.type]
        sources = [read(clip)] if clip else [demo_or_drawn(*size, length, bench.folder) for size in wanted]
        rows = []
        for source in sources:
            for model in models:
                click.echo(f"{model}, {source.size} …", err=True)
                rows.append(measure(bench, name, model, source))
    data = result(bench, rows, before)
    text = "\n".join(["# Frames a second", "", *table(data)])
    click.echo(text)
    if save:
        file = f"fps-{device_slug(machine(), device.type)}"
        write_result(file, data, text, output)
        draw(bars(rows), output / f"{file}.png", caption(device.type))


def result(bench: Bench, rows: list[dict[str, Any]], before: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run. before: the machine's state before it."""
    peaks = {name: {"flops": p.flops, "bandwidth": p.bandwidth} for name, p in bench.peaks.items()}
    return {
        "before": before, "threads": torch.get_num_threads(), "seconds": bench.effort.seconds,
        "repeats": bench.effort.repeats, "peaks": peaks, "notes": bench.notes, "rows": rows,
    }  # fmt: skip


def measure(
    bench: Bench, name: str, model: str, source: Source, around: bool = True, earlier: dict[str, Any] | None = None
) -> dict[str, Any]:
    """All figures of one backend, model and size.

    around: also of decoding, encoding and all together. earlier: what was measured without that, to be completed.
    """
    job = None
    if around and source.path is not None:
        job = plan_job(source, "cpu" if bench.rehearsal else name, model, bench.scale, bench.folder)
        if bench.rehearsal and backend_kind(name).device == "gpu":
            job = replace(job, workers=2, batch_size=GPU_BATCH)
    spec = replace(job.backend if job else plain_spec(name, model, bench.scale, source), name=name)
    on_gpu = bench.device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    backend = open_on(spec, bench.device, bench.note)
    try:
        row = dict(earlier) if earlier else _alone(bench, spec, model, source, backend)
        row["source"] = source.name
        if job is not None:
            row["workers"], row["decode_on_gpu"] = job.workers, job.decode_on_gpu
            row["encoder"] = f"{job.encoder.encoder} {dict(job.encoder.options)}"
            key = (source.path, row["encoder"], job.workers, job.decode_on_gpu)
            if key not in bench.around:  # all models give pictures of one size, which take as long to encode
                bench.around[key] = stages_alone(job, source, backend, bench.effort, bench.folder)
            row["stages"] = row["stages"] | bench.around[key]
            slower = min(row["model_only"]["fps"], row["stages"]["encode"]["fps"])
            row["end_to_end"] = end_to_end(job, source, backend, slower, bench.effort, bench.folder)
        else:
            row["end_to_end"] = {"left out": no_av() or "not asked for"}
        if on_gpu:
            row["memory"] = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved(),
                             "host_peak_rss": peak_rss()}  # fmt: skip
    finally:
        backend.close()
    if not on_gpu and not earlier:
        alone = {"left out": "a rehearsal"} if backend_kind(name).device == "gpu" else peak_alone(model, bench.scale, source.width, source.height)
        row["memory"] = alone
    cost = frame_cost(spec, source.width, source.height, row["precision"], row["batch"])
    return conclude(row, bench.peaks_of(row["precision"]), cost)


def _alone(
    bench: Bench, spec: BackendSpec, model: str, source: Source, backend: CudaBackend | TorchBackend
) -> dict[str, Any]:
    """The figures of a backend without anything around it."""
    batches = make_batches(source, backend_kind(spec.name).batch_size)
    whole = model_only(backend, batches, bench.effort)
    stages = device_alone(backend, batches[0], bench.effort)
    dtype = planes_of(backend).generator.dtype
    return {
        "backend": spec.name, "device": backend.description, "model": model, "size": source.size,
        "scale": bench.scale, "precision": next(key for key, value in DTYPES.items() if value == dtype),
        "batch": len(batches[0]), "model_only": whole, "device_alone": stages["model"], "stages": stages,
    }  # fmt: skip


def conclude(row: dict[str, Any], peaks: Peaks, cost: Cost) -> dict[str, Any]:
    """`row` with what follows from its measurements."""
    stages = {name: row["stages"][name] for name in STAGES if name in row["stages"]}
    milliseconds = {name: 1000 / stage["fps"] for name, stage in stages.items()}
    found = {
        **row, "stages": stages, "stage_ms": milliseconds, "flop_per_frame": cost.flop, "bytes_per_frame": cost.traffic,
        "roof": peaks.shares(cost, row["model_only"]["fps"]),
        "roof_of_device": peaks.shares(cost, row["device_alone"]["fps"]),
    }  # fmt: skip
    if "fps" in row["end_to_end"]:
        found["bound_by"] = max(milliseconds, key=milliseconds.__getitem__)
        found["share_of_slower"] = row["end_to_end"]["fps"] / min(row["model_only"]["fps"], stages["encode"]["fps"])
    return found


# --- what is shown ---------------------------------------------------------------------------------------------------


def table(data: dict[str, Any]) -> list[str]:
    """The rows as Markdown, and how to read them."""
    rows = data["rows"]
    lines = [
        "| model | backend | source | model only | device alone | decode to encode | of the slower | bound by | roof | of FLOP | of bytes | memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        share = f"{row['share_of_slower']:.0%}" if "share_of_slower" in row else ""
        memory = row["memory"].get("allocated") or row["memory"].get("peak_rss")
        roof = row["roof"]
        cells = [row["model"], f"{row['backend']}, {row['precision']}", f"{row['size']} to {row['scale']}x",
                 rate(row["model_only"]), rate(row["device_alone"]), rate(row["end_to_end"]), share,
                 row.get("bound_by", ""), number(roof["roof_fps"]), f"{roof['flop_share']:.0%}",
                 f"{roof['byte_share']:.0%}", f"{memory / 2**20:.0f} MiB" if memory else ""]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Milliseconds a frame of each stage by itself:", "",
              "| model | backend | source | workers | " + " | ".join(STAGES) + " |", "|---" * 9 + "|"]  # fmt: skip
    for row in rows:
        stages = [f"{row['stage_ms'][name]:.2f}" if name in row["stage_ms"] else "" for name in STAGES]
        cells = [row["model"], row["backend"], row["size"], str(row.get("workers", "")), *stages]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *_remarks(data)]


def _remarks(data: dict[str, Any]) -> list[str]:
    peaks = [f"{name} {p['flops'] / 1e12:.3g} TFLOP/s and {p['bandwidth'] / 1e9:.3g} GB/s" for name, p in data["peaks"].items()]
    lines = [
        f"* Medians of {data['repeats']} repeats of about {data['seconds']:g} s (least to most), in frames a second; {data['threads']} threads. {load_words(data['before'])}",
        f"* Peaks measured on the spot with a matrix product and a copy: {'; '.join(peaks)}. Roof: frames a second at which one of them is reached, given a multiply-add counted as two FLOP, and as traffic, at the least, the planes in and out, the weights, and each convolution's output written and read once. Its shares are those of “model only”. Where caches hold the layers, bytes are no limit.",
        "* Model only: from planes in host memory to planes in host memory, batches in flight. Device alone: colour, generator and colour on tensors of the device. Of the slower: decode to encode over the slower of the model and the encoder, each by itself, with as many encoders (and decoders) at once as the run has workers.",
        "* On a CPU the decoder, the model and the encoder share the cores, and uploads and downloads are views: nothing is copied. Memory is the peak of the device's, or on a CPU of a process that only enlarges.",
    ]
    reasons = {row["end_to_end"]["left out"] for row in data["rows"] if "left out" in row["end_to_end"]}
    lines += [f"* No figures from decode to encode: {reason}." for reason in sorted(reasons)]
    return lines + [f"* {note}." for note in data["notes"]]


def rate(figures: dict[str, Any]) -> str:
    if "fps" not in figures:
        return ""
    return f"{number(figures['fps'])} ({number(figures['fps_min'])} to {number(figures['fps_max'])})"


def caption(device: str) -> str:
    """One line for the picture of what was measured on "cuda" or "cpu"."""
    facts = machine()
    device = facts["gpu"] if device == "cuda" else f"{facts['processor']}, {facts['cores']} cores"
    return f"{device}, torch {facts.get('torch', '?')}, vidsr {facts['vidsr']}"


def bars(rows: list[dict[str, Any]]) -> list[Bars]:
    """A panel for each model and backend."""
    panels: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        panels.setdefault(f"{row['model']}, {row['backend']} {row['precision']}, {row['scale']}x", []).append(row)
    return [
        Bars(title, [row["size"] for row in group],
             {"model only": [row["model_only"]["fps"] for row in group],
              "decode to encode": [row["end_to_end"].get("fps") for row in group]},
             [row["roof"]["roof_fps"] for row in group])
        for title, group in panels.items()
    ]  # fmt: skip
