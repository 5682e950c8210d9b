"""vidsr beside other upscalers for anime, on the same frames and cores, in turns: frames a second, and nearness to the original."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.common.machine import RESULTS, load, machine, write_result
from benchmarks.common.material import SCALE, Material, clip_material, drawn_material, find_original
from benchmarks.common.strip import richest, write_strip
from benchmarks.peers.contenders import Bicubic, Contender, EndToEnd, Ours, open_peers
from benchmarks.peers.folder import ENGINE, SCORER, TIMED, Unusable, check_peers, default_folder, names
from benchmarks.peers.quality import quality
from benchmarks.peers.report import add_ratios, speeds, table
from benchmarks.speed.fps import Sizes
from vidsr.errors import UsageError
from vidsr.machine import cores
from vidsr.models.checkpoint import find_model

EPISODE_SECONDS = 30.0  # about, of a model from decoding to encoding without reuse
EPISODE_FRAMES = 24  # at least
REST = 0.2  # seconds for the threads of the one before to go to sleep


@click.command()
@click.option("--models", default="fast,balanced", show_default=True, help="Ours, separated by commas.")
@click.option("--peers", "peer_names", default=",".join(TIMED), show_default=True, help="The others.")
@click.option("--size", "sizes", type=Sizes(), help="Of the clip that is drawn.  [default: 480x270]")
@click.option("--clip", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Compare on this file instead.")
@click.option("--original", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What --clip was reduced from.  [default: NAME_highres1080 beside NAME_lowres270_crfNN]")
@click.option("--frames", type=click.IntRange(1), default=4, show_default=True, help="How many, spread over the clip.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Rounds, in which each has its turn.")
@click.option("--peers-folder", type=click.Path(file_okay=False, path_type=Path), help="Where the others are installed.  [default: peers in vidsr's cache]")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the result there, too.")
@click.option("--save/--no-save", default=True, help="Write JSON, table and picture.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, help="Folder to write them into.  [default: benchmarks/results]")
def peers(
    models: str, peer_names: str, sizes: list[tuple[int, int]] | None, clip: Path | None, original: Path | None,
    frames: int, repeats: int, peers_folder: Path | None, json_file: Path | None, save: bool, output: Path,
) -> None:  # fmt: skip
    """Compare vidsr's models with other upscalers on this machine's CPU, which are installed into a folder of their own."""
    ours, theirs = names(models), names(peer_names)
    _check(ours, theirs, sizes, clip, original)
    before, threads, own = load(), cores(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            size = sizes[0] if sizes else (480, 270)
            material = clip_material(clip, original or find_original(clip), frames) if clip else drawn_material(*size, frames, work)
            folder = peers_folder or default_folder()
            rows, crops = compare(ours, theirs, material, repeats, threads, folder, work)
    finally:
        torch.set_num_threads(own)
    data = result(rows, material, {"before": before, "threads": threads, "repeats": repeats})
    text = "\n".join(["# Beside other upscalers", "", *table(data)])
    click.echo(text)
    if json_file:
        json_file.write_text(json.dumps({"machine": machine(), **data}, indent=1) + "\n")
    if save:
        write_result("peers", data, text, output)
        write_strip(output / "peers.png", crops)


def _check(
    models: Sequence[str], peer_names: Sequence[str], sizes: Sequence[tuple[int, int]] | None, clip: Path | None, original: Path | None
) -> None:  # fmt: skip
    """UsageError for what is not known or does not go together."""
    if not models:
        raise UsageError("--models: name one at least")
    for model in models:
        find_model(model)
    check_peers(peer_names)
    if sizes and len(sizes) > 1:
        raise UsageError("--size: give one")
    if clip and sizes:
        raise UsageError("--size: the size is the one of --clip; give one of both")
    if original and not clip:
        raise UsageError("--original: is of --clip; give that too")


def compare(
    models: Sequence[str], peer_names: Sequence[str], material: Material, repeats: int, threads: int, folder: Path, work: Path
) -> tuple[list[dict[str, Any]], list[tuple[str, np.ndarray]]]:  # fmt: skip
    """A row for each, and the same crop of each. folder: of the peers. work: for files in between."""
    with ExitStack() as stack:
        def opened(contender: Any) -> Any:
            stack.callback(contender.close)
            return contender

        bicubic = opened(Bicubic(material, threads))
        own = [opened(Ours(model, material)) for model in models]
        for alone in own:
            alone.enlarge(0)  # warms up
        episodes = []
        for model, alone in zip(models, own):
            wanted = max(EPISODE_FRAMES, round(EPISODE_SECONDS / alone.enlarge(0)))
            length = min(material.source.length, wanted)
            for reuse in ("off", "auto"):
                episodes.append(opened(EndToEnd(model, material, reuse, length, work)))
        click.echo("installing and trying the others …", err=True)
        others, missing = open_peers(list(peer_names), material, threads, folder, work, bicubic)
        for other in others:
            stack.callback(other.close)
        contenders = [*own, *episodes, *others, bicubic]
        pictures = work / "pictures"
        pictures.mkdir()

        def kept(name: str, i: int) -> Path:
            return pictures / f"{name}-{i}.npy"

        times, failed = in_turns(contenders, repeats, lambda name, i, picture: np.save(kept(name, i), picture))
        rows = [{"name": c.name, "kind": c.kind, **c.facts, **failed[c.name]} if c.name in failed else
                {"name": c.name, "kind": c.kind, **c.facts, "frames_each": c.frames_each, "seconds": times[c.name],
                 **speeds(times[c.name], c.frames_each)} for c in contenders]  # fmt: skip
    shown = [row["name"] for row in rows if "seconds" in row and row["kind"] != "episode"]
    if material.originals:
        click.echo("measuring quality …", err=True)
        found = quality(lambda name, i: np.load(kept(name, i)), shown, material, folder, threads, work)
        for row in rows:
            row |= {"quality": found[row["name"]]} if row["name"] in found else {}
    return rows + missing, _crops(lambda name, i: np.load(kept(name, i)), rows, shown, material)


def in_turns(
    contenders: Sequence[Contender], repeats: int, keep: Callable[[str, int, np.ndarray], None]
) -> tuple[dict[str, list[list[float]]], dict[str, dict[str, str]]]:  # fmt: skip
    """The seconds of each contender's times in each of `repeats` rounds, by name, and of those that failed, why.

    All have a turn in each round, which begins with another one each time: whatever else the machine does hits all.
    keep: takes name, number and picture of each frame, in the first round.
    """
    times: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders}
    failed: dict[str, dict[str, str]] = {}
    for number in range(repeats):
        click.echo(f"round {number + 1} of {repeats} …", err=True)
        first = number % len(contenders)
        for contender in [*contenders[first:], *contenders[:first]]:
            name = contender.name
            if name in failed:
                continue
            time.sleep(REST)
            try:
                times[name].append(contender.turn((lambda i, p, name=name: keep(name, i, p)) if not number else None))  # type: ignore[misc]
            except Unusable as error:
                failed[name] = {"left out": f"failed in round {number + 1}: {error}"}
    return times, failed


def _crops(
    picture: Callable[[str, int], np.ndarray], rows: Sequence[dict[str, Any]], shown: Sequence[str], material: Material
) -> list[tuple[str, np.ndarray]]:  # fmt: skip
    """Where there is most detail: bicubic, ours, the others, the original."""
    count = len(material.batches)
    frame, *part = richest(material.originals or [picture("bicubic", i) for i in range(count)])
    by_name = {row["name"]: row for row in rows}
    crops = []
    for name in sorted(shown, key=lambda name: name != "bicubic"):
        metrics = by_name[name].get("quality")
        label = f"{name}, {metrics['psnr']['each'][frame]:.1f} dB" if metrics else name
        crops.append((label, picture(name, frame)[tuple(part)]))
    if material.originals:
        crops.append(("original", material.originals[frame][tuple(part)]))
    return crops


def result(rows: list[dict[str, Any]], material: Material, head: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run."""
    source = material.source
    data = {**head, "scale": SCALE, "clip": source.name, "size": source.size, "frames": list(material.indices),
            "original": material.original or None, "packages": sorted({*ENGINE, *SCORER}), "rows": rows}  # fmt: skip
    return add_ratios(data)
