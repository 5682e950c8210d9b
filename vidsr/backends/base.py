"""What the pipeline knows of a backend, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from vidsr.frames import ColorSpec, FrameBatch, PixelFormat

Precision = Literal["fp32", "bf16", "fp16", "int8"]
Notify = Callable[[str], None]  # told, in one line each, what makes the work slower than asked for
Pending = Callable[[], FrameBatch]  # waits for a batch that was submitted, and gives its result


@dataclass(frozen=True)
class BackendSpec:
    """Everything needed to open a backend, here or in another process: small, frozen, picklable.

    name: one of `vidsr.backends.BACKENDS`.
    model: path of the weights; "" for a backend without any.
    scale: the size of the result over the source, 2 or more; a generator of a larger scale is reduced by area.
    source_format, source_color: of the batches that come in.
    result_format, result_color: of the batches that go out.
    tile: side of the largest square given to the generator at once, in source pixels; None for whole
        frames, or tiles where memory is short.
    precision: "fp32", "bf16", "fp16" or "int8"; None for the fastest that keeps the picture.
    compiled: let torch.compile fuse PyTorch's kernels, where that works.
    instead: names to try in turn, each time saying why, where `name` cannot be opened after all.
    """

    name: str
    model: str
    scale: int
    source_format: PixelFormat
    source_color: ColorSpec
    result_format: PixelFormat
    result_color: ColorSpec
    tile: int | None = None
    precision: Precision | None = None
    compiled: bool = False
    instead: tuple[str, ...] = ()


@dataclass(frozen=True)
class BackendKind:
    """What is known of a backend before it is opened: each describes itself, as KIND in its module.

    available: one line why it cannot run here, with the cure; None when it can.
    open: the backend of a spec, ready to be called. BackendError where it cannot run, ModelError for weights that
        cannot be loaded, UsageError for a scale or a precision that cannot be had; notify: see `open_backend`.
    device: "cpu", whose cores the encoders need, too, or "gpu", which leaves them to those.
    precisions: what it may be asked for; none where there is no choice and it takes any word.
    patch: see `Backend`, of all that it opens.
    batch_size: how many frames it is best given at once.
    needs_model: whether it runs a generator; one that does not loses nothing of the source, and opens without weights.
    chosen_unasked: whether it is chosen where none is asked for.
    compiles: whether torch.compile can fuse anything of it.
    contender: None where it is faster than those after it. Else it is chosen unasked only after it was measured to be
        faster than what would be chosen without it; called to tell whether that is worth trying here.
    devices: called for what it can run on, one line for people each; none where there is nothing to tell.
    measured_by: where opening it takes minutes, the name of another on the same device that is no faster and stands in
        while it is still open which model is taken; "" for itself.
    """

    name: str
    available: Callable[[], str | None]
    open: Callable[[BackendSpec, Notify | None], Backend]
    device: Literal["cpu", "gpu"] = "cpu"
    precisions: tuple[str, ...] = ()
    patch: int = 0
    batch_size: int = 1
    compiles: bool = False
    needs_model: bool = True
    chosen_unasked: bool = True
    measured_by: str = ""
    contender: Callable[[], bool] | None = None
    devices: Callable[[], Sequence[str]] = tuple


class Backend(Protocol):
    """Planes in, planes out.

    One thread at a time calls `submit` or the backend itself; what `submit` returns may be called by any thread at any
    time, once. Nobody writes into the planes of a batch before its result is there.

    description: one line for people: device, precision, model.
    context: how many source pixels around a part of the picture its result depends on, rounded up to even; None where
        that is unknown: it is given whole pictures.
    patch: 0 where pictures may have any size; else the work is best given in squares that take this many source pixels
        and their context, since each new size costs something.
    in_flight: how many batches are worth having submitted before the first is waited for; 1 where `submit` does the
        work itself.
    """

    scale: int
    description: str
    patch: int
    in_flight: int

    @property
    def context(self) -> int | None: ...

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        """A batch of the spec's source format -> the same pictures `scale` times as large in its result format.

        The result's pts and durations are the source's. Its planes are new arrays, the caller's to keep. The same batch
        gives the same bytes each time, and a frame's result does not depend on the others of its batch.
        """
        ...

    def submit(self, batch: FrameBatch) -> Pending:
        """Begin the work; the result of what is returned is that of `backend(batch)`. Batches end in any order."""
        ...

    def settle(self, width: int, height: int, patches: bool = True) -> dict[str, Any]:
        """All that a result's bits depend on and the spec leaves to the machine, decided now for pictures of that size.

        patches: whether parts of pictures will come, too. Plain values by name, such as {"backend": "cpu", "precision":
        "bf16", "tile": 0}: a run that goes on elsewhere or later must come to the same.
        """
        ...

    def close(self) -> None:
        """Give back memory and devices; the backend is not called again, nor what it has pending."""
        ...


class Immediate:
    """`submit` for a backend that has no device to leave the work to."""

    in_flight = 1
    patch = 0

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        raise NotImplementedError

    def submit(self, batch: FrameBatch) -> Pending:
        result = self(batch)
        return lambda: result

    def settle(self, width: int, height: int, patches: bool = True) -> dict[str, Any]:
        return {"backend": type(self).__name__}
