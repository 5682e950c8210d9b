"""The generator a run begins with, and its average over the steps."""

from __future__ import annotations

import torch
from torch import nn

from train.options import Options
from train.warmstart import start_as_interpolation
from vidsr.checkpoint import find_model, installed_models, load_generator
from vidsr.errors import VidsrError
from vidsr.models import Compact, SRResNet


def build_generator(options: Options, load: bool = True) -> tuple[nn.Module, str]:
    """The generator of `options`, and what it starts as: a weights file, "interpolation" or "scratch".

    load: False where a checkpoint's weights replace the first ones anyway, which may be gone by then.
    ValueError for a start that does not exist or is another generator's.
    """
    fresh = Compact(options.channels, options.layers) if options.generator == "compact" else SRResNet(options.blocks)
    start = options.init
    if start == "auto":
        start = _installed_start(fresh) or "interpolation"
    if not load:
        return fresh, start
    if start == "interpolation" and isinstance(fresh, SRResNet):
        start_as_interpolation(fresh)
    if start in ("interpolation", "scratch"):
        return fresh, start
    try:
        path = find_model(start).path
        loaded = load_generator(path)
    except VidsrError as error:
        raise ValueError(f"--init {start}: {error}") from None
    if _kind(loaded) != _kind(fresh):
        raise ValueError(f"--init {start}: weights of {_kind(loaded)}, expected {_kind(fresh)}")
    return loaded.train(), str(path)


def untrained(start: str) -> bool:
    """Whether a generator that starts like this has yet to learn what a picture is."""
    return start in ("interpolation", "scratch")


def _installed_start(fresh: nn.Module) -> str | None:
    """The installed model shaped like `fresh`, one trained without a critic before any other; None without any."""
    fitting = [model for model in installed_models() if _kind(load_generator(model.path)) == _kind(fresh)]
    fitting.sort(key=lambda model: (model.metadata.get("recipe", "resnet") != "resnet", model.name))
    return fitting[0].name if fitting else None


def _kind(generator: nn.Module) -> str:
    """Such as "srresnet (blocks 8, channels 64, scale 4)"."""
    details = ", ".join(f"{name} {value}" for name, value in generator.hyperparameters.items())  # type: ignore
    return f"{generator.NAME} ({details})"


@torch.no_grad()
def update_average(average: nn.Module, generator: nn.Module, step: int, decay: float) -> None:
    """Move `average` towards `generator`; BatchNorm's running statistics are averaged with the weights they suit.

    The average starts short, so that it soon forgets the initial weights.
    """
    decay = min(decay, (1 + step) / (10 + step))
    means, values = average.state_dict().values(), generator.state_dict().values()
    floating = [(mean, value) for mean, value in zip(means, values, strict=True) if mean.is_floating_point()]
    torch._foreach_lerp_([mean for mean, _ in floating], [value for _, value in floating], 1 - decay)
    for mean, value in zip(average.buffers(), generator.buffers(), strict=True):
        if not mean.is_floating_point():
            mean.copy_(value)


def edge_gradients(**networks: nn.Module) -> dict[str, torch.Tensor]:
    """Mean absolute gradient of the weights of the first and the last convolution of each network, by name."""
    found = {}
    for name, network in networks.items():
        convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
        for place, module in (("first", convolutions[0]), ("last", convolutions[-1])):
            if module.weight.grad is not None:
                found[f"gradient/{name}_{place}"] = module.weight.grad.abs().mean()
    return found
