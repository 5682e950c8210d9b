"""Compiled engines as files.

`<digest>.engine` is a line `vidsr-engine 1 sha256 SEAL`, a header (one line of JSON), and the engine's bytes; never a
pickle. The seal is the header's SHA-256, and the header holds the engine's length and SHA-256, so that damage is found,
in a listing as in a load. None of it says who wrote the file, and an engine is code that the GPU's runtime executes:
that only this user can have put it there is for `read` and the cache to see to.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vidsr.errors import OutputError, UsageError
from vidsr.files import write_whole

_POSIX = os.name == "posix"  # elsewhere files have no owner and modes to check
_NAME, _MAGIC = b"vidsr-engine ", b"vidsr-engine 1 sha256"
_FIRST_BYTES, _HEADER_BYTES = 128, 256 << 10  # the most that is read of either line


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine's bytes and their fitness depend on.

    graph: hexadecimal SHA-256 of the exported graph and its weights.
    shape: N, C, H, W of the input.  dtype: "fp16".
    gpu: name of the device, driver: its version; both "" for an engine built ahead for other machines.
    capabilities: compute capabilities it was built for, ("8.9",); several for one built ahead.
    package: "tensorrt" or "tensorrt_rtx".  exporter: name and version, "onnx 1.23.2".  torch: version.
    """

    graph: str
    shape: tuple[int, int, int, int]
    dtype: str
    gpu: str
    capabilities: tuple[str, ...]
    driver: str
    package: str
    package_version: str
    exporter: str
    torch: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 over all fields: the name of the file."""
        return hashlib.sha256(_json(asdict(self))).hexdigest()

    def serves(self, wanted: EngineKey) -> bool:
        """Whether an engine of this key may run where one of `wanted`, with its single capability, is asked for."""
        if self == wanted:
            return True
        fields = ("graph", "shape", "dtype", "package", "package_version")
        same = all(getattr(self, name) == getattr(wanted, name) for name in fields)
        return same and self.gpu == "" and len(wanted.capabilities) == 1 and wanted.capabilities[0] in self.capabilities


@dataclass(frozen=True)
class StoredEngine:
    """An engine and what is known of it, or the memory of one that must not be used.

    engine: b"" when refused.  model: name of the weights, for people.  seconds: building took.  built: ISO 8601, UTC.
    psnr: in dB, of its result against PyTorch's in FP32; None: not compared yet.
    refused: in one line, why it must not be used; "" when it may.
    """

    key: EngineKey
    engine: bytes
    model: str
    seconds: float
    built: str
    psnr: float | None = None
    refused: str = ""


def write_portable(folder: Path, stored: StoredEngine) -> Path:
    """Write an engine for other machines into `folder`, which is made if need be. OutputError when that fails."""
    path = folder / f"{stored.key.digest}.engine"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, *pack(stored))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({why(error)}); choose another folder with -o") from error
    return path


def read_portable(path: Path) -> StoredEngine:
    """An engine of `write_portable`, whole and unchanged, whatever its file is called; UsageError when it is not.

    That says nothing of who made it: take engines only from people whose programs you would run.
    """
    try:
        return read(path, private=False)
    except (Rejected, OSError) as error:
        cure = "copy it again, or make it with python -m engines build -o FOLDER"
        raise UsageError(f"{path}: not an engine that can be added ({why(error)}); {cure}") from error


class Rejected(Exception):
    """Why a file or a folder is not believed."""


def why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def check_owner(info: os.stat_result) -> None:
    """Rejected when anybody but this user may have changed what `info` is of."""
    if _POSIX and info.st_uid != os.geteuid():
        raise Rejected("another user owns it")
    if _POSIX and info.st_mode & 0o022:
        raise Rejected("other users may change it")


def pack(stored: StoredEngine) -> tuple[bytes, bytes, bytes]:
    """What is written: first line, header, engine."""
    fields = asdict(replace(stored, engine=b""))
    del fields["engine"]
    header = _json(fields | {"bytes": len(stored.engine), "sha256": hashlib.sha256(stored.engine).hexdigest()}) + b"\n"
    return _seal(header), header, stored.engine


def read(path: Path, private: bool = True, content: bool = True) -> StoredEngine:
    """The engine in a file; without `content` all but its bytes. OSError, Rejected.

    private: the file must be this user's alone, no link, and have its engine's name. Nobody can put another in its
    place between check and reading: its folder is the user's alone, too.
    """
    info = os.lstat(path) if private else os.stat(path)
    if not stat.S_ISREG(info.st_mode):  # a planted pipe would block
        raise Rejected("a link, not a file" if stat.S_ISLNK(info.st_mode) else "not a file")
    if private:
        check_owner(info)
    with open(path, "rb") as file:
        first, header = file.readline(_FIRST_BYTES), file.readline(_HEADER_BYTES)
        if not first.startswith(_MAGIC + b" "):
            raise Rejected("its format is another vidsr's" if first.startswith(_NAME) else "not an engine file")
        if first != _seal(header):
            raise Rejected("damaged")
        stored, size, sha256 = _parse(header)
        if private and path.name != f"{stored.key.digest}.engine":
            raise Rejected("the file of another engine, renamed")
        if os.fstat(file.fileno()).st_size != file.tell() + size:  # another process may have put a new one there
            raise Rejected("damaged: its length is wrong")
        engine = file.read(size) if content else b""
    if content and hashlib.sha256(engine).hexdigest() != sha256:
        raise Rejected("damaged: its bytes have changed")
    return replace(stored, engine=engine)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def _seal(header: bytes) -> bytes:
    return _MAGIC + b" " + hashlib.sha256(_MAGIC + b"\n" + header).hexdigest().encode() + b"\n"


def _parse(header: bytes) -> tuple[StoredEngine, int, str]:
    """Header line -> engine without bytes, their number, their SHA-256."""
    cast: dict[str, Callable[[Any], Any]] = {
        "shape": lambda value: tuple(map(int, value)), "capabilities": lambda value: tuple(map(str, value)),
        "options": lambda value: tuple((str(name), str(option)) for name, option in value),
        "seconds": float, "psnr": lambda value: None if value is None else float(value), "bytes": int,
    }  # fmt: skip
    try:
        raw = json.loads(header)
        key = EngineKey(**{name: cast.get(name, str)(value) for name, value in raw.pop("key").items()})
        fields = {name: cast.get(name, str)(value) for name, value in raw.items()}
        size, sha256 = fields.pop("bytes"), fields.pop("sha256")
        stored = StoredEngine(key, b"", **fields)
        if len(key.shape) != 4 or bool(size) == bool(stored.refused):
            raise ValueError("contradicts itself")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise Rejected("its header is damaged") from error
    return stored, size, sha256
