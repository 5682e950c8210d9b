"""A small generator from a large one: first its pictures and the true ones, then the critic of SRWGAN-GP.

Two runs one after the other, each in a folder of its own, so that each part's worth can be measured
(`python -m train evaluate OUT/1-content/generator.safetensors OUT/2-critic/generator.safetensors`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from train.options import STUDENTS, Options
from train.recipes import loop as recipes
from train.run.checkpoints import Checkpoints, read_options

WEIGHTS = "generator.safetensors"


def stages(options: Options, student: str, critic_minutes: float) -> list[Options]:
    """What `options` (of both stages, for a Compact generator) mean for each of them. student: one of STUDENTS.

    options.minutes: of both together. critic_minutes: of the second, 0 for none. ValueError when nothing is left for
    the first.
    """
    channels, layers = STUDENTS[student]
    common = replace(options, channels=channels, layers=layers)
    folder = Path(options.out)
    content_minutes = None if options.minutes is None else options.minutes - critic_minutes
    if content_minutes is not None and content_minutes <= 0:
        raise ValueError(f"--critic-minutes {critic_minutes:g}: leaves none of {options.minutes:g} for the content")
    content = replace(common, recipe="resnet", out=str(folder / "1-content"), minutes=content_minutes)
    if not critic_minutes:
        return [content]
    # With a Compact generator the critic is nearly all of a step's cost: smaller crops give it more steps. The rate is
    # a tenth: what is there is to be moved a little.
    critic = replace(
        common, recipe="srwgan-gp", out=str(folder / "2-critic"), minutes=critic_minutes,
        init=str(folder / "1-content" / WEIGHTS), crop=min(64, options.crop), rate=options.rate / 10,
        critic_rate=options.critic_rate or options.rate / 5,
    )  # fmt: skip
    return [content, critic]


def train(options: list[Options], say: Callable[[str], None] = print) -> Path:
    """Run the stages; returns the path of the last one's weights, also copied beside the stages' folders.

    A stage that is done is not run again, one that was interrupted goes on: call it again after whatever stopped it.
    ValueError for a folder that holds a run of other options; more see `Run`.
    """
    weights = Path()
    for stage in options:
        folder = Path(stage.out)
        weights = folder / WEIGHTS
        begun = (folder / "options.json").exists()
        if begun and (kept := read_options(folder)) != stage:
            changed = ", ".join(k for k in vars(stage) if getattr(kept, k) != getattr(stage, k))
            raise ValueError(f"{folder} holds a run with another {changed}: give the same again, or another --out")
        if weights.exists():
            say(f"{folder}: done before")
            continue
        resume = folder if begun and Checkpoints(folder / "checkpoints", stage.keep).paths() else None
        # A resumed run goes on to the end it was given: it is not asked for more.
        wanted = replace(stage, steps=None, minutes=None, epochs=stage.epochs or 1) if resume else stage
        recipes.train(wanted, resume, say)
    result = weights.parent.parent / WEIGHTS
    shutil.copyfile(weights, result)
    say(f"{result}: the student")
    return result
