"""`-o -`: the same episode as a normal run's, through a real pipe, in order of time, no faster than it is read."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import media
from tests.media import Track, write_episode
from tests.running import upscaled
from vidsr.backends import open_backend
from vidsr.backends.nearest import NearestBackend
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.choose.targets import targets
from vidsr.encode.encoder import Encoder
from vidsr.errors import BackendError, OutputError, UsageError
from vidsr.frames import Frame
from vidsr.mux.keep import STDOUT
from vidsr.mux.matroska.details import read_details
from vidsr.mux.matroska.restore import restored_header
from vidsr.report import Report
from vidsr.run import live
from vidsr.run.live import stream
from vidsr.source import decode

VFR = [0, 42, 83, 125, 209, 292, 325, 359, 392, 425, 500, 501, 580, 700, 742, 784, 900, 1000, 1100, 1200]
QUICK = ("--backend", "nearest", "--scale", "2", "--preset", "ultrafast", "--threads", "1")


def live_job(source: Path, report: Report | None = None, **options):
    wanted = {"scale": 2, "backend": "nearest", "preset": "ultrafast", "threads": 1, **options}
    return prepare(source, Options(output=STDOUT, **wanted), report or Report())


class Reader(threading.Thread):
    """Reads a pipe into `data` to its end, or up to `most` bytes until it may go on."""

    def __init__(self, pipe: int, most: int | None = None) -> None:
        super().__init__(daemon=True)
        self.pipe, self.most, self.data, self.go_on = pipe, most, bytearray(), threading.Event()
        self.start()

    def run(self) -> None:
        while block := os.read(self.pipe, 4096):
            self.data += block
            if self.most is not None and len(self.data) >= self.most:
                self.go_on.wait()


def streamed(source: Path, into: Path, report: Report | None = None, opening=open_backend, **options) -> Path:
    """What comes out of the pipe, kept in the file `into`, also when the run fails."""
    report = report or Report()
    out, pipe = os.pipe()
    reader = Reader(out)
    try:
        assert stream(live_job(source, report, **options), pipe, opening, report)
    finally:
        os.close(pipe)
        reader.join()
        os.close(out)
        into.write_bytes(reader.data)
    return into


def in_file_order(path: Path) -> list[tuple[str, float]]:
    """(kind, seconds) of every packet as the file has them."""
    with av.open(str(path)) as file:
        found = [(p.stream.type, p.pts * p.time_base) for p in file.demux() if p.size and p.pts is not None]
        return [(kind, float(at)) for kind, at in found if kind != "attachment"]


def streams(path: Path) -> list[tuple]:
    with av.open(str(path)) as file:
        return [
            (s.type, s.disposition, {k: v for k, v in s.metadata.items() if k not in ("DURATION", "BPS")},
             s.data if s.type == "attachment" else None)
            for s in file.streams
        ]  # fmt: skip


def rich_episode(path: Path, **more) -> Path:
    chapters = [(0, {"en": "Opening", "ja": "オープニング"}), (400, {"en": "Part A", "ja": "Aパート"})]
    audio = [Track("aac", "ja", title="日本語", flags=("default",)), Track("libopus", "en-GB", offset=40)]
    audio.append(Track("flac", "de"))
    subtitles = [Track("ass", "en", title="Full"), Track("subrip", "ja", title="Signs", flags=("forced",))]
    wanted = {"audio": audio, "subtitles": subtitles, "chapters": chapters, "cover": True, "sar": Fraction(8, 9),
              "attachments": [("Signs.ttf", "font/ttf", bytes(range(256)) * 40)],
              "metadata": {"title": "Episode 1", "artist": "Studio"}, "language": "ja", **more}  # fmt: skip
    return write_episode(path, **wanted).path


@pytest.mark.parametrize(
    ("part", "begin"), [({}, 0), ({}, 5000), ({"start": 0.3, "duration": 0.5}, 0), ({"start": 0.45}, 5000)]
)
def test_all_that_a_normal_run_keeps(tmp_path, part, begin):
    source = rich_episode(tmp_path / "a.mkv", pts=[t + begin for t in VFR], keyframes=4)
    normal = upscaled(source, tmp_path / "b.mkv", **part).path
    piped = streamed(source, tmp_path / "c.mkv", **part)
    assert media.read_numbers(piped) == media.read_numbers(normal)
    assert {k: v for k, v in media.packets(piped).items() if k} == {k: v for k, v in media.packets(normal).items() if k}
    assert streams(piped) == streams(normal)
    before, after = read_details(normal), read_details(piped)
    assert after.tracks == before.tracks and after.title == before.title and after.links == before.links
    with av.open(str(normal)) as a, av.open(str(piped)) as b:
        assert b.chapters() == a.chapters() and b.metadata == a.metadata
        assert abs(b.duration - a.duration) < 150_000
    if not part:
        assert after.chapters == before.chapters == read_details(source).chapters


@pytest.mark.parametrize("begin", [0, 5000])
def test_a_finer_clock_than_matroskas(tmp_path, begin):
    source = rich_episode(
        tmp_path / "a.mp4", pts=[(t + begin) * 90 + 7 for t in VFR], time_base=Fraction(1, 90000), attachments=(),
        subtitles=[Track("mov_text", "en")], audio=[Track("flac", "de"), Track("flac", "ja", offset=40)],
    )  # fmt: skip
    dropped = {"drop": frozenset({"unsupported"})}
    normal = upscaled(source, tmp_path / "b.mkv", **dropped).path
    piped = streamed(source, tmp_path / "c.mkv", **dropped)
    assert media.read_numbers(piped) == media.read_numbers(normal)
    assert {k: v for k, v in media.packets(piped).items() if k} == {k: v for k, v in media.packets(normal).items() if k}
    with av.open(str(normal)) as a, av.open(str(piped)) as b:
        assert abs(b.duration - a.duration) < 150_000


@pytest.mark.parametrize("codec", ["x264", "x265", "svtav1", "ffv1"])
def test_every_codec_and_no_picture_is_held_back(tmp_path, codec):
    source = write_episode(tmp_path / "a.mkv", pts=VFR).path
    preset = {"ffv1": None, "svtav1": "12"}.get(codec, "ultrafast")
    piped = streamed(source, tmp_path / "b.mkv", codec=codec, preset=preset)
    assert media.read_numbers(piped) == list(zip(VFR, range(len(VFR))))

    job = live_job(source, codec=codec, preset=preset, threads=4)
    video, spec = job.info.video, job.backend
    with av.open(io.BytesIO(), "w", format="matroska") as file:
        encoder = Encoder(
            file, job.encoder, 64, 48, spec.result_format, spec.result_color, video.time_base, video.rate, Fraction(1)
        )
        planes = [media._plane(media.draw(number), i).copy() for number in range(1) for i in range(3)]
        taken = given_out = 0
        for pts in range(0, 60 * 42, 42):
            given_out += len(encoder.encode(Frame(tuple(planes), pts, 42), pts))
            taken += 1
            assert taken - given_out <= 1
        assert given_out + len(encoder.encode(None)) == taken


def test_what_the_user_asks_of_the_encoder_wins(tmp_path):
    source = write_episode(tmp_path / "a.mkv").path
    own = {"bf": "2", "rc-lookahead": "8"}
    piped = streamed(source, tmp_path / "b.mkv", encoder_options=own, preset="veryfast")
    with av.open(str(piped)) as file:
        packets = [p.pts for p in file.demux(video=0) if p.size]
    assert packets != sorted(packets) and sorted(packets) == [t for t, _ in media.read_numbers(source)]


def test_sound_and_subtitles_come_beside_the_picture(tmp_path):
    source = rich_episode(tmp_path / "a.mkv", frames=96)
    order = in_file_order(streamed(source, tmp_path / "b.mkv"))
    end = max(at for kind, at in order if kind == "video")
    for kind, number in (("audio", 300), ("subtitle", 4)):
        found = last_of(order, kind)
        assert len(found) >= number
        assert all(-0.06 <= at - shown <= 0.06 for at, shown in found if at < end)


def last_of(order: list[tuple[str, float]], kind: str) -> list[tuple[float, float]]:
    """(seconds of the packet, of the picture before it) of every packet of `kind`."""
    shown, found = 0.0, []
    for what, at in order:
        shown = at if what == "video" else shown
        if what == kind:
            found.append((at, shown))
    return found


def odd_file(path: Path, source: Path, first: str) -> Path:
    """`source` with all packets of kind `first` before all others."""
    with (
        av.open(str(source)) as file,
        av.open(str(path), "w", container_options={"max_interleave_delta": "1"}) as result,
    ):
        added = {s.index: result.add_stream_from_template(s, opaque=True) for s in file.streams}
        packets = [p for p in file.demux() if p.size]
        for packet in sorted(packets, key=lambda p: p.stream.type != first):
            packet.stream = added[packet.stream_index]
            result.mux(packet)
    return path


@pytest.mark.parametrize("first", ["audio", "video", "subtitle"])
def test_an_odd_order_in_the_file_is_put_right(tmp_path, first):
    sounds, texts = [Track("aac", "ja"), Track("flac", "en")], [Track("subrip", "en")]
    plain = write_episode(tmp_path / "plain.mkv", frames=96, audio=sounds, subtitles=texts).path
    odd = odd_file(tmp_path / "odd.mkv", plain, first)
    kinds = [kind for kind, _ in in_file_order(odd)]
    assert set(kinds[: kinds.count(first) - 2]) <= {first}  # FFmpeg holds the last of a kind back
    piped = streamed(odd, tmp_path / "b.mkv")
    assert all(abs(at - shown) <= 0.1 for at, shown in last_of(in_file_order(piped), "audio") if at < 3.9)
    copied = [{k: v for k, v in media.packets(path).items() if k} for path in (odd, piped)]
    assert len(copied[0]) == 3 and copied[1] == copied[0]


def test_what_waits_is_bounded_and_nothing_is_lost(tmp_path, monkeypatch):
    sounds = [Track("flac", "ja"), Track("flac", "en")]
    plain = write_episode(tmp_path / "plain.mkv", frames=96, audio=sounds).path
    odd = odd_file(tmp_path / "odd.mkv", plain, "audio")
    monkeypatch.setattr(live, "READ_AHEAD", 30_000)
    most = 0
    read = live._Copies._read

    def watched(self):
        nonlocal most
        read(self)
        most = max(most, self._held)

    monkeypatch.setattr(live._Copies, "_read", watched)
    piped = streamed(odd, tmp_path / "b.mkv")
    assert 30_000 <= most < 60_000  # a packet more than allowed
    assert {k: len(v) for k, v in media.packets(piped).items()} == {k: len(v) for k, v in media.packets(odd).items()}


def test_a_rare_subtitle_is_not_waited_for(tmp_path, monkeypatch):
    """The file is read as far as the picture has come, not to where the next cue is."""
    source = write_episode(tmp_path / "a.mkv", frames=240, subtitles=[Track("subrip", "en")]).path
    ahead = []
    until = live._Copies.until

    def watched(self, time):
        yield from until(self, time)
        ahead.append(self._clock - time)

    monkeypatch.setattr(live._Copies, "until", watched)
    streamed(source, tmp_path / "b.mkv")
    assert len(ahead) == 241 and max(ahead[:-1]) < 0.3


def positions(path: Path) -> list[int]:
    """How far this process has read `path`, bytes, wherever it has it open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile
            if os.readlink(f"/proc/self/fd/{number}") == str(path):
                found.append(int(Path(f"/proc/self/fdinfo/{number}").read_text().split()[1]))
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self/fdinfo"), reason="needs Linux to tell how far a file was read")
def test_sound_that_ends_early_does_not_have_the_rest_read_at_once(tmp_path):
    """Behind the few pictures that a pipe holds, at most ten seconds may be looked through for sound."""
    long = write_episode(tmp_path / "long.mkv", frames=1440, size=(128, 96), codec="ffv1").path
    short = write_episode(tmp_path / "short.mkv", frames=2, audio=[Track("aac", "ja")]).path
    source = tmp_path / "a.mkv"
    with av.open(str(long)) as a, av.open(str(short)) as b, av.open(str(source), "w") as result:
        taken = a.streams.video[0], b.streams.audio[0]
        added = {kind.type: result.add_stream_from_template(kind, opaque=True) for kind in taken}
        found = [p for file, kind in zip((a, b), taken) for p in file.demux(kind) if p.size]
        for packet in sorted(found, key=lambda p: float(p.dts * p.time_base)):
            packet.stream = added[packet.stream.type]
            result.mux(packet)
    job = live_job(source, codec="ffv1", preset=None, reuse="off")
    out, pipe = os.pipe()
    reader, done = Reader(out, most=1), []

    def work():
        done.append(stream(job, pipe, open_backend, Report()))
        os.close(pipe)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    seen, now = None, positions(source)
    while not now or now != seen or not reader.data:
        time.sleep(0.5)
        seen, now = now, positions(source)
    assert not done and max(now) < source.stat().st_size / 3
    reader.go_on.set()
    thread.join()
    reader.join()
    (tmp_path / "b.mkv").write_bytes(reader.data)
    assert done == [True] and media.packets(tmp_path / "b.mkv")[1] == media.packets(source)[1]


class Watched:
    """A backend that counts what it is given, and can fail at a frame."""

    in_flight, context, patch = 1, 0, 0

    def __init__(self, spec, fails_at=None):
        self._inner, self._fails_at = open_backend(spec), fails_at
        self.scale, self.description = self._inner.scale, ""
        self.frames, self.closed = 0, 0

    def submit(self, batch):
        self.frames += len(batch)
        if self.frames == self._fails_at:
            raise BackendError("the device is gone")
        return self._inner.submit(batch)

    def settle(self, width, height, patches=True):
        return self._inner.settle(width, height, patches)

    def close(self):
        self.closed += 1


def left_running():
    return [thread.name for thread in threading.enumerate() if thread.name in ("decode", "upscale")]


def test_a_slow_reader_makes_everything_wait(tmp_path):
    source = write_episode(tmp_path / "a.mkv", frames=400, size=(128, 96)).path
    job = live_job(source, codec="ffv1", preset=None, reuse="off")
    out, pipe = os.pipe()
    reader, backends, done = Reader(out, most=1), [], []

    def opening(spec):
        backends.append(Watched(spec))
        return backends[-1]

    def work():
        done.append(stream(job, pipe, opening, Report()))
        os.close(pipe)

    thread = threading.Thread(target=work)
    thread.start()
    seen = -1
    while not backends or seen != backends[0].frames or not seen:
        seen = backends[0].frames if backends else -1
        time.sleep(0.5)
    assert 0 < seen < 60 and not done  # what fits into the pipe (64 KiB) and between the stages
    reader.go_on.set()
    thread.join()
    reader.join()
    assert done == [True] and backends[0].frames == 400 and backends[0].closed == 1
    (tmp_path / "b.mkv").write_bytes(reader.data)
    assert len(media.read_numbers(tmp_path / "b.mkv")) == 400


def test_a_reader_that_goes_away_ends_the_run(tmp_path):
    source = write_episode(tmp_path / "a.mkv", frames=400, size=(128, 96), audio=[Track("aac", "ja")]).path
    out, pipe = os.pipe()
    backends = []

    def opening(spec):
        backends.append(Watched(spec))
        return backends[-1]

    def read_a_little_and_leave():
        os.read(out, 20_000)
        os.close(out)

    threading.Thread(target=read_a_little_and_leave).start()
    assert not stream(live_job(source, codec="ffv1", preset=None, reuse="off"), pipe, opening, Report())
    os.close(pipe)
    assert backends[0].frames < 60 and backends[0].closed == 1 and left_running() == []


def test_a_pipe_that_does_not_block(tmp_path):
    source = write_episode(tmp_path / "a.mkv", frames=100, size=(128, 96)).path
    out, pipe = os.pipe()
    os.set_blocking(pipe, False)
    reader = Reader(out)
    assert stream(live_job(source, codec="ffv1", preset=None), pipe, open_backend, Report())
    os.close(pipe)
    reader.join()
    (tmp_path / "b.mkv").write_bytes(reader.data)
    assert len(media.read_numbers(tmp_path / "b.mkv")) == 100


def test_a_fault_ends_the_stream_with_whole_pictures(tmp_path):
    source = write_episode(tmp_path / "a.mkv", frames=60, audio=[Track("aac", "ja")]).path
    with pytest.raises(BackendError, match="the device is gone"):
        streamed(source, tmp_path / "b.mkv", opening=lambda spec: Watched(spec, fails_at=40), reuse="off")
    seen = media.read_numbers(tmp_path / "b.mkv")
    assert 35 <= len(seen) < 40 and seen == media.read_numbers(source)[: len(seen)] and left_running() == []


def test_what_the_machine_decides_is_decided_before_the_first_picture(tmp_path):
    """As in a run into a file: else nothing is compiled, and a tile follows from whatever memory is free later."""
    source = write_episode(tmp_path / "a.mkv").path
    asked = []

    class Asked(NearestBackend):
        def settle(self, width, height, patches=True):
            asked.append((width, height, patches))
            return super().settle(width, height, patches)

        def __call__(self, batch):
            asked.append("picture")
            return super().__call__(batch)

    streamed(source, tmp_path / "b.mkv", opening=lambda spec: Asked(spec), reuse="off")
    assert asked[:2] == [(64, 48, False), "picture"]


def test_damage_is_counted_as_ever(tmp_path):
    source = write_episode(tmp_path / "a.mkv", frames=240, audio=[Track("aac", "ja")]).path
    data = bytearray(source.read_bytes())
    for at in range(len(data) // 3, len(data) - 2000, 20_011):
        data[at : at + 40] = bytes(40)
    source.write_bytes(data)
    counts, results = [], []
    for make, name in ((upscaled, "b.mkv"), (streamed, "c.mkv")):
        report = Report()
        make(source, tmp_path / name, report, **({"check": False} if make is streamed else {}))
        counts.append({k: n for k, n in report.counts.items() if "coded pictures" not in k})
        results.append(media.read_numbers(tmp_path / name))
    assert counts[0] and counts[1] == counts[0] and results[1] == results[0]


def test_nothing_to_show_is_an_error(tmp_path):
    source = write_episode(tmp_path / "a.mkv").path
    with pytest.raises(OutputError, match="no frame of the part asked for"):
        streamed(source, tmp_path / "b.mkv", start=60.0)
    assert (tmp_path / "b.mkv").read_bytes() == b""


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80), st.integers(1, 8), st.randoms())
def test_times_that_come_out_of_order_are_sorted(steps, near, random):
    times = [sum(steps[:i]) for i in range(len(steps))]
    mixed = [*times]
    for i in range(0, len(times), near):
        some = mixed[i : i + near]
        random.shuffle(some)
        mixed[i : i + near] = some
    frames = [Frame((np.array([[i]]),), pts=time, duration=time + 1) for i, time in enumerate(mixed)]
    given_out = list(decode._in_order(iter(frames)))
    assert [(frame.pts, frame.duration) for frame in given_out] == [(time, time + 1) for time in times]
    assert [frame.planes[0].item() for frame in given_out] == list(range(len(times)))


def test_a_finished_files_header_is_refused(tmp_path):
    data = write_episode(tmp_path / "a.mkv").path.read_bytes()
    with pytest.raises(OutputError, match="it has an end"):
        restored_header(data)


@pytest.mark.parametrize(
    ("inputs", "options", "cure"),
    [
        (["a.mkv", "b.mkv"], {}, "name one input"),
        (["a.mkv"], {"restart": True}, "leave it out"), (["a.mkv"], {"overwrite": True}, "leave it out"),
        (["a.mkv"], {"jobs": 3}, "leave it out"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(inputs, options, cure):
    with pytest.raises(UsageError, match=cure):
        targets([Path(name) for name in inputs], Options(output=STDOUT, **options), "2x")


def test_pictures_are_no_stream(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UsageError, match="name a file"):
        targets([tmp_path / "a.png"], Options(output=STDOUT), "2x")


# ---- the command itself ---------------------------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vidsr", *map(str, arguments), "-o", "-", *QUICK]


def test_standard_output_is_the_stream_and_no_file_is_left(tmp_path):
    source = write_episode(tmp_path / "a.mkv", audio=[Track("aac", "ja")], color={}).path
    done = subprocess.run(command(source, "-v"), capture_output=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]
    assert done.stdout.startswith(b"\x1a\x45\xdf\xa3")
    with av.open(io.BytesIO(done.stdout)) as file:
        assert len(list(file.decode(video=0))) == 24
    said = done.stderr.decode()
    assert "not proved" in said and "BT.601" in said and "24 of 24 frames" in said and "Traceback" not in said


def begun(source: Path) -> subprocess.Popen[bytes]:
    """A stream with far more to come than a pipe holds."""
    words = [*command(source)[:-4], "--codec", "ffv1", "--threads", "1"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_player_that_quits_is_no_failure(tmp_path):
    source = write_episode(tmp_path / "a.mkv", frames=2000, size=(128, 96)).path
    with begun(source) as process:
        assert len(process.stdout.read(100_000)) == 100_000
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert "Traceback" not in said and "rror" not in said and said.count("closed the pipe") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal(tmp_path, number, code):
    source = write_episode(tmp_path / "a.mkv", frames=2000, size=(128, 96)).path
    with begun(source) as process:
        assert process.stdout.read(100_000)
        process.send_signal(number)
        assert process.wait(60) == code
        said = process.stderr.read().decode()
    assert "vidsr: stopped" in said and "segments are kept" not in said and "Traceback" not in said


def test_a_terminal_is_refused(tmp_path):
    source = write_episode(tmp_path / "a.mkv").path
    master, terminal = pty.openpty()
    done = subprocess.run(command(source), stdout=terminal, stderr=subprocess.PIPE, timeout=120)
    os.close(terminal)
    os.close(master)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "vidsr: -o -: would print the video on the terminal; pipe it: vidsr episode.mkv -o - | mpv -"
    ]


def test_the_name_live_is_a_file(tmp_path):
    source = write_episode(tmp_path / "a.mkv").path
    assert upscaled(source, tmp_path / "live.mkv").video.width == 128
