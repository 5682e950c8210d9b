"""Bars as a PNG: one panel above the other, each with its own scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

COLORS = ("#2e72b0", "#e89e4a")  # of the series
ROOF, GRAY, GRID = "#c83c3c", "#6e6e6e", "#e1e1e1"
BAR, REACH = 0.36, 0.06  # of a group's place: a bar's width, and how far a roof's line goes beyond its bars


@dataclass(frozen=True)
class Bars:
    """A panel. groups: labels along the axis. series: name -> a value for each group, None where there is none.

    roof: a value for each group that is marked by a line across its bars.
    """

    title: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    roof: Sequence[float]


def number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def draw(panels: Sequence[Bars], path: Path, caption: str) -> None:
    """Frames a second as bars, from zero. A roof far above all bars is only written under them.

    Without matplotlib there is a line on stderr instead of a picture: what was measured is worth more.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch
    except ModuleNotFoundError:
        click.echo(f"{path.name}: not drawn, matplotlib is missing: pip install matplotlib", err=True)
        return
    figure = Figure((10, 0.9 + 3.3 * len(panels)), layout="constrained")
    for panel, axes in zip(panels, figure.subplots(len(panels), squeeze=False)[:, 0]):
        _panel(axes, panel)
    key: list[Any] = [Patch(color=color, label=name) for name, color in zip(panels[0].series, COLORS)]
    key.append(Line2D([], [], color=ROOF, linewidth=2, label="roof, from the peaks measured"))
    figure.legend(handles=key, loc="outside upper left", ncols=len(key), frameon=False)
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=9, color=GRAY)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _panel(axes: Any, panel: Bars) -> None:
    """Numbers stand under the bars, where nothing can lie over them."""
    highest = max((value for values in panel.series.values() for value in values if value is not None), default=1.0)
    count = len(panel.groups)
    names = [f"\n{group}\nroof {number(roof)}" for group, roof in zip(panel.groups, panel.roof)]
    axes.set_title(panel.title, loc="left")
    axes.set_title("frames a second", loc="right", fontsize=9, color=GRAY)
    axes.set(xlim=(-0.6, max(count, 3) - 0.4))
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.yaxis.grid(color=GRID)
    axes.set_axisbelow(True)
    middle = (len(panel.series) - 1) / 2
    places = [i + (k - middle) * BAR for k in range(len(panel.series)) for i in range(count)]
    values = [value for series in panel.series.values() for value in series]
    axes.bar(places, [value or 0 for value in values], 0.95 * BAR, color=[c for c in COLORS for _ in range(count)][: len(values)])
    axes.set_xticks(range(count), names)
    axes.set_xticks(places, ["not run" if value is None else number(value) for value in values], minor=True, fontsize=9)
    axes.tick_params(which="both", length=0)
    side = (middle + 0.5) * BAR + REACH
    near = [(i, roof) for i, roof in enumerate(panel.roof) if roof <= 2.5 * highest]
    axes.hlines([roof for _, roof in near], [i - side for i, _ in near], [i + side for i, _ in near], color=ROOF, linewidth=2)
