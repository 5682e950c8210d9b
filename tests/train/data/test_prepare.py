"""Pictures and videos into a pack: what is taken, what is left out and why, and packs that are not whole."""

from __future__ import annotations

import errno
import hashlib
import json
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.media import BT601, BT709
from train.__main__ import main
from train.data import pack as pack_module
from train.data import prepare as prepare_module
from train.data.crops import choose_crops
from train.data.pack import CROP, Pack, encode_png, weight_of
from train.data.pictures import (
    TOO_LARGE,
    Unusable,
    duplicates,
    look_at,
    place_of,
    place_of_frame,
    quiet_pillow,
    read_picture,
    split_of,
)


def picture(seed: int, height: int = 520, width: int = 520) -> np.ndarray:
    """Flat shapes with dark outlines, uint8 RGB."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), rng.integers(100, 256, 3), np.uint8)
    for _ in range(60):
        center = int(rng.integers(0, width)), int(rng.integers(0, height))
        radius = int(rng.integers(10, 60))
        cv2.circle(pixels, center, radius, tuple(int(v) for v in rng.integers(0, 256, 3)), -1)
        cv2.circle(pixels, center, radius, (20, 10, 30), 4)
    return pixels


def encoded(pixels: np.ndarray, format: str = "PNG", mode: str | None = None, **options) -> bytes:
    """pixels: of whatever type Pillow makes an image of."""
    image = Image.fromarray(pixels)
    file = BytesIO()
    (image.convert(mode) if mode else image).save(file, format, **options)
    return file.getvalue()


def read(content: bytes) -> np.ndarray:
    with quiet_pillow():
        return read_picture(content, 32)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["prepare", *map(str, arguments)])


def failure(result: Result) -> str:
    """The message of a run that ended with exit code 1 and one line."""
    assert result.exit_code == 1, result.output
    lines = result.output.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("Error: "), result.output
    return lines[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures in two folders, and every kind of file that is to be left out."""
    path = tmp_path_factory.mktemp("made") / "stills"
    for seed in range(10):
        file = path / ("cats" if seed % 2 else "dogs") / f"{seed}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(picture(seed)))
    (path / "cats" / "cut.jpg").write_bytes(encoded(picture(20), "JPEG")[:9000])
    (path / "cats" / "none.webp").write_bytes(b"")
    (path / "cats" / "small.png").write_bytes(encode_png(picture(21, 520, 500)))
    (path / "cats" / "flat.png").write_bytes(encode_png(np.full((520, 520, 3), 200, np.uint8)))
    again = cv2.resize(picture(3), (560, 560), interpolation=cv2.INTER_CUBIC)
    (path / "dogs" / "again.jpg").write_bytes(encoded(again, "JPEG", quality=60))
    (path / "dogs" / "same.png").write_bytes((path / "dogs" / "4.png").read_bytes())
    (path / "notes.txt").write_text("no picture")
    (path / ".hidden.png").write_bytes(encode_png(picture(22)))
    return path


@pytest.fixture(scope="module")
def made(folder: Path) -> tuple[Path, Result]:
    """A pack of `folder` and what was said."""
    out = folder.parent / "pack"
    return out, run(folder, "--out", out, "--validation", 0.3, "--test", 0.2)


def test_each_picture_left_out_is_counted_by_its_reason(made):
    out, result = made
    assert result.exit_code == 0, result.output
    manifest = Pack.open(out, verify=True).manifest
    assert manifest["rejected"] == {"unreadable": 2, "too small": 1, "near-flat": 1, "duplicate": 2}
    assert "stills/cats/cut.jpg" in result.output and "stills/cats/none.webp (empty" in result.output
    rejected = {one["path"]: one["detail"] for one in manifest["rejected_pictures"]}
    assert rejected["stills/cats/small.png"] == "500x520"
    assert rejected["stills/cats/3.png"] == "of stills/dogs/again.jpg"  # the larger stays
    assert rejected["stills/dogs/same.png"] == "of stills/dogs/4.png"  # of equal ones the first by path
    assert len(manifest["pictures"]) == 10
    assert str(out.parent) not in json.dumps(manifest)
    assert not list(out.parent.glob("*.part"))


def test_pictures_are_on_the_side_their_content_says_and_lossless(made, folder):
    out, _ = made
    pack = Pack.open(out)
    for entry in pack.manifest["pictures"]:
        digest = hashlib.sha256((folder.parent / entry["path"]).read_bytes())
        assert entry["sha256"] == digest.hexdigest()
        assert entry["split"] == split_of(place_of(digest.digest()), 0.3, 0.2)
    whole = pack.pictures("validation") + pack.pictures("test")
    assert len(whole) + sum(entry["split"] == "train" for entry in pack.manifest["pictures"]) == 10
    for one in (one for one in whole if one.path.endswith(".png")):
        np.testing.assert_array_equal(one.pixels, picture(int(Path(one.path).stem)))


def test_crops_are_those_of_their_picture(made):
    out, _ = made
    pack = Pack.open(out)
    shards, index, odds = pack.train_crops()
    assert index.shape == (sum(shard["crops"] for shard in pack.manifest["shards"]), 2)
    assert odds.shape == index.shape[:1] and odds.sum() == pytest.approx(1)
    entry = next(e for e in pack.manifest["pictures"] if e["split"] == "train" and e["path"].endswith(".png"))
    source = picture(int(Path(entry["path"]).stem))
    places = choose_crops(source, "many", 4)
    assert len(entry["crops"]) == len(places) >= 1
    for (shard, row), place in zip(entry["crops"], places):
        expected = source[place.top : place.top + CROP, place.left : place.left + CROP]
        np.testing.assert_array_equal(shards[shard][row], expected)


def test_weights_choose_pictures_by_folder_and_name(made):
    out, _ = made
    pack = Pack.open(out)
    per_picture = {e["path"]: len(e["crops"]) for e in pack.manifest["pictures"] if e["split"] == "train"}
    cats = sum(number for path, number in per_picture.items() if "/cats/" in path)
    _, index, odds = pack.train_crops((("cats", 3.0),))
    assert 0 < cats < len(index) and len(index) == sum(per_picture.values())
    assert np.sort(odds)[-cats:] == pytest.approx(3 / (3 * cats + len(index) - cats))
    assert len(pack.train_crops((("dogs/*", 0.0),))[1]) == cats
    with pytest.raises(ValueError, match="--weight above 0"):
        pack.train_crops((("*", 0.0),))
    assert pack.pictures("validation", (("stills", 0.0),)) == []
    assert weight_of("a/b/c.png", (("x", 2.0), ("b/c.png", 3.0), ("a", 4.0))) == 3.0


def test_the_same_again_gives_the_same_pack(made, folder, tmp_path):
    assert run(folder, "--out", tmp_path / "p", "--validation", 0.3, "--test", 0.2).exit_code == 0
    assert Pack.open(tmp_path / "p").digest == Pack.open(made[0]).digest


def test_the_seed_preset_takes_centre_crops_and_what_is_given_beside_it_counts(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(prepare_module._LIMITS, "train", 4)
    result = run(folder, "--out", tmp_path / "p", "--preset", "seed", "--validation", 0.3)
    assert result.exit_code == 0, result.output
    manifest = Pack.open(tmp_path / "p").manifest
    assert manifest["options"]["crops"] == "centre" and manifest["options"]["validation"] == 0.3
    train = [entry for entry in manifest["pictures"] if entry["split"] == "train"]
    assert len(train) == 4 and manifest["rejected"]["more than the preset takes"] >= 1
    left_out = {one["path"] for one in manifest["rejected_pictures"] if one["reason"].startswith("more")}

    def place(path: str) -> float:
        return place_of(hashlib.sha256((folder.parent / path).read_bytes()).digest())

    assert max(place(entry["path"]) for entry in train) < min(map(place, left_out))
    entry = next(entry for entry in train if entry["path"].endswith(".png"))
    ((shard, row),) = entry["crops"]
    crop = Pack.open(tmp_path / "p").train_crops()[0][shard][row]
    np.testing.assert_array_equal(crop, picture(int(Path(entry["path"]).stem))[68:452, 68:452])


# ---- one picture ----------------------------------------------------------------------------------------------------

SMALL = picture(1, 40, 60)


def test_gray_and_palette_and_cmyk_become_rgb():
    gray = cv2.cvtColor(SMALL, cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(read(encoded(gray)), np.repeat(gray[:, :, None], 3, axis=2))
    palette = read(encoded(SMALL, mode="P"))
    assert palette.shape == SMALL.shape and np.abs(palette.astype(int) - SMALL).mean() < 60
    # CMYK as Pillow makes it has no black: C = 255 - R.
    np.testing.assert_array_equal(read(encoded(SMALL, "TIFF", "CMYK")), SMALL)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(format):
    deep = np.linspace(0, 65535, 40 * 60).astype(np.uint16).reshape(40, 60)
    found = read(encoded(deep, format))
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found[:, :, 1], deep / 257, atol=0.51)


def test_transparent_areas_are_white():
    alpha = np.zeros((40, 60, 1), np.uint8)
    alpha[:, 30:] = 255
    found = read(encoded(np.dstack([SMALL, alpha])))
    assert (found[:, :30] == 255).all()
    np.testing.assert_array_equal(found[:, 30:], SMALL[:, 30:])


def test_of_an_animation_the_first_frame_counts():
    file = BytesIO()
    black, white = (Image.new("RGB", (60, 40), color) for color in ("black", "white"))
    black.save(file, "GIF", save_all=True, append_images=[white])
    assert read(file.getvalue()).max() == 0


def test_the_orientation_in_exif_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    np.testing.assert_array_equal(read(encoded(SMALL, exif=exif)), np.rot90(SMALL, -1))


def test_a_decompression_bomb_is_too_large(monkeypatch):
    for limit in (2000, 1000):  # above it Pillow warns, above twice as much it raises
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(Unusable) as caught:
            read(encoded(SMALL))
        assert caught.value.reason == TOO_LARGE


@pytest.mark.parametrize("content", [b"", b"not a picture", encoded(SMALL)[:200], encoded(SMALL, "JPEG")[:400]])
def test_damaged_files_are_unreadable(content):
    with pytest.raises(Unusable) as caught:
        read(content)
    assert caught.value.reason == "unreadable" and "\n" not in caught.value.detail


# ---- choices --------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32), st.floats(0, 0.4), st.floats(0, 0.4))
def test_the_split_depends_on_the_content_and_only_grows(digest, validation, test):
    place = place_of(digest)
    assert 0 <= place <= 1
    if split_of(place, validation, test) == "validation":
        assert split_of(place, validation + 0.1, test) == "validation"
    assert split_of(place, 0, 0) == "train"
    assert split_of(place, validation, 1) != "train" or place == 1
    # As the pictures that were kept out of training from the beginning.
    assert (split_of(place, validation, test) == "validation") == (
        int.from_bytes(digest[:8], "big") / 2**64 < validation
    )


def test_frames_of_a_minute_share_a_side_and_minutes_differ():
    digest = hashlib.sha256(b"episode").digest()
    assert place_of_frame(digest, 60.0) == place_of_frame(digest, 119.9) != place_of_frame(digest, 120.0)


def test_a_copy_is_a_duplicate_and_another_expression_is_not():
    original = picture(7)
    copy = cv2.resize(original, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_LINEAR)
    copy = np.asarray(Image.open(BytesIO(encoded(copy, "JPEG", quality=50))))
    smiling = original.copy()
    cv2.ellipse(smiling, (260, 260), (14, 8), 0, 0, 360, (255, 255, 255), -1)
    cv2.ellipse(smiling, (260, 276), (14, 8), 0, 0, 360, (0, 0, 0), -1)
    looks = [look_at(pixels) for pixels in (original, copy, smiling, picture(8))]
    assert duplicates(looks) == {1: 0}


def test_the_richest_crops_are_taken_and_hardly_overlap():
    pixels = np.full((700, 1200, 3), 128, np.uint8)
    pixels[100:400, 50:350] = picture(1, 300, 300)
    pixels[300:600, 850:1150] = picture(2, 300, 300)
    crops = choose_crops(pixels, "many", 4)
    assert {crop.reduced for crop in crops} == {1}
    assert any(crop.left <= 50 for crop in crops) and any(crop.left + CROP >= 1150 for crop in crops)
    for i, a in enumerate(crops):
        for b in crops[:i]:
            shared = max(0, CROP - abs(a.top - b.top)) * max(0, CROP - abs(a.left - b.left))
            assert shared <= CROP * CROP / 2
    assert len(choose_crops(pixels, "many", 1)) == 1
    assert choose_crops(np.full_like(pixels, 9), "many", 4) == []


def test_large_pictures_also_give_crops_at_half_their_size():
    pixels = picture(3, 800, 800)
    crops = choose_crops(pixels, "many", 4)
    assert sorted(crop.reduced for crop in crops)[-1] == 2 and crops[0].reduced == 1
    half = next(crop for crop in crops if crop.reduced == 2)
    expected = pixels.reshape(400, 2, 400, 2, 3).mean((1, 3))[half.top :, half.left :][:CROP, :CROP]
    np.testing.assert_allclose(half.cut(pixels), expected, atol=0.51)


# ---- videos ---------------------------------------------------------------------------------------------------------


def write_video(path: Path, pictures: list[np.ndarray], each: int, color: dict[str, int]) -> None:
    """`pictures` for `each` frames, 4 frames a second, the first of them blurred; H.264 4:4:4."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=4, options={"crf": "1", "preset": "ultrafast"})
        height, width = pictures[0].shape[:2]
        context = stream.codec_context
        context.width, context.height, context.pix_fmt, context.time_base = width, height, "yuv444p", Fraction(1, 4)
        for name, value in color.items():
            setattr(context, name, value)
        for number in range(len(pictures) * each):
            pixels = pictures[number // each]
            if number % each == 0:
                pixels = cv2.GaussianBlur(pixels, (0, 0), 5)
            frame = av.VideoFrame(width, height, "yuv444p")
            for plane, samples in zip(frame.planes, _yuv(pixels, color is BT709)):
                rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
                rows[:height, :width] = samples
            frame.pts, frame.time_base = number, Fraction(1, 4)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _yuv(pixels: np.ndarray, hd: bool) -> list[np.ndarray]:
    kr, kb = (0.2126, 0.0722) if hd else (0.299, 0.114)
    red, green, blue = np.moveaxis(pixels / 255, 2, 0)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    planes = 16 + 219 * luma, 128 + 112 * (blue - luma) / (1 - kb), 128 + 112 * (red - luma) / (1 - kr)
    return [np.round(plane).astype(np.uint8) for plane in planes]


@pytest.mark.parametrize("color", [BT601, BT709], ids=["bt601", "bt709"])
def test_a_video_gives_its_sharp_and_distinct_frames_in_their_colours(tmp_path, color):
    shown = [picture(30), picture(30), picture(31)]
    write_video(tmp_path / "episode.mkv", shown, 4, color)
    result = run(tmp_path / "episode.mkv", "--out", tmp_path / "p", "--every", "1s", "--crops", "centre",
                 "--validation", 0, "--test", 0)  # fmt: skip
    assert result.exit_code == 0, result.output
    pack = Pack.open(tmp_path / "p", verify=True)
    entries = pack.manifest["pictures"]
    assert [int(entry["seconds"]) for entry in entries] == [0, 2]  # the one of second 1 shows the same as that of 0
    assert all(entry["seconds"] % 1 for entry in entries)  # not the blurred ones
    assert [entry["path"].rpartition("/")[0] for entry in entries] == ["episode.mkv"] * 2
    assert not (tmp_path / "p" / "frames").exists()
    for entry, seed in zip(entries, (30, 31)):
        ((shard, row),) = entry["crops"]
        crop = pack.train_crops()[0][shard][row].astype(int)
        assert np.abs(crop - picture(seed)[68:452, 68:452]).mean() < 3


def test_small_and_broken_videos_are_counted_beside_the_rest(folder, tmp_path):
    (tmp_path / "sd").mkdir()
    write_video(tmp_path / "sd" / "dvd.mkv", [picture(1, 480, 640)], 2, BT601)
    (tmp_path / "sd" / "broken.mp4").write_bytes(b"no video")
    result = run(tmp_path / "sd", folder, "--out", tmp_path / "p", "--crops", "centre")
    assert result.exit_code == 0, result.output
    assert "sd/dvd.mkv (video, 640x480)" in result.output and "sd/broken.mp4 (not a media file" in result.output


# ---- what cannot be made, and what cannot be used -------------------------------------------------------------------


def test_nothing_usable_is_one_line(tmp_path):
    empty, small, broken = (tmp_path / name for name in ("empty", "small", "broken"))
    for path in (empty, small, broken):
        path.mkdir()
    out = tmp_path / "p"
    assert "no picture or video there" in failure(run(empty, "--out", out))
    (empty / "notes.txt").write_text("x")
    assert "1 other files" in failure(run(empty, "--out", out))
    assert "neither folder" in failure(run(empty / "notes.txt", "--out", out))
    (small / "a.png").write_bytes(encode_png(SMALL))
    assert "none of 1 pictures has both sides >= 512 px (small/a.png: 60x40)" in failure(run(small, "--out", out))
    (broken / "a.png").write_bytes(b"x")
    assert "none of 1 pictures can be read" in failure(run(broken, "--out", out))
    assert "1 too small" in failure(run(small, broken, "--out", out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "empty", "small"]


def test_every_picture_on_the_other_sides_is_one_line(tmp_path):
    (tmp_path / "one.png").write_bytes(encode_png(picture(1)))
    result = run(tmp_path / "one.png", "--out", tmp_path / "p", "--validation", 0.5, "--test", 0.49999)
    assert "belong to validation and test" in failure(result)


@pytest.mark.parametrize("arguments", [("--every", "0s"), ("--every", "soon"), ("--min-side", 100), ("--test", 1)])
def test_options_that_mean_nothing_are_refused(folder, tmp_path, arguments):
    assert run(folder, "--out", tmp_path / "p", *arguments).exit_code == 2


def test_a_pack_is_replaced_only_when_asked_and_other_folders_never(folder, tmp_path):
    (tmp_path / "one.png").write_bytes(encode_png(picture(1)))
    out = tmp_path / "p"
    options = ("--out", out, "--crops", "centre", "--validation", 0, "--test", 0)
    assert run(tmp_path / "one.png", *options).exit_code == 0
    before = Pack.open(out).digest
    assert "--replace" in failure(run(folder, *options))
    assert Pack.open(out).digest == before
    assert run(folder, *options, "--replace").exit_code == 0
    assert Pack.open(out).digest != before
    assert "is no pack" in failure(run(tmp_path / "one.png", "--out", folder, "--replace"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "p"]


def test_a_full_disk_leaves_an_old_pack_and_nothing_else(folder, tmp_path, monkeypatch):
    (tmp_path / "one.png").write_bytes(encode_png(picture(1)))
    out = tmp_path / "p"
    options = (tmp_path / "one.png", "--out", out, "--crops", "centre", "--validation", 0, "--test", 0)
    assert run(*options).exit_code == 0

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pack_module.np, "save", full)
    assert "the disk is full" in failure(run(*options, "--replace"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "p"]
    Pack.open(out, verify=True)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    (tmp_path / "one.png").write_bytes(encode_png(picture(1)))
    assert run(tmp_path / "one.png", "--out", tmp_path / "p", "--validation", 0, "--test", 0).exit_code == 0
    return tmp_path / "p"


def test_packs_that_are_none_are_refused_with_the_cure(pack):
    with pytest.raises(ValueError, match=r"no pack there.*python -m train prepare"):
        Pack.open(pack.parent / "elsewhere")
    manifest = pack / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(ValueError, match=r"format 99, expected 1.*--replace"):
        Pack.open(pack)
    manifest.write_text("{")
    with pytest.raises(ValueError, match=r"damaged.*--replace"):
        Pack.open(pack)


def test_a_shard_cut_short_altered_or_missing_is_named(pack):
    shard = pack / "train-000.npy"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    Pack.open(pack)
    with pytest.raises(ValueError, match=r"train-000\.npy: its content has changed"):
        Pack.open(pack, verify=True)
    shard.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"train-000\.npy: got \d+ bytes, expected"):
        Pack.open(pack)
    shard.unlink()
    with pytest.raises(ValueError, match=r"train-000\.npy: missing"):
        Pack.open(pack)
