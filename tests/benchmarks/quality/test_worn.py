"""Worn clips find their originals, are measured frame for frame, shown in sheets, and judged beside the others."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.__main__ import main
from benchmarks.common.material import _Reduced, clip_material, find_worn_original, worn_kind
from benchmarks.common.metrics import METRICS
from benchmarks.common.pictures import write_clip
from benchmarks.peers import scorer
from benchmarks.peers.folder import Unusable
from benchmarks.quality.sheet import ORIGINAL, SIDE, TALLEST, WIDEST, Crops, Row, meeting, write_blind, write_sheets
from benchmarks.quality.subjects import find_clips
from benchmarks.quality.verdict import changes, verdicts
from vidsr.errors import SourceError
from vidsr.models import checkpoint
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import save_generator

pytestmark = pytest.mark.usefixtures("one_thread")
SCENE = _Reduced(64, 48)


def write_worn(clip, original, frames=5, more=3):
    """A clip and its original, which goes on for some frames."""
    for path in (clip, original):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(clip, SCENE, frames)
    write_clip(original, SCENE.large, frames + more)
    return clip


# ---- finding --------------------------------------------------------------------------------------------------------


def test_kinds_are_in_the_names(tmp_path):
    names = {"a_b_worn_dvd.mkv": "dvd", "a_worn.mkv": "", "a_worn_two_words.mp4": "two_words"}
    assert {name: worn_kind(tmp_path / name) for name in names} == names
    assert worn_kind(tmp_path / "a_lowres270_crf16.mkv") is None and worn_kind(tmp_path / "_worn_dvd.mkv") is None


def test_originals_are_found_beside_in_given_folders_and_next_door(tmp_path):
    clip = write_worn(tmp_path / "worn" / "a [1]_worn_dvd.mkv", tmp_path / "animated" / "a [1]_highres1080.mkv")
    assert find_worn_original(clip) == tmp_path / "animated" / "a [1]_highres1080.mkv"
    far = tmp_path / "else" / "where"
    write_worn(tmp_path / "worn" / "b_worn.mkv", far / "b_highres.mkv")
    assert find_worn_original(tmp_path / "worn" / "b_worn.mkv") is None
    assert find_worn_original(tmp_path / "worn" / "b_worn.mkv", [far]) == far / "b_highres.mkv"
    write_clip(tmp_path / "worn" / "a [1]_highres270.mkv", SCENE, 5)  # of the wrong size: not that one
    assert find_worn_original(clip).name == "a [1]_highres1080.mkv"
    write_clip(tmp_path / "worn" / "a [1]_highres192.mkv", SCENE.large, 8)
    assert find_worn_original(clip) == tmp_path / "worn" / "a [1]_highres192.mkv"
    write_clip(tmp_path / "worn" / "a [1]_highres_too.mkv", SCENE.large, 8)
    assert find_worn_original(tmp_path / "worn" / "a [1]_lowres270_crf16.mkv") is None


def test_worn_clips_are_subjects_of_their_own(tmp_path):
    write_worn(tmp_path / "worn" / "a_worn_dvd.mkv", tmp_path / "large" / "a_highres1080.mkv")
    write_worn(tmp_path / "worn" / "scene1_worn.mkv", tmp_path / "large" / "scene1_highres.mkv")
    write_clip(tmp_path / "worn" / "lost_worn_rip.mkv", SCENE, 5)
    subjects, lines = find_clips([tmp_path / "worn"], 1)
    assert [(s.name, s.group, s.scale) for s in subjects] == [
        ("a_worn_dvd", "worn clips", 4), ("a_worn_dvd", "worn clips", 2),
        ("scene1_worn", "worn scenes", 4), ("scene1_worn", "worn scenes", 2),
    ]  # fmt: skip
    assert len(lines) == 1 and "lost_worn_rip.mkv: no original beside it" in lines[0]
    (whole,), (half,) = subjects[0].load(), subjects[1].load()
    assert whole.indices == half.indices == (2,) and whole.originals[0].shape == (192, 256, 3)
    again, _ = find_clips([tmp_path / "worn"], 3)
    assert again[0].digest != subjects[0].digest and again[0].load()[0].indices == (0, 2, 4)
    drawn = [SCENE.large.picture(i)[:, :, ::-1] for i in range(8)]
    for i, original in zip((0, 2, 4), again[0].load()[0].originals):
        errors = [np.abs(original.astype(float) - picture).mean() for picture in drawn]
        assert int(np.argmin(errors)) == i


def test_an_original_that_ends_early_or_runs_at_another_rate_is_refused(tmp_path):
    clip = write_worn(tmp_path / "a_worn_dvd.mkv", tmp_path / "a_highres1080.mkv", 5, -2)
    with pytest.raises(SourceError, match="has less than 5 frames"):
        clip_material(clip, tmp_path / "a_highres1080.mkv", 3, longer=True)
    (tmp_path / "slow.mkv").write_bytes(slowed(tmp_path))
    with pytest.raises(SourceError, match=r"its frame 2 is at 0\.\d+ s, .*: not the same clip"):
        clip_material(clip, tmp_path / "slow.mkv", 1, longer=True)


def slowed(folder):
    """The original at half the rate."""
    import av

    path = folder / "half.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=6, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
        for i in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(SCENE.large.picture(i), "bgr24")))
        container.mux(stream.encode())
    return path.read_bytes()


# ---- sheets ---------------------------------------------------------------------------------------------------------


def test_the_crop_is_where_lines_and_flats_meet():
    picture = np.random.default_rng(0).integers(0, 256, (700, 800, 3), np.uint8)  # all edges, and nothing flat
    picture[300:600, 100:400] = 200  # flat
    cv2.circle(picture, (250, 450), 80, (20, 20, 20), 4, cv2.LINE_AA)
    rows, columns = meeting(picture)
    assert rows.stop - rows.start == columns.stop - columns.start == SIDE
    assert 250 < (rows.start + rows.stop) / 2 < 650 and 50 < (columns.start + columns.stop) / 2 < 450
    rows, columns = meeting(picture[:100, :300])
    assert (rows.start, rows.stop) == (0, 100) and columns.stop - columns.start == SIDE


def crops(names, seed, side=SIDE):
    """A crop of each: all of one colour, which tells it from the others."""
    colours = {name: (10 * i + seed, 5 * seed, 90) for i, name in enumerate(names)}
    return {name: np.full((side, side, 3), colour, np.uint8) for name, colour in colours.items()}


@pytest.mark.parametrize(("count", "columns", "pages"), [(1, 3, 1), (8, 8, 2), (17, 6, 3)])
def test_pages_are_no_larger_than_can_be_seen(tmp_path, count, columns, pages):
    names = [*(f"u{i}" for i in range(columns - 1)), ORIGINAL]
    rows = [Row(f"clip {i}", crops(names, i)) for i in range(count)]
    (tmp_path / "quality-worn-9.png").touch()
    written = write_sheets(rows, names, tmp_path / "quality-worn")
    assert [path.name for path in written] == [f"quality-worn-{i + 1}.png" for i in range(pages)]
    assert sorted(tmp_path.iterdir()) == written
    found = set()
    for path in written:
        sheet = cv2.imread(str(path))
        assert sheet.shape[0] <= TALLEST and sheet.shape[1] <= WIDEST
        found |= {tuple(colour) for colour in sheet[::20, ::20, ::-1].reshape(-1, 3).tolist()}
    assert {tuple(crop[0, 0].tolist()) for row in rows for crop in row.crops.values()} <= found


def test_who_is_who_is_in_the_key_alone(tmp_path):
    names = ["one", "two", "three", "four"]
    rows = [Row(f"clip {i}", crops(["bicubic", *names, ORIGINAL], i)) for i in range(6)]
    rows[5] = replace(rows[5], crops={name: crop for name, crop in rows[5].crops.items() if name != "two"})
    (page,) = write_blind(rows, "bicubic", names, tmp_path / "blind")
    key = json.loads((tmp_path / "blind" / "key.json").read_text())
    sheet = cv2.imread(str(page))[:, :, ::-1]
    band, wide = sheet.shape[0] // 6, (sheet.shape[1] + 6) // 6
    for i, (row, line) in enumerate(zip(rows, key)):
        middle = [tuple(sheet[i * band + band // 2, j * wide + wide // 2].tolist()) for j in range(6)]
        shown = ["bicubic", *(line[letter] for letter in "ABCD" if letter in line), ORIGINAL]
        assert line.pop("clip") == row.title and set(line.values()) == set(names) & set(row.crops)
        assert [tuple(row.crops[name][0, 0].tolist()) for name in shown] == middle[: len(shown)]
    assert len({tuple(line.values()) for line in key}) > 1


def test_crops_are_kept_by_all_that_made_them(tmp_path):
    kept, crop = Crops(tmp_path / "crops"), np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    assert kept.get("fast", "digest", "clip") is None
    kept.put(crop, "fast", "digest", "clip")
    assert np.array_equal(kept.get("fast", "digest", "clip"), crop) and kept.get("fast", "other", "clip") is None


# ---- goals ----------------------------------------------------------------------------------------------------------


def row(subject, name, figures, group="worn clips", scale=4):
    metrics = {metric: {"mean": value, "each": [value]} for metric, value in zip(METRICS, figures)}
    return {"scale": scale, "subject": subject, "subject_digest": subject, "name": name, "title": name, "native": 4,
            "group": group, **metrics}  # fmt: skip


figures = st.tuples(*(st.integers(0, 90) for _ in METRICS))


@given(st.lists(st.tuples(figures, figures), min_size=1, max_size=4))
def test_ahead_is_better_in_the_mean_of_worn_clips_by_everything(pairs):
    rows = [r for i, (ours, other) in enumerate(pairs)
            for r in (row(f"c{i}", "balanced", ours), row(f"c{i}", "realcugan", other))]  # fmt: skip
    clean = {"balanced": (0, 0, 0, 999, 999), "realcugan": (999, 999, 999, 0, 0)}  # not what is asked
    rows += [row("clean", name, values, "clips") for name, values in clean.items()]
    sums = [metric.better * sum(a[i] - b[i] for a, b in pairs) for i, metric in enumerate(METRICS.values())]
    (found,) = [v for v in verdicts(rows) if "`balanced` ahead of realcugan" in v.goal]
    assert found.answer == ("yes" if min(sums) > 0 else "no")
    (other,) = [v for v in verdicts(rows) if "`fast` ahead of animevideov3" in v.goal]
    assert other.answer == "not measured"
    for r in rows:
        r.pop("dirt")
    (found,) = [v for v in verdicts(rows) if "`balanced` ahead of realcugan" in v.goal]
    assert found.answer != "yes" and "dirt not measured" in found.figures


@given(st.lists(st.integers(-100, 100).map(lambda v: v / 100), min_size=1, max_size=4))
def test_no_model_may_lose_more_than_a_little_on_clean_sources(gains):
    earlier = [row(f"c{i}", "fast", (30, 0.9, 50), "clips at CRF 16") for i in range(len(gains))]
    rows = [row(f"c{i}", "fast", (30 + gain, 0.9, 50, 20, 0.2), "clips at CRF 16") for i, gain in enumerate(gains)]
    rows += [row("w", "fast", (10, 0.9, 50, 20, 0.2)), row("new", "fast", (0, 0, 0, 0, 0), "clips at CRF 16")]
    earlier += [row("w", "fast", (40, 0.9, 50)), row("c0", "gone", (40, 0.9, 50))]
    changed = {change.group: change for change in changes(rows, earlier)}
    lost = float(np.mean(gains))
    if any(gains) and abs(lost) > 1e-6:
        found = changed["clips at CRF 16"]
        assert found.count == len(gains) and found.gains["psnr"] == pytest.approx(lost) and "dirt" not in found.gains
    if abs(lost + 0.3) > 1e-6 and abs(lost) > 1e-6:
        (verdict,) = [v for v in verdicts(rows, earlier) if "no model loses" in v.goal]
        assert verdict.answer == ("yes" if lost > -0.3 else "no")
    assert not [v for v in verdicts(rows) if "no model loses" in v.goal]


# ---- the whole ------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with two models, installed, and a worn clip; nothing of others."""
    (tmp_path / "weights").mkdir()
    torch.manual_seed(0)
    for name in ("fast", "balanced"):
        save_generator(Compact(4, 1), tmp_path / "weights" / f"{name}.safetensors", {})
    write_worn(tmp_path / "worn" / "a_worn_dvd.mkv", tmp_path / "large" / "a_highres1080.mkv")
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path / "weights")

    def fails(folder):
        raise Unusable("no environment")

    monkeypatch.setattr(scorer, "environment", fails)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measure(place, *more):
    arguments = ["--clips", "worn", "--frames", "1", "--scale", "4", "--peers", "", "-o", "r", *more]
    done = CliRunner().invoke(main, ["quality", *arguments])
    assert done.exit_code == 0, done.output
    return done, json.loads((place / "r" / "quality.json").read_text())


def test_worn_clips_are_measured_shown_and_compared_with_the_weights_before(place):
    done, data = measure(place, "--models", "fast", "--blind", "blind")
    assert [(row["name"], row["pictures"]) for row in data["rows"]] == [("bicubic", [2]), ("fast", [2])]
    assert data["sheet"] == ["quality-worn-1.png"] and not data["pictures"]
    text = (place / "r" / "quality.md").read_text()
    assert "![quality-worn-1.png](quality-worn-1.png)" in text and "**Worn clips** (a_worn_dvd, 1 frames)" in text
    assert list(json.loads((place / "blind" / "key.json").read_text())[0].values()) == ["a worn dvd", "fast"]
    narrow = cv2.imread(str(place / "r" / "quality-worn-1.png")).shape[1]
    (place / "r" / "quality.json").rename(place / "before.json")
    save_generator(Compact(4, 1), place / "weights" / "fast.safetensors", {})
    done, data = measure(place, "--baseline", "before.json")
    assert cv2.imread(str(place / "r" / "quality-worn-1.png")).shape[1] > narrow  # balanced, too
    change = next(row for row in data["rows"] if row["name"] == "fast")["psnr"]["mean"]
    change -= json.loads((place / "before.json").read_text())["rows"][1]["psnr"]["mean"]
    assert f"| fast, 4x, worn clips (1) | {change:+.2f} dB |" in done.stdout
    assert "on clean sources against the weights before | nothing has changed" in done.stdout
    again, data = measure(place)
    assert "| fast, 4x, worn clips (1) |" in again.stdout and " of " not in again.stderr  # kept, and nothing measured


def test_rows_of_an_earlier_version_are_measured_again_and_serve_as_a_baseline(place):
    _, data = measure(place, "--models", "fast")
    for old in data["rows"]:
        del old["dirt"], old["raggedness"]
    del data["sheet"], data["baseline"]
    (place / "r" / "quality.json").write_text(json.dumps(data))
    (place / "old.json").write_text(json.dumps(data))
    done, data = measure(place, "--models", "fast", "--baseline", "old.json")
    assert done.stderr.count("a_worn_dvd to 4x") == 2 and all("dirt" in row for row in data["rows"])


def test_real_worn_clips_have_their_originals(shared_clips):
    folder = shared_clips / "worn"
    if not folder.is_dir():
        pytest.skip("no worn clips among the real ones")
    subjects, lines = find_clips([folder], 1)
    assert not lines and len(subjects) == 2 * len(list(folder.glob("*_worn_*.mkv")))
    (material,) = next(s for s in subjects if s.scale == 4).load()
    assert material.indices == (24,) and material.originals[0].shape == (1080, 1920, 3)
