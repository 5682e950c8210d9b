"""What a sprint finds on a rented machine: its clock, its packages, its device, memory that processes share."""

from __future__ import annotations

import importlib
import mmap
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch

RESERVE = 15.0  # seconds kept for the last export


class Clock:
    """Seconds since this process began, and how many are left of `minutes`: the set-up counts, as on the bill."""

    def __init__(self, minutes: float) -> None:
        self._began = time.monotonic() - _age()
        total = 60 * minutes
        self.end = total - min(RESERVE, total / 4)  # of the training, in these seconds

    def now(self) -> float:
        return time.monotonic() - self._began

    def left(self) -> float:
        """Seconds until the training has to end; below 0 after that."""
        return self.end - self.now()


def _age() -> float:
    """Seconds since this process was started, imports and all; 0 where the system does not say."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def choose_device(name: str) -> torch.device:
    """name: auto, cpu or cuda. ValueError when the GPU that is asked for does not work."""
    works = torch.cuda.is_available()
    if name == "cuda" and not works:
        raise ValueError("--device cuda: PyTorch finds no GPU here; --device cpu rehearses at small size")
    return torch.device("cuda" if works and name != "cpu" else "cpu")


def use_wheels(folder: Path, package: str) -> tempfile.TemporaryDirectory[str] | None:
    """Make `package` importable: a wheel is a zip, so where the package is missing those in `folder` are unpacked into
    a temporary folder on sys.path. Returns that folder, to be kept while the package is used; None: it was there.

    ValueError, with the cure, where there is no wheel of it, or only one for another Python.
    """
    if _imports(package):
        return None
    wheels = sorted(folder.glob("*.whl"))
    own = [wheel for wheel in wheels if wheel.name.split("-")[0].lower() == package]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    download = f"pip download --no-deps --only-binary :all: --python-version {python} {package}"
    cure = f"bring one for Python {python} ({download})"
    if not own:
        raise ValueError(f"{package} is missing and no wheel of it lies in {folder}: {cure}")
    if not any(fits(wheel.name, sys.version_info[:2]) for wheel in own):
        raise ValueError(f"{own[0]}: not for Python {python}: {cure}")
    unpacked = tempfile.TemporaryDirectory(prefix="vidsr-wheels-")
    try:
        for wheel in wheels:
            if fits(wheel.name, sys.version_info[:2]):
                with zipfile.ZipFile(wheel) as file:
                    file.extractall(unpacked.name)
        sys.path.insert(0, unpacked.name)
        importlib.invalidate_caches()
        if _imports(package):
            return unpacked
        reason = f"{own[0]}: unpacked, but {package} cannot be imported: is it for this system? {cure}"
    except (zipfile.BadZipFile, OSError) as error:
        reason = f"{wheel}: cannot be unpacked ({error}); bring it again"
    unpacked.cleanup()
    raise ValueError(reason)


def fits(wheel: str, python: tuple[int, int]) -> bool:
    """Whether a wheel of this file name is for this Python: made for just it, for any, or for an older stable ABI."""
    tags, abi = wheel.removesuffix(".whl").split("-")[-3:-1] if wheel.count("-") >= 4 else ("", "")
    stable = tags.startswith("cp3") and abi == "abi3" and int(tags[3:]) <= python[1]
    return stable or tags == f"cp{python[0]}{python[1]}" or "py3" in tags.split(".")


def _imports(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def check_codecs(say: Callable[[str], None]) -> None:
    """Try PyAV's encoders, before worker processes inherit the answer; those that are missing are named by the way.

    ValueError where there are none of them.
    """
    from train.degrade.codec import CODECS, usable_codecs

    try:
        codecs = usable_codecs()
    except click.ClickException:
        names = ", ".join(CODECS)
        raise ValueError(f"the PyAV here encodes with none of {names}: bring its own wheel with the parts") from None
    say(f"encoders: {', '.join(codecs)}")


def shared(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 zeros that processes forked from this one see and write, too.

    Of anonymous memory: /dev/shm is often 64 MiB in containers.
    """
    return np.frombuffer(mmap.mmap(-1, max(1, int(np.prod(shape)))), np.uint8).reshape(shape)
