"""The proof must fail when something is wrong: each thing it promises is broken once."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from tests.media import BT601, Track, write_episode
from tests.running import upscaled, vidsr
from vidsr.color import from_rgb, to_rgb
from vidsr.frames import ColorSpec, PixelFormat, Shape
from vidsr.proof.verify import verify

YUV420P = PixelFormat("yuv", 8, (1, 1))

AUDIO = [Track("aac", "ja", title="Stereo", flags=("default",))]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    write_episode(folder / "a.mkv", frames=48, audio=AUDIO, subtitles=[Track("ass", "en")], metadata={"title": "One"},
                  attachments=[("a.ttf", "font/ttf", b"x" * 500)], chapters=[(0, {"en": "One"})])  # fmt: skip
    upscaled(folder / "a.mkv", folder / "b.mkv")
    return folder / "a.mkv", folder / "b.mkv"


def failures(source, result, **more):
    return {check.name: check.detail for check in verify(source, result, **more).failures}


def remuxed(source, target, *, skip=lambda stream, packet: False, tags=None, without=None, move=0):
    """A copy of `source` with something changed."""
    with av.open(str(source)) as a, av.open(str(target), "w") as b:
        b.metadata.update(a.metadata if tags is None else tags)
        b.set_chapters(a.chapters() if without != "chapters" else [])
        streams = {}
        for s in a.streams:
            if s.type == without:
                continue
            streams[s.index] = b.add_stream_from_template(s, opaque=True) if s.type != "attachment" else None
            if s.type == "attachment":
                b.add_stream_from_template(s)
                del streams[s.index]
            else:
                streams[s.index].metadata.update(s.metadata)
                streams[s.index].disposition = s.disposition
        for number, packet in enumerate(a.demux(*[a.streams[i] for i in streams])):
            if not packet.size or skip(a.streams[packet.stream_index], number):
                continue
            if move and packet.stream.type == "audio":
                packet.pts += move
                packet.dts += move
            packet.stream = streams[packet.stream_index]
            b.mux(packet)
    return target


def test_a_good_result_passes(pair):
    proof = verify(*pair, Shape(128, 96, Fraction(1)))
    assert proof.passed and len(proof.checks) >= 10


def test_a_plain_copy_of_it_passes(pair, tmp_path):
    assert not failures(pair[0], remuxed(pair[1], tmp_path / "c.mkv"))


def test_wrong_scale(pair):
    assert "size" in failures(*pair, shape=Shape(256, 192, Fraction(1)))


def test_a_lost_track(pair, tmp_path):
    without_sound = failures(pair[0], remuxed(pair[1], tmp_path / "c.mkv", without="audio"))
    assert any(name.startswith("audio") for name in without_sound)
    assert any("attachment" in n for n in failures(pair[0], remuxed(pair[1], tmp_path / "d.mkv", without="attachment")))
    assert not failures(pair[0], tmp_path / "c.mkv", dropped={1})


def test_what_the_container_cannot_hold_may_be_missing_and_is_told_of(tmp_path):
    source = write_episode(
        tmp_path / "a.mkv", audio=[Track("aac", "ja", flags=("default",))], subtitles=[Track("ass", "en")],
        attachments=[("a.ttf", "font/ttf", b"x" * 500)],
    ).path  # fmt: skip
    into_mp4 = upscaled(source, tmp_path / "b.mp4", drop=frozenset({"unsupported"})).path
    refused = {"attachment a.ttf", "subtitle ass eng"}
    told = {check.name: check for check in verify(source, into_mp4).checks if "MP4 cannot hold it" in check.detail}
    assert set(told) == refused and all(check.passed for check in told.values())
    assert set(failures(source, into_mp4, dropped=())) == refused
    done = vidsr("verify", source, into_mp4)
    assert done.returncode == 0 and "ok    attachment a.ttf: MP4 cannot hold it" in done.stdout
    assert vidsr("verify", source, into_mp4, "--drop", 2).returncode == 1  # the subtitle, not the font
    silent = remuxed(into_mp4, tmp_path / "c.mp4", without="audio")
    assert set(failures(source, silent)) == {"audio aac jpn"}


def test_a_lost_audio_packet(pair, tmp_path):
    seen = []

    def skip(stream, number):
        if stream.type == "audio":
            seen.append(number)
        return stream.type == "audio" and len(seen) == 20

    assert any(name.startswith("audio") for name in failures(pair[0], remuxed(pair[1], tmp_path / "c.mkv", skip=skip)))


def test_sound_out_of_sync(pair, tmp_path):
    found = failures(pair[0], remuxed(pair[1], tmp_path / "c.mkv", move=25))
    assert "25" in found["audio aac jpn"] or "times" in found["audio aac jpn"]


def test_lost_chapters_and_title(pair, tmp_path):
    assert "chapters" in failures(pair[0], remuxed(pair[1], tmp_path / "c.mkv", without="chapters"))
    assert "title" in failures(pair[0], remuxed(pair[1], tmp_path / "d.mkv", tags={"title": "Two"}))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("frame count", {"frames": 47}),
        ("timestamps", {"pts": [t * 42 for t in range(24)] + [t * 42 + 5 for t in range(24, 48)]}),
        ("colour", {"color": BT601}),
        ("pixel shape", {"sar": Fraction(8, 9)}),
        ("rotation", {"rotation": 90}),
        ("picture", {"first_number": 5}),
    ],
)
def test_a_changed_video(tmp_path, name, change):
    write_episode(tmp_path / "a.mkv", frames=48)
    write_episode(tmp_path / "b.mkv", size=(128, 96), **{"frames": 48, **change})
    assert name in failures(tmp_path / "a.mkv", tmp_path / "b.mkv")


def write_flat(path, size, planes):
    """Two dozen pictures of these three planes, tagged BT.709."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=24, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
        for number in range(24):
            picture = av.VideoFrame(*size, "yuv420p")
            for target, plane in zip(picture.planes, planes):
                rows = np.frombuffer(memoryview(target), np.uint8).reshape(-1, target.line_size)
                rows[: plane.shape[0], : plane.shape[1]] = plane
            picture.pts, picture.time_base = number, Fraction(1, 24)
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))


def test_a_wrong_matrix_shows_as_a_colour_shift(tmp_path):
    """The mistake of most tools: tags right, but to RGB by BT.601 and back by BT.709."""
    halves = [(96, 180), (100, 160), (170, 110)]  # skin and sky
    sizes = [(32, 48), (16, 24), (16, 24)]  # of a half: columns, rows
    small = [np.array([two], np.uint8).repeat(x, 1).repeat(y, 0) for two, (x, y) in zip(halves, sizes)]
    large = [torch.from_numpy(plane.repeat(2, 0).repeat(2, 1))[None] for plane in small]
    wrong = from_rgb(to_rgb(large, YUV420P, ColorSpec("bt601")), YUV420P, ColorSpec("bt709"))
    write_flat(tmp_path / "a.mkv", (64, 48), small)
    write_flat(tmp_path / "right.mkv", (128, 96), [plane[0].numpy() for plane in large])
    write_flat(tmp_path / "wrong.mkv", (128, 96), [plane[0].numpy() for plane in wrong])
    assert not failures(tmp_path / "a.mkv", tmp_path / "right.mkv")
    assert "colour shift" in failures(tmp_path / "a.mkv", tmp_path / "wrong.mkv")


def test_the_command(pair, tmp_path):
    good = vidsr("verify", *pair)
    assert good.returncode == 0 and "checks passed" in good.stdout
    bad = vidsr("verify", pair[0], remuxed(pair[1], tmp_path / "c.mkv", without="audio"))
    assert bad.returncode == 1 and "FAIL" in bad.stdout and "Traceback" not in bad.stderr
