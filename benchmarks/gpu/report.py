"""What `python -m benchmarks gpu` found, as Markdown."""

from __future__ import annotations

from collections import Counter
from typing import Any

from benchmarks.common.chart import number
from benchmarks.gpu.trial import Found
from benchmarks.speed.fps import rate, table
from vidsr.errors import first_line


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
    sections = {
        "tests": _tests, "race": _race, "copies": _copies, "chunks": _chunks, "profile": _profile, "x264": _x264,
        "execution": _execution, "fps": _fps, "tensorrt": _tensorrt, "clip": _clip, "memory": _memory,
    }  # fmt: skip
    for name, found in data["parts"].items():
        lines += [f"## {name}", "", f"{outcome(found)}.", ""]
        try:
            lines += sections[name]({**found, "before": data["before"]})  # the load of the parts before is our own
        except Exception as error:  # what comes next is worth more than a table
            lines += [f"* No table of it: {type(error).__name__}: {first_line(error)}. Its findings are in the JSON file.", ""]
        if name != "fps" and found.get("notes"):
            lines += [*(f"* {note}." for note in found["notes"]), ""]
    return lines


def _tests(found: Found) -> list[str]:
    if "not_run" not in found:
        return []
    not_run = found["not_run"]
    counts = [f"{number} {what}" for what, number in found["counts"].items()] + [f"{len(not_run)} not run"] * bool(not_run)
    lines = [f"`{found['command']}`: {', '.join(counts) or 'no count'}.", ""]
    lines += [f"* Failed: {what}." for what in found["failures"]] + [f"* Skipped: {why}." for why in found["skips"]]
    lines += [f"* Stopped at the end of its time: {name}." for name in found["running"]]
    if not_run:
        each = Counter(name.split("::")[0] for name in not_run)
        lines.append(f"* Not run, for want of time: {', '.join(f'{count} of {name}' for name, count in each.items())}.")
    lines += [f"* Without {what}." for what in found["without"]]
    if found["slowest"]:
        lines.append("* Longest: " + ", ".join(f"{name.split('::')[-1]} {seconds:.1f} s" for name, seconds in found["slowest"]) + ".")
    return [*lines, "", *(["```", *found["tail"], "```", ""] if "tail" in found else [])]


def _race(found: Found) -> list[str]:
    lines = []
    for row in found.get("races", []):
        if "of" in row:
            graphs = f"CUDA graphs in {sum(row['graphs'])} of {len(row['graphs'])} lanes"
            lines.append(f"* {row['model']}, {row['size']}: {row['wrong_frames']} wrong frames of {row['of']}; {graphs}.")
        else:
            lines.append(f"* {row['model']}: {_why(row)}.")
    return [*lines, ""]


def _copies(found: Found) -> list[str]:
    ways = ("host_to_device", "device_to_host", "both_at_once")
    lines = ["| MiB, pinned | host to device, GB/s | device to host, GB/s | both at once, GB/s in all |", "|---|---|---|---|"]
    for row in found.get("copies", []):
        cells = [number(row[way]["gb_per_s"]) if "gb_per_s" in row[way] else _why(row[way]) for way in ways]
        lines.append(f"| {row['mib']} | {' | '.join(cells)} |")
    return [*lines, ""]


def _chunks(found: Found) -> list[str]:
    lines = ["| model | source | frames at once | device alone |", "|---|---|---|---|"]
    for row in found.get("chunks", []):
        start = f"| {row['model']} | {row['size']} | {row.get('at_once', row['asked'])} | "
        lines.append(f"{start}{rate(row['device_alone']) if 'device_alone' in row else _why(row)} |")
    return [*lines, ""]


def _profile(found: Found) -> list[str]:
    lines = []
    for row in found.get("profiles", []):
        lines += [f"### {row['model']}, {row['size']}", ""]
        if counted := row.get("counted"):
            each = ", ".join(f"{stage} {part['kernels']} and {part['bytes'] / 1e6:.1f} MB" for stage, part in counted["stages"].items())
            lines += [f"Counted, as the code is written, of {counted['frames']} frames' kernels and of a frame's bytes: {each}.", ""]
        if "kernels" not in row:
            lines += [f"{_why(row)}.", ""]
            continue
        lines += [
            f"{row['kernels_per_chunk']} kernels for {row['frames']} frames, {row['us_per_frame']:.0f} µs a frame in all.", "",
            "| kernel | times | µs a frame |", "|---|---|---|",
            *(f"| `{name.replace('|', '/')}` | {times} | {each} |" for name, times, each in row["kernels"]), "",
        ]  # fmt: skip
    return lines


def _x264(found: Found) -> list[str]:
    lines = [f"Pictures of {found.get('size', '?')}, {found.get('cores', '?')} cores.", "",
             "| files at once | threads of each | preset | frames a second in all |", "|---|---|---|---|"]  # fmt: skip
    for row in found.get("encoders", []):
        cells = [str(row["jobs"]), str(row["threads"]), row["preset"], number(row["fps"]) if "fps" in row else _why(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""] if "encoders" in found else []


def _fps(found: Found) -> list[str]:
    lines = table(found) if found.get("rows") else []
    lines += [f"* {name}: {found[key]}." for name, key in (("TensorRT", "tensorrt"), ("Decode to encode", "decode_to_encode")) if key in found]
    return [*lines, *(f"* {row['what']}: {_why(row)}." for row in found.get("without", [])), ""]


def _execution(found: Found) -> list[str]:
    lines = ["| model | source | execution | ready after | compiled graphs | model only | device alone | against graph |", "|---" * 8 + "|"]
    for row in found.get("ways", []):
        start = f"| {row['model']} | {row['size']} | {row['execution']} | "
        if "model_only" not in row:
            lines.append(f"{start}{_why(row)} | | | | |")
            continue
        same = "" if "same_bits" not in row else "same bits" if row["same_bits"] else (
            f"{row['psnr_db']:.1f} dB, {row['most_codes_off']} codes at most"
        )  # fmt: skip
        lines.append(f"{start}{row['ready_s']:.1f} s | {row.get('compiled_graphs', '')} | {rate(row['model_only'])} | {rate(row['device_alone'])} | {same} |")
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
    lines = []
    for run in found.get("runs", []):
        if "fps" in run:
            what = f"{found['frames']} frames of {found['size']} ({found['clip']}), {found['model']}, reuse {run['reuse']}"
            lines.append(f"* {what}: {run['seconds']:.1f} s from start to end, {number(run['fps'])} frames a second.")
        else:
            lines.append(f"* Reuse {run['reuse']}: {_why(run)}.")
    stages = found.get("stages", {})
    if "bound_by" in stages:
        each = ", ".join(f"{name} {value:.2f}" for name, value in stages["stage_ms"].items())
        lines.append(
            f"* Of the stages alone (ms a frame: {each}) {stages['bound_by']} is the slowest; decode to encode, without start and proof, "
            f"{rate(stages['end_to_end'])} frames a second with {stages['workers']} segments at once."
        )
    return [*lines, ""]


def _why(row: Found) -> str:
    return f"failed: {row['failed']}" if "failed" in row else f"left out: {row.get('left out', 'unknown')}"


def _db(value: float | None) -> str:
    return f"{value:.1f} dB" if value is not None else "equal or NaN"
