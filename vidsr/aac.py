"""AAC as broadcasts send it, each frame in a wrapping of its own: what is inside, and what MKV and MP4 want instead.

ADTS (ISO/IEC 13818-7, 6.2) and LATM in LOAS (ISO/IEC 14496-3, 1.7) repeat in every frame how it is to be decoded; MKV
and MP4 hold bare frames, and say it once for the track, as an AudioSpecificConfig (14496-3, 1.6.2.1).
"""

from __future__ import annotations

from typing import NamedTuple

_ESCAPE = 31  # object types from 32 on
_SBR, _PS, _BSAC = 5, 29, 22
_GENERAL = (1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23)  # object types described by a GASpecificConfig
_RESILIENT = (17, 19, 20, 21, 22, 23)
_PCE = 5  # id of a program_config_element
CHANNELS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 13: 24, 14: 8}  # of a channelConfiguration


class AacError(ValueError):
    """This is no wrapped AAC, or a kind of it that is not taken apart."""


class Unwrapped(NamedTuple):
    """A bare frame. config: its AudioSpecificConfig, None when it is that of the frame before (LATM)."""

    config: bytes | None
    data: bytes


def is_wrapped(data: bytes) -> bool:
    """Whether a packet begins as ADTS or LOAS do."""
    first, second = data[:2] if len(data) > 2 else (0, 0)
    return (first, second & 0xF6) == (0xFF, 0xF0) or (first, second & 0xE0) == (0x56, 0xE0)


def unwrap(data: bytes) -> Unwrapped:
    """The frame in one packet of ADTS or LOAS. AacError where there is none, or several."""
    if not is_wrapped(data):
        raise AacError("neither ADTS nor LOAS")
    return _from_adts(data) if data[0] == 0xFF else _from_loas(data)


def channels_of(config: bytes) -> int:
    """How many channels an AudioSpecificConfig means; two where they are listed, as in dual mono."""
    bits = _Bits(config)
    _object_type(bits)
    _rate(bits)
    return CHANNELS.get(bits.take(4), 2)


class _Bits:
    """Reads numbers of any width, the highest bit first. AacError beyond the end."""

    def __init__(self, data: bytes) -> None:
        self.number, self.length, self.position = int.from_bytes(data, "big"), 8 * len(data), 0

    def take(self, count: int) -> int:
        self.position += count
        if self.position > self.length:
            raise AacError("cut short")
        return self.number >> (self.length - self.position) & ((1 << count) - 1)

    def between(self, start: int, end: int) -> bytes:
        """The bits from `start` to `end`, with zeros behind to whole bytes."""
        length = -(-(end - start) // 8)
        number = self.number >> (self.length - end) & ((1 << (end - start)) - 1)
        return (number << (8 * length - (end - start))).to_bytes(length, "big")


# ---- ADTS -----------------------------------------------------------------------------------------------------------


def _from_adts(data: bytes) -> Unwrapped:
    bits = _Bits(data[:9])
    bits.take(15)  # syncword, version, layer
    size = 7 if bits.take(1) else 9  # with a CRC
    profile, rate, _, channels = bits.take(2), bits.take(4), bits.take(1), bits.take(3)
    bits.take(4 + 13 + 11)
    if bits.take(2):
        raise AacError("several frames in one ADTS packet")
    if rate > 12 or len(data) <= size:
        raise AacError("a damaged ADTS header")
    frame = data[size:]
    head = (profile + 1) << 11 | rate << 7 | channels << 3  # then a GASpecificConfig of three zeros
    if channels:
        return Unwrapped(head.to_bytes(2, "big"), frame)
    return Unwrapped(_listed(head, frame, profile, rate), frame)


def _listed(head: int, frame: bytes, profile: int, rate: int) -> bytes:
    """The AudioSpecificConfig of a frame whose channels are listed: by itself, or, in Japanese broadcasts of two
    languages (ARIB STD-B32), nowhere: two single channels then."""
    bits = _Bits(frame)
    if bits.take(3) == _PCE:
        start = bits.position
        end, comment = _program_config(bits, start)
        words = [(bits.number >> (bits.length - end) & ((1 << (end - start)) - 1), end - start)]
    else:
        # element_instance_tag, profile, rate; two elements in front and no other; no mixdown; both single, 0 and 1
        words = [(0, 4), (profile, 2), (rate, 4), (2, 4), (0, 4 + 4 + 2 + 3 + 4), (0, 3), (0, 5), (1, 5)]
        comment = b"\0"
    number, length = head, 16
    for value, count in words:
        number, length = number << count | value, length + count
    number, length = number << (-length % 8), length + -length % 8
    return number.to_bytes(length // 8, "big") + comment


def _program_config(bits: _Bits, start: int) -> tuple[int, bytes]:
    """Where the part of a program_config_element before its comment ends, and the comment with its length."""
    bits.take(4 + 2 + 4)
    front, side, back, lfe, data, coupling = (bits.take(count) for count in (4, 4, 4, 2, 3, 4))
    for width in (4, 4, 3):  # mono and stereo mixdown, matrix
        if bits.take(1):
            bits.take(width)
    for _ in range(front + side + back + coupling):
        bits.take(5)
    for _ in range(lfe + data):
        bits.take(4)
    end = bits.position
    bits.take(-bits.position % 8)
    begin = bits.position
    for _ in range(bits.take(8)):
        bits.take(8)
    return end, bits.between(begin, bits.position)


# ---- LATM -----------------------------------------------------------------------------------------------------------


def _from_loas(data: bytes) -> Unwrapped:
    """AudioSyncStream, and in it an AudioMuxElement with muxConfigPresent."""
    bits = _Bits(data)
    bits.take(11)
    if bits.take(13) > len(data) - 3:
        raise AacError("cut short")
    config = None if bits.take(1) else _mux_config(bits)
    length = 0  # PayloadLengthInfo
    while (byte := bits.take(8)) == 255:
        length += 255
    start = bits.position
    bits.take(8 * (length + byte))
    return Unwrapped(config, bits.between(start, bits.position))


def _mux_config(bits: _Bits) -> bytes:
    """StreamMuxConfig of a single stream, one frame a packet: its AudioSpecificConfig."""
    version = bits.take(1)
    if version and bits.take(1):
        raise AacError("LATM of a later version")
    if version:
        _value(bits)  # taraBufferFullness
    if not bits.take(1) or bits.take(6) or bits.take(4) or bits.take(3):
        raise AacError("several streams, or several frames, in one LATM packet")
    if version:
        length = _value(bits)
        start = bits.position
        bits.take(length)
    else:
        start = bits.position
        _skip_config(bits)
    config = bits.between(start, bits.position)
    if bits.take(3):
        raise AacError("LATM frames of a fixed length")
    bits.take(8)  # latmBufferFullness
    if bits.take(1):  # otherDataPresent, which lies behind the payload
        if version:
            _value(bits)
        else:
            while bits.take(1):
                bits.take(8)
            bits.take(8)
    if bits.take(1):
        bits.take(8)  # crcCheckSum
    return config


def _value(bits: _Bits) -> int:
    """LatmGetValue."""
    return bits.take(8 * (bits.take(2) + 1))


def _object_type(bits: _Bits) -> int:
    number = bits.take(5)
    return 32 + bits.take(6) if number == _ESCAPE else number


def _rate(bits: _Bits) -> None:
    if bits.take(4) == 15:
        bits.take(24)


def _skip_config(bits: _Bits) -> None:
    """Past an AudioSpecificConfig, which does not say how long it is."""
    kind = _object_type(bits)
    _rate(bits)
    channels = bits.take(4)
    if kind in (_SBR, _PS):
        _rate(bits)
        kind = _object_type(bits)
        if kind == _BSAC:
            bits.take(4)
    if kind not in _GENERAL:
        raise AacError(f"LATM of audio object type {kind}")
    bits.take(1)  # frameLengthFlag
    if bits.take(1):
        bits.take(14)  # coreCoderDelay
    extension = bits.take(1)
    if not channels:
        raise AacError("LATM that lists its channels")
    if kind in (6, 20):
        bits.take(3)
    if extension:
        bits.take({_BSAC: 16, 17: 3, 19: 3, 20: 3, 23: 3}.get(kind, 0) + 1)
    if kind in _RESILIENT and bits.take(2) > 1:
        raise AacError("LATM with error protection")
