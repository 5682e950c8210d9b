"""How a drawn scene moves: pans, pulls, shakes, rolls, mouths on threes, and holds; and the file it is kept in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from train.scenes.style import Dice
from vidsr.files import as_file

KINDS = ("hold", "mouth", "pan", "pull", "slide", "shake", "roll")
_ON = 3  # frames that a mouth stays as it is
_FASTEST = 9.0  # pixels a frame


@dataclass(frozen=True)
class Motion:
    """views: [frames, 2] whole pixels, right and down, of the window on the near layers; far: the share of it that the
    background moves by. mouths: of each frame, 0..2, None where nobody speaks. margin: how much larger than a frame
    the drawn layers are. rolls: whether the text goes with the window, and nothing else.
    """

    kind: str
    margin: int
    far: float
    views: np.ndarray
    mouths: list[int | None]
    rolls: bool = False

    @classmethod
    def draw(cls, dice: Dice, frames: int, size: int, talks: bool, text: bool) -> Motion:
        """One kind of motion for a scene in which somebody talks, or text can roll. Frames are size x size."""
        if text:
            kind = dice.choice(("roll", "roll", "hold"))
        else:
            kind = dice.choice(
                ("mouth", "mouth", "pan", "pull", "slide", "shake", "hold")
                if talks
                else ("pan", "pull", "shake", "hold")
            )
        margin = {"hold": 0, "mouth": 0, "shake": 24, "roll": size}.get(kind, size // 5)
        views = np.zeros((frames, 2), int)
        if kind in ("pan", "pull", "slide"):
            views = _way(dice, frames, margin, dice.choice(((1, 0), (0, 1), (1, 0.4))))
        elif kind == "shake":
            views = _shake(dice, frames, margin)
        elif kind == "roll":
            views = _way(dice, frames, margin, (0, 1), forward=True)
        mouths: list[int | None] = [None] * frames
        if kind == "mouth" or (kind != "hold" and talks and dice.chance(0.3)):
            mouths = _mouths(dice, frames)
        far = {"pull": dice.uniform(0.2, 0.6), "slide": 0.0}.get(kind, 1.0)
        return cls(kind, margin, far, views, mouths, kind == "roll")


def _way(dice: Dice, frames: int, margin: int, along: tuple[float, float], forward: bool = False) -> np.ndarray:
    """A steady move within 0..margin, sometimes after a hold; in whole pixels, which keep lines sharp."""
    still = frames // 4 if dice.chance(0.3) else 0
    steps = np.maximum(np.arange(frames) - still, 0)
    furthest = max(1, int(steps[-1]))
    speed = min(dice.log(1.0, _FASTEST), margin / furthest)
    whole = speed * furthest
    sign = 1 if forward else dice.choice((-1, 1))
    start = dice.uniform(0, margin - whole) + (0 if sign > 0 else whole)
    moved = start + sign * speed * steps
    return np.rint(np.clip(moved[:, None] * np.array(along), 0, margin)).astype(int)


def _shake(dice: Dice, frames: int, margin: int) -> np.ndarray:
    """Jerks around the middle that die away, on ones or twos."""
    on, fade = dice.choice((1, 2)), dice.uniform(0.9, 1.0)
    views = np.empty((frames, 2), int)
    for i in range(frames):
        if i % on == 0:
            reach = margin / 2 * fade**i
            here = np.rint(margin / 2 + dice.spread(2, -reach, reach)).astype(int)
        views[i] = here
    return views


def _mouths(dice: Dice, frames: int) -> list[int | None]:
    """Another mouth every _ON frames."""
    mouths: list[int | None] = []
    last = 0
    while len(mouths) < frames:
        last = dice.choice([mouth for mouth in (0, 1, 2) if mouth != last])
        mouths += [last] * _ON
    return mouths[:frames]


def write_video(path: Path, frames: Iterable[np.ndarray]) -> None:
    """[H, W, 3] uint8 RGB frames -> a Matroska file: FFV1, 24 frames a second, 4:4:4 BT.709 of limited range."""
    import av

    with av.open(as_file(path), "w", format="matroska") as file:
        stream = file.add_stream("ffv1", rate=Fraction(24), options={"level": "3"})
        stream.pix_fmt, stream.thread_count = "yuv444p", 1
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(to_yuv444(pixels), format="yuv444p")
            frame.color_primaries = frame.color_trc = frame.colorspace = frame.color_range = 1
            frame.pts, frame.time_base = number, Fraction(1, 24)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def to_yuv444(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 RGB -> [3, H, W] uint8 Y, U, V: BT.709, limited range (ITU-R BT.709-6, 3.2 and 3.5)."""
    red, green, blue = np.moveaxis(pixels.astype(np.float32) / 255, 2, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748]
    return np.rint(np.stack(planes)).astype(np.uint8)
