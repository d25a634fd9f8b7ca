"""Data files and models of other sizes than the usual one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import make_data
from mean_network import MeanNetwork

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.evaluate import common, unlike
from hpc_deepfake.evaluate.material import _dealt, of_rows, open_file
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.guard import Guard
from hpc_deepfake.network.likeness import Profile
from hpc_deepfake.network.pictures import Pictures
from preprocessing.ela import Parameters


def test_a_file_of_another_size_is_refused_with_the_option_that_makes_it(tmp_path: Path) -> None:
    path = make_data(tmp_path / "x.h5")  # 16 × 16
    with pytest.raises(InputError, match=r"'size': 64.*'size': 16.*--out and --size 64, or"):
        open_file(path, Card("ela", Parameters(size=64)))
    assert open_file(path, Card("ela", Parameters(size=16))).size == 16


def test_rows_of_another_size_are_evaluated(tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """Also compared with the training pictures; in blocks that take as much memory."""
    path = make_data(tmp_path / "x.h5")
    data = open_file(path, Card("ela", Parameters(size=16)))
    rows = np.arange(12)
    monkeypatch.setattr("hpc_deepfake.evaluate.material.require_intact", lambda *_: None)
    for module in (common, unlike):
        monkeypatch.setattr(module, "_BLOCK", 5)
    known = Pictures.of(data.batch(rows[:2])[0], None, None, np.zeros(2, np.uint8))
    found = of_rows(MeanNetwork(size=16), data, rows, guard=Guard(Profile(0), pictures=known))
    assert len(found) == 12 and found.unlike.all(), "blank"
    assert [len(block) for block in _dealt(np.arange(10), 512, None)] == [4, 4, 2]
    assert [len(block) for block in _dealt(np.arange(70), 64, None)] == [64, 6]
