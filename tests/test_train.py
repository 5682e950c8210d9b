"""The trainer: metrics, degradations, the split, and runs of a few steps on pictures made here."""

from __future__ import annotations

import dataclasses
import math
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from train import resnet
from train.__main__ import main
from train.degrade import Compression, compress, degrade_window, downscale, to_rgb, to_yuv420, upscale_bicubic
from train.evaluate import evaluate
from train.metrics import psnr, ssim
from train.resnet import NotFinite, Options, train
from train.stills import Still, Stills, is_validation, load_stills
from train.warmstart import start_as_interpolation
from vidsr.checkpoint import load_generator
from vidsr.models import SRResNet


def picture(seed: int, size: int = 448) -> np.ndarray:
    """Flat shapes with dark outlines, [size, size, 3] uint8."""
    rng = np.random.default_rng(seed)
    pixels = np.full((size, size, 3), rng.integers(100, 256, 3), np.uint8)
    for _ in range(40):
        center = tuple(int(v) for v in rng.integers(0, size, 2))
        radius = int(rng.integers(10, 60))
        cv2.circle(pixels, center, radius, tuple(int(v) for v in rng.integers(0, 256, 3)), -1)
        cv2.circle(pixels, center, radius, (20, 10, 30), 4, cv2.LINE_AA)
    return pixels


def tensor_of(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, some on either side of the split."""
    path = tmp_path_factory.mktemp("stills")
    (path / "few").mkdir()
    kept = {True: 0, False: 0}
    for seed in range(400):
        content = cv2.imencode(".png", picture(seed, 424))[1].tobytes()
        side = is_validation(content)
        if kept[side] < (3 if side else 9):
            kept[side] += 1
            (path / ("few" if seed % 2 else ".") / f"{seed}.png").write_bytes(content)
        if kept == {True: 3, False: 9}:
            break
    return path


@pytest.fixture
def options(folder: Path, tmp_path: Path) -> Options:
    return Options(
        stills=str(folder), out=str(tmp_path / "run"), generator="compact", channels=8, layers=2,
        batch=2, crop=48, rate=1e-3, steps=10, bf16=False, metadata={"name": "tiny"},
    )  # fmt: skip


def test_psnr_of_a_constant_offset() -> None:
    a = torch.full((2, 3, 16, 16), 0.5)
    b = a + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert psnr(a, b).tolist() == pytest.approx([20, 40], abs=1e-4)
    assert psnr(a, a).tolist() == [math.inf, math.inf]


def test_ssim_known_values() -> None:
    a, b = tensor_of(picture(0))[None], tensor_of(picture(1))[None]
    assert ssim(a, a).item() == pytest.approx(1)
    assert ssim(a, b).item() == pytest.approx(ssim(b, a).item())
    assert ssim(a, b).item() < 0.9
    # Without any structure only the luminance term is left: (2 ab + c1) / (a^2 + b^2 + c1).
    flat = ssim(torch.full((1, 3, 16, 16), 0.5), torch.full((1, 3, 16, 16), 0.25)).item()
    assert flat == pytest.approx((0.25 + 1e-4) / (0.3125 + 1e-4), rel=1e-6)


def test_downscale_shape_and_mean() -> None:
    highres = tensor_of(picture(2))[None]
    lowres = downscale(highres)
    assert lowres.shape == (1, 3, 112, 112)
    assert lowres.mean().item() == pytest.approx(highres.mean().item(), abs=2e-3)
    assert psnr(upscale_bicubic(lowres), highres).item() > 20


def test_colour_round_trip_is_left_sited() -> None:
    ramp = torch.linspace(0.2, 0.8, 64)
    rgb = torch.stack([ramp.expand(64, 64), ramp.flip(0).expand(64, 64), torch.full((64, 64), 0.5)])
    for mode in ("bilinear", "bicubic"):
        error = (to_rgb(to_yuv420(rgb), mode) - rgb)[:, 2:-2, 2:-2]
        assert error.abs().max().item() < 2 / 255
        assert error.mean().abs().item() < 0.2 / 255  # a misplaced chroma would lean to one side


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video", "mpeg4"])
def test_compression_changes_pixels_in_place(codec: str) -> None:
    lowres = downscale(tensor_of(picture(3))[None])[0]
    planes = to_yuv420(lowres)
    coarse = compress([planes] * 2, Compression(codec, 28 if codec.startswith("lib") else 8, 2, 1))
    fine = compress([planes] * 2, Compression(codec, 14 if codec.startswith("lib") else 2, 2, 1))
    clean = to_rgb(planes)[None]
    quality = [psnr(to_rgb(result)[None], clean).item() for result in (coarse, fine)]
    assert 20 < quality[0] < quality[1] < 60
    for shift in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        assert psnr(to_rgb(coarse)[None], clean.roll(shift, (2, 3))).item() < quality[0]


def test_degradation_is_decided_by_the_seed_and_stays_aligned() -> None:
    window = picture(4, 420)
    seen = set()
    for seed in range(12):
        highres, lowres = degrade_window(window, 384, np.random.default_rng(seed))
        again = degrade_window(window, 384, np.random.default_rng(seed))
        assert np.array_equal(lowres, again[1]) and np.array_equal(highres, again[0])
        assert highres.shape == (384, 384, 3) and lowres.shape == (96, 96, 3)
        assert psnr(downscale(tensor_of(highres)[None]), tensor_of(lowres)[None]).item() > 20
        seen.add(lowres.tobytes())
    assert len(seen) > 6


def test_split_is_stable(folder: Path) -> None:
    splits = {name: {still.path for still in load_stills(folder, name).stills} for name in ("train", "validation")}
    assert len(splits["train"]) == 9 and len(splits["validation"]) == 3
    moved = next(folder.rglob("*.png"))
    content = moved.read_bytes()
    before = is_validation(content)
    moved.rename(moved.with_name("renamed.png"))
    after = {still.path for still in load_stills(folder, "validation" if before else "train").stills}
    moved.with_name("renamed.png").rename(moved)
    assert any(path.endswith("renamed.png") for path in after)
    shares = [is_validation(bytes([i % 256, i // 256])) for i in range(4000)]
    assert 0.03 < np.mean(shares) < 0.07


def test_weights_leave_pictures_out(folder: Path) -> None:
    everything = load_stills(folder, "train")
    some = load_stills(folder, "train", (("few", 0.0),))
    assert 0 < len(some) < len(everything)
    assert not any(still.path.startswith("few/") for still in some.stills)
    with pytest.raises(ValueError, match="no stills"):
        load_stills(folder, "train", (("*", 0.0),))


def test_draw_prefers_detail() -> None:
    half = picture(5)
    half[:, :224] = 255
    rng = np.random.default_rng(0)
    stills = Stills([Still("made", half, 1.0)])
    flat = sum(stills.draw(rng, 48).std() < 1 for _ in range(50))
    assert flat <= 6


def test_warm_start_is_an_interpolation() -> None:
    torch.manual_seed(0)
    generator = SRResNet(2)
    start_as_interpolation(generator)
    lowres = downscale(tensor_of(picture(6, 192))[None])
    with torch.no_grad():
        result = generator.eval()(lowres)
    expected = torch.nn.functional.interpolate(lowres, scale_factor=4, mode="bilinear")
    # The border differs: convolutions pad with zeros.
    assert psnr(result[:, :, 32:-32, 32:-32], expected[:, :, 32:-32, 32:-32]).item() > 30


def test_ten_steps_write_weights(options: Options) -> None:
    weights = train(options)
    generator = load_generator(weights)
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    assert (metadata["name"], metadata["steps"], metadata["skip"]) == ("tiny", "10", "bilinear")
    assert generator(torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)


def test_resume_equals_an_uninterrupted_run(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dataclasses.replace(options, out=options.out + "-whole")
    train(whole)
    real, calls = resnet.update_average, 0

    def interrupting(*arguments: object) -> None:
        nonlocal calls
        real(*arguments)  # type: ignore[arg-type]
        calls += 1
        if calls == 4:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(resnet, "update_average", interrupting)
    with pytest.raises(SystemExit):
        train(options)
    monkeypatch.setattr(resnet, "update_average", real)
    train(options, resume=True)
    a, b = (torch.load(Path(run.out) / "checkpoint.pt", weights_only=True) for run in (whole, options))
    assert a["step"] == b["step"] == 10
    for part in ("generator", "average"):
        for key, value in a[part].items():
            assert torch.equal(value, b[part][key]), key


def test_nan_stops_and_keeps_the_checkpoint(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    train(options)
    checkpoint = Path(options.out) / "checkpoint.pt"
    before = checkpoint.read_bytes()
    monkeypatch.setitem(resnet.LOSSES, "l1", lambda a, b: (a - b).mean() * math.nan)
    with pytest.raises(NotFinite, match="step 10"):
        train(dataclasses.replace(options, steps=20), resume=True)
    assert checkpoint.read_bytes() == before


def test_video_run_and_evaluate_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = CliRunner().invoke(main, [
        "resnet", "--stills", str(folder), "--generator", "compact", "--channels", "8", "--layers", "1",
        "--degrade", "video", "--batch", "2", "--steps", "2", "--out", str(run),
    ])  # fmt: skip
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, ["evaluate", str(run / "generator.safetensors"), "--stills", str(folder)])
    assert result.exit_code == 0, result.output
    assert "compressed" in result.output and '"bicubic"' in result.output
    again = tmp_path / "again.safetensors"
    result = CliRunner().invoke(main, ["export", str(run), str(again), "--meta", "name=again"])
    assert result.exit_code == 0, result.output
    exported, first = load_generator(again).state_dict(), load_generator(run / "generator.safetensors").state_dict()
    assert all(torch.equal(value, first[key]) for key, value in exported.items())


def test_evaluate_counts_bicubic_of_the_same_lowres() -> None:
    highres = tensor_of(picture(7, 128))[None]
    lowres = downscale(highres)
    expected = psnr(upscale_bicubic(lowres), highres).item()
    assert evaluate(None, lowres, highres)["psnr"] == pytest.approx(expected, abs=0.05)
