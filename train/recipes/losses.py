"""The losses, each one function. Pictures are [N, 3, H, W] float in 0..1, scores and labels [N] float."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from train.recipes.networks import Critic, Discriminator


def log_l1(fake: Tensor, highres: Tensor) -> Tensor:
    """Mean over the pictures of the logarithm of each one's L1 distance, as PSNR is one of the squared distance.

    Halving the error counts the same in a good source as in a ruined one, which would else outweigh ten good ones.
    Scaled so that its gradient at a distance of _USUAL is that of L1.
    """
    distances = (fake - highres).abs().flatten(1).mean(1)
    return _USUAL * (distances + _LEAST).log().mean()


_USUAL, _LEAST = 0.03, 0.004  # of 0..1; below _LEAST an error is as good as none
CONTENT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss, "log-l1": log_l1}

_FLAT, _AROUND = 0.015, 9  # of 0..1; highres pixels
_REACH = 2.0  # highres pixels beside an edge in which a wobble counts
_WINDOW = 1.5  # pixels, of the Gaussian in which structure is compared
_FAINT = 0.0005  # of the squared slope of an edge, 0..1 a pixel, at which it counts half


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


class Drawn(NamedTuple):
    """Weights of what is added to the content loss for drawings' sake: of the four losses below, in this order."""

    smooth_flats: float = 0.0
    even_lines: float = 0.0
    line_colours: float = 0.0
    structure: float = 0.0


def drawn_losses(fake: Tensor, highres: Tensor, weights: Drawn) -> Tensor:
    """The sum of the four losses below, each times its weight."""
    found = []
    if weights.smooth_flats:
        found.append(weights.smooth_flats * roughness_of_flats(fake, highres))
    if weights.even_lines or weights.line_colours:
        edges = edges_of(highres)
        if weights.even_lines:
            found.append(weights.even_lines * unevenness_of_lines(fake, highres, edges))
        if weights.line_colours:
            found.append(weights.line_colours * fringes_of_lines(fake, highres, edges))
    if weights.structure:
        found.append(weights.structure * lost_structure(fake, highres))
    return torch.stack(found).sum() if found else fake.new_zeros(())


def roughness_of_flats(fake: Tensor, highres: Tensor) -> Tensor:
    """Mean absolute step of the error between neighbours, where the target is flat: what is left of blocks and noise.

    A pixel is flat when the luma around it, 9x9, spans no more than _FLAT. An error that is the same all over costs
    nothing here: the content loss sees that. 0 for targets without flat areas.
    """
    luma = _luma(highres)
    with torch.no_grad():
        flat = (_highest(luma) + _highest(-luma) <= _FLAT).float()
    error = (fake - highres) * flat
    down = (error[:, :, 1:] - error[:, :, :-1]).abs() * (flat[:, :, 1:] * flat[:, :, :-1])
    across = (error[..., 1:] - error[..., :-1]).abs() * (flat[..., 1:] * flat[..., :-1])
    return (down.sum() + across.sum()) / (6 * flat.sum()).clamp_min(1)


class Edges(NamedTuple):
    """Of target pictures, [N, H-2, W-2] each: share, how clearly a place is an edge, 0..1; across, the angle of the way
    across it, radians from the right."""

    share: Tensor
    across: Tensor


@torch.no_grad()
def edges_of(highres: Tensor) -> Edges:
    """What runs along an edge is the direction in which luma changes least: the weaker eigenvector of its structure
    tensor (Förstner and Gülch 1987; Weickert 1998, "Anisotropic diffusion in image processing", section 2.2), taken
    over some pixels, so that it also holds beside the edge, where a wobble or a fringe is.
    """
    down, right = _slopes(_luma(highres))
    squares = _blurred(torch.cat([down * down, right * right, down * right], 1), _REACH)
    rows, columns, both = squares.unbind(1)
    across = 0.5 * torch.atan2(2 * both, columns - rows)
    clear = torch.sqrt((columns - rows).square() + 4 * both.square())
    return Edges(clear / (rows + columns + _FAINT), across)


def unevenness_of_lines(fake: Tensor, highres: Tensor, edges: Edges) -> Tensor:
    """Mean absolute change of the error's luma along the target's `edges`: beads, steps and wobbles of lines.

    A place counts by how clearly it is an edge. An edge that is moved as a whole, or soft, costs nothing here.
    """
    down, right = (slope[:, 0] for slope in _slopes(_luma(fake - highres)))
    along = torch.cos(edges.across) * down - torch.sin(edges.across) * right
    return _mean_on(edges, along.abs())


def fringes_of_lines(fake: Tensor, highres: Tensor, edges: Edges) -> Tensor:
    """Mean absolute error of colour on the target's `edges`: black lines that turn brown, coloured ones that turn grey.

    What is left of the error of red, green and blue without that of luma. A line that is too faint, or moved, costs
    nothing here as long as it is grey.
    """
    error = fake - highres
    colour = (error - _luma(error)).abs().mean(1)
    return _mean_on(edges, colour[:, 1:-1, 1:-1])


def _mean_on(edges: Edges, values: Tensor) -> Tensor:
    """Mean of [N, H-2, W-2], weighed by how clearly a place is an edge; 0 where there are none."""
    return (edges.share * values).sum() / edges.share.sum().clamp_min(1)


def lost_structure(fake: Tensor, highres: Tensor) -> Tensor:
    """1 - SSIM of luma, the mean over three sizes, each half of the last: what is too soft, too faint, or invented.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", equation 13, with its
    constants; as a loss beside L1: Zhao et al. 2017, arXiv:1511.08861. A difference counts against the contrast around
    it, so a faint texture that is lost, or a stain in a flat area, weighs far more than its square. Not metrics.ssim,
    which judges: that needs 11 pixels a side and fetches its window from the host, which a recorded graph cannot.
    """
    x, y = _luma(fake), _luma(highres)
    lost = []
    for size in range(3):
        if size:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        moments = _blurred(torch.cat([x, y, x * x + y * y, x * y], 1), _WINDOW)
        mean_x, mean_y, squares, products = moments.unbind(1)
        product, powers = mean_x * mean_y, mean_x.square() + mean_y.square()
        means = (2 * product + 0.01**2) / (powers + 0.01**2)
        ssim = means * (2 * (products - product) + 0.03**2) / (squares - powers + 0.03**2)
        lost.append(1 - ssim.mean())
    return torch.stack(lost).mean()


def _luma(picture: Tensor) -> Tensor:
    """[N, 3, H, W] R'G'B' -> [N, 1, H, W] Y', as BT.601 has it."""
    red, green, blue = picture.split(1, 1)  # weighed by Python's numbers: a recorded graph cannot fetch a tensor
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _highest(picture: Tensor) -> Tensor:
    """[N, 1, H, W], the maximum of each pixel's surroundings, _AROUND wide: rows, then columns, as that is faster."""
    rows = F.max_pool2d(picture, (1, _AROUND), 1, (0, _AROUND // 2))
    return F.max_pool2d(rows, (_AROUND, 1), 1, (_AROUND // 2, 0))


def _slopes(picture: Tensor) -> tuple[Tensor, Tensor]:
    """[N, 1, H, W] -> its differences downwards and to the right, central, [N, 1, H-2, W-2]."""
    down = (picture[:, :, 2:, 1:-1] - picture[:, :, :-2, 1:-1]) / 2
    right = (picture[:, :, 1:-1, 2:] - picture[:, :, 1:-1, :-2]) / 2
    return down, right


def _blurred(planes: Tensor, sigma: float) -> Tensor:
    """[N, C, H, W], blurred by a Gaussian of `sigma` pixels, whose sides are held.

    Laid out plainly: only so a GPU takes a kernel that is exact. With channels last cuDNN would round to TF32, which is
    coarser than the variances of faint textures, small differences of large numbers.
    """
    radius = round(2 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=planes.device, dtype=planes.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).repeat(planes.shape[1], 1, 1, 1)
    padded = F.pad(planes, [radius] * 4, mode="replicate").contiguous()
    rows = F.conv2d(padded, kernel, groups=planes.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=planes.shape[1])


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
