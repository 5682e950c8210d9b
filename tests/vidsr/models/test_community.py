"""Weights that others trained: SRVGGNetCompact in PyTorch's own files and in safetensors, and all that is none."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from tests.media import write_episode
from tests.running import vidsr
from vidsr.backends import open_backend
from vidsr.backends.base import BackendSpec
from vidsr.choose.options import Options
from vidsr.choose.prepare import make_spec, prepare
from vidsr.choose.size import choose_scale
from vidsr.errors import ModelError, ResumeError, UsageError
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat
from vidsr.models import checkpoint
from vidsr.models.architectures import Compact, SRResNet
from vidsr.models.checkpoint import find_model, load_generator, save_generator
from vidsr.report import Report
from vidsr.run.pipeline import versions
from vidsr.run.segments import Workspace, check_resumable, make_plan

pytestmark = pytest.mark.usefixtures("one_thread")


class Published(nn.Module):
    """The network of the Real-ESRGAN paper's video models, written down anew from its description."""

    def __init__(self, channels=16, layers=2, scale=2, activation="prelu", inputs=3, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.scale = scale
        make = {
            "prelu": lambda: nn.PReLU(channels), "shared": lambda: nn.PReLU(1),
            "relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.1),
        }[activation]  # fmt: skip
        self.body = nn.ModuleList([nn.Conv2d(inputs, channels, 3, 1, 1), make()])
        for _ in range(layers):
            self.body.extend([nn.Conv2d(channels, channels, 3, 1, 1), make()])
        self.body.append(nn.Conv2d(channels, inputs * scale * scale, 3, 1, 1))
        for module in self.body:
            if isinstance(module, nn.PReLU):
                nn.init.uniform_(module.weight, -0.2, 0.5)
        with torch.no_grad():  # near its skip, as what was trained
            self.body[-1].weight.mul_(0.2)
            self.body[-1].bias.mul_(0.2)

    def forward(self, x):
        features = x
        for layer in self.body:
            features = layer(features)
        repeated = x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        return repeated + nn.functional.pixel_shuffle(features, self.scale)


def same_picture(generator, published, tolerance=1e-5):
    x = torch.rand(2, 3, 7, 9)
    with torch.no_grad():
        return (generator(x) - published(x)).abs().max() <= tolerance


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


WRAPPED = {
    "bare": lambda state, other: state,
    "params": lambda state, other: {"params": state},
    "averaged first": lambda state, other: {"params": other, "params_ema": state},
    "empty average": lambda state, other: {"params_ema": {}, "params": state},
    "state_dict": lambda state, other: {"epoch": 3, "state_dict": state, "optimizer": {"state": {}}},
    "model": lambda state, other: {"model": state},
    "generator beside a critic": lambda state, other: {"generator": state, "discriminator": other},
    "net_g in one": lambda state, other: {"net_g": {"params_ema": state}},
    "data parallel": lambda state, other: {"params": prefixed(state, "module.")},
    "compiled": lambda state, other: {"params": prefixed(state, "_orig_mod.")},
    "compiled in parallel": lambda state, other: prefixed(state, "module._orig_mod."),
    "averaged model": lambda state, other: {"n_averaged": torch.tensor(7), **prefixed(state, "module.")},
    "part of a trainer": lambda state, other: {"state_dict": prefixed(state, "net_g.") | prefixed(other, "net_d.")},
    "part of a model": lambda state, other: {"state_dict": prefixed(state, "model.")},
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_wherever_trainers_put_them(tmp_path, name, new_format):
    published, other = Published(), Published(seed=1)
    path = tmp_path / "2x_Something.pth"
    content = WRAPPED[name](published.state_dict(), other.state_dict())
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    generator = load_generator(path)
    assert isinstance(generator, Compact) and not generator.training
    assert same_picture(generator, published) and not same_picture(generator, other)


@pytest.mark.parametrize("prefix", ["", "params_ema.", "module."])
def test_safetensors_without_metadata(tmp_path, prefix):
    published = Published(scale=3)
    save_file(prefixed(published.state_dict(), prefix), tmp_path / "a.safetensors")
    generator = load_generator(tmp_path / "a.safetensors")
    assert generator.hyperparameters == {
        "channels": 16, "layers": 2, "scale": 3, "skip": "nearest", "activation": "prelu",
    }  # fmt: skip
    assert same_picture(generator, published)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision(tmp_path, dtype):
    published = Published().to(dtype)
    torch.save({"params": published.state_dict()}, tmp_path / "a.pth")
    generator = load_generator(tmp_path / "a.pth")
    assert {p.dtype for p in generator.parameters()} == {torch.float32}
    assert same_picture(generator, published.float())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12), st.integers(0, 4), st.integers(2, 8),
    st.sampled_from(["prelu", "shared", "relu", "leaky_relu"]), st.sampled_from(["activation", "act_type"]),
)  # fmt: skip
def test_everything_is_read_back_from_the_weights(channels, layers, scale, activation, key):
    published = Published(channels, layers, scale, activation)
    name = "leakyrelu" if (activation, key) == ("leaky_relu", "act_type") else activation
    generator = Compact.from_state_dict(published.state_dict(), {key: name})
    assert (generator.channels, generator.layers, generator.scale) == (channels, layers, scale)
    assert generator.activation == {"shared": "prelu"}.get(activation, activation)
    assert same_picture(generator, published)


def test_activations_that_leave_no_trace(tmp_path):
    """ReLU and LeakyReLU have no weights: told by metadata, or assumed, and that is said."""
    said: list[str] = []
    leaky, relu = Published(activation="leaky_relu"), Published(activation="relu")
    torch.save({"params": leaky.state_dict(), "act_type": "leakyrelu"}, tmp_path / "told.pth")
    save_file(leaky.state_dict(), tmp_path / "told.safetensors", metadata={"activation": "leaky_relu"})
    for name in ("told.pth", "told.safetensors"):
        assert same_picture(load_generator(tmp_path / name, said.append), leaky)
    torch.save(Published().state_dict(), tmp_path / "plain.pth")
    load_generator(tmp_path / "plain.pth", said.append)
    assert not said
    torch.save({"params": relu.state_dict()}, tmp_path / "untold.pth")
    assert same_picture(load_generator(tmp_path / "untold.pth", said.append), relu)
    assert len(said) == 1 and "untold.pth" in said[0] and "ReLU" in said[0] and "activation=leaky_relu" in said[0]


STATE = Published(4, 2).state_dict()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(STATE)), st.sampled_from(["leave out", "other shape", "integers", "elsewhere"]), st.data()
)
def test_weights_that_do_not_fit_together_are_refused(tmp_path, key, how, data):
    state = dict(STATE)
    value = state.pop(key)
    if how == "other shape":
        dims = data.draw(st.lists(st.integers(1, 7), max_size=5).filter(lambda dims: tuple(dims) != tuple(value.shape)))
        if key.split(".")[1] in "135" and dims == [1]:  # one slope for all channels is no mistake
            dims = [2]
        state[key] = torch.zeros(dims)
    elif how == "integers":
        assume(value.dim() == 4)
        state[key] = value.to(torch.int8)
    elif how == "elsewhere":
        place = f"body.{data.draw(st.sampled_from([5, 7, 8, 40]))}.weight"
        assume(place != key)
        state[place] = value
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(ModelError, match=r"broken\.pth: not") as caught:
        load_generator(tmp_path / "broken.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Published(inputs=1), "1 channels in and 4 out, expected 3"),
        (Published(inputs=4), "4 channels in and 16 out, expected 3"),
        (Published(scale=1), "1x the size; vidsr takes models of 2x to 8x"),
        (Published(scale=9), "9x the size; vidsr takes models of 2x to 8x"),
    ],
)
def test_what_is_no_upscaler_of_rgb(tmp_path, network, words):
    torch.save({"params": network.state_dict()}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=words):
        load_generator(tmp_path / "a.pth")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_diverged(tmp_path, number):
    published = Published()
    with torch.no_grad():
        published.body[2].weight[0, 0, 0, 0] = number
    torch.save(published.state_dict(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"a\.pth: some weights are NaN"):
        load_generator(tmp_path / "a.pth")


def test_our_own_weights_as_a_pth(tmp_path):
    torch.manual_seed(0)
    generator = SRResNet(1, 8).eval()
    torch.save(generator.state_dict(), tmp_path / "a.pth")
    x = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        assert torch.equal(load_generator(tmp_path / "a.pth")(x), generator(x))


# What is not weights


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle", "among weights"])
def test_a_file_that_wants_to_run_code_does_not(tmp_path, how):
    path, folder = tmp_path / "evil.pth", tmp_path / "it-ran"
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(Runs(folder), protocol=2))
    else:
        content = {"params": Published().state_dict(), "x": Runs(folder)} if how == "among weights" else Runs(folder)
        torch.save(content, path, _use_new_zipfile_serialization=how != "legacy")
    with pytest.raises(ModelError) as caught:
        load_generator(path)
    line = str(caught.value)
    assert not folder.exists() and "\n" not in line
    assert f"{path}: refused: it asks for" in line and "mkdir" in line and ".safetensors" in line
    assert "weights_only" not in line  # PyTorch's own advice is to let it run
    with pytest.raises(ModelError, match="refused"):  # nor by the whole command
        choose_scale(Options(model=str(path), backend="cpu"))
    assert not folder.exists()


def test_a_whole_module_is_refused(tmp_path):
    torch.save(Published(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"refused: it asks for .*test_community\.Published, .*plain state dict"):
        load_generator(tmp_path / "a.pth")


def archive_of(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")


def saved(path, new_format=True):
    torch.save({"params": Published().state_dict()}, path, _use_new_zipfile_serialization=new_format)
    return path.read_bytes()


def scripted(path):
    import warnings

    with warnings.catch_warnings():  # TorchScript is deprecated, but its files are about
        warnings.simplefilter("ignore")
        torch.jit.trace(Published().eval(), torch.zeros(1, 3, 8, 8)).save(str(path))


ONNX = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xb8\x9c\x01\n" + bytes(200)
BAD = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "web page": (lambda path: path.write_text("<!DOCTYPE html>\n<title>Sign in – é</title>" + "é" * 400), "web page"),
    "pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS"),
    "ONNX": (lambda path: path.write_bytes(ONNX), "ONNX model; take its"),
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 9), "not PyTorch's weights, or damaged"),
    "zip": (lambda path: archive_of(path, "a/readme.txt"), "zip archive"),
    "cut zip": (lambda path: path.write_bytes(saved(path)[:-300]), "cut off or damaged"),
    "half a zip": (lambda path: path.write_bytes(saved(path)[:5000]), "cut off or damaged"),
    "cut legacy": (lambda path: path.write_bytes(saved(path, False)[:-60]), "damaged; download it again"),
    "shorter legacy": (lambda path: path.write_bytes(saved(path, False)[:90]), "damaged; download it again"),
    "program": (scripted, "TorchScript program"),
    "hollow": (lambda path: archive_of(path, "a/data.pkl", "a/version"), "damaged"),
    "tensor": (lambda path: torch.save(torch.zeros(3), path), "holds no weights"),
    "numbers": (lambda path: torch.save({"epoch": 3, "params": {"a": 1}}, path), "holds no weights"),
    "nowhere": (lambda path: torch.save({"w": torch.zeros(3, device="meta")}, path), "holds no weights"),
    "folder": (lambda path: path.mkdir(), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_weights_file(tmp_path, name):
    write, words = BAD[name]
    path = tmp_path / "2x_Bad.pth"
    write(path)
    with pytest.raises(ModelError) as caught:
        load_generator(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and words in line and "\n" not in line, line


def test_a_container_in_itself(tmp_path):
    content: dict = {}
    content["model"] = content
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="holds no weights"):
        load_generator(tmp_path / "a.pth")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.data())
def test_damage_is_one_line(tmp_path, new_format, data):
    """Whatever byte changes: the weights, or one line about the file."""
    path = tmp_path / "a.pth"
    content = bytearray(saved(path, new_format))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        assert isinstance(load_generator(path), Compact)
    except ModelError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_other_kinds_of_files_are_named(tmp_path):
    (tmp_path / "a.onnx").write_bytes(ONNX)
    with pytest.raises(UsageError, match=r"a\.onnx: not a kind .* take its \.pth or \.safetensors"):
        find_model(str(tmp_path / "a.onnx"))
    with pytest.raises(UsageError, match=r"b\.pth: no such weights file"):
        find_model(str(tmp_path / "b.pth"))
    (tmp_path / "c.safetensors").write_text("<html>")
    with pytest.raises(ModelError, match=r"c\.safetensors: not a safetensors file .*web page"):
        find_model(str(tmp_path / "c.safetensors"))


# The scale


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """2x_A.pth, 3x_A.pth, 4x_A.pth, 8x_A.pth: path by scale."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {scale: folder / f"{scale}x_A.pth" for scale in (2, 3, 4, 8)}
    for scale, path in paths.items():
        torch.save({"params_ema": Published(8, 1, scale).state_dict()}, path)
    return paths


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_by_default_the_scale_is_the_models(weights, scale):
    assert choose_scale(Options(model=str(weights[scale]))) == scale
    assert choose_scale(Options(model="fast")) == choose_scale(Options(backend="nearest")) == 4


def test_more_than_the_model_gives_is_refused(weights):
    with pytest.raises(UsageError, match="--scale 4: 2x_A enlarges 2 times: leave --scale out, or change --model"):
        choose_scale(Options(model=str(weights[2]), scale=4))
    with pytest.raises(UsageError, match="--scale 1: choose a number from 2 to 8"):
        choose_scale(Options(scale=1))


def test_weights_made_for_the_scale_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    save_generator(Compact(8, 1), tmp_path / "fast.safetensors", {})
    save_generator(Compact(8, 1, scale=2), tmp_path / "fast-2x.safetensors", {})
    yuv, color = PixelFormat.from_name("yuv420p"), ColorSpec()
    for wanted, scale, taken in ((None, 4, "fast"), (2, 2, "fast-2x"), (3, 3, "fast"), (4, 4, "fast")):
        options = Options(scale=wanted, backend="cpu")
        spec = make_spec(options, choose_scale(options), yuv, color, yuv, color)
        assert (spec.scale, spec.model) == (scale, str(tmp_path / f"{taken}.safetensors"))
    own = Options(model="fast-2x", backend="cpu")
    assert choose_scale(own) == 2
    assert make_spec(own, 2, yuv, color, yuv, color).model == str(tmp_path / "fast-2x.safetensors")


def picture(path, width=21, height=18):
    rng = np.random.default_rng(0)
    pixels = cv2.GaussianBlur(rng.integers(0, 255, (height, width, 3), np.uint8), (0, 0), 1.2)
    cv2.imwrite(str(path), pixels)
    return pixels


def by_hand(pixels, network, wanted):
    """What the whole command must make of a picture: [H, W, 3] BGR -> the same, enlarged; levels as floats."""
    x = torch.from_numpy(pixels[:, :, ::-1].copy()).permute(2, 0, 1)[None].double() / 255
    with torch.no_grad():
        large = network.double()(x)
    while large.shape[2] % (pixels.shape[0] * wanted):  # the mean of the area, by repeating until it divides
        large = large.repeat_interleave(wanted, 2).repeat_interleave(wanted, 3)
    by = large.shape[2] // (pixels.shape[0] * wanted)
    reduced = nn.functional.avg_pool2d(large, by).clamp(0, 1)[0].permute(1, 2, 0) * 255
    return reduced.numpy()[:, :, ::-1]


@pytest.mark.parametrize(("own", "wanted"), [(2, 0), (3, 0), (3, 2), (4, 3), (4, 2), (8, 0), (8, 5)])
def test_a_picture_is_that_of_the_published_network(tmp_path, weights, own, wanted):
    """From file to file, reduced by area where less is asked for than the model gives."""
    pixels = picture(tmp_path / "a.png")
    scale = ["--scale", wanted] if wanted else []
    done = vidsr(tmp_path / "a.png", "--model", weights[own], "--backend", "cpu", "--precision", "fp32", *scale)
    assert done.returncode == 0, done.stderr
    result = tmp_path / f"a.{wanted or own}x.png"
    assert done.stdout.strip() == str(result)
    expected = by_hand(pixels, Published(8, 1, own), wanted or own)
    assert expected.std() > 10 and np.abs(cv2.imread(str(result)) - expected).max() <= 0.51


def test_an_episode_through_a_pth(tmp_path, weights):
    write_episode(tmp_path / "episode.mkv", frames=6)
    done = vidsr(tmp_path / "episode.mkv", "--model", weights[2], "--backend", "cpu", "--preset", "ultrafast")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "episode.2x.mkv") and "2x_A" in done.stderr and "proved" in done.stderr
    with av.open(str(tmp_path / "episode.2x.mkv")) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (128, 96)
    (tmp_path / "folder").mkdir()
    done = vidsr(tmp_path / "episode.mkv", "--model", weights[3], "--backend", "cpu", "-o", tmp_path / "folder", "-q")
    assert done.returncode == 0 and (tmp_path / "folder" / "episode.3x.mkv").exists(), done.stderr


def test_one_line_for_the_person(tmp_path, weights):
    write_episode(tmp_path / "episode.mkv", frames=2)
    (tmp_path / "2x_Page.pth").write_text("<html>not found</html>")
    for model, more, code, words in (
        (tmp_path / "2x_Page.pth", (), 1, "web page"),
        (weights[2], ("--scale", 4), 2, "--scale 4: 2x_A enlarges 2 times"),
    ):
        done = vidsr(tmp_path / "episode.mkv", "--model", model, *more)
        assert done.returncode == code and done.stdout == ""
        assert len(done.stderr.splitlines()) == 1 and words in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2x_Page.pth", "episode.mkv"]


def test_a_changed_pth_is_other_work(tmp_path):
    write_episode(tmp_path / "episode.mkv", frames=2)
    path = tmp_path / "2x_A.pth"
    plans = []
    for seed in (0, 0, 1):
        torch.save(Published(8, 1, seed=seed).state_dict(), path)
        job = prepare(tmp_path / "episode.mkv", Options(model=str(path), backend="cpu"), Report())
        plans.append(make_plan(job.info, job.span, job.settings, versions()))
    work = Workspace(tmp_path / "episode.2x.mkv")
    work.open()
    work.save_plan(plans[0])
    found = work.load_plan()
    work.close()
    assert found is not None
    check_resumable(found, plans[1], tmp_path)
    with pytest.raises(ResumeError, match="differs in weights"):
        check_resumable(found, plans[2], tmp_path)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("scale", [2, 3])
def test_every_activation_through_the_backend(tmp_path, activation, scale):
    """Fused with the colour of the result, it is still the published network's picture."""
    network = Published(8, 2, 3, activation)
    save_file(network.state_dict(), tmp_path / "a.safetensors", metadata={"activation": activation})
    pixels = picture(tmp_path / "a.png", 14, 11)
    rgb, color = PixelFormat("rgb", 8), ColorSpec("rgb", True)
    spec = BackendSpec("cpu", str(tmp_path / "a.safetensors"), scale, rgb, color, rgb, color, precision="fp32")
    backend = open_backend(spec)
    planes = tuple(np.ascontiguousarray(pixels[:, :, i]) for i in (1, 0, 2))
    batch = FrameBatch((Frame(planes),), rgb, color)
    green, blue, red = backend(batch).frames[0].planes
    again = open_backend(replace(spec, tile=5))(batch).frames[0].planes
    assert np.abs(np.dstack([blue, green, red]) - by_hand(pixels, network, scale)).max() <= 0.51
    assert all(np.abs(p.astype(int) - q).max() <= 1 for p, q in zip((green, blue, red), again))
