"""Backends by name. Importing this package imports neither PyTorch nor anything else that is slow to load."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import replace

from vidsr.backends.base import Backend, BackendKind, BackendSpec, Notify
from vidsr.errors import BackendError, UsageError

# The fastest first: the first that runs here is chosen, contenders only where they were measured to be faster. Each is
# the KIND of a module, imported when it is asked for.
BACKENDS = {
    "tensorrt": "vidsr.backends.tensorrt.body",
    "cuda": "vidsr.backends.cuda",
    "xpu": "vidsr.backends.xpu",
    "mps": "vidsr.backends.mps",
    "vulkan": "vidsr.backends.vulkan.backend",
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
    if spec.compiled and not kind.compiles:
        (notify or warnings.warn)(f"--compile is for PyTorch's kernels: it changes nothing with --backend {kind.name}")
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
        fit = [one for one in found if precision in backend_kind(one).precisions]
        # Else whatever has it, though it is not taken without a reason; where none has, the last says so when opened.
        worth = [kind for kind in map(_loaded, BACKENDS) if kind and (kind.contender is None or kind.contender())]
        fit += [kind.name for kind in worth if precision in kind.precisions and why_not(kind.name) is None]
        return (fit or found[-1:])[0]
    if reason := why_not(name):
        raise BackendError(reason)
    return name


def fallbacks(name: str, precision: str | None = None) -> tuple[str, ...]:
    """The slower backends that run here, the fastest first: what a run goes on with where `name` fails to open.

    precision: that is asked for; others than those that have it would only refuse it.
    """
    names = tuple(BACKENDS)
    if name not in names or not backend_kind(name).chosen_unasked:
        return ()
    slower = _chosen_unasked(names[names.index(name) + 1 :])
    return tuple(one for one in slower if precision is None or precision in backend_kind(one).precisions)


def contenders(name: str) -> tuple[str, ...]:
    """Those that run here and may be faster than `name`, which is chosen without them: see `BackendKind.contender`."""
    before = tuple(BACKENDS)[: tuple(BACKENDS).index(name)]
    kinds = [kind for kind in map(_loaded, before) if kind and kind.contender and why_not(kind.name) is None]
    return tuple(kind.name for kind in kinds if kind.contender and kind.contender())


def _chosen_unasked(names: tuple[str, ...]) -> tuple[str, ...]:
    kinds = [kind for kind in map(_loaded, names) if kind and kind.chosen_unasked and kind.contender is None]
    return tuple(kind.name for kind in kinds if why_not(kind.name) is None)


def _loaded(name: str) -> BackendKind | None:
    """As `backend_kind`; None where its module does not load."""
    try:
        return backend_kind(name)
    except BackendError:
        return None
