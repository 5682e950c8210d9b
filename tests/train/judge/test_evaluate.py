"""Measuring generators: metrics by hand, the pairs, the table and JSON of a whole run, strips."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torchmetrics.functional.image import structural_similarity_index_measure

from tests.media import write_episode
from tests.packs import picture
from train.__main__ import main
from train.data.pack import Pack, PackWriter
from train.degrade.recipe import upscale_bicubic
from train.judge import sources
from train.judge.evaluate import Record, judge, summary, table
from train.judge.metrics import psnr, ssim
from train.judge.sources import Method, Pair, as_pixels, as_tensor, enlarge, evenly, load_methods, picture_pairs, shrink
from train.judge.strips import richest, strip
from train.judge.validation import PERFECT, Validation, measure
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import save_generator


def interpolating() -> Compact:
    """A generator whose convolutions do nothing: bilinear interpolation is left."""
    generator = Compact(8, 1)
    torch.nn.init.zeros_(generator.body[-1].weight)  # type: ignore[arg-type]
    return generator.eval()


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("pack")
    writer = PackWriter(folder)
    writer.add_whole("validation", "0", picture(0, 420, 448), path="stills/one/0.png")
    writer.add_whole("validation", "1", picture(1, 392, 400), path="stills/two/1.png")
    writer.add_whole("test", "2", picture(2, 200, 260), path="stills/one/2.png")
    writer.add_whole("test", "3", picture(3, 160, 240), path="stills/two/3.png")
    flat = picture(4, 200, 200)
    flat[20:180, 20:180] = 90
    writer.add_whole("test", "4", flat, path="stills/two/4.png")
    writer.finish()
    return Pack.open(folder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_generator(interpolating(), path, {})
    return path


def test_psnr_of_a_constant_offset() -> None:
    a = torch.full((2, 3, 16, 16), 0.5)
    b = a + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert psnr(a, b).tolist() == pytest.approx([20, 40], abs=1e-4)
    assert psnr(a, a).tolist() == [math.inf, math.inf]


def test_ssim_of_flat_pictures_is_the_luminance_term() -> None:
    # Without any structure only (2 ab + c1) / (a^2 + b^2 + c1) is left.
    flat = ssim(torch.full((1, 3, 16, 16), 0.5), torch.full((1, 3, 16, 16), 0.25)).item()
    assert flat == pytest.approx((0.25 + 1e-4) / (0.3125 + 1e-4), rel=1e-6)


def test_ssim_is_torchmetrics_inside_the_picture() -> None:
    a, b = (as_tensor(picture(seed, 60, 72)) for seed in (0, 1))
    b = (a + b) / 2
    _, whole = structural_similarity_index_measure(
        a.double(), b.double(), data_range=1.0, reduction="none", return_full_image=True
    )
    assert ssim(a, b).item() == pytest.approx(whole[..., 5:-5, 5:-5].mean().item(), abs=3e-5)
    assert ssim(a, a).item() == pytest.approx(1)


def test_measure_takes_the_mean_of_pictures_rounded_to_8_bits() -> None:
    highres = torch.cat([as_tensor(picture(seed, 64, 64)) for seed in range(3)])
    lowres = torch.cat([as_tensor(shrink(as_pixels(high[None]))) for high in highres])
    by_hand = psnr((upscale_bicubic(lowres) * 255).round() / 255, highres).mean().item()
    assert measure(None, lowres, highres, batch=2)["psnr"] == pytest.approx(by_hand, abs=6e-4)
    # Bilinear interpolation of a flat picture is perfect, and infinity would spoil every mean.
    assert measure(interpolating(), torch.full((1, 3, 8, 8), 0.2), torch.full((1, 3, 32, 32), 0.2)) == {
        "psnr": PERFECT, "ssim": 1.0,
    }  # fmt: skip


def test_large_pictures_are_enlarged_in_pieces_of_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    generator = Compact(8, 2).eval()
    lowres = as_tensor(shrink(picture(5, 160, 240)))
    whole = enlarge(generator, lowres)
    monkeypatch.setattr(sources, "_TILE", 16)
    pieces = enlarge(generator, lowres)
    assert whole.shape == (1, 3, 160, 240)
    assert (whole - pieces).abs().max() <= 1.01 / 255


def test_validation_pairs_are_fixed_and_aligned(pack: Pack) -> None:
    validation = Validation.of_pack(pack, (), "video")
    again = Validation.of_pack(pack, (), "video")
    for name in ("none", "video", "worn"):
        lowres, highres = validation.pairs[name]
        assert lowres.shape == (2, 3, 96, 96) and highres.shape == (2, 3, 384, 384)
        assert torch.equal(lowres, again.pairs[name][0])
        assert validation.bicubic[name] == measure(None, lowres, highres)
        assert psnr(upscale_bicubic(lowres), highres).min() > 15
    # The second picture is too small for a margin: its centre itself.
    pixels = pack.pictures("validation")[1].pixels
    assert np.array_equal(as_pixels(validation.pairs["none"][1][1:]), pixels[4:388, 8:392])
    found = validation.measure(interpolating())
    assert found.keys() == {"none", "video", "worn"}
    assert found["none"]["psnr"] < validation.bicubic["none"]["psnr"]
    shown = validation.strip(interpolating())
    assert shown.dtype == np.uint8 and shown.ndim == 3 and shown.shape[1] > 3 * 320
    assert Validation.of_pack(pack, (), "none").bicubic.keys() == {"none"}


def test_validation_without_pictures_is_refused(pack: Pack) -> None:
    with pytest.raises(ValueError, match="no validation picture"):
        Validation.of_pack(pack, (("*", 0.0),), "none")


def test_centres_are_scaled_down_by_themselves_when_clean_and_cut_out_when_compressed() -> None:
    pixels = picture(6, 200, 264)
    crop = pixels[36:164, 68:196]
    compressed = np.full((50, 66, 3), 128, np.uint8)
    clean, _ = judge(Pair("a", "none", shrink(pixels), pixels), [Method("Bicubic")], "cpu")
    grey, pictures = judge(Pair("a", "video", compressed, pixels), [Method("Bicubic")], "cpu")
    expected = measure(None, as_tensor(shrink(crop)), as_tensor(crop))
    assert [record.region for record in clean] == ["whole", "centre"]
    assert clean[1].psnr == pytest.approx(expected["psnr"], abs=6e-4)
    assert clean[1].ssim == pytest.approx(expected["ssim"], abs=6e-5)
    mean_squared = ((crop / 255 - 128 / 255) ** 2).mean()
    assert grey[1].psnr == pytest.approx(-10 * math.log10(mean_squared), abs=1e-3)
    assert pictures["Bicubic"].shape == pixels.shape and (pictures["Bicubic"] == 128).all()


def test_summary_and_table_by_hand() -> None:
    records = [
        Record("a", "none", "whole", "Bicubic", 20.0, 0.8), Record("a", "none", "whole", "mine", 23.0, 0.9),
        Record("b", "none", "whole", "Bicubic", 30.0, 0.9), Record("b", "none", "whole", "mine", 30.0, 0.9),
    ]  # fmt: skip
    found = summary(records)
    assert found["none"]["whole"]["mine"] == {
        "psnr": 26.5, "psnr_gain": 1.5, "ssim": 0.9, "ssim_gain": 0.05, "pictures": 2,
    }  # fmt: skip
    assert "| mine | 26.50 | +1.50 | 0.9000 | +0.0500 |" in table(found).splitlines()


def test_run_from_the_command_line(pack: Pack, weights: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights.read_bytes()[:-10])
    write_episode(tmp_path / "low.mkv", frames=13)
    write_episode(tmp_path / "high.mkv", frames=13, size=(256, 192))
    out = tmp_path / "out"
    arguments = [
        str(weights), f"other={weights}", str(broken), "--pack", str(pack.folder), "--out", str(out), "--strips", "2",
        "--video", f"{tmp_path / 'low.mkv'}={tmp_path / 'high.mkv'}",
    ]  # fmt: skip
    result = CliRunner().invoke(main, ["evaluate", *arguments])
    assert result.exit_code == 1 and f"{broken}: not a safetensors file" in result.output
    found = json.loads((out / "metrics.json").read_text())
    assert found["pack"]["digest"] == pack.digest and found["failed"].keys() == {"broken"}
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert {name: data["sha256"] for name, data in found["methods"].items()} == {
        "Bicubic": "", "tiny": digest, "other": digest,
    }  # fmt: skip
    assert found["summary"]["none"]["centre"]["tiny"]["pictures"] == 2  # the flat centre of the third does not count
    assert found["summary"]["video"]["whole"]["tiny"]["pictures"] == 3
    assert found["summary"]["worn"]["whole"]["tiny"]["pictures"] == 3
    assert found["summary"]["low.mkv"]["whole"]["tiny"]["pictures"] == 2
    assert found["summary"]["low.mkv"]["whole"]["Bicubic"]["psnr"] > 15
    first = next(pair for pair in picture_pairs(pack.pictures("test"), "none"))
    by_hand = measure(None, as_tensor(first.lowres), as_tensor(first.highres))["psnr"]
    (record,) = (
        r for r in found["pictures"] if (r["picture"], r["source"], r["region"], r["method"])
        == ("stills/one/2.png", "none", "whole", "Bicubic")
    )  # fmt: skip
    assert record["psnr"] == pytest.approx(by_hand, abs=1e-3)
    markdown = (out / "table.md").read_text()
    assert markdown in result.output
    assert [line.split(" | ")[0] for line in markdown.splitlines()[4:7]] == ["| Bicubic", "| tiny", "| other"]
    assert sorted(path.name for path in (out / "strips").iterdir()) == [
        "01-one-2-clean.png", "01-one-2-compressed.png", "01-one-2-worn.png", "02-two-4-clean.png",
        "02-two-4-compressed.png", "02-two-4-worn.png", "video-low.png",
    ]  # fmt: skip
    clean = [*arguments[:1], *arguments[3:7], "--strips", "0", "--degrade", "none"]
    again = CliRunner().invoke(main, ["evaluate", *clean])
    assert again.exit_code == 0, again.output
    assert not list((out / "strips").iterdir()) and "Compressed" not in again.output


@pytest.mark.parametrize(
    ("frames", "size", "message"),
    [(13, (128, 96), "128x96, expected 256x192"), (20, (256, 192), "ends after 13 frames")],
)
def test_another_video_is_refused(
    pack: Pack, weights: Path, tmp_path: Path, frames: int, size: tuple[int, int], message: str
) -> None:
    write_episode(tmp_path / "low.mkv", frames=13)
    write_episode(tmp_path / "high.mkv", frames=frames, size=size)
    result = CliRunner().invoke(main, ["evaluate",
        str(weights), "--pack", str(pack.folder), "--out", str(tmp_path / "out"), "--degrade", "none",
        "--video", f"{tmp_path / 'low.mkv'}={tmp_path / 'high.mkv'}",
    ])  # fmt: skip
    assert result.exit_code == 1 and message in result.output


def test_methods_are_named_by_their_run(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("fast", "mine"):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "generator.safetensors").write_bytes(weights.read_bytes())
    methods, failed = load_methods((), "cpu")
    names = [method.name for method in methods]
    assert names[:2] == ["fast", "mine"] and "fast (installed)" in names and not failed
    result = CliRunner().invoke(main, ["evaluate", "fast", "runs/fast/generator.safetensors"])
    assert result.exit_code == 2 and "two methods are called 'fast'" in result.output


def test_weights_that_cannot_be_judged(tmp_path: Path) -> None:
    save_generator(Compact(8, 1, scale=2), tmp_path / "double.safetensors", {})
    diverged = interpolating()
    torch.nn.init.constant_(diverged.body[0].weight, math.nan)  # type: ignore[arg-type]
    save_generator(diverged, tmp_path / "diverged.safetensors", {})
    methods, failed = load_methods([str(path) for path in sorted(tmp_path.iterdir())] + ["unheard-of"], "cpu")
    assert not methods
    assert "enlarges 2 times, expected 4" in failed["double"]
    assert "NaN" in failed["diverged"] and "unknown model" in failed["unheard-of"]
    result = CliRunner().invoke(main, ["evaluate", str(tmp_path / "double.safetensors")])
    assert result.exit_code == 1 and "none of the weights" in result.output


def test_evenly() -> None:
    assert evenly(10, 2) == [2, 7]
    assert evenly(3, 10) == [0, 1, 2]
    assert evenly(0, 4) == []


def test_richest_crop_has_the_lines() -> None:
    pixels = np.full((200, 300, 3), 200, np.uint8)
    pixels[:100, :150] = np.random.default_rng(0).integers(195, 206, (100, 150, 3))  # noise is no line
    pixels[:, 250:] = 20  # nor is an edge
    for offset in range(0, 60, 12):
        cv2.line(pixels, (160 + offset, 120), (180 + offset, 180), (30, 30, 30), 3)
    rows, columns = richest(pixels, 80)
    assert rows.start % 4 == columns.start % 4 == 0 and rows.stop - rows.start == 80
    assert rows.start <= 120 and rows.stop >= 180 and columns.start <= 164 and columns.stop >= 230
    assert pixels[richest(pixels, 250)].shape == (200, 250, 3)


def test_strip_enlarges_labels_and_wraps() -> None:
    pictures = [("a name", np.full((160, 160, 3), 10 * index, np.uint8)) for index in range(8)]
    one = strip(pictures[:2])
    assert one.shape[1] == 2 * 320 + 4 and (one[-320:, :320] == 0).all() and (one[-320:, -320:] == 10).all()
    label = one[:-320, :320]
    assert (label < 100).any() and (label[:, -80:] == 255).all()
    wrapped = strip(pictures)
    assert wrapped.shape[1] <= 2000 and wrapped.shape[0] == 2 * one.shape[0] + 4
    assert (wrapped[-1, -1] == 70).all()
    long = strip([("x" * 200, pictures[0][1])])
    assert long.shape == one[:, :320].shape
