"""Figures of quality as Markdown: means, each clip, pictures, and what they say of the goals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmarks.machine import describe
from benchmarks.peer_folder import ENGINE, SCORER
from benchmarks.quality_subjects import STILLS
from benchmarks.quality_verdict import METRICS, verdicts

Row = dict[str, Any]
FORMS = {"psnr": "{:.2f} dB", "ssim": "{:.4f}", "ssimulacra2": "{:.1f}"}
SHORT = {"psnr": "{:.2f}", "ssim": "{:.4f}", "ssimulacra2": "{:.1f}"}


def label(row: Row) -> str:
    """A row's upscaler in few words."""
    return f"{row['name']} reduced" if row["native"] > row["scale"] else str(row["name"])


def table(data: dict[str, Any]) -> list[str]:
    """`data`, as Store.data makes it, as Markdown."""
    rows = data["rows"]
    lines: list[str] = []
    for scale in dict.fromkeys(row["scale"] for row in rows):
        part = [row for row in rows if row["scale"] == scale]
        lines += [f"## {scale}x", ""]
        for group in sorted({row["group"] for row in part}, key=lambda group: (group != STILLS, group)):
            lines += [*_means(group, [row for row in part if row["group"] == group]), ""]
        lines += _each([row for row in part if row["subject"] != STILLS])
    lines += _pictures(data) + _verdict_table(rows) + _remarks(data)
    return lines


def _means(group: str, rows: Sequence[Row]) -> list[str]:
    """A row for each upscaler: means over the group's subjects, of those measured on all of them."""
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    pictures = len(next(iter(rows))["pictures"])
    what = f"{pictures} pictures" if group == STILLS else f"{len(subjects)} of them, {pictures} frames each" if len(subjects) > 1 else f"{subjects[0]}, {pictures} frames"
    floor = [row for row in rows if row["name"] == "bicubic"]
    lines = [f"**{group[0].upper() + group[1:]}** ({what})", "", "| upscaler | PSNR | over bicubic | SSIM | SSIMULACRA2 |", "|---|---:|---:|---:|---:|"]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        title = _title(own[0]) + ("" if len(own) == len(subjects) else f" (on {len(own)} of {len(subjects)})")
        values = [_mean(own, metric) for metric in METRICS]
        cells = [FORMS[metric].format(value) if value is not None else "" for metric, value in zip(METRICS, values)]
        gain = f"{values[0] - mean(row['psnr']['mean'] for row in floor):+.2f} dB" if len(own) == len(floor) and values[0] is not None else ""
        lines.append(f"| {title} | {cells[0]} | {gain} | {cells[1]} | {cells[2]} |")
    return lines


def _title(row: Row) -> str:
    return f"{row['title']}, reduced by area" if row["native"] > row["scale"] else str(row["title"])


def _mean(rows: Sequence[Row], metric: str) -> float | None:
    values = [row[metric]["mean"] for row in rows if "mean" in row[metric]]
    return mean(values) if len(values) == len(rows) else None


def _each(rows: Sequence[Row]) -> list[str]:
    """A column for each clip, where there are several."""
    clips = list(dict.fromkeys(row["subject"] for row in rows))
    if len(clips) < 2:
        return []
    names = [clip.replace("_lowres270_crf", " CRF ").replace("_", " ") for clip in clips]
    lines = ["PSNR (dB), SSIM and SSIMULACRA2 of each clip:", "",
             "| upscaler | " + " | ".join(names) + " |", "|---" * (len(clips) + 1) + "|"]  # fmt: skip
    for name in dict.fromkeys(row["name"] for row in rows):
        own = {row["subject"]: row for row in rows if row["name"] == name}
        cells = [_figures(own[clip]) if clip in own else "" for clip in clips]
        lines.append(f"| {label(next(iter(own.values())))} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _figures(row: Row) -> str:
    return ", ".join(SHORT[metric].format(row[metric]["mean"]) for metric in METRICS if "mean" in row[metric])


def _pictures(data: dict[str, Any]) -> list[str]:
    if not data["pictures"]:
        return []
    lines = ["## To look at", "", "The same crop of each, where there is most detail, two pixels of the page for one; the PSNR is of that whole frame.", ""]
    return lines + [line for name in sorted(data["pictures"]) for line in (f"![{name}]({name})", "")]


def _verdict_table(rows: Sequence[Row]) -> list[str]:
    lines = ["## The goals", "", "| goal | reached | figures |", "|---|---|---|"]
    return [*lines, *(f"| {verdict.goal} | {verdict.answer} | {verdict.figures} |" for verdict in verdicts(rows)), ""]


def _remarks(data: dict[str, Any]) -> list[str]:
    lines = [
        "* Against the original, all metrics on R'G'B' of 8 bits: PSNR from the mean square over all pixels and channels, SSIM as the mean of the three channels'. PSNR is averaged over the frames, the frames' means over the clips.",
        "* Clips go through a model as planes, and every result, bicubic's and the others' too, becomes planes of the clip's format and R'G'B' again by vidsr's own colour arithmetic, so that all have the chroma a video has; nothing is compressed again. Stills are R'G'B' throughout.",
        "* Stills are reduced by bicubic with antialiasing (PIL's kernel, a = -0.5), as those of training were. At 2x clips stand against their originals reduced to half by area, and stills are reduced to half.",
        f"* bicubic is PIL's, on R'G'B'. Ours run in float32, the others through ncnn in its default precision ({', '.join(ENGINE)}). SSIMULACRA2 by {SCORER[-1]}. SSIMULACRA2 reaches 100 for the original, 70 is called high quality, 50 medium.",
    ]
    lines += [f"* Left out: {line}." for line in data["left out"]]
    elsewhere = sorted({row["measured_on"] for row in data["rows"]} - {describe()})
    for machine in elsewhere:
        count = sum(row["measured_on"] == machine for row in data["rows"])
        lines.append(f"* {count} rows were measured earlier on: {machine}.")
    return lines
