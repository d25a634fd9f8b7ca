"""The number of rejected pictures that preprocessing accepts."""

from __future__ import annotations

import pytest

from hpc_deepfake.core.errors import InputError
from preprocessing.__main__ import allowed_rejects, counted


@pytest.mark.parametrize(("text", "rows", "allowed"), [
    ("0", 100, 0), ("5", 3, 5), ("1%", 1000, 10), ("1%", 99, 0), ("0%", 9, 0), ("100%", 7, 7),
    ("2.5%", 1000, 25)])
def test_allowed_rejects(text, rows, allowed):
    assert allowed_rejects(text, rows) == allowed


@pytest.mark.parametrize("text", ["", "%", "-1", "x", "nan", "inf", "1%%", "nan%", "200%", "inf%"])
def test_impossible_max_rejects(text):
    with pytest.raises(InputError, match="a number like 5, or a percentage up to 100%"):
        allowed_rejects(text, 10)


def test_all_reasons_are_shown_or_counted():
    reasons = ["empty"] * 3 + [f"reason {number}" for number in range(11)]
    first, *others, last = counted(reasons)
    assert first == "  3 × empty" and len(others) == 9
    assert last == "  and 2 more, for other reasons"
    assert counted(reasons[:7]) == ["  3 × empty", *(f"  1 × reason {at}" for at in range(4))]
