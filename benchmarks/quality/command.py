"""How near vidsr's models, bicubic and other upscalers come to the original by several metrics, and crops to look at."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from benchmarks.common.machine import RESULTS, write_result
from benchmarks.peers.folder import PEERS, check_peers, default_folder, names
from benchmarks.quality.measure import Measurer
from benchmarks.quality.report import table
from benchmarks.quality.sheet import ORIGINAL, write_blind, write_sheets
from benchmarks.quality.store import Store, read_rows
from benchmarks.quality.subjects import Subject, find_clips, find_stills, folder_stills, pack_stills
from benchmarks.quality.upscalers import BICUBIC, Upscaler, bicubic, our_models, peer
from vidsr.errors import UsageError
from vidsr.machine import cores
from vidsr.models.checkpoint import find_model

PACK = Path("runs/pack")
SHEET = (BICUBIC, "animevideov3", "realcugan", "fast", "balanced", "best")  # the columns, where they are measured; then --models
WITHOUT = ("t2_*", "duelyst_tiles")  # game maps and tiles: weight 0 in the training of the shipped models


@click.command()
@click.option("--models", default="", help="Ours, separated by commas: installed ones and .safetensors files.  [default: all installed]")
@click.option("--peers", "peer_names", default="animevideov3", show_default=True, help=f"The others, of {', '.join(PEERS)}.")
@click.option("--clips", type=click.Path(exists=True, path_type=Path), multiple=True, help="A clip NAME_lowres270_crfNN that has its original NAME_highres1080 beside it, a worn one NAME_worn_KIND, or a folder of such; repeat it.")
@click.option("--originals", type=click.Path(exists=True, file_okay=False, path_type=Path), multiple=True, help="Where else the originals NAME_highres* of worn clips are; repeat it.  [default: beside a clip, then in the folders beside its own]")
@click.option("--scale", "scales", type=click.Choice(["4", "2"]), multiple=True, default=("4", "2"), show_default=True, help="Measure this one alone.")
@click.option("--frames", type=click.IntRange(1), default=3, show_default=True, help="How many of each clip, spread over it; 1 is its middle.")
@click.option("--stills", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of pictures, which are reduced here.")
@click.option("--pack", type=click.Path(exists=True, file_okay=False, path_type=Path), help=f"Or a training pack, of which the test pictures are taken.  [default: {PACK}, where it is]")
@click.option("--without", multiple=True, default=WITHOUT, show_default=True, help="Names or folders of the pack's pictures to leave out, as a pattern; repeat it.")
@click.option("--baseline", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An earlier quality.json, against which no model may lose.")
@click.option("--blind", type=click.Path(file_okay=False, path_type=Path), help="Write the sheet of worn clips there too, without names and in a different order in each row; key.json has them.")
@click.option("--fresh", is_flag=True, help="Forget what was measured before. By default only what is missing or has changed is measured.")
@click.option("--peers-folder", type=click.Path(file_okay=False, path_type=Path), help="Where the others are installed.  [default: peers in vidsr's cache]")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, help="Folder to write into.  [default: benchmarks/results]")
def quality(
    models: str, peer_names: str, clips: tuple[Path, ...], originals: tuple[Path, ...], scales: tuple[str, ...], frames: int,
    stills: Path | None, pack: Path | None, without: tuple[str, ...], baseline: Path | None, blind: Path | None,
    fresh: bool, peers_folder: Path | None, output: Path,
) -> None:  # fmt: skip
    """Measure how near models come to the originals of clips and stills, at 4x and at 2x.

    Results are written as they come: after a stop the same command goes on where it was.
    """
    check_peers(names(peer_names))
    if stills and pack:
        raise UsageError("--pack: give one of --stills and --pack")
    threads, own = cores(), torch.get_num_threads()
    upscalers, lines = _upscalers(names(models), peers_folder or default_folder(), threads)
    earlier = read_rows(baseline) if baseline else []
    found, more = find_clips(clips, frames, originals)
    stills_found, others = find_stills(_still_paths(stills, pack, without))
    subjects = [subject for subject in [*stills_found, *found] if str(subject.scale) in scales]
    lines += others + more
    for line in lines:
        click.echo(f"left out: {line}", err=True)
    if not subjects:
        raise UsageError("nothing to measure on: give --clips, --stills or --pack")
    chosen = _chosen(upscalers, names(models), names(peer_names))
    store = Store(output / "quality.json", {"frames": frames, "left out": lines}, fresh)
    store.compare(baseline.name if baseline else "", earlier)
    store.forget_changed(upscalers, subjects)
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as work:
            measurer = Measurer(store, upscalers, Path(work), peers_folder or default_folder(), threads)
            measurer.run(subjects, chosen, lambda: _write(store, output))
            _sheets(measurer, subjects, names(models), blind)
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


def _still_paths(stills: Path | None, pack: Path | None, without: Sequence[str]) -> list[Path]:
    if stills:
        return folder_stills(stills)
    return pack_stills(pack or PACK, without) if pack or PACK.is_dir() else []


def _sheets(measurer: Measurer, subjects: Sequence[Subject], models: Sequence[str], blind: Path | None) -> None:
    """Draw the worn clips of `subjects`; the pages of earlier ones stay where there is none. models: shown besides SHEET."""
    shown = [*SHEET, *(name for name in (find_model(model).name for model in models) if name not in SHEET)]
    rows = measurer.sheet_rows(subjects, shown)
    if not rows:
        return
    shown = [name for name in shown if any(name in row.crops for row in rows)]
    pages = write_sheets(rows, [*shown, ORIGINAL], measurer.store.path.with_name("quality-worn"))
    measurer.store.sheet = [page.name for page in pages]
    if blind:
        write_blind(rows, BICUBIC, [name for name in shown if name != BICUBIC], blind)


def _write(store: Store, output: Path) -> None:
    write_result("quality", store.data(), "\n".join(["# Quality", "", *table(store.data())]), output)
