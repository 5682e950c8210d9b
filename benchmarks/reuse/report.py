"""The figures as tables, how to read them, and which goals are missed."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean
from typing import Any

from benchmarks.common.machine import load_words
from benchmarks.reuse import motion, truth
from benchmarks.reuse.seconds import MOVING_SIZE, SMALL

# The goals, of "auto" on the clips with originals; OVERHEAD where everything moves.
SHARE, FASTER, OF_CLIPS, LOSS_DB, SHIMMER, RECALL, OWN_MS, OVERHEAD = 0.35, 2.0, 0.75, 0.05, 0.1, 0.999, 3.0, 1.03

SAVED = "mode | pixels computed | whole frames | decode to encode | itself | shimmer off | shimmer reuse | shimmer original | still | flickering off | flickering reuse | worst tile against off"


def missed(data: dict[str, Any]) -> list[str]:
    """Every figure that falls short of what was set out for, one line each."""
    lines = []
    every = [(clip["clip"], row) for clip in data["clips"] for row in clip["modes"] if row["mode"] == "auto"]
    judged = [(name, row) for name, row in every if row["truth"]]
    if judged:
        share, fast = mean(row["share"] for _, row in judged), sum(row["end_to_end"]["ratio"] >= FASTER for _, row in judged)
        if share > SHARE:
            lines.append(f"{share:.1%} of the pixels computed on average, not {SHARE:.0%}")
        if fast < OF_CLIPS * len(judged):
            lines.append(f"{fast} of {len(judged)} clips {FASTER:g} times as fast, not {OF_CLIPS:.0%}")
    for name, row in judged:
        loss, shimmer, found = row["truth"]["luma"]["loss_db"], row["shimmer"]["reuse"], row["truth"]["motion"]
        if loss > LOSS_DB:
            lines.append(f"{name}: {loss:.3f} dB further from the original, not {LOSS_DB:g}")
        if shimmer and shimmer["mean"] > SHIMMER:
            lines.append(f"{name}: shimmer of {shimmer['mean']:.3f} levels, not {SHIMMER:g}")
        if found["recall"] is not None and found["recall"] < RECALL:
            lines.append(f"{name}: {found['recall']:.2%} of the tiles that move do so in the result, not {RECALL:.1%}: {_place(found['missed'][0])}")
    for name, row in every:
        if row["own_ms"] > OWN_MS:
            lines.append(f"{name}: reuse itself takes {row['own_ms']:.2f} ms a frame, not {OWN_MS:g}")
    for row in data["moving"]:
        if row["ratio"] > OVERHEAD:
            lines.append(f"{row['kind']}: {row['ratio'] - 1:.1%} slower where everything moves, not {OVERHEAD - 1:.0%}")
    return lines


def table(data: dict[str, Any]) -> list[str]:
    """The figures as Markdown, and how to read them."""
    clips, scenes = (list(_rows(data[name])) for name in ("clips", "scenes"))
    judged = [(clip, row) for clip, row in clips if row["truth"]]
    lines = [f"Model {data['model']}, {data['backend']}, {data['threads']} threads.", ""]
    lines += _table(f"clip | {SAVED}", map(_saved, clips))
    if judged:
        lines += _table("clip | mode | PSNR off | PSNR reuse | loss | most in a frame | most in a tile | tiles that lose 1 dB | 3 dB | R'G'B' PSNR off | R'G'B' PSNR reuse | SSIMULACRA2 off | SSIMULACRA2 reuse", map(_near, judged))
        lines += _table("clip | mode | moving tiles | of which off shows | recall | worst missed | late | with something late | worst of these", map(_moved, judged))
    if scenes:
        lines += [f"Scenes, model {data['scene_model']}, {scenes[0][0]['frames']} frames of their middle:", ""]
        lines += _table(f"scene | {SAVED}", map(_saved, scenes))
    lines += _table("where everything moves | reuse over plain | itself", ([row["kind"], f"{row['ratio']:.3f}", f"{row['own_ms']:.2f} ms"] for row in data["moving"]))
    return [*lines, *_remarks(data)]


def _rows(clips: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    return ((clip, row) for clip in clips for row in clip["modes"])


def _table(head: str, rows: Any) -> list[str]:
    names = head.split(" | ")
    return [f"| {head} |", "|" + "---|" * len(names), *("| " + " | ".join(cells) + " |" for cells in rows), ""]


def _saved(pair: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    clip, row = pair
    still, worst = row["shimmer"], row["against_off"]
    off, reuse, original = (still.get(name) for name in ("off", "reuse", "original"))
    return [
        clip["clip"], row["mode"], f"{row['share']:.1%}", f"{row['whole']} of {row['frames']}", f"{row['end_to_end']['ratio']:.2f}x",
        f"{row['own_ms']:.2f} ms", *(f"{one['mean']:.3f}" if one else "" for one in (off, reuse, original)), f"{still['share']:.0%}",
        *(f"{one['flicker']:.2%}" if one else "" for one in (off, reuse)),
        "identical" if worst["identical"] else f"{worst['db']:.1f} dB, {_place(worst)}{('', ', first chroma', ', second chroma')[worst['plane']]}",
    ]  # fmt: skip


def _near(pair: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    clip, row = pair
    luma, rgb, score = (row["truth"][name] for name in ("luma", "rgb_psnr", "ssimulacra2"))
    return [
        clip["clip"], row["mode"], f"{luma['off_db']:.2f} dB", f"{luma['reuse_db']:.2f} dB", f"{luma['loss_db']:+.3f} dB",
        f"{luma['worst_frame']['loss_db']:+.2f} dB, frame {luma['worst_frame']['frame']}", f"{luma['worst_tile']['loss_db']:+.1f} dB, {_place(luma['worst_tile'])}",
        *map(str, luma["beyond"].values()), f"{rgb['off']:.2f} dB", f"{rgb['reuse']:.2f} dB",
        *([f"{score['off']:.1f}", f"{score['reuse']:.1f}"] if score and "off" in score else ["", ""]),
    ]  # fmt: skip


def _moved(pair: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    clip, row = pair
    found, late = row["truth"]["motion"], row["truth"]["lateness"]
    recall = "" if found["recall"] is None else f"{found['recall']:.2%}"
    return [
        clip["clip"], row["mode"], str(found["moving"]), str(found["shown"]), f"{recall} ({found['missed_count']} missed)",
        _place(found["missed"][0]) if found["missed"] else "", str(late["late"]), str(late["ghosts"]),
        f"{late['worst'][0]['shift']:+d}, {_place(late['worst'][0])}" if late["worst"] else "",
    ]  # fmt: skip


def _place(found: dict[str, Any]) -> str:
    return f"frame {found['frame']} ({found['seconds']:.2f} s) at {found['x']}, {found['y']}"


def _remarks(data: dict[str, Any]) -> list[str]:
    width, height = SMALL
    moving = "x".join(map(str, MOVING_SIZE))
    goals = ["* Short of what was set out for:", *(f"    * {line}" for line in data["missed"])]
    return [
        *(goals if data["missed"] else ["* All goals are met."]),
        *(f"* Left out: {line}" for line in data["left out"]),
        f"* Pixels computed: source pixels given to the model over all, borders included. Decode to encode: times as fast as without reuse, through the pipeline's stages; medians of the ratios of {data['repeats']} alternating rounds (scenes: one). {load_words(data['before'])} Itself: milliseconds a frame that reuse takes on one core, the frames resized to {width}x{height}, with a model that costs nothing.",
        f"* Shimmer: mean absolute change of luma from frame to frame, in levels, where the original and all around it that the model sees does not change by more than {motion.STILL:g} at any sample (scenes: where the source changes by less than {motion.SPOT_STILL:g} on average over {motion.SPOT}x{motion.SPOT} and {motion.GRAIN:g} by its root mean square); still: how much of the picture that is. Flickering: those of its tiles ({motion.TILE}x{motion.TILE} of the source) that change by more than {motion.FLICKER:g} on average.",
        f"* PSNR: of luma against the original, all frames; loss: of that, by reuse. A tile: {truth.WORST}x{truth.WORST} of the result, all planes, of any frame; errors below {truth.FLOOR:g} squared levels count as that much. Of one frame in {data['every']}: R'G'B' and SSIMULACRA2.",
        f"* Moving tiles: those of the original, reduced to the source's size, that change by {motion.MOVED:g} or more by their root mean square; off shows those of which it has {motion.SHOWN:.0%} of the change, in the frame itself or one beside it; recall: those of these of whose change the result with reuse has {motion.FOLLOWED:.0%} of what off has.",
        f"* Late: tiles that are nearer to the original of another frame, one or two before or after, {motion.NEARER:.0%} of the way or more, where those without reuse are nearer to their own. Something late: {motion.DRAWN:.0%} of the way further than without reuse. The number: which frame they are, -1 for the one before.",
        f"* Places: the frame from 0, and its time; the pixel (x, y) of the result at which the tile begins. Where everything moves: {moving}, three times as many rounds; noise: each frame new; scattered: half of the tiles.",
    ]
