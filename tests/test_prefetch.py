"""prefetch: order, bounds, errors, and no thread left behind."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidsr.prefetch import prefetch


def running() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


@given(st.lists(st.integers(), max_size=50), st.integers(1, 5))
def test_gives_the_items_in_order(items, depth):
    assert list(prefetch(items, depth)) == items


def test_never_runs_further_ahead_than_its_depth():
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    ahead = prefetch(items(), depth=3)
    for taken in range(1, 20):
        next(ahead)
        time.sleep(0.005)
        assert len(made) <= taken + 3 + 1  # depth in the queue, and one in the hand
    ahead.close()


def test_an_error_arrives_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise ValueError("third")

    ahead = prefetch(items())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(ahead)


def test_closing_stops_the_thread_and_its_generator():
    closed = []

    def items():
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    ahead = prefetch(items(), depth=1)
    next(ahead)
    ahead.close()
    assert closed == [True]
    assert running() == 0


def test_threads_behind_each_other_all_stop():
    ahead = prefetch((i * 2 for i in prefetch(iter(range(1000)))), depth=1)
    assert next(ahead) == 0
    ahead.close()
    deadline = time.monotonic() + 5
    while running() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running() == 0
