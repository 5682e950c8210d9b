"""The tensors of a weights file, safetensors or PyTorch's own, with nothing in it being run.

PyTorch's files are pickles, which may hold any program. They are read by `torch.load(weights_only=True)` and by nothing
else: it builds tensors and plain containers, and refuses the rest. Its one known hole was closed in PyTorch 2.6, the
oldest that vidsr takes.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from vidsr.errors import ModelError, first_line

# Where trainers put a generator's weights beside other things, the averaged ones first.
_WRAPPERS = (
    "params_ema", "params-ema", "params", "state_dict", "model_state_dict", "model", "generator", "net_g", "netG",
    "net",
)  # fmt: skip
# What stands before each name when a generator was saved as a part of something. What has no such name is left out:
# a critic, a counter of averaged steps.
_PREFIXES = ("params_ema.", "params.", "module.", "_orig_mod.", "net_g.", "netG.", "generator.")
_UNSURE = ("model.", "net.")  # some architectures have these in names of their own
_DEPTH = 4  # of wrappers in wrappers


@dataclass(frozen=True, eq=False)
class Weights:
    """A weights file, read.

    state: weights by name, on the CPU, floating ones as float32; not to be written to.
    metadata: what the file says besides. sha256: hexadecimal, of the whole file.
    """

    state: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    sha256: str


def read_weights(path: Path) -> Weights:
    """The weights of the generator in `path`, which is opened once. Wrappers and prefixes are taken off.

    ModelError for what is no weights file, or asks for more than to be read.
    """
    safetensors = path.suffix.lower() == ".safetensors"
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            content, metadata = _safetensors(path, file) if safetensors else (_pickled(path, file), {})
    except OSError as error:
        said = f"cannot be read ({error.strerror})"
        raise ModelError(f"{path}: {f'not a safetensors file ({said})' if safetensors else said}") from error
    return Weights(*_unwrapped(path, content, metadata), sha256)


def _unwrapped(path: Path, content: Any, metadata: dict[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    for _ in range(_DEPTH):
        if not isinstance(content, Mapping):
            break
        metadata = {k: str(v) for k, v in content.items() if isinstance(v, (str, int, float))} | metadata
        inner = (content.get(name) for name in _WRAPPERS)
        content = next((value for value in inner if isinstance(value, Mapping) and value), content)
    items = content.items() if isinstance(content, Mapping) else ()
    state = {key: value for key, value in items if isinstance(key, str) and _plain(value)}
    if not state:
        raise ModelError(f"{path}: holds no weights of a generator; expected a state dict, as trainers save it")
    while inside := next((part for prefix in _PREFIXES if (part := _beneath(state, prefix))), None):
        state = inside
    try:
        return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}, metadata
    except RuntimeError as error:  # shapes that need more memory than there is
        raise ModelError(f"{path}: damaged ({first_line(error)}); download it again") from error


def variants(state: Mapping[str, Tensor]) -> list[Mapping[str, Tensor]]:
    """`state`, and if a prefix is common to all names that may be the architecture's own, `state` without it."""
    without = [_beneath(state, prefix) for prefix in _UNSURE]
    return [state, *(part for part in without if len(part) == len(state))]


def _something_else(file: BinaryIO) -> str | None:
    """What is in a file that was taken for weights, with the cure; None when it may well be weights."""
    file.seek(0)
    head = file.read(512)
    if not head:
        return "is empty (0 bytes); download it again"
    if head.startswith(b"version https://git-lfs"):
        return "is only a pointer of Git LFS; fetch the file itself, with git lfs pull"
    if _is_text(head):
        return "is text, perhaps a web page saved in its place; download the file itself"
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x3a"):  # ir_version, then producer_name or graph
        return "is an ONNX model; take its .pth or .safetensors"
    if head.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError):
            return "is cut off or damaged; download it again"
        if any(name.endswith("constants.pkl") for name in names):
            return "is a TorchScript program, not weights; take its .pth or .safetensors"
        if not any(name.endswith("data.pkl") for name in names):
            return "is a zip archive; unpack it and take the weights out"
    return None


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n" for character in text)


def _safetensors(path: Path, file: BinaryIO) -> tuple[dict[str, Tensor], dict[str, str]]:
    file.seek(0)
    data = file.read()
    try:
        state = load(data)
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise _not_safetensors(path, file, error) from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return state, dict(header.get("__metadata__") or {})


def not_safetensors(path: Path, error: Exception) -> ModelError:
    """What to raise where safetensors refused `path` with `error`."""
    try:
        with open(path, "rb") as file:
            return _not_safetensors(path, file, error)
    except OSError as closed:
        return ModelError(f"{path}: not a safetensors file (cannot be read ({closed.strerror}))")


def _not_safetensors(path: Path, file: BinaryIO, error: Exception) -> ModelError:
    return ModelError(f"{path}: not a safetensors file ({_something_else(file) or first_line(error)})")


def _pickled(path: Path, file: BinaryIO) -> Any:
    if reason := _something_else(file):
        raise ModelError(f"{path}: {reason}")
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what is not weights can go wrong in any way
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked:
            raise ModelError(
                f"{path}: refused: it asks for {asked[1]}, which is code and not weights; "
                "take a .safetensors file, or a .pth of a plain state dict"
            ) from None
        raise ModelError(f"{path}: not PyTorch's weights, or damaged; download it again") from error


def _plain(value: Any) -> bool:
    """Whether it is a tensor of numbers that are there."""
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu" \
        and not value.is_quantized  # fmt: skip


def _beneath(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
