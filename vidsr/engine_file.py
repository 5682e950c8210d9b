"""Compiled engines as files that show who wrote them.

An engine is code that the GPU's runtime executes: a file is believed only when its seal fits. `<digest>.engine` is a
line `vidsr-engine 1 hmac-sha256 SIGNATURE`, a header (one line of JSON), and the engine's bytes; never a pickle. The
signature is the header's, made with the secret of a cache; the header holds the engine's length and SHA-256, so that
a listing is as trustworthy as a load. Files for other machines are sealed by a plain SHA-256 (`write_portable`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from vidsr.errors import OutputError, UsageError

_POSIX = os.name == "posix"  # elsewhere files have no owner and modes to check
_NAME, _MAGIC = b"vidsr-engine ", b"vidsr-engine 1 "
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
        write_file(path, pack(stored, None), mode=0o644)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({why(error)}); choose another folder with -o") from error
    return path


def read_portable(path: Path) -> StoredEngine:
    """An engine of `write_portable`, whole and unchanged, whatever its file is called; UsageError when it is not.

    That says nothing of who made it: take engines only from people whose programs you would run.
    """
    try:
        return read(path, None)
    except (Rejected, OSError) as error:
        cure = "copy it again, or make it with python -m engines build -o FOLDER"
        raise UsageError(f"{path}: not an engine that can be added ({why(error)}); {cure}") from error


class Rejected(Exception):
    """Why a file or a folder is not believed."""


def why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def check_owner(info: os.stat_result, forbidden: int) -> None:
    if _POSIX and info.st_uid != os.geteuid():
        raise Rejected("another user owns it")
    if _POSIX and info.st_mode & forbidden:
        raise Rejected("other users may change it")


def open_file(path: Path, private: bool, forbidden: int = 0o022) -> BinaryIO:
    """Open a regular file; a private one has to be this user's alone, and no link. OSError, Rejected."""
    if private and path.is_symlink():
        raise Rejected("a link, not a file")
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a planted pipe must not block
    descriptor = os.open(path, flags | (getattr(os, "O_NOFOLLOW", 0) if private else 0))
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise Rejected("not a file")
        if private:
            check_owner(info, forbidden)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def write_file(
    path: Path, parts: Iterable[bytes], mode: int = 0o600, place: Callable[[Path, Path], None] = os.replace
) -> None:
    """The whole file or none: written under another name, forced to the disk, then put in place."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(descriptor)
        place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def _header(stored: StoredEngine, size: int, sha256: str) -> bytes:
    psnr = None if stored.psnr is None else float(stored.psnr)
    fields = asdict(replace(stored, engine=b"", seconds=float(stored.seconds), psnr=psnr))
    del fields["engine"]
    return _json(fields | {"bytes": size, "sha256": sha256}) + b"\n"


def _seal(header: bytes, secret: bytes | None) -> bytes:
    """The first line: a signature, or without a secret a content digest."""
    kind = b"sha256" if secret is None else b"hmac-sha256"
    text = _MAGIC + kind + b"\n" + header
    seal = hashlib.sha256(text).hexdigest() if secret is None else hmac.new(secret, text, "sha256").hexdigest()
    return _MAGIC + kind + b" " + seal.encode() + b"\n"


def pack(stored: StoredEngine, secret: bytes | None) -> tuple[bytes, bytes, bytes]:
    header = _header(stored, len(stored.engine), hashlib.sha256(stored.engine).hexdigest())
    return _seal(header, secret), header, stored.engine


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
        if _header(stored, size, sha256) != header or bool(size) == bool(stored.refused):
            raise ValueError("not as it is written here")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise Rejected("its header is damaged") from error
    return stored, size, sha256


def read(path: Path, secret: bytes | None, content: bool = True) -> StoredEngine:
    """Without a secret a portable file; without content all but the engine's bytes. OSError, Rejected."""
    with open_file(path, private=secret is not None) as file:
        first, header = file.readline(_FIRST_BYTES), file.readline(_HEADER_BYTES)
        if not first.startswith(_MAGIC):
            other = first.startswith(_NAME)
            raise Rejected("its format is another vidsr's" if other else "not an engine file")
        if not hmac.compare_digest(first, _seal(header, secret)):
            raise Rejected("damaged" if secret is None else "not written by your vidsr on this machine, or damaged")
        stored, size, sha256 = _parse(header)
        if secret is not None and path.name != f"{stored.key.digest}.engine":
            raise Rejected("the file of another engine, renamed")
        if os.fstat(file.fileno()).st_size != file.tell() + size:
            raise Rejected("damaged: its length is wrong")
        engine = file.read(size) if content else b""
    if content and hashlib.sha256(engine).hexdigest() != sha256:
        raise Rejected("damaged: its bytes have changed")
    return replace(stored, engine=engine)
