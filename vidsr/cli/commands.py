"""The command line: parses, prints, exit codes. 0: done; 1: a run failed; 2: usage; 128 + n: stopped by signal n."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
from click_default_group import DefaultGroup

import vidsr
from vidsr import api
from vidsr.cli import console
from vidsr.errors import UsageError, VidsrError

_NAMES = ", ".join(f"{c.name} ({', '.join(c.aliases)})" if c.aliases else c.name for c in api.CODECS.values())
_CRF = ", ".join(f"{codec.name} {codec.crf:g}" for codec in api.CODECS.values() if codec.crf is not None)
_PRESETS = ", ".join(f"{codec.name} {codec.preset}" for codec in api.CODECS.values() if codec.preset)
_TIME = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d*)?)")


class Seconds(click.ParamType):
    """"90", "1:30", "0:01:30.5"."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        match = _TIME.fullmatch(value)
        if not match:
            self.fail(f"{value!r} is no time; write seconds or H:MM:SS", param, ctx)
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds


class _Commands(DefaultGroup):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`vidsr -- -dash.mkv`: what the group would take the mark from is the default command's."""
        return super().parse_args(ctx, ["upscale", *args] if args[:1] == ["--"] else args)


@click.group(cls=_Commands, default="upscale", default_if_no_args=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vidsr.__version__, prog_name="vidsr")
@click.pass_context
def main(context: click.Context) -> None:
    """Turn an anime episode into the same episode, larger and sharper, with nothing else touched.

    \b
    vidsr episode.mkv                    -> episode.4x.mkv
    vidsr episode.mkv --height 1080      -> episode.1080p.mkv
    vidsr episode.mkv --scale 2 -o out.mkv --codec x265 --crf 18
    vidsr picture.png                    -> picture.4x.png
    vidsr episode.mkv -o - | mpv -       watch it while it is made
    vidsr upscale --help                 all options
    """
    api.keep_memory()
    context.obj = context.with_resource(_Signals())


@main.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="INPUT...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Result, or a folder for several inputs; -: stream it to a player's pipe. [default: INPUT.4x.mkv beside it]")
@click.option("--scale", type=int, help="2, 3 or 4 times the size, as far as the model goes. [default: the model's, 4 for most]")
@click.option("--height", type=int, help="Rows of the result, such as 1080, in place of --scale. The model enlarges, and one good reduction does the rest; the picture keeps its shape. -> INPUT.1080p.mkv")
@click.option("--width", type=int, help="Columns of the result instead. -> INPUT.1920w.mkv")
@click.option("--fit", metavar="WxH", help="The largest size that fits into WxH pixels as they are stored, its shape kept. -> INPUT.1920x1080.mkv")
@click.option("--square-pixels", is_flag=True, help="Make pixels as wide as high, DVD's 8:9 and 32:27 for example, in the same step.")
@click.option("--crop", metavar="auto|W:H:X:Y|off", default="off", show_default=True, help="Only a part of each picture: W columns and H rows from column X and row Y on; auto: all but black bars. What the file's header crops is always cropped.")
@click.option("--overwrite", is_flag=True, help="Replace a result that exists.")
@click.option("--restart", is_flag=True, help="Throw unfinished work away instead of going on with it.")
@click.option("--model", default="auto", show_default=True, help=f"{', '.join(api.FAMILY)}; auto: the best of these that keeps up with the source on this machine, balanced for a still picture; best: the closest, whatever it costs. Or another installed model (see `vidsr models`), or a .pth or .safetensors file.")
@click.option("--backend", default="auto", show_default=True, help=f"auto: the fastest that runs here, measured where that is not known; or one of {', '.join(api.BACKENDS)}.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]), default="auto", show_default=True, help="Of the convolutions; fp16 needs a GPU, int8 is OpenVINO's.")
@click.option("--tile", default="auto", show_default=True, metavar="auto|N", help="Work on squares of N source pixels, for small memory; the result is the same.")
@click.option("--compile", is_flag=True, help="Fuse PyTorch's kernels with torch.compile (cuda, xpu, mps, cpu): up to a minute at first for each size of picture. Needs Triton on a GPU, a C++ compiler on a CPU.")
@click.option("--codec", default="auto", show_default=True, help=f"{_NAMES}; auto: one on the GPU where it works, else {api.AUTO_CODECS[0]}, or {api.AUTO_CODECS[-1]} for HDR10 and 12 bit.")
@click.option("--crf", type=float, help=f"Quality; lower is better and larger. [default: {_CRF}]")
@click.option("--preset", help=f"Encoder speed. [default: {_PRESETS}]")
@click.option("--encoder-option", "encoder_options", multiple=True, metavar="K=V", help="Any other option of the encoder, by FFmpeg's name; repeat it.")
@click.option("--pixel-format", metavar="NAME", help="Such as yuv420p or yuv420p10le. [default: the source's]")
@click.option("--threads", type=click.IntRange(1, 64), help="Encoder threads. [default: the cores, shared among the jobs, 16 at most]")
@click.option("--jobs", type=click.IntRange(1, 32), help="Segments worked on at once. [default: 1 on a CPU; with a GPU as many as keep the encoders busy]")
@click.option("--hwaccel", type=click.Choice(["auto", "off", "cuda"]), default="auto", show_default=True, help="Decode and encode on the GPU: where it works, never, or decode there or fail.")
@click.option("--reuse", type=click.Choice(["auto", "exact", "off"]), default="auto", show_default=True, help="Compute only what moves: what counts as still follows from the source's noise, is the same to the bit, or nothing is.")
@click.option("--grain", type=click.Choice(["clean", "keep"]), default="clean", show_default=True, help="What stands still is shown without its noise; keep: with the source's own noise laid over it, frame by frame.")
@click.option("--strength", type=float, default=1.0, show_default=True, help="How much of the model's work is taken, 0 to 1; the rest is the source plainly enlarged. 0.5 is softer and keeps more of its texture.")
@click.option("--deband", is_flag=True, help="Smooth skies and walls that have become bands; lines and textures stay. Best with --pixel-format yuv420p10le.")
@click.option("--deinterlace", type=click.Choice(["auto", "off", "bob", "ivtc"]), default="auto", show_default=True, help="Combs: auto: telecined film gets its own pictures back, video one picture for each two fields; bob: one for each field; ivtc: look harder for telecine; off: leave them.")
@click.option("--start", type=Seconds(), default=0.0, help="Begin here: seconds or H:MM:SS.")
@click.option("--duration", type=Seconds(), help="Do only this much.")
@click.option("--drop", multiple=True, metavar="WHAT", help=f"Leave tracks out: a number, or {', '.join(api.DROP_WORDS)}; repeat it.")
@click.option("--audio", type=click.Choice(["copy", *api.AUDIO]), default="copy", show_default=True, help="Keep all sound as it is, or encode it anew; flac loses nothing but what a source has beyond 24 bits.")
@click.option("--no-verify", is_flag=True, help="Skip the proof at the end.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only.")
@click.option("-v", "--verbose", is_flag=True, help="Print every check of the proof, and tracebacks of bugs.")
@click.pass_obj
def upscale(signals: _Signals, inputs: tuple[Path, ...], quiet: bool, verbose: bool, **given: Any) -> None:
    """Upscale INPUTs: episodes or still pictures. The default command: `vidsr episode.mkv`."""
    screen = signals.screen = console.Console(quiet)
    worst = 0
    try:
        options = _options(given)
        each, refused = api.targets(inputs, options, api.size_name(options))
    except VidsrError as error:
        _fail(error)
    for reason in refused:
        click.echo(f"vidsr: {reason}", err=True)
        worst = max(worst, reason.exit_code)
    for path, own in each:
        try:
            if own.output == api.STDOUT:
                _stream_episode(path, own, screen)
            elif api.makes_picture(path, own.output):
                with screen.progress(path.name) as show:
                    screen.result(api.upscale_picture_with(path, own, screen.warn, show))
            else:
                _upscale_episode(path, own, screen, signals, verbose)
        except VidsrError as error:
            screen.close()
            click.echo(f"vidsr: {error}", err=True)
            worst = max(worst, error.exit_code)
        except Exception as error:  # a bug, or a library's: one line, the rest with -v
            screen.close()
            if verbose:
                traceback.print_exc()
            click.echo(f"vidsr: {path}: unexpected {type(error).__name__}: {error} (details with -v)", err=True)
            worst = max(worst, 1)
        signals.kept = ""
    raise SystemExit(worst)


def _options(given: dict[str, Any]) -> api.Options:
    """The command line, parsed: "auto" is no choice."""
    pairs = {}
    for pair in given.pop("encoder_options"):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--encoder-option {pair}: write it as NAME=VALUE")
        pairs[key] = value
    chosen: dict[str, Any] = {
        name: None if value == "auto" and name != "crop" else value for name, value in given.items()
    }
    chosen["grain"] = None if chosen["grain"] == "clean" else chosen["grain"]
    chosen["audio"] = None if chosen["audio"] == "copy" else chosen["audio"]
    tile = chosen.pop("tile")
    if tile is not None and not (api.is_number(tile) and int(tile) >= api.LEAST_TILE):
        raise UsageError(f"--tile {tile}: choose auto or a number of pixels from {api.LEAST_TILE}")
    check = not chosen.pop("no_verify")
    return api.Options(encoder_options=pairs, tile=None if tile is None else int(tile), check=check, **chosen)


def _upscale_episode(
    path: Path, options: api.Options, screen: console.Console, signals: _Signals, verbose: bool
) -> None:  # fmt: skip
    plan = api.plan_with(path, options, screen.warn, screen.say)
    again = shlex.join(("vidsr", *(word for word in sys.argv[1:] if word != "--restart")))
    signals.kept = f"; finished segments are kept in {api.work_folder(plan.output)}. Go on with the same command: {again}"
    with screen.progress(path.name) as show:
        result = plan.run(progress=show, opened=screen.say)
    for what, number in sorted(result.counts.items()):
        screen.warn(f"{path.name}: {number} {what}")
    if result.proof is not None:
        for check in result.proof.checks if verbose else ():
            screen.say(f"  {check.name}: {check.detail}")
        screen.say(f"proved: {len(result.proof.checks)} checks passed")
    screen.result(result.output)


def _stream_episode(path: Path, options: api.Options, screen: console.Console) -> None:
    pipe = api.claim_stdout()
    with screen.progress(path.name) as show:
        whole, report = api.stream_with(path, options, pipe, screen.warn, screen.say, show, screen.say)
    for line in report.summary():
        screen.warn(f"{path.name}: {line}")
    if not whole:
        screen.say(f"{path.name}: stopped, since the player closed the pipe")


class _Signals:
    """SIGINT and SIGTERM end the process at once: nothing on disk needs tidying, that is what the journal is for.

    screen: has its bar taken down. kept: what is said besides, of the run that is under way.
    """

    def __init__(self) -> None:
        self.screen: console.Console | None = None
        self.kept = ""
        self.old: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.old[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *exception: Any) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: Any) -> NoReturn:
        if self.screen is not None:
            self.screen.close()
        click.echo(f"vidsr: stopped{self.kept}", err=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + number)


def _fail(error: VidsrError) -> NoReturn:
    click.echo(f"vidsr: {error}", err=True)
    raise SystemExit(error.exit_code)


def _guarded(action: Callable[[], None]) -> None:
    try:
        action()
    except VidsrError as error:
        _fail(error)


@main.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The result to plan for: its container decides what can be kept.")
@click.option("--machine", is_flag=True, help="What this machine can run on, and what each backend and GPU codec lacks.")
def probe(file: Path | None, output: Path | None, machine: bool) -> None:
    """What is in FILE, what will be kept, which colour was assumed and why."""
    if machine or file is None:
        if not machine:
            raise click.UsageError("name a FILE, or ask for --machine")
        for name, reason in api.capabilities().items():
            click.echo(f"{name}: {reason or 'ready'}")
            for device in api.devices(name) if name in api.BACKENDS else ():
                click.echo(f"  {device}")
        return

    def show() -> None:
        if api.makes_picture(file, output):
            picture = api.probe_picture(file)
            console.print_picture(picture, api.picture_losses(picture, output))
            return
        info = api.probe(file)
        console.print_source(info)
        for line in api.combs(info, lambda line: click.echo(line, err=True)):
            click.echo(f"  {line}")
        for line in api.about_times(info):
            click.echo(f"  {line}")
        console.print_keep(info, *api.what_is_kept(info, output))

    _guarded(show)


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--scale", type=int, help="Of the result, as it was asked for; the same for those that follow. [default: any larger size of the same shape]")
@click.option("--height", type=int)
@click.option("--width", type=int)
@click.option("--fit", metavar="WxH")
@click.option("--square-pixels", is_flag=True)
@click.option("--crop", metavar="auto|W:H:X:Y|off", default="off")
@click.option("--drop", multiple=True, type=int, metavar="N", help="Source tracks that may be missing. [default: those that the result's container cannot hold]")
@click.option("--audio", type=click.Choice(["copy", *api.AUDIO]), default="copy", show_default=True, help="What its sound was encoded anew as.")
@click.option("--start", type=Seconds(), default=0.0, help="The part of SOURCE that was upscaled.")
@click.option("--duration", type=Seconds())
@click.option("--deinterlace", type=click.Choice(["auto", "off", "bob", "ivtc"]), default="auto", show_default=True, help="As it was upscaled with.")
def verify(source: Path, result: Path, drop: tuple[int, ...], deinterlace: Any, **made: Any) -> None:
    """Prove that RESULT is SOURCE enlarged, with nothing else touched. Exit code 1 when it is not."""

    def prove() -> None:
        made["audio"] = None if made["audio"] == "copy" else made["audio"]
        made["deinterlace"] = None if deinterlace == "auto" else deinterlace
        proof = api.verify(source, result, dropped=set(drop) or None, **made)
        for check in proof.checks:
            click.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
        if not proof.passed:
            click.echo(f"{result}: {len(proof.failures)} of {len(proof.checks)} checks failed", err=True)
            raise SystemExit(1)
        click.echo(f"{result}: all {len(proof.checks)} checks passed")

    _guarded(prove)


@main.command()
def models() -> None:
    """The models that are installed, with what they were measured at."""
    _guarded(lambda: console.print_models(api.installed_models()))
