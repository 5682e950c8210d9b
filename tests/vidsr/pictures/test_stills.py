"""Stills of every kind: in and out, with their depth, transparency, profiles and notes."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

import vidsr
from tests.running import quick
from tests.running import vidsr as command
from tests.vidsr.pictures.drawn import deep, near, scene
from vidsr.pictures.read import look, look_at_any, pictures

QUICK = {"backend": "nearest", "scale": 2}
CASES = Path(os.environ.get("VIDSR_SHARED", Path(__file__).parents[4] / "shared")) / "cases"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def opaque(width=48, height=36):
    return scene(width=width, height=height, clear=False)[:, :, :3]


def twice(pixels):
    return pixels.repeat(2, 0).repeat(2, 1)


def exif(orientation=1):
    made = Image.Exif()
    made[0x010F], made[0x0112] = "Maker", orientation
    made.get_ifd(0x8769)[0x9003] = "2026:11:27 12:00:00"
    return made.tobytes()


def opened(path):
    """(pixels, mode) as Pillow has them, upright."""
    with Image.open(path) as image:
        return np.array(ImageOps.exif_transpose(image)), image.mode


def write16(path, pixels):
    """16 bits, as OpenCV writes them. RGB(A) or gray."""
    order = {1: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[pixels.shape[2]]
    assert cv2.imwrite(str(path), pixels[:, :, 0] if order is None else cv2.cvtColor(pixels, order))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif", ".jp2", ".bmp", ".tga", ".ppm"])
def test_every_kind_becomes_its_own(tmp_path, suffix):
    source = tmp_path / f"a{suffix}"
    Image.fromarray(opaque()).save(source, quality=95)
    output = vidsr.upscale_picture(source, **QUICK)
    assert output == tmp_path / f"a.2x{suffix}"
    with Image.open(source) as small, Image.open(output) as large:
        assert large.format == small.format and large.mode == "RGB"
        assert near(np.array(large), twice(np.array(small)), 4 if suffix in (".webp", ".jpg", ".avif") else 0)
    assert vidsr.verify(source, output).passed


@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
def test_colours_are_as_fine_as_brightness(tmp_path, suffix):
    """Red and blue lines of one pixel, equally bright."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, ::2], pixels[:, 1::2] = (200, 60, 60), (60, 110, 200)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    output = vidsr.upscale_picture(tmp_path / "a.png", tmp_path / f"b{suffix}", check=False, **QUICK)
    assert near(opened(output)[0], twice(pixels), 6)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".avif", ".jp2", ".bmp", ".tga"])
def test_transparency_is_kept(tmp_path, suffix):
    source = tmp_path / f"a{suffix}"
    if suffix == ".bmp":  # Pillow writes those without
        cv2.imwrite(str(source), cv2.cvtColor(scene(), cv2.COLOR_RGBA2BGRA))
    else:
        Image.fromarray(scene()).save(source, **({"lossless": True} if suffix == ".webp" else {}))
    output = vidsr.upscale_picture(source, **QUICK)
    assert opened(output)[1] == "RGBA"
    assert near(next(pictures(look(output))), twice(next(pictures(look(source)))), 1.5)


def test_from_png_into_every_kind(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "a.png", dpi=(150, 150))
    for suffix in (".jpg", ".webp", ".tif", ".avif", ".jp2", ".bmp", ".tga", ".gif", ".ppm"):
        said = []
        output = vidsr.upscale_picture(tmp_path / "a.png", tmp_path / f"b{suffix}", told=said.append, **QUICK)
        words = " ".join(said)
        assert ("holds no transparency: what is transparent becomes white" in words) == (suffix in (".jpg", ".ppm"))
        assert ("256 colours" in words) == (suffix == ".gif")
        found = next(pictures(look(output)))
        if suffix in (".jpg", ".ppm"):
            assert (found[:8, :10] > 250).all() and found.shape[2] == 3
        else:
            assert near(found, twice(scene()), 3)
    for name in ("c.heic", "c.exr", "c"):
        with pytest.raises(vidsr.UsageError, match=r"a picture's result is a picture: end it in \.png, \.apng, \.jpg"):
            vidsr.upscale_picture(tmp_path / "a.png", tmp_path / name, **QUICK)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_stay(tmp_path, suffix, channels):
    pixels = deep(scene(clear=False))[:, :, :channels]
    write16(tmp_path / f"a{suffix}", pixels)
    output = vidsr.upscale_picture(tmp_path / f"a{suffix}", **QUICK)
    found = cv2.imread(str(output), cv2.IMREAD_UNCHANGED)
    found = found[:, :, None] if found.ndim == 2 else found[:, :, [2, 1, 0, 3][:channels]]
    assert found.dtype == np.uint16 and (found == twice(pixels)).all()


def test_16_bits_of_kinds_that_have_them_and_of_others(tmp_path):
    pixels = deep(opaque(80, 64))
    write16(tmp_path / "a.png", pixels)
    for suffix, most in ((".jp2", 0), (".ppm", 0), (".avif", 700)):
        said = []
        output = vidsr.upscale_picture(tmp_path / "a.png", tmp_path / f"b{suffix}", told=said.append, **QUICK)
        found = next(pictures(look(output)))
        assert found.dtype == np.uint16 and not said
        assert np.abs(found.astype(int) - twice(pixels)).mean() <= most
        again = vidsr.upscale_picture(output, tmp_path / f"c{suffix}", **QUICK)
        assert look(again).pages[0].samples == look(output).pages[0].samples > 8
    said = []
    output = vidsr.upscale_picture(tmp_path / "a.png", tmp_path / "b.jpg", told=said.append, **QUICK)
    assert said == ["a.png: JPEG holds 8 bits a sample: 16 become 8"]
    assert near(next(pictures(look(output))), twice(pixels), 3)


def test_a_ppm_of_few_or_odd_levels(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5\n# a note\n3 2\n1023\n" + np.array([[0, 512, 1023]] * 2, ">u2").tobytes())
    found = next(pictures(look(tmp_path / "a.pgm")))
    assert found[:, :, 0].tolist() == [[0, 32800, 65535]] * 2
    (tmp_path / "b.pbm").write_bytes(b"P1\n2 2\n1 0\n0 1\n")
    output = vidsr.upscale_picture(tmp_path / "b.pbm", **QUICK)
    assert output.name == "b.2x.pgm" and opened(output)[0][0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "P and clear", "L and clear", "RGB and clear"])
def test_every_layout_of_a_png(tmp_path, mode):
    image = Image.fromarray(scene(clear="clear" in mode)[:, :, : 4 if mode == "LA" else 3])
    name, _, clear = mode.partition(" and ")
    if clear:
        image = image.quantize(16) if name == "P" else image.convert(name)
        image.save(tmp_path / "a.png", transparency=image.getpixel((0, 0)))
    else:
        image.convert(name).save(tmp_path / "a.png")
    wanted = {"1": "L", "P": "RGB", "P and clear": "RGBA", "L and clear": "LA", "RGB and clear": "RGBA"}.get(mode, mode)
    with Image.open(tmp_path / "a.png") as small:
        pixels = np.array(small.convert(wanted))
    with Image.open(vidsr.upscale_picture(tmp_path / "a.png", **QUICK)) as large:
        assert large.mode == wanted and near(np.array(large), twice(pixels), 0)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_exif_xmp_and_profile_are_kept(tmp_path, suffix):
    Image.fromarray(opaque()).save(tmp_path / f"a{suffix}", icc_profile=SRGB, **notes_for(suffix))
    for name in (f"b{suffix}", "c.png", "d.jpg", "e.webp", "f.avif", "g.tif"):
        said = []
        output = vidsr.upscale_picture(tmp_path / f"a{suffix}", tmp_path / name, told=said.append, **QUICK)
        with Image.open(output) as image:
            assert image.info["icc_profile"] == SRGB and image.getexif()[0x010F] == "Maker"
            assert image.getexif().get_ifd(0x8769)[0x9003] == "2026:11:27 12:00:00"
            assert XMP in xmp_of(image) and not said
    said = []
    vidsr.upscale_picture(tmp_path / f"a{suffix}", tmp_path / "h.bmp", told=said.append, **QUICK)
    assert said == [f"a{suffix}: BMP has no place for its EXIF and XMP and ICC profile"]


def notes_for(suffix):
    if suffix == ".png":
        texts = PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return {"pnginfo": texts, "exif": exif()}
    if suffix == ".tif":
        made = Image.Exif()
        made.load(exif())
        made[700] = XMP
        return {"exif": made}
    return {"xmp": XMP, "exif": exif()}


def xmp_of(image):
    found = image.info["xmp"]
    return found if isinstance(found, bytes) else found.encode()


def test_texts_density_and_colour_of_a_png_stay(tmp_path):
    texts = PngInfo()
    texts.add_text("Author", "me")
    texts.add(b"gAMA", (45455).to_bytes(4, "big"))
    Image.fromarray(opaque()).save(tmp_path / "a.png", pnginfo=texts, dpi=(300, 300))
    with Image.open(vidsr.upscale_picture(tmp_path / "a.png", **QUICK)) as image:
        assert image.info["Author"] == "me" and image.info["gamma"] == 0.45455
        assert round(image.info["dpi"][0]) == 300
    for name in ("b.jpg", "b.tif", "b.bmp"):
        with Image.open(vidsr.upscale_picture(tmp_path / "a.png", tmp_path / name, **QUICK)) as image:
            assert round(float(image.info["dpi"][0])) == 300


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_look_as_before_in_every_kind(tmp_path, orientation):
    Image.fromarray(scene()).save(tmp_path / "a.png", exif=exif(orientation))
    with Image.open(tmp_path / "a.png") as image:
        upright = np.array(ImageOps.exif_transpose(image))
    for suffix in (".png", ".webp", ".tif", ".avif", ".bmp", ".tga"):
        said = []
        output = vidsr.upscale_picture(tmp_path / "a.png", tmp_path / f"b{suffix}", told=said.append, **QUICK)
        assert near(opened(output)[0], twice(upright), 3), suffix
        assert vidsr.verify(tmp_path / "a.png", output, scale=2).passed


def test_a_turned_tiff(tmp_path):
    Image.fromarray(opaque()).save(tmp_path / "a.tif", exif=exif(6))
    with Image.open(vidsr.upscale_picture(tmp_path / "a.tif", **QUICK)) as image:
        assert image.size == (72, 96) and near(np.array(image), np.rot90(twice(opaque()), -1), 0)


# ---- pages ----------------------------------------------------------------------------------------------------------


def test_all_pages_of_a_tiff(tmp_path):
    pages = [Image.fromarray(opaque()), Image.fromarray(scene(width=20, height=30)), Image.fromarray(opaque()[:, :, 0])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    output = vidsr.upscale_picture(tmp_path / "a.tif", **QUICK)
    with Image.open(output) as image:
        assert image.n_frames == 3
        for number, page in enumerate(pages):
            image.seek(number)
            assert image.mode == page.mode and near(np.array(image), twice(np.array(page)), 0)
    assert len(cv2.imreadmulti(str(output), flags=cv2.IMREAD_UNCHANGED)[1]) == 3
    with pytest.raises(vidsr.UsageError, match=r"has 3 pages, and PNG holds one: use \.tif"):
        vidsr.upscale_picture(tmp_path / "a.tif", tmp_path / "b.png", **QUICK)
    assert vidsr.verify(tmp_path / "a.tif", output).passed
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:2])
    assert not vidsr.verify(tmp_path / "a.tif", vidsr.upscale_picture(tmp_path / "two.tif", **QUICK)).passed


def test_deep_pages_of_a_tiff(tmp_path):
    pages = [deep(opaque()), deep(opaque(20, 30))]
    cv2.imwritemulti(str(tmp_path / "a.tif"), [cv2.cvtColor(page, cv2.COLOR_RGB2BGR) for page in pages])
    _, found = cv2.imreadmulti(str(vidsr.upscale_picture(tmp_path / "a.tif", **QUICK)), flags=cv2.IMREAD_UNCHANGED)
    for page, large in zip(pages, found, strict=True):
        assert (cv2.cvtColor(large, cv2.COLOR_BGR2RGB) == twice(page)).all()


# ---- printers' colours ----------------------------------------------------------------------------------------------


def profile(lab):
    """A profile of a printer (ICC.1, lut8Type) whose every colour is L*a*b* of `lab(c, m, y, k)`, ink from 0 to 1."""
    inks = [[number >> shift & 1 for shift in (3, 2, 1, 0)] for number in range(16)]
    colors = np.array([lab(*ink) for ink in inks]).clip(0) * [2.55, 1, 1] + [0, 128, 128]
    table = np.rint(colors).astype(np.uint8).tobytes()
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    lut += bytes(range(256)) * 4 + table + bytes(range(256)) * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = b"text" + bytes(4) + b"none\0\0\0\0"
    tags, body, at = b"", b"", 132 + 4 * 12
    for name, data in ((b"A2B0", lut), (b"wtpt", white), (b"cprt", text), (b"desc", text)):
        tags, body = tags + struct.pack(">4sII", name, at + len(body), len(data)), body + data
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return head[:128] + struct.pack(">I", 4) + tags + body


def test_cmyk_goes_through_its_profile(tmp_path):
    """One in which cyan ink is red."""
    colors = profile(lambda c, m, y, k: (100 - 46 * c - 50 * k, 80 * c, 67 * c))
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:8, :, 0], pixels[8:, 8:, 3] = 255, 255
    for name in ("a.tif", "a.jpg"):
        Image.fromarray(pixels, "CMYK").save(tmp_path / name, icc_profile=colors, quality=100)
        said = []
        output = vidsr.upscale_picture(tmp_path / name, tmp_path / f"{name}.png", told=said.append, **QUICK)
        assert said == [f"{name}: its CMYK colours become sRGB through its profile, which is left out then"]
        found = opened(output)[0].astype(int)
        assert np.abs(found[4, 4] - [255, 0, 0]).max() < 25 and found[28, 4].min() > 245
        assert 90 < found[28, 28].min() == found[28, 28].max() < 140 or np.ptp(found[28, 28]) < 8
        assert look(output).pages[0].metadata.icc == b""


def test_cmyk_without_a_profile_that_can_be_used(tmp_path):
    for name, more in (("a.jpg", {}), ("b.tif", {"icc_profile": b"nonsense"}), ("c.tif", {"icc_profile": SRGB})):
        Image.fromarray(opaque()).convert("CMYK").save(tmp_path / name, **more)
        said = []
        output = vidsr.upscale_picture(tmp_path / name, tmp_path / f"{name}.png", told=said.append, **QUICK)
        assert said == [f"{name}: its CMYK colours become sRGB by rule of thumb: it has no profile that can be used"]
        assert near(opened(output)[0], twice(opaque()), 6)


@pytest.mark.parametrize("name", ["cmyk_with_profile.jpg", "photo.avif", "apng4.png"])
def test_cases(tmp_path, name):
    if not (CASES / name).is_file():
        pytest.skip("no folder of cases beside the checkout")
    output = vidsr.upscale_picture(CASES / name, tmp_path / name, **QUICK)
    before, after = look(CASES / name), look(output)
    assert after.kind is before.kind and len(after.pages) == len(before.pages) and after.seconds == before.seconds
    assert opened(output)[1] == "RGB"


# ---- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "size", "words"),
    [(".webp", (8200, 2), "16400x4 pixels are more than WebP takes (16383 a side): use .png"),
     (".jpg", (2, 32800), "4x65600 pixels are more than JPEG takes (65535 a side): use .png"),
     (".gif", (32800, 2), "65600x4 pixels are more than GIF takes (65535 a side): use .png"),
     (".tga", (32800, 2), "65600x4 pixels are more than TGA takes (65535 a side): use .png"),
     (".avif", (16400, 2), "32800x4 pixels are more than AVIF takes (32768 a side): use .png"),
     (".avif", (8500, 8500), "17000x17000 pixels are more than AVIF takes (268435456 in all): use .png")],
)  # fmt: skip
def test_sizes_are_refused_before_the_work(tmp_path, suffix, size, words):
    Image.new("L", size).save(tmp_path / "a.png")
    with pytest.raises(vidsr.UsageError) as error:
        vidsr.upscale_picture(tmp_path / "a.png", tmp_path / f"b{suffix}", **QUICK)
    assert words in str(error.value)
    assert not (tmp_path / f"b{suffix}").exists()
    if size[0] * size[1] < 1 << 20:
        assert vidsr.upscale_picture(tmp_path / "a.png", **QUICK).is_file()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif", ".jp2", ".bmp", ".tga", ".ppm"])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_stills_that_are_cut_off(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(opaque()).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(vidsr.SourceError, match=rf"^\S+a\{suffix}: "):
        vidsr.upscale_picture(path, **QUICK)
    assert list(tmp_path.iterdir()) == [path]


def test_samples_that_are_no_colours(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(vidsr.SourceError, match="save it with 8 or 16 bits first"):
        vidsr.upscale_picture(tmp_path / "a.tif", **QUICK)
    for name, content in (("b.png", b""), ("c.png", b"no picture"), ("d.tga", b"x" * 200)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(vidsr.SourceError, match=name):
            vidsr.upscale_picture(tmp_path / name, **QUICK)


def test_an_animated_avif_becomes_what_animations_are_written_as(tmp_path):
    frames = [Image.fromarray(scene(number, clear=False)) for number in range(3)]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:], duration=[40, 80, 120])
    with pytest.raises(vidsr.UsageError, match=r"AVIF holds no animation: use \.png, \.webp or \.gif"):
        vidsr.upscale_picture(tmp_path / "a.avif", **QUICK)
    output = vidsr.upscale_picture(tmp_path / "a.avif", tmp_path / "a.webp", **QUICK)
    assert [round(1000 * shown) for shown in look(output).seconds] == [40, 80, 120]
    assert vidsr.verify(tmp_path / "a.avif", output).passed


def test_options_of_video_are_refused(tmp_path):
    Image.fromarray(opaque()).save(tmp_path / "a.png")
    with pytest.raises(vidsr.UsageError, match=r"--crop 20:20:0:0 is for video"):
        vidsr.upscale_picture(tmp_path / "a.png", crop="20:20:0:0", **QUICK)


def test_a_size_of_its_own_for_every_kind(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "a.png", exif=exif(6))
    for name in ("b.png", "b.tif", "b.bmp"):
        output = vidsr.upscale_picture(tmp_path / "a.png", tmp_path / name, height=100, backend="nearest")
        assert opened(output)[0].shape == (100, 75, 4)
        assert vidsr.verify(tmp_path / "a.png", output, height=100).passed
        assert vidsr.verify(tmp_path / "a.png", output).passed
        assert not vidsr.verify(tmp_path / "a.png", output, height=102).passed
    Image.new("L", (12000, 6000)).save(tmp_path / "large.png")
    with pytest.raises(vidsr.UsageError, match=r"--height 15000: .* becomes 36000x18000 first, .* use --scale 3$"):
        vidsr.upscale_picture(tmp_path / "large.png", height=15000, backend="nearest")


# ---- large ones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["tiny", "fast"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pieces_are_the_whole_to_the_bit(model, channels):
    """Of noise, which shows every sample that a piece lacks."""
    from vidsr.backends import open_backend
    from vidsr.choose.options import Options
    from vidsr.choose.prepare import make_spec
    from vidsr.frames import PixelFormat
    from vidsr.run.stills import COLOR, bands

    picture = np.random.default_rng(0).integers(0, 256, (150, 130, channels), np.uint8)
    picture[:, :40, -1:] = 255 if channels == 4 else picture[:, :40, -1:]
    format = PixelFormat("rgb")
    options = Options(model=model, backend="cpu", precision="fp32")
    backend = open_backend(make_spec(options, 4, format, COLOR, format, COLOR), lambda line: None)
    whole = next(bands(picture, backend))
    pieces = list(bands(picture, backend, 0, 64))
    assert len(pieces) == 3 and (np.concatenate(pieces) == whole).all()
    backend.close()


def test_a_large_still_is_written_within_bounded_memory(tmp_path):
    """The result takes 184 MB, and used to be held three times."""
    pixels = np.tile(np.arange(240, dtype=np.uint8)[:, None, None], (20, 800, 3))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tracemalloc.start()
    try:
        output = vidsr.upscale_picture(tmp_path / "a.png", scale=4, backend="nearest", check=False)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    found = look_at_any(output, ".png").pages[0]
    assert (found.width, found.height) == (3200, 19200) and most < 140e6


@pytest.mark.parametrize("wrong", ["pixels", "colours", "size", "ICC profile", "EXIF", "depth"])
def test_the_proof_finds_what_is_wrong(tmp_path, wrong):
    pixels = opaque(96, 64)
    more = {"exif": exif(), "icc_profile": SRGB}
    Image.fromarray(pixels).save(tmp_path / "a.png", **more)
    large = twice(pixels)
    Image.fromarray(large).save(tmp_path / "b.png", **more)
    assert vidsr.verify(tmp_path / "a.png", tmp_path / "b.png").passed
    if wrong == "pixels":
        large = large[::-1]
    elif wrong == "colours":
        large = np.clip(large.astype(int) + 9, 0, 255).astype(np.uint8)
    elif wrong == "size":
        large = large[:-1]
    elif wrong == "depth":
        write16(tmp_path / "a.png", deep(pixels))
        more = {}
    else:
        more.pop({"EXIF": "exif", "ICC profile": "icc_profile"}[wrong])
    Image.fromarray(large).save(tmp_path / "b.png", **more)
    assert wrong in {check.name for check in vidsr.verify(tmp_path / "a.png", tmp_path / "b.png").failures}


def test_the_commands(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "a.png", exif=exif())
    pages = [Image.fromarray(opaque())] * 2
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "out").mkdir()
    done = quick(tmp_path / "a.png", tmp_path / "b.tif", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.2x.png", "b.2x.tif"]
    done = command("probe", tmp_path / "a.png", "-o", tmp_path / "x.jpg")
    assert "PNG, 48x36, colour with transparency, 8 bit" in done.stdout and "EXIF: " in done.stdout
    assert "note: JPEG holds no transparency" in done.stdout
    assert "2 pages" in command("probe", tmp_path / "b.tif").stdout
    assert command("verify", tmp_path / "a.png", tmp_path / "out" / "a.2x.png").returncode == 0
    assert command("verify", tmp_path / "a.png", tmp_path / "out" / "b.2x.tif").returncode == 1
