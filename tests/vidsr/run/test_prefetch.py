"""prefetch and in_parallel: order, bounds, errors, and no thread left behind."""

import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidsr.run.prefetch import in_parallel, prefetch


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


def counting(item, ended, go_on):
    """Work of `item` steps that returns its square and notes its end."""
    try:
        for _ in range(item):
            time.sleep(0.001)
            go_on()
        return item * item
    finally:
        ended.append(item)


@pytest.mark.parametrize("workers", [1, 2, 5, 20])
def test_results_come_in_the_items_order(workers):
    ended = []
    items = [9, 1, 5, 0, 3, 3]
    results = in_parallel(lambda item, go_on: counting(item, ended, go_on), items, workers)
    assert results == [item * item for item in items]
    assert sorted(ended) == sorted(items)


def test_nothing_to_do():
    assert in_parallel(lambda item, go_on: counting(item, [], go_on), [], 4) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_one_worker_is_the_caller(workers):
    threads = set()

    def work(item, go_on):
        threads.add(threading.get_ident())

    in_parallel(work, range(3), workers)
    assert (threads == {threading.get_ident()}) == (workers == 1)


def test_never_more_at_once_than_workers():
    lock, running, most = threading.Lock(), [], []

    def work(item, go_on):
        with lock:
            running.append(item)
            most.append(len(running))
        for _ in range(5):
            time.sleep(0.001)
            go_on()
        with lock:
            running.remove(item)

    in_parallel(work, range(12), 3)
    assert max(most) == 3


def test_the_first_error_stops_the_others_at_their_next_step():
    begun, ended, together = [], [], threading.Barrier(3)

    def work(item, go_on):
        begun.append(item)
        try:
            together.wait(timeout=10)
            go_on()
            if item == 1:
                raise ValueError("the second")
            while True:
                time.sleep(0.001)
                go_on()
        finally:
            ended.append(item)

    with pytest.raises(ValueError, match="the second"):
        in_parallel(work, range(9), 3)
    assert sorted(begun) == sorted(ended) == [0, 1, 2]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("worker")]


def test_errors_of_stopping_do_not_hide_the_first():
    together = threading.Barrier(2)

    def work(item, go_on):
        together.wait(timeout=10)
        try:
            go_on()
            if item == 0:
                raise ValueError("first")
            while True:
                time.sleep(0.001)
                go_on()
        finally:
            if item == 1:
                raise OSError("while closing")

    with pytest.raises(ValueError, match="first"):
        in_parallel(work, [0, 1], 2)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to single threads here")
def test_an_interrupted_caller_leaves_nothing_behind():
    ended, caller = [], threading.get_ident()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it

    def work(item, go_on):
        try:
            for step in range(10_000):
                if (item, step) == (1, 3):
                    signal.pthread_kill(caller, signal.SIGINT)
                time.sleep(0.001)
                go_on()
        finally:
            ended.append(item)

    try:
        with pytest.raises(KeyboardInterrupt):
            in_parallel(work, range(5), 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(ended) == [0, 1]
