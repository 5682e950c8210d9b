"""On what something was measured."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import vidsr
from vidsr.files import write_whole
from vidsr.machine import cores

RESULTS = Path(__file__).parents[1] / "results"
PACKAGES = ("torch", "av", "openvino", "ncnn", "tensorrt", "tensorrt_rtx", "tensorrt_rtx_cu13_libs", "torch-tensorrt", "torch-tensorrt-rtx")


@cache
def machine() -> dict[str, Any]:
    """Processor, cores, GPU and versions, for the head of a result; what is not there is left out."""
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": cores(),
        "system": platform.system(),
        **_gpu(),
        "python": platform.python_version(),
        "vidsr": vidsr.__version__,
        **{name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _gpu() -> dict[str, Any]:
    if util.find_spec("torch") is None:
        return {}
    import torch

    if not torch.cuda.is_available():
        return {}
    facts = torch.cuda.get_device_properties(0)
    cudnn = torch.backends.cudnn.version()
    return {
        "gpu": facts.name,
        "compute_capability": f"{facts.major}.{facts.minor}",
        "gpu_memory_gib": round(facts.total_memory / 2**30, 1),
        "driver": _driver(),
        "cuda": torch.version.cuda,
        **({"cudnn": str(cudnn)} if cudnn else {}),
    }


def _driver() -> str:
    try:
        found = re.search(r"\d+\.\d+(?:\.\d+)?", Path("/proc/driver/nvidia/version").read_text())
    except OSError:  # not Linux, or hidden by a container
        found = None
    return found[0] if found else gpu_state().get("driver_version", "unknown")


def gpu_state() -> dict[str, str]:
    """What nvidia-smi says of the first GPU's clocks, power and temperature; nothing where it cannot be asked."""
    names = ["driver_version", "pstate", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw", "power.limit",
             "temperature.gpu", "utilization.gpu", "memory.used", "pcie.link.gen.current", "pcie.link.width.current"]  # fmt: skip
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    try:
        done = subprocess.run([program, f"--query-gpu={','.join(names)}", "--format=csv,noheader"],
                              capture_output=True, text=True, timeout=20, check=True)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = done.stdout.strip().splitlines()
    return dict(zip(names, (value.strip() for value in lines[0].split(",")))) if lines else {}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def load() -> dict[str, Any]:
    """What else the machine was doing: processes running in the last minute, and whether that was next to nothing."""
    try:
        minute = os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows
        return {"load": None, "quiet": None}
    return {"load": round(minute, 2), "quiet": minute < 0.25 * cores()}


def load_words(before: dict[str, Any]) -> str:
    """What `load` found before a run, as a sentence."""
    busy = {True: "a quiet machine", False: "NOT a quiet machine", None: "unknown"}[before["quiet"]]
    return f"Load before: {before['load']} ({busy})."


def device_slug(facts: dict[str, Any], device: str) -> str:
    """A device's name for a file's: "nvidia-h100-80gb-hbm3", "amd-epyc"."""
    name = facts.get("gpu", "gpu") if device == "cuda" else facts["processor"]
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|processor|\bcpu\b.*", "", name.lower())).strip("-") or "cpu"


def describe() -> str:
    """`machine()` as one line for a table's caption."""
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine().items())


def read_result(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """What NAME.json in `folder` holds besides the machine; nothing when there is none."""
    path = folder / f"{name}.json"
    return {k: v for k, v in json.loads(path.read_text()).items() if k != "machine"} if path.exists() else {}


def write_result(name: str, data: dict[str, Any], table: str, folder: Path = RESULTS) -> None:
    """NAME.json and NAME.md in `folder`, each whole or as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "json": json.dumps({"machine": machine(), **data}, indent=1) + "\n",
        "md": table.rstrip() + f"\n\nMeasured on: {describe()}.\n",
    }
    for suffix, text in texts.items():
        write_whole(folder / f"{name}.{suffix}", text.encode())
