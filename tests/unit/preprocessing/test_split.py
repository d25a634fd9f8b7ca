"""Splits: whole groups, near their fractions, seeded."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from preprocessing.catalogue import components
from preprocessing.names import parse
from preprocessing.split import by_group, by_image, parse_fractions


def rows(*lists: list[str]) -> tuple[np.ndarray, np.ndarray]:
    parsed = [parse(name.rpartition(".")[0]) for names in lists for name in names]
    return (np.array([one.label for one in parsed], np.uint8),
            components(one.sources for one in parsed))


def shares(labels: np.ndarray, parts: np.ndarray, count: int) -> np.ndarray:
    """Fraction of each class (rows) in each part (columns)."""
    return np.array([np.bincount(parts[labels == label], minlength=count) / (labels == label).sum()
                     for label in np.unique(labels)])


def assert_whole_groups(groups: np.ndarray, parts: np.ndarray) -> None:
    side = np.full(groups.max() + 1, 255)
    side[groups] = parts
    assert np.array_equal(side[groups], parts)


PROTOCOLS = {"CASIA 1": ("casia1_Au", "casia1_Sp"), "CASIA 2": ("casia2_Au", "casia2_Tp"),
             "mixed": ("casia1_Au", "casia2_Tp")}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("text", ["80/20", "70/10/20"])
def test_casia_is_split_by_whole_groups_near_the_fractions(casia_names, protocol, text):
    labels, groups = rows(*(casia_names[name] for name in PROTOCOLS[protocol]))
    fractions = parse_fractions(text)
    for seed in range(3):
        parts = by_group(labels, groups, fractions, seed)
        assert_whole_groups(groups, parts)
        actual = shares(labels, parts, len(fractions))
        assert np.abs(actual - fractions).max() < 0.02, (protocol, seed, actual)
        assert parts.dtype == np.uint8
    assert not np.array_equal(by_group(labels, groups, fractions, 0),
                              by_group(labels, groups, fractions, 1))
    assert np.array_equal(by_group(labels, groups, fractions, 2), parts)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_split_by_image_divides_the_groups_of_casia(casia_names, protocol):
    labels, groups = rows(*(casia_names[name] for name in PROTOCOLS[protocol]))
    parts = by_image(labels, (0.8, 0.2), 0)
    assert np.abs(shares(labels, parts, 2) - (0.8, 0.2)).max() < 0.001
    with pytest.raises(AssertionError):
        assert_whole_groups(groups, parts)


def test_by_image_is_seeded():
    labels = np.repeat([0, 1], 50).astype(np.uint8)
    assert np.array_equal(by_image(labels, (0.7, 0.1, 0.2), 3),
                          by_image(labels, (0.7, 0.1, 0.2), 3))
    assert not np.array_equal(by_image(labels, (0.8, 0.2), 3), by_image(labels, (0.8, 0.2), 4))


def test_single_pictures_compensate_for_a_large_group():
    """90 of class 1 in one group: they go to training, and the rest balances the parts."""
    labels = np.array([1] * 90 + [1] * 30 + [0] * 120, np.uint8)
    groups = np.array([0] * 90 + list(range(1, 151)), np.int32)
    parts = by_group(labels, groups, (0.8, 0.2), 0)
    assert set(parts[:90]) == {0}
    assert np.bincount(parts[labels == 1]).tolist() == [96, 24]
    assert np.bincount(parts[labels == 0]).tolist() == [96, 24]


@pytest.mark.parametrize("split", [by_group, lambda labels, _, *rest: by_image(labels, *rest)])
@pytest.mark.parametrize(("labels", "groups"), [
    ([0, 1], [0, 1]), ([0, 1], [0, 0]), ([1, 0], [0, 1]), ([0], [0]),
    ([1] * 10, range(10)), ([0] * 10, range(10)), ([1] * 10, [0] * 10),
    ([0, 1] * 50, [0] * 100)])
def test_few_rows_one_class_one_giant_group(split, labels, groups):
    labels, groups = np.array(labels, np.uint8), np.array(groups, np.int32)
    for fractions in ((0.8, 0.2), (0.7, 0.1, 0.2)):
        parts = split(labels, groups, fractions, 0)
        assert parts.shape == labels.shape
        assert parts.max() < len(fractions)
        assert 0 in parts, "something to train on"
        if split is by_group:
            assert_whole_groups(groups, parts)


def test_fractions():
    assert parse_fractions("80/20") == (0.8, 0.2)
    assert parse_fractions("70/10/20") == (0.7, 0.1, 0.2)
    assert parse_fractions("62.5/37.5") == (0.625, 0.375)


@pytest.mark.parametrize("text", ["", "80", "100", "100/0", "80/10", "80/-10/30", "50/20/20/10",
                                  "a/b", "80,20", "nan/20", "nan/nan", "inf/-inf", "0.8/0.2"])
def test_impossible_fractions_are_rejected_with_an_example(text):
    with pytest.raises(InputError, match=r"80/20.*70/10/20"):
        parse_fractions(text)
