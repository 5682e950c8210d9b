"""Weights are read once a run, and again when they have changed; an architecture is a class and a line."""

import os
import shutil
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.media import write_episode
from tests.running import Opens, vidsr
from tests.vidsr.backends.test_backends import picture, spec_for
from vidsr.backends import open_backend
from vidsr.choose.options import Options
from vidsr.choose.size import choose_scale
from vidsr.errors import ModelError
from vidsr.frames import PixelFormat
from vidsr.models.architectures import ARCHITECTURES, Compact, SRResNet
from vidsr.models.base import Generator
from vidsr.models.checkpoint import find_model, load_generator, model_scale, save_generator, weights_sha256

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def settled(tmp_path):
    """Weights that were written some time ago."""
    path = tmp_path / "mine.safetensors"
    torch.manual_seed(0)
    save_generator(Compact(8, 1), path, {})
    os.utime(path, (1e9, 1e9))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_run_reads_its_weights_once(tmp_path, suffix):
    """For the scale, the plan's hash and the backend, all together; of safetensors the header before that."""
    write_episode(tmp_path / "a.mkv", frames=4)
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(load_generator(find_model("tiny").path).state_dict() | {"skip": "bilinear"}, path)
    else:
        shutil.copyfile(find_model("tiny").path, path)
    os.utime(path, (1e9, 1e9))
    with Opens(path) as opens:
        done = vidsr(tmp_path / "a.mkv", "--model", path, "--backend", "cpu", "--preset", "ultrafast", "-q")
        assert done.returncode == 0, done.stderr
        assert opens.count() == (2 if suffix == ".safetensors" else 1)


def test_what_has_changed_is_read_again(settled):
    before = weights_sha256(settled), load_generator(settled).hyperparameters["channels"]
    assert (weights_sha256(settled), load_generator(settled).hyperparameters["channels"]) == before
    save_generator(Compact(12, 1), settled, {})
    assert weights_sha256(settled) != before[0] and load_generator(settled).hyperparameters["channels"] == 12
    made = [Compact(8, 1) for _ in range(5)]
    for generator in made:  # sooner after each other than clocks tell, and all of one size
        torch.save(generator.state_dict(), settled.with_suffix(".pth"))
        loaded = load_generator(settled.with_suffix(".pth"))
        assert torch.equal(loaded.body[0].weight, generator.body[0].weight)
    settled.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_generator(settled)


def test_a_generator_is_its_callers_own(settled):
    """What is remembered is not what was given away."""
    one, other = load_generator(settled), load_generator(settled)
    with torch.no_grad():
        one.body[0].weight.zero_()
    assert other.body[0].weight.abs().max() > 0
    assert load_generator(settled).body[0].weight.abs().max() > 0


@pytest.mark.parametrize("generator", [Compact(8, 1, 3), SRResNet(1, 8)], ids=["compact", "srresnet"])
def test_the_scale_needs_no_network(tmp_path, monkeypatch, generator):
    path = tmp_path / "a.safetensors"
    save_generator(generator, path, {})

    def built(*_):
        raise AssertionError("a network was built")

    monkeypatch.setattr(type(generator), "__init__", built)
    assert model_scale(path) == generator.scale == choose_scale(Options(model=str(path)))


class Repeats(Generator):
    """The architecture of a newcomer: each pixel repeated, and times a number."""

    NAME, scale, radius = "repeats", 2, 0

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    @classmethod
    def fits(cls, state):
        return state.keys() == {"gain"}

    @classmethod
    def from_state_dict(cls, state, metadata):
        model = cls()
        model.load_state_dict(state)
        return model

    def forward(self, x):
        return self.gain * x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_an_architecture_is_a_class_and_a_line(tmp_path, monkeypatch, suffix):
    monkeypatch.setitem(ARCHITECTURES, Repeats.NAME, Repeats)  # the line
    path = tmp_path / f"a{suffix}"
    if suffix == ".pth":
        torch.save({"params": Repeats().state_dict()}, path)
    else:
        save_generator(Repeats(), path, {})
    assert isinstance(load_generator(path), Repeats) and model_scale(path) == 2
    batch = picture(PixelFormat.from_name("yuv444p"), 20, 14)
    for tile in (0, 8):
        spec = spec_for(format="yuv444p", scale=2, model=path, tile=tile)
        for before, after in zip(batch.frames[0].planes, open_backend(spec)(batch).frames[0].planes, strict=True):
            expected = before.repeat(2, 0).repeat(2, 1)
            assert np.abs(after.astype(int) - expected).max() <= 1
