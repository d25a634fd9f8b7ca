"""Pairs of near hashes: each way of finding them against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing import hamming

WAYS = (0, *hamming.BANDS)


def hashes(count: int, seed: int, share: float = 0.3) -> np.ndarray:
    """Random hashes, a share of which are others' with up to 14 bits changed."""
    random = np.random.default_rng(seed)
    words = random.integers(0, 1 << 64, count, dtype=np.uint64)
    for at in random.choice(count, int(share * count), replace=False):
        bits = random.choice(64, random.integers(0, 15), replace=False).astype(np.uint64)
        words[at] = words[random.integers(count)] ^ (np.uint64(1) << bits).sum(dtype=np.uint64)
    return words


def plain(first: np.ndarray, second: np.ndarray | None, distance: int) -> list[tuple[int, int]]:
    """All pairs, by a loop over all."""
    own = first.tolist()
    others = own if second is None else second.tolist()
    return [(one, two) for one, word in enumerate(own)
            for two in range(one + 1 if second is None else 0, len(others))
            if (word ^ others[two]).bit_count() <= distance]


def found(*arguments: object, **options: object) -> list[tuple[int, int]]:
    pairs = list(hamming.near(*arguments, **options))  # type: ignore[arg-type]
    assert all(each.dtype == np.int64 for each in pairs)
    return [(one, two) for each in pairs for one, two in each.tolist()]


@pytest.mark.parametrize("distance", [7, 10, 12])
@pytest.mark.parametrize("bands", WAYS)
def test_each_way_finds_the_pairs_of_a_plain_loop_in_its_order(bands: int, distance: int) -> None:
    first, second = hashes(600, distance, 0.5), hashes(450, 99)
    second[::3] = first[:len(second[::3])] ^ np.uint64(0b10110111 << 30)
    within = plain(first, None, distance)
    assert len(within) > 100 and found(first, None, distance, bands=bands) == within
    between = plain(first, second, distance)
    assert len(between) > 100 and found(first, second, distance, bands=bands) == between


@pytest.mark.parametrize("bands", WAYS)
def test_pairs_at_the_very_distance_are_found_wherever_their_bits_are(bands: int) -> None:
    """All bits in one band, evenly over all, and at random: a limit that is one too low in any band
    loses some."""
    random = np.random.default_rng(5)
    changed = [range(start, start + 10) for start in range(55)]
    changed += [np.arange(10) * 6 + start for start in range(10)]
    changed += [random.choice(64, 10, replace=False) for _ in range(2000)]
    masks = [sum(1 << int(bit) for bit in bits) for bits in changed]
    for begin in range(0, len(masks), 500):
        part = np.array(masks[begin:begin + 500], np.uint64)
        pairs = found(np.zeros(1, np.uint64), part, 10, bands=bands)
        assert pairs == [(0, number) for number in range(len(part))]
    beyond = np.array([mask | (mask + 1) for mask in masks[:55] if not mask & 1], np.uint64)
    assert found(np.zeros(1, np.uint64), beyond, 10, bands=bands) == []


@pytest.mark.parametrize("words", [[], [3], [3, 3], [0, 2 ** 64 - 1]])
def test_few_hashes(words: list[int]) -> None:
    few = np.array(words, np.uint64)
    none = np.zeros(0, np.uint64)
    for bands in (None, *WAYS):
        assert found(few, None, 10, bands=bands) == ([(0, 1)] if words == [3, 3] else [])
        assert found(few, none, 10, bands=bands) == found(none, few, 10, bands=bands) == []


def test_many_equal_hashes_are_compared_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "MOST", 1000)
    same = np.full(1100, 77, np.uint64)
    pairs = list(hamming.near(same, None, 10, 4))
    assert len(pairs) == 2
    np.testing.assert_array_equal(np.concatenate(pairs), np.stack(np.triu_indices(1100, 1), 1))


def test_bands_are_taken_where_they_pay() -> None:
    random = np.random.default_rng(0)
    words = random.integers(0, 1 << 64, 60_000, dtype=np.uint64)
    assert hamming.cheapest(words[:2000], None, 10) == 0
    assert hamming.cheapest(words, None, 10) in hamming.BANDS
    assert hamming.cheapest(words, words[:50_000], 10) in hamming.BANDS
    assert hamming.cheapest(words & np.uint64(0xff), None, 10) == 0, "all nearly equal"
