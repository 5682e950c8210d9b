"""ASS looks the same on the larger picture: its borders, shadows and blur do not become thinner."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import media_subtitles
from tests.libass import drawn, script
from tests.media import Track, write_episode
from tests.running import upscaled
from vidsr.mux.ass import has_layout, with_layout
from vidsr.proof.verify import verify
from vidsr.report import Report

HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 480
PlayResY: 270
ScaledBorderAndShadow: %s
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, OutlineColour, BackColour, BorderStyle, Outline, Shadow, Alignment
Style: Default,DejaVu Sans,20,&H00FFFFFF,&H00000000,&H00000000,1,4,3,7
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
EVENTS = [b"0,0,Default,,0,0,0,,{\\pos(100,100)\\blur3\\p1}m 0 0 l 120 0 120 80 0 80"]  # no font is needed to draw that
SCREEN = (1280, 720)


@pytest.mark.parametrize("scaled", [b"no", b"yes"])
@pytest.mark.parametrize("storage", [(320, 180), (240, 180)], ids=["square pixels", "anamorphic"])
def test_libass_draws_the_same_on_the_larger_video(scaled, storage):
    """Borders go wrong with `no`, blur with both; anamorphic video is shown as wide as the screen, too."""
    header = HEADER % scaled
    larger = (4 * storage[0], 4 * storage[1])
    before = drawn(header, EVENTS, storage, SCREEN)
    assert before.max() == 1 and np.abs(drawn(header, EVENTS, larger, SCREEN) - before).max() > 0.2
    told = with_layout(header, *storage)
    assert np.array_equal(drawn(told, EVENTS, larger, SCREEN), before)
    assert np.array_equal(drawn(told, EVENTS, storage, SCREEN), before)


def test_libass_draws_the_result_as_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(media_subtitles, "ASS_HEADER", HEADER % b"no")
    source = write_episode(tmp_path / "a.mkv", subtitles=[Track("ass", "en")], sar=Fraction(8, 9)).path
    upscaled(source, tmp_path / "b.mkv")
    pictures = []
    for path, size in ((source, (64, 48)), (tmp_path / "b.mkv", (128, 96))):
        header, _ = script(path)
        pictures.append(drawn(header, EVENTS, size, SCREEN))
    assert pictures[0].max() == 1 and np.array_equal(*pictures)


def test_the_case_that_is_shared(tmp_path):
    path = Path(os.environ.get("VIDSR_SHARED", Path(__file__).parents[4] / "shared")) / "cases"
    path /= "ass_without_layoutres_scaledborder_no.mkv"
    if not path.is_file():
        pytest.skip("no folder of shared cases beside the checkout")
    report = Report()
    upscaled(path, tmp_path / "b.mkv", report)
    assert any("LayoutRes 480x270" in line for line in report.lines)
    (before, events), (after, same) = script(path), script(tmp_path / "b.mkv")
    assert same == events and after.replace(b"LayoutResX: 480\r\nLayoutResY: 270\r\n", b"") in (before, after)
    assert after == with_layout(before, 480, 270) != before


def test_it_is_said_done_and_proved(tmp_path):
    source = write_episode(tmp_path / "a.mkv", subtitles=[Track("ass", "en"), Track("ass", "ja")]).path
    report = Report()
    upscaled(source, tmp_path / "b.mkv", report)
    assert sum("the ASS of #1, #2 is told the size it was made for, LayoutRes 64x48" in x for x in report.lines) == 1
    header = script(tmp_path / "b.mkv")[0]
    assert header.startswith(b"[Script Info]\nLayoutResX: 64\nLayoutResY: 48\n")
    good = verify(source, tmp_path / "b.mkv")
    assert good.passed and sum("LayoutRes 64x48" in check.detail for check in good.checks) == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"LayoutResX: 64\n", b""), (b"LayoutResX: 64", b"LayoutResX: 99"), (b"LayoutResY: 48\n", b"LayoutResY: 96\n"),
     (b"DejaVu Sans,20", b"DejaVu Sans,21")],
    ids=["missing", "wrong", "of the result", "another change"],
)  # fmt: skip
def test_a_header_made_wrong_is_noticed(tmp_path, old, new):
    source = write_episode(tmp_path / "a.mkv", subtitles=[Track("ass", "en")]).path
    upscaled(source, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as good, av.open(str(tmp_path / "bad.mkv"), "w") as bad:
        streams = {stream: bad.add_stream_from_template(stream, opaque=True) for stream in good.streams}
        for a, b in streams.items():
            b.disposition = a.disposition
            b.metadata.update({k: v for k, v in a.metadata.items() if k == "language"})
            if a.type == "subtitle":
                header = a.codec_context.extradata
                assert old in header
                b.codec_context.extradata = header.replace(old, new)
        for packet in good.demux():
            if packet.size:
                packet.stream = streams[packet.stream]
                bad.mux(packet)
    failed = [check.name for check in verify(source, tmp_path / "bad.mkv").failures]
    assert failed == ["header of subtitle track #1"]


def test_a_script_that_says_it_keeps_it(tmp_path, monkeypatch):
    own = b"[Script Info]\nlayoutresx: 1280\nLayoutResY: 720\n" + HEADER.split(b"\n", 1)[1] % b"no"
    monkeypatch.setattr(media_subtitles, "ASS_HEADER", own)
    source = write_episode(tmp_path / "a.mkv", subtitles=[Track("ass", "en")]).path
    report = Report()
    upscaled(source, tmp_path / "b.mkv", report)
    assert script(tmp_path / "b.mkv")[0] == script(source)[0]
    assert not any("LayoutRes" in line for line in report.lines)


@given(
    before=st.binary(max_size=20).map(lambda x: x.replace(b"[", b"").replace(b"\r", b"")),
    end=st.sampled_from([b"\n", b"\r\n", b""]), bom=st.booleans(), rest=st.binary(max_size=60),
)  # fmt: skip
def test_nothing_else_of_any_header_changes(before, end, bom, rest):
    rest = rest if end else b""
    section = b"\xef\xbb\xbf" * bom + (b"; " + before + b"\n") * bool(before) + b"[Script Info]" + end + rest
    made = with_layout(section, 640, 480)
    if has_layout(section):
        assert made == section
        return
    line = end or b"\n"
    assert has_layout(made) and with_layout(made, 1, 1) == made
    added = b"LayoutResX: 640%sLayoutResY: 480%s" % (line, line)
    assert made.replace((b"" if end else b"\n") + added, b"", 1) == section


def test_a_script_without_a_section():
    assert with_layout(b"\xef\xbb\xbfStyle: a\n", 4, 3) == (
        b"\xef\xbb\xbf[Script Info]\nLayoutResX: 4\nLayoutResY: 3\nStyle: a\n"
    )
