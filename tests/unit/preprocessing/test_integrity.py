"""Damaged contents of a data file are found, named, and told apart by what repairs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import seal

from hpc_deepfake.core.errors import InputError
from preprocessing import store
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters
from preprocessing.integrity import (
    damaged_columns,
    damaged_rows,
    require_intact,
    unfinished,
)
from preprocessing.store import DONE, REJECTED, open_header

ROWS = 200  # more than is read at once, and enough that each feature is aligned


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A complete file with two features."""
    path, numbers = tmp_path / "my file.h5", np.arange(ROWS, dtype=np.int32)
    labels = (numbers % 2).astype("u1")
    names = [b"Au/%03d \xff.jpg" % n for n in numbers]
    catalogue = Catalogue({"": Path("/nowhere")}, names, labels, numbers)
    store.create(path, catalogue, labels, store.Recipe(
        ("ela", "raw"), Parameters(size=8), "80/20", "group", 0, catalogue.digest(), ROWS))
    header = open_header(path)
    for name in header.features:
        header.array(name, "r+")[:] = np.random.default_rng(0).integers(0, 256, (ROWS, 8, 8, 3))
    header.array("status", "r+")[:] = DONE
    assert damaged_columns(header) is None, "the digest is the catalogue's"
    return seal(path)


def test_an_intact_file(file):
    require_intact(open_header(file), np.arange(ROWS))
    require_intact(open_header(file), np.zeros(0, np.int64))


@pytest.mark.parametrize("rows", [[0], [63, 64], [3, 4, 5, 77, 199], list(range(0, ROWS, 2))])
def test_damaged_rows_are_found_wherever_they_are(file, rows):
    """Among all rows, among some with gaps, and not if they aren't asked for."""
    header = open_header(file)
    header.array("raw", "r+")[rows, 7, 7, 2] ^= 1
    assert damaged_rows(header, np.arange(ROWS)).tolist() == rows
    some = np.arange(0, ROWS, 7)
    assert damaged_rows(header, some).tolist() == sorted(set(some.tolist()) & set(rows))
    require_intact(header, np.setdiff1d(np.arange(ROWS), rows))


def test_the_message_names_rows_pictures_and_what_to_do(file):
    header = open_header(file)
    header.array("ela", "r+")[[5, 9], 0, 0, 0] ^= 1
    with pytest.raises(InputError) as caught:
        require_intact(header, np.arange(ROWS))
    message = str(caught.value)
    assert f"2 of 200 rows of {file} are damaged" in message
    assert "row 5 (Au/005%20%FF.jpg), row 9 (Au/009%20%FF.jpg)." in message
    assert "Run the same preprocessing command again" in message
    assert message.endswith(f"\n  hpc-deepfake verify '{file}'")
    header.array("ela", "r+")[:] += 1
    with pytest.raises(InputError, match=r"200 of 200 .* the first ones are row 0 .*row 4 \("):
        require_intact(header, np.arange(ROWS))


def test_rows_of_a_file_that_was_cut_off_are_damaged(file):
    """Without a bus error, which mapped pages would give."""
    header = open_header(file)
    assert header.offsets["crc32"] < header.offsets["raw"]
    with open(file, "rb+") as stream:
        stream.truncate(header.offsets["raw"] + 100 * 192 + 5)
    assert damaged_rows(header, np.arange(ROWS)).tolist() == list(range(100, ROWS))


def test_a_file_that_is_gone_or_cut_off_since_it_was_opened(file):
    """A message, whatever is read of it."""
    header = open_header(file)
    with open(file, "rb+") as stream:
        stream.truncate(header.offsets["crc32"])
    with pytest.raises(InputError, match=r"my file\.h5 has changed since it was opened"):
        require_intact(header, np.arange(ROWS))
    file.unlink()
    with pytest.raises(InputError, match=r"No such file"):
        require_intact(header, np.arange(ROWS))


@pytest.mark.parametrize(("column", "value", "problem"), [
    ("label", 7, "the label of row 3 is 7"), ("split", 9, "the split of row 3 is 9"),
    ("label", 0, "labels and paths of the rows don't have their checksum"),
    ("path", b"Au/else.jpg", "labels and paths of the rows don't have their checksum")])
def test_damaged_labels_and_paths(file, column, value, problem):
    """No preprocessing repairs them."""
    header = open_header(file)
    header.array(column, "r+")[3] = value
    assert damaged_columns(header) == problem
    with pytest.raises(InputError, match=f"{problem}. Move it away and run preprocessing again"):
        require_intact(header, np.arange(ROWS))


def test_an_impossible_state_is_unfinished(file):
    """Preprocessing computes such rows again."""
    status = open_header(file).array("status", "r+")
    status[[2, 3, 4]] = 0, REJECTED, 200
    assert unfinished(open_header(file)).tolist() == [2, 4]
