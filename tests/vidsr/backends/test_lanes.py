"""No batch overtakes another, whatever the order in which a device gets round to its work.

A GPU does what its streams were given when it likes, in any order that the events allow. Here a made device does the
same on the CPU, in orders that hypothesis looks for: work that waits for too little gets to see the wrong pictures.
"""

import random
from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.vidsr.backends.test_backends import picture, same, spec_for
from vidsr.backends.cuda import CudaBackend
from vidsr.frames import Frame, FrameBatch, PixelFormat
from vidsr.models.base import Generator

FORMAT = PixelFormat.from_name("yuv420p")


class Enlarge(Generator):
    scale, radius = 2, 0

    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=2, mode="nearest")


class Stream:
    """Work in order; each item is a function, or an event's mark to wait for."""

    def __init__(self, device):
        self.device, self.items, self.done, self.given = device, deque(), 0, 0

    def give(self, item):
        self.items.append(item)
        self.given += 1
        self.device.perhaps_work()

    def wait_event(self, event):
        if event.mark is not None:
            self.give(event.mark)

    def synchronize(self):
        self.device.work_until(self, self.given)

    @property
    def can_go_on(self):
        return bool(self.items) and (callable(self.items[0]) or self.items[0][0].done >= self.items[0][1])

    def go_on(self):
        item = self.items.popleft()
        if callable(item):
            with torch.inference_mode():
                item()
        self.done += 1


class Event:
    def __init__(self):
        self.mark = None
        self.device = None

    def record(self, stream):
        self.mark, self.device = (stream, stream.given), stream.device

    def synchronize(self):
        self.device.work_until(*self.mark)


class Device:
    """In place of the backend's streams. haste: how much of the work at hand is done at once, 0 to 1."""

    def __init__(self, seed, haste):
        self.random, self.haste = random.Random(seed), haste
        self.upload, self.compute, self.download = (Stream(self) for _ in range(3))
        self.streams = [self.upload, self.compute, self.download]

    def run(self, stream, work):
        if "_prepare" in work.__code__.co_names:  # a lane's first time is waited for, as recording a graph is
            stream.synchronize()
            work()
        else:
            stream.give(work)

    def event(self):
        return Event()

    def step(self):
        ready = [stream for stream in self.streams if stream.can_go_on]
        if ready:
            self.random.choice(ready).go_on()
        return bool(ready)

    def perhaps_work(self):
        while self.random.random() < self.haste and self.step():
            pass

    def work_until(self, stream, count):
        while stream.done < count:
            assert self.step(), "the streams wait for each other"

    def synchronize(self):
        while self.step():
            pass
        assert all(not stream.items for stream in self.streams)


def flat(value, count):
    """`count` frames of one shade, each a little brighter than the last."""
    frames = []
    for i in range(count):
        planes = [np.full(shape, value + i, np.uint8) for shape in FORMAT.plane_shapes(8, 6)]
        planes[1:] = [np.full_like(plane, 128) for plane in planes[1:]]
        frames.append(Frame(tuple(planes), pts=10 * value + i))
    return FrameBatch(tuple(frames), FORMAT, spec_for().source_color)


def on(device):
    backend = CudaBackend(Enlarge(), spec_for(scale=2), device=torch.device("cpu"))
    backend._streams = device
    return backend


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32), haste=st.sampled_from([0.0, 0.3, 0.6, 0.9]),
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=12), patience=st.integers(1, 12),
)  # fmt: skip
def test_every_batch_gets_its_own_pictures(seed, haste, counts, patience):
    backend = on(Device(seed, haste))
    batches = [flat(20 + 15 * i, count) for i, count in enumerate(counts)]
    pending, results = deque(), []
    for batch in batches:
        pending.append(backend.submit(batch))
        while len(pending) >= patience:
            results.append(pending.popleft()())
    results += [waiting() for waiting in pending]
    for batch, result in zip(batches, results, strict=True):
        assert [frame.pts for frame in result.frames] == [frame.pts for frame in batch.frames]
        for before, after in zip(batch.frames, result.frames):
            assert np.array_equal(after.planes[0], np.full((12, 16), before.planes[0][0, 0]))
    backend.close()


def test_a_change_of_size_waits_for_what_is_on_its_way():
    backend = on(Device(0, 0.0))
    small, large = flat(50, 4), picture(FORMAT, 20, 14, 2)
    waiting = [backend.submit(small) for _ in range(5)]
    other = backend.submit(large)
    assert all(result().frames[3].planes[0][0, 0] == 53 for result in waiting)
    assert same(other(), on(Device(1, 1.0))(large))


@pytest.mark.parametrize("missing", ["computed", "uploaded", "downloaded"])
def test_the_made_device_finds_what_is_not_waited_for(missing):
    """The proof is worth something only if a missing event is noticed."""

    class Careless(Device):
        def event(self):
            self.events = getattr(self, "events", 0) + 1
            event = Event()
            if self.events <= 9 and ("uploaded", "computed", "downloaded")[(self.events - 1) % 3] == missing:
                event.record = lambda stream: None
            return event

    wrong = 0
    for seed in range(20):
        backend = on(Careless(seed, 0.3))
        batches = [flat(20 + 15 * i, 4) for i in range(9)]
        pending = [backend.submit(batch) for batch in batches]
        for batch, waiting in zip(batches, pending):
            got = [frame.planes[0][0, 0] for frame in waiting().frames]
            wrong += got != [frame.planes[0][0, 0] for frame in batch.frames]
    assert wrong > 0


class Capture(TorchDispatchMode):
    """In place of recording a CUDA graph: keeps all that is made meanwhile, as it would lie in the graphs' pool."""

    def __init__(self, graph, *_, **__):
        super().__init__()
        self.made = graph.made

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in given:
            self.made.append(result)
        return result


class Graph:
    def __init__(self):
        self.made = []

    def replay(self): ...


def test_results_lie_where_no_graph_writes(monkeypatch):
    """Graphs share a pool, where each may write over what another left: results wait outside it to be downloaded."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Device(0, 1.0))
    backend = CudaBackend(Enlarge(), spec_for(scale=2), device=torch.device("cpu"))
    backend._graphs = True
    for value in (20, 40, 60):
        assert backend(flat(value, 4)).frames[0].planes[0][0, 0] == value
    lanes = [lane for lane in backend._lanes if lane.graph]
    pool = {t.untyped_storage().data_ptr() for lane in lanes for t in lane.graph.made}
    assert len(lanes) == 3 and pool
    assert not any(t.untyped_storage().data_ptr() in pool for lane in lanes for t in lane.outputs)
