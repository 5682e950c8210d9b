"""What the machine has, and why something fails on it, in FFmpeg's words, with nothing of the process changed."""

from __future__ import annotations

import av
import av.logging
import pytest

from vidsr.machine import cores, free_memory, why_it_fails


def test_memory_and_cores():
    assert cores() >= 1 and free_memory() > 1 << 20


def too_wide():
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 17000, 64, "yuv420p", 1
    context.open()


@pytest.fixture
def logging():
    yield av.logging
    av.logging.set_level(None)


@pytest.mark.parametrize("level", [av.logging.WARNING, None])
def test_what_fails_is_told_in_ffmpegs_words_and_the_hosts_logging_stays(logging, caplog, capfd, level):
    logging.set_level(level)
    for _ in range(2):  # FFmpeg does not repeat itself, we do
        assert "17000" in (why_it_fails(too_wide) or "")
    assert why_it_fails(lambda: None) is None
    assert logging.get_level() == level and logging.get_skip_repeated() and not caplog.records
    logging.log(logging.WARNING, "host", "as ever")
    assert [record.message for record in caplog.records] == ["as ever"] * (level is not None)
    assert capfd.readouterr() == ("", "")
