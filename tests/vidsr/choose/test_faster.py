"""A backend that may be faster than the CPU is taken where it was measured to be, and nowhere else.

Contenders stand in for it that take a known time a picture, so that no load decides a test.
"""

import sys
import time
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import pytest

from tests.media import write_episode
from vidsr import backends
from vidsr.backends import choose_backend, contenders, fallbacks, open_backend
from vidsr.backends.base import BackendKind
from vidsr.backends.nearest import NearestBackend
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.errors import BackendError
from vidsr.report import Report
from vidsr.run.pipeline import run

pytestmark = pytest.mark.usefixtures("one_thread")


class Timed(NearestBackend):
    """Repeats pixels, and takes its time."""

    seconds = 0.0

    def __call__(self, batch):
        time.sleep(self.seconds)
        return super().__call__(batch)

    def settle(self, width, height, patches=True):
        return {"backend": "timed"}


class Slow(Timed):
    seconds = 0.7


def refused(spec, notify):
    raise BackendError("timed: computes wrong pictures")


@pytest.fixture
def timed(monkeypatch):
    """Puts a contender before the CPU: its opener, whether it is worth measuring, and the precisions it has."""

    def put(opens, worth=True, precisions=("fp32", "fp16"), **more):
        kind = BackendKind("timed", lambda: None, opens, "gpu", precisions, contender=lambda: worth, **more)
        monkeypatch.setitem(sys.modules, "timed_backend", SimpleNamespace(KIND=kind))
        there = {name: module for name, module in backends.BACKENDS.items() if name in ("cpu", "nearest")}
        monkeypatch.setattr(backends, "BACKENDS", {"timed": "timed_backend", **there})

    return put


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    """Long enough to be worth measuring."""
    path = tmp_path_factory.mktemp("faster") / "a.mkv"
    write_episode(path, frames=28, keyframes=7, rate=Fraction(2))
    return path


def made(source, output, said=None, report=None, **options):
    wanted = {"scale": 2, "model": "tiny", "preset": "ultrafast", "threads": 1, **options}
    return prepare(source, Options(output=output, **wanted), report or Report(), said)


def test_one_that_is_faster_is_taken(tmp_path, timed, episode):
    timed(lambda spec, notify: Timed(spec))
    said = []
    job = made(episode, tmp_path / "b.mkv", said.append)
    assert (job.backend.name, job.backend.instead) == ("timed", ("cpu",))
    line = next(line for line in said if "--backend" in line)
    assert line.startswith("pictures a second, by themselves: cpu ") and line.endswith("going on with --backend timed")


def test_one_that_is_slower_is_not(tmp_path, timed, episode):
    timed(lambda spec, notify: Slow(spec))
    said = []
    assert made(episode, tmp_path / "b.mkv", said.append).backend.name == "cpu"
    assert any(line.endswith("going on with --backend cpu") for line in said)


def test_it_is_measured_with_as_many_pictures_as_a_run_gives_it(tmp_path, timed, episode):
    """What has room for four takes as long for one."""
    given = []

    class Roomy(Timed):
        def __call__(self, batch):
            given.append(len(batch))
            return super().__call__(batch)

    timed(lambda spec, notify: Roomy(spec), batch_size=4)
    assert made(episode, tmp_path / "b.mkv").backend.name == "timed"
    assert set(given) == {4}


def test_one_that_is_refused_is_not_and_that_is_said(tmp_path, timed, episode):
    timed(refused)
    report = Report()
    assert made(episode, tmp_path / "b.mkv", report=report).backend.name == "cpu"
    assert "timed: computes wrong pictures" in report.lines


def test_where_nothing_is_measured_it_is_not(tmp_path, timed, episode):
    """A short part, one that is asked for, one not worth it, a precision that it lacks, pictures in memory."""
    timed(lambda spec, notify: Timed(spec))
    assert contenders("cpu") == ("timed",) and contenders("timed") == ()
    assert choose_backend() == "cpu" and fallbacks("timed") == ("cpu",)
    assert made(episode, tmp_path / "b.mkv", duration=3.0).backend.name == "cpu"
    assert made(episode, tmp_path / "b.mkv", backend="cpu").backend.name == "cpu"
    timed(lambda spec, notify: Timed(spec), precisions=("fp16",))
    assert made(episode, tmp_path / "b.mkv", precision="fp32").backend.name == "cpu"
    timed(lambda spec, notify: Timed(spec), worth=False)
    assert made(episode, tmp_path / "b.mkv").backend.name == "cpu"


@pytest.mark.parametrize("begun", ["cpu", "timed"])
def test_a_stopped_run_goes_on_with_the_backend_it_was_begun_with(tmp_path, timed, episode, begun):
    """Though the other one would be taken now."""
    timed(lambda spec, notify: (Slow if begun == "timed" else Timed)(spec))
    output = tmp_path / "b.mkv"

    class Stopped(Exception):
        pass

    def stop(progress):
        if progress.done > 8:
            raise Stopped

    job = made(episode, output)
    job = replace(job, backend=replace(job.backend, name=begun))
    with pytest.raises(Stopped):
        run(job, lambda spec: open_backend(replace(spec, instead=())), Report(), stop)
    assert made(episode, output).backend.name == begun
    assert made(episode, output, restart=True).backend.name != begun
