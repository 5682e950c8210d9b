"""Results as files, each kind's in its way; whole or not at all."""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from vidsr.errors import OutputError
from vidsr.files import whole_file, write_failure
from vidsr.pictures.base import AVIF, BMP, GIF, JP2, JPEG, PNG, PNM, TGA, TIFF, WEBP, Metadata, Page, PictureInfo
from vidsr.pictures.gif import write_gif
from vidsr.pictures.palette import Colors, Palette
from vidsr.pictures.pixels import assembled, fitted, narrowed, on_white, quietly
from vidsr.pictures.png import write_apng, write_png
from vidsr.pictures.tiff import write_tiff
from vidsr.pictures.webp import still, write_webp

QUALITY = 95  # of JPEG and AVIF
_CUT = 0.85  # of the pixels change where a scene ends, and a palette with it
_SEGMENT = 65519  # bytes of a profile in one segment of a JPEG

Bands = Iterable[np.ndarray]


def write(
    result: PictureInfo, pictures: Iterable[Bands], replace: bool = False,
    check: Callable[[Path], None] = lambda path: None,
) -> None:  # fmt: skip
    """Write what `result` says, from the pixels of its pages: bands [rows, width, any channels] each, from above, uint8
    or uint16. OutputError if it fails.

    PNG, TIFF and PPM are written band by band; the others want the whole picture in memory. replace: whether a file
    that is there by now may be replaced. check: called with where the file lies before it has its name; what it raises
    keeps it from getting one.
    """
    path = result.path
    try:
        with whole_file(path, replace=replace) as file:
            _write(file, result, (_bands(page, bands) for page, bands in zip(result.pages, pictures, strict=True)))
            file.flush()
            check(Path(file.name))
    except FileExistsError as error:
        raise OutputError(f"{path}: has appeared meanwhile, and is kept; replace it with --overwrite") from error
    except OutputError as error:
        raise error if str(error).startswith(str(path)) else OutputError(f"{path}: {error}") from error
    except (cv2.error, ValueError) as error:
        raise OutputError(f"{path}: {result.kind.name} cannot hold the picture ({error}); use .png") from error
    except OSError as error:
        raise OutputError(write_failure(path, "cannot be written", error)) from error


def _bands(page: Page, bands: Bands) -> Iterator[np.ndarray]:
    """Bands with the page's channels and bits."""
    for band in bands:
        if band.dtype == np.uint16 and page.bits == 8:
            band = narrowed(band)
        if band.shape[2] in (2, 4) and page.channels in (1, 3):
            band = on_white(band)
        yield fitted(band, page.channels)


def _write(file: BinaryIO, result: PictureInfo, pictures: Iterator[Iterator[np.ndarray]]) -> None:
    kind, page = result.kind, result.pages[-1]
    metadata = result.pages[0].metadata
    if kind is TIFF:
        write_tiff(file, ((page, bands, page.metadata) for page, bands in zip(result.pages, pictures)))
    elif kind is PNG and not result.animated:
        write_png(file, page, next(pictures), metadata)
    elif kind is PNM:
        file.write(b"P%d\n%d %d\n%d\n" % (5 if page.channels == 1 else 6, page.width, page.height, 2**page.bits - 1))
        for band in next(pictures):
            file.write(band.astype(">u2" if page.bits == 16 else "u1").tobytes())
    elif kind is GIF:
        _write_gif(file, result, (assembled(page.shape, bands) for bands in pictures))
    elif result.animated:
        default = assembled(page.shape, next(pictures)) if result.default else None
        whole = (assembled(page.shape, bands) for bands in pictures)
        if kind is PNG:
            write_apng(file, page, whole, result.seconds, result.plays, default, metadata)
        else:
            shape = page.width, page.height
            write_webp(file, *shape, whole, result.seconds, result.plays, result.lossless, metadata)
    elif kind in (JPEG, BMP) or (kind in (AVIF, JP2) and page.bits == 16) or (kind is AVIF and page.channels == 1):
        # Blue first, as OpenCV has it, and band by band, since a second copy of a large picture has no room.
        order = [2, 1, 0, 3][: page.channels] if page.channels >= 3 else [0]
        file.write(_by_opencv(result, assembled(page.shape, (band[:, :, order] for band in next(pictures)))))
    else:
        _by_pillow(file, result, assembled(page.shape, next(pictures)))


def _by_pillow(file: BinaryIO, result: PictureInfo, picture: np.ndarray) -> None:
    metadata = result.pages[0].metadata
    if result.kind is WEBP:
        file.write(still(picture, result.lossless, metadata))
        return
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    if result.kind is AVIF:  # OpenCV halves the colours both ways, where Pillow can be told not to
        notes = {"exif": metadata.exif, "xmp": metadata.xmp, "icc_profile": metadata.icc}
        given = {name: data for name, data in notes.items() if data}
        image.save(file, "AVIF", quality=QUALITY, subsampling="4:4:4", **given)
    elif result.kind is TGA:
        image.save(file, "TGA", compression="tga_rle")
    else:
        image.save(file, "JPEG2000")


def _by_opencv(result: PictureInfo, picture: np.ndarray) -> bytes:
    kind, page = result.kind, result.pages[0]
    if kind is JPEG:
        whole_chroma = cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *whole_chroma]
        return _described(cv2.imencode(".jpg", picture, options)[1].tobytes(), page.metadata)
    if kind is JP2:
        with quietly():
            done, encoded = cv2.imencode(".jp2", picture)
        if not done:
            raise OutputError("JPEG 2000 cannot hold so small a picture of 16 bits; use .png")
        return encoded.tobytes()
    if kind is BMP:
        bitmap = bytearray(cv2.imencode(".bmp", picture)[1].data)
        if page.metadata.dots:
            bitmap[38:46] = struct.pack("<ii", *(round(dots / 0.0254) for dots in page.metadata.dots))
        return bytes(bitmap)
    depth = 8 if page.bits == 8 else min(12, page.samples)
    if depth > 8:
        picture = ((picture.astype(np.uint32) * ((1 << depth) - 1) + 32767) // 65535).astype(np.uint16)
    data = page.metadata
    given = {cv2.IMAGE_METADATA_EXIF: data.exif, cv2.IMAGE_METADATA_XMP: data.xmp, cv2.IMAGE_METADATA_ICCP: data.icc}
    blobs = {name: np.frombuffer(content, np.uint8) for name, content in given.items() if content}
    options = [cv2.IMWRITE_AVIF_QUALITY, QUALITY, cv2.IMWRITE_AVIF_DEPTH, depth]
    with quietly():
        done, encoded = cv2.imencodeWithMetadata(".avif", picture, [*blobs], [*blobs.values()], options)
    if not done:
        raise OutputError("AVIF cannot hold the picture; use .png")
    return encoded.tobytes()


def _described(jpeg: bytes, metadata: Metadata) -> bytes:
    """A JPEG with `metadata`: behind JFIF's segment, where Exif, XMP and ICC have theirs."""
    end = 4 + struct.unpack_from(">H", jpeg, 4)[0]
    head = bytearray(jpeg[:end])
    if metadata.dots:
        head[13:18] = struct.pack(">BHH", 1, *(min(65535, max(1, round(dots))) for dots in metadata.dots))
    parts = []
    if metadata.exif:
        parts.append(_segment(0xE1, b"Exif\0\0" + metadata.exif))
    if metadata.xmp:
        parts.append(_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + metadata.xmp))
    pieces = [metadata.icc[start : start + _SEGMENT] for start in range(0, len(metadata.icc), _SEGMENT)]
    for number, piece in enumerate(pieces):
        parts.append(_segment(0xE2, b"ICC_PROFILE\0" + bytes([number + 1, len(pieces)]) + piece))
    return b"".join((head, *parts, memoryview(jpeg)[end:]))


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _write_gif(file: BinaryIO, result: PictureInfo, pictures: Iterator[np.ndarray]) -> None:
    """A scene's palette is known when its last picture is, so all wait on the disk, packed."""
    page = result.pages[0]
    with tempfile.TemporaryFile(dir=Path(result.path).parent) as spool:
        scenes: list[Colors] = []
        scene_of, sizes = [], []
        before: np.ndarray | None = None
        for picture in pictures:
            if before is None or (picture != before).any(2).mean() > _CUT:
                scenes.append(Colors())
            scenes[-1].add(picture)
            scene_of.append(len(scenes) - 1)
            sizes.append(spool.write(zlib.compress(picture.tobytes(), 1)))
            before = picture
        spool.seek(0)
        palettes: list[Palette] = [scene.palette() for scene in scenes]
        stored = (np.frombuffer(zlib.decompress(spool.read(size)), np.uint8).reshape(page.shape) for size in sizes)
        each = [palettes[scene] for scene in scene_of]
        write_gif(file, page.width, page.height, stored, each, result.seconds, result.plays, result.comments)
