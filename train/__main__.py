"""python -m train: teach generators from still pictures."""

from __future__ import annotations

import json
from pathlib import Path

import click

from train.degrade import DEGRADATIONS

Weights = tuple[tuple[str, float], ...]


def _weight(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> Weights:
    pairs = []
    for value in values:
        pattern, _, number = value.rpartition("=")
        try:
            pairs.append((pattern, float(number)))
        except ValueError:
            raise click.BadParameter(f"got {value!r}, expected PATTERN=NUMBER, such as 'gophers=0.4'") from None
    return tuple(pairs)


def _meta(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    return dict(value.partition("=")[::2] for value in values)


stills_option = click.option("--stills", required=True, type=click.Path(exists=True, file_okay=False), help="Folder.")
weight_option = click.option(
    "--weight", "weights", multiple=True, callback=_weight, metavar="PATTERN=NUMBER",
    help="How often pictures of a folder or name are drawn; 0 leaves them out. The first match counts.",
)  # fmt: skip


@click.group()
def main() -> None:
    """Teach generators from still pictures. Run from a checkout."""


@main.command()
@stills_option
@weight_option
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Folder of the run, such as runs/fast.")
@click.option("--generator", type=click.Choice(["srresnet", "compact"]), default="srresnet", show_default=True)
@click.option("--blocks", default=8, show_default=True, help="Residual blocks (srresnet).")
@click.option("--channels", default=32, show_default=True, help="Channels (compact).")
@click.option("--layers", default=8, show_default=True, help="Inner convolutions (compact).")
@click.option("--degrade", type=click.Choice(DEGRADATIONS), default="none", show_default=True)
@click.option("--loss", type=click.Choice(["l1", "mse"]), default="l1", show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--crop", default=96, show_default=True, help="Side of a training crop, highres pixels.")
@click.option("--rate", type=float, help="Learning rate at the start. [default: 4e-4, compact 1e-3]")
@click.option("--clip", default=0.5, show_default=True, help="Largest norm of the gradient.")
@click.option("--ema", default=0.999, show_default=True, help="Decay of the averaged weights, which are exported.")
@click.option("--steps", type=click.IntRange(1), help="Stop after this many steps ...")
@click.option("--minutes", type=float, help="... or minutes. The cosine of the rate ends with whichever is first.")
@click.option("--validate-minutes", default=4.0, show_default=True, help="Time between two looks at validation.")
@click.option("--seed", default=0, show_default=True)
@click.option("--bf16/--fp32", default=None, help="Autocast. [default: bf16 where the CPU has it]")
@click.option("--meta", "metadata", multiple=True, callback=_meta, metavar="KEY=TEXT", help="Into the weights file.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
def resnet(resume: bool, **options) -> None:  # type: ignore[no-untyped-def]
    """Train a generator alone, against the picture itself."""
    from train.resnet import NotFinite, Options, train

    if options["rate"] is None:
        options["rate"] = 1e-3 if options["generator"] == "compact" else 4e-4
    try:
        weights = train(Options(**options), resume, click.echo)
    except (ValueError, OSError, NotFinite) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"wrote {weights}")


@main.command()
@click.argument("weights_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@stills_option
@weight_option
@click.option("--degrade", type=click.Choice(DEGRADATIONS), default="video", show_default=True,
              help="video measures both clean and compressed sources.")  # fmt: skip
def evaluate(weights_file: Path, stills: str, weights: Weights, degrade: str) -> None:
    """PSNR and SSIM of WEIGHTS_FILE and of bicubic on the validation pictures: a table, then JSON."""
    from train.evaluate import Validation
    from vidsr.checkpoint import load_generator

    validation = Validation(stills, weights, degrade, click.echo)
    metrics = validation.measure(load_generator(weights_file))
    click.echo(f"{'source':12}{'':12}{'PSNR dB':>10}{'SSIM':>10}")
    for name, found in metrics.items():
        for who, values in (("bicubic", validation.bicubic[name]), (weights_file.stem, found)):
            source = "clean" if name == "none" else "compressed"
            click.echo(f"{source:12}{who:12}{values['psnr']:10.2f}{values['ssim']:10.4f}")
    click.echo(json.dumps({"generator": metrics, "bicubic": validation.bicubic}))


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("weights_file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--meta", "metadata", multiple=True, callback=_meta, metavar="KEY=TEXT", help="Into the weights file.")
def export(run: Path, weights_file: Path, metadata: dict[str, str]) -> None:
    """Measure the checkpoint in the folder RUN again and write its weights to WEIGHTS_FILE."""
    from train.resnet import publish

    publish(run, weights_file, metadata, click.echo)


if __name__ == "__main__":
    main()
