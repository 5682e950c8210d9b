import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidsr.frames import ColorSpec, PixelFormat
from vidsr.source.colorspec import resolve_color, result_color


def resolve(width=640, height=480, matrix=2, primaries=2, transfer=2, range_=0, format="yuv420p", codec="h264", **kw):
    return resolve_color(width, height, matrix, primaries, transfer, range_, format, codec, **kw)


@pytest.mark.parametrize(
    ("size", "matrix", "matrix_code", "primaries", "transfer"),
    [
        ((640, 480), "bt601", 6, 6, 6),
        ((720, 486), "bt601", 6, 6, 6),
        ((720, 576), "bt601", 6, 5, 1),
        ((640, 360), "bt601", 6, 1, 1),
        ((1024, 577), "bt709", 1, 1, 1),
        ((1280, 480), "bt709", 1, 1, 1),
        ((1920, 1080), "bt709", 1, 1, 1),
    ],
)
def test_nothing_given(size, matrix, matrix_code, primaries, transfer):
    """mpv's rule for each size."""
    color = resolve(*size)
    assert (color.matrix, color.matrix_code, color.primaries, color.transfer) == (
        matrix, matrix_code, primaries, transfer,
    )  # fmt: skip
    assert not color.full_range and color.chroma_location == "left"
    assert len(color.assumed) == 4


def test_each_guess_is_a_sentence():
    assert resolve().assumed[0] == "colour matrix not given: BT.601, the rule for pictures up to 576 lines"
    assert resolve(matrix=1, primaries=1, transfer=1, range_=1).assumed == ()
    assert "primaries" in resolve(matrix=1, transfer=1, range_=1).assumed[0]


@pytest.mark.parametrize(
    ("code", "matrix"),
    [(1, "bt709"), (4, "fcc"), (5, "bt601"), (6, "bt601"), (7, "smpte240m"), (8, "ycgco"), (9, "bt2020")],
)
def test_given_matrices_win_over_the_size(code, matrix):
    color = resolve(3840, 2160, matrix=code, primaries=1, transfer=1, range_=1)
    assert (color.matrix, color.matrix_code, color.assumed) == (matrix, code, ())


def test_primaries_follow_a_given_matrix():
    assert resolve(matrix=9).primaries == 9
    assert resolve(720, 576, matrix=1).primaries == 1
    assert resolve(720, 576, matrix=5).primaries == 5


@pytest.mark.parametrize(
    ("code", "primaries", "matrix"),
    [(10, 9, "bt2020"), (14, 9, "bt2020"), (12, 9, "bt2020"), (12, 1, "bt709"), (13, 5, "bt709")],
)
def test_unknown_matrices_keep_their_tag_and_are_said(code, primaries, matrix):
    color = resolve(matrix=code, primaries=primaries, transfer=1, range_=1)
    assert (color.matrix, color.matrix_code) == (matrix, code)
    assert "processed as" in color.assumed[0] and "tag kept" in color.assumed[0]


@pytest.mark.parametrize(
    ("format", "codec", "given_", "full"),
    [
        ("yuv420p", "h264", 0, False),
        ("yuv420p", "h264", 2, True),
        ("yuvj420p", "h264", 0, True),
        ("yuv420p", "mjpeg", 0, True),
        ("gbrp", "ffv1", 0, True),
        ("gbrp", "h264", 1, False),
        ("gray", "ffv1", 0, False),
    ],
)
def test_range(format, codec, given_, full):
    assert resolve(format=format, codec=codec, range_=given_).full_range == full


@pytest.mark.parametrize("format", ["gbrp10le", "rgb24", "bgr0", "pal8"])
def test_rgb_formats(format):
    color = resolve(format=format)
    assert (color.matrix, color.matrix_code, color.full_range, color.primaries) == ("rgb", 0, True, 1)


def test_identity_matrix_needs_full_chroma():
    assert resolve(matrix=0, format="yuv444p").matrix == "rgb"
    color = resolve(matrix=0, format="yuv420p")
    assert color.matrix == "bt601" and "subsampled" in color.assumed[0]
    assert resolve(matrix=0, format="gray").matrix == "bt601"


@pytest.mark.parametrize(
    ("format", "codec", "transfer", "given_", "location"),
    [
        ("yuv420p", "h264", 1, None, "left"),
        ("yuv420p", "mpeg1video", 1, None, "center"),
        ("yuvj420p", "mjpeg", 1, None, "center"),
        ("yuv420p10le", "hevc", 16, None, "topleft"),
        ("p010le", "hevc", 18, 0, "topleft"),
        ("yuv420p10le", "hevc", 16, 1, "left"),
        ("yuv420p", "mpeg1video", 1, 1, "left"),
        ("yuv420p", "h264", 1, 3, "topleft"),
        ("yuv420p", "h264", 1, 4, "topleft"),
        ("yuv420p", "h264", 1, 6, "center"),
    ],
)
def test_chroma_location(format, codec, transfer, given_, location):
    assert resolve(format=format, codec=codec, transfer=transfer, chroma_location=given_).chroma_location == location


def test_result_color():
    assert result_color(resolve(), PixelFormat("yuv", 10, (1, 1))) == resolve()
    from_rgb = result_color(resolve(format="gbrp", transfer=13), PixelFormat("yuv"))
    assert (from_rgb.matrix, from_rgb.matrix_code, from_rgb.full_range, from_rgb.transfer) == ("bt709", 1, False, 13)
    assert result_color(resolve(format="gbrp"), PixelFormat("rgb")) == resolve(format="gbrp")
    to_rgb = result_color(resolve(), PixelFormat("rgb"))
    assert (to_rgb.matrix, to_rgb.matrix_code, to_rgb.full_range) == ("rgb", 0, True)


codes = st.integers(-1, 30)
names = st.sampled_from(["yuv420p", "yuvj444p", "yuv444p", "gray", "gray10le", "gbrp", "nv12", "p010le", "pal8", "zzz"])


@settings(deadline=None)
@given(st.integers(1, 9000), st.integers(1, 9000), codes, codes, codes, codes, names, st.none() | codes)
def test_never_unresolved(width, height, matrix, primaries, transfer, range_, format, location):
    color = resolve_color(width, height, matrix, primaries, transfer, range_, format, "h264", location)
    assert isinstance(color, ColorSpec)
    assert color.matrix_code in range(18) and color.matrix_code not in (2, 3)
    assert color.primaries in {1, 22, *range(4, 13)} and color.transfer in {1, *range(4, 19)}
    assert all(sentence and not sentence.endswith(".") for sentence in color.assumed)
    assert result_color(color, PixelFormat("yuv")).matrix != "rgb"
