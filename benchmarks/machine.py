"""On what something was measured."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Processor, cores and versions, for the head of a result."""
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = {name: metadata.version(name) for name in ("vidsr", "torch", "av")}
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": cores,
        "system": platform.system(),
        "python": platform.python_version(),
        **packages,
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def describe() -> str:
    """`machine()` as one line for a table's caption."""
    return ", ".join(f"{key} {value}" for key, value in machine().items())


def read_result(name: str) -> dict[str, Any]:
    """What results/NAME.json holds besides the machine; nothing when there is none."""
    path = RESULTS / f"{name}.json"
    return {k: v for k, v in json.loads(path.read_text()).items() if k != "machine"} if path.exists() else {}


def write_result(name: str, data: dict[str, Any], table: str) -> None:
    """results/NAME.json and results/NAME.md."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine(), **data}, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(table.rstrip() + f"\n\nMeasured on: {describe()}.\n")
