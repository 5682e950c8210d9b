"""The tensors of a weights file, safetensors or PyTorch's own, with nothing in it being run.

PyTorch's files are pickles, which may hold any program. They are read by `torch.load(weights_only=True)` and by nothing
else: it builds tensors and plain containers, and refuses the rest. Its one known hole was closed in PyTorch 2.6, the
oldest that vidsr takes.
"""

from __future__ import annotations

import codecs
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
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


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(weights by name, metadata) of the generator in `path`, on the CPU, floating ones as float32.

    Wrappers and prefixes are taken off. ModelError for what is no weights file, or asks for more than to be read.
    """
    content, metadata = _safetensors(path) if path.suffix.lower() == ".safetensors" else (_pickled(path), {})
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


def variants(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """`state`, and if a prefix is common to all names that may be the architecture's own, `state` without it."""
    without = [_beneath(state, prefix) for prefix in _UNSURE]
    return [state] + [part for part in without if len(part) == len(state)]


def something_else(path: Path) -> str | None:
    """What is in a file that was taken for weights, with the cure; None when it may well be weights."""
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
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
            with zipfile.ZipFile(path) as archive:
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


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise not_safetensors(path, error) from error


def not_safetensors(path: Path, error: Exception) -> ModelError:
    """What to raise where safetensors refused `path` with `error`."""
    return ModelError(f"{path}: not a safetensors file ({something_else(path) or first_line(error)})")


def _pickled(path: Path) -> Any:
    if reason := something_else(path):
        raise ModelError(f"{path}: {reason}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
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


def _beneath(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
