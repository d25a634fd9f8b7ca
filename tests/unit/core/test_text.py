"""Numbers and names as text."""

from __future__ import annotations

import pytest

from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.core.text import count, number, percent, plural, printable, probability


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "0.5", True, [], 10**400])
def test_what_is_not_a_finite_number_is_a_dash(value: object) -> None:
    assert finite(value) is None
    assert number(value) == percent(value) == count(value) == "–"


def test_numbers() -> None:
    assert (number(0.94812), number(1234.5, ",.1f")) == ("0.948", "1,234.5")
    assert (percent(0.948), percent(0), percent(1)) == ("94.8%", "0.0%", "100.0%")
    assert count(7392962) == "7,392,962"


def test_probabilities_near_0_and_1_keep_their_digits() -> None:
    assert [probability(value) for value in (0, 0.5, 0.7369, 0.99996, 0.00004, 1)] == [
        "0.000", "0.500", "0.737", "0.999960", "0.000040", "1.000"]


def test_plural() -> None:
    assert [plural(n, "rank") for n in (0, 1, 2, 1000)] == ["0 ranks", "1 rank", "2 ranks",
                                                            "1,000 ranks"]


def test_names_cannot_control_the_terminal() -> None:
    assert printable("café\x1b[2J\n\udcff") == "café\\x1b[2J\\n\\udcff"


def test_json_of_another_shape() -> None:
    assert dictionary([1]) == {} and dictionary({"a": 1}) == {"a": 1}
    assert items({"a": 1}) == [] and items([1]) == [1]
