"""Films with sound of every kind: what broadcasts, discs and old downloads hold, made by FFmpeg's own encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.media import draw

RATE = 48000
FORMATS = {"flac": "s16", "pcm_bluray": "s16", "pcm_dvd": "s16", "pcm_s16le": "s16"}


def music(seconds: float, channels: int = 2, seed: int = 1, rate: int = RATE) -> np.ndarray:
    """[n, channels] float32: notes that change four times a second, other ones in every channel, over faint noise.
    None repeats, so that a shift in time shows."""
    dice = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    notes = dice.uniform(200, 1500, (round(seconds * 4) + 1, channels))
    phase = 2 * np.pi * np.cumsum(notes[(time * 4).astype(int)], axis=0) / rate
    return (0.3 * np.sin(phase) + dice.normal(0, 0.003, phase.shape)).astype(np.float32)


def encoded(codec: str, samples: np.ndarray, format: str | None = None, layout: str | None = None) -> list[bytes]:
    """What an encoder makes of `samples`, one packet after the other."""
    names = {1: "mono", 2: "stereo", 6: "5.1"}
    context: Any = av.CodecContext.create(codec, "w")
    context.sample_rate, context.layout, context.format = RATE, layout or names[samples.shape[1]], format or "fltp"
    context.time_base = Fraction(1, RATE)
    context.flags |= 1 << 22  # headers stay out of the packets
    return [bytes(packet) for frame in (_frame(samples), None) for packet in context.encode(frame) if packet.size]


def adts(frame: bytes, channels: int) -> bytes:
    """A frame of AAC-LC at 48 kHz as broadcasts send it."""
    number = 0xFFF << 44 | 1 << 40 | 1 << 38 | 3 << 34 | channels << 30 | (len(frame) + 7) << 13 | 0x7FF << 2
    return number.to_bytes(7, "big") + frame


def write_film(
    path: Path,
    tracks: Sequence[tuple[str, np.ndarray]] = (),
    *,
    format: str | None = None,
    frames: int = 48,
    video: str = "libx264",
    options: Mapping[str, str] | None = None,
    sample_format: str | None = None,
    late: float = 0.0,
    gap: tuple[float, float] | None = None,
    ready: Sequence[bytes] = (),
    languages: Sequence[str] = (),
    rate: int = RATE,
) -> Path:
    """A film of `frames` pictures at 24 a second, with each of `tracks`: (FFmpeg's encoder, samples).

    format, options: of the muxer. late: seconds after the picture at which sound begins. gap: (from, to) in seconds of
    which the sound is missing. ready: ADTS packets of one more track.
    """
    with av.open(str(path), "w", format=format, container_options=dict(options or {})) as result:
        picture: Any = result.add_stream(video, rate=24)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        if video == "libx264":
            picture.options = {"preset": "ultrafast", "crf": "12", "bf": "0"}
        sounds = []
        for number, (codec, samples) in enumerate(tracks):
            layout = {1: "mono", 2: "stereo", 6: "5.1(side)" if codec == "pcm_bluray" else "5.1"}[samples.shape[1]]
            sound: Any = result.add_stream(codec, rate=rate, layout=layout)
            sound.codec_context.format = sample_format or FORMATS.get(codec, sound.codec_context.format.name)
            if codec.startswith("wma"):
                sound.codec_context.bit_rate = 128_000
            if languages:
                sound.metadata["language"] = languages[number]
            sounds.append(sound)
        bare: Any = result.add_stream("aac", rate=RATE, layout="stereo") if ready else None
        queue: list[Any] = []
        for number in range(frames):
            frame = draw(number)
            frame.pts, frame.time_base = number, Fraction(1, 24)
            queue += picture.encode(frame)
        queue += picture.encode(None)
        for sound, (_, samples) in zip(sounds, tracks):
            made = [*sound.encode(_frame(samples, rate)), *sound.encode(None)]
            for packet in made:
                shift = round(Fraction(late) / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                at = float(packet.pts * packet.time_base)
                if gap is None or not gap[0] <= at < gap[1]:
                    queue.append(packet)
        for number, data in enumerate(ready):
            packet = av.Packet(data)
            packet.pts = packet.dts = number * 1024
            packet.duration, packet.time_base, packet.stream = 1024, Fraction(1, RATE), bare
            queue.append(packet)
        for packet in sorted(queue, key=lambda p: p.dts * p.time_base):
            result.mux(packet)
    return path


def _frame(samples: np.ndarray, rate: int = RATE) -> av.AudioFrame:
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    return frame


def heard(path: Path, track: int = 0) -> tuple[float, np.ndarray, str]:
    """(when the sound begins in seconds after the picture, samples [n, channels] of full scale 1, its codec)."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[track]
        codec = stream.codec_context.codec.canonical_name
        parts, begin, picture = [], None, None
        for frame in file.decode(file.streams.video[0], stream):
            at = 0.0 if frame.pts is None else float(frame.pts * frame.time_base)
            if isinstance(frame, av.VideoFrame):
                picture = at if picture is None else picture
                continue
            begin = at if begin is None else begin
            array = frame.to_ndarray()
            array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
            scale = 1.0 if array.dtype.kind == "f" else 2.0 ** (8 * array.dtype.itemsize - 1)
            parts.append(array.astype(np.float64) / scale)
    assert begin is not None and picture is not None
    return begin - picture, np.concatenate(parts), codec
