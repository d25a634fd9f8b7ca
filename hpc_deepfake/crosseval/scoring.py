"""What a model says of the rows of data files: the part of the work that needs the network.

``hpc-deepfake crosseval score`` is started for each model, on several ranks like a training. It
leaves a file for each data file; all figures are computed from those later, without the network.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.core.files import whole, writing
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import Parser
from hpc_deepfake.crosseval.datasets import DataSet
from hpc_deepfake.evaluate import ERRORS, MODEL, Material, of_rows, open_file
from hpc_deepfake.network import ensemble, model
from hpc_deepfake.network.guard import Guard
from preprocessing.store import open_header

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.data.rows import DataFile

SUBCOMMAND = "score"
_COLUMNS = ("rows", "probabilities", "odds", "unlike")
_PIXELS = {"pixels": MODEL, "errors": ERRORS}  # in the file: as of ``Material.counted``
_OF_FILE, _OF_ROW = 1 << 20, 8192  # bytes that a file of scores has at most, and for each row


@dataclass(frozen=True)
class Scores:
    """What a model says of n rows of a data file.

    Attributes:
        rows: int64 (n), sorted.
        probabilities: of tampered, float64 (n).
        odds: log-odds of tampered, float64 (n).
        unlike: whether they are unlike the pictures that the model was trained on, bool (n).
        pixels: of the model's map, int32 (n, 2, 256) as of ``metrics.masks.histograms``; None: it
            has no map.
        errors: of plain error levels, likewise.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    odds: np.ndarray
    unlike: np.ndarray
    pixels: np.ndarray | None = None
    errors: np.ndarray | None = None

    def take(self, chosen: np.ndarray) -> Scores:
        """Those of the rows, bool (n)."""
        return Scores(self.rows[chosen], self.probabilities[chosen], self.odds[chosen],
                      self.unlike[chosen], *(None if counts is None else counts[chosen]
                                             for counts in (self.pixels, self.errors)))

    def of(self, rows: np.ndarray) -> Scores:
        """Those of these rows, all of which are there, int64 (m)."""
        return self.take(np.isin(self.rows, rows))


def parser() -> Parser:
    """The command line, which ``plan.Evaluation`` writes."""
    cli = Parser(prog=f"hpc-deepfake crosseval {SUBCOMMAND}", config=False, description=(
        "Compute a model's probabilities for rows of data files."))
    cli.add_argument("--model", type=Path, required=True, metavar="RUN",
                     help="run directory of the model")
    cli.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                     help="device to run the network on")
    cli.add_argument("--file", nargs=3, action="append", required=True,
                     metavar=("DATA", "PARTS", "SCORES"),
                     help="data file, its parts with commas between, and the file to write")
    return cli


def main(argv: Sequence[str], comm: Comm | None = None) -> int:
    """Run the command; with ``comm`` collective. Returns the exit code."""
    options = parser().parse(argv)
    missing = mpi.on_root(comm, partial(_missing, options.model, options.file))
    if missing:
        card = mpi.on_root(comm, lambda: model.read_card(options.model))
        network = _network(options.model, options.device, comm)
        guard = mpi.together(comm, lambda: Guard.of(card, options.model, pictures=False))
    for path, parts, out in missing:
        data = mpi.together(comm, partial(open_file, path, card))
        rows = _rows(data, parts)
        material = of_rows(network, data, rows, comm, guard)
        mpi.on_root(comm, partial(_write, out, _key(options.model, data.header.digest()), rows,
                                 material))
    return 0


def _missing(run: Path, files: Sequence[Sequence[str]]) -> list[tuple[Path, str, Path]]:
    """Those of the files that haven't been computed."""
    found = []
    for path, parts, out in files:
        data = DataSet("", open_header(Path(path)), False, "all")
        if read(Path(out), run, data, parts.split(",")) is None:
            found.append((Path(path), parts, Path(out)))
    return found


def _network(path: Path, name: str, comm: Comm | None) -> Any:
    """The trained network, on this rank's device; collective."""
    from hpc_deepfake.network import device

    watchdog.enter("loading the model")
    place = (0, 1) if comm is None else device.local_ranks(comm)
    mpi.together(comm, lambda: device.start(name, *place))
    return mpi.together(comm, lambda: model.load(path))


def _rows(data: DataFile, parts: str) -> np.ndarray:
    return np.unique(np.concatenate([data.rows(part) for part in parts.split(",")]))


def _key(run: Path, digest: str) -> str:
    """What scores belong to: a model and a state of a data file, by its digest."""
    return json.dumps({"model": _digest(run), "data": digest}, sort_keys=True)


def _digest(run: Path) -> list[str]:
    """Digests of the model's weights; of a model from before they were recorded, of its file."""
    weights = model.read_card(run).weights
    if weights:
        return [*weights]
    found = []
    for file in ensemble.members(run) or [run]:
        with open(model.find(file), "rb") as stream:
            found.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return found


def _write(path: Path, key: str, rows: np.ndarray, material: Material) -> None:
    """Write a file of scores whole."""
    columns: dict[str, Any] = {
        "key": np.array(key), "rows": rows, "probabilities": material.probabilities,
        "odds": material.scores.odds, "unlike": material.unlike}
    columns |= {name: material.counted[kind] for name, kind in _PIXELS.items()
                if kind in material.counted}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **columns)


def read(path: Path, run: Path, data: DataSet, parts: Sequence[str]) -> Scores | None:
    """The scores of a model on parts of a data file; None if there are none, those of another
    model, another state of the data file or other rows, or damaged ones."""
    rows = np.unique(np.concatenate([data.rows(part) for part in parts]))
    key = _key(run, data.digest)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _OF_FILE + \
                    _OF_ROW * len(rows):
                return None  # it is compressed: a few bytes could become any number
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            stored = {name: _array(archive, name)
                      for name in ("key", *_COLUMNS, *sorted(names & set(_PIXELS)))}
            if str(stored.pop("key")) != key or not np.array_equal(stored["rows"], rows) or any(
                    len(column) != len(rows) for column in stored.values()):
                return None
            return Scores(**stored)
    except Exception as error:  # zip and NumPy raise many kinds
        if not isinstance(error, FileNotFoundError):
            log.debug("%s is damaged, so it is computed again: %s", path, error)
        return None


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array, read to the end, where the checksum is compared."""
    stored = io.BytesIO(archive.read(f"{name}.npy"))
    return np.asarray(np.lib.format.read_array(stored, allow_pickle=False))
