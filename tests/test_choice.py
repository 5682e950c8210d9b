"""Which model `auto` takes, what it says and remembers, and that a stopped run keeps its model. Nothing is timed."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media import write_episode
from tests.running import vidsr
from vidsr import checkpoint, choice, speed
from vidsr.backends import open_backend
from vidsr.batch import batches
from vidsr.checkpoint import save_generator
from vidsr.choice import FAMILY, Forecast, Outlook, choose_model, decide, family, family_member, machine
from vidsr.errors import ResumeError, UsageError
from vidsr.frames import Frame, PixelFormat, TimeRange
from vidsr.jobs import Options, prepare
from vidsr.models import Compact
from vidsr.pipeline import run
from vidsr.probe import probe
from vidsr.report import Report
from vidsr.reuse import CALL_PIXELS, Saved, reuse
from vidsr.speed import Counting, Movement, Speed, count_movement, measure_around, measure_model, read_windows
from vidsr.speed import seconds_a_frame as seconds_of
from vidsr.speed_cache import DOUBTED, KEPT, SpeedCache
from vidsr.stillness import Tolerance

pytestmark = pytest.mark.usefixtures("one_thread")
YUV = PixelFormat("yuv", 8, (1, 1))
fast_enough = st.floats(0.001, 1e6)


# ---- the decision ---------------------------------------------------------------------------------------------------


@given(st.lists(fast_enough, min_size=1, max_size=5), fast_enough)
def test_the_best_that_reaches_the_rate_else_the_fastest(speeds, rate):
    taken = decide(speeds, rate)
    reaching = [i for i, fps in enumerate(speeds) if fps >= rate]
    assert taken == reaching[0] if reaching else speeds[taken] == max(speeds)


@given(st.lists(fast_enough, min_size=1, max_size=5), fast_enough, st.floats(1, 100))
def test_a_faster_machine_or_a_slower_source_never_takes_a_worse_model(speeds, rate, times):
    before = decide(speeds, rate)
    assert decide(speeds, rate / times) <= before
    assert decide([fps * times for fps in speeds], rate) <= before


def test_of_equally_fast_ones_the_best():
    """An encoder that holds all of them up."""
    assert decide([5.0, 5.0, 5.0], 24) == 0 and decide([4.9, 5.0, 5.0], 24) == 1


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Weights of the family so small that all of them are fast; `fast` also at 2x."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name, channels, scale in (("balanced", 12, 4), ("fast", 8, 4), ("fast-2x", 8, 2), ("tiny", 4, 4)):
        save_generator(Compact(channels, 2, scale), folder / f"{name}.safetensors", {"licence": "none"})
    monkeypatch.setattr(checkpoint, "WEIGHTS", folder)
    return folder


def test_native_weights_where_they_are_installed(installed):
    assert [info.name for info in family(4)] == ["balanced", "fast", "tiny"]
    assert [info.name for info in family(2)] == ["balanced", "fast-2x", "tiny"]
    assert family_member("fast", 2).name == "fast-2x"
    assert family_member("fast", 3).name == family_member("fast", 4).name == "fast"
    assert family_member("tiny", 2).name == "tiny"
    assert family_member("best", 2).name == family_member("auto", 4).name == "balanced"
    assert family_member(str(installed / "fast.safetensors"), 2).name == "fast"  # a file is what it is
    (installed / "balanced.safetensors").unlink()
    assert family_member("best", 2).name == "fast-2x"


def test_unknown_names_list_what_there_is(installed, tmp_path):
    with pytest.raises(UsageError) as caught:
        family_member("bset", 4)
    assert all(word in str(caught.value) for word in ("'bset'", "balanced", "fast-2x", "tiny", "auto", "best"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no such weights file"):
        family_member(str(tmp_path / "none.safetensors"), 4)
    for path in installed.iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="none of balanced, fast, tiny is installed"):
        family_member("best", 4)


def test_the_command_says_so(tmp_path):
    write_episode(tmp_path / "a.mkv", frames=4)
    done = vidsr(tmp_path / "a.mkv", "--model", "bset", "--backend", "cpu")
    assert done.returncode == 2 and "'bset'" in done.stderr and "balanced" in done.stderr and "auto" in done.stderr


# ---- words ----------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 3, 2, 12, 0)


def test_what_is_said():
    assert Outlook("fast", 26.2, 23.976, 33_000).line(NOON) == (
        "fast: about 26 frames a second here, the source has 24; done in about 21 minutes (12:21)"
    )
    slow = Outlook("tiny", 9, 24, 34_560, 1.04).line(NOON)
    assert "done in about 64 minutes (13:04)" in slow and "--model best" in slow and "about 1.0 frame a second" in slow
    assert Outlook("fast", 30, 24, None).line(NOON).endswith("the source has 24")
    assert "about 20 hours (Tue 08:00)" in Outlook("balanced", 0.5, 24, 36_000).line(NOON)
    assert "about 1.5 hours" in Outlook("fast", 1, 24, 5400).line(NOON)


@given(st.floats(1e-9, 1e9), st.integers(1, 10**9))
def test_any_speed_can_be_said(fps, frames):
    line = Outlook("fast", fps, 24, frames, fps / 2).line(NOON)
    assert "\n" not in line and "about 0 " not in line and "about 0.0 " not in line


# ---- what is kept ---------------------------------------------------------------------------------------------------


def speed_of(wall=1000.0, age=0.0, given=1.0):
    return Speed(wall, wall / 2, given, time.time() - age, 16)


@pytest.fixture
def cache(tmp_path):
    return SpeedCache(tmp_path / "cache" / "speeds.json")


def test_what_was_put_comes_back_on_this_machine_only(cache):
    assert cache.get("here", "fast") is None
    one, other = speed_of(), speed_of(5)
    assert cache.put("here", "fast", one, True) and cache.put("here", "tiny", other, False)
    again = SpeedCache(cache.path)
    assert again.get("here", "fast") == one and again.get("here", "tiny") == other
    assert again.get("there", "fast") is None and again.get("here", "balanced") is None
    assert again.entries("here") == {"fast": one, "tiny": other}


@pytest.mark.parametrize(("quiet", "lasts"), [(True, KEPT), (False, DOUBTED)])
def test_old_speeds_are_measured_again_those_of_a_busy_machine_soon(cache, quiet, lasts):
    cache.put("here", "young", speed_of(age=0.9 * lasts), quiet)
    cache.put("here", "old", speed_of(age=1.1 * lasts), quiet)
    cache.put("here", "tomorrow's", speed_of(age=-3600), quiet)
    assert cache.get("here", "young") and not cache.get("here", "old") and not cache.get("here", "tomorrow's")
    cache.put("here", "new", speed_of(), quiet)
    assert ("old" in SpeedCache(cache.path).entries("here")) == (not quiet)  # and do not stay for ever


def test_a_speed_measured_in_haste_is_not_enough_where_there_is_time(cache):
    cache.put("here", "fast", speed_of(given=0.1), True)
    assert cache.get("here", "fast", 0.2) and not cache.get("here", "fast", 1.0)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\xff", b"[]", b"{}", b"null", b'{"format": 2, "machines": {}}', b'{"format": 1, "machines": 3}',
     b'{"format": 1, "machines": {"here": []}}', b'{"format": 1, "machines": {"here": {"fast": 1}}}', b"[" * 100_000,
     b'{"format": 1, "machines": {"here": {"fast": {"wall": NaN, "cpu": 1, "given": 1, "when": 1, "quiet": true}}}}',
     b'{"format": 1, "machines": {"here": {"fast": {"wall": -1, "cpu": 1, "given": 1, "when": 1e308}}}}'],
)  # fmt: skip
def test_a_damaged_file_is_as_good_as_none_and_replaced(cache, content):
    cache.path.parent.mkdir()
    cache.path.write_bytes(content)
    assert cache.get("here", "fast") is None and cache.entries("here") == {}
    assert cache.put("here", "fast", speed_of(), True) and cache.get("here", "fast")


def test_one_damaged_entry_does_not_cost_the_others(cache):
    cache.put("here", "fast", speed_of(), True)
    cache.put("here", "tiny", speed_of(), True)
    raw = json.loads(cache.path.read_text())
    raw["machines"]["here"]["tiny"]["wall"] = "quick"
    cache.path.write_text(json.dumps(raw))
    assert cache.get("here", "fast") and not cache.get("here", "tiny")


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "speeds.json", Path("~nobody/speeds.json"), tmp_path):
        cache = SpeedCache(path)
        assert not cache.put("here", "fast", speed_of(), True) and cache.get("here", "fast") is None
    assert not Path("~nobody").exists()


def test_measuring_anew(cache, monkeypatch):
    cache.put("here", "fast", speed_of(), True)
    monkeypatch.setenv("VIDSR_REMEASURE", "1")
    fresh = SpeedCache(cache.path)
    assert fresh.get("here", "fast") is None
    fresh.put("here", "fast", speed_of(7), True)
    assert fresh.get("here", "fast").wall == 7


# ---- how much moves -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    path = tmp_path_factory.mktemp("choice") / "episode.mkv"
    write_episode(path, frames=80, keyframes=20, size=(192, 144))
    return path


def moving_frames(count=24, size=(160, 96)):
    """A square moves over a still picture."""
    rng = np.random.default_rng(0)
    still = [rng.integers(16, 236, shape, np.uint8) for shape in YUV.plane_shapes(*size)]
    frames = []
    for i in range(count):
        planes = [plane.copy() for plane in still]
        planes[0][40:56, 16 + 2 * i : 32 + 2 * i] = 235
        frames.append(Frame(tuple(planes), i, 1))
    return frames


@pytest.mark.parametrize("batch", [1, 4])
def test_what_is_counted_is_what_a_run_computes(episode, batch):
    """But for the first frame, which a run has once and a sample in each window."""
    frames = moving_frames()
    video = replace(probe(episode).video, width=160, height=96)
    movement = count_movement([frames], video, Tolerance(), 8, 0, batch, 60)
    saved = Saved()
    list(reuse(batches(frames, batch, YUV, video.color), Counting(1, 8), Tolerance(), None, saved))
    assert movement.frames == 23
    assert sum(w * h for call in movement.pieces for w, h in call) == saved.pixels - 160 * 96
    calls = sum(map(len, movement.pieces))
    per_frame = (saved.pixels - 160 * 96 + calls * CALL_PIXELS) / 23
    assert movement.pixels(8, 10**9) == pytest.approx(per_frame, rel=1e-3)
    assert per_frame < movement.pixels(8, 24) < movement.pixels(24, 24) <= 160 * 96 + CALL_PIXELS


def test_a_border_taken_to_be_wider_is_nearly_one_counted(episode):
    video, frames = replace(probe(episode).video, width=160, height=96), moving_frames()
    found = {context: count_movement([frames], video, Tolerance(), context, 0, 1, 60) for context in (6, 12)}
    assert found[6].pixels(12) == pytest.approx(found[12].pixels(12), rel=0.15)
    assert found[12].pixels(6) == pytest.approx(found[6].pixels(6), rel=0.15)


def test_without_reuse_all_is_computed(episode):
    video = probe(episode).video
    movement = count_movement([moving_frames()], video, None, 8, 0, 1, 60)
    assert movement.pixels(8) == movement.pixels(40) == 192 * 144 + CALL_PIXELS


def test_a_gpu_fills_its_batches():
    movement = Movement((((100, 100),) * 3,), 3, 18, 64, 480, 270)
    assert movement.pixels(18, 10**12) == pytest.approx(16 * 100 * 100 / 3, rel=1e-3)


def test_windows_lie_in_the_part_asked_for_and_differ(episode, monkeypatch):
    info = probe(episode)
    short = read_windows(info, TimeRange(1.0, 2.0), [], 60)
    unit = float(info.video.time_base)
    assert len(short) == 1 and all(1 <= frame.pts * unit < 2 for frame in short[0]) and len(short[0]) == 24
    monkeypatch.setattr(speed, "READ_THROUGH", 10)
    first = read_windows(info, TimeRange(0, 0.1), [], 60)[0]
    windows = read_windows(info, TimeRange(), [first], 60)
    begins = [window[0].pts for window in windows]
    assert len(begins) == len(set(begins)) >= 4 and begins[-1] == first[0].pts
    assert read_windows(info, TimeRange(), [first], 0.0) == [first]


# ---- how long it takes ----------------------------------------------------------------------------------------------


@given(*[st.floats(1, 1e9)] * 4, st.floats(0, 1e6), st.booleans(), st.integers(1, 64), st.integers(1, 8))
def test_seconds_are_positive_and_more_work_takes_no_less(wall, cpu, wall2, cpu2, moving, gpu, cores, workers):
    model, around = Speed(wall, cpu, 1, 0, 8), Speed(wall2, cpu2, 1, 0)
    less = seconds_of(model, around, moving, 10**6, gpu, cores, workers)
    assert 0 < less <= seconds_of(model, around, moving + 1000, 10**6, gpu, cores, workers)
    assert math.isfinite(less)


def test_on_a_cpu_parts_add_up_beside_a_gpu_the_slowest_counts():
    model, around = Speed(2e6, 1e6, 1, 0, 8), Speed(4e6, 4e6, 1, 0)
    assert seconds_of(model, around, 1e6, 2_000_000, False, 2, 1) == pytest.approx(0.5 + 0.5 / 2)
    assert seconds_of(model, around, 1e6, 2_000_000, True, 2, 1) == pytest.approx(0.5)
    assert seconds_of(model, around, 1e5, 2_000_000, True, 2, 4) == pytest.approx(0.25)


def test_a_real_measurement(episode, installed, tmp_path):
    job = prepared(episode, tmp_path / "a.mkv", model="tiny")
    frames = moving_frames(6, (192, 144))
    found = [measure_model(job.backend, frames, 0.05, pytest.fail)]
    around = speed.Around(job.info, 4, job.encoder, YUV, job.backend.result_color, Tolerance(), 1, 8, 0)
    found.append(measure_around(around, [frames], 0.2))
    large = replace(job.backend.source_format, bits=10)
    found.append(measure_around(replace(around, format=large, tolerance=None, batch=4), [frames], 0.01))
    for one in found:
        assert all(math.isfinite(v) and v > 0 for v in (one.wall, one.cpu, one.given, one.when))
    assert found[0].context == open_backend(job.backend).context > 0


# ---- whole choices --------------------------------------------------------------------------------------------------


@pytest.fixture
def speeds(monkeypatch):
    """Models with these speeds in whole frames a second; and how often one was measured."""
    given = {"balanced": 5.0, "fast": 30.0, "fast-2x": 30.0, "tiny": 90.0}
    measured = []

    def fps(self, model):
        measured.append(model.name)
        return given[model.name]

    monkeypatch.setattr(Forecast, "fps", fps)
    return given, measured


def prepared(path, output, said=None, **options):
    # Weights that nobody trained: nothing to prove about their pictures.
    wanted = {"backend": "cpu", "preset": "ultrafast", "threads": 1, "check": False, **options}
    return prepare(path, Options(output=output, **wanted), Report(), None if said is None else said.append)


def test_auto_takes_what_reaches_and_the_plan_has_its_name(episode, installed, speeds, tmp_path):
    for scale, name in ((4, "fast"), (2, "fast-2x")):
        said = []
        job = prepared(episode, tmp_path / "a.mkv", said, scale=scale)
        assert Path(job.backend.model).stem == job.settings["model"] == name
        assert len(said) == 1 and said[0].startswith(f"{name}: about 30 frames a second here, the source has 24; done")
    assert speeds[1] == ["balanced", "fast", "balanced", "fast-2x"]  # none beyond the first that reaches
    speeds[0]["balanced"] = 24
    assert prepared(episode, tmp_path / "a.mkv").settings["model"] == "balanced"
    speeds[0].update(balanced=1, fast=2, tiny=3)
    said = []
    assert prepared(episode, tmp_path / "a.mkv", said).settings["model"] == "tiny"
    assert "--model best" in said[0] and "about 1.0 frame a second" in said[0]


def test_a_model_chosen_by_hand_is_taken_and_measured_only_where_that_is_cheap(episode, installed, speeds, tmp_path):
    said = []
    assert prepared(episode, tmp_path / "a.mkv", said, model="balanced").settings["model"] == "balanced"
    assert said == [] and speeds[1] == []  # three seconds: over sooner than measured
    write_episode(tmp_path / "long.mkv", frames=400, keyframes=50)
    prepared(tmp_path / "long.mkv", tmp_path / "a.mkv", said, model="best")
    assert said[0].startswith("balanced: about 5.0 frames a second here") and "--model" not in said[0]
    prepared(tmp_path / "long.mkv", tmp_path / "a.mkv", model="best")
    assert speeds[1] == ["balanced"]  # nobody to tell


def test_no_model_no_choice(episode, installed, speeds, tmp_path):
    assert prepared(episode, tmp_path / "a.mkv", backend="nearest").settings["model"] == "none"
    assert speeds[1] == []


def test_a_second_episode_needs_no_new_measurement(episode, installed, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDSR_CACHE", str(tmp_path / "cache"))
    calls = []
    for name in ("measure_model", "measure_around"):
        original = getattr(choice, name)
        monkeypatch.setattr(choice, name, lambda *a, f=original, n=name: (calls.append(n), f(*a))[1])
    first = prepared(episode, tmp_path / "a.mkv", [])
    assert calls.count("measure_around") == 1 and calls.count("measure_model") >= 1
    before = list(calls)
    write_episode(tmp_path / "other.mkv", frames=60, size=(208, 128))
    second = prepared(tmp_path / "other.mkv", tmp_path / "b.mkv", [])
    assert first.settings["model"] == second.settings["model"] or len(calls) > len(before)
    assert calls.count("measure_around") == 1
    assert calls.count("measure_model") <= len(FAMILY)
    words = machine(first.backend)[0]
    assert any(key.startswith("around") for key in SpeedCache().entries(words))
    monkeypatch.setenv("OMP_NUM_THREADS", "1" if choice.threads() != 1 else "2")
    if os.cpu_count() != 1 and choice.cores() > 1:
        assert machine(first.backend)[0] != words


# ---- going on -------------------------------------------------------------------------------------------------------


def stop_at(frame):
    def stop(where):
        if where.done == frame:
            raise KeyboardInterrupt

    return stop


def packets(path):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(video=0)]


def test_a_stopped_run_keeps_its_model_whatever_is_measured_now(episode, installed, speeds, tmp_path, monkeypatch):
    monkeypatch.setattr("vidsr.segments.MIN_FRAMES", 20)
    whole, stopped = tmp_path / "whole.mkv", tmp_path / "stopped.mkv"
    run(prepared(episode, whole), open_backend, Report())
    with pytest.raises(KeyboardInterrupt):
        run(prepared(episode, stopped), open_backend, Report(), stop_at(50))
    speeds[0].update(balanced=1000)
    speeds[1].clear()
    said = []
    job = prepared(episode, stopped, said)
    assert job.settings["model"] == "fast" and speeds[1] == []
    assert "going on with fast" in said[0] and "--restart" in said[0]
    assert 0 < choice.frames_left(job) < 80
    seen = []
    run(job, open_backend, Report(), seen.append)
    assert seen[0].resumed and seen[-1].done == 80
    assert packets(stopped) == packets(whole)


def test_restart_chooses_anew_and_other_models_are_named(episode, installed, speeds, tmp_path):
    output = tmp_path / "a.mkv"
    with pytest.raises(KeyboardInterrupt):
        run(prepared(episode, output), open_backend, Report(), stop_at(3))
    with pytest.raises(ResumeError, match=r"model \(fast then, tiny now\)"):
        run(prepared(episode, output, model="tiny"), open_backend, Report())
    with pytest.raises(ResumeError, match="preset"):
        run(prepared(episode, output, preset="superfast"), open_backend, Report())
    speeds[0].update(balanced=1000)
    assert prepared(episode, output, restart=True).settings["model"] == "balanced"
    run(prepared(episode, output, restart=True), open_backend, Report())
    assert output.exists()


def test_work_begun_by_hand_is_gone_on_with(episode, installed, speeds, tmp_path):
    output = tmp_path / "a.mkv"
    with pytest.raises(KeyboardInterrupt):
        run(prepared(episode, output, model="balanced"), open_backend, Report(), stop_at(3))
    assert prepared(episode, output).settings["model"] == "balanced"
    (output.with_name("a.mkv.vidsr") / "plan.json").write_text("{")
    with pytest.raises(ResumeError, match="--restart"):
        run(prepared(episode, output), open_backend, Report())


def test_several_inputs_are_decided_each_by_itself(installed, tmp_path, monkeypatch):
    """Whether a model reaches the rate depends on the source."""
    monkeypatch.setattr(Forecast, "fps", lambda self, model: {"balanced": 30.0}.get(model.name, 90.0))
    found = []
    for rate in (24, 60):
        path = tmp_path / f"{rate}.mkv"
        write_episode(path, frames=12, rate=rate)
        found.append(prepared(path, tmp_path / "r.mkv").settings["model"])
    assert found == ["balanced", "fast"]


def test_nothing_to_measure_with_is_for_the_run_to_tell(episode, installed, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "read_windows", lambda *given: [])
    job = prepared(episode, tmp_path / "a.mkv", [])
    assert job.settings["model"] == "tiny"
    model, outlook = choose_model("auto", job, [], Report(), lambda line: None)
    assert model.name == "tiny" and outlook is None
