"""A larger generator that starts as a smaller one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.generators.build import build_generator
from train.generators.grow import grow
from train.options import STUDENTS, Options
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import find_model, load_generator, save_generator


def trained(channels: int, layers: int, scale: int = 4, seed: int = 0) -> Compact:
    """With slopes and biases such as training leaves, negative ones too."""
    torch.manual_seed(seed)
    generator = Compact(channels, layers, scale).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return generator


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([4, 8]), st.integers(0, 4), st.integers(0, 6), st.integers(0, 4), st.sampled_from([2, 4]),
    st.integers(0, 99),
)  # fmt: skip
def test_a_grown_generator_makes_the_same_pictures(
    channels: int, layers: int, wider: int, deeper: int, scale: int, seed: int
) -> None:
    small = trained(channels, layers, scale, seed)
    grown = grow(small, channels + wider, layers + deeper)
    assert (grown.channels, grown.layers, grown.scale) == (channels + wider, layers + deeper, scale)
    x = torch.rand(2, 3, 9, 12)
    torch.testing.assert_close(grown(x), small(x), rtol=0, atol=1e-5)


def test_what_is_new_learns_and_is_listened_to() -> None:
    grown = grow(trained(6, 1), 8, 3).train()
    optimiser = torch.optim.SGD(grown.parameters(), 1e-3)
    for _ in range(2):  # at first nothing listens to the new channels, so they have no gradient
        grown(torch.rand(2, 3, 8, 8)).square().sum().backward()
        optimiser.step()
        gradients = {name: parameter.grad for name, parameter in grown.named_parameters()}
        optimiser.zero_grad()
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())
    assert gradients["body.0.weight"][6:].abs().sum() > 0  # type: ignore[index]


def test_what_cannot_grow() -> None:
    with pytest.raises(ValueError, match="8 channels and 2 layers cannot grow to 6 and 3"):
        grow(Compact(8, 2), 6, 3)
    with pytest.raises(ValueError, match="leaky_relu cannot grow"):
        grow(Compact(8, 2, activation="leaky_relu"), 8, 3)


def test_init_grows_what_is_smaller(tmp_path: Path) -> None:
    small = trained(6, 2)
    save_generator(small, tmp_path / "small.safetensors", {})
    init = str(tmp_path / "small.safetensors")
    options = Options("resnet", "", "", init, "compact", channels=8, layers=3, branches=True)
    generator, start = build_generator(options)
    assert start == f"{init}, grown from 6 channels and 2 layers" and generator.training
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(generator(x), small(x), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="expected compact"):  # narrower: it would lose something
        build_generator(Options("resnet", "", "", init, "compact", channels=4, layers=3))


def test_best_can_start_as_balanced() -> None:
    channels, layers = STUDENTS["best"]
    generator, start = build_generator(
        Options("resnet", "", "", "balanced", "compact", channels=channels, layers=layers)
    )
    assert "grown from 64 channels and 16 layers" in start
    x = torch.rand(1, 3, 12, 12)
    balanced = load_generator(find_model("balanced").path)
    torch.testing.assert_close(generator(x), balanced(x), rtol=0, atol=1e-5)
    assert sum(p.numel() for p in generator.parameters()) < 4 * sum(p.numel() for p in balanced.parameters())
