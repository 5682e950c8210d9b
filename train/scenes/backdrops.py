"""Landscapes: skies with clouds and stars, ridges, fields, the sea, forests."""

from __future__ import annotations

import math

import numpy as np

from train.scenes.brush import Brush, skia
from train.scenes.style import WHITE, Colour, hsv, mix, shade, smooth

_SKIES = {
    "day": ((0.58, 0.75, 0.75), (0.55, 0.45, 0.95), (0.53, 0.12, 1.0)),
    "sunset": ((0.72, 0.45, 0.45), (0.97, 0.5, 0.9), (0.11, 0.6, 1.0)),
    "night": ((0.64, 0.8, 0.1), (0.63, 0.7, 0.28), (0.58, 0.5, 0.42)),
    "dawn": ((0.6, 0.4, 0.7), (0.9, 0.2, 0.95), (0.12, 0.25, 1.0)),
}
_CLOUDS: dict[str, Colour] = {
    "day": WHITE, "sunset": hsv(0.05, 0.35, 1), "night": hsv(0.6, 0.4, 0.42), "dawn": hsv(0.03, 0.12, 1),
}  # fmt: skip


def _scatter(brush: Brush, count: int, top: float, bottom: float, crowd: float = 1.0) -> np.ndarray:
    """[count, 2] places, pixels; more of them near `top` where crowd is above 1."""
    places = [
        (brush.dice.uniform(-0.03, 1.03), top + (bottom - top) * brush.dice.random() ** crowd) for _ in range(count)
    ]
    return np.array(places) * brush.size


def stars(brush: Brush, count: int) -> None:
    for x, y in _scatter(brush, count, 0, 0.8).tolist():
        radius = brush.dice.log(0.6, 2.6)
        colour = hsv(brush.dice.uniform(0.5, 0.7), brush.dice.uniform(0, 0.35), 1)
        brush.canvas.drawCircle(x, y, radius, brush.paint(colour, brush.dice.uniform(0.4, 1)))
        if radius > 2.3:
            sparkle(brush, x, y, radius * 6, WHITE)


def sparkle(brush: Brush, x: float, y: float, radius: float, colour: Colour) -> None:
    """A four-pointed star with a glow."""
    angles = np.arange(8) * math.pi / 4
    reach = np.where(np.arange(8) % 2, 0.1, 1.0) * radius
    brush.halo(x, y, radius * 0.8, colour, 0.5)
    brush.fill(np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], 1), colour)


def clouds(brush: Brush, count: int, light: Colour, dark: Colour) -> None:
    dice, size = brush.dice, brush.size
    for _ in range(count):
        x, y, wide = dice.uniform(-0.1, 1.1) * size, dice.uniform(0.15, 0.55) * size, dice.uniform(0.15, 0.5) * size
        puffs = [
            (x + dice.uniform(-0.5, 0.5) * wide, y - abs(dice.gauss(0, 0.16)) * wide, dice.uniform(0.05, 0.17) * wide)
            for _ in range(dice.randint(12, 26))
        ]
        soft = dice.choice((0.0, 0.0, 1.5, 4.0))
        brush.canvas.save()
        brush.canvas.clipRect(skia.Rect.MakeLTRB(0, 0, size, y + 0.02 * wide))
        for dx, dy, factor, colour in (
            (0, 0.025, 1.0, dark),
            (0, -0.012, 0.86, light),
            (-0.02, -0.03, 0.55, mix(light, WHITE, 0.5)),
        ):
            path = skia.Path()
            for px, py, radius in puffs:
                path.addCircle(px + dx * wide, py + dy * wide, radius * factor)
            brush.fill(path, colour, blur=soft)
        brush.canvas.restore()


def foliage(brush: Brush, y: float, high: float, colour: Colour, count: int) -> None:
    """Leaves in three tones around y; y, high: shares of the side."""
    dice, size = brush.dice, brush.size
    for tone, tint in enumerate((0.55, 0.8, 1.08)):
        path = skia.Path()
        for x, py in _scatter(brush, count, y - high - 0.1 * tone * high, y + 0.6 * high - 0.1 * tone * high).tolist():
            radius, points = dice.uniform(0.008, 0.03) * size, dice.randint(5, 8)
            angles = dice.uniform(0, 6) + np.arange(2 * points) * math.pi / points
            reach = radius * np.where(np.arange(2 * points) % 2, 1.35, 1.0)
            corners = np.stack([x + reach * np.cos(angles), py + 0.8 * reach * np.sin(angles)], 1)
            path.addPoly([skia.Point(*corner) for corner in corners.tolist()], True)
        brush.fill(path, shade(colour, tint))


def grass(brush: Brush, top: float, colour: Colour) -> None:
    size, dice = brush.size, brush.dice
    brush.cover(
        [(shade(colour, 1.1), 1), (shade(colour, 0.6), 1)],
        (0, top * size),
        (0, size),
        [(0, top * size), (size, top * size), (size, size), (0, size)],
    )
    for band in range(5):
        near = (band + 0.5) / 5
        for tone in (0.6, 0.9, 1.3):
            roots = _scatter(brush, 60, top + (1 - top) * band / 5, top + (1 - top) * (band + 1) / 5 + 0.02)
            length = (8 + 50 * near) * dice.uniform(0.7, 1.2)
            lean = np.stack([dice.spread(60, -0.5, 0.5), dice.spread(60, -1.2, -0.6)], 1) * length
            brush.blades(roots, roots + lean, dice.uniform(-0.1, 0.1), 1.5 + 3 * near, shade(colour, tone))


def landscape(brush: Brush) -> None:
    """A sky with clouds over ridges, and a field or the sea below."""
    dice, size = brush.dice, brush.size
    time = dice.choice(("day", "day", "sunset", "night", "dawn"))
    high, middle, low = (hsv(*colour) for colour in _SKIES[time])
    brush.sky((high, middle, low), 0, 0.75)
    if time == "night":
        stars(brush, dice.randint(120, 400))
    if dice.chance(0.4):
        x, y, radius = dice.uniform(0.1, 0.9) * size, dice.uniform(0.08, 0.4) * size, dice.uniform(0.03, 0.09) * size
        disc = hsv(0.13, 0.15, 1)
        brush.halo(x, y, radius * 5, disc, 0.55)
        brush.canvas.drawCircle(x, y, radius, brush.paint(disc))
    clouds(brush, dice.randint(2, 6), _CLOUDS[time], mix(_CLOUDS[time], middle, 0.55))
    horizon, dim = dice.uniform(0.55, 0.82), {"night": 0.35, "sunset": 0.6}.get(time, 1.0)
    for ridge in range(dice.randint(1, 3)):
        base = horizon - 0.1 + 0.05 * ridge
        tops = (
            smooth(
                [
                    (u, base - 0.12 * dice.random() * (1 - 0.25 * ridge))
                    for u in np.linspace(-0.1, 1.1, dice.randint(6, 12))
                ],
                False,
            )
            * size
        )
        colour = mix(hsv(0.35, 0.4, 0.5 * dim), low, 0.65 - 0.25 * ridge)
        brush.fill(np.concatenate([tops, [(1.1 * size, size), (-0.1 * size, size)]]), colour)
        if dice.chance(0.4):
            brush.line(tops[::3], brush.style.ink_on(colour), 0.6, 1, 1)
    if dice.chance(0.6):
        grass(brush, horizon, hsv(dice.uniform(0.22, 0.36), 0.6, 0.62 * dim))
        foliage(brush, horizon, 0.05, hsv(dice.uniform(0.24, 0.4), 0.55, 0.5 * dim), 70)
    else:
        _sea(
            brush,
            horizon,
            mix(low, hsv(0.55, 0.6, 0.8 * dim), 0.4),
            hsv(0.58, 0.8, 0.45 * dim),
            mix(_CLOUDS[time], low, 0.5),
        )


def _sea(brush: Brush, horizon: float, far: Colour, near: Colour, glint: Colour) -> None:
    size, dice = brush.size, brush.dice
    brush.cover(
        [(far, 1), (near, 1)],
        (0, horizon * size),
        (0, size),
        [(0, horizon * size), (size, horizon * size), (size, size), (0, size)],
    )
    for band in range(5):
        close = (band + 0.5) / 5
        places = _scatter(brush, 40, horizon + (1 - horizon) * band / 5, horizon + (1 - horizon) * (band + 1) / 5)
        reach = np.stack([dice.spread(40, 0.4, 1.0) * (14 + 130 * close), np.zeros(40)], 1)
        brush.blades(places - reach, places + reach, 0.0, 0.8 + 4 * close, glint, dice.uniform(0.3, 0.8))


def forest(brush: Brush) -> None:
    dice, size = brush.dice, brush.size
    green = hsv(dice.uniform(0.2, 0.45), dice.uniform(0.3, 0.6), dice.uniform(0.45, 0.9))
    brush.sky((shade(green, 1.3), shade(green, 0.5)))
    for row in range(3):
        for _ in range(3 + 3 * (2 - row)):
            x, half = dice.uniform(-0.05, 1.05) * size, dice.uniform(0.012, 0.04) * size * (1 + 0.8 * row)
            bark = mix(shade(green, 1.1), hsv(0.07, 0.45, 0.2), 0.3 + 0.3 * row)
            trunk = np.array(
                [
                    (x - half, size),
                    (x - 0.6 * half, 0.5 * size),
                    (x - 0.7 * half, 0),
                    (x + 0.7 * half, 0),
                    (x + 0.6 * half, 0.5 * size),
                    (x + half, size),
                ]
            )
            brush.cel(trunk, bark, 0.8 if row == 2 else 0.0, shaded=False)
            brush.fill(
                [(x + 0.1 * half, size), (x + 0.15 * half, 0), (x + 0.7 * half, 0), (x + half, size)], shade(bark, 0.7)
            )
            roots = np.stack([x + dice.spread(16, -0.7, 0.7) * half, dice.spread(16, 0, 1) * size], 1)
            brush.blades(
                roots,
                roots + np.array([0.1 * half, dice.uniform(0.03, 0.08) * size]),
                0.05,
                brush.width(0.3),
                shade(bark, dice.choice((0.5, 1.35))),
            )
        foliage(brush, 0.03 + 0.08 * row, 0.2, shade(green, 1.1 - 0.25 * row), 80)
    foliage(brush, 0.95, 0.12, shade(green, 0.6), 90)
    for _ in range(dice.randint(0, 5)):
        x, wide = dice.uniform(0, 1) * size, dice.uniform(0.02, 0.1) * size
        brush.fill(
            [(x, 0), (x + wide, 0), (x - 0.3 * size + 3 * wide, size), (x - 0.3 * size, size)],
            (1, 1, 0.8),
            0.14,
            blur=10,
        )
