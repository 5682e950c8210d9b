"""AAC out of ADTS and LATM, against wrappings made here bit by bit as the standards say, and against FFmpeg."""

from __future__ import annotations

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media_sound import adts, encoded, music, write_film
from vidsr.aac import AacError, channels_of, is_wrapped, unwrap

CONFIG = (0b00010_0011_0010_000, 16)  # AAC-LC, 48 kHz, stereo


def joined(*fields: tuple[int, int]) -> bytes:
    """(value, bits) one after the other, zeros behind to whole bytes."""
    bits = "".join(f"{value:0{count}b}" for value, count in fields if count)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def value(number: int) -> list[tuple[int, int]]:
    """LatmGetValue's opposite."""
    count = max(1, -(-number.bit_length() // 8))
    return [(count - 1, 2), (number, 8 * count)]


def loas(payload: bytes, *, same: bool = False, version: int = 0, other: int | None = None, crc: bool = False,
         config: tuple[int, int] = CONFIG, fill: int = 0) -> bytes:  # fmt: skip
    fields: list[tuple[int, int]] = [(1, 1)] if same else [(0, 1)]
    if not same:
        fields += [(version, 1)] + ([(0, 1), *value(255)] if version else [])
        fields += [(1, 1), (0, 6), (0, 4), (0, 3)]
        fields += [*value(config[1] + fill), config, (0, fill)] if version else [config]
        fields += [(0, 3), (0xFF, 8)]
        if other is None:
            fields.append((0, 1))
        elif version:
            fields += [(1, 1), *value(other)]
        else:
            fields += [(1, 1), *([(1, 1), (other >> 8, 8)] if other > 255 else []), (0, 1), (other & 255, 8)]
        fields += [(1, 1), (0x5A, 8)] if crc else [(0, 1)]
    fields += [(255, 8)] * (len(payload) // 255) + [(len(payload) % 255, 8)]
    fields.append((int.from_bytes(payload, "big"), 8 * len(payload)))
    if other is not None:
        fields.append((0, other))
    element = joined(*fields)
    return joined((0x2B7, 11), (len(element), 13)) + element


@given(
    payload=st.binary(min_size=1, max_size=700), same=st.booleans(), version=st.integers(0, 1),
    other=st.none() | st.integers(0, 1000), crc=st.booleans(), fill=st.integers(0, 9),
)  # fmt: skip
def test_any_payload_comes_out_of_latm(payload, same, version, other, crc, fill):
    other = None if same else other
    packet = loas(payload, same=same, version=version, other=other, crc=crc, fill=fill if version else 0)
    config, data = unwrap(packet)
    assert data == payload
    assert config is None if same else config[:2] == joined(CONFIG)


@pytest.mark.parametrize(
    ("fields", "channels"),
    [(((2, 5), (3, 4), (6, 4), (0, 3)), 6), (((2, 5), (15, 4), (44100, 24), (1, 4), (0, 3)), 1),
     (((5, 5), (6, 4), (2, 4), (3, 4), (2, 5), (0, 3)), 2), (((29, 5), (6, 4), (1, 4), (3, 4), (2, 5), (0, 3)), 1)],
    ids=["5.1", "any rate", "HE-AAC", "HE-AAC v2"],
)  # fmt: skip
def test_other_configurations_of_latm(fields, channels):
    length = sum(count for _, count in fields)
    number = 0
    for each, count in fields:
        number = number << count | each
    config, data = unwrap(loas(b"abc", config=(number, length)))
    assert data == b"abc" and config == joined((number, length)) and channels_of(config) == channels


@given(frame=st.binary(min_size=1, max_size=900), channels=st.integers(1, 7))
def test_any_frame_comes_out_of_adts(frame, channels):
    config, data = unwrap(adts(frame, channels))
    assert data == frame and config == joined((2, 5), (3, 4), (channels, 4), (0, 3))


def test_a_crc_belongs_to_the_header():
    packet = bytearray(adts(b"\0\0frame", 2))
    packet[1] &= 0xFE
    assert unwrap(bytes(packet)).data == b"frame"


def test_two_languages_in_one_track_of_a_japanese_broadcast():
    """No channel configuration and nothing that lists the channels: FFmpeg reads of ours what it assumes by itself."""
    config, _ = unwrap(adts(b"\0" * 20, 0))
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = config
    decoder.open()
    assert decoder.layout.nb_channels == 2 and channels_of(config) == 2


def test_channels_that_the_frame_lists():
    listed = [(5, 3), (0, 4), (1, 2), (3, 4), (1, 4), (0, 4), (0, 4), (0, 2), (0, 3), (0, 4), (0, 3), (1, 1), (0, 4)]
    frame = joined(*listed, (0, -sum(count for _, count in listed) % 8), (2, 8), (0x4142, 16)) + b"rest of it"
    config, data = unwrap(adts(frame, 0))
    assert data == frame
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = config
    decoder.open()
    assert decoder.layout.name == "stereo" and config.endswith(b"\x02AB")


def test_what_ffmpeg_itself_wraps(tmp_path):
    wanted = encoded("aac", music(1))
    for name, options in (("a.ts", {}), ("b.ts", {"mpegts_flags": "latm"})):
        path = write_film(tmp_path / name, [("aac", music(1))], options=options)
        with av.open(str(path)) as file:
            frames = [unwrap(bytes(packet)).data for packet in file.demux(audio=0) if packet.size]
        assert [frame.rstrip(b"\0") for frame in frames] == [frame.rstrip(b"\0") for frame in wanted]


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"RIFF....", b"\xff\xf1" + bytes(3), joined((0x2B7, 11), (900, 13)) + b"ab",
     adts(b"x" * 9, 2)[:6] + b"\x03" + b"x" * 9, adts(b"x", 2)[:2] + b"\x7c" + bytes(9)],
)  # fmt: skip
def test_what_is_no_single_frame(data):
    with pytest.raises(AacError):
        unwrap(data)


@given(st.binary(max_size=60))
def test_noise_is_an_error_of_ours_or_a_frame(data):
    for start in (b"", b"\xff\xf1", b"\x56\xe0"):
        assert isinstance(is_wrapped(start + data), bool)
        try:
            unwrap(start + data)
        except AacError:
            pass
