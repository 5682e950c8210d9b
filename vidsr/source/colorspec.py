"""Which colours a source's samples mean: the codes it carries, and the guesses players make where it carries none.

Decided once, before the first frame; color.py does the arithmetic. The guesses are mpv's (`mp_csp_guess_colorspace`,
`mp_csp_guess_primaries` and `mp_image_params_guess_csp`). They look at the size of the picture, which an upscaled
result no longer has, so a result always carries explicit codes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from vidsr.frames import ColorSpec, PixelFormat

# Codes are those of ITU-T H.273, tables 2 to 4; FFmpeg's enums have the same numbers.
_RGB, _BT709, _UNSPECIFIED, _BT601_625, _BT601_525, _BT2020, _BT2020_CONSTANT = 0, 1, 2, 5, 6, 9, 10
_MATRICES = {
    _RGB: "rgb",
    _BT709: "bt709",
    4: "fcc",
    _BT601_625: "bt601",
    _BT601_525: "bt601",
    7: "smpte240m",
    8: "ycgco",
    _BT2020: "bt2020",
}
# Matrices that are not three weights on R'G'B', with a name for people and the nearest that is.
_APPROXIMATED = {
    _BT2020_CONSTANT: ("BT.2020 constant luminance", "bt2020"),
    11: ("SMPTE ST 2085", "bt2020"),
    12: ("chromaticity-derived", ""),
    13: ("chromaticity-derived constant luminance", ""),
    14: ("ICtCp", "bt2020"),
    15: ("IPT-C2", "bt2020"),
    16: ("YCgCo-Re", "ycgco"),
    17: ("YCgCo-Ro", "ycgco"),
}
_PRIMARY_NAMES = {
    _BT709: "BT.709",
    _BT601_625: "BT.601 with 625 lines",
    _BT601_525: "BT.601 with 525 lines",
    _BT2020: "BT.2020",
}
_KNOWN_PRIMARIES = {1, 22, *range(4, 13)}
_KNOWN_TRANSFERS = {1, *range(4, 19)}
_LIMITED, _FULL = 1, 2  # AVColorRange
_LEFT, _CENTER, _TOPLEFT = 1, 2, 3  # AVChromaLocation
_LOCATIONS = {_LEFT: "left", _CENTER: "center", _TOPLEFT: "topleft"}
_APPROXIMATED_LOCATIONS = {4: ("top", "topleft"), 5: ("bottom left", "left"), 6: ("bottom", "center")}
_RGB_FORMAT = re.compile(r"(gbr|rgb|bgr|argb|abgr|0rgb|0bgr|x2rgb|x2bgr|pal8)")


def resolve_color(
    width: int,
    height: int,
    matrix_code: int,
    primaries: int,
    transfer: int,
    range_code: int,
    pixel_format_name: str,
    codec_name: str,
    chroma_location: int | None = None,
) -> ColorSpec:
    """The colour of a source `width` x `height` pixels large.

    matrix_code, primaries, transfer: H.273 codes as the codec or container gave them; 2 when it did not.
    range_code: FFmpeg's AVColorRange: 0 when not given, 1 limited, 2 full.
    pixel_format_name, codec_name: FFmpeg's ("yuvj420p", "mpeg1video").
    chroma_location: FFmpeg's AVChromaLocation (1 left, 2 center, 3 topleft, …); None or 0 when not given.

    Each guess is a sentence in the result's `assumed`. Never fails: nonsense counts as not given.
    """
    assumed: list[str] = []
    say = assumed.append
    is_rgb = bool(_RGB_FORMAT.match(pixel_format_name))
    matrix, matrix_code = _matrix(width, height, matrix_code, primaries, pixel_format_name, say)
    primaries = _primaries(width, height, matrix, matrix_code, primaries, say)
    if transfer not in _KNOWN_TRANSFERS:
        transfer = _BT601_525 if primaries == _BT601_525 else _BT709
        say("colour transfer not given: that of BT.709")
    if range_code not in (_LIMITED, _FULL):
        by_name = pixel_format_name.startswith("yuvj") or codec_name == "mjpeg"
        range_code = _FULL if is_rgb or by_name else _LIMITED
        if not is_rgb and not by_name:
            say("colour range not given: limited")
    location = _location(pixel_format_name, codec_name, transfer, chroma_location, say)
    return ColorSpec(matrix, range_code == _FULL, location, matrix_code, primaries, transfer, tuple(assumed))


def result_color(source_color: ColorSpec, result_format: PixelFormat) -> ColorSpec:
    """The colour of a result in `result_format` made of a source in `source_color`.

    The source's own, except that RGB becomes BT.709 in limited range when the result is YUV or gray, and that YUV
    becomes full-range RGB when the result is RGB.
    """
    to_rgb = result_format.family == "rgb"
    if to_rgb == (source_color.matrix == "rgb"):
        return source_color
    matrix, code = ("rgb", _RGB) if to_rgb else ("bt709", _BT709)
    return replace(source_color, matrix=matrix, matrix_code=code, full_range=to_rgb)


def _matrix(
    width: int, height: int, code: int, primaries: int, pixel_format_name: str, say: Callable[[str], None]
) -> tuple[str, int]:
    if _RGB_FORMAT.match(pixel_format_name):
        return "rgb", _RGB
    if code == _RGB and "444" not in pixel_format_name and not pixel_format_name.startswith("gray"):
        say("colour matrix says RGB, which subsampled planes cannot be: taken as not given")
        code = _UNSPECIFIED
    if code == _RGB and pixel_format_name.startswith("gray"):
        code = _UNSPECIFIED
    if code in _MATRICES:
        return _MATRICES[code], code
    if code in _APPROXIMATED:
        name, nearest = _APPROXIMATED[code]
        nearest = nearest or ("bt2020" if primaries == _BT2020 else "bt709")
        say(f"colour matrix {name}: processed as {nearest.upper().replace('BT', 'BT.')}, tag kept")
        return nearest, code
    if _is_hd(width, height):
        say("colour matrix not given: BT.709, the rule for pictures from 1280 columns or 577 lines")
        return "bt709", _BT709
    say("colour matrix not given: BT.601, the rule for pictures up to 576 lines")
    return "bt601", _BT601_525


def _primaries(
    width: int, height: int, matrix: str, matrix_code: int, primaries: int, say: Callable[[str], None]
) -> int:
    if primaries in _KNOWN_PRIMARIES:
        return primaries
    if matrix == "bt2020":
        primaries = _BT2020
    elif matrix in ("bt709", "rgb") or _is_hd(width, height):
        primaries = _BT709
    else:  # 576 lines are PAL's, 480 and 486 NTSC's; of any other size nothing is known, and BT.709 does least harm
        primaries = {576: _BT601_625, 480: _BT601_525, 486: _BT601_525}.get(height, _BT709)
    say(f"colour primaries not given: {_PRIMARY_NAMES[primaries]}")
    return primaries


def _location(
    pixel_format_name: str, codec_name: str, transfer: int, given: int | None, say: Callable[[str], None]
) -> str:
    if given in _LOCATIONS:
        return _LOCATIONS[given]
    if given in _APPROXIMATED_LOCATIONS:
        name, nearest = _APPROXIMATED_LOCATIONS[given]
        say(f"chroma location {name}: processed as {nearest}")
        return nearest
    # Not said for the common case: libavcodec gives no location for most H.264, whose standard then means left.
    if codec_name in ("mpeg1video", "mjpeg") or pixel_format_name.startswith("yuvj"):
        return "center"
    if transfer in (16, 18) and re.search("420|nv12|p01", pixel_format_name):  # PQ or HLG: BT.2100 says top left
        say("chroma location not given: top left, the rule for HDR")
        return "topleft"
    return "left"


def _is_hd(width: int, height: int) -> bool:
    return width >= 1280 or height > 576
