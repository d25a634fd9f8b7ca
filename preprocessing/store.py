"""The shared HDF5 file: created by one rank, filled by all ranks.

Schema 1 is described in docs/file-format.md. The bytes of the file depend only on the pictures and
the parameters, not on host, time or number of ranks.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import h5py
import numpy as np

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.files import remove_temporary, whole, writing
from preprocessing import ela, facts, hdf5, perturb, unreadable
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters
from preprocessing.perturb import Perturbation

try:
    from isal.isal_zlib import crc32  # the values of zlib, in a quarter of the time or less
except ImportError:  # a processor without its wheels
    from zlib import crc32

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

SCHEMA = 1
PENDING, DONE, REJECTED = 0, 1, 2
MASK = "mask"  # dataset of the masks, uint8 (N, S, S), of values as in ``preprocessing.mask``
ALIGNMENT = 1 << 20  # bytes; stripes of parallel file systems are multiples of it


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the contents of the file apart from the pictures.

    Attributes:
        features: names of the features.
        parameters: parameters of the features.
        split: percentages of the parts, such as ``80/20``.
        split_by: ``group`` or ``image``.
        seed: seed of the split.
        digest: ``Catalogue.digest()``.
        rows: number of rows.
        sample: whether pictures were drawn by this project.
        group_by: what groups were made of, ``auto`` or as the user chose.
        given: ``Catalogue.given``.
        masks: ``Catalogue.masks_digest()`` of a file with masks; empty for one without.
        perturbed: texts of the perturbations, of which each picture gets one or none.
        forged: whether pictures were made by ``hpc-deepfake sample --from``.
    """

    features: tuple[str, ...]
    parameters: Parameters
    split: str
    split_by: str
    seed: int
    digest: str
    rows: int
    sample: bool = False
    group_by: str = "auto"
    given: str = ""
    masks: str = ""
    perturbed: tuple[str, ...] = ()
    forged: bool = False

    def attributes(self) -> dict[str, str]:
        """The attributes of the file: JSON text by name. ``sample``, ``forged``,
        ``group_by``, ``given``, ``masks`` and ``perturbed`` only where they are not the default."""
        values = {"schema": SCHEMA, "rows": self.rows, "features": list(self.features),
                  "ela": self.parameters.as_dict(), "split": self.split,
                  "split_by": self.split_by, "seed": self.seed, "files": self.digest,
                  **({"sample": True} if self.sample else {}),
                  **({"forged": True} if self.forged else {}),
                  **({"group_by": self.group_by} if self.group_by != "auto" else {}),
                  **({"given": self.given} if self.given else {}),
                  **({"masks": self.masks} if self.masks else {}),
                  **({"perturbed": list(self.perturbed)} if self.perturbed else {})}
        return {name: json.dumps(value, sort_keys=True) for name, value in values.items()}


@dataclass(frozen=True)
class Header:
    """The layout of a file: all that is needed to read and write rows without HDF5.

    Attributes:
        path: the file.
        attributes: of the file, decoded from JSON.
        offsets: first byte of each dataset.
        shapes: shape of each dataset.
        types: type of each dataset.
    """

    path: Path
    attributes: dict[str, Any]
    offsets: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    types: dict[str, np.dtype]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.shapes["status"][0]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in the file's order."""
        return tuple(self.attributes["features"])

    def lacks(self, feature: str) -> str | None:
        """The first part of a feature (``ela.parts``) that the file doesn't have; None: it has all.
        """
        return next((part for part in ela.parts(feature) if part not in self.features), None)

    @property
    def parameters(self) -> Parameters:
        """Parameters of the features."""
        return Parameters.of(self.attributes["ela"])

    @property
    def perturbations(self) -> tuple[Perturbation, ...]:
        """Of which each picture got one or none (``perturb.drawn``); usually there are none."""
        return perturb.of_texts(self.attributes.get("perturbed", []))

    @property
    def has_facts(self) -> bool:
        """Whether each row has the facts of its picture, unlike in files of earlier versions."""
        return all(name in self.offsets for name in facts.COLUMNS)

    @property
    def has_masks(self) -> bool:
        """Whether each row has a mask, ``preprocessing.mask``."""
        return MASK in self.offsets

    @property
    def summed(self) -> tuple[str, ...]:
        """Names of the datasets that ``crc32`` covers, in its order."""
        return (*self.features, *([MASK] if self.has_masks else []))

    def digest(self) -> str:
        """SHA-256 of everything that training reads, its pictures by their checksums."""
        sha = hashlib.sha256(json.dumps(self.attributes, sort_keys=True).encode())
        for name in ("label", "group", "split", "status", "crc32", "path"):
            sha.update(np.ascontiguousarray(self.array(name)).tobytes())
        return sha.hexdigest()

    def bytes_of(self, name: str) -> int:
        """Size of a dataset."""
        return math.prod(self.shapes[name]) * self.types[name].itemsize

    def array(self, name: str, mode: Literal["r", "r+"] = "r") -> np.ndarray:
        """A dataset, mapped into memory.

        Raises:
            InputError: the file is gone, or has become too short.
        """
        try:
            return np.memmap(self.path, self.types[name], mode, self.offsets[name],
                             self.shapes[name])
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} has changed since it was opened: {reason(error)}. Find "
                             "what wrote to it, and run preprocessing again") from None


def create(path: Path, catalogue: Catalogue, split: np.ndarray, recipe: Recipe) -> None:
    """Write the complete file with all rows pending.

    Args:
        path: the file to create.
        catalogue: the list of pictures.
        split: part of each row, uint8 (N).
        recipe: everything else that determines the file.

    Raises:
        InputError: the file can't be written there, or there is too little space.
    """
    rows, size = recipe.rows, recipe.parameters.size
    names = np.array(catalogue.encoded())
    needed = rows * (3 * len(recipe.features) + bool(recipe.masks)) * size * size \
        + names.nbytes + (64 << 20)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise InputError(f"not enough space for {path}: {needed / 1e9:.1f} GB needed, "
                             f"{free / 1e9:.1f} GB free; choose another place with --out")
        access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
        access.set_alignment(1 << 15, ALIGNMENT)
        # nobody else uses the temporary file, and not every file system supports locks
        access.set_file_locking(False, True)
        remove_temporary(path.parent, path.name)
        with whole(path, sync=True) as temporary:
            name = h5py.h5f.create(os.fsencode(temporary), h5py.h5f.ACC_TRUNC, fapl=access)
            with h5py.File(name) as file:
                for key, value in recipe.attributes().items():
                    file.attrs[key] = np.bytes_(value)
                for feature in recipe.features:
                    allocate(file, feature, (rows, size, size, 3), np.dtype("u1"))
                if recipe.masks:
                    allocate(file, MASK, (rows, size, size), np.dtype("u1"))
                for key, values in (("label", catalogue.labels), ("group", catalogue.groups),
                                    ("split", split), ("path", names),
                                    ("status", np.zeros(rows, "u1")),
                                    ("crc32", np.zeros(rows, "u4")),
                                    *facts.empty(rows).items()):
                    allocate(file, key, values.shape, values.dtype)[...] = values
    except OSError as error:
        if "lock file" in str(error) and (why := unreadable.reason(path, error)):
            raise InputError(why) from None
        reason = os.strerror(error.errno) if error.errno else error  # that of HDF5 is a page long
        raise InputError(f"cannot write {path}: {reason}; "
                         "choose another place with --out") from None


def allocate(file: h5py.File, name: str, shape: tuple[int, ...], kind: np.dtype) -> h5py.Dataset:
    """A contiguous dataset whose space in the file is allocated now, without being written."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.CONTIGUOUS)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    how.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    kind_id = h5py.h5t.py_create(kind, logical=True)
    return h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind_id, space, dcpl=how))


def open_header(path: Path) -> Header:
    """Read the header of a file.

    Raises:
        InputError: there is no such file, it can't be opened now, or it is not HDF5, damaged, or of
            another schema.
    """
    try:
        _require_file(path)
        unreadable.require_unlocked(path)
        header = _read_header(path)
        needed = {"label", "group", "split", "status", "crc32", "path", *header.features}
        missing = {name for name in needed if header.offsets.get(name) is None}
        size = path.stat().st_size
    except OSError as error:
        raise InputError(unreadable.reason(path, error) or _damaged(path, error)) from None
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise InputError(_damaged(path, error)) from None
    schema = header.attributes.get("schema")
    if schema == SCHEMA and missing:
        names = ", ".join(sorted(map(str, missing)))
        raise InputError(_damaged(path, ValueError(f"it has no {names}")))
    if schema != SCHEMA:
        raise InputError(f"{path} has schema {schema}, not {SCHEMA}: "
                         "run preprocessing again with another --out")
    try:
        _check_layout(header)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(_damaged(path, error)) from None
    end = max(header.offsets[name] + header.bytes_of(name) for name in header.offsets)
    if size < end:
        raise InputError(f"{path} is cut off: {size} bytes of {end}. "
                         "Move it away and run preprocessing again")
    return header


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a data file. Make a data file of the pictures "
                         "in it:\n  mpirun -np 2 python -m preprocessing --data "
                         f"{shlex.quote(str(path))} --out FILE.h5")
    if not path.is_file():
        raise InputError(f"there is no data file '{path}'. Make it from a folder of pictures:\n"
                         "  mpirun -np 2 python -m preprocessing --data DIR --out "
                         f"{shlex.quote(str(path))}")


def _read_header(path: Path) -> Header:
    """The header, not yet checked."""
    try:
        structure = hdf5.read(path)
    except hdf5.OtherFormat:
        structure = _read_by_library(path)
    found = structure.datasets.items()
    return Header(path, {name: json_data.parse(value)
                         for name, value in structure.attributes.items()},
                  {name: dataset.offset for name, dataset in found if dataset.offset is not None},
                  {name: dataset.shape for name, dataset in found},
                  {name: dataset.kind for name, dataset in found})


def _read_by_library(path: Path) -> hdf5.Structure:
    with h5py.File(path, "r", locking=False) as file:
        # no other links: they may lead to other files
        data = {name: file[name] for name in file
                if isinstance(file.get(name, getlink=True), h5py.HardLink)}
        return hdf5.Structure(
            {name: bytes(value) for name, value in file.attrs.items()},
            {name: hdf5.Dataset(dataset.id.get_offset(), dataset.shape, dataset.dtype)
             for name, dataset in data.items()})


def _check_layout(header: Header) -> None:
    """Raise ValueError, TypeError or KeyError unless types and shapes are those of the schema."""
    rows, size = header.attributes["rows"], header.parameters.size
    if type(rows) is not int or rows < 1:
        raise ValueError(f"{rows} rows")
    _ = header.perturbations
    found_facts = facts.COLUMNS if header.has_facts else {}
    if header.has_masks != ("masks" in header.attributes):
        raise ValueError(f"it has {'a' if header.has_masks else 'no'} dataset {MASK}")
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        **{name: (kind, (rows, *shape)) for name, (kind, shape) in found_facts.items()},
        "label": ("u1", (rows,)), "group": ("i4", (rows,)), "split": ("u1", (rows,)),
        "status": ("u1", (rows,)), "crc32": ("u4", (rows,)), "path": ("S", (rows,)),
        **dict.fromkeys(header.features, ("u1", (rows, size, size, 3))),
        **({MASK: ("u1", (rows, size, size))} if header.has_masks else {})}
    for name, (kind, shape) in expected.items():
        found = header.types[name]
        text = found.kind if kind == "S" else f"{found.kind}{found.itemsize}"
        if text != kind or header.shapes[name] != shape:
            raise ValueError(f"{name} is {found} {header.shapes[name]}, not {kind} {shape}")


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is not a data file of this project, or damaged: {error}. " \
           "Move it away and run preprocessing again"


_RARE = ("group_by", "given", "masks", "perturbed")  # attributes that most files don't have


def check_same(header: Header, recipe: Recipe, catalogue: Catalogue | None = None) -> None:
    """Raise InputError unless the file was made by this recipe; of the pictures of ``catalogue``
    the first that make the difference are named."""
    expected = {key: json.loads(value) for key, value in recipe.attributes().items()}
    there = header.parameters
    meaning = {"files": "list of pictures", "rows": "number of pictures",
               "ela": f"ELA parameters ({there.options(recipe.parameters)} in the file, "
                      f"{recipe.parameters.options(there)} now)",
               "given": "groups and parts of the list of files",
               "group_by": "--group-by", "perturbed": "--perturb",
               "masks": "ground-truth masks (found beside the pictures, or --masks)"}
    if catalogue is not None and expected["files"] != header.attributes.get("files"):
        meaning["files"] += _difference(header, catalogue)
    differing = [meaning.get(key, key) for key in {**dict.fromkeys(_RARE), **expected}
                 if expected.get(key) != header.attributes.get(key)
                 and key not in ("sample", "forged")]  # which earlier versions did not store
    if differing:
        raise InputError(f"{header.path} differs in: {', '.join(differing)}. "
                         "Choose another --out, or delete that file to create it again")


def _difference(header: Header, catalogue: Catalogue) -> str:
    """The first pictures that only one of file and list has, or that have other labels there."""
    before = dict(zip(header.array("path").tolist(), header.array("label").tolist(), strict=True))
    now = dict(zip(catalogue.encoded(), catalogue.labels.tolist(), strict=True))
    found = {"only in the list": [path for path in now if path not in before],
             "only in the file": [path for path in before if path not in now],
             "with another label": [path for path, label in now.items()
                                    if before.get(path, label) != label]}
    shown = ", ".join(f"{len(paths):,} {what}: {paths[0].decode()}" + " …" * (len(paths) > 1)
                      for what, paths in found.items() if paths)
    return f" ({shown or 'in another order'})"


def checksum(rows: list[np.ndarray]) -> int:
    """CRC-32 of the features of one row, in the file's order, and of its mask, if it has one."""
    value = 0
    for row in rows:
        value = crc32(np.ascontiguousarray(row).data, value)
    return value


class Writer(Protocol):
    """Writes rows of a file from ``create``; opened and closed by all ranks together."""

    name: str

    def write(self, dataset: str, first: int, values: np.ndarray) -> None:
        """Write consecutive rows from row ``first`` on, independently of the other ranks.

        Raises:
            OutputError: they can't be written.
        """

    def sync(self) -> None:
        """Sync what this rank wrote to the disk.

        Raises:
            OutputError: that fails.
        """

    def close(self) -> None:
        """Close the file. Collective."""


class HDF5Writer:
    """Parallel HDF5, with h5py's ``mpio`` driver."""

    name = "parallel HDF5"

    def __init__(self, header: Header, comm: Comm) -> None:
        self._header = header
        self._file = h5py.File(header.path, "r+", driver="mpio", comm=comm)
        self._datasets = {name: self._file[name].id for name in header.offsets}
        self._descriptor = os.open(header.path, os.O_RDWR)

    def write(self, dataset: str, first: int, values: np.ndarray) -> None:
        # below h5py's selections, which take longer than HDF5 and MPI-IO
        values = np.ascontiguousarray(values, self._header.types[dataset])
        if not len(values):
            return
        target = self._datasets[dataset]
        place = target.get_space()
        place.select_hyperslab((first, *[0] * (values.ndim - 1)), values.shape)
        try:
            target.write(h5py.h5s.create_simple(values.shape), place, values)
        except OSError:
            _write_rest(self._header, self._descriptor, dataset, first, values, 0)

    def sync(self) -> None:
        _sync(self._header, self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
        self._file.close()


class MPIFileWriter:
    """MPI-IO at the offsets of the datasets, for an h5py without MPI."""

    name = "MPI-IO"

    def __init__(self, header: Header, comm: Comm) -> None:
        from mpi4py import MPI

        self._header = header
        self._bytes, self._status, self._error = MPI.BYTE, MPI.Status(), MPI.Exception
        self._file = MPI.File.Open(comm,  # type: ignore[arg-type] # always an intracommunicator
                                   os.fspath(header.path), MPI.MODE_RDWR)
        self._descriptor = os.open(header.path, os.O_RDWR)

    def write(self, dataset: str, first: int, values: np.ndarray) -> None:
        header = self._header
        values = np.ascontiguousarray(values, header.types[dataset])
        if values.nbytes:
            row = values[:1].nbytes
            # one MPI element per row: a count of bytes is limited to 2³¹
            kind = self._bytes.Create_contiguous(row).Commit()
            written = 0
            with suppress(self._error):
                self._file.Write_at(header.offsets[dataset] + first * row,
                                    [values, len(values), kind], self._status)
                written = self._status.Get_count(self._bytes)  # of a full disk the only sign
            kind.Free()
            if written != values.nbytes:
                _write_rest(header, self._descriptor, dataset, first, values, max(written, 0))

    def sync(self) -> None:
        _sync(self._header, self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
        self._file.Close()


def _write_rest(header: Header, descriptor: int, dataset: str, first: int, values: np.ndarray,
                written: int) -> None:
    """Write rows without a library, from a byte on: the system says why it fails."""
    values = np.ascontiguousarray(values, header.types[dataset])
    rest = values.reshape(-1).view(np.uint8).data[written:]
    place = header.offsets[dataset] + first * values[:1].nbytes + written
    with writing(header.path):
        while rest:
            count = os.pwrite(descriptor, rest, place)
            rest, place = rest[count:], place + count


def _sync(header: Header, descriptor: int) -> None:
    with writing(header.path):
        os.fdatasync(descriptor)


def open_writer(header: Header, comm: Comm, which: str = "auto") -> Writer:
    """The writer ``hdf5`` or ``mpi-io``; ``auto`` is parallel HDF5 if h5py supports it. Collective.

    Raises:
        InputError: ``hdf5`` with an h5py without MPI; on all ranks alike.
    """
    parallel = h5py.get_config().mpi
    if which == "hdf5" and not parallel:
        raise InputError("this h5py was built without MPI: use --writer mpi-io",
                         everywhere=True)
    return HDF5Writer(header, comm) if parallel and which != "mpi-io" \
        else MPIFileWriter(header, comm)
