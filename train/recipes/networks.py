"""What judges the generator's pictures: SRGAN's discriminator, and the critic of SRWGAN-GP."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class _Judge(nn.Module):
    """3x3 convolutions of width, width/2, 2 width, ... 8 width/2 ("/2": stride 2), LeakyReLU 0.2, global average pool,
    1x1 to 16 width, LeakyReLU, 1x1 to one number. SRGAN's (Ledig et al. 2017, arXiv:1609.04802, figure 4) with the
    pool of the seed paper's published code instead of a layer that knows the size of its input.
    """

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        steps = [(width * 2**i, stride) for i in range(4) for stride in (1, 2)]
        stages: list[nn.Module] = []
        for (inputs, _), (outputs, stride) in pairwise([(3, 0), *steps]):
            normed = norm and inputs != 3
            layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, stride, padding=1)]
            if normed:
                layers.append(nn.BatchNorm2d(outputs))
            stages.append(nn.Sequential(*layers, nn.LeakyReLU(0.2)))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(8 * width, 16 * width, 1), nn.LeakyReLU(0.2), nn.Conv2d(16 * width, 1, 1)
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """What comes out of every second stage (before the stride's next doubling), for feature matching."""
        found = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index % 2:
                found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] float, 0..1 -> [N] float."""
        return self.head(self.stages(x)).flatten()


class Discriminator(_Judge):
    """SRGAN's: BatchNorm on all convolutions but the first. Gives logits: their sigmoid is the chance of "real"."""

    def __init__(self, width: int = 64) -> None:
        super().__init__(width, norm=True)


class Critic(_Judge):
    """SRWGAN-GP's: no BatchNorm, because it ties the samples of a batch together and the gradient penalty is meant for
    each by itself (Gulrajani et al. 2017, arXiv:1704.00028, section 4), and no sigmoid: scores have no bounds.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__(width, norm=False)
