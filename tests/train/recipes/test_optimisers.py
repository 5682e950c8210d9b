"""Muon for kernels and Adam for the rest, in one optimiser: each moves what is its own and goes on where it was."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from train.recipes.optimisers import MuonAndAdam, generator_optimiser
from vidsr.models.architectures import Compact


def network(layout: torch.memory_format = torch.channels_last) -> nn.Module:
    torch.manual_seed(0)
    return Compact(24, 2).to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def teach(net: nn.Module, optimiser: torch.optim.Optimizer, first: int, steps: int) -> None:
    for number in range(first, first + steps):
        lowres = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(number))
        optimiser.zero_grad(set_to_none=True)
        F.mse_loss(net(lowres), F.interpolate(lowres, scale_factor=4, mode="nearest")).backward()
        optimiser.step()


def test_a_kernel_moves_by_an_orthogonal_matrix_and_the_rest_as_adam_moves_it() -> None:
    ours, theirs = network(), network()
    teach(ours, MuonAndAdam(ours, 1e-3), 0, 1)
    teach(theirs, torch.optim.Adam(theirs.parameters(), 1e-3), 0, 1)
    kernels = 0
    three = network().named_parameters(), ours.parameters(), theirs.parameters()
    for (name, old), new, adams in zip(*three, strict=True):
        moved = (new - old).detach()
        if new.ndim == 4 and min(new.shape[:2]) >= 16:
            kernels += 1
            size = 0.2 * max(len(new), new[0].numel()) ** 0.5 * 1e-3
            values = torch.linalg.svdvals(moved.flatten(1)) / size
            assert values.min() > 0.4 and values.max() < 1.4, name
            assert moved.square().mean().sqrt().item() == pytest.approx(0.2e-3, rel=0.3)  # about what Adam moves
        else:
            assert torch.equal(new, adams), name
    assert kernels == 3


def test_the_layout_in_memory_changes_nothing() -> None:
    nets = [network(layout) for layout in (torch.channels_last, torch.contiguous_format)]
    for net in nets:
        teach(net, MuonAndAdam(net, 1e-3), 0, 3)
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.allclose(a, b, atol=3e-4)  # three steps of 1e-3, of matrices that Muon takes in bfloat16


def test_it_goes_on_to_the_bit_and_refuses_what_is_not_its_own() -> None:
    whole, first = network(), network()
    teach(whole, MuonAndAdam(whole, 1e-3), 0, 6)
    optimiser = MuonAndAdam(first, 1e-3)
    teach(first, optimiser, 0, 3)
    saved = copy.deepcopy((first.state_dict(), optimiser.state_dict()))
    again = network()
    again.load_state_dict(saved[0])
    optimiser = MuonAndAdam(again, 1e-3)
    optimiser.load_state_dict(saved[1])
    teach(again, optimiser, 3, 3)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    adam = torch.optim.Adam(network().parameters())
    with pytest.raises(ValueError, match="without Muon"):
        optimiser.load_state_dict(adam.state_dict())


def test_its_rate_is_that_of_the_first_group() -> None:
    net = network()
    optimiser = generator_optimiser("muon", net, 1e-3)
    before = copy.deepcopy(net.state_dict())
    optimiser.param_groups[0]["lr"] = 0.0
    teach(net, optimiser, 0, 2)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert isinstance(generator_optimiser("adam", net, 1e-3), torch.optim.Adam)
    small = Compact(8, 1)
    teach(small, generator_optimiser("muon", small, 1e-3), 0, 1)  # nothing for Muon there
