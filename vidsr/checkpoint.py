"""Weights on disk: safetensors with metadata, read back into generators. Never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from vidsr.errors import ModelError, UsageError

if TYPE_CHECKING:  # PyTorch takes seconds to load: only what touches tensors imports it
    from torch import nn

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ModelInfo:
    """A weights file without its weights. metadata: what the trainer wrote (architecture, data, licence, metrics)."""

    name: str
    path: Path
    metadata: Mapping[str, str] = field(default_factory=dict)


def installed_models() -> list[ModelInfo]:
    """The models that ship with this package, by name."""
    return [_read_info(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]


def find_model(name: str) -> ModelInfo:
    """`name` is an installed model's name or the path of a .safetensors file. UsageError when there is neither."""
    path = Path(name)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise UsageError(f"{name}: no such weights file")
        return _read_info(path)
    path = WEIGHTS / f"{name}.safetensors"
    if "/" in name or not path.is_file():
        known = ", ".join(p.stem for p in sorted(WEIGHTS.glob("*.safetensors"))) or "none"
        raise UsageError(f"unknown model {name!r}: use one of {known}, or the path of a .safetensors file")
    return _read_info(path)


def load_generator(path: str | Path) -> nn.Module:
    """The generator in `path`, float32, in eval mode, on the CPU. ModelError when the file is not one of ours."""
    from vidsr.models import ARCHITECTURES

    info = _read_info(Path(path))
    architecture = info.metadata.get("architecture", "")
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"{path}: unknown architecture {architecture!r}: expected one of {known} in its metadata")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = ((key, file.get_tensor(key)) for key in file.keys())  # noqa: SIM118 (it is no dict)
            state = {key: value.float() if value.is_floating_point() else value for key, value in tensors}
        return ARCHITECTURES[architecture].from_state_dict(state, info.metadata).eval()
    except (KeyError, IndexError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path}: not the weights of a {architecture} generator ({reason})") from error


def save_generator(generator: nn.Module, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write `generator`'s weights and `metadata` (plus its architecture and hyper-parameters) to `path`, atomically."""
    from safetensors.torch import save_file

    path = Path(path)
    described: Any = generator
    own = {"architecture": described.NAME} | {k: str(v) for k, v in described.hyperparameters.items()}
    partial = path.with_name(path.name + ".part")
    state = {key: value.detach().cpu().contiguous() for key, value in generator.state_dict().items()}
    save_file(state, partial, metadata={**metadata, **own})
    partial.chmod(0o644)  # safetensors leaves it to its owner alone
    partial.replace(path)


def _read_info(path: Path) -> ModelInfo:
    try:
        with safe_open(path, framework="numpy") as file:
            return ModelInfo(path.stem, path, dict(file.metadata() or {}))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a safetensors file ({str(error).splitlines()[0]})") from error
