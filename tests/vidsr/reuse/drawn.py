"""Drawn scenes whose motion is known, and noise as sources have it: the truth about what reuse is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import cv2
import numpy as np

from vidsr.frames import Frame, PixelFormat

WIDTH, HEIGHT = 192, 128
YUV = PixelFormat.from_name("yuv420p")

Picture = list[np.ndarray]  # float32 planes, levels of 255, not rounded


def ground(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> np.ndarray:
    """Soft areas with a few hard edges, 60 to 190."""
    random = np.random.default_rng(seed)
    soft = cv2.GaussianBlur(random.random((height, width)).astype(np.float32), (0, 0), 6)
    luma = 125 + 60 * (soft - soft.mean()) / (np.abs(soft - soft.mean()).max() + 1e-6)
    cv2.rectangle(luma, (width // 8, height // 6), (width // 3, height // 2), 175.0, -1)
    cv2.circle(luma, (width * 2 // 3, height * 2 // 3), height // 5, 80.0, -1, cv2.LINE_AA)
    return luma.astype(np.float32)


def coloured(luma: np.ndarray, format: PixelFormat = YUV) -> Picture:
    """Other planes are made of the first one."""
    height, width = luma.shape
    planes = [luma.astype(np.float32)]
    for factor, (rows, columns) in zip((0.4, -0.3), format.plane_shapes(width, height)[1:]):
        planes.append(128 + factor * (cv2.resize(planes[0], (columns, rows), interpolation=cv2.INTER_AREA) - 128))
    return planes


# --- scenes: the luma of frame i -------------------------------------------------------------------------------------


def still(i: int) -> np.ndarray:
    return ground()


def line(contrast: float) -> Callable[[int], np.ndarray]:
    """One sample wide, upright, a quarter of a sample aside each frame."""

    def draw(i: int) -> np.ndarray:
        luma = ground()
        x, part = divmod(100 + i / 4, 1)
        luma[12:116, int(x)] += contrast * (1 - part)
        luma[12:116, int(x) + 1] += contrast * part
        return luma

    return draw


def mouth(i: int) -> np.ndarray:
    """On threes."""
    luma = ground()
    luma[20:64, 24:64] = 190
    tall = (1, 3, 2, 4)[i // 3 % 4]
    luma[50 : 50 + tall, 40:49] = 70
    return luma


def eye(i: int) -> np.ndarray:
    """Shut in frames 12 and 13."""
    luma = ground()
    luma[20:64, 24:64] = 190
    if i in (12, 13):
        luma[34:36, 40:50] = 70
    else:
        cv2.circle(luma, (45, 34), 4, 50.0, -1)
        luma[32, 46] = 230
    return luma


def sparkles(i: int) -> np.ndarray:
    """Three each frame, each for that frame alone."""
    luma, random = ground(), np.random.default_rng(100 + i)
    for _ in range(3):
        x, y = random.integers(0, WIDTH - 3), random.integers(0, HEIGHT - 3)
        luma[y : y + 3, x : x + 3] += 60
    return luma


def rain(i: int) -> np.ndarray:
    luma = ground()
    for k in range(12):
        x, y = (37 * k + 2 * i) % WIDTH, (53 * k + 14 * i) % (HEIGHT + 20) - 20
        cv2.line(luma, (x, y), (x + 2, y + 16), 220.0, 1)
    return luma


def warped(wide: np.ndarray, matrix: Sequence[Sequence[float]]) -> np.ndarray:
    options = {"flags": cv2.INTER_CUBIC, "borderMode": cv2.BORDER_REFLECT}
    return np.asarray(cv2.warpAffine(wide, np.float32(matrix), (WIDTH, HEIGHT), **options))


def detailed(width: int = WIDTH) -> np.ndarray:
    """With outlines all over, as drawings have them."""
    luma, random = ground(width), np.random.default_rng(7)
    for _ in range(width // 8):
        x, y, wide, tall, turned = map(int, random.integers((0, 0, 5, 5, 0), (width, HEIGHT, 30, 20, 180)))
        cv2.ellipse(luma, (x, y), (wide, tall), turned, 0, 300, 40.0, 1, cv2.LINE_AA)
    return luma


def zoom(i: int) -> np.ndarray:
    """By 0.2 % a frame."""
    factor = 1.002**i
    return warped(detailed(), [[factor, 0, (1 - factor) * WIDTH / 2], [0, factor, (1 - factor) * HEIGHT / 2]])


def pan(i: int) -> np.ndarray:
    """A quarter of a sample a frame."""
    return warped(detailed(2 * WIDTH), [[1, 0, -10 - i / 4], [0, 1, 0]])


def fade(step: float) -> Callable[[int], np.ndarray]:
    return lambda i: ground() * 0.7 + 10 + step * i


def dissolve(i: int) -> np.ndarray:
    """From frame 6 to 22."""
    part = np.clip((i - 6) / 16, 0, 1)
    return (1 - part) * ground() + part * ground(seed=5)[::-1, ::-1]


def combs(i: int) -> np.ndarray:
    """A ball whose fields are of two moments."""
    fields = []
    for moment in (2 * i, 2 * i + 1):
        luma = ground()
        cv2.circle(luma, (30 + 2 * moment, 60), 14, 220.0, -1, cv2.LINE_AA)
        fields.append(luma)
    fields[0][1::2] = fields[1][1::2]
    return fields[0]


# --- noise: of one plane ---------------------------------------------------------------------------------------------

Noise = Callable[[np.random.Generator, np.ndarray, int, int], np.ndarray]  # generator, plane, its index, frame


def white(sigma: float, colour: float = 0.5) -> Noise:
    """colour: times that in the planes of colour."""
    return lambda random, plane, which, i: random.normal(0, sigma * (colour if which else 1), plane.shape)


def blotchy(sigma: float) -> Noise:
    """As much, in spots of some samples, as after scaling up."""

    def make(random: np.random.Generator, plane: np.ndarray, which: int, i: int) -> np.ndarray:
        noise = cv2.GaussianBlur(random.normal(0, 1, plane.shape), (0, 0), 1.0)
        return noise / noise.std() * sigma * (0.5 if which else 1)

    return make


def by_brightness(sigma: float) -> Noise:
    """Three times as much in dark parts as in bright ones."""

    def make(random: np.random.Generator, plane: np.ndarray, which: int, i: int) -> np.ndarray:
        return random.normal(0, 1, plane.shape) * sigma * np.interp(plane, (60, 190), (1.5, 0.5))

    return make


def alternating(sigma: float) -> Noise:
    """As P and B frames have it."""
    return lambda random, plane, which, i: random.normal(0, sigma * (0.5, 1.5)[i % 2], plane.shape)


def quantised(step: float) -> Noise:
    """Each frame rounded by itself, from another start, so that levels jump to and fro."""

    def make(random: np.random.Generator, plane: np.ndarray, which: int, i: int) -> np.ndarray:
        start = random.random() * step
        return np.round((plane + start) / step) * step - start - plane

    return make


def none(random: np.random.Generator, plane: np.ndarray, which: int, i: int) -> np.ndarray:
    return np.zeros_like(plane)


def film(
    scene: Callable[[int], np.ndarray], noise: Noise = none, count: int = 30, format: PixelFormat = YUV, seed: int = 1
) -> tuple[list[Picture], list[Frame]]:
    """(the truth, what a source has of it)."""
    random = np.random.default_rng(seed)
    truth = [coloured(scene(i), format) for i in range(count)]
    frames = []
    for i, planes in enumerate(truth):
        loud = [plane + noise(random, plane, which, i) for which, plane in enumerate(planes)]
        frames.append(Frame(as_planes(loud, format), pts=40 * i, duration=40))
    return truth, frames


def as_planes(picture: Picture, format: PixelFormat = YUV) -> tuple[np.ndarray, ...]:
    unit = 2.0 ** (format.bits - 8)
    return tuple(np.clip(np.rint(plane * unit), 0, 256 * unit - 1).astype(format.dtype) for plane in picture)


def coded(frames: Sequence[Frame], codec: str, **options: str) -> list[Frame]:
    """Those frames (yuv420p) after a codec."""
    height, width = frames[0].planes[0].shape
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, 25), Fraction(25), 48
    encoder.options = {"threads": "1", **options}
    packets = []
    for i, frame in enumerate(frames):
        picture = av.VideoFrame(width, height, "yuv420p")
        for plane, values in zip(picture.planes, frame.planes):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            rows[: values.shape[0], : values.shape[1]] = values
        picture.pts = i
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create({"libx264": "h264"}.get(codec, codec), "r")
    decoder.thread_count = 1
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    pictures = [picture for packet in [*packets, None] for picture in decoder.decode(packet)]
    found = []
    for frame, picture in zip(frames, pictures, strict=True):
        planes = []
        for plane in picture.planes:
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            planes.append(rows[: plane.height, : plane.width].copy())
        found.append(Frame(tuple(planes), frame.pts, frame.duration))
    return found


# --- figures ---------------------------------------------------------------------------------------------------------


def by_tile(plane: np.ndarray, side: int = 16) -> np.ndarray:
    """[rows, columns]: the mean of each tile."""
    rows, columns = -(-plane.shape[0] // side), -(-plane.shape[1] // side)
    below, beside = rows * side - plane.shape[0], columns * side - plane.shape[1]
    whole = np.pad(plane, ((0, below), (0, beside)), "symmetric")
    return np.asarray(whole.reshape(rows, side, columns, side).mean((1, 3)))
