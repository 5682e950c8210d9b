"""Grounds without a place: plain ones, lights out of focus, speed lines, screentone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from train.scenes.brush import Brush, skia
from train.scenes.style import BLACK, WHITE, blob, mix, oval, shade


def plain(brush: Brush) -> None:
    """One colour, or a gradient, as behind a reaction."""
    dice, size = brush.dice, brush.size
    first = dice.colour((0.03, 0.7), (0.2, 1.0))
    if dice.chance(0.6):
        brush.sky((first, first))
    else:
        end = (dice.uniform(0, 1) * size, size)
        brush.cover([(first, 1), (dice.colour(), 1)], (0, 0), end)
    for _ in range(dice.choice((0, 0, dice.randint(6, 40)))):  # lights out of focus
        x, y, radius = dice.uniform(0, size), dice.uniform(0, size), dice.log(8, 110)
        brush.fill(
            oval((x, y), radius, radius),
            dice.colour((0.1, 0.5), (0.7, 1)),
            dice.uniform(0.1, 0.5),
            dice.choice((0.0, 4.0, 16.0)),
        )


def speed(brush: Brush) -> None:
    """Lines that run to one point, or across."""
    dice, size = brush.dice, brush.size
    x, y = dice.uniform(0.3, 0.7) * size, dice.uniform(0.3, 0.7) * size
    brush.sky((dice.colour((0.2, 0.9), (0.2, 1)),) * 2)
    brush.halo(x, y, size, dice.colour((0, 0.6), (0.9, 1)), 1.0)
    colour = dice.choice((brush.style.ink, WHITE, BLACK))
    if dice.chance(0.65):
        path = skia.Path()
        for _ in range(dice.randint(80, 300)):
            angle, near, half = dice.uniform(0, 2 * math.pi), dice.uniform(0.22, 0.5) * size, dice.log(0.001, 0.014)
            path.moveTo(x + near * math.cos(angle), y + near * math.sin(angle))
            for way in (angle - half, angle + half):
                path.lineTo(x + 1.4 * size * math.cos(way), y + 1.4 * size * math.sin(way))
            path.close()
        brush.fill(path, colour)
        return
    slope = dice.uniform(-0.1, 0.1)
    for _ in range(6):
        roots = np.stack([dice.spread(30, -0.3, 0.8), dice.spread(30, -0.05, 1.05)], 1) * size
        length = dice.spread(30, 0.2, 0.9) * size
        brush.blades(
            roots, roots + np.stack([length, slope * length], 1), 0.0, brush.width(dice.uniform(0.3, 1.2)), colour
        )


def tone(brush: Brush) -> None:
    """Screentone: dots that grow along a way, or stripes, over a plain ground."""
    dice, size = brush.dice, brush.size
    ground = dice.colour((0.02, 0.6), (0.55, 1))
    brush.sky((ground, mix(ground, dice.colour(), dice.choice((0.0, 0.5)))))
    pitch, angle = dice.log(6, 26), dice.uniform(0, math.pi / 2)
    ink = dice.choice((shade(ground, dice.uniform(0.35, 0.8)), WHITE, brush.style.ink))
    count = int(0.75 * size / pitch)
    if dice.chance(0.6):
        steps = np.arange(-count, count + 1) * pitch
        i, j = np.meshgrid(steps, steps)
        cosine, sine = math.cos(angle), math.sin(angle)
        x, y = size / 2 + i * cosine - j * sine, size / 2 + i * sine + j * cosine
        share = y / size if dice.chance(0.6) else np.hypot(x - size / 2, y - size / 2) / size
        radius = 0.54 * pitch * np.clip(share, 0, 1) ** 0.8
        seen = (radius > 0.6) & (x > -pitch) & (x < size + pitch) & (y > -pitch) & (y < size + pitch)
        path = skia.Path()
        for px, py, r in zip(x[seen].tolist(), y[seen].tolist(), radius[seen].tolist()):
            path.addCircle(px, py, r)
        brush.fill(path, ink)
    else:
        whole = np.array([(0, 0), (size, 0), (size, size), (0, size)], float)
        brush.hatch(whole, ink, pitch, angle, pitch * dice.uniform(0.15, 0.5))
    for _ in range(dice.randint(0, 8)):
        shape = blob(dice, dice.uniform(0, size), dice.uniform(0, size), dice.log(0.03, 0.2) * size)
        brush.fill(shape, dice.colour((0.1, 0.5), (0.7, 1)), blur=dice.choice((0.0, 0.0, 12.0)))


GRAPHIC: tuple[Callable[[Brush], None], ...] = (plain, plain, speed, tone)
