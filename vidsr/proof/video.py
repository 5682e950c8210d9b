"""The video of a result against its source's: its size, what it says of itself, some of its pictures."""

from __future__ import annotations

from fractions import Fraction

from vidsr.container import Clock
from vidsr.frames import SourceInfo, StreamInfo
from vidsr.proof.check import Check
from vidsr.proof.compare import compare_pictures

_UNTOLD = {"mp4": (None,), "mov": (None,)}
MIN_PSNR = 24.0  # dB; even a smooth upscale of line art stays above it when scaled back down, a wrong frame does not
MAX_COLOR_SHIFT = 2.5  # levels of 255, per plane; a wrong matrix costs 4 and more on the colours of anime


def check_size(before: StreamInfo, after: StreamInfo, scale: int | None) -> Check:
    ratio = Fraction(after.width, before.width)
    even = ratio == Fraction(after.height, before.height) and ratio.denominator == 1
    passed = even and (scale is None or ratio == scale) and not after.parts
    sizes = sorted({f"{part.width}x{part.height}" for part in after.parts}) or [f"{after.width}x{after.height}"]
    return Check("size", passed, f"{before.width}x{before.height} -> {' and '.join(sizes)}")


def check_tags(before: StreamInfo, after: StreamInfo, container: str) -> list[Check]:
    """Colour as resolved, shape of the pixels, rotation, HDR10, stereo 3D. container: the result's."""
    a, b = before.color, after.color
    same_matrix = before.format.family == "rgb" or (a.matrix, a.full_range) == (b.matrix, b.full_range)
    checks = [
        Check("colour", same_matrix and (a.primaries, a.transfer) == (b.primaries, b.transfer),
              f"{a.matrix} {'full' if a.full_range else 'limited'} range -> "
              f"{b.matrix} {'full' if b.full_range else 'limited'} range"),
        Check("pixel shape", _close(before.sample_aspect, after.sample_aspect, Fraction(1, 200)),
              f"{before.sample_aspect} -> {after.sample_aspect}"),
    ]  # fmt: skip
    if before.display_matrix or after.display_matrix:
        same = before.display_matrix is not None and after.display_matrix is not None
        checks.append(Check("rotation", same and _same_matrix(before, after), "kept" if same else "lost"))
    if before.hdr is not None:
        same = after.hdr is not None and _same_hdr(before, after)
        checks.append(Check("HDR10 metadata", same or after.codec == "h264", "kept" if same else "lost"))
    if before.stereo or after.stereo:
        said = f"{before.stereo or 'none'} -> {after.stereo or 'none'}"
        # Outside of Matroska only a codec can tell, and few do: runs say so beforehand.
        checks.append(Check("stereo 3D", after.stereo in (before.stereo, *_UNTOLD.get(container, ())), said))
    return checks


def _same_matrix(before: StreamInfo, after: StreamInfo) -> bool:
    """The rotating part; containers keep it as fixed point or as an angle."""
    a, b = before.display_matrix or (), after.display_matrix or ()
    return all(abs(a[i] - b[i]) <= 256 for i in (0, 1, 3, 4))


def _same_hdr(before: StreamInfo, after: StreamInfo) -> bool:
    a, b = before.hdr, after.hdr
    if a is None or b is None or a.content_light != b.content_light:
        return False
    if (a.mastering is None) != (b.mastering is None):
        return False
    # Encoders keep chromaticities in steps of 1/50000 and luminances in steps of 1/10000 cd/m².
    return all(abs(x - y) <= max(Fraction(1, 1000), x / 500) for x, y in zip(a.mastering or (), b.mastering or ()))


def _close(a: Fraction, b: Fraction, tolerance: Fraction) -> bool:
    return abs(a - b) <= tolerance * max(a, b)


def check_pictures(before: SourceInfo, after: SourceInfo, old: Clock, new: Clock) -> list[Check]:
    """Some pictures of all parts of the result, scaled back down, against the source's."""
    if before.video.format.family == "rgb":
        return []  # planes of RGB and YUV cannot be compared one by one
    found = compare_pictures(before, after, old, new)
    if not found.compared:
        return [Check("picture", False, "no picture of the result could be compared")]
    picture = f"{found.compared} scaled back down: luma PSNR {found.psnr:.1f} dB, the worst {found.worst:.1f} dB"
    if before.video.parts:
        picture += f", the worst part of the film {found.part:.1f} dB"
    moved = "mean of Y, U, V moves by " + ", ".join(f"{value:.2f}" for value in found.shift) + " of 255 levels"
    return [
        Check("picture", min(found.psnr, found.part) >= MIN_PSNR, picture),
        Check("colour shift", max(found.shift) <= MAX_COLOR_SHIFT, moved),
    ]
