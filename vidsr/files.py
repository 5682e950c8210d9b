"""Files on disk that are whole or not there, whatever becomes of the process or the machine; and where caches lie.

Needs nothing that is not Python's own, but platformdirs for a cache's place: training imports it on bare machines.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NAME_BYTES = 255  # of a file's name at most, on nearly every file system


def as_file(path: str | Path) -> str:
    """`path` as FFmpeg opens a file of that name whatever is in it: `Re:Zero.mkv` alone would be a protocol `Re`."""
    return f"file:{path}"


def fit_name(stem: str, suffix: str) -> str:
    """`stem` + `suffix`; a name too long for a file loses the end of its stem to a mark made from the whole, so that
    two such names stay two."""
    whole = stem + suffix
    if len(os.fsencode(whole)) <= NAME_BYTES:
        return whole
    suffix = f"~{hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]}{suffix}"
    while stem and len(os.fsencode(stem + suffix)) > NAME_BYTES:
        stem = stem[:-1]
    return stem + suffix


def write_whole(
    path: Path, *parts: bytes | bytearray | memoryview, mode: int = 0o666, replace: bool = True
) -> None:  # fmt: skip
    """Write `parts`, one after the other, as the file `path`, which holds them all or what it held before.

    Several processes may write one path at once. mode: permissions, less the umask. replace: see `publish`. OSError
    leaves nothing behind; a process killed meanwhile leaves a file `.vidsr-….part` beside.
    """
    with whole_file(path, mode, replace) as file:
        file.writelines(parts)


@contextmanager
def whole_file(path: Path, mode: int = 0o666, replace: bool = True) -> Iterator[BinaryIO]:
    """The same for a file that is written piece by piece, and may be read back: it gets its name when the context ends
    without an exception. `file.name` is where it lies until then."""
    partial = path.with_name(f".vidsr-{secrets.token_hex(8)}.part")  # not longer than a long name can be
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with open(partial, "w+b", opener=lambda name, flags: descriptor) as file:
            yield file
        publish(partial, path, replace)
    finally:
        partial.unlink(missing_ok=True)


def publish(partial: Path, final: Path, replace: bool = True) -> None:
    """fsync `partial`, rename it to `final`, fsync the folder: after a crash there is the whole file or none.

    replace: whether a file of that name may be replaced; FileExistsError where it may not and there is one.
    """
    with open(partial, "r+b") as file:  # Windows forces to the disk only what may be written
        os.fsync(file.fileno())
    if not replace:
        try:
            os.link(partial, final)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: the name is claimed first
            os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            os.replace(partial, final)
        else:
            partial.unlink()
    else:
        os.replace(partial, final)
    if os.name == "posix":
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_failure(path: Path, what: str, error: Exception) -> str:
    """One line on why `path` could not be written; a full disk shows up as any of several errors, often on closing."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{path.parent}: the disk is full; make room and run the same command again, it goes on from here"
    return f"{path}: {what} ({getattr(error, 'strerror', None) or error})"


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_folder(name: str) -> Path:
    """Where the cache `name` lies: in the folder $VIDSR_CACHE, else in the user's cache folder of vidsr.

    Begins with "~" where that is in a home folder and nobody knows whose: `make_cache_folder` makes none there.
    """
    named = os.environ.get("VIDSR_CACHE")
    if named:
        return Path(os.path.expanduser(named)) / name
    import platformdirs

    return Path(platformdirs.user_cache_dir("vidsr", False)) / name


def make_cache_folder(folder: Path) -> None:
    """Make a folder of `cache_folder` for this user alone, where there is nothing. OSError when that cannot be."""
    if str(folder).startswith("~"):
        raise OSError(errno.ENOENT, "there is no home folder", str(folder))
    if not os.path.lexists(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
