"""The perceptual loss of SRGAN, for those who have VGG weights: an ablation of the seed paper, which dropped it."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

# VGG's layers (Simonyan and Zisserman 2015, arXiv:1409.1556, table 1): channels of the 3x3 convolutions, P a 2x2 pool.
_VGG = {
    16: "64 64 P 128 128 P 256 256 256 P 512 512 512 P 512 512 512",
    19: "64 64 P 128 128 P 256 256 256 256 P 512 512 512 512 P 512 512 512 512",
}


class Perceptual(nn.Module):
    """Squared distance of VGG features after the last convolution's ReLU (SRGAN's VGG54 for VGG-19).

    weights: a .safetensors file with torchvision's names (features.0.weight ...); ValueError for any other.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        try:
            state = {k.removeprefix("features."): v for k, v in load_file(weights).items() if k.startswith("features.")}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{weights}: not a safetensors file ({str(error).splitlines()[0]})") from None
        for depth, plan in _VGG.items():
            self.features = _vgg(plan)
            if {k: v.shape for k, v in self.features.state_dict().items()} == {k: v.shape for k, v in state.items()}:
                self.features.load_state_dict(state)
                self.depth = depth
                break
        else:
            raise ValueError(f"{weights}: expected the features.* weights of torchvision's VGG-16 or VGG-19")
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """[N, 3, H, W] float, 0..1, twice -> the mean squared distance of their features."""
        fakes, reals = ((pictures - self.mean) / self.std for pictures in (fake, real))
        return F.mse_loss(self.features(fakes), self.features(reals))


def _vgg(plan: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for word in plan.split():
        if word == "P":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, int(word), 3, padding=1), nn.ReLU()]
            channels = int(word)
    return nn.Sequential(*layers)
