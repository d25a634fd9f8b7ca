"""The own reader of a data file's structure: what the HDF5 library sees, and no crash."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from preprocessing import hdf5
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters
from preprocessing.store import Recipe, create, open_header


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A data file of 5 rows."""
    rows = np.arange(5)
    catalogue = Catalogue({"": tmp_path}, [b"Au/\xff%d.jpg" % row for row in rows],
                          (rows % 2).astype(np.uint8), rows.astype(np.int32))
    create(tmp_path / "data.h5", catalogue, (rows % 3).astype(np.uint8),
           Recipe(("ela", "gray_bits", "raw"), Parameters(), "60/20/20", "group", 7, "0" * 64, 5))
    return tmp_path / "data.h5"


def test_it_sees_what_the_library_sees(file):
    structure = hdf5.read(file)
    with h5py.File(file) as same:
        assert structure.attributes == {name: bytes(value) for name, value in same.attrs.items()}
        assert structure.datasets == {name: (data.id.get_offset(), data.shape, data.dtype)
                                      for name, data in same.items()}
    assert len(structure.datasets) == 14 and len(structure.attributes) >= 8


def test_many_attributes_and_data_sets(tmp_path):
    """Whose headers and names take several blocks."""
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for number in range(60):
            file.attrs[f"name {number}"] = np.bytes_(b"x" * 40 * (number + 1))
            file[f"data {number}"] = np.zeros(number + 1, ("<u2", ">i8", "S7")[number % 3])
    whole = hdf5.read(tmp_path / "many.h5")
    with h5py.File(tmp_path / "many.h5") as file:
        assert len(whole.attributes) == len(whole.datasets) == 60
        assert whole.datasets == {name: (data.id.get_offset(), data.shape, data.dtype)
                                  for name, data in file.items()}


def test_what_is_not_in_the_file_itself_has_no_offset(tmp_path):
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file.create_dataset("outside", (4,), "u1", external=[("/etc/hostname", 0, 4)])
        file.create_dataset("pieces", data=np.zeros(100), chunks=(10,))
        file["link"] = h5py.SoftLink("/pieces")
        file.create_group("group")
    assert {name: data.offset for name, data in hdf5.read(tmp_path / "odd.h5").datasets.items()} \
        == {"outside": None, "pieces": None}


def test_a_newer_format_is_left_to_the_library(file, tmp_path):
    """In which everything has a checksum."""
    with h5py.File(file) as old, h5py.File(tmp_path / "new.h5", "w", libver="latest") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in old:
            new[name] = old[name][...]
    with pytest.raises(hdf5.OtherFormat):
        hdf5.read(tmp_path / "new.h5")
    assert open_header(tmp_path / "new.h5").attributes == open_header(file).attributes


@pytest.mark.parametrize("at", [600, 1000, 2000])
def test_a_damaged_structure_is_an_error(file, at):
    """A tree that points to itself, and blocks of nothing, end at a bound."""
    data = bytearray(file.read_bytes())
    tree = data.index(b"TREE")
    data[tree + 32:tree + 40] = tree.to_bytes(8, "little")
    file.write_bytes(data)
    with pytest.raises(ValueError, match="no group"):
        hdf5.read(file)
    file.write_bytes(bytes(data[:at]) + bytes(4000))
    with pytest.raises(InputError, match="or damaged"):
        open_header(file)
