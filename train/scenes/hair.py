"""Hair of drawn figures: the mass behind the head, tails and spikes, the fringe in front with its shadow and shine."""

from __future__ import annotations

import math

import numpy as np

from train.scenes.brush import path_of
from train.scenes.heads import PROFILE, Head
from train.scenes.style import WHITE, Colour, Dice, Points, mix, oval, shade, smooth


def _dark(head: Head, depth: float = 0.74) -> Colour:
    return head.brush.style.shadow(head.traits.hair, depth)


def _strand(head: Head) -> Colour:
    """Lines within hair are rarely black."""
    return mix(_dark(head, 0.5), head.brush.style.ink_on(head.traits.hair), 0.35)


def lock(head: Head, points: Points, width: float, strands: int = 3) -> None:
    """One lock along head-unit points, its widest part near the root; width in head units."""
    brush = head.brush
    middle = smooth(head.at(points), False, 12)
    t = np.linspace(0, 1, len(middle))
    along = np.gradient(middle, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / (np.hypot(along[:, 0], along[:, 1])[:, None] + 1e-6)
    reach = (
        normal * (width * head.height * (0.5 + 0.7 * np.sin(np.pi * np.minimum(t * 1.15, 1))) * (1 - t) ** 0.5)[:, None]
    )
    left, right = middle + reach, middle - reach
    shape = np.concatenate([left, right[::-1]])
    brush.fill(shape, head.traits.hair)
    with brush.inside(shape):
        dark, light = (
            (left, right) if (left[:, 0].mean() - right[:, 0].mean()) * brush.style.light < 0 else (right, left)
        )
        inner = middle + (dark - middle) * brush.dice.uniform(0.0, 0.4)
        brush.fill(np.concatenate([dark + (dark - middle) * 0.2, inner[::-1]]), _dark(head))
        for _ in range(strands if head.height > 90 else 0):
            offset = brush.dice.uniform(-0.8, 0.8)
            brush.line((middle + reach * offset)[3::8], _strand(head), brush.dice.uniform(0.35, 0.8), 0.1, 0.05)
        if brush.dice.chance(0.5):
            at = int(len(middle) * brush.dice.uniform(0.2, 0.45))
            shine = np.concatenate([(middle + (light - middle) * 0.75)[at : at + 5], middle[at : at + 5][::-1]])
            brush.fill(shine, mix(head.traits.hair, WHITE, 0.5))
    ink = brush.style.ink_on(head.traits.hair)
    brush.line(left[::4], ink, 1.0, 0.3, 0.4)
    brush.line(right[::4], ink, 1.0, 0.3, 0.4)


def behind(head: Head) -> None:
    """The mass of hair that is drawn before body and face."""
    brush, traits = head.brush, head.traits
    dice = brush.dice
    lean = 0.0 if head.view == PROFILE else -0.1 * math.sin(head.turn)
    low = 0.3 + max(traits.length, -0.15)
    back = [(-0.44, 0.1), (-0.46, -0.25), (-0.36, -0.5), (0.0, -0.61), (0.36, -0.5), (0.46, -0.25), (0.44, 0.1)]
    if head.view == PROFILE:
        back = [(-0.5, 0.05), (-0.56, -0.25), (-0.4, -0.52), (-0.05, -0.63), (0.2, -0.5), (0.15, -0.1), (0.02, 0.1)]
    wide = 0.45 + 0.12 * min(1.0, max(0.0, traits.length))
    right, left = (0.03, -0.5 - 0.1 * wide) if head.view == PROFILE else (wide, -wide)
    tips = dice.randint(4, 7)
    for i, u in enumerate(np.linspace(right, left, 2 * tips + 1)):
        back.append((u, low + (dice.uniform(0.0, 0.12) if i % 2 else -0.07)))
    curve = smooth(head.at([(u + lean, v) for u, v in back]), steps=8)
    brush.fill(curve, _dark(head, 0.7))
    with brush.inside(curve):
        for _ in range(12 if head.height > 90 else 0):
            u = dice.uniform(left, right)
            brush.line(
                head.at([(u * 0.85 + lean, -0.2), (u + lean, 0.2), (u * 1.05 + lean, low - 0.02)]),
                _dark(head, 0.45),
                dice.uniform(0.4, 0.9),
            )
    brush.outline(curve, shade(traits.hair, 0.7), 0.9)
    _tails(head)


def _tails(head: Head) -> None:
    dice, style = head.brush.dice, head.traits.style
    if style == "twin":
        for side in (-1, 1) if head.view != PROFILE else (-1,):
            for _ in range(dice.randint(2, 3)):
                lock(
                    head,
                    [
                        (side * 0.38, -0.33),
                        (side * dice.uniform(0.62, 0.8), dice.uniform(-0.3, -0.05)),
                        (side * dice.uniform(0.6, 0.85), dice.uniform(0.4, 0.7)),
                        (side * dice.uniform(0.45, 0.95), dice.uniform(0.9, 1.3)),
                    ],
                    dice.uniform(0.06, 0.1),
                )
    elif style == "pony":
        side = -1 if head.view == PROFILE else dice.choice((-1, 1))
        for _ in range(dice.randint(3, 5)):
            lock(
                head,
                [
                    (side * 0.2, -0.5),
                    (side * dice.uniform(0.5, 0.7), dice.uniform(-0.7, -0.5)),
                    (side * dice.uniform(0.65, 0.9), dice.uniform(-0.1, 0.3)),
                    (side * dice.uniform(0.5, 1.0), dice.uniform(0.5, 1.0)),
                ],
                dice.uniform(0.05, 0.09),
            )
    elif style == "bun":
        for side in (-1, 1) if head.view != PROFILE else (-1,):
            x, y = head.at((side * 0.35, -0.52)).tolist()
            head.brush.cel(oval((x, y), 0.15 * head.height, 0.15 * head.height), head.traits.hair)
            for i in range(-1, 2):
                head.line(
                    [
                        (side * 0.35 - 0.1, -0.52 + 0.05 * i),
                        (side * 0.35, -0.55 + 0.05 * i),
                        (side * 0.35 + 0.1, -0.52 + 0.05 * i),
                    ],
                    0.6,
                    ink=_strand(head),
                )
    elif style == "spiky":
        centre = -0.1 if head.view == PROFILE else 0.0
        for angle in np.linspace(3.6, -0.4 if head.view != PROFILE else 0.9, dice.randint(8, 13)):
            bent = angle + dice.uniform(-0.15, 0.15)
            far = dice.uniform(0.55, 0.75)
            lock(
                head,
                [
                    (centre + 0.08 * math.cos(angle), -0.15 - 0.08 * math.sin(angle)),
                    (centre + 0.4 * math.cos(angle), -0.15 - 0.42 * math.sin(angle)),
                    (centre + far * math.cos(bent), -0.15 - far * math.sin(bent)),
                ],
                dice.uniform(0.13, 0.19),
                1,
            )


def before(head: Head, face: np.ndarray) -> None:
    """Fringe and side locks over the face, whose edge is `face`."""
    if head.view == PROFILE:
        crown = [(-0.5, 0.02), (-0.55, -0.2), (-0.45, -0.47), (-0.2, -0.62), (0.08, -0.62), (0.3, -0.5), (0.42, -0.27)]
        tips = _profile_tips(head.brush.dice, head.traits.locks)
        sides = [[(0.02, -0.2), (0.06, 0.1), (0.03, head.brush.dice.uniform(0.3, 0.6))]]
    else:
        crown = [(-0.42, -0.02), (-0.43, -0.3), (-0.3, -0.53), (0.0, -0.62), (0.3, -0.53), (0.43, -0.3), (0.42, -0.02)]
        tips = _front_tips(head)
        length = head.brush.dice.uniform(0.15, 0.6)
        sides = [
            [(s * 0.4, -0.25), (s * 0.425, 0.1), (s * 0.385, length + head.brush.dice.uniform(-0.05, 0.05))]
            for s in (-1, 1)
        ]
    _fringe(head, face, crown, tips, sides)


def _front_tips(head: Head) -> list[tuple[float, float]]:
    """From the right temple to the left one: tips, and the notches between them."""
    dice, count = head.brush.dice, head.traits.locks
    tips: list[tuple[float, float]] = []
    shift = 0.1 * math.sin(head.turn)
    places = np.linspace(0.37, -0.37, count)
    deep = dice.uniform(-0.1, 0.02)
    for i, u in enumerate(places):
        drop = deep + 0.18 * abs(u) / 0.37 + dice.uniform(-0.07, 0.07)
        tips.append((u + shift + 0.12 * (u - head.traits.parting) + dice.uniform(-0.02, 0.02), drop))
        if i < count - 1:
            tips.append(((u + places[i + 1]) / 2 + shift + dice.uniform(-0.015, 0.015), drop - dice.uniform(0.1, 0.2)))
    return tips


def _profile_tips(dice: Dice, count: int) -> list[tuple[float, float]]:
    """From the forehead along the temple and over the ear to the nape."""
    tips: list[tuple[float, float]] = []
    places = np.linspace(0, 1, count + 1)
    for i, t in enumerate(places):
        u = 0.42 - 0.88 * t
        drop = -0.09 + 0.35 * max(0.0, t - 0.35) + dice.uniform(-0.05, 0.07)
        tips.append((u + (0.04 if t < 0.3 else -0.03), drop))
        if i < count:
            tips.append((u - 0.44 / count, drop - dice.uniform(0.08, 0.17)))
    return tips


def _fringe(
    head: Head, face: np.ndarray, crown: list[tuple[float, float]], tips: list[tuple[float, float]],
    sides: list[list[tuple[float, float]]],
) -> None:  # fmt: skip
    brush, hair = head.brush, head.traits.hair
    dice = brush.dice
    top = smooth(head.at(crown), False)
    edges = [_lock_edge(a, b, dice) for a, b in zip([crown[-1], *tips], [*tips, crown[0]])]
    lower = np.concatenate([head.at(edge) for edge in edges])
    shape = np.concatenate([top, lower])
    if head.height > 40:
        with brush.inside(face):
            brush.fill(
                np.concatenate([top, lower + (-brush.style.light * 0.015 * head.height, 0.05 * head.height)]),
                brush.style.shadow(head.traits.skin, 0.82),
            )
    for side in sides:
        lock(head, side, dice.uniform(0.035, 0.055))
    brush.fill(shape, hair)
    with brush.inside(shape):
        _within(head, tips, crown)
    ink = brush.style.ink_on(hair)
    brush.line(top[::6], ink, 1.25, 0.7, 0.7)
    for edge in edges:
        brush.line(head.at(edge), ink, 1.0, 0.3, 0.3)
    if dice.chance(0.3):
        for _ in range(dice.randint(1, 5)):
            u = dice.uniform(-0.25, 0.25)
            head.line(
                [
                    (u, -0.58),
                    (u + dice.uniform(-0.08, 0.08), -0.7),
                    (u + dice.uniform(-0.2, 0.2), -0.66 - dice.uniform(0, 0.12)),
                ],
                dice.uniform(0.6, 1.2),
                1.0,
                0.1,
                ink=mix(hair, ink, 0.5),
            )


def _lock_edge(start: Points, end: Points, dice: Dice) -> list[tuple[float, float]]:
    """A slightly bulging way from one tip or notch to the next."""
    (x0, y0), (x1, y1) = start, end
    bulge = 0.12 if y1 > y0 else -0.12
    middle = ((x0 + x1) / 2 + bulge * (y1 - y0) * dice.uniform(0.5, 1.2), (y0 + y1) / 2)
    return [start, middle, end]


def _within(head: Head, tips: list[tuple[float, float]], crown: list[tuple[float, float]]) -> None:
    """Shadows and strands of the locks, and the ring of shine."""
    brush, dice, light = head.brush, head.brush.dice, head.brush.style.light
    pole = (head.traits.parting * 0.4 - (0.1 if head.view == PROFILE else 0.0), -0.58)
    for u, v in tips[::2]:
        middle = (u * 0.75 + pole[0] * 0.25, v * 0.55 + pole[1] * 0.45)
        wedge = [(u, v), (u - light * 0.035, v - 0.1), middle, (u + light * 0.005, v - 0.1)]
        brush.fill(smooth(head.at(wedge)), _dark(head))
        for _ in range(dice.randint(1, 3) if head.height > 70 else 0):
            spread = dice.uniform(-0.03, 0.03)
            end = (pole[0] + (u - pole[0]) * 0.35 + spread, pole[1] + 0.08)
            head.line(
                [(u + spread, v - 0.02), (middle[0] + spread, middle[1]), end],
                dice.uniform(0.35, 0.8),
                0.05,
                0.05,
                ink=_strand(head),
            )
    if dice.chance(0.75) and head.height > 40:
        low, high = (-0.4, 0.36) if head.view != PROFILE else (-0.45, 0.3)
        count = dice.randint(10, 20)
        upper, under = [], []
        for i in range(count + 1):
            u = low + (high - low) * i / count
            v = -0.42 + 0.5 * (u - (low + high) / 2) ** 2 * 2
            upper.append((u, v - (0.045 if i % 2 else 0.0) - dice.uniform(0, 0.015)))
            under.append((u, v + 0.025 + (0.045 if i % 2 else 0.0) + dice.uniform(0, 0.015)))
        blur = 2.0 if brush.style.airbrush > 0.3 else 0.0
        brush.fill(
            path_of(head.at([*upper, *under[::-1]])), mix(head.traits.hair, WHITE, dice.uniform(0.3, 0.65)), blur=blur
        )
