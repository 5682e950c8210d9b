"""Frames to one segment file, with an encoder that gives the same bytes each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy._core._multiarray_umath import __cpu_features__

from vidsr.encode.stall import Stalled, Watched
from vidsr.errors import EncoderStalled, OutputError, UsageError
from vidsr.files import publish, write_failure
from vidsr.frames import ColorSpec, Frame, HdrMetadata, PixelFormat, StreamInfo
from vidsr.machine import cores
from vidsr.report import Report

_REORDER_LIMIT = 64  # more than any encoder reorders
_CAN_STALL = ("libsvtav1",)  # 4.1's threads have been seen to wait for each other for ever, at the last picture
_420, _422, _444 = (1, 1), (1, 0), (0, 0)


@dataclass(frozen=True)
class Codec:
    """An encoder vidsr knows how to drive. depths, chroma: what it takes. presets: its own names, in FFmpeg's words.

    software: of an encoder on the GPU, what does the same without one.
    """

    name: str
    encoder: str
    depths: tuple[int, ...]
    chroma: tuple[tuple[int, int], ...]
    crf: int | None
    max_crf: int
    preset: str | None
    presets: tuple[str, ...] = ()
    software: str = ""


_NVENC = tuple(f"p{i}" for i in range(1, 8))
_X26X = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
CODECS = {
    codec.name: codec
    for codec in (
        Codec("x264", "libx264", (8, 10), (_420, _422, _444), 17, 51, "veryfast", _X26X),
        Codec("x265", "libx265", (8, 10, 12), (_420, _422, _444), 18, 51, "fast", _X26X),
        Codec("svtav1", "libsvtav1", (8, 10), (_420,), 24, 63, "8", tuple(str(i) for i in range(14))),
        Codec("ffv1", "ffv1", (8, 10, 12, 16), (_420, _422, _444), None, 0, None),
        Codec("h264_nvenc", "h264_nvenc", (8,), (_420, _444), 19, 51, "p5", _NVENC, "x264"),
        Codec("hevc_nvenc", "hevc_nvenc", (8, 10), (_420,), 20, 51, "p5", _NVENC, "x265"),
        Codec("av1_nvenc", "av1_nvenc", (8, 10), (_420,), 26, 63, "p5", _NVENC, "svtav1"),
    )
}


# What lets each picture out at once: nothing waits for pictures that come later. The first dictionary is FFmpeg's, the
# second part the encoder's own. x264 keeps one picture, to know how long it is shown.
_X265_LIVE = "rc-lookahead=0:scenecut=0:cutree=0:b-adapt=0:frame-threads=1"
_NVENC_LIVE = {"bf": "0", "rc-lookahead": "0", "delay": "0", "zerolatency": "1"}
_LIVE: dict[str, tuple[Mapping[str, str], str]] = {
    "x264": ({"bf": "0", "rc-lookahead": "0", "thread_type": "slice"}, ""),
    "x265": ({"bf": "0"}, _X265_LIVE),
    "svtav1": ({}, "pred-struct=1"),
    "ffv1": ({}, ""),
    **dict.fromkeys(("h264_nvenc", "hevc_nvenc", "av1_nvenc"), (_NVENC_LIVE, "")),
}


@dataclass(frozen=True)
class EncodeSettings:
    """What an encoder is opened with. options: FFmpeg's, threads pinned, since x264's bytes depend on their number."""

    codec: str
    encoder: str
    options: Mapping[str, str] = field(default_factory=dict)


def choose_codec(codec: str, video: StreamInfo) -> str:
    """`codec`, or for "auto": x264, but x265 where HDR10 metadata or 12 bits would be lost in H.264."""
    if codec != "auto":
        return codec
    return "x265" if video.hdr is not None or video.format.bits > 10 else "x264"


def result_format(source: PixelFormat, codec: Codec, wanted: str | None, report: Report) -> PixelFormat:
    """The pixel format of the result: `wanted`, or the source's as far as `codec` takes it; each loss is said.

    UsageError when `wanted` is not a format `codec` takes.
    """
    if wanted is not None:
        try:
            format = PixelFormat.from_name(wanted)
        except ValueError as error:
            raise UsageError(f"--pixel-format: {error}") from error
        if format.family != "yuv" or format.bits not in codec.depths or format.chroma_shift not in codec.chroma:
            names = [PixelFormat("yuv", bits, chroma).name for chroma in codec.chroma for bits in codec.depths]
            raise UsageError(f"--pixel-format {wanted}: {codec.name} takes {', '.join(names)}")
        return format
    chroma = {"yuv": source.chroma_shift, "gray": _420, "rgb": _444}[source.family]
    if chroma not in codec.chroma:
        report.warn(f"{codec.name} takes 4:2:0 only: the colour resolution is halved")
        chroma = codec.chroma[0]
    bits = max((depth for depth in codec.depths if depth <= source.bits), default=codec.depths[0])
    if bits < source.bits:
        report.warn(f"{codec.name} takes {bits} bits at most: the source's {source.bits} bits are reduced")
    if source.family == "rgb":
        report.warn("RGB source: the result is YUV 4:4:4, BT.709")
    return PixelFormat("yuv", bits, chroma)


def make_settings(
    codec: Codec, crf: float | None, preset: str | None, extra: Mapping[str, str], video: StreamInfo,
    color: ColorSpec, threads: int, report: Report, live: bool = False,
) -> EncodeSettings:  # fmt: skip
    """All options of the encoder, resolved. UsageError for a crf, preset or option the encoder does not know.

    live: someone is watching: each picture comes out at once, which costs size, not quality.
    """
    # On a GPU: constant quality, which needs the target rate of 0; and x264's distance between keyframes.
    options = {"rc": "vbr", "b": "0", "g": "250"} if codec.software else {"threads": str(threads)}
    if codec.crf is not None:
        value = codec.crf if crf is None else crf
        lowest = 1 if codec.software else 0  # there, 0 would mean: choose for me
        if not lowest <= value <= codec.max_crf:
            raise UsageError(f"--crf {value:g}: {codec.name} takes {lowest} to {codec.max_crf}")
        options["cq" if codec.software else "crf"] = f"{value:g}"
    elif crf is not None:
        raise UsageError(f"--crf: {codec.name} is lossless and takes none")
    if codec.preset is not None:
        chosen = preset or codec.preset
        if chosen not in codec.presets:
            raise UsageError(f"--preset {chosen}: {codec.name} takes {', '.join(codec.presets)}")
        options["preset"] = chosen
    elif preset is not None:
        raise UsageError(f"--preset: {codec.name} takes none")
    own: list[str] = []  # of the encoder's own, unlike FFmpeg's
    if codec.name == "x264" and __cpu_features__.get("AVX512F"):
        # x264's AVX-512 code for MB-tree reads memory nobody has set: the same frames gave up to 13 different files in
        # 40 encodes on such a CPU, and one with AVX2, without MB-tree, or without B-frames.
        own.append("asm=AVX2")
    if codec.name == "x265":
        own += ["log-level=none", f"pools={threads}", f"frame-threads={min(threads, 3)}"]
    elif codec.name == "svtav1":
        own += [f"lp={min(threads, 6)}"]
    if color.chroma_location != "left" and codec.name in ("x264", "x265"):
        own.append(f"chromaloc={ {'center': 1, 'topleft': 2}[color.chroma_location] }")
    elif color.chroma_location != "left" and codec.software:
        options["chroma_sample_location"] = color.chroma_location
    if video.hdr is not None:
        own += _hdr_options(codec.name, video.hdr, report)
    if live:
        soon, own_soon = _LIVE[codec.name]
        options |= soon
        own += [own_soon] if own_soon else []
    known = {option.name for option in _supported_options(codec.encoder)}
    for key, value_text in extra.items():
        if key not in known:
            raise UsageError(f"--encoder-option {key}: {codec.encoder} has no option of that name")
        if key == f"{codec.name}-params":
            own.append(value_text)
        else:
            options[key] = value_text
    if own:
        options[f"{codec.name}-params"] = ":".join(own)
    return EncodeSettings(codec.name, codec.encoder, options)


def _supported_options(encoder: str) -> tuple[Any, ...]:
    supported = av.CodecContext.create(encoder, "w").supported_options
    return tuple(supported.generic) + tuple(supported.private)


def _hdr_options(codec: str, hdr: HdrMetadata, report: Report) -> list[str]:
    """HDR10 static metadata in the encoder's own words (PyAV cannot hand it over as side data)."""
    if codec not in ("x265", "svtav1"):
        report.warn(f"{codec} cannot carry HDR10 metadata: it is lost; keep it with --codec x265 or svtav1")
        return []
    options = ["hdr10=1", "repeat-headers=1"] if codec == "x265" else []
    if hdr.mastering is not None:
        if codec == "x265":  # chromaticity in 1/50000, luminance in 1/10000 cd/m²
            numbers = [str(round(v * (50000 if i < 8 else 10000))) for i, v in enumerate(hdr.mastering)]
        else:
            numbers = [f"{float(v):.4f}" for v in hdr.mastering]
        rx, ry, gx, gy, bx, by, wx, wy, low, high = numbers
        key = "master-display" if codec == "x265" else "mastering-display"
        options.append(f"{key}=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})")
    if hdr.content_light is not None:
        key = "max-cll" if codec == "x265" else "content-light"
        options.append(f"{key}={hdr.content_light[0]},{hdr.content_light[1]}")
    return options


def encode(
    frames: Iterable[Frame], path: Path | None, settings: EncodeSettings, format: PixelFormat, color: ColorSpec,
    time_base: Fraction, rate: Fraction, sample_aspect: Fraction,
) -> Iterator[Frame]:  # fmt: skip
    """Encode `frames` into a Matroska file that appears at `path` only when it is whole; yield each frame taken.

    No frames, no file: a stretch of the source may be damaged from end to end. path None: the file is thrown away as it
    is written, by who only wants to know how long it takes.

    The file's timestamps are ranks (0, 1, 2, … milliseconds), not times: Matroska would round times to milliseconds,
    and the true ones are the journal's. The encoder sees the true ones, for its rate control. OutputError when the
    disk is full or the encoder refuses.
    """
    partial = path and path.with_name(path.name + ".part")
    writer = _Writer(partial, settings, format, color, time_base, rate, sample_aspect)
    try:
        for frame in frames:
            writer.write(frame)
            yield frame
        if writer.finish() and path and partial:
            publish(partial, path)
    except (av.FFmpegError, OSError) as error:
        raise OutputError(write_failure(path or Path("measuring"), f"{settings.encoder} failed", error)) from error
    finally:
        writer.abandon()


class Encoder:
    """One encoder as a stream of `container`, for pictures of `width` x `height`. It opens with the container's header,
    or with its first frame. patience: seconds until one that stands still is given up, see stall.Watched."""

    def __init__(self, container: Any, settings: EncodeSettings, width: int, height: int, format: PixelFormat,
                 color: ColorSpec, time_base: Fraction, rate: Fraction, sample_aspect: Fraction,
                 patience: float = 60) -> None:  # fmt: skip
        self.name, self.color, self.time_base = settings.encoder, color, time_base
        self.layout = encoder_layout(settings.encoder, format)
        options = dict(settings.options)
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
        self._watched = Watched("encode", patience) if settings.encoder in _CAN_STALL else None

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
        _fill(picture, frame.planes)
        picture.pts, picture.time_base, picture.duration = time, self.time_base, frame.duration
        color = self.color
        picture.colorspace, picture.color_range = color.matrix_code, 2 if color.full_range else 1
        picture.color_primaries, picture.color_trc = color.primaries, color.transfer
        return picture


class _Nowhere:
    """A file for PyAV to write to that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)


class _Writer:
    """One encoder and its file, opened with the first frame, which tells the size. path None: nothing is kept."""

    def __init__(self, path: Path | None, *encoder: Any) -> None:
        self.path, self.encoder_arguments = path, encoder
        self.container: Any = None
        self.taken = self.written = 0

    def write(self, frame: Frame) -> None:
        if self.container is None:
            height, width = frame.planes[0].shape
            self.container = av.open(str(self.path) if self.path else _Nowhere(), "w", format="matroska")
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
        if self.path:
            self.path.unlink(missing_ok=True)

    def _mux(self, packets: list[tuple[Any, int]]) -> None:
        for packet, rank in packets:
            # dts only has to grow and stay below pts; stitch.py derives the real ones from all segments together.
            packet.pts, packet.dts = rank, self.written - _REORDER_LIMIT
            packet.duration, packet.time_base = 1, Fraction(1, 1000)
            self.written += 1
            self.container.mux(packet)


def encoder_layout(encoder: str, format: PixelFormat) -> str:
    """FFmpeg's name of the pixel format that `encoder` takes `format` in; NVENC knows ten bits as P010 only."""
    return "p010le" if encoder.endswith("_nvenc") and format.bits == 10 else format.name


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
