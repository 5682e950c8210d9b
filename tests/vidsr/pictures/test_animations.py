"""Animations: read as viewers show them, written again with their times, and the same to every other program."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vidsr
from tests.running import quick
from tests.running import vidsr as command
from tests.vidsr.pictures.drawn import deep, near, scene, shown
from vidsr.pictures.base import PNG, Page, PictureInfo, kind_of
from vidsr.pictures.read import look, pictures
from vidsr.pictures.write import write

QUICK = {"backend": "nearest", "scale": 2}
ODD = (0, 1, 10, 3, 50, 2)  # hundredths of a second


def animated(path, frames, hundredths=ODD, plays=3, **more):
    """Written by ourselves, which the tests below compare with what others read."""
    height, width, channels = frames[0].shape
    page = Page(width, height, channels, 8 * frames[0].itemsize)
    seconds = tuple(Fraction(hundredths[i % len(hundredths)], 100) for i in range(len(frames)))
    info = PictureInfo(path, kind_of(path), (page,) * len(frames), seconds, plays, **more)
    write(info, ([frame] for frame in frames), replace=True)
    return path


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_pillow_and_opencv_see_what_was_written(tmp_path, suffix):
    frames = [scene(number) for number in (0, 1, 1, 3, 4, 0)]  # one is there twice
    path = animated(tmp_path / f"a{suffix}", frames)
    levels = 3 if suffix == ".gif" else 0
    with Image.open(path) as image:
        assert image.n_frames == 6 and image.info["loop"] == (2 if suffix == ".gif" else 3)
        times = []
        for number, frame in enumerate(frames):
            image.seek(number)
            assert near(np.array(image.convert("RGBA")), frame, levels)
            times.append(image.info["duration"])
    assert times == [10 * time for time in ODD]
    _, found = cv2.imreadanimation(str(path))
    assert list(found.durations) == times and found.loop_count == 3
    for frame, other in zip(frames, found.frames, strict=True):
        assert near(cv2.cvtColor(other, cv2.COLOR_BGRA2RGBA), frame, levels)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
@pytest.mark.parametrize("plays", [0, 1, 5])
def test_an_animation_stays_one(tmp_path, suffix, plays):
    frames = [scene(number) for number in range(4)]
    source = animated(tmp_path / f"a{suffix}", frames, plays=plays)
    output = vidsr.upscale_picture(source, **QUICK)
    assert output == tmp_path / f"a.2x{suffix}"
    before, after = look(source), look(output)
    assert after.kind is before.kind and after.seconds == before.seconds and after.plays == plays
    for small, large in zip(pictures(before), pictures(after), strict=True):
        assert large.shape == (72, 96, 4) and near(large, small.repeat(2, 0).repeat(2, 1), 1)
    assert vidsr.verify(source, output, scale=2).passed


@given(
    st.lists(st.lists(st.sampled_from([0, 0, 1, 2, 3]), min_size=12, max_size=12), min_size=2, max_size=6),
    st.sampled_from([".gif", ".png", ".webp"]),
)
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read_whatever_covers_and_uncovers(tmp_path_factory, drawn, suffix):
    colors = np.array([[0, 0, 0, 0], [255, 0, 0, 255], [0, 200, 0, 255], [9, 9, 99, 255]], np.uint8)
    frames = [colors[np.array(numbers).reshape(3, 4)] for numbers in drawn]
    path = animated(tmp_path_factory.mktemp("any") / f"a{suffix}", frames)
    found = list(pictures(look(path)))
    assert all(near(a, b, 0) for a, b in zip(found, frames, strict=True))
    with Image.open(path) as image:
        for number, frame in enumerate(frames):
            image.seek(number)
            assert near(np.array(image.convert("RGBA")), frame, 0)


# ---- what others write ----------------------------------------------------------------------------------------------


def gif(width, height, *frames, trailer=b";", loops=b""):
    """A GIF by hand. frames: (x, y, indices [H, W], after, transparent index or None, delay)."""
    colors = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0])
    data = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x91, 0, 0) + colors + loops
    for x, y, indices, after, clear, delay in frames:
        one = BytesIO()
        image = Image.fromarray(np.array(indices, np.uint8), "P")
        image.putpalette(colors)
        image.save(one, "GIF", optimize=False)
        at = one.getvalue().index(b",")
        body = one.getvalue()[at:-1]
        while body[9] & 0x80:
            body = body[:9] + b"\0" + body[10 + (3 << (body[9] & 7) + 1) :]
        packed = after << 2 | (clear is not None)
        data += b"\x21\xf9\4" + struct.pack("<BHB", packed, delay, clear or 0) + b"\0"
        data += b"," + struct.pack("<HH", x, y) + body[5:]
    return data + trailer


def test_disposal_is_what_browsers_do(tmp_path):
    red, green, blue = np.array([255, 0, 0, 255]), np.array([0, 255, 0, 255]), np.array([0, 0, 255, 255])
    path = tmp_path / "a.gif"
    path.write_bytes(gif(
        4, 2, (0, 0, [[0] * 4] * 2, 1, None, 5), (1, 0, [[1, 1]], 2, None, 5), (3, 1, [[2]], 3, None, 5),
        (0, 0, [[3, 1]], 0, 3, 5),
    ))  # fmt: skip
    first, second, third, fourth = pictures(look(path))
    assert (first == red).all()
    assert (second[0, 1:3] == green).all() and (second[1] == red).all() and (second[0, [0, 3]] == red).all()
    assert (third[0, 1:3, 3] == 0).all() and (third[1, 3] == blue).all()  # cleared, not black
    assert (fourth[1, 3] == red).all() and (fourth[0, 1] == green).all() and (fourth[0, 0] == red).all()
    assert fourth[0, 2, 3] == 0


def test_pictures_that_reach_beyond_are_cut_and_it_is_said(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(gif(4, 2, (0, 0, [[0] * 4] * 2, 1, None, 5), (3, 1, [[1] * 9] * 7, 1, None, 5)))
    said = []
    output = vidsr.upscale_picture(path, told=said.append, **QUICK)
    assert any("1 of its pictures reach beyond 4x2" in line for line in said)
    last = list(pictures(look(output)))[-1]
    assert last.shape[:2] == (4, 8) and (last[2:, 6:, 1] == 255).all() and (last[:2, :, 0] == 255).all()


def test_an_animation_of_one_picture_is_a_still(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(gif(4, 2, (0, 0, [[0, 1, 2, 0]] * 2, 1, None, 5)))
    assert not look(path).animated
    assert np.array(Image.open(vidsr.upscale_picture(path, tmp_path / "b.png", **QUICK))).shape == (4, 8, 3)
    assert not look(vidsr.upscale_picture(path, **QUICK)).animated


def test_an_apng_keeps_the_picture_for_those_who_know_no_animation(tmp_path):
    frames = [scene(number) for number in range(3)]
    Image.fromarray(scene(9)).save(
        tmp_path / "a.png", save_all=True, append_images=[*map(Image.fromarray, frames)], default_image=True,
        duration=[30, 40, 50],
    )  # fmt: skip
    output = vidsr.upscale_picture(tmp_path / "a.png", **QUICK)
    found = look(output)
    assert found.default and found.seconds == (Fraction(3, 100), Fraction(1, 25), Fraction(1, 20))
    assert near(cv2.cvtColor(cv2.imread(str(output), -1), cv2.COLOR_BGRA2RGBA), scene(9).repeat(2, 0).repeat(2, 1), 0)
    said = []
    other = vidsr.upscale_picture(tmp_path / "a.png", tmp_path / "b.webp", told=said.append, **QUICK)
    assert len(look(other).pages) == 3 and any("without animation is left out" in line for line in said)


def test_an_apng_of_16_bits_and_one_of_gray_stay_so(tmp_path):
    frames = [deep(scene(number)) for number in range(3)]
    output = vidsr.upscale_picture(animated(tmp_path / "deep.png", frames), **QUICK)
    found = list(pictures(look(output)))
    for one, frame in zip(found, frames, strict=True):
        large = frame.repeat(2, 0).repeat(2, 1)
        assert (one == large)[large[:, :, 3] > 3].all()
    gray = [scene(number, clear=False)[:, :, :1] for number in range(3)]
    assert look(vidsr.upscale_picture(animated(tmp_path / "gray.png", gray), **QUICK)).pages[0].channels == 1


def test_from_one_kind_to_another(tmp_path):
    frames = [scene(number) for number in range(3)]
    source = animated(tmp_path / "a.gif", frames, plays=4)
    for name in ("b.webp", "b.png"):
        said = []
        found = look(vidsr.upscale_picture(source, tmp_path / name, told=said.append, **QUICK))
        assert found.plays == 4 and found.seconds == look(source).seconds and not said
    fast = animated(tmp_path / "fast.png", frames * 10, plays=0)
    fine = PictureInfo(fast, PNG, (Page(48, 36, 4),) * 30, (Fraction(1, 30),) * 30)
    write(fine, ([frame] for frame in frames * 10), replace=True)
    said = []
    slow = look(vidsr.upscale_picture(fast, tmp_path / "c.gif", told=said.append, **QUICK))
    assert sum(slow.seconds) == 1 and any("rounded to 0.01 s" in line for line in said)
    for name, kind in (("d.jpg", "JPEG"), ("d.tif", "TIFF")):
        with pytest.raises(vidsr.UsageError, match=rf"{kind} holds no animation: use \.png, \.webp or \.gif"):
            vidsr.upscale_picture(source, tmp_path / name, **QUICK)


def test_still_areas_of_a_gif_stay_still(tmp_path):
    """With more colours than a palette has, so that they are dithered."""
    y, x = np.mgrid[0:64, 0:96]
    frames = []
    for number in range(4):
        frame = np.stack([x * 2.6, y * 4, (x + y) * 1.5, np.full_like(x, 255)], 2).astype(np.uint8)
        frame[:, number * 8 : number * 8 + 8] = [number * 60, 30, 255 - number * 60, 255]
        frames.append(frame)
    output = vidsr.upscale_picture(animated(tmp_path / "a.png", frames), tmp_path / "a.gif", **QUICK)
    found = list(pictures(look(output)))
    assert len(np.unique(found[0].reshape(-1, found[0].shape[2]), axis=0)) > 200
    assert all((one[:, 70:] == found[0][:, 70:]).all() for one in found)
    assert near(found[0], frames[0].repeat(2, 0).repeat(2, 1), 6)


def test_a_gif_of_few_colours_keeps_them_to_the_bit(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(gif(4, 2, (0, 0, [[0, 1, 2, 3]] * 2, 1, None, 5), (1, 0, [[2, 2]], 1, None, 5)))
    for small, large in zip(pictures(look(path)), pictures(look(vidsr.upscale_picture(path, **QUICK))), strict=True):
        assert near(large, small.repeat(2, 0).repeat(2, 1), 0)


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
def test_animations_that_are_cut_off(tmp_path, suffix, share):
    path = animated(tmp_path / f"a{suffix}", [scene(number) for number in range(4)])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(vidsr.SourceError, match=rf"^\S+a\{suffix}: .*copy or download it again$"):
        vidsr.upscale_picture(path, **QUICK)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_damage_is_an_error_or_nothing_but_no_crash(tmp_path, suffix):
    path = animated(tmp_path / f"a{suffix}", [scene(number) for number in range(3)])
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.integers(6, len(data), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(data.tobytes())
        try:
            list(pictures(look(path)))
        except vidsr.SourceError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_gigantic_claims_are_refused(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(gif(65535, 65535, (0, 0, [[0]], 1, None, 5), (0, 0, [[1]], 1, None, 5)))
    with pytest.raises(vidsr.SourceError, match=r"claims 65535x65535.*decompression bomb"):
        vidsr.upscale_picture(path, **QUICK)
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    packed = (struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in chunks)
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    with pytest.raises(vidsr.SourceError, match=r"claims 100000x100000.*decompression bomb"):
        vidsr.upscale_picture(tmp_path / "b.png", **QUICK)


def test_no_picture_in_it(tmp_path):
    (tmp_path / "a.gif").write_bytes(gif(4, 4))
    with pytest.raises(vidsr.SourceError, match="holds no picture"):
        vidsr.upscale_picture(tmp_path / "a.gif", **QUICK)


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_keeps_the_kind_and_makes_a_video_where_that_is_asked_for(tmp_path):
    source = animated(tmp_path / "a.gif", [scene(number, clear=False) for number in range(6)], plays=0)
    done = quick(source)
    assert done.returncode == 0 and done.stdout.strip() == str(tmp_path / "a.2x.gif"), done.stderr
    done = command(source, "-o", tmp_path / "a.mkv", "--model", "tiny", "--scale", 2)
    assert done.returncode == 0, done.stderr
    assert vidsr.probe(tmp_path / "a.mkv").video.width == 96
    webp = animated(tmp_path / "a.webp", [scene(number) for number in range(3)])
    done = quick(webp, "-o", tmp_path / "b.mkv")
    assert done.returncode == 2 and "end -o in .webp or .png" in done.stderr
    with pytest.raises(vidsr.UsageError, match=r"no video is made of an animated WebP"):
        vidsr.stream(webp, 1, **QUICK)


def test_probe_says_what_is_in_an_animation(tmp_path):
    path = animated(tmp_path / "a.gif", [scene(number) for number in range(6)], plays=0)
    done = command("probe", path)
    assert "GIF, 48x36, colour with transparency, 8 bit" in done.stdout
    assert "animation: 6 pictures in 0.660 s, shown for ever" in done.stdout and "256 colours" in done.stdout


# ---- the proof ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["times", "plays", "pictures", "pixels", "transparency", "size"])
def test_the_proof_finds_what_is_wrong(tmp_path, wrong):
    frames = [scene(number) for number in range(4)]
    source = animated(tmp_path / "a.webp", frames)
    large = [frame.repeat(2, 0).repeat(2, 1) for frame in frames]
    assert vidsr.verify(source, animated(tmp_path / "b.webp", large)).passed
    more = {}
    if wrong == "times":
        more["hundredths"] = (0, 1, 10, 4)
    elif wrong == "plays":
        more["plays"] = 0
    elif wrong == "pictures":
        large = large[:3]
    elif wrong == "pixels":
        large[2] = large[0]
    elif wrong == "transparency":
        large = [frame[:, :, :3] for frame in large]
    else:
        large = [frame[:-2] for frame in large]
    proof = vidsr.verify(source, animated(tmp_path / "b.webp", large, **more))
    assert wrong in {check.name for check in proof.failures}
    assert shown(large[0]).any()
