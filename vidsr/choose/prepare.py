"""From what the user asked for to a Job with every choice made, or an error that says what to ask for instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

from vidsr.backends import backend_kind, choose_backend, fallbacks
from vidsr.backends.base import BackendSpec
from vidsr.choose.backend import faster_backend
from vidsr.choose.crop import cropped, shown
from vidsr.choose.fields import choose_weaving
from vidsr.choose.model import Outlook, choose_model, family_member, natively
from vidsr.choose.options import Hwaccel, Options, Reuse, is_number
from vidsr.choose.samples import stretches
from vidsr.choose.size import choose_size, size_name
from vidsr.choose.targets import check_output, default_output
from vidsr.container import HELD_FLAGS, NAMES, open_input
from vidsr.encode.codecs import CODECS, alpha_codecs, choose_codec, find_codec, hdr10_codecs
from vidsr.encode.codecs.base import Codec
from vidsr.encode.encoder import EncodeSettings, default_threads
from vidsr.errors import BackendError, UsageError
from vidsr.frames import ColorSpec, PixelFormat, Shape, SourceInfo, StreamInfo, TimeRange
from vidsr.machine import cores, free_memory
from vidsr.models.checkpoint import weights_sha256
from vidsr.mux.keep import STDOUT, Keep, choose_tracks, output_format
from vidsr.mux.losses import losses
from vidsr.report import Report
from vidsr.reuse.stillness import Stillness, choose_noise
from vidsr.run.finish import Taste
from vidsr.run.job import Job
from vidsr.source.changes import look_through
from vidsr.source.colorspec import result_color
from vidsr.source.decode import ONE_THREAD_SAMPLES, gpu_missing
from vidsr.source.nvcodec import decoder_missing
from vidsr.source.probe import probe
from vidsr.source.weaving import Weaving, pictures
from vidsr.timeline import told_pieces

MOST_JOBS = 8  # chosen unasked
PARTS_SAID = 6  # of a video that changes
LIVE_WINDOW = 6  # frames that a stream looks ahead: a player waits for them
SAMPLED = 24  # frames that follow each other, to find out what counts as still
FRAMES_HELD = 80  # of the result by a segment at work: about 70 in the encoder, which looks ahead, the rest before it
ENLARGED_SHARE = 8  # one of as many of these is still as large as the model makes it, where the result is smaller


def make_spec(
    options: Options, scale: int, source_format: PixelFormat, source_color: ColorSpec, format: PixelFormat,
    color: ColorSpec,
) -> BackendSpec:  # fmt: skip
    """The backend to open. scale: of `choose_scale`. UsageError for an unknown model or backend."""
    name = choose_backend(options.backend, options.precision)
    model = str(family_member(options.model, scale).path) if backend_kind(name).needs_model else ""
    instead = fallbacks(name, options.precision) if options.backend is None else ()
    return BackendSpec(
        name, model, scale, source_format, source_color, format, color, options.tile, options.precision,
        options.compile, instead,
    )  # fmt: skip


def prepare(source: Path, options: Options, report: Report, say: Callable[[str], None] | None = None) -> Job:
    """As `decide`, without what is to be expected."""
    return decide(source, options, report, say)[0]


def decide(
    source: Path, options: Options, report: Report, say: Callable[[str], None] | None = None
) -> tuple[Job, Outlook | None]:
    """Probe `source` and make every choice, before a file is written; and what to expect of the run, if that is known.

    say: told how long the run will take, and which model was chosen for that; nothing is measured only to tell it
    where there is nobody to tell.
    UsageError when the options do not fit the source or each other, SourceError or OutputError when a file does not.
    """
    span = options.span
    if options.codec is not None:
        find_codec(options.codec)
    info = probe(source)
    if options.output != STDOUT:
        info = look_through(info, span)
    elif "mpeg" in info.container:  # who watches does not wait until the whole file has been read
        report.warn(
            f"{source.name}: is not looked through before it is streamed: pictures that change are fitted into "
            f"{info.video.width}x{info.video.height}"
        )
    info = cropped(shown(info, report), options, report)
    output = options.output or default_output(source, size_name(options))
    output_format(output)  # refuses a suffix that is not written, before anything else is said of it
    live = output == STDOUT
    if not live:
        check_output(source, output, options.overwrite)
    video = info.video
    codec = choose_codec(options.codec, video, output_format(output))
    if options.codec is None and video.alpha and codec.refuses(options.crf, options.preset):  # meant for another one
        codec = choose_codec(None, replace(video, alpha=False), output_format(output))
    check_container(codec, output)
    format = codec.result_format(video.format, options.pixel_format, report, video.alpha)
    info = _with_alpha_kept(info, codec, format, output, report)
    video = info.video
    scale, shape = choose_size(options, video.shape, format, video.turned)
    size = (scale * video.width, scale * video.height) if shape is None else (shape.width, shape.height)
    _check_size(info, size, format)
    if say and shape is not None:
        square = " with square pixels" if video.sample_aspect != shape.sample_aspect else ""
        say(f"{source.name}: {video.width}x{video.height} becomes {shape.width}x{shape.height}{square}")
    codec = _choose_encoder(options, size, codec, video, format, report)
    if options.deband and format.bits == 8:
        name = replace(format, bits=10).name
        report.warn(f"--deband: 8 bits hold a smooth slope as a fine pattern only; --pixel-format {name} holds it")
    color = result_color(video.color, format)
    keep = choose_tracks(info, output, options.drop, options.audio, span)
    _announce(info, report)
    weaving = choose_weaving(info, span, options.deinterlace, report, say, None if options.restart else output)
    if weaving is not None and video.alpha:
        report.warn(f"{source.name}: pictures made of fields have no alpha: it is lost; --deinterlace off keeps it")
        info = replace(info, video=replace(video, alpha=False))
        video = info.video
    announce_container(info, keep, report)
    known = {str(track.index) for track in info.tracks}
    for word in sorted(word for word in options.drop if is_number(word) and word not in known):
        report.warn(f"{info.path.name}: has no track #{word} to leave out")
    spec = natively(make_spec(options, scale, video.format, video.color, format, color), shape)
    if options.backend is None:
        spec = faster_backend(spec, info, span, output, options.restart, report, say)
    workers, threads = choose_jobs(replace(options, jobs=1) if live else options, spec, codec, video, shape)
    if video.hdr is not None and not codec.hdr10:
        report.warn(f"{codec.name} cannot carry HDR10 metadata: it is lost; keep it with --codec {hdr10_codecs()}")
    asked = options.crf, options.preset, options.encoder_options
    if video.stereo and keep.container != "matroska" and not codec.frame_packing(video.stereo):
        report.warn(
            f"{codec.name} in {NAMES[keep.container]} cannot say where the eyes of stereo 3D lie ({video.stereo}): "
            "that is lost; keep it with .mkv"
        )
    encoder_options = codec.options(*asked, color, video.hdr, threads, live, video.stereo)
    settings = EncodeSettings(codec.name, codec.encoder, encoder_options, video.alpha)
    on_gpu = _decodes_on_gpu(options.hwaccel, info, report)
    if options.grain and format.family != video.format.family:
        kinds = f"the source is {video.format.name}, the result {format.name}"
        raise UsageError(f"--grain keep: {kinds}, whose planes are others; leave it out")
    still = choose_reuse(options.reuse, spec, info, span, options.grain is not None, weaving)
    if live and still:
        still = replace(still, window=min(still.window, LIVE_WINDOW))
    batch = backend_kind(spec.name).batch_size
    taste = Taste(options.strength, options.deband)
    job = Job(
        info, output, spec, settings, keep, span, batch, workers, on_gpu, still, weaving, options.restart,
        options.overwrite, options.check, shape=shape, audio=options.audio, taste=taste,
    )  # fmt: skip
    outlook = None
    if spec.model:
        model, outlook = choose_model(options.model, job, report, say)
        spec = natively(replace(spec, model=str(model.path)), shape)
        if outlook and say:
            say(outlook.line(datetime.now()))
    remembered: dict[str, Any] = {
        "scale": scale if shape is None else None, "size": "x".join(map(str, size)),
        "sample_aspect": job.result.sample_aspect, "crop": None if video.crop is None else str(video.crop),
        "strength": taste.strength, "deband": taste.deband,
        "model": Path(spec.model).stem or "none",
        "weights": weights_sha256(spec.model) if spec.model else "",
        "reuse": "off" if still is None else asdict(still),
        "codec": codec.name, "encoder_options": dict(settings.options), "pixel_format": format.name,
        "color": asdict(color), "start": span.start, "end": span.end, "deinterlace": options.deinterlace or "auto",
    }  # fmt: skip
    if video.parts:
        remembered["fitted into"] = [video.width, video.height, video.pixel_format, str(video.sample_aspect)]
    return replace(job, backend=spec, settings=remembered), outlook


def choose_reuse(
    wanted: Reuse | None, spec: BackendSpec, info: SourceInfo, span: TimeRange = TimeRange(), grain: bool = False,
    weaving: Weaving | None = None,
) -> Stillness | None:  # fmt: skip
    """What counts as still, or None for no reuse; see Options.

    Where the choice is ours, a second of frames in three places of `span` is looked at. The stand-in for a generator
    loses nothing, so neither does this.
    """
    if wanted == "off":
        return None
    if wanted == "exact" or not spec.model:
        return Stillness()
    looked_at = []
    places = stretches(info, span, (0.0, 0.4, 0.75), SAMPLED)
    with open_input(info.path) as container:
        for place in places:
            frames = pictures(
                info.path, info.video, place.start, place.end, place.seek, Report(), False, container, weaving
            )  # fmt: skip
            looked_at.append(list(islice(frames, SAMPLED)))
    video = info.video
    found = Stillness(choose_noise(looked_at, video.format), grain=grain)
    return found.fitting(video.width, video.height, video.format)


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


def _choose_encoder(
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


def _decodes_on_gpu(hwaccel: Hwaccel | None, info: SourceInfo, report: Report) -> bool:
    video = info.video
    if hwaccel == "off" or (hwaccel is None and video.width * video.height <= ONE_THREAD_SAMPLES):
        return False
    reason = gpu_missing(info.path, video)
    if reason is None:
        report.warn("decoding on the GPU, which hides damage inside pictures; --hwaccel off decodes on the CPU")
    elif hwaccel is not None:
        raise BackendError(f"{info.path}: --hwaccel {hwaccel}: {reason}; use --hwaccel auto or off")
    elif decoder_missing() is None:  # a GPU, but not for this file
        report.warn(f"decoding on the CPU: {reason}")
    return reason is None


def _check_size(info: SourceInfo, size: tuple[int, int], format: PixelFormat) -> None:
    width, height = size
    x, y = format.chroma_shift
    if width % (1 << x) or height % (1 << y):
        raise UsageError(
            f"{info.path}: {width}x{height} is odd, which {format.name} cannot hold: "
            "use an even size or --scale, or --pixel-format yuv444p"
        )
    if max(width, height) > 16384:
        raise UsageError(f"{info.path}: {width}x{height} is beyond 16384, the largest encoders take: choose less")


def announce_container(info: SourceInfo, keep: Keep, report: Report) -> None:
    """Say what is dropped, and what else the result's container cannot keep."""
    container = keep.container
    for track in keep.dropped:
        report.warn(f"dropped: {track}")
    for track, why in keep.left:
        report.warn(f"{info.path.name}: {track} is left out: {why}")
    for line in losses(container, info):
        report.warn(f"{info.path.name}: {line}")
    if keep.scripts:
        which = ", ".join(f"#{index}" for index in keep.scripts)
        report.warn(
            f"{info.path.name}: the ASS of {which} is told the size it was made for, LayoutRes {info.video.width}x"
            f"{info.video.height}, so that borders, shadows and blur stay as wide; all else of it is kept"
        )
    for sound in keep.sounds:
        if sound.note:
            report.warn(f"{info.path.name}: {sound.note}")
    for track in info.tracks:
        if track.kind == "video" and track.index in keep.copy:
            report.warn(
                f"{info.path.name}: {track} is copied as it is, only #{info.video.index} is enlarged; leave it out "
                f"with --drop {track.index}"
            )
    for track in info.tracks if container != "matroska" else ():
        held = {"default", "attached_pic", *HELD_FLAGS[container]}
        lost = [f"its flag “{flag}”" for flag in track.dispositions if flag not in held]
        if track.index in keep.copy and lost:
            report.warn(f"{info.path.name}: {NAMES[container]} has no place for {' and '.join(lost)} of {track}")
    if container == "matroska" and (info.video.time_base * 1000).denominator != 1:
        report.warn(f"{info.path.name}: MKV rounds its timestamps to milliseconds; .mp4 would keep them exactly")


def _changes(video: StreamInfo) -> str:
    """Where its pictures change, and what becomes of them."""
    begin, said = video.parts[0].start, []
    for part in video.parts[:PARTS_SAID]:
        shape = "" if part.sample_aspect == 1 else f" (pixel shape {part.sample_aspect})"
        format = "" if part.pixel_format == video.pixel_format else f" {part.pixel_format}"
        at = f" from {float((part.start - begin) * video.time_base):.1f} s" if part.start != begin else ""
        said.append(f"{part.width}x{part.height}{shape}{format}{at}")
    more = f" and {len(video.parts) - PARTS_SAID} more changes" if len(video.parts) > PARTS_SAID else ""
    shape = "" if video.sample_aspect == 1 else f" (pixel shape {video.sample_aspect})"
    return (
        f"its pictures change: {', '.join(said)}{more}; all are fitted into {video.width}x{video.height}{shape} before "
        "they are enlarged, with black bars where their shape is another"
    )


def _announce(info: SourceInfo, report: Report) -> None:
    """Say what was assumed and what cannot be kept whatever the container, before hours go into it."""
    if info.video.color.assumed:
        report.warn(f"{info.path.name}: {'; '.join(info.video.color.assumed)}")
    if not info.video.timed:
        report.warn(
            f"{info.path.name}: has no times; its pictures follow each other at {float(info.video.rate):.3f} a second, "
            "and the whole file is one segment: a stopped run starts over"
        )
    elif not info.video.monotonic:
        report.warn(
            f"{info.path.name}: its timestamps come out of order; pictures keep the order they decode in, and "
            "the whole file is one segment: a stopped run starts over"
        )
    if info.video.parts:
        report.warn(f"{info.path.name}: {_changes(info.video)}")
    for line in told_pieces(info.video.timeline):
        report.warn(f"{info.path.name}: {line}")
    for what in info.video.lost:
        report.warn(f"{info.path.name}: {what} cannot be carried over and will be missing")
