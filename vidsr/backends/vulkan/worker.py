"""The process that ncnn runs in, which drivers may end: it is a script, and imports nothing of vidsr.

ncnn ends the process it is in where a device runs out of memory or is lost (SIGFPE, SIGSEGV: seen with 1.0.20261020),
and some drivers do so as soon as they are asked what there is. Lines of JSON go in and out; pictures lie in a file that
both processes map. See process.py for the other side.

    worker.py devices    one line: {"ncnn": version, "devices": [each as `Device` in process.py, but for "half"]}
    worker.py work       reads {"param": path, "weights": path, "device": number or null for the CPU, "half": bool,
                         "threads": n}, answers {"free": bytes of the device's memory or null}; then reads
                         {"file": path} and maps it, answering {}, or {"shape": [C, H, W]}, a float32 picture at the
                         file's begin, and answers {"shape": ...} of the result that replaced it, or {"failed": number}
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any

import ncnn
import numpy as np

TYPES = ("discrete", "integrated", "virtual", "software")


def devices() -> dict[str, Any]:
    found = []
    for number in range(ncnn.get_gpu_count()):
        info = ncnn.get_gpu_info(number)
        kind = TYPES[info.type()] if info.type() < len(TYPES) else "virtual"
        memory = ncnn.get_gpu_device(number).get_heap_budget() << 20
        driver = f"{info.vendor_id():x}:{info.driver_version():x}"
        found.append({"number": number, "name": info.device_name(), "kind": kind, "memory": memory, "driver": driver})
    return {"ncnn": ncnn.__version__, "devices": found}


def network(param: str, weights: str, device: int | None, half: bool, threads: int) -> Any:
    """What is to be run, on the device's memory. MemoryError where ncnn cannot load it."""
    net = ncnn.Net()
    option = net.opt
    option.use_vulkan_compute = device is not None
    option.num_threads = threads
    option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = half
    option.use_bf16_packed = option.use_bf16_storage = False
    if device is not None:
        net.set_vulkan_device(device)
    if net.load_param(param) or net.load_model(weights):
        raise MemoryError("ncnn cannot load the network")
    return net


def work(orders: dict[str, Any], read: Callable[[], Any], answer: Callable[[Any], None]) -> None:
    net = network(**orders)
    device = orders["device"]
    answer({"free": None if device is None else ncnn.get_gpu_device(device).get_heap_budget() << 20})
    shared = np.zeros(0, np.float32)
    while order := read():
        if "file" in order:
            with open(order["file"], "r+b") as file:
                shared = np.frombuffer(mmap.mmap(file.fileno(), 0), np.float32)
            answer({})
            continue
        shape = order["shape"]
        extractor = net.create_extractor()
        # A copy, because ncnn sends it to the device as if each channel began at a multiple of 16 bytes, which only its
        # own do: without that, all pictures of sizes that are no multiple of four pixels would be wrong.
        extractor.input("in", ncnn.Mat(shared[: np.prod(shape)].reshape(shape)).clone())
        failed, result = extractor.extract("out")
        if failed:
            answer({"failed": failed})
            return
        values = np.asarray(result)
        shared[: values.size].reshape(values.shape)[:] = values
        answer({"shape": values.shape})


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one, which ends it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer

    def answer(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    def read() -> Any:
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    if sys.argv[1] == "devices":
        answer(devices())
    elif orders := read():
        try:
            work(orders, read, answer)
        finally:  # whoever started this may be gone
            shutil.rmtree(os.path.dirname(orders["param"]), ignore_errors=True)


if __name__ == "__main__":
    main()
