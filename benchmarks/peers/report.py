"""What follows from the times of a comparison, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.common.chart import number
from benchmarks.common.machine import load_words
from benchmarks.speed.fps import rate


def speeds(rounds: Sequence[Sequence[float]], frames_each: int) -> dict[str, float]:
    """Frames a second of the median round, the slowest and the fastest. rounds: seconds, each for `frames_each` frames."""
    found = [frames_each * len(times) / sum(times) for times in rounds]
    return {"fps": median(found), "fps_min": min(found), "fps_max": max(found)}


def add_ratios(data: dict[str, Any]) -> dict[str, Any]:
    """`data` with ratio_OURS_over_OTHER for all pairs: frames a second of ours over theirs, medians over all rounds.

    "ratios" has the same of each round by itself. OURS: a model, or one with reuse from decoding to encoding; OTHER: a
    peer or bicubic, and for reuse auto also the same without.
    """
    rows = [row for row in data["rows"] if "fps" in row]
    ours = [row for row in rows if row["kind"] in ("model", "episode")]
    pairs = [(a, b) for a in ours for b in rows if b["kind"] in ("peer", "floor")]
    pairs += [(a, b) for a in ours for b in ours if a["name"].replace("reuse_auto", "reuse_off") == b["name"] != a["name"]]
    found = {f"ratio_{a['name']}_over_{b['name']}": (a, b) for a, b in pairs}
    ratios = {key: [x / y for x, y in zip(_rounds(a), _rounds(b))] for key, (a, b) in found.items()}
    return {**data, **{key: a["fps"] / b["fps"] for key, (a, b) in found.items()}, "ratios": ratios}


def _rounds(row: dict[str, Any]) -> list[float]:
    return [row["frames_each"] * len(times) / sum(times) for times in row["seconds"]]


def table(data: dict[str, Any]) -> list[str]:
    """The rows as Markdown, and how to read them; without columns of quality where there was no original."""
    rows, measured = data["rows"], data["original"] is not None
    heads = ["upscaler", "frames a second", "ms a frame"] + (["PSNR", "SSIM", "SSIMULACRA2", "luma shift"] if measured else [])
    lines = [f"{data['clip']}, {data['size']} to {data['scale']}x, frames {', '.join(map(str, data['frames']))}; "
             f"{data['threads']} threads each.", "",
             "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]  # fmt: skip
    for row in rows:
        if "left out" in row:
            lines.append(f"| {row['title']} | not measured: {row['left out']} |" + " |" * (len(heads) - 2))
            continue
        cells = [_title(row), rate(row), number(1000 / row["fps"])]
        lines.append("| " + " | ".join(cells + (_quality_cells(row) if measured else [])) + " |")
    return [*lines, "", *_ratio_table(data), "", *_remarks(data)]


def _title(row: dict[str, Any]) -> str:
    if "precision" in row:
        return f"{row['title']}, ncnn {row['precision']}"
    if "computed" in row:
        return f"{row['title']} ({row['computed']:.0%} of the pixels computed, {row['frames_each']} frames)"
    return str(row["title"])


def _quality_cells(row: dict[str, Any]) -> list[str]:
    if "quality" not in row:
        return ["", "", "", ""]
    metrics = row["quality"]
    score = metrics["ssimulacra2"]
    return [f"{metrics['psnr']['mean']:.2f} dB", f"{metrics['ssim']['mean']:.4f}",
            f"{score['mean']:.1f}" if "mean" in score else "not measured", f"{metrics['luma_shift']['mean']:+.1f}"]  # fmt: skip


def _ratio_table(data: dict[str, Any]) -> list[str]:
    rows = [row for row in data["rows"] if "fps" in row]
    ours = [row["name"] for row in rows if row["kind"] in ("model", "episode")]
    others = [row["name"] for row in rows if row["kind"] in ("peer", "floor")]
    lines = ["Frames a second of ours over theirs (lowest and highest of a round):", "",
             "| | " + " | ".join(others) + " |", "|---" * (len(others) + 1) + "|"]  # fmt: skip
    for name in ours:
        cells = []
        for other in others:
            key = f"ratio_{name}_over_{other}"
            each = data["ratios"][key]
            cells.append(f"{_ratio(data[key])} ({_ratio(min(each))} to {_ratio(max(each))})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    saved = [f"{key.split('_reuse')[0].removeprefix('ratio_')} {data[key]:.2f}" for key in data if key.endswith("_reuse_off")]
    return lines + (["", f"Reuse auto over off, from decoding to encoding: {', '.join(saved)}."] if saved else [])


def _ratio(value: float) -> str:
    return number(value) if value >= 0.1 else f"{value:.2g}"


def _remarks(data: dict[str, Any]) -> list[str]:
    lines = [
        f"* Medians of {data['repeats']} rounds (slowest to fastest), in each of which all enlarge the same frames, one after the other. {load_words(data['before'])}",
        f"* Models of vidsr are timed from planes to planes, with the conversion to R'G'B' and back, and bicubic from planes to planes; the others from R'G'B' of 8 bits to the same, without that conversion. They run whole frames through ncnn on the CPU ({', '.join(data['packages'])}), in its default precision or with bf16 storage, whichever was faster when tried first. Decode to encode is the whole of what `vidsr --codec x264` does; nothing of the kind is in the others' times.",
    ]
    if data["before"]["quiet"] is False:
        lines.append("* On a busy machine threads that wait for each other, ours and theirs, lose far more than their share, and not all alike: do not rely on these times, measure again on a quiet one.")
    if data["original"]:
        lines.append(f"* Against the original ({data['original']}): means over the frames of PSNR and SSIM of luma (BT.709) and of SSIMULACRA2, and how much brighter a picture is on average, of 255; every picture as it is in a video, with the chroma of {data['size']}'s format, not compressed.")
        lines += [f"* No SSIMULACRA2: {reason}." for reason in sorted({row["quality"]["ssimulacra2"]["left out"] for row in data["rows"] if "left out" in row.get("quality", {}).get("ssimulacra2", {})})]
    return lines
