"""Bad input: one line that names the file and the cure, the right exit code, nothing left under the final name."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import av
import pytest

from tests.media import Track, read_numbers, write_episode
from tests.running import quick, vidsr


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    path = folder / "good.mkv"
    write_episode(path, frames=96, keyframes=12, size=(160, 96), audio=[Track("aac", "ja")])
    return path


def refused(done, code, *words, folder=None):
    """`done` failed with one line of `words`, no traceback, and left no result."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note:")]
    assert done.returncode == code, done.stderr
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    for word in words:
        assert word in lines[0]
    assert done.stdout == ""
    if folder is not None:
        assert not [p for p in folder.iterdir() if ".2x" in p.name and p.suffix != ".vidsr"]


CONTENTS = {"empty.mkv": b"", "text.mkv": b"this is no video\n" * 50, "random.mp4": bytes(range(256)) * 100}


@pytest.mark.parametrize("name", CONTENTS)
def test_no_media(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(CONTENTS[name])
    refused(quick(path), 1, name, folder=tmp_path)


def test_cut_before_its_index(tmp_path):
    write_episode(tmp_path / "whole.mp4")
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    refused(quick(tmp_path / "cut.mp4"), 1, "cut.mp4", "complete?", folder=tmp_path)


def test_sound_only(tmp_path):
    with av.open(str(tmp_path / "song.mkv"), "w") as file:
        stream = file.add_stream("aac", rate=48000)
        for i in range(20):
            frame = av.AudioFrame(format="s16", layout="mono", samples=1024)
            frame.sample_rate, frame.pts = 48000, i * 1024
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    refused(quick(tmp_path / "song.mkv"), 1, "song.mkv", "no video", "audio", folder=tmp_path)


def test_cover_only(tmp_path):
    with av.open(str(tmp_path / "song.mkv"), "w") as file:
        stream = file.add_stream("aac", rate=48000)
        file.add_attachment("cover.png", "image/png", b"\x89PNG" + b"0" * 100)
        frame = av.AudioFrame(format="s16", layout="mono", samples=1024)
        frame.sample_rate, frame.pts = 48000, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    refused(quick(tmp_path / "song.mkv"), 1, "song.mkv", "no video", folder=tmp_path)


def test_missing(tmp_path):
    refused(quick(tmp_path / "nowhere.mkv"), 1, "nowhere.mkv", "no such file")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read and write everything")
def test_no_permission(tmp_path, episode):
    closed = tmp_path / "closed.mkv"
    closed.write_bytes(episode.read_bytes())
    closed.chmod(0)
    refused(quick(closed), 1, "closed.mkv", "permission")
    (tmp_path / "shut").mkdir(mode=0o500)
    refused(quick(episode, "-o", tmp_path / "shut" / "a.mkv"), 1, "shut", "permission")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs another user to become")
def test_no_permission_as_another_user(tmp_path, episode):
    """What test_no_permission asks, when the tests run as root."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom vidsr.container import open_input\n"
        "from vidsr.choose.prepare import check_output\nfrom vidsr.errors import VidsrError\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "for action in (lambda: open_input(sys.argv[1]), lambda: check_output(Path('/'), Path(sys.argv[2]), False)):\n"
        "    try:\n        action()\n    except VidsrError as error:\n        print(error)\n"
    )
    closed, shut = tmp_path / "closed.mkv", tmp_path / "shut"
    closed.write_bytes(episode.read_bytes())
    closed.chmod(0)
    shut.mkdir(mode=0o500)
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run([sys.executable, "-c", code, closed, shut / "a.mkv"], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    assert "closed.mkv: no permission to read" in lines[0] and "shut: no permission to write" in lines[1]


def test_grain_that_nothing_takes_out_or_that_has_no_place(tmp_path, episode):
    refused(quick(episode, "--grain", "keep", "--reuse", "off"), 2, "--grain keep", "--reuse off")
    refused(quick(episode, "--grain", "keep", "--reuse", "exact"), 2, "--grain keep", "--reuse exact")
    with av.open(str(tmp_path / "rgb.mkv"), "w") as file:
        stream = file.add_stream("libx264rgb", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr24"
        for packet in (*stream.encode(av.VideoFrame(64, 48, "bgr24")), *stream.encode(None)):
            file.mux(packet)
    refused(quick(tmp_path / "rgb.mkv", "--grain", "keep"), 2, "--grain keep", "gbrp", "yuv444p")


def test_output_is_the_input(tmp_path, episode):
    copy = tmp_path / "a.mkv"
    copy.write_bytes(episode.read_bytes())
    for name in ("a.mkv", "./a.mkv"):
        refused(quick(copy, "-o", tmp_path / name, "--overwrite"), 2, "a.mkv", "the source itself", "-o")
    (tmp_path / "link.mkv").symlink_to(copy)
    refused(quick(copy, "-o", tmp_path / "link.mkv", "--overwrite"), 2, "the source itself")
    assert copy.read_bytes() == episode.read_bytes()


def test_output_exists(tmp_path, episode):
    (tmp_path / "b.mkv").write_text("mine")
    refused(quick(episode, "-o", tmp_path / "b.mkv"), 2, "b.mkv", "--overwrite")
    assert (tmp_path / "b.mkv").read_text() == "mine"
    assert quick(episode, "-o", tmp_path / "b.mkv", "--overwrite").returncode == 0
    assert (tmp_path / "b.mkv").stat().st_size > 1000


def test_no_such_folder(tmp_path, episode):
    refused(quick(episode, "-o", tmp_path / "not" / "there.mkv"), 1, "not", "create it first")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scale", 9), ("--scale 9", "2 to 8")),
        (("--model", "nonsense"), ("nonsense", "use one of")),
        (("--model", "/nowhere/x.safetensors"), ("x.safetensors", "no such")),
        (("--backend", "quantum"), ("quantum",)),
        (("--codec", "mpeg7"), ("mpeg7", "x264")),
        (("--crf", 99), ("--crf 99", "0 to 51")),
        (("--preset", "warp"), ("--preset warp", "veryfast")),
        (("--encoder-option", "nonsense=1"), ("nonsense", "no option")),
        (("--encoder-option", "lonely"), ("lonely", "NAME=VALUE")),
        (("--pixel-format", "rgb24"), ("rgb24", "yuv420p")),
        (("--pixel-format", "yuv420p", "--codec", "svtav1", "--preset", "slow"), ("--preset slow",)),
        (("--tile", "3"), ("--tile 3",)),
        (("--drop", "everything"), ("everything", "subtitle")),
        (("-o", "result.avi"), ("result.avi", ".mkv")),
        (("--duration", "0"), ("--duration",)),
    ],
)
def test_usage(episode, tmp_path, arguments, words):
    refused(vidsr(episode, *arguments), 2, *words, folder=episode.parent)


def test_beyond_the_end(episode, tmp_path):
    done = quick(episode, "-o", tmp_path / "b.mkv", "--start", "1:00:00")
    refused(done, 1, "good.mkv", "4.0 s long", folder=tmp_path)


def test_odd_size_that_the_result_cannot_have(tmp_path):
    write_episode(tmp_path / "odd.mkv", size=(65, 49), codec="libx265", pix_fmt="yuv444p")
    done = vidsr(tmp_path / "odd.mkv", "--backend", "nearest", "--scale", 3, "--pixel-format", "yuv420p")
    refused(done, 2, "odd.mkv", "195x147", "--pixel-format yuv444p")


@pytest.mark.skipif(os.name != "posix", reason="needs file size limits")
def test_disk_full(tmp_path, episode):
    """A limit on file sizes fails like a full disk: in the middle of a write, or when closing."""
    arguments = [sys.executable, "-m", "vidsr", str(episode), "-o", str(tmp_path / "b.2x.mkv"), "--backend", "nearest",
                 "--scale", "4", "--preset", "ultrafast", "--crf", "1"]  # fmt: skip

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=limit, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "disk is full" in done.stderr and "same command" in done.stderr
    assert not (tmp_path / "b.2x.mkv").exists()
    assert subprocess.run(arguments, capture_output=True, timeout=60).returncode == 0
    assert (tmp_path / "b.2x.mkv").exists()


def test_truncated_keeps_what_is_there_and_says_so(tmp_path):
    write_episode(tmp_path / "whole.mkv", frames=240, size=(160, 96), audio=[Track("aac", "ja")])
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    done = quick(tmp_path / "cut.mkv")
    assert done.returncode == 0, done.stderr
    assert "is it complete?" in done.stderr
    assert vidsr("verify", tmp_path / "cut.mkv", tmp_path / "cut.2x.mkv").returncode == 0


def test_a_corrupt_stretch_costs_only_itself(tmp_path):
    whole, broken = tmp_path / "whole.mkv", tmp_path / "broken.mkv"
    write_episode(whole, frames=120, keyframes=12, size=(160, 96), audio=[Track("aac", "ja")])
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 12] = bytes(len(data) // 12)
    broken.write_bytes(data)
    done = quick(broken)
    assert done.returncode == 0, done.stderr
    assert "do not decode" in done.stderr or "decoded with errors" in done.stderr or "damaged" in done.stderr
    with av.open(str(tmp_path / "broken.2x.mkv")) as a, av.open(str(broken)) as b:
        sound = [[(p.pts, bytes(p)) for p in file.demux(audio=0) if p.size] for file in (a, b)]
    assert sound[0] == sound[1] and len(sound[0]) > 100
    assert vidsr("verify", broken, tmp_path / "broken.2x.mkv").returncode == 0


def test_a_whole_segment_that_does_not_decode_costs_only_itself(tmp_path):
    """Every picture of the middle segment is destroyed; their headers in the container are left alone."""
    whole, broken = tmp_path / "whole.mkv", tmp_path / "broken.mkv"
    write_episode(whole, frames=1100, keyframes=100, size=(64, 48), audio=[Track("aac", "ja")])
    data = bytearray(whole.read_bytes())
    with av.open(str(whole)) as file:
        pictures = [bytes(p) for p in file.demux(video=0) if p.size]
    for picture in pictures[240:1000]:
        at = data.find(picture)
        data[at : at + len(picture)] = bytes(len(picture))
    broken.write_bytes(data)
    done = quick(broken)
    assert done.returncode == 0, done.stderr
    kept = [n for _, n in read_numbers(tmp_path / "broken.2x.mkv")]
    # The hole is cut in decoding order, so its edges are off by some B-frames, and one may be lost with its reference.
    assert len(kept) >= 335 and kept == sorted(kept) and not set(kept) & set(range(250, 990))
    assert f"{1100 - len(kept)} coded pictures of the source that do not decode" in done.stderr
    assert "760 damaged stretches" in done.stderr  # each counted once, though segments begin reading before their start
    assert vidsr("verify", broken, tmp_path / "broken.2x.mkv").returncode == 0


def test_one_bad_file_does_not_stop_the_others(tmp_path, episode):
    (tmp_path / "bad.mkv").write_bytes(b"nothing")
    out = tmp_path / "out"
    out.mkdir()
    done = quick(tmp_path / "bad.mkv", episode, "-o", out)
    assert done.returncode == 1 and "bad.mkv" in done.stderr
    assert (out / "good.2x.mkv").exists()


def test_pictures_that_are_none(tmp_path):
    for name, content in {"empty.png": b"", "text.png": b"no picture"}.items():
        (tmp_path / name).write_bytes(content)
        refused(quick(tmp_path / name), 1, name)
