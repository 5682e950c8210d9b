"""What is shown instead of noisy frames, against the truth they were drawn from."""

import gc
import tracemalloc
from dataclasses import replace
from itertools import count, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vidsr.reuse import drawn
from tests.vidsr.reuse.drawn import HEIGHT, WIDTH, YUV, by_tile, coded, film, white
from vidsr.frames import Frame, PixelFormat
from vidsr.reuse.shown import without_noise
from vidsr.reuse.stillness import Stillness

NOISY = Stillness(1.0)
X264 = {"preset": "veryfast", "bf": "3"}
CODECS = {
    "x264 18": ("libx264", {**X264, "crf": "18"}),
    "x264 23": ("libx264", {**X264, "crf": "23"}),
    "x264 26": ("libx264", {**X264, "crf": "26"}),
    "mpeg2": ("mpeg2video", {"flags": "qscale", "global_quality": str(4 * 118), "bf": "2"}),
}


def shown_of(frames, stillness=NOISY, format=YUV):
    height, width = frames[0].planes[0].shape
    return list(without_noise(iter(frames), width, height, format, stillness))


def lumas(frames):
    return np.array([frame.planes[0] for frame in frames], np.float64)


def errors(pictures, truth):
    """[frames, rows, columns]: root mean square of each tile, in levels."""
    return np.array([np.sqrt(by_tile((a - b) ** 2)) for a, b in zip(pictures, truth, strict=True)])


def differing(frame, before, format):
    """[rows, columns] bool: tiles of 16x16 luma samples that differ in any plane."""
    rows, columns = (-(-length // 16) for length in frame.planes[0].shape)
    found = np.zeros((rows, columns), bool)
    for i, (plane, last) in enumerate(zip(frame.planes, before.planes, strict=True)):
        x, y = format.chroma_shift if i else (0, 0)
        for at_y, at_x in np.argwhere(plane != last):
            found[at_y // (16 >> y), at_x // (16 >> x)] = True
    return found


# What stands still


@pytest.mark.parametrize(
    "noise, quieter, restless",
    [
        (drawn.none, 1.0, 0.0),
        (white(1), 0.15, 0.0),
        (white(2), 0.1, 0.0),
        (white(3), 0.1, 0.0),
        (drawn.blotchy(1), 0.2, 0.03),
        (drawn.blotchy(2), 0.2, 0.03),
        (drawn.by_brightness(2), 0.1, 0.0),
        (drawn.alternating(1.5), 0.1, 0.0),
        (white(0.5, colour=4), 0.3, 0.0),
        (drawn.quantised(2), 0.4, 0.06),
        (drawn.quantised(4), 0.2, 0.06),
    ],
)
def test_what_stands_still_is_one_picture_with_less_noise(noise, quieter, restless):
    """quieter: squared error over that of the frames; restless: share of tiles that change."""
    truth, frames = film(drawn.still, noise, 30)
    shown = shown_of(frames)
    right = np.array([picture[0] for picture in truth])
    before, after = ((lumas(some) - right) ** 2 for some in (frames, [one.frame for one in shown]))
    assert after.mean() <= quieter * before.mean() + 1e-9
    assert np.mean([one.changed for one in shown[1:]]) <= restless
    for plane in (1, 2):
        own, own_before = (
            np.mean([(f.planes[plane] - t[plane]) ** 2 for f, t in zip(some, truth)])
            for some in ([one.frame for one in shown], frames)
        )
        assert own <= own_before + 1e-9
    for a, b in zip(shown, shown[1:]):
        if not b.changed.any():
            assert all(p is q or np.array_equal(p, q) for p, q in zip(a.frame.planes, b.frame.planes))


def test_the_last_frame_is_as_still_as_the_others():
    """No other frame tells what of it is noise. Each segment has one."""
    _, frames = film(drawn.still, drawn.blotchy(2), 12)
    assert shown_of(frames)[-1].changed.mean() <= 0.03


@pytest.mark.parametrize("codec", CODECS)
def test_what_a_codec_leaves_of_a_still_scene_is_one_picture(codec):
    name, options = CODECS[codec]
    truth, clean = film(drawn.still, count=24)
    frames = coded(clean, name, **options)
    shown = shown_of(frames)
    assert np.mean([one.changed for one in shown[1:]]) <= 0.006
    right = np.array([picture[0] for picture in truth])
    error, before = ((lumas(some) - right) ** 2 for some in ([one.frame for one in shown], frames))
    assert error.mean() <= 1.01 * before.mean()


# What moves is followed


APART = 4.0  # levels, root mean square over a tile: frames that can be told apart


def faults(truth, frames, shown):
    """(worst excess, worst ghost): by how many levels a tile's error is above the source's own there, now or on
    average; how far a tile is on the way to another frame's truth, beyond what the source itself is, 1 being there."""
    right = np.array([picture[0] for picture in truth], np.float64)
    came, found = lumas(frames), lumas([one.frame for one in shown])
    own = errors(came, right)
    excess = errors(found, right) - np.maximum(own, own.mean(0))
    ghost = 0.0
    for i in range(len(right)):
        for j in range(max(0, i - 6), min(len(right), i + 7)):
            way = right[j] - right[i]
            length = by_tile(way**2)
            if (length >= APART**2).any():
                ways = [by_tile((picture[i] - right[i]) * way) / np.maximum(length, 1e-6) for picture in (found, came)]
                ghost = max(ghost, float((ways[0] - np.maximum(ways[1], 0))[length >= APART**2].max()))
    return float(excess.max()), ghost


MOVING = {
    "line 15": drawn.line(15), "line 25": drawn.line(25), "line 60": drawn.line(60), "mouth": drawn.mouth,
    "eye": drawn.eye, "sparkles": drawn.sparkles, "rain": drawn.rain, "zoom": drawn.zoom, "pan": drawn.pan,
    "fade by 0.5": drawn.fade(0.5), "fade by 1": drawn.fade(1), "fade by 4": drawn.fade(4),
    "dissolve": drawn.dissolve, "combs": drawn.combs,
}  # fmt: skip
# Levels that a tile's error may be above the source's own. 0.8: where nothing but rounding is wrong, a level's half to
# and fro; and the last steps of the faintest lines, too small to be told from noise. A dissolve's slow ends: more.
MARGINS = {"dissolve": 1.6, "fade by 0.5": 1.05, "fade by 1": 1.05}


@pytest.mark.parametrize(
    "noise",
    [
        drawn.none, white(1), white(2), drawn.blotchy(1), drawn.blotchy(2), drawn.by_brightness(2),
        drawn.alternating(1.5), drawn.quantised(2),
    ],
    ids=["none", "white 1", "white 2", "blotchy 1", "blotchy 2", "by brightness", "alternating", "quantised"],
)  # fmt: skip
@pytest.mark.parametrize("scene", [name for name in MOVING if name not in ("zoom", "pan")])
def test_what_moves_is_followed(scene, noise):
    truth, frames = film(MOVING[scene], noise, 24)
    excess, ghost = faults(truth, frames, shown_of(frames))
    assert excess <= MARGINS.get(scene, 0.85)
    assert ghost < 0.5


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("scene", ["line 60", "mouth", "eye", "sparkles", "rain", "combs", "fade by 1", "dissolve"])
def test_what_moves_is_followed_after_a_codec(scene, codec):
    name, options = CODECS[codec]
    truth, clean = film(MOVING[scene], count=24)
    frames = coded(clean, name, **options)
    excess, ghost = faults(truth, frames, shown_of(frames))
    assert excess <= MARGINS.get(scene, 0.85)
    assert ghost < 0.5


# A tile with steep lines (contrast 130) is shown as it is one or two frames off, up to a third of a sample.
CAMERA = {"zoom": 5.0, "pan": 2.5}


@pytest.mark.parametrize("noise", [drawn.none, white(1), white(2), drawn.blotchy(1)], ids=["none", "1", "2", "blotchy"])
@pytest.mark.parametrize("scene", CAMERA)
def test_slow_camera_moves_are_followed_nearly(scene, noise):
    truth, frames = film(MOVING[scene], noise, 24)
    excess, ghost = faults(truth, frames, shown_of(frames))
    assert excess <= CAMERA[scene]
    assert ghost <= 1.1


_LAGS = pytest.mark.xfail(strict=True, reason="steep lines are a frame or two off, up to a third of a sample")


@pytest.mark.parametrize("scene", ["pan", pytest.param("zoom", marks=_LAGS)])
def test_slow_camera_moves_are_followed(scene):
    truth, frames = film(MOVING[scene], white(1), 24)
    excess, ghost = faults(truth, frames, shown_of(frames))
    assert excess <= 1
    assert ghost < 0.5


@pytest.mark.parametrize("sigma", [0, 2])
@pytest.mark.parametrize("scene", ["zoom", "pan"])
def test_slow_camera_moves_do_not_freeze(scene, sigma):
    """However slow: at the end each tile is nearer to where it is than to where it was ten frames before."""
    truth, frames = film(MOVING[scene], white(sigma), 40)
    found = shown_of(frames)
    for i in range(10, 40):
        here, there = (np.sqrt(by_tile((found[i].frame.planes[0] - truth[j][0]) ** 2)) for j in (i, i - 10))
        apart = np.sqrt(by_tile((truth[i][0] - truth[i - 10][0]) ** 2))
        assert (here < there)[apart >= 1.5 * APART].all()


# What is not to be mixed


def sides(shown, here, there):
    """[rows, columns]: how much of the way from `here` to `there` each tile is."""
    way = there - here
    return by_tile((shown - here) * way) / np.maximum(by_tile(way**2), 1)


@pytest.mark.parametrize("noise", [drawn.none, white(2), drawn.blotchy(2)], ids=["none", "white", "blotchy"])
def test_nothing_goes_over_a_cut(noise):
    cut = 9
    one, other = drawn.ground(seed=1), drawn.ground(seed=2)[::-1, ::-1]
    _, frames = film(lambda i: one if i < cut else other, noise, 20)
    for i, shown in enumerate(shown_of(frames)):
        here, there = (one, other) if i < cut else (other, one)
        far = by_tile((other - one) ** 2) >= 100
        assert np.abs(sides(shown.frame.planes[0], here, there)[far]).max() <= (0.01 if noise is drawn.none else 0.12)
        if noise is drawn.none:
            assert all(np.array_equal(p, q) for p, q in zip(shown.frame.planes, frames[i].planes))


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_shown_and_leaves_nothing(length):
    quiet, bright = drawn.ground(), np.full((HEIGHT, WIDTH), 235.0, np.float32)
    flash = range(10, 10 + length)
    _, frames = film(lambda i: bright if i in flash else quiet, white(1), 20)
    for i, shown in enumerate(shown_of(frames)):
        here, there = (bright, quiet) if i in flash else (quiet, bright)
        assert np.abs(sides(shown.frame.planes[0], here, there)).max() <= 0.01


@pytest.mark.parametrize("places", [{0}, {7}, {7, 8, 9}, {19}, set(range(20))])
def test_what_decoded_with_errors_is_shown_as_it_came_and_is_in_no_mean(places):
    _, frames = film(drawn.still, white(2), 20)
    gray = tuple(np.full_like(plane, 9) for plane in frames[0].planes)
    broken = [replace(f, planes=gray, corrupt=True) if i in places else f for i, f in enumerate(frames)]
    shown = shown_of(broken)
    good = [f for i, f in enumerate(frames) if i not in places]
    without = iter(shown_of(good) if good else [])
    for i, one in enumerate(shown):
        if i in places:
            assert one.frame is broken[i] and one.changed is None and not one.noise
        else:
            same = next(without)
            assert all(np.array_equal(p, q) for p, q in zip(one.frame.planes, same.frame.planes))
            assert np.array_equal(one.changed, same.changed)


def test_all_noise_is_no_worse_than_it_came():
    truth, frames = film(drawn.still, white(20), 20)
    shown = shown_of(frames)
    right = np.array([picture[0] for picture in truth])
    found, came = ((lumas(some) - right) ** 2 for some in ([one.frame for one in shown], frames))
    assert len(shown) == 20 and found.mean() <= came.mean()
    assert np.mean([one.changed for one in shown]) > 0.9


def test_frames_twice_with_other_noise():
    """As conversions of 24 frames a second to 30 make them: the mouth moves with its own frame."""
    order = [i * 4 // 5 for i in range(25)]
    truth, frames = film(lambda i: drawn.mouth(3 * order[i]), white(1.5), 25)
    excess, ghost = faults(truth, frames, shown_of(frames))
    assert excess <= 0.85 and ghost < 0.1


# Time and memory


def pulled(frames, window):
    """[(frames taken of the source, frames given)] each time one is given, and when the end has come."""
    taken, found = 0, []

    def source():
        nonlocal taken
        for frame in frames:
            taken += 1
            yield frame

    height, width = frames[0].planes[0].shape
    for _ in without_noise(source(), width, height, YUV, Stillness(1.0, window)):
        found.append((taken, len(found) + 1))
    return found


@pytest.mark.parametrize("window", [1, 4, 24])
def test_no_more_than_the_window_is_looked_ahead(window):
    _, frames = film(drawn.mouth, white(1), 40)
    found = pulled(frames, window)
    assert all(taken - given <= window + 1 for taken, given in found)
    assert found[-1] == (40, 40)
    assert found[0][0] <= window + 2


def test_frames_with_errors_do_not_pile_up():
    """A live stream that breaks and stays broken still comes."""
    _, frames = film(drawn.still, white(1), 60)
    broken = [replace(frame, corrupt=i >= 10) for i, frame in enumerate(frames)]
    found = pulled(broken, 4)
    assert max(taken - given for taken, given in found) <= 3 * 4
    assert found[-1] == (60, 60)


@pytest.mark.parametrize("scene, most", [("mouth", 1.3), ("pan", 6), ("dissolve", 3)])
@pytest.mark.parametrize("good", [1, 2, 5])
def test_a_broken_stream_that_comes_back_is_shown_as_before(scene, most, good):
    """Also where no more than a few frames are good at once."""
    truth, frames = film(MOVING[scene], white(1), 50)
    broken = [replace(frame, corrupt=i >= 4 and i % (good + 12) < 12) for i, frame in enumerate(frames)]
    shown = shown_of(broken, Stillness(1.0, 4))
    assert [one.frame.pts for one in shown] == [frame.pts for frame in frames]
    assert [one.changed is None for one in shown] == [frame.corrupt for frame in broken]
    for one, right in zip(shown, truth):
        assert np.sqrt(by_tile((one.frame.planes[0] - right[0]) ** 2)).max() <= most


def test_a_window_of_one_shows_each_frame_as_it_came_or_the_one_before():
    _, frames = film(drawn.mouth, white(1), 24)
    shown = shown_of(frames, Stillness(1.0, 1))
    for i, one in enumerate(shown):
        own = differing(one.frame, frames[i], YUV)
        kept = differing(one.frame, shown[i - 1].frame, YUV) if i else np.ones_like(own)
        assert not (own & kept).any()


def test_an_endless_stream_takes_no_more_memory():
    """Runs that are over are forgotten, also those longer than the window."""
    random = np.random.default_rng(0)
    noise = [random.normal(0, 1, (64, 64)) for _ in range(7)]

    def source():
        for i in count():
            luma = (100 + 50 * (i // 3 % 2) + noise[i % 7]).round().astype(np.uint8)
            yield Frame((luma,), i, 1)

    shown = without_noise(source(), 64, 64, PixelFormat.from_name("gray"), Stillness(1.0, 2))
    tracemalloc.start()
    try:
        kept = []
        for _ in range(2):
            for _ in islice(shown, 200):
                pass
            gc.collect()
            kept.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert kept[1] - kept[0] < 30_000  # a few bytes a frame for each tile would be 50 000


# It depends on the frames and on nothing else


@pytest.mark.parametrize(
    "name, width, height", [("gray", 16, 100), ("gray10le", 9, 40), ("yuv420p", 16, 16), ("gbrp", 5, 3)]
)
def test_what_is_given_stays_as_it_was_given(name, width, height):
    """Frames are still being enlarged when the next ones come."""
    format = PixelFormat.from_name(name)
    _, frames = film(lambda i: np.full((height, width), 60.0 + 20 * i, np.float32), count=6, format=format)
    shown = shown_of(frames, Stillness(1.0, 2), format)
    for one, frame in zip(shown, frames, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(one.frame.planes, frame.planes))


def test_a_segment_depends_on_its_own_frames_only():
    """Whatever else is worked on between, and before."""
    _, frames = film(drawn.mouth, drawn.blotchy(1), 30)
    _, others = film(drawn.rain, white(3), 30)
    alone = shown_of(frames[10:])
    shown_of(frames)
    one = without_noise(iter(frames[10:]), WIDTH, HEIGHT, YUV, NOISY)
    other = without_noise(iter(others), WIDTH, HEIGHT, YUV, NOISY)
    between = [pair[0] for pair in zip(one, other)]
    for a, b in zip(alone, between, strict=True):
        assert np.array_equal(a.changed, b.changed)
        assert all(np.array_equal(p, q) for p, q in zip(a.frame.planes, b.frame.planes))


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_whatever_comes_is_told_truly(data):
    """Shapes, types, times and counts are the source's; what is said to have changed has, and nothing else."""
    name = data.draw(st.sampled_from(["yuv420p", "yuv420p10le", "yuv422p", "yuv444p10le", "gray", "gray10le", "gbrp"]))
    format = PixelFormat.from_name(name)
    width, height = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 150))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    sigma = data.draw(st.sampled_from([0, 0.5, 2]))
    least, window = data.draw(st.sampled_from([0.5, 1.0])), data.draw(st.integers(1, 6))
    stillness = Stillness(least, window, grain=data.draw(st.booleans()))
    unit, frames, luma = 2.0 ** (format.bits - 8), [], np.full((height, width), 120.0)
    for i in range(data.draw(st.integers(0, 9))):
        if data.draw(st.booleans()):
            x, y = random.integers(0, width), random.integers(0, height)
            luma = luma.copy()
            luma[y : y + random.integers(1, 30), x : x + random.integers(1, 30)] = random.integers(20, 230)
        planes = [plane + random.normal(0, 1, plane.shape) * sigma for plane in drawn.coloured(luma, format)]
        pts, corrupt = 10 * i + data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9)) == 0
        frames.append(Frame(drawn.as_planes(planes, format), pts, i, corrupt))
    kept = [tuple(plane.copy() for plane in frame.planes) for frame in frames]
    shown = list(without_noise(iter(frames), width, height, format, stillness))
    assert [(one.frame.pts, one.frame.duration, one.frame.corrupt) for one in shown] == [
        (frame.pts, frame.duration, frame.corrupt) for frame in frames
    ]
    assert all(np.array_equal(p, q) for frame, planes in zip(frames, kept) for p, q in zip(frame.planes, planes))
    last = None
    for one in shown:
        assert [plane.shape for plane in one.frame.planes] == list(format.plane_shapes(width, height))
        assert all(plane.dtype == format.dtype and plane.max() < 256 * unit for plane in one.frame.planes)
        if one.frame.corrupt:
            assert one.changed is None
            continue
        assert one.changed.shape == (-(-height // 16), -(-width // 16))
        if stillness.grain:
            assert [noise.shape for noise in one.noise] == [plane.shape for plane in one.frame.planes]
            assert all(noise.dtype == np.float32 for noise in one.noise)
        differs = np.ones_like(one.changed) if last is None else differing(one.frame, last, format)
        assert one.changed[differs].all()
        # Beyond its sides a picture is mirrored, so a tile that has little of it changes with the one before it.
        assert not (one.changed & ~differs)[: height // 16, : width // 16].any()
        last = one.frame
