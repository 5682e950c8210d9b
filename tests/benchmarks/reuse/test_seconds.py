"""What is timed, and that it is what it says. How fast anything is is never tested."""

import cv2
import pytest
import torch

from benchmarks.common.pictures import BT601, YUV420
from benchmarks.reuse.seconds import Instant, moving_frames, own_cost, ratios
from benchmarks.speed.measure import in_turns
from tests.benchmarks.reuse.drawn import moving_block
from vidsr.reuse.reuse import ReuseCounts, reuse
from vidsr.reuse.stillness import Stillness
from vidsr.run.upscale import batches

pytestmark = pytest.mark.usefixtures("one_thread")


def test_ways_take_turns_and_rounds_are_compared():
    order: list[str] = []
    seconds = in_turns({"off": lambda: order.append("off"), "auto": lambda: order.append("auto")}, 3)
    assert order == ["off", "auto", "auto", "off", "off", "auto"] and [len(s) for s in seconds.values()] == [3, 3]
    found = ratios({"off": [4.0, 6.0, 9.0], "auto": [2.0, 2.0, 1.0]}, "auto")
    assert found["ratios"] == [2, 3, 9] and found["ratio"] == 3


def test_what_only_moves_gives_reuse_nothing():
    for kind in ("noise", "scattered"):
        frames = moving_frames(kind, 160, 96, 5)
        saved, backend = ReuseCounts(), Instant(160, 96, YUV420, 2, 8)
        results = list(reuse(batches(frames, 1, YUV420, BT601), backend, Stillness(0.5), counts=saved))
        assert saved.whole == len(results) == 5 and results[0].planes[0].shape == (192, 320)
    tiles = (frames[1].planes[0] == frames[0].planes[0]).reshape(6, 16, 10, 16).all((1, 3))
    assert 0.25 < tiles.mean() < 0.75


def test_own_cost_leaves_the_threads_as_they_were():
    groups = list(batches(moving_block(3), 2, YUV420, BT601))
    before = cv2.getNumThreads(), torch.get_num_threads()
    assert own_cost(groups, Stillness(), Instant(8, 8, YUV420, 4, 2), 1) > 0
    assert (cv2.getNumThreads(), torch.get_num_threads()) == before
