"""Batches: aligned, the same for the same step, flat crops seldom, all eight turns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.packs import make_pack, picture
from train.data.pack import CROP, Pack, PackWriter
from train.degrade.recipe import downscale
from train.judge.metrics import psnr
from train.options import Options
from train.run.pairs import CleanPairs, Pairs, VideoPairs, detail_of, turned

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return make_pack(tmp_path_factory.mktemp("data") / "pack")


def options(pack: Pack, **changes: object) -> Options:
    given = {"recipe": "resnet", "pack": str(pack.folder), "out": "", "batch": 6, "crop": 64, "workers": 0} | changes
    return Options(**given)  # type: ignore[arg-type]


def test_clean_pairs_are_bicubic_of_the_same_crop(pack: Pack) -> None:
    lowres, highres = CleanPairs(pack, options(pack), CPU).batch(3)
    assert (lowres.shape, highres.shape) == ((6, 3, 16, 16), (6, 3, 64, 64))
    assert torch.equal(lowres, downscale(highres))
    assert highres.min() >= 0 and highres.max() <= 1


@pytest.mark.parametrize("kind", [CleanPairs, VideoPairs])
def test_a_batch_is_decided_by_seed_process_and_step(kind: type, pack: Pack) -> None:
    first = kind(pack, options(pack), CPU)
    batches = [first.batch(step) for step in range(4)]
    again = kind(pack, options(pack), CPU)
    for one, other in zip(batches[3], [*map(again.batch, range(4))][3]):
        assert torch.equal(one, other)
    assert not torch.equal(batches[2][1], batches[3][1])
    for different in (kind(pack, options(pack, seed=1), CPU), kind(pack, options(pack), CPU, rank=1)):
        assert not torch.equal(different.batch(0)[1], batches[0][1])
    first.close()


def test_video_pairs_are_aligned_and_turned_alike(pack: Pack) -> None:
    pairs = VideoPairs(pack, options(pack), CPU)
    close = []
    for step in range(6):
        lowres, highres = pairs.batch(step)
        assert (lowres.shape, highres.shape) == ((6, 3, 16, 16), (6, 3, 64, 64))
        own, crossed = psnr(lowres, downscale(highres)), psnr(lowres, downscale(highres).flip(3))
        close.append((own > crossed + 3).float())
    assert torch.cat(close).mean() > 0.9  # a crop that mirrors itself, or a ruined one, may be among them


def test_a_video_pool_taken_up_later_is_the_same(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when its oldest pictures have been replaced already."""
    monkeypatch.setattr("train.run.pairs.POOL", 12)
    monkeypatch.setattr("train.run.pairs.FIRST", 8)
    straight = VideoPairs(pack, options(pack, fresh=1.5), CPU)
    batches = [straight.batch(step) for step in range(11)]
    later = VideoPairs(pack, options(pack, fresh=1.5), CPU, step=10)
    assert all(torch.equal(a, b) for a, b in zip(batches[10], later.batch(10)))
    assert straight._next == 8 + 15


def test_weights_leave_pictures_out(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path)
    for name, level in (("dark", 40), ("light", 200)):
        writer.add_crops([(picture(1) // 8 + level).astype(np.uint8)], path=f"{name}/0.png")
    writer.finish(rejected={})
    pack = Pack.open(tmp_path)
    _, highres = CleanPairs(pack, options(pack, weights=(("dark", 0.0),)), CPU).batch(0)
    assert highres.min() * 255 >= 199
    pairs = CleanPairs(pack, options(pack, weights=(("dark", 0.25),)), CPU)
    means = [pairs.batch(step)[1].mean((1, 2, 3)) for step in range(50)]
    assert 0.12 < (torch.cat(means) * 255 < 120).float().mean() < 0.28  # 1 of 5


def test_flat_crops_are_seldom(pack: Pack) -> None:
    half = torch.from_numpy(np.stack([picture(5)]))
    half[:, :, CROP // 2 :] = 255
    pairs = Pairs(options(pack, crop=48), 0, half, None, np.ones(1))
    flat = [float(crop.std() < 0.004) for step in range(40) for crop in pairs.batch(step)[1]]
    assert 0.05 < np.mean(flat) < 0.3  # a single draw would be flat about 43 % of the time


def test_detail_is_the_mean_step_between_neighbours() -> None:
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    pixels[1, :, ::2, 1] = 10  # columns differ by 10, rows by nothing
    assert detail_of(pixels).tolist() == [0.0, 5.0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=4))
def test_turns_are_the_symmetries_of_the_square(flags: list[tuple[bool, bool, bool]]) -> None:
    x = torch.arange(len(flags) * 9.0).view(-1, 1, 3, 3)
    moved = turned(x, torch.tensor(flags).T.int())
    for before, after, (mirror, flip, transpose) in zip(x[:, 0], moved[:, 0], flags):
        expected = before.flip(1) if mirror else before
        expected = expected.flip(0) if flip else expected
        assert torch.equal(after, expected.T if transpose else expected)
