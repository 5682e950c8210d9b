"""Things close up, with or without a hand that holds them, and branches in front of a scene."""

from __future__ import annotations

import math

import numpy as np

from train.scenes.brush import Brush
from train.scenes.figures import hand
from train.scenes.style import WHITE, Colour, Points, hsv, mix, oval, shade, smooth


class _Place:
    """A thing's own units, turned and enlarged onto the canvas."""

    def __init__(self, brush: Brush, x: float, y: float, scale: float, angle: float) -> None:
        self.brush, self.centre, self.scale = brush, np.array([x, y]), scale
        self.axes = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])

    def at(self, points: Points) -> np.ndarray:
        return self.centre + np.asarray(points, float) @ self.axes * self.scale

    def line(self, points: Points, share: float = 0.7, ink: Colour | None = None) -> None:
        self.brush.line(self.at(points), ink, share, 0.6, 0.4)


def things(brush: Brush) -> None:
    """Some things, large enough for the pen."""
    dice, size = brush.dice, brush.size
    for _ in range(dice.randint(2, 4)):
        scale = max(dice.log(0.3, 0.8) * size, 16 * brush.style.pen)
        place = _Place(
            brush, dice.uniform(0.2, 0.8) * size, dice.uniform(0.25, 0.75) * size, scale, dice.uniform(-0.5, 0.5)
        )
        dice.choice((_cup, _book, _sword, _phone, _flower, _lamp))(place, dice.colour((0.1, 0.85), (0.25, 0.95)))
        if dice.chance(0.5):
            skin = hsv(dice.uniform(0.045, 0.08), dice.uniform(0.12, 0.45), dice.uniform(0.6, 1.0))
            side = dice.choice((-1, 1))
            x, y = place.at((0.28 * side, 0.25)).tolist()
            _forearm(brush, x, y, scale, side, dice.colour())
            hand(brush, x, y, 0.75 * scale, -side * dice.uniform(0.2, 1.1), skin, -side)


def _forearm(brush: Brush, x: float, y: float, scale: float, side: int, cloth: Colour) -> None:
    arm = _Place(brush, x, y, scale, -side * 0.5)
    brush.cel(
        smooth(arm.at([(-0.16, 0.28), (0.16, 0.28), (0.24, 1.6), (0.2, 3.0), (-0.3, 3.0), (-0.24, 1.6)]), steps=8),
        cloth,
        1.0,
    )
    arm.line([(-0.1, 0.5), (0.02, 0.7), (0.1, 0.68)], ink=brush.style.ink_on(cloth))


def _cup(place: _Place, colour: Colour) -> None:
    brush = place.brush
    handle = [
        (0.28, -0.15),
        (0.48, -0.18),
        (0.5, 0.12),
        (0.25, 0.2),
        (0.27, 0.12),
        (0.41, 0.06),
        (0.4, -0.08),
        (0.28, -0.06),
    ]
    brush.cel(smooth(place.at(handle), steps=8), colour, 0.9)
    rim = [(0.3 * math.cos(a), -0.3 + 0.07 * math.sin(a)) for a in np.linspace(math.pi, 0, 9)]
    brush.cel(place.at([*rim, (0.24, 0.32), (0.12, 0.37), (-0.12, 0.37), (-0.24, 0.32)]), colour, 1.0)
    opening = [(0.3 * math.cos(a), -0.3 + 0.07 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 24, endpoint=False)]
    brush.cel(place.at(opening), shade(colour, 0.5), 0.9, shaded=False)
    brush.fill(place.at([(-0.22, -0.15), (-0.16, -0.14), (-0.14, 0.2), (-0.18, 0.22)]), mix(colour, WHITE, 0.6))
    if brush.dice.chance(0.5):  # steam
        for u in (-0.1, 0.05):
            brush.fill(
                smooth(place.at([(u, -0.4), (u + 0.05, -0.55), (u, -0.75), (u + 0.06, -0.55)])), WHITE, 0.5, blur=6
            )


def _book(place: _Place, colour: Colour) -> None:
    brush = place.brush
    brush.cel(place.at([(-0.55, -0.3), (0.55, -0.3), (0.58, 0.36), (-0.58, 0.36)]), colour, 1.0)
    for side in (-1, 1):
        page = [
            (0, -0.26),
            (side * 0.25, -0.31),
            (side * 0.5, -0.27),
            (side * 0.53, 0.29),
            (side * 0.26, 0.25),
            (0, 0.31),
        ]
        brush.cel(smooth(place.at(page), steps=6), (0.96, 0.94, 0.88), 0.8)
        for i in range(9):
            v = -0.2 + 0.05 * i
            brush.line(
                place.at([(side * 0.07, v), (side * 0.45, v - 0.005)]),
                shade((0.6, 0.58, 0.55), 0.8),
                0.3,
                1,
                1,
                curve=False,
            )


def _sword(place: _Place, colour: Colour) -> None:
    brush = place.brush
    blade = np.array([(-0.06, 0.3), (-0.055, -1.1), (0.0, -1.25), (0.055, -1.1), (0.06, 0.3)])
    brush.cel(place.at(blade), (0.82, 0.86, 0.92), 0.0, shaded=False)
    brush.fill(place.at([(0.0, 0.3), (0.0, -1.25), (0.055, -1.1), (0.06, 0.3)]), (0.55, 0.6, 0.7))
    brush.fill(place.at([(-0.04, -0.2), (-0.02, -0.2), (-0.02, -0.9), (-0.04, -0.8)]), WHITE)
    brush.outline(place.at(blade), (0.7, 0.75, 0.8), 0.9)
    brush.cel(
        smooth(place.at([(-0.25, 0.28), (0, 0.32), (0.25, 0.28), (0.24, 0.38), (0, 0.4), (-0.24, 0.38)])), colour, 0.9
    )
    brush.cel(place.at([(-0.045, 0.39), (0.045, 0.39), (0.05, 0.85), (-0.05, 0.85)]), shade(colour, 0.5), 0.9)
    for i in range(5):
        place.line([(-0.045, 0.45 + 0.08 * i), (0.045, 0.49 + 0.08 * i)], 0.5)


def _phone(place: _Place, colour: Colour) -> None:
    brush = place.brush
    turn = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    case = np.stack([0.26 * _squared(np.cos(turn)), 0.46 * _squared(np.sin(turn))], 1)
    brush.cel(place.at(case), shade(colour, 0.4), 1.0)
    screen = place.at([(-0.21, -0.39), (0.21, -0.39), (0.21, 0.39), (-0.21, 0.39)])
    brush.fill(screen, mix(colour, WHITE, 0.75))
    with brush.inside(screen):
        for i in range(5):
            side = brush.dice.choice((-1, 1))
            v = -0.3 + 0.14 * i
            bubble = [
                (side * 0.16, v - 0.04),
                (side * 0.16, v + 0.04),
                (-side * brush.dice.uniform(0, 0.14), v + 0.04),
                (-side * 0.1, v - 0.04),
            ]
            brush.fill(place.at(bubble), brush.dice.choice((colour, WHITE)))
        brush.fill(place.at([(-0.1, -0.5), (0.05, -0.5), (-0.15, 0.5), (-0.3, 0.5)]), WHITE, 0.35)


def _squared(wave: np.ndarray) -> np.ndarray:
    """Of a circle's sine or cosine: what makes a rectangle with round corners of it (a superellipse)."""
    return np.sign(wave) * np.abs(wave) ** 0.2


def _flower(place: _Place, colour: Colour) -> None:
    brush = place.brush
    green = hsv(0.33, 0.6, 0.5)
    brush.stroke(place.at([(0, 0.1), (0.06, 0.5), (-0.02, 1.2)]), green, 0.05 * place.scale)
    place.line([(0.03, 0.1), (0.09, 0.5), (0.01, 1.2)], 0.8)
    brush.cel(smooth(place.at([(0.04, 0.6), (0.2, 0.4), (0.42, 0.42), (0.24, 0.58)])), green, 0.9)
    petals = brush.dice.randint(5, 9)
    for i in range(petals):
        angle = 2 * math.pi * i / petals
        way, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
        wide = 1.1 / petals
        petal = [
            0.06 * way,
            0.26 * way + wide * across,
            0.4 * way + 0.5 * wide * across,
            0.36 * way,
            0.4 * way - 0.5 * wide * across,
            0.26 * way - wide * across,
        ]
        brush.cel(smooth(place.at(petal), steps=6), colour, 0.9)
        place.line([0.12 * way, 0.28 * way], 0.5, brush.style.ink_on(colour))
    brush.cel(oval(place.centre, 0.1 * place.scale, 0.1 * place.scale), hsv(0.13, 0.8, 0.95), 0.8)


def _lamp(place: _Place, colour: Colour) -> None:
    brush = place.brush
    x, y = place.at((0, -0.1)).tolist()
    brush.halo(x, y, 0.9 * place.scale, (1.0, 0.9, 0.65), 0.6)
    brush.cel(place.at([(-0.05, -0.1), (0.05, -0.1), (0.05, 0.6), (-0.05, 0.6)]), shade(colour, 0.5), 0.9)
    brush.cel(
        smooth(place.at([(-0.25, 0.6), (0, 0.56), (0.25, 0.6), (0.22, 0.68), (-0.22, 0.68)])), shade(colour, 0.5), 0.9
    )
    brush.cel(
        place.at([(-0.18, -0.5), (0.18, -0.5), (0.36, 0.02), (-0.36, 0.02)]), mix(colour, (1.0, 0.95, 0.8), 0.4), 1.0
    )


def branches(brush: Brush) -> None:
    """Twigs with leaves or blossoms that reach in from an edge."""
    dice, size = brush.dice, brush.size
    leaf = dice.choice((hsv(dice.uniform(0.2, 0.4), 0.6, 0.6), hsv(0.95, 0.25, 1.0), hsv(0.05, 0.75, 0.85)))
    bark = hsv(0.06, 0.5, 0.3)
    for _ in range(dice.randint(1, 3)):
        side = dice.choice((-1, 1))
        start = np.array([0.5 - 0.55 * side, dice.uniform(-0.05, 0.3)]) * size
        end = start + np.array([side * dice.uniform(0.25, 0.6), dice.uniform(0.0, 0.3)]) * size
        twig = smooth([start, (start + end) / 2 + dice.spread(2, -0.05, 0.05) * size, end], False)
        brush.stroke(twig[::5], brush.style.ink_on(bark), 0.02 * size + 2 * brush.width(0.6), 1.0, 0.1)
        brush.stroke(twig[::5], bark, 0.02 * size, 1.0, 0.1)
        for x, y in twig[2:].repeat(2, 0).tolist():
            angle, reach = dice.uniform(0, 2 * math.pi), max(dice.uniform(0.025, 0.06) * size, 5 * brush.style.pen)
            place = _Place(brush, x, y, reach, angle)
            shape = smooth(place.at([(0, 0), (0.35, -0.3), (0.8, -0.22), (1.15, 0), (0.8, 0.22), (0.35, 0.3)]), steps=6)
            brush.cel(shape, shade(leaf, dice.uniform(0.8, 1.1)), 0.7)
            place.line([(0.1, 0), (0.9, 0)], 0.4, brush.style.ink_on(leaf))
