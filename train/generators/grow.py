"""A larger Compact that starts as a smaller one: the same pictures at first, more room to learn.

The idea is Net2Net's (Chen et al. 2016, arXiv:1511.05641). A layer that passes everything on is a kernel of one 1 in
its middle and a PReLU of slope 1; a channel that nothing listens to yet changes nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vidsr.models.architectures import Compact

_QUIET = 0.1  # of a fresh generator's weights: else the first steps, which move all weights alike, disturb much


@torch.no_grad()
def grow(generator: Compact, channels: int, layers: int) -> Compact:
    """A Compact of `channels` and `layers` with the output of `generator`, whose scale and skip it has.

    The layers of `generator` are spread evenly among those that pass its channels on. The new channels come behind the
    old ones: they start with small random weights and see everything, but no old channel and no colour listens to them,
    until training makes it. Exact but for the order in which a convolution adds up. ValueError when
    it would have to shrink, or to pass something on through activations other than PReLU.
    """
    old, deep = generator.channels, generator.layers
    if channels < old or layers < deep:
        raise ValueError(f"a generator of {old} channels and {deep} layers cannot grow to {channels} and {layers}")
    if generator.activation != "prelu":
        raise ValueError(f"a generator with {generator.activation} cannot grow: only a PReLU can pass things on")
    grown = Compact(channels, layers, generator.scale, generator.skip)
    body: Any = grown.body
    smaller: Any = generator.body
    places = {(index + 1) * layers // max(1, deep) - 1: index for index in range(deep)}  # of the old layers
    for layer in range(layers + 1):  # the first convolution is the head, before all layers
        convolution, activation = body[2 * layer], body[2 * layer + 1]
        convolution.weight[old:] *= _QUIET
        source = 0 if layer == 0 else places.get(layer - 1, -2) + 1
        if source >= 0:
            _take(convolution, smaller[2 * source])
            activation.weight[:old] = smaller[2 * source + 1].weight
        else:
            convolution.weight[:old] = 0
            nn.init.dirac_(convolution.weight[:old, :old])
            convolution.bias[:old] = 0
            activation.weight[:old] = 1
    _take(body[-1], smaller[-1])
    return grown.train(generator.training)


def _take(target: Any, source: Any) -> None:
    """Give the first outputs of a convolution those of a smaller one, which do not listen to the new inputs."""
    outputs, inputs = source.weight.shape[:2]
    target.weight[:outputs] = 0
    target.weight[:outputs, :inputs] = source.weight
    target.bias[:outputs] = source.bias
