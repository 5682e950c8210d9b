"""What TensorRT and its converters say while they work: to their loggers alone, and nowhere else why they failed."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from vidsr.errors import first_line

_TENSORRT = "torch_tensorrt [TensorRT Conversion Context]"  # where Torch-TensorRT logs what TensorRT says
_LOGGERS = ("torch.onnx", "torch.export", "torch_tensorrt", _TENSORRT)
_MEMORY = re.compile(r"out.?of.?memory|(memory|buffer).*(allocat|insufficient)|(allocat|insufficient).*memory", re.I)


class Heard(logging.Handler):
    """What TensorRT and Torch-TensorRT say to nobody but their loggers.

    reason: the last error that TensorRT said.  memory: whether it said that memory is short, if only in a warning: then
        it tries other kernels, and its last error is that there is none.
    errors: what Torch-TensorRT logged and did not raise, the last first. 2.11 goes on after a failed build, up to an
        UnboundLocalError.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reason, self.memory = "", False
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _TENSORRT:
            self.hear(record.levelno >= logging.ERROR, record.getMessage())
        elif record.name.startswith("torch_tensorrt") and record.exc_info and record.exc_info[1]:
            self.errors[:0] = causes(record.exc_info[1])

    def hear(self, error: bool, message: str) -> None:
        self.memory = self.memory or bool(_MEMORY.search(message))
        if error and message.strip():
            self.reason = first_line(message)


_hearing: list[Heard] = []
_before: list[tuple[logging.Logger, int, bool]] = []  # as the loggers were while nobody was hearing
_changing = threading.Lock()


@cache
def logger_of(trt: Any) -> Any:
    """What TensorRT's own objects are to be given. trt: its Python module."""

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def log(self, severity: Any, message: str) -> None:
            error = severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)
            if error or severity == trt.ILogger.WARNING:
                for heard in list(_hearing):
                    heard.hear(error, message)

    return Logger()


@contextmanager
def listening() -> Iterator[Heard]:
    """Hear what is said, in place of the user's terminal; several threads may at once, each of which hears it all.

    TensorRT says everything to the first logger that it was given in a process, which may be Torch-TensorRT's or ours.
    """
    heard = Heard()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with _changing:
        if not _hearing:
            _before[:] = [(logger, logger.level, logger.propagate) for logger in loggers]
        _hearing.append(heard)
        for logger in loggers:
            logger.addHandler(heard)
            logger.setLevel(logging.WARNING)
            logger.propagate = False
    try:
        yield heard
    finally:
        with _changing:
            _hearing.remove(heard)
            for logger in loggers:
                logger.removeHandler(heard)
            for logger, level, propagate in () if _hearing else _before:
                logger.setLevel(level)
                logger.propagate = propagate


@contextmanager
def quietly() -> Iterator[Heard]:
    """The exporters tell of their progress in warnings and log lines that are of no use to anybody here."""
    with listening() as heard, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield heard


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
