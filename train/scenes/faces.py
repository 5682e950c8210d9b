"""Faces: from the front or turned, and in profile."""

from __future__ import annotations

import math

import numpy as np

from train.scenes.brush import Brush
from train.scenes.eyes import eye, glasses, profile_eye
from train.scenes.heads import PROFILE, Head
from train.scenes.style import Dice, hsv, oval, shade, smooth


def face(head: Head) -> np.ndarray:
    """Skin, eyes, nose and mouth. -> the face's edge, pixels, for the shadow of the hair."""
    return _profile(head) if head.view == PROFILE else _front(head)


def _front(head: Head) -> np.ndarray:
    brush, traits, turn = head.brush, head.traits, head.turn
    jaw = 0.235 if traits.male else 0.215
    chin = 0.3 * math.sin(turn)
    side = 1.0 if turn >= 0 else -1.0
    strong = min(1.0, abs(turn) / 0.45)
    # The far side has a dent at the eye and a cheek below it; the near jaw is the longer one.
    near, far = -side, side
    edge = [
        (near * 0.36, -0.3), (near * 0.375, 0.0), (near * (0.335 + 0.02 * strong), 0.2),
        (near * jaw + chin * 0.5, 0.36), (chin - near * -0.045, 0.475), (chin, 0.497), (chin - far * -0.045, 0.475),
        (far * (jaw - 0.01 * strong) + chin * 0.45, 0.36), (far * (0.335 + 0.005 * strong), 0.2),
        (far * (0.37 - 0.03 * strong), 0.04), (far * (0.36 + 0.005 * strong), -0.12), (far * 0.34, -0.3),
        (far * 0.2, -0.52), (near * 0.2, -0.52),
    ]  # fmt: skip
    _ears(head, strong, side)
    curve = smooth(head.at(edge))
    brush.fill(curve, traits.skin)
    with brush.inside(curve):
        if brush.dice.chance(0.5):
            light = brush.style.light
            shadow = [
                (-light * u, v)
                for u, v in (
                    (0.26, -0.5),
                    (0.27, -0.05),
                    (0.24, 0.2),
                    (0.1, 0.42),
                    (-0.05, 0.52),
                    (0.6, 0.6),
                    (0.6, -0.5),
                )
            ]
            soft = 0.03 * head.height if brush.dice.chance(brush.style.airbrush) else 0.0
            brush.fill(smooth(head.at(shadow)), brush.style.shadow(traits.skin, 0.86), blur=soft)
        if traits.blush:
            _blush(head, [(head.around(0.22 * s), 0.2) for s in (-1, 1)])
    brush.line(curve[5:95:4], head.ink, 1.2, 0.5, 0.5)
    for way in (-1, 1):
        eye(head, way)
    nose = head.around(0.0) * 1.15
    tip = side * (0.014 + 0.03 * strong)
    head.line([(nose - tip * 0.3, 0.17 - 0.05 * strong), (nose + tip, 0.232), (nose - tip * 0.4, 0.245)], 0.8)
    if brush.dice.chance(0.4):
        shadow = [(nose + tip * 0.5, 0.235), (nose - tip * 0.8, 0.25), (nose + brush.style.light * -0.04, 0.27)]
        brush.fill(head.at(shadow), brush.style.shadow(traits.skin, 0.84))
    _mouth(head, head.around(0.0) * 0.95, 0.345)
    if traits.glasses:
        glasses(head)
    return curve


def _ears(head: Head, strong: float, side: float) -> None:
    """side: the one the face is turned to, whose ear is hidden by a strong turn (0..1)."""
    brush, traits, turn, far = head.brush, head.traits, head.turn, side
    for ear in (-1, 1):
        place = ear * 0.375 + 0.16 * turn * (1 if ear * side < 0 else 0)
        if strong > 0.55 and ear == far:
            continue
        shape = smooth(
            head.at(
                [(place - ear * 0.02, -0.03), (place + ear * 0.055, -0.07), (place + ear * 0.06, 0.05), (place, 0.13)]
            )
        )
        brush.cel(shape, shade(traits.skin, 0.96), 0.8, shaded=False)
        head.line([(place + ear * 0.04, -0.03), (place + ear * 0.015, 0.0), (place + ear * 0.025, 0.06)], 0.5)


def _blush(head: Head, places: list[tuple[float, float]]) -> None:
    pink = hsv(0.98, 0.5, min(1.0, head.traits.skin[0] * 1.02))
    for place in places:
        x, y = head.at(place).tolist()
        if head.brush.style.airbrush or head.height < 120:
            head.brush.halo(x, y, 0.1 * head.height, pink, 0.45)
        else:
            h = head.height
            roots = np.array([(x + (i - 1) * 0.03 * h, y + 0.02 * h) for i in range(3)])
            width = head.brush.width(0.35)
            head.brush.blades(roots, roots + (0.015 * h, -0.04 * h), 0.0, width, shade(pink, 0.85))


def _apart(head: Head) -> Brush:
    """A brush with dice of its own, so that what is drawn after the mouth is the same whatever the mouth does."""
    brush = head.brush
    return Brush(brush.canvas, Dice("mouth"), brush.size, brush.style)


def _mouth(head: Head, x: float, y: float) -> None:
    brush = _apart(head)
    wide = 0.05 + 0.02 * (head.mouth > 0)
    if head.mouth == 0 or head.height < 60:
        bend = brush.style.light * 0.006 + 0.012
        head.line([(x - wide, y), (x, y + bend), (x + wide, y - 0.004)], 1.0, 0.3, 0.3)
        return
    deep = 0.035 if head.mouth == 1 else 0.085
    shape = smooth(
        head.at(
            [
                (x - wide, y - 0.008),
                (x, y - 0.016),
                (x + wide, y - 0.008),
                (x + 0.65 * wide, y + 0.75 * deep),
                (x, y + deep),
                (x - 0.65 * wide, y + 0.75 * deep),
            ]
        )
    )
    brush.fill(shape, hsv(0.99, 0.62, 0.48))
    with brush.inside(shape):
        brush.fill(
            oval(head.at((x, y + deep)), wide * 0.8 * head.height, deep * 0.5 * head.height), hsv(0.99, 0.42, 0.9)
        )
        if head.mouth == 2:
            brush.fill(
                head.at([(x - 0.1, y - 0.05), (x + 0.1, y - 0.05), (x + 0.1, y + 0.006), (x - 0.1, y + 0.006)]),
                (0.98, 0.98, 1.0),
            )
    brush.outline(shape, head.traits.skin, 0.75)


def _profile(head: Head) -> np.ndarray:
    brush, traits = head.brush, head.traits
    nose = 0.0 if traits.male else -0.015
    edge = [
        (0.27, -0.45), (0.385, -0.2), (0.385, -0.06), (0.372, 0.03), (0.41 + nose, 0.13), (0.465 + nose, 0.2),
        (0.45 + nose, 0.228), (0.4, 0.245), (0.407, 0.29), (0.385, 0.32), (0.398, 0.35), (0.375, 0.385), (0.38, 0.44),
        (0.345, 0.485), (0.27, 0.485), (0.06, 0.37), (-0.03, 0.24), (-0.05, 0.05), (-0.1, -0.2), (0.0, -0.5),
    ]  # fmt: skip
    if head.mouth:
        edge[11:14] = [(0.37, 0.40), (0.365, 0.46), (0.33, 0.505)]
    curve = smooth(head.at(edge))
    brush.fill(curve, traits.skin)
    with brush.inside(curve):
        if brush.dice.chance(0.6):
            brush.fill(
                smooth(head.at([(0.05, -0.3), (0.12, 0.1), (0.2, 0.3), (0.36, 0.5), (-0.2, 0.6), (-0.3, -0.2)])),
                brush.style.shadow(traits.skin, 0.84),
            )
        if traits.blush:
            _blush(head, [(0.23, 0.21)])
    brush.line(curve[6:165:3], head.ink, 1.2, 0.5, 0.5)
    ear = smooth(head.at([(-0.02, 0.1), (-0.055, 0.0), (-0.1, -0.05), (-0.13, 0.0), (-0.1, 0.1), (-0.05, 0.15)]))
    brush.cel(ear, shade(traits.skin, 0.96), 0.8, shaded=False)
    head.line([(-0.06, 0.02), (-0.1, 0.0), (-0.09, 0.07)], 0.5)
    profile_eye(head)
    if head.mouth:
        deep = 0.03 * head.mouth
        shape = smooth(
            head.at([(0.392, 0.325), (0.33, 0.322), (0.29, 0.33), (0.32, 0.335 + deep), (0.378, 0.345 + deep)])
        )
        _apart(head).cel(shape, hsv(0.99, 0.6, 0.5), 0.7, shaded=False)
    else:
        head.line([(0.39, 0.322), (0.345, 0.328), (0.3, 0.32)], 0.9, 0.5, 0.1)
    return curve
