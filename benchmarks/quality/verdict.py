"""What the figures of quality say of the models' goals: each answer follows from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks.common.metrics import METRICS
from benchmarks.quality.subjects import STILLS, WORN, WORN_GROUPS

Row = dict[str, Any]
FAST, PEER, TEACHERS, NEAR = "fast", "animevideov3", ("srwgan-gp-video", "balanced"), 0.5  # dB
AHEAD = (("balanced", "animevideov3"), ("balanced", "realcugan"), ("best", "realcugan"), ("fast", "animevideov3"))  # on worn clips
MOST = 0.3  # dB that a model may lose on clean sources


@dataclass(frozen=True)
class Verdict:
    """answer: "yes", "no", or why there is none."""

    goal: str
    answer: str
    figures: str


@dataclass(frozen=True)
class Change:
    """gains: by metric, how much greater the mean of the upscaler `name` over `count` subjects of a group has become."""

    name: str
    scale: int
    group: str
    count: int
    gains: dict[str, float]


def verdicts(rows: Sequence[Row], earlier: Sequence[Row] = ()) -> list[Verdict]:
    """Of the goals: on worn clips ahead of the others, on clean ones no worse than animevideov3, near the large models and
    than before, and 2x weights worth having. earlier: rows of the weights before."""
    found = [_ahead(rows, ours, other) for ours, other in AHEAD]
    found += [_no_loss(rows, earlier)] if earlier else []
    found += [_no_worse(rows, FAST, PEER)]
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
        (METRICS[metric].better * (a[metric]["mean"] - b[metric]["mean"]), a["subject"])
        for a, b in pairs if "mean" in a.get(metric, {}) and "mean" in b.get(metric, {})
    ]  # fmt: skip


def _compared(pairs: Sequence[tuple[Row, Row]]) -> tuple[list[float], list[str]]:
    """All gains by every metric, and each metric's as words."""
    values: list[float] = []
    words = []
    for metric, kind in METRICS.items():
        name = kind.title
        gains = _gains(pairs, metric)
        values += [gain for gain, _ in gains]
        if gains:
            least, where = min(gains)
            fit = sum(gain >= 0 for gain, _ in gains)
            words.append(f"{name} {_said(metric, mean(gain for gain, _ in gains))} in the mean, on {fit} of {len(gains)} no worse, worst {_said(metric, least)} ({where})")
        else:
            words.append(f"{name} not measured")
    return values, words


def _said(metric: str, gain: float) -> str:
    """A gain, of which more is better, as the difference that it is."""
    return METRICS[metric].gain.format(METRICS[metric].better * gain)


def _clean(row: Row) -> bool:
    return row["subject"] != STILLS and row["group"] not in WORN_GROUPS


def _ahead(rows: Sequence[Row], ours: str, other: str) -> Verdict:
    goal = f"`{ours}` ahead of {other} by every metric in the mean over the worn clips, 4x"
    pairs = [pair for pair in _pairs(rows, 4, ours, other) if pair[0]["group"] == WORN]
    if not pairs:
        return Verdict(goal, "not measured", "")
    gains = {metric: [gain for gain, _ in _gains(pairs, metric)] for metric in METRICS}
    means = {metric: mean(values) for metric, values in gains.items() if len(values) == len(pairs)}
    words = [
        f"{kind.title} {_said(metric, means[metric])} (on {sum(gain > 0 for gain in gains[metric])} of {len(pairs)})"
        if metric in means else f"{kind.title} not measured" for metric, kind in METRICS.items()
    ]  # fmt: skip
    answer = "no" if min(means.values(), default=1) <= 0 else "yes" if len(means) == len(METRICS) else "not measured by every metric"
    return Verdict(goal, answer, "; ".join(words))


def changes(rows: Sequence[Row], earlier: Sequence[Row]) -> list[Change]:
    """Of each upscaler whose figures are others than in `earlier`, by scale and group, over the subjects that both have."""
    before = {(row["scale"], row["subject"], row["name"], row["subject_digest"]): row for row in earlier}
    both: dict[tuple[str, int, str], list[tuple[Row, Row]]] = {}
    for row in rows:
        old = before.get((row["scale"], row["subject"], row["name"], row["subject_digest"]))
        if old:
            both.setdefault((row["name"], row["scale"], row["group"]), []).append((row, old))
    found = []
    for key, pairs in both.items():
        means = {
            metric: mean(new[metric]["mean"] - old[metric]["mean"] for new, old in pairs) for metric in METRICS
            if all("mean" in row.get(metric, {}) for pair in pairs for row in pair)
        }  # fmt: skip
        if any(means.values()):
            found.append(Change(*key, len(pairs), means))
    return found


def _no_loss(rows: Sequence[Row], earlier: Sequence[Row]) -> Verdict:
    goal = f"no model loses more than {MOST} dB on clean sources against the weights before"
    found = [(change.gains["psnr"], change) for change in changes(rows, earlier)
             if change.group not in WORN_GROUPS and "psnr" in change.gains]  # fmt: skip
    if not found:
        return Verdict(goal, "nothing has changed", "")
    losses = [f"{change.name}, {change.scale}x, {change.group} {gain:+.2f} dB" for gain, change in found if gain < -MOST]
    least, worst = min(found, key=lambda pair: pair[0])
    words = "; ".join(losses) or f"least {least:+.2f} dB ({worst.name}, {worst.scale}x, {worst.group})"
    return Verdict(goal, "no" if losses else "yes", words)


def _no_worse(rows: Sequence[Row], ours: str, other: str) -> Verdict:
    goal = f"`{ours}` no worse than {other} by every metric on every clip, 4x"
    pairs = [pair for pair in _pairs(rows, 4, ours, other) if _clean(pair[0])]
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
    groups = {"clips": [p for p in pairs if _clean(p[0])], "stills": [p for p in pairs if p[0]["subject"] == STILLS]}
    gaps = {name: _gains(group, "psnr") for name, group in groups.items() if group}
    if not gaps:
        return Verdict(goal, "not measured", "")
    means = {name: mean(gain for gain, _ in found) for name, found in gaps.items()}
    words = [f"{name} {value:+.2f} dB" for name, value in means.items()]
    least, where = min(gain for found in gaps.values() for gain in found)
    missing = [name for name in groups if name not in gaps]
    answer = "no" if min(means.values()) < -NEAR else f"not measured on {missing[0]}" if missing else "yes"
    return Verdict(goal, answer, f"{', '.join(words)}; farthest {least:+.2f} dB ({where})")
