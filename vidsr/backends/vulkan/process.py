"""Devices that Vulkan knows, and ncnn at work on one of them, in a process of its own: see worker.py for why."""

from __future__ import annotations

import importlib.util
import json
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from vidsr.errors import first_line
from vidsr.machine import cores

INSTALL = "pip install 'vidsr[vulkan]'"
_SCRIPT = [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))]
_ENV = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # its threads would take the encoders' cores while they wait
_PROBING = 60.0  # seconds: drivers compile things when they are first asked
_ENDING = 5.0
_PATIENCE = 600.0  # for one picture; a device that takes longer hangs, or is slower than the CPU
_NO_MEMORY = re.compile(r"vkAllocateMemory failed|OUT_OF_DEVICE_MEMORY|failed -2\b|MemoryError")


@dataclass(frozen=True)
class Device:
    """A device that Vulkan knows.

    number: ncnn's. kind: "discrete", "integrated", "virtual" or "software". memory: bytes that may be used now.
    driver: vendor and version. half: whether it has float16, at least to store.
    """

    number: int
    name: str
    kind: str
    memory: int
    driver: str
    half: bool = False

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.name} ({self.kind}, {self.memory >> 20} MiB, {'fp16' if self.half else 'fp32 only'})"


@dataclass(frozen=True)
class Found:
    """ncnn's version, the devices, and in one line why there are none; "" where there are."""

    version: str
    devices: tuple[Device, ...]
    reason: str = ""

    @property
    def best(self) -> Device:
        """The first discrete device, else the first; one that is software only where there is no other."""
        return min(self.devices, key=lambda device: (device.kind == "software", device.kind != "discrete"))


@cache
def find_devices() -> Found:
    """What there is on this machine; asked once."""
    if importlib.util.find_spec("ncnn") is None:
        return Found("", (), f"ncnn is not installed: {INSTALL}")
    try:
        done = subprocess.run(
            [*_SCRIPT, "devices"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_PROBING,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return Found("", (), f"the driver cannot be asked ({first_line(error)}): update the graphics driver")
    return understood(done.returncode, done.stdout, done.stderr)


def understood(code: int, answer: str, said: str) -> Found:
    """What `worker.py devices` ended with: its exit code, its answer, and what ncnn printed beside it."""
    if code or not answer.strip():  # some drivers end a process as if all were well
        last = (said.strip().splitlines() or [f"exit code {code}"])[-1]
        return Found("", (), f"ncnn or the graphics driver fails ({last}): update both")
    found = json.loads(answer)
    # ncnn tells that only there: "[0 NAME]  fp16-p/s/u/a=1/1/1/0": packed, stored, uniform, and arithmetic, which it
    # does in float32 where the device has none.
    halves = set(re.findall(r"^\[(\d+) .*\] +fp16-p/s\S*=1/1\b", said, re.MULTILINE))
    devices = tuple(Device(**each, half=str(each["number"]) in halves) for each in found["devices"])
    reason = "" if devices else "no device (no graphics driver with Vulkan): install the driver of your graphics card"
    if not devices and "dlopen failed" in said:
        reason = "no Vulkan loader: install libvulkan1 (Linux: vulkan-loader), or the driver of your graphics card"
    return Found(found["ncnn"], devices, reason)


class WorkerError(Exception):
    """The process that did the work is gone, or its device is. memory: because that ran out."""

    def __init__(self, reason: str, memory: bool = False) -> None:
        super().__init__(reason)
        self.memory = memory


class Worker:
    """A network, as `convert` gives it, in a process of its own. One thread at a time. After a WorkerError it is done.

    device: None: ncnn on the CPU, for tests of all the rest. half: in float16. growth: how many values of the result
        there are for a pixel of the picture.
    patience: seconds for one picture, after which the process is ended: some drivers never come back.
    free: bytes of the device's memory that may be used; None where nobody tells.
    WorkerError where it does not start.
    """

    def __init__(
        self, network: tuple[str, bytes], device: Device | None, half: bool, growth: float,
        patience: float = _PATIENCE,
    ) -> None:  # fmt: skip
        self._growth, self._shared, self._patience = growth, torch.zeros(0), patience
        self._failure: WorkerError | None = None
        self._hung = False
        folder: Path | None = None
        try:
            folder = Path(tempfile.mkdtemp(prefix="vidsr-vulkan-"))  # the user's alone
            param, weights = folder / "param", folder / "weights"
            param.write_text(network[0])
            weights.write_bytes(network[1])
            self._said = open(folder / "said", "w+b")  # noqa: SIM115
            self._process = subprocess.Popen(
                [*_SCRIPT, "work"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
                env=_ENV,
            )  # fmt: skip
        except OSError as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            raise WorkerError(f"it cannot be started ({first_line(error)})") from error
        self._folder = folder
        self._end = weakref.finalize(self, _end, self._process, self._said, folder)
        number = None if device is None else device.number
        orders = {"param": str(param), "weights": str(weights), "device": number, "half": half}
        self.free = self._ask({**orders, "threads": min(2, cores())})["free"]

    def close(self) -> None:
        """End the process, and give back what it had; it may be called again."""
        self._shared = torch.zeros(0)  # Windows deletes no file that is mapped
        self._end()

    def __call__(self, x: Tensor) -> Tensor:
        """A picture [C, H, W] float32 -> the network's result for it, [C', H', W'] float32; a view of memory that the
        next call overwrites. WorkerError."""
        needed = max(x.numel(), round(self._growth * x.shape[1] * x.shape[2]))
        if needed > self._shared.numel():
            self._make_room(4 * needed)
        self._shared[: x.numel()].view(x.shape).copy_(x)
        shape = self._ask({"shape": list(x.shape)})["shape"]
        return self._shared[: prod(shape)].view(shape)

    def _make_room(self, size: int) -> None:
        path = self._folder / f"{size}"
        try:
            with open(path, "w+b") as file:
                if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and not a signal later
                    os.posix_fallocate(file.fileno(), 0, size)
                file.truncate(size)
                self._shared = torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.float32)
            self._ask({"file": str(path)})
        except OSError as error:
            raise WorkerError(f"no room for a picture in {self._folder} ({error.strerror})") from error
        with suppress(OSError):  # Windows keeps what is mapped until the end
            path.unlink()

    def _ask(self, order: dict[str, Any]) -> Any:
        if self._failure is not None:  # two threads share it, and the other one was told
            raise self._failure
        assert self._process.stdin and self._process.stdout
        late = threading.Timer(self._patience, self._give_up)
        late.daemon = True
        late.start()
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:  # the pipe's other end is gone
            line = ""
        finally:
            late.cancel()
        if line.endswith("\n"):
            answer = json.loads(line)
        else:
            code = self._process.wait()
            hung = f"no answer for {self._patience:g} s"
            answer = {"failed": hung if self._hung else f"exit code {code}"}
        if "failed" in answer:
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").strip().splitlines()
            self.close()
            wrong = [line for line in lines if "fail" in line.lower() or "error" in line.lower()]
            memory = any(_NO_MEMORY.search(line) for line in wrong)
            self._failure = WorkerError((wrong or [str(answer["failed"])])[-1], memory)
            raise self._failure
        return answer

    def _give_up(self) -> None:
        self._hung = True
        self._process.kill()


def _end(process: subprocess.Popen[str], said: IO[bytes], folder: Path) -> None:
    assert process.stdin and process.stdout
    with suppress(OSError):
        process.stdin.close()  # which it ends at
    try:
        process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    said.close()
    shutil.rmtree(folder, ignore_errors=True)
