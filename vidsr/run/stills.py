"""A still picture in, a still picture out, through the same backends as video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from vidsr.backends.base import Backend, BackendSpec
from vidsr.errors import OutputError, SourceError
from vidsr.files import write_whole
from vidsr.frames import ColorSpec, Frame, FrameBatch, PixelFormat

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
COLOR = ColorSpec("rgb", True, "left", 0, 1, 13)  # sRGB


def read_still(path: Path) -> tuple[np.ndarray, tuple[list[int], list[np.ndarray]]]:
    """A picture as [H, W] or [H, W, 3 or 4] BGR(A), uint8 or uint16, and its EXIF, XMP and ICC profile as OpenCV has
    them. SourceError when it is none."""
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    try:
        raw = np.fromfile(path, np.uint8)
        if not raw.size:
            raise SourceError(f"{path}: is empty (0 bytes); copy or download it again")
        picture, kinds, blobs = cv2.imdecodeWithMetadata(raw, cv2.IMREAD_UNCHANGED)
    except PermissionError as error:
        raise SourceError(f"{path}: no permission to read it") from error
    except (cv2.error, OSError) as error:
        raise SourceError(f"{path}: not a picture OpenCV can read") from error
    if picture is None or picture.dtype not in (np.uint8, np.uint16) or picture.ndim not in (2, 3):
        raise SourceError(f"{path}: not an 8 or 16 bit picture OpenCV can read")
    if picture.ndim == 3 and picture.shape[2] not in (3, 4):
        raise SourceError(f"{path}: has {picture.shape[2]} channels; gray, RGB and RGBA can be upscaled")
    return picture, (list(kinds), list(blobs))


def still_format(picture: np.ndarray) -> PixelFormat:
    """The planar format that carries `picture`'s colours."""
    return PixelFormat("rgb", 8 * picture.dtype.itemsize)


def upscale_still(
    picture: np.ndarray, make_spec: Callable[[PixelFormat, ColorSpec], BackendSpec],
    open_backend: Callable[[BackendSpec], Backend],
) -> np.ndarray:  # fmt: skip
    """`picture` enlarged; gray stays gray, and alpha goes through the generator too, as a gray picture."""
    backend = open_backend(make_spec(still_format(picture), COLOR))
    try:
        if picture.ndim == 2:
            return _through(backend, np.stack([picture] * 3, axis=2))[:, :, 1].copy()
        large = _through(backend, picture[:, :, :3])
        if picture.shape[2] == 4:
            alpha = _through(backend, np.stack([picture[:, :, 3]] * 3, axis=2))[:, :, 1]
            large = np.dstack([large, alpha])
        return large
    finally:
        backend.close()


def _through(backend: Backend, picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] BGR -> the same, enlarged. FFmpeg's planar RGB has the planes G, B, R."""
    planes = tuple(np.ascontiguousarray(picture[:, :, channel]) for channel in (1, 0, 2))
    green, blue, red = backend(FrameBatch((Frame(planes),), still_format(picture), COLOR)).frames[0].planes
    return np.dstack([blue, green, red])


def write_still(
    path: Path, picture: np.ndarray, metadata: tuple[list[int], list[np.ndarray]], replace: bool = False
) -> None:  # fmt: skip
    """Write `picture` with `metadata` in the format of the suffix, whole or not at all. OutputError if it fails.

    replace: whether a file that is there by now may be replaced.
    """
    kinds, blobs = metadata
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        done, data = cv2.imencodeWithMetadata(path.suffix.lower(), picture, kinds, blobs, quality)
        if not done:
            raise OutputError(f"{path}: this format cannot hold the picture; use .png")
        write_whole(path, data.tobytes(), replace=replace)
    except cv2.error as error:
        raise OutputError(f"{path}: this format cannot hold the picture ({error.err}); use .png") from error
    except FileExistsError as error:
        raise OutputError(f"{path}: has appeared meanwhile, and is kept; replace it with --overwrite") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from error
