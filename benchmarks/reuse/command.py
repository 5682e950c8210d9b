"""What reuse saves, and what it does to the picture, judged by the originals of worn clips."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.common.machine import RESULTS, load, write_result
from benchmarks.common.pictures import DEMO
from benchmarks.peers.folder import Unusable, default_folder
from benchmarks.peers.scorer import find_scorer
from benchmarks.reuse.clip import Effort, Outputs, measure_clip, original_of
from benchmarks.reuse.report import missed, table
from benchmarks.reuse.seconds import measure_moving
from vidsr.errors import UsageError

ROOT = Path(__file__).parents[2]


def shared_clips(folder: str) -> list[Path]:
    """The clips in that folder of the real ones beside the checkout, or in $VIDSR_SHARED; none where it is not there."""
    return sorted((Path(os.environ.get("VIDSR_SHARED", ROOT.parent / "shared")) / "clips" / folder).glob("*.mkv"))


@click.command()
@click.option("--clip", "clips", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Repeat it for several; scenes are left out then.  [default: the worn clips beside the checkout, else the demo]")
@click.option("--originals", type=click.Path(exists=True, file_okay=False, path_type=Path), multiple=True, help="Where else the originals NAME_highres* of worn clips are; repeat it.  [default: beside a clip, then in the folders beside its own]")
@click.option("--original", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Of the one --clip, whatever it is called.")
@click.option("--model", default="fast", show_default=True)
@click.option("--frames", type=click.IntRange(2), default=48, show_default=True, help="Of each clip, from its beginning.")
@click.option("--scene", "scenes", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A clip without an original, looked at in its middle; repeat it.  [default: the scenes beside the checkout]")
@click.option("--scene-model", default="tiny", show_default=True)
@click.option("--scene-frames", type=click.IntRange(0), default=12, show_default=True, help="Of each scene; 0: no scenes.")
@click.option("--mode", "modes", multiple=True, type=click.Choice(["exact", "auto"]), default=("auto",), show_default=True, help="Repeat it for both.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Rounds of all that is timed; of scenes one.")
@click.option("--score-every", type=click.IntRange(1), default=12, show_default=True, help="Compare one of so many frames as R'G'B' and by SSIMULACRA2, which takes long.")
@click.option("--look", type=click.Path(file_okay=False, path_type=Path), help="Write sheets for people to look at into this folder.")
@click.option("--save/--no-save", default=True, help="Write JSON, table and picture.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder to write them into.  [default: benchmarks/results, the picture docs]")
def reuse(
    clips: Sequence[Path], originals: Sequence[Path], original: Path | None, model: str, frames: int,
    scenes: Sequence[Path], scene_model: str, scene_frames: int, modes: Sequence[str], repeats: int, score_every: int,
    look: Path | None, save: bool, output: Path | None,
) -> None:  # fmt: skip
    """Measure reuse: pixels and time saved, and what becomes of the picture, beside the original where it is known."""
    if original and len(clips) != 1:
        raise UsageError("--original: is of one --clip")
    before, left_out = load(), []
    picture = (output or ROOT / "docs") / "reuse.png" if save else None
    try:
        scorer = find_scorer(default_folder())
    except Unusable as error:
        scorer = None
        left_out.append(f"SSIMULACRA2: {error}")
    scenes = scenes or ([] if clips else shared_clips("scenes"))
    clips = clips or shared_clips("worn") or [DEMO]
    pictured = next((clip for clip in clips if "head_talk" in clip.name), clips[0])
    effort = Effort(model, frames, modes, repeats, score_every, scorer)
    with tempfile.TemporaryDirectory() as folder:
        outputs = Outputs(Path(folder), look)
        rows = []
        for clip in clips:
            click.echo(f"{clip.name} …", err=True)
            drawn = replace(outputs, picture=picture if clip == pictured else None)
            rows.append(measure_clip(clip, original or original_of(clip, originals), effort, drawn))
        at_scenes = replace(effort, model=scene_model, frames=scene_frames, repeats=1, middle=True)
        seen = []
        for scene in scenes if scene_frames > 1 else []:
            click.echo(f"{scene.name} …", err=True)
            seen.append(measure_clip(scene, None, at_scenes, outputs)[0])
    click.echo("what only moves …", err=True)
    settings = rows[0][1][modes[-1]]
    moving = [measure_moving(kind, model, settings, repeats) for kind in ("noise", "scattered")]
    data: dict[str, Any] = {
        "before": before, "model": model, "backend": rows[0][0]["backend"], "threads": torch.get_num_threads(),
        "repeats": repeats, "every": score_every, "left out": left_out, "clips": [row for row, _ in rows],
        "scene_model": scene_model, "scenes": seen, "moving": moving,
    }  # fmt: skip
    data["missed"] = missed(data)
    text = "\n".join(["# Reuse of still areas", "", *table(data)])
    click.echo(text)
    if save:
        write_result("reuse", data, text, output or RESULTS)
