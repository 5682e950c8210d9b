"""Frames to one segment file, with an encoder that gives the same bytes each time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from vidsr.encode.codecs import CODECS
from vidsr.encode.stall import Stalled, Watched
from vidsr.errors import EncoderStalled, OutputError
from vidsr.files import as_file, publish, write_failure
from vidsr.frames import ColorSpec, Frame, PixelFormat
from vidsr.machine import cores

KEYFRAME_DISTANCE = 250  # of most encoders, frames
_REORDER_LIMIT = 64  # more than any encoder reorders


@dataclass(frozen=True)
class EncodeSettings:
    """What an encoder is opened with. codec: its name in CODECS. encoder: FFmpeg's. options: of Codec.options. alpha:
    whether its frames have an alpha plane."""

    codec: str
    encoder: str
    options: Mapping[str, str] = field(default_factory=dict)
    alpha: bool = False


class Discarded:
    """In a file's place: what is encoded is counted and thrown away."""

    def __init__(self) -> None:
        self._keyframes: list[int] = []
        self._others: list[int] = []

    def write(self, data: bytes) -> int:
        return len(data)

    def count(self, packet: Any) -> None:
        (self._keyframes if packet.is_keyframe else self._others).append(packet.size)

    def frame_bytes(self) -> float | None:
        """Bytes a frame, on average over a long file, in which keyframes are rare; None where too little is known."""
        if not self._keyframes or not self._others:
            return None
        shares = ((self._keyframes, 1 / KEYFRAME_DISTANCE), (self._others, 1 - 1 / KEYFRAME_DISTANCE))
        return sum(share * sum(sizes) / len(sizes) for sizes, share in shares)


def encode(
    frames: Iterable[Frame], path: Path | Discarded, settings: EncodeSettings, format: PixelFormat, color: ColorSpec,
    time_base: Fraction, rate: Fraction, sample_aspect: Fraction,
) -> Iterator[Frame]:  # fmt: skip
    """Encode `frames` into a Matroska file that appears at `path` only when it is whole; yield each frame taken.

    No frames, no file: a stretch of the source may be damaged from end to end. Discarded in the path's place: there is
    none either, for who only wants to know how long it takes and how large it gets.

    The file's timestamps are ranks (0, 1, 2, … milliseconds), not times: Matroska would round times to milliseconds,
    and the true ones are the journal's. The encoder sees the true ones, for its rate control. OutputError when the
    disk is full or the encoder refuses.
    """
    partial = path if isinstance(path, Discarded) else path.with_name(path.name + ".part")
    writer = _Writer(partial, settings, format, color, time_base, rate, sample_aspect)
    try:
        for frame in frames:
            writer.write(frame)
            yield frame
        if writer.finish() and not isinstance(path, Discarded) and not isinstance(partial, Discarded):
            publish(partial, path)
    except (av.FFmpegError, OSError) as error:
        name = Path("measuring") if isinstance(path, Discarded) else path
        raise OutputError(write_failure(name, f"{settings.encoder} failed", error)) from error
    finally:
        writer.abandon()


class Encoder:
    """One encoder as a stream of `container`, for pictures of `width` x `height`. It opens with the container's header,
    or with its first frame. patience: seconds until one that stands still is given up, see stall.Watched."""

    def __init__(self, container: Any, settings: EncodeSettings, width: int, height: int, format: PixelFormat,
                 color: ColorSpec, time_base: Fraction, rate: Fraction, sample_aspect: Fraction,
                 patience: float = 60) -> None:  # fmt: skip
        self.name, self.color, self.time_base = settings.encoder, color, time_base
        codec, options = CODECS[settings.codec], dict(settings.options)
        self.layout = codec.alpha_layout(format) if settings.alpha else codec.layout(format)
        for variable, value in codec.environment.items():
            os.environ.setdefault(variable, value)
        self.stream = container.add_stream(settings.encoder, rate=rate, options=options)
        context = self.stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, self.layout
        context.sample_aspect_ratio = sample_aspect
        context.color_primaries, context.color_trc = color.primaries, color.transfer
        context.colorspace, context.color_range = color.matrix_code, 2 if color.full_range else 1
        context.time_base = self.stream.time_base = time_base
        if "threads" in options:
            context.thread_count = int(options["threads"])
        self._labels: dict[int, int] = {}
        self._last: int | None = None
        self._watched = Watched("encode", patience) if codec.can_stall else None

    def encode(self, frame: Frame | None, label: int = 0) -> list[tuple[Any, int]]:
        """The packets that come out as `frame` goes in (None: all that are left), each with its own frame's label.

        EncoderStalled when the encoder stands still; it is of no use afterwards.
        """
        if frame is None:
            packets = self._packets(None)
        else:
            # Encoders want strictly growing times; the true ones are the caller's to keep.
            time = frame.pts if self._last is None else max(frame.pts, self._last + 1)
            self._labels[time], self._last = label, time
            packets = self._packets(self._picture(frame, time))
        return [(packet, self._labels.pop(packet.pts)) for packet in packets]

    def _packets(self, picture: av.VideoFrame | None) -> list[Any]:
        if self._watched is None:
            return list(self.stream.encode(picture))
        try:
            return list(self._watched(partial(self.stream.encode, picture)))
        except Stalled:
            raise EncoderStalled(f"{self.name} stands still, a fault of its own: run the same command again") from None

    def _picture(self, frame: Frame, time: int) -> av.VideoFrame:
        height, width = frame.planes[0].shape
        picture = av.VideoFrame(width, height, self.layout)
        _fill(picture, frame.planes if frame.alpha is None else (*frame.planes, frame.alpha))
        picture.pts, picture.time_base, picture.duration = time, self.time_base, frame.duration
        color = self.color
        picture.colorspace, picture.color_range = color.matrix_code, 2 if color.full_range else 1
        picture.color_primaries, picture.color_trc = color.primaries, color.transfer
        return picture


class _Writer:
    """One encoder and its file, opened with the first frame, which tells the size."""

    def __init__(self, path: Path | Discarded, *encoder: Any) -> None:
        self.path, self.encoder_arguments = path, encoder
        self.container: Any = None
        self.taken = self.written = 0

    def write(self, frame: Frame) -> None:
        if self.container is None:
            height, width = frame.planes[0].shape
            target = self.path if isinstance(self.path, Discarded) else as_file(self.path)
            self.container = av.open(target, "w", format="matroska")
            settings, *described = self.encoder_arguments
            self.encoder = Encoder(self.container, settings, width, height, *described)
        self.taken += 1
        self._mux(self.encoder.encode(frame, self.taken - 1))

    def finish(self) -> bool:
        """Flush the encoder and close the file; False when no frame ever came, and there is no file."""
        if self.container is None:
            return False
        self._mux(self.encoder.encode(None))
        container, self.container = self.container, None
        container.close()
        return True

    def abandon(self) -> None:
        """Close without finishing; the encoder's leftovers are of no use."""
        container, self.container = self.container, None
        if container is not None:
            try:
                container.close()
            except (av.FFmpegError, OSError):
                pass  # closing after a failed write fails again
        if not isinstance(self.path, Discarded):
            self.path.unlink(missing_ok=True)

    def _mux(self, packets: list[tuple[Any, int]]) -> None:
        for packet, rank in packets:
            # dts only has to grow and stay below pts; stitch.py derives the real ones from all segments together.
            packet.pts, packet.dts = rank, self.written - _REORDER_LIMIT
            packet.duration, packet.time_base = 1, Fraction(1, 1000)
            self.written += 1
            if isinstance(self.path, Discarded):
                self.path.count(packet)
            self.container.mux(packet)


def _fill(picture: av.VideoFrame, planes: tuple[np.ndarray, ...]) -> None:
    """Write `planes` into a picture of their own layout, or into P010: chroma interleaved, ten bits the upper ones."""
    targets = []
    for target in picture.planes:
        samples: np.ndarray = np.frombuffer(memoryview(target), planes[0].dtype)
        stride = target.line_size // planes[0].itemsize
        targets.append(samples[: len(samples) // stride * stride].reshape(-1, stride))
    p010 = picture.format.name == "p010le"
    if p010:
        targets = [targets[0], targets[1][:, 0::2], targets[1][:, 1::2]]
    for plane, rows in zip(planes, targets):
        rows[: plane.shape[0], : plane.shape[1]] = plane << 6 if p010 else plane


def default_threads() -> int:
    """Encoder threads: the cores this process may use, 16 at most (more cost x264 quality)."""
    return max(1, min(cores(), 16))
