"""Calls that never return are given up, work that takes long is not; a segment whose encoder stood still is remade."""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial
from types import SimpleNamespace

import av
import pytest

from tests.media import write_episode
from vidsr.backends import open_backend
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.encode.encoder import Encoder, EncodeSettings
from vidsr.encode.stall import Stalled, Watched
from vidsr.errors import EncoderStalled
from vidsr.frames import ColorSpec, PixelFormat
from vidsr.report import Report
from vidsr.run.pipeline import run


def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


def threads(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_results_and_errors_come_through():
    watched = Watched("through", patience=30)
    assert [watched(partial(int, n)) for n in range(5)] == list(range(5))
    with pytest.raises(ZeroDivisionError):
        watched(lambda: 1 / 0)
    assert watched(lambda: "again") == "again"


def test_a_call_that_never_returns_is_given_up():
    watched, never = Watched("never", patience=0.3), threading.Event()
    with pytest.raises(Stalled):
        watched(never.wait)
    never.set()


def test_work_that_takes_longer_than_the_patience_is_not_given_up():
    assert Watched("long", patience=0.3)(lambda: busy(1.5)) == "done"


def test_nothing_is_given_up_while_anything_else_works():
    ends = threading.Event()
    other = threading.Thread(target=lambda: (busy(1.5), ends.set()))
    other.start()
    assert Watched("waits", patience=0.3)(ends.wait)
    other.join()


def test_its_thread_ends_with_it():
    watched = Watched("ends")
    watched(lambda: None)
    assert len(threads("ends")) == 1
    del watched
    gc.collect()
    for thread in threads("ends"):
        thread.join(10)
    assert not threads("ends")


class StuckContainer:
    """Its encoder never gives a packet."""

    def __init__(self):
        self.over, self.codec_context = threading.Event(), SimpleNamespace()

    def add_stream(self, encoder, rate, options):
        return self

    def encode(self, picture):
        self.over.wait()


def test_an_encoder_that_stands_still_is_named():
    container, settings, one = StuckContainer(), EncodeSettings("svtav1", "libsvtav1"), Fraction(1)
    format, color = PixelFormat.from_name("yuv420p"), ColorSpec()
    encoder = Encoder(container, settings, 64, 48, format, color, one, one, one, patience=0.3)
    with pytest.raises(EncoderStalled, match="libsvtav1 stands still"):
        encoder.encode(None)
    container.over.set()


class Standing:
    """A backend with whose frames the encoder stands still, `times` times at frame `at`."""

    in_flight, context, patch, description = 2, 0, 0, ""

    def __init__(self, inner, at, times):
        self._inner, self._at, self._left, self.scale = inner, at, times, inner.scale

    def submit(self, batch):
        if self._left and self._at in [frame.pts for frame in batch.frames]:
            self._left -= 1
            raise EncoderStalled("the encoder stands still")
        return self._inner.submit(batch)

    def settle(self, width, height, patches=True):
        return self._inner.settle(width, height, patches)

    def close(self):
        self._inner.close()


def make(episode, output, workers=1, wrap=lambda inner: inner, report=None, progress=lambda where: None):
    options = Options(output=output, scale=2, backend="nearest", codec="svtav1", preset="12", threads=1, check=False)
    job = replace(prepare(episode.path, options, Report()), workers=workers)
    run(job, lambda spec: wrap(open_backend(spec)), report or Report(), progress)
    with av.open(str(output)) as file:
        return [(p.pts, p.dts, bytes(p)) for p in file.demux(video=0) if p.size]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_segment_is_made_once_more(tmp_path, workers):
    episode = write_episode(tmp_path / "episode.mkv", frames=720, keyframes=60)
    seen, report = [], Report()
    again = make(
        episode, tmp_path / "b.mkv", workers, lambda inner: Standing(inner, episode.pts[400], 2), report, seen.append
    )
    assert again == make(episode, tmp_path / "a.mkv")
    assert len(report.lines) == 1 and "stood still" in report.lines[0]
    assert max(where.done for where in seen) == 720


def test_not_for_ever_and_what_was_made_is_kept(tmp_path):
    episode = write_episode(tmp_path / "episode.mkv", frames=720, keyframes=60)
    with pytest.raises(EncoderStalled, match="stands still"):
        make(episode, tmp_path / "a.mkv", 1, lambda inner: Standing(inner, episode.pts[700], 99))
    seen = []
    assert len(make(episode, tmp_path / "a.mkv", progress=seen.append)) == 720
    assert seen[0].resumed > 240
