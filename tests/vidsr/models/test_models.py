import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from vidsr.errors import ModelError
from vidsr.models.architectures import Compact, SRResNet
from vidsr.models.checkpoint import load_generator, save_generator
from vidsr.models.fold import fold_batch_norm, fold_shuffle

SIZES = [(1, 1), (1, 6), (5, 3), (12, 9)]


def srresnet(blocks=2, channels=8, seed=0):
    """With the statistics and slopes of something trained, not BatchNorm's zeros and ones."""
    torch.manual_seed(seed)
    model = SRResNet(blocks, channels)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -1), (module.bias, -1), (module.running_var, 0.2)):
                nn.init.uniform_(tensor, low, low + 2)
            nn.init.uniform_(module.weight, 0.5, 2)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0, 0.5)
    return model.eval()


def compact(channels=8, layers=2, **options):
    torch.manual_seed(0)
    model = Compact(channels, layers, **options)
    for module in model.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0, 0.5)
    return model.eval()


GENERATORS = {
    "srresnet": srresnet,
    "compact": compact,
    "compact-nearest": lambda: compact(skip="nearest", scale=2),
    "compact-relu": lambda: compact(scale=3, activation="relu"),
    "compact-leaky": lambda: compact(layers=0, activation="leaky_relu"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", GENERATORS)
def test_folded_is_the_same_function(name, size, dtype):
    generator = GENERATORS[name]().to(dtype)
    x = torch.rand(2, 3, *size, dtype=dtype)
    with torch.no_grad():
        expected = generator(x)
        folded = generator.folded()
        assert (folded(x) - expected).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-12)
        assert torch.equal(generator(x), expected)  # the original is left alone
    assert (folded.scale, folded.radius) == (generator.scale, generator.radius)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


def test_folding_keeps_the_original_trainable():
    generator = srresnet().train()
    folded = generator.folded()
    assert generator.training and all(p.requires_grad for p in generator.parameters())
    assert not any(p.requires_grad for p in folded.parameters())
    mine = {p.data_ptr() for p in generator.parameters()}
    assert not any(p.data_ptr() in mine for p in folded.parameters())


def test_only_the_body_changes_precision():
    """What is added to the skip may be coarse; the skip itself must keep ten bits and more."""
    folded = compact().folded()
    folded.body.bfloat16()
    nn.init.zeros_(folded.body[-1].weight)
    x = torch.rand(1, 3, 6, 6)
    upscaled = nn.functional.interpolate(x, scale_factor=4, mode="bilinear")
    assert folded(x).dtype == torch.float32
    assert torch.allclose(folded(x), upscaled, atol=1e-6)


@pytest.mark.parametrize(("k", "r"), [(9, 2), (3, 2), (5, 2), (9, 4)])
def test_fold_shuffle(k, r):
    conv = nn.Conv2d(4, 3, k, padding=k // 2).double()
    x = torch.rand(1, 4 * r * r, 7, 6, dtype=torch.float64)
    folded = fold_shuffle(conv, r)
    expected = conv(nn.functional.pixel_shuffle(x, r))
    assert torch.allclose(nn.functional.pixel_shuffle(folded(x), r), expected, atol=1e-12)


def test_fold_batch_norm_without_bias():
    conv, norm = nn.Conv2d(3, 5, 3, padding=1, bias=False).double(), nn.BatchNorm2d(5).double().eval()
    nn.init.uniform_(norm.running_var, 0.1, 2)
    x = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    assert torch.allclose(fold_batch_norm(conv, norm)(x), norm(conv(x)), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(GENERATORS)), st.integers(0, 31), st.integers(0, 31))
def test_nothing_is_seen_beyond_the_radius(name, row, column):
    generator = GENERATORS[name]().double()
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    y = x.clone()
    y[:, :, row, column] += 1
    with torch.no_grad():
        changed = (generator(x) - generator(y)).abs().amax((0, 1)) > 1e-12
    scale, radius = generator.scale, generator.radius
    rows, columns = (changed.any(d).nonzero().flatten() // scale for d in (1, 0))
    assert rows.min() >= row - radius and rows.max() <= row + radius
    assert columns.min() >= column - radius and columns.max() <= column + radius


@pytest.mark.parametrize(
    "generator",
    [Compact(8, 3), Compact(16, 1, scale=2), Compact(8, 2, skip="nearest"), Compact(8, 1, activation="leaky_relu"),
     Compact(8, 0, activation="relu"), SRResNet(3, 8)],
    ids=["compact", "compact-x2", "compact-nearest", "compact-leaky", "compact-relu", "srresnet"],
)
def test_weights_bring_their_hyperparameters(tmp_path, generator):
    path = tmp_path / "model.safetensors"
    save_generator(generator, path, {"licence": "MIT"})
    loaded = load_generator(path)
    assert type(loaded) is type(generator) and loaded.hyperparameters == generator.hyperparameters
    assert loaded.scale == generator.scale and loaded.radius == generator.radius and not loaded.training
    x = torch.rand(1, 3, 5, 4)
    with torch.no_grad():
        assert torch.equal(loaded(x), generator.eval()(x))


@pytest.mark.parametrize("metadata", [{"architecture": "rrdbnet"}, None])
def test_unknown_architecture(tmp_path, monkeypatch, metadata):
    monkeypatch.setitem(sys.modules, "spandrel", None)  # as where it is not installed
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(ModelError, match=r"model\.safetensors: not Compact or SRResNet; other .* spandrel"):
        load_generator(path)


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\xff" * 4096])
def test_corrupt_file(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors: not a safetensors file"):
        load_generator(path)


def test_truncated_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_generator(Compact(8, 1), path, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError):
        load_generator(path)


@pytest.mark.parametrize("architecture", ["compact", "srresnet"])
def test_weights_of_something_else(tmp_path, architecture):
    path = tmp_path / "model.safetensors"
    save_file({"body.0.weight": torch.zeros(4, 3, 3, 3)}, path, metadata={"architecture": architecture})
    with pytest.raises(ModelError, match=f"not the weights of a {architecture} generator"):
        load_generator(path)


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        load_generator(tmp_path / "nowhere.safetensors")
