"""8 bits by OpenVINO: near enough to float32, even where a picture is flat, and the same each time."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
import torch

from tests.running import ROOT
from tests.vidsr.backends.test_backends import compact, models, opened, picture, psnr, same, spec_for  # noqa: F401
from vidsr.backends import backend_kind, choose_backend, fallbacks, open_backend
from vidsr.backends.cpu import TorchBackend
from vidsr.backends.openvino import OpenVinoBackend, drawn_pictures, openvino_missing
from vidsr.backends.planes import cpu_has_bf16
from vidsr.color import from_rgb
from vidsr.errors import BackendError, UsageError
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import save_generator

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(openvino_missing() is not None, reason=openvino_missing() or ""),
]
WEIGHTS = ROOT / "vidsr" / "models" / "weights"
YUV = PixelFormat.from_name("yuv420p")


def both(model, **options):
    """The network in 8 bits, and in float32."""
    spec = spec_for("openvino", model=model, precision=None, **options)
    return open_backend(spec), open_backend(replace(spec, name="cpu", precision="fp32"))


def frames(pictures, format=YUV):
    """R'G'B' [N, 3, H, W] -> a batch."""
    planes = [from_rgb(one[None], format, ColorSpec("bt709")) for one in pictures]
    return FrameBatch(tuple(Frame(tuple(p[0].numpy() for p in each), 0, 1) for each in planes), format, ColorSpec())


@pytest.mark.parametrize("format", ["yuv420p", "yuv444p10le"])
@pytest.mark.parametrize("model", ["fast", "tiny"])
def test_near_float32_on_drawn_pictures(model, format):
    int8, fp32 = both(WEIGHTS / f"{model}.safetensors", format=format)
    batch = frames(drawn_pictures(seed=2), PixelFormat.from_name(format))
    assert psnr(int8(batch), fp32(batch), batch.format) >= 45


def test_flats_stay_flat():
    """No tint: not a code off in any colour, and as even as in float32. In 10 bits, where a code of 8 bits is four."""
    int8, fp32 = both(WEIGHTS / "fast.safetensors", format="yuv420p10le")
    grays = torch.linspace(0, 1, 9)[:, None].repeat(1, 3)
    colors = torch.cat([grays, torch.cartesian_prod(*[torch.linspace(0, 1, 3)] * 3)])
    batch = frames(colors[:, :, None, None].expand(-1, 3, 32, 32), int8.spec.source_format)
    off = []
    for ours, exact in zip(int8(batch).frames, fp32(batch).frames, strict=True):
        for p, q in zip(ours.planes, exact.planes, strict=True):
            edge = len(p) * 2 // 5  # what is nearer to the picture's edges depends on them
            p, q = (plane[edge:-edge, edge:-edge].astype(int) for plane in (p, q))
            off.append((p - q).mean())
            assert np.ptp(p) <= np.ptp(q) + 4
    assert np.abs(off).max() < 4 and abs(np.mean(off)) < 1


def test_slow_gradients_get_no_steps():
    int8, fp32 = both(WEIGHTS / "fast.safetensors")
    ramp = torch.linspace(0.3, 0.5, 192).expand(1, 3, 32, 192)
    ours, exact = (run(frames(ramp)).frames[0].planes[0].astype(int) for run in (int8, fp32))
    assert np.abs(ours - exact).max() <= 2
    assert np.abs(np.diff(ours, axis=1)).max() <= np.abs(np.diff(exact, axis=1)).max() + 1


@pytest.mark.parametrize("activation", ["prelu", "relu", "leaky_relu"])
def test_every_activation(activation):
    torch.manual_seed(3)
    generator = Compact(8, 2, activation=activation)
    batch = picture(YUV, 40, 32)
    exact = TorchBackend(generator, spec_for())(batch)
    assert psnr(OpenVinoBackend(generator, spec_for("openvino", precision=None))(batch), exact, YUV) >= 45


def test_tiles_do_not_show(models):  # noqa: F811
    batch = picture(YUV, 45, 38)
    whole, tiled = (opened(("openvino", "int8"), models, tile=tile)(batch) for tile in (None, 16))
    assert psnr(tiled, whole, YUV) >= 50


def test_threads_do_not_show(models):  # noqa: F811
    batch = picture(YUV, 45, 38)
    alone = opened(("openvino", "int8"), models)
    torch.set_num_threads(2)
    try:
        run = opened(("openvino", "int8"), models)
        assert "1 threads" in alone.description and "2 threads" in run.description
        assert same(run(batch), alone(batch))
    finally:
        torch.set_num_threads(1)


def test_the_same_in_another_process(models):  # noqa: F811
    """A run that goes on later: the same ranges, so the same network and the same bytes."""
    run = opened(("openvino", "int8"), models)
    settled = run.settle(45, 38)
    assert (settled["backend"], settled["precision"], settled["tile"]) == ("openvino", "int8", 0)
    code = (
        "import sys, hashlib; from tests.vidsr.backends.test_openvino import *\n"
        f"run = open_backend(spec_for('openvino', model={str(models['compact'])!r}, precision=None))\n"
        "print(run.settle(45, 38), digest(run))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == f"{settled} {digest(run)}"


def digest(run):
    return [int(plane.astype(np.int64).cumsum().sum()) for plane in run(picture(YUV, 45, 38)).frames[0].planes]


def test_settling_tells_networks_apart(models, tmp_path):  # noqa: F811
    torch.manual_seed(1)
    save_generator(Compact(16, 3), tmp_path / "other.safetensors", {})
    first, other = (
        open_backend(spec_for("openvino", model=path, precision=None)).settle(64, 48)
        for path in (models["compact"], tmp_path / "other.safetensors")
    )
    assert first.keys() == other.keys() and first["ranges"] != other["ranges"]


def spoilt(louder):
    """One channel so much louder than the rest, which the next layer makes up for, that 8 bits hold nothing else."""
    generator = compact()
    with torch.no_grad():
        generator.body[2].weight[0] *= louder
        generator.body[2].bias[0] *= louder
        generator.body[4].weight[:, 0] /= louder
    return generator


@pytest.mark.parametrize(
    ("louder", "reason"),
    [(3e3, r"spoilt loses too much in 8 bits \(.* dB.*\)"), (3e38, "the model's activations overflow")],
)
def test_what_bears_no_8_bits_goes_on_in_float(tmp_path, louder, reason):
    save_generator(spoilt(louder), tmp_path / "spoilt.safetensors", {})
    spec = spec_for("openvino", model=tmp_path / "spoilt.safetensors", precision=None)
    with pytest.raises(BackendError, match=rf"^openvino: {reason}; use --backend cpu, or --model fast or tiny$"):
        open_backend(spec)
    said = []
    run = open_backend(replace(spec, instead=("cpu",)), said.append)
    assert type(run) is TorchBackend and len(said) == 1 and said[0].endswith("going on with --backend cpu")


def test_other_architectures_are_refused(models):  # noqa: F811
    with pytest.raises(BackendError, match=r"^openvino: srresnet is no Compact.*use --backend cpu, or --model"):
        opened(("openvino", None), models, model="srresnet")


def test_what_an_uninstalled_one_left_behind_is_no_openvino(models, monkeypatch):  # noqa: F811
    empty = ModuleType("openvino")
    empty.__spec__ = ModuleSpec("openvino", None)
    monkeypatch.setitem(sys.modules, "openvino", empty)
    spec = replace(spec_for("openvino", model=models["compact"], precision=None), instead=("cpu",))
    said = []
    assert isinstance(open_backend(spec, said.append), TorchBackend)
    assert said[0].startswith("openvino: OpenVINO does not work here") and "--backend cpu" in said[0]


def test_other_precisions_are_refused(models):  # noqa: F811
    with pytest.raises(UsageError, match="precision fp32: OpenVINO runs int8; use --backend cpu for fp32"):
        opened(("openvino", "fp32"), models)
    with pytest.raises(UsageError, match="precision int8 is OpenVINO's: use --backend openvino"):
        opened(("cpu", "int8"), models)


def test_nobody_is_told(models, tmp_path):  # noqa: F811
    """OpenVINO's converter reports its import to Google Analytics, and keeps what for in ~/intel."""
    code = (
        "import sys; from tests.vidsr.backends.test_openvino import *\n"
        f"open_backend(spec_for('openvino', model={str(models['compact'])!r}, precision=None))\n"
        "assert 'openvino' in sys.modules; print([name for name in sys.modules if 'telemetry' in name])"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert done.stdout.strip() == "[]" and not (tmp_path / "intel").exists()


def test_bf16_comes_first_where_a_cpu_has_it():
    assert choose_backend(None, "int8") == "openvino"
    assert backend_kind("openvino").chosen_unasked is not cpu_has_bf16()
    assert fallbacks("openvino") == (() if cpu_has_bf16() else ("cpu",))


def test_what_is_missing_is_explained():
    """Without the package: one line, and another is chosen."""
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'openvino' else find(name, *rest)\n"
        "from vidsr.backends import choose_backend, why_not; print(why_not('openvino'), choose_backend() != 'openvino')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "openvino: OpenVINO is not installed: pip install 'vidsr[openvino]' True"
