"""The `video` degradation element by element, the codecs behind it, and line-aware targets."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator

import click
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.packs import picture
from train.degrade import codec
from train.degrade import recipe as degrade
from train.degrade.codec import CODECS, Compression, compress, to_rgb, to_yuv420, usable_codecs
from train.degrade.filters import FILTERS, gaussian, resize
from train.degrade.lines import sharpen_lines
from train.degrade.recipe import (
    MARGIN,
    Recipe,
    apply,
    downscale,
    draw,
    draw_good,
    draw_worn,
    upscale_bicubic,
)  # fmt: skip
from train.degrade.wear import Chroma, DotCrawl, Noise, Ringing, add_noise, band, crawl, lose_fields, move_chroma, weave
from train.judge.sources import SEED

SEEDS = st.integers(0, 2**32 - 1)


def tensor_of(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


def displacement(clean: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """By how many pixels (down, right) `moved` lies off: the least-squares fit of its difference to the slopes."""
    clean, difference = clean.astype(float)[..., 1], (clean.astype(float) - moved)[..., 1]
    slopes = np.stack([slope[4:-4, 4:-4].ravel() for slope in np.gradient(clean)], 1)
    return np.linalg.lstsq(slopes, difference[4:-4, 4:-4].ravel(), rcond=None)[0]


def lowres_of(recipe: Recipe, window: np.ndarray, margin: int = 0, seed: int = 0) -> np.ndarray:
    return apply(recipe, window, margin, np.random.default_rng(seed))[1]


@pytest.fixture
def fresh_codecs() -> Iterator[None]:
    """Encoders are tried anew in the test and once more after it."""
    usable_codecs.cache_clear()
    yield
    usable_codecs.cache_clear()


# --- bicubic ---


@pytest.mark.parametrize("size", [(96, 96), (384, 352), (60, 132)])
def test_bicubic_is_that_of_pil(size: tuple[int, int]) -> None:
    from PIL import Image

    hard = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (*size, 3))  # overshoots between the axes
    soft = np.ascontiguousarray(picture(1, 384)[: size[0], : size[1]])
    for pixels in (hard, soft):
        expected = np.asarray(Image.fromarray(pixels).resize((size[1] // 4, size[0] // 4), Image.Resampling.BICUBIC))
        plain = lowres_of(Recipe(), pixels)
        ours = (downscale(tensor_of(pixels)[None])[0] * 255).round().permute(1, 2, 0).numpy()
        assert plain.dtype == np.uint8 and plain.shape == expected.shape
        assert np.abs(plain.astype(int) - expected).max() <= 1
        assert np.abs(ours - expected).max() <= 1


def test_downscale_and_upscale_keep_shape_and_mean() -> None:
    highres = tensor_of(picture(2, 160))[None]
    lowres = downscale(highres)
    assert lowres.shape == (1, 3, 40, 40)
    assert lowres.mean().item() == pytest.approx(highres.mean().item(), abs=3e-3)
    upscaled = upscale_bicubic(lowres)
    assert upscaled.shape == highres.shape
    assert psnr(upscaled.numpy() * 255, highres.numpy() * 255) > 18


# --- each element ---


def test_blur_lowers_high_frequencies_where_it_is_asked_to() -> None:
    window = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)

    def roughness(sigma: tuple[float, float]) -> np.ndarray:
        pixels = lowres_of(Recipe(blur=sigma), window).astype(float)
        return np.array([np.abs(np.diff(pixels, axis=axis)).mean() for axis in (0, 1)])

    clean, little, much = roughness((0, 0)), roughness((0.3, 0.3)), roughness((0.8, 0.8))
    assert (much < 0.8 * little).all() and (little < 0.99 * clean).all()
    vertical = roughness((0.8, 0.0)) / clean
    assert vertical[0] < 0.8 * vertical[1]


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("size", [0.76, 0.9, 1.37, 2.0])
def test_resizing_keeps_everything_in_place(name: str, size: float) -> None:
    window = picture(3, 160)
    clean = lowres_of(Recipe(blur=(0.5, 0.5)), window)
    for recipe in (Recipe((0.5, 0.5), ((size, name),)), Recipe((0.5, 0.5), ((size, name), (1.2, "bilinear")), name)):
        resized = lowres_of(recipe, window)
        assert np.abs(displacement(clean, resized)).max() < 0.02
        assert psnr(clean, resized) > 23


def test_a_shift_would_be_noticed() -> None:
    window = picture(3, 160)
    clean = lowres_of(Recipe(blur=(0.5, 0.5)), window)
    moved = lowres_of(Recipe(blur=(0.5, 0.5)), np.roll(window, 1, 1))  # a quarter of a lowres pixel
    assert displacement(clean, moved) == pytest.approx([0, 0.25], abs=0.1)


@pytest.mark.parametrize("name", FILTERS)
def test_resizing_keeps_flat_areas_to_the_byte(name: str) -> None:
    flat = np.full((52, 60, 3), (3, 200, 255), np.uint8)
    for size in ((13, 15), (40, 31), (90, 77)):
        assert (resize(flat, size, name) == flat[0, 0]).all()


def test_lanczos_is_that_of_pil() -> None:
    from PIL import Image

    pixels = picture(4, 160) // 2 + 60  # PIL cuts overshoot between the axes
    for size in (40, 71, 200):
        expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(resize(pixels, (size, size), "lanczos") - expected).max() <= 2


def test_ringing_overshoots_on_both_sides_of_an_edge() -> None:
    window = np.full((96, 96, 3), 60, np.uint8)
    window[:, 48:] = 180
    clean = lowres_of(Recipe(filter="area"), window)
    assert clean.min() == 60 and clean.max() == 180
    for ringing in (Ringing(0.5, (0.8, 0.8)), Ringing(0.5, (0.0, 0.8)), Ringing(cutoff=0.8)):
        rung = lowres_of(Recipe(filter="area", ringing=ringing), window)
        assert rung.min() < 57 and rung.max() > 183
        assert (rung[:, :2] == 60).all() and (rung[:, -2:] == 180).all()  # far from the edge nothing happens
    along_rows = Recipe(filter="area", ringing=Ringing(0.5, (0.0, 0.8)))
    assert (lowres_of(along_rows, np.ascontiguousarray(window.transpose(1, 0, 2))) == clean.transpose(1, 0, 2)).all()


@pytest.mark.parametrize("noise", [Noise(3), Noise(6, luma=True), Noise(4, grain=0.7), Noise(2, luma=True, grain=0.5)])
def test_noise_has_the_sigma_asked_for(noise: Noise) -> None:
    window = np.full((400, 400, 3), 128, np.uint8)
    added = lowres_of(Recipe(noise=noise), window) - 128.0
    rounding = 1 / 12
    assert added.var() == pytest.approx(noise.sigma**2 + rounding, rel=0.1)
    assert added.mean() == pytest.approx(0, abs=0.2)
    assert (np.ptp(added, axis=2) == 0).all() == noise.luma
    neighbours = np.corrcoef(added[:, 1:, 0].ravel(), added[:, :-1, 0].ravel())[0, 1]
    assert neighbours > 0.15 if noise.grain else abs(neighbours) < 0.06


def test_noise_is_new_in_every_frame_of_a_hold() -> None:
    window = np.full((96, 96, 3), 128, np.uint8)
    first = Recipe(noise=Noise(4), chroma="bilinear", frames=2, pick=0)
    a, b = lowres_of(first, window), lowres_of(dataclasses.replace(first, pick=1), window)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.1


# --- 4:2:0 and the codecs ---


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_colour_round_trip_is_left_sited(mode: str) -> None:
    ramp = torch.linspace(0.2, 0.8, 64)
    rgb = torch.stack([ramp.expand(64, 64), ramp.flip(0).expand(64, 64), torch.full((64, 64), 0.5)])
    for oriented in (rgb, rgb.transpose(1, 2)):
        error = (to_rgb(to_yuv420(oriented), mode) - oriented)[:, 2:-2, 2:-2]
        assert error.abs().max().item() < 2 / 255
        assert error.mean().abs().item() < 0.2 / 255  # a misplaced chroma would lean to one side


@pytest.mark.parametrize("name", CODECS)
def test_each_codec_changes_pixels_in_place_and_silently(name: str, capfd: pytest.CaptureFixture) -> None:
    window = picture(5, 192)
    coarse, fine = (28, 14) if name.startswith("lib") else (8, 2)
    stored = Recipe(chroma="bilinear", frames=3, pick=2)
    clean = lowres_of(stored, window)
    results = [
        lowres_of(dataclasses.replace(stored, encodes=(Compression(name, quality),)), window)
        for quality in (coarse, fine)
    ]
    assert 20 < psnr(clean, results[0]) < psnr(clean, results[1]) < 55
    for shift in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        assert psnr(results[0], np.roll(clean, shift, (0, 1))) < psnr(results[0], clean)
    output = capfd.readouterr()
    assert output.out == output.err == ""


@pytest.mark.parametrize(
    "how",
    [Compression(c, 4, bframes=b) for c in ("mpeg2video", "mpeg4") for b in (1, 2)]
    + [Compression("libx264", 14, "medium"), Compression("libx265", 14, "veryfast")],
    ids=str,
)
def test_frames_come_back_in_the_order_they_went_in(how: Compression) -> None:  # fmt: skip
    frames = [to_yuv420(torch.full((3, 64, 64), level)) for level in (0.2, 0.5, 0.8)]
    levels = [planes[0].mean() for planes in compress(frames, how)]
    assert levels == pytest.approx([planes[0].mean() for planes in frames], abs=6)


@pytest.mark.parametrize("size", [32, 40, 64, 88])
@pytest.mark.parametrize("name", CODECS)
def test_small_pictures_are_encoded_the_same_every_time(name: str, size: int) -> None:
    # x265's output varied at 32 and 64 pixels, and its CU-tree broke the heap below 50.
    rng = np.random.default_rng(size)
    window = np.clip(picture(10, 4 * size + 2 * MARGIN) + rng.normal(0, 12, 3), 0, 255).astype(np.uint8)
    encodes = (Compression(name, 8),)
    recipe = Recipe(noise=Noise(4), chroma="bilinear", encodes=encodes, frames=3, pick=1, pan=(-3, 6))
    assert len({lowres_of(recipe, window, MARGIN).tobytes() for _ in range(6)}) == 1


@pytest.mark.usefixtures("fresh_codecs")
def test_a_missing_encoder_is_named_once_and_never_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(codec, "CODECS", ("libx264", "libnosuch"))
    monkeypatch.setitem(codec._ODDS, "libnosuch", 5.0)
    drawn = {encode.codec for seed in range(20) for encode in draw(np.random.default_rng(seed)).encodes}
    assert drawn == {"libx264"}
    assert capsys.readouterr().err == "this PyAV cannot encode with libnosuch: training goes on without it\n"


@pytest.mark.usefixtures("fresh_codecs")
def test_without_encoders_the_message_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "CODECS", ("libnosuch",))
    with pytest.raises(click.ClickException, match=r"libnosuch.*--degrade none"):
        usable_codecs()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(click.ClickException, match=r"PyAV.*pip install av"):
        usable_codecs()


# --- pairs ---


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from([0, MARGIN]))
def test_the_seed_decides_every_byte(seed: int, margin: int) -> None:
    window = picture(6, 128 + 2 * MARGIN)
    highres, lowres = degrade.degrade(window, margin, np.random.default_rng(seed))
    again = degrade.degrade(window, margin, np.random.default_rng(seed))
    assert np.array_equal(highres, again[0]) and np.array_equal(lowres, again[1])
    side = 160 - 2 * margin
    assert highres.dtype == lowres.dtype == np.uint8
    assert highres.shape == (side, side, 3) and lowres.shape == (side // 4, side // 4, 3)
    assert psnr(resize(np.ascontiguousarray(highres), lowres.shape[:2], "bicubic"), lowres) > 9


def test_pairs_differ_from_seed_to_seed() -> None:
    window = picture(6, 96)
    assert len({degrade.degrade(window, 0, np.random.default_rng(seed))[1].tobytes() for seed in range(12)}) > 7


def test_a_pan_moves_both_pictures_of_the_pair() -> None:
    window = picture(7, 128 + 2 * MARGIN)
    recipe = Recipe(chroma="bilinear", encodes=(Compression("libx264", 14),), frames=3, pick=2, pan=(4, -6))
    highres, lowres = apply(recipe, window, MARGIN, np.random.default_rng(0))
    assert np.array_equal(highres, window[MARGIN + 8 : MARGIN + 136, MARGIN - 12 : MARGIN + 116])
    clean = resize(np.ascontiguousarray(highres), (32, 32), "bicubic")
    assert psnr(clean, lowres) > max(psnr(np.roll(clean, by, 1), lowres) for by in (-3, -1, 1, 3))


def test_frames_of_a_scene_that_moves_are_encoded_together() -> None:
    scene = [picture(seed, 128 + 2 * MARGIN) for seed in (1, 2)]
    recipe = Recipe(chroma="bilinear", encodes=(Compression("libx264", 14),), frames=3)
    inside = slice(MARGIN, -MARGIN)
    for pick, shown in enumerate((0, 1, 1)):  # the last frame is held
        picked = dataclasses.replace(recipe, pick=pick)
        highres, lowres = apply(picked, scene, MARGIN, np.random.default_rng(0))
        assert np.array_equal(highres, scene[shown][inside, inside])
        crops = [np.ascontiguousarray(window[inside, inside]) for window in scene]
        own, other = (resize(crops[i], (32, 32), "bicubic") for i in (shown, 1 - shown))
        assert psnr(own, lowres) > psnr(other, lowres) + 6


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_without_a_margin_nothing_pans(seed: int) -> None:
    window = picture(8, 96)
    recipe = dataclasses.replace(draw(np.random.default_rng(seed)), frames=3, pick=2, pan=(6, 6))
    assert np.array_equal(apply(recipe, window, 0, np.random.default_rng(seed))[0], window)


def test_odd_lowres_sizes_are_stored_too() -> None:
    recipe = Recipe(chroma="bicubic", encodes=(Compression("libx264", 20),))
    assert lowres_of(recipe, picture(9, 160)[:100, :92]).shape == (25, 23, 3)


@pytest.mark.parametrize("margin", [-4, 1, MARGIN - 1])
def test_margins_too_small_for_a_pan_are_refused(margin: int) -> None:
    with pytest.raises(ValueError, match="at least 16"):
        apply(Recipe(), picture(0, 128), margin, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(126, 128), (128, 130), (0, 4)])
def test_crops_that_four_does_not_divide_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        apply(Recipe(), np.zeros((*shape, 3), np.uint8), 0, np.random.default_rng(0))


def changed(recipe: Recipe, *names: str) -> bool:
    return any(getattr(recipe, name) != getattr(Recipe(), name) for name in names)


GOOD = {"blur": 0.20, "chain": 0.19, "ringing": 0.17, "noise": 0.19, "encodes": 0.74, "chroma": 0.83}
WORN = {
    "blur": 0.92, "chain": 0.45, "ringing": 0.50, "noise": 0.40, "encodes": 0.95, "chroma": 1.0, "stored": 0.21,
    "bits": 0.12, "fields": 0.08, "colour": 0.34, "dots": 0.06,
}  # fmt: skip
ALL = {
    "blur": 0.62, "chain": 0.34, "ringing": 0.36, "noise": 0.31, "encodes": 0.84, "stored": 0.13, "bits": 0.07,
    "fields": 0.05, "colour": 0.21, "dots": 0.04,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "odds", "plain", "twice"),
    [(draw_good, GOOD, 0.17, 0.08), (draw_worn, WORN, 0, 0.60), (draw, ALL, 0.10, 0.39)],
)
def test_odds_are_those_written_down(kind, odds: dict[str, float], plain: float, twice: float) -> None:
    recipes = [kind(np.random.default_rng([3, seed])) for seed in range(3000)]
    shares = {name: np.mean([changed(recipe, name) for recipe in recipes]) for name in odds}
    assert shares == pytest.approx(odds, abs=0.03)
    assert np.mean([recipe == Recipe() for recipe in recipes]) == pytest.approx(plain, abs=0.03)
    assert np.mean([len(recipe.encodes) == 2 for recipe in recipes]) == pytest.approx(twice, abs=0.03)
    for recipe in recipes:
        assert 0 <= recipe.pick < recipe.frames <= 3 and max(map(abs, recipe.pan)) * (recipe.frames - 1) <= MARGIN
        assert bool(recipe.chroma) or not recipe.encodes
    drawn = {encode.codec for recipe in recipes for encode in recipe.encodes}
    assert drawn == set(usable_codecs())


def test_strengths_are_those_written_down() -> None:
    good = [draw_good(np.random.default_rng([4, seed])) for seed in range(1500)]
    worn = [draw_worn(np.random.default_rng([4, seed])) for seed in range(1500)]
    compressed = [recipe for recipe in good if recipe.encodes]
    alone = [recipe for recipe in compressed if not changed(recipe, "blur", "chain", "ringing", "noise")]
    assert len(alone) / len(good) == pytest.approx(0.25, abs=0.03)
    for recipes, blur, sizes, noise in ((good, (0.2, 0.7), (0.75, 2), 6), (worn, (0.3, 1.4), (0.5, 1.71), 16)):
        for recipe in recipes:
            assert recipe.blur == (0, 0) or (blur[0] <= recipe.blur[1] <= blur[1] and recipe.blur[0] >= 0.12)
            assert all(sizes[0] < size <= sizes[1] for size, _ in recipe.chain)
            assert recipe.noise is None or 1 <= recipe.noise.sigma <= noise
    limits = {"libx264": (17, 36), "libx265": (20, 38), "mpeg2video": (2, 12), "mpeg4": (2, 12)}
    for name, (least, most) in limits.items():
        found = {e.quality for recipe in worn for e in recipe.encodes if e.codec == name}
        assert not found or (least <= min(found) and max(found) <= most)
    assert not [r for r in worn if len(r.encodes) == 2 and r.encodes[0].codec == "libx265"]
    assert {r.encodes[0].codec for r in good if len(r.encodes) == 2} <= {"mpeg2video"}


# Of the first pictures that judges degrade: filter, frames, the frame picked, pan, number of encodes.
JUDGED = [
    ("bicubic", 2, 0, (2, 1), 1), ("bicubic", 1, 0, (0, 0), 1), ("bilinear", 1, 0, (-4, -5), 1),
    ("bicubic", 2, 0, (2, -1), 1), ("bicubic", 1, 0, (0, 0), 0), ("bicubic", 2, 1, (2, -1), 1),
]  # fmt: skip


@pytest.mark.skipif(usable_codecs() != CODECS, reason="PyAV lacks an encoder, so that others are drawn")
def test_what_judges_saw_before_is_what_they_see_now() -> None:
    # The tables of docs/evaluation.md were measured on these; another draw would make them worthless.
    recipes = [draw_good(np.random.default_rng([SEED, index])) for index in range(len(JUDGED))]
    assert [(r.filter, r.frames, r.pick, r.pan, len(r.encodes)) for r in recipes] == JUDGED


# --- wear ---


def planes_of(pixels: np.ndarray):
    return to_yuv420(tensor_of(pixels))


def test_gradients_become_steps_and_white_stays_white() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert np.array_equal(band(ramp, 8), ramp)
    for bits in (6, 7):
        banded = band(ramp, bits)
        assert len(np.unique(banded)) == 2**bits and banded.min() == 0 and banded.max() == 255
        assert np.abs(banded.astype(int) - ramp).max() <= 256 / 2**bits / 2 + 1


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(0, 1), st.integers(0, 1))
def test_lost_fields_touch_every_second_row_only(seed: int, share: float, first: int) -> None:
    pixels = picture(seed, 40)
    lost = lose_fields(pixels, share, first)
    assert np.array_equal(lost[1 - first :: 2], pixels[1 - first :: 2])
    if share == 1:
        between = (pixels[0:-2:2].astype(int) + pixels[2::2]) / 2
        assert np.abs(lose_fields(pixels, 1, 1)[1:-1:2] - between).max() <= 0.5
    flat = np.full((8, 8, 3), 77, np.uint8)
    assert np.array_equal(lose_fields(flat, share, first), flat)


def test_woven_rows_are_those_of_the_next_frame() -> None:
    now, then = picture(1, 40), picture(2, 40)
    woven = weave(now, then, 1.0, 1)
    assert np.array_equal(woven[0::2], now[0::2]) and np.array_equal(woven[1::2], then[1::2])


def test_a_pan_with_lost_fields_has_combs_and_a_hold_has_none() -> None:
    window = picture(7, 128 + 2 * MARGIN)
    moving = Recipe(fields=1.0, first_field=1, frames=2, pick=0, pan=(0, 6))

    def combs(lowres: np.ndarray) -> float:
        rows = lowres[..., 1].astype(float)
        return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())

    def lowres(**changes) -> np.ndarray:
        return lowres_of(dataclasses.replace(moving, **changes), window, MARGIN)

    assert combs(lowres()) > 1.2 * combs(lowres(fields=0.0))
    assert combs(lowres(pan=(0, 0))) < combs(lowres(pan=(0, 0), fields=0.0))


def test_dark_noise_spares_what_is_bright() -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 64:] = 250
    noisy = add_noise(np.maximum(pixels, 40), Noise(10, dark=True), np.random.default_rng(0)).astype(float)
    assert noisy[:, :64].std() > 4 and noisy[:, 64:].std() < 0.5


def test_colour_moves_and_bleeds_while_luma_keeps_every_byte() -> None:
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[:, 32:] = (200, 60, 60)
    planes = planes_of(pixels)
    assert move_chroma(planes, None) is planes
    moved = move_chroma(planes, Chroma((0.0, 2.0)))
    assert np.array_equal(moved[0], planes[0])
    assert np.array_equal(moved[2][:, 1:], planes[2][:, :-1])  # two pixels are one sample
    bled = move_chroma(planes, Chroma(bleed=1.5))
    assert np.array_equal(bled[0], planes[0])
    assert len(np.unique(bled[2][0])) > len(np.unique(planes[2][0])) and np.ptp(bled[2], axis=0).max() == 0


def test_dots_crawl_along_colour_edges_only() -> None:
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[:, 32:] = (200, 60, 60)
    planes = planes_of(pixels)
    first, second = (crawl(planes, DotCrawl(0.5), frame) for frame in (0, 1))
    changed_columns = np.flatnonzero((first[0] != planes[0]).any(axis=0))
    assert len(changed_columns) and changed_columns.min() > 20 and changed_columns.max() < 44
    assert not np.array_equal(first[0], second[0]) and np.array_equal(first[1], planes[1])
    # Half a period from row to row and from frame to frame: what is added to one is taken from the other.
    added = first[0].astype(int) - planes[0]
    assert np.abs(added[0] + added[1]).max() <= 1 and np.abs(added + (second[0].astype(int) - planes[0])).max() <= 1


def test_a_picture_stored_at_another_size_stays_in_place() -> None:
    window = picture(5, 256)
    for stored in (0.72, 1.37):
        recipe = Recipe(chroma="bilinear", stored=stored, encodes=(Compression("libx264", 12),) * 2)
        lowres = lowres_of(recipe, window)
        clean = resize(window, (64, 64), "bicubic")
        assert lowres.shape == clean.shape
        assert np.abs(displacement(gaussian(clean, 1, 1), gaussian(lowres, 1, 1))).max() < 0.1


# --- line-aware targets ---


def test_lines_get_darker_and_thinner_and_nothing_else_changes() -> None:
    ramp = torch.linspace(0.4, 0.9, 128).expand(1, 3, 128, 128).clone()
    ramp[..., 70:] = 0.7
    highres = ramp.clone()
    profile = torch.tensor([0.55, 0.35, 0.2, 0.35, 0.55])  # a soft dark line, 5 pixels wide
    highres[..., 60:65, 80:120] = profile[:, None]
    sharpened = sharpen_lines(highres)
    assert sharpened.shape == highres.shape and sharpened.dtype == highres.dtype
    line, before = sharpened[0, 0, 60:65, 100], highres[0, 0, 60:65, 100]
    assert line[2] < before[2] - 0.02  # darker
    assert (0.7 - line).sum() / (0.7 - line).max() < (0.7 - before).sum() / (0.7 - before).max()  # thinner
    unchanged = (sharpened == highres).all(1)[0]
    assert unchanged[:56].all() and unchanged[69:].all() and unchanged[:, :76].all()


@settings(max_examples=8, deadline=None)
@given(SEEDS)
def test_lines_leave_no_halo(seed: int) -> None:
    highres = torch.stack([tensor_of(picture(seed, 64)), torch.rand(3, 64, 64, generator=torch.manual_seed(seed))])
    sharpened = sharpen_lines(highres)
    assert (sharpened <= torch.nn.functional.max_pool2d(highres, 3, 1, 1)).all()
    assert sharpened.min() >= 0 and not torch.equal(sharpened, highres)
    alone = sharpen_lines(highres[:1])[0]
    assert torch.allclose(alone, sharpened[0], atol=1e-6)  # a batch is so many pictures


def test_broad_shapes_are_no_lines() -> None:
    highres = torch.full((1, 3, 64, 64), 0.8)
    highres[..., 20:44, 20:44] = 0.2
    assert torch.equal(sharpen_lines(highres), highres)
