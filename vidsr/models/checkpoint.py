"""Weights on disk, ours and those of others, read back into generators; ours are safetensors with metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from vidsr.errors import ModelError, UsageError, first_line
from vidsr.files import write_whole

if TYPE_CHECKING:  # PyTorch takes seconds to load: only what touches tensors imports it
    from torch import nn

WEIGHTS = Path(__file__).parent / "weights"
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")  # the last three are PyTorch's own files
MOST_SCALE = 8


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


def load_generator(path: str | Path, notify: Callable[[str], None] | None = None) -> nn.Module:
    """The generator in `path`, float32, in eval mode, on the CPU.

    notify: told, in one line each, what was assumed of it and what cannot be done with it.
    ModelError when there is none in it, or none that enlarges RGB pictures.
    """
    from vidsr.models.architectures import ARCHITECTURES, identify
    from vidsr.models.other import load_other
    from vidsr.models.statedict import read_state, variants

    path, notify = Path(path), notify or (lambda line: None)
    state, metadata = read_state(path)
    named = ARCHITECTURES.get(metadata.get("architecture", ""))
    kinds = [(named, state)] if named else [(identify(variant), variant) for variant in variants(state)]
    kind, own = next((found for found in kinds if found[0]), (None, state))
    if kind is None:
        generator: Any = load_other(path, state, notify)
    else:
        try:
            generator = kind.from_state_dict(own, metadata).eval()
        except (KeyError, IndexError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: not the weights of a {kind.NAME} generator ({first_line(error)})") from error
        if assumed := kind.assumed(own, metadata):
            notify(f"{path.name}: {assumed}")
    numbers = [value for value in state.values() if value.is_floating_point()]
    # Others keep masks among their weights, where infinity has a meaning.
    if not all((value.isfinite() if kind else ~value.isnan()).all() for value in numbers):
        raise ModelError(f"{path}: some weights are NaN or infinity; take an earlier file of its training")
    if not 2 <= generator.scale <= MOST_SCALE:
        raise ModelError(f"{path}: gives {generator.scale}x the size; vidsr takes models of 2x to {MOST_SCALE}x")
    return generator


def save_generator(generator: nn.Module, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write `generator`'s weights and `metadata` (plus its architecture and hyper-parameters) to `path`, atomically."""
    from safetensors.torch import save

    described: Any = generator
    own = {"architecture": described.NAME} | {k: str(v) for k, v in described.hyperparameters.items()}
    state = {key: value.detach().cpu().contiguous() for key, value in generator.state_dict().items()}
    write_whole(Path(path), save(state, metadata={**metadata, **own}))


def _read_info(path: Path) -> ModelInfo:
    if path.suffix.lower() != ".safetensors":
        return ModelInfo(path.stem, path)
    try:
        with safe_open(path, framework="numpy") as file:
            return ModelInfo(path.stem, path, dict(file.metadata() or {}))
    except (SafetensorError, OSError) as error:
        from vidsr.models.statedict import not_safetensors

        raise not_safetensors(path, error) from error
