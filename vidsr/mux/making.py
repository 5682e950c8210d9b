"""Sound that is not copied packet by packet: AAC out of its wrapping, and tracks decoded and encoded anew."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer

from vidsr.aac import AacError, unwrap
from vidsr.frames import Window
from vidsr.mux.matroska import details as matroska
from vidsr.mux.matroska.ebml import element, master, text, uint
from vidsr.mux.sound import Sound

JUMP = Fraction(30, 1000)  # seconds between what was and what comes that are no rounding: a gap, or an overlap
BEFORE = 2  # seconds of packets before a part, for decoders that need what came before


def add_sound(result: OutputContainer, sound: Sound) -> Any:
    """The result's stream for one track."""
    if sound.config:
        with av.open(io.BytesIO(_aac_file(sound)), format="matroska") as template:
            added: Any = result.add_stream_from_template(template.streams.audio[0], opaque=True)
            added.codec_context.extradata = sound.config
            return added
    added = result.add_stream(sound.encoder, rate=sound.rate)
    context = added.codec_context
    context.layout, context.format = sound.layout, sound.format
    if sound.bit_rate:
        context.bit_rate = sound.bit_rate
    added.time_base = Fraction(1, sound.rate)
    return added


def _aac_file(sound: Sound) -> bytes:
    """A Matroska file without sound, from whose header FFmpeg takes what it has to know of an AAC track."""
    channels = av.AudioLayout(sound.layout).nb_channels
    audio = master(0xE1, element(0xB5, struct.pack(">d", sound.rate)) + uint(0x9F, channels))
    track = uint(matroska.TRACK_NUMBER, 1) + uint(matroska.TRACK_UID, 1) + uint(matroska.TRACK_TYPE, 2)
    track += text(matroska.CODEC_ID, "A_AAC") + element(0x63A2, sound.config) + audio
    head = master(matroska.EBML, text(matroska.DOC_TYPE, "matroska"))
    info = master(matroska.INFO, uint(0x2AD7B1, 1_000_000))
    tracks = master(matroska.TRACKS, master(matroska.TRACK_ENTRY, track))
    return head + master(matroska.SEGMENT, info + tracks + master(matroska.CLUSTER, uint(0xE7, 0)))


class Maker:
    """Makes the packets of one track of the result from those of the source.

    window: the part of the source.
    """

    def __init__(self, sound: Sound, added: Any, window: Window) -> None:
        self.sound, self._added = sound, added
        self._window = window
        self._end: Fraction | None = None  # of what was given to the encoder, seconds of the result
        self._resampler: Any = None
        self._kind: tuple[str, str, int] | None = None
        self._count: int | None = None  # of samples given to the encoder, from the result's second 0 on

    def take(self, packet: Any) -> Iterator[Any]:
        """The packets that this one completes. Of a part those that begin in it."""
        if self.sound.config:
            yield from self._unwrapped(packet)
            return
        begin, window = (packet.pts if packet.pts is not None else packet.dts) * packet.time_base, self._window
        if window.start is not None and begin < window.start - BEFORE:
            return
        if window.end is not None and begin >= window.end:
            return
        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError):
            return  # its time stays silent
        for frame in frames:
            yield from self._placed(frame)

    def finish(self, stream: Any) -> Iterator[Any]:
        """What the decoder of the source's `stream` and the encoder still hold."""
        if self.sound.config:
            return
        try:
            for frame in stream.codec_context.decode(None):
                yield from self._placed(frame)
        except (av.FFmpegError, ValueError):
            pass
        if self._resampler is not None:
            yield from self._encoded(self._resampler.resample(None))
        if self._count is not None:
            yield from self._added.encode(None)

    def _unwrapped(self, packet: Any) -> Iterator[Any]:
        try:
            config, data = unwrap(bytes(packet))
        except AacError:
            return
        if config not in (None, self.sound.config):
            return  # of a damaged header
        bare = av.Packet(data)
        bare.time_base, bare.duration = packet.time_base, packet.duration
        bare.pts, bare.dts, bare.is_keyframe = packet.pts, packet.dts, True
        bare.stream = self._added
        yield bare

    def _placed(self, frame: Any) -> Iterator[Any]:
        """A decoded frame in its place: what is missing before it is silent, what overlaps is left out."""
        rate = frame.sample_rate
        start = self._end if frame.pts is None else frame.pts * Fraction(frame.time_base) - self._window.shift
        if start is None:
            start = Fraction(0)
        skip, keep = 0, frame.samples
        if self._end is not None and abs(start - self._end) <= JUMP:
            start = self._end
        elif self._end is not None and start < self._end:
            skip = round((self._end - start) * rate)
            start = self._end
        position, window = start - Fraction(skip, rate), self._window
        if window.start is not None and start < 0:
            skip, start = skip + round(-start * rate), Fraction(0)
        if window.end is not None:
            keep = min(keep, round((window.end - window.shift - position) * rate))
        if keep <= skip:
            return
        if self._end is not None and start > self._end:
            yield from self._silence(frame, start - self._end)
        yield from self._given(_cut(frame, skip, keep), start)

    def _silence(self, like: Any, length: Fraction) -> Iterator[Any]:
        left = round(length * like.sample_rate)
        while left > 0:
            samples = min(left, like.sample_rate)
            silent = av.AudioFrame(like.format.name, like.layout.name, samples)
            for plane in silent.planes:
                plane.update((b"\x80" if like.format.name.startswith("u8") else b"\0") * plane.buffer_size)
            silent.sample_rate = like.sample_rate
            assert self._end is not None
            yield from self._given(silent, self._end)
            left -= samples

    def _given(self, frame: Any, start: Fraction) -> Iterator[Any]:
        rate = frame.sample_rate
        if self._count is None:
            self._count = round(start * self.sound.rate)
            start = Fraction(self._count, self.sound.rate)
        self._end = start + Fraction(frame.samples, rate)
        kind = (frame.format.name, frame.layout.name, rate)
        if kind != self._kind:
            if self._resampler is not None:
                yield from self._encoded(self._resampler.resample(None))
            self._kind = kind
            self._resampler = av.AudioResampler(self.sound.format, self.sound.layout, self.sound.rate)
        frame.pts, frame.time_base = round(start * rate), Fraction(1, rate)
        yield from self._encoded(self._resampler.resample(frame))

    def _encoded(self, frames: list[Any]) -> Iterator[Any]:
        for frame in frames:
            if frame is not None and frame.samples:
                assert self._count is not None
                frame.pts, frame.time_base = self._count, Fraction(1, self.sound.rate)
                self._count += frame.samples
                yield from self._added.encode(frame)


def _cut(frame: Any, start: int, end: int) -> Any:
    """Samples `start` to `end` of a frame."""
    if start == 0 and end == frame.samples:
        return frame
    samples = frame.to_ndarray()
    width = 1 if frame.format.is_planar else frame.layout.nb_channels
    part = samples[:, start * width : end * width].copy()
    cut = av.AudioFrame.from_ndarray(part, frame.format.name, frame.layout.name)
    cut.sample_rate = frame.sample_rate
    return cut
