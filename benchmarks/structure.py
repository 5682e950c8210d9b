"""Every awkward file there is, through the command line: verified, or refused by name; never a traceback or a hang."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.common.machine import write_result

TIMEOUT_SECONDS = 300
LONG = {"long_1080p_videoonly_lowbitrate.mp4": "4", "long_180p_av1.mp4": "10"}  # seconds of six minutes


@click.command()
@click.option("--clips", type=click.Path(exists=True, path_type=Path), required=True, help="Folder of the files.")
@click.option("--scale", default=2, show_default=True)
@click.option("--backend", default="nearest", show_default=True, help="nearest: the container work without a model.")
@click.option("--only", default="", help="Only files whose name contains this.")
@click.option("--name", default="structure", show_default=True, help="Of the result.")
@click.option("--before", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON of an earlier run.")
@click.option("--save/--no-save", default=True)
def structure(
    clips: Path, scale: int, backend: str, only: str, name: str, before: Path | None, save: bool
) -> None:  # fmt: skip
    """Run every file of --clips through `vidsr` and `vidsr verify`, and table what became of it."""
    rows = []
    for path in sorted(clips.iterdir()):
        if path.suffix in (".tsv", ".txt", ".md") or only not in path.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = _one(path, Path(folder), scale, backend)
        rows.append(row)
        click.echo(f"{row['outcome']:10} {row['seconds']:6.1f} s  {path.name}  {row['detail'][:150]}")
    counts = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in ("verified", "refused", "FAILED")}
    click.echo(", ".join(f"{number} {outcome}" for outcome, number in counts.items()))
    if save:
        earlier = {} if before is None else {row["file"]: row for row in json.loads(before.read_text())["files"]}
        table = f"# Awkward files\n\n{len(rows)} files at {scale}x, backend {backend}: {counts['verified']} verified, "
        table += f"{counts['refused']} refused by name, {counts['FAILED']} failed.\n\n"
        table += _table(rows, earlier)
        write_result(name, {"scale": scale, "backend": backend, "counts": counts, "files": rows}, table)
    raise SystemExit(1 if counts["FAILED"] else 0)


def _table(rows: list[dict[str, Any]], earlier: dict[str, dict[str, Any]]) -> str:
    """earlier: rows of another run, by file, to be shown beside these."""
    def cell(row: dict[str, Any] | None) -> str:
        return "" if row is None else f"{row['outcome']}: {' '.join(row['detail'].split())}".replace("|", "/")

    if earlier:
        lines = [f"| {row['file']} | {cell(earlier.get(row['file']))} | {cell(row)} |" for row in rows]
        return "\n".join(["| file | before | now |", "|---|---|---|", *lines]) + "\n"
    lines = [f"| {row['file']} | {row['outcome']} | {row['detail'].replace('|', '/')} |" for row in rows]
    return "\n".join(["| file | outcome | what vidsr said |", "|---|---|---|", *lines]) + "\n"


def _one(path: Path, folder: Path, scale: int, backend: str) -> dict[str, Any]:
    start = time.monotonic()
    part = ["--duration", LONG[path.name]] if path.name in LONG else []
    command = [str(path), "-o", str(folder), "--scale", str(scale), "--backend", backend, "--preset", "ultrafast"]
    command += part
    if backend == "nearest":
        command += ["--codec", "x264"]
    code, output, errors = _vidsr(command)
    dropped: list[str] = []
    if code == 2 and "--drop unsupported" in errors:
        refusal = errors.strip().splitlines()[-1]
        code, output, errors = _vidsr([*command, "--drop", "unsupported"])
        dropped = [f"at first: {_tidy(refusal, path, folder)}"]
    notes = [_tidy(line, path, folder) for line in errors.splitlines() if line.startswith("note:")]
    outcome, detail = "FAILED", _tidy(errors.strip().splitlines()[-1], path, folder) if errors.strip() else f"exit {code}"
    if code == 0 and output.strip():
        result = Path(output.strip().splitlines()[-1])
        drops = [word for line in notes if "dropped: #" in line
                 for word in ("--drop", line.split("#")[1].split()[0])]  # fmt: skip
        code, output, errors = _vidsr(["verify", str(path), str(result), "--scale", str(scale), *drops, *part])
        last = output.strip().splitlines()[-1] if output.strip() else errors.strip()
        outcome, detail = ("verified", last.split(": ", 1)[1]) if code == 0 else ("FAILED", f"verify: {output}{errors}")
        detail = "; ".join([detail, *dropped, *notes])
    elif code in (1, 2) and "Traceback" not in errors and path.name in errors and "unexpected" not in errors and (
        "does not prove" not in errors
    ):
        outcome = "refused"
    left = [p.name for p in folder.iterdir()]
    if outcome == "refused" and any(not name.endswith(".vidsr") for name in left):
        outcome, detail = "FAILED", f"left {left} behind; {detail}"
    return {"file": path.name, "outcome": outcome, "seconds": round(time.monotonic() - start, 1), "detail": detail}


def _vidsr(arguments: list[str]) -> tuple[int, str, str]:
    try:
        done = subprocess.run([sys.executable, "-m", "vidsr", *arguments], capture_output=True, text=True,
                              timeout=TIMEOUT_SECONDS)  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, "", f"did not end within {TIMEOUT_SECONDS} s"
    return done.returncode, done.stdout, done.stderr


def _tidy(line: str, path: Path, folder: Path) -> str:
    """A message without the folders of the machine it was made on."""
    return line.replace(f"{path.parent}/", "").replace(f"{folder}/", "").removeprefix("vidsr: ").removeprefix("note: ")
