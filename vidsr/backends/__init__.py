"""Backends by name. Importing this package imports neither PyTorch nor anything else that is slow to load."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from vidsr.backends.base import Backend, BackendSpec
from vidsr.errors import BackendError, UsageError

_NAMES = ("cuda", "cpu", "nearest")  # "auto" takes the first of these that runs here, and never nearest


def open_backend(spec: BackendSpec, notify: Callable[[str], None] | None = None) -> Backend:
    """The backend `spec` describes, ready to be called.

    notify: told, in one line each, what makes the work slower than asked for; Python warnings by default.
    UsageError for a name that is none; BackendError where it cannot run; ModelError for unreadable weights.
    """
    if spec.name not in _NAMES:
        raise UsageError(f"backend {spec.name!r}: use one of {', '.join(_NAMES)}")
    if spec.name == "nearest":
        from vidsr.backends.nearest import NearestBackend

        return NearestBackend(spec)
    reason = available_backends()[spec.name]
    if reason:
        raise BackendError(reason)
    from vidsr.backends.pytorch import open_torch

    return open_torch(spec, notify)


def available_backends() -> dict[str, str | None]:
    """Every backend, the fastest first: None when it runs here, else one line why not."""
    if importlib.util.find_spec("torch") is None:
        missing = "PyTorch is not installed: pip install torch"
        return {"cuda": f"cuda: {missing}", "cpu": f"cpu: {missing}", "nearest": None}
    from vidsr.backends.pytorch import cuda_missing

    return {"cuda": cuda_missing(), "cpu": None, "nearest": None}


def choose_backend(name: str = "auto") -> str:
    """`name` itself, or for "auto" the fastest backend that runs here.

    UsageError for a name that is none; BackendError, with the reason, for one that cannot run here.
    """
    backends = available_backends()
    if name == "auto":
        name = next((n for n in _NAMES if n != "nearest" and backends[n] is None), "cpu")
    if name not in backends:
        raise UsageError(f"backend {name!r}: use auto or one of {', '.join(_NAMES)}")
    reason = backends[name]
    if reason:
        raise BackendError(reason)
    return name
