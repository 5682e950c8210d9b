"""Compiled engines on disk, such that nobody can slip in one that this user's vidsr did not write on this machine.

An engine is code that the GPU's runtime executes: a file is believed only when its signature fits. `<digest>.engine` is
a line `vidsr-engine 1 hmac-sha256 SIGNATURE`, a header (one line of JSON), and the engine's bytes; never a pickle. The
signature is the header's, made with the secret of the cache; the header holds the engine's length and SHA-256, so that
a listing is as trustworthy as a load. Files for other machines are sealed by a plain SHA-256 (`write_portable`).
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import secrets
import shlex
import stat
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs

from vidsr.errors import OutputError, UsageError

DEFAULT_LIMIT = 2 << 30  # bytes
_POSIX = os.name == "posix"  # elsewhere files have no owner and modes to check
_NAME, _MAGIC = b"vidsr-engine ", b"vidsr-engine 1 "
_FIRST_BYTES, _HEADER_BYTES = 128, 256 << 10  # the most that is read of either line
_STALE_SECONDS = 3600  # no writer takes that long: it crashed


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


@dataclass(frozen=True)
class Entry:
    """A file of the cache. size: bytes of the file; used: when last, in seconds since the epoch.

    stored: with engine=b"", which is not read; None when `reason` says why the file is not believed.
    """

    path: Path
    size: int
    used: float
    stored: StoredEngine | None
    reason: str = ""


class EngineCache:
    """Engines of this user on this machine. Whatever is wrong with the folder, only `add` raises: engines are rebuilt.

    folder: $VIDSR_CACHE/engines by default, else "engines" in the user's cache folder of vidsr.
    limit_bytes: $VIDSR_ENGINE_CACHE_MIB by default, else 2 GiB; UsageError where that variable is no number.
    notify: told in one line of each file rejected, and once of a folder not to be used; `warnings.warn` by default.
    """

    def __init__(
        self, folder: Path | None = None, limit_bytes: int | None = None, notify: Callable[[str], None] | None = None
    ) -> None:
        self.folder = _default_folder() if folder is None else folder
        self.limit_bytes = _default_limit() if limit_bytes is None else limit_bytes
        self._notify = notify or (lambda line: warnings.warn(line, RuntimeWarning, stacklevel=4))
        self._told = False

    def get(self, key: EngineKey) -> StoredEngine | None:
        """The engine or refusal of `key` itself, else an engine built ahead that serves it; None: build one.

        What is then learnt of one built ahead (its key is another) goes for this GPU only: put it back under `key`.
        """
        exact = self._path(key)
        stored = self._load(exact)
        for entry in () if stored else self.entries():
            ahead = entry.stored
            if ahead and not ahead.refused and entry.path != exact and ahead.key.serves(key):
                stored = stored or self._load(entry.path)
        return stored

    def put(self, stored: StoredEngine) -> bool:
        """Keep an engine or a refusal, in place of what had its key; False, and notify is told, when that failed."""
        assert bool(stored.engine) != bool(stored.refused), "either an engine, or why there is none"
        path = self._path(stored.key)
        try:
            _write(path, _pack(stored, self._secret(create=True)))
        except (_Rejected, OSError) as error:
            self._trouble(error)
            return False
        self.prune(keep=path)
        return True

    def entries(self) -> list[Entry]:
        """Every file of the cache, the last used first. Reads headers only, never rejects."""
        entries = []
        secret = self._known_secret()
        for path, info in self._files()[::-1] if secret else ():
            if path.suffix == ".engine":
                try:
                    stored = _read(path, secret, content=False)
                    entries.append(Entry(path, info.st_size, info.st_mtime, stored))
                except FileNotFoundError:
                    pass  # another process deleted it
                except (_Rejected, OSError) as error:
                    entries.append(Entry(path, info.st_size, info.st_mtime, None, _text(error)))
        return entries

    def remove(self, entry: Entry) -> bool:
        """Delete one file; False when it is gone already or cannot be deleted."""
        return _delete(entry.path)

    def clear(self) -> int:
        """Delete every engine and leftover; how many. The secret stays, for those who are at work here."""
        return sum(_delete(path) for path, _ in self._files())

    def prune(self, keep: Path | None = None) -> int:
        """Delete leftovers of crashed writers, then the least recently used engines over the limit; how many.

        keep: not deleted, even if it is over the limit alone.
        """
        files = self._files()
        old = [p for p, info in files if p.suffix == ".part" and time.time() - info.st_mtime > _STALE_SECONDS]
        removed = sum(map(_delete, old))
        engines = [(path, info.st_size) for path, info in files if path.suffix == ".engine"]
        excess = sum(size for _, size in engines) - self.limit_bytes
        for path, size in engines:
            if excess > 0 and path != keep and _delete(path):
                excess -= size
                removed += 1
        return removed

    def add(self, source: Path) -> list[StoredEngine]:
        """Trust engines built elsewhere, a file of `write_portable` or a folder of them; those that are now kept.

        They count as not compared, which each GPU does for itself, and replace refusals of what they serve.
        UsageError, before anything is kept, when there are none or one cannot be read.
        """
        paths = sorted(source.glob("*.engine")) if os.path.isdir(source) else [source]
        if not paths:
            raise UsageError(f"{source}: no .engine files in it; make some with python -m engines build -o {source}")
        kept = [stored for stored in [replace(read_portable(path), psnr=None) for path in paths] if self.put(stored)]
        for entry in self.entries():
            key = entry.stored.key if entry.stored and entry.stored.refused else None
            if key and any(new.engine and new.key.serves(key) for new in kept):
                self.remove(entry)
        return kept

    def _path(self, key: EngineKey) -> Path:
        return self.folder / f"{key.digest}.engine"

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        """All engines and leftovers, the least recently used first; none where the folder is not to be used."""
        files = []
        try:
            for path in self.folder.iterdir() if self._known_secret() else ():
                if path.suffix in (".engine", ".part"):
                    try:
                        files.append((path, os.lstat(path)))
                    except FileNotFoundError:
                        pass  # another process deleted it
        except OSError as error:
            self._trouble(error)
        return sorted(files, key=lambda file: file[1].st_mtime_ns)

    def _load(self, path: Path) -> StoredEngine | None:
        secret = self._known_secret()
        if secret is None:
            return None
        try:
            stored = _read(path, secret)
        except FileNotFoundError:
            return None
        except (_Rejected, OSError) as error:
            if isinstance(error, _Rejected):
                _delete(path)
            self._notify(f"{path}: engine rejected ({_text(error)}); it is built again")
            return None
        try:
            os.utime(path)
        except OSError:
            pass  # deleted meanwhile, or a folder that only lets us read: the engine is good all the same
        return stored

    def _known_secret(self) -> bytes | None:
        """None when there is no cache yet, or, which is told, none to be used."""
        try:
            return self._secret()
        except FileNotFoundError:
            return None
        except (_Rejected, OSError) as error:
            self._trouble(error)
            return None

    def _secret(self, create: bool = False) -> bytes:
        """The 32 bytes that sign, once folder and secret are found to be this user's alone.

        Makes the secret wherever there is a folder: what one without a secret holds has been signed by nobody.
        """
        if str(self.folder).startswith("~"):  # as nobody's home is written
            raise _Rejected("no home folder to keep compiled engines in; set VIDSR_CACHE to a folder you can write to")
        if create and not os.path.lexists(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = os.stat(self.folder)
        if not stat.S_ISDIR(info.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        path = self.folder / "secret"
        try:
            cure = f"chmod 700 {shlex.quote(str(self.folder))}, or set VIDSR_CACHE to a folder of your own"
            _check_owner(info, 0o022)
            if not os.path.lexists(path):
                try:
                    # Unlike a rename, a link never replaces the secret that another process has just made.
                    _write(path, [secrets.token_bytes(32)], place=os.link)
                except FileExistsError:
                    pass
            cure = f"rm {shlex.quote(str(path))}, then engines are built again"
            with _open(path, private=True, forbidden=0o077) as file:
                secret = file.read(33)
            if len(secret) != 32:
                raise _Rejected("the secret is damaged")
        except _Rejected as error:
            raise _Rejected(f"{self.folder}: compiled engines there are not trusted ({error}); {cure}") from error
        return secret

    def _trouble(self, error: Exception) -> None:
        line = str(error)
        if isinstance(error, OSError):
            why = f"compiled engines cannot be kept there ({_text(error)}) and are built each time"
            line = f"{self.folder}: {why}; set VIDSR_CACHE to a folder you can write to"
        if not self._told:
            self._told = True
            self._notify(line)


def write_portable(folder: Path, stored: StoredEngine) -> Path:
    """Write an engine for other machines into `folder`, which is made if need be. OutputError when that fails."""
    path = folder / f"{stored.key.digest}.engine"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, _pack(stored, None), mode=0o644)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({_text(error)}); choose another folder with -o") from error
    return path


def read_portable(path: Path) -> StoredEngine:
    """An engine of `write_portable`, whole and unchanged, whatever its file is called; UsageError when it is not.

    That says nothing of who made it: take engines only from people whose programs you would run.
    """
    try:
        return _read(path, None)
    except (_Rejected, OSError) as error:
        cure = "copy it again, or make it with python -m engines build -o FOLDER"
        raise UsageError(f"{path}: not an engine that can be added ({_text(error)}); {cure}") from error


class _Rejected(Exception):
    """Why a file or a folder is not believed."""


def _text(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _default_folder() -> Path:
    named = os.environ.get("VIDSR_CACHE")
    return Path(os.path.expanduser(named) if named else platformdirs.user_cache_dir("vidsr", False)) / "engines"


def _default_limit() -> int:
    text = os.environ.get("VIDSR_ENGINE_CACHE_MIB")
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise UsageError(f"VIDSR_ENGINE_CACHE_MIB={text!r}: give a whole number of MiB, such as 2048, or unset it")
    return int(text) << 20


def _delete(path: Path) -> bool:
    try:
        path.unlink()
        return True
    except OSError:
        return False


def _check_owner(info: os.stat_result, forbidden: int) -> None:
    if _POSIX and info.st_uid != os.geteuid():
        raise _Rejected("another user owns it")
    if _POSIX and info.st_mode & forbidden:
        raise _Rejected("other users may change it")


def _open(path: Path, private: bool, forbidden: int = 0o022) -> BinaryIO:
    """Open a regular file; a private one has to be this user's alone, and no link. OSError, _Rejected."""
    if private and path.is_symlink():
        raise _Rejected("a link, not a file")
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a planted pipe must not block
    descriptor = os.open(path, flags | (getattr(os, "O_NOFOLLOW", 0) if private else 0))
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise _Rejected("not a file")
        if private:
            _check_owner(info, forbidden)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _write(
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


def _pack(stored: StoredEngine, secret: bytes | None) -> tuple[bytes, bytes, bytes]:
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
        raise _Rejected("its header is damaged") from error
    return stored, size, sha256


def _read(path: Path, secret: bytes | None, content: bool = True) -> StoredEngine:
    """Without a secret a portable file; without content all but the engine's bytes. OSError, _Rejected."""
    with _open(path, private=secret is not None) as file:
        first, header = file.readline(_FIRST_BYTES), file.readline(_HEADER_BYTES)
        if not first.startswith(_MAGIC):
            other = first.startswith(_NAME)
            raise _Rejected("its format is another vidsr's" if other else "not an engine file")
        if not hmac.compare_digest(first, _seal(header, secret)):
            raise _Rejected("damaged" if secret is None else "not written by your vidsr on this machine, or damaged")
        stored, size, sha256 = _parse(header)
        if secret is not None and path.name != f"{stored.key.digest}.engine":
            raise _Rejected("the file of another engine, renamed")
        if os.fstat(file.fileno()).st_size != file.tell() + size:
            raise _Rejected("damaged: its length is wrong")
        engine = file.read(size) if content else b""
    if content and hashlib.sha256(engine).hexdigest() != sha256:
        raise _Rejected("damaged: its bytes have changed")
    return replace(stored, engine=engine)
