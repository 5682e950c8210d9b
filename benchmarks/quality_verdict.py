"""What the figures of quality say of the models' goals: each answer follows from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks.quality_subjects import STILLS

Row = dict[str, Any]
FAST, PEER, TEACHERS, NEAR = "fast", "animevideov3", ("srwgan-gp-video", "balanced"), 0.5  # dB
METRICS = {"psnr": ("PSNR", "{:+.2f} dB"), "ssim": ("SSIM", "{:+.4f}"), "ssimulacra2": ("SSIMULACRA2", "{:+.1f}")}


@dataclass(frozen=True)
class Verdict:
    """answer: "yes", "no", or why there is none."""

    goal: str
    answer: str
    figures: str


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Of the three goals: no worse than animevideov3 on clips, near the large models, 2x weights worth having."""
    found = [_no_worse(rows, FAST, PEER)]
    found += [_near(rows, FAST, teacher) for teacher in TEACHERS]
    natives = sorted({row["name"] for row in rows if row["scale"] == 2 and row["native"] == 2})
    pairs = [(name, name.removesuffix("-2x")) for name in natives if name.endswith("-2x")]
    return found + [_better_at_2x(rows, name, reduced) for name, reduced in pairs]


def _pairs(rows: Sequence[Row], scale: int, a: str, b: str) -> list[tuple[Row, Row]]:
    """The rows of `a` and of `b` on each subject that both were measured on."""
    by_key = {(row["scale"], row["subject"], row["name"]): row for row in rows}
    subjects = dict.fromkeys(row["subject"] for row in rows)
    both = [(by_key.get((scale, subject, a)), by_key.get((scale, subject, b))) for subject in subjects]
    return [(x, y) for x, y in both if x and y]


def _gains(pairs: Sequence[tuple[Row, Row]], metric: str) -> list[tuple[float, str]]:
    """How much the first of each pair is better, and on what; nothing for pairs without that metric."""
    return [
        (a[metric]["mean"] - b[metric]["mean"], a["subject"]) for a, b in pairs if "mean" in a[metric] and "mean" in b[metric]
    ]


def _compared(pairs: Sequence[tuple[Row, Row]]) -> tuple[list[float], list[str]]:
    """All gains by every metric, and each metric's as words."""
    values: list[float] = []
    words = []
    for metric, (name, form) in METRICS.items():
        gains = _gains(pairs, metric)
        values += [gain for gain, _ in gains]
        if gains:
            least, where = min(gains)
            fit = sum(gain >= 0 for gain, _ in gains)
            words.append(f"{name} {form.format(mean(gain for gain, _ in gains))} in the mean, on {fit} of {len(gains)} no worse, least {form.format(least)} ({where})")
        else:
            words.append(f"{name} not measured")
    return values, words


def _no_worse(rows: Sequence[Row], ours: str, other: str) -> Verdict:
    goal = f"`{ours}` no worse than {other} by every metric on every clip, 4x"
    pairs = [pair for pair in _pairs(rows, 4, ours, other) if pair[0]["subject"] != STILLS]
    return _judged(goal, pairs)


def _better_at_2x(rows: Sequence[Row], native: str, reduced: str) -> Verdict:
    goal = f"`{native}` no worse than `{reduced}` reduced by area by every metric on all, 2x"
    return _judged(goal, _pairs(rows, 2, native, reduced))


def _judged(goal: str, pairs: Sequence[tuple[Row, Row]]) -> Verdict:
    if not pairs:
        return Verdict(goal, "not measured", "")
    values, words = _compared(pairs)
    whole = all(_gains(pairs, metric) for metric in METRICS)
    answer = "no" if min(values) < 0 else "yes" if whole else "not measured by every metric"
    return Verdict(goal, answer, "; ".join(words))


def _near(rows: Sequence[Row], ours: str, teacher: str) -> Verdict:
    goal = f"`{ours}` within {NEAR} dB of `{teacher}` in the mean over clips, and over stills, 4x"
    pairs = _pairs(rows, 4, ours, teacher)
    groups = {"clips": [p for p in pairs if p[0]["subject"] != STILLS], "stills": [p for p in pairs if p[0]["subject"] == STILLS]}
    gaps = {name: _gains(group, "psnr") for name, group in groups.items() if group}
    if not gaps:
        return Verdict(goal, "not measured", "")
    means = {name: mean(gain for gain, _ in found) for name, found in gaps.items()}
    words = [f"{name} {value:+.2f} dB" for name, value in means.items()]
    least, where = min(gain for found in gaps.values() for gain in found)
    missing = [name for name in groups if name not in gaps]
    answer = "no" if min(means.values()) < -NEAR else f"not measured on {missing[0]}" if missing else "yes"
    return Verdict(goal, answer, f"{', '.join(words)}; farthest {least:+.2f} dB ({where})")
