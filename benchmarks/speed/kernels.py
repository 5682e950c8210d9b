"""Kernels and bytes of device memory that a frame takes, counted without a GPU."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import click
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.common.machine import RESULTS, read_result, write_result
from benchmarks.common.pictures import drawn
from benchmarks.speed.inside import compute_of, planes_of
from benchmarks.speed.measure import GPU_BATCH, open_on, plain_spec
from vidsr.backends.base import BackendSpec
from vidsr.backends.cuda import CudaBackend

MODELS = ("tiny", "fast", "balanced", "best", "srwgan-gp")
STAGES = ("colour in", "body", "colour out")
META = torch.device("meta")
NOTHING_WRITTEN = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach_"}
CONVOLUTIONS = {"convolution", "conv2d"}
COPIES = {"copy_", "clone", "contiguous", "flatten", "reshape", "to", "_to_copy"}


class Counting(TorchDispatchMode):
    """Notes every operator that PyTorch dispatches: `rows` of (stage, name, bytes), a row a kernel.

    What only looks at memory in another way, or takes some without writing to it, is none. Any other reads its inputs
    and writes its outputs once. A convolution with a bias is two kernels, as PyTorch has cuDNN do it: the bias is added
    to the output afterwards; with an input that is not channels last, there is one more before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stage = STAGES[0]
        self.rows: list[tuple[str, str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._schema.name.split("::")[1]
        outputs = _tensors(out)
        if name in CONVOLUTIONS and out.device == META and args[1].is_contiguous(memory_format=torch.channels_last):
            out = out.contiguous(memory_format=torch.channels_last)  # as cuDNN gives it, which PyTorch does not know here
        inputs = _tensors((args, {key: value for key, value in kwargs.items() if key != "out"}))
        if name not in NOTHING_WRITTEN and not _same_memory(name, inputs, outputs):
            self._note(name, inputs, outputs)
        return out

    def _note(self, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        written = sum(map(_bytes, outputs))
        if name in CONVOLUTIONS:
            picture, weight, *bias = inputs
            if not picture.is_contiguous(memory_format=torch.channels_last):
                self._row("to channels last", 2 * _bytes(picture))
            self._row("convolution", _bytes(picture) + _bytes(weight) + written)
            if bias:
                self._row("bias", 2 * written + _bytes(bias[0]))
            return
        read = inputs[1:] if name == "copy_" else inputs
        self._row("copy" if name in COPIES else name, sum(map(_bytes, read)) + written)

    def _row(self, name: str, count: int) -> None:
        self.rows.append((self.stage, name, count))

    @contextmanager
    def staged(self, generator: nn.Module, body: nn.Module) -> Iterator[None]:
        """Inside, rows of `body` and of what comes before `generator` are known from the others."""

        def to(stage: str) -> Any:
            def hook(*arguments: Any) -> None:
                self.stage = stage

            return hook

        colour_in, inside, colour_out = STAGES
        self.stage = colour_in
        handles = [generator.register_forward_pre_hook(to(colour_out)), body.register_forward_pre_hook(to(inside)),
                   body.register_forward_hook(to(colour_out))]  # fmt: skip
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def counted(spec: BackendSpec, width: int, height: int, frames: int) -> dict[str, Any]:
    """What CudaBackend does for a chunk of `frames` frames in FP16, as it is written, kernel by kernel.

    {"frames", "stages": {name: {"kernels": of a chunk, "bytes": of a frame}}, "by_name": {name: the same}}
    """
    backend = open_on(replace(spec, precision="fp16"), META, execution="eager")
    assert isinstance(backend, CudaBackend)
    compute = compute_of(backend, drawn(width, height, frames, None), frames)
    generator = planes_of(backend).generator
    with Counting() as count, count.staged(generator, generator.body):
        compute()
    return {
        "frames": frames,
        "stages": {stage: _sums([row for row in count.rows if row[0] == stage], frames) for stage in STAGES},
        "by_name": {name: _sums([row for row in count.rows if row[1] == name], frames) for name in sorted({row[1] for row in count.rows})},
    }  # fmt: skip


class Compiling:
    """Notes what torch.compile takes in and makes of it, while it is entered.

    graphs: how many it compiled. taken: rows, as Counting's, of the operators in them as written. made: bytes of each
    kernel that Inductor schedules for them, whatever it fused into it; libraries' convolutions are kernels of their own.
    """

    def __init__(self) -> None:
        self.graphs = 0
        self.taken: list[tuple[str, str, int]] = []
        self.made: list[int] = []
        self._patches = ExitStack()

    def __enter__(self) -> Compiling:
        from torch._functorch import config as functorch
        from torch._inductor import compile_fx, config, graph
        from torch._inductor.scheduler import NopKernelSchedulerNode

        whole, generate = compile_fx.compile_fx, graph.GraphLowering.compile_to_module

        def taking(module: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            self.graphs += 1
            with Counting() as count, torch.inference_mode():
                module(*inputs)  # of fake tensors, on which nothing is computed
            self.taken += count.rows
            return whole(module, inputs, *rest, **more)

        def making(lowering: Any) -> Any:
            done = generate(lowering)
            nodes = [node for node in lowering.scheduler.nodes if not isinstance(node, NopKernelSchedulerNode)]
            self.made += [node.get_read_write_buffers_sizes() for node in nodes]
            return done

        torch._dynamo.reset()
        for patch in (mock.patch.object(compile_fx, "compile_fx", taking), config.patch(fx_graph_cache=False),
                      functorch.patch(enable_autograd_cache=False),
                      mock.patch.object(graph.GraphLowering, "compile_to_module", making)):  # fmt: skip
            self._patches.enter_context(patch)
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()
        torch._dynamo.reset()


def compiled(spec: BackendSpec, width: int, height: int, frames: int) -> dict[str, Any]:
    """What Inductor makes of the way "compile" on this CPU, in bfloat16, which has as many bytes as float16.

    {"graphs", "inside": {"kernels": of a chunk, "bytes": of a frame}, "outside": the same of what is not compiled}
    """
    backend = open_on(replace(spec, precision="bf16"), torch.device("cpu"), execution="compile")
    assert isinstance(backend, CudaBackend)
    with Compiling() as compiling:
        compute = compute_of(backend, drawn(width, height, frames, None), frames)
    with Counting() as count, torch.compiler.set_stance("force_eager"):
        compute()
    rest = list((Counter(row[1:] for row in count.rows) - Counter(row[1:] for row in compiling.taken)).elements())
    return {
        "frames": frames, "graphs": compiling.graphs,
        "inside": {"kernels": len(compiling.made), "bytes": round(sum(compiling.made) / frames)},
        "outside": _sums([("", *row) for row in rest], frames),
    }  # fmt: skip


def _sums(rows: list[tuple[str, str, int]], frames: int) -> dict[str, Any]:
    return {"kernels": len(rows), "bytes": round(sum(row[2] for row in rows) / frames)}


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for part in value for t in _tensors(part)] if isinstance(value, list | tuple) else []


def _bytes(t: Tensor) -> int:
    """Of memory; a value that is read again and again, by a stride of 0, once."""
    return min(t.numel() * t.element_size(), t.untyped_storage().nbytes())


def _same_memory(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Whether an operator only gave the memory it was given, as views do, and copies that have nothing to do."""
    if name.endswith("_") or not inputs or not outputs:
        return False
    return outputs[0].untyped_storage()._cdata == inputs[0].untyped_storage()._cdata


# --- the command -----------------------------------------------------------------------------------------------------


@click.command()
@click.option("--model", "models", multiple=True, default=MODELS, show_default=True, help="Repeat it for several.")
@click.option("--name", help="Of this state of the code, beside those the table has.  [default: the commit]")
@click.option("--compile/--no-compile", "compiling", default=True, help="Also what torch.compile makes of it: minutes.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, help="Folder of kernels.json and its table.  [default: benchmarks/results]")
def kernels(models: tuple[str, ...], name: str | None, compiling: bool, output: Path) -> None:
    """Count kernels and bytes of device memory a frame on the way from planes to planes. Needs no GPU."""
    source = drawn(480, 270, GPU_BATCH, None)
    rows = []
    for model in models:
        click.echo(f"{model} …", err=True)
        spec, size = plain_spec("cuda", model, 4, source), (source.width, source.height, GPU_BATCH)
        rows.append({"model": model, "size": source.size, "scale": spec.scale, "written": counted(spec, *size)})
        if compiling:
            rows[-1]["compiled"] = compiled(spec, *size)
    runs = {**read_result("kernels", output).get("runs", {}), name or _commit(): rows}
    text = "\n".join(table(runs))
    click.echo(text)
    write_result("kernels", {"runs": runs}, text, output)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip() or "now"


def table(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The counts as Markdown, and what they are."""
    names = [f"{stage}: kernels, MB" for stage in STAGES]
    lines = ["# Kernels and bytes, counted", "",
             "| code | model | source | way | " + " | ".join([*names, "all: kernels, MB"]) + " |", "|---" * 8 + "|"]  # fmt: skip
    for name, rows in runs.items():
        for row in rows:
            start = f"| {name} | {row['model']} | {row['size']} to {row['scale']}x"
            stages = list(row["written"]["stages"].values())
            lines.append(f"{start} | as written | {' | '.join(map(_cell, stages))} | {_cell(*stages)} |")
            if found := row.get("compiled"):
                inside = f"{_cell(found['inside'])} in {found['graphs']} graph{'s' * (found['graphs'] != 1)}"
                if not found["graphs"]:
                    inside = "nothing is compiled"
                lines.append(f"{start} | compiled | {inside}; outside {_cell(found['outside'])} | | | {_cell(found['inside'], found['outside'])} |")
    frames = {row["written"]["frames"] for rows in runs.values() for row in rows}
    return [
        *lines, "",
        f"* Kernels: for {' or '.join(map(str, sorted(frames)))} frames together. MB (10⁶ bytes): of device memory, read and written, for one frame.",
        "* As written: every operator that PyTorch dispatches for the planes on the device, in FP16; one that is no view reads its inputs and writes its outputs once. A convolution with a bias is two kernels, since PyTorch adds it to cuDNN's output, and a third where its input is not channels last.",
        "* Compiled: the schedule that Inductor makes for the way “compile” on a CPU, in bfloat16, which has as many bytes: a kernel each, however much it fused, with the bytes of what it reads and writes; a library's convolution is one, with its bias. For a GPU it may fuse otherwise. Outside: what is not compiled, as written.",
        "* Counted, not measured: caches may hold some of it, and what a kernel of a library does inside is its own affair.",
    ]  # fmt: skip


def _cell(*found: dict[str, Any]) -> str:
    return f"{sum(part['kernels'] for part in found)}, {sum(part['bytes'] for part in found) / 1e6:.1f}"
