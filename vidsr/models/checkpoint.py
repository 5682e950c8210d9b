"""Weights on disk, ours and those of others, read back into generators; ours are safetensors with metadata."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from safetensors import SafetensorError, safe_open

from vidsr.errors import ModelError, UsageError, first_line
from vidsr.files import write_whole

if TYPE_CHECKING:  # PyTorch takes seconds to load: only what touches tensors imports it
    from torch import Tensor

    from vidsr.models.base import Generator
    from vidsr.models.statedict import Weights

WEIGHTS = Path(__file__).parent / "weights"
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")  # the last three are PyTorch's own files
MOST_SCALE = 8
_UNSETTLED_NS = 2 * 10**9  # how coarse the clocks of file systems are: a younger file may change and look the same


@dataclass(frozen=True)
class ModelInfo:
    """A weights file without its weights.

    metadata: what the trainer wrote (architecture, data, licence, metrics); empty for PyTorch's own files.
    """

    name: str
    path: Path
    metadata: Mapping[str, str] = field(default_factory=dict)


def installed_models() -> list[ModelInfo]:
    """The models that ship with this package, by name."""
    return [_read_info(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]


def find_model(name: str, scale: int | None = None) -> ModelInfo:
    """`name` is an installed model's name or the path of a weights file. UsageError when there is neither.

    scale: of an installed family the weights made for that scale are taken, "fast-2x" of "fast", where there are any.
    """
    path = Path(name)
    if path.suffix.lower() in SUFFIXES:
        if not path.is_file():
            raise UsageError(f"{name}: no such weights file")
        return _read_info(path)
    found = [WEIGHTS / f"{name}-{scale}x.safetensors", WEIGHTS / f"{name}.safetensors"]
    if "/" not in name:
        for path in found:
            if path.is_file():
                return _read_info(path)
    if Path(name).is_file():
        raise UsageError(f"{name}: not a kind of weights file that vidsr reads: take its .pth or .safetensors")
    known = ", ".join(p.stem for p in sorted(WEIGHTS.glob("*.safetensors"))) or "none"
    raise UsageError(f"unknown model {name!r}: use one of {known}, or the path of a .pth or .safetensors file")


def load_generator(path: str | Path, notify: Callable[[str], None] | None = None) -> Generator:
    """The generator in `path`, float32, in eval mode, on the CPU; the file is read unless it was a moment ago.

    notify: told, in one line, what was assumed of it and what cannot be done with it.
    ModelError when there is none in it, or none that enlarges RGB pictures.
    """
    path = Path(path)
    kind, state, metadata = _identified(path)
    with _Refusing(path, kind):
        generator = kind.from_state_dict(state, metadata).eval()
    _check_scale(path, generator.scale)
    if notify and generator.assumed:
        notify(f"{path.name}: {generator.assumed}")
    return generator


def model_scale(path: str | Path) -> int:
    """The scale of the generator in `path`, which is built only where its weights do not tell. ModelError as there."""
    path = Path(path)
    kind, state, metadata = _identified(path)
    with _Refusing(path, kind):
        scale = kind.scale_of(state, metadata)
    return _check_scale(path, scale)


def weights_sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a weights file. ModelError when it is none."""
    return _read_weights(Path(path)).sha256


def _identified(path: Path) -> tuple[type[Generator], Mapping[str, Tensor], Mapping[str, str]]:
    """Whose weights those in `path` are, under the names they have there, and what the file says of them."""
    from vidsr.models.architectures import ARCHITECTURES, identify
    from vidsr.models.other import Other
    from vidsr.models.statedict import variants

    weights = _read_weights(path)
    named = ARCHITECTURES.get(weights.metadata.get("architecture", ""))
    kinds = [(named, weights.state)] if named else [(identify(state), state) for state in variants(weights.state)]
    kind, state = next(((kind, state) for kind, state in kinds if kind), (Other, weights.state))
    numbers = [value for value in state.values() if value.is_floating_point()]
    # Others keep masks among their weights, where infinity has a meaning.
    if not all((~value.isnan() if kind is Other else value.isfinite()).all() for value in numbers):
        raise ModelError(f"{path}: some weights are NaN or infinity; take an earlier file of its training")
    return kind, state, weights.metadata


class _Refusing:
    """Makes one line of what an architecture says to weights that are not its own."""

    def __init__(self, path: Path, kind: type[Generator]) -> None:
        self._path, self._kind = path, kind

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModelError):
            raise ModelError(f"{self._path}: {error}") from error
        if isinstance(error, (KeyError, IndexError, ValueError, RuntimeError)):
            said = f"not the weights of a {self._kind.NAME} generator ({first_line(error)})"
            raise ModelError(f"{self._path}: {said}") from error


def _check_scale(path: Path, scale: int) -> int:
    if not 2 <= scale <= MOST_SCALE:
        raise ModelError(f"{path}: gives {scale}x the size; vidsr takes models of 2x to {MOST_SCALE}x")
    return scale


def save_generator(generator: Generator, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write `generator`'s weights and `metadata` (plus its architecture and hyper-parameters) to `path`, atomically."""
    from safetensors.torch import save

    own = {"architecture": generator.NAME} | {k: str(v) for k, v in generator.hyperparameters.items()}
    state = {key: value.detach().cpu().contiguous() for key, value in generator.state_dict().items()}
    write_whole(Path(path), save(state, metadata={**metadata, **own}))


_Content = TypeVar("_Content")


class _ReadOnce(Generic[_Content]):
    """Files by content: each is read once in a process while it stays as it is, and the last `most` are remembered."""

    def __init__(self, read: Callable[[Path], _Content], most: int) -> None:
        self._read, self._most, self._turn = read, most, Lock()
        self._known: dict[Path, tuple[tuple[int, ...], _Content]] = {}

    def __call__(self, path: Path) -> _Content:
        with self._turn:
            try:
                info = os.stat(path)
            except OSError:  # `_read` says it
                return self._read(path)
            now = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)
            then, content = self._known.pop(path, (None, None))
            if then != now or content is None:
                content = self._read(path)
            if time.time_ns() - info.st_mtime_ns > _UNSETTLED_NS:
                self._known[path] = now, content
            while len(self._known) > self._most:
                del self._known[next(iter(self._known))]
            return content


def _read_state(path: Path) -> Weights:
    from vidsr.models.statedict import read_weights

    return read_weights(path)


def _read_header(path: Path) -> ModelInfo:
    try:
        with safe_open(path, framework="numpy") as file:
            return ModelInfo(path.stem, path, dict(file.metadata() or {}))
    except (SafetensorError, OSError) as error:
        from vidsr.models.statedict import not_safetensors

        raise not_safetensors(path, error) from error


_read_weights, _read_headers = _ReadOnce(_read_state, 4), _ReadOnce(_read_header, 100)


def _read_info(path: Path) -> ModelInfo:
    return _read_headers(path) if path.suffix.lower() == ".safetensors" else ModelInfo(path.stem, path)
