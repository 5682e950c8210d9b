"""The ways a machine has to run one model, against each other: planes in host memory to planes in host memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch

from benchmarks.common.machine import RESULTS, device_slug, load, machine, write_result
from benchmarks.common.pictures import drawn
from benchmarks.speed.measure import in_turns, make_batches, plain_spec
from vidsr.backends import available_backends, backend_kind, open_backend
from vidsr.errors import BackendError, UsageError

SIZES = ((480, 270), (720, 480), (1280, 720))
FRAMES = 2  # of a turn


def ways() -> dict[str, tuple[str, str, bool]]:
    """(backend, precision, whether compiled) of each that runs here, by a name for people."""
    found = {}
    for name, reason in available_backends().items():
        kind = backend_kind(name) if reason is None else None
        for precision in kind.precisions if kind and kind.needs_model else ():
            found[f"{name} {precision}"] = name, precision, False
            if kind and kind.compiles:
                found[f"{name} {precision}, compiled"] = name, precision, True
    return found


def measured(model: str, size: tuple[int, int], names: list[str], repeats: int) -> dict[str, Any]:
    """Frames a second of each way, in turns; in words why there are none."""
    known, source = ways(), drawn(*size, FRAMES, None)
    (batch,) = make_batches(source, FRAMES)
    rows: dict[str, Any] = {}
    with ExitStack() as stack:
        turns: dict[str, Callable[[], object]] = {}
        for name in names:
            backend, precision, compiled = known[name]
            spec = plain_spec(backend, model, 4, source)
            said: list[str] = []
            try:
                opened = open_backend(replace(spec, precision=precision, compiled=compiled), said.append)  # type: ignore[arg-type]
            except (BackendError, UsageError) as error:
                rows[name] = {"left out": str(error)}
                continue
            stack.enter_context(closing(opened))
            opened.settle(*size, False)
            opened(batch)
            rows[name] = {"notes": said}
            turns[name] = lambda opened=opened: opened(batch)  # type: ignore[misc]
        for name, seconds in in_turns(turns, repeats).items():
            rows[name] |= {"fps": FRAMES / median(seconds), "seconds": seconds}
    return {"model": model, "size": source.size, "ways": rows}


def table(rows: list[dict[str, Any]], names: list[str]) -> list[str]:
    lines = ["| model | size, to 4x | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        cells = [f"{found['fps']:.2f}" if (found := row["ways"].get(name, {})).get("fps") else "" for name in names]
        lines.append(f"| {row['model']} | {row['size']} | {' | '.join(cells)} |")
    return lines


@click.command()
@click.option("--model", "models", multiple=True, default=("tiny", "fast", "balanced"), show_default=True, help="Repeat it for several.")
@click.option("--way", "wanted", multiple=True, help="Such as “cpu bf16”; repeat it.  [default: all that run here]")
@click.option("--threads", type=click.IntRange(1), default=None, help="Of PyTorch and OpenVINO.  [default: the cores]")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, help="Folder for JSON and table.  [default: benchmarks/results]")
def backends(models: tuple[str, ...], wanted: tuple[str, ...], threads: int | None, repeats: int, output: Path) -> None:
    """Measure the backends that run here against each other, in turns, at three sizes of picture."""
    if threads:
        torch.set_num_threads(threads)
    names = list(wanted or ways())
    if unknown := set(names) - set(ways()):
        raise UsageError(f"--way {', '.join(sorted(unknown))}: none that runs here; there are {', '.join(ways())}")
    before, rows = load(), []
    for model in models:
        for size in SIZES:
            click.echo(f"{model}, {size[0]}x{size[1]} …", err=True)
            rows.append(measured(model, size, names, repeats))
    data = {"threads": torch.get_num_threads(), "before": before, "rows": rows}
    title = [f"# Backends against each other: frames a second, {data['threads']} thread(s)", ""]
    notes = ["", "Planes in host memory to planes in host memory, the median of turns that alternate. Empty: does not run, or no card."]
    text = "\n".join([*title, *table(rows, names), *notes])
    click.echo(text)
    write_result(f"backends-{device_slug(machine(), 'cpu')}", data, text, output)
