"""Compact's convolutions in 8-bit integers, by OpenVINO on x86: 1.7 to 2.7 times as fast as FP32, 1.2 to 1.9 as bf16.

What is quantised is the network that ends in codes of the result (fused.py), all of it but its head, whose input has
no range that fits 8 bits well, and the skip, which has no weights. Weights are scaled for each output channel,
activations for each layer by what they reach on pictures drawn here. Those ranges are all there is to calibrate, so
OpenVINO itself is enough: its NNCF, which would bring ten more packages, came to 49 dB where this comes to 52 and more.

One network for all CPUs: weights have 7 bits, not 8. CPUs without VNNI add pairs of products in 16 bits, where 8 would
overflow; it costs 1 dB of 56. See "INT8 on a CPU" in docs/evaluation.md.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidsr.backends.base import BackendKind, BackendSpec, Notify
from vidsr.backends.cpu import TorchBackend
from vidsr.backends.fused import Fused
from vidsr.backends.planes import cpu_has_bf16, model_name
from vidsr.backends.tiles import activation_bytes
from vidsr.errors import BackendError, UsageError
from vidsr.models.base import Folded, Generator
from vidsr.models.checkpoint import load_generator

# dB against float32 on drawn pictures, which are harder than episodes by some 4 dB. `fast` has 52.6, `tiny` 56.3;
# `balanced` has 44.5, was 0.15 dB further from the originals, and off by a code and more in one flat of a hundred.
LEAST_PSNR = 48.0
_BEYOND = 1e-4  # of a layer's inputs are beyond its range at either end: a few outliers would cost all others precision


def open_openvino(spec: BackendSpec, notify: Notify | None = None) -> OpenVinoBackend:
    """The backend `spec` describes, its weights loaded from `spec.model`.

    BackendError where OpenVINO does not work or the generator bears no 8 bits, ModelError for weights that cannot be
    loaded, UsageError for a scale or precision that cannot be had.
    """
    return OpenVinoBackend(load_generator(spec.model, notify), spec, notify)


class OpenVinoBackend(TorchBackend):
    """A generator on the CPU as TorchBackend runs it, but for its convolutions. Errors as `open_openvino`."""

    def __init__(self, generator: Generator, spec: BackendSpec, notify: Notify | None = None) -> None:
        if spec.precision not in (None, "int8"):
            raise UsageError(f"precision {spec.precision}: OpenVINO runs int8; use --backend cpu for {spec.precision}")
        if generator.folded().linear_tail() is None:
            raise BackendError(f"openvino: {model_name(spec)} is no Compact, which alone is quantised; {_CURE}")
        super().__init__(generator, replace(spec, precision="fp32", compiled=False), notify)
        fused = self._planes.generator
        assert isinstance(fused, Fused)
        self._bytes = activation_bytes(fused)
        layers = _layers(fused)
        ranges = _ranges(layers)
        self._digest = hashlib.sha256(repr(ranges).encode()).hexdigest()[:16]
        quantised = _Quantised(fused, layers, ranges)
        _check(quantised, fused, spec)
        self._planes.generator, self._version = quantised, quantised.version
        self.description = f"OpenVINO ({torch.get_num_threads()} threads), int8, {model_name(spec)}"

    def settle(self, width: int, height: int, patches: bool = True) -> dict[str, Any]:
        own = {"backend": "openvino", "precision": "int8", "openvino": self._version, "ranges": self._digest}
        return {**super().settle(width, height), **own}


@dataclass(frozen=True)
class _Range:
    """What 8 bits hold of a layer's input: the codes 0 to 255 are (code - zero) * step."""

    step: float
    zero: int


@dataclass(frozen=True, eq=False)
class _Layer:
    """A convolution and the slopes below zero of the activation after it, [1] or [channels]; none after the last."""

    convolution: nn.Conv2d
    slopes: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        return x if self.slopes is None else F.prelu(x, self.slopes)


def _layers(fused: Fused) -> list[_Layer]:
    layers: list[_Layer] = []
    for module in fused.body.children():
        match module:
            case nn.Conv2d():
                layers.append(_Layer(module))
            case nn.PReLU():
                layers[-1] = replace(layers[-1], slopes=module.weight)
            case nn.ReLU():
                layers[-1] = replace(layers[-1], slopes=torch.zeros(1))
            case nn.LeakyReLU():
                layers[-1] = replace(layers[-1], slopes=torch.tensor([module.negative_slope]))
            case _:
                raise BackendError(f"openvino: a {type(module).__name__} cannot be quantised; {_CURE}")
    return layers


@torch.inference_mode()
def _ranges(layers: list[_Layer]) -> tuple[_Range, ...]:
    """Of the input of every layer but the first, on drawn pictures.

    Rounded up to a 32nd of an octave, so that what another CPU adds up in another order makes the same network.
    """
    x = drawn_pictures(seed=0)
    found = []
    for i, layer in enumerate(layers):
        if i:
            values = x.flatten()[::7]  # 7 divides no size, and all of them would take four times as long
            beyond = 1 + int(_BEYOND * len(values))
            low = min(values.kthvalue(beyond).values.item(), 0.0)
            high = max(values.kthvalue(len(values) + 1 - beyond).values.item(), 0.0)
            if not math.isfinite(high - low):
                raise BackendError(f"openvino: the model's activations overflow; {_CURE}")
            step = 2.0 ** (math.ceil(32 * math.log2(max((high - low) / 255, 1e-8))) / 32)
            found.append(_Range(step, round(-low / step)))
        x = layer(x)
    return tuple(found)


def drawn_pictures(seed: int) -> Tensor:
    """R'G'B' [8, 3, 128, 128] of what generators must keep: flats, shading, lines, noise, somewhat beyond 0..1, too."""
    source, side = torch.Generator().manual_seed(seed), 128

    def colors(count: int, size: int) -> Tensor:
        return torch.rand((count, 3, size, size), generator=source) * 1.4 - 0.2

    flats = F.interpolate(colors(2, 8), (side, side))
    shading, noisy = (
        F.interpolate(colors(2, 4), (side, side), mode="bilinear", align_corners=False) for _ in range(2)
    )
    noisy = noisy + 0.06 * torch.randn((2, 1, side, side), generator=source)
    lines = F.interpolate(colors(2, 5), (side, side))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    for i, (x, y, thick) in enumerate([(1, 0, 1), (0, 1, 2), (1, 1, 3), (1, -1, 2), (2, 1, 2), (1, 3, 3)]):
        color = torch.full((1, 3, 1, 1), 0.05) if i < 4 else colors(1, 1)
        lines = torch.where((x * rows + y * columns + 5 * i) % (41 + 6 * i) < thick, color, lines)
    return torch.cat([flats, shading, lines, noisy]).clamp(-0.2, 1.2)


def _imported() -> Any:
    """The module `openvino`, without its converter of models, which nobody needs here.

    On import, that writes to ~/intel and tells Google Analytics that it was imported. OpenVINO does without it where it
    cannot be imported.
    """
    converter = "openvino.tools.ovc"
    hidden = converter not in sys.modules
    if hidden:
        sys.modules[converter] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        if hidden:
            del sys.modules[converter]


class _Quantised(Folded):
    """`fused`, run by OpenVINO: see Fused for what goes in and out. Each result lies where the last one lay."""

    def __init__(self, fused: Fused, layers: list[_Layer], ranges: tuple[_Range, ...]) -> None:
        super().__init__(nn.Identity(), fused.scale, fused.radius)
        try:
            openvino = _imported()
            core = openvino.Core()
            options = {
                "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "ENABLE_CPU_PINNING": False,  # the encoders need the cores, too
                "INFERENCE_PRECISION_HINT": "f32",  # of what is not quantised
            }  # fmt: skip
            self._request = core.compile_model(_network(fused, layers, ranges), "CPU", options).create_infer_request()
        except (ImportError, AttributeError, OSError, RuntimeError) as error:  # or what an uninstalled one left behind
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BackendError(f"openvino: OpenVINO does not work here ({reason}); {_CURE}") from error
        self._tensor, self.version = openvino.Tensor, str(openvino.get_version())

    def forward(self, x: Tensor) -> Tensor:
        self._input = x.contiguous().numpy()  # kept: OpenVINO only has its address
        self._request.set_input_tensor(self._tensor(self._input, shared_memory=True))
        self._request.infer()
        return torch.from_numpy(self._request.get_output_tensor().data).permute(0, 3, 1, 2)


def _network(fused: Fused, layers: list[_Layer], ranges: tuple[_Range, ...]) -> Any:
    """An openvino.Model: R'G'B' [1, 3, H, W] -> codes [1, H, W, channels] float32, for pictures of any size.

    FakeQuantize is how OpenVINO is told of 8 bits: it runs in integers what lies between two of them.
    """
    from openvino import Model
    from openvino import opset13 as ops

    def constant(values: Tensor) -> Any:
        return ops.constant(values.detach().float().contiguous().numpy())

    def convolution(x: Any, weights: Any, conv: nn.Conv2d) -> Any:
        pads = list(conv.padding)
        result = ops.convolution(x, weights, [1, 1], pads, pads, [1, 1])
        assert conv.bias is not None
        return ops.add(result, constant(conv.bias.view(1, -1, 1, 1)))

    picture = x = ops.parameter([1, 3, -1, -1], np.float32)
    for i, layer in enumerate(layers):
        weights = constant(layer.convolution.weight)
        if i:
            ends = [torch.full((1, 1, 1, 1), (code - ranges[i - 1].zero) * ranges[i - 1].step) for code in (0, 255)]
            x = _in_steps(x, [constant(end) for end in ends], 256)
            # Twice what the largest weight needs leaves 7 of the 8 bits.
            top = 2 * layer.convolution.weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-8)
            weights = _in_steps(weights, [constant(-top), constant(top)], 255)
        x = convolution(x, weights, layer.convolution)
        if layer.slopes is not None:
            x = ops.prelu(x, constant(layer.slopes))
    around = ops.constant(np.array([0, 0, 1, 1]))
    codes = convolution(ops.pad(picture, around, around, "edge"), constant(fused.skip.weight), fused.skip)
    codes = ops.add(codes, ops.multiply(x, ops.constant(np.float32(fused.unit))))
    channels_last = ops.transpose(codes, ops.constant(np.array([0, 2, 3, 1])))
    return Model([ops.result(channels_last)], [picture], "vidsr")


def _in_steps(x: Any, ends: list[Any], levels: int) -> Any:
    from openvino import opset13 as ops

    return ops.fake_quantize(x, *ends, *ends, levels)


@torch.inference_mode()
def _check(quantised: Folded, fused: Fused, spec: BackendSpec) -> None:
    """BackendError where 8 bits do not come near float32 on pictures that the ranges were not made from."""
    peak = 2.0**spec.result_format.bits - 1
    errors = []
    for picture in drawn_pictures(seed=1)[::2].split(1):
        errors.append(F.mse_loss(quantised(picture).double(), fused(picture).double()).item())
    psnr = 10 * math.log10(peak**2 / max(float(np.mean(errors)), 1e-12 * peak**2))
    if not psnr >= LEAST_PSNR:  # NaN is not, either
        raise BackendError(
            f"openvino: {model_name(spec)} loses too much in 8 bits ({psnr:.1f} dB against float32, less than "
            f"{LEAST_PSNR:g}); {_CURE}"
        )


def openvino_missing() -> str | None:
    """One line why OpenVINO cannot be used here, with the cure; None when it can."""
    if find_spec("openvino") is None:
        return "openvino: OpenVINO is not installed: pip install 'vidsr[openvino]'"
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return f"openvino: this CPU has no AVX2, without which 8 bits are no faster; {_CURE}"
    return None


_CURE = "use --backend cpu, or --model fast or tiny"
# bf16 is nearer to float32, and nearly as fast: where a CPU has it, 8 bits are for those who ask for them.
KIND = BackendKind("openvino", openvino_missing, open_openvino, precisions=("int8",), chosen_unasked=not cpu_has_bf16())
