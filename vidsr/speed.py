"""How fast this machine is: at a model, at all that stands around it, and how much of an episode has to be computed.

Seconds a frame are put together from three parts. A model's speed and that of what stands around it (decoding,
comparing, painting, encoding) belong to the machine and are kept (speed_cache.py); how much moves belongs to the
episode and is counted each time, in frames from several places, by the code of the run itself (reuse.py).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2

from vidsr.backends import open_backend
from vidsr.backends.base import Backend, BackendSpec, Immediate, Notify, Pending
from vidsr.batch import batches
from vidsr.decode import decode
from vidsr.encode import EncodeSettings, encode
from vidsr.errors import SourceError
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat, SourceInfo, StreamInfo, TimeRange
from vidsr.report import Report
from vidsr.reuse import CALL_PIXELS, reuse
from vidsr.stillness import Tolerance
from vidsr.upscale import upscale

WINDOW = 12  # frames that follow each other: a drawing stays for two or three
WINDOWS = 16  # places of an episode; scenes differ more from each other than the frames of one
READ_THROUGH = 360  # frames of a part that is not worth taking places of
SEGMENT = 300  # frames of a segment, about: its first one is computed whole
_FIRST_PIECE = (128, 32)  # of the first picture that a model is tried on, which may be very slow
_LEAST_ENCODED = 6  # frames, of which the first costs most
_RESULT_PIXELS = 1 << 21  # of pictures encoded to measure: larger ones take as long a pixel, but too long in all


@dataclass(frozen=True)
class Speed:
    """Source pixels a second of time, and a second of all cores' time together; both finite and above 0.

    given: seconds that the measurement was allowed. when: seconds since the epoch. context: of the backend, where a
    model was measured; None where that is unknown.
    """

    wall: float
    cpu: float
    given: float
    when: float
    context: int | None = 0

    @property
    def cores(self) -> float:
        """How many cores were kept busy on average."""
        return self.wall / self.cpu


# ---- how much has to be computed ------------------------------------------------------------------------------------


class Counting(Immediate):
    """In a model's place, for the size of each piece it would be given. `scale` 1: the source comes back.

    scale: of what comes back, enlarged as quickly as can be done with a picture still like one. seconds: what that
    took. context, patch: those of the backend it stands for.
    """

    description = "nothing is computed"

    def __init__(self, scale: int = 1, context: int | None = 0, patch: int = 0) -> None:
        self.scale, self.context, self.patch = scale, context, patch
        self.given: list[list[tuple[int, int]]] = []
        self.seconds = 0.0

    def __call__(self, batch: FrameBatch) -> FrameBatch:
        self.given.append([(batch.width, batch.height)] * len(batch))
        if self.scale == 1:
            return batch
        start = time.thread_time()
        frames = tuple(replace(frame, planes=tuple(map(self._enlarge, frame.planes))) for frame in batch.frames)
        self.seconds += time.thread_time() - start
        return replace(batch, frames=frames)

    def close(self) -> None:
        pass

    def _enlarge(self, plane: Any) -> Any:
        return cv2.resize(plane, None, fx=self.scale, fy=self.scale, interpolation=cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Movement:
    """What a backend is given of an episode's frames.

    pieces: (width, height) of all that is computed together, for each call, besides the first frame of each window;
    frames: how many that is of. context, patch: of the backend that was counted for. width, height: of the source.
    """

    pieces: tuple[tuple[tuple[int, int], ...], ...]
    frames: int
    context: int | None
    patch: int
    width: int
    height: int

    def pixels(self, context: int | None, segment: int = SEGMENT) -> float:
        """Source pixels that a frame costs on average, calls included, for a backend of that context.

        Of another context than was counted for, pieces are taken to be larger by as much as their borders are; those
        merge elsewhere, too, which is left out. segment: frames of which the first is computed whole.
        """
        whole = self._cost(((self.width, self.height),), 0)
        if not self.frames:
            return whole
        # A rectangle is grown by the context twice, for what it reaches and for what that sees; a patch once.
        unknown = context is None or self.context is None  # then all pieces are whole
        more = 0 if unknown else (2 if self.patch else 4) * (context - self.context)  # type: ignore[operator]
        moving = sum(self._cost(call, more) for call in self.pieces) / self.frames
        return min(whole, moving + (whole - moving) / max(1, segment))

    def _cost(self, call: Sequence[tuple[int, int]], more: int) -> float:
        wide, tall = call[0]
        if (wide, tall) != (self.width, self.height):
            wide, tall = min(max(wide + more, 1), self.width), min(max(tall + more, 1), self.height)
        number = len(call)
        if self.patch:  # a GPU is always given as many at once, short batches are filled up
            from vidsr.backends.cuda import frames_at_once

            chunk = frames_at_once(wide, tall)
            return float(-(-number // chunk) * chunk * wide * tall)
        return float(number * (wide * tall + CALL_PIXELS))


def count_movement(
    windows: Sequence[Sequence[Frame]], video: StreamInfo, tolerance: Tolerance | None, context: int | None, patch: int,
    batch: int, seconds: float,
) -> Movement:  # fmt: skip
    """What a backend of that context and patch is given of `windows`, as many of them as can be seen in `seconds`."""
    if tolerance is None:
        whole = ((video.width, video.height),) * batch
        return Movement((whole,), batch, context, patch, video.width, video.height)
    calls: list[tuple[tuple[int, int], ...]] = []
    frames, end = 0, time.monotonic() + seconds
    for window in windows:
        counting = Counting(1, context, patch)
        grouped = batches(_until(window, end), batch, video.format, video.color)
        seen = 0
        for _ in reuse(grouped, counting, tolerance):
            seen += 1
        # The first is whole because nothing came before it; frames of its batch that are whole too go with it.
        given = counting.given[:]
        if given and seen > 1:
            given[0] = given[0][1:]
            calls += [tuple(call) for call in given if call]
            frames += seen - 1
        if time.monotonic() > end:
            break
    return Movement(tuple(calls), frames, context, patch, video.width, video.height)


def _until(frames: Sequence[Frame], end: float) -> Iterator[Frame]:
    """`frames` as long as there is time, but two of them in any case."""
    for i, frame in enumerate(frames):
        if i >= 2 and time.monotonic() > end:
            return
        yield frame


def read_windows(
    info: SourceInfo, span: TimeRange, had: Sequence[Sequence[Frame]], seconds: float
) -> list[list[Frame]]:
    """Frames that follow each other, from places all over the part `span`, as many as can be read in `seconds`.

    had: what was read already, each from a place of its own, the first from the beginning of the file. Short parts are
    read from beginning to end.
    """
    video, end = info.video, time.monotonic() + seconds
    first = had[0][0].pts if had and had[0] else 0
    low, high = span.limits(first, video.time_base)
    low = first if low is None else low
    whole = first + int((info.duration or 0) / video.time_base)
    high = whole if high is None else min(high, whole) if info.duration else high
    length = part_frames(info, span)
    if length is not None and length <= READ_THROUGH:
        frames = _read(info, low, high, None if low <= first else low, length, end)
        return [frames] if frames else [list(window) for window in had[:1]]
    # The beginning last: it is often black, and there may not be time for all.
    windows = [list(window[:WINDOW]) for window in [*had[1:], *had[:1]] if window and low <= window[0].pts < high]
    begins = {window[0].pts for window in windows}
    for i in range(WINDOWS if length is not None else 0):
        if time.monotonic() > end:
            break
        at = low + round((high - low) * (_spread(i + 1) * 0.98))
        frames = _read(info, low, high, at, WINDOW, end)
        if frames and frames[0].pts not in begins:  # a seek ends at the keyframe before, which may be the same again
            begins.add(frames[0].pts)
            windows.insert(-1 if windows else 0, frames)
    return windows or [list(window) for window in had[:1]]


def _read(info: SourceInfo, low: int, high: int, at: int | None, count: int, end: float) -> list[Frame]:
    """Up to `count` frames from `at` on, those of the part if any are; none where the source cannot be read."""
    frames: list[Frame] = []
    try:
        for frame in decode(info.path, info.video, None, None, at, Report()):
            if frame.pts >= high or (len(frames) > 1 and time.monotonic() > end):
                break
            if frame.pts >= low:
                frames.append(frame)
            if len(frames) >= count or (not frames and time.monotonic() > end):
                break
    except SourceError:  # the picture changes its size there
        pass
    return frames


def _spread(number: int) -> float:
    """0.5, 0.25, 0.75, 0.125, …: wherever it is stopped, what came lies evenly (van der Corput)."""
    place, step = 0.0, 0.5
    while number:
        place, number, step = place + step * (number % 2), number // 2, step / 2
    return place


def part_frames(info: SourceInfo, span: TimeRange) -> int | None:
    """About how many frames the part has, None where the file does not tell its length."""
    if info.duration is None and span.end is None:
        return None
    end = min(value for value in (info.duration, span.end) if value is not None)
    return max(1, round(max(0.0, end - span.start) * info.video.rate))


# ---- how long that takes --------------------------------------------------------------------------------------------


def measure_model(spec: BackendSpec, frames: Sequence[Frame], seconds: float, notify: Notify) -> Speed:
    """The speed of `spec`'s backend with pictures like `frames`, in about `seconds`.

    Whole frames where there is time for two, else the largest piece there is time for; the quickest of them counts,
    since all that goes wrong makes them slower. Errors are those of opening the backend.
    """
    with closing(open_backend(spec, notify)) as backend:
        if backend.in_flight > 1:
            return _measure_device(backend, spec, frames, seconds)
        whole = FrameBatch((frames[len(frames) // 2],), spec.source_format, spec.source_color)
        _timed(backend, _piece(whole, *_FIRST_PIECE))  # what libraries do at their first call
        best = _timed(backend, _piece(whole, *_FIRST_PIECE))
        end = time.monotonic() + seconds
        fits = best[0] * seconds / 3
        wide = whole.width if fits >= whole.width * _FIRST_PIECE[1] else int((fits * 2) ** 0.5)
        piece = _piece(whole, max(_FIRST_PIECE[0], wide), max(_FIRST_PIECE[1], int(fits / max(1, wide))))
        runs: list[tuple[float, float]] = []
        while not runs or (len(runs) < 5 and time.monotonic() < end):
            runs.append(_timed(backend, piece))
        wall, cpu = max(runs)
        return Speed(wall, cpu, seconds, time.time(), backend.context)


def _timed(backend: Backend, batch: FrameBatch) -> tuple[float, float]:
    """Source pixels a second of time, and of the cores' time."""
    start, cpu = time.perf_counter(), time.process_time()
    backend(batch)
    pixels = len(batch) * (batch.width * batch.height + CALL_PIXELS)
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    return pixels / max(wall, 1e-9), pixels / max(used, 1e-9)


def _measure_device(backend: Backend, spec: BackendSpec, frames: Sequence[Frame], seconds: float) -> Speed:
    """Of a GPU, kept busy as in a run; the first round, which libraries choose kernels in, does not count."""
    group = tuple(islice((frame for _ in range(4) for frame in frames), 4))
    batch = FrameBatch(group, spec.source_format, spec.source_color)
    rounds = backend.in_flight
    for pending in [backend.submit(batch) for _ in range(rounds)]:
        pending()
    start, cpu, done = time.perf_counter(), time.process_time(), 0
    while not done or time.perf_counter() - start < seconds / 2:
        waiting: list[Pending] = [backend.submit(batch) for _ in range(rounds)]
        for pending in waiting:
            pending()
        done += rounds
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    pixels = done * len(batch) * batch.width * batch.height
    return Speed(pixels / max(wall, 1e-9), pixels / max(used, 1e-9), seconds, time.time(), backend.context)


def _piece(batch: FrameBatch, width: int, height: int) -> FrameBatch:
    """The middle of each picture, no larger than that; begins and ends where chroma does."""
    width, height = (min(side, whole) for side, whole in ((width, batch.width), (height, batch.height)))
    left, top = (batch.width - width) // 4 * 2, (batch.height - height) // 4 * 2
    right, bottom = left + width, top + height
    if right < batch.width:
        right -= width % 2
    if bottom < batch.height:
        bottom -= height % 2
    x, y = batch.format.chroma_shift
    frames = []
    for frame in batch.frames:
        planes = [frame.planes[0][top:bottom, left:right]]
        for plane in frame.planes[1:]:
            planes.append(plane[top >> y : -(-bottom >> y), left >> x : -(-right >> x)])
        frames.append(replace(frame, planes=tuple(planes)))
    return replace(batch, frames=tuple(frames))


@dataclass(frozen=True)
class Around:
    """All of a run but the model: how it decodes, compares and encodes."""

    info: SourceInfo
    scale: int
    encoder: EncodeSettings
    format: PixelFormat
    color: ColorSpec
    tolerance: Tolerance | None
    batch: int
    context: int | None
    patch: int
    decode_on_gpu: bool = False


def measure_around(around: Around, windows: Sequence[Sequence[Frame]], seconds: float) -> Speed:
    """The speed of decoding, comparing, painting and encoding frames of `windows`, in about `seconds`.

    A quick enlargement takes the model's place, and its time is taken off. Large pictures are encoded in part.
    """
    begun, video = time.monotonic(), around.info.video
    share = min(1.0, _RESULT_PIXELS / (video.width * video.height * around.scale**2)) ** 0.5
    with tempfile.TemporaryDirectory(prefix="vidsr-") as folder, _one_thread_of_opencv():
        path = Path(folder) / "measured.mkv"
        # A quarter each way first, since some encoders are very slow; but so small, all costs more a pixel.
        found = _encode(around, windows, path, share / 4, begun + seconds / 10)
        frame = found[0] * video.width * video.height * share**2
        for part in (1.0, 0.5):
            if _LEAST_ENCODED * frame * part**2 < seconds:
                found = _encode(around, windows, path, share * part, begun + seconds * 0.7)
                break
    wall, cpu = (sum(parts) for parts in zip(found, _decode(around, windows, seconds / 4)))
    return Speed(1 / max(wall, 1e-12), 1 / max(cpu, 1e-12), seconds, time.time())


def _encode(
    around: Around, windows: Sequence[Sequence[Frame]], path: Path, share: float, end: float
) -> tuple[float, float]:
    """(seconds, seconds of the cores) a source pixel of all but decoding; share: of each side that is used."""
    video = around.info.video
    size = [max(32, int(side * share) // 2 * 2) for side in (video.width, video.height)]
    standing_in = Counting(around.scale, around.context, around.patch)
    seen = 0

    def frames() -> Iterator[Frame]:
        nonlocal seen
        for window in windows:
            for frame in window:
                if seen > 2 and time.monotonic() > end:
                    return
                single = FrameBatch((frame,), video.format, video.color)
                yield replace(_piece(single, *size).frames[0], pts=round(seen / video.rate / video.time_base))
                seen += 1

    grouped = batches(frames(), around.batch, video.format, video.color)
    if around.tolerance is None:
        enlarged = upscale(grouped, standing_in)
    else:
        enlarged = reuse(grouped, standing_in, around.tolerance)
    fitted = (replace(frame, planes=_fitted(frame, around)) for frame in enlarged)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in encode(
        fitted, path, around.encoder, around.format, around.color, video.time_base, video.rate, video.sample_aspect
    ):
        pass
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    width, height = (min(side, whole) for side, whole in zip(size, (video.width, video.height)))
    pixels = max(1, seen) * width * height
    return max(wall - standing_in.seconds, 1e-9) / pixels, max(used - standing_in.seconds, 1e-9) / pixels


def _fitted(frame: Frame, around: Around) -> tuple[Any, ...]:
    """A frame of the source's format in the result's: which codes they are does not matter to the clock."""
    rows, columns = frame.planes[0].shape
    shapes = around.format.plane_shapes(columns, rows)
    source, dtype = around.info.video.format, around.format.dtype
    planes = [frame.planes[min(i, len(frame.planes) - 1)] for i in range(len(shapes))]
    fitted = []
    for plane, shape in zip(planes, shapes):
        if plane.shape != shape:
            plane = cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_NEAREST)
        bits = around.format.bits - source.bits
        if bits > 0:
            plane = plane.astype(dtype) << bits
        elif bits < 0:
            plane = (plane >> -bits).astype(dtype)
        fitted.append(plane)
    return tuple(fitted)


def _decode(around: Around, windows: Sequence[Sequence[Frame]], seconds: float) -> tuple[float, float]:
    """(seconds, seconds of the cores) a source pixel of decoding, from the last of `windows` on."""
    video, end = around.info.video, time.monotonic() + seconds
    at = windows[-1][0].pts if len(windows) > 1 else None
    start, cpu, seen = time.perf_counter(), time.process_time(), 0
    frames = decode(around.info.path, video, None, None, at, Report(), around.decode_on_gpu)
    try:
        for _ in islice(frames, 2 * WINDOW):
            seen += 1
            if time.monotonic() > end:
                break
    except SourceError:
        pass
    pixels = max(1, seen) * video.width * video.height
    return (time.perf_counter() - start) / pixels, (time.process_time() - cpu) / pixels


class _one_thread_of_opencv:
    """So that what the stand-in takes is the time of one thread, which can be told from the encoder's."""

    def __enter__(self) -> None:
        self._threads = cv2.getNumThreads()
        cv2.setNumThreads(1)

    def __exit__(self, *exception: object) -> None:
        cv2.setNumThreads(self._threads)


def seconds_a_frame(
    model: Speed, around: Speed, moving: float, all_pixels: int, gpu: bool, cores: int, workers: int
) -> float:
    """How long a frame takes on average in a run.

    moving: source pixels that the model is given of each; all_pixels: that a frame has. On a CPU the model and all else
    share the cores, as many as the model was given when it was measured. Beside a GPU they overlap, and the slowest
    sets the pace: the GPU, the cores, or one encoder in each of `workers`.
    """
    if not gpu:
        shared = min(max(model.cores, 0.25), float(cores))
        return moving / model.wall + all_pixels / around.cpu / shared
    return max(moving / model.wall, all_pixels / around.cpu / cores, all_pixels / around.wall / workers)
