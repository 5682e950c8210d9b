"""What is still is not computed again, and whatever moves is: lines, mouths, fades, grain."""

from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vidsr.backends.test_backends import compact, spec_for
from vidsr.backends import open_backend
from vidsr.backends.cpu import TorchBackend
from vidsr.backends.cuda import CudaBackend
from vidsr.backends.nearest import NearestBackend
from vidsr.choose.options import Options
from vidsr.choose.prepare import choose_reuse, prepare
from vidsr.frames import Frame, FrameBatch, PixelFormat
from vidsr.models.checkpoint import save_generator
from vidsr.report import Report
from vidsr.reuse.rectangles import merged
from vidsr.reuse.reuse import ReuseCounts, reuse
from vidsr.reuse.signature import TILE
from vidsr.reuse.stillness import Stillness, choose_noise
from vidsr.run.pipeline import run
from vidsr.run.upscale import upscale

EXACT, NOISY = Stillness(), Stillness(1.0)
YUV = PixelFormat.from_name("yuv420p")


pytestmark = pytest.mark.usefixtures("one_thread")


def frames_of(lumas, format=YUV, corrupt=()):
    """Frames with these pictures as luma, chroma (or the other colours) made of it; lumas: float arrays, 0..255."""
    frames = []
    for i, luma in enumerate(lumas):
        height, width = luma.shape
        planes = []
        for j, (rows, columns) in enumerate(format.plane_shapes(width, height)):
            plane = cv2.resize(np.asarray(luma, np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
            plane = plane if j == 0 else 128 + (plane - 128) * (0.5 if j == 1 else -0.3)
            planes.append((plane.clip(0, 255) * 2.0 ** (format.bits - 8)).round().astype(format.dtype))
        frames.append(Frame(tuple(planes), pts=40 * i, duration=40, corrupt=i in corrupt))
    return frames


def grouped(frames, format, size=1):
    color = spec_for(format=format.name).source_color
    return [FrameBatch(tuple(frames[i : i + size]), format, color) for i in range(0, len(frames), size)]


def on_cpu(scale=2, format=YUV):
    return TorchBackend(compact(), spec_for(format=format.name, scale=scale))


def in_patches(scale=2, format=YUV):
    return CudaBackend(compact(), spec_for(format=format.name, scale=scale), device=torch.device("cpu"))


def background(width=160, height=96, seed=0):
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    return 60 + 120 * cv2.GaussianBlur(noise, (0, 0), 3).clip(0, 1)


def both(frames, stillness, backend=None, format=YUV, size=1):
    """(reused, full, ReuseCounts) results of the same frames."""
    backend = backend or on_cpu(format=format)
    saved = ReuseCounts()
    got = list(reuse(grouped(frames, format, size), backend, stillness, counts=saved))
    return got, list(upscale(grouped(frames, format, size), backend)), saved


def psnr(a, b, peak=255.0):
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return np.inf if error == 0 else 10 * np.log10(peak**2 / error)


def worst_tile(a, b, side=32):
    return min(
        psnr(a[y : y + side, x : x + side], b[y : y + side, x : x + side])
        for y in range(0, a.shape[0], side)
        for x in range(0, a.shape[1], side)
    )


# Exact reuse is the full computation


@settings(deadline=None, max_examples=25)
@given(data=st.data())
@pytest.mark.parametrize("make", [on_cpu, in_patches])
def test_exact_reuse_is_the_full_computation(make, data):
    """Whatever moves where, in whatever size, format, scale and batches: to a rounding of the last bit."""
    format = PixelFormat.from_name(
        data.draw(st.sampled_from(["yuv420p", "yuv420p10le", "yuv422p", "yuv444p", "gray", "gbrp"]))
    )
    width, height = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 110))
    scale, size = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 3))
    luma = background(width, height, data.draw(st.integers(0, 99)))
    lumas = []
    for _ in range(data.draw(st.integers(1, 6))):
        luma = luma.copy()
        for _ in range(data.draw(st.integers(0, 2))):
            x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
            luma[y : y + data.draw(st.integers(1, 12)), x : x + data.draw(st.integers(1, 12))] = 250
        lumas.append(luma)
    frames = frames_of(lumas, format)
    got, full, saved = both(frames, EXACT, make(scale, format), format, size)
    assert [(f.pts, f.duration) for f in got] == [(f.pts, f.duration) for f in frames]
    for a, b in zip(got, full, strict=True):
        for p, q in zip(a.planes, b.planes, strict=True):
            assert p.shape == q.shape and p.dtype == q.dtype
            assert np.abs(p.astype(int) - q).max() <= 1
    assert saved.frames == len(frames) and saved.whole >= 1 and saved.all_pixels == len(frames) * width * height


def test_exact_reuse_without_a_network_is_bit_for_bit():
    backend = NearestBackend(spec_for("nearest", scale=3))
    lumas = [background()] * 3 + [background(seed=1)] * 2
    got, full, saved = both(frames_of(lumas), EXACT, backend)
    assert all(np.array_equal(p, q) for a, b in zip(got, full) for p, q in zip(a.planes, b.planes))
    assert (saved.whole, saved.computed_pixels) == (2, 2 * 160 * 96)


def test_nothing_is_asked_of_the_backend_for_still_frames():
    class Counting:
        scale, in_flight, context, patch = 2, 1, 0, 0

        def __init__(self):
            self.inner, self.sizes = NearestBackend(spec_for("nearest", scale=2)), []

        def submit(self, batch):
            self.sizes += [(batch.width, batch.height)] * len(batch)
            return self.inner.submit(batch)

    backend, luma = Counting(), background()
    moved = luma.copy()
    moved[40:44, 50:54] = 255
    got = list(reuse(grouped(frames_of([luma] * 4 + [moved] * 3), YUV), backend, EXACT))
    assert backend.sizes == [(160, 96), (16, 16)]
    assert got[1].planes[0] is got[3].planes[0] and got[4].planes[0] is got[6].planes[0]
    assert got[3].planes[0] is not got[4].planes[0]
    assert not np.array_equal(got[3].planes[0], got[4].planes[0])


@pytest.mark.parametrize("in_flight", [1, 3])
def test_results_may_come_late(in_flight):
    """Pieces are planned before the results they are painted on have come."""
    backend = NearestBackend(spec_for("nearest", scale=2))
    backend.in_flight = in_flight
    lumas = [background()]
    for i in range(8):
        lumas.append(lumas[-1].copy())
        lumas[-1][10 * i : 10 * i + 5, 15 * i : 15 * i + 5] = 250
    got, full, _ = both(frames_of(lumas), EXACT, backend)
    assert all(np.array_equal(p, q) for a, b in zip(got, full) for p, q in zip(a.planes, b.planes))


# What moves never freezes, with the widest tolerance that is chosen unasked


def still_with(draw, count):
    """`count` pictures of a background with something drawn on each."""
    lumas = []
    for i in range(count):
        luma = background()
        draw(luma, i)
        lumas.append(luma)
    return lumas


@pytest.mark.parametrize("make", [on_cpu, in_patches])
@pytest.mark.parametrize("contrast", [10, 25, 120])
def test_a_thin_line_that_creeps(make, contrast):
    """One pixel wide, a quarter of a pixel a frame."""

    def line(luma, i):
        x, part = divmod(40 + i / 4, 1)
        luma[10:80, int(x)] += contrast * (1 - part)
        luma[10:80, int(x) + 1] += contrast * part

    got, full, saved = both(frames_of(still_with(line, 24)), NOISY, make())
    if make is on_cpu:  # patches with their context are larger than such a picture
        assert saved.computed_pixels < 0.6 * saved.all_pixels
    bare = next(iter(upscale(grouped(frames_of([background()]), YUV), make()))).planes[0].astype(float)
    for a, b in zip(got, full):
        assert worst_tile(a.planes[0], b.planes[0]) >= 35
        found, right = ((result.planes[0] - bare)[60:140].mean(0).argmax() for result in (a, b))
        assert abs(int(found) - int(right)) <= 2  # one pixel of the source


def test_a_mouth():
    """A few dark pixels open and close in a face that is still."""

    def mouth(luma, i):
        luma[20:80, 40:110] = 200
        luma[60 : 61 + i % 4, 70:78] = 60

    got, full, saved = both(frames_of(still_with(mouth, 24)), NOISY)
    assert saved.computed_pixels < 0.4 * saved.all_pixels
    assert min(worst_tile(a.planes[0], b.planes[0]) for a, b in zip(got, full)) >= 45


@pytest.mark.parametrize("format", ["yuv420p", "yuv420p10le"])
def test_changes_too_small_to_see_do_not_add_up(format):
    """A fade by a quarter of a level a frame: against the frame before it would never be noticed."""
    kind = PixelFormat.from_name(format)
    frames = frames_of([background() + i / 4 for i in range(60)], kind)
    got, full, saved = both(frames, NOISY, format=kind)
    unit = 2.0 ** (kind.bits - 8)
    for a, b in zip(got, full):
        assert abs(a.planes[0].mean() - b.planes[0].mean()) <= 0.6 * unit
    assert saved.computed_pixels < 0.7 * saved.all_pixels
    assert got[-1].planes[0].mean() > got[0].planes[0].mean() + 12 * unit


def test_a_slow_pan():
    wide = background(300, 96)
    lumas = [cv2.warpAffine(wide, np.float32([[1, 0, -i / 3], [0, 1, 0]]), (160, 96)) for i in range(30)]
    got, full, _ = both(frames_of(lumas), NOISY)
    assert min(worst_tile(a.planes[0], b.planes[0]) for a, b in zip(got, full)) >= 35


@pytest.mark.parametrize("make", [on_cpu, in_patches])
def test_grain_too_strong_to_see_through_is_computed_whole(make):
    generator = np.random.default_rng(0)
    frames = frames_of([background() + generator.normal(0, 12, (96, 160)) for _ in range(6)])
    got, full, saved = both(frames, NOISY, make())
    assert saved.whole == 6 and saved.computed_pixels == saved.all_pixels
    assert all(np.array_equal(p, q) for a, b in zip(got, full) for p, q in zip(a.planes, b.planes))


@pytest.mark.parametrize("make", [on_cpu, in_patches])
def test_film_grain_is_taken_out_and_computed_once(make):
    """Of what stands still: nearer to what becomes of the clean picture than each frame by itself is."""
    generator = np.random.default_rng(0)
    frames = frames_of([background() + generator.normal(0, 3, (96, 160)) for _ in range(6)])
    got, full, saved = both(frames, NOISY, make())
    assert saved.whole == 1 and saved.computed_pixels == 160 * 96
    (clean,) = upscale(grouped(frames_of([background()]), YUV), make())
    for a, b in zip(got, full):
        assert psnr(a.planes[0], clean.planes[0]) > psnr(b.planes[0], clean.planes[0]) + 5
        assert a.planes[0] is got[0].planes[0]


def test_a_flash_leaves_nothing_behind():
    lumas = [background()] * 3 + [np.full((96, 160), 250.0)] + [background()] * 3
    got, full, saved = both(frames_of(lumas), NOISY)
    assert saved.whole == 3
    assert all(np.array_equal(p, q) for a, b in zip(got, full) for p, q in zip(a.planes, b.planes))


def test_a_cut():
    lumas = [background(seed=1)] * 3 + [background(seed=2)] * 3
    got, full, saved = both(frames_of(lumas), NOISY)
    assert saved.whole == 2
    assert all(np.array_equal(p, q) for a, b in zip(got, full) for p, q in zip(a.planes, b.planes))


@pytest.mark.parametrize("first", [0, 2])
def test_what_decoded_with_errors_is_no_anchor(first):
    """Its own result is its own; nothing of it is taken over, and nothing is taken over into it."""
    broken = background()
    broken[30:60, 40:90] = 128
    lumas = [background()] * first + [broken] + [background()] * 3
    got, full, saved = both(frames_of(lumas, corrupt={first}), NOISY)
    assert all(np.array_equal(p, q) for a, b in zip(got, full) for p, q in zip(a.planes, b.planes))
    assert got[first].corrupt and saved.whole == 2  # itself, and the first good one


@pytest.mark.parametrize("size", [(1, 1), (160, 1), (1, 96), (17, 16), (16, 17), (33, 31)])
@pytest.mark.parametrize("make", [on_cpu, in_patches])
def test_small_and_odd_pictures(make, size):
    width, height = size
    lumas = [np.full((height, width), 100.0), np.full((height, width), 100.0)]
    lumas.append(lumas[0].copy())
    lumas[2][-1, -1] = 200
    got, full, _ = both(frames_of(lumas), EXACT, make())
    for a, b in zip(got, full):
        assert all(np.abs(p.astype(int) - q).max() <= 1 for p, q in zip(a.planes, b.planes))
    assert not np.array_equal(got[1].planes[0], got[2].planes[0])


def test_patches_are_of_one_size():
    class Sizes:
        scale, in_flight, context, patch = 2, 1, 6, 32

        def __init__(self):
            self.inner, self.seen = NearestBackend(spec_for("nearest", scale=2)), set()

        def submit(self, batch):
            self.seen.add((batch.width, batch.height))
            return self.inner.submit(batch)

    backend = Sizes()
    frames = frames_of([background()])
    for i in range(12):
        luma = background()
        luma[8 * i : 8 * i + 3, 13 * i : 13 * i + 3] = 255
        frames += frames_of([luma])
    got = list(reuse(grouped(frames, YUV, 4), backend, EXACT))
    assert backend.seen == {(160, 96), (44, 44)}
    full = list(upscale(grouped(frames, YUV), NearestBackend(spec_for("nearest", scale=2))))
    assert all(np.array_equal(p, q) for a, b in zip(got, full) for p, q in zip(a.planes, b.planes))


# Rectangles


@given(
    st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.6), st.integers(0, 2**32),
    st.floats(0, 8), st.floats(0, 20),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_rectangles_cover_what_changed(rows, columns, density, seed, margin, call):
    changed = np.random.default_rng(seed).random((rows, columns)) < density
    changed[seed % rows, seed % columns] = True
    boxes = merged(changed, margin, call)
    covered = np.zeros_like(changed)
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= columns and 0 <= y0 < y1 <= rows
        assert changed[y0:y1, x0:x1].any()
        covered[y0:y1, x0:x1] = True
    assert covered[changed].all()


def test_rectangles_are_merged_when_that_is_cheaper():
    changed = np.zeros((20, 30), bool)
    changed[2, 3] = changed[4, 5] = changed[15, 25] = True
    assert sorted(merged(changed, 4, 1)) == [(3, 2, 6, 5), (25, 15, 26, 16)]
    assert len(merged(changed, 0, 0)) == 3
    assert len(merged(changed, 100, 100)) == 1


# What counts as still


def noisy(sigma, count=8):
    generator = np.random.default_rng(1)
    return frames_of([background() + generator.normal(0, sigma, (96, 160)) for _ in range(count)])


def test_what_counts_as_noise_follows_the_source():
    clean = frames_of([background()] * 6)
    assert choose_noise([clean], YUV) == choose_noise([], YUV) == choose_noise([clean[:1]], YUV) == 0
    little, more = choose_noise([noisy(0.15)], YUV), choose_noise([noisy(0.5)], YUV)
    assert 0.5 <= little < more <= 1
    assert 0.5 <= choose_noise([noisy(6)], YUV) <= 1
    assert choose_noise([clean, noisy(0.5)], YUV) > 0  # noisy in one place


def test_what_counts_as_noise_is_in_levels_of_255():
    """10 bits of the same picture: the same, of four times the codes."""
    ten = PixelFormat.from_name("yuv420p10le")
    generator = np.random.default_rng(1)
    lumas = [(background() + generator.normal(0, 0.2, (96, 160))).round() for _ in range(6)]
    assert choose_noise([frames_of(lumas, ten)], ten) == pytest.approx(choose_noise([frames_of(lumas)], YUV), abs=0.05)


def test_the_words(tmp_path):
    spec = spec_for("cpu")
    assert choose_reuse("off", spec, None) is None
    assert choose_reuse("exact", spec, None) == EXACT
    assert choose_reuse(None, replace(spec, name="nearest"), None) == EXACT
    assert TILE % 2 == 0


# Whole runs


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds, compressed, on twos: a mouth moves over a background that is still."""
    path = tmp_path_factory.mktemp("reuse") / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "23", "g": "24", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(48):
            luma = background()
            luma[60 : 61 + i // 2 % 4, 70:78] = 20
            picture = av.VideoFrame(160, 96, "yuv420p")
            for plane, values in zip(picture.planes, frames_of([luma])[0].planes):
                view = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
                view[: values.shape[0], : values.shape[1]] = values
            picture.pts, picture.time_base = i, Fraction(1, 24)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def lumas(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def test_a_whole_run(clip, tmp_path):
    """By the command's own choices: quieter than the full computation, nearly the same, and less work."""
    model = tmp_path / "model.safetensors"
    save_generator(compact(), model, {})
    results, shares = {}, {}
    for word in ("off", "exact", "auto"):
        options = Options(
            output=tmp_path / f"{word}.mkv", scale=2, model=str(model), backend="cpu", precision="fp32", codec="ffv1",
            threads=1, reuse=None if word == "auto" else word,
        )  # fmt: skip
        told = []
        assert run(prepare(clip, options, Report()), open_backend, Report(), told.append).passed
        results[word], shares[word] = lumas(options.output), told[-3].reused
    assert [len(pictures) for pictures in results.values()] == [48] * 3
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(results["off"], results["exact"]))
    assert min(psnr(a, b) for a, b in zip(results["off"], results["auto"])) >= 45
    assert shares["off"] == 0 <= shares["exact"] <= shares["auto"] and shares["auto"] > 0.5


def test_a_stopped_run_goes_on_with_the_same_bytes(clip, tmp_path, monkeypatch):
    model = tmp_path / "model.safetensors"
    save_generator(compact(), model, {})
    monkeypatch.setattr("vidsr.run.segments.MIN_FRAMES", 24)
    packets = []
    for name, stops in (("whole", False), ("stopped", True)):
        options = Options(output=tmp_path / f"{name}.mkv", scale=2, model=str(model), backend="cpu", threads=1)
        job = prepare(clip, options, Report())
        if stops:
            def stop(where):
                if where.done == 30:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                run(job, open_backend, Report(), stop)
            job = prepare(clip, options, Report())
        assert job.reuse not in (None, EXACT)
        seen = []
        run(job, open_backend, Report(), seen.append)
        assert seen[0].resumed == (24 if stops else 0)
        with av.open(str(options.output)) as container:
            packets.append([bytes(packet) for packet in container.demux(video=0)])
    assert packets[0] == packets[1]
