"""Data files whose contents a test has changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import unquote_to_bytes

import h5py
import numpy as np

from preprocessing.store import DONE, checksum, open_header


def seal(path: Path) -> Path:
    """Give a data file the checksums of its present contents, as preprocessing would."""
    header = open_header(path)
    sums, features = header.array("crc32", "r+"), [header.array(name) for name in header.features]
    for row in np.flatnonzero(header.array("status") == DONE).tolist():
        sums[row] = checksum([feature[row] for feature in features])
    sha = hashlib.sha256(header.array("label").tobytes())
    sha.update(b"\0".join(unquote_to_bytes(name) for name in header.array("path").tolist()))
    with h5py.File(path, "r+", locking=False) as file:
        file.attrs["files"] = np.bytes_(json.dumps(sha.hexdigest()))
    return path
