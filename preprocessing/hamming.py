"""Pairs of 64-bit hashes that differ in few bits, usually without comparing all with all.

The bits are cut into bands, and the distance is dealt to them: if two hashes differ in at most d
bits, then they differ in at most t bits of some band, for limits t that add up to d + 1 less the
number of bands. So a hash is compared only with those whose band has one of the few values within
its limit (M. Norouzi, A. Punjani, D. Fleet, "Fast Exact Search in Hamming Space With Multi-Index
Hashing", 2014). Here all hashes with the same value of a band are compared at once with all that
are near that value. More hashes want fewer and wider bands. Where bands would not pay, for few
hashes or for many that are nearly equal, all are compared with all. The result is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

BITS = 64
BANDS = (8, 7, 6, 5, 4)  # numbers of bands to choose from
MOST = 1 << 23  # pairs that are held at once: with more, all are compared with all, block by block
_BLOCK = 1024  # hashes whose pairs are found at once
_TILE = 32, 4096  # hashes that are compared at once, so that they fit the processor's cache
# Nanoseconds, of which only the ratios matter: of a pair among all, and among candidates, whose
# tiles are smaller; of collecting a candidate; of a value of a band
_ALL, _PAIR, _CANDIDATE, _VALUE = 0.7, 1.1, 10.0, 50_000.0
_WORTH = 5e7  # nanoseconds that are worth an estimate


class _Table(NamedTuple):
    """Hashes sorted by the value of a band.

    Attributes:
        counts: number of hashes with each value, int64 (V).
        begin: place of the first of them, int64 (V).
        order: numbers of the hashes, int64 (N).
        words: the hashes, uint64 (N).
    """

    counts: np.ndarray
    begin: np.ndarray
    order: np.ndarray
    words: np.ndarray

    @classmethod
    def of(cls, words: np.ndarray, shift: int, width: int) -> _Table:
        values = _values(words, shift, width)
        order = np.argsort(values, kind="stable")
        counts = np.bincount(values, minlength=1 << width)
        return cls(counts, np.cumsum(counts) - counts, order, words[order])

    def places(self, values: np.ndarray) -> np.ndarray:
        """Places of all hashes with one of these values, int64."""
        counts = self.counts[values]
        ends = np.cumsum(counts)
        return np.repeat(self.begin[values] - ends + counts, counts) + np.arange(ends[-1])


def near(first: np.ndarray, second: np.ndarray | None, distance: int,
         bands: int | None = None) -> Iterator[np.ndarray]:
    """Pairs that differ in at most ``distance`` bits, int64 (P, 2), sorted, in one array or in
    several.

    Args:
        first: hashes, uint64 (M).
        second: those of another set, uint64 (N), to which the second numbers belong; None: pairs
            within ``first``, with the smaller number first.
        distance: number of bits.
        bands: their number, or 0 to compare all with all; None: the cheapest by estimate.
    """
    number = cheapest(first, second, distance) if bands is None else bands
    pairs = _by_bands(first, second, distance, number) if number else None
    if pairs is not None:
        yield pairs
        return
    for start in range(0, len(first), _BLOCK):
        others = first[start:] if second is None else second
        own, other = _compare(first[start:start + _BLOCK], others, distance)
        if second is None:
            own, other = own[other > own], other[other > own] + start
        order = np.lexsort((other, own))
        yield np.stack([own[order] + start, other[order]], 1)


def cheapest(first: np.ndarray, second: np.ndarray | None, distance: int) -> int:
    """The number of bands that is expected to take the least time; 0: compare all with all."""
    others, orders = (first, 2) if second is None else (second, 1)
    costs = {0: len(first) * len(others) * _ALL / orders}
    if costs[0] < _WORTH:
        return 0
    for number in BANDS:
        if number > distance + 1 or BITS // number > len(others).bit_length() + 2:
            continue
        costs[number] = 0.0
        for shift, width, limit in _cuts(number, distance):
            own, there = (np.bincount(_values(words, shift, width), minlength=1 << width)
                          for words in (first, others))
            values = np.flatnonzero(own)
            candidates = np.zeros(len(values))
            for mask in _masks(width, limit):
                candidates += there[values ^ mask]
            costs[number] += (_VALUE * len(values) + _CANDIDATE / orders * candidates.sum()
                              + _PAIR / orders * (own[values] * candidates).sum())
    return min(costs, key=costs.__getitem__)


def _cuts(number: int, distance: int) -> list[tuple[int, int, int]]:
    """Place of the lowest bit, number of bits, and limit of each band; wider ones get the higher
    limits."""
    edges = [BITS * place // number for place in range(number + 1)]
    total = distance + 1 - number
    widths = sorted(((end - begin, begin) for begin, end in pairwise(edges)), reverse=True)
    return [(begin, width, total // number + (place < total % number))
            for place, (width, begin) in enumerate(widths)]


def _masks(width: int, limit: int) -> np.ndarray:
    """All values of ``width`` bits of which at most ``limit`` are set, int64."""
    return np.array([sum(1 << bit for bit in bits) for number in range(limit + 1)
                     for bits in combinations(range(width), number)], np.int64)


def _values(words: np.ndarray, shift: int, width: int) -> np.ndarray:
    """The values of a band, int64."""
    return ((words >> np.uint64(shift)) & np.uint64((1 << width) - 1)).view(np.int64)


def _by_bands(first: np.ndarray, second: np.ndarray | None, distance: int,
              number: int) -> np.ndarray | None:
    """All pairs, int64 (P, 2), sorted; None if they are more than ``MOST``."""
    others = first if second is None else second
    found, count = [np.zeros(0, np.int64)], 0  # each pair as one number
    for shift, width, limit in _cuts(number, distance):
        own = _Table.of(first, shift, width)
        table = own if second is None else _Table.of(second, shift, width)
        masks = _masks(width, limit)
        for value in np.flatnonzero(own.counts).tolist():
            values = value ^ masks
            if second is None:  # pairs with lower values were found there
                values = values[values >= value]
            candidates = table.places(values)
            begin = own.begin[value]
            rows = own.order[begin:begin + own.counts[value]]
            at, other = _compare(own.words[begin:begin + own.counts[value]],
                                 table.words[candidates], distance)
            if not len(at):
                continue
            one, two = rows[at], table.order[candidates[other]]
            if second is None:
                one, two = np.minimum(one, two)[one != two], np.maximum(one, two)[one != two]
            found.append(one * len(others) + two)
            count += len(one)
            if count > 4 * MOST:  # a pair may be found in several bands
                found = [np.unique(np.concatenate(found))]
                count = len(found[0])
                if count > MOST:
                    return None
    codes = np.unique(np.concatenate(found))
    return np.stack(np.divmod(codes, max(len(others), 1)), 1)


def _compare(first: np.ndarray, second: np.ndarray,
             distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of near hashes of two sets, all of which are compared, int64 (P) each."""
    none = np.zeros(0, np.int64)
    rows, columns = [none], [none]
    width = min(len(second), _TILE[1])
    height = max(_TILE[0], _TILE[0] * _TILE[1] // max(width, 1))
    for top in range(0, len(first), height):
        own = first[top:top + height, None]
        for begin in range(0, len(second), _TILE[1]):
            distances = np.bitwise_count(own ^ second[begin:begin + _TILE[1]])
            hits = np.flatnonzero(distances <= distance)
            if len(hits):
                at, other = np.divmod(hits, distances.shape[1])
                rows.append(at + top)
                columns.append(other + begin)
    return np.concatenate(rows), np.concatenate(columns)
