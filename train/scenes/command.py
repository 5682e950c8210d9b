"""python -m train scenes: anime-like pictures drawn by program, without end.

They hold what a generator is to learn and stills have little of: crisp lines of every width from 1.5 to 14 pixels over
truly flat areas, cel shadows, hatching, text, screentone, and backgrounds out of focus that are to stay so. There is no
grain, and no softening of the whole picture but in a few of a hundred.

Picture n depends on seed, n and size alone, in whatever process, given the same Skia and fonts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cv2
import numpy as np

from train.data.crops import FLAT, Crop, choose_crops
from train.data.pack import CROP, encode_png
from train.scenes.brush import MISSING, Brush, skia
from train.scenes.style import Dice, Style

if TYPE_CHECKING:
    from train.scenes.motion import Motion
    from train.scenes.plans import Layer, Plan

SIZES = (64, 4096)  # pixels a side
_TRIES = 8  # scenes drawn for one that is not nearly flat
_WINDOW_SCENE = 768  # pixels a side of the scenes that a training's windows are cut from
_WINDOWS = 4  # pictures in a row that may share a scene


def scenes_usable() -> str | None:
    """Why no scene can be drawn here, one line with the cure; None: they can."""
    if MISSING is None:
        return None
    cure = "pip install 'skia-python>=138'; on Debian also apt install libgl1 libegl1 libfontconfig1"
    return f"drawn scenes need Skia, which cannot be loaded ({MISSING}): {cure}"


def draw_scene(seed: int, number: int, size: int = 1024) -> np.ndarray:
    """Picture `number` of the endless row `seed`: [size, size, 3] uint8 RGB, never nearly flat.

    ValueError for a size that is none; click.ClickException without Skia.
    """
    _check(number, size)
    return _first_worthy(f"{seed}/{number}", lambda words: _still(words, size))


def draw_frames(seed: int, number: int, size: int, frames: int) -> Iterator[np.ndarray]:
    """The same, moving: `frames` pictures [size, size, 3] uint8 RGB, in one kind of motion out of scene_motion.KINDS.

    Frames that show the same are the same bytes. ValueError and click.ClickException as above, at once.
    """
    _check(number, size)
    if frames < 1:
        raise ValueError(f"frames: got {frames}, expected 1 or more")
    return _draw_frames(seed, number, size, frames)


def motion_of(seed: int, number: int, size: int, frames: int) -> Motion:
    """How the frames of `draw_frames` move."""
    _check(number, size)
    return _moving(seed, number, size, frames)[1]


def draw_window(words: str, number: int) -> np.ndarray:
    """A piece with much to see of a scene, for training: [CROP, CROP, 3] uint8 RGB. Decided by both arguments alone,
    but _WINDOWS of them in a row may be cut from one scene."""
    windows = _windows(words, number // _WINDOWS)
    return windows[number % len(windows)]


def draw_moving_window(words: str, number: int, frames: int) -> list[np.ndarray]:
    """The same place of `frames` frames in a row of a scene that moves, [CROP, CROP, 3] uint8 RGB each.

    Frames that show the same are one array. Decided by the arguments alone.
    """
    windows = _moving_windows(words, number // _WINDOWS, frames)
    return windows[number % len(windows)]


@lru_cache(maxsize=2)
def _moving_windows(words: str, scene: int, frames: int) -> list[list[np.ndarray]]:
    _usable()
    drawn = list(_draw_frames(f"{words}/moving", scene, _WINDOW_SCENE, frames))
    crops = [crop for crop in choose_crops(drawn[-1], "many", 2 * _WINDOWS) if crop.reduced == 1]
    found = []
    for crop in crops or [Crop(1, 0, 0)]:
        row: list[np.ndarray] = []
        for pixels in drawn:
            window = crop.cut(pixels)
            row.append(row[-1] if row and np.array_equal(row[-1], window) else window.copy())
        found.append(row)
    return found


@lru_cache(maxsize=2)
def _windows(words: str, scene: int) -> list[np.ndarray]:
    _usable()
    pixels = _first_worthy(f"{words}/window/{scene}", lambda tried: _still(tried, _WINDOW_SCENE))
    crops = [crop for crop in choose_crops(pixels, "many", 2 * _WINDOWS) if crop.reduced == 1]
    return [crop.cut(pixels).copy() for crop in crops]


def _usable() -> None:
    if reason := scenes_usable():
        raise click.ClickException(reason)


def _check(number: int, size: int) -> None:
    _usable()
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"size: got {size}, expected {SIZES[0]} to {SIZES[1]} pixels")
    if number < 0:
        raise ValueError(f"number: got {number}, expected 0 or more")


def nearly_flat(pixels: np.ndarray) -> bool:
    """Whether `prepare` would leave the picture out; of one too small for it, by the same measure."""
    if min(pixels.shape[:2]) >= CROP:
        return not choose_crops(pixels, "many", 1)
    green = pixels[:, :, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean()) / 2 < FLAT


def _first_worthy(words: str, draw: Callable[[str], np.ndarray]) -> np.ndarray:
    """What is drawn with the first of some derived words that is not nearly flat."""
    for attempt in range(_TRIES):
        pixels = draw(f"{words}/{attempt}")
        if not nearly_flat(pixels):
            return pixels
    return _crossed(pixels, Dice(words, "crossed"))


def _crossed(pixels: np.ndarray, dice: Dice) -> np.ndarray:
    """The last resort: strokes across, until there is something to see."""
    size = pixels.shape[0]
    surface = _surface(size)
    canvas = surface.getCanvas()
    canvas.drawImage(_image(pixels), 0, 0)
    brush = Brush(canvas, dice, size, Style.draw(dice))
    while nearly_flat(pixels := _pixels(surface)):
        for _ in range(12):
            brush.line(dice.spread(8, 0, size).reshape(4, 2), dice.colour(), dice.uniform(0.6, 1.5))
    return pixels


# ---- putting layers together ----------------------------------------------------------------------------------------


def _surface(size: int) -> skia.Surface:
    # Blue first is what Skia is fast with.
    return skia.Surface.MakeRaster(skia.ImageInfo.Make(size, size, skia.kBGRA_8888_ColorType, skia.kPremul_AlphaType))


def _pixels(surface: skia.Surface) -> np.ndarray:
    """What an opaque surface shows, [size, size, 3] uint8 RGB."""
    return cv2.cvtColor(surface.makeImageSnapshot().toarray(colorType=skia.kBGRA_8888_ColorType), cv2.COLOR_BGRA2RGB)


def _image(pixels: np.ndarray) -> skia.Image:
    return skia.Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGRA), colorType=skia.kBGRA_8888_ColorType)


def _still(words: str, size: int) -> np.ndarray:
    from train.scenes.plans import Plan

    plan = Plan.draw(words)
    surface = _surface(size)
    for layer in plan.layers:
        _draw(surface, plan, layer, size)
    return _developed(surface, plan, size)


def _draw(surface: skia.Surface, plan: Plan, layer: Layer, size: int, mouth: int | None = None) -> None:
    """A layer over what is there already."""
    layer.draw(Brush(surface.getCanvas(), Dice(layer.words), size, plan.style), mouth)
    if layer.finish is not None:
        surface.getCanvas().drawImage(_image(layer.finish(_pixels(surface), Dice(layer.words, "finish"))), 0, 0)


def _developed(surface: skia.Surface, plan: Plan, size: int) -> np.ndarray:
    """The light on everything, and what the camera makes of it: [size, size, 3] uint8."""
    from train.scenes.plans import develop, grade

    grade(surface.getCanvas(), Dice(plan.words, "grade"), size)
    return develop(_pixels(surface), Dice(plan.words, "develop"))


def _moving(seed: int | str, number: int, size: int, frames: int) -> tuple[Plan, Motion]:
    """The first plan whose first frame is not nearly flat; the last one tried, if all are."""
    from train.scenes.motion import Motion
    from train.scenes.plans import Plan

    for attempt in range(_TRIES):
        words = f"{seed}/{number}/{attempt}"
        plan = Plan.draw(words)
        motion = Motion.draw(Dice(words, "motion"), frames, size, plan.talks, plan.rolls)
        if not nearly_flat(next(_frames(plan, motion, size))):
            break
    return plan, motion


def _draw_frames(seed: int | str, number: int, size: int, frames: int) -> Iterator[np.ndarray]:
    yield from _frames(*_moving(seed, number, size, frames), size)


def _frames(plan: Plan, motion: Motion, size: int) -> Iterator[np.ndarray]:
    drawn: dict[tuple[int, int | None], Any] = {}
    last: tuple[Any, np.ndarray] | None = None
    for (x, y), mouth in zip(motion.views.tolist(), motion.mouths):
        state = (x, y, mouth)
        if last is None or last[0] != state:
            surface = _surface(size)
            for index, layer in enumerate(plan.layers):
                key = (index, mouth if layer.place == "near" else None)
                fixed = (layer.place == "text") != motion.rolls
                if key not in drawn:
                    side = size + (0 if fixed else motion.margin)
                    own = _surface(side)
                    _draw(own, plan, layer, size if layer.place == "text" else side, mouth)
                    drawn[key] = own.makeImageSnapshot()
                share = 0.0 if fixed else motion.far if layer.place == "far" else 1.0
                surface.getCanvas().drawImage(drawn[key], -round(share * x), -round(share * y))
            last = state, _developed(surface, plan, size)
        yield last[1].copy()


# ---- the command ----------------------------------------------------------------------------------------------------


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--count", default=16, show_default=True, type=click.IntRange(1), help="Scenes to draw.")
@click.option("--first", default=0, show_default=True, type=click.IntRange(0), help="Number of the first one.")
@click.option("--size", default=1024, show_default=True, type=click.IntRange(*SIZES), help="Side, pixels.")
@click.option("--seed", default=0, show_default=True, type=int, help="Another seed, other scenes.")
@click.option(
    "--frames",
    type=click.IntRange(1),
    metavar="K",
    help="Make videos of K frames (24 a second, FFV1, BT.709) in which the scenes move.",
)
@click.option("--worn", is_flag=True, help="Beside each, what wear leaves of it at a quarter of the size.")
def scenes(out: Path, count: int, first: int, size: int, seed: int, frames: int | None, worn: bool) -> None:
    """Draw anime-like scenes into the folder OUT, as pictures or short videos.

    Figures, rooms, skies, cities, forests, machines, text and abstract shapes, with lines of 1.5 to 14 pixels whatever
    the size. Scene n is decided by seed, n and size. Files are called scene-SEED-NUMBER.png or .mkv; with --worn
    scene-SEED-NUMBER_highres and scene-SEED-NUMBER_worn, which is what `python -m benchmarks quality --clips` takes.
    """
    if worn and size % 8:
        raise click.UsageError(f"--worn: got --size {size}, expected a multiple of 8")
    _usable()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            moving = frames is not None
            drawn = list(draw_frames(seed, number, size, frames)) if frames else [draw_scene(seed, number, size)]
            name = f"scene-{seed}-{number:05d}"
            _write(out / (f"{name}_highres" if worn else name), drawn, moving)
            if worn:
                _write(out / f"{name}_worn", _worn(drawn, seed, number), moving)
    except OSError as error:
        raise click.ClickException(f"{error.filename or out}: {error.strerror or error}") from None
    click.echo(f"{out}: {count} scenes, {size}x{size}" + (f", {frames} frames each" if frames else ""))


def _write(name: Path, drawn: list[np.ndarray], moves: bool) -> None:
    if not moves:
        name.with_name(f"{name.name}.png").write_bytes(encode_png(drawn[0]))
        return
    from train.scenes.motion import write_video

    write_video(name.with_name(f"{name.name}.mkv"), drawn)


def _worn(drawn: list[np.ndarray], seed: int, number: int) -> list[np.ndarray]:
    """What a worn source shows of the frames, a quarter of the size."""
    from train.degrade.recipe import draw_worn, wear_frames

    rng = np.random.default_rng([seed, number])
    return wear_frames(draw_worn(rng), drawn, rng)
