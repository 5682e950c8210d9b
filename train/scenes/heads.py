"""Heads of drawn figures: who they are, and where the parts of a face lie on the canvas."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from train.scenes.brush import Brush
from train.scenes.style import Colour, Dice, Points, hsv

PROFILE = "profile"


@dataclass(frozen=True)
class Traits:
    """What makes a figure recognisable. length: of the hair below the chin, heads."""

    skin: Colour
    hair: Colour
    eye: Colour
    cloth: Colour
    trim: Colour
    male: bool
    length: float
    style: str
    locks: int
    parting: float
    blush: bool
    glasses: bool
    tall_eyes: float
    lid: float

    @classmethod
    def draw(cls, dice: Dice) -> Traits:
        male = dice.chance(0.4)
        skin = hsv(dice.uniform(0.045, 0.08), dice.uniform(0.1, 0.34), dice.uniform(0.9, 1.0))
        if dice.chance(0.15):
            skin = hsv(dice.uniform(0.05, 0.08), dice.uniform(0.4, 0.55), dice.uniform(0.5, 0.8))
        hue = dice.choice((dice.random(), 0.08, 0.1, 0.62, 0.0))
        dark = dice.chance(0.35)
        hair = hsv(hue, dice.uniform(0.1, 0.7), dice.uniform(0.12, 0.35) if dark else dice.uniform(0.45, 0.98))
        styles = ("plain", "spiky", "spiky", "plain") if male else ("plain", "plain", "twin", "pony", "bun", "spiky")
        return cls(
            skin=skin, hair=hair, eye=dice.colour((0.45, 0.95), (0.45, 0.95)),
            cloth=dice.colour((0.05, 0.8), (0.15, 0.98)),
            trim=dice.colour((0.1, 0.85), (0.3, 1.0)), male=male,
            length=dice.uniform(-0.15, 0.15) if male and dice.chance(0.8)
            else dice.choice((0.0, dice.uniform(0.1, 1.3))),
            style=dice.choice(styles), locks=dice.randint(5, 9), parting=dice.uniform(-0.25, 0.25),
            blush=dice.chance(0.35), glasses=dice.chance(0.08),
            tall_eyes=dice.uniform(0.08, 0.11) if male else dice.uniform(0.115, 0.155), lid=dice.uniform(1.6, 2.6),
        )  # fmt: skip


@dataclass
class Head:
    """A head on the canvas. x, y: its middle; height: of skull and chin, pixels; turn: -0.5..0.5 radians, 0 from the
    front, or the side a profile looks to, -1 or 1. mouth: 0 closed, 1 half, 2 open.
    """

    brush: Brush
    traits: Traits
    x: float
    y: float
    height: float
    turn: float
    view: str = "front"
    mouth: int = 0
    ink: Colour = field(init=False)

    def __post_init__(self) -> None:
        self.ink = self.brush.style.ink_on(self.traits.skin)

    def at(self, points: Points) -> np.ndarray:
        """Head units (heights; right of the face and down) -> pixels. A profile looks to the right in them."""
        points = np.asarray(points, float)
        side = self.turn if self.view == PROFILE else 1.0
        return np.stack([self.x + side * points[..., 0] * self.height, self.y + points[..., 1] * self.height], -1)

    def around(self, across: float) -> float:
        """Where a place of the face's front lies when it is turned: -0.37 (one ear) .. 0.37 -> head units."""
        angle = math.asin(max(-1.0, min(1.0, across / 0.38))) + self.turn
        return 0.38 * math.sin(max(-1.5, min(1.5, angle)))

    def line(
        self, points: Points, share: float = 1.0, start: float = 0.15, end: float = 0.15, ink: Colour | None = None
    ) -> None:
        self.brush.line(self.at(points), ink or self.ink, share, start, end)
