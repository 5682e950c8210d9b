"""Whoever is stopped while speeds are measured leaves nothing in the folder for temporary files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.media import write_episode

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    return write_episode(tmp_path_factory.mktemp("stop") / "a.mkv", frames=96, size=(320, 240)).path


def stopped_at(moment: str, number: int, episode: Path, folder: Path, output: str) -> int:
    """The exit code of a run that chooses a model, stopped by signal `number` as soon as either something lies in
    `folder`, its place for temporary files, or, "begun": one speed is measured, "ended": all are."""
    cache = folder.with_name("cache")  # its own: nothing is measured yet
    environment = {**os.environ, "TMPDIR": str(folder), "VIDSR_CACHE": str(cache)}
    command = [sys.executable, "-m", "vidsr", str(episode), "--backend", "cpu", "-o", output]
    sign = {"begun": "cpu", "ended": "around:"}[moment]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not any(folder.iterdir()) and not any(sign in path.read_text() for path in cache.glob("*.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(number)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
        return process.wait(60)


@pytest.mark.parametrize("moment", ["begun", "ended"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stream(episode, tmp_path, moment, number, code):
    folder = tmp_path / "temporary"
    folder.mkdir()
    assert stopped_at(moment, number, episode, folder, "-") == code
    assert [path.name for path in folder.iterdir()] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_has_not_begun_its_work(episode, tmp_path, number):
    folder = tmp_path / "temporary"
    folder.mkdir()
    assert stopped_at("ended", number, episode, folder, str(tmp_path / "b.mkv")) != 0
    assert [path.name for path in folder.iterdir()] == []
