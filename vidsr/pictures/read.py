"""What is in a picture's file, and its pixels as a viewer shows them."""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from vidsr.errors import SourceError
from vidsr.pictures import gif, png, webp
from vidsr.pictures.base import AVIF, BMP, GIF, JP2, JPEG, PNG, PNM, TGA, TIFF, WEBP, Kind, Metadata, Page, PictureInfo
from vidsr.pictures.compose import Patch, composed
from vidsr.pictures.pixels import fitted, quietly, widened
from vidsr.pictures.printers import conversion, to_srgb

MOST_PIXELS = 178_956_970  # of one picture, which is Pillow's limit, too: more is taken for a decompression bomb
_KINDS = {
    "PNG": PNG, "JPEG": JPEG, "MPO": JPEG, "GIF": GIF, "WEBP": WEBP, "TIFF": TIFF, "AVIF": AVIF, "JPEG2000": JP2,
    "BMP": BMP, "DIB": BMP, "PPM": PNM,
}  # fmt: skip
_CHANNELS = {"1": 1, "L": 1, "LA": 2, "La": 2, "P": 3, "PA": 4, "RGBA": 4, "RGBa": 4, "I;16": 1, "I;16B": 1, "I;16L": 1}
_CHANNELS["I"] = 1  # a PGM of 16 bits
_CHANNELS |= dict.fromkeys(("RGB", "RGBX", "YCbCr", "CMYK", "LAB"), 3)
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)


def look(path: Path) -> PictureInfo:
    """What is in a picture's file. SourceError, one line with the cure, where it cannot be read or makes no sense."""
    found = look_at_any(path, path.suffix)
    for page in found.pages:
        _check_size(path, page.width, page.height)
    return found


def look_at_any(path: Path, suffix: str) -> PictureInfo:
    """The same for a file of our own, however large, and under whatever name. suffix: what it will end in."""
    data = _content(path)
    with _blamed(path):
        if data[:6] in (b"GIF87a", b"GIF89a"):
            found = gif.contents(data)
            page = _page_of(found.width, found.height, found.patches, 3, 8, Metadata())
            return _animated(path, GIF, page, found.patches, found.plays, comments=found.comments)
        with _image(data, suffix) as image:
            kind = TGA if image.format == "TGA" else _KINDS[str(image.format)]
            if kind is PNG:
                return _png(path, data, image)
            if kind is WEBP:
                return _webp(path, data, image)
            return _plain(path, data, image, kind)


def pictures(info: PictureInfo) -> Iterator[np.ndarray]:
    """The pixels of each of `info.pages`, [height, width, channels], uint8 or uint16.

    SourceError where they are damaged.
    """
    data = _content(info.path)
    with _blamed(info.path):
        if info.kind is GIF:
            found = gif.contents(data)
            yield from _animation(found.patches, info.pages)
        elif info.kind is PNG and info.animated:
            own = png.contents(data)
            if info.default:
                yield _pixels(data, info.pages[0], 0)
            yield from _animation(own.patches, info.pages[info.default :])
        elif info.kind is WEBP and info.animated:
            yield from _animation(webp.contents(data).patches, info.pages)
        else:
            for number, page in enumerate(info.pages):
                yield _pixels(data, page, number)


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise SourceError(f"{path}: is a folder; name the files in it") from error
    except PermissionError as error:
        raise SourceError(f"{path}: no permission to read it") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise SourceError(f"{path}: is empty (0 bytes); copy or download it again")
    return data


@contextmanager
def _blamed(path: Path) -> Iterator[None]:
    """Libraries' errors, and ours that lack the file's name, as one line with the cure."""
    try:
        yield
    except SourceError as error:
        if str(error).startswith(str(path)):
            raise
        raise SourceError(f"{path}: {error}; copy or download it again") from error
    except (*_DAMAGE, cv2.error) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise SourceError(f"{path}: is damaged or cut off ({reason}); copy or download it again") from error


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise SourceError(
            f"{path}: claims {width}x{height}, which is more than {MOST_PIXELS} pixels, and is refused as a "
            "decompression bomb; cut it into parts if it is none"
        )


@contextmanager
def _image(data: bytes, suffix: str = TGA.suffixes[0]) -> Iterator[Image.Image]:
    """`data` opened by Pillow, its pixels not read yet. suffix: of its name, since TGA has no signature.

    Not by Image.open, which warns of large pictures and refuses larger ones, ours among them.
    """
    Image.init()
    names = [name for name in _KINDS if name != "MPO"]  # which is opened as a JPEG
    names += ["TGA"] * (suffix.lower() in TGA.suffixes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            factory, accept = Image.OPEN[name]
            if accept is None or accept(data[:16]) is True:
                try:
                    image = factory(BytesIO(data), "")
                except (SyntaxError, IndexError, TypeError, struct.error):
                    continue
                with image:
                    yield image
                return
    raise SourceError(
        "is no picture that can be read (PNG, JPEG, WebP, GIF, TIFF, AVIF, JPEG 2000, BMP, TGA, PPM), or damaged"
    )


# ---- what is in it --------------------------------------------------------------------------------------------------


def _png(path: Path, data: bytes, image: Image.Image) -> PictureInfo:
    found = png.contents(data)
    bits = 16 if found.bits == 16 else 8
    plain = _metadata(image)
    metadata = Metadata(plain.exif, plain.xmp, plain.icc, plain.dots, found.chunks)
    own = Page(found.width, found.height, found.channels, bits, metadata)
    if len(found.patches) < 2:
        return PictureInfo(path, PNG, (own,))
    page = _page_of(found.width, found.height, found.patches, found.channels, bits, metadata)
    return _animated(path, PNG, page, found.patches, found.plays, default=found.default)


def _webp(path: Path, data: bytes, image: Image.Image) -> PictureInfo:
    found, metadata = webp.contents(data), _metadata(image)
    if not found.patches:
        return PictureInfo(path, WEBP, (_page(image, 8, metadata),), lossless=found.lossless)
    channels = 4 if found.alpha else 3
    page = _page_of(found.width, found.height, found.patches, channels, 8, metadata)
    return _animated(path, WEBP, page, found.patches, found.plays, lossless=found.lossless)


def _page_of(
    width: int, height: int, patches: tuple[Patch, ...], channels: int, bits: int, metadata: Metadata
) -> Page:  # fmt: skip
    """What the pictures of an animation are: transparent, too, where its patches leave ground bare."""
    first = patches[0]
    covered = first.x == first.y == 0 and first.width >= width and first.height >= height
    gif_clear = any(patch.file[:3] == b"GIF" and _sees_through(patch) for patch in patches)
    bare = not covered or gif_clear or any(patch.after == "clear" for patch in patches[:-1])
    return Page(width, height, 4 if bare or channels == 2 else channels, bits, metadata)


def _sees_through(patch: Patch) -> bool:
    """Whether a GIF's picture has a colour for that; it stands right before its pixels."""
    colors = 3 << (patch.file[10] & 7) + 1 if patch.file[10] & 0x80 else 0
    return bool(patch.file[13 + colors + 3] & 1)


def _animated(
    path: Path, kind: Kind, page: Page, patches: tuple[Patch, ...], plays: int, default: bool = False, **more: Any
) -> PictureInfo:  # fmt: skip
    for patch in patches:
        _check_size(path, patch.width, patch.height)
    notes: tuple[str, ...] = ()
    beyond = sum(p.x + p.width > page.width or p.y + p.height > page.height for p in patches)
    if beyond:
        notes = (f"{beyond} of its pictures reach beyond {page.width}x{page.height}: cut there, as viewers do",)
    if len(patches) == 1:
        return PictureInfo(path, kind, (page,), notes=notes, **more)
    pages = (page,) * (len(patches) + default)
    return PictureInfo(path, kind, pages, tuple(p.seconds for p in patches), plays, default, notes=notes, **more)


def _plain(path: Path, data: bytes, image: Image.Image, kind: Kind) -> PictureInfo:
    pages, notes = [], []
    several = getattr(image, "n_frames", 1)
    if image.format == "MPO":
        notes.append(f"only the first of its {several} pictures is taken")
        several = 1
    seconds: list[Fraction] = []
    for number in range(several):
        image.seek(number)
        if kind is AVIF and several > 1:  # whose times come with its pixels
            image.load()
            seconds.append(Fraction(round(image.info["duration"]), 1000))
        metadata = _metadata(image)
        samples = _samples(path, data, image, kind)
        if kind is JP2:
            metadata = Metadata(icc=_jp2_profile(data))
        if image.mode in ("CMYK", "LAB"):
            notes.append(conversion(image))
            metadata = Metadata(metadata.exif, metadata.xmp, b"", metadata.dots)
            samples = 8
        pages.append(_page(image, samples, metadata))
    lossless = kind not in (JPEG, AVIF)
    return PictureInfo(path, kind, tuple(pages), tuple(seconds), lossless=lossless, notes=tuple(dict.fromkeys(notes)))


def _page(image: Image.Image, samples: int, metadata: Metadata) -> Page:
    channels = _CHANNELS[image.mode]
    if "transparency" in image.info and channels in (1, 3):
        channels += 1
    return Page(image.width, image.height, channels, samples, metadata)


def _samples(path: Path, data: bytes, image: Image.Image, kind: Kind) -> int:
    """Bits of a sample."""
    samples = 8
    if kind is TIFF:
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        samples = max(tags.get(258, (1,)))
        if max(tags.get(339, (1,))) != 1 or samples > 16:
            raise SourceError(f"{path}: {samples} bits, or signs, or fractions: save it with 8 or 16 bits first")
    elif kind is AVIF and (at := data.find(b"pixi")) > 0:
        samples = data[at + 9]
    elif kind is JP2 and (at := data.find(b"ihdr")) > 0:
        samples = (data[at + 14] & 127) + 1
    elif kind is JP2 and data[:4] == b"\xff\x4f\xff\x51":
        samples = (data[42] & 127) + 1
    elif kind is PNM:
        samples = _most_of_pnm(data).bit_length()
    if image.mode not in _CHANNELS or (image.mode == "I" and kind is not PNM):
        raise SourceError(f"{path}: {image.mode} pixels; gray, RGB, CMYK and transparency can be upscaled")
    return max(8, samples)


def _most_of_pnm(data: bytes) -> int:
    """The value of white."""
    words = re.sub(rb"#[^\n]*", b"", data[:1000]).split()
    return 1 if words[0] in (b"P1", b"P4") else int(words[3])


def _metadata(image: Image.Image) -> Metadata:
    info = image.info
    exif = info.get("exif", b"")
    if image.format == "TIFF":
        exif = _exif_of_tiff(image)
    xmp, dots = info.get("xmp", b""), info.get("dpi")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    told = None if dots is None or not all(dots) else (float(dots[0]), float(dots[1]))
    return Metadata(exif.removeprefix(b"Exif\0\0"), xmp, info.get("icc_profile") or b"", told)


def _exif_of_tiff(image: Image.Image) -> bytes:
    """A TIFF's tags that say something of the picture. It is turned as it says when it is read."""
    every, own = image.getexif(), Image.Exif()
    for tag, value in every.items():
        if isinstance(value, str):
            own[tag] = value
    for group in (0x8769, 0x8825):
        if content := every.get_ifd(group):
            own[group] = content
    return own.tobytes() if len(own) else b""


def _jp2_profile(data: bytes) -> bytes:
    at = data.find(b"colr")
    if at < 0 or data[at + 4 : at + 5] != b"\2":
        return b""
    return data[at + 7 : at - 4 + struct.unpack_from(">I", data, at - 4)[0]]


# ---- its pixels -----------------------------------------------------------------------------------------------------


def _animation(patches: tuple[Patch, ...], pages: tuple[Page, ...]) -> Iterator[np.ndarray]:
    page = pages[0]
    whole = ((patch, _patch_pixels(patch, page)) for patch in patches)
    for picture in composed(whole, page.width, page.height, page.dtype):
        yield fitted(picture, page.channels)


def _patch_pixels(patch: Patch, page: Page) -> np.ndarray:
    """[rows, columns, 4]"""
    if page.bits == 16:
        return fitted(_deep(patch.file, 0, "damaged"), 4)
    with _image(patch.file) as image:
        return np.array(image.convert("RGBA"))


def _pixels(data: bytes, page: Page, number: int) -> np.ndarray:
    with _image(data) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            image.seek(number)
        if page.bits == 16 and image.mode not in ("I;16", "I;16B", "I;16L"):
            pixels = _deep(data, number, image.format)
        else:
            image.load()
            pixels = _array(image, page)
    if pixels.shape[:2] != page.shape[:2]:
        raise SourceError(f"has {pixels.shape[1]}x{pixels.shape[0]} pixels where {page.width}x{page.height} are told")
    return fitted(pixels, page.channels)


def _array(image: Image.Image, page: Page) -> np.ndarray:
    """The pixels of what Pillow has loaded, [H, W, channels] or [H, W]."""
    if page.bits == 16:
        return np.array(image).astype(np.uint16)
    if image.mode in ("CMYK", "LAB"):
        return np.array(to_srgb(image))
    wanted = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[page.channels]
    return np.array(image if image.mode == wanted else image.convert(wanted))


def _deep(data: bytes, number: int, format: str | None) -> np.ndarray:
    """[H, W] or [H, W, channels] uint16, by OpenCV: Pillow reads 16 bits of gray pictures only."""
    raw = np.frombuffer(data, np.uint8)
    with quietly():
        if format == "TIFF":
            _, found = cv2.imdecodemulti(raw, cv2.IMREAD_UNCHANGED, range=(number, number + 1))
            pixels = found[0] if found else None
        else:
            pixels = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise SourceError("its 16 bit pixels cannot be read")
    if format == "AVIF":
        pixels = widened(pixels, (1 << data[data.find(b"pixi") + 9]) - 1)
    elif format == "PPM":
        pixels = widened(pixels, _most_of_pnm(data))
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return pixels
