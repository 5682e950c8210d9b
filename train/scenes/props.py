"""Machines, abstract shapes and strokes, and effects in front of everything."""

from __future__ import annotations

import math

import numpy as np

from train.scenes.backdrops import sparkle
from train.scenes.brush import Brush, path_of, skia
from train.scenes.style import WHITE, Colour, blob, hsv, mix, oval, shade, smooth

# ---- machines ------------------------------------------------------------------------------------------------------


def machine(brush: Brush) -> None:
    """Armour plates with panel lines, rivets, lamps and pipes, some of them mirrored as of a robot."""
    dice, size = brush.dice, brush.size
    base = dice.colour((0.05, 0.7), (0.35, 0.95))
    for _ in range(dice.randint(2, 6)):
        points = [(dice.uniform(0, 1) * size, dice.uniform(0, 1) * size) for _ in range(4)]
        thick = dice.uniform(0.015, 0.05) * size
        colour = shade(base, 0.45)
        brush.stroke(points, brush.style.ink_on(colour), thick + 2 * brush.width(1.0))
        brush.stroke(points, colour, thick)
        brush.stroke(np.array(points) + (-0.2 * thick, -0.2 * thick), shade(colour, 1.5), 0.2 * thick)
    mirrored = dice.chance(0.4)
    for _ in range(dice.randint(9, 22)):
        x, y = dice.uniform(0.1, 0.9) * size, dice.uniform(0.1, 0.95) * size
        colour = shade(base, dice.uniform(0.7, 1.15)) if dice.chance(0.75) else dice.colour((0.6, 0.9), (0.6, 0.9))
        wide, high, corners = dice.log(0.05, 0.25) * size, dice.log(0.05, 0.3) * size, dice.randint(4, 7)
        angles = 2 * np.pi * np.arange(corners) / corners + dice.spread(corners, -0.25, 0.25)
        lean = dice.uniform(-0.6, 0.6)
        u, v = wide * np.cos(angles), high * np.sin(angles)
        plate = np.stack([u * math.cos(lean) - v * math.sin(lean), u * math.sin(lean) + v * math.cos(lean)], 1)
        for side in (1, -1) if mirrored else (1,):
            dice_state = dice.getstate()
            _plate(brush, plate * (side, 1) + (x if side > 0 else size - x, y), colour)
            if side > 0 and mirrored:
                dice.setstate(dice_state)


def _plate(brush: Brush, plate: np.ndarray, colour: Colour) -> None:
    dice = brush.dice
    centre, extent = plate.mean(0), np.ptp(plate, axis=0)
    brush.cel(plate, colour, 0.0, depth=0.68, reach=0.12)
    with brush.inside(plate):
        x, y = (centre - extent * 0.35).tolist()
        stripe = np.array([(0, -0.5), (0.06, -0.5), (-0.1, 1.0), (-0.16, 1.0)]) * extent + (x, y)
        brush.fill(stripe, mix(colour, WHITE, 0.6))
        for _ in range(dice.randint(1, 5)):
            start = centre + (dice.uniform(-0.4, 0.4) * extent[0], dice.uniform(-0.4, 0.4) * extent[1])
            bend = start + (dice.uniform(-0.3, 0.3) * extent[0], 0)
            end = bend + (0, dice.uniform(-0.3, 0.3) * extent[1])
            brush.line([start, bend, end], brush.style.ink_on(colour), 0.5, 1, 1, curve=False)
        for _ in range(dice.randint(0, 4)):
            spot = centre + (dice.uniform(-0.35, 0.35) * extent[0], dice.uniform(-0.35, 0.35) * extent[1])
            brush.canvas.drawCircle(*spot.tolist(), brush.width(0.8), brush.paint(shade(colour, 0.4)))
        if dice.chance(0.25):
            spot, radius = (centre + (0.2 * extent[0], 0)).tolist(), 0.09 * float(extent[0])
            brush.fill(oval(spot, radius, radius), shade(colour, 0.3))
            brush.fill(oval(spot, 0.6 * radius, 0.6 * radius), hsv(dice.random(), 0.6, 1))
    brush.outline(plate, colour, 1.0)


# ---- abstract ------------------------------------------------------------------------------------------------------


def shapes(brush: Brush) -> None:
    """Blobs of all sizes with cel shadows, folds, hatching and outlines, and strokes across: every width and angle."""
    dice, size, pen = brush.dice, brush.size, brush.style.pen
    for _ in range(dice.randint(6, 20)):
        x, y, radius = dice.uniform(-0.05, 1.05) * size, dice.uniform(-0.05, 1.05) * size, dice.log(0.05, 0.5) * size
        curve, colour = blob(dice, x, y, radius), dice.colour()
        brush.fill(curve, colour)
        with brush.inside(curve):
            for _ in range(dice.randint(0, 3)):
                tint = (
                    shade(colour, dice.uniform(0.55, 0.92))
                    if dice.chance(0.75)
                    else mix(colour, WHITE, dice.uniform(0.2, 0.6))
                )
                soft = dice.uniform(3, 25) if dice.chance(0.15) else 0.0
                brush.fill(
                    blob(
                        dice,
                        x + dice.uniform(-1, 1) * radius,
                        y + dice.uniform(-1, 1) * radius,
                        radius * dice.uniform(0.3, 1.1),
                    ),
                    tint,
                    blur=soft,
                )
            if dice.chance(0.5):
                _folds(brush, (x, y), radius, colour)
            if dice.chance(0.15):
                pitch = pen * dice.uniform(2, 5) + 2
                brush.hatch(curve, brush.style.ink_on(colour), pitch, dice.uniform(0, math.pi), brush.width(0.45))
        if dice.chance(0.85):
            brush.outline(curve, colour, dice.uniform(0.6, 1.4))
    for _ in range(dice.randint(0, 14)):
        points = np.array([(dice.uniform(0, size), dice.uniform(0, size)) for _ in range(4)])
        if dice.chance(0.7):
            points = points[0] + (points - points[0]) * 0.4
        if dice.chance(0.6):  # one sweep instead of a scribble
            points[1:3] = points[0] + (points[3] - points[0]) * [[0.33], [0.66]] + (points[1:3] - points[0]) * 0.15
        brush.line(
            points,
            WHITE if dice.chance(0.15) else None,
            dice.uniform(0.5, 1.6),
            *dice.choice(((0, 0), (1, 1), (1, 0), (0, 1))),
        )


def _folds(brush: Brush, centre: tuple[float, float], radius: float, colour: Colour) -> None:
    """Strokes as of hair or cloth: about the same way, or every way."""
    dice = brush.dice
    ink = brush.style.ink_on(colour) if dice.chance(0.7) else shade(colour, dice.uniform(0.5, 0.85))
    way, wild = dice.uniform(0, 2 * math.pi), dice.chance(0.12)
    for _ in range(dice.randint(4, 26)):
        start = np.array(centre) + dice.spread(2, -radius, radius)
        angle = dice.uniform(0, 2 * math.pi) if wild else way + dice.uniform(-0.25, 0.25)
        reach = dice.uniform(0.3, 1.2) * radius * np.array([math.cos(angle), math.sin(angle)])
        points = [
            start,
            start + 0.33 * reach + dice.spread(2, -0.12, 0.12) * radius,
            start + 0.66 * reach,
            start + reach,
        ]
        brush.line(points, ink, dice.uniform(0.35, 1.3), dice.choice((0, 0.2, 1)), dice.choice((0, 0, 1)))


# ---- effects -------------------------------------------------------------------------------------------------------


def effect(brush: Brush) -> None:
    """Sparkles, lightning, rain, snow, petals, an explosion or marks of surprise, in front of everything."""
    brush.dice.choice((_sparkles, _lightning, _rain, _snow, _petals, _explosion, _marks))(brush)


def _sparkles(brush: Brush) -> None:
    dice, size = brush.dice, brush.size
    for _ in range(dice.randint(6, 26)):
        colour = hsv(dice.random(), dice.uniform(0, 0.4), 1)
        sparkle(brush, dice.uniform(0, size), dice.uniform(0, size), dice.log(6, 70), colour)


def _lightning(brush: Brush) -> None:
    dice, size = brush.dice, brush.size
    points = [(dice.uniform(0, size), -5.0)]
    while points[-1][1] < size:
        points.append((points[-1][0] + dice.gauss(0, 0.06) * size, points[-1][1] + dice.uniform(0.03, 0.1) * size))
    colour = hsv(dice.random(), 0.5, 1)
    for width, alpha in ((40, 0.15), (18, 0.3), (9, 0.7)):
        paint = brush.paint(colour, alpha, width * 0.3)
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(width)
        brush.canvas.drawPath(path_of(points, False), paint)
    brush.stroke(points, WHITE, brush.width(0.7), curve=False)


def _rain(brush: Brush) -> None:
    dice = brush.dice
    places = np.stack([dice.spread(140, 0, 1), dice.spread(140, 0, 1)], 1) * brush.size
    length = dice.spread(140, 20, 90)[:, None]
    width, alpha = dice.uniform(0.8, 2.2), dice.uniform(0.3, 0.8)
    brush.blades(places, places + length * (-0.3, 1.0), 0.0, width, (0.9, 0.95, 1), alpha)


def _snow(brush: Brush) -> None:
    dice, size = brush.dice, brush.size
    for _ in range(dice.randint(60, 200)):
        paint = brush.paint(WHITE, dice.uniform(0.6, 1), dice.choice((0, 0, 3)))
        brush.canvas.drawCircle(dice.uniform(0, size), dice.uniform(0, size), dice.log(1.2, 12), paint)


def _petals(brush: Brush) -> None:
    dice, size = brush.dice, brush.size
    for _ in range(dice.randint(20, 80)):
        x, y, reach, turn = dice.uniform(0, size), dice.uniform(0, size), dice.log(6, 26), dice.uniform(0, 6)
        angles = turn + np.array([0, 1.2, 2.6, 3.6, 5])
        far = reach * np.array([1.3, 0.7, 0.9, 0.9, 0.7])
        petal = np.stack([x + far * np.cos(angles), y + 0.6 * far * np.sin(angles)], 1)
        brush.fill(smooth(petal), hsv(0.95, dice.uniform(0.15, 0.4), 1))


def _explosion(brush: Brush) -> None:
    dice, size = brush.dice, brush.size
    x, y = dice.uniform(0.2, 0.8) * size, dice.uniform(0.4, 0.9) * size
    colours = (hsv(0.06, 0.3, 0.25), hsv(0.05, 0.75, 0.8), hsv(0.12, 0.75, 1), hsv(0.15, 0.25, 1))
    for step, colour in enumerate(colours):
        path = skia.Path()
        for _ in range(24 - 5 * step):
            angle, far = dice.uniform(0, 6.28), dice.uniform(0, 0.2 - 0.04 * step) * size
            radius = dice.uniform(0.03, 0.075) * size * (1 - 0.18 * step)
            path.addCircle(x + far * math.cos(angle), y + 0.8 * far * math.sin(angle), radius)
        brush.fill(path, colour)


def _marks(brush: Brush) -> None:
    """Lines of surprise."""
    dice, size = brush.dice, brush.size
    place = np.array([dice.uniform(0.2, 0.8), dice.uniform(0.1, 0.4)]) * size
    for i in range(dice.randint(3, 7)):
        way = np.array([math.cos(-2.4 + 0.35 * i), math.sin(-2.4 + 0.35 * i)]) * size
        brush.line([place + 0.08 * way, place + dice.uniform(0.12, 0.2) * way], None, 1.2, 1, 0)
