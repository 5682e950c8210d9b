"""Which model `auto` takes, what it says, and that a stopped run keeps its model.

Models are stood in for by a backend that takes a known time a picture; sources are so slow, or so fast, that no machine
and no load decides a test.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media import draw, write_episode
from tests.running import vidsr
from vidsr.backends import open_backend
from vidsr.backends.base import Immediate
from vidsr.choose.forecast import Speed
from vidsr.choose.model import Outlook, choose_model, decide, family, family_member, frames_left
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.encode.codecs import CODECS
from vidsr.errors import BackendError, ModelError, ResumeError, UsageError
from vidsr.models import checkpoint
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import save_generator
from vidsr.report import Report
from vidsr.run.pipeline import run

pytestmark = pytest.mark.usefixtures("one_thread")
fast_enough = st.floats(0.001, 1e6)


# ---- the decision ---------------------------------------------------------------------------------------------------


@given(st.lists(fast_enough, min_size=1, max_size=5), fast_enough)
def test_the_best_that_reaches_the_rate_else_about_the_fastest(speeds, rate):
    taken = decide(speeds, rate)
    reaching = [i for i, fps in enumerate(speeds) if fps >= rate]
    if reaching:
        assert taken <= reaching[0] and speeds[taken] >= min(rate, 0.9 * max(speeds))
    else:
        assert speeds[taken] >= 0.9 * max(speeds)


@given(st.lists(fast_enough, min_size=1, max_size=5), fast_enough, st.floats(1, 100))
def test_a_faster_machine_or_a_slower_source_never_takes_a_worse_model(speeds, rate, times):
    before = decide(speeds, rate)
    assert decide(speeds, rate / times) <= before
    assert decide([fps * times for fps in speeds], rate) <= before


def test_of_about_equally_fast_ones_the_best():
    """An encoder that holds all of them up."""
    assert decide([5.0, 5.1, 5.2], 24) == 0 and decide([4.0, 5.0, 5.1], 24) == 1


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Weights of the family so small that all of them are fast; `fast` also at 2x."""
    folder = tmp_path / "weights"
    folder.mkdir()
    sizes = (("best", 16, 4), ("balanced", 12, 4), ("fast", 8, 4), ("fast-2x", 8, 2), ("tiny", 4, 4))
    for name, channels, scale in sizes:
        save_generator(Compact(channels, 2, scale), folder / f"{name}.safetensors", {"licence": "none"})
    monkeypatch.setattr(checkpoint, "WEIGHTS", folder)
    return folder


def test_native_weights_where_they_are_installed(installed):
    assert [info.name for info in family(4)] == ["best", "balanced", "fast", "tiny"]
    assert [info.name for info in family(2)] == ["best", "balanced", "fast-2x", "tiny"]
    assert family_member("fast", 2).name == "fast-2x"
    assert family_member("fast", 3).name == family_member("fast", 4).name == "fast"
    assert family_member("tiny", 2).name == "tiny"
    assert family_member("best", 2).name == "best"
    assert family_member(None, 4).name == "balanced"  # of a picture nobody measures whether the best is too slow
    assert family_member(str(installed / "fast.safetensors"), 2).name == "fast"  # a file is what it is
    (installed / "balanced.safetensors").unlink()
    assert family_member(None, 2).name == "fast-2x"
    (installed / "best.safetensors").unlink()
    assert family_member("best", 2).name == "fast-2x"
    for name in ("fast", "fast-2x", "tiny"):
        (installed / f"{name}.safetensors").unlink()
    save_generator(Compact(16, 2, 4), installed / "best.safetensors", {"licence": "none"})
    assert family_member(None, 4).name == "best"  # better than nothing


def test_unknown_names_list_what_there_is(installed, tmp_path):
    with pytest.raises(UsageError) as caught:
        family_member("bset", 4)
    assert all(word in str(caught.value) for word in ("'bset'", "balanced", "fast-2x", "tiny", "auto", "best"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no such weights file"):
        family_member(str(tmp_path / "none.safetensors"), 4)
    for path in installed.iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="none of best, balanced, fast, tiny is installed"):
        family_member("best", 4)


def test_the_command_says_so(tmp_path):
    write_episode(tmp_path / "a.mkv", frames=4)
    done = vidsr(tmp_path / "a.mkv", "--model", "bset", "--backend", "cpu")
    assert done.returncode == 2 and "'bset'" in done.stderr and "balanced" in done.stderr and "auto" in done.stderr


# ---- words ----------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 3, 2, 12, 0)


def said(*fps, frames=33_000, model="fast", rate=23.976, **more):
    slow, preset = more.pop("too_slow", False), more.pop("preset", "superfast")
    return Outlook(model, Speed(tuple(1 / value for value in fps), **more), rate, frames, slow, preset).line(NOON)


def test_one_number_where_measurements_agree_and_a_range_where_they_do_not():
    assert said(26.2) == "fast: about 26 frames a second here, the source has 24; done in about 21 minutes (12:21)"
    assert said(26, 26.4, 26.2) == said(26.2)
    assert said(20, 26, 22, 25) == (
        "fast: about 21 to 26 frames a second here, the source has 24; done in 21 to 27 minutes (12:27)"
    )
    assert "about 40 frames" in said(40, frames=None) and "done" not in said(40, frames=None)


def test_what_is_said_of_slow_ones():
    assert "done in about 20 hours (Tue 08:00)" in said(0.5, frames=36_000)
    assert "about 1.5 hours" in said(1, frames=5400)
    assert "about 1.0 frame a second here, the source has 24; done in about 30 seconds (12:01)" in said(1, frames=30)
    assert "No model keeps up" in said(9, too_slow=True) and "--model best" in said(9, too_slow=True)
    piece = said(0.2, partial=True)
    assert "at least about 0.2 frames" in piece and "in at most about 46 hours" in piece


def test_a_busy_machine_is_said():
    assert "Other programs kept the cores busy" in said(9, busy=True) and "Other" not in said(9)


def test_an_encoder_that_holds_everything_up_is_said():
    assert "--preset superfast is faster" in said(600, unencoded=1 / 900)
    assert not any("encoder" in line for line in (said(600, unencoded=1 / 700), said(600)))
    assert "encoder" not in said(600, unencoded=1 / 900, preset=None)
    faster = {name: [CODECS[name].faster_preset(preset) for preset in presets] for name, presets in (
        ("x264", (None, "medium", "superfast", "ultrafast")), ("svtav1", (None,)), ("ffv1", (None,)))}  # fmt: skip
    assert faster == {"x264": ["superfast", "fast", None, None], "svtav1": [None], "ffv1": [None]}


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=5), st.integers(1, 10**9), st.booleans())
def test_any_speed_can_be_said(fps, frames, flag):
    line = said(*fps, frames=frames, busy=flag, partial=flag, too_slow=flag)
    assert "\n" not in line and " 0 " not in line and " 0.0 " not in line


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8))
def test_the_range_holds_what_is_likely_and_nothing_faster_than_was_seen(seconds):
    speed = Speed(tuple(seconds))
    low, high = speed.range
    assert 0 < low <= speed.fps * (1 + 1e-9) and speed.fps <= high * (1 + 1e-9)
    assert high <= max(1 / value for value in seconds) * (1 + 1e-9)


# ---- whole choices --------------------------------------------------------------------------------------------------


class Taking(Immediate):
    """Enlarges by repeating pixels, and takes `seconds` for a picture of `size`, as much less for a part of one."""

    def __init__(self, inner, seconds, size):
        self.inner, self.seconds, self.size = inner, seconds, size
        self.scale, self.context, self.description = inner.scale, 0, "takes its time"

    def __call__(self, batch):
        time.sleep(self.seconds * len(batch) * batch.width * batch.height / (self.size[0] * self.size[1]))
        return self.inner(batch)

    def close(self):
        self.inner.close()


def models(size=(64, 48), refused=(), **seconds):
    """(an `open_backend` whose models take so many seconds for a picture, or no time; the models it has opened)"""
    opened = []

    def open(spec):
        opened.append(Path(spec.model).stem)
        if opened[-1] in refused:
            raise BackendError(f"{opened[-1]} loses too much")
        return Taking(open_backend(replace(spec, name="nearest")), seconds.get(opened[-1], 0.0), size)

    return open, opened


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    path = tmp_path_factory.mktemp("choice") / "episode.mkv"
    write_episode(path, frames=40, keyframes=10, rate=Fraction(4))
    return path


def prepared(path, output, said=None, **options):
    # Weights that nobody trained: nothing to prove about their pictures.
    wanted = {"backend": "cpu", "preset": "ultrafast", "threads": 1, "check": False, **options}
    return prepare(path, Options(output=output, **wanted), Report(), None if said is None else said.append)


def chosen(path, folder, said=None, wanted=None, rate=None, gpu=False, **seconds):
    """(the name of the model taken for a job on `path`, what is to be said of it, the models that were opened)"""
    job = prepared(path, folder / "a.mkv", model="tiny", reuse="off")
    job = replace(job, backend=replace(job.backend, name="cuda")) if gpu else job
    if rate:
        job = replace(job, info=replace(job.info, video=replace(job.info.video, rate=Fraction(rate))))
    open, opened = models(**seconds)
    model, outlook = choose_model(wanted, job, Report(), None if said is None else said.append, open)
    return model.name, outlook, opened


def test_auto_takes_the_best_that_reaches(episode, installed, tmp_path):
    assert chosen(episode, tmp_path)[0] == "best"
    assert chosen(episode, tmp_path, best=0.3)[0] == "balanced"
    assert chosen(episode, tmp_path, best=0.5, balanced=0.3)[0] == "fast"
    name, outlook, opened = chosen(episode, tmp_path, balanced=0.3, fast=0.3)
    assert name == "tiny" and not outlook.too_slow
    assert opened == ["tiny", "fast"]  # what is slower still need not be tried


def test_a_gpu_tries_the_best_where_the_next_reaches(episode, installed, tmp_path):
    assert chosen(episode, tmp_path, gpu=True)[::2] == ("best", ["balanced", "best"])
    assert chosen(episode, tmp_path, gpu=True, best=0.5)[::2] == ("balanced", ["balanced", "best"])
    assert chosen(episode, tmp_path, gpu=True, best=9, balanced=0.3)[::2] == ("fast", ["balanced", "fast"])
    name, _, opened = chosen(episode, tmp_path, gpu=True, best=9, balanced=0.9, fast=0.6)
    assert name == "tiny" and opened == ["balanced", "fast", "tiny"]
    (installed / "balanced.safetensors").unlink()
    assert chosen(episode, tmp_path, gpu=True, best=9)[::2] == ("fast", ["fast", "best"])


def test_models_that_a_backend_refuses_are_left_out(episode, installed, tmp_path):
    """Such as those that lose too much in 8 bits."""
    assert chosen(episode, tmp_path, refused=["best", "balanced"])[::2] == ("fast", ["tiny", "fast", "balanced"])
    assert chosen(episode, tmp_path, gpu=True, refused=["best", "balanced"])[::2] == ("fast", ["balanced", "fast"])
    with pytest.raises(BackendError, match="loses too much"):
        chosen(episode, tmp_path, refused=["best", "balanced", "fast", "tiny"])


def test_where_none_reaches_the_fastest_and_that_is_said(episode, installed, tmp_path):
    name, outlook, _ = chosen(episode, tmp_path, best=9, balanced=3, fast=2, tiny=0.3)
    assert name == "tiny" and outlook.too_slow and outlook.speed.fps < 4


def test_whether_it_reaches_depends_on_the_source(episode, installed, tmp_path):
    assert chosen(episode, tmp_path, best=2, balanced=0.2, rate=1)[0] == "balanced"
    assert chosen(episode, tmp_path, best=2, balanced=0.2, rate=8)[0] == "fast"


def test_what_stands_still_counts_as_the_run_counts_it(installed, tmp_path):
    """A model that takes a third of a second for a picture reaches 4 frames a second where nothing moves."""
    path = tmp_path / "still.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=4, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(40):
            picture = draw(7)
            picture.pts, picture.time_base = i, Fraction(1, 4)
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    for reuse, name in (("off", "fast"), (None, "balanced")):
        job = prepared(path, tmp_path / "a.mkv", model="tiny", reuse=reuse)
        open, _ = models(best=9, balanced=0.3)
        assert choose_model(None, job, Report(), None, open)[0].name == name


def test_a_model_named_by_hand_is_measured_only_to_tell_somebody(installed, tmp_path, episode):
    long, said = tmp_path / "long.mkv", []
    write_episode(long, frames=52, keyframes=13, rate=Fraction(4))
    assert chosen(long, tmp_path, wanted="balanced")[1:] == (None, [])
    name, outlook, opened = chosen(long, tmp_path, said, wanted="best", best=0.3)
    assert name == "best" and opened == ["best"] and outlook.speed.fps < 4 and outlook.frames == 52
    assert len(said) == 1 and "measuring" in said[0] and not outlook.too_slow
    assert chosen(episode, tmp_path, said, wanted="balanced")[1:] == (None, [])  # over sooner than measured


def test_of_a_model_that_takes_minutes_a_picture_a_piece_is_enough(installed, tmp_path):
    large = tmp_path / "large.mkv"
    write_episode(large, frames=26, rate=Fraction(2), size=(960, 720))
    job = prepared(large, tmp_path / "a.mkv", model="balanced")
    open, _ = models((960, 720), balanced=30)
    outlook = choose_model("balanced", job, Report(), lambda line: None, open)[1]
    assert outlook.speed.partial and outlook.speed.fps < 1 / 20 and "at least" in outlook.line(NOON)


def test_errors_of_opening_a_model_are_told(episode, installed, tmp_path):
    job = prepared(episode, tmp_path / "a.mkv", model="tiny")
    (installed / "fast.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError):
        choose_model(None, job, Report(), None)


def test_the_command_chooses_and_says(installed, tmp_path):
    """Real models, whole preparation: small enough for one frame a second, and not for 10,000."""
    for rate, name in ((1, "best"), (10_000, "tiny")):
        path, said = tmp_path / f"{rate}.mkv", []
        write_episode(path, frames=24, rate=Fraction(24))
        job = prepared(path, tmp_path / "a.mkv", model="tiny")
        job = replace(job, info=replace(job.info, video=replace(job.info.video, rate=Fraction(rate))))
        model, outlook = choose_model(None, job, Report(), said.append)
        assert model.name == outlook.model == name
    said = []
    job = prepared(path, tmp_path / "a.mkv", said, scale=2)
    assert Path(job.backend.model).stem == job.settings["model"] in ("best", "balanced", "fast-2x", "tiny")
    assert len(said) == 1 and said[0].startswith(f"{job.settings['model']}: about ") and "done in" in said[0]
    assert prepared(path, tmp_path / "a.mkv", said, backend="nearest").settings["model"] == "none" and len(said) == 1


# ---- going on -------------------------------------------------------------------------------------------------------


def stopped_at(frame, job):
    def stop(where):
        if where.done == frame:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, open_backend, Report(), stop)


def packets(path):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(video=0)]


@pytest.fixture
def long(tmp_path):
    """Two segments."""
    write_episode(tmp_path / "long.mkv", frames=400, keyframes=60, size=(32, 24), rate=Fraction(25))
    return tmp_path / "long.mkv"


def test_a_stopped_run_keeps_its_model_whatever_is_measured_now(long, installed, tmp_path):
    whole, stopped = tmp_path / "whole.mkv", tmp_path / "stopped.mkv"
    run(prepared(long, whole, model="fast"), open_backend, Report())
    stopped_at(300, prepared(long, stopped, model="fast"))
    said = []
    job = prepared(long, stopped, said)
    assert job.settings["model"] == "fast"
    assert "going on with fast" in said[0] and "--restart" in said[0]
    assert said[-1].startswith("fast: about") and 0 < frames_left(job, 400) < 400
    seen = []
    run(job, open_backend, Report(), seen.append)
    assert seen[0].resumed and seen[-1].done == 400
    assert packets(stopped) == packets(whole)


def test_restart_chooses_anew_and_other_models_are_named(episode, installed, tmp_path):
    output = tmp_path / "a.mkv"
    stopped_at(3, prepared(episode, output, model="fast"))
    with pytest.raises(ResumeError, match=r"model \(fast then, tiny now\)"):
        run(prepared(episode, output, model="tiny"), open_backend, Report())
    assert prepared(episode, output).settings["model"] == "fast"
    said = []
    job = prepared(episode, output, said, restart=True)
    assert not any("going on" in line for line in said)
    run(job, open_backend, Report())
    assert output.exists()


def test_work_that_cannot_be_read_is_told_by_the_run(episode, installed, tmp_path):
    output = tmp_path / "a.mkv"
    stopped_at(3, prepared(episode, output, model="balanced"))
    assert prepared(episode, output).settings["model"] == "balanced"
    (output.with_name("a.mkv.vidsr") / "plan.json").write_text("{")
    with pytest.raises(ResumeError, match="--restart"):
        run(prepared(episode, output), open_backend, Report())


def test_a_stream_gets_its_model_too(episode, installed):
    assert prepared(episode, Path("-")).settings["model"] in ("best", "balanced", "fast", "tiny")
    if os.name == "posix":
        done = vidsr(episode, "-o", "-", "--model", "bset")
        assert done.returncode == 2 and "'bset'" in done.stderr
