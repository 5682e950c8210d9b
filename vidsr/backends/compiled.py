"""The whole way from planes to planes in a few kernels, by torch.compile.

PyTorch's own kernels pass over a layer once for the convolution, once for its bias and once for the activation, and
dozens of times over the picture for its colour. Inductor keeps the libraries' convolutions and makes one kernel of all
that lies between two of them: colour in, bias and activation, skip and rounding and shuffle. It needs Triton on a GPU,
a C++ compiler on a CPU, and up to a minute for each size of picture.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vidsr.backends.base import Notify
from vidsr.backends.planes import PlaneGenerator, exactly
from vidsr.backends.trust import decibels, made_picture
from vidsr.errors import BackendError, first_line

LEAST_PSNR = 45.0  # dB against PyTorch's own kernels; another order of rounding leaves 60 and more
Way = Callable[..., tuple[Tensor, ...]]


class Ways:
    """`planes`, by a compiled way for each size of picture where that is wanted and works, else by PyTorch's kernels.

    notify: told in one line where a size cannot be compiled.
    """

    def __init__(self, planes: PlaneGenerator, wanted: bool, notify: Notify) -> None:
        self._planes, self._wanted, self._notify = planes, wanted, notify
        self._ways: dict[tuple[torch.Size, ...], Way | None] = {}

    def prepare(self, stacks: Sequence[Tensor], tile: int) -> None:
        """Compile for pictures of the size and number of `stacks`, once. Not in tiles, which come one after another."""
        key = tuple(stack.shape for stack in stacks)
        if not self._wanted or key in self._ways:
            return
        if tile:
            self._ways[key] = None
            self._notify("--compile changes nothing where pictures are worked on in tiles")
            return
        try:
            self._ways[key] = compiled_way(self._planes, stacks)
        except BackendError as error:
            self._ways[key] = None
            self._notify(f"{error}: PyTorch's own kernels do the same, slower")

    def compiled(self, stacks: Sequence[Tensor]) -> bool:
        """Whether pictures of that size and number go a compiled way."""
        return self._ways.get(tuple(stack.shape for stack in stacks)) is not None

    @torch.inference_mode()
    def __call__(self, stacks: Sequence[Tensor], tile: int = 0) -> tuple[Tensor, ...]:
        """As `PlaneGenerator`."""
        way = None if tile else self._ways.get(tuple(stack.shape for stack in stacks))
        if way is None:
            return self._planes(stacks, tile)
        with exactly(self._planes.device):
            return way(*_alike(stacks))

    def close(self) -> None:
        self._ways.clear()
        del self._planes


def compiled_way(planes: PlaneGenerator, stacks: Sequence[Tensor]) -> Way:
    """`planes` for pictures of the size and number of `stacks` [N, rows, columns], compiled, and held against PyTorch's
    own kernels on a made picture. Called as way(*stacks), in inference mode.

    BackendError, in one line, where it cannot be compiled or does not come to the same.
    """
    with torch.no_grad(), warnings.catch_warnings(), _quietly():
        warnings.simplefilter("ignore")
        try:
            # Exported first: what is compiled then is a function of its own, so that PyTorch's limit of eight sizes a
            # function does not count those of other episodes in one process.
            program = torch.export.export(_Whole(planes), tuple(stacks)).module()
            way: Way = torch.compile(program, dynamic=False, fullgraph=True)
            with torch.inference_mode(), exactly(planes.device):
                way(*_alike(stacks))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever Dynamo, Inductor, Triton and a C++ compiler raise
            raise BackendError(f"torch.compile fails ({first_line(error)})") from error
    made = _alike(made_picture(stacks, planes.spec.source_format))
    with torch.inference_mode(), exactly(planes.device):
        psnr = decibels(way(*made), planes(made), planes.spec.result_format.bits)
    if psnr < LEAST_PSNR:
        raise BackendError(f"what torch.compile makes is wrong ({psnr:.1f} dB against PyTorch's own kernels)")
    return way


def _alike(stacks: Sequence[Tensor]) -> list[Tensor]:
    """The same in inference mode's own tensors, without gaps: for any other kind PyTorch would compile anew."""
    with torch.inference_mode():
        fit = [stack.is_inference() and stack.is_contiguous() for stack in stacks]
        return [s if good else s.clone(memory_format=torch.contiguous_format) for s, good in zip(stacks, fit)]


class _Whole(nn.Module):
    def __init__(self, planes: PlaneGenerator) -> None:
        super().__init__()
        self.generator = planes.generator  # its weights, which export looks for in modules
        self._way = planes.whole_way

    def forward(self, *stacks: Tensor) -> tuple[Tensor, ...]:
        return self._way(stacks)


@contextmanager
def _quietly() -> Iterator[None]:
    """Compilers tell of their progress in log lines that are of no use to anybody here."""
    loggers = [logging.getLogger(name) for name in ("torch._dynamo", "torch._inductor", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
