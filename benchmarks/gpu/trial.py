"""What the parts of `python -m benchmarks gpu` share: a deadline, findings on disk, and a guard around each attempt."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.fps import Bench
from vidsr.errors import VidsrError, first_line
from vidsr.files import write_whole

ROOT = Path(__file__).parents[2]
MOST_SAID = 1 << 20  # bytes kept of what a command says
STUBBORN = 3.0  # seconds after which what cannot be killed is left
Found = dict[str, Any]  # fit for JSON; "left out" or "failed" hold the reason where there is nothing else


class Deadline:
    """A moment after which nothing more is begun."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; 0 when it has passed."""
        return max(0.0, self._end - time.monotonic())

    def refuses(self, needed: float) -> str | None:
        """Why what takes `needed` seconds is not begun, or None when there is time."""
        return None if self.left >= needed else f"{self.left:.0f} s were left, it takes about {needed:.0f} s"


class Trial:
    """One part at work. Each finding is in the file `path` as soon as it is kept, whatever becomes of the process.

    rehearsal: on the CPU, with tiny sizes.
    """

    def __init__(self, bench: Bench, deadline: Deadline, path: Path) -> None:
        self.bench, self.deadline, self.path = bench, deadline, path
        self.rehearsal = bench.rehearsal
        self.found: Found = {}
        self.failures: list[str] = []

    def keep(self, **found: Any) -> None:
        self.found.update(found)
        write_whole(self.path, json.dumps(self.found).encode())

    def add(self, name: str, found: Found) -> None:
        """To the list of that name."""
        self.keep(**{name: [*self.found.get(name, []), found]})

    def attempt(self, what: str, needed: float, work: Callable[[], Found], may_fail: bool = False) -> Found:
        """What `work` finds, or why there is nothing.

        needed: seconds it takes, about. may_fail: that it fails would be a finding, too, not a failure of the part.
        """
        if reason := self.deadline.refuses(min(needed, 0.5) if self.rehearsal else needed):
            return {"left out": reason}
        self.keep(at=what)
        try:
            return work()
        except VidsrError as error:
            reason = str(error)
        except Exception as error:  # anything: what comes next may still work
            traceback.print_exc()
            reason = f"{type(error).__name__}: {first_line(error)}"
        if not may_fail:
            self.failures.append(f"{what}: {reason}")
        return {"failed": reason}


def run_command(command: Sequence[str], seconds: float, **variables: str) -> tuple[int | None, str]:
    """(exit code, the end of what it said) of a command in the checkout; None for one that was stopped after `seconds`.

    Nothing of it is left when this returns, STUBBORN seconds later at most: no child, and on Linux no child's child
    either that has left for a session of its own.
    """
    mark = f"VIDSR_BENCHMARK_{secrets.token_hex(8)}"  # by which its descendants are known
    with tempfile.TemporaryFile() as said:  # a pipe would stay open while any grandchild lives
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
                                   env={**os.environ, mark: "1", **variables}, start_new_session=True)  # fmt: skip
        code: int | None = None
        try:
            code = process.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            pass
        finally:  # also when we are interrupted
            _end(process, mark)
        said.seek(max(0, said.seek(0, os.SEEK_END) - MOST_SAID))
        return code, said.read().decode(errors="replace").strip()


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill `process` and its descendants. What the system does not let die (a driver that hangs) is left to it."""
    end = time.monotonic() + STUBBORN
    while time.monotonic() < end:
        alive = _marked(mark)
        if process.poll() is None:
            alive.append(process.pid)
        if not alive:
            return
        for pid in alive:
            try:
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            except OSError:  # it has just ended
                pass
        time.sleep(0.02)


def _marked(mark: str) -> list[int]:
    """The processes that were started with the environment variable `mark`; none where the system does not tell."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{mark}=".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # another user's, or gone
            pass
    return found
