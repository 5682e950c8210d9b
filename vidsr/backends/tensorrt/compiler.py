"""TensorRT: which one is installed, how it makes an engine of a network, how an engine runs.

The only file that imports TensorRT, TensorRT-RTX or Torch-TensorRT, and where all that differs between them lives.
Importing any of them can fail in many ways (no driver, a missing library, a version for another PyTorch), so it happens
inside functions that turn the failure into one line.

Two roads lead to the same raw engine bytes. Torch-TensorRT converts a program of torch.export; it can be imported only
where a GPU works. The ONNX parser of TensorRT itself needs no GPU, and TensorRT-RTX then even builds for cards that are
not there.
"""

from __future__ import annotations

import hashlib
import importlib
import platform
import re
import shutil
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidsr.backends.tensorrt.said import Heard, causes, listening, logger_of, quietly
from vidsr.errors import BackendError, first_line
from vidsr.files import write_whole

# distribution of Torch-TensorRT, runtime that goes with it, modules of the runtime: the package's own, or its parts
_PACKAGES = (
    ("torch-tensorrt", "tensorrt", ("tensorrt",)),
    ("torch-tensorrt-rtx", "tensorrt_rtx", ("tensorrt_rtx",)),
    ("torch-tensorrt-rtx", "tensorrt_rtx", ("tensorrt_rtx_libs", "tensorrt_rtx_bindings")),
)
OPTIONS = (("optimization_level", "4"),)  # of Torch-TensorRT; part of an engine's key
INSTALL = "pip install torch-tensorrt tensorrt, or torch-tensorrt-rtx tensorrt-rtx for GeForce and RTX cards"

_PASSING = re.compile(r"bad.?alloc|CUDA (error|runtime|driver|init)|no space left", re.I)
_building = threading.Lock()


class Unbuildable(BackendError):
    """It would end in the same way each time, until the network, a version, the driver or the card is another."""


@dataclass(frozen=True)
class Package:
    """An installed TensorRT. name: "tensorrt" or "tensorrt_rtx". module: its Python bindings. version: its own."""

    name: str
    module: Any
    version: str

    @property
    def title(self) -> str:
        return ("TensorRT-RTX " if self.name == "tensorrt_rtx" else "TensorRT ") + self.version

    @property
    def targets(self) -> tuple[str, ...]:
        """Compute capabilities it can build for without having them, as "8.6"; none for TensorRT proper."""
        names = getattr(getattr(self.module, "ComputeCapability", None), "__members__", {})
        numbers = sorted(int(name[2:]) for name in names if name.startswith("SM") and name[2:].isdigit())
        return tuple(f"{number // 10}.{number % 10}" for number in numbers)


def installed() -> bool:
    """Whether some TensorRT is there; not whether it loads."""
    return any(all(util.find_spec(module) for module in entry[2]) for entry in _PACKAGES)


@cache
def find_package() -> Package:
    """The TensorRT that is installed: of several the one whose Torch-TensorRT is there too, TensorRT proper first.

    BackendError, in one line, when there is none or it does not load.
    """
    found = [entry for entry in _PACKAGES if all(util.find_spec(module) for module in entry[2])]
    if not found:
        raise BackendError(f"neither TensorRT nor TensorRT-RTX is installed: {INSTALL}")
    _, name, modules = min(found, key=lambda entry: _version(entry[0]) is None)
    try:
        module = [importlib.import_module(name) for name in modules][-1]
        return Package(name, module, str(module.__version__))
    except Exception as error:  # a missing library, an assertion, whatever the version at hand does
        raise BackendError(f"{modules[-1]} does not load ({first_line(error)})") from error


def exporter_missing(package: Package) -> str | None:
    """One line why no network can be turned into an engine here, or None when it can."""
    reason = _torch_tensorrt_missing(package)
    if reason is None or _onnx_missing() is None:
        return None
    return f"{reason}; or pip install onnx onnxscript"


def exporter(package: Package, targets: Sequence[str] = ()) -> str:
    """The road that `build` takes, and its version: "torch_tensorrt 2.13.0" or "onnx 1.23.2".

    BackendError when there is none.
    """
    if not targets and torch.cuda.is_available() and _torch_tensorrt_missing(package) is None:
        return f"torch_tensorrt {_version(_distribution(package))}"
    if reason := _onnx_missing():
        raise BackendError(reason)
    return f"onnx {_version('onnx')}"


def _distribution(package: Package) -> str:
    return next(entry[0] for entry in _PACKAGES if entry[1] == package.name)


def _torch_tensorrt_missing(package: Package) -> str | None:
    """Why Torch-TensorRT is not to be used. Its versions are those of the PyTorch they go with."""
    name = _distribution(package)
    version = _version(name)
    if version is None or util.find_spec("torch_tensorrt") is None:
        return f"{name} is not installed: pip install {name}=={_minor(torch.__version__)}.*"
    if _minor(version) != _minor(torch.__version__):
        return (
            f"{name} {version} goes with PyTorch {_minor(version)}, this is {torch.__version__}: "
            f"pip install {name}=={_minor(torch.__version__)}.*"
        )
    return None


def _onnx_missing() -> str | None:
    absent = [name for name in ("onnx", "onnxscript") if util.find_spec(name) is None]
    return f"{' and '.join(absent)} missing: pip install {' '.join(absent)}" if absent else None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def network_digest(network: nn.Module) -> str:
    """SHA-256 of `network`'s graph, its layers' settings and its weights, in hex: what an engine computes."""
    traced = torch.fx.symbolic_trace(network)
    digest = hashlib.sha256(f"{traced.code}\n{network!r}".encode())
    for name, value in network.state_dict().items():
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def build(
    network: nn.Module, shape: Sequence[int], package: Package, targets: Sequence[str] = (),
    timing_cache: Path | None = None,
) -> bytes:  # fmt: skip
    """An engine of `network`, float16 in and out, for inputs of exactly `shape` [N, C, H, W].

    network: its weights in float16; where no `targets` are given, on the GPU to build for.
    targets: compute capabilities ("8.6") to build for instead of the GPU that is here; TensorRT-RTX only.
    timing_cache: file in which TensorRT proper remembers how long kernels took.
    Unbuildable when the network cannot be converted or built; torch.OutOfMemoryError when device memory was short;
    BackendError when a target is unknown, and for all else that may be otherwise the next time.
    """
    for target in targets:
        if target not in package.targets:
            known = ", ".join(package.targets) or "none: only TensorRT-RTX builds ahead for other cards"
            raise BackendError(f"{package.title} cannot build for compute capability {target} (it can for {known})")
    dtypes = {p.dtype for p in network.parameters()}
    assert dtypes == {torch.float16}, dtypes
    by_torch_tensorrt = exporter(package, targets).startswith("torch_tensorrt")
    device = next(network.parameters()).device
    with _building, torch.no_grad(), quietly() as heard:
        try:
            example = torch.zeros(tuple(shape), dtype=torch.float16, device=device)
            if by_torch_tensorrt:
                return _by_torch_tensorrt(network, example, timing_cache)
            return _by_onnx(network, example, package, targets)
        except BackendError:
            raise
        except Exception as error:  # the converters raise whatever they like
            raise _failure(error, heard, package, timing_cache if by_torch_tensorrt else None) from error


def _failure(error: Exception, heard: Heard, package: Package, timing_cache: Path | None) -> Exception:
    """What `build` raises for what a converter or TensorRT raised and said.

    Converters are programs: what they cannot do, they cannot do the next time, and it takes minutes to hear so again.
    Only what came from the state that the machine was in is another matter: memory, a disk, a library that does not
    load, CUDA, which after one error fails at everything. And so is what a file of timings may have caused: it is
    deleted, and the next time is without it.
    """
    errors = [*(heard.errors or [error]), *causes(error)]
    state = next((e for e in errors if isinstance(e, (MemoryError, OSError, ImportError))), None)
    reason = first_line(state or heard.reason or errors[0])
    line = f"{package.title} cannot build an engine ({reason})"
    if state is None and (heard.memory or any(isinstance(e, torch.OutOfMemoryError) for e in errors)):
        return torch.OutOfMemoryError(line)
    if state or any(_PASSING.search(str(said)) for said in (heard.reason, *errors)):
        return BackendError(line)
    if timing_cache and timing_cache.exists():
        timing_cache.unlink(missing_ok=True)
        return BackendError(line)
    return Unbuildable(line)


def _by_torch_tensorrt(network: nn.Module, example: Tensor, timing_cache: Path | None) -> bytes:
    """No `enabled_precisions`: 2.11 and 2.12 refuse it, 2.13 and 2.14 ignore it; the types are the network's own.

    It always keeps timings, by default where other users can have put some, and fails after all the work where it
    cannot write them: so it gets a file of its own, which becomes `timing_cache` as a whole or not at all.
    """
    import torch_tensorrt  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory(prefix="vidsr-") as folder:
        timing = Path(folder) / "timing"
        if timing_cache and timing_cache.exists():
            shutil.copyfile(timing_cache, timing)
        engine = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
            torch.export.export(network, (example,)),
            arg_inputs=[example],
            device=example.device,
            require_full_compilation=True,
            min_block_size=1,
            immutable_weights=True,
            timing_cache_path=str(timing),
            **{name: int(value) for name, value in OPTIONS},
        )
        if timing_cache and timing.exists():
            with suppress(OSError):  # a full disk: the next build takes longer
                write_whole(timing_cache, timing.read_bytes(), mode=0o600)
    return bytes(engine)


def _by_onnx(network: nn.Module, example: Tensor, package: Package, targets: Sequence[str]) -> bytes:
    trt = package.module
    builder = trt.Builder(logger_of(trt))
    definition = parse_onnx(onnx_model(network, example), package, builder)
    config = builder.create_builder_config()
    if targets:
        config.num_compute_capabilities = len(targets)
        for i, target in enumerate(targets):
            wanted = getattr(trt.ComputeCapability, "SM" + target.replace(".", ""))
            if not config.set_compute_capability(wanted, i):
                raise BackendError(f"{package.title} does not take compute capability {target} beside the others")
    engine = builder.build_serialized_network(definition, config)
    if engine is None:
        raise RuntimeError("it does not say why")
    return bytes(engine)


def onnx_model(network: nn.Module, example: Tensor) -> bytes:
    """`network` as an ONNX model of exactly `example`'s shape and type, weights included."""
    with torch.no_grad(), quietly():
        program: Any = torch.onnx.export(network, (example,), dynamo=True, verbose=False)
    return bytes(program.model_proto.SerializeToString())


def parse_onnx(model: bytes, package: Package, builder: Any) -> Any:
    """The network definition of an ONNX model, with the types it has. Unbuildable for what TensorRT cannot read."""
    trt = package.module
    # TensorRT 11 knows no other kind of network than strongly typed ones, and no flag for them.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    definition = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(definition, logger_of(trt))
    if not parser.parse(model):
        errors = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
        raise Unbuildable(f"{package.title} cannot read the network ({first_line(errors)})")
    return definition


class Engine:
    """An engine on the current CUDA device, ready to run. One thread at a time.

    data: raw engine bytes: executable content, so only what `EngineCache` vouches for.
    BackendError when they are for another card or another version; torch.OutOfMemoryError.
    """

    def __init__(self, data: bytes, package: Package) -> None:
        trt = package.module
        with listening() as heard:
            self._runtime = trt.Runtime(logger_of(trt))
            self._engine = self._runtime.deserialize_cuda_engine(data)
            self._context: Any = None if self._engine is None else self._engine.create_execution_context()
        if self._context is None:
            line = f"{package.title} cannot load the engine ({heard.reason or 'it does not say why'})"
            raise torch.OutOfMemoryError(line) if heard.memory else BackendError(line)
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        half = all(self._engine.get_tensor_dtype(name) == trt.DataType.HALF for name in names)
        if sorted(modes.values()) != [False, True] or not half:
            raise BackendError(f"the engine is not of one float16 input and one float16 output: {', '.join(names)}")
        self._input, self._output = sorted(names, key=lambda name: not modes[name])
        self.input_shape = tuple(self._engine.get_tensor_shape(self._input))
        self.output_shape = tuple(self._engine.get_tensor_shape(self._output))

    def __call__(self, x: Tensor) -> Tensor:
        """[N, C, H, W] float16 of `input_shape` on the device -> float16 of `output_shape`, on the current stream.

        May be captured into a CUDA graph: the addresses of this call's tensors become part of it. BackendError when
        TensorRT refuses to start it.
        """
        assert tuple(x.shape) == self.input_shape and x.dtype == torch.float16, (x.shape, x.dtype)
        x = x.contiguous()
        result = torch.empty(self.output_shape, dtype=torch.float16, device=x.device)
        self._context.set_tensor_address(self._input, x.data_ptr())
        self._context.set_tensor_address(self._output, result.data_ptr())
        with listening() as heard:
            if not self._context.execute_async_v3(torch.cuda.current_stream(x.device).cuda_stream):
                raise BackendError(f"the engine does not run ({heard.reason or 'it does not say why'})")
        return result


def supported_platform() -> str | None:
    """One line why no TensorRT exists for this kind of machine, or None where it does."""
    machine = platform.machine().lower()
    known = machine in ("x86_64", "amd64", "aarch64") and platform.system() in ("Linux", "Windows")
    return None if known else f"there is no TensorRT for {platform.system()} on {machine}"
