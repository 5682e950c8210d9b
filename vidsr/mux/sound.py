"""How each audio track is kept: by copy where the result's container holds its packets as they are, otherwise so that
nothing of it is lost, or newly encoded where that is asked for. making.py does it.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

import av
from av.stream import Stream

from vidsr.aac import AacError, channels_of, is_wrapped, unwrap
from vidsr.container import NAMES, cannot_hold, open_input, packets
from vidsr.frames import SourceInfo, TimeRange, Track

Audio = Literal["opus", "aac", "flac"]
ENCODERS = {"opus": "libopus", "aac": "aac", "flac": "flac"}
RATES = {  # samples a second that an encoder takes, where not all
    "libopus": (48000, 24000, 16000, 12000, 8000),
    "aac": (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350),
}
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
STRAY = 3  # packets at most by which a configuration counts as damage


@dataclass(frozen=True)
class Sound:
    """How one audio track is kept that is not copied.

    index: of the source's stream. config: AudioSpecificConfig of AAC that is only unwrapped, its frames as they are.
    encoder: FFmpeg's name, where it is decoded and encoded anew; format: FFmpeg's name of what that gets; bit_rate: 0
    where nothing is lost. rate: samples a second; layout: FFmpeg's name. note: one line for the user, "" for none.
    """

    index: int
    config: bytes = b""
    encoder: str = ""
    rate: int = 0
    layout: str = ""
    format: str = ""
    bit_rate: int = 0
    note: str = ""


@dataclass
class Survey:
    """What the packets of one track are. configs: {AudioSpecificConfig: [packets, first second]} of wrapped AAC."""

    packets: int = 0
    bare: int = 0
    broken: int = 0
    configs: dict[bytes, list[float]] = field(default_factory=dict)

    def true_configs(self) -> dict[bytes, float]:
        """Those that are no damage, and when each begins."""
        return {config: first for config, (count, first) in self.configs.items() if count > STRAY} or {
            config: first for config, (_, first) in list(self.configs.items())[:1]
        }


def survey(info: SourceInfo, indices: Collection[int], span: TimeRange) -> dict[int, Survey]:
    """Read all packets of some tracks, those in `span` where it is a part, and look into them."""
    found = {index: Survey() for index in indices}
    if not found:
        return found
    with open_input(info.path) as source:
        base = source.streams[info.video.index]
        first = float((base.start_time or 0) * base.time_base) if base.time_base else 0.0
        for stream in source.streams:
            if stream.index not in found:
                stream.discard = av.stream.Discard.all
        current: dict[int, bytes] = {}
        for packet in packets(source, [source.streams[index] for index in found], timeline=info.video.timeline):
            time = packet.pts if packet.pts is not None else packet.dts
            if not packet.size or time is None:
                continue
            at = float(time * packet.time_base) - first
            if at < span.start - 1 or (span.end is not None and at > span.end + 1):
                continue
            _look(found[packet.stream_index], bytes(packet), at, current, packet.stream_index)
    return found


def _look(entry: Survey, data: bytes, at: float, current: dict[int, bytes], index: int) -> None:
    entry.packets += 1
    if not is_wrapped(data):
        entry.bare += 1
        return
    try:
        config = unwrap(data).config or current.get(index)
    except AacError:
        entry.broken += 1
        return
    if config is not None:
        current[index] = config
        entry.configs.setdefault(config, [0, at])[0] += 1


def may_be_wrapped(stream: Stream) -> bool:
    """Whether an audio track may be AAC in ADTS or LATM: `survey` tells."""
    context = stream.codec_context
    if stream.type != "audio" or context is None:
        return False
    name = context.codec.canonical_name
    return name == "aac_latm" or (name == "aac" and not context.extradata)


def choose_sound(container: str, stream: Any, track: Track, looked: Survey | None, audio: Audio | None) -> Sound | None:
    """How to keep this audio track; None: by copy, if the container holds it at all.

    looked: into its packets, where `may_be_wrapped`.
    """
    context = stream.codec_context
    if context is None or not context.sample_rate:
        return None
    if audio is not None:
        return encoded(stream, track, ENCODERS[audio], f"is encoded anew as {audio}")
    if looked is not None and looked.configs:
        configs = looked.true_configs()
        if len(configs) == 1:
            config = next(iter(configs))
            lost = looked.packets - looked.configs[config][0]
            note = f"{lost:.0f} packets of {track} are damaged and missing" if lost else ""
            return Sound(track.index, config, "", context.sample_rate, context.layout.name, note=note)
        most = max(channels_of(config) for config in configs)
        times = ", ".join(f"{max(0.0, first):.1f} s" for first in list(configs.values())[1:])
        why = f"changes its channels or rate at {times}, which {NAMES[container]} has no means for: it is kept as FLAC"
        return encoded(stream, track, "flac", f"{why} of 24 bits", LAYOUTS[min(most, 8)])
    name = str(context.codec.canonical_name)
    if looked is not None and looked.broken:
        return encoded(stream, track, "flac", f"is {name} of a rare kind: it is kept as FLAC of 24 bits")
    if name.startswith("pcm_") and cannot_hold(container, stream, track) is not None:
        deep = "pcm_s24le" if "24" in name or name in ("pcm_bluray", "pcm_dvd") else "pcm_s32le"
        encoder = "pcm_s16le" if context.format.bytes <= 2 else deep
        if context.format.name[:3] in ("u8", "u8p", "s16", "s32") and holds_encoder(container, encoder):
            return encoded(stream, track, encoder, f"is kept as {encoder}, sample by sample the same")
    return None


def encoded(stream: Any, track: Track, encoder: str, note: str, layout: str | None = None) -> Sound:
    """A track newly encoded. layout: other than its own."""
    context = stream.codec_context
    rates = RATES.get(encoder)
    rate = context.sample_rate
    if rates is not None and rate not in rates:
        rate = min((r for r in rates if r >= rate), default=rates[0])
    count = min(8, context.layout.nb_channels)
    if layout is None:
        own = context.layout.name
        free = encoder.startswith("pcm") or encoder == "flac"  # which hold any order
        layout = own if free and context.layout.nb_channels <= 8 and "channels" not in own else LAYOUTS[count]
    count = av.AudioLayout(layout).nb_channels
    bit_rate = 0
    if encoder == "libopus":
        bit_rate = 1000 * {1: 96, 2: 160}.get(count, 64 * count)
    if encoder == "aac":
        bit_rate = 1000 * {1: 160, 2: 256}.get(count, 96 * count)
    whole = context.format.name.rstrip("p") in ("u8", "s16")
    format = {"libopus": "flt", "aac": "fltp", "pcm_s16le": "s16", "pcm_s24le": "s32", "pcm_s32le": "s32"}.get(encoder)
    format = format or ("s16" if whole else "s32")
    details = [f"{bit_rate // 1000} kbit/s"] if bit_rate else []
    details += [f"{rate} Hz instead of {context.sample_rate}"] if rate != context.sample_rate else []
    details += [f"{layout} instead of {context.layout.name}"] if context.layout.nb_channels > 8 else []
    said = f"{track} {note}" + (f" ({', '.join(details)})" if details else "")
    return Sound(track.index, b"", encoder, rate, layout, format, bit_rate, said)


def holds_encoder(container: str, encoder: str) -> bool:
    """Whether the container takes what an audio encoder makes: a trial of its header in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream(encoder, rate=48000)
            trial.start_encoding()
        return True
    except (ValueError, av.FFmpegError, OSError):
        return False
