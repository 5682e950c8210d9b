"""From a high-resolution picture to the low-resolution one a generator is shown, a quarter of the size or half of it.

`none`: bicubic ÷4 (or ÷2) with antialiasing. `video`: what an episode went through, in the order it happens: the
master is softened and resized, scaled to the size it is stored at, loses gradients, is sharpened and badly
deinterlaced, gets noise; its colour slips; then it is stored as 8-bit 4:2:0 video by real encoders, once or twice, as
one frame or as one of a few in a hold, a slow pan or a scene that moves, and comes back as a player shows it. Lengths
are in lowres pixels.

draw() makes a Recipe of plain numbers, apply() does what it says. Of all pairs 4 % are plain, 36 % good sources
(draw_good) and 60 % worn ones (draw_worn). Odds of the elements, in good sources, in worn ones, and in all:

| element | good | worn | all | strength in worn sources (in good ones) | after |
|---|---|---|---|---|---|
| nothing: plain bicubic RGB | 17 % | | 10 % | | the paper |
| 4:2:0 without an encoder | 9 % | 5 % | 6 % | | a very good source |
| an encoder | 74 % | 95 % | 84 % | see codec.draw_compression | APISR's prediction-oriented compression |
| two encoders | 8 % | 60 % | 39 % | the first MPEG-2, MPEG-4 or H.264 (MPEG-2) | a DVD, a rip of it, a copy of that |
| the first at another size | | 21 % | 13 % | 0.7 to 1.4 times lowres | |
| blur | 20 % | 92 % | 62 % | Gaussian, sigma 0.3..1.4, mostly 0.5..1.1 (0.2..0.7), 3 in 10 anisotropic | Real-ESRGAN |
| resize chain | 19 % | 45 % | 34 % | one or two sizes, 0.5..1.7 times lowres (0.75..2) | Real-ESRGAN |
| ringing | 17 % | 50 % | 36 % | unsharp mask up to 2 (0.8), half of it along rows only; or sinc | Real-ESRGAN |
| noise | 19 % | 40 % | 31 % | sigma 1..8 of 255 (1..6); some as grain, some in the dark | Real-ESRGAN |
| gradients in steps | | 12 % | 7 % | 6 or 7 bits | |
| lost or woven fields | | 8 % | 5 % | a third to all of every second row | |
| colour beside its lines | | 35 % | 21 % | shifted by up to 2 pixels, bled along rows | |
| dot crawl | | 6 % | 4 % | 10 to 50 % of the colour step | |

Weights trained on bicubic pairs sharpen compression; weights trained on mild wear alone keep the dirt and the beads of
real episodes; weights trained on wear alone lose the detail of good sources. Hence three kinds. The target is always
the clean picture. Real-ESRGAN is Wang et al., ICCVW 2021; its sinc is circular, here it is separable, as video scalers
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from train.degrade.codec import (
    SMALLEST,
    Compression,
    Planes,
    compress,
    draw_compression,
    to_rgb,
    to_yuv420,
    usable_codecs,
)
from train.degrade.filters import FILTERS, gaussian, resize
from train.degrade.wear import (
    Chroma,
    DotCrawl,
    Noise,
    Ringing,
    add_noise,
    band,
    crawl,
    lose_fields,
    move_chroma,
    ring,
    weave,
)

SCALE = 4
MAX_FRAMES = 3
MAX_PAN = 6  # highres pixels a frame
MARGIN = 16  # highres pixels around the crop, for pans: at least MAX_PAN * (MAX_FRAMES - 1)


def downscale(highres: Tensor, scale: int = SCALE) -> Tensor:
    """[N, 3, sH, sW] float, 0..1 -> [N, 3, H, W] float, 0..1: bicubic with antialiasing, as PIL's (before rounding)."""
    height, width = highres.shape[2:]
    # PIL filters the rows, cuts the overshoot to what 8 bits hold, then filters the columns.
    rows = F.interpolate(highres, size=(height, width // scale), mode="bicubic", antialias=True).clamp(0, 1)
    size = (height // scale, width // scale)
    return F.interpolate(rows, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def upscale_bicubic(lowres: Tensor, scale: int = SCALE) -> Tensor:
    """[N, 3, H, W] float, 0..1 -> [N, 3, sH, sW] float, 0..1: what every generator has to beat."""
    # antialias=True picks PIL's kernel (a = -0.5); without it torch uses a = -0.75, which overshoots more.
    return F.interpolate(lowres, scale_factor=scale, mode="bicubic", antialias=True).clamp(0, 1)


@dataclass(frozen=True)
class Recipe:
    """One degradation, in the order it is applied; the default is plain bicubic.

    blur: sigma (vertical, horizontal) in lowres pixels. chain: sizes that the picture passes through, each (size
    relative to lowres, one of FILTERS). filter: how it gets to the size it is stored at, which is `stored` times lowres
    while the first encoder works (even sides of lowres only). bits: of its gradients. fields: share of every second row
    that is lost; in a pan with several frames it is the next frame's. first_field: 0 or 1. chroma: how 4:2:0 chroma is
    upsampled again (bilinear, bicubic); "" = stays RGB, never compressed. colour, dots: see wear. encodes: one
    after the other. frames: how many are encoded, 1..MAX_FRAMES. pick: which one is the pair's. pan: (dy, dx) highres
    pixels a frame, each within MAX_PAN.
    """

    blur: tuple[float, float] = (0.0, 0.0)
    chain: tuple[tuple[float, str], ...] = ()
    filter: str = "bicubic"
    stored: float = 1.0
    bits: int = 8
    ringing: Ringing | None = None
    fields: float = 0.0
    first_field: int = 0
    noise: Noise | None = None
    chroma: str = ""
    colour: Chroma | None = None
    dots: DotCrawl | None = None
    encodes: tuple[Compression, ...] = ()
    frames: int = 1
    pick: int = 0
    pan: tuple[int, int] = (0, 0)


def draw(rng: np.random.Generator) -> Recipe:
    """A random recipe, with the odds above. Raises what codec.usable_codecs() raises."""
    kind = rng.random()
    if kind < 0.04:
        return Recipe()
    return draw_good(rng) if kind < 0.40 else draw_worn(rng)


def draw_good(rng: np.random.Generator) -> Recipe:
    """What a good source went through, with the odds of the second column; judges call such pictures "compressed"."""
    if rng.random() < 0.17:
        return Recipe()
    stored = Recipe(
        blur=_draw_blur(rng, 0.2, 0.7) if rng.random() < 0.24 else (0.0, 0.0),
        chain=_draw_chain(rng, -0.4, 1.0) if rng.random() < 0.23 else (),
        filter=FILTERS[int(rng.choice(4, p=[0.7, 0.1, 0.1, 0.1]))],
        ringing=_draw_ringing(rng, 0.8, 1.2, rows=0.5) if rng.random() < 0.20 else None,
        noise=_draw_noise(rng, 6) if rng.random() < 0.23 else None,
        chroma=("bilinear", "bicubic")[int(rng.integers(2))],
    )
    if rng.random() < 0.11:
        return stored
    encodes = [draw_compression(rng)]
    if encodes[0].codec.startswith("libx") and rng.random() < 0.15 and "mpeg2video" in usable_codecs():
        encodes.insert(0, Compression("mpeg2video", int(rng.integers(2, 6))))
    return _in_motion(replace(stored, encodes=tuple(encodes)), rng)


def draw_worn(rng: np.random.Generator) -> Recipe:
    """What an old episode went through, with the odds of the third column."""
    fields = float(rng.uniform(0.33, 1)) if rng.random() < 0.08 else 0.0
    recipe = Recipe(
        blur=_draw_soft(rng) if rng.random() < 0.92 else (0.0, 0.0),
        chain=_draw_chain(rng, -1.0, 0.77) if rng.random() < 0.45 else (),
        filter=FILTERS[int(rng.choice(4, p=[0.4, 0.25, 0.2, 0.15]))],
        bits=int(rng.integers(6, 8)) if rng.random() < 0.12 else 8,
        ringing=_draw_ringing(rng, 2.0, 1.8, rows=0.5) if rng.random() < 0.50 else None,
        fields=fields,
        first_field=int(rng.integers(2)),
        noise=_draw_noise(rng, 8, dark=0.2) if rng.random() < 0.40 else None,
        chroma=("bilinear", "bicubic")[int(rng.integers(2))],
        colour=_draw_colour(rng) if rng.random() < 0.35 else None,
        dots=DotCrawl(float(rng.uniform(0.1, 0.5)), float(rng.random())) if rng.random() < 0.06 else None,
    )
    if rng.random() < 0.05:
        return recipe
    encodes = [draw_compression(rng, hard=True)]
    if rng.random() < 0.63:
        encodes.insert(0, draw_compression(rng, hard=True, first=True))
        if rng.random() < 0.35:
            recipe = replace(recipe, stored=float(2 ** rng.uniform(-0.5, 0.5)))
    return _in_motion(replace(recipe, encodes=tuple(encodes)), rng)


def _in_motion(recipe: Recipe, rng: np.random.Generator) -> Recipe:
    """The recipe with the frames around it that an encoder sees."""
    frames = int(rng.integers(1, MAX_FRAMES + 1))
    # Anime holds still most of the time; a hold shows what the encoder's later frames add to the first.
    down, right = (int(step) for step in rng.integers(-MAX_PAN, MAX_PAN + 1, 2))
    pan = (0, 0) if rng.random() < 0.4 else (down, right)
    return replace(recipe, frames=frames, pick=int(rng.integers(frames)), pan=pan)


def _draw_blur(rng: np.random.Generator, least: float, most: float) -> tuple[float, float]:
    vertical, horizontal = (float(sigma) for sigma in rng.uniform(least, most, 2))
    return (vertical, horizontal) if rng.random() < 0.3 else (horizontal, horizontal)


def _draw_soft(rng: np.random.Generator) -> tuple[float, float]:
    """Sigma 0.3..1.4, mostly 0.5..1.1; where the directions differ there is less of it down, as on tape."""
    across, less = float(0.3 + 1.1 * rng.beta(1.6, 2.2)), float(rng.uniform(0.4, 1))
    return (across * less, across) if rng.random() < 0.3 else (across, across)


def _draw_chain(rng: np.random.Generator, least: float, most: float) -> tuple[tuple[float, str], ...]:
    """least, most: binary logarithms of the sizes."""
    steps = 1 if rng.random() < 0.7 else 2
    return tuple((float(2 ** rng.uniform(least, most)), FILTERS[int(rng.integers(4))]) for _ in range(steps))


def _draw_ringing(rng: np.random.Generator, most: float, widest: float, rows: float) -> Ringing:
    """most: the largest amount. widest: the largest sigma. rows: how often it runs along rows only, as on DVDs."""
    if rng.random() < 0.35:
        return Ringing(cutoff=float(rng.uniform(0.65, 0.95)))
    sigma = float(rng.uniform(0.5, widest))
    return Ringing(float(rng.uniform(0.2, most)), (0.0 if rng.random() < rows else sigma, sigma))


def _draw_noise(rng: np.random.Generator, most: float, dark: float = 0.0) -> Noise:
    """most: the largest sigma. dark: how often it is in dark areas only, and then up to twice as strong."""
    sigma = float(np.exp(rng.uniform(0, np.log(most))))
    grain = float(rng.uniform(0.5, 1.0)) if rng.random() < 0.5 else 0.0
    noise = Noise(sigma, bool(rng.random() < 0.5), grain)
    if dark and rng.random() < dark:
        return replace(noise, sigma=2 * sigma, dark=True)
    return noise


def _draw_colour(rng: np.random.Generator) -> Chroma:
    down = float(rng.uniform(-1, 1)) if rng.random() < 0.3 else 0.0
    right = float(rng.uniform(-2, 2)) if rng.random() < 0.8 else 0.0
    return Chroma((down, right), float(rng.uniform(0.4, 2)) if rng.random() < 0.5 else 0.0)


def degrade(
    window: np.ndarray | Sequence[np.ndarray], margin: int, rng: np.random.Generator, scale: int = SCALE
) -> tuple[np.ndarray, np.ndarray]:
    """One pair of the `video` degradation; the state of rng decides every byte of it.

    window: [H, W, 3] uint8 RGB, or the frames of a scene that moves, of which the last is held. margin: pixels around
    the crop that pans may show, 0 (no pans) or >= MARGIN. H and W less two margins are multiples of `scale`. Returns
    the clean crop [H-2m, W-2m, 3] and its degraded lowres [(H-2m)/scale, (W-2m)/scale, 3], both uint8 RGB. Raises
    ValueError for other sizes, click.ClickException without encoders.
    """
    return apply(draw(rng), window, margin, rng, scale)


def apply(
    recipe: Recipe, window: np.ndarray | Sequence[np.ndarray], margin: int, rng: np.random.Generator, scale: int = SCALE
) -> tuple[np.ndarray, np.ndarray]:
    """What degrade() returns, by this recipe; rng makes the noise."""
    windows = [window] if isinstance(window, np.ndarray) else list(window)
    height, width = (side - 2 * margin for side in windows[0].shape[:2])
    if margin and margin < MARGIN:
        raise ValueError(f"margin {margin}: pans need 0 (none) or at least {MARGIN} pixels")
    if min(height, width) < scale or height % scale or width % scale:
        raise ValueError(f"a crop of {width}x{height}: both sides must be multiples of {scale}; cut the picture so")
    down, right = recipe.pan if margin else (0, 0)
    crops: list[np.ndarray] = []
    for index in range(recipe.frames):
        shown, before = (windows[min(max(0, i), len(windows) - 1)] for i in (index, index - 1))
        top, left = margin + index * down, margin + index * right
        still = index > 0 and (down, right) == (0, 0) and shown is before
        crops.append(crops[-1] if still else shown[top : top + height, left : left + width])
    return crops[recipe.pick], wear_frames(recipe, crops, rng, scale, [recipe.pick])[0]


def wear_frames(
    recipe: Recipe, frames: Sequence[np.ndarray], rng: np.random.Generator, scale: int = SCALE,
    wanted: Sequence[int] | None = None,
) -> list[np.ndarray]:  # fmt: skip
    """Lowres [H/scale, W/scale, 3] uint8 of the `wanted` ones (None: all) of frames [H, W, 3] uint8 stored together.

    Sides are multiples of `scale`. What holds is one array, which is scaled down once. The recipe's own number of
    frames, pick and pan do not count here.
    """
    size = (frames[0].shape[0] // scale, frames[0].shape[1] // scale)
    pictures: list[np.ndarray] = []
    for index, frame in enumerate(frames):
        still = index > 0 and frame is frames[index - 1]
        pictures.append(pictures[-1] if still else _scale(frame, recipe, size, scale))
    noisy = [add_noise(picture, recipe.noise, rng) for picture in _interlace(pictures, recipe)]
    chosen = range(len(frames)) if wanted is None else wanted
    if not recipe.chroma:
        return [noisy[index] for index in chosen]
    planes = _stored(noisy, recipe, size)
    return [_shown(planes[index], recipe.chroma, size) for index in chosen]


def _scale(crop: np.ndarray, recipe: Recipe, size: tuple[int, int], scale: int) -> np.ndarray:
    """The softened crop, over the sizes of the chain to what is stored; 8 bits all the way, as masters are."""
    vertical, horizontal = (scale * sigma for sigma in recipe.blur)
    picture = gaussian(crop, vertical, horizontal)
    for relative, name in recipe.chain:
        picture = resize(picture, (max(1, round(size[0] * relative)), max(1, round(size[1] * relative))), name)
    picture = resize(picture, _stored_size(recipe, size), recipe.filter)
    return ring(band(picture, recipe.bits), recipe.ringing)


def _stored_size(recipe: Recipe, size: tuple[int, int]) -> tuple[int, int]:
    """The size that the first encoder sees; that of lowres itself where it would have to be padded."""
    if recipe.stored == 1 or not recipe.encodes or size[0] % 2 or size[1] % 2 or min(size) < SMALLEST:
        return size
    height, width = (max(SMALLEST, 2 * round(side * recipe.stored / 2)) for side in size)
    return height, width


def _interlace(pictures: list[np.ndarray], recipe: Recipe) -> list[np.ndarray]:
    if not recipe.fields:
        return pictures
    done = [lose_fields(picture, recipe.fields, recipe.first_field) for picture in pictures]
    for index in range(len(pictures) - 1):
        if pictures[index + 1] is not pictures[index]:
            done[index] = weave(pictures[index], pictures[index + 1], recipe.fields, recipe.first_field)
    return done


def _stored(frames: list[np.ndarray], recipe: Recipe, size: tuple[int, int]) -> list[Planes]:
    """Frames [h, w, 3] uint8 RGB -> 4:2:0, encoded, decoded; padded where `size` is odd or too small for encoders."""
    height, width = frames[0].shape[:2]
    more = [max(SMALLEST, side + side % 2) - side for side in (height, width)]
    padding = ((0, more[0]), (0, more[1]), (0, 0))
    distinct = {id(frame): np.pad(frame, padding, mode="edge") for frame in frames}  # in a hold they are all the same
    stored = {key: to_yuv420(torch.from_numpy(frame).permute(2, 0, 1).float() / 255) for key, frame in distinct.items()}
    moved = {key: move_chroma(planes, recipe.colour) for key, planes in stored.items()}
    planes = [crawl(moved[id(frame)], recipe.dots, index) for index, frame in enumerate(frames)]
    for number, how in enumerate(recipe.encodes):
        planes = compress(planes, how)
        if number == 0 and (height, width) != size:
            planes = [_resized(part, size) for part in planes]
    return planes


def _shown(planes: Planes, chroma: str, size: tuple[int, int]) -> np.ndarray:
    """As a player shows it, [*size, 3] uint8 RGB."""
    rgb = (to_rgb(planes, chroma) * 255).round().byte()
    return rgb.permute(1, 2, 0)[: size[0], : size[1]].contiguous().numpy()


def _resized(planes: Planes, size: tuple[int, int]) -> Planes:
    """4:2:0 planes at another even size. Chroma moves by less than a quarter of a sample, as with most scalers."""
    how = cv2.INTER_AREA if size[0] < planes[0].shape[0] else cv2.INTER_CUBIC
    sizes = (size, (size[0] // 2, size[1] // 2), (size[0] // 2, size[1] // 2))
    luma, blue, red = (cv2.resize(plane, to[::-1], interpolation=how) for plane, to in zip(planes, sizes))
    return luma, blue, red
