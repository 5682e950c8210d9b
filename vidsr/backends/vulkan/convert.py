"""The convolutions of a generator as ncnn reads them: a description, and the weights one after another.

The description is text: a line `type name inputs outputs [input blobs] [output blobs] [number=value]` for each layer.
Each blob may be read once; what is needed twice goes through a Split.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, fx, nn

from vidsr.errors import BackendError
from vidsr.models.architectures import own_names

INPUT, OUTPUT = "in", "out"  # the blobs of both ends
_MAGIC = "7767517"
_FLOAT32 = np.array([0], np.uint32).tobytes()  # before a convolution's weights: what they are stored as


def convert(body: nn.Module) -> tuple[str, bytes]:
    """`Folded.body`, float32 -> (description, weights). BackendError where it has a step that is not known here.

    All sizes are left open: one description serves pictures of any.
    """
    try:
        return _Converter(fx.symbolic_trace(body)).result()
    except (_UnknownError, fx.proxy.TraceError) as error:
        raise BackendError(f"vulkan: cannot convert {error}: {own_names('and')} only; use --backend cpu") from error


class _UnknownError(Exception):
    """A step that ncnn would have to be told of."""


class _Converter:
    def __init__(self, traced: fx.GraphModule) -> None:
        self._modules = dict(traced.named_modules())
        self._graph = traced.graph
        self._lines: list[str] = []
        self._weights: list[bytes] = []
        self._blobs = self._named = 0
        self._unread: dict[fx.Node, list[str]] = {}  # of what each step gives, a blob for each that reads it

    def result(self) -> tuple[str, bytes]:
        for node in self._graph.nodes:
            self._add(node)
        head = f"{_MAGIC}\n{len(self._lines)} {self._blobs}\n"
        return head + "".join(f"{line}\n" for line in self._lines), b"".join(self._weights)

    def _add(self, node: fx.Node) -> None:
        name = str(node.target)
        if node.op == "placeholder":
            self._layer("Input", node, [], name=INPUT)
        elif node.op == "output":
            self._layer("Noop", node, self._inputs(node), name=OUTPUT)
        elif node.op == "call_module":
            self._module(node, self._modules[name])
        elif node.target is nn.functional.leaky_relu_ and isinstance(node.args[1], float):
            self._layer("ReLU", node, self._inputs(node), f"0={node.args[1]!r}")
        elif node.op == "call_method" and name == "add_" and not node.kwargs:
            self._layer("BinaryOp", node, self._inputs(node), "0=0")
        else:
            raise _UnknownError(getattr(node.target, "__name__", name))

    def _module(self, node: fx.Node, module: nn.Module) -> None:
        inputs = self._inputs(node)
        if isinstance(module, nn.Conv2d):
            self._convolution(node, module, inputs)
        elif isinstance(module, nn.PReLU):
            self._weights.append(_bytes(module.weight))
            self._layer("PReLU", node, inputs, f"0={module.num_parameters}")
        elif isinstance(module, nn.LeakyReLU):
            self._layer("ReLU", node, inputs, f"0={module.negative_slope!r}")
        elif isinstance(module, nn.ReLU):
            self._layer("ReLU", node, inputs)
        elif isinstance(module, nn.PixelShuffle):
            self._layer("PixelShuffle", node, inputs, f"0={module.upscale_factor}")
        else:
            raise _UnknownError(type(module).__name__)

    def _convolution(self, node: fx.Node, conv: nn.Conv2d, inputs: Sequence[str]) -> None:
        plain = (conv.stride, conv.dilation, conv.groups, conv.padding_mode) == ((1, 1), (1, 1), 1, "zeros")
        if not plain or isinstance(conv.padding, str) or conv.bias is None:
            raise _UnknownError(repr(conv))
        (tall, wide), (down, across) = conv.kernel_size, conv.padding
        numbers = {0: conv.out_channels, 1: wide, 11: tall, 4: across, 14: down, 5: 1, 6: conv.weight.numel()}
        self._weights += [_FLOAT32, _bytes(conv.weight), _bytes(conv.bias)]
        self._layer("Convolution", node, inputs, *(f"{number}={value}" for number, value in numbers.items()))

    def _inputs(self, node: fx.Node) -> list[str]:
        return [self._unread[arg].pop() for arg in node.args if isinstance(arg, fx.Node)]

    def _layer(
        self, kind: str, node: fx.Node, inputs: Sequence[str], *numbers: str, name: str | None = None
    ) -> None:  # fmt: skip
        outputs = [name or self._blob()]
        self._line(kind, inputs, outputs, *numbers)
        readers = sum(arg is node for user in node.users for arg in user.args)
        if readers > 1:
            copies = [self._blob() for _ in range(readers)]
            self._line("Split", outputs, copies)
            outputs = copies
        self._unread[node] = outputs

    def _line(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], *numbers: str) -> None:
        self._blobs += len(outputs)
        names = (kind, f"layer{len(self._lines)}")
        self._lines.append(" ".join((*names, str(len(inputs)), str(len(outputs)), *inputs, *outputs, *numbers)))

    def _blob(self) -> str:
        self._named += 1
        return f"blob{self._named}"


def _bytes(values: Tensor) -> bytes:
    return values.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
