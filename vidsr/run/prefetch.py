"""The only threads of the pipeline: a generator that runs ahead of its consumer, and several that run side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_POLL_SECONDS = 0.1


class _End:
    """Marks the end of the items, and carries the exception that ended them."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterable[T], depth: int = 2, name: str = "prefetch") -> Generator[T, None, None]:
    """Yield `items` in order, produced by a thread that is at most `depth` items ahead.

    An exception in the thread is raised here, after the items before it. When the consumer closes this generator (or
    raises), the thread stops at its next item and is waited for, so that nothing runs on behind the consumer's back.
    """
    queue: Queue[T | _End] = Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: T | _End) -> bool:
        while not stop.is_set():
            try:
                queue.put(item, timeout=_POLL_SECONDS)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        error: BaseException | None = None
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(item):
                    break
        except BaseException as caught:  # re-raised in the consumer
            error = caught
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                try:
                    close()
                except BaseException as caught:
                    error = error or caught
        put(_End(error))

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = queue.get(timeout=_POLL_SECONDS)
            except Empty:
                if not thread.is_alive() and queue.empty():
                    raise RuntimeError(f"{name}: the thread died without a word") from None
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        thread.join()


class _Stopped(Exception):
    """Another thread has failed: what this one makes is of no use any more."""


def in_parallel(work: Callable[[T, Callable[[], None]], R], items: Sequence[T], workers: int = 1) -> list[R]:
    """What `work(item, go_on)` returns for each item, in the items' order, up to `workers` of them at once.

    work: calls `go_on()` wherever it can be stopped, which raises when another has failed. The first exception begins
    no more work, and is raised when all have ended. One worker is the caller's own thread.
    """
    stop = threading.Event()

    def go_on() -> None:
        if stop.is_set():
            raise _Stopped

    if min(workers, len(items)) <= 1:
        return [work(item, go_on) for item in items]
    errors: list[BaseException] = []

    def attempt(item: T) -> R | None:
        try:
            go_on()
            return work(item, go_on)
        except _Stopped:
            return None
        except BaseException as error:  # raised in the caller
            errors.append(error)
            stop.set()
            return None

    with ThreadPoolExecutor(min(workers, len(items)), thread_name_prefix="worker") as pool:
        try:
            tasks = [pool.submit(attempt, item) for item in items]
            wait(tasks)
        except BaseException:  # the caller is interrupted; leaving the pool waits for its threads
            stop.set()
            raise
    if errors:
        raise errors[0]
    return [task.result() for task in tasks]  # type: ignore[misc]  # None only after an error
