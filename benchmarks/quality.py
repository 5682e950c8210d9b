"""How near vidsr's models, bicubic and other upscalers come to the original: PSNR, SSIM and SSIMULACRA2, and crops to look at."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from benchmarks.machine import RESULTS, write_result
from benchmarks.peer_folder import PEERS, check_peers, default_folder, names
from benchmarks.quality_measure import Measurer
from benchmarks.quality_report import table
from benchmarks.quality_store import Store
from benchmarks.quality_subjects import Subject, find_clips, find_stills, folder_stills, pack_stills
from benchmarks.quality_upscalers import BICUBIC, Upscaler, bicubic, our_models, peer
from vidsr.checkpoint import find_model
from vidsr.errors import UsageError
from vidsr.hardware import cores

PACK = Path("runs/pack")
WITHOUT = ("t2_*", "duelyst_tiles")  # game maps and tiles: weight 0 in the training of the shipped models


@click.command()
@click.option("--models", default="", help="Ours, separated by commas: installed ones and .safetensors files.  [default: all installed]")
@click.option("--peers", "peer_names", default="animevideov3", show_default=True, help=f"The others, of {', '.join(PEERS)}.")
@click.option("--clips", type=click.Path(exists=True, path_type=Path), multiple=True, help="A clip NAME_lowres270_crfNN that has its original NAME_highres1080 beside it, or a folder of such; repeat it.")
@click.option("--frames", type=click.IntRange(1), default=3, show_default=True, help="How many of each clip, spread over it.")
@click.option("--stills", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of pictures, which are reduced here.")
@click.option("--pack", type=click.Path(exists=True, file_okay=False, path_type=Path), help=f"Or a training pack, of which the test pictures are taken.  [default: {PACK}, where it is]")
@click.option("--without", multiple=True, default=WITHOUT, show_default=True, help="Names or folders of the pack's pictures to leave out, as a pattern; repeat it.")
@click.option("--fresh", is_flag=True, help="Forget what was measured before. By default only what is missing or has changed is measured.")
@click.option("--peers-folder", type=click.Path(file_okay=False, path_type=Path), help="Where the others are installed.  [default: peers in vidsr's cache]")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, help="Folder to write into.  [default: benchmarks/results]")
def quality(
    models: str, peer_names: str, clips: tuple[Path, ...], frames: int, stills: Path | None, pack: Path | None,
    without: tuple[str, ...], fresh: bool, peers_folder: Path | None, output: Path,
) -> None:  # fmt: skip
    """Measure how near models come to the originals of clips and stills, at 4x and at 2x.

    Results are written as they come: after a stop the same command goes on where it was.
    """
    check_peers(names(peer_names))
    if stills and pack:
        raise UsageError("--pack: give one of --stills and --pack")
    threads, own = cores(), torch.get_num_threads()
    upscalers, lines = _upscalers(names(models), peers_folder or default_folder(), threads)
    subjects, more = _subjects(clips, frames, stills, pack, without)
    lines += more
    for line in lines:
        click.echo(f"left out: {line}", err=True)
    if not subjects:
        raise UsageError("nothing to measure on: give --clips, --stills or --pack")
    chosen = _chosen(upscalers, names(models), names(peer_names))
    store = Store(output / "quality.json", {"frames": frames, "left out": lines}, fresh)
    store.forget_changed(upscalers, subjects)
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as work:
            measurer = Measurer(store, upscalers, Path(work), peers_folder or default_folder(), threads)
            measurer.run(subjects, chosen, lambda: _write(store, output))
    finally:
        torch.set_num_threads(own)
    _write(store, output)
    click.echo("\n".join(table(store.data())))


def _upscalers(models: Sequence[str], folder: Path, threads: int) -> tuple[list[Upscaler], list[str]]:
    """All whose results are kept, in the order of the tables: bicubic, the others, ours."""
    ours, lines = our_models(models)
    return [bicubic(), *(peer(name, folder, threads) for name in PEERS), *ours], lines


def _chosen(upscalers: Sequence[Upscaler], models: Sequence[str], peer_names: Sequence[str]) -> list[Upscaler]:
    """Those that are measured now."""
    wanted = {find_model(name).name for name in models} or {u.name for u in upscalers} - set(PEERS)
    return [u for u in upscalers if u.name in wanted | set(peer_names) | {BICUBIC}]


def _subjects(
    clips: Sequence[Path], frames: int, stills: Path | None, pack: Path | None, without: Sequence[str]
) -> tuple[list[Subject], list[str]]:  # fmt: skip
    """What is measured on, and a line for each file that cannot be."""
    paths: list[Path] = []
    if stills:
        paths = folder_stills(stills)
    elif pack or PACK.is_dir():
        paths = pack_stills(pack or PACK, without)
    found, lines = find_stills(paths)
    more, others = find_clips(clips, frames)
    return found + more, lines + others


def _write(store: Store, output: Path) -> None:
    write_result("quality", store.data(), "\n".join(["# Quality", "", *table(store.data())]), output)
