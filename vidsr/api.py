"""What `import vidsr` gives: the command line is made of this, and so can other programs be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

from vidsr.backends import BACKENDS as BACKENDS
from vidsr.backends import available_backends, backend_kind, open_backend
from vidsr.backends.base import Backend, BackendSpec
from vidsr.choose.announce import announce_container
from vidsr.choose.crop import cropped, shown
from vidsr.choose.encoding import check_container
from vidsr.choose.fields import choose_weaving
from vidsr.choose.model import FAMILY as FAMILY
from vidsr.choose.model import Outlook
from vidsr.choose.options import LEAST_TILE as LEAST_TILE
from vidsr.choose.options import Choices, Expected, Options
from vidsr.choose.options import is_number as is_number
from vidsr.choose.pictures import choose_picture, expected_size
from vidsr.choose.prepare import decide
from vidsr.choose.size import expected_shape
from vidsr.choose.size import size_name as size_name
from vidsr.choose.targets import check_animation, check_output, check_stream, default_output
from vidsr.choose.targets import is_still as is_still
from vidsr.choose.targets import makes_picture as makes_picture
from vidsr.choose.targets import targets as targets
from vidsr.container import read_times
from vidsr.encode.codecs import AUTO as AUTO_CODECS  # noqa: F401
from vidsr.encode.codecs import CODECS as CODECS
from vidsr.encode.codecs import hdr10_codecs as hdr10_codecs
from vidsr.errors import BackendError, UsageError
from vidsr.frames import PixelFormat, SourceInfo, TimeRange, Track
from vidsr.machine import keep_memory as keep_memory
from vidsr.models import checkpoint
from vidsr.models.checkpoint import ModelInfo
from vidsr.mux.keep import DROP_WORDS as DROP_WORDS
from vidsr.mux.keep import STDOUT, Keep, choose_tracks, default_suffix, output_format
from vidsr.mux.sound import ENCODERS as AUDIO  # noqa: F401
from vidsr.pictures.base import PictureInfo
from vidsr.pictures.fit import result_of
from vidsr.pictures.read import look
from vidsr.proof.pictures import verify_picture
from vidsr.proof.verify import Proof, compare
from vidsr.report import Report
from vidsr.run.job import Job, Progress
from vidsr.run.live import claim_stdout as claim_stdout
from vidsr.run.live import stream as stream_job
from vidsr.run.pipeline import run as run_job
from vidsr.run.segments import work_folder as work_folder
from vidsr.run.stills import upscale_picture as enlarge_picture
from vidsr.source.changes import look_through
from vidsr.source.nvcodec import decoder_missing
from vidsr.source.probe import probe as probe_file
from vidsr.timeline import told_gaps, told_pieces

Told = Callable[[str], None]


def probe(path: str | Path) -> SourceInfo:
    """What is in a video file: its streams, colour, timing. SourceError when there is no picture to upscale."""
    return shown(probe_file(path), Report())


def probe_picture(path: str | Path) -> PictureInfo:
    """What is in the file of a picture or an animation. SourceError when it is none."""
    return look(Path(path))


def picture_losses(source: PictureInfo, output: Path | None = None) -> tuple[str, ...]:
    """What a result of this name cannot hold of `source`, one phrase each; None: the default's. UsageError where it can
    hold nothing of it."""
    target = output or default_output(source.path, "1x")
    return tuple(result_of(source, target, lambda page: (page.width, page.height))[1])


def combs(info: SourceInfo, say: Told = lambda line: None) -> tuple[str, ...]:
    """What a video's fields are, and what a run makes of them: one line, none where they are whole pictures. All of it
    is decoded for this, which is said where it takes a while."""
    report = Report()
    choose_weaving(info, TimeRange(), None, report, say)
    return tuple(line.removeprefix(f"{info.path.name}: ") for line in report.lines)


def plan(
    path: str | Path, output: str | Path | None = None, *, told: Told | None = None, **choices: Unpack[Choices]
) -> Plan:  # fmt: skip
    """Make every choice for upscaling `path`, and measure for some seconds what to expect. Writes no file.

    output: the result; None: beside the source, `episode.4x.mkv`, with `height=1080` `episode.1080p.mkv`; its container
    decides what can be kept.
    choices: the fields of Options; what is left out is chosen for the source and the machine.
    told: called with each line worth knowing as it comes up; they are in the plan, too.
    UsageError for choices that do not fit the source or each other, SourceError, OutputError, ModelError, BackendError.
    """
    return plan_with(Path(path), _options(output, choices), told, lambda line: None)


def plan_with(path: Path, options: Options, told: Told | None = None, say: Told | None = None) -> Plan:
    """`plan` with `options` made before.

    say: told of what is being measured, and what came of it; None: nothing is measured only to know what to expect.
    """
    _check(path, options.output)
    report = Report(told or (lambda line: None))
    job, expected = decide(path, options, report, say)
    return Plan(job, expected, options, report)


def _check(path: Path, output: Path | None) -> None:
    if output == STDOUT:
        raise UsageError("-: a stream has no plan and no proof: use vidsr.stream")
    if makes_picture(path, output):
        raise UsageError(f"{path}: is a picture: use vidsr.upscale_picture")
    check_animation(path)


@dataclass(frozen=True)
class Plan:
    """What will run, every choice made.

    job: the whole of it. expected: frames a second, as measured; None where nothing was: the part is so short that the
    run itself tells sooner, there is no model, or no picture can be read to measure with. options: what was asked for.
    report: what there was to say so far.
    """

    job: Job
    expected: Outlook | None
    options: Options
    report: Report = field(repr=False)

    @property
    def source(self) -> SourceInfo:
        return self.job.info

    @property
    def output(self) -> Path:
        return self.job.output

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the result, pixels."""
        return self.job.result.width, self.job.result.height

    @property
    def model(self) -> str:
        """The name of the weights; "" for a backend without any."""
        return Path(self.job.backend.model).stem

    @property
    def backend(self) -> str:
        return self.job.backend.name

    @property
    def codec(self) -> str:
        return self.job.encoder.codec

    @property
    def frames_a_second(self) -> tuple[float, float] | None:
        """At the least and at the most, as measured."""
        return None if self.expected is None else self.expected.speed.range

    @property
    def seconds(self) -> tuple[float, float] | None:
        """How long the run will take, at the least and at the most; None where that is unknown."""
        if self.expected is None or self.expected.frames is None:
            return None
        low, high = self.expected.speed.range
        return self.expected.frames / high, self.expected.frames / low

    @property
    def bytes(self) -> int | None:
        """About how large the result's video will be; None where that is unknown."""
        expected = self.expected
        if expected is None or expected.frames is None or expected.speed.frame_bytes is None:
            return None
        return round(expected.frames * expected.speed.frame_bytes)

    @property
    def kept(self) -> tuple[Track, ...]:
        """The source's tracks that are copied."""
        return tuple(track for track in self.source.tracks if track.index in self.job.keep.copy)

    @property
    def lost(self) -> tuple[str, ...]:
        """What will not be in the result, one phrase each: dropped tracks, and what only lives inside the video."""
        left = (track for track, _ in self.job.keep.left)
        return (*map(str, self.job.keep.dropped), *map(str, left), *self.source.video.lost)

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything assumed or lost, one line each."""
        return tuple(self.report.lines)

    def run(
        self, output: str | Path | None = None, *, progress: Callable[[Progress], None] = lambda progress: None,
        cancelled: Callable[[], bool] = lambda: False, opened: Told = lambda description: None,
    ) -> Result:  # fmt: skip
        """Upscale into `output`, by default the plan's. A run that was stopped goes on where it was, unless
        Options.restart.

        progress: called after each frame and step, from several threads, one at a time. cancelled: asked as often; True
        ends the run with Cancelled. opened: told which device, precision and model do the work.
        VerifyError where the result does not prove to be the source; OutputError, ResumeError and others as they come.
        """
        report = self.report.copy()
        job = self.job if output is None else self._into(Path(output), report)
        check_output(self.source.path, job.output, job.overwrite)
        begin, done = time.monotonic(), 0

        def counted(where: Progress) -> None:
            nonlocal done
            done = where.done
            progress(where)

        def opening(spec: BackendSpec) -> Backend:
            backend = open_backend(spec, report.warn)
            opened(backend.description)
            return backend

        proof = run_job(job, opening, report, counted, cancelled)
        seconds = time.monotonic() - begin
        return Result(job.output, proof, done, seconds, tuple(report.lines), dict(report.counts))

    def _into(self, output: Path, report: Report) -> Job:
        _check(self.source.path, output)
        if output_format(output) == self.job.keep.container:
            keep = self.job.keep
        else:
            keep = choose_tracks(self.source, output, self.options.drop, self.options.audio, self.options.span)
            announce_container(self.source, keep, report)
        check_container(CODECS[self.codec], output)
        return replace(self.job, output=output, keep=keep)


@dataclass(frozen=True)
class Result:
    """A finished run. frames: of the result; seconds: that this run took.

    proof: None where none was wanted. notes: what was assumed and lost, one line each. counts: of what was damaged.
    """

    output: Path
    proof: Proof | None
    frames: int
    seconds: float
    notes: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


def upscale(
    path: str | Path, output: str | Path | None = None, *, told: Told | None = None,
    progress: Callable[[Progress], None] = lambda progress: None, cancelled: Callable[[], bool] = lambda: False,
    **choices: Unpack[Choices],
) -> Result:  # fmt: skip
    """`plan` and its `run` in one; nothing is measured but what a choice depends on."""
    return plan_with(Path(path), _options(output, choices), told).run(progress=progress, cancelled=cancelled)


def stream_with(
    path: Path, options: Options, pipe: int, told: Told, say: Told = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None, opened: Told = lambda description: None,
) -> tuple[bool, Report]:  # fmt: skip
    """`stream` with `options` made before; besides, what there was to say."""
    check_stream([path], options)
    report = Report(told)
    job, _ = decide(path, replace(options, output=STDOUT), report, say)
    say("streaming; a stream cannot be read back, so it is not proved")

    def opening(spec: BackendSpec) -> Backend:
        backend = open_backend(spec, report.warn)
        opened(backend.description)
        return backend

    return stream_job(job, pipe, opening, report, progress), report


def upscale_picture(
    path: str | Path, output: str | Path | None = None, *, told: Told | None = None, **choices: Unpack[Choices]
) -> Path:  # fmt: skip
    """A still picture, enlarged, as a file beside it or at `output`; where it is."""
    return upscale_picture_with(Path(path), _options(output, choices), told)


def upscale_picture_with(
    path: Path, options: Options, told: Told | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Path:  # fmt: skip
    """`upscale_picture` with `options` made before."""
    tell = told or (lambda line: None)
    job = choose_picture(path, options, tell)

    def shown(done: int) -> None:
        progress(Progress(done, len(job.result.pages), 1, 1, 0))

    enlarge_picture(job, lambda wanted: open_backend(wanted, tell), shown)
    return job.result.path


def stream(
    path: str | Path, pipe: int, *, told: Told | None = None,
    progress: Callable[[Progress], None] = lambda progress: None, **choices: Unpack[Choices],
) -> bool:  # fmt: skip
    """Upscale `path` as a Matroska stream into the file descriptor `pipe`; False when its reader went away before the
    end. A stream cannot be read back, so it is not proved."""
    return stream_with(Path(path), Options(**choices), pipe, told or (lambda line: None))[0]


def verify(
    source: str | Path, result: str | Path, *, dropped: set[int] | None = None, **choices: Unpack[Expected]
) -> Proof:  # fmt: skip
    """Prove that `result` is `source`, enlarged, with nothing else touched, down to packets, tags and pictures.

    dropped: source tracks that may be missing; None: those that the result's container cannot hold. choices: those of
    Options that the result was made with; without any of a size, every larger one of the same shape is right. All of
    the source is looked at for combs again, to know which pictures to expect.
    """
    options = Options(**choices)  # which checks them
    if is_still(Path(source)) and is_still(Path(result)):
        return verify_picture(Path(source), Path(result), expected_size(options))
    before, after = look_through(probe_file(source), options.span), look_through(probe_file(result))
    before = cropped(shown(before, Report()), options, Report())
    shape = expected_shape(options, before.video.shape, after.video.format, before.video.turned)
    weaving = choose_weaving(before, options.span, options.deinterlace, Report())
    return compare(before, after, shape, dropped, options.span, options.audio, weaving)


def installed_models() -> list[ModelInfo]:
    """The installed weights, by name, with what they were measured at."""
    return checkpoint.installed_models()


def _options(output: str | Path | None, choices: Choices) -> Options:
    return Options(output=None if output is None else Path(output), **choices)


def capabilities() -> dict[str, str | None]:
    """Every backend, the fastest first, and the GPU's codecs: None where it works here, else one line why not."""
    found = {name: reason and reason.removeprefix(f"{name}: ") for name, reason in available_backends().items()}
    encoders = {
        codec.name: codec.missing(256, 144, PixelFormat("yuv", codec.depths[0], codec.chroma[0]))
        for codec in CODECS.values() if codec.on_gpu
    }  # fmt: skip
    return {**found, "hardware decoding": decoder_missing(), **encoders}


def devices(backend: str) -> tuple[str, ...]:
    """What a backend can run on, one line each, where that is worth telling; UsageError for a name that is none."""
    try:
        return tuple(backend_kind(backend).devices())
    except BackendError:  # it is not installed
        return ()


def about_times(source: SourceInfo) -> list[str]:
    """What there is to say of a source's times, a phrase each: where they restart, where pictures are missing. The
    whole file is read for it, nothing decoded."""
    return [*told_pieces(source.video.timeline), *told_gaps(read_times(source)[1])]


def what_is_kept(source: SourceInfo, output: Path | None = None) -> tuple[Keep, Path]:
    """(what becomes of each track, the result it is for), with whatever the result's container cannot hold dropped.

    output: only its suffix counts; None: what it would be by default.
    """
    target = output or source.path.with_suffix(default_suffix(source.path))
    return choose_tracks(source, target, {"unsupported"}), target
