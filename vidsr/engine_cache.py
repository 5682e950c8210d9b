"""Compiled engines on disk, such that nobody can slip in one that this user's vidsr did not write on this machine."""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import stat
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vidsr.engine_file import (
    EngineKey,
    Rejected,
    StoredEngine,
    check_owner,
    open_file,
    pack,
    read,
    read_portable,
    why,
    write_file,
)  # fmt: skip
from vidsr.errors import UsageError

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
            write_file(path, pack(stored, self._secret(create=True)))
        except (Rejected, OSError) as error:
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
                    stored = read(path, secret, content=False)
                    entries.append(Entry(path, info.st_size, info.st_mtime, stored))
                except FileNotFoundError:
                    pass  # another process deleted it
                except (Rejected, OSError) as error:
                    entries.append(Entry(path, info.st_size, info.st_mtime, None, why(error)))
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
            stored = read(path, secret)
        except FileNotFoundError:
            return None
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

    def _known_secret(self) -> bytes | None:
        """None when there is no cache yet, or, which is told, none to be used."""
        try:
            return self._secret()
        except FileNotFoundError:
            return None
        except (Rejected, OSError) as error:
            self._trouble(error)
            return None

    def _secret(self, create: bool = False) -> bytes:
        """The 32 bytes that sign, once folder and secret are found to be this user's alone.

        Makes the secret wherever there is a folder: what one without a secret holds has been signed by nobody.
        """
        if str(self.folder).startswith("~"):  # as nobody's home is written
            raise Rejected("no home folder to keep compiled engines in; set VIDSR_CACHE to a folder you can write to")
        if create and not os.path.lexists(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = os.stat(self.folder)
        if not stat.S_ISDIR(info.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        path = self.folder / "secret"
        try:
            cure = f"chmod 700 {shlex.quote(str(self.folder))}, or set VIDSR_CACHE to a folder of your own"
            check_owner(info, 0o022)
            if not os.path.lexists(path):
                try:
                    # Unlike a rename, a link never replaces the secret that another process has just made.
                    write_file(path, [secrets.token_bytes(32)], place=os.link)
                except FileExistsError:
                    pass
            cure = f"rm {shlex.quote(str(path))}, then engines are built again"
            with open_file(path, private=True, forbidden=0o077) as file:
                secret = file.read(33)
            if len(secret) != 32:
                raise Rejected("the secret is damaged")
        except Rejected as error:
            raise Rejected(f"{self.folder}: compiled engines there are not trusted ({error}); {cure}") from error
        return secret

    def _trouble(self, error: Exception) -> None:
        line = str(error)
        if isinstance(error, OSError):
            reason = f"compiled engines cannot be kept there ({why(error)}) and are built each time"
            line = f"{self.folder}: {reason}; set VIDSR_CACHE to a folder you can write to"
        if not self._told:
            self._told = True
            self._notify(line)


def _default_folder() -> Path:
    named = os.environ.get("VIDSR_CACHE")
    if named:
        return Path(os.path.expanduser(named)) / "engines"
    import platformdirs

    return Path(platformdirs.user_cache_dir("vidsr", False)) / "engines"


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
