"""python -m engines …: the workshop of TensorRT engines. `vidsr` builds those it needs by itself; this does it ahead."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from engines.work import PROFILES, Wanted, parse_targets, wanted
from vidsr.backends.tensorrt.cache import EngineCache, Entry
from vidsr.backends.tensorrt.file import StoredEngine, read_portable, write_portable
from vidsr.choose.model import USUAL
from vidsr.errors import BackendError, UsageError, VidsrError
from vidsr.frames import PixelFormat

_DAY = 86400


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Build, list, compare and delete TensorRT engines.

    \b
    python -m engines build --for episode.mkv             for this machine's GPU, compared with float32
    python -m engines build --profile 480p,720p --target SM86,SM89,SM120 -o FOLDER
                                                          for other cards; needs TensorRT-RTX and no GPU
    python -m engines add FOLDER                          on the machine that has such a card
    """


def _what(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which engines are meant, parsed into `wants`."""

    @click.option("--for", "files", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="For the size, format and colour of this video; repeat it.")
    @click.option("--profile", "profiles", default="", metavar="NAMES", help=f"For sizes: WIDTHxHEIGHT or {', '.join(PROFILES)}, separated by commas.")
    @click.option("--model", "models", multiple=True, default=(USUAL,), show_default=True, help="Installed model (`vidsr` takes balanced on most GPUs, best on those that can), or a .pth or .safetensors file; repeat it.")
    @click.option("--scale", type=int, default=0, show_default="the model's")
    @click.option("--pixel-format", help="Of the results. [default: as vidsr chooses]")
    @functools.wraps(command)
    def parsed(files: Any, profiles: str, models: Any, scale: int, pixel_format: str | None, **rest: Any) -> None:
        with _errors():
            command(wants=wanted(files, profiles, models, scale, pixel_format), **rest)

    return parsed


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except VidsrError as error:
        click.echo(f"engines: {error}", err=True)
        raise SystemExit(error.exit_code) from error


def _say(line: str) -> None:
    click.echo(f"  {line}", err=True)


@main.command()
@_what
@click.option("--target", "targets", default="", metavar="CARDS", help="Compute capabilities, such as SM86,SM89,SM120, instead of this machine's GPU.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Put engines for --target here, for other machines. [default: this user's cache]")
def build(wants: list[Wanted], targets: str, output: Path | None) -> None:
    """Build engines ahead of time, and say how long each took."""
    cards = parse_targets(targets)
    if output is not None and not cards:
        raise UsageError("-o FOLDER is for other machines: name their cards with --target")
    start = time.monotonic()
    refused = 0
    built = 0
    for i, want in enumerate(wants, 1):
        for stored in _build_ahead(want, cards, output) if cards else _build_here(want, verify=False):
            built, refused = built + 1, refused + bool(stored.refused)
            click.echo(f"{i} of {len(wants)}  {want}: {_told(stored)}")
    click.echo(f"{built - refused} engines in {time.monotonic() - start:.0f} s, {refused} refused")
    if refused:
        raise SystemExit(1)


@main.command()
@_what
def verify(wants: list[Wanted]) -> None:
    """Compare engines with PyTorch in float32 once more, on this machine's GPU. Exit code 1 when one is refused."""
    refused = 0
    for want in wants:
        for stored in _build_here(want, verify=True):
            refused += bool(stored.refused)
            click.echo(f"{want}: {_told(stored)}")
    if refused:
        raise SystemExit(1)


@main.command("list")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
def list_engines(folder: Path | None) -> None:
    """What is in the cache, or in a FOLDER of engines for other machines."""
    with _errors():
        if folder is not None:
            for path in sorted(folder.glob("*.engine")):
                click.echo(f"{path.name[:12]}  {_described(read_portable(path))}, {path.stat().st_size / 1e6:.1f} MB")
            return
        cache = EngineCache(notify=_say)
        entries = cache.entries()
        for entry in entries:
            used = time.strftime("%Y-%m-%d", time.localtime(entry.used))
            what = _described(entry.stored) if entry.stored else f"not believed: {entry.reason}"
            click.echo(f"{entry.path.name[:12]}  {what}, {entry.size / 1e6:.1f} MB, last used {used}")
        total = sum(entry.size for entry in entries) / 1e6
        click.echo(f"{len(entries)} engines, {total:.1f} of {cache.limit_bytes / 1e6:.0f} MB, in {cache.folder}")


@main.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
def add(folder: Path) -> None:
    """Trust engines built elsewhere: a FOLDER of `build -o`, or one file of it.

    An engine is code that runs on your GPU: add only what you or somebody you trust has built. Each is compared with
    float32 when it is first used.
    """
    with _errors():
        added = EngineCache(notify=_say).add(folder)
        for stored in added:
            click.echo(_described(stored))
        click.echo(f"{len(added)} engines added")
        if not added:
            raise SystemExit(1)


@main.command()
@click.option("--all", "everything", is_flag=True, help="Every engine.")
@click.option("--refused", is_flag=True, help="What was refused, or could not be built, so that it is tried again.")
@click.option("--older", type=click.IntRange(0), metavar="DAYS", help="What was not used for so long.")
def clean(everything: bool, refused: bool, older: int | None) -> None:
    """Delete engines; they are built again when they are needed."""
    with _errors():
        if not (everything or refused or older is not None):
            raise UsageError("say what to delete: --all, --refused, --older DAYS, or several of them")
        cache = EngineCache(notify=_say)

        def meant(entry: Entry) -> bool:
            if everything or entry.stored is None:
                return True
            old = older is not None and time.time() - entry.used > older * _DAY
            return old or (refused and bool(entry.stored.refused))

        gone = [entry for entry in cache.entries() if meant(entry) and cache.remove(entry)]
        cache.prune()
        click.echo(f"{len(gone)} engines deleted, {sum(entry.size for entry in gone) / 1e6:.1f} MB")


def _build_ahead(want: Wanted, targets: tuple[str, ...], output: Path | None) -> Iterator[StoredEngine]:
    from vidsr.backends.tensorrt.body import build_ahead
    from vidsr.backends.tensorrt.compiler import find_package

    for stored in build_ahead(want.spec, want.width, want.height, targets, find_package()):
        if output is not None:
            write_portable(output, stored)
        elif not EngineCache(notify=_say).put(stored):
            raise BackendError("the engine cannot be kept: name a folder with -o")
        yield stored


def _build_here(want: Wanted, verify: bool) -> list[StoredEngine]:
    """By the backend itself, as `vidsr` would: made pictures of each size go through it."""
    from vidsr.backends.tensorrt.body import engine_body, open_with, sizes, tensorrt_missing
    from vidsr.frames import Frame, FrameBatch

    if reason := tensorrt_missing():
        raise BackendError(f"{reason}; for cards of other machines use build --target")
    body = engine_body(_say, verify)
    backend = open_with(body, want.spec, _say)
    try:
        for width, height in sizes(want.width, want.height, backend.context or 0):
            frame = Frame(made_planes(want.spec.source_format, width, height))
            backend(FrameBatch((frame,), want.spec.source_format, want.spec.source_color))
        built = [stored for stored in body.engines.values() if stored is not None]
    finally:
        backend.close()
    if not built:
        raise BackendError(f"{want}: no engine could be built")
    return built


def made_planes(format: PixelFormat, width: int, height: int) -> tuple[Any, ...]:
    """One source frame of what upscalers find hard."""
    import torch

    from vidsr.backends.trust import made_picture

    dtype = torch.uint8 if format.bits == 8 else torch.uint16
    like = [torch.empty((1, *shape), dtype=dtype) for shape in format.plane_shapes(width, height)]
    return tuple(plane[0].numpy() for plane in made_picture(like, format))


def _told(stored: StoredEngine) -> str:
    if stored.refused:
        return f"refused: {stored.refused}"
    n, _, height, width = stored.key.shape
    size = f"{n} of {width}x{height} at once, {len(stored.engine) / 1e6:.1f} MB, built in {stored.seconds:.1f} s"
    return f"{size}, {'compared when first used' if stored.psnr is None else f'{stored.psnr:.1f} dB against float32'}"


def _described(stored: StoredEngine) -> str:
    key = stored.key
    n, _, height, width = key.shape
    cards = key.gpu or f"cards of compute capability {', '.join(key.capabilities)}"
    state = f"refused: {stored.refused}" if stored.refused else (
        "not compared yet" if stored.psnr is None else f"{stored.psnr:.1f} dB"
    )
    return f"{stored.model} {n}x{width}x{height} {key.dtype}, {key.package} {key.package_version}, {cards}, {state}"


if __name__ == "__main__":
    main()
