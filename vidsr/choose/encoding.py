"""What the result is encoded with: a codec and its format, on which device, in how many threads."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path

from vidsr.backends import backend_kind
from vidsr.backends.base import BackendSpec
from vidsr.choose.options import Options
from vidsr.container import NAMES
from vidsr.encode.codecs import CODECS, alpha_codecs, choose_codec, hdr10_codecs
from vidsr.encode.codecs.base import Codec
from vidsr.encode.encoder import EncodeSettings, default_threads
from vidsr.errors import BackendError, UsageError
from vidsr.frames import ColorSpec, PixelFormat, Shape, SourceInfo, StreamInfo
from vidsr.machine import cores, free_memory
from vidsr.mux.keep import output_format
from vidsr.report import Report

MOST_JOBS = 8  # chosen unasked
FRAMES_HELD = 80  # of the result by a segment at work: about 70 in the encoder, which looks ahead, the rest before it
ENLARGED_SHARE = 8  # one of as many of these is still as large as the model makes it, where the result is smaller


def choose_encoding(
    info: SourceInfo, options: Options, output: Path, report: Report
) -> tuple[SourceInfo, Codec, PixelFormat]:
    """(`info`, without alpha where the result has none; the codec; the result's format). UsageError where the codec
    cannot make what is asked for, or the result's container does not take it."""
    video, container = info.video, output_format(output)
    codec = choose_codec(options.codec, video, container)
    if options.codec is None and video.alpha and codec.refuses(options.crf, options.preset):  # meant for another one
        codec = choose_codec(None, replace(video, alpha=False), container)
    check_container(codec, output)
    format = codec.result_format(video.format, options.pixel_format, report, video.alpha)
    return _with_alpha_kept(info, codec, format, output, report), codec, format


def check_container(codec: Codec, output: Path) -> None:
    """UsageError where the container of `output` does not take what `codec` makes."""
    if output_format(output) not in codec.containers:
        raise UsageError(f"{output}: {codec.name} cannot live in {output.suffix}: use .mkv")


def _with_alpha_kept(
    info: SourceInfo, codec: Codec, format: PixelFormat, output: Path, report: Report
) -> SourceInfo:  # fmt: skip
    """`info`; without its video's alpha, which is said, where the result has no place for one."""
    if not info.video.alpha:
        return info
    able = alpha_codecs(output_format(output))
    if codec in able and codec.holds_alpha(format):
        kept = f"{codec.name} as {codec.alpha_layout(format)}"
        report.warn(f"{info.path.name}: its alpha is enlarged, too, and kept: {kept}")
        return info
    names = " or ".join(dict.fromkeys(f"--codec {each.name}" for each in able if each is not codec))
    cure = "an output in .mkv or .mov, which hold it" if not able else names
    report.warn(f"{info.path.name}: its alpha is lost, {codec.name} as {format.name} has none: keep it with {cure}")
    return replace(info, video=replace(info.video, alpha=False))


def choose_encoder(
    options: Options, size: tuple[int, int], codec: Codec, video: StreamInfo, format: PixelFormat, report: Report
) -> Codec:
    """`codec`, or where none was asked for one on the GPU that works here and takes what was asked for."""
    if options.codec is not None:
        if reason := codec.missing(*size, format):
            instead = f"--codec {codec.cpu_equivalent} or auto" if codec.cpu_equivalent else "another --codec"
            raise BackendError(f"--codec {codec.name}: {reason}; use {instead}")
        return codec
    gpu = next((each for each in CODECS.values() if each.on_gpu and each.takes(format)), None)
    if gpu is None or video.alpha or options.hwaccel == "off" or options.encoder_options:
        return codec
    if (video.hdr is not None and not gpu.hdr10) or gpu.refuses(options.crf, options.preset):
        return codec
    if reason := gpu.missing(*size, format):
        if options.hwaccel is not None:
            report.warn(f"encoding with {codec.name} on the CPU, {gpu.name} does not work here: {reason}")
        return codec
    report.warn(f"encoding on the GPU with {gpu.name}; --codec {codec.name} encodes on the CPU")
    return gpu


def encoder_settings(
    options: Options, codec: Codec, color: ColorSpec, video: StreamInfo, container: str, threads: int, live: bool,
    report: Report,
) -> EncodeSettings:  # fmt: skip
    """What the encoder is opened with. UsageError for what it does not know. What it cannot carry is said."""
    if video.hdr is not None and not codec.hdr10:
        report.warn(f"{codec.name} cannot carry HDR10 metadata: it is lost; keep it with --codec {hdr10_codecs()}")
    if video.stereo and container != "matroska" and not codec.frame_packing(video.stereo):
        report.warn(
            f"{codec.name} in {NAMES[container]} cannot say where the eyes of stereo 3D lie ({video.stereo}): "
            "that is lost; keep it with .mkv"
        )
    asked = options.crf, options.preset, options.encoder_options
    settings = codec.options(*asked, color, video.hdr, threads, live, video.stereo)
    return EncodeSettings(codec.name, codec.encoder, settings, video.alpha)


def choose_jobs(
    options: Options, spec: BackendSpec, codec: Codec, video: StreamInfo, shape: Shape | None = None
) -> tuple[int, int]:
    """(segments to work on at once, threads of each one's encoder). shape: see Job.

    Beside a GPU's upscaling an encoder on the CPU is what everything waits for, and x264 does not fill many cores by
    itself. The threads, which the bytes of the result depend on, follow from what was asked for and the cores, never
    from the memory that is free just now.
    """
    wanted = options.jobs or 1
    if options.jobs is None and backend_kind(spec.name).device == "gpu":
        # An encoder on the GPU needs another beside it only while one begins or ends, and drivers allow few.
        wanted = 2 if codec.on_gpu else max(1, min(MOST_JOBS, cores() // 4))
    threads = options.threads or (default_threads() if wanted == 1 else max(2, min(16, ceil(cores() / wanted))))
    if options.jobs is None and wanted > 1:
        held = FRAMES_HELD * _frame_bytes(spec.result_format, spec.scale * video.width, spec.scale * video.height)
        if shape is not None:  # these are soon made smaller
            held = held // ENLARGED_SHARE + FRAMES_HELD * _frame_bytes(spec.result_format, shape.width, shape.height)
        wanted = max(1, min(wanted, free_memory() // 2 // held))
    return wanted, threads


def _frame_bytes(format: PixelFormat, width: int, height: int) -> int:
    return format.dtype.itemsize * sum(rows * columns for rows, columns in format.plane_shapes(width, height))


def check_size(info: SourceInfo, size: tuple[int, int], format: PixelFormat) -> None:
    width, height = size
    x, y = format.chroma_shift
    if width % (1 << x) or height % (1 << y):
        raise UsageError(
            f"{info.path}: {width}x{height} is odd, which {format.name} cannot hold: "
            "use an even size or --scale, or --pixel-format yuv444p"
        )
    if max(width, height) > 16384:
        raise UsageError(f"{info.path}: {width}x{height} is beyond 16384, the largest encoders take: choose less")
