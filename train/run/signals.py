"""The signals that end a run between two steps."""

from __future__ import annotations

import signal


class StopSignals:
    """While entered, SIGINT and SIGTERM only set `received` to their number, so that a step is never cut in two."""

    received = 0

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, number: int, _frame: object) -> None:
        self.received = number

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
