"""Architectures of others, by spandrel, which these tests stand in for: it needs a torchvision that fits one PyTorch.

What the stand-in has is held against the wheel of the real one, where that has been fetched.
"""

from __future__ import annotations

import ast
import sys
import zipfile
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.running import ROOT
from tests.vidsr.models.test_community import Published
from vidsr.backends import open_backend
from vidsr.backends.base import BackendSpec
from vidsr.backends.cuda import CudaBackend
from vidsr.backends.tensorrt.body import _known
from vidsr.backends.tiles import auto_tile, in_tiles
from vidsr.choose.options import Options
from vidsr.choose.size import choose_scale
from vidsr.errors import BackendError, ModelError, UsageError
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat
from vidsr.models.checkpoint import load_generator
from vidsr.models.other import Other
from vidsr.reuse.reuse import ReuseCounts, reuse
from vidsr.reuse.stillness import Stillness

pytestmark = pytest.mark.usefixtures("one_thread")
WHEELS = sorted((ROOT / ".venv" / "wheels").glob("spandrel-*.whl"))
YUV, COLOR = PixelFormat.from_name("yuv420p"), ColorSpec()


class Windowed(nn.Module):
    """Adds to each picture what its squares of 8 have in common: no radius, and only sizes it can be cut into.

    `view` as such networks use it, which other layouts than the plain one do not bear.
    """

    def __init__(self, scale=2):
        super().__init__()
        self.scale = scale
        self.mix = nn.Conv2d(3, 3, 1, bias=False)

    def forward(self, x):
        n, c, height, width = x.shape
        assert n == 1 and height % 8 == 0 and width % 8 == 0, x.shape
        windows = self.mix(x).view(n, c, height // 8, 8, width // 8, 8)
        x = x + 0.1 * (windows - windows.mean((3, 5), keepdim=True)).view(n, c, height, width)
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


class ImageModelDescriptor:
    """As spandrel 0.4's: pads at the right and below, takes one picture, clamps and cuts."""

    def __init__(self, model, **given):
        self.model, self.scale = model, model.scale
        self.purpose, self.input_channels, self.output_channels, self.supports_half = "SR", 3, 3, True
        self.architecture = SimpleNamespace(id="Windowed", name="Windowed")
        vars(self).update(given)

    @torch.inference_mode()
    def __call__(self, image):
        if image.dim() != 4:
            raise ValueError(image.shape)
        height, width = image.shape[2:]
        padded = nn.functional.pad(image, (0, -width % 8, 0, -height % 8), "replicate")
        return self.model(padded).clamp_(0, 1)[..., : height * self.scale, : width * self.scale]


class MaskedImageModelDescriptor:
    purpose = "Inpainting"
    architecture = SimpleNamespace(id="LaMa", name="LaMa")


class UnsupportedModelError(Exception):
    pass


@dataclass
class Loader:
    device: str | None = None
    found = staticmethod(lambda: ImageModelDescriptor(Windowed()))

    def load_from_state_dict(self, state_dict):
        if "mix.weight" not in state_dict:
            raise UnsupportedModelError
        descriptor = type(self).found()
        if isinstance(descriptor, ImageModelDescriptor):
            descriptor.model.load_state_dict(state_dict)
        return descriptor


@pytest.fixture
def spandrel(monkeypatch):
    module = ModuleType("spandrel")
    vars(module).update(
        __version__="0.4.2", ModelLoader=type("ModelLoader", (Loader,), {}), ImageModelDescriptor=ImageModelDescriptor,
        MaskedImageModelDescriptor=MaskedImageModelDescriptor, UnsupportedModelError=UnsupportedModelError,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "spandrel", module)
    return module


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    torch.save({"params_ema": Windowed().state_dict()}, tmp_path / "2x_Windowed.pth")
    return tmp_path / "2x_Windowed.pth"


def spec(path, **options):
    return BackendSpec("cpu", str(path), 2, YUV, COLOR, YUV, COLOR, **options)


def frame(width=45, height=38, seed=0, pts=0):
    rng = np.random.default_rng(seed)
    return Frame(tuple(rng.integers(30, 200, s, np.uint8) for s in YUV.plane_shapes(width, height)), pts, 1)


def batch(*frames):
    return FrameBatch(frames, YUV, COLOR)


def test_the_picture_is_that_of_the_network(spandrel, path):
    said: list[str] = []
    generator = load_generator(path, said.append)
    assert isinstance(generator, Other) and (generator.scale, generator.radius) == (2, None)
    assert len(said) == 1 and "2x_Windowed.pth: Windowed, by spandrel: whole frames only" in said[0]
    x = torch.rand(2, 3, 16, 24)
    network = Windowed()
    network.load_state_dict(torch.load(path, weights_only=True)["params_ema"])
    with torch.inference_mode():
        expected = torch.cat([network(picture[None]) for picture in x]).clamp(0, 1)
        assert torch.equal(generator(x), expected)
        folded = generator.folded()
        assert torch.allclose(folded(x), expected, atol=1e-6) and folded.radius is None
        assert generator(x[:, :, :13, :21]).shape == (2, 3, 26, 42)  # padded, and cut again
        folded.body.to(torch.float64)  # a copy, whose descriptor goes with it
        assert folded(x).dtype == torch.float32 and torch.allclose(folded(x), expected, atol=1e-6)
        assert torch.equal(generator(x), expected)
    assert choose_scale(Options(model=str(path))) == 2


def test_whole_frames_on_every_backend(spandrel, path):
    frames = batch(frame(), frame(seed=1), frame(seed=2))
    on_cpu = open_backend(spec(path), notify=lambda line: None)
    assert on_cpu.context is None and "fp32" in on_cpu.description  # bf16 would leave 8 bits of the picture
    lanes = CudaBackend(load_generator(path), spec(path, precision="fp32"), device=torch.device("cpu"))
    results = [backend(frames).frames for backend in (on_cpu, lanes)]
    assert all(np.array_equal(p, q) for a, b in zip(*results, strict=True) for p, q in zip(a.planes, b.planes))
    assert results[0][0].planes[0].shape == (76, 90)
    folded = load_generator(path).folded()
    assert auto_tile(10_000, 10_000, folded, 1) == 0
    x = torch.rand(1, 3, 40, 40)
    with torch.inference_mode():
        assert torch.equal(in_tiles(folded, x, 16), folded(x))


@pytest.mark.parametrize(
    ("options", "words"), [({"tile": 64}, "--tile 64: 2x_Windowed takes whole frames"), ({"precision": "bf16"}, "bf16")]
)
def test_what_cannot_be_had_is_said(spandrel, path, options, words):
    with pytest.raises(UsageError, match=words):
        open_backend(spec(path, **options), notify=lambda line: None)


def test_out_of_device_memory_is_the_end(spandrel, path, monkeypatch):
    """There are no tiles to go on with."""
    backend = CudaBackend(load_generator(path), spec(path, precision="fp32"), lambda line: None, torch.device("cpu"))

    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(backend, "_start", full)
    with pytest.raises(BackendError, match="takes whole frames; use --backend cpu"):
        backend(batch(frame()))


def test_engines_are_not_made_of_it(spandrel, path):
    with pytest.raises(BackendError, match="Compact and SRResNet only; use --backend cuda"):
        _known(load_generator(path))


@pytest.mark.parametrize("patch", [0, 64])
def test_still_frames_are_reused_and_others_computed_whole(spandrel, path, patch):
    backend = open_backend(spec(path), notify=lambda line: None)
    backend.patch = patch
    still, moved = frame(320, 192), frame(320, 192)
    moved.planes[0][100:110, 200:210] += 40  # a corner of the picture: 1 % of it
    frames = [Frame(planes.planes, pts, 1) for pts, planes in enumerate((still, still, moved, moved, still))]
    saved = ReuseCounts()
    results = list(reuse([batch(one) for one in frames], backend, Stillness(), counts=saved))
    assert (saved.frames, saved.whole, saved.computed_pixels) == (5, 3, 3 * 320 * 192)
    for source, result in zip(frames, results, strict=True):
        full = backend(batch(source)).frames[0]
        assert result.pts == source.pts
        assert all(np.array_equal(p, q) for p, q in zip(result.planes, full.planes))


def test_precisions_that_the_architecture_bears(spandrel, path, monkeypatch):
    assert load_generator(path).lacks == {"bf16"}
    monkeypatch.setattr(
        spandrel.ModelLoader, "found", staticmethod(lambda: ImageModelDescriptor(Windowed(), supports_half=False))
    )
    assert load_generator(path).lacks == {"bf16", "fp16"}


REFUSED = {
    "faces": ({"purpose": "FaceSR"}, "Windowed is for FaceSR; vidsr takes models that enlarge whole pictures"),
    "gray": ({"input_channels": 1, "output_channels": 1}, "1 channels in and 1 out, expected RGB"),
    "no larger": ({"purpose": "Restoration", "scale": 1}, "gives 1x the size"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_upscaler(spandrel, path, monkeypatch, name):
    given, words = REFUSED[name]
    found = staticmethod(lambda: ImageModelDescriptor(Windowed(), **given))
    monkeypatch.setattr(spandrel.ModelLoader, "found", found)
    with pytest.raises(ModelError, match=rf"2x_Windowed\.pth: .*{words}"):
        load_generator(path)


def test_what_spandrel_refuses(spandrel, path, tmp_path, monkeypatch):
    torch.save({"unheard.of": torch.zeros(3)}, tmp_path / "b.pth")
    with pytest.raises(ModelError, match=r"b\.pth: not Compact or SRResNet, nor an architecture that spandrel 0\.4\.2"):
        load_generator(tmp_path / "b.pth")
    torch.save({"mix.weight": torch.zeros(5)}, tmp_path / "c.pth")
    with pytest.raises(ModelError, match=r"c\.pth: spandrel cannot load it \(Error\(s\) in loading"):
        load_generator(tmp_path / "c.pth")
    monkeypatch.setattr(spandrel.ModelLoader, "found", staticmethod(MaskedImageModelDescriptor))
    with pytest.raises(ModelError, match="LaMa is for Inpainting"):
        load_generator(path)


def test_without_spandrel(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    line = (
        f"{path}: not Compact or SRResNet; other architectures need spandrel: pip install 'vidsr[spandrel]' "
        "(and the torchvision that fits your torch)"
    )
    with pytest.raises(ModelError) as caught:
        load_generator(path)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "::nms.*the torchvision that fits"),
        ("raise OSError('libcudart.so: cannot open')", "libcudart.*the torchvision that fits your torch"),
        ("import torchvision_that_is_not_there", r"lacks torchvision_that_is_not_there: pip install"),
    ],
)
def test_a_spandrel_that_does_not_load(path, tmp_path, monkeypatch, code, words):
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    (tmp_path / "spandrel.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=rf"2x_Windowed\.pth: not Compact or SRResNet; spandrel .*{words}"):
        load_generator(path)


def test_ours_do_not_need_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    torch.save(Published().state_dict(), tmp_path / "a.pth")
    assert load_generator(tmp_path / "a.pth").radius == 4


@pytest.mark.skipif(not WHEELS, reason="no wheel of spandrel: make .venv/wheels/fetched")
@pytest.mark.parametrize("wheel", WHEELS, ids=lambda path: path.name.split("-")[1])
def test_the_real_one_has_what_is_used_of_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        package = ast.parse(archive.read("spandrel/__init__.py"))
        loader = ast.parse(archive.read("spandrel/__helpers/loader.py"))
        descriptor = ast.parse(archive.read("spandrel/__helpers/model_descriptor.py"))
    names = {ast.unparse(n.targets[0]): n.value for n in package.body if isinstance(n, ast.Assign)}
    exported = set(ast.literal_eval(names["__all__"]))
    assert {"ModelLoader", "ImageModelDescriptor", "MaskedImageModelDescriptor", "UnsupportedModelError"} <= exported
    assert "__version__" in names
    classes = [n for tree in (loader, descriptor) for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    functions = {(c.name, f.name): f for c in classes for f in c.body if isinstance(f, ast.FunctionDef)}

    def arguments(*name):
        return [argument.arg for argument in functions[name].args.args]

    assert arguments("ModelLoader", "__init__")[:2] == ["self", "device"]
    assert arguments("ModelLoader", "load_from_state_dict") == ["self", "state_dict"]
    assert arguments("ImageModelDescriptor", "__call__") == ["self", "image"]
    properties = {f for c, f in functions if c in ("ModelBase", "ImageModelDescriptor")}
    assert {"model", "architecture", "purpose"} <= properties and ("Architecture", "name") in functions
    given = set(arguments("ModelBase", "__init__"))
    assert {"supports_half", "scale", "input_channels", "output_channels"} <= given
    call = ast.unparse(functions["ImageModelDescriptor", "__call__"])
    assert "pad_tensor(image, self.size_requirements)" in call and "clamp_(0, 1)" in call
    assert "Literal['SR', 'FaceSR', 'Restoration']" in ast.unparse(functions["ImageModelDescriptor", "purpose"])
