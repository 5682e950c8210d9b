"""Real FP16 engines of the shipped weights, built without a GPU; Torch-TensorRT's call against its real code."""

import ast
import builtins
import logging
import sys
import zipfile
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn

from tests.running import ROOT
from tests.vidsr.backends.fake_tensorrt import FakeTensorRT, ILogger
from vidsr.backends.base import BackendSpec
from vidsr.backends.planes import PlaneGenerator
from vidsr.backends.tensorrt import compiler
from vidsr.backends.tensorrt.body import build_ahead
from vidsr.errors import BackendError
from vidsr.frames import ColorSpec, PixelFormat
from vidsr.models.architectures import Compact, SRResNet
from vidsr.models.checkpoint import installed_models, load_generator

CPU = torch.device("cpu")
TARGETS = ("8.6", "8.9", "12.0")  # the 30, 40 and 50 series
MODELS = {model.name: model.path for model in installed_models()}


@pytest.fixture(scope="module")
def package():
    if not compiler.installed():
        pytest.skip("no TensorRT here: pip install -e '.[engines]'")
    found = compiler.find_package()
    if not found.targets:
        pytest.skip(f"{found.title} builds only for the GPU that is there")
    return found


def spec_of(path):
    format = PixelFormat.from_name("yuv420p")
    scale = load_generator(path).scale
    return BackendSpec("tensorrt", str(path), scale, format, ColorSpec(), format, ColorSpec())


def half_body(path):
    return PlaneGenerator(load_generator(path), spec_of(path), "fp16", CPU).generator.body


@pytest.mark.parametrize("name", MODELS)
def test_shipped_weights_become_fp16_engines(package, name):
    stored, patches = build_ahead(spec_of(MODELS[name]), 480, 270, TARGETS, package)
    weights = sum(p.numel() for p in half_body(MODELS[name]).parameters())
    assert len(stored.engine) > 2 * weights  # two bytes each, and the code around them
    assert stored.key.shape == (4, 3, 270, 480) and stored.key.dtype == "fp16"
    assert patches.key.shape[2] == patches.key.shape[3] > 64 and len(patches.engine) > 2 * weights
    assert (stored.key.capabilities, stored.key.gpu, stored.key.driver) == (TARGETS, "", "")
    assert stored.psnr is None  # nobody has compared it yet


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_fp16_and_folded(package, name):
    """As TensorRT reads the network: FP16 throughout, no batch normalisation left, the 9x9 tail a 5x5 one."""
    trt = package.module
    body = half_body(MODELS[name])
    model = compiler.onnx_model(body, torch.zeros(1, 3, 32, 40, dtype=torch.float16))
    network = compiler.parse_onnx(model, package, trt.Builder(trt.Logger()))
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    outputs = [layer.get_output(i) for layer in layers for i in range(layer.num_outputs)]
    assert {output.dtype for output in outputs} == {trt.DataType.HALF}
    assert network.get_input(0).dtype == network.get_output(0).dtype == trt.DataType.HALF
    kinds = [layer.type for layer in layers]
    known = {"CONVOLUTION", "CONSTANT", "PARAMETRIC_RELU", "ACTIVATION", "ELEMENTWISE", "SHUFFLE"}
    assert {kind.name for kind in kinds} <= known  # a batch normalisation would be a SCALE or a NORMALIZATION
    convolutions = [module for module in body.modules() if isinstance(module, nn.Conv2d)]
    assert kinds.count(trt.LayerType.CONVOLUTION) == len(convolutions)
    last = [layer for layer in layers if layer.type == trt.LayerType.CONVOLUTION][-1]
    last.__class__ = trt.IConvolutionLayer
    scale = tuple(network.get_output(0).shape)[2] // 32
    generator = load_generator(MODELS[name])
    if isinstance(generator, SRResNet):
        assert (tuple(last.kernel_size_nd), last.num_output_maps, scale) == ((5, 5), 12, 2)
    else:  # luma, chroma, and what chroma needs of its neighbours, all at source size
        side, half = generator.scale, generator.scale // 2
        outputs = side**2 + 2 * half**2 + 2 * 2 * half
        assert (tuple(last.kernel_size_nd), last.num_output_maps, scale) == ((3, 3), outputs, 1)


def test_what_cannot_be_built_is_explained(package):
    body = half_body(MODELS["fast"])
    with pytest.raises(BackendError, match=r"cannot build for compute capability 9\.0 \(it can for .*8\.6"):
        compiler.build(body, (1, 3, 16, 16), package, ("9.0",))

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, dtype=torch.float16))

        def forward(self, x):
            return torch.linalg.svd(x.float())[1].half() * self.weight

    with pytest.raises(BackendError, match="cannot build an engine") as caught:
        compiler.build(Odd(), (1, 3, 16, 16), package, TARGETS)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_engines_do_not_load_without_a_gpu(package):
    engine = compiler.build(half_body(MODELS["fast"]), (1, 3, 16, 16), package, TARGETS)
    for data in (engine, engine[: len(engine) // 2]):
        with pytest.raises(BackendError, match="cannot load the engine") as caught:
            compiler.Engine(data, package)
        assert "\n" not in str(caught.value)


def test_builds_are_repeatable(package):
    body = half_body(MODELS["fast"])
    first, second = (compiler.build(body, (1, 3, 16, 16), package, TARGETS) for _ in range(2))
    assert first == second


# What an engine is known by


def test_the_digest_is_that_of_graph_and_weights():
    def digest(change=lambda model: None, channels=8, layers=1, model=Compact):
        torch.manual_seed(0)
        made = model(channels, layers) if model is Compact else model(layers, channels)
        change(made)
        return compiler.network_digest(made.folded().body)

    def one_weight(model):
        next(model.parameters()).view(-1)[3] += 1e-6

    def slope(model):
        model.blocks[0].prelu.weight.fill_(0.3)

    with torch.no_grad():
        digests = [
            digest(), digest(one_weight), digest(channels=9), digest(layers=2), digest(lambda model: model.half()),
            digest(model=SRResNet), digest(slope, model=SRResNet),
            digest(lambda model: setattr(model.blocks[0].conv1, "padding", (0, 0)), model=SRResNet),
        ]  # fmt: skip
        assert len(set(digests)) == len(digests)
        assert digest() == digests[0] and digest(model=SRResNet) == digests[5]


# Which package, which road


def found_as(monkeypatch, modules, versions):
    """Pretend that these modules can be found, and these distributions are installed."""
    monkeypatch.setattr(compiler.util, "find_spec", lambda name: object() if name in modules else None)
    monkeypatch.setattr(compiler, "_version", versions.get)
    monkeypatch.setattr(compiler, "find_package", getattr(compiler.find_package, "__wrapped__", compiler.find_package))


class Module:
    __version__ = "11.0.1"


def test_nothing_installed(monkeypatch):
    found_as(monkeypatch, (), {})
    assert not compiler.installed()
    with pytest.raises(BackendError, match=r"neither .* is installed: pip install"):
        compiler.find_package()


@pytest.mark.parametrize(
    ("modules", "versions", "name"),
    [
        (("tensorrt",), {}, "tensorrt"),
        (("tensorrt", "tensorrt_rtx"), {}, "tensorrt"),
        (("tensorrt", "tensorrt_rtx"), {"torch-tensorrt-rtx": "2.13.0"}, "tensorrt_rtx"),
        (("tensorrt_rtx_libs", "tensorrt_rtx_bindings"), {}, "tensorrt_rtx"),
    ],
)
def test_the_package_that_is_there_decides(monkeypatch, modules, versions, name):
    found_as(monkeypatch, modules, versions)
    monkeypatch.setattr(compiler.importlib, "import_module", lambda name: Module)
    found = compiler.find_package()
    assert (found.name, found.version, found.targets) == (name, "11.0.1", ())


@pytest.mark.parametrize("error", [ImportError("libnvinfer.so.11: cannot open shared object\nmore"), AssertionError()])
def test_a_package_that_does_not_load(monkeypatch, error):
    found_as(monkeypatch, ("tensorrt",), {})

    def fail(name):
        raise error

    monkeypatch.setattr(compiler.importlib, "import_module", fail)
    with pytest.raises(BackendError, match=r"tensorrt does not load \((libnvinfer.*object|AssertionError)\)$"):
        compiler.find_package()


def test_versions_must_go_together(monkeypatch):
    """Torch-TensorRT for another PyTorch is not used: the ONNX road is, or the reason is told with the cure."""
    package = compiler.Package("tensorrt", Module, "11.0.1")
    own = compiler._minor(torch.__version__)
    found_as(monkeypatch, ("torch_tensorrt",), {"torch-tensorrt": "2.3.0"})
    reason = compiler.exporter_missing(package)
    assert f"torch-tensorrt 2.3.0 goes with PyTorch 2.3, this is {torch.__version__}" in reason
    assert f"pip install torch-tensorrt=={own}.*" in reason and "pip install onnx onnxscript" in reason
    found_as(monkeypatch, ("onnx", "onnxscript"), {"onnx": "1.23.2"})
    assert compiler.exporter_missing(package) is None and compiler.exporter(package) == "onnx 1.23.2"
    found_as(monkeypatch, ("torch_tensorrt", "onnx", "onnxscript"), {"torch-tensorrt": f"{own}.1", "onnx": "1.23.2"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert compiler.exporter(package) == f"torch_tensorrt {own}.1"
    assert compiler.exporter(package, TARGETS) == "onnx 1.23.2"  # Torch-TensorRT builds only for the GPU at hand
    found_as(monkeypatch, (), {})
    with pytest.raises(BackendError, match="onnx and onnxscript missing: pip install"):
        compiler.exporter(package)


# The call of Torch-TensorRT

FUNCTION = "convert_exported_program_to_serialized_trt_engine"
WHEELS = sorted((ROOT / ".venv" / "wheels").glob("torch_tensorrt-*.whl"))


def our_call():
    """The keywords that compiler.py passes, `**` ones included, from its own syntax tree."""
    tree = ast.parse((ROOT / "vidsr/backends/tensorrt/compiler.py").read_text())
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == FUNCTION]
    assert len(calls) == 1
    names = {keyword.arg for keyword in calls[0].keywords if keyword.arg}
    return names | {name for name, _ in compiler.OPTIONS}, len(calls[0].args)


@pytest.mark.skipif(not WHEELS, reason="no wheels of Torch-TensorRT: make .venv/wheels/fetched")
@pytest.mark.parametrize("wheel", WHEELS, ids=lambda path: path.name.split("-")[1])
def test_torch_tensorrt_takes_our_call(wheel):
    """It swallows unknown keywords, so a wrong one would go unnoticed: each must be a parameter by name."""
    with zipfile.ZipFile(wheel) as archive:
        tree = ast.parse(archive.read("torch_tensorrt/dynamo/_compiler.py"))
        exported = archive.read("torch_tensorrt/dynamo/__init__.py").decode()
        defaults = archive.read("torch_tensorrt/dynamo/_defaults.py").decode()
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == FUNCTION)
    parameters = [a.arg for a in function.args.posonlyargs + function.args.args]
    keywords, positional = our_call()
    assert FUNCTION in exported
    assert positional == 1 and parameters[0] == "exported_program"
    assert keywords <= set(parameters[1:]) | {a.arg for a in function.args.kwonlyargs}
    assert "enabled_precisions" not in keywords  # raises in 2.11 and 2.12, is ignored afterwards: facts of FP16
    assert ast.unparse(function.returns) == "bytes"
    assert "IMMUTABLE_WEIGHTS = True" in defaults and "CACHE_BUILT_ENGINES = False" in defaults


@pytest.mark.skipif(not WHEELS, reason="no wheels of Torch-TensorRT: make .venv/wheels/fetched")
def test_the_wheel_of_this_pytorch_is_among_them():
    assert any(f"-{compiler._minor(torch.__version__)}." in wheel.name for wheel in WHEELS)


@pytest.mark.skipif(not WHEELS, reason="no wheels of Torch-TensorRT: make .venv/wheels/fetched")
@pytest.mark.parametrize("name", ["fast", "srwgan-gp"])
def test_torch_tensorrt_has_converters_for_all_layers(name):
    """`require_full_compilation` fails on a single operator without one."""
    with torch.no_grad(), compiler.quietly():
        program = torch.export.export(half_body(MODELS[name]), (torch.zeros(1, 3, 16, 16, dtype=torch.float16),))
        nodes = program.run_decompositions().graph.nodes
    operators = {str(node.target) for node in nodes if node.op == "call_function"}
    assert "aten.convolution.default" in operators
    for wheel in WHEELS:
        with zipfile.ZipFile(wheel) as archive:
            known = "".join(
                archive.read(f"torch_tensorrt/dynamo/conversion/{file}.py").decode()
                for file in ("aten_ops_converters", "ops_evaluators")
            )
        assert {operator for operator in operators if f"torch.ops.{operator}" not in known} == set(), wheel.name


# What is said when it fails


class Stubs(dict):
    """Globals of a function most of whose code is beside the point."""

    def __missing__(self, name):
        if name in vars(builtins):
            raise KeyError(name)
        return self.setdefault(name, MagicMock())


def torch_tensorrt_of(wheel, fail):
    """The wheel's own end of a conversion and its own loggers; `fail`, given TensorRT's logger, is its interpreter."""
    with zipfile.ZipFile(wheel) as archive:
        tree = ast.parse(archive.read("torch_tensorrt/dynamo/_compiler.py"))
        logs = ast.parse(archive.read("torch_tensorrt/logging.py"))
    logs.body = [n for n in logs.body if isinstance(n, (ast.Assign, ast.ClassDef)) and "LOG" in ast.unparse(n)][:3]
    loggers = {"logging": logging, "trt": FakeTensorRT, "__name__": "torch_tensorrt.logging"}
    exec(compile(logs, "logging.py", "exec"), loggers)
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == FUNCTION)
    last = max(i for i, n in enumerate(function.body) if isinstance(n, ast.Try))
    whole = ast.parse("def convert(*_, gm=None, flattened_input_list=(), settings=None, engine_cache=None, **__): ...")
    whole.body[0].body = function.body[last:]
    stubs = Stubs(
        logger=logging.getLogger("torch_tensorrt.dynamo._compiler"),
        UnsupportedOperatorException=type("UnsupportedOperatorException", (RuntimeError,), {}),
        interpret_module_to_result=lambda *_, **__: fail(loggers["TRT_LOGGER"]),
    )
    exec(compile(ast.fix_missing_locations(whole), "_compiler.py", "exec"), stubs)
    return MagicMock(**{f"dynamo.{FUNCTION}": stubs["convert"]})


def no_kernel(logger):
    logger.log(ILogger.ERROR, "Error Code 10: Could not find any implementation for node X.")
    raise AssertionError


def no_memory(logger):
    logger.log(ILogger.WARNING, "Device memory is insufficient to use tactic.")
    no_kernel(logger)


def torch_out_of_memory(logger):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def no_converter(logger):
    raise ValueError("Conversion of function aten.odd not currently supported!")


def full_disk(logger):
    raise OSError(28, "No space left on device")


@pytest.mark.skipif(not WHEELS, reason="no wheels of Torch-TensorRT: make .venv/wheels/fetched")
@pytest.mark.parametrize("wheel", WHEELS, ids=lambda path: path.name.split("-")[1])
@pytest.mark.parametrize(
    ("fail", "kind", "reason"),
    [
        (no_kernel, compiler.Unbuildable, r"\(Error Code 10: Could not find any implementation for node X\)$"),
        (no_converter, compiler.Unbuildable, r"\(Conversion of function aten.odd not currently supported!\)$"),
        (no_memory, torch.OutOfMemoryError, "Could not find any implementation"),
        (torch_out_of_memory, torch.OutOfMemoryError, "Tried to allocate 2 GiB"),
        (full_disk, BackendError, "No space left on device"),
    ],
)
def test_torch_tensorrt_tells_why_it_failed(monkeypatch, capfd, wheel, fail, kind, reason):
    """2.11 logs what went wrong, goes on, and ends in an UnboundLocalError; TensorRT itself only ever logs."""
    monkeypatch.setitem(sys.modules, "torch_tensorrt", torch_tensorrt_of(wheel, fail))
    monkeypatch.setattr(compiler, "exporter", lambda package, targets=(): "torch_tensorrt")
    with pytest.raises(kind, match=reason) as caught:
        compiler.build(half_body(MODELS["fast"]), (1, 3, 16, 16), FakeTensorRT().package)
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # nor does it tell the terminal


def test_our_logger_hears_torch_tensorrt_and_the_other_way_round(monkeypatch):
    """TensorRT knows one logger in a process, the first: whoever gave it."""
    trt = FakeTensorRT()

    def convert(*_, **__):
        compiler.logger_of(trt).log(ILogger.ERROR, "no kernel\nmore")
        raise RuntimeError("TensorRT build_serialized_network returned None; engine build failed.")

    monkeypatch.setitem(sys.modules, "torch_tensorrt", MagicMock(**{f"dynamo.{FUNCTION}": convert}))
    monkeypatch.setattr(compiler, "exporter", lambda package, targets=(): "torch_tensorrt")
    with pytest.raises(compiler.Unbuildable, match=r"\(no kernel\)$"):
        compiler.build(half_body(MODELS["fast"]), (1, 3, 16, 16), trt.package)
    theirs = logging.getLogger("torch_tensorrt [TensorRT Conversion Context]")
    trt._fails = lambda logger, why: theirs.error("made by another version")
    with pytest.raises(BackendError, match=r"cannot load the engine \(made by another version\)$"):
        compiler.Engine(b"engine", trt.package)


def test_loggers_are_as_before_whichever_thread_ends_first():
    names = ("torch.onnx", "torch_tensorrt", "torch_tensorrt [TensorRT Conversion Context]")
    before = [(log.level, log.propagate, log.handlers[:]) for log in map(logging.getLogger, names)]
    first, second = compiler.listening(), compiler.listening()
    first.__enter__()
    heard = second.__enter__()
    first.__exit__(None, None, None)
    logging.getLogger(names[2]).error("still heard")
    second.__exit__(None, None, None)
    assert heard.reason == "still heard"
    assert [(log.level, log.propagate, log.handlers[:]) for log in map(logging.getLogger, names)] == before


# Timings


def builder(monkeypatch, convert):
    monkeypatch.setitem(sys.modules, "torch_tensorrt", MagicMock(**{f"dynamo.{FUNCTION}": convert}))
    monkeypatch.setattr(compiler, "exporter", lambda package, targets=(): "torch_tensorrt")
    network = half_body(MODELS["fast"])
    return lambda timing: compiler.build(network, (1, 3, 16, 16), FakeTensorRT().package, timing_cache=timing)


def test_timings_go_from_one_build_to_the_next(monkeypatch, tmp_path):
    given = []

    def convert(*_, timing_cache_path, **__):
        path = Path(timing_cache_path)
        given.append(path.read_bytes() if path.exists() else None)
        path.write_bytes(b"%d" % len(given))
        assert path.parent.stat().st_mode & 0o077 == 0  # no other user can have put one there
        return b"engine"

    build = builder(monkeypatch, convert)
    assert [build(tmp_path / "timing") for _ in range(2)] == [b"engine"] * 2
    assert given == [None, b"1"] and (tmp_path / "timing").read_bytes() == b"2"
    assert build(None) == b"engine" and given[2] is None
    assert build(tmp_path / "none" / "timing") == b"engine"  # they cannot be kept: the engine can


def test_timings_that_may_be_the_cause_are_deleted(monkeypatch, tmp_path):
    def convert(*_, **__):
        raise TypeError("set_timing_cache(): incompatible function arguments")

    build, timing = builder(monkeypatch, convert), tmp_path / "timing"
    timing.write_bytes(b"cut sh")
    with pytest.raises(BackendError, match="set_timing_cache") as caught:
        build(timing)
    assert not isinstance(caught.value, compiler.Unbuildable) and not timing.exists()
    with pytest.raises(compiler.Unbuildable):
        build(timing)
