"""Muon for kernels and Adam for the rest, in one optimiser: each moves what is its own and goes on where it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from train.generators.branches import branch
from train.recipes.optimisers import MuonAndAdam, generator_optimiser, orthogonal
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


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_kernels_of_a_shape_at_once_move_as_one_after_the_other(layout: torch.memory_format) -> None:
    """As PyTorch's own Muon, with branches: kernels of three shapes, of each as many as there are layers."""
    net: Any = branch(Compact(16, 3)).to(memory_format=layout)  # type: ignore[call-overload]
    kernels = [p for p in net.parameters() if p.ndim == 4 and min(p.shape[:2]) >= 16]
    matrices = [nn.Parameter(kernel.detach().flatten(1).clone()) for kernel in kernels]
    assert sorted({tuple(m.shape) for m in matrices}) == [(16, 144), (16, 288), (48, 144)] and len(matrices) == 7
    ours = MuonAndAdam(net, 1e-3)
    theirs = torch.optim.Muon(matrices, 1e-3, weight_decay=0, adjust_lr_fn="match_rms_adamw")
    for number in range(5):
        random = torch.Generator().manual_seed(number)
        for kernel, matrix in zip(kernels, matrices, strict=True):
            matrix.grad = torch.randn(matrix.shape, generator=random)
            kernel.grad = torch.empty_like(kernel).copy_(matrix.grad.view(kernel.shape))
        ours.step()
        theirs.step()
    for kernel, matrix in zip(kernels, matrices, strict=True):
        # five steps of 1e-3; bfloat16 rounds otherwise where columns have another order
        assert (kernel.detach().flatten(1) - matrix).abs().max() < 1e-4


def test_matrices_are_made_orthogonal_each_by_itself() -> None:
    random = torch.Generator().manual_seed(0)
    for shape in ((3, 16, 40), (3, 40, 16)):
        matrices = torch.randn(shape, generator=random) * torch.tensor([1.0, 1e-3, 0.0]).view(3, 1, 1)
        found = orthogonal(matrices)
        assert found.dtype == torch.bfloat16 and found.shape == shape and found[2].abs().max() == 0
        values = torch.linalg.svdvals(found[:2].float())
        assert values.min() > 0.6 and values.max() < 1.3
        assert torch.equal(orthogonal(matrices[1:2])[0], found[1])


def test_a_rate_that_is_a_tensor_is_read_at_each_step() -> None:
    nets = [network(), network()]
    rate = torch.tensor(0.0)
    for net, optimiser in zip(nets, (generator_optimiser("muon", nets[0], rate), MuonAndAdam(nets[1], 0.0))):
        teach(net, optimiser, 0, 1)
        rate.fill_(1e-3)
        if optimiser.param_groups[0]["lr"] is not rate:
            optimiser.param_groups[0]["lr"] = 1e-3
        teach(net, optimiser, 1, 2)
    for old, a, b in zip(network().parameters(), *(net.parameters() for net in nets), strict=True):
        assert not torch.equal(a, old) and torch.allclose(a, b, atol=1e-5)


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
    adam = torch.optim.Adam(again.parameters())
    teach(again, adam, 6, 1)
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
