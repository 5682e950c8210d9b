"""Whole runs in the tests, with the nearest-neighbour backend in place of a model."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from pathlib import Path

from vidsr.backends import open_backend
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.frames import SourceInfo
from vidsr.report import Report
from vidsr.run.pipeline import run
from vidsr.source.probe import probe

ROOT = Path(__file__).parent.parent  # of the checkout
OPENED, CLOSED = 0x20, 0x18  # inotify's IN_OPEN and IN_CLOSE


def upscaled(source: Path, output: Path, report: Report | None = None, **options) -> SourceInfo:
    """Upscale 2x (or as `options` say), prove it, and give what is now in `output`."""
    report = report or Report()
    wanted = {"scale": 2, "backend": "nearest", "preset": "ultrafast", "threads": 1, **options}
    if wanted.get("codec") == "svtav1":
        wanted["preset"] = "12"
    proof = run(prepare(source, Options(output=output, **wanted), report), open_backend, report)
    assert proof is not None and proof.passed
    return probe(output)


def vidsr(*arguments: object, timeout: float = 120, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command itself, in a process of its own."""
    command = [sys.executable, "-m", "vidsr", *map(str, arguments)]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)


def quick(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """`vidsr` with the stand-in backend."""
    return vidsr(*arguments, "--backend", "nearest", "--scale", 2, "--preset", "ultrafast", **more)


class Opens:
    """How often a file is opened, by whomever and in whatever language, as Linux tells."""

    def __init__(self, path):
        self._fd = ctypes.CDLL(None).inotify_init1(os.O_NONBLOCK)
        # It tells of equal events in a row only once: between two of opening there is one of closing.
        assert ctypes.CDLL(None).inotify_add_watch(self._fd, os.fsencode(path), OPENED | CLOSED) > 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._fd)

    def count(self):
        """Since it was last asked."""
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return 0
        return sum(bool(mask & OPENED) for _, mask, _, _ in struct.iter_unpack("iIII", data))
