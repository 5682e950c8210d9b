"""The tests that need a GPU, as a part of `python -m benchmarks gpu`."""

from __future__ import annotations

import json
import sys
from importlib import util
from pathlib import Path
from typing import Any

from benchmarks.gpu.trial import ROOT, Found, Trial, run_command

# Those of the backend first: they are why a card is borrowed.
FIRST = ("test_cuda.py", "test_backends.py", "test_hardware.py")
# pyproject.toml has options of pytest-timeout's, which such machines may lack, and makes errors of warnings.
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "benchmarks.gpu.watch",
          "-W", "ignore::pytest.PytestConfigWarning", "--continue-on-collection-errors"]  # fmt: skip


def tests(trial: Trial, models: list[str]) -> Found:
    """The tests marked `cuda`, none of which may be skipped on a GPU for want of one; what time did not allow is no failure."""
    if missing := [name for name in ("pytest", "hypothesis") if util.find_spec(name) is None]:
        return {"left out": f"{' and '.join(missing)} missing: pip install {' '.join(missing)}"}
    paths = [path for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.cuda" in path.read_text()]
    paths.sort(key=lambda path: (FIRST.index(path.name) if path.name in FIRST else len(FIRST), path))
    command = [*PYTEST, "-m", "cuda", "--no-header", *(str(path.relative_to(ROOT)) for path in paths)]
    outcomes = trial.bench.folder / "outcomes.jsonl"
    variables = {"VIDSR_OUTCOMES": str(outcomes), "PYTHONUNBUFFERED": "1"}
    if not trial.rehearsal:
        variables["VIDSR_REQUIRE_CUDA"] = "1"
    code, said = run_command(command, trial.deadline.left, **variables)
    return {"command": " ".join(["python", *command[1:]]), **judged(code, said, noted(outcomes))}


def noted(path: Path) -> list[dict[str, Any]]:
    """The lines that watch.py wrote; the last may be cut short."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def judged(code: int | None, said: str, notes: list[dict[str, Any]]) -> Found:
    """What became of each test. code: of pytest, None where it was stopped; said: by it; notes: by watch.py."""
    planned = [name for note in notes for name in note.get("planned", [])]
    began = [note["begun"] for note in notes if "begun" in note]
    ended: dict[str, dict[str, Any]] = {}
    for note in notes:
        if "test" in note and ended.get(note["test"], {}).get("outcome") != "failed":
            ended[note["test"]] = note
    # A file that cannot even be read for want of a module tells nothing of the GPU.
    unusable = [(note["unusable"], note["why"] or "") for note in notes if "unusable" in note]
    without = [f"{name}: {why}" for name, why in unusable if "ModuleNotFoundError" in why]
    broken = [f"{name}: {why}" for name, why in unusable if "ModuleNotFoundError" not in why]
    running = [name for name in began if name not in ended] if code is None else []
    counts = {what: n for what in ("passed", "failed", "skipped") if (n := sum(note["outcome"] == what for note in ended.values()))}
    found: Found = {
        "exit_code": code, "counts": counts, "without": without, "running": running,
        "not_run": [name for name in planned if name not in began],
        "failures": broken + [f"{name}: {note['why']}" for name, note in ended.items() if note["outcome"] == "failed"],
        "skips": sorted({note["why"] for note in ended.values() if note["outcome"] == "skipped"}),
        "slowest": [[note["test"], note["seconds"]] for note in sorted(ended.values(), key=lambda note: -note["seconds"])[:5]],
    }  # fmt: skip
    if found["failures"]:
        found["failed"] = f"{len(found['failures'])} of {len(planned)} tests"
    elif code is not None and code < 0:
        found["failed"] = f"pytest ended by signal {-code}, in {began[-1] if began else 'none'}"
    elif not any("planned" in note for note in notes):
        found["failed"] = "the tests were not even collected in time" if code is None else (said.splitlines() or ["no output"])[-1]
    if "failed" in found:
        found["tail"] = said.splitlines()[-60:]
    return found
