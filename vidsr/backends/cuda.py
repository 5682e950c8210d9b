"""Generators run by PyTorch on one NVIDIA GPU: several frames at once, several batches in flight.

A batch's way: its planes are gathered in pinned memory, uploaded on a stream of their own, enlarged on a second stream
by one CUDA graph (colour, generator, colour: hundreds of kernels started as one), and downloaded on a third into pinned
memory that the result's arrays are views of. While one batch computes, the next uploads and the last downloads; the CPU
only starts things, so its cores are left to the encoders. Planes travel, not RGB: 1.5 bytes a pixel for 4:2:0.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from vidsr.backends.base import BackendKind, BackendSpec, Notify, Pending
from vidsr.backends.convolutions import Body, TorchBody
from vidsr.backends.gpu import cuda_errors_explained, cuda_missing, device_name
from vidsr.backends.planes import PlaneGenerator, available_bytes, model_name, tensor
from vidsr.backends.tiles import activation_bytes, auto_tile
from vidsr.errors import BackendError, first_line
from vidsr.frames import Frame, FrameBatch
from vidsr.models.base import Generator
from vidsr.models.checkpoint import load_generator

LANES = 3  # one batch uploads, one computes, one downloads
MOST_FRAMES = 4  # given to the device at once
MOST_PATCHES = 16  # of pictures so small
_PATCH_PIXELS = 1 << 14
_CHUNK_PIXELS = 1 << 20  # of the source, given to the device at once: enough to fill the largest


def open_cuda(spec: BackendSpec, notify: Notify | None = None) -> CudaBackend:
    """The backend `spec` describes, its weights loaded from `spec.model`.

    ModelError for weights that cannot be loaded, BackendError where no GPU works, UsageError for a scale or precision
    that cannot be had.
    """
    if reason := cuda_missing():
        raise BackendError(reason)
    return CudaBackend(load_generator(spec.model, notify), spec, notify)


class CudaBackend:
    """A generator on one NVIDIA GPU. See `vidsr.backends.base.Backend` for what it promises.

    notify: told, in one line, of each thing that makes the work slower than asked for; `warnings.warn` by default.
    device: the CPU does the same work without streams and graphs, for tests of all the rest.
    body: what runs the convolutions; PyTorch by default.
    graphs: False, to compare with: kernels are started one by one.
    """

    in_flight = LANES
    patch = 64

    def __init__(
        self, generator: Generator, spec: BackendSpec, notify: Notify | None = None,
        device: torch.device | None = None, body: Body | None = None, graphs: bool = True,
    ) -> None:  # fmt: skip
        self.spec, self.scale = spec, spec.scale
        self._notify = notify or (lambda message: warnings.warn(message, RuntimeWarning, stacklevel=3))
        self._device = device or torch.device("cuda", torch.cuda.current_device())
        self._body: Body = body or TorchBody()
        self._precision = self._body.precision(spec.precision, self._device, generator.lacks)
        with cuda_errors_explained(self._device):
            self._planes = PlaneGenerator(generator, spec, self._precision, self._device)
            self._bytes = activation_bytes(self._planes.generator)
            runs = self._body.attach(generator, self._planes, self._precision, self._notify)
            # What others' networks do between their kernels cannot be known: some ask the device for numbers.
            known = self._planes.generator.radius is not None
            self._graphs = graphs and known and self._device.type == "cuda"
            self._streams = _Streams(self._device)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)  # the weights were sent on another stream
        self._pool: Any = None
        self._lanes: list[Lane] = []
        self._next = self._chunk = 0
        self._tile: int | None = None
        self._fits: dict[tuple[int, int], tuple[int, int]] = {}
        self._parked: tuple[int, int | None, list[Lane]] = (0, None, [])
        self.context = self._planes.context
        self.description = f"{device_name(self._device)}, {runs}, {model_name(spec)}"

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        return self.submit(batch)()

    @torch.inference_mode()
    def submit(self, batch: FrameBatch) -> Pending:
        if batch.format != self.spec.source_format:
            raise ValueError(f"batch: got {batch.format.name}, expected {self.spec.source_format.name}")
        parts: list[_Job] = []
        done = 0
        with cuda_errors_explained(self._device):
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
            with cuda_errors_explained(self._device):
                frames = tuple(frame for part in parts for frame in part.frames())
            return FrameBatch(frames, result_format, result_color)

        return result

    def settle(self, width: int, height: int) -> dict[str, Any]:
        chunk, tile = self._fitting(width, height)
        side = self.patch + 2 * (self.context or 0)
        patches, _ = self._fitting(min(side, width), min(side, height))
        batch = f"{chunk} frames, {patches} patches"
        return {"backend": self._body.name, "precision": self._precision, "tile": tile, "batch": batch}

    def close(self) -> None:
        self._drop_lanes()
        self._body.close()
        del self._planes

    def _make_lanes(self, batch: FrameBatch) -> None:
        """Choose how much to do at once, and make room for it; nothing to do when the last batch was of this size."""
        shapes = batch.format.plane_shapes(batch.width, batch.height)
        if self._lanes and self._lanes[0].shapes == shapes:
            return
        if self._lanes:  # pictures of another size: whole ones and patches take turns, so two sizes stay at hand
            here, self._parked = self._parked, (self._chunk, self._tile, self._lanes)
            if here[2] and here[2][0].shapes == shapes:
                self._chunk, self._tile, self._lanes = here
                return
            self._streams.synchronize()
            self._chunk, self._tile, self._lanes = 0, None, []
        if not self._chunk:
            self._chunk, self._tile = self._fitting(batch.width, batch.height)
            if self._tile and not self.spec.tile:
                self._notify(f"device memory is short: each picture is worked on in tiles of {self._tile} pixels")
        dtype = torch.from_numpy(batch.frames[0].planes[0][:0].copy()).dtype
        self._lanes = [Lane(shapes, self._chunk, dtype, self._device, self._streams) for _ in range(LANES)]

    def _fitting(self, width: int, height: int) -> tuple[int, int]:
        """How many frames at once, and the tile, that keep the work in half of the memory that is free at first.

        Always the same number of frames (short batches are filled up), because cuDNN chooses its kernels by the shape
        and a frame's bytes must not depend on how many came with it.
        """
        if (width, height) not in self._fits:
            free = available_bytes(self._device)
            layer, output = self._bytes
            pixels = width * height
            chunk = frames_at_once(width, height)
            while chunk > 1 and chunk * pixels * (layer + 3 * output) > free / 2:
                chunk //= 2
            tile = self.spec.tile or auto_tile(width, height, self._planes.generator, free // chunk, self._bytes)
            self._fits[width, height] = chunk, tile
        return self._fits[width, height]

    def _shrink(self, batch: FrameBatch) -> None:
        """After running out of device memory: fewer frames at once, then smaller tiles."""
        self._drop_lanes()
        if self._chunk > 1:
            self._chunk //= 2
            self._notify(f"out of device memory: going on with {self._chunk} frames at once")
            return
        tile = (self._tile or max(batch.width, batch.height)) // 2
        if self._planes.generator.radius is None:
            raise BackendError(f"out of device memory: {model_name(self.spec)} takes whole frames; use --backend cpu")
        if tile < 16:
            raise BackendError("out of device memory even for one small tile: free some, or use --backend cpu")
        self._tile = tile
        self._notify(f"out of device memory: going on in tiles of {tile} pixels")

    def _drop_lanes(self) -> None:
        self._streams.synchronize()
        self._lanes, self._parked = [], (0, None, [])
        self._pool = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _start(self, frames: Sequence[Frame]) -> _Job:
        """Send frames on their way; nothing here waits for the device, except for a lane's first time."""
        streams = self._streams
        lane = self._lanes[self._next % LANES]
        self._next += 1
        pinned = [self._gather([f.planes[i] for f in frames], target) for i, target in enumerate(lane.inputs)]
        streams.upload.wait_event(lane.computed)  # the batch before it in this lane has been read
        streams.run(streams.upload, lambda: _copy(pinned, lane.inputs))
        lane.uploaded.record(streams.upload)
        streams.compute.wait_event(lane.uploaded)
        streams.compute.wait_event(lane.downloaded)  # and its result has been taken
        if not lane.outputs:
            streams.run(streams.compute, lambda: self._prepare(lane))
        streams.run(streams.compute, lambda: self._compute(lane))
        lane.computed.record(streams.compute)
        results = [self._host(output.shape, output.dtype) for output in lane.outputs]
        streams.download.wait_event(lane.computed)
        streams.run(streams.download, lambda: _copy(lane.outputs, results))
        lane.downloaded.record(streams.download)
        arrived = streams.event()
        arrived.record(streams.download)
        return _Job(frames, results, arrived)

    def _prepare(self, lane: Lane) -> None:
        """The first time in a lane: what libraries choose at their first call, room for the result, the graph.

        The input is already a real batch. Graphs share one pool of memory, and each may write wherever an earlier one
        left nothing alive; so the result is copied out of it, to where no replay writes: it is still being downloaded
        while the next lane's graph runs.
        """
        self._body.prepare(lane.inputs, self._tile or 0)
        lane.outputs = self._enlarge(lane.inputs)
        if self._graphs:
            self._enlarge(lane.inputs)
            torch.cuda.current_stream().synchronize()
            graph = torch.cuda.CUDAGraph()
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            try:
                # Other threads encode meanwhile; only what this one does may end up in the graph.
                with torch.cuda.graph(graph, self._pool, self._streams.compute, capture_error_mode="thread_local"):
                    _copy(self._enlarge(lane.inputs), lane.outputs)
                lane.graph = graph
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError) or isinstance(error.__context__, torch.OutOfMemoryError):
                    # A capture that was cut short ends in an error of its own.
                    raise torch.OutOfMemoryError(str(error)) from error
                self._graphs = False
                self._notify(f"no CUDA graph ({first_line(error)}): kernels are started one by one, which is slower")

    def _compute(self, lane: Lane) -> None:
        if lane.graph is None:
            _copy(self._enlarge(lane.inputs), lane.outputs)
        else:
            lane.graph.replay()

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
        self, shapes: tuple[tuple[int, int], ...], chunk: int, dtype: torch.dtype, device: torch.device,
        streams: _Streams,
    ) -> None:  # fmt: skip
        self.shapes = shapes
        self.inputs = [torch.empty((chunk, *shape), dtype=dtype, device=device) for shape in shapes]
        self.outputs: list[Tensor] = []
        self.graph: Any = None
        self.uploaded, self.computed, self.downloaded = streams.event(), streams.event(), streams.event()


class _Job:
    """Frames on their way: `results` hold them once they have `arrived`."""

    def __init__(self, frames: Sequence[Frame], results: list[Tensor], arrived: Any) -> None:
        self._times = [(frame.pts, frame.duration) for frame in frames]
        self._results, self._arrived = results, arrived

    def frames(self) -> list[Frame]:
        self._arrived.synchronize()
        planes = [result.numpy() for result in self._results]
        return [Frame(tuple(plane[i] for plane in planes), *times) for i, times in enumerate(self._times)]


class _Streams:
    """Three streams of a GPU; of the CPU, on which all is done by the time it returns, three that need no waiting."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        make: Any = (lambda: torch.cuda.Stream(device)) if self._cuda else _AtOnce
        self.upload, self.compute, self.download = make(), make(), make()

    def run(self, stream: Any, work: Callable[[], None]) -> None:
        """Give `work` to a stream; it is done after all that the stream was given, and told to wait for, before."""
        with torch.cuda.stream(stream) if self._cuda else nullcontext():
            work()

    def event(self) -> Any:
        # Blocking: a thread that waits sleeps, and leaves its core to an encoder.
        return torch.cuda.Event(blocking=True) if self._cuda else _AtOnce()

    def synchronize(self) -> None:
        for stream in (self.upload, self.compute, self.download):
            stream.synchronize()


class _AtOnce:
    """A stream or an event of a device that has done everything by the time it is asked."""

    def wait_event(self, event: Any) -> None: ...

    def record(self, stream: Any) -> None: ...

    def synchronize(self) -> None: ...


def _copy(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source, non_blocking=True)


def frames_at_once(width: int, height: int) -> int:
    """How many pictures of that size are given to the device at once where memory allows."""
    pixels = width * height
    return max(1, min(MOST_PATCHES if pixels <= _PATCH_PIXELS else MOST_FRAMES, _CHUNK_PIXELS // pixels))


KIND = BackendKind(
    "cuda", cuda_missing, open_cuda, "gpu", ("fp16", "fp32", "bf16"), CudaBackend.patch, batch_size=MOST_FRAMES
)
