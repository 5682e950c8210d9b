"""What taking still areas from earlier results saves, and what it does to the picture."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch

from benchmarks.common.machine import RESULTS, load, load_words, write_result
from benchmarks.common.pictures import BT601, DEMO, YUV420, Source
from benchmarks.reuse.measure import (
    SMALL,
    SSIM_EVERY,
    WORST,
    end_to_end,
    measure_quality,
    model_path,
    moving_frames,
    own_cost,
    ratios,
)  # fmt: skip
from benchmarks.reuse.picture import find_example, write_picture
from benchmarks.speed.measure import in_turns, plain_spec
from vidsr.backends import backend_kind, choose_backend, open_backend
from vidsr.choose.prepare import Options, choose_reuse, prepare
from vidsr.errors import SourceError
from vidsr.report import Report
from vidsr.reuse.reuse import reuse as reused
from vidsr.reuse.stillness import NARROWEST, Tolerance
from vidsr.run.upscale import batches, upscale
from vidsr.source.decode import decode

ROOT = Path(__file__).parents[2]
MOVING_SIZE, MOVING_FRAMES = (480, 270), 12
FEWER, PSNR, WORST_DB, OWN_MS, OVERHEAD = 2.5, 45.0, 35.0, 1.5, 1.03  # the goals


def default_clips() -> list[Path]:
    """The small animated clips beside the checkout (or in $VIDSR_SHARED), else the bundled one."""
    folder = Path(os.environ.get("VIDSR_SHARED", ROOT.parent / "shared")) / "clips" / "animated"
    return sorted(folder.glob("*_lowres*.mkv")) or [DEMO]


@click.command()
@click.option("--clip", "clips", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Repeat it for several.  [default: the animated clips beside the checkout, else the demo]")
@click.option("--model", default="fast", show_default=True)
@click.option("--frames", type=click.IntRange(2), default=96, show_default=True, help="Of each clip, from its beginning.")
@click.option("--mode", "modes", multiple=True, type=click.Choice(["exact", "auto"]), default=("exact", "auto"), show_default=True, help="Repeat it for both.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--save/--no-save", default=True, help="Write JSON, table and picture.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder to write them into.  [default: benchmarks/results, the picture docs]")
def reuse(
    clips: Sequence[Path], model: str, frames: int, modes: Sequence[str], repeats: int, save: bool, output: Path | None
) -> None:
    """Measure reuse: model pixels saved, what it does to the picture, speed, and its own cost."""
    before = load()
    picture = (output or ROOT / "docs") / "reuse.png" if save else None
    rows = []
    clips = clips or default_clips()
    pictured = next((clip for clip in clips if "head_talk" in clip.name), clips[0])
    with tempfile.TemporaryDirectory() as folder:
        for clip in clips:
            click.echo(f"{clip.name} …", err=True)
            rows.append(measure_clip(clip, model, frames, modes, repeats, Path(folder), picture if clip == pictured else None))
    click.echo("what only moves …", err=True)
    moving = [measure_moving(kind, model, repeats) for kind in ("noise", "scattered")]
    data = {"before": before, "model": model, "backend": rows[0]["backend"], "threads": torch.get_num_threads(),
            "repeats": repeats, "clips": rows, "moving": moving}  # fmt: skip
    data["missed"] = missed(data)
    text = "\n".join(["# Reuse of still areas", "", *table(data)])
    click.echo(text)
    if save:
        write_result("reuse", data, text, output or RESULTS)


def measure_clip(
    clip: Path, model: str, length: int, modes: Sequence[str], repeats: int, folder: Path, picture: Path | None = None
) -> dict[str, Any]:
    """All figures of one clip in each mode. picture: where a frame is drawn to, with what of it was computed.

    SourceError where fewer than two frames decode.
    """
    job = prepare(clip, Options(model=model, output=folder / "result.mkv", overwrite=True, reuse="off"), Report())
    video, spec = job.info.video, job.backend
    frames = list(islice(decode(clip, video, None, None, None, Report(), job.decode_on_gpu), length + 1))
    end = frames[length].pts if len(frames) > length else None
    frames = frames[:length]
    if len(frames) < 2:
        raise SourceError(f"{clip}: {len(frames)} of its frames decode: reuse needs two at least")
    groups = list(batches(frames, job.batch_size, video.format, video.color))
    tolerances = {mode: Tolerance() if mode == "exact" else choose_reuse(None, spec, job.info) or Tolerance() for mode in modes}
    with closing(open_backend(spec)) as backend:
        seconds = model_path(groups, backend, tolerances, repeats)
        through = end_to_end(job, backend, len(frames), end, {"auto": tolerances["auto"]}, repeats, folder) if "auto" in tolerances else {}
        qualities = measure_quality(groups, backend, tolerances, spec.result_format)
        rows = []
        for mode, tolerance in tolerances.items():
            found = qualities[mode]
            if "frame" in found["worst"]:
                found["worst"]["seconds"] = float((found["worst"].pop("pts") - frames[0].pts) * video.time_base)
            rows.append({
                "mode": mode, "tolerance": asdict(tolerance), **found, "model_path": ratios(seconds, mode),
                "end_to_end": ratios(through, mode) if mode in through else None,
                "own": own_cost(groups, tolerance, backend, repeats),
            })  # fmt: skip
        if picture is not None:
            widest = max(tolerances.values(), key=lambda tolerance: tolerance.mean)
            example = find_example(groups, backend, widest, spec.result_format, spec.result_color)
            if example is None:
                click.echo(f"{clip.name}: no frame is computed in part, and none is drawn", err=True)
            else:
                write_picture(picture, example)
        return {"clip": clip.name, "size": f"{video.width}x{video.height}", "frames": len(frames),
                "scale": backend.scale, "context": backend.context, "backend": backend.description, "modes": rows}  # fmt: skip


def measure_moving(kind: str, model: str, repeats: int) -> dict[str, Any]:
    """What reuse costs where it saves nothing: seconds over those of plain upscaling, in more and shorter rounds."""
    pictures = tuple(moving_frames(kind, *MOVING_SIZE, MOVING_FRAMES))
    name = choose_backend()
    spec = plain_spec(name, model, 4, Source(kind, *MOVING_SIZE, pictures, YUV420, BT601))
    groups = list(batches(pictures, backend_kind(name).batch_size, YUV420, BT601))
    with closing(open_backend(spec)) as backend:
        list(upscale(groups[:2], backend))
        ways = {"off": lambda: list(upscale(groups, backend)), "reuse": lambda: list(reused(groups, backend, NARROWEST))}
        seconds = in_turns(ways, 3 * repeats)
        own = own_cost(groups, NARROWEST, backend, repeats)
    over = [on / off for off, on in zip(seconds["off"], seconds["reuse"])]
    return {"kind": kind, "frames": MOVING_FRAMES, "off_s": seconds["off"], "reuse_s": seconds["reuse"], "ratios": over,
            "ratio": median(over), "own": own}  # fmt: skip


# --- what is shown ---------------------------------------------------------------------------------------------------


def missed(data: dict[str, Any]) -> list[str]:
    """Every figure that falls short of what was set out for, one line each."""
    lines = []
    for clip in data["clips"]:
        for row in clip["modes"]:
            name, worst = f"{clip['clip']}, {row['mode']}", row["worst"]
            if row["mode"] == "auto" and row["times_fewer"] < FEWER:
                lines.append(f"{name}: {row['times_fewer']:.2f} times fewer model pixels, not {FEWER:g}")
            if row["psnr_db"] < PSNR:
                lines.append(f"{name}: {row['psnr_db']:.1f} dB overall, not {PSNR:g}")
            if worst["db"] < WORST_DB:
                lines.append(f"{name}: a tile at {worst['db']:.1f} dB, not {WORST_DB:g}: {_place(worst)}")
            if row["own"]["both_ms"] > OWN_MS:
                lines.append(f"{name}: comparing and painting take {row['own']['both_ms']:.2f} ms a frame, not {OWN_MS:g}")
    for row in data["moving"]:
        if row["ratio"] > OVERHEAD:
            lines.append(f"{row['kind']}: {row['ratio'] - 1:.1%} slower where everything moves, not {OVERHEAD - 1:.0%}")
    return lines


def table(data: dict[str, Any]) -> list[str]:
    """The rows as Markdown, and how to read them."""
    lines = [
        f"Model {data['model']}, {data['backend']}, {data['threads']} threads.", "",
        "| clip | mode | tolerance | fewer model pixels | whole frames | PSNR | SSIM | worst tile | model path | decode to encode |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    every = [(clip, row) for clip in data["clips"] for row in clip["modes"]]
    for clip, row in every:
        tolerance, through = row["tolerance"], row["end_to_end"]
        cells = [
            clip["clip"], row["mode"], f"{tolerance['mean']:.2g} / {tolerance['most']:.2g}",
            f"{row['times_fewer']:.2f}x ({row['share']:.0%} left)", f"{row['whole']} of {row['frames']}",
            *(["identical"] * 3 if row["identical"] else
              [f"{row['psnr_db']:.1f} dB", f"{row['ssim']:.4f}", f"{row['worst']['db']:.1f} dB, {_place(row['worst'])}"]),
            f"{row['model_path']['ratio']:.2f}x", f"{through['ratio']:.2f}x" if through else "",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| clip | mode | shimmer without | with | of the picture | comparing | painting | together |",
              "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for clip, row in every:
        shimmer, own = row["shimmer"], row["own"]
        still = [f"{shimmer['full']:.3f}", f"{shimmer['reused']:.3f}"] if shimmer["full"] is not None else ["", ""]
        share = f"{shimmer['still_share']:.0%}" if shimmer["still_share"] is not None else ""
        times = [f"{own[part]:.2f} ms" for part in ("plan_ms", "paint_ms", "both_ms")]
        lines.append("| " + " | ".join([clip["clip"], row["mode"], *still, share, *times]) + " |")
    lines += ["", "| where everything moves | reuse over plain | comparing and painting |", "|---|---|---|"]
    for row in data["moving"]:
        lines.append(f"| {row['kind']} | {row['ratio']:.3f} | {row['own']['both_ms']:.2f} ms |")
    return [*lines, "", *_remarks(data)]


def _remarks(data: dict[str, Any]) -> list[str]:
    width, height = SMALL
    moving = "x".join(map(str, MOVING_SIZE))
    goals = ["* Short of what was set out for:", *(f"    * {line}" for line in data["missed"])]
    return [
        *(goals if data["missed"] else ["* All goals are met."]),
        "* Tolerance: how far a tile may be from its anchor, on average / at any sample, in levels of 255. Fewer model pixels: those of whole frames over those given to the model, borders included.",
        f"* PSNR, SSIM (luma; the latter of one frame in {SSIM_EVERY}) and the worst tile ({WORST}x{WORST} of the result, any plane, any frame) compare the result with reuse to the one without. In which frame (from 0), at which pixel (x, y) of the result the tile begins.",
        "* Shimmer: mean absolute change of the result's luma from frame to frame, in levels, where the source and all around it that the model sees is still.",
        f"* Speed: times as fast as without reuse; medians of the ratios of {data['repeats']} alternating rounds. Model path: frames in memory. {load_words(data['before'])}",
        f"* Comparing and painting: milliseconds a frame by themselves, on one core, the frames resized to {width}x{height} and the result as many times as large as in the run. Where everything moves: {moving}, three times as many rounds; noise: each frame new; scattered: half of the tiles.",
    ]


def _place(worst: dict[str, Any]) -> str:
    plane = ("", ", first chroma", ", second chroma")[worst["plane"]]
    return f"frame {worst['frame']} ({worst['seconds']:.2f} s) at {worst['x']}, {worst['y']}{plane}"
