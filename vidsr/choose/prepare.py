"""From what the user asked for to a Job with every choice made, or an error that says what to ask for instead."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from itertools import islice
from math import ceil
from pathlib import Path

from vidsr.backends import backend_kind, choose_backend, fallbacks
from vidsr.backends.base import BackendSpec
from vidsr.choose.model import AUTO, choose_model, family_member
from vidsr.choose.samples import stretches
from vidsr.encode.encoder import (
    CODECS,
    Codec,
    choose_codec,
    default_threads,
    encoder_layout,
    make_settings,
    result_format,
)
from vidsr.errors import BackendError, OutputError, SourceError, UsageError
from vidsr.frames import ColorSpec, PixelFormat, SourceInfo, StreamInfo, TimeRange
from vidsr.machine import cores, decoder_missing, encoder_missing, free_memory
from vidsr.models.checkpoint import MOST_SCALE, model_scale, weights_sha256
from vidsr.mux.stitch import STDOUT, choose_tracks, default_suffix, output_format
from vidsr.report import Report
from vidsr.reuse.stillness import Tolerance, choose_tolerance
from vidsr.run.pipeline import WHOLE, Job
from vidsr.run.stills import SUFFIXES as STILLS
from vidsr.source.colorspec import result_color
from vidsr.source.decode import ONE_THREAD_SAMPLES, decode, gpu_missing
from vidsr.source.probe import probe

SCALES = range(2, MOST_SCALE + 1)
MOST_JOBS = 8  # chosen unasked
SAMPLED = 24  # frames that follow each other, to find out what counts as still
FRAMES_HELD = 80  # of the result by a segment at work: about 70 in the encoder, which looks ahead, the rest before it


@dataclass(frozen=True)
class Options:
    """The command line, parsed. None, and a scale of 0, mean: choose for me. start, duration: seconds.

    drop: see stitch.DROP_WORDS.
    """

    scale: int = 0
    output: Path | None = None
    overwrite: bool = False
    restart: bool = False
    model: str = AUTO
    backend: str = "auto"
    precision: str = "auto"
    tile: int = 0
    codec: str = "auto"
    crf: float | None = None
    preset: str | None = None
    encoder_options: Mapping[str, str] = field(default_factory=dict)
    pixel_format: str | None = None
    threads: int | None = None
    jobs: int | None = None
    hwaccel: str = "auto"
    reuse: str = "auto"
    start: float = 0.0
    duration: float | None = None
    drop: frozenset[str] = frozenset()
    check: bool = True


def default_output(source: Path, scale: int, suffix: str | None = None) -> Path:
    """`episode.mkv` -> `episode.4x.mkv` beside it. suffix: see stitch.default_suffix."""
    return source.with_name(f"{source.stem}.{scale}x{suffix or default_suffix(source)}")


def check_output(source: Path, output: Path, overwrite: bool) -> None:
    """UsageError or OutputError when `output` is the source, exists already, or lies where nothing can be written."""
    folder = output.parent
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder to write into; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write there; choose another place with -o")
    if output.exists():
        if source.exists() and output.samefile(source):
            raise UsageError(f"{output}: is the source itself; choose another name with -o")
        if output.is_dir():
            raise UsageError(f"{output}: is a folder; name a file in it")
        if not overwrite:
            raise UsageError(f"{output}: exists already; replace it with --overwrite or choose another name with -o")


def with_scale(options: Options) -> Options:
    """`options` with a scale: as asked for, or the model's own; 4 for the stand-in for a model.

    UsageError for a scale that the model cannot give, ModelError for weights that cannot be loaded.
    """
    wanted = options.scale
    if wanted and wanted not in SCALES:
        raise UsageError(f"--scale {wanted}: choose a number from {SCALES[0]} to {SCALES[-1]}")
    if options.backend != "auto" and not backend_kind(options.backend).needs_model:
        return replace(options, scale=wanted or 4)
    model = family_member(options.model, wanted)
    most = model_scale(model.path)
    if wanted > most:
        raise UsageError(f"--scale {wanted}: {model.name} enlarges {most} times: leave --scale out, or change --model")
    return replace(options, scale=wanted or most)


def check_stream(inputs: Sequence[Path], options: Options) -> None:
    """UsageError when `inputs` or `options` make no sense for a stream into a pipe, `-o -`."""
    if len(inputs) > 1:
        raise UsageError("-o -: streams one episode: name one input, or an existing folder as -o")
    if inputs[0].suffix.lower() in STILLS:
        raise UsageError(f"{inputs[0]}: is a picture, and -o - streams video: name a file as -o")
    for name, given in (("--restart", options.restart), ("--overwrite", options.overwrite)):
        if given:
            raise UsageError(f"{name}: a stream leaves nothing to go on with or to replace: leave it out with -o -")
    if (options.jobs or 1) > 1:
        raise UsageError(f"--jobs {options.jobs}: a stream is made in one piece, in order: leave it out with -o -")


def make_spec(
    options: Options, source_format: PixelFormat, source_color: ColorSpec, format: PixelFormat, color: ColorSpec
) -> BackendSpec:
    """The backend to open. options: of `with_scale`. UsageError for an unknown model or backend."""
    name = choose_backend(options.backend, options.precision)
    model = str(family_member(options.model, options.scale).path) if backend_kind(name).needs_model else ""
    instead = fallbacks(name) if options.backend == "auto" else ()
    return BackendSpec(
        name, model, options.scale, source_format, source_color, format, color, options.tile, options.precision, instead
    )


def prepare(
    source: Path, options: Options, report: Report, say: Callable[[str], None] | None = None
) -> Job:  # fmt: skip
    """Probe `source` and make every choice, before a file is written.

    say: told how long the run will take, and which model was chosen for that; nothing is measured only to tell it
    where there is nobody to tell.
    UsageError when the options do not fit the source or each other, SourceError or OutputError when a file does not.
    """
    options = with_scale(options)
    span = TimeRange(options.start, None if options.duration is None else options.start + options.duration)
    if options.codec != "auto" and options.codec not in CODECS:
        raise UsageError(f"--codec {options.codec}: choose one of {', '.join(CODECS)}")
    info = probe(source)
    output = options.output or default_output(source, options.scale)
    container = output_format(output)
    live = output == STDOUT
    if not live:
        check_output(source, output, options.overwrite)
    video = info.video
    codec = CODECS[choose_codec(options.codec, video)]
    if codec.name == "ffv1" and container != "matroska":
        raise UsageError(f"{output}: FFV1 cannot live in {output.suffix}: use .mkv")
    format = result_format(video.format, codec, options.pixel_format, report)
    _check_size(info, options.scale, format)
    codec = _choose_encoder(options, codec, video, format, report)
    color = result_color(video.color, format)
    keep = choose_tracks(info, output, options.drop)
    _announce(info, container, report)
    for track in keep.dropped:
        report.warn(f"dropped: {track}")
    spec = make_spec(options, video.format, video.color, format, color)
    workers, threads = choose_jobs(replace(options, jobs=1) if live else options, spec, codec, video)
    settings = make_settings(
        codec, options.crf, options.preset, options.encoder_options, video, color, threads, report, live
    )
    on_gpu = _decodes_on_gpu(options.hwaccel, info, report)
    still = choose_reuse(options.reuse, spec, info, span)
    batch = backend_kind(spec.name).batch_size
    job = Job(
        info, output, spec, settings, keep, span, batch, workers, on_gpu, still, options.restart, options.overwrite,
        options.check,
    )  # fmt: skip
    if spec.model:
        model, outlook = choose_model(options.model, job, report, say)
        spec = replace(spec, model=str(model.path))
        if outlook and say:
            say(outlook.line(datetime.now()))
    remembered = {
        "scale": options.scale, "model": Path(spec.model).stem or "none",
        "weights": weights_sha256(spec.model) if spec.model else "",
        "reuse": "off" if still is None else asdict(still),
        "codec": codec.name, "encoder_options": dict(settings.options), "pixel_format": format.name,
        "color": asdict(color), "start": span.start, "end": span.end,
    }  # fmt: skip
    return replace(job, backend=spec, settings=remembered)


def choose_reuse(wanted: str, spec: BackendSpec, info: SourceInfo, span: TimeRange = WHOLE) -> Tolerance | None:
    """What counts as still, or None for no reuse. UsageError for a word other than auto, exact and off.

    auto looks at a second of frames in three places of `span`. The stand-in for a generator loses nothing, so neither
    does this.
    """
    if wanted not in ("auto", "exact", "off"):
        raise UsageError(f"--reuse {wanted}: choose auto, exact or off")
    if wanted == "off":
        return None
    if wanted == "exact" or not spec.model:
        return Tolerance()
    looked_at = []
    for part in stretches(info, span, (0.0, 0.4, 0.75), SAMPLED):
        try:
            frames = decode(info.path, info.video, part.start, part.end, part.seek, Report())
            looked_at.append(list(islice(frames, SAMPLED)))
        except SourceError:  # the picture changes its size there, which may be outside the part asked for
            continue
    return choose_tolerance(looked_at, info.video.format)


def choose_jobs(options: Options, spec: BackendSpec, codec: Codec, video: StreamInfo) -> tuple[int, int]:
    """(segments to work on at once, threads of each one's encoder).

    Beside a GPU's upscaling an encoder on the CPU is what everything waits for, and x264 does not fill many cores by
    itself. The threads, which the bytes of the result depend on, follow from what was asked for and the cores, never
    from the memory that is free just now.
    """
    wanted = options.jobs or 1
    if options.jobs is None and backend_kind(spec.name).device == "gpu":
        # An encoder on the GPU needs another beside it only while one begins or ends, and drivers allow few.
        wanted = 2 if codec.software else max(1, min(MOST_JOBS, cores() // 4))
    threads = options.threads or (default_threads() if wanted == 1 else max(2, min(16, ceil(cores() / wanted))))
    if options.jobs is None and wanted > 1:
        format = spec.result_format
        shapes = format.plane_shapes(video.width * spec.scale, video.height * spec.scale)
        held = FRAMES_HELD * format.dtype.itemsize * sum(rows * columns for rows, columns in shapes)
        wanted = max(1, min(wanted, free_memory() // 2 // held))
    return wanted, threads


def _choose_encoder(options: Options, codec: Codec, video: StreamInfo, format: PixelFormat, report: Report) -> Codec:
    """`codec`, or for "auto" one on the GPU that works here and takes what was asked for."""

    def missing(codec: Codec) -> str | None:
        size = video.width * options.scale, video.height * options.scale
        return encoder_missing(codec.encoder, encoder_layout(codec.encoder, format), *size)

    if options.codec != "auto":
        if codec.software and (reason := missing(codec)):
            raise BackendError(f"--codec {codec.name}: {reason}; use --codec {codec.software} or auto")
        return codec
    gpu = CODECS["h264_nvenc" if format.bits == 8 else "hevc_nvenc"]
    takes = format.family == "yuv" and format.bits in gpu.depths and format.chroma_shift in gpu.chroma
    takes = takes and options.preset in (None, *gpu.presets) and not options.encoder_options
    takes = takes and (options.crf is None or options.crf >= 1)
    if options.hwaccel == "off" or video.hdr is not None or not takes:
        return codec
    if reason := missing(gpu):
        if options.hwaccel != "auto":
            report.warn(f"encoding with {codec.name} on the CPU, {gpu.name} does not work here: {reason}")
        return codec
    report.warn(f"encoding on the GPU with {gpu.name}; --codec {codec.name} encodes on the CPU")
    return gpu


def _decodes_on_gpu(hwaccel: str, info: SourceInfo, report: Report) -> bool:
    video = info.video
    if hwaccel == "off" or (hwaccel == "auto" and video.width * video.height <= ONE_THREAD_SAMPLES):
        return False
    reason = gpu_missing(info.path, video)
    if reason is None:
        report.warn("decoding on the GPU, which hides damage inside pictures; --hwaccel off decodes on the CPU")
    elif hwaccel != "auto":
        raise BackendError(f"{info.path}: --hwaccel {hwaccel}: {reason}; use --hwaccel auto or off")
    elif decoder_missing() is None:  # a GPU, but not for this file
        report.warn(f"decoding on the CPU: {reason}")
    return reason is None


def _check_size(info: SourceInfo, scale: int, format: PixelFormat) -> None:
    width, height = info.video.width * scale, info.video.height * scale
    x, y = format.chroma_shift
    if width % (1 << x) or height % (1 << y):
        raise UsageError(
            f"{info.path}: {width}x{height} is odd, which {format.name} cannot hold: "
            "use an even --scale, or --pixel-format yuv444p"
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
