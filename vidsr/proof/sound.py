"""A track of sound that is not the source's byte for byte, against it: by what both decode to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import zip_longest
from typing import Any

import av
import numpy as np

from vidsr.aac import AacError, unwrap
from vidsr.container import discard_others, open_input, packets
from vidsr.frames import SourceInfo, Window
from vidsr.proof.check import TIME_TOLERANCE

SAME = 2.0**-22  # of full scale: what decodes to floats, kept in 24 bits
JUMP = 0.03  # seconds between what was and what comes that are a gap, not rounding
WINDOWS = 24  # of a second each, that are compared where sound was encoded with loss
LAG = 0.02  # seconds to both sides that a shift is looked for in
ALIKE = 0.8  # least correlation of sound encoded with loss
QUIET = 1e-3  # of full scale, root mean square: nothing to correlate
TAIL = 0.1  # seconds that a lossy encoder may end later or earlier: what fills its last frame


@dataclass
class _Piece:
    """Decoded samples [n, channels], float64, full scale 1. time: seconds, None when unknown."""

    time: float | None
    rate: int
    layout: str
    samples: np.ndarray


@dataclass
class _Decoded:
    """One track of a file, decoded. errors: packets that did not."""

    info: SourceInfo
    index: int
    window: Window = field(default_factory=Window)
    errors: int = 0

    def __iter__(self) -> Iterator[_Piece]:
        with open_input(self.info.path) as container:
            stream = container.streams[self.index]
            discard_others(container, stream)
            for packet in packets(container, [stream], timeline=self.info.video.timeline):
                try:
                    frames = packet.decode()
                except (av.FFmpegError, ValueError):
                    self.errors += 1
                    continue
                for frame in frames:
                    time = None if frame.pts is None else float(frame.pts * frame.time_base - self.window.shift)
                    yield _Piece(time, frame.sample_rate, frame.layout.name, _samples(frame))


def _samples(frame: Any) -> np.ndarray:
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    if array.dtype.kind == "f":
        return np.asarray(array, np.float64)
    full = 2.0 ** (8 * array.dtype.itemsize - 1)
    return (array.astype(np.float64) - (full if array.dtype.kind == "u" else 0.0)) / full


def same_aac(
    before: SourceInfo, index: int, after: SourceInfo, other: int, window: Window
) -> tuple[bool, str]:  # fmt: skip
    """Whether one track of AAC is the other out of its wrapping, frame by frame, at the same times; and, where it is
    whole and undamaged, whether both decode to the same samples (what noise decoders put in depends on all before)."""
    with open_input(after.path) as container:
        stream = container.streams[other]
        config = bytes(stream.codec_context.extradata or b"")
        discard_others(container, stream)
        kept = [(packet.pts, sha256(bytes(packet)).digest()) for packet in packets(container, [stream]) if packet.size]
        base = stream.time_base
    count, wrong, worst, damaged = 0, 0, 0.0, 0
    with open_input(before.path) as container:
        stream = container.streams[index]
        discard_others(container, stream)
        for packet in packets(container, [stream], timeline=before.video.timeline):
            if not packet.size or packet.pts is None or not window.holds(packet.pts * packet.time_base):
                continue
            time = float(packet.pts * packet.time_base - window.shift)
            try:
                own, frame = unwrap(bytes(packet))
            except AacError:
                own, frame = b"", b""
            if own not in (None, config):
                damaged += 1
                continue
            if count >= len(kept) or kept[count][1] != sha256(frame).digest():
                wrong += 1
            else:
                worst = max(worst, abs(float(kept[count][0] * base) - time))
            count += 1
    passed = count == len(kept) > damaged and not wrong and worst <= TIME_TOLERANCE
    detail = f"{count} -> {len(kept)} frames out of their wrapping, {wrong} differ"
    detail += f", times by up to {worst * 1000:.1f} ms" if worst > TIME_TOLERANCE else ""
    detail += f", {damaged} of the source damaged" if damaged else ""
    if not passed or damaged or not window.whole:
        return passed, detail
    source, result = _Decoded(before, index), _Decoded(after, other)
    same = all(
        a is not None and b is not None and np.array_equal(a.samples, b.samples) for a, b in zip_longest(source, result)
    )
    if source.errors:
        return passed, detail
    return same, f"{detail}; they decode to {'the same' if same else 'other'} samples"


def same_sound(
    before: SourceInfo, index: int, after: SourceInfo, other: int, window: Window, lossy: bool
) -> tuple[bool, str]:
    """Whether two tracks sound the same: sample by sample, or so far as encoding with loss leaves them."""
    result = _Line(_Decoded(after, other), None, Window())
    source = _Line(_Decoded(before, index, window), result, window)
    result.open()
    if result.first is None:
        return False, "nothing of it decodes"
    source.open()
    early = (source.first or 0.0) - (result.first or 0.0)
    if lossy and TIME_TOLERANCE < early < TAIL:  # silence before, for the decoder's sake: MP4 of a start beyond zero
        source.pad(early)
    step = max(1, int(after.duration or 0) // WINDOWS) if lossy else 1
    worst, alike, compared = 0.0, 1.0, 0
    nothing, lengths = np.zeros((0, 1)), [0, 0]
    for number, (a, b) in enumerate(zip_longest(source, result, fillvalue=nothing)):
        lengths = [lengths[0] + len(a), lengths[1] + len(b)]
        count = min(len(a), len(b))  # of the last second one may have less
        a, b = a[:count], b[:count]
        if lossy and number % step == 0 and len(a) > result.rate * LAG * 4:
            alike, compared = min(alike, _likeness(a, b, result.rate, result.layout)), compared + 1
        elif not lossy and len(a):
            worst, compared = max(worst, float(np.abs(a - b).max())), compared + 1
    begin = abs((source.first or 0.0) - (result.first or 0.0))
    end = abs(lengths[0] - lengths[1]) / max(1, result.rate)
    passed = compared > 0 and begin <= TIME_TOLERANCE and end <= (TAIL if lossy else TIME_TOLERANCE)
    times = f"begins within {begin * 1000:.1f} ms, length {lengths[0] / max(1, result.rate):.3f} s within {end:.3f} s"
    if lossy:
        return passed and alike >= ALIKE, f"correlates by at least {alike:.3f} in {compared} places; {times}"
    same = "the same samples" if worst <= SAME else f"samples differ by up to {worst:.5f} of full scale"
    return passed and worst <= SAME, f"{same}; {times}"


class _Line:
    """Decoded sound without gaps, a second at a time, [rate, channels] float64, as `like` has rate and channels.

    first: when it begins, seconds. What is missing is silent, what overlaps is left out.
    """

    def __init__(self, pieces: _Decoded, like: _Line | None, window: Window) -> None:
        self._pieces, self._like, self._window = pieces, like, window
        self.first: float | None = None
        self.rate, self.layout = 0, ""
        self._begun: Iterator[np.ndarray] | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        assert self._begun is not None
        return self._begun

    def open(self) -> None:
        """Read the first piece, so that rate and layout are known."""
        if self._begun is None:
            runs = self._continuous()
            first = next(runs, None)
            self._begun = self._seconds([] if first is None else [first], runs)

    def pad(self, seconds: float) -> None:
        """Begin that much earlier, with silence."""
        assert self.first is not None and self._begun is not None
        self.first -= seconds
        first, rest = next(self._begun, np.zeros((0, 1))), self._begun
        self._begun = self._seconds([np.zeros((round(seconds * self.rate), first.shape[1])), first], rest)

    def _continuous(self) -> Iterator[np.ndarray]:
        """Samples that follow each other, brought to what `like` has."""
        end: float | None = None
        resampler, kind = None, None
        window = self._window
        limit = None if window.end is None else float(window.end - window.shift)
        for piece in self._pieces:
            start = piece.time if piece.time is not None else end or 0.0
            samples = piece.samples
            if end is not None and abs(start - end) <= JUMP:
                start = end
            if end is not None and start < end:
                samples, start = samples[round((end - start) * piece.rate) :], end
            if window.start is not None and start < 0:
                samples, start = samples[round(-start * piece.rate) :], 0.0
            if limit is not None:
                samples = samples[: max(0, round((limit - start) * piece.rate))]
            if not len(samples):
                continue
            if end is None:
                self.first = start
                self.rate = self._like.rate if self._like else piece.rate
                self.layout = self._like.layout if self._like else piece.layout
            elif start > end:
                missing = np.zeros((round((start - end) * piece.rate), samples.shape[1]))
                samples, start = np.concatenate([missing, samples]), end
            end = start + len(samples) / piece.rate
            if (piece.rate, piece.layout) == (self.rate, self.layout) and resampler is None:
                yield samples
                continue
            if kind != (piece.rate, piece.layout):
                if resampler is not None:
                    yield from _resampled(resampler, None)
                kind = piece.rate, piece.layout
                resampler = av.AudioResampler("dblp", self.layout, self.rate)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "dblp", piece.layout)
            frame.sample_rate = piece.rate
            yield from _resampled(resampler, frame)
        if resampler is not None:
            yield from _resampled(resampler, None)

    def _seconds(self, held: list[np.ndarray], runs: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for run in runs:
            held.append(run)
            if sum(map(len, held)) >= self.rate:
                whole = np.concatenate(held)
                while len(whole) >= self.rate:
                    yield whole[: self.rate]
                    whole = whole[self.rate :]
                held = [whole]
        if held:
            yield from _split(np.concatenate(held), self.rate)


def _split(samples: np.ndarray, length: int) -> Iterator[np.ndarray]:
    for start in range(0, len(samples), max(1, length)):
        yield samples[start : start + length]


def _resampled(resampler: Any, frame: Any) -> Iterator[np.ndarray]:
    for made in resampler.resample(frame):
        if made is not None and made.samples:
            yield made.to_ndarray().T


def _likeness(a: np.ndarray, b: np.ndarray, rate: int, layout: str) -> float:
    """How alike two seconds are, from -1 to 1, of the channel in which they are least; 0 where they are shifted by
    more than a millisecond. That of low frequencies, of which codecs keep no others, is not asked."""
    full = [number for number, channel in enumerate(av.AudioLayout(layout).channels) if "LFE" not in channel.name]
    a, b = a[:, full], b[:, full]
    level = float(np.sqrt((a**2).mean()))
    if level < QUIET:
        return 1.0 if float(np.sqrt((b**2).mean())) < 3 * QUIET else 0.0
    lags = np.arange(-round(LAG * rate), round(LAG * rate) + 1)
    mixed = [np.fft.rfft(x.sum(axis=1), 2 * len(x)) for x in (a, b)]
    cross = np.fft.irfft(mixed[0].conj() * mixed[1])[lags]
    near = np.abs(lags) <= rate // 1000 + 1
    if cross[near].max() < 0.95 * cross.max():
        return 0.0
    lag = int(lags[near][cross[near].argmax()])
    a, b = (a[: len(a) - lag], b[lag:]) if lag >= 0 else (a[-lag:], b[:lag])
    found = []
    for x, y in zip(a.T, b.T):
        if np.sqrt((x**2).mean()) > level / 10:
            found.append(float((x * y).sum() / max(1e-12, np.sqrt((x**2).sum() * (y**2).sum()))))
    return min(found, default=1.0)
