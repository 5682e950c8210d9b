"""Figures of quality as Markdown: means, each clip, pictures, and what they say of the goals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmarks.common.machine import describe
from benchmarks.common.metrics import METRICS
from benchmarks.peers.folder import ENGINE, SCORER
from benchmarks.quality.subjects import STILLS, WORN_GROUPS
from benchmarks.quality.verdict import changes, verdicts

Row = dict[str, Any]
ORDER = (STILLS, *WORN_GROUPS)  # the first, and the last, of the groups
TITLES = ", ".join(metric.title for metric in METRICS.values())


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
        for group in sorted({row["group"] for row in part}, key=_place):
            own = [row for row in part if row["group"] == group]
            lines += [*_means(group, own), ""] + (_kinds(own) if group in WORN_GROUPS else [])
        lines += _each([row for row in part if row["group"] not in ORDER])
        lines += _each([row for row in part if row["group"] in WORN_GROUPS])
    lines += _pictures(data) + _verdict_table(rows, data.get("baseline") or {}) + _remarks(data)
    return lines


def _place(group: str) -> tuple[int, str]:
    return (0 if group == STILLS else 1 if group not in ORDER else 2), group


def _means(group: str, rows: Sequence[Row]) -> list[str]:
    """A row for each upscaler: means over the group's subjects, of those measured on all of them."""
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    pictures = len(next(iter(rows))["pictures"])
    what = f"{pictures} pictures" if group == STILLS else f"{len(subjects)} of them, {pictures} frames each" if len(subjects) > 1 else f"{subjects[0]}, {pictures} frames"
    floor = [row for row in rows if row["name"] == "bicubic"]
    heads = ["PSNR", "over bicubic", *(metric.title for metric in list(METRICS.values())[1:])]
    lines = [f"**{group[0].upper() + group[1:]}** ({what})", "", f"| upscaler | {' | '.join(heads)} |", "|---" + "|---:" * len(heads) + "|"]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        title = _title(own[0]) + ("" if len(own) == len(subjects) else f" (on {len(own)} of {len(subjects)})")
        values = [_mean(own, metric) for metric in METRICS]
        cells = [metric.form.format(value) if value is not None else "" for metric, value in zip(METRICS.values(), values)]
        gain = f"{values[0] - mean(row['psnr']['mean'] for row in floor):+.2f} dB" if len(own) == len(floor) and values[0] is not None else ""
        lines.append(f"| {title} | {' | '.join([cells[0], gain, *cells[1:]])} |")
    return lines


def _kinds(rows: Sequence[Row]) -> list[str]:
    """A column for each way of wearing, where there are several: means over the clips worn so."""
    kinds = sorted({_kind(row) for row in rows})
    if len(kinds) < 2:
        return []
    lines = [f"{TITLES} by the kind of wear:", "", "| upscaler | " + " | ".join(kind or "plain" for kind in kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        cells = []
        for kind in kinds:
            values = [(metric, _mean([row for row in own if _kind(row) == kind], key)) for key, metric in METRICS.items()]
            cells.append(", ".join(metric.short.format(value) for metric, value in values if value is not None))
        lines.append(f"| {label(own[0])} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _kind(row: Row) -> str:
    return str(row["subject"]).rpartition("_worn")[2].strip("_").replace("_", " ")


def _title(row: Row) -> str:
    return f"{row['title']}, reduced by area" if row["native"] > row["scale"] else str(row["title"])


def _mean(rows: Sequence[Row], metric: str) -> float | None:
    values = [row[metric]["mean"] for row in rows if "mean" in row.get(metric, {})]
    return mean(values) if values and len(values) == len(rows) else None


def _each(rows: Sequence[Row]) -> list[str]:
    """A column for each clip, where there are several."""
    clips = list(dict.fromkeys(row["subject"] for row in rows))
    if len(clips) < 2:
        return []
    names = [clip.replace("_lowres270_crf", " CRF ").replace("_worn_", " ").replace("_", " ") for clip in clips]
    lines = [f"{TITLES} of each clip:", "",
             "| upscaler | " + " | ".join(names) + " |", "|---" * (len(clips) + 1) + "|"]  # fmt: skip
    for name in dict.fromkeys(row["name"] for row in rows):
        own = {row["subject"]: row for row in rows if row["name"] == name}
        cells = [_figures(own[clip]) if clip in own else "" for clip in clips]
        lines.append(f"| {label(next(iter(own.values())))} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _figures(row: Row) -> str:
    return ", ".join(metric.short.format(row[key]["mean"]) for key, metric in METRICS.items() if "mean" in row.get(key, {}))


def _pictures(data: dict[str, Any]) -> list[str]:
    lines = ["## To look at", ""] if data["pictures"] or data.get("sheet") else []
    if data.get("sheet"):
        lines += ["Worn clips at 1:1, where lines and flats meet:", "", *(line for name in data["sheet"] for line in (f"![{name}]({name})", ""))]
    if data["pictures"]:
        lines += ["The same crop of each, where there is most detail, two pixels of the page for one; the PSNR is of that whole frame.", ""]
    return lines + [line for name in sorted(data["pictures"]) for line in (f"![{name}]({name})", "")]


def _verdict_table(rows: Sequence[Row], baseline: dict[str, Any]) -> list[str]:
    lines = ["## The goals", "", "| goal | reached | figures |", "|---|---|---|"]
    lines += [*(f"| {verdict.goal} | {verdict.answer} | {verdict.figures} |" for verdict in verdicts(rows, baseline.get("rows", ()))), ""]
    return lines + _changes(rows, baseline)


def _changes(rows: Sequence[Row], baseline: dict[str, Any]) -> list[str]:
    """How much each model's means have changed since the baseline, on what both have."""
    found = changes(rows, baseline.get("rows", ()))
    if not found:
        return []
    heads = ["", *(metric.title for metric in METRICS.values())]
    lines = [f"Against {baseline['file']}, in the means over what both were measured on:", "", "| upscaler, scale, group" + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for change in found:
        cells = [metric.gain.format(change.gains[key]) if key in change.gains else "" for key, metric in METRICS.items()]
        lines.append(f"| {change.name}, {change.scale}x, {change.group} ({change.count}) | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _remarks(data: dict[str, Any]) -> list[str]:
    lines = [
        "* dirt is what flats of the original have that they should not, in thousandths of a level of luma; raggedness how far lines wander about their course, in pixels: see quality_ugliness.py. Both are 0 for the original, and less is better.",
        "* Worn clips are videos of the originals as old sources are, and stand against the originals frame by frame.",
        "* Against the original, all other metrics on R'G'B' of 8 bits: PSNR from the mean square over all pixels and channels, SSIM as the mean of the three channels'. PSNR is averaged over the frames, the frames' means over the clips.",
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
