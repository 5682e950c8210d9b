"""What a scene is put together from: layers one behind the other, and the light that falls on all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from train.scenes.backdrops import forest, landscape
from train.scenes.brush import Brush, skia
from train.scenes.figures import figure, smallest_head
from train.scenes.grounds import GRAPHIC, plain
from train.scenes.props import effect, machine, shapes
from train.scenes.style import BLACK, Colour, Dice, Style, hsv
from train.scenes.text import caption, credits_roll
from train.scenes.things import branches, things
from train.scenes.towns import city, room

# Draws on a brush whose dice are the layer's own; the number is a figure's mouth, None: its own.
Drawing = Callable[[Brush, int | None], None]
PAINTED: tuple[Callable[[Brush], None], ...] = (landscape, landscape, city, room, forest)
Finish = Callable[[np.ndarray, Dice], np.ndarray]


@dataclass(frozen=True)
class Layer:
    """words: what its dice are thrown with. finish: what becomes of its pixels, of an opaque layer.
    place: "far", "near", or "text", which a moving camera leaves where it is.
    """

    draw: Drawing
    words: str
    place: str
    finish: Finish | None = None


@dataclass(frozen=True)
class Plan:
    """A scene that is not drawn yet. talks: there is a figure with a mouth to move. rolls: the text may roll."""

    words: str
    style: Style
    layers: list[Layer]
    talks: bool = False
    rolls: bool = False

    @classmethod
    def draw(cls, words: str) -> Plan:
        dice = Dice(words)
        style = Style.draw(dice)
        kind = dice.random()
        painted = _layer(dice.choice(PAINTED), f"{words}/back", _finish(dice, True))
        graphic = _layer(dice.choice(GRAPHIC), f"{words}/back", _finish(dice, False))
        back = painted if dice.chance(0.6) else graphic
        front: list[Layer] = []
        if kind < 0.08:  # with nothing in front: in focus
            back = _layer(dice.choice(PAINTED), f"{words}/back", _textured if dice.chance(0.5) else None)
        elif kind < 0.58:
            front = [Layer(_cast, f"{words}/cast", "near")]
        elif kind < 0.66:
            front = [Layer(lambda brush, mouth: machine(brush), f"{words}/machine", "near")]
        elif kind < 0.72:
            front = [Layer(lambda brush, mouth: things(brush), f"{words}/things", "near")]
        elif kind < 0.95:
            back = _layer(plain, f"{words}/back", None)
            front = [Layer(lambda brush, mouth: shapes(brush), f"{words}/shapes", "near")]
        else:
            return cls._credits(words, style, dice, painted)
        if kind < 0.66 and dice.chance(0.1):
            front.append(Layer(lambda brush, mouth: branches(brush), f"{words}/branches", "near"))
        if dice.chance(0.25):
            front.append(Layer(lambda brush, mouth: effect(brush), f"{words}/effect", "near"))
        if dice.chance(0.2):
            front.append(Layer(lambda brush, mouth: caption(brush), f"{words}/caption", "text"))
        return cls(words, style, [back, *front], talks=0.08 <= kind < 0.58)

    @classmethod
    def _credits(cls, words: str, style: Style, dice: Dice, painted: Layer) -> Plan:
        back = painted if dice.chance(0.4) else _layer(_dark, f"{words}/back", None)
        roll = Layer(lambda brush, mouth: credits_roll(brush), f"{words}/credits", "text")
        return cls(words, style, [back, roll], rolls=True)


def _layer(draw: Callable[[Brush], None], words: str, finish: Finish | None) -> Layer:
    return Layer(lambda brush, mouth: draw(brush), words, "far", finish)


def _dark(brush: Brush) -> None:
    colour = BLACK if brush.dice.chance(0.6) else brush.dice.colour((0.2, 0.8), (0.05, 0.3))
    brush.sky((colour, colour))


def _cast(brush: Brush, mouth: int | None) -> None:
    """Figures: one close up, one as a bust, two, or several in the distance; lines that are too thick for the
    smaller ones bring them nearer."""
    dice, size = brush.dice, brush.size
    least = smallest_head(brush)
    words = dice.random()
    kind = dice.random()
    if kind < 0.18 and least < 0.16 * size:
        count = dice.randint(2, 5)
        high = max(least, dice.log(0.055, 0.15) * size)
        for i, x in enumerate(np.linspace(0.15, 0.85, count) * size):
            figure(
                brush,
                float(x),
                dice.uniform(0.25, 0.6) * size,
                high * dice.uniform(0.92, 1.08),
                f"{words}/{i}",
                mouth,
                whole=True,
            )
    elif kind < 0.4 and least < 0.42 * size:
        high = max(least, dice.uniform(0.25, 0.42) * size)
        for i, x in enumerate((dice.uniform(0.22, 0.34), dice.uniform(0.66, 0.8))):
            figure(
                brush, x * size, dice.uniform(0.38, 0.55) * size, high * dice.uniform(0.9, 1.1), f"{words}/{i}", mouth
            )
    elif kind < 0.75 and least < 0.7 * size:
        high = max(least, dice.uniform(0.38, 0.7) * size)
        figure(brush, dice.uniform(0.35, 0.65) * size, dice.uniform(0.36, 0.5) * size, high, f"{words}", mouth)
    else:
        high = max(least, dice.uniform(0.8, 1.6) * size)
        figure(brush, dice.uniform(0.35, 0.65) * size, dice.uniform(0.4, 0.55) * size, high, f"{words}", mouth)


# ---- what becomes of a background ----------------------------------------------------------------------------------


def _finish(dice: Dice, painted: bool) -> Finish | None:
    """Paint that is not quite even, for half of the painted ones; out of focus, a third. None: neither."""
    textured = painted and dice.chance(0.5)
    sigma = dice.log(1.0, 9.0) if dice.chance(0.3) else 0.0
    if not textured and not sigma:
        return None

    def finish(pixels: np.ndarray, own: Dice) -> np.ndarray:
        if textured:
            pixels = _textured(pixels, own)
        return cv2.GaussianBlur(pixels, (0, 0), sigma) if sigma else pixels

    return finish


def _textured(pixels: np.ndarray, dice: Dice) -> np.ndarray:
    height, width = pixels.shape[:2]
    rng = np.random.default_rng(dice.getrandbits(32))
    texture = np.zeros((height, width), np.float32)
    for grain, share in ((dice.uniform(60, 160), 1.0), (dice.uniform(20, 50), 0.6), (dice.uniform(5, 12), 0.35)):
        coarse = rng.random((int(height / grain) + 3, int(width / grain) + 3), np.float32) - 0.5
        texture += share * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    strength = np.float32(dice.uniform(0.06, 0.25))
    texture = 1 + strength * texture
    return cv2.multiply(pixels, cv2.merge([texture] * 3), dtype=cv2.CV_8U)


# ---- light on everything -------------------------------------------------------------------------------------------


def grade(canvas: skia.Canvas, dice: Dice, size: int) -> None:
    """Night, sunset, a coloured gradient or a darker rim; most scenes stay as they are."""
    kind = dice.random()
    if kind < 0.1:
        _overlay(
            canvas,
            size,
            [(dice.uniform(0.35, 0.6), dice.uniform(0.45, 0.65), dice.uniform(0.75, 0.95))],
            skia.BlendMode.kMultiply,
        )
    elif kind < 0.18:
        _overlay(canvas, size, [(1.0, dice.uniform(0.65, 0.8), dice.uniform(0.45, 0.65))], skia.BlendMode.kMultiply)
        if dice.chance(0.5):
            _overlay(canvas, size, [(0.0, 0.0, 0.0), (0.25, 0.1, 0.05)], skia.BlendMode.kScreen)
    elif kind < 0.3:
        tint = hsv(dice.random(), dice.uniform(0.1, 0.5), 1.0)
        _overlay(
            canvas, size, dice.choice(([tint, (1.0, 1.0, 1.0)], [(1.0, 1.0, 1.0), tint])), skia.BlendMode.kMultiply
        )
    elif kind < 0.36:
        glow = hsv(dice.random(), dice.uniform(0.3, 0.8), dice.uniform(0.15, 0.5))
        _overlay(canvas, size, dice.choice(([glow, BLACK], [BLACK, glow])), skia.BlendMode.kScreen)
    elif kind < 0.42:
        paint = skia.Paint(AntiAlias=True, BlendMode=skia.BlendMode.kMultiply)
        rim = skia.Color4f(*([dice.uniform(0.45, 0.8)] * 3), 1).toColor()
        paint.setShader(
            skia.GradientShader.MakeRadial(
                skia.Point(size / 2, size / 2), 0.75 * size, [skia.ColorWHITE, skia.ColorWHITE, rim]
            )
        )
        canvas.drawPaint(paint)


def _overlay(canvas: skia.Canvas, size: int, colours: list[Colour], mode: skia.BlendMode) -> None:
    paint = skia.Paint(BlendMode=mode)
    stops = [skia.Color4f(*colour, 1).toColor() for colour in colours]
    if len(stops) > 1:
        paint.setShader(skia.GradientShader.MakeLinear([skia.Point(0, 0), skia.Point(0, size)], stops))
    else:
        paint.setColor(stops[0])
    canvas.drawPaint(paint)


def develop(pixels: np.ndarray, dice: Dice) -> np.ndarray:
    """A soft glow around what is bright, in a fifth; a trace of softness over everything, in a few of a hundred."""
    if dice.chance(0.2):
        side = pixels.shape[0]
        sigma, strength = dice.uniform(8, 30) / 4, dice.uniform(0.15, 0.45)
        small = cv2.resize(pixels, (side // 4, side // 4), interpolation=cv2.INTER_AREA)
        bright = cv2.convertScaleAbs(
            cv2.GaussianBlur(cv2.subtract(small, np.full_like(small, 90)), (0, 0), sigma), alpha=1.4 * strength
        )
        glow = cv2.resize(bright, (side, side), interpolation=cv2.INTER_LINEAR)
        pixels = cv2.bitwise_not(cv2.multiply(cv2.bitwise_not(pixels), cv2.bitwise_not(glow), scale=1 / 255))
    if dice.chance(0.03):
        pixels = cv2.GaussianBlur(pixels, (0, 0), dice.uniform(0.4, 0.8))
    return pixels
