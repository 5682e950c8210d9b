"""What a run keeps: each thing a person would miss, put into a small episode and looked for in its result."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from tests import media
from tests.media import Track, write_episode
from tests.running import upscaled
from vidsr.errors import UsageError
from vidsr.mux.ass import with_layout
from vidsr.mux.matroska.details import read_details
from vidsr.proof.verify import verify
from vidsr.report import Report
from vidsr.source.probe import probe

VFR = [0, 42, 83, 125, 209, 292, 325, 359, 392, 425, 500, 501, 580, 700, 742, 784, 900, 1000, 1100, 1200]


def payloads(path, kind):
    """[(language, title, [(pts seconds, bytes, side data)])] of the streams of one kind."""
    found = {}
    with av.open(str(path)) as file:
        streams = {s.index: s for s in file.streams if s.type == kind and not media_cover(s)}
        for packet in file.demux(*streams.values()) if streams else ():
            if packet.size:
                extra = sorted((d.data_type, bytes(d)) for d in packet.iter_sidedata())
                at = float((packet.pts if packet.pts is not None else packet.dts) * packet.time_base)
                found.setdefault(packet.stream_index, []).append((round(at, 3), bytes(packet), extra))
        return [(s.metadata.get("language"), s.metadata.get("title"), found.get(i, [])) for i, s in streams.items()]


def media_cover(stream):
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("pts", [VFR, [t + 5000 for t in VFR]], ids=["VFR", "VFR, starting at 5 s"])
def test_every_timestamp(tmp_path, suffix, pts):
    base = Fraction(1, 1000) if suffix == ".mkv" else Fraction(1, 90000)
    times = pts if suffix == ".mkv" else [t * 90 + 7 for t in pts]
    episode = write_episode(tmp_path / f"a{suffix}", pts=times, time_base=base)
    result = upscaled(episode.path, tmp_path / f"b{suffix}")
    before, seen = media.read_numbers(episode.path), media.read_numbers(result.path)
    in_seconds = [t * probe(episode.path).video.time_base for t, _ in before]
    assert [t * result.video.time_base for t, _ in seen] == in_seconds
    assert [number for _, number in seen] == list(range(len(pts)))
    assert abs(in_seconds[0] - Fraction(pts[0], 1000)) < Fraction(1, 1000)


@pytest.mark.parametrize("codec", ["x264", "x265", "svtav1", "ffv1"])
def test_timestamps_and_order_with_every_codec(tmp_path, codec):
    episode = write_episode(tmp_path / "a.mkv", pts=VFR)
    preset = None if codec == "ffv1" else "ultrafast"
    result = upscaled(episode.path, tmp_path / "b.mkv", codec=codec, preset=preset)
    assert media.read_numbers(result.path) == list(zip(episode.pts, range(len(VFR))))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_all_audio_by_copy(tmp_path, suffix):
    audio = [Track("aac", "ja", title="日本語"), Track("libopus", "en-GB", offset=40, title="Dub"), Track("flac", "de")]
    episode = write_episode(tmp_path / f"a{suffix}", audio=audio)
    upscaled(episode.path, tmp_path / f"b{suffix}")
    before, after = payloads(episode.path, "audio"), payloads(tmp_path / f"b{suffix}", "audio")
    assert len(before) == 3
    assert after == before


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_opus_pre_skip(tmp_path, suffix):
    episode = write_episode(tmp_path / f"a{suffix}", audio=[Track("libopus", "ja")])
    upscaled(episode.path, tmp_path / f"b{suffix}")

    def sound(path):
        with av.open(str(path)) as file:
            frames = list(file.decode(audio=0))
            header = file.streams.audio[0].codec_context.extradata
            return header, sum(f.samples for f in frames), [f.pts for f in frames][:3], file.streams.audio[0].start_time

    assert sound(tmp_path / f"b{suffix}") == sound(episode.path)


@pytest.mark.parametrize("codec", ["aac", "libopus"])
def test_sound_that_begins_before_zero_goes_from_mp4_to_mkv(tmp_path, codec):
    """FFmpeg would move everything later by the encoder's priming, pictures too."""
    episode = write_episode(tmp_path / "a.mp4", audio=[Track(codec, "ja")])
    result = upscaled(episode.path, tmp_path / "b.mkv")
    (_, _, before), (_, _, after) = payloads(episode.path, "audio")[0], payloads(result.path, "audio")[0]
    assert before[0][0] < 0
    assert [data for _, data, _ in after] == [data for _, data, _ in before]
    assert all(abs(a[0] - b[0]) < 0.002 for a, b in zip(after, before))  # milliseconds, of a delay and of a time
    assert media.read_numbers(result.path)[0][0] == 0


@pytest.mark.parametrize("codec", ["ass", "subrip", "hdmv_pgs_subtitle", "dvd_subtitle"])
def test_subtitles_in_mkv(tmp_path, codec):
    tracks = [Track(codec, "en", title="Full"), Track(codec, "ja", title="Signs", flags=("forced",))]
    episode = write_episode(tmp_path / "a.mkv", subtitles=tracks)
    result = upscaled(episode.path, tmp_path / "b.mkv")
    before, after = payloads(episode.path, "subtitle"), payloads(result.path, "subtitle")
    assert len(before) == 2 and all(len(cues) == 2 for _, _, cues in before)
    assert after == before
    with av.open(str(episode.path)) as a, av.open(str(result.path)) as b:
        headers = [[s.codec_context.extradata for s in file.streams.subtitles] for file in (a, b)]
    told = [with_layout(header, 64, 48) if codec == "ass" else header for header in headers[0]]
    assert headers[1] == told


@pytest.mark.parametrize("codec", ["mov_text"])
def test_subtitles_in_mp4(tmp_path, codec):
    episode = write_episode(tmp_path / "a.mp4", subtitles=[Track(codec, "en")])
    result = upscaled(episode.path, tmp_path / "b.mp4")
    before, after = payloads(episode.path, "subtitle"), payloads(result.path, "subtitle")
    assert before[0][2] and [cue[:2] for cue in after[0][2]] == [cue[:2] for cue in before[0][2]]


def test_fonts_byte_for_byte(tmp_path):
    fonts = [("Signs Bold.ttf", "font/ttf", bytes(range(256)) * 40), ("読.otf", "font/otf", b"OTTO" + b"\1" * 999)]
    episode = write_episode(tmp_path / "a.mkv", attachments=fonts)
    upscaled(episode.path, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as file:
        attached = [s for s in file.streams if s.type == "attachment"]
        kept = [(s.metadata["filename"], s.metadata["mimetype"], s.data) for s in attached]
    assert kept == fonts


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_cover(tmp_path, suffix):
    episode = write_episode(tmp_path / f"a{suffix}", cover=True)
    upscaled(episode.path, tmp_path / f"b{suffix}")

    def cover(path):
        with av.open(str(path)) as file:
            (stream,) = [s for s in file.streams.video if media_cover(s)]
            return stream.metadata.get("filename"), [bytes(p) for p in file.demux(stream) if p.size]

    assert cover(tmp_path / f"b{suffix}") == cover(episode.path)


def test_chapters_in_two_languages(tmp_path):
    chapters = [(0, {"en": "Opening", "ja": "オープニング"}), (400, {"en": "Part A", "ja": "Aパート"})]
    episode = write_episode(tmp_path / "a.mkv", chapters=chapters)
    upscaled(episode.path, tmp_path / "b.mkv")
    before, after = read_details(episode.path), read_details(tmp_path / "b.mkv")
    assert before.chapters and after.chapters == before.chapters


def test_chapters_in_mp4(tmp_path):
    episode = write_episode(tmp_path / "a.mp4", chapters=[(0, {"en": "One"}), (500, {"en": "Two"})])
    upscaled(episode.path, tmp_path / "b.mp4")
    with av.open(str(episode.path)) as a, av.open(str(tmp_path / "b.mp4")) as b:
        facts = [[(c["metadata"]["title"], float(c["start"] * c["time_base"])) for c in f.chapters()] for f in (a, b)]
    assert len(facts[0]) == 2 and facts[0] == facts[1]


def test_languages_down_to_the_region(tmp_path):
    episode = write_episode(
        tmp_path / "a.mkv", language="ja", audio=[Track("aac", "en-GB"), Track("aac", "de")],
        subtitles=[Track("subrip", "en-GB")],
    )  # fmt: skip
    upscaled(episode.path, tmp_path / "b.mkv")
    tags = [[t.language_bcp47 for t in read_details(tmp_path / name).tracks] for name in ("a.mkv", "b.mkv")]
    assert tags[0] == ["ja", "en-GB", "de", "en-GB"] and tags[1] == tags[0]


def test_titles_and_tags(tmp_path):
    tags = {"title": "Episode 1: “猫”", "artist": "Studio", "comment": "a & b"}
    episode = write_episode(tmp_path / "a.mkv", metadata=tags, audio=[Track("aac", "ja", title="Stereo")])
    upscaled(episode.path, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as file:
        kept = {key.lower(): value for key, value in file.metadata.items()}
        assert {key: kept.get(key) for key in tags} == tags
        assert file.streams.audio[0].metadata["title"] == "Stereo"


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_dispositions(tmp_path, suffix):
    audio = [Track("aac", "ja", flags=("default", "original")), Track("aac", "en", flags=("dub",)), Track("aac", "de")]
    audio.append(Track("aac", "en", flags=("comment",)))
    if suffix == ".mp4":  # MP4 has no flags for original and dub
        audio = [Track("aac", "ja", flags=("default",)), Track("aac", "en")]
    episode = write_episode(tmp_path / f"a{suffix}", audio=audio)
    upscaled(episode.path, tmp_path / f"b{suffix}")
    with av.open(str(episode.path)) as a, av.open(str(tmp_path / f"b{suffix}")) as b:
        assert [s.disposition for s in b.streams] == [s.disposition for s in a.streams]


@pytest.mark.parametrize("codec", ["x264", "x265", "svtav1", "ffv1"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_shape_of_the_pixels(tmp_path, codec, suffix):
    if codec == "ffv1" and suffix == ".mp4":
        pytest.skip("FFV1 lives in MKV only")
    episode = write_episode(tmp_path / f"a{suffix}", sar=Fraction(8, 9))
    preset = None if codec == "ffv1" else "ultrafast"
    result = upscaled(episode.path, tmp_path / f"b{suffix}", codec=codec, preset=preset)
    assert result.video.sample_aspect == Fraction(8, 9)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_rotation(tmp_path, suffix):
    episode = write_episode(tmp_path / f"a{suffix}", rotation=90)
    result = upscaled(episode.path, tmp_path / f"b{suffix}")
    with av.open(str(episode.path)) as a, av.open(str(result.path)) as b:
        turns = [next(file.decode(video=0)).rotation for file in (a, b)]
    assert abs(turns[0]) == 90 and turns[1] == turns[0]


@pytest.mark.parametrize("codec", ["x264", "x265", "svtav1"])
@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (6, 6, 6, 1), (5, 6, 5, 1), (9, 16, 9, 1), (1, 1, 1, 2)])
def test_colour_tags(tmp_path, codec, tags):
    names = ("color_primaries", "color_trc", "colorspace", "color_range")
    episode = write_episode(tmp_path / "a.mkv", color=dict(zip(names, tags)))
    upscaled(episode.path, tmp_path / "b.mkv", codec=codec)
    with av.open(str(tmp_path / "b.mkv")) as file:
        context = file.streams.video[0].codec_context
        frame = next(file.decode(video=0))
    assert tuple(int(getattr(context, name)) for name in names) == tags
    assert (int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace), int(frame.color_range)) == tags


def test_untagged_colour_is_decided_written_and_said(tmp_path):
    episode = write_episode(tmp_path / "a.mkv", color={})
    report = Report()
    result = upscaled(episode.path, tmp_path / "b.mkv", report)
    assert result.video.color.matrix == "bt601" and not result.video.color.assumed
    assert any("BT.601" in line and "matrix not given" in line for line in report.lines)


@pytest.mark.parametrize(
    ("pix_fmt", "source", "codec"),
    [("yuv420p", "libx264", "x264"), ("yuv422p", "libx264", "x264"), ("yuv444p", "libx264", "x265"),
     ("yuv420p10le", "libx264", "x264"), ("yuv444p10le", "libx264", "x265"), ("yuv420p12le", "libx265", None),
     ("yuv420p10le", "libx265", "svtav1")],
)  # fmt: skip
def test_depth_and_chroma(tmp_path, pix_fmt, source, codec):
    episode = write_episode(tmp_path / "a.mkv", pix_fmt=pix_fmt, codec=source)
    assert upscaled(episode.path, tmp_path / "b.mkv", codec=codec).video.pixel_format == pix_fmt


@pytest.mark.parametrize(("width", "height"), [(65, 49), (64, 49), (65, 48)])
@pytest.mark.parametrize("scale", [2, 4])
def test_odd_sizes(tmp_path, width, height, scale):
    episode = write_episode(tmp_path / "a.mkv", size=(width, height), pix_fmt="yuv444p")
    video = upscaled(episode.path, tmp_path / "b.mkv", scale=scale).video
    assert (video.width, video.height) == (width * scale, height * scale)


@pytest.mark.parametrize("codec", ["x265", "svtav1"])
def test_hdr10_metadata(tmp_path, codec):
    master = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    params = f"log-level=none:pools=1:hdr10=1:repeat-headers=1:master-display={master}:max-cll=1000,400"
    color = {"color_primaries": 9, "color_trc": 16, "colorspace": 9, "color_range": 1}
    episode = write_episode(
        tmp_path / "a.mkv", codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": params}, color=color
    )
    hdr = upscaled(episode.path, tmp_path / "b.mkv", codec=codec).video.hdr
    assert hdr.content_light == (1000, 400)
    assert [round(float(v), 3) for v in hdr.mastering] == [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.313, 0.329, 0, 1000]


def test_what_mp4_has_no_place_for_is_said_before(tmp_path):
    """Flags of tracks: once a run's own proof failed at the end of the night for them. What MP4 holds it keeps."""
    tracks = [Track("aac", "ja", title="Stereo", flags=("default",)), Track("aac", "en", flags=("comment", "original"))]
    episode = write_episode(tmp_path / "a.mkv", audio=tracks)
    report = Report()
    result = upscaled(episode.path, tmp_path / "b.mp4", report)
    assert "MP4 has no place for its flag “original” of #2" in " ".join(report.lines)
    assert not any("title" in line or "comment” of" in line for line in report.lines)
    assert result.tracks[1].title == "Stereo" and "comment" in result.tracks[2].dispositions
    assert verify(episode.path, result.path).passed


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_names_of_tracks_of_mov(tmp_path, suffix):
    episode = write_episode(tmp_path / "a.mov", audio=[Track("aac", "ja", title="Stéreo"), Track("aac", "en")])
    assert [track.title for track in upscaled(episode.path, tmp_path / f"b{suffix}").tracks] == ["", "Stéreo", ""]


def test_ass_is_refused_in_mp4_with_the_cure(tmp_path):
    episode = write_episode(tmp_path / "a.mkv", subtitles=[Track("ass", "en")], audio=[Track("aac", "ja")])
    with pytest.raises(UsageError, match=r"ASS .*cannot live in MP4: use \.mkv"):
        upscaled(episode.path, tmp_path / "b.mp4")
    assert not list(tmp_path.glob("b*"))


def test_fonts_are_refused_in_mp4_and_drop_is_said(tmp_path):
    font = [("a.ttf", "font/ttf", b"x" * 100)]
    episode = write_episode(tmp_path / "a.mkv", attachments=font, subtitles=[Track("ass", "en")])
    with pytest.raises(UsageError, match="cannot live in MP4"):
        upscaled(episode.path, tmp_path / "b.mp4", drop=frozenset({"subtitle"}))
    report = Report()
    upscaled(episode.path, tmp_path / "b.mp4", report, drop=frozenset({"unsupported"}))
    assert sum(line.startswith("dropped: #") for line in report.lines) == 2


@pytest.mark.parametrize("duration", [0.1, 0.2, 0.3, 0.7])
def test_a_part_ends_where_it_says(tmp_path, duration):
    """Tenths of a second are no binary fractions: plan and proof must round them alike."""
    times = [i * 3000 for i in range(30)]
    episode = write_episode(tmp_path / "a.mp4", pts=times, time_base=Fraction(1, 90000), rate=Fraction(30))
    upscaled(episode.path, tmp_path / "b.mp4", duration=duration)
    assert [number for _, number in media.read_numbers(tmp_path / "b.mp4")] == list(range(round(duration * 30)))


def test_a_part_of_an_episode(tmp_path):
    episode = write_episode(
        tmp_path / "a.mkv", frames=96, audio=[Track("aac", "ja")], subtitles=[Track("subrip", "en")],
        chapters=[(0, {"en": "One"}), (2000, {"en": "Two"})],
    )  # fmt: skip
    upscaled(episode.path, tmp_path / "b.mkv", start=1.0, duration=2.0)
    seen = media.read_numbers(tmp_path / "b.mkv")
    wanted = [(t, i) for i, t in enumerate(episode.pts) if 1000 <= t < 3000]
    assert seen == [(t - wanted[0][0], i) for t, i in wanted]
    with av.open(str(tmp_path / "b.mkv")) as file:
        assert [c["metadata"]["title"] for c in file.chapters()] == ["One", "Two"]
        assert 1.8 < float(file.duration / av.time_base) < 2.2
