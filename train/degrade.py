"""From a high-resolution picture to the low-resolution one a generator is shown, a quarter of the size or half of it.

`none`: bicubic ÷4 (or ÷2) with antialiasing. `video`: what an episode went through, in the order it happens: the
master is softened and resized, scaled to the small size, sharpened, gets noise; then it is stored as 8-bit 4:2:0 video
by a real encoder, as one frame or as one of a few in a hold or a slow pan, and comes back as a player shows it.

draw() makes a Recipe of plain numbers, apply() does what it says. Odds, of all pairs:

| element | odds | strength | after |
|---|---|---|---|
| nothing: plain bicubic RGB | 17 % | | the paper |
| 4:2:0 without an encoder | 9 % | | a very good source |
| an encoder | 74 % | see codec.draw_compression | APISR's prediction-oriented compression |
| MPEG-2 before H.264 or H.265 | 8 % | quantiser scale 2..5 | a DVD that somebody re-encoded |
| blur | 20 % | Gaussian, sigma 0.2..0.7 lowres pixels, 3 in 10 anisotropic | Real-ESRGAN |
| resize chain | 19 % | over one or two sizes, 0.75..2 times lowres | Real-ESRGAN's second order |
| ringing | 17 % | overshoot of an unsharp mask (half: along rows only, as DVD masters have), or sinc | Real-ESRGAN |
| noise | 19 % | sigma 1..6 of 255, weak more often; half in luma only, half as grain | Real-ESRGAN |

Weights trained on bicubic pairs sharpen compression, so most pairs are compressed. The other elements are rarer and
milder than in Real-ESRGAN (Wang et al., ICCVW 2021), which restores photographs from the web: a quarter of all pairs is
compression alone, another fifth is plain or 4:2:0 alone, so that what is sharp stays sharp, flat areas stay clean and
lines stay thin. The target is always the clean picture. Real-ESRGAN's sinc is circular; here it is separable, as
video scalers are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from train.codec import SMALLEST, Compression, compress, draw_compression, to_rgb, to_yuv420, usable_codecs

SCALE = 4
MAX_FRAMES = 3
MAX_PAN = 6  # highres pixels a frame
MARGIN = 16  # highres pixels around the crop, for pans: at least MAX_PAN * (MAX_FRAMES - 1)
FILTERS = ("bicubic", "bilinear", "area", "lanczos")


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
class Ringing:
    """Overshoot at edges. Lengths in lowres pixels.

    Unsharp mask: amount times the difference to a Gaussian blur of sigma (vertical, horizontal; 0 = none).
    cutoff > 0 instead: an ideal low-pass (windowed sinc) at this share of the Nyquist frequency.
    """

    amount: float = 0.0
    sigma: tuple[float, float] = (0.0, 0.0)
    cutoff: float = 0.0


@dataclass(frozen=True)
class Noise:
    """Gaussian noise, new in every frame. sigma: of 255. luma: the same in R, G and B.

    grain: sigma in lowres pixels of the blur that correlates neighbours; 0 = white noise.
    """

    sigma: float
    luma: bool = False
    grain: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """One degradation, in the order it is applied; the default is plain bicubic.

    blur: sigma (vertical, horizontal) in lowres pixels. chain: sizes that the picture passes through, each (size
    relative to lowres, one of FILTERS). filter: how it gets to lowres. chroma: how 4:2:0 chroma is upsampled again
    (bilinear, bicubic); "" = stays RGB, never compressed. encodes: one after the other. frames: how many are encoded,
    1..MAX_FRAMES. pick: which one is the pair's. pan: (dy, dx) highres pixels a frame, each within MAX_PAN.
    """

    blur: tuple[float, float] = (0.0, 0.0)
    chain: tuple[tuple[float, str], ...] = ()
    filter: str = "bicubic"
    ringing: Ringing | None = None
    noise: Noise | None = None
    chroma: str = ""
    encodes: tuple[Compression, ...] = ()
    frames: int = 1
    pick: int = 0
    pan: tuple[int, int] = (0, 0)


def draw(rng: np.random.Generator) -> Recipe:
    """A random recipe, with the odds above. Raises what codec.usable_codecs() raises."""
    if rng.random() < 0.17:
        return Recipe()
    stored = Recipe(
        blur=_draw_blur(rng) if rng.random() < 0.24 else (0.0, 0.0),
        chain=_draw_chain(rng) if rng.random() < 0.23 else (),
        filter=FILTERS[int(rng.choice(4, p=[0.7, 0.1, 0.1, 0.1]))],
        ringing=_draw_ringing(rng) if rng.random() < 0.20 else None,
        noise=_draw_noise(rng) if rng.random() < 0.23 else None,
        chroma=("bilinear", "bicubic")[int(rng.integers(2))],
    )
    if rng.random() < 0.11:
        return stored
    encodes = [draw_compression(rng)]
    if encodes[0].codec.startswith("libx") and rng.random() < 0.15 and "mpeg2video" in usable_codecs():
        encodes.insert(0, Compression("mpeg2video", int(rng.integers(2, 6))))
    frames = int(rng.integers(1, MAX_FRAMES + 1))
    # Anime holds still most of the time; a hold shows what the encoder's later frames add to the first.
    down, right = (int(step) for step in rng.integers(-MAX_PAN, MAX_PAN + 1, 2))
    pan = (0, 0) if rng.random() < 0.4 else (down, right)
    return replace(stored, encodes=tuple(encodes), frames=frames, pick=int(rng.integers(frames)), pan=pan)


def _draw_blur(rng: np.random.Generator) -> tuple[float, float]:
    vertical, horizontal = (float(sigma) for sigma in rng.uniform(0.2, 0.7, 2))
    return (vertical, horizontal) if rng.random() < 0.3 else (horizontal, horizontal)


def _draw_chain(rng: np.random.Generator) -> tuple[tuple[float, str], ...]:
    steps = 1 if rng.random() < 0.7 else 2
    return tuple((float(2 ** rng.uniform(-0.4, 1)), FILTERS[int(rng.integers(4))]) for _ in range(steps))


def _draw_ringing(rng: np.random.Generator) -> Ringing:
    if rng.random() < 0.35:
        return Ringing(cutoff=float(rng.uniform(0.65, 0.95)))
    sigma = float(rng.uniform(0.5, 1.2))
    return Ringing(float(rng.uniform(0.2, 0.8)), (0.0 if rng.random() < 0.5 else sigma, sigma))


def _draw_noise(rng: np.random.Generator) -> Noise:
    sigma = float(np.exp(rng.uniform(0, np.log(6))))
    grain = float(rng.uniform(0.5, 1.0)) if rng.random() < 0.5 else 0.0
    return Noise(sigma, bool(rng.random() < 0.5), grain)


def degrade(
    window: np.ndarray, margin: int, rng: np.random.Generator, scale: int = SCALE
) -> tuple[np.ndarray, np.ndarray]:
    """One pair of the `video` degradation; the state of rng decides every byte of it.

    window: [H, W, 3] uint8 RGB. margin: pixels around the crop that pans may show, 0 (no pans) or >= MARGIN. H and W
    less two margins are multiples of `scale`. Returns the clean crop [H-2m, W-2m, 3] and its degraded lowres
    [(H-2m)/scale, (W-2m)/scale, 3], both uint8 RGB. Raises ValueError for other sizes, click.ClickException without
    encoders.
    """
    return apply(draw(rng), window, margin, rng, scale)


def apply(
    recipe: Recipe, window: np.ndarray, margin: int, rng: np.random.Generator, scale: int = SCALE
) -> tuple[np.ndarray, np.ndarray]:
    """What degrade() returns, by this recipe; rng makes the noise."""
    height, width = window.shape[0] - 2 * margin, window.shape[1] - 2 * margin
    if margin and margin < MARGIN:
        raise ValueError(f"margin {margin}: pans need 0 (none) or at least {MARGIN} pixels")
    if min(height, width) < scale or height % scale or width % scale:
        raise ValueError(f"a crop of {width}x{height}: both sides must be multiples of {scale}; cut the picture so")
    down, right = recipe.pan if margin else (0, 0)
    crops: list[np.ndarray] = []
    pictures: list[np.ndarray] = []
    for index in range(recipe.frames):
        top, left = margin + index * down, margin + index * right
        crops.append(window[top : top + height, left : left + width])
        still = index > 0 and (down, right) == (0, 0)
        picture = pictures[0] if still else _ring(_scale(crops[-1], recipe, scale), recipe.ringing)
        pictures.append(picture)
    frames = [_add_noise(picture, recipe.noise, rng) for picture in pictures]
    lowres = frames[recipe.pick] if not recipe.chroma else _store(frames, recipe)
    return crops[recipe.pick], lowres


def _store(frames: list[np.ndarray], recipe: Recipe) -> np.ndarray:
    """Frames [h, w, 3] uint8 RGB -> 4:2:0, encoded, decoded: the one that is picked, RGB again."""
    height, width = frames[0].shape[:2]
    more = [max(SMALLEST, side + side % 2) - side for side in (height, width)]
    padding = ((0, more[0]), (0, more[1]), (0, 0))
    distinct = {id(frame): np.pad(frame, padding, mode="edge") for frame in frames}  # in a hold they are all the same
    stored = {key: to_yuv420(torch.from_numpy(frame).permute(2, 0, 1).float() / 255) for key, frame in distinct.items()}
    planes = [stored[id(frame)] for frame in frames]
    for how in recipe.encodes:
        planes = compress(planes, how)
    rgb = (to_rgb(planes[recipe.pick], recipe.chroma) * 255).round().byte()
    return rgb.permute(1, 2, 0)[:height, :width].contiguous().numpy()


def _scale(crop: np.ndarray, recipe: Recipe, scale: int) -> np.ndarray:
    """The softened crop, over the sizes of the chain to lowres; 8 bits all the way, as masters are."""
    vertical, horizontal = (scale * sigma for sigma in recipe.blur)
    picture = _gaussian(crop, vertical, horizontal)
    height, width = crop.shape[0] // scale, crop.shape[1] // scale
    for size, name in recipe.chain:
        picture = resize(picture, (max(1, round(height * size)), max(1, round(width * size))), name)
    return resize(picture, (height, width), recipe.filter)


def _gaussian(picture: np.ndarray, vertical: float, horizontal: float) -> np.ndarray:
    """Gaussian blur with a sigma in pixels for each direction; 0 = none in that one."""
    if vertical == horizontal == 0:
        return picture
    # OpenCV takes sigma 0 for "as the other one", and a length of 1 for "none".
    length = [2 * int(np.ceil(3 * sigma)) + 1 for sigma in (horizontal, vertical)]
    sigmas = [max(sigma, 1e-3) for sigma in (horizontal, vertical)]
    return cv2.GaussianBlur(picture, length, sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REPLICATE)


def resize(picture: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """[H, W, 3] uint8 -> [*size, 3] uint8, antialiased, centres aligned. name: one of FILTERS; bicubic is PIL's."""
    if picture.shape[:2] == size:
        return picture
    if name == "area":
        return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    if name == "lanczos":
        rows, columns = _lanczos(picture.shape[0], size[0]), _lanczos(picture.shape[1], size[1])
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).float()
        halfway = (rows @ pixels.flatten(1)).round().clamp(0, 255).view(size[0], -1, 3)
        return (columns @ halfway).round().clamp(0, 255).byte().numpy()
    # On bytes torch computes in integers, several times faster than in float, and rounds between the axes as PIL does.
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
    scaled = F.interpolate(pixels, size=size, mode=name, antialias=True)
    return scaled[0].permute(1, 2, 0).contiguous().numpy()


@lru_cache(maxsize=128)
def _lanczos(source: int, target: int, lobes: int = 3) -> Tensor:
    """Weights [target, source] of antialiased Lanczos resampling, as PIL computes them, in multiples of 2^-14.

    So every product with a byte and every sum of them is exact in float32, whatever order a machine adds them in.
    """
    ratio = source / target
    centres = (torch.arange(target, dtype=torch.float64) + 0.5) * ratio - 0.5
    distance = (torch.arange(source, dtype=torch.float64) - centres[:, None]) / max(1.0, ratio)
    weights = torch.sinc(distance) * torch.sinc(distance / lobes) * (distance.abs() < lobes)
    return (weights / weights.sum(1, keepdim=True) * 2**14).round().float() / 2**14


def _ring(picture: np.ndarray, ringing: Ringing | None) -> np.ndarray:
    if ringing is None:
        return picture
    pixels = picture.astype(np.float32)
    if ringing.cutoff:
        taps = np.arange(-8, 9)
        kernel = np.sinc(ringing.cutoff * taps) * np.sinc(taps / 9)
        kernel /= kernel.sum()
        rung = cv2.sepFilter2D(pixels, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    else:
        rung = pixels + ringing.amount * (pixels - _gaussian(pixels, *ringing.sigma))
    return np.clip(np.rint(rung), 0, 255).astype(np.uint8)


def _add_noise(picture: np.ndarray, noise: Noise | None, rng: np.random.Generator) -> np.ndarray:
    if noise is None:
        return picture
    height, width = picture.shape[:2]
    field: np.ndarray = rng.standard_normal((height, width, 1 if noise.luma else 3), np.float32)
    if noise.grain:
        blurred = _gaussian(field, noise.grain, noise.grain).reshape(field.shape)
        # What is left of a variance of 1 is the sum of the squared weights, which is separable as the kernel is.
        weights = cv2.getGaussianKernel(2 * int(np.ceil(3 * noise.grain)) + 1, noise.grain)
        field = blurred / np.float32((weights**2).sum())
    return np.clip(np.rint(picture + noise.sigma * field), 0, 255).astype(np.uint8)
