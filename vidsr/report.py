"""What a run has to say: nothing lossy or slow happens silently, and everything is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import Lock

from vidsr.errors import one_line


class Report:
    """Collects the lines and counts of one run; stages of different threads write into it.

    say: called with each new line as it happens. The same line is said once.
    """

    def __init__(self, say: Callable[[str], None] = lambda line: None) -> None:
        self._say = say
        self._lock = Lock()
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()

    def copy(self) -> Report:
        """A report that begins with the lines of this one, said already, and nothing counted."""
        copied = Report(self._say)
        copied.lines = list(self.lines)
        return copied

    def warn(self, line: str) -> None:
        """Tell the user now, and again in the report at the end."""
        line = one_line(line)
        with self._lock:
            if line in self.lines:
                return
            self.lines.append(line)
        self._say(line)

    def count(self, what: str, number: int = 1) -> None:
        """Add to a count shown at the end ("corrupt frames", "packets that do not decode")."""
        with self._lock:
            self.counts[what] += number

    def summary(self) -> list[str]:
        """The counts that are not zero, one line each."""
        with self._lock:
            return [f"{number} {what}" for what, number in sorted(self.counts.items()) if number]
