"""Sound that cannot be copied as it is: kept without loss, or encoded anew where that is asked for."""

from __future__ import annotations

import subprocess
import sys

import av
import numpy as np
import pytest

from tests.media import Track, draw, write_episode
from tests.media_sound import RATE, adts, encoded, heard, music, write_film
from tests.running import quick, upscaled, vidsr
from vidsr.errors import UsageError
from vidsr.mux.keep import choose_tracks
from vidsr.proof.verify import verify
from vidsr.report import Report
from vidsr.source.probe import probe

LATM = {"mpegts_flags": "latm"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sound")


@pytest.fixture(scope="module")
def latm(folder):
    return write_film(folder / "latm.ts", [("aac", music(2))], options=LATM)


@pytest.fixture(scope="module")
def discs(folder):
    sound = [("pcm_bluray", music(2)), ("pcm_bluray", music(2, 6, 2))]
    return write_film(folder / "disc.m2ts", sound, options={"mpegts_m2ts_mode": "1"}, languages=["jpn", "eng"])


def streamed(path, *more):
    done = subprocess.run(
        [sys.executable, "-m", "vidsr", str(path), "-o", "-", "--backend", "nearest", "--scale", "2", "--preset",
         "ultrafast", *more], capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def failures(source, result, **more):
    return [check.name for check in verify(source, result, **more).failures]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("options", [{}, LATM], ids=["ADTS", "LATM"])
def test_aac_of_a_broadcast_leaves_its_wrapping(tmp_path, options, suffix):
    source = write_film(tmp_path / "a.ts", [("aac", music(2))], options=options)
    upscaled(source, tmp_path / f"b{suffix}")
    begin, samples, _ = heard(source)
    after, kept, codec = heard(tmp_path / f"b{suffix}")
    assert codec == "aac" and np.array_equal(kept, samples) and abs(after - begin) < 0.0011
    with av.open(str(tmp_path / f"b{suffix}")) as file:
        assert file.streams.audio[0].codec_context.extradata[:2] == b"\x11\x90"  # AAC-LC, 48 kHz, stereo
        assert all(bytes(p)[0] not in (0xFF, 0x56) for p in file.demux(audio=0) if p.size)


def test_aac_of_a_broadcast_in_a_stream(latm, tmp_path):
    """A pipe's header cannot be completed later: it says at once how the sound is to be decoded."""
    (tmp_path / "b.mkv").write_bytes(streamed(latm))
    assert np.array_equal(heard(tmp_path / "b.mkv")[1], heard(latm)[1])


def test_a_frame_of_latm_that_is_lost_is_noticed(latm, tmp_path):
    upscaled(latm, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as good, av.open(str(tmp_path / "bad.mkv"), "w") as bad:
        streams = {stream: bad.add_stream_from_template(stream, opaque=True) for stream in good.streams}
        sound = 0
        for packet in good.demux():
            sound += packet.stream.type == "audio"
            if packet.size and (packet.stream.type == "video" or sound != 60):
                packet.stream = streams[packet.stream]
                bad.mux(packet)
    assert failures(latm, tmp_path / "b.mkv") == []
    assert failures(latm, tmp_path / "bad.mkv") == ["audio aac_latm"]


def test_a_part_of_a_broadcast(latm, tmp_path):
    upscaled(latm, tmp_path / "b.mkv", start=0.5, duration=1.0)
    with av.open(str(tmp_path / "b.mkv")) as file:
        assert 45 <= sum(bool(packet.size) for packet in file.demux(audio=0)) <= 48
    assert "audio aac_latm" in failures(latm, tmp_path / "b.mkv")  # of the whole it is not the sound


def test_damage_in_a_broadcast_is_said(tmp_path):
    frames = [adts(frame, 2) for frame in encoded("aac", music(2))]
    frames[40] = frames[40][:2] + bytes([frames[40][2] | 0x3C]) + frames[40][3:]  # no rate has the number 15
    frames[41] = adts(b"\xff" * 100, 2)
    source = write_film(tmp_path / "a.ts", ready=frames)
    report = Report()
    upscaled(source, tmp_path / "b.mkv", report)
    assert any("packets of #1 audio aac are damaged and missing" in line for line in report.lines)
    with av.open(str(tmp_path / "b.mkv")) as file:
        kept = [bytes(packet) for packet in file.demux(audio=0) if packet.size]
    good = [frame[7:] for number, frame in enumerate(frames) if number != 40]
    assert set(kept) <= set(good) and len(kept) >= len(good) - 2


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_channels_that_change_are_kept_as_flac(tmp_path, suffix):
    """Japanese broadcasts go from mono to stereo and 5.1 as the programme does; MKV and MP4 say it once for all."""
    mono, stereo = music(1, 1), music(1, 2, 2)
    frames = [adts(f, 1) for f in encoded("aac", mono)] + [adts(f, 2) for f in encoded("aac", stereo)]
    source = write_film(tmp_path / "a.ts", ready=frames)
    report = Report()
    upscaled(source, tmp_path / f"b{suffix}", report)
    assert any("changes its channels or rate at 1.0 s" in line and "FLAC of 24 bits" in line for line in report.lines)
    begin, kept, codec = heard(tmp_path / f"b{suffix}")
    assert codec == "flac" and kept.shape[1] == 2 and abs(begin) < 0.05
    late = kept[1024 + RATE + RATE // 10 :][: RATE // 2]  # of the second part, behind the encoders' delays
    lags = range(-3000, 3000, 8)
    assert max(np.corrcoef(late[:, 0], stereo[RATE // 10 + lag :][: RATE // 2, 0])[0, 1] for lag in lags) > 0.9


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_lpcm_of_a_disc_is_kept_sample_by_sample(discs, tmp_path, suffix):
    report = Report()
    upscaled(discs, tmp_path / f"b{suffix}", report)
    for track in (0, 1):
        begin, samples, _ = heard(discs, track)
        after, kept, codec = heard(tmp_path / f"b{suffix}", track)
        assert codec == "pcm_s16le" and np.array_equal(kept, samples) and abs(after - begin) < 0.0011
    assert sum("sample by sample the same" in line for line in report.lines) == 2
    with av.open(str(tmp_path / f"b{suffix}")) as file:
        assert [s.metadata.get("language") for s in file.streams.audio] == ["jpn", "eng"]


@pytest.mark.parametrize(("codec", "name", "format"), [("pcm_dvd", "a.vob", "s16"), ("pcm_dvd", "a.vob", "s32"),
                                                       ("pcm_bluray", "a.m2ts", "s32")])  # fmt: skip
def test_lpcm_of_24_bits_and_of_dvds(tmp_path, codec, name, format):
    source = write_film(
        tmp_path / name, [(codec, music(2))], sample_format=format,
        video="mpeg2video" if codec == "pcm_dvd" else "libx264",
    )  # fmt: skip
    upscaled(source, tmp_path / "b.mkv")
    _, kept, kind = heard(tmp_path / "b.mkv")
    assert kind == ("pcm_s24le" if format == "s32" else "pcm_s16le")
    assert np.array_equal(kept, heard(source)[1])


def test_lpcm_in_a_stream(discs, tmp_path):
    (tmp_path / "b.mkv").write_bytes(streamed(discs))
    assert np.array_equal(heard(tmp_path / "b.mkv", 1)[1], heard(discs, 1)[1])


def test_samples_that_were_altered_are_noticed(discs, tmp_path):
    upscaled(discs, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as good, av.open(str(tmp_path / "bad.mkv"), "w") as bad:
        streams = {stream: bad.add_stream_from_template(stream, opaque=True) for stream in good.streams}
        for old, new in streams.items():
            new.metadata.update({k: v for k, v in old.metadata.items() if k == "language"})
            new.disposition = old.disposition
        for number, packet in enumerate(p for p in good.demux() if p.size):
            if packet.stream.type == "audio" and number == 200:
                data = bytearray(bytes(packet))
                data[7] ^= 1
                altered = av.Packet(bytes(data))
                altered.pts, altered.dts, altered.time_base = packet.pts, packet.dts, packet.time_base
                altered.stream = streams[packet.stream]
                packet = altered
            else:
                packet.stream = streams[packet.stream]
            bad.mux(packet)
    assert failures(discs, tmp_path / "b.mkv") == []
    assert len([name for name in failures(discs, tmp_path / "bad.mkv") if name.startswith("audio pcm_bluray")]) == 1


@pytest.mark.parametrize(
    ("codec", "name"),
    [("wmav2", "a.wmv"), ("adpcm_ms", "a.avi"), ("adpcm_ima_wav", "a.avi"), ("pcm_mulaw", "a.avi")],
)
def test_what_the_muxer_writes_though_its_list_does_not_say_so(tmp_path, codec, name):
    source = write_film(tmp_path / name, [(codec, music(2))], video="mpeg4")
    upscaled(source, tmp_path / "b.mkv")
    with av.open(str(source)) as a, av.open(str(tmp_path / "b.mkv")) as b:
        both = [[bytes(p) for p in file.demux(audio=0) if p.size] for file in (a, b)]
        assert b.streams.audio[0].codec_context.name == codec
    assert both[0] == both[1] and np.array_equal(heard(source)[1], heard(tmp_path / "b.mkv")[1])


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("audio", ["opus", "aac", "flac"])
def test_sound_encoded_anew(tmp_path, audio, suffix):
    """Its time is kept, and what a codec puts before it for its own sake is not heard; a gap stays silent."""
    sound = music(3, 6)
    source = write_film(tmp_path / "a.mkv", [("flac", sound), ("flac", music(3, 1, 3))], frames=72, late=0.25,
                        gap=(1.5, 2.0), languages=["jpn", "eng"])  # fmt: skip
    report = Report()
    upscaled(source, tmp_path / f"b{suffix}", report, audio=audio)
    assert sum(f"encoded anew as {audio}" in line for line in report.lines) == 2
    begin, _, _ = heard(source)
    after, kept, codec = heard(tmp_path / f"b{suffix}")
    assert codec == audio and kept.shape[1] == 6
    assert abs(len(kept) / RATE - 3) < 0.05
    missing = round((after - begin) * RATE)  # AAC in MP4 that begins late has its priming before it
    assert -0.025 < after - begin < 0.0011
    for channel in (0, 1, 2, 4, 5):
        for at in (0.3, 2.4):
            part = sound[round(at * RATE) :, channel][: RATE // 4]
            starts = range(round(at * RATE) - missing - 50, round(at * RATE) - missing + 50)
            assert max(np.corrcoef(part, kept[start:, channel][: RATE // 4])[0, 1] for start in starts) > 0.9
    assert np.abs(kept[round((1.6 - 0.25) * RATE) - missing :][: RATE // 10]).max() < 0.02
    with av.open(str(tmp_path / f"b{suffix}")) as file:
        assert [s.metadata.get("language") for s in file.streams.audio] == ["jpn", "eng"]


def test_another_rate_does_not_drift(tmp_path):
    """Opus has no 44.1 kHz: the last second still lies where it was."""
    source = write_film(tmp_path / "a.mkv", [("flac", music(20, 1, rate=44100))], frames=480, rate=44100)
    report = Report()
    upscaled(source, tmp_path / "b.mkv", report, audio="opus")
    assert any("48000 Hz instead of 44100" in line for line in report.lines)
    wanted, (_, kept, _) = music(20, 1)[19 * RATE :, 0], heard(tmp_path / "b.mkv")
    starts = range(19 * RATE - 48, 19 * RATE + 49)
    assert max(np.corrcoef(wanted[: RATE // 4], kept[start:, 0][: RATE // 4])[0, 1] for start in starts) > 0.9


def test_sound_encoded_anew_in_parts_and_in_a_stream(latm, tmp_path):
    upscaled(latm, tmp_path / "b.mkv", start=0.5, duration=1.0, audio="flac")
    begin, samples, _ = heard(latm)
    _, kept, _ = heard(tmp_path / "b.mkv")
    first = round((0.5 - begin) * RATE)
    assert len(kept) == RATE
    best = min(np.abs(kept - samples[first + lag :][:RATE]).max() for lag in range(-2, 3))
    assert best < 2**-22
    (tmp_path / "c.mkv").write_bytes(streamed(latm, "--audio", "flac"))
    assert np.abs(heard(tmp_path / "c.mkv")[1] - samples).max() < 2**-22


@pytest.mark.parametrize("audio", ["opus", "flac"])
def test_sound_encoded_wrongly_is_noticed(tmp_path, audio):
    source = write_film(tmp_path / "a.mkv", [("flac", music(3))], frames=72)
    upscaled(source, tmp_path / "b.mkv", audio=audio)
    assert failures(source, tmp_path / "b.mkv", audio=audio) == []
    other = write_film(tmp_path / "c.mkv", [("flac", music(3, 2, 9))], frames=72)
    assert [name.split()[0] for name in failures(other, tmp_path / "b.mkv", audio=audio)] == ["audio"]
    later = write_film(tmp_path / "d.mkv", [("flac", music(3))], frames=72, late=0.01)
    assert [name.split()[0] for name in failures(later, tmp_path / "b.mkv", audio=audio)] == ["audio"]
    if audio == "opus":  # without being asked for, sound with loss is no kept sound
        assert [name.split()[0] for name in failures(source, tmp_path / "b.mkv")] == ["audio"]


def test_an_announced_but_empty_track_is_left_out(tmp_path):
    with av.open(str(write_film(tmp_path / "x.ts", [("aac", music(1))], options=LATM))) as full:
        assert full.streams.audio
    source = tmp_path / "a.ts"
    data = (tmp_path / "x.ts").read_bytes()
    cells = [data[i : i + 188] for i in range(0, len(data), 188)]
    source.write_bytes(b"".join(cell for cell in cells if (cell[1] & 0x1F) << 8 | cell[2] != 0x101))
    report = Report()
    upscaled(source, tmp_path / "b.mkv", report)
    assert any("announced, but empty" in line for line in report.lines)


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".mp4"])
def test_a_timecode_is_never_a_refusal(tmp_path, suffix):
    with av.open(str(tmp_path / "a.mov"), "w") as file:
        picture = file.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        picture.metadata["timecode"] = "01:00:00:00"
        for frame in [*map(draw, range(24)), None]:
            for packet in picture.encode(frame):
                file.mux(packet)
    report = Report()
    upscaled(tmp_path / "a.mov", tmp_path / f"b{suffix}", report)
    assert any("timecode" in line for line in report.lines)
    with av.open(str(tmp_path / f"b{suffix}")) as file:
        tags = {k.lower(): v for k, v in file.streams.video[0].metadata.items()}
        assert tags["timecode"] == "01:00:00:00"
        assert any(s.type == "data" for s in file.streams) == (suffix != ".mkv")


def test_each_cure_that_is_named_works(tmp_path):
    source = write_film(tmp_path / "a.wmv", [("wmav2", music(1))], frames=24, video="mpeg4")
    with pytest.raises(UsageError, match=r"use \.mkv, which holds it, or encode all sound anew with --audio aac, or"):
        upscaled(source, tmp_path / "b.mp4")
    upscaled(source, tmp_path / "b.mkv")
    upscaled(source, tmp_path / "b.mp4", audio="aac")
    upscaled(source, tmp_path / "c.mp4", drop={"1"})


def test_probe_reads_no_whole_file_to_tell_what_is_kept(latm):
    info = probe(latm)
    assert choose_tracks(info, latm.with_suffix(".mkv"), set()).copy == (1,)


def test_the_order_of_tracks_is_kept_and_proved(tmp_path):
    tracks = [Track("aac", "ja"), Track("libopus", "en"), Track("flac", "de")]
    episode = write_episode(tmp_path / "a.mkv", audio=tracks)
    upscaled(episode.path, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as good, av.open(str(tmp_path / "bad.mkv"), "w") as bad:
        order = [good.streams[i] for i in (0, 2, 1, 3)]
        streams = {stream: bad.add_stream_from_template(stream, opaque=True) for stream in order}
        for old, new in streams.items():
            new.metadata.update({k: v for k, v in old.metadata.items() if k in ("language", "title")})
            new.disposition = old.disposition
        for packet in good.demux():
            if packet.size:
                packet.stream = streams[packet.stream]
                bad.mux(packet)
    assert failures(episode.path, tmp_path / "bad.mkv") == ["order of tracks"]


def test_on_the_command_line(latm, tmp_path):
    done = quick(latm, "-o", tmp_path / "b.mkv", "--audio", "opus")
    assert done.returncode == 0 and "#1 audio aac_latm is encoded anew as opus (160 kbit/s)" in done.stderr
    for asked, code in (("opus", 0), ("copy", 1)):
        assert vidsr("verify", latm, tmp_path / "b.mkv", "--audio", asked).returncode == code
