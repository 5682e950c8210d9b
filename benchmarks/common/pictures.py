"""Something to enlarge: moving pictures of any size, drawn like anime, as frames and (where PyAV is) as a clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import util
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidsr.errors import SourceError
from vidsr.files import as_file
from vidsr.frames import ColorSpec, Frame, PixelFormat, StreamInfo

DEMO = Path(__file__).parents[2] / "demo" / "episode.mkv"
DEMO_SIZE = (480, 270)
YUV420 = PixelFormat("yuv", 8, (1, 1))
BT601 = ColorSpec("bt601", matrix_code=6, primaries=6, transfer=6)  # what OpenCV converts by
RATE = 24
HELD = 24  # frames of a clip kept in memory
LONGEST = 480  # frames of a clip that are used


def no_av() -> str | None:
    """Why nothing is decoded or encoded here, or None."""
    return None if util.find_spec("av") else "PyAV is not installed: pip install av"


@dataclass(frozen=True)
class Source:
    """What is enlarged. frames: some in host memory.

    path: the clip they are of, None without PyAV. times: pts of its frames, of a long clip's first LONGEST and one more.
    """

    name: str
    width: int
    height: int
    frames: tuple[Frame, ...]
    format: PixelFormat
    color: ColorSpec
    path: Path | None = None
    times: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """How many frames of the clip are used."""
        return min(len(self.times), LONGEST)

    def end(self, length: int) -> int | None:
        """The pts before which lie the first `length` frames; None when there are no more."""
        return self.times[length] if length < len(self.times) else None

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


def drawn(width: int, height: int, length: int, folder: Path | None) -> Source:
    """Drawn pictures of that (even) size; a clip of `length` of them in `folder`, where PyAV is."""
    scene = Scene(width, height)
    frames = tuple(scene.frame(i) for i in range(min(HELD, length)))
    if folder is None or no_av():
        return Source("drawn pictures", width, height, frames, YUV420, BT601)
    path = folder / f"drawn-{width}x{height}-{length}.mkv"
    if not path.exists():
        write_clip(path, scene, length)
    return read(path, "drawn clip")


def demo_or_drawn(width: int, height: int, length: int, folder: Path) -> Source:
    """The bundled clip where it has that size and is long enough, or drawn pictures."""
    if (width, height) == DEMO_SIZE and DEMO.exists() and not no_av():
        source = read(DEMO)
        if source.length >= length:
            return source
    return drawn(width, height, length, folder)


def demo_over_and_over(length: int, folder: Path) -> Source:
    """A clip of `length` frames: the bundled one forwards and back until it is that long, encoded again; drawn pictures
    where that is not there."""
    if not DEMO.exists() or no_av():
        return drawn(*DEMO_SIZE, length, folder)
    video, found = decoded(DEMO)
    frames = list(found)
    pictures = (as_video_frame(frame.planes, video.format, i) for i, frame in enumerate(islice(cycle([*frames, *frames[-2:0:-1]]), length)))
    path = folder / f"demo-{length}.mkv"
    color = video.color
    tags = (color.matrix_code, color.primaries, color.transfer, 2 if color.full_range else 1)
    encode(path, pictures, {"preset": "veryfast", "crf": "16", "g": "240"}, tags=tags)
    return read(path, "the bundled clip to and fro")


def read(path: Path, name: str = "") -> Source:
    """The clip in `path`. SourceError for a file that cannot be read or holds no picture."""
    video, found = decoded(path)
    frames: list[Frame] = []
    times: list[int] = []
    for frame in islice(found, LONGEST + 1):
        times.append(frame.pts)
        if len(frames) < HELD:
            frames.append(Frame(tuple(plane.copy() for plane in frame.planes), frame.pts, frame.duration))
    if not frames:
        raise SourceError(f"{path}: no frame of it decodes")
    size = video.width, video.height
    return Source(name or path.name, *size, tuple(frames), video.format, video.color, path, tuple(sorted(times)))


class Scene:
    """Flat shapes with dark outlines, a shaded sky and grain; the view pans, and a face moves against it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.unit = unit = height / 100
        self.reach = max(4, int(60 * unit))  # how far the view can pan
        chance = np.random.default_rng(0)
        rows = np.linspace(0, 1, height)[:, None, None]
        sky = (1 - rows) * np.array([220, 150, 90]) + rows * np.array([200, 210, 250])
        canvas = np.broadcast_to(sky, (height, width + self.reach, 3)).astype(np.uint8).copy()
        for _ in range(40):
            x, y = int(chance.integers(0, canvas.shape[1])), int(chance.integers(height // 3, height))
            size = tuple(int(v) for v in chance.integers(3, 22, 2) * unit + 1)
            color = tuple(int(v) for v in chance.integers(40, 240, 3))
            angle = float(chance.integers(0, 180))
            cv2.ellipse(canvas, (x, y), size, angle, 0, 360, color, -1, cv2.LINE_AA)
            cv2.ellipse(canvas, (x, y), size, angle, 0, 360, (30, 20, 25), max(1, round(unit * 0.6)), cv2.LINE_AA)
        for x in range(0, canvas.shape[1], max(2, round(5 * unit))):
            cv2.line(canvas, (x, height), (x + round(3 * unit), round(height - 9 * unit)), (40, 90, 40), 1, cv2.LINE_AA)
        grain = chance.normal(0, 2.5, canvas.shape[:2])[..., None]
        self.canvas = np.clip(canvas + grain, 0, 255).astype(np.uint8)

    def picture(self, number: int) -> np.ndarray:
        """[height, width, 3] uint8, BGR."""
        x = abs((2 * number) % (2 * self.reach) - self.reach)
        view = np.ascontiguousarray(self.canvas[:, x : x + self.width])
        unit, line = self.unit, max(1, round(self.unit * 0.8))
        angle = number * 0.12
        middle = (int(self.width * (0.5 + 0.3 * np.sin(angle))), int(self.height * (0.45 + 0.08 * np.cos(2 * angle))))
        cv2.circle(view, middle, int(18 * unit), (180, 205, 250), -1, cv2.LINE_AA)
        cv2.circle(view, middle, int(18 * unit), (20, 20, 30), line, cv2.LINE_AA)
        for side in (-1, 1):
            eye = (middle[0] + int(side * 7 * unit), middle[1])
            cv2.ellipse(view, eye, (int(3 * unit), int(5 * unit)), 0, 0, 360, (120, 60, 30), -1, cv2.LINE_AA)
            cv2.ellipse(view, eye, (int(3 * unit), int(5 * unit)), 0, 180, 360, (20, 20, 30), line, cv2.LINE_AA)
        return view

    def frame(self, number: int) -> Frame:
        """The picture as planes of YUV420 in BT601; pts in 1/RATE s."""
        rows = cv2.cvtColor(self.picture(number), cv2.COLOR_BGR2YUV_I420)
        shapes = YUV420.plane_shapes(self.width, self.height)
        planes, at = [], 0
        flat = rows.reshape(-1)
        for shape in shapes:
            planes.append(flat[at : at + shape[0] * shape[1]].reshape(shape).copy())
            at += shape[0] * shape[1]
        return Frame(tuple(planes), number, 1)


def decoded(path: Path) -> tuple[StreamInfo, Iterator[Frame]]:
    """What is known of the video in `path`, and its frames. SourceError for a file that cannot be read."""
    from vidsr.report import Report
    from vidsr.source.decode import decode
    from vidsr.source.probe import probe

    video = probe(path).video
    return video, decode(path, video, None, None, None, Report())


def samples(plane: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """A plane of a frame of PyAV's, as a view: as many rows as it has, and columns beyond its width."""
    return np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)


def as_video_frame(planes: Sequence[np.ndarray], format: PixelFormat = YUV420, number: int = 0) -> Any:
    """`planes` as a frame of PyAV's, the one of that number of RATE a second."""
    import av

    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], format.name)
    for plane, values in zip(frame.planes, planes):
        samples(plane, format.dtype)[:, : values.shape[1]] = values
    frame.pts, frame.time_base = number, Fraction(1, RATE)
    return frame


def write_clip(path: Path, scene: Scene, length: int) -> None:
    """`length` pictures of `scene` by x264 into `path`."""
    pictures = (as_video_frame(scene.frame(i).planes, number=i) for i in range(length))
    encode(path, pictures, {"preset": "veryfast", "crf": "20", "g": "240"})


def encode(
    path: Path, pictures: Iterable[Any], options: dict[str, str], encoder: str = "libx264", tags: Sequence[int] = (6, 6, 6, 1),
    rate: Fraction = Fraction(RATE), threads: int = 0,
) -> None:  # fmt: skip
    """Frames of PyAV's, all of one size and layout, into `path`. tags: colorspace, primaries, transfer, range."""
    import av

    with av.open(as_file(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=rate, options=options)
        context = stream.codec_context
        context.thread_count = threads or context.thread_count
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = tags
        for i, picture in enumerate(pictures):
            if not i:
                context.width, context.height, context.pix_fmt = picture.width, picture.height, picture.format.name
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
