"""The convolutions of the CUDA backend, compiled by TensorRT into FP16 engines.

An engine is for one network, one shape and one card. It is built when it is first needed, compared with PyTorch in
float32 on the very picture it was needed for, and kept (cache.py). Whatever goes wrong with an engine, the
convolutions stay PyTorch's, in the same streams and graphs: slower, but the night is not lost.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidsr.backends.base import BackendSpec, Notify
from vidsr.backends.cuda import KIND as CUDA
from vidsr.backends.cuda import CudaBackend, frames_at_once
from vidsr.backends.gpu import cuda_missing
from vidsr.backends.made import made_picture
from vidsr.backends.planes import PlaneGenerator, choose_precision, model_name
from vidsr.backends.tensorrt import compiler
from vidsr.backends.tensorrt.cache import EngineCache
from vidsr.backends.tensorrt.compiler import Engine, Package
from vidsr.backends.tensorrt.file import EngineKey, StoredEngine
from vidsr.backends.tiles import windows
from vidsr.errors import BackendError, UsageError
from vidsr.models.architectures import own_names
from vidsr.models.base import Generator
from vidsr.models.checkpoint import load_generator

LEAST_PSNR = 45.0  # dB against float32; rounding to FP16 alone leaves 60 and more


def open_tensorrt(spec: BackendSpec, notify: Notify | None = None) -> CudaBackend:
    """The backend `spec` describes, its weights loaded from `spec.model`.

    ModelError for weights that cannot be loaded, BackendError where no GPU or no TensorRT works, UsageError for a scale
    or precision that cannot be had.
    """
    return open_with(engine_body(notify), spec, notify)


def engine_body(notify: Notify | None = None, verify: bool = False) -> EngineBody:
    """With the TensorRT and the engines of this user on this machine. verify: see `EngineBody`.

    BackendError where no GPU or no TensorRT works.
    """
    if reason := tensorrt_missing():
        raise BackendError(reason)
    return EngineBody(compiler.find_package(), EngineCache(notify=notify), verify)


def open_with(body: EngineBody, spec: BackendSpec, notify: Notify | None = None) -> CudaBackend:
    """The backend of `spec`, its convolutions by `body`. Errors as `open_tensorrt`."""
    return CudaBackend(_known(load_generator(spec.model, notify)), spec, notify, body=body)


class EngineBody:
    """The convolutions of a CudaBackend by engines, and by PyTorch where there is none. See `convolutions.Body`.

    verify: compare engines with float32 even where that was done before.
    engines: what was built or found for each shape [N, 3, H, W] given to the generator so far, refused ones included;
        None where none could be built.
    """

    name = "tensorrt"

    def __init__(self, package: Package, cache: EngineCache, verify: bool = False) -> None:
        self._package, self._cache, self._verify = package, cache, verify
        self.engines: dict[tuple[int, ...], StoredEngine | None] = {}

    def precision(self, requested: str | None, device: torch.device, lacks: frozenset[str]) -> str:
        if requested not in (None, "fp16"):
            raise UsageError(f"precision {requested}: engines are fp16; use --backend cuda for {requested}")
        return choose_precision("fp16", "cuda", lacks)

    def attach(self, generator: Generator, planes: PlaneGenerator, precision: str, notify: Notify) -> str:
        self._generator, self._planes, self._notify = generator, planes, notify
        self._digest = compiler.network_digest(planes.generator.body)
        self._switch = planes.generator.body = _Switch(planes.generator.body)
        return f"{self._package.title} {precision}"

    def prepare(self, inputs: Sequence[Tensor], tile: int) -> None:
        count, rows, columns = inputs[0].shape
        radius = self._planes.generator.radius or 0
        shape = (count, 3, windows(rows, tile, radius)[0], windows(columns, tile, radius)[0])
        if shape not in self._switch.engines:
            self._switch.engines[shape] = self._obtain(shape, inputs, tile)

    def close(self) -> None:
        self._switch.engines.clear()

    def _obtain(self, shape: tuple[int, int, int, int], inputs: Sequence[Tensor], tile: int) -> Engine | None:
        """The engine for `shape`, from the cache or built now, fit for use; else None, and the reason is said."""
        key = self._key(shape)
        stored = self._cache.get(key)
        if stored is not None and stored.refused and not self._verify:
            self.engines[shape] = stored
            self._fall_back(f"its engine was refused earlier: {stored.refused}")
            return None
        engine = self._load(stored) if stored is not None and stored.engine else None
        try:
            if stored is None or engine is None:
                stored = self._build(key)
                engine = Engine(stored.engine, self._package)
        except BackendError as error:
            self.engines[shape] = None
            self._fall_back(str(error))
            return None
        if stored.psnr is None or self._verify:
            psnr, reason = self._judge(engine, inputs, tile)
            stored = replace(stored, key=key, psnr=psnr, refused=reason, engine=b"" if reason else stored.engine)
            self._cache.put(stored)
        self.engines[shape] = stored
        if stored.refused:
            self._fall_back(f"its engine is refused: {stored.refused}")
            return None
        return engine

    def _load(self, stored: StoredEngine) -> Engine | None:
        try:
            return Engine(stored.engine, self._package)
        except BackendError as error:
            self._notify(f"{error}: it is built again")
            return None

    def _build(self, key: EngineKey) -> StoredEngine:
        n, _, height, width = key.shape
        self._notify(
            f"compiling an engine for {n} pictures of {width}x{height} on {key.gpu}: once, for up to some minutes"
        )
        start = time.monotonic()
        data = compiler.build(self._switch.network, key.shape, self._package, timing_cache=self._cache.timing())
        return StoredEngine(key, data, model_name(self._planes.spec), time.monotonic() - start, _now())

    def _judge(self, engine: Engine, inputs: Sequence[Tensor], tile: int) -> tuple[float | None, str]:
        """(PSNR in dB of the worst picture against float32, why the engine must not be used or "").

        On the pictures at hand and on a made one, since episodes begin in black, on which anything is right.
        """
        spec, device = self._planes.spec, self._planes.device
        reference, worst = PlaneGenerator(self._generator, spec, "fp32", device), math.inf
        self._switch.engines[engine.input_shape] = engine
        for stacks in (inputs, made_picture(inputs, spec.source_format)):
            results = self._planes.highres(stacks, tile)
            if not torch.isfinite(results).all():
                return None, "it gives NaN or infinity"
            for i in range(len(results)):
                expected = reference.highres([stack[i : i + 1] for stack in stacks], tile)
                error = F.mse_loss(results[i : i + 1].double(), expected.double()).item()
                worst = min(worst, 10 * math.log10(reference.peak**2 / max(error, 1e-12 * reference.peak**2)))
        poor = f"{worst:.1f} dB against float32, less than {LEAST_PSNR:g}" if worst < LEAST_PSNR else ""
        return worst, poor

    def _fall_back(self, reason: str) -> None:
        self._notify(f"TensorRT is not used ({reason}): PyTorch does the same, slower")

    def _key(self, shape: tuple[int, int, int, int]) -> EngineKey:
        name, capability, driver = _card(self._planes.device)
        return EngineKey(
            self._digest, shape, "fp16", name, (capability,), driver, self._package.name, self._package.version,
            compiler.exporter(self._package), torch.__version__, compiler.OPTIONS,
        )  # fmt: skip


def _known(generator: Generator) -> Generator:
    """`generator`, if it is of a kind that engines are made of. BackendError for others."""
    if generator.radius is None:
        raise BackendError(f"tensorrt: engines are made of {own_names('and')} only; use --backend cuda")
    return generator


class _Switch(nn.Module):
    """The convolutions, by an engine where there is one for the shape, else by PyTorch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.engines: dict[tuple[int, ...], Engine | None] = {}

    def forward(self, x: Tensor) -> Tensor:
        return (self.engines.get(tuple(x.shape)) or self.network)(x)


def build_ahead(
    spec: BackendSpec, width: int, height: int, targets: Sequence[str], package: Package
) -> list[StoredEngine]:
    """The engines for sources of `width` x `height` on cards that need not be here: see `sizes` and `compiler.build`.

    They are compared with float32 when they are first used. BackendError as `compiler.build`, ModelError for weights.
    """
    planes = PlaneGenerator(_known(load_generator(spec.model)), spec, "fp16", torch.device("cpu"))
    network = planes.generator.body
    assert planes.context is not None
    built = []
    for wide, tall in sizes(width, height, planes.context):
        shape = (frames_at_once(wide, tall), 3, tall, wide)
        start = time.monotonic()
        data = compiler.build(network, shape, package, targets)
        key = EngineKey(
            compiler.network_digest(network), shape, "fp16", "", tuple(targets), "", package.name, package.version,
            compiler.exporter(package, targets), torch.__version__, compiler.OPTIONS,
        )  # fmt: skip
        built.append(StoredEngine(key, data, model_name(spec), time.monotonic() - start, _now()))
    return built


def sizes(width: int, height: int, context: int) -> list[tuple[int, int]]:
    """(width, height) of all that a source of that size is given to the backend in: whole pictures, and patches."""
    side = CudaBackend.patch + 2 * context
    return list(dict.fromkeys([(width, height), (min(side, width), min(side, height))]))


def tensorrt_missing() -> str | None:
    """One line that names everything that TensorRT needs and is missing here, or None when it can be used."""
    absent = [reason for reason in (compiler.supported_platform(),) if reason]
    no_cuda = cuda_missing()
    if no_cuda:
        absent.append(no_cuda.removeprefix("cuda: "))
    if not compiler.installed():
        absent.append(f"neither TensorRT nor TensorRT-RTX is installed: {compiler.INSTALL}")
    elif not no_cuda:  # loading it means something only beside a working driver
        try:
            package = compiler.find_package()
        except BackendError as error:
            return f"tensorrt: {error}"
        name, capability, _ = _card(torch.device("cuda", torch.cuda.current_device()))
        if package.targets and capability not in package.targets:
            absent.append(
                f"{package.title} does not know {name} (compute capability {capability}): pip install tensorrt "
                "torch-tensorrt, or use --backend cuda"
            )
        if reason := compiler.exporter_missing(package):
            absent.append(reason)
    return f"tensorrt: {'; '.join(absent)}" if absent else None


def _card(device: torch.device) -> tuple[str, str, str]:
    """(name, compute capability, driver) of a GPU; of the CPU, which tests use, nothing."""
    if device.type == "cpu":
        return "CPU", "0.0", ""
    major, minor = torch.cuda.get_device_capability(device)
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
        driver = re.search(r"\d+\.\d+(?:\.\d+)?", text)
    except OSError:  # not Linux
        driver = None
    api = str(torch._C._cuda_getDriverVersion())  # type: ignore[attr-defined]
    return torch.cuda.get_device_name(device), f"{major}.{minor}", f"{driver[0]} ({api})" if driver else api


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


KIND = replace(
    CUDA, name="tensorrt", available=tensorrt_missing, open=open_tensorrt, precisions=("fp16",), measured_by=CUDA.name
)
