"""Figures: heads on bodies with clothes, arms and simple hands; whole ones for the distance."""

from __future__ import annotations

import math

import numpy as np

from train.scenes.brush import Brush
from train.scenes.faces import face
from train.scenes.hair import before, behind
from train.scenes.heads import PROFILE, Head, Traits
from train.scenes.style import Colour, Dice, Points, mix, shade, smooth

_HEAD_PENS = 20  # a head is at least so many pens high: thicker lines would fill a face


def smallest_head(brush: Brush) -> float:
    """Pixels."""
    return _HEAD_PENS * brush.style.pen


def figure(
    brush: Brush, x: float, y: float, height: float, words: str, mouth: int | None = None, whole: bool = False
) -> None:
    """A figure whose head is around (x, y), `height` pixels high; whole: with legs.

    words: decides who it is and all of its lines, so that it can be drawn again with another mouth.
    """
    dice = Dice(words)
    traits = Traits.draw(dice)
    profile = dice.chance(0.27)
    turn = float(dice.choice((-1, 1))) if profile else dice.choice((dice.uniform(-0.1, 0.1), dice.uniform(-0.48, 0.48)))
    own_mouth = dice.choice((0, 0, 1, 2))
    own = Brush(brush.canvas, dice, brush.size, brush.style)
    head = Head(own, traits, x, y, height, turn, PROFILE if profile else "front", own_mouth if mouth is None else mouth)
    brush.canvas.save()
    brush.canvas.rotate(dice.uniform(-4, 4) if whole else dice.uniform(-13, 13), x, y + 0.5 * height)
    behind(head)
    if whole:
        _legs(head)
    _body(head)
    # Another mouth takes as many chances of the dice as this one: the hair after it stays where it is.
    edge = face(head)
    before(head, edge)
    if not whole and dice.chance(0.3):
        _raised_hand(head)
    brush.canvas.restore()


def _body(head: Head) -> None:
    brush, traits = head.brush, head.traits
    dice = brush.dice
    side = 1.0 if head.view != PROFILE else 0.75
    wide = (0.72 if traits.male else 0.58) * side
    chest = [
        (-0.14, 0.52),
        (-0.3, 0.62),
        (-wide, 0.75),
        (-wide * 1.08, 1.0),
        (-wide * 0.85, 1.7),
        (-wide * 0.9, 2.6),
        (wide * 0.9, 2.6),
        (wide * 0.85, 1.7),
        (wide * 1.08, 1.0),
        (wide, 0.75),
        (0.3, 0.62),
        (0.14, 0.52),
    ]
    curve = smooth(head.at(chest), steps=8)
    _arms(head, wide)
    brush.cel(curve, traits.cloth, 1.1, reach=0.05)
    with brush.inside(curve):
        _pattern(head, wide)
        for _ in range(dice.randint(3, 8) if head.height > 80 else 0):  # folds
            u, v = dice.uniform(-wide, wide), dice.uniform(0.85, 1.8)
            du = dice.uniform(-0.2, 0.2)
            head.line(
                [(u, v), (u + du * 0.4, v + 0.12), (u + du, v + 0.25)],
                0.7,
                0.8,
                0.05,
                ink=brush.style.ink_on(traits.cloth),
            )
    neck = [(-0.12, 0.3), (-0.13, 0.55), (-0.2, 0.64), (0.0, 0.82), (0.2, 0.64), (0.13, 0.55), (0.12, 0.3)]
    if head.view == PROFILE:
        neck = [(u - 0.05, v) for u, v in neck]
    shape = smooth(head.at(neck), steps=8)
    brush.fill(shape, traits.skin)
    with brush.inside(shape):
        shadow = [(-0.2, 0.3), (-0.16, 0.52), (0.02, 0.62), (0.2, 0.5), (0.2, 0.3)]
        brush.fill(smooth(head.at(shadow)), brush.style.shadow(traits.skin, 0.8))
    brush.outline(shape, traits.skin, 0.85)
    head.line([(-0.16, 0.72), (-0.07, 0.74), (-0.03, 0.77)], 0.6)
    _collar(head)


def _arms(head: Head, wide: float) -> None:
    traits, brush = head.traits, head.brush
    for side in (-1, 1):
        elbow = side * wide * brush.dice.uniform(1.15, 1.4)
        arm = [
            (side * wide * 0.7, 0.72),
            (side * wide * 1.08, 0.82),
            (elbow + side * 0.1, 1.6),
            (elbow + side * 0.05, 2.3),
            (elbow - side * 0.18, 2.3),
            (side * wide * 0.85, 1.5),
        ]
        brush.cel(smooth(head.at(arm), steps=8), shade(traits.cloth, 0.93), 1.0)


def _pattern(head: Head, wide: float) -> None:
    brush, traits = head.brush, head.traits
    kind = brush.dice.random()
    h = head.height
    if kind < 0.12:  # stripes
        for i in range(12):
            v = 0.75 + i * 0.16
            brush.fill(head.at([(-2, v), (2, v), (2, v + 0.07), (-2, v + 0.07)]), mix(traits.cloth, traits.trim, 0.7))
    elif kind < 0.2:  # dots
        for i in range(8):
            for j in range(10):
                x, y = head.at(((j - 4.5 + i % 2 / 2) * 0.16, 0.8 + i * 0.14)).tolist()
                brush.canvas.drawCircle(x, y, 0.03 * h, brush.paint(traits.trim))
    elif kind < 0.28:  # buttons on a front
        head.line([(0, 0.75), (0.01, 1.5), (0, 2.5)], 0.9, 1, 1)
        for i in range(6):
            x, y = head.at((0.05, 0.95 + 0.22 * i)).tolist()
            brush.canvas.drawCircle(x, y, max(2.0, 0.025 * h), brush.paint(traits.trim))
    elif kind < 0.36:  # plaid
        for i in range(14):
            place, thick = -1.3 + 0.2 * i, brush.dice.choice((0.02, 0.07))
            upright = head.at([(place, 0.4), (place + thick, 0.4), (place + thick, 2.7), (place, 2.7)])
            level = head.at([(-2, place + 1.7), (2, place + 1.7), (2, place + 1.7 + thick), (-2, place + 1.7 + thick)])
            for band in (upright, level):
                brush.fill(band, traits.trim, 0.55)
    elif kind < 0.44:  # armour
        plate = [(-wide * 0.8, 0.85), (wide * 0.8, 0.85), (wide * 0.55, 1.3), (0, 1.45), (-wide * 0.55, 1.3)]
        brush.cel(head.at(plate), mix(traits.trim, (0.8, 0.8, 0.85), 0.5), 1.0)
        head.line([(0, 0.86), (0, 1.44)], 0.8, 1, 1)


def _collar(head: Head) -> None:
    brush, traits = head.brush, head.traits
    kind = brush.dice.random()
    if kind < 0.3:  # lapels
        for s in (-1, 1):
            brush.cel(head.at([(s * 0.14, 0.55), (s * 0.3, 0.68), (s * 0.22, 0.95), (0, 0.84)]), traits.trim, 0.9)
        if brush.dice.chance(0.6):
            brush.cel(
                head.at([(-0.05, 0.84), (0.05, 0.84), (0.09, 1.4), (0, 1.5), (-0.09, 1.4)]),
                shade(traits.trim, 0.7),
                0.9,
            )
    elif kind < 0.5:  # a sailor's
        for s in (-1, 1):
            brush.cel(head.at([(s * 0.16, 0.56), (s * 0.46, 0.72), (s * 0.36, 0.95), (0, 1.08)]), traits.trim, 0.9)
            head.line(
                [(s * 0.4, 0.74), (s * 0.32, 0.9), (s * 0.02, 1.02)], 0.6, 1, 1, ink=mix(traits.trim, (1, 1, 1), 0.85)
            )
        for s in (-1, 1):
            brush.cel(
                smooth(head.at([(0, 1.05), (s * 0.16, 0.98), (s * 0.2, 1.12), (s * 0.06, 1.12)])),
                mix(traits.trim, (0.9, 0.2, 0.2), 0.6),
                0.8,
            )
    elif kind < 0.7:  # a high collar, a scarf
        brush.cel(
            smooth(head.at([(-0.18, 0.5), (0, 0.6), (0.18, 0.5), (0.25, 0.66), (0, 0.8), (-0.25, 0.66)])),
            traits.trim,
            1.0,
        )
    elif kind < 0.85:  # crossed, as of a kimono
        brush.cel(head.at([(-0.17, 0.55), (-0.06, 0.52), (0.25, 1.35), (0.1, 1.4)]), traits.trim, 0.9)
        brush.cel(head.at([(0.17, 0.55), (0.06, 0.52), (-0.3, 1.35), (-0.15, 1.45)]), traits.trim, 0.9)


def _legs(head: Head) -> None:
    brush, traits = head.brush, head.traits
    dice = brush.dice
    skirt = not traits.male and dice.chance(0.6)
    cloth = shade(traits.trim, 0.8)
    stride = dice.uniform(0.0, 0.35)
    for side in (-1, 1):
        x = side * 0.2
        foot = side * (0.2 + stride)
        leg = [
            (x - 0.17, 2.3),
            (x + 0.17, 2.3),
            (foot + 0.13, 3.6),
            (foot + 0.11, 4.8),
            (foot - 0.1, 4.8),
            (foot - 0.13, 3.6),
        ]
        brush.cel(smooth(head.at(leg), steps=6), traits.skin if skirt else cloth, 1.0)
        shoe = [
            (foot - 0.13, 4.72),
            (foot + 0.12, 4.72),
            (foot + 0.2 + 0.1 * side, 4.95),
            (foot - 0.18 + 0.1 * side, 4.95),
        ]
        brush.cel(smooth(head.at(shoe), steps=6), shade(cloth, 0.5), 1.0, shaded=False)
    if skirt:
        hem = [(u, 3.3 + (0.06 if i % 2 else 0.0)) for i, u in enumerate(np.linspace(0.7, -0.7, 9))]
        brush.cel(head.at([(-0.42, 2.2), (0.42, 2.2), *hem]), cloth, 1.0)
        for u in np.linspace(-0.45, 0.45, 5):
            head.line([(u * 0.7, 2.4), (u * 1.15, 3.28)], 0.6, 0.2, 0.8)
    else:
        brush.cel(
            smooth(head.at([(-0.45, 2.2), (0.45, 2.2), (0.42, 2.7), (0.0, 2.9), (-0.42, 2.7)]), steps=6), cloth, 0.9
        )


def _raised_hand(head: Head) -> None:
    side = head.brush.dice.choice((-1, 1))
    x, y = side * head.brush.dice.uniform(0.55, 0.75), head.brush.dice.uniform(0.45, 0.75)
    sleeve = [(x - 0.15, y + 0.18), (x + 0.15, y + 0.18), (x + 0.25, y + 1.6), (x - 0.3, y + 1.6)]
    head.brush.cel(smooth(head.at(sleeve), steps=8), head.traits.cloth, 1.1)
    place = head.at((x, y)).tolist()
    hand(head.brush, place[0], place[1], 0.42 * head.height, head.brush.dice.uniform(-0.4, 0.4), head.traits.skin, side)
    cuff = [
        (x - 0.17, y + 0.15),
        (x, y + 0.19),
        (x + 0.17, y + 0.15),
        (x + 0.17, y + 0.26),
        (x, y + 0.3),
        (x - 0.17, y + 0.26),
    ]
    head.brush.cel(smooth(head.at(cuff), steps=6), head.traits.trim, 0.9)


def hand(brush: Brush, x: float, y: float, length: float, angle: float, skin: Colour, side: int) -> None:
    """A hand around (x, y), `length` pixels from wrist to fingertip, upright where angle is 0; the thumb on `side`."""
    cosine, sine = math.cos(angle), math.sin(angle)

    def at(points: Points) -> np.ndarray:
        u, v = np.asarray(points, float).T * length
        u = u * side
        return np.stack([x + u * cosine - v * sine, y + u * sine + v * cosine], 1)

    spread, curl = brush.dice.uniform(0.3, 1.0), brush.dice.choice((0.0, 0.0, 0.6))
    lengths = (0.38, 0.45, 0.43, 0.33)
    for i in (3, 0, 2, 1):
        root = (0.16 - 0.11 * i, -0.02 + 0.02 * abs(i - 1))
        lean = (0.16 - 0.11 * i) * spread * 1.1
        reach = lengths[i] * (1 - curl * (0.3 if i == 0 else 1) * 0.8)
        tip = (root[0] + lean, root[1] - reach)
        half = 0.058 - 0.006 * (i == 3)
        finger = [
            (root[0] - half, root[1] + 0.1),
            (tip[0] - half * 0.9, tip[1] + 0.06),
            (tip[0], tip[1]),
            (tip[0] + half * 0.9, tip[1] + 0.06),
            (root[0] + half, root[1] + 0.1),
        ]
        brush.cel(smooth(at(finger), steps=7), skin, 0.8, reach=0.05)
    palm = [(0.22, 0.0), (0.0, -0.05), (-0.23, 0.02), (-0.2, 0.3), (-0.12, 0.45), (0.12, 0.45), (0.19, 0.3)]
    curve = smooth(at(palm), steps=8)
    brush.fill(curve, skin)
    brush.line(curve[20:50:3], brush.style.ink_on(skin), 0.8)
    thumb = [(0.12, 0.32), (0.22, 0.12), (0.36, -0.06), (0.41, 0.0), (0.32, 0.2), (0.2, 0.42)]
    brush.cel(smooth(at(thumb), steps=7), skin, 0.8, reach=0.06)
    ink = brush.style.ink_on(skin)
    brush.line(at([(0.14, 0.06), (0.05, 0.12), (-0.12, 0.1)]), ink, 0.5)
    brush.line(at([(0.12, 0.1), (0.02, 0.2), (0.0, 0.38)]), ink, 0.5)
