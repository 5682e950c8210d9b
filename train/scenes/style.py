"""Colours, chances and curves of drawn scenes, and the style that all lines and shadows of one have in common."""

from __future__ import annotations

import colorsys
import math
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

PENS = (1.5, 14.0)  # pixels: the thinnest and the thickest pen of a scene

Colour = tuple[float, float, float]  # red, green, blue, 0..1
Points = Any  # [N, 2] pixels: an array, or a sequence of pairs
WHITE: Colour = (1.0, 1.0, 1.0)
BLACK: Colour = (0.0, 0.0, 0.0)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """hue: turns, any number; the others are cut to 0..1."""
    return colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))


def shade(colour: Colour, factor: float) -> Colour:
    """Darker (factor < 1) or lighter."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second, the rest of the first."""
    a, b, c = (x + (y - x) * share for x, y in zip(first, second))
    return a, b, c


class Dice(random.Random):
    """A stream of random choices, the same on every machine for the same words."""

    def __init__(self, *words: object) -> None:
        super().__init__("/".join(map(str, words)))

    def chance(self, odds: float) -> bool:
        return self.random() < odds

    def log(self, low: float, high: float) -> float:
        """Log-uniform between both."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def colour(self, saturation: tuple[float, float] = (0.1, 0.8), value: tuple[float, float] = (0.35, 1.0)) -> Colour:
        return hsv(self.random(), self.uniform(*saturation), self.uniform(*value))

    def spread(self, count: int, low: float, high: float) -> np.ndarray:
        """[count] evenly distributed numbers."""
        return np.array([self.uniform(low, high) for _ in range(count)])


@dataclass(frozen=True)
class Style:
    """What all lines and shadows of a scene have in common.

    pen: pixels. ink: colour of lines; own: the share of the filled colour in them (self-coloured lines). light: -1 or
    1, the side it comes from. airbrush: odds of a soft shadow. lively: how much the width of an outline varies.
    tint: colour that shadows lean to.
    """

    pen: float
    ink: Colour
    own: float
    light: int
    airbrush: float
    lively: float
    tint: Colour

    @classmethod
    def draw(cls, dice: Dice) -> Style:
        kind = dice.random()
        if kind < 0.5:
            ink, own = (0.03, 0.02, 0.04), 0.0  # near-black
        elif kind < 0.62:
            ink, own = hsv(dice.uniform(0.02, 0.07), 0.6, dice.uniform(0.12, 0.3)), 0.0  # brown
        elif kind < 0.74:
            ink, own = hsv(dice.uniform(0.58, 0.7), 0.65, dice.uniform(0.12, 0.35)), 0.0  # dark blue
        elif kind < 0.8:
            ink, own = dice.colour((0.4, 0.9), (0.2, 0.5)), 0.0
        elif kind < 0.83:
            ink, own = dice.colour((0.0, 0.3), (0.85, 1.0)), 0.0  # chalk
        else:
            ink, own = (0.06, 0.03, 0.06), dice.uniform(0.6, 1.0)
        return cls(
            pen=dice.log(*PENS), ink=ink, own=own, light=dice.choice((-1, 1)),
            airbrush=dice.choice((0.0, 0.0, 0.1, 0.6)), lively=dice.choice((0.0, 0.25, 0.45)),
            tint=hsv(dice.uniform(0.6, 0.95), 0.35, 0.5),
        )  # fmt: skip

    def ink_on(self, colour: Colour) -> Colour:
        """The colour of a line around or on an area of `colour`."""
        return mix(self.ink, shade(colour, 0.36), self.own)

    def shadow(self, colour: Colour, depth: float = 0.76) -> Colour:
        return mix(shade(colour, depth), self.tint, 0.1)


@lru_cache(maxsize=32)
def _basis(steps: int) -> np.ndarray:
    """[steps, 4]: Catmull-Rom weights of four neighbouring points."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    return np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]) / 2


def smooth(points: Points, closed: bool = True, steps: int = 10) -> np.ndarray:
    """A Catmull-Rom curve through the points, [M, 2]."""
    p = np.asarray(points, float)
    if closed:
        before, here, after, beyond = np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)
    else:
        padded = np.concatenate([p[:1], p, p[-1:]])
        before, here, after, beyond = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    curve = np.einsum("sk,knd->nsd", _basis(steps), np.stack([before, here, after, beyond])).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def blob(dice: Dice, x: float, y: float, radius: float, corners: int = 0, jag: float = 0.35) -> np.ndarray:
    """An irregular closed curve around (x, y)."""
    count = corners or dice.randint(5, 10)
    angles = (np.arange(count) + dice.spread(count, -0.35, 0.35)) * 2 * np.pi / count
    radii = radius * (1 + dice.spread(count, -jag, jag))
    flat = dice.uniform(0.6, 1.2)
    return smooth(np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles) * flat], 1), steps=8)


def oval(centre: Points, across: float, down: float, count: int = 28) -> np.ndarray:
    """across, down: half the axes."""
    x, y = centre
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], 1)
