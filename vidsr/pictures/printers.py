"""Colours that are no R'G'B': those of printers, and L*a*b*."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")


def conversion(image: Image.Image) -> str:
    """What is said of an image whose mode is CMYK or LAB."""
    if image.mode == "LAB":
        return "its L*a*b* colours become sRGB"
    if _transform(image) is not None:
        return "its CMYK colours become sRGB through its profile, which is left out then"
    return "its CMYK colours become sRGB by rule of thumb: it has no profile that can be used"


def to_srgb(image: Image.Image) -> Image.Image:
    """An image of mode CMYK or LAB in sRGB: through its profile, relative to white, with black kept black."""
    transform = _transform(image)
    return image.convert("RGB") if transform is None else transform.apply(image)


def _transform(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """None where the profile is missing, damaged, or for other colours."""
    try:
        own: Any = ImageCms.createProfile("LAB")
        if image.mode == "CMYK":
            own = ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        return ImageCms.buildTransform(own, _SRGB, image.mode, "RGB", intent, flags)
    except (KeyError, TypeError, OSError, ImageCms.PyCMSError):
        return None
