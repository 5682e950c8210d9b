"""python -m train: teach generators from still pictures."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from train.options import Options, distil_options, metadata_option, run_options

_ELSEWHERE = {
    "prepare": "train.data.prepare", "scenes": "train.scenes.command", "evaluate": "train.judge.evaluate",
    "study": "train.judge.study", "sprint": "train.sprint.command",
}  # fmt: skip


class _Lazy(click.Group):
    """Imports the module of a command when it is asked for, so that training needs only what training needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [
            "prepare", "scenes", "resnet", "srgan", "srwgan-gp", "distil", "sprint", "evaluate", "study", "export",
        ]  # fmt: skip

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in _ELSEWHERE:
            return getattr(importlib.import_module(_ELSEWHERE[name]), name)
        return super().get_command(ctx, name)

    def invoke(self, ctx: click.Context) -> Any:
        """One line for what a user can mend; tracebacks are for bugs."""
        from vidsr.errors import VidsrError

        try:
            return super().invoke(ctx)
        except (ValueError, OSError, VidsrError) as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Teach generators from still pictures. Run from a checkout.

    \b
    python -m train prepare STILLS...     pictures -> runs/pack
    python -m train scenes OUT            pictures drawn by program
    python -m train srwgan-gp             -> runs/srwgan-gp/generator.safetensors
    python -m train evaluate              figures and strips of all that was trained
    """


@main.command()
@run_options(recipe="resnet", clip=0.5, schedule="cosine")
def resnet(**given: Any) -> None:
    """Train a generator alone, against the picture itself."""
    _run("resnet", given)


@main.command()
@run_options(recipe="srgan", crop=128, rate=1e-3, adversarial=1e-2)
def srgan(**given: Any) -> None:
    """Train a generator against a discriminator (the paper's SRGAN)."""
    _run("srgan", given)


@main.command("srwgan-gp")
@run_options(recipe="srwgan-gp", crop=96, rate=1e-4, adversarial=1e-3)
def srwgan_gp(**given: Any) -> None:
    """Train a generator against a critic with gradient penalty (the paper's SRWGAN-GP)."""
    _run("srwgan-gp", given)


@main.command()
@distil_options
def distil(**given: Any) -> None:
    """Train a small generator on a large one's pictures and the true ones, then against a critic.

    The same command again goes on with what was interrupted.
    """
    student, critic_minutes = given.pop("student"), given.pop("critic_minutes")
    given["out"] = given["out"] or f"runs/{student}" + ("" if given["scale"] == 4 else f"-{given['scale']}x")

    from train.recipes.distil import stages, train

    options = Options(recipe="resnet", generator="compact", **_said(given))
    train(stages(options, student, critic_minutes), click.echo)


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("weights_file", type=click.Path(dir_okay=False, path_type=Path))
@metadata_option
def export(run: Path, weights_file: Path, metadata: dict[str, str]) -> None:
    """Measure the newest checkpoint of the folder RUN again and write its averaged weights to WEIGHTS_FILE."""
    from train.run.run import publish

    publish(run, weights_file, metadata, click.echo)


def _run(recipe: str, given: dict[str, Any]) -> None:
    resume, dry_run = given.pop("resume"), given.pop("dry_run")
    context = click.get_current_context()
    if resume:
        kept = {"resume", "steps", "minutes", "dry_run"}
        said = click.core.ParameterSource.COMMANDLINE
        if odd := sorted({name for name in context.params if context.get_parameter_source(name) == said} - kept):
            raise click.UsageError(f"--resume goes on with the run's own options; leave out {', '.join(odd)}")
    options = _said(given)
    options["out"] = options.get("out") or f"runs/{recipe}"

    from train.run.checkpoints import read_options

    chosen = read_options(resume) if resume else Options(recipe=recipe, **options)
    if dry_run:
        _describe(chosen)
        return
    if resume:
        chosen = replace(chosen, steps=given["steps"], minutes=given["minutes"])
    from train.recipes.loop import train

    train(chosen, resume, click.echo)


def _said(given: dict[str, Any]) -> dict[str, Any]:
    """Without what `Options` decides; None means something for those that end a run or limit it."""
    return {k: v for k, v in given.items() if v is not None or k in ("clip", "epochs", "steps", "minutes")}


def _describe(options: Options) -> None:
    from train.data.pack import Pack
    from train.generators.build import build_generator

    pack = Pack.open(options.pack)
    generator, start = build_generator(options)
    parameters = sum(p.numel() for p in generator.parameters())
    click.echo(json.dumps(asdict(options), indent=2))
    crops = len(pack.train_crops(options.weights)[1])
    click.echo(f"{crops} crops of {pack.folder}; {parameters:,} parameters; starts as {start}")


if __name__ == "__main__":
    main()
