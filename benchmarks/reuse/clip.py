"""Everything that is measured of one clip."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click

from benchmarks.common.material import find_original, find_worn_original, worn_kind
from benchmarks.reuse.film import Film, film
from benchmarks.reuse.look import CROP, most_reuse, write_sheet
from benchmarks.reuse.motion import lateness, recall, shimmer, still_in_original, still_in_source
from benchmarks.reuse.picture import find_example, write_picture
from benchmarks.reuse.seconds import Settings, end_to_end, own_cost, ratios
from benchmarks.reuse.truth import Truth, against_off, load_truth, losses, picture_losses
from vidsr.backends import open_backend
from vidsr.choose.prepare import Options, choose_reuse, prepare
from vidsr.errors import SourceError
from vidsr.frames import Frame
from vidsr.report import Report
from vidsr.reuse.reuse import ReuseCounts, reuse
from vidsr.run.job import Job
from vidsr.run.segments import Segment
from vidsr.run.upscale import batches, upscale
from vidsr.source.decode import decode


@dataclass(frozen=True)
class Effort:
    """frames: at most, of each clip. middle: from its middle, not its beginning. repeats: rounds of what is timed.

    every: of so many frames one is compared as R'G'B'; scorer: the Python that scores those, None for no SSIMULACRA2.
    """

    model: str
    frames: int
    modes: Sequence[str]
    repeats: int
    every: int
    scorer: Path | None
    middle: bool = False


@dataclass(frozen=True)
class Outputs:
    """work: for files in between. look: folder for sheets, and picture: file of the example, where they are wanted."""

    work: Path
    look: Path | None = None
    picture: Path | None = None


def original_of(clip: Path, folders: Sequence[Path] = ()) -> Path | None:
    """By name: see `find_worn_original` and `find_original`; None for another name, or where there is none."""
    return find_worn_original(clip, folders) if worn_kind(clip) is not None else find_original(clip)


def measure_clip(clip: Path, original: Path | None, effort: Effort, outputs: Outputs) -> tuple[dict[str, Any], dict[str, Settings]]:
    """All figures of one clip in each mode, and the settings of each.

    SourceError where fewer than two frames decode, or the original is not the same clip.
    """
    job = prepare(clip, Options(model=effort.model, output=outputs.work / "result.mkv", overwrite=True, reuse="off"), Report())
    video, spec = job.info.video, job.backend
    frames, segment = _stretch(job, effort)
    groups = list(batches(frames, job.batch_size, video.format, video.color))
    settings: dict[str, Settings] = {mode: choose_reuse("exact" if mode == "exact" else None, spec, job.info) for mode in effort.modes}
    truth = load_truth(clip, original, frames, video, spec.scale, spec.result_format, spec.result_color, effort.every) if original else None
    with closing(open_backend(spec)) as backend:
        off = film(upscale(groups, backend), spec.result_format)
        still = still_in_original(truth.film, spec.scale, backend.context) if truth else still_in_source(film(frames, video.format), backend.context)
        seconds = end_to_end(job, segment, backend, settings, effort.repeats, outputs.work)
        rows = []
        for mode, chosen in settings.items():
            counts = ReuseCounts()
            result = film(reuse(groups, backend, chosen, counts=counts), spec.result_format)
            films = {"off": off, "reuse": result, **({"original": truth.film} if truth else {})}
            rows.append({
                "mode": mode, "settings": str(chosen), **_counted(counts), "end_to_end": ratios(seconds, mode),
                "own_ms": own_cost(groups, chosen, backend, max(2, effort.repeats)),
                "shimmer": shimmer(films, still, spec.scale), "against_off": against_off(off, result),
                "truth": _truth(truth, off, result, job, effort, outputs.work) if truth else None,
            })  # fmt: skip
        _draw(clip, job, off, result, truth, rows[-1], outputs)
        found = {
            "clip": clip.name, "size": f"{video.width}x{video.height}", "frames": len(frames), "scale": spec.scale,
            "context": backend.context, "backend": backend.description, "original": original and original.name, "modes": rows,
        }  # fmt: skip
    _name_times(found, [float((frame.pts - frames[0].pts) * video.time_base) for frame in frames])
    return found, settings


def _stretch(job: Job, effort: Effort) -> tuple[list[Frame], Segment]:
    """The frames that are measured, and the segment that they are."""
    video = job.info.video
    decoded = decode(job.info.path, video, None, None, None, Report(), job.decode_on_gpu)
    found = list(islice(decoded, None if effort.middle else effort.frames + 1))
    first = max(0, (len(found) - effort.frames) // 2) if effort.middle else 0
    frames = found[first : first + effort.frames]
    if len(frames) < 2:
        raise SourceError(f"{job.info.path}: {len(frames)} of its frames decode: reuse needs two at least")
    end = found[first + len(frames)].pts if first + len(frames) < len(found) else None
    return frames, Segment(0, frames[0].pts if first else None, end, None, len(frames))


def _counted(counts: ReuseCounts) -> dict[str, Any]:
    """share: of all source pixels, those that the model was given, borders included."""
    return {"model_pixels": counts.computed_pixels, "all_pixels": counts.all_pixels, "whole": counts.whole,
            "frames": counts.frames, "share": counts.computed_pixels / counts.all_pixels}  # fmt: skip


def _truth(truth: Truth, off: Film, result: Film, job: Job, effort: Effort, work: Path) -> dict[str, Any]:
    scale, color = job.backend.scale, job.backend.result_color
    return {
        "luma": losses(truth.film, off, result), **picture_losses(truth, off, result, color, effort.scorer, work),
        "motion": recall(truth.film, off, result, scale), "lateness": lateness(truth.film, off, result, scale),
    }  # fmt: skip


def _draw(clip: Path, job: Job, off: Film, result: Film, truth: Truth | None, row: dict[str, Any], outputs: Outputs) -> None:
    """What is wanted of the pictures of a clip, in its last mode: where reuse does most, and where it does worst."""
    color = job.backend.result_color
    if outputs.picture is not None:
        example = find_example(result, job.backend.scale, color)
        if example is None:
            click.echo(f"{clip.name}: no frame is new in part, and none is drawn", err=True)
        else:
            write_picture(outputs.picture, example)
    if outputs.look is None:
        return
    films = (truth.film if truth else None, off, result)
    sheets = {"most": (most_reuse(off, result), "where reuse takes away most change"), **_worst_places(row)}
    for name, (where, words) in sheets.items():
        write_sheet(outputs.look / f"{clip.stem}-{name}.png", where, films, color, f"{clip.name}, {row['mode']}: {words}")


def _worst_places(row: dict[str, Any]) -> dict[str, tuple[tuple[int, int, int], str]]:
    """Name of a sheet -> the first frame, x and y of a crop around it, and what is there."""
    truth = row["truth"]
    found = {"worst": [truth["luma"]["worst_tile"] if truth else row["against_off"]]}
    if truth:
        found |= {"frozen": truth["motion"]["missed"][:1], "late": truth["lateness"]["worst"][:1]}
    words = {"worst": "around the worst tile", "frozen": "around what is frozen", "late": "around what has something late"}
    return {
        name: ((max(0, one["frame"] - 2), one["x"] - CROP // 2, one["y"] - CROP // 2), words[name])
        for name, places in found.items() for one in places
    }  # fmt: skip


def _name_times(found: Any, times: list[float]) -> None:
    """Give each place in `found` that names a frame its time in seconds from the first, too."""
    if isinstance(found, dict):
        if "frame" in found:
            found["seconds"] = times[found["frame"]]
        found = list(found.values())
    if isinstance(found, list):
        for one in found:
            _name_times(one, times)
