"""Around the engine: cache, trust, refusal, fallback. Here on the CPU, with an engine that PyTorch computes."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.vidsr.backends.fake_tensorrt import FakeTensorRT
from tests.vidsr.backends.test_backends import compact, picture, same, spec_for, srresnet
from vidsr.backends.base import BackendSpec
from vidsr.backends.convolutions import TorchBody
from vidsr.backends.cuda import CudaBackend
from vidsr.backends.planes import PlaneGenerator
from vidsr.backends.tensorrt import body as tensorrt
from vidsr.backends.tensorrt import compiler
from vidsr.backends.tensorrt.body import EngineBody, tensorrt_missing
from vidsr.backends.tensorrt.cache import EngineCache
from vidsr.backends.tensorrt.file import EngineKey, StoredEngine
from vidsr.backends.trust import made_picture
from vidsr.errors import BackendError, UsageError
from vidsr.frames import PixelFormat
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import find_model, load_generator, save_generator

CPU = torch.device("cpu")
PACKAGE = compiler.Package("tensorrt", None, "11.0.1")


class Workshop:
    """In place of TensorRT: `build` remembers the network, an engine runs it, with the fault its bytes name."""

    def __init__(self):
        self.networks, self.built, self.fault, self.cannot, self.timings = {}, [], b"", "", []
        self.spare = False  # whether nothing is the matter any more

    def build(self, network, shape, package, targets=(), timing_cache=None):
        if self.cannot:
            raise BackendError(self.cannot)
        data = b"%d %b" % (len(self.built), self.fault)
        self.networks[data] = network
        self.built.append(tuple(shape))
        self.timings.append(timing_cache)
        return data

    def engine(self, data, package):
        if data not in self.networks:
            raise BackendError("TensorRT cannot load the engine (made by another version)")
        fault = b"" if self.spare else data.split()[-1]
        return FakeEngine(self.networks[data], self.built[int(data.split()[0])], fault)


class FakeEngine:
    def __init__(self, network, shape, fault):
        self.network, self.input_shape, self.fault, self.runs = network, shape, fault, 0

    def __call__(self, x):
        assert tuple(x.shape) == self.input_shape and x.dtype == torch.float16
        result = self.network(x)
        if self.fault == b"nan":
            result[..., -1] = torch.nan
        elif self.fault == b"noise":
            result += torch.randn_like(result) * 3  # codes of 8 bits
        elif self.fault == b"dark":  # right where all is black, as episodes begin
            result = torch.where(x.amax((2, 3), keepdim=True).amax(1, keepdim=True) < 0.02, result, result + 4)
        elif self.fault == b"memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        elif self.fault == b"stopped":
            raise BackendError("the engine does not run (it said so)")
        elif self.fault == b"crash":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return result


@pytest.fixture
def workshop(monkeypatch):
    made = Workshop()
    monkeypatch.setattr(compiler, "build", made.build)
    monkeypatch.setattr(compiler, "exporter", lambda package, targets=(): "onnx 1.0")
    monkeypatch.setattr(tensorrt, "Engine", made.engine)
    return made


class Run:
    """One opened backend, and what it said."""

    def __init__(self, cache, generator=compact, verify=False, package=PACKAGE, **options):
        self.said = []
        spec = spec_for("tensorrt", precision=None, **options)
        self.body = EngineBody(package, cache, verify)
        self.backend = CudaBackend(generator(), spec, self.said.append, CPU, self.body)

    def __call__(self, batch):
        return self.backend(batch)

    @property
    def stored(self):
        (stored,) = self.body.engines.values()
        return stored


class Half(TorchBody):
    """fp16 on the CPU is no choice for people, but the same arithmetic."""

    def precision(self, *_):
        return "fp16"


def on_cuda_path(generator=compact):
    return CudaBackend(generator(), spec_for("cuda"), None, CPU, Half())


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


BATCH = picture(PixelFormat.from_name("yuv420p"), 40, 30, 2)


@pytest.mark.parametrize("generator", [compact, srresnet])
def test_an_engine_is_built_compared_and_kept(workshop, cache, generator):
    first = Run(cache, generator)
    expected = on_cuda_path(generator)(BATCH)
    assert same(first(BATCH), expected) and same(first(BATCH), expected)
    assert workshop.built == [(16, 3, 30, 40)]
    assert first.stored.psnr >= 45 and not first.stored.refused and first.stored.engine
    assert len(first.said) == 1 and "16 pictures of 40x30" in first.said[0]
    second = Run(cache, generator)
    assert same(second(BATCH), expected)
    assert len(workshop.built) == 1 and second.said == []
    assert any(second.body._ready.values())


def test_every_change_needs_another_engine(workshop, cache):
    Run(cache)(BATCH)
    Run(cache, scale=2)(BATCH)  # other weights: the reduction is in the last convolution
    Run(cache)(picture(PixelFormat.from_name("yuv420p"), 41, 30))
    Run(cache, lambda: Compact(16, 2))(BATCH)
    assert len(workshop.built) == len(cache.entries()) == 4
    Run(cache)(BATCH)
    assert len(workshop.built) == 4


@pytest.mark.parametrize(
    ("fault", "reason"), [(b"nan", "NaN"), (b"noise", r"\d\d\.\d dB against float32, less than 45")]
)
def test_a_wrong_engine_is_refused(workshop, cache, fault, reason):
    workshop.fault = fault
    run = Run(cache)
    expected = on_cuda_path()(BATCH)
    for _ in range(2):
        assert same(run(BATCH), expected)  # PyTorch's
    assert len(run.said) == 2  # that it is compiled, and once what came of it
    assert run.said[1].startswith("TensorRT is not used (its engine is refused: ")
    assert "\n" not in run.said[1]
    assert re.search(reason, run.said[1])
    workshop.fault = b""
    later = Run(cache)
    assert same(later(BATCH), expected)
    assert len(workshop.built) == 1  # nobody waits for it again
    assert len(later.said) == 1 and "refused earlier" in later.said[0]
    again = Run(cache, verify=True)  # unless asked to
    again(BATCH)
    assert len(workshop.built) == 2 and again.stored.psnr >= 45 and not again.stored.refused
    assert cache.get(again.stored.key).psnr == again.stored.psnr


def test_black_pictures_prove_nothing(workshop, cache):
    workshop.fault = b"dark"
    black = picture(PixelFormat.from_name("yuv420p"), 40, 30)
    for plane, value in zip(black.frames[0].planes, (16, 128, 128)):
        plane[:] = value
    run = Run(cache)
    run(black)
    assert "dB against float32" in run.stored.refused


# What TensorRT itself fails at, through all of vidsr's own code

NO_KERNEL = {"Tactic 3 is slow": "WARNING", "Error Code 10: Could not find any implementation for node X.": "ERROR"}
NO_MEMORY = {
    "Tactic Device request: 5000MB Available: 400MB. Device memory is insufficient to use tactic.": "WARNING",
    "Error Code 10: Could not find any implementation for node X.": "ERROR",
}
SHORT = {"[defaultAllocator.cpp] Error Code 1: Cuda Runtime (out of memory)": "ERROR"}
STALE = {"The engine plan file is not compatible with this version of TensorRT": "ERROR"}


@pytest.fixture
def by_onnx(monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(compiler, "exporter", lambda package, targets=(): "onnx 1.0")


def test_what_cannot_be_built_is_refused_and_not_built_again(by_onnx, cache):
    trt = FakeTensorRT(NO_KERNEL)
    first = Run(cache, package=trt.package)
    for _ in range(2):
        assert same(first(BATCH), on_cuda_path()(BATCH))
    reason = "TensorRT 11.0.1 cannot build an engine (Error Code 10: Could not find any implementation for node X)"
    assert [line for line in first.said if "not used" in line] == [
        f"TensorRT is not used (its engine is refused: {reason}): PyTorch does the same, slower"
    ]
    assert first.stored.refused == cache.get(first.stored.key).refused == reason
    second = Run(cache, package=trt.package)
    second(BATCH)
    assert trt.builds == 1 and "refused earlier" in second.said[0] and reason in second.said[0]
    trt.version = "11.0.2"  # whatever is in the key tries again
    Run(cache, package=trt.package)(BATCH)
    assert trt.builds == 2
    Run(cache, package=trt.package, verify=True)(BATCH)
    assert trt.builds == 3


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (SHORT, "out of device memory: "),
        (NO_MEMORY, "out of device memory: "),
        ({"Error Code 4: Internal Error (std::bad_alloc)": "INTERNAL_ERROR"}, "bad_alloc"),
        ({"CUDA initialization failure with error: 35": "ERROR"}, "CUDA initialization failure"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "MemoryError"),
        (ModuleNotFoundError("No module named 'sympy'"), "No module named 'sympy'"),
        (RuntimeError("CUDA error: unspecified launch failure"), "CUDA error"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_passes_is_tried_again(by_onnx, cache, why, said):
    trt = FakeTensorRT(why)
    for _ in range(2):
        run = Run(cache, package=trt.package)
        assert same(run(BATCH), on_cuda_path()(BATCH))
        assert cache.entries() == []
        assert said in run.said[-1] and "TensorRT is not used" in run.said[-1]
    shapes = 5 if "memory" in said else 1  # 16 pictures at once, 8, 4, 2, 1: less memory may do
    assert trt.builds == 2 * shapes


def test_an_interrupted_build_leaves_nothing(by_onnx, cache):
    with pytest.raises(KeyboardInterrupt):
        Run(cache, package=FakeTensorRT(KeyboardInterrupt()).package)(BATCH)
    assert cache.entries() == []


def test_a_fresh_engine_that_does_not_load_is_refused(by_onnx, cache):
    trt = FakeTensorRT(None, STALE)
    for builds, said in ((1, "its engine is refused"), (1, "refused earlier")):
        run = Run(cache, package=trt.package)
        assert same(run(BATCH), on_cuda_path()(BATCH))
        assert trt.builds == builds
        assert said in run.said[-1] and "not compatible with this version of TensorRT" in run.said[-1]


def test_an_engine_that_does_not_fit_now_is_kept(by_onnx, cache):
    """Memory is not the engine's fault: what took minutes is there when there is room again."""
    trt = FakeTensorRT(None, SHORT)
    for _ in range(2):
        run = Run(cache, package=trt.package)
        assert same(run(BATCH), on_cuda_path()(BATCH))
        assert trt.builds == 5 == len(cache.entries())
        assert all(entry.stored.psnr is None and not entry.stored.refused for entry in cache.entries())
        assert not any("built again" in line for line in run.said) and "out of device memory" in run.said[-1]


def test_a_reason_that_passes_is_not_waited_for_twice_in_a_run(workshop, cache):
    workshop.cannot = "TensorRT 11.0.1 cannot build an engine (no disk)"
    run = Run(cache)
    assert same(run(BATCH), on_cuda_path()(BATCH))
    run(BATCH)
    assert [line for line in run.said if "not used" in line] == [
        "TensorRT is not used (TensorRT 11.0.1 cannot build an engine (no disk)): PyTorch does the same, slower"
    ]
    assert cache.entries() == [] and run.stored is None


# What fails when it is tried

LARGE = picture(PixelFormat.from_name("yuv420p"), 300, 200)


def short_of_memory(room, on_the_cpu):
    """compact(), on a device with room for float32 work on that many pixels; and how many on the CPU."""
    made = 0

    class Large(Compact):
        def folded(self):
            nonlocal made
            made += 1
            pixels = room if made < 3 else on_the_cpu  # the third that is made of it is for the CPU

            def allocate(module, inputs):
                if inputs[0].dtype == torch.float32 and inputs[0].shape[2] * inputs[0].shape[3] > pixels:
                    raise torch.OutOfMemoryError("CUDA out of memory")

            folded = super().folded()
            next(m for m in folded.body.modules() if isinstance(m, torch.nn.Conv2d)).register_forward_pre_hook(allocate)
            return folded

    torch.manual_seed(0)
    return Large(16, 3)


@pytest.mark.parametrize(("room", "on_the_cpu"), [(160 * 160, 0), (100, 160 * 160)])
def test_the_comparison_takes_less_memory_than_the_work(workshop, cache, room, on_the_cpu):
    """float32 takes twice as much: it is done in tiles, and where there is no room for those, on the CPU."""
    run = Run(cache, lambda: short_of_memory(room, on_the_cpu))
    assert same(run(LARGE), on_cuda_path()(LARGE))
    assert run.stored.psnr >= 45 and any(run.body._ready.values())
    assert workshop.built == [(4, 3, 200, 300)] and len(run.said) == 1


def test_an_engine_that_cannot_be_compared_is_kept_and_not_used(workshop, cache):
    workshop.fault = b"memory"
    for _ in range(2):
        run = Run(cache)
        assert same(run(BATCH), on_cuda_path()(BATCH))
        assert not any(run.body._ready.values())
        assert "out of device memory" in run.said[-1]
        assert [shape[0] for shape in workshop.built] == [16, 8, 4, 2, 1]  # once: they are kept
    assert all(entry.stored.psnr is None and not entry.stored.refused for entry in cache.entries())
    workshop.spare = True
    later = Run(cache)
    assert same(later(BATCH), on_cuda_path()(BATCH))
    assert len(workshop.built) == 5 and later.stored.psnr >= 45 and later.said == []


@pytest.mark.parametrize(
    ("fault", "reason"), [(b"stopped", "the engine does not run (it said so)"), (b"crash", "illegal memory access")]
)
def test_an_engine_that_does_not_run_is_refused(workshop, cache, fault, reason):
    workshop.fault = fault
    for said in ("its engine is refused: ", "refused earlier: "):
        run = Run(cache)
        assert same(run(BATCH), on_cuda_path()(BATCH))
        assert said in run.said[-1] and reason in run.said[-1] and run.said[-1].count("TensorRT is not used") == 1
        assert workshop.built == [(16, 3, 30, 40)] and not any(run.body._ready.values())


def test_an_engine_that_stops_in_the_middle(workshop, cache):
    run = Run(cache)
    run(BATCH)
    (engine,) = run.body._ready.values()
    engine.fault = b"stopped"
    for _ in range(2):
        assert same(run(BATCH), on_cuda_path()(BATCH))
    assert [line for line in run.said if "not used" in line] == [
        "TensorRT is not used (the engine does not run (it said so)): PyTorch does the same, slower"
    ]


def test_an_engine_for_pictures_of_another_size(workshop, cache):
    first, other = Run(cache), picture(PixelFormat.from_name("yuv420p"), 24, 20)
    first(BATCH)
    wrong = first.stored.engine
    second = Run(cache)
    second(other)
    cache.put(replace(second.stored, engine=wrong))
    third = Run(cache)
    assert same(third(other), on_cuda_path()(other))
    assert "it is built again" in third.said[0] and len(workshop.built) == 3


def test_closing_says_nothing(workshop, cache):
    """It is done because of an error as often as not, and that error is the one to be seen."""
    EngineBody(PACKAGE, cache).close()
    run = Run(cache)
    run(BATCH)
    run.body.close()
    run.backend.close()
    run.body.close()
    assert run.body._ready == {}


def test_an_engine_of_another_version_is_built_again(workshop, cache):
    first = Run(cache)
    first(BATCH)
    cache.put(replace(first.stored, engine=b"another version's"))
    second = Run(cache)
    assert same(second(BATCH), first(BATCH))
    assert len(workshop.built) == 2 and "made by another version): it is built again" in second.said[0]
    third = Run(cache)
    third(BATCH)
    assert len(workshop.built) == 2


def test_a_damaged_cache_file_is_built_again(workshop, cache):
    first = Run(cache)
    first(BATCH)
    (path,) = cache.folder.glob("*.engine")
    path.write_bytes(path.read_bytes()[:-1])
    rejected = []
    second = Run(EngineCache(cache.folder, notify=rejected.append))
    assert same(second(BATCH), first(BATCH))
    assert len(workshop.built) == 2 and len(rejected) == 1


def test_a_cache_that_cannot_be_written(workshop, tmp_path):
    (tmp_path / "file").write_text("in the way")
    said = []
    run = Run(EngineCache(tmp_path / "file", notify=said.append))
    assert same(run(BATCH), on_cuda_path()(BATCH))
    assert run.stored.psnr >= 45 and any(run.body._ready.values())
    assert len(said) == 1


def test_engines_built_ahead_are_used_and_compared(workshop, cache):
    made = Run(EngineCache(cache.folder.parent / "elsewhere"))
    made(BATCH)
    ahead = replace(made.stored.key, gpu="", driver="", capabilities=("8.6", "0.0"), exporter="onnx 9", torch="9")
    cache.put(replace(made.stored, key=ahead, psnr=None))
    run = Run(cache)
    assert same(run(BATCH), made(BATCH))
    assert len(workshop.built) == 1 and run.said == []
    assert run.stored.psnr >= 45 and run.stored.key.gpu == "CPU"
    other = replace(made.stored.key, gpu="", driver="", capabilities=("8.6",))
    alone = EngineCache(cache.folder.parent / "alone")
    alone.put(replace(made.stored, key=other, psnr=None))
    Run(alone)(BATCH)
    assert len(workshop.built) == 2  # not for this card


def test_two_sizes_take_turns(workshop, cache):
    """Whole pictures and patches: an engine each, and neither is forgotten for the other."""
    patch = picture(PixelFormat.from_name("yuv420p"), 24, 20, 3)
    run = Run(cache)
    expected = [on_cuda_path()(batch) for batch in (BATCH, patch)]
    for _ in range(2):
        assert same(run(BATCH), expected[0]) and same(run(patch), expected[1])
    assert workshop.built == [(16, 3, 30, 40), (16, 3, 20, 24)]
    assert all(run.body._ready.values()) and len(run.body._ready) == 2


def test_tiles_need_one_engine(workshop, cache):
    batch = picture(PixelFormat.from_name("yuv420p"), 61, 45)
    run = Run(cache, tile=24)
    result = run(batch)
    size = 24 + 2 * run.backend._planes.generator.radius
    assert workshop.built == [(16, 3, size, size)]
    whole = on_cuda_path()(batch)
    for p, q in zip(result.frames[0].planes, whole.frames[0].planes):
        assert np.abs(p.astype(int) - q).max() <= 1


def test_out_of_memory_while_building(workshop, cache, monkeypatch):
    def build(network, shape, *rest, **more):
        if shape[0] > 1:
            raise torch.OutOfMemoryError
        return workshop.build(network, shape, *rest, **more)

    monkeypatch.setattr(compiler, "build", build)
    run = Run(cache)
    assert len(run(BATCH)) == 2
    assert workshop.built == [(1, 3, 30, 40)] and run.stored.psnr >= 45


def test_engines_are_fp16(cache):
    with pytest.raises(UsageError, match="use --backend cuda for fp32"):
        CudaBackend(compact(), spec_for("tensorrt", precision="fp32"), device=CPU, body=EngineBody(PACKAGE, cache))


def test_settled_as_what_it_is(workshop, cache):
    """The way of the planes is that of PyTorch on GPUs; what the bits depend on is not."""
    run = Run(cache)
    settled, other = run.backend.settle(40, 30), on_cuda_path().settle(40, 30)
    assert (settled["backend"], other["backend"]) == ("tensorrt", "cuda") and settled["precision"] == "fp16"
    assert run.backend.description == "CPU, TensorRT 11.0.1 fp16, unnamed model"


def test_timings_are_kept_where_engines_are(workshop, cache):
    Run(cache)(BATCH)
    assert workshop.timings == [cache.folder / "timing"]


@pytest.mark.parametrize("planted", ["folder", "file", "link"])
def test_timings_that_others_may_have_written_are_left_alone(workshop, tmp_path, planted):
    folder = tmp_path / "engines"
    folder.mkdir(mode=0o700)
    if planted == "folder":
        folder.chmod(0o777)
    elif planted == "file":
        (folder / "timing").touch()
        (folder / "timing").chmod(0o666)
    else:
        (folder / "timing").symlink_to(tmp_path / "elsewhere")
    Run(EngineCache(folder, notify=lambda line: None))(BATCH)
    assert workshop.timings == [None]


@pytest.mark.parametrize("format", ["yuv420p", "yuv444p10le", "gray"])
def test_the_made_picture(format):
    kind = PixelFormat.from_name(format)
    like = [torch.from_numpy(p)[None] for p in picture(kind, 64, 48).frames[0].planes]
    planes = made_picture(like, kind)
    assert [(p.shape, p.dtype) for p in planes] == [(p.shape, p.dtype) for p in like]
    luma = planes[0].to(torch.float32) / (2**kind.bits - 1)
    assert luma.min() < 0.2 and luma.max() > 0.8 and luma.std() > 0.1
    assert all(torch.equal(a, b) for a, b in zip(planes, made_picture(like, kind)))


def test_shipped_weights_pass_the_comparison(workshop, cache):
    """Rounding to FP16 alone is far from a refusal: 45 dB leaves room, and a fault has none."""
    for name in ("fast", "srwgan-gp-video"):
        run = Run(cache, lambda name=name: load_generator(find_model(name).path))
        run(picture(PixelFormat.from_name("yuv420p"), 20, 14))
        assert run.stored.psnr > 50


# What is missing


def test_all_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(tensorrt, "cuda_missing", lambda: "cuda: no NVIDIA driver")
    monkeypatch.setattr(compiler, "installed", lambda: False)
    reason = tensorrt_missing()
    assert reason.startswith("tensorrt: no NVIDIA driver; neither TensorRT nor TensorRT-RTX is installed: pip install")


@pytest.mark.parametrize(("capability", "known"), [("8.9", True), ("12.0", True), ("9.0", False)])
def test_hopper_is_not_sent_after_tensorrt(monkeypatch, capability, known):
    monkeypatch.setattr(tensorrt, "cuda_missing", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(tensorrt, "_card", lambda device: ("NVIDIA H100", capability, "580"))
    monkeypatch.setattr(compiler, "installed", lambda: False)
    reason = tensorrt_missing()
    assert "pip install" in reason and "\n" not in reason
    assert ("TensorRT-RTX does not know NVIDIA H100: --backend cuda is the path there" in reason) == (not known)


@pytest.mark.parametrize("capability", ["8.9", "9.0"])
def test_cards_that_tensorrt_rtx_does_not_know(monkeypatch, capability):
    class Rtx:
        class ComputeCapability:
            __members__ = {"SM86": 86, "SM89": 89, "SM120": 120, "NONE": 0, "CURRENT": 1}  # noqa: RUF012

    package = compiler.Package("tensorrt_rtx", Rtx, "1.5.0")
    assert package.targets == ("8.6", "8.9", "12.0")
    monkeypatch.setattr(tensorrt, "cuda_missing", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(tensorrt, "_card", lambda device: ("NVIDIA X", capability, "580"))
    monkeypatch.setattr(compiler, "installed", lambda: True)
    monkeypatch.setattr(compiler, "find_package", lambda: package)
    monkeypatch.setattr(compiler, "exporter_missing", lambda package: None)
    reason = tensorrt_missing()
    if capability == "8.9":
        assert reason is None
    else:
        assert "TensorRT-RTX 1.5.0 does not know NVIDIA X (compute capability 9.0)" in reason
        assert reason.endswith("--backend cuda is the path there") and "pip install" not in reason


def test_build_ahead_keeps_its_own_key(tmp_path):
    if not compiler.installed() or not compiler.find_package().targets:
        pytest.skip("no TensorRT-RTX here: pip install -e '.[engines]'")
    path = tmp_path / "mine.safetensors"
    save_generator(compact(), path, {})
    spec: BackendSpec = spec_for("tensorrt", model=path)
    (stored,) = tensorrt.build_ahead(spec, 40, 30, ("8.6", "8.9"), compiler.find_package())
    assert isinstance(stored, StoredEngine) and stored.model == "mine" and stored.seconds > 0
    body = PlaneGenerator(compact(), spec, "fp16", CPU).generator.body
    assert stored.key.graph == compiler.network_digest(body)  # as the backend will ask for it
    wanted: EngineKey = replace(stored.key, gpu="NVIDIA X", capabilities=("8.9",), driver="580", torch="2.99")
    assert stored.key.serves(wanted)
    assert not stored.key.serves(replace(wanted, capabilities=("12.0",)))
