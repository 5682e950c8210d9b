"""Bars as a PNG, drawn with OpenCV: one panel above the other, each with its own scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path

import cv2
import numpy as np

FINE = 2  # drawn so many times as large: the lines come out smooth
WIDTH, PANEL, HEAD, FOOT = 1000, 330, 40, 40
LEFT, RIGHT, ABOVE, BELOW = 80, 24, 58, 44  # around the bars of a panel
INK, GRAY, GRID = (40, 40, 40), (110, 110, 110), (225, 225, 225)
COLORS = ((176, 114, 46), (74, 158, 232))  # blue, orange; OpenCV's order is BGR
ROOF = (60, 60, 200)
FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Bars:
    """A panel. groups: labels along the axis. series: name -> a value for each group, None where there is none.

    roof: a value for each group that is marked by a line across its bars.
    """

    title: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    roof: Sequence[float]


def draw(panels: Sequence[Bars], path: Path, caption: str) -> None:
    """Frames a second as bars, from zero. A roof far above all bars is written over them instead of drawn."""
    size = (HEAD + PANEL * len(panels) + FOOT) * FINE, WIDTH * FINE, 3
    image = np.full(size, 255, np.uint8)
    _legend(image, list(panels[0].series) if panels else [])
    for i, panel in enumerate(panels):
        _panel(image, panel, HEAD + i * PANEL)
    _text(image, caption, LEFT, size[0] // FINE - 14, 13, GRAY)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.resize(image, None, fx=1 / FINE, fy=1 / FINE, interpolation=cv2.INTER_AREA))


def _legend(image: np.ndarray, names: Sequence[str]) -> None:
    x = LEFT
    for name, color in zip(names, COLORS):
        _box(image, x, 16, x + 14, 30, color)
        x += 20 + _text(image, name, x + 20, 29, 15, INK) + 30
    _box(image, x, 21, x + 26, 24, ROOF)
    _text(image, "roof, from the peaks measured", x + 34, 29, 15, INK)


def _panel(image: np.ndarray, panel: Bars, top: int) -> None:
    left, right, upper, lower = LEFT, WIDTH - RIGHT, top + ABOVE, top + PANEL - BELOW
    _text(image, panel.title, left, top + 28, 17, INK)
    _text(image, "frames a second", right, top + 28, 13, GRAY, "right")
    values = [v for values in panel.series.values() for v in values if v is not None]
    highest = max(values, default=1.0)
    drawn = [roof <= 2.5 * highest for roof in panel.roof]
    highest = max([highest, *(roof for roof, near in zip(panel.roof, drawn) if near)])
    step = _step(highest)
    most = (floor(highest / step * 1.02) + 1) * step

    def y(value: float) -> float:
        return lower - (lower - upper) * value / most

    for i in range(round(most / step) + 1):
        _box(image, left, y(i * step), right, y(i * step) + 1, GRID if i else GRAY)
        _text(image, f"{i * step:g}", left - 10, y(i * step) + 5, 13, GRAY, "right")
    room = (right - left) / max(1, len(panel.groups))
    bar = min(86.0, (room - 64) / max(1, len(panel.series)))  # which leaves room for the roof's number
    for i, group in enumerate(panel.groups):
        middle = left + (i + 0.5) * room
        start = middle - bar * len(panel.series) / 2
        end = start + bar * len(panel.series)
        _text(image, group, middle, lower + 22, 15, INK, "centre")
        if drawn[i]:
            _box(image, start - 8, y(panel.roof[i]) - 1, end + 8, y(panel.roof[i]) + 2, ROOF)
            _box(image, end + 9, y(panel.roof[i]) - 8, end + 52, y(panel.roof[i]) + 8, (255, 255, 255))  # over the grid
            _text(image, _number(panel.roof[i]), end + 12, y(panel.roof[i]) + 5, 13, ROOF)
        else:
            _text(image, f"roof {_number(panel.roof[i])}", middle, upper - 6, 13, ROOF, "centre")
        for j, (values_of, color) in enumerate(zip(panel.series.values(), COLORS)):
            value, x = values_of[i], start + j * bar
            if value is None:
                _text(image, "not run", x + bar / 2, lower - 6, 13, GRAY, "centre")
                continue
            _box(image, x + 2, y(value), x + bar - 2, lower, color)
            inside = lower - y(value) > 24
            at = y(value) + 17 if inside else y(value) - 5
            if drawn[i] and at - 14 < y(panel.roof[i]) < at + 4:
                at = y(panel.roof[i]) + (17 if inside else -5)
            _text(image, _number(value), x + bar / 2, at, 13, (255, 255, 255) if inside else INK, "centre")


def _step(highest: float) -> float:
    """A round number, of which four to nine make `highest`."""
    power = 10.0 ** floor(log10(max(highest, 1e-9)))
    return next(power * part for part in (0.2, 0.25, 0.5, 1, 2) if highest / (power * part) <= 6)


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _box(image: np.ndarray, left: float, top: float, right: float, bottom: float, color: tuple[int, int, int]) -> None:
    """From (left, top) up to, not including, (right, bottom)."""
    corner = (round(left * FINE), round(top * FINE))
    cv2.rectangle(image, corner, (round(right * FINE) - 1, round(bottom * FINE) - 1), color, -1)


def _text(
    image: np.ndarray, text: str, x: float, y: float, height: int, color: tuple[int, int, int], align: str = "left"
) -> int:
    """Write `text` on the base line `y`, about `height` pixels high, aligned to `x`; its width. ASCII only: older
    versions of OpenCV have no other letters."""
    text = text.encode("ascii", "replace").decode()
    size, thick = height * FINE / 30, 2 if height < 16 else 3
    (width, _), _ = cv2.getTextSize(text, FONT, size, thick)
    left = x * FINE - {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * width
    cv2.putText(image, text, (round(left), round(y * FINE)), FONT, size, color, thick, cv2.LINE_AA)
    return round(width / FINE)
