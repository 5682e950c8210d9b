"""Compiled engines on disk, in a folder that only this user can put one into."""

from __future__ import annotations

import errno
import os
import shlex
import stat
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vidsr.backends.tensorrt.file import EngineKey, Rejected, StoredEngine, check_owner, pack, read, read_portable, why
from vidsr.errors import UsageError
from vidsr.files import cache_folder, make_cache_folder, write_whole

DEFAULT_LIMIT = 2 << 30  # bytes
_STALE_SECONDS = 3600  # no writer takes that long: it crashed


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

    Folder and files are believed while they are this user's and nobody else can write to them.

    folder: $VIDSR_CACHE/engines by default, else "engines" in the user's cache folder of vidsr.
    limit_bytes: $VIDSR_ENGINE_CACHE_MIB by default, else 2 GiB; UsageError where that variable is no number.
    notify: told in one line of each file rejected, and once of a folder not to be used; `warnings.warn` by default.
    """

    def __init__(
        self, folder: Path | None = None, limit_bytes: int | None = None, notify: Callable[[str], None] | None = None
    ) -> None:
        self.folder = cache_folder("engines") if folder is None else folder
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
        """Keep an engine or a refusal, in place of what had its key; False, and notify is told, when that failed.

        An engine built ahead takes the place of refusals of what it serves, too: `get` would stop at those.
        """
        assert bool(stored.engine) != bool(stored.refused), "either an engine, or why there is none"
        path = self._path(stored.key)
        try:
            make_cache_folder(self.folder)
            self._check_folder()
            write_whole(path, *pack(stored), mode=0o600)
        except (Rejected, OSError) as error:
            self._trouble(error)
            return False
        for entry in self.entries() if stored.engine and not stored.key.gpu else ():
            if entry.stored and entry.stored.refused and stored.key.serves(entry.stored.key):
                self.remove(entry)
        self.prune(keep=path)
        return True

    def entries(self) -> list[Entry]:
        """Every engine file of the cache, the last used first. Reads headers only, never rejects."""
        return self._entries(".engine")

    def remove(self, entry: Entry) -> bool:
        """Delete one file; False when it is gone already or cannot be deleted."""
        return _delete(entry.path)

    def prune(self, keep: Path | None = None) -> int:
        """Delete leftovers of crashed writers, then the least recently used engines over the limit; how many.

        keep: not deleted, even if it is over the limit alone.
        """
        leftovers = self._entries(".part")
        removed = sum(self.remove(entry) for entry in leftovers if time.time() - entry.used > _STALE_SECONDS)
        entries = self.entries()
        excess = sum(entry.size for entry in entries) - self.limit_bytes
        for entry in reversed(entries):
            if excess > 0 and entry.path != keep and self.remove(entry):
                excess -= entry.size
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
        return [stored for stored in [replace(read_portable(path), psnr=None) for path in paths] if self.put(stored)]

    def timing(self) -> Path | None:
        """A file beside the engines, which may not be there yet, for how long kernels took: TensorRT's next build of
        the kind is faster with it. None where engines are not kept, either, or where another user may have written it.
        """
        path = self.folder / "timing"
        try:
            make_cache_folder(self.folder)
            self._check_folder()
        except (Rejected, OSError) as error:
            self._trouble(error)
            return None
        try:
            info = os.lstat(path)
            check_owner(info)
            return path if stat.S_ISREG(info.st_mode) else None
        except FileNotFoundError:
            return path
        except (Rejected, OSError):
            return None

    def _path(self, key: EngineKey) -> Path:
        return self.folder / f"{key.digest}.engine"

    def _paths(self) -> list[Path]:
        """What is in the folder; nothing where there is none yet, or, which is told, none to be used."""
        try:
            self._check_folder()
            return list(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except (Rejected, OSError) as error:
            self._trouble(error)
            return []

    def _entries(self, suffix: str) -> list[Entry]:
        found = [entry for path in self._paths() if path.suffix == suffix and (entry := _entry(path))]
        return sorted(found, key=lambda entry: entry.used, reverse=True)

    def _check_folder(self) -> None:
        info = os.stat(self.folder)
        if not stat.S_ISDIR(info.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        try:
            check_owner(info)
        except Rejected as error:
            cure = f"chmod 700 {shlex.quote(str(self.folder))}, or set VIDSR_CACHE to a folder of your own"
            raise Rejected(f"{self.folder}: compiled engines there are not trusted ({error}); {cure}") from error

    def _load(self, path: Path) -> StoredEngine | None:
        if path not in self._paths():
            return None
        try:
            stored = read(path)
        except FileNotFoundError:
            return None  # another process deleted it
        except (Rejected, OSError) as error:
            if isinstance(error, Rejected):
                _delete(path)
            self._notify(f"{path}: engine rejected ({why(error)}); it is built again")
            return None
        try:
            os.utime(path)
        except OSError:
            pass  # deleted meanwhile, or a folder that only lets us read: the engine is good all the same
        return stored

    def _trouble(self, error: Exception) -> None:
        line = str(error)
        if isinstance(error, OSError):
            reason = f"compiled engines cannot be kept there ({why(error)}) and are built each time"
            line = f"{self.folder}: {reason}; set VIDSR_CACHE to a folder you can write to"
        if not self._told:
            self._told = True
            self._notify(line)


def _default_limit() -> int:
    text = os.environ.get("VIDSR_ENGINE_CACHE_MIB")
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise UsageError(f"VIDSR_ENGINE_CACHE_MIB={text!r}: give a whole number of MiB, such as 2048, or unset it")
    return int(text) << 20


def _entry(path: Path) -> Entry | None:
    stored, reason = None, ""
    try:
        stored = read(path, content=False)
    except (Rejected, OSError) as error:
        reason = why(error)
    try:
        info = os.lstat(path)
    except OSError:
        return None  # another process deleted it
    return Entry(path, info.st_size, info.st_mtime, stored, reason)


def _delete(path: Path) -> bool:
    try:
        path.unlink()
        return True
    except OSError:
        return False
