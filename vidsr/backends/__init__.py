"""Backends by name. Importing this package imports neither PyTorch nor anything else that is slow to load."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import replace

from vidsr.backends.base import Backend, BackendKind, BackendSpec, Notify
from vidsr.errors import BackendError, UsageError

# The fastest first: the first that runs here is chosen. Each is the KIND of a module, imported when it is asked for.
BACKENDS = {
    "tensorrt": "vidsr.backends.tensorrt.body",
    "cuda": "vidsr.backends.cuda",
    "openvino": "vidsr.backends.openvino",
    "cpu": "vidsr.backends.cpu",
    "nearest": "vidsr.backends.nearest",
}


def backend_kind(name: str) -> BackendKind:
    """What is known of a backend, whether it runs here or not.

    UsageError for a name that is none; BackendError, with the cure, where what its module imports is not installed.
    """
    if name not in BACKENDS:
        raise UsageError(f"backend {name!r}: use auto or one of {', '.join(BACKENDS)}")
    try:
        kind = importlib.import_module(BACKENDS[name]).KIND
    except ModuleNotFoundError as error:
        title = {"torch": "PyTorch"}.get(str(error.name), error.name)
        raise BackendError(f"{name}: {title} is not installed: pip install {error.name}") from error
    assert isinstance(kind, BackendKind) and kind.name == name
    return kind


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
    kind = backend_kind(spec.name)
    if reason := kind.available():
        raise BackendError(reason)
    return kind.open(spec, notify)


def why_not(name: str) -> str | None:
    """One line why a backend cannot run here, or None when it can. UsageError for a name that is none."""
    try:
        return backend_kind(name).available()
    except BackendError as error:
        return str(error)


def available_backends() -> dict[str, str | None]:
    """Every backend, the fastest first: None when it runs here, else one line why not."""
    return {name: why_not(name) for name in BACKENDS}


def choose_backend(name: str | None = None, precision: str | None = None) -> str:
    """`name` itself, or for None the fastest backend that runs here, at `precision` if one is asked for.

    UsageError for a name that is none; BackendError, with the reason, for one that cannot run here.
    """
    if name is None:
        found = _chosen_unasked(tuple(BACKENDS))
        if not found:  # the slowest has the fewest needs
            raise BackendError([reason for reason in available_backends().values() if reason][-1])
        if precision is None:
            return found[0]
        fit = [one for one in BACKENDS if why_not(one) is None and precision in backend_kind(one).precisions]
        return (fit or found[-1:])[0]  # where none has that precision, the last says so when it is opened
    if reason := why_not(name):
        raise BackendError(reason)
    return name


def fallbacks(name: str) -> tuple[str, ...]:
    """The slower backends that run here, the fastest first: what a run goes on with where `name` fails to open."""
    names = tuple(BACKENDS)
    if name not in names or not backend_kind(name).chosen_unasked:
        return ()
    return _chosen_unasked(names[names.index(name) + 1 :])


def _chosen_unasked(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if why_not(name) is None and backend_kind(name).chosen_unasked)
