"""python -m train sprint: a quarter of an hour of a rented GPU, used well. See docs/training.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from train.data.pack import Weights
from train.options import metadata_option, pack_option, weight_option
from train.recipes.optimisers import OPTIMISERS

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def sprint() -> None:
    """A quarter of an hour of a rented GPU, used well.

    \b
    python -m train sprint pack     at home: crops of runs/pack -> runs/sprint-parts, files small enough to carry
    python -m train sprint run      there: several generators in the minutes there are

    `run` needs PyTorch, NumPy, OpenCV, safetensors and click alone, and a wheel of PyAV among the parts where the
    machine lacks it. docs/training.md goes through it step by step.
    """


@sprint.command()
@pack_option
@click.option("--scenes-pack", type=_FOLDER, help="A second pack, of drawn scenes.")
@click.option("--scenes-share", default=0.3, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True), help="How often crops of the second pack are drawn.")
@click.option("--out", default="runs/sprint-parts", show_default=True, type=_FOLDER)
@click.option("--part-mb", default=60.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Largest size of a part, MiB.")
@click.option("--quality", default=90, show_default=True, type=click.IntRange(1, 100), help="Of WebP; colours are kept at full resolution.")
@click.option("--validation", default=16, show_default=True, type=click.IntRange(1), help="Validation pictures that come along, at most.")
@click.option("--init", multiple=True, metavar="MODEL", help="Weights to begin with: an installed model or a weights file, named after its generator; repeat it.")
@click.option("--wheel", multiple=True, type=_FILE, help="A Python package that the machine lacks, such as PyAV's wheel; repeat it.")
@weight_option
@click.option("--replace", is_flag=True, help="Replace the parts that are in --out.")
def pack(**given: Any) -> None:
    """Put a pack's crops into files small enough to carry, and say what to bring in which order."""

    from train.data.pack import Pack
    from train.sprint.parts import Contents, loads, write_parts
    from vidsr.models.checkpoint import find_model

    packs = [(Pack.open(given["pack"]), 1.0)]
    if given["scenes_pack"]:
        share = given["scenes_share"]
        packs = [(packs[0][0], 1 - share), (Pack.open(given["scenes_pack"]), share)]
    weights: Weights = given["weights"]
    contents = Contents(
        packs, weights, int(given["part_mb"] * 2**20), given["quality"], given["validation"],
        [find_model(name).path for name in given["init"]], given["wheel"],
    )  # fmt: skip
    out: Path = given["out"]
    index = write_parts(contents, out, given["replace"], click.echo)
    click.echo(f"{len(index['crops'])} crops and {len(index['validation'])} validation pictures in {out}; bring")
    for number, (names, size) in enumerate(loads(index, out), 1):
        click.echo(f"  {number}. {size / 2**20:5.1f} MiB: {', '.join(names)}")
    click.echo(f"then, there: python -m train sprint run --parts {out} --minutes 11 --out OUT")


def _parse_plan(_context: click.Context, _option: click.Parameter, text: str) -> tuple[tuple[str, float], ...]:
    plan: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, share = part.partition("=")
        try:
            plan[name] = float(share or 1)
        except ValueError:
            plan[name] = 0.0
        if plan[name] <= 0:
            raise click.BadParameter(f"got {part!r}, expected NAME=SHARE, such as balanced=0.5,best=0.4,fast=0.1")
    return tuple(plan.items())


def _parse_init(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if odd := [name for name, _, start in pairs if not start]:
        raise click.BadParameter(f"got {odd[0]!r}, expected NAME=START, such as best=runs/best.safetensors")
    return {name: start for name, _, start in pairs}


def _parse_critic_share(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    shares = {"": 0.35}
    for value in values:
        name, _, share = value.rpartition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            shares[name] = -1.0
        if not 0 <= shares[name] < 1:
            raise click.BadParameter(f"got {value!r}, expected SHARE or NAME=SHARE, from 0 to less than 1")
    return shares


_SETTINGS = (
    click.option("--batch", default=32, show_default=True, type=click.IntRange(1), help="Crops a step; halved where memory does not hold them."),
    click.option("--crop", default=192, show_default=True, type=click.IntRange(16, 256), help="Side of a crop, highres pixels, a multiple of 8."),
    click.option("--critic-crop", default=128, show_default=True, type=click.IntRange(16, 256), help="The same against the critic."),
    click.option("--optimiser", default="muon", show_default=True, type=click.Choice(OPTIMISERS), help="Of the first stage; against the critic it is Adam. muon: kernels by Muon, the rest by Adam."),
    click.option("--rate", default=3e-4, show_default=True, type=click.FloatRange(0, min_open=True), help="Learning rate of the first stage; a tenth of it in the second."),
    click.option("--clip", default=0.5, show_default=True, type=click.FloatRange(0, min_open=True), help="Largest norm of the generator's gradient."),
    click.option("--ema", default=0.999, show_default=True, type=click.FloatRange(0, 1), help="Decay of the averaged weights, which are the ones exported."),
    click.option("--smooth-flats", default=0.35, show_default=True, type=click.FloatRange(0), help="Weight of dirt in flat areas, in both stages."),
    click.option("--even-lines", default=2.5, show_default=True, type=click.FloatRange(0), help="Weight of beads, steps and wobbles of lines."),
    click.option("--line-colours", default=0.35, show_default=True, type=click.FloatRange(0), help="Weight of the error of colour on lines."),
    click.option("--structure", default=1.0, show_default=True, type=click.FloatRange(0), help="Weight of lost structure."),
    click.option("--adversarial", default=1e-3, show_default=True, type=click.FloatRange(0), help="Weight of the adversarial loss beside L1."),
    click.option("--critic-first", default=500, show_default=True, type=click.IntRange(0), help="Steps in which the generator does not listen to the critic yet."),
    click.option("--critic-width", default=32, show_default=True, type=click.IntRange(4, 256), help="Channels of the critic's first layer."),
)  # fmt: skip


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


@sprint.command()
@click.option("--parts", default="runs/sprint-parts", show_default=True, type=_FOLDER, help="What `sprint pack` made.")
@click.option("--out", required=True, type=_FOLDER, help="For NAME.safetensors of each generator, always the newest, and log.jsonl.")
@click.option("--minutes", default=11.0, show_default=True, type=click.FloatRange(0, min_open=True), help="From the start of the process, its set-up and the last export included.")
@click.option("--plan", default="", callback=_parse_plan, help="Generators and their shares of the minutes, one after the other: balanced=0.5,best=0.4,fast=0.1.")
@click.option("--generator", multiple=True, metavar="NAME", help="Instead of --plan, with equal shares: best, balanced, fast, tiny or CHANNELSxLAYERS; repeat it. [default: balanced]")
@click.option("--critic-share", multiple=True, callback=_parse_critic_share, metavar="[NAME=]SHARE", help="Of each generator's time, or of one's, for the stage against the critic; 0: none; repeat it.  [default: 0.35]")
@click.option("--scale", default=4, show_default=True, type=click.Choice([2, 4]), help="How many times the generators enlarge.")
@click.option("--branches/--plain", default=True, show_default=True, help="Train each inner convolution as several that are added up at the end.")
@click.option("--init", multiple=True, callback=_parse_init, metavar="NAME=START", help="What a generator begins as: interpolation, scratch, an installed model or a .safetensors file; a smaller one is grown. [default: init/NAME.safetensors of the parts; else the largest that fits of those trained before it and those installed]")
@_with_settings
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--workers", type=click.IntRange(1), help="Processes that degrade pictures. [default: the cores less two]")
@click.option("--pool", type=click.IntRange(1), help="Degraded pairs kept on the device. [default: 49152, or what fits a third of its memory; on a CPU 256]")
@click.option("--first", type=click.IntRange(1), help="Pairs wanted before the first step. [default: 512, on a CPU 16]")
@click.option("--partial", is_flag=True, help="Do with the parts that are there; the first must be.")
@click.option("--export-minutes", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Between two exports: what a sudden end costs at most.")
@click.option("--seed", default=0, show_default=True)
@metadata_option
def run(**given: Any) -> None:
    """Train generators on parts, in the minutes there are: first L1 alone, then against the critic of SRWGAN-GP."""

    import torch

    from train.sprint.run import Sprint
    from train.sprint.run import run as train
    from train.sprint.steps import Settings

    names = given.pop("generator")
    if names and given["plan"]:
        raise click.UsageError("--plan and --generator say the same: give one of them")
    given["plan"] = given["plan"] or tuple((name, 1.0) for name in dict.fromkeys(names or ["balanced"]))
    ours = {option: given.pop(option) for option in list(given) if option in Settings.__dataclass_fields__}
    if ours["crop"] % 8 or ours["critic_crop"] % 8:
        raise click.UsageError("--crop, --critic-crop: expected multiples of 8")
    try:
        train(Sprint(**given, settings=Settings(**ours)), click.echo)
    except torch.OutOfMemoryError as error:
        raise ValueError(f"out of memory ({str(error).splitlines()[0]}): give a smaller --pool or --batch") from None
