"""Each loss against a value worked out by hand, and what judges the pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from train.recipes.losses import (
    CONTENT,
    Drawn,
    critic_loss,
    discriminator_loss,
    drawn_losses,
    edges_of,
    feature_matching,
    fringes_of_lines,
    generator_loss,
    gradient_penalty,
    log_l1,
    lost_structure,
    noisy_labels,
    roughness_of_flats,
    unevenness_of_lines,
    wasserstein_generator_loss,
)
from train.recipes.networks import Critic, Discriminator
from train.recipes.perceptual import Perceptual, _vgg

CPU = torch.device("cpu")


def test_content_losses() -> None:
    a, b = torch.zeros(1, 3, 1, 2), torch.tensor([0.0, 0.5]).expand(1, 3, 1, 2)
    assert CONTENT["mse"](a, b).item() == pytest.approx(0.125)
    assert CONTENT["l1"](a, b).item() == pytest.approx(0.25)


def test_discriminator_loss_is_the_cross_entropy_of_both() -> None:
    # sigmoid(ln 3) = 3/4. Real, label 0.9: -(0.9 ln 3/4 + 0.1 ln 1/4); fake at sigmoid 1/2, any label: ln 2.
    real, fake = torch.tensor([math.log(3.0)]), torch.tensor([0.0])
    expected = -(0.9 * math.log(0.75) + 0.1 * math.log(0.25)) + math.log(2)
    found = discriminator_loss(real, fake, torch.tensor([0.9]), torch.tensor([0.1]))
    assert found.item() == pytest.approx(expected)


def test_labels_above_one_are_taken() -> None:
    # -(1.1 ln 3/4 - 0.1 ln 1/4), as the formula has it: smoothing goes up to 1.10 in the paper.
    expected = -(1.1 * math.log(0.75) - 0.1 * math.log(0.25)) + math.log(2)
    found = discriminator_loss(torch.tensor([math.log(3.0)]), torch.zeros(1), torch.tensor([1.1]), torch.zeros(1))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_generator_loss_is_minus_log_of_the_chance_of_real() -> None:
    scores = torch.tensor([math.log(3.0), 0.0])
    assert generator_loss(scores).item() == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)


def test_wasserstein_losses() -> None:
    real, fake = torch.tensor([2.0, 4.0]), torch.tensor([-1.0, 2.0])
    assert critic_loss(real, fake).item() == pytest.approx(0.5 - 3.0)
    assert wasserstein_generator_loss(fake).item() == pytest.approx(-0.5)


def test_gradient_penalty_of_a_linear_critic() -> None:
    # D(x) = 3 x_0 + 4 x_1 has the gradient (3, 4) everywhere: norm 5, penalty (5 - 1)^2.
    weights = torch.tensor([3.0, 4.0])
    real, fake = torch.rand(2, 4, 3, 2, 2)
    penalty, norm = gradient_penalty(lambda x: x.flatten(1)[:, :2] @ weights, real, fake)
    assert (penalty.item(), norm.item()) == pytest.approx((16.0, 5.0))


def test_gradient_penalty_of_a_quadratic_critic_and_its_gradient() -> None:
    # D(x) = w |x|^2 / 2 has the gradient w x. Between x and x itself every point is x: penalty (w |x| - 1)^2, whose
    # derivative by w is 2 (w |x| - 1) |x|.
    w = torch.tensor(2.0, requires_grad=True)
    x = torch.zeros(1, 3, 1, 1)
    x[0, 0] = 3.0
    penalty, _ = gradient_penalty(lambda y: w * y.flatten(1).square().sum(1) / 2, x, x)
    penalty.backward()
    assert penalty.item() == pytest.approx(25.0)
    assert w.grad is not None and w.grad.item() == pytest.approx(30.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_gradient_penalty_looks_between_the_pictures_only(seed: int) -> None:
    torch.manual_seed(seed)
    seen = []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return x.flatten(1).sum(1)

    gradient_penalty(critic, torch.ones(64, 3, 2, 2), torch.zeros(64, 3, 2, 2))
    (points,) = seen
    assert points.min() >= 0 and points.max() <= 1
    assert torch.equal(points.amax((1, 2, 3)), points.amin((1, 2, 3)))  # one factor for a whole picture
    # Uniform: all four quarters of the way are visited.
    assert torch.histc(points[:, 0, 0, 0], 4, 0, 1).min() > 0


def test_gradient_penalty_is_fp32_under_autocast() -> None:
    seen = []
    conv = nn.Conv2d(3, 4, 3)

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(conv(x).dtype)
        return conv(x).flatten(1).sum(1)

    with torch.autocast("cpu", torch.bfloat16):
        penalty, _ = gradient_penalty(critic, torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8))
        assert conv(torch.rand(2, 3, 8, 8)).dtype == torch.bfloat16
    assert seen == [torch.float32] and penalty.dtype == torch.float32


def test_noisy_labels_are_smooth_and_sometimes_swapped() -> None:
    torch.manual_seed(0)
    real, fake = noisy_labels(20_000, (0.85, 1.10), (0.0, 0.15), 0.05, CPU)
    swapped = real < 0.5
    assert torch.equal(swapped, fake > 0.5)
    assert 0.04 < swapped.float().mean() < 0.06
    for straight, low, high in ((real[~swapped], 0.85, 1.10), (fake[~swapped], 0.0, 0.15)):
        assert straight.min() >= low and straight.max() <= high
        assert straight.mean().item() == pytest.approx((low + high) / 2, abs=0.005)
    real, fake = noisy_labels(100, (0.85, 1.10), (0.0, 0.15), 0.0, CPU)
    assert real.min() >= 0.85 and fake.max() <= 0.15


def test_roughness_counts_dirt_in_flat_areas_alone() -> None:
    target = torch.full((1, 3, 64, 64), 0.6)
    target[..., 40:] = 0.2  # an edge: within four pixels of it nothing is flat
    dirt = torch.zeros_like(target)
    dirt[..., 8:16, 8:16] = 0.02 * torch.rand(3, 8, 8, generator=torch.manual_seed(0))
    halo = torch.zeros_like(target)
    halo[..., 38:42] = 0.1
    assert roughness_of_flats(target, target) == 0
    assert roughness_of_flats(target + 0.1, target) == pytest.approx(0, abs=1e-6)  # the content loss sees that
    assert roughness_of_flats(target + halo, target) == 0
    once, twice = (roughness_of_flats(target + times * dirt, target) for times in (1, 2))
    assert once > 0 and twice == pytest.approx(2 * once.item(), rel=1e-3)
    textured = torch.rand(1, 3, 64, 64, generator=torch.manual_seed(1))
    assert roughness_of_flats(textured + dirt, textured) == 0


def edge(wobble: float = 0.0, shift: float = 0.0, soft: float = 0.7, slant: float = 0.5) -> torch.Tensor:
    """[1, 3, 64, 64]: dark on the left of a slanted edge, bright on the right; wobble: pixels, every eight rows."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    where = 32 + slant * (rows - 32) + shift + wobble * torch.sin(rows * torch.pi / 4)
    return (0.2 + 0.6 * torch.sigmoid((columns - where) / soft)).expand(1, 3, 64, 64)


def unevenness(fake: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return unevenness_of_lines(fake, target, edges_of(target))


def fringes(fake: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return fringes_of_lines(fake, target, edges_of(target))


@pytest.mark.parametrize("slant", [-1.0, -0.3, 0.0, 0.4])
def test_lines_that_wobble_cost_what_moved_and_soft_ones_do_not(slant: float) -> None:
    target = edge(slant=slant)
    assert unevenness(target, target) == 0
    little, much = (unevenness(edge(wobble, slant=slant), target).item() for wobble in (0.5, 1.0))
    moved = unevenness(edge(shift=1.0, slant=slant), target).item()
    soft = unevenness(edge(soft=1.5, slant=slant), target).item()
    assert 1.5 * little < much < 2.5 * little
    assert moved < 0.35 * much and soft < 0.35 * much
    for turned in (lambda x: x.transpose(2, 3), lambda x: x.flip(3)):
        again = unevenness(turned(edge(1.0, slant=slant)), turned(target)).item()
        assert again == pytest.approx(much, rel=0.02)


def test_a_picture_without_edges_has_no_uneven_lines() -> None:
    flat = torch.full((2, 3, 32, 32), 0.5)
    fake = (flat + 0.01).requires_grad_()
    loss = unevenness(fake, flat)
    loss.backward()
    assert loss == 0 and fake.grad is not None and fake.grad.isfinite().all()


def test_lines_whose_colour_is_wrong_cost_and_faint_ones_do_not() -> None:
    target = edge()
    brown = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)
    brown = brown - (0.299 - 0.114)  # of no luma
    on_line = 4 * (target - 0.2) * (0.8 - target) / 0.36  # 1 in the middle of the edge, 0 beside it
    in_flat = torch.zeros_like(target)
    in_flat[..., 24:40, 2:12] = 1.0
    assert fringes(target, target) == 0
    assert fringes(target + 0.1 * on_line, target).item() == pytest.approx(0, abs=1e-6)  # of luma alone
    assert fringes(edge(shift=1.0), target).item() == pytest.approx(0, abs=1e-6)
    once, twice = (fringes(target + size * on_line * brown, target).item() for size in (0.05, 0.1))
    assert once > 0.002 and twice == pytest.approx(2 * once, rel=1e-3)
    assert fringes(target + 0.1 * in_flat * brown, target).item() < 0.01 * twice
    assert unevenness(target + 0.1 * on_line * brown, target).item() < 0.01 * twice  # it sees no colour
    fake = (target + 0.1 * on_line * brown).requires_grad_()
    fringes(fake, target).backward()
    assert fake.grad is not None
    red, _, blue = (fake.grad * on_line).sum(dim=(0, 2, 3)).tolist()
    assert red > 0 > blue  # less red, more blue


def reference_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Mean SSIM of two [H, W] pictures of 0..1, 7x7 Gaussian of sigma 1.5, as the paper has it, place by place."""
    at = np.arange(-3, 4)
    kernel = np.exp(-(at**2) / 4.5)
    window = np.outer(kernel, kernel) / kernel.sum() ** 2
    x, y = np.pad(x, 3, "edge"), np.pad(y, 3, "edge")
    found = []
    for row in range(x.shape[0] - 6):
        for column in range(x.shape[1] - 6):
            a, b = (z[row : row + 7, column : column + 7] for z in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = ((window * (z - m) ** 2).sum() for z, m in ((a, mean_a), (b, mean_b)))
            both = (window * (a - mean_a) * (b - mean_b)).sum()
            means = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            found.append(means * (2 * both + 9e-4) / (var_a + var_b + 9e-4))
    return float(np.mean(found))


def test_lost_structure_is_ssim_at_three_sizes() -> None:
    random = torch.Generator().manual_seed(0)
    target = torch.rand(1, 3, 32, 24, generator=random) * torch.linspace(0, 1, 24)
    fake = (0.7 * target + 0.3 * torch.rand(target.shape, generator=random)).requires_grad_()
    weights = np.array([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    x, y = ((picture[0].detach().numpy() * weights).sum(0) for picture in (fake, target))
    expected = []
    for _ in range(3):
        expected.append(1 - reference_ssim(x, y))
        x, y = (z.reshape(z.shape[0] // 2, 2, z.shape[1] // 2, 2).mean((1, 3)) for z in (x, y))
    loss = lost_structure(fake, target)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)
    assert lost_structure(target, target).item() == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert fake.grad is not None and fake.grad.isfinite().all()


def test_a_faint_texture_that_is_lost_costs_structure_more_than_its_square() -> None:
    texture = torch.rand(1, 1, 64, 64, generator=torch.manual_seed(0)).expand(1, 3, 64, 64)
    strong, faint = 0.3 + 0.4 * texture, 0.5 + 0.04 * texture
    lost = [lost_structure(picture.mean().expand(picture.shape), picture).item() for picture in (strong, faint)]
    assert lost[1] > lost[0] / 20  # a tenth as strong, which MSE would count as a hundredth


def test_losses_of_drawings_add_up() -> None:
    fake, target = edge(1.0), edge()
    fake = fake + 0.1 * torch.rand(1, 3, 1, 1, generator=torch.manual_seed(0))
    parts = [loss(fake, target).item() for loss in (roughness_of_flats, unevenness, fringes, lost_structure)]
    expected = 2 * parts[0] + parts[1] / 2 + parts[2] / 4 + 3 * parts[3]
    assert drawn_losses(fake, target, Drawn(2.0, 0.5, 0.25, 3.0)).item() == pytest.approx(expected)
    assert drawn_losses(fake, target, Drawn(even_lines=0.5)).item() == pytest.approx(parts[1] / 2)
    assert drawn_losses(fake, target, Drawn(line_colours=0.25)).item() == pytest.approx(parts[2] / 4)
    assert drawn_losses(fake, target, Drawn()).item() == 0


def test_every_picture_counts_the_same_whatever_its_source() -> None:
    target = torch.full((2, 3, 16, 16), 0.5)
    distances = torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)
    fake = (target + distances).requires_grad_()
    log_l1(fake, target).backward()
    assert fake.grad is not None
    hard, easy = fake.grad.abs().sum(dim=(1, 2, 3)).tolist()
    assert easy == pytest.approx(hard * 0.204 / 0.024, rel=1e-3)  # so that a percent of either is worth as much
    again = (target[:1] + 0.026).requires_grad_()
    log_l1(again, target[:1]).backward()
    assert again.grad is not None and again.grad.sum().item() == pytest.approx(1, rel=1e-3)  # as L1's


def test_feature_matching() -> None:
    torch.manual_seed(0)
    critic = Critic(4)
    real, fake = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32, requires_grad=True)
    assert feature_matching(critic, real, real).item() == 0
    distances = [(a - b).abs().mean() for a, b in zip(critic.features(real), critic.features(fake))]
    assert len(distances) == 4
    loss = feature_matching(critic, real, fake)
    assert loss.item() == pytest.approx(sum(d.item() for d in distances) / 4)
    loss.backward()
    assert fake.grad is not None and fake.grad.abs().sum() > 0


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_the_discriminator_has_batch_norm_and_the_critic_none() -> None:
    assert (norms(Discriminator()), norms(Critic())) == (7, 0)
    shapes = [tuple(m.weight.shape[:2]) for m in Critic().modules() if isinstance(m, nn.Conv2d)]
    assert shapes == [
        (64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (512, 256), (512, 512),
        (1024, 512), (1, 1024),
    ]  # fmt: skip
    strides = [m.stride[0] for m in Critic().modules() if isinstance(m, nn.Conv2d)]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 2, 1, 1]


@pytest.mark.parametrize("size", [48, 96, 100])
def test_one_score_a_picture_of_any_size(size: int) -> None:
    critic = Critic(4).eval()
    x = torch.rand(3, 3, size, size)
    assert critic(x).shape == (3,)
    assert torch.allclose(critic(x)[1:2], critic(x[1:2]), atol=1e-6)  # no picture sees another


def test_perceptual_loss_of_given_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vgg = _vgg("64 64 P 128 128 P 256 256 256 P 512 512 512 P 512 512 512")
    path = tmp_path / "vgg16.safetensors"
    save_file({f"features.{k}": v for k, v in vgg.state_dict().items()} | {"classifier.0.bias": torch.zeros(1)}, path)
    loss = Perceptual(path)
    a, b = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        expected = (vgg((a - mean) / std) - vgg((b - mean) / std)).square().mean()
        assert loss(a, b).item() == pytest.approx(expected.item(), rel=1e-5)
        assert loss(a, a).item() == 0
    assert not any(p.requires_grad for p in loss.parameters())


def test_other_weights_are_no_vgg(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"odd\.safetensors: expected the features"):
        Perceptual(path)
    path.write_bytes(b"PK\x03\x04 a pickle, perhaps")
    with pytest.raises(ValueError, match="not a safetensors file"):
        Perceptual(path)
