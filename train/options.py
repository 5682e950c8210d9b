"""What a run is made of, and the command-line options it is said with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click

from train.data.pack import Weights
from train.recipes.losses import CONTENT, Drawn
from train.recipes.optimisers import OPTIMISERS

DEGRADATIONS = ("none", "video")
# The Compact family, smallest first: channels, layers. best: for people who can wait, 3.3 times the cost of balanced.
STUDENTS = {"tiny": (24, 6), "fast": (32, 8), "balanced": (64, 16), "best": (96, 24)}


@dataclass(frozen=True)
class Options:
    """All that decides what a run computes; saved as options.json in its folder.

    The run ends after `epochs`, `steps` or `minutes`, whichever is first of those that are set. batch: pairs a step
    and process. crop: side of a highres crop, pixels. weights: how often a picture is drawn, see `Pack.train_crops`.
    critic_weights: the same for the pictures that a critic takes as real; none: those of the pairs.
    """

    recipe: str
    pack: str
    out: str
    init: str = "auto"
    generator: str = "srresnet"
    blocks: int = 8
    channels: int = 32
    layers: int = 8
    scale: int = 4
    branches: bool = False
    degrade: str = "none"
    line_targets: bool = False
    fresh: float = 1.0
    scenes: float = 0.0
    content: str = "mse"
    smooth_flats: float = 0.0
    even_lines: float = 0.0
    line_colours: float = 0.0
    structure: float = 0.0
    teacher: str | None = None
    teacher_weight: float = 0.5
    batch: int = 32
    crop: int = 96
    optimiser: str = "adam"
    rate: float = 1e-3
    schedule: str = "constant"
    warmup: int = 100
    clip: float | None = None
    ema: float = 0.999
    epochs: float | None = 500
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    precision: str = "auto"
    # Adversarial recipes only.
    pretrain_epochs: float = 2
    adversarial: float = 0.0
    critic_width: int = 64
    critic_rate: float | None = None
    critic_first: int = 0
    critic_weights: Weights = ()
    penalty: float = 10.0
    feature_matching: float = 0.0
    perceptual: str | None = None
    perceptual_weight: float = 0.006
    real_labels: tuple[float, float] = (0.85, 1.10)
    fake_labels: tuple[float, float] = (0.0, 0.15)
    flip: float = 0.05
    # How the run is kept and watched; none of these changes what it computes.
    workers: int = -1
    checkpoint_minutes: float = 2.0
    checkpoint_steps: int | None = None
    keep: int = 2
    validate_minutes: float = 4.0
    weights: Weights = ()
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("batch", "keep", "critic_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected 1 or more")
        if self.crop % 8 or not 16 <= self.crop <= 256:
            raise ValueError(f"crop: got {self.crop}, expected a multiple of 8 from 16 to 256")
        if not 0 <= self.scenes <= 1 or (self.scenes and self.degrade != "video"):
            got = f"{self.scenes:g} with --degrade {self.degrade}"
            raise ValueError(f"scenes: got {got}, expected 0 to 1, above 0 only with --degrade video")
        if self.generator == "srresnet" and (self.scale != 4 or self.branches):
            raise ValueError("scale, branches: the seed's generator enlarges by 4 and has none; use --generator compact")
        if self.epochs is None and self.steps is None and self.minutes is None:
            raise ValueError("epochs, steps, minutes: got none of them, expected at least one")

    @property
    def drawn(self) -> Drawn:
        """The weights that `losses.drawn_losses` takes."""
        return Drawn(self.smooth_flats, self.even_lines, self.line_colours, self.structure)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Options:
        """What `dataclasses.asdict` and JSON made of one. ValueError for fields of another version."""
        known = {f.name for f in fields(cls)}
        if set(saved) - known or "recipe" not in saved:
            odd = ", ".join(sorted(set(saved) - known)) or "no recipe"
            raise ValueError(f"options of another version of the trainer ({odd}): start a new run")
        pairs: dict[str, Any] = {
            name: tuple((str(pattern), float(number)) for pattern, number in saved.get(name, ()))
            for name in ("weights", "critic_weights")
        }
        labels: dict[str, Any] = {name: tuple(saved[name]) for name in ("real_labels", "fake_labels") if name in saved}
        return cls(**(saved | labels | pairs))


def _parse_weights(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> Weights:
    pairs = []
    for value in values:
        pattern, _, number = value.rpartition("=")
        try:
            pairs.append((pattern, float(number)))
        except ValueError:
            raise click.BadParameter(f"got {value!r}, expected PATTERN=NUMBER, such as 'gophers=0.4'") from None
    return tuple(pairs)


def _parse_metadata(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    parts = [value.partition("=") for value in values]
    return {key: text for key, _, text in parts}


pack_option = click.option("--pack", default="runs/pack", show_default=True, type=click.Path(file_okay=False),
                           help="What `python -m train prepare` made.")  # fmt: skip
weight_option = click.option("--weight", "weights", multiple=True, callback=_parse_weights, metavar="PATTERN=NUMBER",
                             help="How often pictures of a folder or name are drawn; 0 leaves them out. The first match counts; repeat it.")  # fmt: skip
metadata_option = click.option("--meta", "metadata", multiple=True, callback=_parse_metadata, metavar="KEY=TEXT",
                               help="Into the weights file: name, data, licence ...; repeat it.")  # fmt: skip

_RUN_OPTIONS = (
    click.option("--resume", type=click.Path(file_okay=False, path_type=Path), metavar="RUN",
                 help="Go on with the run in this folder, with its own options. --steps and --minutes then count from here."),
    pack_option,
    click.option("--out", type=click.Path(file_okay=False), help="Folder of the run. [default: runs/RECIPE]"),
    click.option("--init", help="What the generator begins as: auto (the installed weights of its kind, if any; else interpolation), interpolation, scratch, an installed model or a .safetensors file. A smaller Compact is grown."),
    click.option("--generator", type=click.Choice(["srresnet", "compact"])),
    click.option("--blocks", type=click.IntRange(1, 64), help="Residual blocks (srresnet): 4, 8 or 16 in the paper."),
    click.option("--channels", type=click.IntRange(4, 256), help="Channels (compact)."),
    click.option("--layers", type=click.IntRange(1, 64), help="Inner convolutions (compact)."),
    click.option("--scale", type=click.Choice([2, 4]), help="How many times the generator enlarges (compact)."),
    click.option("--branches/--plain", help="Train each inner convolution as several that are added up at the end (compact)."),
    click.option("--degrade", type=click.Choice(DEGRADATIONS), help="none: bicubic ÷4, the paper. video: what episodes go through, compression above all."),
    click.option("--line-targets/--plain-targets", help="Sharpen the lines of the pictures that are aimed at."),
    click.option("--fresh", type=click.FloatRange(0.01), help="New degraded pictures a step, of which crops are then drawn several times (video)."),
    click.option("--scenes", type=click.FloatRange(0, 1), metavar="SHARE", help="Of all pictures, how many are drawn by program instead of taken from the pack (video); see `python -m train scenes`."),
    click.option("--content", type=click.Choice(list(CONTENT)), help="Loss against the picture itself. log-l1: each picture of a batch counts the same, however bad its source."),
    click.option("--smooth-flats", type=click.FloatRange(0), help="Weight of what is left of blocks and noise where the picture aimed at is flat."),
    click.option("--even-lines", type=click.FloatRange(0), help="Weight of beads, steps and wobbles along the lines of the picture aimed at."),
    click.option("--line-colours", type=click.FloatRange(0), help="Weight of the error of colour on the lines of the picture aimed at, such as black ones that turn brown."),
    click.option("--structure", type=click.FloatRange(0), help="Weight of lost structure (1 - SSIM at three sizes): what is too soft, too faint, or invented."),
    click.option("--teacher", metavar="MODEL", help="Learn from what these weights make of the same pictures, too: an installed model or a weights file."),
    click.option("--teacher-weight", type=click.FloatRange(0, 1), help="The teacher's share in the content loss; the picture itself has the rest."),
    click.option("--batch", type=click.IntRange(1)),
    click.option("--crop", type=click.IntRange(16, 256), help="Side of a training crop, highres pixels, a multiple of 8."),
    click.option("--optimiser", type=click.Choice(OPTIMISERS), help="Of the generator. muon: its kernels by Muon, the rest by Adam; about as long a step, and more learnt in it."),
    click.option("--rate", type=click.FloatRange(0, min_open=True), help="Learning rate."),
    click.option("--schedule", type=click.Choice(["constant", "cosine"]), help="cosine: falls to zero when the run is done."),
    click.option("--warmup", type=click.IntRange(1), help="Steps of a linear warm-up of the rate (cosine)."),
    click.option("--clip", type=click.FloatRange(0, min_open=True), help="Largest norm of the generator's gradient."),
    click.option("--ema", type=click.FloatRange(0, 1), help="Decay of the averaged weights, which are the ones exported."),
    click.option("--epochs", type=click.FloatRange(0, min_open=True)),
    click.option("--steps", type=click.IntRange(1), help="Stop after this many steps ..."),
    click.option("--minutes", type=click.FloatRange(0, min_open=True), help="... or minutes, whichever is first."),
    click.option("--seed", type=int),
    click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), help="auto: bf16 where the device has it. The gradient penalty is always FP32."),
    click.option("--workers", type=click.IntRange(-1), help="Processes that degrade pictures (video). [default: the cores less one, at most 14]"),
    click.option("--checkpoint-minutes", type=click.FloatRange(0, min_open=True)),
    click.option("--checkpoint-steps", type=click.IntRange(1)),
    click.option("--keep", type=click.IntRange(1), help="Checkpoints kept; older ones are deleted."),
    click.option("--validate-minutes", type=click.FloatRange(0, min_open=True), help="Time between two looks at validation."),
    weight_option,
    metadata_option,
    click.option("--dry-run", is_flag=True, help="Say what would be trained, on what, and stop."),
)  # fmt: skip
_ADVERSARIAL_OPTIONS = (
    click.option("--adversarial", type=click.FloatRange(0), help="λ: weight of the adversarial loss beside the content loss."),
    click.option("--pretrain-epochs", type=click.FloatRange(0), help="Epochs of the content loss alone first, for a generator that starts untrained."),
    click.option("--critic-width", type=click.IntRange(4, 256), help="Channels of the critic's first layer; the paper's 64."),
    click.option("--critic-rate", type=click.FloatRange(0, min_open=True), help="Learning rate of the critic. [default: --rate]"),
    click.option("--critic-first", type=click.IntRange(0), help="Steps in which only the critic learns, at the start."),
    click.option("--feature-matching", type=click.FloatRange(0), help="Weight of the distance between the critic's features."),
    click.option("--perceptual", type=click.Path(exists=True, dir_okay=False), metavar="WEIGHTS", help="VGG weights (.safetensors, torchvision's names) for the paper's ablation."),
    click.option("--perceptual-weight", type=click.FloatRange(0)),
)  # fmt: skip
_WGAN_OPTIONS = (
    click.option("--penalty", type=click.FloatRange(0), help="Weight of the gradient penalty."),
    click.option("--critic-weight", "critic_weights", multiple=True, callback=_parse_weights, metavar="PATTERN=NUMBER",
                 help="As --weight, of the pictures that the critic takes as real, for example human art only; repeat it.  [default: the pairs' own]"),
)  # fmt: skip

Command = Callable[..., Any]


def run_options(**defaults: Any) -> Callable[[Command], Command]:
    """The options of a recipe, with `defaults` where they differ from `Options`' own; shown in --help."""
    adversarial = (*_RUN_OPTIONS, *_ADVERSARIAL_OPTIONS)
    groups: dict[str, tuple[Any, ...]] = {"resnet": _RUN_OPTIONS, "srgan": adversarial}
    chosen = groups.get(defaults["recipe"], (*adversarial, *_WGAN_OPTIONS))
    base = Options(**{"pack": "", "out": "", **defaults})

    def decorate(command: Command) -> Command:
        for option in reversed(chosen):
            command = option(command)
        for parameter in command.__click_params__:  # type: ignore[attr-defined]
            if parameter.name in ("pack", "out", "workers", "weights", "critic_weights", "metadata", "dry_run", "resume"):
                continue
            default = getattr(base, parameter.name)
            if default is not None:  # to click an explicit None is a value, and nothing would be missing then
                parameter.default, parameter.show_default = default, True
        return command

    return decorate


_NOT_OF_DISTIL = {"resume", "generator", "blocks", "channels", "layers", "epochs", "steps", "pretrain_epochs", "dry_run"}


def distil_options(command: Command) -> Command:
    """The options of `distil`, which are those of the two recipes it is made of, less what it decides itself."""
    command = run_options(
        recipe="srwgan-gp", generator="compact", branches=True, degrade="video", fresh=0.25, content="l1", batch=16,
        rate=1e-3, schedule="cosine", clip=0.5, epochs=None, minutes=60, adversarial=1e-3, critic_width=32, critic_first=100,
    )(command)  # fmt: skip
    shown = [p for p in command.__click_params__ if p.name not in _NOT_OF_DISTIL]  # type: ignore[attr-defined]
    for parameter in shown:
        if parameter.name == "teacher":
            parameter.required = True
        if parameter.name == "minutes":
            parameter.help = "Of both parts together."
        if parameter.name == "rate":
            parameter.help = "Learning rate of the first part; a tenth of it in the second."
    command.__click_params__ = shown  # type: ignore[attr-defined]
    command = click.option(
        "--critic-minutes", default=15.0, show_default=True, type=click.FloatRange(0), help="Of the second part, against the critic; 0: none."
    )(command)
    return click.option("--student", type=click.Choice(list(STUDENTS)), default="fast", show_default=True)(command)
