"""Several segments at once: the same bytes whatever their number, one backend for all, errors that end all."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from fractions import Fraction

import av
import pytest

from tests.media import write_episode
from tests.running import Opens, quick
from vidsr.backends import open_backend
from vidsr.choose import encoding as jobs
from vidsr.choose import prepare as decisions
from vidsr.choose.encoding import choose_jobs
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.encode.codecs import CODECS
from vidsr.errors import BackendError, ResumeError
from vidsr.report import Report
from vidsr.run.job import Progress
from vidsr.run.pipeline import run
from vidsr.source.probe import probe

FRAMES = 1000
VFR = [0, 42, 83, 125, 209, 292, 325, 359, 392, 425, 500, 501, 580, 700, 742, 784, 900, 1000, 1100, 1200]
DEFECT = 700  # of the frames, in the third segment


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    """Four segments: 1000 frames with a keyframe every 50."""
    path = tmp_path_factory.mktemp("parallel") / "episode.mkv"
    return write_episode(path, frames=FRAMES, keyframes=50)


def job_for(episode, output, workers, **options):
    wanted = {"scale": 2, "backend": "nearest", "preset": "ultrafast", "threads": 1, "check": False, **options}
    return replace(prepare(episode.path, Options(output=output, **wanted), Report()), workers=workers)


def video(path):
    with av.open(str(path)) as file:
        return [(p.pts, p.dts, p.is_keyframe, bytes(p)) for p in file.demux(video=0) if p.size]


@pytest.fixture(scope="module")
def expected(episode, tmp_path_factory):
    output = tmp_path_factory.mktemp("alone") / "result.mkv"
    run(job_for(episode, output, 1), open_backend, Report())
    return video(output)


class Watched:
    """A backend that knows who calls it, and can fail at a frame."""

    in_flight, context, patch = 2, 0, 0

    def __init__(self, spec, fails_at=None):
        self._inner, self._fails_at = open_backend(spec), fails_at
        self.scale, self.description = self._inner.scale, ""
        self.inside, self.threads, self.closed = threading.Lock(), set(), 0

    def submit(self, batch):
        assert self.inside.acquire(blocking=False), "two threads in one backend"
        try:
            assert not self.closed
            self.threads.add(threading.get_ident())
            if self._fails_at in [frame.pts for frame in batch.frames]:
                raise BackendError("the device is gone")
            time.sleep(0.0005)  # for another thread to come
            return self._inner.submit(batch)
        finally:
            self.inside.release()

    def __call__(self, batch):
        return self.submit(batch)()

    def settle(self, width, height, patches=True):
        return self._inner.settle(width, height, patches)

    def close(self):
        self.closed += 1


def left_running():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("worker", "decode", "upscale"))]


@pytest.mark.parametrize("workers", [2, 3, 9])
def test_any_number_of_workers_gives_the_same_video(episode, expected, tmp_path, workers):
    run(job_for(episode, tmp_path / "a.mkv", workers), open_backend, Report())
    assert video(tmp_path / "a.mkv") == expected
    assert left_running() == []


@pytest.mark.parametrize("codec", ["x265", "svtav1", "ffv1"])
def test_encoders_do_not_disturb_each_other(tmp_path, codec):
    source = write_episode(tmp_path / "episode.mkv", frames=720, keyframes=60)
    preset = {"x265": "ultrafast", "svtav1": "12", "ffv1": None}[codec]
    for workers in (1, 3):
        job = job_for(source, tmp_path / f"{workers}.mkv", workers, codec=codec, preset=preset, threads=2)
        run(job, open_backend, Report())
    assert video(tmp_path / "1.mkv") == video(tmp_path / "3.mkv")


def test_the_journal_is_the_same(episode, tmp_path):
    def interrupt(where: Progress) -> None:
        if where.step == "joining":
            raise RuntimeError("keep the work folder")

    folders = []
    for workers in (1, 3):
        (tmp_path / str(workers)).mkdir()
        output = tmp_path / str(workers) / "a.mkv"
        with pytest.raises(RuntimeError, match="keep"):
            run(job_for(episode, output, workers), open_backend, Report(), interrupt)
        work = output.with_name("a.mkv.vidsr")
        found = {path.name: json.loads(path.read_text()) for path in work.iterdir() if path.suffix == ".json"}
        for entry in found.values():
            entry.pop("sha256", None)  # Matroska gives every file a number of its own
        folders.append(found)
    assert len(folders[0]) == 5 and folders[0] == folders[1]


def test_durations_stay_with_their_times(tmp_path):
    """Of a file that gives every second picture the time of the one before it."""
    plain = write_episode(tmp_path / "plain.mp4", options={"bf": "0"}, pts=VFR, time_base=Fraction(1, 1000)).path
    source = tmp_path / "swapped.mp4"
    with av.open(str(plain)) as file, av.open(str(source), "w") as result:
        stream = result.add_stream_from_template(file.streams.video[0], opaque=True)
        packets = [packet for packet in file.demux(video=0) if packet.size]
        times = [packet.pts for packet in packets]
        late = max(b - a for a, b in zip(times, times[1:]))  # for none to be shown before it is decoded
        for number, packet in enumerate(packets):
            packet.pts, packet.stream = times[number ^ 1] + late, stream
            result.mux(packet)
    info = probe(source)
    with av.open(str(source)) as file:
        coded = [(frame.pts, frame.duration) for frame in file.decode(video=0)]
    assert coded != sorted(coded) and not info.video.monotonic

    def interrupt(where: Progress) -> None:
        if where.step == "joining":
            raise RuntimeError("keep the work folder")

    job = prepare(source, Options(output=tmp_path / "b.mp4", scale=2, backend="nearest"), Report())
    with pytest.raises(RuntimeError, match="keep"):
        run(job, open_backend, Report(), interrupt)
    entry = json.loads((tmp_path / "b.mp4.vidsr" / "segment-00000.json").read_text())
    assert list(zip(entry["pts"], entry["durations"])) == sorted(coded)


def test_the_backend_is_opened_once_entered_one_at_a_time_and_closed(episode, expected, tmp_path):
    opened = []

    def opening(spec):
        opened.append(Watched(spec))
        return opened[-1]

    run(job_for(episode, tmp_path / "a.mkv", 3), opening, Report())
    (backend,) = opened
    assert len(backend.threads) > 1 and backend.closed == 1
    assert video(tmp_path / "a.mkv") == expected


def test_a_backend_that_does_not_open_is_asked_once(episode, tmp_path):
    asked = []

    def opening(spec):
        asked.append(spec)
        raise BackendError("no device")

    with pytest.raises(BackendError, match="no device"):
        run(job_for(episode, tmp_path / "a.mkv", 3), opening, Report())
    assert len(asked) == 1 and left_running() == []


def test_progress_only_ever_grows(episode, tmp_path):
    seen: list[Progress] = []
    inside = threading.Lock()

    def progress(where: Progress) -> None:
        assert inside.acquire(blocking=False), "two calls at once"
        seen.append(where)
        inside.release()

    run(job_for(episode, tmp_path / "a.mkv", 3), open_backend, Report(), progress)
    assert [where.done for where in seen if where.step == "upscaling"] == list(range(1, FRAMES + 1))
    numbers = [where.segment for where in seen]
    assert numbers == sorted(numbers) and numbers[-1] == 4


@pytest.mark.parametrize(("first", "then"), [(3, 1), (1, 3), (2, 4)])
def test_an_error_stops_all_keeps_what_is_done_and_is_resumed_by_any_number(episode, expected, tmp_path, first, then):
    output = tmp_path / "a.mkv"
    backends = []

    def failing(spec):
        backends.append(Watched(spec, fails_at=episode.pts[DEFECT]))
        return backends[-1]

    with pytest.raises(BackendError, match="the device is gone"):
        run(job_for(episode, output, first), failing, Report())
    assert left_running() == [] and backends[0].closed == 1
    work = tmp_path / "a.mkv.vidsr"
    assert not list(work.glob("*.part")) and not output.exists()
    kept = {path.name: path.stat().st_mtime_ns for path in work.glob("segment-*.mkv")}
    # Of two workers, whichever is done first begins the third segment.
    assert "segment-00002.mkv" not in kept and (first > 2 or kept)
    seen = []

    def noticed(where: Progress) -> None:
        seen.append(where)
        for name, time_ns in kept.items():
            assert (work / name).stat().st_mtime_ns == time_ns

    run(job_for(episode, output, then), open_backend, Report(), noticed)
    assert video(output) == expected
    assert (seen[0].resumed > 0) == bool(kept)


def test_damage_is_counted_alike(episode, tmp_path):
    data = bytearray(episode.path.read_bytes())
    for at in range(len(data) // 3, len(data) - 2000, 20_011):
        data[at : at + 40] = bytes(40)
    source = replace(episode, path=tmp_path / "damaged.mkv")
    source.path.write_bytes(data)
    counts, videos = [], []
    for workers in (1, 3):
        report = Report()
        run(job_for(source, tmp_path / f"{workers}.mkv", workers), open_backend, report)
        counts.append(list(report.counts.items()))
        videos.append(video(tmp_path / f"{workers}.mkv"))
    assert counts[0] and counts[0] == counts[1] and videos[0] == videos[1]


def test_killed_and_resumed_with_another_number(episode, tmp_path):
    command = [sys.executable, "-m", "vidsr", str(episode.path), "--scale", "2", "--backend", "nearest",
               "--preset", "medium", "--threads", "1", "--no-verify"]  # fmt: skip
    subprocess.run([*command, "-o", str(tmp_path / "whole.mkv")], check=True, capture_output=True, timeout=120)
    output = str(tmp_path / "a.mkv")
    process = subprocess.Popen([*command, "-o", output, "--jobs", "3"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("a.mkv.vidsr/segment-*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    subprocess.run([*command, "-o", output, "--jobs", "2"], check=True, capture_output=True, timeout=120)
    assert video(tmp_path / "a.mkv") == video(tmp_path / "whole.mkv")


@pytest.fixture
def machine(monkeypatch):
    def of(cores, gib):
        monkeypatch.setattr(jobs, "cores", lambda: cores)
        monkeypatch.setattr(jobs, "free_memory", lambda: gib << 30)
        monkeypatch.setattr(jobs, "default_threads", lambda: min(cores, 16))

    return of


@pytest.mark.parametrize(
    ("backend", "codec", "cores", "gib", "asked", "threads", "expected"),
    [
        ("cpu", "x264", 32, 64, None, None, (1, 16)),
        ("cuda", "x264", 32, 64, None, None, (8, 4)),
        ("tensorrt", "x264", 16, 64, None, None, (4, 4)),
        ("cuda", "x264", 64, 64, None, None, (8, 8)),
        ("cuda", "x264", 3, 64, None, None, (1, 3)),
        ("cuda", "x264", 32, 64, None, 6, (8, 6)),
        ("cuda", "x264", 32, 64, 2, None, (2, 16)),
        ("cpu", "x264", 6, 64, 4, None, (4, 2)),
        ("cuda", "h264_nvenc", 32, 64, None, None, (2, 16)),
        ("cuda", "x264", 32, 1, None, None, (2, 4)),  # little memory: fewer at once, the same threads
        ("cuda", "x264", 32, 0, None, None, (1, 4)),
        ("cuda", "x264", 32, 0, 3, None, (3, 11)),
    ],
)
def test_how_many_at_once(episode, tmp_path, machine, backend, codec, cores, gib, asked, threads, expected):
    job = job_for(episode, tmp_path / "a.mkv", 1)
    big = replace(job.info.video, width=960, height=540)  # 1920x1080: 237 MiB for 80 frames
    machine(cores, gib)
    spec = replace(job.backend, name=backend)
    assert choose_jobs(Options(jobs=asked, threads=threads), spec, CODECS[codec], big) == expected


def test_auto_knows_what_to_go_on_with(episode, tmp_path, monkeypatch):
    monkeypatch.setattr(decisions, "choose_backend", lambda name, *_: name or "tensorrt")
    monkeypatch.setattr(decisions, "fallbacks", lambda name, precision: {"tensorrt": ("cuda", "cpu")}.get(name, ()))
    wanted = {"model": "fast"}  # nothing is measured for a model that was named
    auto, named = (job_for(episode, tmp_path / "a.mkv", 1, backend=name, **wanted) for name in (None, "cuda"))
    assert (auto.backend.name, auto.backend.instead, auto.batch_size) == ("tensorrt", ("cuda", "cpu"), 4)
    assert (named.backend.name, named.backend.instead, named.batch_size) == ("cuda", (), 4)


def test_resuming_asks_for_the_threads_only(episode, expected, tmp_path):
    output = tmp_path / "a.mkv"

    def failing(spec):
        return Watched(spec, fails_at=episode.pts[DEFECT])

    def prepared(**options):
        wanted = {"scale": 2, "backend": "nearest", "preset": "ultrafast", "check": False, **options}
        return prepare(episode.path, Options(output=output, **wanted), Report())

    with pytest.raises(BackendError):
        run(prepared(jobs=2, threads=1), failing, Report())
    with pytest.raises(ResumeError, match="threads"):
        run(prepared(jobs=2, threads=3), open_backend, Report())
    run(prepared(jobs=3, threads=1), open_backend, Report())
    assert video(output) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_a_source_is_opened_a_few_times_and_once_for_each_segment(tmp_path):
    """Over a network each time costs a second: to look in some ways, plan, join and prove, but not for each picture."""
    source = write_episode(tmp_path / "a.mkv", frames=1200, keyframes=120).path
    with Opens(source) as opens:
        done = quick(source, "-o", tmp_path / "b.mkv")
        assert done.returncode == 0 and "segment 5 of 5" in done.stderr, done.stderr
        assert opens.count() <= 5 + 20


def test_a_stand_in_gets_as_many_workers_as_suit_it(episode, expected, tmp_path):
    """What was to run on a GPU and runs on the CPU after all: the same file, one segment after the other."""
    names = []

    class Listening(Watched):
        def submit(self, batch):
            names.extend(thread.name for thread in threading.enumerate())
            return super().submit(batch)

    job = job_for(episode, tmp_path / "a.mkv", 3)
    job = replace(job, backend=replace(job.backend, name="tensorrt"), batch_size=4)
    run(job, lambda spec: Listening(replace(spec, name="nearest")), Report())
    assert video(tmp_path / "a.mkv") == expected
    assert names and not any(name.startswith("worker") for name in names)
