"""Which fields belong together: from what was measured of all of them to the pictures that a result is of.

The fields in the order in which they are shown are cut into runs, as cheaply as possible (Viterbi's way): two or three
fields are a picture of a film, which has to be free of combs; single ones are video, each of a moment of its own.
Changing from one kind to another costs, so that what stands still goes with what is before and behind it; and so does
breaking the 3:2 cadence, by which telecine makes 60 fields of 24 pictures. Nothing depends on flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vidsr.source.fields import Measures

# Kinds of runs of fields. PLAIN: the two of one picture of the source. SHIFTED: two of neighbouring pictures. TWO,
# THREE: of a cadence. LONE: of a picture of which there is no other field, at a cut. VIDEO.
PLAIN, SHIFTED, TWO, THREE, LONE, VIDEO = range(6)
_FIELDS = (2, 2, 2, 3, 1, 1)

# What things cost. A comb that is plain to see in one place of a picture costs about 2.
_MOST = 3.0  # a picture's comb at most
_COMB = 3.0  # for each unit of fields.Measures, or less, so that
_WORST = 0.15  # of the worst comb nearby costs 1: compression leaves something of it in pictures beside it; above
_NOTHING = 0.3  # units, and above the least nearby,
_NEARBY = 7  # pictures to either side, as far as that is no comb itself:
_NOISY = 0.3
_CHANGE = 8.0  # from one kind to another
_BEGIN = 4.0  # with another kind than plain: of a few pictures, it has to be plain to see
_BREAK = 1.5  # twos or threes in a row
_LONE = 2.5
_VIDEO = 0.3  # a field
_BACKWARDS = 0.3  # a field of video, where it would follow more smoothly the other way round
_DRAWN = 1.0  # a field of video, where its combs are not video's (_drawn):
_VERY_MUCH_LESS = 0.1  # of those across pictures, or less;
_FAINT = 1.5  # units, or less, the worst of them, and
_MUCH_LESS = 0.4  # of those across pictures, or less;
_WEAK = 0.5  # units, or less, and
_LESS = 0.6  # of those across pictures, or less; or these
_FARTHER = 1.25  # times as bad three fields apart as one apart, or less
_PLENTY = 3.0  # units, of a comb in a mean
_REPEATED = 0.5  # the third field of a picture, where it differs from the first
_UNEVEN = 0.25  # a picture of which one field differs from the next of its own, and the other does not
_LEAST = 0.3  # levels: differences below say little
_CADENCE = 0.0005  # a picture, so that what has no combs at all is plain


@dataclass(frozen=True)
class Run:
    """Some fields in a row. kind: PLAIN to VIDEO. first: the number of its first field, counting two a picture.
    bottom_first: whether bottom fields come first there. pair: the two fields that fit best. comb: what their weave
    costs, 0 none to 3."""

    kind: int
    first: int
    bottom_first: bool
    pair: tuple[int, int]
    comb: float

    @property
    def fields(self) -> int:
        return _FIELDS[self.kind]


def find_runs(found: Measures, harder: float = 1) -> list[Run]:
    """All the fields of `found` in runs. harder: by how much more than usually video costs, so that cadences are found
    in worse material."""
    pictures = len(found)
    costs = _Costs(found)
    # State 0 is PLAIN; then SHIFTED to VIDEO, top field first; then the same, bottom field first.
    kinds = np.array([PLAIN, *range(SHIFTED, VIDEO + 1), *range(SHIFTED, VIDEO + 1)])
    orders = np.array([0, *[0] * 5, *[1] * 5])
    change = _changes(kinds, orders)
    lengths = np.array(_FIELDS)[kinds]
    begin = np.where(kinds == PLAIN, 0.0, _BEGIN)
    states = np.arange(len(kinds))
    total = np.full((2 * pictures + 1, len(kinds)), np.inf)  # of the cheapest way to a run of that kind's end there
    before = np.zeros((2 * pictures + 1, len(kinds)), np.int8)
    price = costs.table(kinds, orders, harder * _VIDEO)
    for end in range(1, 2 * pictures + 1):
        starts = end - lengths
        ways = total[np.maximum(starts, 0)] + change  # [to, from]
        best = ways.argmin(1)
        cheapest = ways[states, best]
        cheapest = np.where(starts == 0, begin, np.where(starts < 0, np.inf, cheapest))
        total[end] = cheapest + price[np.maximum(starts, 0), states]
        before[end] = best
    runs = []
    end, state = 2 * pictures, int(total[-1].argmin()) if pictures else 0
    while end > 0:
        first = end - int(lengths[state])
        order = int(orders[state])
        runs.append(Run(int(kinds[state]), first, bool(order), *costs.best_pair(order, first, int(lengths[state]))))
        end, state = first, int(before[end, state])
    return runs[::-1]


def _changes(kinds: Any, orders: Any) -> np.ndarray:
    """[to, from]: what it costs that a run of one state follows one of the other."""
    free = {frozenset(pair) for pair in ((TWO, THREE), (TWO, LONE), (THREE, LONE))}
    table = np.zeros((len(kinds), len(kinds)))
    for to, (kind, order) in enumerate(zip(kinds, orders)):
        for at, (last, other) in enumerate(zip(kinds, orders)):
            if kind == last:
                cost = _BREAK if kind in (TWO, THREE, LONE) else 0.0
            else:
                cost = 0.0 if frozenset((kind, last)) in free else _CHANGE
            if order != other and PLAIN not in (kind, last):
                cost = 2 * _CHANGE
            table[to, at] = cost
    return table


class _Costs:
    """What runs cost by themselves. order: 0: top fields come first, 1: bottom fields do."""

    def __init__(self, found: Measures) -> None:
        self._pictures = len(found)
        floor = _lowest(np.minimum(found.own, np.minimum(found.tops_first, found.bottoms_first)))
        floor = np.minimum(floor, _NOISY)
        combs = found.own, found.tops_first, found.bottoms_first
        worst = np.maximum(found.own, np.minimum(found.tops_first, found.bottoms_first))
        unit = np.maximum(1 / _COMB, _WORST * _highest(worst, 3))
        own, *across = (np.clip((comb - floor - _NOTHING) / unit, 0, _MOST) for comb in combs)
        step = [found.top, found.bottom]
        still = 1.3 * _lowest(np.minimum(*step))
        most = _highest(np.maximum(*step), 2) + _LEAST
        moved = [np.clip((one - still) / most, 0, 1) for one in step]  # from the picture before
        self._pairs = [_alternate(own, _next(across[order], _MOST)) for order in (0, 1)]
        # Of each field, to the next of its kind.
        after = [_alternate(_next(moved[order], 1.0), _next(moved[1 - order], 1.0)) for order in (0, 1)]
        self._repeated = [one * _REPEATED for one in after]
        self._uneven = [np.clip(2 * np.abs(one - _next(one, 1.0)) - 0.5, 0, 1) * _UNEVEN for one in after]
        smoother = [found.tops_first - found.bottoms_first, found.bottoms_first - found.tops_first]
        drawn = _drawn(found)
        self._backwards = [
            np.repeat(np.clip(one, 0, 1) * _BACKWARDS + drawn[order], 2) for order, one in enumerate(smoother)
        ]

    def best_pair(self, order: int, first: int, fields: int) -> tuple[tuple[int, int], float]:
        """The two neighbours among these fields that fit best, if they do as well those of one picture of the source,
        and their comb."""
        combs = [(float(self._pairs[order][at]), at % 2, at) for at in range(first, first + fields - 1)]
        comb, _, at = min(combs, default=(0.0, 0, first))
        return (at, at + 1), comb

    def table(self, kinds: Any, orders: Any, video: float) -> np.ndarray:
        """[fields, states]: of a run that begins with that field."""
        count = 2 * self._pictures
        odd = np.arange(count) % 2
        table = np.full((count, len(kinds)), np.inf)
        for state, (kind, order) in enumerate(zip(kinds, orders)):
            pair, second = self._pairs[order], np.append(self._pairs[order][1:], _MOST)
            uneven = self._uneven[order]
            if kind == PLAIN:
                table[:, state] = np.where(odd, np.inf, pair + uneven)
            elif kind == SHIFTED:
                table[:, state] = np.where(odd, pair + uneven, np.inf) + _CADENCE
            elif kind == TWO:
                table[:, state] = pair + uneven + _CADENCE
            elif kind == THREE:
                table[:, state] = np.maximum(pair, second) + self._repeated[order] + _next(uneven, 0.0) + _CADENCE
            elif kind == LONE:
                table[:, state] = _LONE
            else:
                table[:, state] = video + self._backwards[order]
        return table


def _drawn(found: Measures) -> list[np.ndarray]:
    """For each order of fields, what a field costs that is taken for video's.

    Video moves from field to field: those of one picture are as far apart as the later one and the next of the other
    kind, and those of the other order three times as far. Of one moment, a picture's combs are fine drawing's or
    compression's, less than those across pictures, which are alike for both orders.
    """
    own, tops, bottoms = (
        _mean_nearby(np.minimum(one, _PLENTY)) for one in (found.own, found.tops_first, found.bottoms_first)
    )
    ratio = own / (_mean_nearby(np.minimum(np.minimum(found.tops_first, found.bottoms_first), _PLENTY)) + _NOTHING)
    faint = np.clip(2 - _highest(found.own, _NEARBY) / _FAINT, 0, 1)
    weak = np.clip(2 - own / _WEAK, 0, 1)
    fine = np.maximum(_about(ratio, _VERY_MUCH_LESS, 0.2), faint * _about(ratio, _MUCH_LESS, 0.2))
    less = _about(ratio, _LESS, 0.25)
    costs = []
    for near, far in ((tops, bottoms), (bottoms, tops)):
        alike = _about(far / (near + _NOTHING), _FARTHER, 0.25)
        costs.append(np.maximum(fine, weak * np.maximum(less, alike)) * _DRAWN)
    return costs


def _about(values: np.ndarray, most: float, more: float) -> np.ndarray:
    """1 for values up to `most`, 0 from `more` above it on, between them between."""
    return np.clip(1 - (values - most) / more, 0, 1)


def _alternate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([first, second], 1).reshape(-1)


def _next(values: np.ndarray, last: float) -> np.ndarray:
    return np.append(values[1:], last)


def _lowest(values: np.ndarray, nearby: int = _NEARBY) -> np.ndarray:
    """Of each value and those `nearby` to either side."""
    padded = np.pad(values, nearby, constant_values=np.inf)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * nearby + 1).min(1)[: len(values)]


def _mean_nearby(values: np.ndarray) -> np.ndarray:
    """Of each value and those _NEARBY to either side, as far as there are any."""
    window = np.ones(2 * _NEARBY + 1)
    middle = slice(_NEARBY, _NEARBY + len(values))
    sums, numbers = (np.convolve(each, window)[middle] for each in (values, np.ones(len(values))))
    return np.asarray(sums / numbers)


def _highest(values: np.ndarray, nearby: int) -> np.ndarray:
    return -_lowest(-values, nearby)
