"""The video of a result against its source's: its size, what it says of itself, some of its pictures."""

from __future__ import annotations

from fractions import Fraction

from vidsr.container import Clock
from vidsr.frames import Shape, SourceInfo, StreamInfo
from vidsr.proof.alpha import check_alpha
from vidsr.proof.check import Check
from vidsr.proof.compare import compare_pictures
from vidsr.source.weaving import Weaving

_UNTOLD = {"mp4": (None,), "mov": (None,)}
MIN_PSNR = 24.0  # dB; even a smooth upscale of line art stays above it when scaled back down, a wrong frame does not
SHAPE_TOLERANCE = Fraction(1, 200)
MAX_COLOR_SHIFT = 2.5  # levels of 255, per plane; a wrong matrix costs 4 and more on the colours of anime


def check_size(before: StreamInfo, after: StreamInfo, shape: Shape | None) -> Check:
    """shape: expected; None: at least the source's size."""
    size = after.width, after.height
    sizes = sorted({f"{part.width}x{part.height}" for part in after.parts}) or [f"{after.width}x{after.height}"]
    if shape is None:
        passed = after.width >= before.width and after.height >= before.height
    else:
        passed = size == (shape.width, shape.height)
    expected = "" if passed or shape is None else f", expected {shape.width}x{shape.height}"
    found = f"{before.width}x{before.height} -> {' and '.join(sizes)}{expected}"
    return Check("size", passed and not after.parts, found)


def check_aspect(before: StreamInfo, after: StreamInfo, shape: Shape | None) -> Check:
    """The shape of the pixels, where one is expected. Else that of the picture: an enlarged one's shape is as exact as
    its pixels allow, and their own shape is the source's, or square."""
    a, b = before.sample_aspect, after.sample_aspect
    wanted = a if shape is None else shape.sample_aspect
    passed = _close(wanted, b, SHAPE_TOLERANCE)
    if shape is None:
        passed = passed or _close(Fraction(1), b, SHAPE_TOLERANCE)
        old, new = Fraction(before.width, before.height) * a, Fraction(after.width, after.height) * b
        # Half a sample of a size that is rounded to even ones is one pixel.
        passed = passed and _close(old, new, max(SHAPE_TOLERANCE, Fraction(1, min(after.width, after.height))))
    return Check("pixel shape", passed, f"{a} -> {b}")


def check_tags(before: StreamInfo, after: StreamInfo, container: str) -> list[Check]:
    """Colour as resolved, rotation, HDR10, stereo 3D. container: the result's."""
    a, b = before.color, after.color
    same_matrix = before.format.family == "rgb" or (a.matrix, a.full_range) == (b.matrix, b.full_range)
    checks = [
        Check("colour", same_matrix and (a.primaries, a.transfer) == (b.primaries, b.transfer),
              f"{a.matrix} {'full' if a.full_range else 'limited'} range -> "
              f"{b.matrix} {'full' if b.full_range else 'limited'} range"),
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


def check_pictures(
    before: SourceInfo, after: SourceInfo, old: Clock, new: Clock, weaving: Weaving | None = None
) -> list[Check]:
    """Some pictures of all parts of the result, scaled back down, against the source's, or those of `weaving`."""
    same_planes = before.video.format.family != "rgb"  # planes of RGB and YUV cannot be compared one by one
    if not same_planes and not before.video.alpha:
        return []
    found = compare_pictures(before, after, old, new, weaving)
    if not found.compared:
        return [Check("picture", False, "no picture of the result could be compared")]
    alpha = check_alpha(before.video, after.video, found.alpha, weaving is not None)
    if not same_planes:
        return alpha
    picture = f"{found.compared} scaled back down: luma PSNR {found.psnr:.1f} dB, the worst {found.worst:.1f} dB"
    if before.video.parts:
        picture += f", the worst part of the film {found.part:.1f} dB"
    if found.elsewhere:
        picture += f", {found.elsewhere} not where they belong"
    moved = "mean of Y, U, V moves by " + ", ".join(f"{value:.2f}" for value in found.shift) + " of 255 levels"
    checks = [
        *alpha,
        Check("picture", min(found.psnr, found.part) >= MIN_PSNR and not found.elsewhere, picture),
        Check("colour shift", max(found.shift) <= MAX_COLOR_SHIFT, moved),
    ]
    if any(found.off):
        x, y = found.off
        told = f"pictures lie {x} columns and {y} rows of the source too far right and down"
        checks.append(Check("place", False, told))
    if weaving is not None:
        scan = "interlaced" if after.video.interlaced else "progressive"
        checks.append(Check("scan", not after.video.interlaced, scan))
    if found.combs is not None:
        clean, combed = found.combs
        near = f"where combs were, {clean:.1f} levels from the pictures without and {combed:.1f} from those with them"
        checks.append(Check("combs", clean < combed, near))
    return checks
