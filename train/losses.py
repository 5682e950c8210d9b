"""The losses, each one function. Pictures are [N, 3, H, W] float in 0..1, scores and labels [N] float."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from train.networks import Critic, Discriminator

CONTENT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss}

_FLAT, _AROUND = 0.015, 9  # of 0..1; highres pixels


def content_with_teacher(name: str, weight: float) -> Callable[..., Tensor]:
    """CONTENT[name] of (fake, highres) and, called with a third picture, `weight` parts of it against that one.

    Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531) for pictures: what a teacher makes of the same lowres
    is easier to reach for a small student than the truth, which holds detail that nobody can know.
    """
    loss = CONTENT[name]

    def content(fake: Tensor, highres: Tensor, taught: Tensor | None = None) -> Tensor:
        truth = loss(fake, highres)
        return truth if taught is None else torch.lerp(truth, loss(fake, taught), weight)

    return content


def roughness_of_flats(fake: Tensor, highres: Tensor) -> Tensor:
    """Mean absolute step of the error between neighbours, where the target is flat: what is left of blocks and noise.

    A pixel is flat when the luma around it, 9x9, spans no more than _FLAT. An error that is the same all over costs
    nothing here: the content loss sees that. 0 for targets without flat areas.
    """
    luma = (highres * highres.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    spans = F.max_pool2d(luma, _AROUND, 1, _AROUND // 2) + F.max_pool2d(-luma, _AROUND, 1, _AROUND // 2)
    flat = (spans <= _FLAT).float()
    error = (fake - highres) * flat
    down = (error[:, :, 1:] - error[:, :, :-1]).abs() * (flat[:, :, 1:] * flat[:, :, :-1])
    across = (error[..., 1:] - error[..., :-1]).abs() * (flat[..., 1:] * flat[..., :-1])
    return (down.sum() + across.sum()) / (6 * flat.sum()).clamp_min(1)


def noisy_labels(
    count: int, real: tuple[float, float], fake: tuple[float, float], flip: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Labels for `count` real and `count` fake pictures: uniform in their range, and swapped with probability `flip`.

    Salimans et al. 2016, arXiv:1606.03498, section 3.4 (smoothing); the seed paper, section 6.1 (ranges, flips).
    Drawn from torch's global generator of `device`.
    """
    smooth_real = torch.empty(count, device=device).uniform_(*real)
    smooth_fake = torch.empty(count, device=device).uniform_(*fake)
    swap = torch.rand(count, device=device) < flip
    return torch.where(swap, smooth_fake, smooth_real), torch.where(swap, smooth_real, smooth_fake)


def discriminator_loss(real: Tensor, fake: Tensor, real_labels: Tensor, fake_labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of the logits against their labels, real and fake added up.

    On logits, which is the same number as on their sigmoid, but exact where that is 0 or 1 in FP32.
    """
    loss = F.binary_cross_entropy_with_logits
    return loss(real.float(), real_labels) + loss(fake.float(), fake_labels)


def generator_loss(fake: Tensor) -> Tensor:
    """SRGAN's adversarial loss: -log of the chance the discriminator gives the fakes of being real, from logits."""
    return F.softplus(-fake.float()).mean()


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """mean(D(fake)) - mean(D(real)): minus its estimate of the Wasserstein distance (seed paper, formula 2)."""
    return fake.float().mean() - real.float().mean()


def wasserstein_generator_loss(fake: Tensor) -> Tensor:
    """-mean(D(fake)): what the generator can change of the Wasserstein estimate."""
    return -fake.float().mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """mean((||∇D(x)||₂ - 1)²) at random points x between real and fake, and the mean norm itself (detached).

    Gulrajani et al. 2017, arXiv:1704.00028, equation 3: x = ε real + (1 - ε) fake, with ε uniform in 0..1 for each
    pair. (The seed's published code draws ε from a normal distribution, a slip: the points then lie beyond both.)
    FP32 throughout, whatever autocast is on: the norm is a sum of tens of thousands of squares.
    """
    with torch.autocast(real.device.type, enabled=False):
        epsilon = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = torch.lerp(fake.detach().float(), real.float(), epsilon).requires_grad_()
        scores = critic(between)
        (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
        norms = gradient.flatten(1).norm(dim=1)
        return (norms - 1).square().mean(), norms.detach().mean()


def feature_matching(judge: Critic | Discriminator, real: Tensor, fake: Tensor) -> Tensor:
    """Mean absolute distance of the judge's features of real and fake, the mean over its four scales.

    Salimans et al. 2016, section 3.1, per layer as in pix2pixHD (Wang et al. 2018, arXiv:1711.11585, equation 4).
    """
    with torch.no_grad():
        aims = judge.features(real)
    distances = [F.l1_loss(found.float(), aim.float()) for found, aim in zip(judge.features(fake), aims, strict=True)]
    return torch.stack(distances).mean()
