"""Generators run by PyTorch on one NVIDIA GPU: several frames at once, several batches in flight.

A batch's way: its planes are gathered in pinned memory, uploaded on a stream of their own, enlarged on a second stream
by one CUDA graph (colour, generator, colour: hundreds of kernels started as one), and downloaded on a third into pinned
memory that the result's arrays are views of. While one batch computes, the next uploads and the last downloads; the CPU
only starts things, so its cores are left to the encoders. Planes travel, not RGB: 1.5 bytes a pixel for 4:2:0.
"""

from __future__ import annotations

import ctypes.util
import re
import threading
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from vidsr.backends.base import BackendSpec, Notify, Pending
from vidsr.backends.planes import PlaneGenerator, available_bytes, choose_precision, model_name, tensor
from vidsr.backends.tiles import activation_bytes, auto_tile
from vidsr.checkpoint import load_generator
from vidsr.errors import BackendError, first_line
from vidsr.frames import Frame, FrameBatch

LANES = 3  # one batch uploads, one computes, one downloads
MOST_FRAMES = 4  # given to the device at once
_CHUNK_PIXELS = 1 << 20  # of the source, given to the device at once: enough to fill the largest


def open_cuda(spec: BackendSpec, notify: Notify | None = None) -> CudaBackend:
    """The backend `spec` describes, its weights loaded from `spec.model`.

    ModelError for weights that cannot be loaded, BackendError where no GPU works, UsageError for a scale or precision
    that cannot be had.
    """
    if reason := cuda_missing():
        raise BackendError(reason)
    return CudaBackend(load_generator(spec.model), spec, notify)


class CudaBackend:
    """A generator on one NVIDIA GPU. See `vidsr.backends.base.Backend` for what it promises.

    generator: see `PlaneGenerator`.
    notify: told, in one line, of each thing that makes the work slower than asked for; `warnings.warn` by default.
    device: the CPU does the same work without streams and graphs, for tests of all the rest.
    execution: "graph"; or, to compare with, "eager" or "compile" (torch.compile of the convolutions, then a graph).
    """

    in_flight = LANES

    def __init__(
        self, generator: nn.Module, spec: BackendSpec, notify: Notify | None = None,
        device: torch.device | None = None, execution: str = "graph",
    ) -> None:  # fmt: skip
        self.spec, self.scale = spec, spec.scale
        self._notify = notify or (lambda message: warnings.warn(message, RuntimeWarning, stacklevel=3))
        self._device = device or torch.device("cuda", torch.cuda.current_device())
        precision = choose_precision(spec.precision, self._device.type)
        with _explained(self._device):
            self._planes = PlaneGenerator(generator, spec, precision, self._device)
            self._bytes = activation_bytes(self._planes.generator)
            if execution == "compile":
                self._planes.generator.body.compile(mode="max-autotune-no-cudagraphs", dynamic=False)
            self._graphs = execution != "eager" and self._device.type == "cuda"
            self._streams = _Streams(self._device)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)  # the weights were sent on another stream
        self._pool: Any = None
        self._lanes: list[Lane] = []
        self._next = self._chunk = 0
        self._tile: int | None = None
        self.description = f"{device_name(self._device)}, {precision}, {model_name(spec)}"

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        return self.submit(batch)()

    @torch.inference_mode()
    def submit(self, batch: FrameBatch) -> Pending:
        if batch.format != self.spec.source_format:
            raise ValueError(f"batch: got {batch.format.name}, expected {self.spec.source_format.name}")
        parts: list[_Job] = []
        done = 0
        with _explained(self._device):
            while done < len(batch):
                try:
                    self._make_lanes(batch)
                    part = batch.frames[done : done + self._chunk]
                    parts.append(self._start(part))
                    done += len(part)
                except torch.OutOfMemoryError:
                    self._shrink(batch)
        result_format, result_color = self.spec.result_format, self.spec.result_color

        def result() -> FrameBatch:
            with _explained(self._device):
                frames = tuple(frame for part in parts for frame in part.frames())
            return FrameBatch(frames, result_format, result_color)

        return result

    def close(self) -> None:
        self._streams.synchronize()
        self._lanes.clear()
        self._pool = None
        del self._planes
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _make_lanes(self, batch: FrameBatch) -> None:
        """Choose how much to do at once, and make room for it; nothing to do when the last batch was of this size."""
        shapes = batch.format.plane_shapes(batch.width, batch.height)
        if self._lanes and self._lanes[0].shapes == shapes:
            return
        if self._lanes:  # pictures of another size
            self._drop_lanes()
            self._chunk, self._tile = 0, None
        if not self._chunk:
            self._chunk, tile = self._fit(batch.width, batch.height)
            self._tile = self.spec.tile or tile
            if self._tile and not self.spec.tile:
                self._notify(f"device memory is short: each picture is worked on in tiles of {self._tile} pixels")
        dtype = torch.from_numpy(batch.frames[0].planes[0][:0].copy()).dtype
        self._lanes = [Lane(shapes, self._chunk, dtype, self._device) for _ in range(LANES)]

    def _fit(self, width: int, height: int) -> tuple[int, int]:
        """How many frames at once, and the tile, that keep the work in half of the memory that is free.

        Always the same number of frames (short batches are filled up), because cuDNN chooses its kernels by the shape
        and a frame's bytes must not depend on how many came with it.
        """
        free = available_bytes(self._device)
        layer, output = self._bytes
        pixels = width * height
        chunk = frames_at_once(width, height)
        while chunk > 1 and chunk * pixels * (layer + 3 * output) > free / 2:
            chunk //= 2
        return chunk, auto_tile(width, height, self._planes.generator, free // chunk, self._bytes)

    def _shrink(self, batch: FrameBatch) -> None:
        """After running out of device memory: fewer frames at once, then smaller tiles."""
        self._drop_lanes()
        if self._chunk > 1:
            self._chunk //= 2
            self._notify(f"out of device memory: going on with {self._chunk} frames at once")
            return
        tile = (self._tile or max(batch.width, batch.height)) // 2
        if tile < 16:
            raise BackendError("out of device memory even for one small tile: free some, or use --backend cpu")
        self._tile = tile
        self._notify(f"out of device memory: going on in tiles of {tile} pixels")

    def _drop_lanes(self) -> None:
        self._streams.synchronize()
        self._lanes.clear()
        self._pool = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _start(self, frames: Sequence[Frame]) -> _Job:
        """Send frames on their way; nothing here waits for the device, except for a lane's first time."""
        streams = self._streams
        lane = self._lanes[self._next % LANES]
        self._next += 1
        with streams.on(streams.upload):
            streams.upload.wait_event(lane.computed)  # the batch before it in this lane has been read
            for i, target in enumerate(lane.inputs):
                target.copy_(self._gather([frame.planes[i] for frame in frames], target), non_blocking=True)
            lane.uploaded.record(streams.upload)
        with streams.on(streams.compute):
            streams.compute.wait_event(lane.uploaded)
            streams.compute.wait_event(lane.downloaded)  # and its result has been taken
            if not lane.ready:
                self._prepare(lane)
            if lane.graph is None:
                lane.outputs = self._enlarge(lane.inputs)
            else:
                lane.graph.replay()
            lane.computed.record(streams.compute)
        with streams.on(streams.download):
            streams.download.wait_event(lane.computed)
            results = [self._host(output.shape, output.dtype) for output in lane.outputs]
            for result, output in zip(results, lane.outputs, strict=True):
                result.copy_(output, non_blocking=True)
            lane.downloaded.record(streams.download)
            arrived = streams.event()
            arrived.record(streams.download)
        return _Job(frames, results, arrived)

    def _prepare(self, lane: Lane) -> None:
        """The first time in a lane: what libraries choose at their first call, then the graph.

        The input is already a real batch. Graphs share one pool of memory: they run one after the other on one stream
        and leave nothing behind there but their outputs, which the lanes keep.
        """
        lane.ready = True
        if not self._graphs:
            return
        for _ in range(2):
            self._enlarge(lane.inputs)
        torch.cuda.current_stream().synchronize()
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            # Other threads encode meanwhile; only what this one does may end up in the graph.
            with torch.cuda.graph(graph, self._pool, self._streams.compute, capture_error_mode="thread_local"):
                lane.outputs = self._enlarge(lane.inputs)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or isinstance(error.__context__, torch.OutOfMemoryError):
                # A capture that was cut short ends in an error of its own.
                raise torch.OutOfMemoryError(str(error)) from error
            self._graphs = False
            self._notify(f"no CUDA graph ({first_line(error)}): kernels are started one by one, which is slower")
            return
        lane.graph = graph

    def _enlarge(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return [plane.contiguous() for plane in self._planes(inputs, self._tile or 0)]

    def _gather(self, planes: Sequence[Any], target: Tensor) -> Tensor:
        """The same plane of some frames in pinned memory, shaped like `target`; short batches repeat the last."""
        pinned = self._host(target.shape, target.dtype)
        tensors = [tensor(plane) for plane in planes]
        for row, source in zip(pinned, tensors + tensors[-1:] * (len(pinned) - len(tensors)), strict=True):
            row.copy_(source)
        return pinned

    def _host(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Memory of the host; pinned, so that copies need not be waited for. PyTorch keeps what is freed for later."""
        return torch.empty(shape, dtype=dtype, pin_memory=self._device.type == "cuda")


class Lane:
    """Device memory for one batch, its graph, and the events that keep batches apart."""

    def __init__(
        self, shapes: tuple[tuple[int, int], ...], chunk: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.shapes = shapes
        self.inputs = [torch.empty((chunk, *shape), dtype=dtype, device=device) for shape in shapes]
        self.outputs: list[Tensor] = []
        self.graph: Any = None
        self.ready = False
        event: Any = torch.cuda.Event if device.type == "cuda" else _AtOnce
        self.uploaded, self.computed, self.downloaded = event(), event(), event()


class _Job:
    """Frames on their way: `results` hold them once `arrived`."""

    def __init__(self, frames: Sequence[Frame], results: list[Tensor], arrived: Any) -> None:
        self._times = [(frame.pts, frame.duration) for frame in frames]
        self._results, self._arrived = results, arrived

    def frames(self) -> list[Frame]:
        self._arrived.synchronize()
        planes = [result.numpy() for result in self._results]
        return [Frame(tuple(plane[i] for plane in planes), *times) for i, times in enumerate(self._times)]


class _AtOnce:
    """A stream or an event of a device that has done everything by the time it is asked."""

    def wait_event(self, event: Any) -> None: ...

    def record(self, stream: Any) -> None: ...

    def synchronize(self) -> None: ...


class _Streams:
    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        make: Any = (lambda: torch.cuda.Stream(device)) if self._cuda else _AtOnce
        self.upload, self.compute, self.download = make(), make(), make()

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        return torch.cuda.stream(stream) if self._cuda else nullcontext()

    def event(self) -> Any:
        # Blocking: a thread that waits sleeps, and leaves its core to an encoder.
        return torch.cuda.Event(blocking=True) if self._cuda else _AtOnce()

    def synchronize(self) -> None:
        for stream in (self.upload, self.compute, self.download):
            stream.synchronize()


class _explained:
    """CUDA's errors, other than those of memory, as one line. After one the device cannot be used in this process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._device.type != "cuda" or not isinstance(error, RuntimeError):
            return
        if isinstance(error, torch.OutOfMemoryError):
            raise BackendError(f"{device_name(self._device)}: out of device memory: free some, or use --backend cpu")
        if re.search("CUDA|cuDNN|CUDNN", str(error)):
            raise BackendError(f"{device_name(self._device)}: {first_line(error)}; run it again to go on") from error


def frames_at_once(width: int, height: int) -> int:
    """How many pictures of that size are given to the device at once where memory allows."""
    return max(1, min(MOST_FRAMES, _CHUNK_PIXELS // (width * height)))


_probing = threading.Lock()


def cuda_missing() -> str | None:
    """One line why CUDA cannot be used here, with the cure, or None when it can."""
    if not torch.backends.cuda.is_built():
        return f"cuda: this PyTorch ({torch.__version__}) has no CUDA: install a build that has, see pytorch.org"
    with _probing, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        said = next((first_line(w.message) for w in caught if "CUDA" in str(w.message)), "")
        if not said and ctypes.util.find_library("cuda") is None:
            said = "no NVIDIA driver is installed"
        return f"cuda: no usable NVIDIA GPU ({said or 'none found'}): install NVIDIA's driver, or update it"
    try:
        torch.cuda.init()
        major, minor = torch.cuda.get_device_capability()
    except (RuntimeError, AssertionError) as error:
        return f"cuda: the GPU cannot be opened ({first_line(error)})"
    if not _has_kernels(major, minor, torch.cuda.get_arch_list()):
        return (
            f"cuda: this PyTorch ({torch.__version__}) has no kernels for {torch.cuda.get_device_name()} (compute "
            f"capability {major}.{minor}): install a build that has, see pytorch.org"
        )
    return None


def _has_kernels(major: int, minor: int, built_for: Sequence[str]) -> bool:
    """Whether a device of that compute capability can run a PyTorch built for `built_for` ("sm_86", "compute_90").

    Machine code runs on its own major version from its minor version on; "compute" is compiled for anything newer.
    """
    for name in built_for:
        kind, _, number = name.rstrip("af").partition("_")
        own = divmod(int(number), 10) if number.isdigit() else (99, 0)
        if kind == "sm" and own[0] == major and own[1] <= minor:
            return True
        if kind == "compute" and own <= (major, minor):
            return True
    return not built_for


def device_name(device: torch.device) -> str:
    """For people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
