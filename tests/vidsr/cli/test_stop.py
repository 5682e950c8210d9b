"""Whoever is stopped while choices are still being made gets the exit code of that, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.media import write_episode

pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into the process by Linux's means")


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    """Long enough to be worth measuring speeds for."""
    return write_episode(tmp_path_factory.mktemp("stop") / "a.mkv", frames=320, keyframes=40, size=(320, 240)).path


@pytest.mark.parametrize("output", ["-", "b.mkv"])
@pytest.mark.parametrize("seconds", [0.0, 0.6])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_while_speeds_are_measured(episode, tmp_path, output, seconds, number, code):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "VIDSR_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "vidsr", str(episode), "--backend", "cpu", "-o", output]
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 120
        while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():  # loaded for the first speed
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(seconds)
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert b"vidsr: stopped" in errors and b"Traceback" not in errors and b"Aborted" not in errors
    assert out == b"" and not (tmp_path / "b.mkv").exists()
    assert [path.name for path in temporary.iterdir()] == []
