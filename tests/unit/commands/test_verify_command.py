"""``hpc-deepfake verify`` on intact, damaged and unfinished data files."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from hpc_deepfake.data import verify
from preprocessing.store import DONE, PENDING, REJECTED, checksum, open_header

pytestmark = pytest.mark.slow  # needs a data file


@pytest.fixture
def copy(data_file, tmp_path) -> Path:
    return Path(shutil.copy(data_file, tmp_path / "copy.h5"))


def test_verify_a_good_file(data_file, capsys):
    assert verify.main([str(data_file)]) == 0
    assert capsys.readouterr().out == \
        f"{data_file}: 60 rows; 60 intact, 0 damaged, 0 pending, 0 rejected\n" \
        "masks: 30 of 30 tampered rows\n"


@pytest.mark.parametrize("feature", ["ela", "raw", "mask"])
def test_verify_detects_a_flipped_bit(copy, capsys, feature):
    """In any feature and in the mask; the row is named, and the message says how to repair it."""
    header = open_header(copy)
    for row in (7, 41):
        header.array(feature, "r+")[row, 100, 3, ...] ^= 1
    assert verify.main([str(copy)]) == 2
    out = capsys.readouterr().out
    assert "58 intact, 2 damaged, 0 pending" in out
    assert "damaged rows: 7, 41\n" in out and "same preprocessing command" in out


def test_verify_shows_the_first_ten_of_many(copy, capsys):
    open_header(copy).array("crc32", "r+")[:] += 1
    assert verify.main([str(copy)]) == 2
    out = capsys.readouterr().out
    assert "0 intact, 60 damaged" in out
    assert "damaged rows: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 …" in out


def test_verify_pending_and_rejected_rows(copy, capsys):
    """Pending rows are a failure; rejected ones are not, and their bytes don't matter."""
    header = open_header(copy)
    status = header.array("status", "r+")
    status[5] = REJECTED
    header.array("ela", "r+")[5] = 0
    assert verify.main([str(copy)]) == 0
    assert "59 intact, 0 damaged, 0 pending, 1 rejected" in capsys.readouterr().out
    status[[8, 9]] = PENDING
    assert verify.main([str(copy)]) == 2
    out = capsys.readouterr().out
    assert "57 intact, 0 damaged, 2 pending, 1 rejected" in out and "damaged rows" not in out
    status[[8, 9]] = DONE
    assert verify.main([str(copy)]) == 0


def test_verify_detects_a_wrong_label(copy, capsys):
    """Which preprocessing doesn't repair."""
    open_header(copy).array("label", "r+")[5] ^= 1
    assert verify.main([str(copy)]) == 2
    out = capsys.readouterr().out
    assert "60 intact, 0 damaged" in out
    assert "labels and paths of the rows don't have their checksum. Move it away" in out


def test_the_stored_checksum_is_that_of_the_rows(data_file):
    """It is the CRC-32 of the bytes of both features and the mask, computed here independently."""
    header = open_header(data_file)
    for row in (0, 33, 59):
        value = 0
        for name in ("ela", "raw", "mask"):
            value = zlib.crc32(np.array(header.array(name)[row]).tobytes(), value)
        assert value == header.array("crc32")[row]
        assert value == checksum([header.array(name)[row] for name in header.summed])
