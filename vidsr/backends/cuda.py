"""Generators run by PyTorch on one GPU: several frames at once, several batches in flight.

A batch's way: its planes are gathered in pinned memory, uploaded on a stream of their own, enlarged on a second stream
by one CUDA graph (colour, generator, colour: hundreds of kernels started as one), and downloaded on a third into pinned
memory that the result's arrays are views of. While one batch computes, the next uploads and the last downloads; the CPU
only starts things, so its cores are left to the encoders. Planes travel, not RGB: 1.5 bytes a pixel for 4:2:0.

Streams and graphs are NVIDIA's (and AMD's, by ROCm); on other devices the same is done in order.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from vidsr.backends.base import BackendKind, BackendSpec, Notify, Pending
from vidsr.backends.compiled import Ways
from vidsr.backends.convolutions import Body, TorchBody
from vidsr.backends.gpu import (
    cuda_missing,
    device_errors_explained,
    device_name,
    graphs_refused,
    out_of_memory,
    refuse_graphs,
)
from vidsr.backends.lanes import Lane, Place, Shapes, Streams, copy_all
from vidsr.backends.planes import PlaneGenerator, available_bytes, model_name, tensor
from vidsr.backends.tiles import activation_bytes, auto_tile
from vidsr.backends.trust import check_device, made_frames
from vidsr.color import HAVE_UINT16
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
    return open_device(spec, notify)


def open_device(
    spec: BackendSpec, notify: Notify | None = None, device: torch.device | None = None, name: str = "cuda"
) -> CudaBackend:
    """The backend of that name on that device, whose pictures were held against the CPU's. Errors as `open_cuda`."""
    generator = load_generator(spec.model, notify)
    backend = CudaBackend(generator, spec, notify, device, TorchBody(name))
    try:
        check_device(device_name(backend.device), backend.try_once, generator, spec)
    except BaseException:
        backend.close()
        raise
    return backend


class CudaBackend:
    """A generator on one GPU. See `vidsr.backends.base.Backend` for what it promises.

    notify: told, in one line, of each thing that makes the work slower than asked for; `warnings.warn` by default.
    device: NVIDIA's first by default. Others have no streams and graphs, nor has the CPU, for tests of all the rest.
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
        self.device = device or torch.device("cuda", torch.cuda.current_device())
        self._body: Body = body or TorchBody()
        self._precision = self._body.precision(spec.precision, self.device, generator.lacks)
        with device_errors_explained(self.device):
            self._planes = PlaneGenerator(generator, spec, self._precision, self.device)
            self._bytes = activation_bytes(self._planes.generator)
            runs = self._body.attach(generator, self._planes, self._precision, self._notify)
            self._ways = Ways(self._planes, spec.compiled and self._body.compiles, self._notify)
            # What others' networks do between their kernels cannot be known: some ask the device for numbers.
            known = self._planes.generator.radius is not None
            self._graphs = graphs and known and self.device.type == "cuda"
            if self._graphs and (reason := graphs_refused(self.device)):
                self._graphs = False
                self._notify(reason)
            self._streams = Streams(self.device)
            self._streams.synchronize()  # the weights were sent on another stream
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        self._lock = threading.RLock()  # results are waited for in any thread, and what waits may have to be started
        self._waiting: dict[Shapes, list[Place]] = {}
        self._pool: Any = None
        self._lanes: list[Lane] = []
        self._next = self._chunk = self._tile = 0
        self._fits: dict[tuple[int, int], tuple[int, int]] = {}
        self._parked: tuple[int, int, list[Lane]] = (0, 0, [])
        self.context = self._planes.context
        self.description = f"{device_name(self.device)}, {runs}, {model_name(spec)}"

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        return self.submit(batch)()

    def submit(self, batch: FrameBatch) -> Pending:
        """A batch that does not fill the device goes up with what is submitted after it, or when it is waited for."""
        if batch.format != self.spec.source_format:
            raise ValueError(f"batch: got {batch.format.name}, expected {self.spec.source_format.name}")
        shapes = batch.format.plane_shapes(batch.width, batch.height)
        places = [Place(frame) for frame in batch.frames]
        with self._lock:
            self._waiting.setdefault(shapes, []).extend(places)
            self._start_waiting(shapes)
        spec = self.spec

        def result() -> FrameBatch:
            if any(place.frame for place in places):
                with self._lock:
                    if any(place.frame for place in places):  # nobody else has started them meanwhile
                        self._start_waiting(shapes, all_of_them=True)
            with device_errors_explained(self.device):
                frames = tuple(place.result(spec.result_format.dtype) for place in places)
            return FrameBatch(frames, spec.result_format, spec.result_color)

        return result

    def settle(self, width: int, height: int, patches: bool = True) -> dict[str, Any]:
        """Settled by doing it once: engines, compilers and graphs may refuse, and memory may be less than it seems."""
        side = self.patch + 2 * (self.context or 0)
        small = min(side, width), min(side, height)
        sizes = [small] * (patches and self.context is not None and small != (width, height)) + [(width, height)]
        found = []
        for size in sizes:
            self(made_frames(*size, self.spec.source_format, self.spec.source_color))
            stacks = self._lanes[0].inputs
            by = "torch.compile" if self._ways.compiled(stacks) else self._body.runs(stacks, self._tile)
            found.append((self._chunk, self._tile, by))
        chunk, tile, by = found[-1]
        settled = {"backend": self._body.name, "precision": self._precision, "tile": tile, "batch": f"{chunk} frames"}
        settled["convolutions"] = by
        if len(found) > 1:
            settled["patches"] = f"{found[0][0]}, {found[0][2]}"
        return settled

    @torch.inference_mode()
    def try_once(self, stacks: Sequence[Tensor]) -> list[Tensor]:
        """Planes [N, rows, columns] in the host's memory -> those of the result there, by PyTorch's kernels as such."""
        with device_errors_explained(self.device):
            there = [stack.to(self._dtype(stack.dtype)).to(self.device) for stack in stacks]
            return [plane.cpu() for plane in self._planes(there)]

    def close(self) -> None:
        with suppress(RuntimeError, BackendError):  # a device that fails has said so where it failed, which counts
            self._drop_lanes()
        with suppress(RuntimeError, BackendError):
            self._body.close()
        self._ways.close()
        del self._planes

    @torch.inference_mode()
    def _start_waiting(self, shapes: Shapes, all_of_them: bool = False) -> None:
        """Send what waits of one size on its way, in chunks; the last one only if it is full, or all must go.

        Always the same number of frames (those that are missing are filled in), because libraries choose their kernels
        by the shape and a frame's bytes must not depend on how many came with it.
        """
        waiting = self._waiting[shapes]
        with device_errors_explained(self.device):
            while waiting:
                first = waiting[0].frame
                assert first is not None
                full = False
                try:
                    self._make_lanes(shapes, first)
                    if len(waiting) < self._chunk and not all_of_them:
                        return
                    self._start(waiting[: self._chunk])
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                    full = True
                if full:  # here, where no traceback holds on to what there was no room for
                    self._shrink(shapes)
                else:
                    del waiting[: self._chunk]
        del self._waiting[shapes]

    def _make_lanes(self, shapes: Shapes, frame: Frame) -> None:
        """Choose how much to do at once, and make room for it; nothing to do when the last batch was of this size."""
        if self._lanes and self._lanes[0].shapes == shapes:
            return
        if self._lanes:  # pictures of another size: whole ones and patches take turns, so two sizes stay at hand
            here, self._parked = self._parked, (self._chunk, self._tile, self._lanes)
            if here[2] and here[2][0].shapes == shapes:
                self._chunk, self._tile, self._lanes = here
                return
            self._streams.synchronize()
        self._chunk, self._tile = self._fitting(*reversed(shapes[0]))
        dtype = self._dtype(torch.from_numpy(frame.planes[0][:0].copy()).dtype)
        self._lanes = [Lane(shapes, self._chunk, dtype, self.device, self._streams) for _ in range(LANES)]

    def _dtype(self, dtype: torch.dtype) -> torch.dtype:
        """In which planes of that type are given to the device."""
        return torch.int32 if dtype == torch.uint16 and self.device.type not in HAVE_UINT16 else dtype

    def _fitting(self, width: int, height: int) -> tuple[int, int]:
        """How many frames at once, and the tile, that keep the work in half of the memory that is free at first."""
        if (width, height) not in self._fits:
            free = available_bytes(self.device)
            layer, output = self._bytes
            pixels = width * height
            chunk = frames_at_once(width, height)
            while chunk > 1 and chunk * pixels * (layer + 3 * output) > free / 2:
                chunk //= 2
            tile = self.spec.tile or auto_tile(width, height, self._planes.generator, free // chunk, self._bytes)
            if tile and not self.spec.tile:
                self._notify(f"device memory is short: each picture is worked on in tiles of {tile} pixels")
            self._fits[width, height] = chunk, tile
        return self._fits[width, height]

    def _shrink(self, shapes: Shapes) -> None:
        """After running out of device memory: fewer frames at once, then smaller tiles."""
        self._drop_lanes()
        height, width = shapes[0]
        chunk, tile = self._fitting(width, height)
        if chunk > 1:
            self._fits[width, height] = chunk // 2, tile
            self._notify(f"out of device memory: going on with {chunk // 2} frames at once")
            return
        tile = (tile or max(width, height)) // 2
        if self._planes.generator.radius is None:
            raise BackendError(f"out of device memory: {model_name(self.spec)} takes whole frames; use --backend cpu")
        if tile < 16:
            raise BackendError("out of device memory even for one small tile: free some, or use --backend cpu")
        self._fits[width, height] = 1, tile
        self._notify(f"out of device memory: going on in tiles of {tile} pixels")

    def _drop_lanes(self) -> None:
        try:
            self._streams.synchronize()  # what is on its way still uses them
        finally:
            self._lanes, self._parked, self._pool = [], (0, 0, []), None
        self._give_back()

    def _give_back(self) -> None:
        """What PyTorch keeps for later goes back to the device: others have a use for it, graphs' pools among them."""
        module = getattr(torch, self.device.type, None)
        getattr(module, "empty_cache", lambda: None)()

    def _start(self, places: Sequence[Place]) -> None:
        """Send frames on their way; nothing here waits for the device, except for a lane's first time."""
        streams = self._streams
        lane = self._lanes[self._next % LANES]
        self._next += 1
        frames = [place.frame for place in places if place.frame]
        pinned = [self._gather([f.planes[i] for f in frames], target) for i, target in enumerate(lane.inputs)]
        streams.upload.wait_event(lane.computed)  # the batch before it in this lane has been read
        streams.run(streams.upload, lambda: copy_all(pinned, lane.inputs))
        lane.uploaded.record(streams.upload)
        streams.compute.wait_event(lane.uploaded)
        streams.compute.wait_event(lane.downloaded)  # and its result has been taken
        if not lane.outputs:
            streams.run(streams.compute, lambda: self._prepare(lane))
        streams.run(streams.compute, lambda: self._compute(lane))
        lane.computed.record(streams.compute)
        results = [self._host(output.shape, output.dtype) for output in lane.outputs]
        streams.download.wait_event(lane.computed)
        streams.run(streams.download, lambda: copy_all(lane.outputs, results))
        lane.downloaded.record(streams.download)
        arrived = streams.event()
        arrived.record(streams.download)
        for i, place in enumerate(places):
            place.started(results, i, arrived)

    def _prepare(self, lane: Lane) -> None:
        """The first time in a lane: what libraries choose at their first call, room for the result, the graph.

        The input is already a real batch. Graphs share one pool of memory, and each may write wherever an earlier one
        left nothing alive; so the result is copied out of it, to where no replay writes: it is still being downloaded
        while the next lane's graph runs.
        """
        self._body.prepare(lane.inputs, self._tile)
        self._ways.prepare(lane.inputs, self._tile)
        lane.outputs = self._enlarge(lane.inputs)
        if not self._graphs:
            return
        self._enlarge(lane.inputs)
        torch.cuda.current_stream().synchronize()
        self._give_back()  # the pool below takes none of what the calls before left behind
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            # Other threads encode meanwhile; only what this one does may end up in the graph.
            with torch.cuda.graph(graph, self._pool, self._streams.compute, capture_error_mode="thread_local"):
                copy_all(self._enlarge(lane.inputs), lane.outputs)
        except torch.OutOfMemoryError:
            lane.outputs = []
            raise  # the allocator said no, and the recording ended well
        except RuntimeError as error:
            # A recording that cannot even be ended leaves PyTorch's allocator believing that it goes on: memory that is
            # given back would stay taken, and what follows would fail hours later.
            cure = refuse_graphs(self.device, first_line(error))
            raise BackendError(f"{device_name(self.device)}: no CUDA graph ({first_line(error)}); {cure}") from error
        lane.graph = graph

    def _compute(self, lane: Lane) -> None:
        if lane.graph is None:
            copy_all(self._enlarge(lane.inputs), lane.outputs)
        else:
            lane.graph.replay()

    def _enlarge(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return [plane.contiguous() for plane in self._ways(inputs, self._tile)]

    def _gather(self, planes: Sequence[Any], target: Tensor) -> Tensor:
        """The same plane of some frames in pinned memory, shaped like `target`; short batches repeat the last."""
        pinned = self._host(target.shape, target.dtype)
        tensors = [tensor(plane) for plane in planes]
        for row, source in zip(pinned, tensors + tensors[-1:] * (len(pinned) - len(tensors)), strict=True):
            row.copy_(source)
        return pinned

    def _host(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Memory of the host; pinned, so that copies need not be waited for. PyTorch keeps what is freed for later."""
        return torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")


def frames_at_once(width: int, height: int) -> int:
    """How many pictures of that size are given to the device at once where memory allows."""
    pixels = width * height
    return max(1, min(MOST_PATCHES if pixels <= _PATCH_PIXELS else MOST_FRAMES, _CHUNK_PIXELS // pixels))


KIND = BackendKind(
    "cuda", cuda_missing, open_cuda, "gpu", ("fp16", "fp32", "bf16"), CudaBackend.patch, batch_size=MOST_FRAMES,
    compiles=True,
)  # fmt: skip
