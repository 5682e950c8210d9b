"""The rule that makes one timeline of times that restart, over made packet headers."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidsr.timeline import Headers, find_gaps, make_timeline, on_timeline, told_gaps, told_pieces

BASE = Fraction(1, 90000)
VIDEO, SOUND, SECOND = 0, 1, 2
LENGTH = {VIDEO: 3600, SOUND: 2160, SECOND: 1920}  # of a packet, ticks


@dataclass
class Made:
    """A file's headers, and which piece each packet was made for."""

    streams: dict[int, Headers] = field(default_factory=dict)
    piece: dict[int, list[int]] = field(default_factory=dict)
    order: int = 0

    def add(self, stream: int, piece: int, pts: int, dts: int, key: bool, place_known: bool = True) -> None:
        if stream not in self.streams:
            self.streams[stream] = Headers(stream, "video" if stream == VIDEO else "audio", BASE)
            self.piece[stream] = []
        headers = self.streams[stream]
        pos = self.order * 100 if place_known or not headers.pos else headers.pos[-1]
        headers.add(self.order, pos, place_known, pts, dts, LENGTH[stream], key)
        self.piece[stream].append(piece)
        self.order += 1

    def timeline(self, **more):
        return make_timeline(list(self.streams.values()), VIDEO, **more)


def add_piece(made, number, start, seconds, sound_offset=0, streams=(VIDEO, SOUND), depth=2, known=lambda: True):
    """Pictures with `depth` between an anchor and the next, sound beside them, by the order of decoding."""
    count = int(seconds * 90000 / LENGTH[VIDEO]) // (depth + 1) * (depth + 1) + 1
    packets = []
    for i in range(count):
        anchor, back = divmod(i - 1, depth + 1)
        shown = i if i == 0 else anchor * (depth + 1) + (depth + 1 if back == 0 else back)
        pts, dts = start + shown * LENGTH[VIDEO], start + (i - depth) * LENGTH[VIDEO]
        packets.append((dts, VIDEO, pts, i == 0 or (back == 0 and anchor % 4 == 0)))
    for stream in streams[1:]:
        for i in range(int(seconds * 90000 / LENGTH[stream])):
            time = start + sound_offset + i * LENGTH[stream]
            packets.append((time, stream, time, True))
    begun = {VIDEO}
    for dts, stream, pts, key in sorted(packets):
        made.add(stream, number, pts, dts, key, stream not in begun or stream == VIDEO or known())
        begun.add(stream)
    return made


pieces_strategy = st.lists(
    st.tuples(
        st.integers(20000, 2**33),  # where its times begin
        st.floats(2, 5),
        st.integers(-20000, 20000),  # how much later the sound begins
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@given(pieces_strategy, st.integers(0, 3), st.booleans(), st.booleans(), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_joined_pieces_are_one_timeline(pieces, depth, mute, reordered, seed):
    made, ends = Made(), 0
    streams = (VIDEO,) if mute else (VIDEO, SOUND, SECOND)
    random, back = Random(seed), []
    for number, (start, seconds, offset) in enumerate(pieces):
        # Back by more than sound and pictures may lie apart, or on by more than any gap.
        if number and not (start < ends - 90000 or start > ends + 3700 * 90000):
            start = max(20000, ends - 5 * 90000)
        add_piece(made, number, start, seconds, offset, streams, depth, lambda: random.random() < 0.5)
        back += [start < ends] if number else []
        ends = start + int(seconds * 90000)
    if reordered:
        for headers in made.streams.values():
            headers.dts = headers.pts
    timeline = made.timeline(reordered_dts=reordered)
    assert len(timeline.pieces) == len(pieces) - 1
    assert [piece.jump < 0 for piece in timeline.pieces] == back
    times = {s: on_timeline(h, timeline) for s, h in made.streams.items()}
    shifts = {s: times[s] - np.asarray(h.pts) for s, h in made.streams.items()}
    for number in range(len(pieces)):
        own = {int(x) for s in times for x, p in zip(shifts[s], made.piece[s]) if p == number}
        assert len(own) == 1, "sound and picture of a piece stay together"
        if number:
            room = []
            for s in times:
                inside = [t for t, p in zip(times[s], made.piece[s]) if p == number]
                before = [t for t, p in zip(times[s], made.piece[s]) if p < number]
                room.append(min(inside) - max(before) - LENGTH[s])
            assert min(room) == 0, "nothing overlaps, and nothing is moved further than that needs"
    for s, found in times.items():
        assert len(set(found.tolist())) == len(found)
        assert s == VIDEO or (np.diff(found) > 0).all()


@given(st.lists(st.floats(0, 3000), max_size=4), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_gaps_are_no_restarts(waits, depth):
    made, start, holes = Made(), 0, []
    for number, wait in enumerate([0.0, *waits]):
        start += int(wait * 90000)
        holes += [wait] * (number > 0)
        before = made.order
        add_piece(made, number, start, 2, depth=depth)
        assert made.order > before
        start = max(max(h.pts) + LENGTH[s] for s, h in made.streams.items())
    timeline = made.timeline()
    assert timeline.pieces == ()
    found = find_gaps(list(made.streams.values()), VIDEO, timeline, own_times=True)
    expected = [wait for wait in holes if wait > 0.6]
    assert len([gap for gap in found if gap.length > 0.7]) >= len([wait for wait in expected if wait > 0.7])
    assert all(abs(gap.length - wait) < 0.15 for gap, wait in zip(found, [w for w in holes if w > 0.5]) if wait > 0.7)


@pytest.mark.parametrize("jump", [-40 * 90000, 500 * 90000, 2**33 - 90000])
@pytest.mark.parametrize("stream", [VIDEO, SOUND])
def test_a_single_wrong_time_is_no_restart(jump, stream):
    made = add_piece(Made(), 0, 100 * 90000, 10)
    headers = made.streams[stream]
    i = next(i for i in range(50, len(headers.pts)) if headers.keys[i])
    headers.pts[i] += jump
    headers.dts[i] += jump
    assert made.timeline().pieces == ()


def test_sound_that_is_a_little_unsteady_is_no_restart():
    made = add_piece(Made(), 0, 0, 4)
    for i in range(3, 100, 7):
        made.streams[SOUND].pts[i] -= LENGTH[SOUND] + 900
    assert made.timeline().pieces == ()


def test_two_fields_of_one_time_are_no_restart():
    made = Made()
    for i in range(50):
        made.add(VIDEO, 0, i * 3600, i * 3600, i % 10 == 0)
        made.add(VIDEO, 0, i * 3600, i * 3600 + 1800, i % 10 == 0)
    assert made.timeline().pieces == ()


def test_sound_whose_last_packets_come_behind_the_pictures_of_the_next_piece_keeps_its_own_shift():
    """As where a program has interleaved streams whose times restart."""
    made = Made()
    for i in range(100):
        made.add(VIDEO, 0, 10**6 + i * 3600, 10**6 + i * 3600, i % 10 == 0)
    for i in range(80):
        made.add(SOUND, 0, 10**6 + i * 2160, 10**6 + i * 2160, True)
    for i in range(10):
        made.add(VIDEO, 1, i * 3600, i * 3600, i == 0)
    for i in range(80, 160):
        made.add(SOUND, 0, 10**6 + i * 2160, 10**6 + i * 2160, True)
    for i in range(60):
        made.add(SOUND, 1, i * 2160, i * 2160, True)
    for i in range(10, 40):
        made.add(VIDEO, 1, i * 3600, i * 3600, False)
    timeline = made.timeline()
    for stream, headers in made.streams.items():
        shifted = on_timeline(headers, timeline) != np.asarray(headers.pts)
        assert shifted.tolist() == [piece == 1 for piece in made.piece[stream]]


def test_a_held_picture_is_no_gap():
    made = add_piece(Made(), 0, 0, 20)
    headers, sound = made.streams[VIDEO], made.streams[SOUND]
    kept = [i for i, t in enumerate(headers.pts) if not 5 * 90000 < t < 9 * 90000]
    held = Headers(VIDEO, "video", BASE)
    for i in kept:
        held.add(headers.order[i], headers.pos[i], True, headers.pts[i], headers.dts[i], 3600, bool(headers.keys[i]))
    assert find_gaps([held, sound], VIDEO, make_timeline([held, sound], VIDEO), own_times=False) == ()
    (gap,) = find_gaps([held, sound], VIDEO, make_timeline([held, sound], VIDEO), own_times=True)
    assert gap.at == pytest.approx(5, abs=0.1) and gap.length == pytest.approx(4, abs=0.1)
    (gap,) = find_gaps([held], VIDEO, make_timeline([held], VIDEO), own_times=False)
    assert told_gaps([gap]) == ["4.0 s of the picture are missing at 0:05"]


def test_what_is_told():
    made = Made()
    for number, start in enumerate([0, 0, 9 * 3600 * 90000]):
        add_piece(made, number, start, 70)
    lines = told_pieces(made.timeline())
    assert lines[0] == "its times restart at 1:10: what follows is joined to what was before"
    assert lines[1].startswith("its times jump on by 8:58:5") and " at 2:20, which is taken out" in lines[1]
    for number in range(10):
        add_piece(made, number, 0, 2)
    assert "12 places" in told_pieces(made.timeline())[-1]


def test_keyframes_shown_before_what_was_decoded_before_them_are_no_restarts():
    """As H.264 allows: what tells is that decoding times go on."""
    made = Made()
    for i in range(0, 200, 2):
        made.add(VIDEO, 0, (i + 1) * 3600, (i - 1) * 3600, False)
        made.add(VIDEO, 0, i * 3600, i * 3600, i % 20 == 10)
    assert made.timeline().pieces == ()
