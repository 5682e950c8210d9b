"""Files of any name, which FFmpeg would take for protocols, patterns or options, and terminals for several lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.media import Track, write_episode
from tests.running import upscaled
from vidsr.choose.options import Options
from vidsr.choose.targets import default_output, targets
from vidsr.cli.commands import main
from vidsr.errors import SourceError, UsageError, one_line
from vidsr.files import NAME_BYTES, fit_name
from vidsr.report import Report
from vidsr.run.segments import work_folder
from vidsr.source.probe import probe

NAMES = [
    "Re:Zero - 01", "http:", "concat:a|b", "-o", "100%d %03d", "[Group] Show - 01 [A1B2C3D4]", "a*b?", "new\nline",
    "100%", "第１話　猫", "tab\there",
]  # fmt: skip


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    return write_episode(tmp_path_factory.mktemp("media") / "a.mkv", frames=6, audio=[Track("aac", "ja")]).path


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name(tmp_path, monkeypatch, episode, name):
    monkeypatch.chdir(tmp_path)  # names as people type them: without a folder before them
    source = Path(f"{name}.mkv")
    source.write_bytes(episode.read_bytes())
    output = default_output(source, "2x")
    upscaled(source, output)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.mkv", f"{name}.2x.mkv"}


def test_a_leading_dash_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["--", "-o.mkv"], ["--scale", "2", "--", "-o.mkv"]):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 1 and "-o.mkv: no such file" in done.stderr


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="file names are text there")
def test_a_name_that_is_no_text(tmp_path, episode):
    """The command prints the bytes of the result's name as they are, and what it says stays readable."""
    source = os.path.join(os.fsencode(tmp_path), b"\x83A\xff.mkv")
    Path(os.fsdecode(source)).write_bytes(episode.read_bytes())
    command = [sys.executable, "-m", "vidsr", source, "--backend", "nearest", "--scale", "2", "--preset", "ultrafast"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == source[:-4] + b".2x.mkv\n"
    assert b"\\udc83A\\udcff.mkv: 6 of 6 frames" in done.stderr
    seen = subprocess.run([sys.executable, "-m", "vidsr", "probe", source], capture_output=True, timeout=120)
    assert seen.returncode == 0 and b"\\udc83A\\udcff.mkv" in seen.stdout


def test_the_longest_name_a_file_can_have(tmp_path, episode):
    """Neither NAME.4x.mkv nor NAME.4x.mkv.vidsr is one that a file system takes."""
    source = tmp_path / ("猫" * 83 + "é.mkv")
    assert len(os.fsencode(source.name)) == NAME_BYTES
    source.write_bytes(episode.read_bytes())
    output = default_output(source, "2x")
    assert output.name.startswith("猫" * 75) and output.name.endswith(".2x.mkv")
    upscaled(source, output)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, output.name])


def test_a_result_named_too_long_is_refused_at_once(tmp_path, episode):
    with pytest.raises(UsageError, match="has 255 bytes at most"):
        upscaled(episode, tmp_path / ("x" * 252 + ".mkv"))


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=300))
def test_names_that_fit_stay_and_others_stay_apart(stem):
    name, other = fit_name(stem, ".4x.mkv"), fit_name(stem + "b", ".4x.mkv")
    assert len(os.fsencode(name)) <= NAME_BYTES and name.endswith(".4x.mkv") and name != other
    assert name == fit_name(stem, ".4x.mkv")
    if len(os.fsencode(stem)) < 240:
        assert name == stem + ".4x.mkv"
    assert len(os.fsencode(work_folder(Path(name)).name)) <= NAME_BYTES


def test_two_long_names_that_begin_alike_have_two_results(tmp_path):
    inputs = [tmp_path / ("x" * 249 + f"{number}.mkv") for number in (1, 2)]
    (_, first), (_, second) = targets(inputs, Options(), "4x")[0]
    assert first.output != second.output


def test_what_is_said_of_a_name_is_one_line(tmp_path):
    path = tmp_path / "new\nline\u2028.mkv"
    with pytest.raises(SourceError) as missing:
        probe(path)
    assert str(missing.value) == f"{tmp_path}/new\\nline\\u2028.mkv: no such file"
    report = Report()
    report.warn(f"{path.name}: is odd\x1b[31m")
    assert report.lines == ["new\\nline\\u2028.mkv: is odd\\x1b[31m"]


@pytest.mark.parametrize("text", ["第１話　猫.mkv", "naïve – “quoted”", "👩‍💻"])
def test_what_prints_is_left_as_it_is(text):
    assert one_line(text) == text
