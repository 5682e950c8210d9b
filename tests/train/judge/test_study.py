"""The blind study: what the folder gives away (nothing), and the table that votes become."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.media import write_episode
from train.__main__ import main
from train.data.pack import PackWriter
from train.judge.sources import Method, Pair, as_pixels, as_tensor, enlarge, shrink
from train.judge.strips import richest
from train.judge.study import fold, read_votes, wilson, write_study
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import save_generator


def picture(seed: int) -> np.ndarray:
    """Circles on flat ground, [200, 240, 3] uint8."""
    rng = np.random.default_rng(seed)
    pixels = np.full((200, 240, 3), rng.integers(100, 256, 3), np.uint8)
    for _ in range(12):
        center = tuple(int(v) for v in rng.integers(0, 200, 2))
        cv2.circle(pixels, center, int(rng.integers(10, 60)), (20, 10, 30), 4, cv2.LINE_AA)
    return pixels


@pytest.fixture(scope="module")
def generator() -> Compact:
    torch.manual_seed(0)
    return Compact(8, 1).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, generator: Compact) -> Path:
    """A study of three methods on two pictures and a video, made from the command line."""
    base = tmp_path_factory.mktemp("study")
    writer = PackWriter(base / "pack")
    for seed in range(3):
        writer.add_whole("test", str(seed), picture(seed), path=f"secretshow/{seed}.png")
    writer.finish()
    save_generator(generator, base / "tiny.safetensors", {})
    write_episode(base / "low.mkv", frames=13)
    write_episode(base / "high.mkv", frames=13, size=(256, 192))
    result = CliRunner().invoke(main, ["study",
        f"zebra={base / 'tiny.safetensors'}", "Bicubic", "--original", "--pack", str(base / "pack"), "--pictures", "2",
        "--crop", "96", "--frames", "1", "--video", f"{base / 'low.mkv'}={base / 'high.mkv'}",
        "--out", str(base / "out"),
    ])  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output.startswith("9 pairs:")
    return base / "out"


def described(folder: Path) -> dict[str, Any]:
    match = re.search(r"^const STUDY = (.*);$", (folder / "index.html").read_text(), re.MULTILINE)
    assert match
    return json.loads(match[1])


def test_the_folder_gives_nothing_away(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    for word in ("zebra", "Bicubic", "secretshow", "tiny", "low.mkv", "key.json"):
        assert word not in page
    assert not re.findall(r"https?://|src=\"|<link", page)
    names = sorted(path.name for path in folder.iterdir())
    assert names[-2:] == ["index.html", "key.json"]
    assert all(re.fullmatch(r"[0-9a-f]{16}\.png", name) for name in names[:-2])
    shown = described(folder)
    assert shown["original"] is False  # it takes part, so it must not be shown as the original beside itself
    used = {name for pair in shown["pairs"] for name in (*pair["pictures"], pair["source"])}
    assert {f"{name}.png" for name in used} == set(names[:-2])
    assert len(used) == 3 * 3 + 3


def test_the_key_knows_every_pair_of_methods_once_for_each_picture(folder: Path) -> None:
    key, shown = json.loads((folder / "key.json").read_text()), described(folder)
    assert key["study"] == shown["id"]
    assert {pair["id"]: pair["pictures"] for pair in shown["pairs"]} == key["pairs"]
    found = [tuple(key["pictures"][name] for name in pair) for pair in key["pairs"].values()]
    assert all(a["of"] == b["of"] for a, b in found)
    each = sorted((a["of"], *sorted((a["method"], b["method"]))) for a, b in found)
    of = ["low.mkv frame 12", "secretshow/0.png", "secretshow/2.png"]
    assert each == [(name, *both) for name in of for both in combinations(["Bicubic", "Original", "zebra"], 2)]


def test_crops_are_those_of_the_whole_picture(generator: Compact, tmp_path: Path) -> None:
    pixels = picture(7)
    pair = Pair("a", "none", shrink(pixels), pixels)
    methods = [Method("Bicubic"), Method("mine", generator), Method("Original")]
    write_study([pair], methods, tmp_path, 64, "cpu")
    key = json.loads((tmp_path / "key.json").read_text())
    where = richest(pixels, 64)
    whole = {m.name: as_pixels(enlarge(m.generator, as_tensor(pair.lowres))) for m in methods[:2]}
    whole["Original"] = pixels
    for name, entry in key["pictures"].items():
        shown = cv2.cvtColor(cv2.imread(str(tmp_path / f"{name}.png")), cv2.COLOR_BGR2RGB)
        expected = whole[entry["method"]][where]
        assert np.abs(shown.astype(int) - expected).max() <= 1, entry


def test_the_page_lists_the_pictures_of_a_pair_in_no_order_of_methods(tmp_path: Path) -> None:
    pixels = picture(8)
    pairs = [Pair(str(index), "none", shrink(pixels), pixels) for index in range(30)]
    assert write_study(pairs, [Method("Bicubic"), Method("Original")], tmp_path, 64, "cpu") == 30
    key = json.loads((tmp_path / "key.json").read_text())
    first = [key["pictures"][pair["pictures"][0]] for pair in described(tmp_path)["pairs"]]
    assert {entry["method"] for entry in first} == {"Bicubic", "Original"}
    assert [entry["of"] for entry in first] != [pair.name for pair in pairs]


def test_a_study_is_not_written_over_another(folder: Path) -> None:
    result = CliRunner().invoke(main, ["study", "fast", "Bicubic", "--out", str(folder)])
    assert result.exit_code == 1 and "not empty" in result.output
    result = CliRunner().invoke(main, ["study", "Bicubic", "--out", str(folder.parent / "new")])
    assert result.exit_code == 2 and "got one method, Bicubic" in result.output


# Three methods on two pictures: pictures a1, b1, c1 and a2, b2, c2.
KEY = {
    "study": "s1",
    "methods": {name: {} for name in "ABC"},
    "pictures": {f"{name.lower()}{i}": {"method": name, "of": str(i)} for name in "ABC" for i in (1, 2)},
    "pairs": {
        "ab1": ["a1", "b1"], "ab2": ["b2", "a2"], "ac1": ["a1", "c1"], "bc1": ["c1", "b1"],
    },
}  # fmt: skip


def write_votes(path: Path, visitor: str, votes: dict[str, str | None], study: str = "s1") -> Path:
    content = [{"pair": pair, "choice": choice, "milliseconds": 900} for pair, choice in votes.items()]
    path.write_text(json.dumps({"study": study, "visitor": visitor, "votes": content}))
    return path


def test_wilson_interval() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I: 81 of 263 and 15 of 148.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_fold_by_hand() -> None:
    people: list[dict[str, str | None]] = [
        {"ab1": "a1", "ab2": "a2", "ac1": None, "bc1": "c1"},
        {"ab1": "b1", "ab2": "a2"},
    ]
    lines = fold(people, KEY).splitlines()
    assert lines[2] == "| A | B | 3 | 1 | 0 | 75 % | 30–95 % |"
    assert lines[3] == "| A | C | 0 | 0 | 1 | – | – |"
    assert lines[4] == "| B | C | 0 | 1 | 0 | 0 % | 0–79 % |"
    assert lines[8:11] == [
        "| C | 1 | 0 | 1 | 100 % | 21–100 % |",
        "| A | 3 | 1 | 1 | 75 % | 30–95 % |",
        "| B | 1 | 4 | 0 | 20 % | 4–62 % |",
    ]
    assert lines[-1].startswith("6 votes of 2 people.")


def test_tally_refuses_what_is_not_of_this_study(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text(json.dumps(KEY))
    one = write_votes(tmp_path / "one.json", "x", {"ab1": "a1"})
    more = write_votes(tmp_path / "more.json", "x", {"ab1": "b1", "ab2": "b2"})  # the same person, later
    result = CliRunner().invoke(main, ["study", "--tally", str(key), str(one), str(more)])
    assert result.exit_code == 0 and "| A | B | 0 | 2 | 0 |" in result.output
    assert "2 votes of 1 person." in result.output
    others = [
        write_votes(tmp_path / "other.json", "y", {"ab1": "a1"}, "s2"),
        write_votes(tmp_path / "strange.json", "y", {"ab1": "c2"}),
        write_votes(tmp_path / "unknown.json", "y", {"zz": None}),
        tmp_path / "broken.json",
    ]
    others[-1].write_text('{"study": "s1"')
    result = CliRunner().invoke(main, ["study", "--tally", str(key), str(one), *map(str, others)])
    assert result.exit_code == 1 and "1 vote of 1 person." in result.output
    assert f"{others[0]}: votes of study s2, expected s1: not counted" in result.output
    assert "picture 'c2' was never in pair ab1" in result.output
    assert result.output.count("not a file of votes") == 2
    result = CliRunner().invoke(main, ["study", "--tally", str(key), str(others[0])])
    assert result.exit_code == 1 and "no votes of this study" in result.output
    result = CliRunner().invoke(main, ["study", "--tally", str(one), str(one)])
    assert result.exit_code == 1 and f"{one}: not the key.json of a study" in result.output


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run the page's script in")
def test_the_page_votes_in_an_order_of_its_own_and_its_file_folds(folder: Path, tmp_path: Path) -> None:
    script = re.search(r"<script>(.*)</script>", (folder / "index.html").read_text(), re.DOTALL)
    assert script
    drive = """
    let given = 0;
    const orders = new Set(), sides = new Set();
    for (let person = 0; person < 40; person++) {
      const session = new Session(STUDY, null, () => Math.imul(++given, 2654435761) >>> 0);
      orders.add(session.trials.map((trial) => trial.id).join());
      sides.add(session.trials.find((trial) => trial.id === STUDY.pairs[0].id).left);
    }
    let session = new Session(STUDY, null, () => 77);
    session.vote("left", 500, "now");
    session.vote("right", 500, "now");
    session.undo();
    session.vote("", 500, "now");
    const next = session.trial;
    session = new Session(STUDY, JSON.parse(JSON.stringify(session)), () => 78);
    const resumed = JSON.stringify(session.trial) === JSON.stringify(next);
    session.vote("right", 500, "now");
    const other = new Session({ ...STUDY, id: "other" }, JSON.parse(JSON.stringify(session)), () => 79);
    console.log(JSON.stringify({
      orders: orders.size, sides: sides.size, resumed, wanted: [session.trials[0].left, null, next.right],
      foreign: other.votes.length, file: session,
    }));
    """
    result = subprocess.run(["node", "-"], input=script[1] + drive, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["orders"] > 30 and found["sides"] == 2 and found["resumed"] and found["foreign"] == 0
    assert [vote["choice"] for vote in found["file"]["votes"]] == found["wanted"]
    path = tmp_path / "votes.json"
    path.write_text(json.dumps(found["file"]))
    visitor, votes = read_votes(path, json.loads((folder / "key.json").read_text()))
    assert visitor == "0000004d0000004d" and list(votes.values()) == found["wanted"]
