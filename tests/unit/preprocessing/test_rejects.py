"""The number of rejected pictures that preprocessing accepts."""

from __future__ import annotations

import pytest

from hpc_deepfake.core.errors import InputError
from preprocessing.__main__ import allowed_rejects


@pytest.mark.parametrize(("text", "rows", "allowed"), [
    ("0", 100, 0), ("5", 3, 5), ("1%", 1000, 10), ("1%", 99, 0), ("0%", 9, 0), ("100%", 7, 7),
    ("2.5%", 1000, 25)])
def test_allowed_rejects(text, rows, allowed):
    assert allowed_rejects(text, rows) == allowed


@pytest.mark.parametrize("text", ["", "%", "-1", "x", "nan", "inf", "1%%", "nan%", "200%", "inf%"])
def test_impossible_max_rejects(text):
    with pytest.raises(InputError, match="a number like 5, or a percentage up to 100%"):
        allowed_rejects(text, 10)
