"""Calls that may never return, made in a thread that can be left behind."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

_TICKS = 12  # looks within the patience: a computer that slept in between has missed one of them, not all


class Stalled(Exception):
    """A call stood still."""


class Watched:
    """Makes calls one after the other in a thread of its own, and gives one up that stands still.

    A call stands still when for `patience` seconds it does not return while the whole process uses next to no
    processor time: so long as anything else in the process works, nothing is given up. The thread of such a call is
    lost, with all that the call holds; it does not keep the process from ending. Otherwise the thread ends when nobody
    holds this object any more. Use it from one thread at a time.
    """

    def __init__(self, name: str, patience: float = 60) -> None:
        self._tick = patience / _TICKS
        self._asked: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answered: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        threading.Thread(target=_answer, args=(self._asked, self._answered), name=name, daemon=True).start()
        weakref.finalize(self, self._asked.put, None)

    def __call__(self, call: Callable[[], Any]) -> Any:
        """What `call()` returns or raises; Stalled when it is given up, after which no more calls can be made."""
        self._asked.put(call)
        idle, used = 0, time.process_time()
        while idle < _TICKS:
            try:
                result, error = self._answered.get(timeout=self._tick)
            except Empty:
                now = time.process_time()
                idle = idle + 1 if now - used < 0.02 * self._tick else 0
                used = now
                continue
            if error is not None:
                raise error
            return result
        raise Stalled


def _answer(
    asked: SimpleQueue[Callable[[], Any] | None], answered: SimpleQueue[tuple[Any, BaseException | None]]
) -> None:
    while (call := asked.get()) is not None:
        try:
            answered.put((call(), None))
        except BaseException as error:  # raised where it was asked
            answered.put((None, error))
        del call  # or the last picture would stay until the next one comes
