"""`-o -`: the episode as a Matroska stream into a pipe, its pictures as they are made and everything else beside them.

    decode ─► batch ─► upscale ─► encode ─┐
                                          ├─► in order of time ─► header made whole ─► pipe
    the source's other packets, copied ───┘

The stages are those of stages.py, over the whole span as one segment. Each waits for the one behind it: a player that
pauses makes them all wait, and nothing is kept but what lies between them.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from math import inf
from typing import Any

import av
from av.container import InputContainer, OutputContainer

from vidsr.backends.base import Backend, BackendSpec
from vidsr.container import go_to, open_input
from vidsr.encode.encoder import Encoder
from vidsr.errors import OutputError, UsageError, VidsrError
from vidsr.frames import Frame, SourceInfo, TimeRange, Window
from vidsr.mux.copies import add_streams, copied_packets, lost_details, muxer_options, set_chapters, when
from vidsr.mux.matroska.restore import restored_header
from vidsr.report import Report
from vidsr.reuse.reuse import ReuseCounts
from vidsr.run.job import Job, Progress
from vidsr.run.pipeline import warn_if_short
from vidsr.run.segments import Segment, one_segment
from vidsr.run.stages import enlarged, finishing

READ_AHEAD = 16 << 20  # bytes of copied packets at most that wait for their time
FURTHER_ON = 10.0  # seconds of pictures behind which the file may still hold what goes with them
BEFORE_START = 60.0  # seconds before a span in which it may hold what belongs into it
JUDGED_AFTER = 10.0  # seconds of work, to know whether it keeps up with the player
_MUXER = {
    # A cluster for each step in time, so that a picture goes out when the next packet comes.
    "cluster_time_limit": "0", "flush_packets": "1",
    # The packets are in order: FFmpeg is not to hold them back for a track that is silent, ten seconds by default.
    "max_interleave_delta": "1",
}  # fmt: skip


def claim_stdout() -> int:
    """A file descriptor that leads where standard output did, for the stream alone: what else this process or a library
    prints goes to standard error from now on. UsageError when it leads to a terminal or nowhere."""
    try:
        if os.isatty(1):
            raise UsageError("-o -: would print the video on the terminal; pipe it: vidsr episode.mkv -o - | mpv -")
        pipe = os.dup(1)
    except OSError as error:
        raise UsageError("-o -: standard output is closed; pipe it: vidsr episode.mkv -o - | mpv -") from error
    try:
        os.dup2(2, 1)
    except OSError:  # standard error is closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
    return pipe


def stream(
    job: Job, pipe: int, open_backend: Callable[[BackendSpec], Backend], report: Report,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> bool:  # fmt: skip
    """Upscale `job.info.path` into the file descriptor `pipe`; False when its reader went away before the end.

    Any VidsrError ends what was sent with whole pictures. OutputError when nothing decodes, or the pipe's other end is
    a file and cannot be written.
    """
    sink = _Sink(pipe)
    try:
        segment, counts = one_segment(job.info, job.span), ReuseCounts()
        with closing(open_backend(job.backend)) as backend:
            # Before the first picture: what is built or compiled for a size then is, for whole pictures and for parts.
            backend.settle(job.info.video.width, job.info.video.height, job.reuse is not None)
            with enlarged(
                job.info, segment, backend, report, job.batch_size, job.reuse, job.decode_on_gpu, counts=counts,
                weaving=job.weaving, with_alpha=job.backend if job.encoder.alpha else None,
            ) as upscaled, finishing(upscaled, job) as frames:
                _send(job, segment, frames, counts, sink, report, progress)
    except (av.FFmpegError, OSError) as error:
        if sink.gone:
            return False
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{job.info.path}: the stream cannot be written ({reason})") from error
    return True


def _send(
    job: Job, segment: Segment, frames: Iterator[Frame], counts: ReuseCounts, sink: _Sink, report: Report,
    progress: Callable[[Progress], None],
) -> None:  # fmt: skip
    info, spec, video = job.shown, job.backend, job.shown.video
    taken = _counted(job, frames, counts, sink, report, progress)
    first = next(taken, None)
    if first is None:
        raise OutputError(f"{info.path}: no frame of the part asked for decodes; nothing was written")
    window = job.window(first.pts, segment.end)
    shift = round(window.shift / video.time_base)
    with open_input(info.path) as source, _matroska(sink, {**muxer_options(info, job.keep), **_MUXER}) as result:
        height, width = first.planes[0].shape
        encoder = Encoder(
            result, job.encoder, width, height, spec.result_format, spec.result_color,
            video.time_base, video.rate, job.result.sample_aspect,
        )  # fmt: skip
        for name, value in _described(spec).items():
            encoder.stream.codec_context.options.setdefault(name, value)
        mapping = add_streams(source, result, info, job.keep, lambda: encoder.stream)
        set_chapters(source, result, window)
        result.start_encoding()
        patches, details = lost_details(info, job.keep, window, job.result.sample_aspect)
        length = _length(source, info, job.span, float(first.pts * video.time_base))
        sink.send_header(lambda header: restored_header(header, patches, details, length))
        copies = _Copies(source, mapping, job, segment.start, window)
        for packet, pts in _encoded(encoder, first, taken):
            packet.pts, packet.dts = pts - shift, min(packet.dts, pts) - shift
            for copied in copies.until(when(packet)):
                result.mux(copied)
            result.mux(packet)
        for copied in copies.until(inf):
            result.mux(copied)


def _described(spec: BackendSpec) -> dict[str, str]:
    """What a segment file's header gets from decoding its first pictures, and a stream's must say beforehand."""
    described = {"field_order": "progressive"}
    if spec.result_format.chroma_shift == (1, 1):
        described["chroma_sample_location"] = spec.result_color.chroma_location
    return described


def _encoded(encoder: Encoder, first: Frame, others: Iterator[Frame]) -> Iterator[tuple[Any, int]]:
    """Each packet with the true pts of its picture, which never goes back."""
    last = first.pts
    yield from encoder.encode(first, last)
    for frame in others:
        last = max(last, frame.pts)
        yield from encoder.encode(frame, last)
    yield from encoder.encode(None)


def _counted(
    job: Job, frames: Iterator[Frame], counts: ReuseCounts, sink: _Sink, report: Report,
    progress: Callable[[Progress], None],
) -> Iterator[Frame]:  # fmt: skip
    """`frames`, each one told of; what the numbers mean for who is watching is said."""
    info, rate = job.shown, float(job.shown.video.rate)
    length = _part(info, job.span)
    expected = 0 if length is None else round(length * rate)
    done, first, last, begin = 0, 0, 0, 0.0
    for frame in frames:
        now = time.monotonic()
        first, last, begin = (first, max(last, frame.pts), begin) if done else (frame.pts, frame.pts, now)
        done += 1
        if (worked := now - begin - sink.waited) > JUDGED_AFTER and (done - 1) / worked < 0.95 * rate:
            report.warn(
                f"{info.path.name}: plays at {rate:.2f} frames a second and comes at less: the player will wait at "
                "times; pause it for a while first, or try --scale 2 or a smaller --model"
            )
        progress(Progress(done, max(expected, done + 1), 1, 1, 0, counts.reused))
        yield frame
    if done:
        progress(Progress(done, done, 1, 1, 0, counts.reused))
        warn_if_short(job, first, last, report)


def _part(info: SourceInfo, span: TimeRange) -> float | None:
    """Seconds of `span`, as far as the container tells."""
    if info.duration is None:
        return None if span.end is None else span.end - span.start
    return max(0.0, (info.duration if span.end is None else min(span.end, info.duration)) - span.start)


def _length(source: InputContainer, info: SourceInfo, span: TimeRange, first: float) -> float | None:
    """What a Matroska header calls the duration: the second at which it ends, counted from 0.

    first: the source's time of the first picture, which becomes 0 in a part that begins later than the source.
    """
    ends = []
    if span.end is not None:
        ends.append(span.end - span.start + (0 if span.start else first))
    if info.duration is not None:
        begin = 0 if "matroska" in info.container else max(0, source.start_time or 0) / av.time_base
        ends.append(begin + info.duration - (first if span.start else 0))
    return max(0.0, min(ends)) if ends else None


class _Copies:
    """The source's other packets, given in the order of their times whatever their order in the file.

    The source's own video tells how far the file has been read: as far as the picture has come, or for sound that is
    missing FURTHER_ON, since it may have ended. What lies ahead waits here, READ_AHEAD bytes at most. Of a file that
    holds its tracks further apart a packet may then come late, but none is lost.
    """

    def __init__(
        self, source: InputContainer, mapping: dict[int, Any], job: Job, start: int | None, window: Window
    ) -> None:
        info, video = job.info, job.info.video
        begin = None
        if start is not None and start * video.time_base > BEFORE_START:
            begin = go_to(source, video, start - int(BEFORE_START / video.time_base))
        self._packets = copied_packets(source, mapping, info, job.keep, window, clock=True, begin=begin or 0)
        self._clock_index = mapping[info.video.index].index
        others = {index: added.index for index, added in mapping.items() if index != info.video.index}
        self._queues: dict[int, deque[Any]] = {index: deque() for index in others.values()}
        # A player waits for sound; a subtitle may not come for minutes.
        self._paced = [self._queues[others[t.index]] for t in info.tracks if t.kind == "audio" and t.index in others]
        self._behind = inf if window.end is None else float(window.end - window.shift) + FURTHER_ON
        self._clock, self._held, self._ended = -inf, 0, not others

    def until(self, time: float) -> Iterator[Any]:
        """All that is still to come with a time up to `time`, in seconds."""
        while True:
            while self._lacks(time):
                self._read()
            queue = min((queue for queue in self._queues.values() if queue), key=lambda q: when(q[0]), default=None)
            if queue is None or when(queue[0]) > time:
                return
            packet = queue.popleft()
            self._held -= packet.size
            yield packet

    def _lacks(self, time: float) -> bool:
        if self._ended or self._held >= READ_AHEAD:
            return False
        if self._clock < time:
            return True
        missing = any(not queue or when(queue[-1]) <= time for queue in self._paced)
        return missing and self._clock < time + FURTHER_ON

    def _read(self) -> None:
        packet = next(self._packets, None)
        if packet is None or self._clock > self._behind:
            self._ended = True
        elif packet.stream_index == self._clock_index:
            self._clock = max(self._clock, when(packet))
        else:
            self._queues[packet.stream_index].append(packet)
            self._held += packet.size


class _Sink:
    """What PyAV writes to: a pipe, forwards only. The header is kept until it is whole.

    waited: seconds that the reader let pass. gone: it has closed its end; what comes then goes nowhere.
    """

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._header: bytearray | None = bytearray()
        self.waited, self.gone = 0.0, False

    def write(self, data: bytes) -> int:
        if self._header is not None:
            self._header += data
        elif not self.gone:
            self._send(data)
        return len(data)

    def send_header(self, change: Callable[[bytes], bytes]) -> None:
        assert self._header is not None
        header, self._header = bytes(self._header), None
        self._send(change(header))

    def _send(self, data: bytes) -> None:
        begin = time.monotonic()
        left = memoryview(data)
        try:
            while left:
                try:
                    left = left[os.write(self._pipe, left) :]
                except BlockingIOError:  # whoever made the pipe does not wait at its ends
                    select.select([], [self._pipe], [])
        except OSError as error:
            self.gone = isinstance(error, BrokenPipeError | ConnectionError)
            raise
        self.waited += time.monotonic() - begin


@contextmanager
def _matroska(sink: _Sink, options: dict[str, str]) -> Iterator[OutputContainer]:
    """A Matroska stream into `sink`. After an error it ends with what was given to it."""
    result = av.open(sink, "w", format="matroska", container_options=options, metadata_errors="surrogateescape")
    try:
        yield result
    except BaseException:
        with suppress(av.FFmpegError, OSError, ValueError, VidsrError):
            result.close()
        raise
    result.close()
