"""From what the user asked for to a Job with every choice made, or an error that says what to ask for instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from vidsr.backends import backend_kind, choose_backend, fallbacks
from vidsr.backends.base import BackendSpec
from vidsr.choose.announce import announce_container, announce_source
from vidsr.choose.backend import faster_backend
from vidsr.choose.crop import cropped, shown
from vidsr.choose.encoding import check_size, choose_encoder, choose_encoding, choose_jobs, encoder_settings
from vidsr.choose.fields import choose_weaving
from vidsr.choose.model import Outlook, choose_model, family_member, natively
from vidsr.choose.options import Hwaccel, Options, Reuse, is_number
from vidsr.choose.samples import stretches
from vidsr.choose.size import choose_size, size_name
from vidsr.choose.targets import check_output, default_output
from vidsr.container import open_input
from vidsr.encode.codecs import find_codec
from vidsr.errors import BackendError, UsageError
from vidsr.frames import ColorSpec, PixelFormat, SourceInfo, TimeRange
from vidsr.models.checkpoint import weights_sha256
from vidsr.mux.keep import STDOUT, choose_tracks, output_format
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

LIVE_WINDOW = 6  # frames that a stream looks ahead: a player waits for them
SAMPLED = 24  # frames that follow each other, to find out what counts as still


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
    info = _looked_at(source, options, report)
    output = options.output or default_output(source, size_name(options))
    output_format(output)  # refuses a suffix that is not written, before anything else is said of it
    live = output == STDOUT
    if not live:
        check_output(source, output, options.overwrite)
    info, codec, format = choose_encoding(info, options, output, report)
    video = info.video
    scale, shape = choose_size(options, video.shape, format, video.turned)
    size = (scale * video.width, scale * video.height) if shape is None else (shape.width, shape.height)
    check_size(info, size, format)
    if say and shape is not None:
        square = " with square pixels" if video.sample_aspect != shape.sample_aspect else ""
        say(f"{source.name}: {video.width}x{video.height} becomes {shape.width}x{shape.height}{square}")
    codec = choose_encoder(options, size, codec, video, format, report)
    if options.deband and format.bits == 8:
        name = replace(format, bits=10).name
        report.warn(f"--deband: 8 bits hold a smooth slope as a fine pattern only; --pixel-format {name} holds it")
    color = result_color(video.color, format)
    keep = choose_tracks(info, output, options.drop, options.audio, span)
    announce_source(info, report)
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
    settings = encoder_settings(options, codec, color, video, keep.container, threads, live, report)
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
    job = replace(job, backend=spec)
    return replace(job, settings=_remembered(job, options)), outlook


def _looked_at(source: Path, options: Options, report: Report) -> SourceInfo:
    """What is in `source`, what changes in its video, and what part of its pictures is meant."""
    info = probe(source)
    if options.output != STDOUT:
        info = look_through(info, options.span)
    elif "mpeg" in info.container:  # who watches does not wait until the whole file has been read
        report.warn(
            f"{source.name}: is not looked through before it is streamed: pictures that change are fitted into "
            f"{info.video.width}x{info.video.height}"
        )
    return cropped(shown(info, report), options, report)


def _remembered(job: Job, options: Options) -> dict[str, Any]:
    """What a resumed run must not differ in."""
    video, spec, shape, result = job.info.video, job.backend, job.shape, job.result
    found: dict[str, Any] = {
        "scale": spec.scale if shape is None else None, "size": f"{result.width}x{result.height}",
        "sample_aspect": result.sample_aspect, "crop": None if video.crop is None else str(video.crop),
        "strength": job.taste.strength, "deband": job.taste.deband,
        "model": Path(spec.model).stem or "none",
        "weights": weights_sha256(spec.model) if spec.model else "",
        "reuse": "off" if job.reuse is None else asdict(job.reuse),
        "codec": job.encoder.codec, "encoder_options": dict(job.encoder.options),
        "pixel_format": spec.result_format.name, "color": asdict(spec.result_color),
        "start": job.span.start, "end": job.span.end, "deinterlace": options.deinterlace or "auto",
    }  # fmt: skip
    if video.parts:
        found["fitted into"] = [video.width, video.height, video.pixel_format, str(video.sample_aspect)]
    return found


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
