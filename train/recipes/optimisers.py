"""What moves a generator's weights: Adam, or Muon for its kernels and Adam for the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

OPTIMISERS = ("adam", "muon")
_FEWEST = 16  # channels in and out of a kernel that is worth to be made orthogonal


class MuonAndAdam(torch.optim.Adam):
    """Adam, but each large kernel is moved by Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    Muon makes the momentum of a matrix nearly orthogonal, so that no direction in it is learnt faster than the others.
    A kernel [O, I, H, W] is the matrix [O, I H W]. Steps are scaled to the size of Adam's (Liu et al. 2025,
    arXiv:2502.16982, section 2.2), so one rate, that of the first group, is right for both.
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        parameters = list(network.parameters())
        self._kernels = [p for p in parameters if p.ndim == 4 and min(p.shape[:2]) >= _FEWEST]
        self._matrices = [nn.Parameter(_matrix(kernel.detach(), kernel)) for kernel in self._kernels]  # the same memory
        self._muon: torch.optim.Optimizer | None = None
        if self._matrices:
            self._muon = torch.optim.Muon(self._matrices, rate, weight_decay=0, adjust_lr_fn="match_rms_adamw")
        super().__init__(parameters, lr=rate)

    def step(self, closure: Any = None) -> Any:
        if self._muon:
            for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
                matrix.grad, kernel.grad = None if kernel.grad is None else _matrix(kernel.grad, kernel), None
            self._muon.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            self._muon.step()
        return super().step(closure)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "muon": self._muon.state_dict() if self._muon else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """ValueError for the state of another optimiser."""
        if "muon" not in state_dict:
            raise ValueError("the state of an optimiser without Muon")
        state = dict(state_dict)
        muon = state.pop("muon")
        super().load_state_dict(state)
        if self._muon:
            self._muon.load_state_dict(muon)


def generator_optimiser(name: str, network: nn.Module, rate: float) -> torch.optim.Optimizer:
    """The optimiser of that name, one of OPTIMISERS, for a generator that is where it will be trained."""
    return MuonAndAdam(network, rate) if name == "muon" else torch.optim.Adam(network.parameters(), lr=rate)


def _matrix(values: Tensor, kernel: Tensor) -> Tensor:
    """[O, I, H, W] -> [O, I H W], its columns in the order in which `kernel` has them in memory: of itself a view."""
    rows = values if kernel.is_contiguous() else values.permute(0, 2, 3, 1)
    return rows.reshape(len(values), -1)
