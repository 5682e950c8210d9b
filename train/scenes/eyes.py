"""Eyes, from the front and in profile, and glasses."""

from __future__ import annotations

import math

from train.scenes.heads import Head
from train.scenes.style import WHITE, mix, oval, shade, smooth

_SMALL_EYE = 9.0  # pixels across below which an eye is a dark spot with a lid


def eye(head: Head, way: int) -> None:
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


def profile_eye(head: Head) -> None:
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


def _iris(head: Head, centre: tuple[float, float], across: float, down: float) -> None:
    brush, colour = head.brush, head.traits.eye
    x, y = head.at(centre).tolist()
    w, h = across * head.height, down * head.height
    whole = oval((x, y), w, h)
    if brush.style.airbrush:
        brush.cover(
            [(shade(colour, 0.25), 1), (shade(colour, 0.75), 1), (mix(colour, WHITE, 0.4), 1)],
            (x, y - h),
            (x, y + h),
            whole,
        )
    else:
        brush.fill(whole, colour)
        with brush.inside(whole):
            brush.fill(oval((x, y - 0.55 * h), 1.2 * w, 0.95 * h), shade(colour, 0.5))
            brush.fill(oval((x, y + 0.62 * h), 0.6 * w, 0.28 * h), mix(colour, WHITE, 0.4))
    brush.fill(oval((x, y - 0.05 * h), 0.4 * w, 0.42 * h), shade(colour, 0.16))
    brush.outline(
        whole, None if head.brush.style.own == 0 else shade(colour, 0.5), min(0.7, 0.1 * w / brush.style.pen + 0.2)
    )


def _glints(head: Head, centre: tuple[float, float], across: float, down: float) -> None:
    x, y = head.at(centre).tolist()
    w, h = across * head.height, down * head.height
    light = head.brush.style.light
    head.brush.fill(oval((x + light * 0.35 * w, y - 0.42 * h), 0.34 * w, 0.27 * h, 16), WHITE)
    head.brush.fill(oval((x - light * 0.32 * w, y + 0.4 * h), 0.17 * w, 0.14 * h, 12), WHITE)


def glasses(head: Head) -> None:
    brush = head.brush
    frame = shade(head.traits.trim, 0.4)
    for way in (-1, 1):
        x, y = head.at((head.around(way * 0.17), 0.09)).tolist()
        w = abs(head.around(way * 0.28) - head.around(way * 0.05)) / 2 * head.height
        shape = oval((x, y), w, 0.13 * head.height)
        brush.fill(shape, WHITE, 0.12)
        brush.outline(shape, mix(frame, WHITE, 0.2), 0.8)
    head.line([(head.around(-0.06), 0.06), (head.around(0.0), 0.04), (head.around(0.06), 0.06)], 0.8, 1, 1)
