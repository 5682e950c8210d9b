"""The marks that drawn scenes are made of: fills, tapered strokes, outlines, cel shadows, soft light. On Skia.

Widths are absolute highres pixels: a scene has one pen, and every line is some share of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from train.scenes.style import Colour, Dice, Points, Style, smooth

MISSING: str | None = None  # why Skia cannot be used
try:
    import skia
except ImportError as _error:  # also where one of the system's libraries that it links to is missing
    skia = None
    MISSING = str(_error).splitlines()[0]

_THINNEST = 1.0  # pixels: below it a line is a faint smear that nobody draws


def path_of(points: Points, closed: bool = True) -> skia.Path:
    path = skia.Path()
    path.addPoly([skia.Point(x, y) for x, y in np.asarray(points, float).tolist()], closed)
    return path


def _normals(curve: np.ndarray) -> np.ndarray:
    along = np.gradient(curve, axis=0)
    return np.stack([-along[:, 1], along[:, 0]], 1) / (np.hypot(along[:, 0], along[:, 1])[:, None] + 1e-6)


class Brush:
    """Draws on a canvas of `size` x `size` pixels in the style of a scene, taking its chances from `dice`."""

    def __init__(self, canvas: skia.Canvas, dice: Dice, size: int, style: Style) -> None:
        self.canvas, self.dice, self.size, self.style = canvas, dice, size, style

    # ---- areas

    @staticmethod
    def paint(colour: Colour, alpha: float = 1.0, blur: float = 0.0) -> skia.Paint:
        """blur: sigma in pixels of a soft edge."""
        paint = skia.Paint(AntiAlias=True, Color4f=skia.Color4f(*colour, alpha))
        if blur > 0:
            paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, blur))
        return paint

    def fill(self, points: Points, colour: Colour, alpha: float = 1.0, blur: float = 0.0) -> None:
        shape = points if isinstance(points, skia.Path) else path_of(points)
        self.canvas.drawPath(shape, self.paint(colour, alpha, blur))

    def cover(self, stops: Sequence[tuple[Colour, float]], start: Points, end: Points, shape: Points = None) -> None:
        """A linear gradient through (colour, alpha) `stops` from start to end, over `shape` or everything."""
        colours = [skia.Color4f(*colour, alpha).toColor() for colour, alpha in stops]
        paint = skia.Paint(AntiAlias=True)
        paint.setShader(skia.GradientShader.MakeLinear([skia.Point(*start), skia.Point(*end)], colours))
        if shape is None:
            self.canvas.drawPaint(paint)
        else:
            self.canvas.drawPath(path_of(shape), paint)

    def halo(self, x: float, y: float, radius: float, colour: Colour, alpha: float, outer: float = 0.0) -> None:
        """A soft round light: `alpha` in the middle, `outer` at the radius."""
        stops = [skia.Color4f(*colour, alpha).toColor(), skia.Color4f(*colour, outer).toColor()]
        paint = skia.Paint(AntiAlias=True)
        paint.setShader(skia.GradientShader.MakeRadial(skia.Point(x, y), radius, stops))
        self.canvas.drawCircle(x, y, radius, paint)

    def sky(self, colours: Sequence[Colour], top: float = 0.0, bottom: float = 1.0) -> None:
        """Everything, in a gradient from above to below; top and bottom are shares of the side."""
        self.cover([(colour, 1.0) for colour in colours], (0, top * self.size), (0, bottom * self.size))

    @contextmanager
    def inside(self, points: Points) -> Iterator[None]:
        """What is drawn in here ends at the edge of the shape."""
        self.canvas.save()
        self.canvas.clipPath(points if isinstance(points, skia.Path) else path_of(points), True)
        try:
            yield
        finally:
            self.canvas.restore()

    # ---- lines

    def width(self, share: float) -> float:
        """Pixels of a line that is `share` of the scene's pen."""
        return max(_THINNEST, self.style.pen * share)

    def line(
        self, points: Points, colour: Colour | None = None, share: float = 1.0, start: float = 0.15, end: float = 0.15,
        curve: bool = True,
    ) -> None:  # fmt: skip
        """A stroke through the points; start, end: its width there, of the width in its middle."""
        self.stroke(points, self.style.ink if colour is None else colour, self.width(share), start, end, curve)

    def stroke(
        self, points: Points, colour: Colour, width: float, start: float = 1.0, end: float = 1.0, curve: bool = True
    ) -> None:
        """The same with its width in pixels."""
        middle = smooth(points, False, 12) if curve else np.asarray(points, float)
        t = np.linspace(0, 1, len(middle))
        swell = np.sin(np.pi * t) ** 0.6
        profile = np.maximum(swell, np.where(t < 0.5, start * (1 - t) + t * swell, end * t + (1 - t) * swell))
        reach = _normals(middle) * (profile * width / 2)[:, None]
        self.fill(np.concatenate([middle + reach, (middle - reach)[::-1]]), colour)
        for point, share in ((middle[0], start), (middle[-1], end)):
            if share * width > 2.5:
                self.canvas.drawCircle(*point.tolist(), share * width / 2, self.paint(colour))

    def outline(self, curve: np.ndarray, fill: Colour | None = None, share: float = 1.0, closed: bool = True) -> None:
        """The edge of an area filled with `fill`: even, or swelling along its way where the style is lively."""
        ink = self.style.ink if fill is None else self.style.ink_on(fill)
        width = self.width(share)
        lively = self.style.lively
        if lively and closed and len(curve) > 16:
            turn = np.linspace(0, 2 * np.pi, len(curve) + 1)
            closed_curve = np.concatenate([curve, curve[:1]])
            wave = 1 + lively * np.sin(turn * self.dice.randint(1, 3) + self.dice.uniform(0, 6))
            along = np.gradient(np.concatenate([curve[-1:], closed_curve, curve[1:2]]), axis=0)[1:-1]
            normal = np.stack([-along[:, 1], along[:, 0]], 1) / (np.hypot(along[:, 0], along[:, 1])[:, None] + 1e-6)
            reach = normal * (width / 2 * wave)[:, None]
            self.fill(np.concatenate([closed_curve + reach, (closed_curve - reach)[::-1]]), ink)
            width *= 1 - lively  # keeps corners whole
        paint = skia.Paint(
            AntiAlias=True, Color4f=skia.Color4f(*ink, 1), Style=skia.Paint.kStroke_Style, StrokeWidth=width,
            StrokeCap=skia.Paint.kRound_Cap, StrokeJoin=skia.Paint.kRound_Join,
        )  # fmt: skip
        self.canvas.drawPath(path_of(curve, closed), paint)

    def blades(
        self, roots: np.ndarray, tips: np.ndarray, bend: float, width: float, colour: Colour, alpha: float = 1.0
    ) -> None:
        """Many leaf-shaped strokes at once: [N, 2] roots and tips. bend: share of their length."""
        path = skia.Path()
        for (x0, y0), (x1, y1) in zip(roots.tolist(), tips.tolist()):
            dx, dy = x1 - x0, y1 - y0
            length = math.hypot(dx, dy) + 1e-6
            nx, ny = -dy / length, dx / length
            side = bend * length
            mx, my = (x0 + x1) / 2, (y0 + y1) / 2
            path.moveTo(x0, y0)
            path.quadTo(mx + nx * (side + width), my + ny * (side + width), x1, y1)
            path.quadTo(mx + nx * (side - width), my + ny * (side - width), x0, y0)
            path.close()
        self.fill(path, colour, alpha)

    # ---- areas with line and shadow

    def cel(
        self, curve: np.ndarray, colour: Colour, share: float = 1.0, depth: float = 0.76, reach: float = 0.08,
        shaded: bool = True,
    ) -> None:  # fmt: skip
        """An area, its shadow on the side away from the light, its line. reach: of the shadow, of the area's size."""
        self.fill(curve, colour)
        if shaded:
            extent = float(np.ptp(curve, axis=0).max())
            dx, dy = self.style.light * reach * extent, -0.6 * reach * extent
            soft = extent * 0.04 if self.dice.chance(self.style.airbrush) else 0.0
            with self.inside(curve):
                self.fill(curve, self.style.shadow(colour, depth))
                self.fill(curve + (dx, dy), colour, blur=soft)
        if share > 0:
            self.outline(curve, colour, share)

    def hatch(self, curve: np.ndarray, colour: Colour, pitch: float, angle: float, width: float) -> None:
        """Parallel lines inside a shape; pitch and width in pixels."""
        low, high = curve.min(0), curve.max(0)
        centre, half = (low + high) / 2, float(np.hypot(*(high - low))) / 2
        along = np.array([math.cos(angle), math.sin(angle)])
        across = np.array([-along[1], along[0]])
        paint = self.paint(colour)
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(width)
        path = skia.Path()
        for offset in np.arange(-half, half, max(pitch, 2.0)):
            start, end = centre + across * offset - along * half, centre + across * offset + along * half
            path.moveTo(*start.tolist())
            path.lineTo(*end.tolist())
        with self.inside(curve):
            self.canvas.drawPath(path, paint)
