"""The shared HDF5 file: created whole by one rank, filled by all, read by anyone.

Schema 1 is described in docs/file-format.md. The file's bytes depend on the list of pictures and
the parameters only, not on who wrote it, when, or with how many ranks.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import h5py
import numpy as np

from hpc_deepfake.core.errors import InputError
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

SCHEMA = 1
PENDING, DONE, REJECTED = 0, 1, 2
ALIGNMENT = 1 << 20  # bytes; a file system's stripes are multiples of it


@dataclass(frozen=True)
class Recipe:
    """All that decides the file's content besides the pictures themselves."""

    features: tuple[str, ...]
    parameters: Parameters
    split: str
    split_by: str
    seed: int
    digest: str
    rows: int

    def attributes(self) -> dict[str, str]:
        """As stored in the file: JSON text per name."""
        values = {"schema": SCHEMA, "rows": self.rows, "features": list(self.features),
                  "ela": self.parameters.as_dict(), "split": self.split,
                  "split_by": self.split_by, "seed": self.seed, "files": self.digest}
        return {name: json.dumps(value, sort_keys=True) for name, value in values.items()}


@dataclass(frozen=True)
class Header:
    """Where everything lies in a file: all that is needed to read and write rows without HDF5.

    Attributes:
        offsets: first byte of each dataset. shapes: of each dataset. types: of each dataset.
    """

    path: Path
    attributes: dict[str, Any]
    offsets: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    types: dict[str, np.dtype]

    @property
    def rows(self) -> int:
        return self.shapes["status"][0]

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(self.attributes["features"])

    @property
    def parameters(self) -> Parameters:
        return Parameters(**self.attributes["ela"])

    def array(self, name: str, mode: Literal["r", "r+"] = "r") -> np.ndarray:
        """A dataset mapped from the page cache."""
        return np.memmap(self.path, self.types[name], mode, self.offsets[name],
                         self.shapes[name])


def create(path: Path, catalogue: Catalogue, split: np.ndarray, recipe: Recipe) -> None:
    """Write the complete file, all rows pending, under a temporary name, and rename it.

    Raises:
        InputError: it can't be written there, or there is too little room.
    """
    rows, size = recipe.rows, recipe.parameters.size
    names = np.array(catalogue.encoded())
    needed = rows * len(recipe.features) * size * size * 3 + names.nbytes + (64 << 20)
    # stays the same, so that what a killed run left is overwritten by the next
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise InputError(f"too little room for {path}: {needed / 1e9:.1f} GB needed, "
                             f"{free / 1e9:.1f} GB free; choose another place with --out")
        access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
        access.set_alignment(1 << 15, ALIGNMENT)
        temporary.unlink(missing_ok=True)
        name = h5py.h5f.create(os.fsencode(temporary), h5py.h5f.ACC_TRUNC, fapl=access)
        with h5py.File(name) as file:
            for key, value in recipe.attributes().items():
                file.attrs[key] = np.bytes_(value)
            for feature in recipe.features:
                _allocate(file, feature, (rows, size, size, 3), np.dtype("u1"))
            for key, values in (("label", catalogue.labels), ("group", catalogue.groups),
                                ("split", split), ("path", names),
                                ("status", np.zeros(rows, "u1")),
                                ("crc32", np.zeros(rows, "u4"))):
                _allocate(file, key, values.shape, values.dtype)[...] = values
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # HDF5's own is a page long
        raise InputError(f"cannot write {path}: {reason}; "
                         "choose another place with --out") from None


def _allocate(file: h5py.File, name: str, shape: tuple[int, ...],
              kind: np.dtype) -> h5py.Dataset:
    """A contiguous dataset that has its place in the file now, without being written."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.CONTIGUOUS)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    how.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    kind_id = h5py.h5t.py_create(kind, logical=True)
    return h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind_id, space, dcpl=how))


def open_header(path: Path) -> Header:
    """Read a file's header.

    Raises:
        InputError: no such file, not HDF5, damaged, or of another schema.
    """
    if not path.is_file():
        raise InputError(f"there is no data file '{path}'. Make it from a folder of pictures:\n"
                         "  mpirun -np 2 python -m preprocessing --data DIR --out "
                         f"{shlex.quote(str(path))}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            attributes = {key: json.loads(bytes(value)) for key, value in file.attrs.items()}
            data = {name: file[name] for name in file}
            header = Header(path, attributes,
                            {name: one.id.get_offset() for name, one in data.items()},
                            {name: one.shape for name, one in data.items()},
                            {name: one.dtype for name, one in data.items()})
        needed = {"label", "group", "split", "status", "crc32", "path", *header.features}
        missing = {name for name in needed if header.offsets.get(name) is None}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not a data file of this project, or damaged: {error}. "
                         "Move it away and run preprocessing again") from None
    if attributes.get("schema") != SCHEMA or missing:
        raise InputError(f"{path} has schema {attributes.get('schema')}, not {SCHEMA}: "
                         "run preprocessing again with another --out")
    end = max(header.offsets[name] + int(np.prod(header.shapes[name])) * header.types[name].itemsize
              for name in header.offsets)
    if path.stat().st_size < end:
        raise InputError(f"{path} is cut off: {path.stat().st_size} bytes of {end}. "
                         "Move it away and run preprocessing again")
    return header


def check_same(header: Header, recipe: Recipe) -> None:
    """Raise InputError unless the file was made by this recipe."""
    wanted = {key: json.loads(value) for key, value in recipe.attributes().items()}
    meaning = {"files": "list of pictures", "rows": "number of pictures",
               "ela": "ELA parameters"}
    differing = [meaning.get(key, key) for key in wanted
                 if wanted[key] != header.attributes.get(key)]
    if differing:
        raise InputError(f"{header.path} differs in: {', '.join(differing)}. "
                         "Choose another --out, or delete that file to make it anew")


def checksum(rows: list[np.ndarray]) -> int:
    """CRC-32 over one row's features in the file's order."""
    value = 0
    for row in rows:
        value = zlib.crc32(np.ascontiguousarray(row), value)
    return value


def damaged_rows(header: Header, rows: np.ndarray) -> np.ndarray:
    """Those of ``rows`` (int64) whose features don't have their stored checksum."""
    stored = header.array("crc32")
    arrays = [header.array(name) for name in header.features]
    return np.array([row for row in rows.tolist()
                     if checksum([array[row] for array in arrays]) != stored[row]], np.int64)


class Writer(Protocol):
    """Writes rows of a file that ``create`` made; opened and closed by all ranks together."""

    name: str

    def write(self, dataset: str, first: int, values: np.ndarray) -> None:
        """Write consecutive rows from row ``first``; independent of the other ranks."""

    def sync(self) -> None:
        """Bring what this rank wrote to the disk."""

    def close(self) -> None:
        """Collective."""


class HDF5Writer:
    """Parallel HDF5: h5py's ``mpio`` driver."""

    name = "parallel HDF5"

    def __init__(self, header: Header, comm: Comm) -> None:
        self._file = h5py.File(header.path, "r+", driver="mpio", comm=comm)
        self._descriptor = os.open(header.path, os.O_RDWR)

    def write(self, dataset: str, first: int, values: np.ndarray) -> None:
        self._file[dataset][first:first + len(values)] = values

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
        self._file.close()


class MPIFileWriter:
    """MPI-IO at the datasets' own offsets, for an h5py without MPI."""

    name = "MPI-IO"

    def __init__(self, header: Header, comm: Comm) -> None:
        from mpi4py import MPI

        self._header = header
        self._bytes = MPI.BYTE
        self._file = MPI.File.Open(comm, os.fspath(header.path), MPI.MODE_RDWR)
        self._descriptor = os.open(header.path, os.O_RDWR)

    def write(self, dataset: str, first: int, values: np.ndarray) -> None:
        header = self._header
        values = np.ascontiguousarray(values, header.types[dataset])
        if values.nbytes:
            row = values[:1].nbytes
            # one MPI element a row: a count of bytes would end at 2³¹
            kind = self._bytes.Create_contiguous(row).Commit()
            self._file.Write_at(header.offsets[dataset] + first * row,
                                [values, len(values), kind])
            kind.Free()

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
        self._file.Close()


def open_writer(header: Header, comm: Comm, which: str = "auto") -> Writer:
    """Writer named ``hdf5``, ``mpi-io``, or ``auto``: parallel HDF5 where h5py has it.

    Raises:
        InputError: ``hdf5`` asked of an h5py without MPI.
    """
    parallel = h5py.get_config().mpi
    if which == "hdf5" and not parallel:
        raise InputError("this h5py was built without MPI: use --writer mpi-io",
                         everywhere=True)
    return HDF5Writer(header, comm) if parallel and which != "mpi-io" \
        else MPIFileWriter(header, comm)
