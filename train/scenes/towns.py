"""Places that people built: cities, and rooms in one-point perspective."""

from __future__ import annotations

import numpy as np

from train.scenes.backdrops import clouds, stars
from train.scenes.brush import Brush, skia
from train.scenes.style import WHITE, Colour, hsv, mix, shade


def city(brush: Brush) -> None:
    """Houses in three rows, with windows, some of them lit at night, and wires across."""
    dice, size = brush.dice, brush.size
    night = dice.chance(0.5)
    top, bottom = (hsv(0.66, 0.7, 0.12), hsv(0.8, 0.5, 0.4)) if night else (hsv(0.57, 0.5, 0.85), hsv(0.1, 0.15, 1))
    brush.sky((top, bottom))
    if night:
        stars(brush, 120)
    else:
        clouds(brush, 3, WHITE, hsv(0.58, 0.2, 0.85))
    for row in range(3):
        x = -0.05 * size
        base = mix(bottom, hsv(dice.uniform(0.55, 0.7), 0.35, 0.18 if night else 0.55), 0.35 + 0.3 * row)
        while x < 1.05 * size:
            wide, high = (
                dice.uniform(0.06, 0.16) * size * (1 + 0.3 * row),
                dice.uniform(0.2, 0.6) * size * (1 - 0.12 * row),
            )
            _house(
                brush,
                (x, size * (0.95 + 0.05 * row) - high, wide, high),
                shade(base, dice.uniform(0.85, 1.1)),
                0.35 if night else 0.05,
                row > 0,
            )
            x += wide + dice.uniform(0, 0.02) * size
    for _ in range(dice.randint(0, 5)):
        y = dice.uniform(0.1, 0.5)
        wire = np.array([(0, y), (0.5, y + dice.uniform(0.02, 0.09)), (1, y + dice.uniform(-0.05, 0.05))]) * size
        brush.line(wire, shade(bottom, 0.2), 0.5, 1, 1)


def _house(brush: Brush, place: tuple[float, float, float, float], wall: Colour, lit: float, outlined: bool) -> None:
    x, y, wide, high = place
    dice = brush.dice
    brush.canvas.drawRect(skia.Rect.MakeXYWH(x, y, wide, high + brush.size), brush.paint(wall))
    brush.canvas.drawRect(
        skia.Rect.MakeXYWH(x + 0.72 * wide, y, 0.28 * wide, high + brush.size), brush.paint(shade(wall, 0.75))
    )
    across = dice.randint(3, 6)
    cell = wide / across
    storey = cell * dice.uniform(0.8, 1.5)
    dark, light = skia.Path(), skia.Path()
    for i in range(across):
        for j in range(int(high / storey)):
            if dice.chance(0.75):
                window = skia.Rect.MakeXYWH(x + (i + 0.2) * cell, y + (j + 0.25) * storey, 0.6 * cell, 0.55 * storey)
                (light if dice.chance(lit) else dark).addRect(window)
    brush.fill(dark, shade(wall, 0.62))
    brush.fill(light, hsv(0.12, 0.5, dice.uniform(0.7, 1)))
    if outlined:
        brush.outline(np.array([(x, y), (x + wide, y), (x + wide, y + 2 * high), (x, y + 2 * high)]), wall, 0.7)


def room(brush: Brush) -> None:
    """Walls, floor and ceiling around a vanishing point, a window with light, boxes and shelves."""
    dice, size = brush.dice, brush.size
    vx, vy = dice.uniform(0.3, 0.7) * size, dice.uniform(0.35, 0.5) * size
    wall, floor = dice.colour((0.05, 0.3), (0.5, 0.95)), hsv(dice.uniform(0.05, 0.12), 0.45, dice.uniform(0.35, 0.65))
    left, right, top, bottom = vx - 0.3 * size, vx + 0.3 * size, vy - 0.25 * size, vy + 0.22 * size
    brush.sky((wall, wall))
    sides = (
        ([(0, 0), (size, 0), (right, top), (left, top)], shade(wall, 1.06)),
        ([(0, 0), (left, top), (left, bottom), (0, size)], shade(wall, 0.82)),
        ([(size, 0), (right, top), (right, bottom), (size, size)], shade(wall, 0.9)),
        ([(0, size), (size, size), (right, bottom), (left, bottom)], floor),
    )
    for corners, colour in sides:
        brush.fill(corners, colour)
        brush.outline(np.array(corners, float), colour, 0.7)
    boards = brush.style.ink_on(floor) if dice.chance(0.5) else shade(floor, 0.65)
    with brush.inside(sides[3][0]):
        for i in range(-14, 15, dice.choice((1, 2))):
            brush.line([(vx + i * 0.045 * size, bottom), (vx + i * 0.33 * size, size)], boards, 0.4, 1, 1, curve=False)
    x, y, wide, high = left + 0.08 * size, top + 0.05 * size, 0.2 * size, 0.22 * size
    pane = np.array([(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)])
    brush.cover([(hsv(0.57, 0.4, 1), 1), (WHITE, 1)], (0, y), (0, y + high), pane)
    brush.outline(pane, wall, 1.2)
    brush.line([(x + wide / 2, y), (x + wide / 2, y + high)], brush.style.ink_on(wall), 0.8, 1, 1, curve=False)
    for _ in range(dice.randint(4, 11)):
        _box(brush, dice.uniform(0, 1) * size, dice.uniform(0.5, 0.98) * size, vx, vy)
    if dice.chance(0.5):
        beam = [(x, y), (x + wide, y), (x + wide + 0.5 * size, size), (x + 0.15 * size, size)]
        brush.fill(beam, (1, 1, 0.85), 0.18, blur=dice.choice((0.0, 12.0)))


def _box(brush: Brush, x: float, y: float, vx: float, vy: float) -> None:
    dice = brush.dice
    wide, high = dice.uniform(0.04, 0.2) * brush.size, dice.uniform(0.03, 0.28) * brush.size
    colour = dice.colour((0.15, 0.6), (0.3, 0.85))
    front = np.array([(x, y), (x + wide, y), (x + wide, y - high), (x, y - high)])
    back = front + (np.array([vx, vy]) - front) * 0.13
    side = (1, 2) if x + wide < vx else (0, 3)
    for corners, factor in (
        (np.stack([front[3], front[2], back[2], back[3]]), 1.15),
        (np.stack([front[side[0]], front[side[1]], back[side[1]], back[side[0]]]), 0.6),
        (front, 1.0),
    ):
        brush.fill(corners, shade(colour, factor))
        brush.outline(corners, colour, 0.8)
    for _ in range(dice.randint(0, 4)):
        level = y - high * dice.uniform(0.1, 0.9)
        brush.line(
            [(x + wide * 0.1, level), (x + wide * dice.uniform(0.4, 0.9), level)],
            brush.style.ink_on(colour),
            0.45,
            1,
            0.5,
            curve=False,
        )
