"""Stills that are worn as clips: the frames of both belong together, and each kind really wears."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.quality.subjects import find_clips
from benchmarks.quality.wear import KINDS, moving_views

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(height: int, width: int) -> np.ndarray:
    """Something with lines: [H, W, 3] uint8."""
    picture = np.full((height, width, 3), (250, 220, 200), np.uint8)
    for i in range(1, 6):
        centre, colour = (width * i // 6, height // 2), (30 * i, 40, 200 - 30 * i)
        cv2.circle(picture, centre, height // (i + 2), colour, 5, cv2.LINE_AA)
    return picture


def test_worn_stills_are_measured_beside_their_originals(tmp_path: Path) -> None:
    stills, out = tmp_path / "stills", tmp_path / "worn"
    stills.mkdir()
    cv2.imwrite(str(stills / "a.png"), drawn(300, 352))
    cv2.imwrite(str(stills / "gray.png"), drawn(300, 352)[:, :, 0])
    cv2.imwrite(str(stills / "small.png"), drawn(120, 600))
    (stills / "torn.png").write_bytes((stills / "a.png").read_bytes()[:40])
    result = CliRunner().invoke(main, ["wear", "--stills", str(stills), "--frames", "6", str(out)])
    assert result.exit_code == 0, result.output
    for line in ("small.png: smaller than", "gray.png: not an 8 bit picture in colour", "torn.png: ", ": 1 pictures"):
        assert line in result.output
    names = [f"still-00_worn_{kind}" for kind in sorted(KINDS)]
    assert sorted(path.stem for path in out.iterdir()) == ["still-00_highres", *names]
    subjects, lines = find_clips([out], 3)
    assert not lines and {subject.group for subject in subjects} == {"worn stills"}
    for subject in subjects:
        if subject.scale == 2:
            continue
        (material,) = subject.load()
        assert len(material.indices) == 3
        for batch, original in zip(material.batches, material.originals):
            small = cv2.resize(original, (batch.width, batch.height), interpolation=cv2.INTER_AREA)
            luma = np.asarray(batch.frames[0].planes[0], np.float32)
            there = 16 + 219 / 255 * cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
            mean = float(np.abs(luma - there).mean())
            assert 0.5 < mean < 12, (subject.name, mean)  # worn, but of that very frame
    assert CliRunner().invoke(main, ["wear", str(out)]).exit_code == 2


def test_a_view_holds_then_moves_and_never_leaves_the_picture() -> None:
    picture = np.arange(400 * 500 * 3, dtype=np.uint32).reshape(400, 500, 3)
    views = moving_views(picture, 12)
    assert views is not None and len(views) == 12
    assert {view.shape for view in views} == {(392, 472, 3)}
    assert all(np.array_equal(view, views[0]) for view in views[:5])
    corners = [tuple(np.argwhere((picture == view[0, 0]).all(2))[0]) for view in views[4:]]
    assert corners == [(i, 3 * i) for i in range(8)]
    assert moving_views(picture[:200], 12) is None
