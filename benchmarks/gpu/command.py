"""Everything worth doing when a GPU is at hand, in one command, offline, in so many minutes.

Each part runs in a process of its own: after an error the CUDA of a process is of no more use, TensorRT may crash
without a word, and a part that hangs can be stopped. A part writes what it has found as it goes; what time did not
allow is written down as left out. The parts themselves are in gpu_parts.py.

`--device cpu -o FOLDER` is a rehearsal, for machines without a GPU: the same parts on the CPU, with tiny sizes.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.common.chart import draw
from benchmarks.common.machine import RESULTS, device_slug, gpu_state, load, machine, write_result
from benchmarks.gpu.report import outcome, report
from benchmarks.gpu.trial import Deadline, Found, run_command
from benchmarks.speed.fps import bars, caption
from vidsr.errors import BackendError, UsageError

GRACE = 15.0  # seconds a part may take to begin and to end, beyond those it is given


@dataclass(frozen=True)
class Part:
    """least: seconds below which it is not begun. share: of the whole time, the most it may take."""

    name: str
    least: float
    share: float


# By worth. What one does not use, the next ones have; the shares are limits, not a sum.
PARTS = (
    Part("tests", 20, 0.25), Part("fps", 30, 0.45), Part("execution", 20, 0.25), Part("tensorrt", 20, 0.2),
    Part("memory", 15, 0.12), Part("clip", 20, 0.2),
)  # fmt: skip


@click.command()
@click.option("--minutes", type=click.FloatRange(0.0, min_open=True), default=8.0, show_default=True, help="For everything.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for results.  [default: benchmarks/results]")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", hidden=True, help="cpu: rehearsal: the same parts on the CPU, results are not written to results/.")
@click.option("--part", type=click.Choice([part.name for part in PARTS]), hidden=True, help="Only this one, here, into the file -o.")
@click.option("--seconds", type=float, default=0.0, hidden=True, help="For that part.")
def gpu(minutes: float, output: Path | None, device: str, part: str | None, seconds: float) -> None:
    """Run the CUDA tests and every measurement on this machine's GPU. Exit code 1 where a part failed."""
    from vidsr.backends.gpu import cuda_missing

    if device == "cuda" and (reason := cuda_missing()):
        raise BackendError(reason)
    if device == "cpu" and output is None:
        raise UsageError("a rehearsal is no result: name a folder for it with -o")
    if part is not None:
        from benchmarks.gpu.parts import run_part

        assert output is not None
        run_part(part, device, Deadline(seconds), output)
        return
    data, file = run_all(minutes, device, output or RESULTS)
    click.echo("\n".join(report(data)))
    click.echo(file, err=True)
    if any("failed" in found for found in data["parts"].values()):
        raise SystemExit(1)


def run_all(minutes: float, device: str, folder: Path) -> tuple[dict[str, Any], Path]:
    """(everything found, the table's file). Written after each part, whatever becomes of the machine at the next."""
    deadline = Deadline(60 * minutes)
    name = f"gpu-{device_slug(machine(), device)}"
    data: dict[str, Any] = {"minutes": minutes, "before": {**load(), **gpu_state()}, "parts": {}}
    if device == "cpu":
        data["rehearsal"] = "on the CPU with tiny sizes: its figures say nothing"
    for part in PARTS:
        given = min(deadline.left, max(part.least, 60 * minutes * part.share))
        reason = deadline.refuses(part.least)
        found: Found = {"left out": reason} if reason else run_apart(part.name, device, given)
        data["parts"][part.name] = found
        click.echo(f"{part.name}: {outcome(found)}", err=True)
        write_result(name, data, "\n".join(report(data)), folder)
        if part.name == "fps" and found.get("rows"):
            draw(bars(found["rows"]), folder / f"{name}.png", caption(device))
    return data, folder / f"{name}.md"


def run_apart(name: str, device: str, seconds: float) -> Found:
    """The findings of a part in its own process; "failed" holds the reason where it did not end well."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.json"
        command = [sys.executable, "-m", "benchmarks", "gpu", "--part", name, "--seconds", f"{seconds:.1f}",
                   "--device", device, "-o", str(path)]  # fmt: skip
        code, said = run_command(command, seconds + GRACE)
        found: Found = json.loads(path.read_text()) if path.exists() else {}
    if code != 0 and "failed" not in found:
        how = f"stopped after {seconds + GRACE:.0f} s" if code is None else f"the process ended by signal {-code}"
        if code is not None and code > 0:
            how = said.splitlines()[-1] if said else f"exit code {code}"
        found["failed"] = f"{how}, at: {found['at']}" if "at" in found else how
    found.pop("at", None)
    return {**found, "took_s": round(time.monotonic() - start, 1)}
