"""Streams, graphs and memory on a real GPU. What else the CUDA backend does, test_backends.py tests on the CPU."""

import importlib.util
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.vidsr.backends.test_backends import compact, picture, psnr, same, spec_for, srresnet
from vidsr.backends.cpu import TorchBackend
from vidsr.backends.cuda import CudaBackend
from vidsr.backends.tensorrt.body import EngineBody, tensorrt_missing
from vidsr.backends.tensorrt.cache import EngineCache
from vidsr.frames import PixelFormat

pytestmark = pytest.mark.cuda

FORMAT = PixelFormat.from_name("yuv420p")


def spec(precision="fp16", **options):
    return spec_for("cuda", precision=precision, **options)


@pytest.mark.parametrize("generator", [compact, srresnet])
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_graph_is_what_it_was_recorded_from(generator, precision):
    batches = [picture(FORMAT, 320, 180, count=n, seed=n) for n in (4, 1, 3, 4, 2)]
    eager = CudaBackend(generator(), spec(precision), graphs=False)
    said = []
    graph = CudaBackend(generator(), spec(precision), said.append)
    for batch in batches:
        assert same(graph(batch), eager(batch))
    assert said == [] and all(lane.graph is not None for lane in graph._lanes)


def test_batches_do_not_overtake_each_other():
    """Many in flight, none waited for, the host's memory used again at once: every picture is its own."""
    run = CudaBackend(compact(), spec())
    batches = [picture(FORMAT, 320, 180, count=4, seed=n) for n in range(8)]
    expected = [run(batch) for batch in batches]
    for _ in range(5):
        pending = [run.submit(batch) for batch in batches]
        for i in reversed(range(len(pending))):
            assert same(pending[i](), expected[i])


def test_threads_share_a_backend():
    run, turn, wrong = CudaBackend(compact(), spec()), threading.Lock(), []
    batches = [picture(FORMAT, 160, 90, count=3, seed=n) for n in range(4)]
    expected = [run(batch) for batch in batches]

    def work(i):
        for _ in range(20):
            with turn:
                pending = run.submit(batches[i])
            if not same(pending(), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_memory_stays_flat():
    run = CudaBackend(compact(), spec())
    batch = picture(FORMAT, 480, 270, count=4)
    for _ in range(5):
        run(batch)
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for _ in range(300):
        run(batch)
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before
    run.close()
    assert torch.cuda.memory_allocated() < before[0]


def test_less_memory_than_was_free():
    """The driver says that much is free, and then it is not: smaller pieces, the same picture.

    Four frames of the result at once take some 400 MiB, one some 100 besides what libraries keep: between the two.
    """
    batch = picture(FORMAT, 640, 360, count=4)
    whole = CudaBackend(srresnet(), spec())
    expected = whole(batch)
    whole.close()
    said = []
    run = CudaBackend(srresnet(), spec(), said.append)
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (288 << 20)) / total)
    try:
        result = run(batch)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert said and all(line.startswith("out of device memory: going on") for line in said)
    assert psnr(result, expected, FORMAT) > 50


@pytest.mark.parametrize("generator", [compact, srresnet])
def test_compiled_is_what_it_was_compiled_from(generator):
    if not importlib.util.find_spec("triton"):
        pytest.skip("no Triton, which torch.compile needs on a GPU")
    batches = [picture(FORMAT, 320, 180, count=4, seed=n) for n in range(6)]
    plain, said = CudaBackend(generator(), spec()), []
    run = CudaBackend(generator(), replace(spec(), compiled=True), said.append)
    assert run.settle(320, 180, False)["convolutions"] == "torch.compile" and said == []
    pending = [run.submit(batch) for batch in batches]
    for batch, waiting in zip(batches, pending):
        assert psnr(waiting(), plain(batch), FORMAT) > 55
    assert all(lane.graph is not None for lane in run._lanes)


@pytest.mark.parametrize("format", ["yuv420p", "yuv420p10le", "gray", "gbrp"])
def test_like_the_cpu(format):
    batch = picture(PixelFormat.from_name(format), 96, 64, 2)
    wanted = spec("fp32", format=format)
    reference = TorchBackend(compact(), replace(wanted, name="cpu"))(batch)
    result = CudaBackend(compact(), wanted)(batch)
    for a, b in zip(reference.frames, result.frames):
        for p, q in zip(a.planes, b.planes):
            assert np.abs(p.astype(int) - q).max() <= 1  # sums on the edge of rounding


@pytest.mark.parametrize("generator", [compact, srresnet])
def test_real_engines_are_right_and_kept(generator, tmp_path):
    if reason := tensorrt_missing():
        pytest.skip(reason)
    from vidsr.backends.tensorrt.compiler import find_package

    batch = picture(FORMAT, 160, 90, count=4)
    reference = TorchBackend(generator(), spec_for("cpu"))(batch)
    said = []
    for _ in range(2):
        body = EngineBody(find_package(), EngineCache(tmp_path))
        run = CudaBackend(generator(), spec("auto"), said.append, body=body)
        assert psnr(run(batch), reference, FORMAT) >= 45
        assert same(run(batch), run(batch))
        (stored,) = body.engines.values()
        assert stored.psnr >= 45
        run.close()
    assert len(said) == 1 and said[0].startswith("compiling an engine")
