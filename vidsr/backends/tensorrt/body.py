"""The convolutions of the CUDA backend, compiled by TensorRT into FP16 engines.

An engine is for one network, one shape and one card. It is built when it is first needed, kept (cache.py), and used
once it was compared with PyTorch in float32 on the very picture it was needed for. Whatever goes wrong with an engine,
the convolutions stay PyTorch's, in the same streams and graphs: slower, but the night is not lost. What would go wrong
with it in each night is kept as a refusal, so that it costs its minutes once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import torch
from torch import Tensor, nn

from vidsr.backends.base import BackendSpec, Notify
from vidsr.backends.cuda import KIND as CUDA
from vidsr.backends.cuda import CudaBackend, frames_at_once
from vidsr.backends.gpu import cuda_missing, driver_version
from vidsr.backends.planes import PlaneGenerator, choose_precision, model_name
from vidsr.backends.tensorrt import compiler
from vidsr.backends.tensorrt.cache import EngineCache
from vidsr.backends.tensorrt.compiler import Engine, Package, Unbuildable
from vidsr.backends.tensorrt.file import EngineKey, StoredEngine
from vidsr.backends.tensorrt.judge import Unfit, judge
from vidsr.backends.tiles import windows
from vidsr.errors import BackendError, UsageError, first_line
from vidsr.models.architectures import own_names
from vidsr.models.base import Generator
from vidsr.models.checkpoint import load_generator


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
        None where there is none now, but may be the next time.
    """

    name = "tensorrt"
    compiles = False

    def __init__(self, package: Package, cache: EngineCache, verify: bool = False) -> None:
        self._package, self._cache, self._verify = package, cache, verify
        self.engines: dict[tuple[int, ...], StoredEngine | None] = {}
        self._ready: dict[tuple[int, ...], Engine | None] = {}  # None: PyTorch does that shape

    def precision(self, requested: str | None, device: torch.device, lacks: frozenset[str]) -> str:
        if requested not in (None, "fp16"):
            raise UsageError(f"precision {requested}: engines are fp16; use --backend cuda for {requested}")
        return choose_precision("fp16", "cuda", lacks)

    def attach(self, generator: Generator, planes: PlaneGenerator, precision: str, notify: Notify) -> str:
        self._generator, self._planes, self._notify = generator, planes, notify
        self._digest = compiler.network_digest(planes.generator.body)
        self._switch = planes.generator.body = _Switch(planes.generator.body, self._ready, self._fall_back)
        return f"{self._package.title} {precision}"

    def prepare(self, inputs: Sequence[Tensor], tile: int) -> None:
        shape = self._shape(inputs, tile)
        if shape not in self._ready:
            self._ready[shape] = self._obtain(shape, inputs, tile)

    def runs(self, inputs: Sequence[Tensor], tile: int) -> str:
        return self._package.title if self._ready.get(self._shape(inputs, tile)) else "PyTorch"

    def close(self) -> None:
        """Raises nothing, whatever state the body is in: it may be closed because of an error, which is to be seen."""
        self._ready.clear()

    def _shape(self, inputs: Sequence[Tensor], tile: int) -> tuple[int, int, int, int]:
        """Of what the generator is given of such planes."""
        count, rows, columns = inputs[0].shape
        radius = self._planes.generator.radius or 0
        return count, 3, windows(rows, tile, radius)[0], windows(columns, tile, radius)[0]

    def _obtain(self, shape: tuple[int, int, int, int], inputs: Sequence[Tensor], tile: int) -> Engine | None:
        """The engine for `shape`, from the cache or built now, fit for use; else None, and the reason is said.

        torch.OutOfMemoryError where fewer pictures at once, with an engine of their own, may fit.
        """
        key = self._key(shape)
        found = self._cache.get(key)
        if found is not None and found.refused and not self._verify:
            self.engines[shape] = found
            self._fall_back(f"its engine was refused earlier: {found.refused}")
            return None
        try:
            _make_room(self._planes.device)
            stored, engine = self._load(found, shape) or self._build(key)
            if engine and (stored.psnr is None or self._verify):
                psnr, reason = judge(
                    lambda stacks: self._tried(engine, stacks, tile), inputs, self._generator, self._planes
                )
                stored = self._keep(replace(stored, key=key, psnr=psnr), reason)
        except (BackendError, torch.OutOfMemoryError) as error:
            short = isinstance(error, torch.OutOfMemoryError)
            if short and shape[0] > 1:
                raise
            self.engines[shape] = None
            self._fall_back(f"out of device memory: {first_line(error)}" if short else str(error))
            return None
        self.engines[shape] = stored
        if stored.refused:
            self._fall_back(f"its engine is refused: {stored.refused}")
            return None
        return engine

    def _load(self, found: StoredEngine | None, shape: tuple[int, ...]) -> tuple[StoredEngine, Engine] | None:
        """`found`, ready to run; None where there is none, or none of use, which is said: then one is built."""
        if found is None or not found.engine:
            return None
        try:
            return found, self._engine(found.engine, shape)
        except BackendError as error:
            self._notify(f"{error}: it is built again")
            return None

    def _build(self, key: EngineKey) -> tuple[StoredEngine, Engine | None]:
        """A new engine, kept but not compared yet, and ready to run; or its refusal, kept, and None."""
        n, _, height, width = key.shape
        self._notify(
            f"compiling an engine for {n} pictures of {width}x{height} on {key.gpu}: once, for up to some minutes"
        )
        start = time.monotonic()
        built = StoredEngine(key, b"", model_name(self._planes.spec), 0.0, _now())
        try:
            data = compiler.build(self._switch.network, key.shape, self._package, timing_cache=self._cache.timing())
        except Unbuildable as error:
            return self._keep(replace(built, seconds=time.monotonic() - start), str(error)), None
        # Kept before anything else is tried that may run out of memory, or be interrupted.
        built = self._keep(replace(built, engine=data, seconds=time.monotonic() - start))
        try:
            return built, self._engine(data, key.shape)
        except BackendError as error:  # made here, by the same TensorRT: another would be no better
            return self._keep(built, str(error)), None

    def _keep(self, stored: StoredEngine, refused: str = "") -> StoredEngine:
        stored = replace(stored, engine=b"" if refused else stored.engine, refused=refused)
        self._cache.put(stored)
        return stored

    def _engine(self, data: bytes, shape: tuple[int, ...]) -> Engine:
        engine = Engine(data, self._package)
        if engine.input_shape != shape:
            raise BackendError(f"the engine is for inputs of {engine.input_shape}, not {shape}")
        return engine

    def _tried(self, engine: Engine, stacks: Sequence[Tensor], tile: int) -> Tensor:
        """`highres` of `stacks` by an engine that may not be used yet, on the CPU. Unfit where nothing comes of it."""
        _make_room(self._planes.device)
        failed: list[str] = []
        self._switch.fail = failed.append
        self._ready[engine.input_shape] = engine
        try:
            results = self._planes.highres(stacks, tile).cpu()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # After an error of CUDA the device is lost to PyTorch, too, and to this run: but not to the next one.
            raise Unfit(f"it does not run ({first_line(error)})") from error
        finally:
            self._switch.fail = self._fall_back
            del self._ready[engine.input_shape]
        if failed:
            raise Unfit(failed[0])
        return results

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
    """The convolutions, by an engine where there is one for the shape, else by PyTorch.

    engines: by the shape of the input. fail: told why an engine does not start, which is then not tried again.
    """

    def __init__(
        self, network: nn.Module, engines: dict[tuple[int, ...], Engine | None], fail: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.network, self.engines, self.fail = network, engines, fail

    def forward(self, x: Tensor) -> Tensor:
        if engine := self.engines.get(tuple(x.shape)):
            try:
                return engine(x)
            except BackendError as error:
                self.engines[tuple(x.shape)] = None
                self.fail(str(error))
        return self.network(x)


def _make_room(device: torch.device) -> None:
    """For TensorRT, which takes its memory from the device and not from what PyTorch holds ready. An error of what the
    device was given before comes up here, too, where no engine is blamed for it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def build_ahead(
    spec: BackendSpec, width: int, height: int, targets: Sequence[str], package: Package
) -> Iterator[StoredEngine]:
    """The engines for sources of `width` x `height` on cards that need not be here: see `sizes` and `compiler.build`.

    They are compared with float32 when they are first used. BackendError where one cannot be built, ModelError for
    weights.
    """
    planes = PlaneGenerator(_known(load_generator(spec.model)), spec, "fp16", torch.device("cpu"))
    network = planes.generator.body
    assert planes.context is not None
    for wide, tall in sizes(width, height, planes.context):
        shape = (frames_at_once(wide, tall), 3, tall, wide)
        start = time.monotonic()
        try:
            data = compiler.build(network, shape, package, targets)
        except torch.OutOfMemoryError as error:
            raise BackendError(f"out of memory: {first_line(error)}") from error
        key = EngineKey(
            compiler.network_digest(network), shape, "fp16", "", tuple(targets), "", package.name, package.version,
            compiler.exporter(package, targets), torch.__version__, compiler.OPTIONS,
        )  # fmt: skip
        yield StoredEngine(key, data, model_name(spec), time.monotonic() - start, _now())


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
    else:
        name, capability, _ = _card(torch.device("cuda", torch.cuda.current_device()))
    if not compiler.installed():
        absent.append(f"neither TensorRT nor TensorRT-RTX is installed: {compiler.INSTALL}")
        if not no_cuda and capability in ("9.0", "10.0"):  # and TensorRT proper is on NVIDIA's own index only
            absent.append(f"TensorRT-RTX does not know {name}: --backend cuda is the path there")
    elif not no_cuda:  # loading it means something only beside a working driver
        try:
            package = compiler.find_package()
        except BackendError as error:
            return f"tensorrt: {error}"
        if package.targets and capability not in package.targets:
            absent.append(
                f"{package.title} does not know {name} (compute capability {capability}): --backend cuda is the path "
                "there"
            )
        if reason := compiler.exporter_missing(package):
            absent.append(reason)
    return f"tensorrt: {'; '.join(absent)}" if absent else None


def _card(device: torch.device) -> tuple[str, str, str]:
    """(name, compute capability, driver) of a GPU; of the CPU, which tests use, nothing."""
    if device.type == "cpu":
        return "CPU", "0.0", ""
    major, minor = torch.cuda.get_device_capability(device)
    return torch.cuda.get_device_name(device), f"{major}.{minor}", driver_version()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


KIND = replace(
    CUDA, name="tensorrt", available=tensorrt_missing, open=open_tensorrt, precisions=("fp16",), compiles=False,
    measured_by=CUDA.name,
)  # fmt: skip
