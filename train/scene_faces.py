"""Faces: from the front or turned, and in profile."""

from __future__ import annotations

import math

import numpy as np

from train.scene_brush import Brush
from train.scene_heads import PROFILE, Head
from train.scene_style import WHITE, Dice, hsv, mix, oval, shade, smooth

_SMALL_EYE = 9.0  # pixels across below which an eye is a dark spot with a lid


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
        _eye(head, way)
    nose = head.around(0.0) * 1.15
    tip = side * (0.014 + 0.03 * strong)
    head.line([(nose - tip * 0.3, 0.17 - 0.05 * strong), (nose + tip, 0.232), (nose - tip * 0.4, 0.245)], 0.8)
    if brush.dice.chance(0.4):
        shadow = [(nose + tip * 0.5, 0.235), (nose - tip * 0.8, 0.25), (nose + brush.style.light * -0.04, 0.27)]
        brush.fill(head.at(shadow), brush.style.shadow(traits.skin, 0.84))
    _mouth(head, head.around(0.0) * 0.95, 0.345)
    if traits.glasses:
        _glasses(head)
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


def _eye(head: Head, way: int) -> None:
    """way: -1 the left one of the picture, 1 the right one."""
    brush, traits = head.brush, head.traits
    inner, outer = head.around(way * 0.075), head.around(way * 0.265)
    x, w, h = (inner + outer) / 2, max(abs(outer - inner) / 2, 0.03), traits.tall_eyes * 0.92
    y, far = 0.075, way

    def place(u: float, v: float) -> tuple[float, float]:  # u: 1 is the outer corner, v: 1 the lower lid
        return x + far * u * w, y + v * h

    if w * head.height < _SMALL_EYE / 2:
        brush.fill(
            oval(head.at((x, y)), max(1.2, w * head.height * 0.7), h * head.height * 0.8), shade(traits.eye, 0.35)
        )
        head.line(
            [place(-1, -0.4), place(0, -0.95), place(1.1, -0.3)], min(1.0, 0.12 * h * head.height / brush.style.pen)
        )
        return
    upper = [place(-0.98, -0.1), place(-0.5, -0.82), place(0.2, -0.95), place(0.8, -0.55), place(1.02, 0.0)]
    lower = [place(0.85, 0.62), place(0.15, 0.98), place(-0.6, 0.78)]
    if brush.style.airbrush == 0.1 and brush.dice.chance(0.12):  # closed, in a smile or asleep
        head.line([place(-1, 0.1), place(0, 0.6), place(1.1, 0.1)], traits.lid, 0.3, 0.3)
        return
    shape = smooth(head.at([*upper, *lower]))
    brush.fill(shape, (0.97, 0.97, 0.99))
    with brush.inside(shape):
        _iris(head, (x + math.sin(head.turn) * w * 0.35, y + 0.06 * h), min(0.72 * w, 0.075), 0.93 * h)
        lid = smooth(head.at([*upper, place(1.0, 0.2), place(0.2, -0.45), place(-0.9, 0.15)]))
        brush.fill(lid, mix(shade(traits.eye, 0.3), brush.style.tint, 0.4), 0.45)
    _glints(head, (x + math.sin(head.turn) * w * 0.35, y + 0.06 * h), min(0.72 * w, 0.075), 0.93 * h)
    head.line([*upper, place(1.22, 0.12)], traits.lid * 1.3, 0.35, 0.1)
    if not traits.male:
        for lash in (0.75, 1.0):
            head.line(
                [place(lash, -0.55 + (lash - 0.75) * 1.6), place(lash + 0.32, -0.8 + (lash - 0.75) * 1.6)],
                1.0,
                1.0,
                0.05,
            )
    soft = mix(head.ink, traits.skin, 0.2)
    head.line([place(0.9, 0.55), place(0.15, 1.0), place(-0.45, 0.88)], 0.7, ink=soft)
    head.line([place(-0.7, -1.12), place(0.1, -1.32), place(0.85, -1.0)], 0.6, ink=soft)
    rise = brush.dice.uniform(-0.35, 0.35)
    brow = [place(-0.95, -1.85 + rise), place(0.1, -2.2), place(1.1, -1.8 - rise * 0.6)]
    head.line(brow, 2.4 if traits.male else 1.4, 0.6, 0.1, ink=mix(shade(traits.hair, 0.45), head.ink, 0.4))


def _iris(head: Head, centre: tuple[float, float], across: float, down: float) -> None:
    brush, eye = head.brush, head.traits.eye
    x, y = head.at(centre).tolist()
    w, h = across * head.height, down * head.height
    whole = oval((x, y), w, h)
    if brush.style.airbrush:
        brush.cover(
            [(shade(eye, 0.25), 1), (shade(eye, 0.75), 1), (mix(eye, WHITE, 0.4), 1)], (x, y - h), (x, y + h), whole
        )
    else:
        brush.fill(whole, eye)
        with brush.inside(whole):
            brush.fill(oval((x, y - 0.55 * h), 1.2 * w, 0.95 * h), shade(eye, 0.5))
            brush.fill(oval((x, y + 0.62 * h), 0.6 * w, 0.28 * h), mix(eye, WHITE, 0.4))
    brush.fill(oval((x, y - 0.05 * h), 0.4 * w, 0.42 * h), shade(eye, 0.16))
    brush.outline(
        whole, None if head.brush.style.own == 0 else shade(eye, 0.5), min(0.7, 0.1 * w / brush.style.pen + 0.2)
    )


def _glints(head: Head, centre: tuple[float, float], across: float, down: float) -> None:
    x, y = head.at(centre).tolist()
    w, h = across * head.height, down * head.height
    light = head.brush.style.light
    head.brush.fill(oval((x + light * 0.35 * w, y - 0.42 * h), 0.34 * w, 0.27 * h, 16), WHITE)
    head.brush.fill(oval((x - light * 0.32 * w, y + 0.4 * h), 0.17 * w, 0.14 * h, 12), WHITE)


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


def _glasses(head: Head) -> None:
    brush = head.brush
    frame = shade(head.traits.trim, 0.4)
    for way in (-1, 1):
        x, y = head.at((head.around(way * 0.17), 0.09)).tolist()
        w = abs(head.around(way * 0.28) - head.around(way * 0.05)) / 2 * head.height
        shape = oval((x, y), w, 0.13 * head.height)
        brush.fill(shape, WHITE, 0.12)
        brush.outline(shape, mix(frame, WHITE, 0.2), 0.8)
    head.line([(head.around(-0.06), 0.06), (head.around(0.0), 0.04), (head.around(0.06), 0.06)], 0.8, 1, 1)


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
    _profile_eye(head)
    if head.mouth:
        deep = 0.03 * head.mouth
        shape = smooth(
            head.at([(0.392, 0.325), (0.33, 0.322), (0.29, 0.33), (0.32, 0.335 + deep), (0.378, 0.345 + deep)])
        )
        _apart(head).cel(shape, hsv(0.99, 0.6, 0.5), 0.7, shaded=False)
    else:
        head.line([(0.39, 0.322), (0.345, 0.328), (0.3, 0.32)], 0.9, 0.5, 0.1)
    return curve


def _profile_eye(head: Head) -> None:
    brush, traits = head.brush, head.traits
    h = traits.tall_eyes * 0.85
    y = 0.085
    if 0.12 * head.height < _SMALL_EYE:
        brush.fill(oval(head.at((0.29, y)), 0.025 * head.height + 0.5, h * 0.8 * head.height), shade(traits.eye, 0.35))
        return
    white = smooth(
        head.at(
            [
                (0.335, y - 0.8 * h),
                (0.328, y),
                (0.318, y + 0.8 * h),
                (0.25, y + 0.75 * h),
                (0.19, y + 0.1 * h),
                (0.25, y - 0.75 * h),
            ]
        )
    )
    brush.fill(white, (0.97, 0.97, 0.99))
    with brush.inside(white):
        _iris(head, (0.298, y), 0.04, 0.9 * h)
        brush.fill(
            smooth(
                head.at([(0.36, y - h), (0.35, y - 0.45 * h), (0.26, y - 0.4 * h), (0.17, y + 0.1 * h), (0.17, y - h)])
            ),
            mix(shade(traits.eye, 0.3), brush.style.tint, 0.4),
            0.45,
        )
    _glints(head, (0.298, y), 0.036, 0.9 * h)
    head.line(
        [(0.35, y - 0.75 * h), (0.3, y - 1.0 * h), (0.24, y - 0.75 * h), (0.165, y + 0.08 * h)],
        traits.lid * 1.25,
        0.6,
        0.15,
    )
    if not traits.male:
        head.line([(0.345, y - 0.8 * h), (0.38, y - 1.0 * h)], 1.0, 1.0, 0.05)
    head.line([(0.315, y + 0.85 * h), (0.26, y + 0.85 * h), (0.215, y + 0.45 * h)], 0.6)
    brow = [(0.355, y - 1.75 * h), (0.29, y - 2.15 * h), (0.19, y - 1.75 * h)]
    head.line(brow, 2.2 if traits.male else 1.3, 0.6, 0.1, ink=mix(shade(traits.hair, 0.45), head.ink, 0.4))
