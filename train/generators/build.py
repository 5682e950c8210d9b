"""The generator a run begins with, its average over the steps, and the teacher it may have."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.generators.branches import branch
from train.generators.grow import grow
from train.generators.warmstart import start_as_interpolation
from train.options import Options
from train.run.pairs import Teacher
from vidsr.errors import VidsrError
from vidsr.models.architectures import Compact, SRResNet
from vidsr.models.base import Generator
from vidsr.models.checkpoint import find_model, installed_models, load_generator


def build_generator(options: Options, load: bool = True) -> tuple[Generator, str]:
    """The generator of `options`, and what it starts as: a weights file, "interpolation" or "scratch".

    load: False where a checkpoint's weights replace the first ones anyway, which may be gone by then.
    ValueError for a start that does not exist or is another generator's.
    """
    fresh: Generator = SRResNet(options.blocks)
    if options.generator == "compact":
        fresh = Compact(options.channels, options.layers, options.scale)
    generator, start = _start(fresh, options.init, load)
    if options.branches:
        assert isinstance(generator, Compact)
        branch(generator)
    return generator, start


def _start(fresh: Generator, init: str, load: bool) -> tuple[Generator, str]:
    start = init
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
    if isinstance(loaded, Compact) and isinstance(fresh, Compact) and loaded.scale > fresh.scale:
        loaded = reduce_scale(loaded, fresh.scale)
    if isinstance(loaded, Compact) and isinstance(fresh, Compact) and _smaller(loaded, fresh):
        grown = grow(loaded, fresh.channels, fresh.layers)
        if _kind(grown) == _kind(fresh):
            return grown.train(), f"{path}, grown from {loaded.channels} channels and {loaded.layers} layers"
    if _kind(loaded) != _kind(fresh):
        raise ValueError(f"--init {start}: weights of {_kind(loaded)}, expected {_kind(fresh)}")
    return loaded.train(), str(path)


def _smaller(loaded: Compact, fresh: Compact) -> bool:
    """Whether `fresh` has more of something than `loaded`, and less of nothing, and can do what it does."""
    size, wanted = (loaded.channels, loaded.layers), (fresh.channels, fresh.layers)
    return size != wanted and size[0] <= wanted[0] and size[1] <= wanted[1] and loaded.activation == fresh.activation


@torch.no_grad()
def reduce_scale(generator: Compact, scale: int) -> Compact:
    """A Compact of a smaller scale that starts as `generator` followed by a reduction by area.

    Exact for what the convolutions add: a mean of the last one's outputs is a convolution again. The skip is the
    smaller scale's own. ValueError when the scales do not divide.
    """
    times, rest = divmod(generator.scale, scale)
    if rest:
        raise ValueError(f"a generator of scale {generator.scale} cannot start one of scale {scale}")
    smaller = Compact(generator.channels, generator.layers, scale, generator.skip)
    state = generator.state_dict()
    last = len(generator.body) - 1
    for name in (f"body.{last}.weight", f"body.{last}.bias"):
        phases = state[name].unflatten(0, (3, scale, times, scale, times))  # colour, row, its parts, column, its parts
        state[name] = phases.mean(dim=(2, 4)).flatten(0, 2)
    smaller.load_state_dict(state)
    return smaller


def load_teacher(options: Options, device: torch.device) -> Teacher | None:
    """What `options.teacher` makes of lowres pictures, at the student's scale; None without a teacher.

    A teacher that enlarges more is reduced by area. ValueError when it does not exist or its scale does not fit.
    """
    if options.teacher is None:
        return None
    try:
        teacher = load_generator(find_model(options.teacher).path).folded()
    except VidsrError as error:
        raise ValueError(f"--teacher {options.teacher}: {error}") from None
    times, rest = divmod(teacher.scale, options.scale)
    if rest:
        raise ValueError(f"--teacher {options.teacher}: enlarges by {teacher.scale}, its student by {options.scale}")
    teacher = teacher.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def teach(lowres: Tensor) -> Tensor:
        picture = teacher(lowres.contiguous(memory_format=torch.channels_last)).float()
        return (F.avg_pool2d(picture, times) if times > 1 else picture).clamp(0, 1)

    return teach


def untrained(start: str) -> bool:
    """Whether a generator that starts like this has yet to learn what a picture is."""
    return start in ("interpolation", "scratch")


def _installed_start(fresh: Generator) -> str | None:
    """The installed model shaped like `fresh`, one trained without a critic before any other; None without any."""
    fitting = [model for model in installed_models() if _kind(load_generator(model.path)) == _kind(fresh)]
    fitting.sort(key=lambda model: (model.metadata.get("recipe", "resnet") != "resnet", model.name))
    return fitting[0].name if fitting else None


def _kind(generator: Generator) -> str:
    """Such as "srresnet (blocks 8, channels 64, scale 4)"."""
    details = ", ".join(f"{name} {value}" for name, value in generator.hyperparameters.items())
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
