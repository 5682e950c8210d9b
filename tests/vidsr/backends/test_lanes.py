"""No batch overtakes another, whatever the order in which a device gets round to its work.

A GPU does what its streams were given when it likes, in any order that the events allow. Here a made device does the
same on the CPU, in orders that hypothesis looks for: work that waits for too little gets to see the wrong pictures.
"""

import random
import threading
from collections import deque
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.vidsr.backends.test_backends import picture, same, spec_for
from vidsr.backends.cuda import CudaBackend
from vidsr.backends.gpu import graphs_refused
from vidsr.errors import BackendError
from vidsr.frames import Frame, FrameBatch, PixelFormat
from vidsr.models.base import Generator

FORMAT = PixelFormat.from_name("yuv420p")
SIZE = (160, 104)  # four are given to the device at once


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
        planes = [np.full(shape, value + i, np.uint8) for shape in FORMAT.plane_shapes(*SIZE)]
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
            assert np.array_equal(after.planes[0], np.full((2 * SIZE[1], 2 * SIZE[0]), before.planes[0][0, 0]))
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


class Pool:
    """The memory that graphs share, as PyTorch's allocator hands it out: whatever nobody holds when a graph is recorded
    may be given to it, and is written anew each time that graph is replayed.

    held: the tensors that are still held.
    """

    def __init__(self, held):
        self.held, self.blocks = held, []  # a block: the tensors that were ever given it

    def recording(self):
        """What may be handed out from now on: one tensor after another gets a block that fits, or a new one."""
        held = {t.untyped_storage().data_ptr() for t in self.held()}
        free = [block for block in self.blocks if not any(t.untyped_storage().data_ptr() in held for t in block)]

        def give(tensor):
            fits = [block for block in free if block[0].nbytes >= tensor.nbytes]
            block = min(fits, key=lambda block: block[0].nbytes) if fits else []
            if fits:
                free[:] = [other for other in free if other is not block]
            else:
                self.blocks.append(block)
            block.append(tensor)
            return block

        return give


class Graph:
    def __init__(self):
        self.steps, self.blocks = [], []

    def replay(self):
        own = {id(result) for *_, result in self.steps}
        for block in self.blocks:
            for tensor in block:
                if id(tensor) not in own:
                    tensor.fill_(77)  # of another graph, in memory that this one writes
        for function, args, kwargs, result in self.steps:
            again = function(*args, **kwargs)
            if isinstance(result, torch.Tensor) and again.data_ptr() != result.data_ptr():
                result.copy_(again)


class Capture(TorchDispatchMode):
    """In place of recording a CUDA graph: keeps each step, and gives what it makes a place in the pool."""

    def __init__(self, graph, pool, stream, capture_error_mode):
        super().__init__()
        self.graph, self.give = graph, pool.recording()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.graph.steps.append((function, args, kwargs or {}, result))
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in given:
            self.graph.blocks.append(self.give(result))
        return result


def recording(monkeypatch, device, capture=Capture):
    """A backend on that device, which records graphs."""
    backend = on(device)
    backend._graphs = True
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    held = lambda: [t for lane in backend._lanes for t in lane.outputs]  # noqa: E731
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: Pool(held))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Device(0, 1.0))
    return backend


@pytest.mark.parametrize("haste", [0.0, 0.9])
def test_no_graph_writes_over_what_another_has_made(monkeypatch, haste):
    """Graphs share a pool, where each may write over what another left: results wait outside it to be downloaded."""
    for seed in range(10):
        backend = recording(monkeypatch, Device(seed, haste))
        batches = [flat(20 + 15 * i, 4) for i in range(9)]
        pending = [backend.submit(batch) for batch in batches]
        for batch, waiting in zip(batches, pending):
            assert [f.planes[0][0, 0] for f in waiting().frames] == [f.planes[0][0, 0] for f in batch.frames]
        assert all(lane.graph.blocks for lane in backend._lanes), "the pool was not used"
        assert any(len(block) > 1 for lane in backend._lanes for block in lane.graph.blocks), "nothing was used again"


class Broken(Capture):
    def __exit__(self, *error):
        super().__exit__(*error)
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


def test_after_a_recording_that_failed_another_process_goes_on_without(monkeypatch, tmp_path):
    monkeypatch.setenv("VIDSR_CACHE", str(tmp_path))
    backend = recording(monkeypatch, Device(0, 1.0), Broken)
    with pytest.raises(BackendError, match=r"no CUDA graph \(CUDA error: .*\); run it again: it goes on without"):
        backend(flat(50, 4))
    backend.close()
    reason = graphs_refused(torch.device("cpu"))
    assert "previous error during capture" in reason and "\n" not in reason
    (file,) = (tmp_path / "graphs").iterdir()
    assert f"delete {file}" in reason
    file.unlink()
    assert graphs_refused(torch.device("cpu")) is None


def test_little_memory_for_a_graph_is_no_failure(monkeypatch):
    """The recording itself ended well: fewer frames at once, and graphs all the same."""

    class Full(Capture):
        def __enter__(self):
            if len(backend._lanes[0].inputs[0]) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__enter__()

    backend, said = recording(monkeypatch, Device(0, 1.0), Full), []
    backend._notify = said.append
    batch = flat(50, 4)
    assert [f.planes[0][0, 0] for f in backend(batch).frames] == [f.planes[0][0, 0] for f in batch.frames]
    assert any(lane.graph for lane in backend._lanes) and len(backend._lanes[0].inputs[0]) == 2
    assert said == ["out of device memory: going on with 2 frames at once"]


def test_a_device_that_fails_at_the_end_hides_nothing():
    """What ended the run is said, not what closing it came to."""

    class Lost(Device):
        def synchronize(self):
            raise RuntimeError("CUDA error: unspecified launch failure")

    backend = on(Lost(0, 1.0))
    backend(flat(50, 4))
    with pytest.raises(ValueError, match="the reason"), closing(backend):
        raise ValueError("the reason")


class Counting(Enlarge):
    calls = 0

    def forward(self, x):
        Counting.calls += 1
        return super().forward(x)


def test_short_batches_go_up_together():
    """Of four frames that came one by one nothing is computed four times; who waits does not wait for more of them."""
    backend = CudaBackend(Counting(), spec_for(scale=2), device=torch.device("cpu"))
    for _ in range(3):
        backend(flat(0, 4))  # each lane's first time
    Counting.calls = 0
    batches = [flat(20 + 15 * i, 1) for i in range(9)]
    pending = [backend.submit(batch) for batch in batches]
    assert Counting.calls == 2
    for batch, waiting in reversed(list(zip(batches, pending))):
        (frame,) = waiting().frames
        assert (frame.pts, frame.planes[0][0, 0]) == (batch.frames[0].pts, batch.frames[0].planes[0][0, 0])
    assert Counting.calls == 3
    both = [backend.submit(flat(40, 3)), backend.submit(picture(FORMAT, 20, 14, 3))]  # of two sizes
    assert [len(waiting().frames) for waiting in both] == [3, 3]


def test_threads_wait_for_what_others_submit():
    """A batch that waits for company may be started by whoever waits for it, meanwhile others submit."""
    backend, turn, wrong = CudaBackend(Enlarge(), spec_for(scale=2), device=torch.device("cpu")), threading.Lock(), []

    def work(i):
        for k in range(30):
            batch = flat(3 * i + k, 1 + (i + k) % 5)
            with turn:
                waiting = backend.submit(batch)
            if [f.planes[0][0, 0] for f in waiting().frames] != [f.planes[0][0, 0] for f in batch.frames]:
                wrong.append((i, k))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)


def test_the_plan_holds_what_really_runs():
    """Settled is what a picture came to, not what was hoped for."""
    most = 3 * 160 * 104 * 2

    class Small(Enlarge):
        def forward(self, x):
            if x.numel() > most:
                raise torch.OutOfMemoryError
            return super().forward(x)

    said = []
    backend = CudaBackend(Small(), spec_for(scale=2), said.append, torch.device("cpu"))
    settled = backend.settle(*SIZE)
    assert (settled["batch"], settled["patches"]) == ("2 frames", "4, PyTorch")
    assert said == [f"out of device memory: going on with {n} frames at once" for n in (8, 4, 2)]
    backend(flat(50, 4))
    assert backend.settle(*SIZE) == settled and len(said) == 3
    assert "patches" not in CudaBackend(Enlarge(), spec_for(scale=2), device=torch.device("cpu")).settle(*SIZE, False)
