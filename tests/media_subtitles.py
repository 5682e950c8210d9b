"""Subtitle streams for container.py, their packets made by hand: FFmpeg encodes no PGS, and PyAV none of the others."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any

import av

from vidsr.mux.matroska import details as matroska
from vidsr.mux.matroska.ebml import element, master, text, uint

ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour
Style: Default,DejaVu Sans,20,&H00FFFFFF
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
VOBSUB_HEADER = b"size: 64x48\npalette: " + b", ".join([b"000000", b"ffffff", b"808080", b"404040"] * 4) + b"\n"


def subtitle_stream(result: Any, codec: str, offset: int, seconds: float) -> tuple[Any, list[Any]]:
    """A new stream of two cues, in the second quarter and in the last of `seconds`, `offset` ms late; its packets.

    codec: ass, subrip, mov_text (MP4 only), hdmv_pgs_subtitle or dvd_subtitle.
    """
    cues = [(int(seconds * 1000 * at) + offset, int(seconds * 250)) for at in (0.25, 0.75)]  # ms
    if codec == "mov_text":
        stream = result.add_stream("mov_text")
        stream.codec_context.subtitle_header = ASS_HEADER  # the encoder, which stays unused, does not open without
        made: list[Any] = []
        for i, (start, duration) in enumerate(cues):
            words = f"Line {i}".encode()
            packet = av.Packet(struct.pack(">H", len(words)) + words)
            packet.pts, packet.dts, packet.duration, packet.time_base = start, start, duration, Fraction(1, 1000)
            made.append(packet)
    else:
        codec_id, private, payload = {
            "ass": ("S_TEXT/ASS", ASS_HEADER, lambda i: b"%d,0,Default,,0,0,0,,Line {\\i1}%d{\\i0}" % (i, i)),
            "subrip": ("S_TEXT/UTF8", b"", lambda i: b"<i>Line</i> %d" % i),
            "hdmv_pgs_subtitle": ("S_HDMV/PGS", b"", _pgs),
            "dvd_subtitle": ("S_VOBSUB", VOBSUB_HEADER, lambda i: _vobsub()),
        }[codec]
        data = _subtitle_file(codec_id, private, [(*cue, payload(i)) for i, cue in enumerate(cues)])
        source: Any = av.open(io.BytesIO(data))
        with source:
            stream = result.add_stream_from_template(source.streams.subtitles[0], opaque=True)
            made = [packet for packet in source.demux() if packet.size]
    for packet in made:
        packet.stream = stream
    return stream, made


def _subtitle_file(codec_id: str, private: bytes, cues: list[tuple[int, int, bytes]]) -> bytes:
    """A Matroska file of one subtitle track; cues: (start and duration in ms, payload)."""
    entry = uint(matroska.TRACK_NUMBER, 1) + uint(matroska.TRACK_UID, 1) + uint(matroska.TRACK_TYPE, 17)
    entry += text(matroska.CODEC_ID, codec_id) + (element(0x63A2, private) if private else b"")  # CodecPrivate
    content = master(matroska.INFO, uint(0x2AD7B1, 1_000_000))  # TimestampScale: 1 ms
    content += master(matroska.TRACKS, master(matroska.TRACK_ENTRY, entry))
    for start, duration, payload in cues:
        block = element(0xA1, b"\x81\0\0\0" + payload) + uint(0x9B, duration)  # Block, BlockDuration
        content += master(matroska.CLUSTER, uint(0xE7, start) + master(0xA0, block))  # Timestamp, BlockGroup
    header = master(matroska.EBML, uint(0x4286, 1) + text(matroska.DOC_TYPE, "matroska") + uint(0x4287, 4))
    return header + master(matroska.SEGMENT, content)


def _pgs(number: int) -> bytes:
    """A Blu-ray display set: a bar of 16x4 pixels at (8, 40) of 64x48; every odd one clears the screen."""

    def segment(kind: int, content: bytes) -> bytes:
        return struct.pack(">BH", kind, len(content)) + content

    show = number % 2 == 0
    state = 0x80 if show else 0  # epoch start, or an update that shows nothing
    composition = struct.pack(">HHBHBBBB", 64, 48, 0x10, number, state, 0, 0, show)
    window = segment(0x17, struct.pack(">BBHHHH", 1, 0, 8, 40, 16, 4))
    if not show:
        return segment(0x16, composition) + window + segment(0x80, b"")
    pixels = b"\0\x90\x01\0\0" * 4  # a run of 16 of colour 1, end of line
    palette = segment(0x14, bytes([0, 0, 1, 235, 128, 128, 255]))
    picture = struct.pack(">HBB", 0, 0, 0xC0) + struct.pack(">IHH", len(pixels) + 4, 16, 4)[1:] + pixels
    placed = composition + struct.pack(">HBBHH", 0, 0, 0, 8, 40)
    return segment(0x16, placed) + window + palette + segment(0x15, picture) + segment(0x80, b"")


def _vobsub() -> bytes:
    """A DVD subpicture: a bar of 16x4 pixels at (8, 40), shown for about a second."""
    field_lines = b"\0\x01" * 2  # each line filled with colour 1
    control = 4 + 2 * len(field_lines)
    stop = control + 4 + 1 + 3 + 3 + 7 + 5 + 1
    area = bytes([5, 0x00, 0x80, 0x17, 0x02, 0x80, 0x2B])  # x 8 to 23, y 40 to 43, 12 bits each
    begin = struct.pack(">HH", 0, stop) + b"\x01\x03\x32\x10\x04\xff\xf0" + area
    begin += struct.pack(">BHH", 6, 4, 4 + len(field_lines)) + b"\xff"
    end = struct.pack(">HH", 88, stop) + b"\x02\xff"  # 88 * 1024 / 90000 s
    return struct.pack(">HH", stop + len(end), control) + 2 * field_lines + begin + end
