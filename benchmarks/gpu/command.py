"""Everything worth doing when a GPU is at hand, in one command, offline, in so many minutes.

Each part runs in a process of its own: after an error the CUDA of a process is of no more use, TensorRT may crash
without a word, and a part that hangs can be stopped, whatever it has started. A part writes what it has found as it
goes; what time did not allow is written down as left out. The parts themselves are in parts.py and beside it.

`--device cpu -o FOLDER` is a rehearsal, for machines without a GPU: the same parts on the CPU, with tiny sizes.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import click

from benchmarks.common.chart import draw
from benchmarks.common.machine import RESULTS, device_slug, gpu_state, load, machine, write_result
from benchmarks.gpu.report import outcome, report
from benchmarks.gpu.trial import Deadline, Found, run_command
from benchmarks.speed.fps import bars, caption
from vidsr.errors import BackendError, UsageError

GRACE = 10.0  # seconds a part may take to begin and to end, beyond those it is given
OVERTIME = 8.0  # seconds after the end at which the last part is stopped
LAST_RESORT = 14.0  # and at which this process ends itself, wherever it hangs
PLANNED = 8.0  # minutes


@dataclass(frozen=True)
class Part:
    """least: seconds below which it is not begun. most: seconds it may take of PLANNED minutes, more of more.

    capped: never more.
    """

    name: str
    least: float
    most: float
    capped: bool = False


# By worth. What one does not use, the next ones have; the seconds are limits, not a sum.
PARTS = (
    Part("tests", 20, 90, capped=True), Part("race", 10, 30), Part("copies", 6, 15), Part("chunks", 12, 50),
    Part("profile", 10, 40), Part("x264", 10, 40), Part("execution", 20, 110), Part("fps", 20, 130),
    Part("tensorrt", 20, 70), Part("clip", 20, 60), Part("memory", 12, 40),
)  # fmt: skip
NAMES = [part.name for part in PARTS]


class Names(click.ParamType):
    """ "race,copies": names of parts."""

    name = "NAME,…"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[str]:
        names = value if isinstance(value, list) else value.split(",")
        if unknown := [name for name in names if name not in NAMES]:
            self.fail(f"{', '.join(unknown)}: the parts are {', '.join(NAMES)}", param, ctx)
        return list(names)


@click.command()
@click.option("--minutes", type=click.FloatRange(0.0, min_open=True), default=PLANNED, show_default=True, help="For everything; it ends 15 s later at most.")
@click.option("--only", type=Names(), help=f"These parts alone; what FOLDER holds of the others stays.  [{', '.join(NAMES)}]")
@click.option("-o", "--output", metavar="FOLDER", type=click.Path(path_type=Path), help="Folder for results.  [default: benchmarks/results]")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", hidden=True, help="cpu: rehearsal: the same parts on the CPU, results are not written to results/.")
@click.option("--part", type=click.Choice(NAMES), hidden=True, help="Only this one, here, into the file -o.")
@click.option("--seconds", type=float, default=0.0, hidden=True, help="For that part.")
def gpu(
    minutes: float, only: list[str] | None, output: Path | None, device: str, part: str | None, seconds: float
) -> None:  # fmt: skip
    """Run the CUDA tests and every measurement on this machine's GPU. Exit code 1 where a part failed."""
    from vidsr.backends.gpu import cuda_missing

    if device == "cpu" and output is None:
        raise UsageError("a rehearsal is no result: name a folder for it with -o")
    if part is not None:
        from benchmarks.gpu.parts import run_part

        assert output is not None
        run_part(part, device, Deadline(seconds), output)
        return
    begun: float = click.get_current_context().find_root().obj or time.monotonic()
    deadline = Deadline(60 * minutes - (time.monotonic() - begun))
    # A driver that hangs holds whoever asks it anything: this thread is none of Python's.
    faulthandler.dump_traceback_later(deadline.left + LAST_RESORT, exit=True, file=2)
    try:
        if device == "cuda" and (reason := cuda_missing()):
            raise BackendError(reason)
        data, file = run_all(minutes, device, output or RESULTS, only or NAMES, deadline)
    finally:
        faulthandler.cancel_dump_traceback_later()
    click.echo("\n".join(report(data)))
    click.echo(file, err=True)
    if any("failed" in found for name, found in data["parts"].items() if name in (only or NAMES)):
        raise SystemExit(1)


def run_all(
    minutes: float, device: str, folder: Path, only: Sequence[str] = NAMES, deadline: Deadline | None = None
) -> tuple[dict[str, Any], Path]:  # fmt: skip
    """(everything found, the table's file). Written after each part, whatever becomes of the machine at the next.

    only: the parts to run; what `folder` holds of the others stays. UsageError where that is of another machine.
    deadline: the end, where some of the time has passed.
    """
    deadline = deadline or Deadline(60 * minutes)
    name = f"gpu-{device_slug(machine(), device)}"
    earlier = {} if set(only) == set(NAMES) else _earlier(folder / f"{name}.json")
    data: dict[str, Any] = {"minutes": minutes, "before": {**load(), **gpu_state(), "c_compiler": shutil.which("cc")}, "parts": {}}
    if device == "cpu":
        data["rehearsal"] = "on the CPU with tiny sizes: its figures say nothing"
    data |= earlier
    wanted = [part for part in PARTS if part.name in only]
    # Of a few parts each may take more, of few minutes each less.
    pace = 60 * minutes / min(60 * PLANNED, sum(part.most for part in wanted))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        for part in wanted:
            most = part.most * (min(1.0, pace) if part.capped else pace)
            given = min(deadline.left, max(part.least, most))
            reason = deadline.refuses(part.least)
            found: Found = {"left out": reason} if reason else run_apart(part.name, device, given, deadline, Path(scratch))
            kept = {**data["parts"], part.name: found}
            data["parts"] = {name: kept[name] for name in NAMES if name in kept}
            click.echo(f"{part.name}: {outcome(found)}", err=True)
            write_result(name, data, "\n".join(report(data)), folder)
            if part.name == "fps" and found.get("rows"):
                with mock.patch.dict(os.environ, private(Path(scratch))):
                    draw(bars(found["rows"]), folder / f"{name}.png", caption(device))
    return data, folder / f"{name}.md"


def _earlier(path: Path) -> dict[str, Any]:
    """What is in `path` already; nothing where there is none."""
    if not path.exists():
        return {}
    data: dict[str, Any] = json.loads(path.read_text())
    if (there := data.pop("machine")) != machine():
        other = ", ".join(key for key in {**there, **machine()} if there.get(key) != machine().get(key))
        raise UsageError(f"--only: {path} is of another machine ({other}): name another folder with -o, or run all parts")
    return data


def run_apart(name: str, device: str, seconds: float, whole: Deadline, scratch: Path) -> Found:
    """The findings of a part in its own process; "failed" holds the reason where it did not end well.

    seconds: for it; it is stopped GRACE later, and OVERTIME after `whole` in any case. scratch: a folder for all that
    it and what it starts write, but for its findings.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "part.json"
        command = [sys.executable, "-m", "benchmarks", "gpu", "--part", name, "--seconds", f"{seconds:.1f}",
                   "--device", device, "-o", str(path)]  # fmt: skip
        code, said = run_command(command, min(seconds + GRACE, whole.left + OVERTIME), **private(scratch))
        found: Found = json.loads(path.read_text()) if path.exists() else {}
    took = time.monotonic() - start
    if code != 0 and "failed" not in found:
        how = f"stopped after {took:.0f} s" if code is None else f"the process ended by signal {-code}"
        if code is not None and code > 0:
            how = said.splitlines()[-1] if said else f"exit code {code}"
        found["failed"] = f"{how}, at: {found['at']}" if "at" in found else how
    found.pop("at", None)
    return {**found, "took_s": round(took, 1)}


def private(scratch: Path) -> dict[str, str]:
    """Environment variables that keep what libraries write for later in `scratch`, which all parts share."""
    names = ("TMPDIR", "XDG_CACHE_HOME", "VIDSR_CACHE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH",
             "HYPOTHESIS_STORAGE_DIRECTORY", "MPLCONFIGDIR")  # fmt: skip
    folders = {name: scratch / name.lower() for name in names}
    for folder in folders.values():
        folder.mkdir(mode=0o700, exist_ok=True)
    return {"PYTHONDONTWRITEBYTECODE": "1", **{name: os.fspath(folder) for name, folder in folders.items()}}
