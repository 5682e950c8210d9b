"""Which pictures are made of interlaced and telecined videos, whatever their flags say."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media_fields import (
    FILM,
    NTSC,
    PAL,
    SIZE,
    picture,
    soft_telecine,
    telecined,
    woven,
    write_fields,
    write_pictures,
)
from vidsr.choose.fields import look
from vidsr.frames import TimeRange
from vidsr.report import Report
from vidsr.source.decode import decode
from vidsr.source.fields import measure
from vidsr.source.probe import probe
from vidsr.source.weaving import AS_IT_IS, INTERPOLATED, Weaving, pictures

FRAMES = 40


def looked(path, **options):
    """(the weaving of a whole file, its pictures, what was said)."""
    info = probe(path)
    weaving, said = look(info, **options)
    return weaving, list(pictures(path, info.video, None, None, None, Report(), weaving=weaving)), said


def numbers(frames, film):
    """Of which of the film's pictures these frames are, to the bit; None: of none."""
    known = {b"".join(plane.tobytes() for plane in picture(number)): number for number in film}
    return [known.get(b"".join(plane.tobytes() for plane in frame.planes)) for frame in frames]


def seconds(weaving, info):
    base = info.video.time_base / weaving.ticks
    return [float(int(pts) * base) for pts in weaving.pts]


def comb(path, frames):
    return measure(frames, probe(path).video.format).own.max()


@pytest.mark.parametrize(("rate", "said"), [(PAL, True), (NTSC, False)])
def test_of_pal_it_is_said_that_what_was_blended_stays(tmp_path, rate, said):
    told = looked(write_fields(tmp_path / "a.mkv", range(2 * FRAMES), rate))[2]
    assert "deinterlaced with bwdif" in told and ("cannot be undone" in told) is said


@pytest.mark.parametrize("bottom_first", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_telecined_film_gets_its_own_pictures_back_evenly_spaced(tmp_path, bottom_first, first):
    film = range(FRAMES)
    path = write_fields(tmp_path / "a.mkv", telecined(film, first=first), bottom_first=bottom_first)
    weaving, frames, said = looked(path)
    assert numbers(frames, film) == list(film)
    steps = np.diff(seconds(weaving, probe(path)))
    assert np.abs(steps[1:] - 1001 / 24000).max() < 0.0021  # MKV rounds the fields' times to milliseconds
    assert weaving.info(probe(path)).video.rate == FILM
    assert "telecined: 23.976 pictures a second from 29.970" in said


def test_times_are_exact_where_the_container_is(tmp_path):
    path = write_fields(tmp_path / "a.mp4", telecined(range(FRAMES)), codec="libx264", crf="10")
    weaving, _, _ = looked(path)
    base = probe(path).video.time_base / weaving.ticks
    assert [Fraction(int(step)) * base for step in np.diff(weaving.pts)] == pytest.approx(
        [Fraction(1001, 24000)] * (FRAMES - 1), abs=float(base)
    )


def test_edits_after_the_telecine_break_the_cadence_and_nothing_else(tmp_path):
    film = telecined(range(30))
    other = telecined(range(1000, 1040))
    for cut, again in ((52, 0), (53, 1), (51, 3), (50, 2)):
        fields = film[:cut] + other[again:80]
        path = write_fields(tmp_path / f"{cut}{again}.mkv", fields[: len(fields) // 2 * 2])
        _, frames, _ = looked(path)
        found = numbers(frames, [*range(30), *range(1000, 1040)])
        assert comb(path, frames) < 0.2
        assert found.count(None) <= 1  # of single fields on both sides of the cut
        known = [number for number in found if number is not None]
        assert known == sorted(set(known)) and len(known) >= len(set(fields)) - 2


def test_video_is_deinterlaced_at_its_own_times(tmp_path):
    path = write_fields(tmp_path / "a.mkv", range(60))
    weaving, frames, said = looked(path)
    assert comb(path, decode(path, probe(path).video, None, None, None, Report())) > 1
    assert comb(path, frames) < 0.4
    assert weaving.pts.tolist() == weaving.source.tolist()
    assert "interlaced, top fields first" in said
    each, twice, _ = looked(path, wanted="bob")
    assert len(twice) == 60 and comb(path, twice) < 0.4
    assert each.pts[::2].tolist() == weaving.source.tolist()
    halves = (each.source[1:] + each.source[:-1]) / 2
    assert np.abs(each.pts[1:-1:2] - halves).max() <= 1


def test_the_field_order_is_seen_not_believed(tmp_path):
    for bottom_first, order in ((False, "top fields first"), (True, "bottom fields first")):
        path = write_fields(tmp_path / f"{bottom_first}.mkv", range(60), bottom_first=bottom_first)
        assert order in looked(path)[2]


def test_video_within_film(tmp_path):
    film, video = telecined(range(32)), list(range(100, 160))
    path = write_fields(tmp_path / "a.mkv", [*film, *video, *telecined(range(200, 232))])
    weaving, frames, said = looked(path)
    found = numbers(frames, [*range(32), *range(200, 232)])
    assert found[:30] == list(range(30)) and found[-30:] == list(range(202, 232))
    assert comb(path, frames) < 0.2
    assert "1 stretch of video (0:01 to 0:02)" in said and "telecined" in said
    assert (np.diff(weaving.pts) > 0).all()


def test_progressive_pictures_pass_untouched(tmp_path):
    path = write_pictures(tmp_path / "a.mkv", [picture(number) for number in range(FRAMES)], FILM)
    weaving, frames, said = looked(path)
    assert weaving is None and said == ""
    assert numbers(frames, range(FRAMES)) == list(range(FRAMES))
    assert "no telecine" in look(probe(path), wanted="ivtc")[1]


def test_film_of_two_fields_each_is_woven_across_pictures(tmp_path):
    fields = [number for number in range(FRAMES) for _ in range(2)][1:-1]
    path = write_fields(tmp_path / "a.mkv", fields, PAL)
    _, frames, _ = looked(path)
    assert [number for number in numbers(frames, range(FRAMES)) if number is not None] == list(range(1, FRAMES - 1))


def test_a_picture_whose_fields_fit_is_the_sources_own(tmp_path):
    path = write_fields(tmp_path / "a.mkv", telecined(range(FRAMES)))
    weaving, _, _ = looked(path)
    assert (weaving.how == AS_IT_IS).mean() > 0.7


def test_tiny_and_empty_videos_are_left_alone(tmp_path):
    path = write_fields(tmp_path / "a.mkv", [0, 1])
    assert looked(path)[0] is None


KINDS = {
    "telecine": telecined(range(20)),
    "video": list(range(50)),
    "both": [*telecined(range(12)), *range(100, 140), *telecined(range(200, 212))],
}


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    path = write_fields(tmp_path_factory.mktemp("fields") / f"{request.param}.mkv", KINDS[request.param])
    info = probe(path)
    weaving, _ = look(info)
    return info, weaving, list(pictures(path, info.video, None, None, None, Report(), weaving=weaving))


@settings(max_examples=10, deadline=None, derandomize=True, database=None)
@given(places=st.lists(st.integers(1, 999), max_size=4))
def test_parts_are_the_same_as_the_whole_wherever_they_are_cut(whole, places):
    info, weaving, frames = whole
    cuts = {int(weaving.source[place * len(weaving.source) // 1000]) for place in places}
    edges = [None, *sorted(cuts), None]
    parts = [
        frame for start, end in zip(edges, edges[1:])
        for frame in pictures(info.path, info.video, start, end, None, Report(), weaving=weaving)
    ]  # fmt: skip
    assert [frame.pts for frame in parts] == [frame.pts for frame in frames]
    for part, frame in zip(parts, frames):
        assert all(np.array_equal(a, b) for a, b in zip(part.planes, frame.planes)), part.pts


def test_what_was_decided_survives_the_plan(whole):
    _, weaving, _ = whole
    again = Weaving.from_json(weaving.as_json())
    assert again.same(weaving)
    assert [getattr(again, name).tolist() for name in ("how", "top", "pts")] == [
        getattr(weaving, name).tolist() for name in ("how", "top", "pts")
    ]
    with pytest.raises(ValueError):
        Weaving.from_json({**weaving.as_json(), "pts": "AAAA"})


def test_compression_and_noise_do_not_hide_the_cadence(tmp_path):
    path = write_fields(tmp_path / "a.mkv", telecined(range(FRAMES)), NTSC, codec="mpeg2video", b="3000000")
    weaving, _, said = looked(path)
    assert len(weaving) == FRAMES and "telecined" in said


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(lengths=st.lists(st.integers(1, 5), min_size=40, max_size=50))
def test_a_cadence_that_never_settles_shows_no_combs(tmp_path_factory, lengths):
    fields = [number for number, length in enumerate(lengths) for _ in range(length)]
    path = write_fields(tmp_path_factory.mktemp("fields") / "a.mkv", fields[: len(fields) // 2 * 2])
    weaving, frames, _ = looked(path)
    assert comb(path, frames) < 0.3
    assert weaving is None or (np.diff(weaving.pts) > 0).all()


def test_lost_fields_and_an_order_that_changes(tmp_path):
    fields = list(telecined(range(60)))
    del fields[40], fields[79:82]
    pictures = woven(fields[:80]) + woven(fields[80 : len(fields) // 2 * 2], bottom_first=True)
    path = write_pictures(tmp_path / "a.mkv", pictures)
    _, frames, _ = looked(path)
    found = numbers(frames, range(60))
    assert comb(path, frames) < 0.3
    assert len(set(found) - {None}) >= 54


@pytest.mark.parametrize(
    "name", ["sample_edit_list_only_preroll_sync_sample.mp4", "testsrc2_12bit_hdr.mp4", "sample_vvc.mp4"]
)
def test_sharp_progressive_pictures_are_no_video(shared_clips, name):
    assert look(probe(shared_clips / "structure" / name)) == (None, "")


@pytest.mark.parametrize("speed", [-3, -2, 2, 3])  # rows a field
@pytest.mark.parametrize("bottom_first", [False, True])
def test_what_scrolls_is_video_whichever_way_and_in_either_order(tmp_path, speed, bottom_first):
    page = cv2.GaussianBlur(np.random.default_rng(1).uniform(16, 235, (400, SIZE[0])), (0, 0), 1.5)
    page = ((page - page.mean()) * 3 + 125).clip(16, 235).astype(np.uint8)
    grey = np.full((SIZE[1] // 2, SIZE[0] // 2), 128, np.uint8)
    pictures = []
    for field in range(0, 80, 2):
        one, other = (np.roll(page, -speed * each, 0)[: SIZE[1]] for each in (field, field + 1))
        luma, lower = (other.copy(), one) if bottom_first else (one.copy(), other)
        luma[1::2] = lower[1::2]
        pictures.append((luma, grey, grey))
    weaving, _, said = looked(write_pictures(tmp_path / "a.mkv", pictures))
    assert f"interlaced, {'bottom' if bottom_first else 'top'} fields first" in said
    assert (weaving.how == INTERPOLATED).all()


def test_soft_telecine_is_film_already(tmp_path):
    path = soft_telecine(tmp_path / "a.mkv", range(FRAMES))
    info = probe(path)
    with av.open(str(path)) as file:
        repeated = [frame.interlaced_frame for frame in file.decode(video=0)]
    assert len(repeated) == FRAMES and not any(repeated)
    weaving, frames, said = looked(path)
    assert weaving is None and said == ""
    lengths = np.diff([float(frame.pts * info.video.time_base) for frame in frames])
    fields = [round(length * 60000 / 1001) for length in lengths]
    assert fields == [2, 3] * (FRAMES // 2 - 1) + [2]


def test_the_order_of_video_changes(tmp_path):
    pictures = woven(range(100)) + woven(range(200, 300), bottom_first=True)
    path = write_pictures(tmp_path / "a.mkv", pictures)
    weaving, frames, said = looked(path)
    assert comb(path, frames) < 0.4 and len(frames) == len(pictures)
    assert "here top fields, there bottom fields" in said
    assert {int(kind) for kind in weaving.field[:48]} == {0} and {int(kind) for kind in weaving.field[52:]} == {3}


def test_flags_that_lie(tmp_path):
    tops = {"codec": "libx264", "crf": "10", "x264-params": "tff=1"}
    path = write_fields(tmp_path / "bottom.mkv", range(60), bottom_first=True, **tops)
    assert probe(path).video.interlaced
    assert "interlaced, bottom fields first" in looked(path)[2]
    path = write_pictures(tmp_path / "film.mkv", [picture(number) for number in range(FRAMES)], FILM, **tops)
    assert probe(path).video.interlaced
    assert looked(path)[::2] == (None, "calls itself interlaced, but no picture has combs: nothing to undo")


def test_telecine_is_asked_for_where_there_is_none(tmp_path):
    path = write_fields(tmp_path / "a.mkv", range(60))
    _, frames, said = looked(path, wanted="ivtc")
    assert "interlaced" in said and "no telecine found" in said and comb(path, frames) < 0.2


def test_a_part_tells_the_times_of_the_file(tmp_path):
    fields = [*telecined(range(96)), *range(200, 320), *telecined(range(400, 440))]
    path = write_fields(tmp_path / "a.mkv", fields[: len(fields) // 2 * 2])
    assert "video (0:04 to 0:05)" in looked(path)[2]
    assert "video (0:04 to 0:05)" in look(probe(path), TimeRange(2.5, 6.5))[1]
