"""How much memory a process takes. `python -m benchmarks.speed.memory` is one that enlarges two frames and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def peak_alone(model: str, scale: int, width: int, height: int) -> dict[str, Any]:
    """{"peak_rss": bytes} of a process of its own that does nothing but enlarge on the CPU, or why it is not known."""
    wanted = json.dumps([model, scale, width, height])
    done = subprocess.run([sys.executable, "-m", "benchmarks.speed.memory", wanted], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return {"left out": (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]}
    return {"peak_rss": int(done.stdout)}


def rss() -> int:
    """Bytes of this process in memory now; 0 where the system does not tell."""
    return _status("VmRSS")


def peak_rss() -> int:
    """The most there were."""
    # Not ru_maxrss first: over exec it keeps what the parent had.
    found = _status("VmHWM")
    if found:
        return found
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def main() -> None:
    import torch

    from benchmarks.common.pictures import drawn
    from benchmarks.speed.measure import make_batches, open_on, plain_spec
    from vidsr.machine import keep_memory

    keep_memory()  # as the command does
    model, scale, width, height = json.loads(sys.argv[1])
    source = drawn(width, height, 2, None)
    backend = open_on(plain_spec("cpu", model, scale, source), torch.device("cpu"))
    for batch in make_batches(source, 1):
        backend(batch)
    sys.stdout.write(f"{peak_rss()}\n")


if __name__ == "__main__":
    main()
