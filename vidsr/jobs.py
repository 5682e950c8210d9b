"""From what the user asked for to a Job with every choice made, or an error that says what to ask for instead."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vidsr.backends import choose_backend
from vidsr.backends.base import BackendSpec
from vidsr.checkpoint import DEFAULT_MODEL, find_model
from vidsr.colorspec import result_color
from vidsr.encode import CODECS, choose_codec, default_threads, make_settings, result_format
from vidsr.errors import OutputError, UsageError
from vidsr.frames import ColorSpec, PixelFormat, SourceInfo, TimeRange
from vidsr.pipeline import Job
from vidsr.probe import probe
from vidsr.report import Report
from vidsr.segments import file_sha256
from vidsr.stitch import FORMATS, choose_tracks, output_format

SCALES = (2, 3, 4)


@dataclass(frozen=True)
class Options:
    """The command line, parsed. None means: choose for me. start, duration: seconds. drop: see stitch.DROP_WORDS."""

    scale: int = 4
    output: Path | None = None
    overwrite: bool = False
    restart: bool = False
    model: str = DEFAULT_MODEL
    backend: str = "auto"
    precision: str = "auto"
    tile: int = 0
    codec: str = "auto"
    crf: float | None = None
    preset: str | None = None
    encoder_options: Mapping[str, str] = field(default_factory=dict)
    pixel_format: str | None = None
    threads: int | None = None
    start: float = 0.0
    duration: float | None = None
    drop: frozenset[str] = frozenset()
    check: bool = True


def default_output(source: Path, scale: int, suffix: str | None = None) -> Path:
    """`episode.mkv` -> `episode.4x.mkv` beside it; containers that vidsr does not write become .mkv."""
    chosen = suffix or (source.suffix.lower() if source.suffix.lower() in FORMATS else ".mkv")
    return source.with_name(f"{source.stem}.{scale}x{chosen}")


def check_output(source: Path, output: Path, overwrite: bool) -> None:
    """UsageError or OutputError when `output` is the source, exists already, or lies where nothing can be written."""
    folder = output.parent
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder to write into; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write there; choose another place with -o")
    if output.exists():
        if output.samefile(source):
            raise UsageError(f"{output}: is the source itself; choose another name with -o")
        if output.is_dir():
            raise UsageError(f"{output}: is a folder; name a file in it")
        if not overwrite:
            raise UsageError(f"{output}: exists already; replace it with --overwrite or choose another name with -o")


def make_spec(
    options: Options, source_format: PixelFormat, source_color: ColorSpec, format: PixelFormat, color: ColorSpec
) -> BackendSpec:
    """The backend to open. UsageError for an unknown scale, model or backend."""
    if options.scale not in SCALES:
        raise UsageError(f"--scale {options.scale}: choose 2, 3 or 4")
    name = choose_backend(options.backend)
    model = "" if name == "nearest" else str(find_model(options.model).path)
    return BackendSpec(
        name, model, options.scale, source_format, source_color, format, color, options.tile, options.precision
    )


def prepare(source: Path, options: Options, report: Report) -> Job:
    """Probe `source` and make every choice, before a frame is decoded or a file written.

    UsageError when the options do not fit the source or each other, SourceError or OutputError when a file does not.
    """
    if options.scale not in SCALES:
        raise UsageError(f"--scale {options.scale}: choose 2, 3 or 4")
    span = TimeRange(options.start, None if options.duration is None else options.start + options.duration)
    if options.codec != "auto" and options.codec not in CODECS:
        raise UsageError(f"--codec {options.codec}: choose one of {', '.join(CODECS)}")
    info = probe(source)
    output = options.output or default_output(source, options.scale)
    container = output_format(output)
    check_output(source, output, options.overwrite)
    video = info.video
    codec = CODECS[choose_codec(options.codec, video)]
    if codec.name == "ffv1" and container != "matroska":
        raise UsageError(f"{output}: FFV1 cannot live in {output.suffix}: use .mkv")
    format = result_format(video.format, codec, options.pixel_format, report)
    _check_size(info, options.scale, format)
    color = result_color(video.color, format)
    keep = choose_tracks(info, output, options.drop)
    _announce(info, container, report)
    for track in keep.dropped:
        report.warn(f"dropped: {track}")
    threads = options.threads or default_threads()
    settings = make_settings(codec, options.crf, options.preset, options.encoder_options, video, color, threads, report)
    spec = make_spec(options, video.format, video.color, format, color)
    remembered = {
        "scale": options.scale, "model": Path(spec.model).stem or "none", "backend": spec.name,
        "weights": file_sha256(Path(spec.model)) if spec.model else "", "precision": spec.precision, "tile": spec.tile,
        "codec": codec.name, "encoder_options": dict(settings.options), "pixel_format": format.name,
        "color": asdict(color), "start": span.start, "end": span.end,
    }  # fmt: skip
    batch_size = 4 if spec.name == "cuda" else 1
    return Job(info, output, spec, settings, keep, span, batch_size, options.restart, options.check, remembered)


def _check_size(info: SourceInfo, scale: int, format: PixelFormat) -> None:
    width, height = info.video.width * scale, info.video.height * scale
    x, y = format.chroma_shift
    if width % (1 << x) or height % (1 << y):
        raise UsageError(
            f"{info.path}: {width}x{height} is odd, which {format.name} cannot hold: "
            "use --scale 2 or 4, or --pixel-format yuv444p"
        )
    if max(width, height) > 16384:
        raise UsageError(f"{info.path}: {width}x{height} is beyond 16384, the largest encoders take: lower --scale")


def _announce(info: SourceInfo, container: str, report: Report) -> None:
    """Say what was assumed and what cannot be kept, before hours go into it."""
    if container == "matroska" and (info.video.time_base * 1000).denominator != 1:
        report.warn(f"{info.path.name}: MKV rounds its timestamps to milliseconds; .mp4 would keep them exactly")
    if info.video.color.assumed:
        report.warn(f"{info.path.name}: {'; '.join(info.video.color.assumed)}")
    if not info.video.monotonic:
        report.warn(
            f"{info.path.name}: its timestamps come out of order; pictures keep the order they decode in, and "
            "the whole file is one segment: a stopped run starts over"
        )
    for what in info.video.lost:
        report.warn(f"{info.path.name}: {what} cannot be carried over and will be missing")
    if info.video.interlaced:
        report.warn(f"{info.path.name}: the video is interlaced and stays so, combs and all: deinterlace it first")
