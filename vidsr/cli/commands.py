"""The command line: parses, prints, exit codes. 0: done; 1: a run failed; 2: usage; 128 + n: stopped by signal n."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click
from click_default_group import DefaultGroup

import vidsr
from vidsr.backends import BACKENDS, available_backends, open_backend
from vidsr.choose.model import AUTO, FAMILY
from vidsr.choose.prepare import (
    SCALES,
    Options,
    check_output,
    check_stream,
    default_output,
    make_spec,
    prepare,
    with_scale,
)
from vidsr.cli import console
from vidsr.encode.encoder import CODECS
from vidsr.errors import UsageError, VidsrError
from vidsr.frames import TimeRange
from vidsr.machine import GPU_ENCODERS, decoder_missing, encoder_missing, keep_memory
from vidsr.models.checkpoint import installed_models
from vidsr.mux.stitch import DROP_WORDS, STDOUT, choose_tracks, default_suffix
from vidsr.proof.verify import verify as verify_files
from vidsr.report import Report
from vidsr.run.live import claim_stdout, stream
from vidsr.run.pipeline import run
from vidsr.run.stills import SUFFIXES as STILLS
from vidsr.run.stills import read_still, upscale_still, write_still
from vidsr.source.probe import probe as probe_file

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


@click.group(cls=DefaultGroup, default="upscale", default_if_no_args=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vidsr.__version__, prog_name="vidsr")
@click.pass_context
def main(context: click.Context) -> None:
    """Turn an anime episode into the same episode, larger and sharper, with nothing else touched.

    \b
    vidsr episode.mkv                    -> episode.4x.mkv
    vidsr episode.mkv --scale 2 -o out.mkv --codec x265 --crf 18
    vidsr picture.png                    -> picture.4x.png
    vidsr episode.mkv -o - | mpv -       watch it while it is made
    vidsr upscale --help                 all options
    """
    keep_memory()
    context.obj = context.with_resource(_Signals())


@main.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="INPUT...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Result, or a folder for several inputs; -: stream it to a player's pipe. [default: INPUT.4x.mkv beside it]")
@click.option("--scale", type=int, help="2, 3 or 4 times the size, as far as the model goes. [default: the model's, 4 for most]")
@click.option("--overwrite", is_flag=True, help="Replace a result that exists.")
@click.option("--restart", is_flag=True, help="Throw unfinished work away instead of going on with it.")
@click.option("--model", default=AUTO, show_default=True, help=f"{', '.join(FAMILY)}; auto: the best of these that keeps up with the source on this machine; best: the best for episodes. Or another installed model (see `vidsr models`), or a .pth or .safetensors file.")
@click.option("--backend", default="auto", show_default=True, help=f"auto: the fastest that runs here; or one of {', '.join(BACKENDS)}.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True)
@click.option("--tile", default="auto", show_default=True, metavar="auto|N", help="Work on squares of N source pixels, for small memory; the result is the same.")
@click.option("--codec", default="auto", show_default=True, help=f"{', '.join(CODECS)}; auto: h264_nvenc or hevc_nvenc (10 bit) where they work, else x264; x265 for HDR10 and 12 bit.")
@click.option("--crf", type=float, help="Quality; lower is better and larger. [default: x264 17, x265 18, svtav1 24; nvenc: h264 19, hevc 20, av1 26]")
@click.option("--preset", help="Encoder speed. [default: x264 veryfast, x265 fast, svtav1 8, nvenc p5]")
@click.option("--encoder-option", "encoder_options", multiple=True, metavar="K=V", help="Any other option of the encoder, by FFmpeg's name; repeat it.")
@click.option("--pixel-format", metavar="NAME", help="Such as yuv420p or yuv420p10le. [default: the source's]")
@click.option("--threads", type=click.IntRange(1, 64), help="Encoder threads. [default: the cores, shared among the jobs, 16 at most]")
@click.option("--jobs", type=click.IntRange(1, 32), help="Segments worked on at once. [default: 1 on a CPU; with a GPU as many as keep the encoders busy]")
@click.option("--hwaccel", type=click.Choice(["auto", "off", "cuda"]), default="auto", show_default=True, help="Decode and encode on the GPU: where it works, never, or decode there or fail.")
@click.option("--reuse", type=click.Choice(["auto", "exact", "off"]), default="auto", show_default=True, help="Compute only what moves: what counts as still follows from the source's noise, is the same to the bit, or nothing is.")
@click.option("--start", type=Seconds(), default=0.0, help="Begin here: seconds or H:MM:SS.")
@click.option("--duration", type=Seconds(), help="Do only this much.")
@click.option("--drop", multiple=True, metavar="WHAT", help=f"Leave tracks out: a number, or {', '.join(DROP_WORDS)}; repeat it.")
@click.option("--no-verify", is_flag=True, help="Skip the proof at the end.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only.")
@click.option("-v", "--verbose", is_flag=True, help="Print every check of the proof, and tracebacks of bugs.")
@click.pass_obj
def upscale(signals: _Signals, inputs: tuple[Path, ...], quiet: bool, verbose: bool, **given: Any) -> None:
    """Upscale INPUTs: episodes or still pictures. The default command: `vidsr episode.mkv`."""
    screen = signals.screen = console.Console(quiet)
    worst = 0
    try:
        options = with_scale(_options(given))
        each, refused = _each_target(inputs, options)
    except VidsrError as error:
        _fail(error)
    for reason in refused:
        click.echo(f"vidsr: {reason}", err=True)
        worst = max(worst, reason.exit_code)
    for path, own in each:
        try:
            if own.output == STDOUT:
                _stream_episode(path, own, screen)
            elif path.suffix.lower() in STILLS:
                _upscale_picture(path, own, screen)
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


def _options(given: dict[str, Any]) -> Options:
    pairs = {}
    for pair in given.pop("encoder_options"):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--encoder-option {pair}: write it as NAME=VALUE")
        pairs[key] = value
    tile = given.pop("tile")
    if tile != "auto" and not (_is_number(tile) and int(tile) >= 16):
        raise UsageError(f"--tile {tile}: choose auto or a number of pixels from 16")
    for word in given["drop"]:
        if word not in DROP_WORDS and not _is_number(word):
            raise UsageError(f"--drop {word}: choose a track number or one of {', '.join(DROP_WORDS)}")
    if given["scale"] is not None and given["scale"] not in SCALES:
        raise UsageError(f"--scale {given['scale']}: choose a number from {SCALES[0]} to {SCALES[-1]}")
    if given["duration"] is not None and given["duration"] <= 0:
        raise UsageError("--duration: must be more than nothing")
    return Options(
        encoder_options=pairs, scale=given.pop("scale") or 0, tile=0 if tile == "auto" else int(tile),
        drop=frozenset(given.pop("drop")), check=not given.pop("no_verify"), **given,
    )  # fmt: skip


def _is_number(text: str) -> bool:
    """Whether `text` is what Python takes as a whole number without a sign: "²" and "٣" count as digits, too."""
    return text.isascii() and text.isdecimal()


def _each_target(inputs: tuple[Path, ...], options: Options) -> tuple[list[tuple[Path, Options]], list[VidsrError]]:
    """(each input with `options` for its own result, why others cannot be written), before anything is made.

    UsageError where two inputs would have one result, or one's result is another: what is meant nobody can know.
    """
    if options.output == STDOUT:
        check_stream(inputs, options)
        return [(inputs[0], options)], []
    if len(inputs) > 1 and options.output is not None and not options.output.is_dir():
        raise UsageError(f"{options.output}: several inputs need an existing folder as -o")
    each: list[tuple[Path, Options]] = []
    refused: list[VidsrError] = []
    sources = {os.path.realpath(path): path for path in inputs}
    taken: dict[str, Path] = {}
    for path in inputs:
        output = _own_output(path, options)
        place = os.path.normcase(os.path.join(os.path.realpath(output.parent), output.name))
        if place in taken:
            both = f"both {taken[place]} and {path}"
            raise UsageError(f"{output}: would be the result of {both}; run vidsr for each, with a name of its own as -o")
        taken[place] = path
        other = sources.get(os.path.realpath(output), path)
        if other is not path:
            raise UsageError(f"{output}: the result of {path} would replace {other}, which is to be upscaled, too")
        try:
            check_output(path, output, options.overwrite)
            each.append((path, replace(options, output=output)))
        except VidsrError as error:
            refused.append(error)
    return each, refused


def _own_output(path: Path, options: Options) -> Path:
    """Where this input's result goes: as asked for, into the folder asked for, or beside it."""
    still = path.suffix.lower() if path.suffix.lower() in STILLS else None
    if options.output is None:
        return default_output(path, options.scale, still)
    if options.output.is_dir():
        return options.output / default_output(path, options.scale, still).name
    return options.output


def _upscale_episode(
    path: Path, options: Options, screen: console.Console, signals: _Signals, verbose: bool
) -> None:  # fmt: skip
    report = Report(screen.warn)
    job = prepare(path, options, report, screen.say)
    again = shlex.join(("vidsr", *sys.argv[1:]))
    signals.kept = f"; finished segments are kept in {job.output}.vidsr. Go on with the same command: {again}"
    with screen.progress(path.name) as show:

        def opened(spec: Any) -> Any:
            backend = open_backend(spec, notify=report.warn)
            screen.say(backend.description)
            return backend

        proof = run(job, opened, report, show)
    for line in report.summary():
        screen.warn(f"{path.name}: {line}")
    if proof is not None:
        for check in proof.checks if verbose else ():
            screen.say(f"  {check.name}: {check.detail}")
        screen.say(f"proved: {len(proof.checks)} checks passed")
    screen.result(job.output)


def _stream_episode(path: Path, options: Options, screen: console.Console) -> None:
    pipe = claim_stdout()
    report = Report(screen.warn)
    job = prepare(path, options, report, screen.say)
    screen.say("streaming; a stream cannot be read back, so it is not proved")
    with screen.progress(path.name) as show:

        def opened(spec: Any) -> Any:
            backend = open_backend(spec, notify=report.warn)
            screen.say(backend.description)
            return backend

        whole = stream(job, pipe, opened, report, show)
    for line in report.summary():
        screen.warn(f"{path.name}: {line}")
    if not whole:
        screen.say(f"{path.name}: stopped, since the player closed the pipe")


def _upscale_picture(path: Path, options: Options, screen: console.Console) -> None:
    output = options.output or default_output(path, options.scale, path.suffix.lower())
    if output.suffix.lower() not in STILLS:
        raise UsageError(f"{output}: a picture's result is a picture: end it in {', '.join(STILLS)}")
    picture, metadata = read_still(path)
    check_output(path, output, options.overwrite)
    report = Report(screen.warn)

    def spec(format: Any, color: Any) -> Any:
        return make_spec(options, format, color, format, color)

    write_still(output, upscale_still(picture, spec, lambda s: open_backend(s, notify=report.warn)), metadata, options.overwrite)
    screen.result(output)


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
        for name, reason in available_backends().items():
            click.echo(reason or f"{name}: ready")
        click.echo(f"hardware decoding: {decoder_missing() or 'ready'}")
        for encoder in GPU_ENCODERS:
            click.echo(f"{encoder}: {encoder_missing(encoder) or 'ready'}")
        return

    def show() -> None:
        info = probe_file(file)
        target = output or file.with_suffix(default_suffix(file))  # only the suffix counts
        console.print_source(info)
        keep = choose_tracks(info, target, {"unsupported"})
        console.print_keep(info, keep, target)

    _guarded(show)


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--scale", type=int, help="Expected enlargement. [default: whatever the sizes say]")
@click.option("--drop", multiple=True, type=int, metavar="N", help="Source tracks that may be missing. [default: those that the result's container cannot hold]")
@click.option("--start", type=Seconds(), default=0.0, help="The part of SOURCE that was upscaled.")
@click.option("--duration", type=Seconds())
def verify(source: Path, result: Path, scale: int | None, drop: tuple[int, ...], start: float, duration: float | None) -> None:
    """Prove that RESULT is SOURCE enlarged, with nothing else touched. Exit code 1 when it is not."""

    def prove() -> None:
        span = TimeRange(start, None if duration is None else start + duration)
        proof = verify_files(source, result, scale, set(drop) or None, span)
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
    _guarded(lambda: console.print_models(installed_models()))
