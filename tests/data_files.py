"""Data files whose contents a test has made or changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import unquote_to_bytes

import h5py
import numpy as np

from preprocessing import store
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters
from preprocessing.store import DONE, checksum, open_header

LABELS = [0, 1, 0, 1, 0, 1, 0, 1]  # of the test part of ``make_data``, rows 4 to 11; groups of two


def seal(path: Path) -> Path:
    """Give a data file the checksums of its present contents, as preprocessing would."""
    header = open_header(path)
    sums, features = header.array("crc32", "r+"), [header.array(name) for name in header.summed]
    for row in np.flatnonzero(header.array("status") == DONE).tolist():
        sums[row] = checksum([feature[row] for feature in features])
    sha = hashlib.sha256(header.array("label").tobytes())
    sha.update(b"\0".join(unquote_to_bytes(name) for name in header.array("path").tolist()))
    with h5py.File(path, "r+", locking=False) as file:
        file.attrs["files"] = np.bytes_(json.dumps(sha.hexdigest()))
    return path


def make_data(path: Path, seed: int = 5) -> Path:
    """Two validation rows, two training rows, eight test rows; features ela and raw."""
    labels = np.array([0, 1, 0, 1, *LABELS], "u1")
    parts = np.array([0, 0, 1, 1, *[2] * len(LABELS)], "u1")
    catalogue = Catalogue({"": Path("/pictures")}, [b"%d.jpg" % row for row in range(12)], labels,
                          np.arange(12, dtype=np.int32) // 2)
    store.create(path, catalogue, parts, store.Recipe(
        ("ela", "raw"), Parameters(size=16), "20/20/60", "group", seed, "abc", 12))
    store.open_header(path).array("status", "r+")[:] = store.DONE
    return path
