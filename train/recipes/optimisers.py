"""What moves a generator's weights: Adam, or Muon for its kernels and Adam for the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

OPTIMISERS = ("adam", "muon")
_FEWEST = 16  # channels in and out of a kernel that is worth to be made orthogonal
_MOMENTUM = 0.95
_COEFFICIENTS, _ITERATIONS, _LEAST = (3.4445, -4.7750, 2.0315), 5, 1e-7  # of Jordan's orthogonalisation


def generator_optimiser(name: str, network: nn.Module, rate: float | Tensor) -> torch.optim.Adam:
    """The optimiser of that name, one of OPTIMISERS, for a network that is where it will be trained.

    rate: a number, which `param_groups[0]["lr"]` may later replace; or a tensor [] on the network's device, to be
    filled: a CUDA graph that has recorded a step reads it each time.
    """
    if name == "muon":
        return MuonAndAdam(network, rate)
    return torch.optim.Adam(network.parameters(), lr=rate, **_of_adam(rate))


class MuonAndAdam(torch.optim.Adam):
    """Adam, but each large kernel is moved by Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    Muon makes the momentum of a matrix nearly orthogonal, so that no direction in it is learnt faster than the others.
    A kernel [O, I, H, W] is the matrix [O, I H W]. Steps are scaled to the size of Adam's (Liu et al. 2025,
    arXiv:2502.16982, section 2.2), so one rate, that of the first group, is right for both. The same as torch.optim.
    Muon but for rounding; that takes one matrix after the other, this all of a shape at once, and asks the device for
    nothing.
    """

    def __init__(self, network: nn.Module, rate: float | Tensor) -> None:
        parameters = list(network.parameters())
        self._kernels = [p for p in parameters if p.ndim == 4 and min(p.shape[:2]) >= _FEWEST]
        super().__init__(parameters, lr=rate, **_of_adam(rate))

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        alike: dict[tuple[int, ...], list[Tensor]] = {}
        for kernel in self._kernels:
            if kernel.grad is not None:
                alike.setdefault(_plain(kernel, kernel).shape, []).append(kernel)
        for kernels in alike.values():
            self._move(kernels)
        for kernel in self._kernels:
            kernel.grad = None  # Adam then leaves it alone
        return super().step(closure)

    def _move(self, kernels: list[Tensor]) -> None:
        """Kernels of one shape and layout, in a few operations for all of them."""
        for kernel in kernels:
            if not self.state[kernel]:
                self.state[kernel]["momentum"] = torch.zeros_like(kernel)
        gradients = [_plain(kernel.grad, kernel) for kernel in kernels if kernel.grad is not None]
        momenta = [_plain(self.state[kernel]["momentum"], kernel) for kernel in kernels]
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        ahead = torch.stack(torch._foreach_lerp(gradients, momenta, _MOMENTUM))  # type: ignore[arg-type] # Nesterov's
        moves = orthogonal(ahead.flatten(2)).float()
        moves.mul_(self.param_groups[0]["lr"] * (-0.2 * max(moves.shape[1:]) ** 0.5))
        torch._foreach_add_([_plain(kernel, kernel) for kernel in kernels], list(moves.view_as(ahead)))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """ValueError for the state of another optimiser."""
        ours = {id(kernel) for kernel in self._kernels}
        numbers = [n for n, p in enumerate(self.param_groups[0]["params"]) if id(p) in ours]
        if state_dict["state"] and any(set(state_dict["state"].get(n, ())) != {"momentum"} for n in numbers):
            raise ValueError("the state of an optimiser without Muon, or of another version's")
        super().load_state_dict(state_dict)

    def __setstate__(self, state: dict[str, Any]) -> None:
        torch.optim.Optimizer.__setstate__(self, state)  # Adam's would look for its own state at each kernel


def orthogonal(matrices: Tensor) -> Tensor:
    """[K, R, C] float -> bfloat16, each with its singular values brought near to 1: between 0.7 and 1.2 for most."""
    a, b, c = _COEFFICIENTS
    wide = matrices.bfloat16()
    tall = wide.shape[1] > wide.shape[2]
    if tall:
        wide = wide.mT
    wide = wide / torch.linalg.vector_norm(wide, dim=(1, 2), keepdim=True).clamp(min=_LEAST)
    for _ in range(_ITERATIONS):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.mT if tall else wide


def _plain(values: Tensor, kernel: Tensor) -> Tensor:
    """`values`, laid out as `kernel`, as a view that is contiguous: [O, I, H, W], or [O, H, W, I] with channels last.

    The order of a matrix' columns means nothing to Muon.
    """
    return values.detach() if kernel.is_contiguous() else values.detach().permute(0, 2, 3, 1)


def _of_adam(rate: float | Tensor) -> dict[str, Any]:
    """What Adam has to be told so that it leaves a rate that is a tensor on its device."""
    return {"fused": True, "capturable": rate.is_cuda} if isinstance(rate, Tensor) else {}
