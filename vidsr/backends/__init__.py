"""Backends by name. Importing this package imports neither PyTorch nor anything else that is slow to load."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import replace

from vidsr.backends.base import Backend, BackendSpec, Notify
from vidsr.errors import BackendError, UsageError

GPU_BACKENDS = ("tensorrt", "cuda")
_NAMES = ("tensorrt", "cuda", "cpu", "nearest")  # "auto" takes the first of these that runs here, and never nearest


def open_backend(spec: BackendSpec, notify: Notify | None = None) -> Backend:
    """The backend `spec` describes, or the first of `spec.instead` that opens where it does not, ready to be called.

    notify: told, in one line each, what makes the work slower than asked for; Python warnings by default.
    UsageError for a name that is none; BackendError where it cannot run; ModelError for unreadable weights.
    """
    for name, following in zip((spec.name, *spec.instead), spec.instead, strict=False):
        try:
            return _open(replace(spec, name=name), notify)
        except BackendError as error:
            (notify or warnings.warn)(f"{error}; going on with --backend {following}")
    return _open(replace(spec, name=(spec.name, *spec.instead)[-1]), notify)


def _open(spec: BackendSpec, notify: Notify | None) -> Backend:
    if spec.name not in _NAMES:
        raise UsageError(f"backend {spec.name!r}: use one of {', '.join(_NAMES)}")
    reason = available_backends()[spec.name]
    if reason:
        raise BackendError(reason)
    if spec.name == "nearest":
        from vidsr.backends.nearest import NearestBackend

        return NearestBackend(spec)
    if spec.name == "cpu":
        from vidsr.backends.cpu import open_cpu

        return open_cpu(spec, notify)
    if spec.name == "cuda":
        from vidsr.backends.cuda import open_cuda

        return open_cuda(spec, notify)
    from vidsr.backends.tensorrt.body import open_tensorrt

    return open_tensorrt(spec, notify)


def available_backends() -> dict[str, str | None]:
    """Every backend, the fastest first: None when it runs here, else one line why not."""
    if importlib.util.find_spec("torch") is None:
        missing = "PyTorch is not installed: pip install torch"
        return {name: None if name == "nearest" else f"{name}: {missing}" for name in _NAMES}
    from vidsr.backends.gpu import cuda_missing
    from vidsr.backends.tensorrt.body import tensorrt_missing

    return {"tensorrt": tensorrt_missing(), "cuda": cuda_missing(), "cpu": None, "nearest": None}


def choose_backend(name: str = "auto", precision: str = "auto") -> str:
    """`name` itself, or for "auto" the fastest backend that runs here, at `precision` if one is asked for.

    UsageError for a name that is none; BackendError, with the reason, for one that cannot run here.
    """
    backends = available_backends()
    if name == "auto":
        unfit = {"nearest"} if precision in ("auto", "fp16") else {"nearest", "tensorrt"}  # engines are fp16
        name = next((n for n in _NAMES if n not in unfit and backends[n] is None), "cpu")
    if name not in backends:
        raise UsageError(f"backend {name!r}: use auto or one of {', '.join(_NAMES)}")
    reason = backends[name]
    if reason:
        raise BackendError(reason)
    return name


def fallbacks(name: str) -> tuple[str, ...]:
    """The slower backends that run here, the fastest first: what "auto" goes on with where `name` fails to open."""
    if name not in _NAMES[:-1]:
        return ()
    backends = available_backends()
    return tuple(other for other in _NAMES[_NAMES.index(name) + 1 : -1] if backends[other] is None)
