"""What `python -m benchmarks gpu` found, as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.common.chart import number
from benchmarks.gpu.trial import Found
from benchmarks.speed.fps import rate, table


def outcome(found: Found) -> str:
    """A part in a few words."""
    if "failed" in found:
        return f"FAILED: {found['failed']}"
    if "left out" in found:
        return f"left out: {found['left out']}"
    return f"done in {found['took_s']:.0f} s"


def report(data: dict[str, Any]) -> list[str]:
    """A section for each part so far."""
    lines = ["# On a GPU", "", f"`python -m benchmarks gpu --minutes {data['minutes']:g}`", ""]
    if "rehearsal" in data:
        lines += [f"**Rehearsal {data['rehearsal']}.**", ""]
    sections = {"tests": _tests, "fps": _fps, "execution": _execution, "tensorrt": _tensorrt, "memory": _memory, "clip": _clip}
    for name, found in data["parts"].items():
        lines += [f"## {name}", "", f"{outcome(found)}.", ""]
        lines += sections[name]({**found, "before": data["before"]})  # the load of the parts before is our own
        lines += [f"* {note}." for note in found.get("notes", []) if name != "fps"]
    return lines


def _tests(found: Found) -> list[str]:
    if "counts" not in found:
        return []
    counts = ", ".join(f"{number} {what}" for what, number in found["counts"].items())
    lines = [f"`{found['command']}`: {counts or 'no count'}.", *(f"* Without {name}" for name in found.get("without", [])), ""]
    return lines if found["exit_code"] == 0 else [*lines, "```", *found["tail"], "```", ""]


def _fps(found: Found) -> list[str]:
    lines = table(found) if found.get("rows") else []
    lines += [f"* {name}: {found[key]}." for name, key in (("TensorRT", "tensorrt"), ("Decode to encode", "decode_to_encode")) if key in found]
    return [*lines, *(f"* {row['what']}: {_why(row)}." for row in found.get("without", [])), ""]


def _execution(found: Found) -> list[str]:
    lines = ["| model | source | execution | ready after | model only | device alone | against graph |", "|---|---|---|---|---|---|---|"]
    for row in found.get("ways", []):
        start = f"| {row['model']} | {row['size']} | {row['execution']} | "
        if "model_only" not in row:
            lines.append(f"{start}{_why(row)} | | | |")
            continue
        same = "" if "same_bits" not in row else "same bits" if row["same_bits"] else (
            f"{row['psnr_db']:.1f} dB, {row['most_codes_off']} codes at most"
        )  # fmt: skip
        lines.append(f"{start}{row['ready_s']:.1f} s | {rate(row['model_only'])} | {rate(row['device_alone'])} | {same} |")
    return [*lines, ""]


def _tensorrt(found: Found) -> list[str]:
    if "package" not in found:
        return []
    ahead = ", ".join(found["builds_ahead_for"]) or "no other card"
    lines = [f"{found['package']}; this card: {found.get('compute_capability', 'none')}; builds ahead for {ahead}.", "",
             "| model | source | built for | build | engine | runs | against float32 | PyTorch fp16 | engine fps | PyTorch fps |",
             "|---" * 10 + "|"]  # fmt: skip
    for row in found.get("engines", []):
        start = f"| {row['model']} | {row['size']} | {row['target']} | "
        if "bytes" not in row:
            lines.append(f"{start}{_why(row)} | | | | | | |")
            continue
        start += f"{row['build_s']:.1f} s | {row['bytes'] / 2**20:.1f} MiB | "
        if "engine" in row:
            runs = "yes" if row["finite"] else "gives NaN or infinity"
            lines.append(f"{start}{runs} | {_db(row['psnr_db'])} | {_db(row['pytorch_psnr_db'])} | {rate(row['engine'])} | {rate(row['pytorch'])} |")
        else:
            lines.append(f"{start}no: {row['not run']} | | | | |")
    return [*lines, ""]


def _memory(found: Found) -> list[str]:
    if not found.get("samples"):
        return []
    lines = ["| frames | allocated | reserved | host |", "|---|---|---|---|"]
    for sample in found["samples"]:
        held = [f"{sample[name] / 2**20:.1f} MiB" if sample[name] is not None else "" for name in ("allocated", "reserved", "host_rss")]
        lines.append(f"| {sample['frames']} | {' | '.join(held)} |")
    growth = ", ".join(f"{name.replace('_', ' ')} {value / 2**20:+.1f} MiB" for name, value in found.get("growth", {}).items())
    return [*lines, "", *([f"From the first to the last: {growth}.", ""] if growth else [])]


def _clip(found: Found) -> list[str]:
    if "fps" not in found:
        return []
    lines = [f"`{found['command']}`, {found['frames']} frames of {found['size']}: {found['seconds']:.1f} s from start to end, {number(found['fps'])} frames a second."]
    stages = found.get("stages", {})
    if "bound_by" in stages:
        each = ", ".join(f"{name} {value:.2f}" for name, value in stages["stage_ms"].items())
        lines.append(
            f"Of the stages alone (ms a frame: {each}) {stages['bound_by']} is the slowest; decode to encode, without start and proof, "
            f"{rate(stages['end_to_end'])} frames a second with {stages['workers']} segments at once."
        )
    return [*lines, ""]


def _why(row: Found) -> str:
    return f"failed: {row['failed']}" if "failed" in row else f"left out: {row.get('left out', 'unknown')}"


def _db(value: float | None) -> str:
    return f"{value:.1f} dB" if value is not None else "equal or NaN"
