"""The container baseline: the accuracy of a prediction from file properties, without pixels."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.audit import facts, shortcuts
from hpc_deepfake.audit.rows import Rows, facts_of, files_of, open_rows, stored_roots
from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from preprocessing.split import TRAIN, VALIDATION

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_MIN_PRESENT = 0.99  # share of the files; with fewer, the figures would be of other pictures


def container_baseline(data_path: Path, root: Path | None = None,
                       comm: Comm | None = None) -> dict[str, Any] | None:
    """Accuracy of predicting the label from format, coding, quantisation tables and chroma
    subsampling of the files alone.

    Fitted on the training part, measured on the validation part; no pixels are read. With ``comm``
    collective: the ranks share the files.

    Args:
        data_path: data file.
        root: folder of its pictures; by default the folders named in ``<data_path>.json``.
        comm: the ranks; None: this process is alone.

    Returns:
        ``accuracy``, ``auc`` (None with one class only), ``majority`` (accuracy of always
        predicting the validation part's more frequent class), ``fact`` (the property used, or
        ``all``: the best in cross-validation within the training part) and ``rows`` (pictures of
        the validation part). None if the files can't be found, or a part is empty or has one
        class only.

    Raises:
        InputError: ``data_path`` is not a data file.
    """
    names = mpi.on_root(comm, lambda: _files(open_rows(Path(data_path)), root))
    if names is None:
        return None
    known = _read(list(dict.fromkeys(names)), comm)
    return mpi.on_root(comm, lambda: from_facts(open_rows(Path(data_path)),
                                                [known[name] for name in names]))


def _files(rows: Rows, root: Path | None) -> list[bytes] | None:
    """Name of each row's file; None if a folder is unknown."""
    roots = stored_roots(rows.header.path) if root is None else {"": Path(root)}
    try:
        return files_of(rows, roots)
    except InputError:
        return None


def _read(files: list[bytes], comm: Comm | None) -> dict[bytes, facts.Facts | None]:
    """Facts of files, of which each rank reads some; a file that another node doesn't see is read
    by rank 0."""
    rank, ranks = (0, 1) if comm is None else (comm.rank, comm.size)
    own = files[rank::ranks]
    known = dict(chain.from_iterable(mpi.gather(comm, list(zip(own, facts_of(
        own, show_progress=False), strict=True)))))
    if rank == 0 and ranks > 1:
        known |= {file: facts.read(file) for file in files if known[file] is None}
    return known


def from_facts(rows: Rows, file_facts: list[facts.Facts | None]) -> dict[str, Any] | None:
    """``container_baseline`` from the facts of each row's file; None stands for a missing file."""
    present = np.array([file is not None for file in file_facts])
    train, validation = (present & (rows.parts == part) for part in (TRAIN, VALIDATION))
    if not validation.any() or set(rows.labels[train].tolist()) != {0, 1} \
            or present.mean() < _MIN_PRESENT:
        return None
    table = facts.columns(file_facts)
    coded = {name: shortcuts.code(table[name]) for name in facts.CONTAINER}
    findings = shortcuts.measure(
        {name: shortcuts.Coded(fact.codes[train], fact.names) for name, fact in coded.items()},
        rows.labels[train], rows.groups[train])
    best = max(findings, key=lambda finding: finding.auc or 0).fact
    probabilities = shortcuts.predict(
        list(coded.values()) if best == shortcuts.ALL else [coded[best]], rows.labels,
        train)[validation]
    figures = metrics.evaluate(probabilities, rows.labels[validation])
    return {"accuracy": figures["accuracy"], "auc": figures["auc"],
            "majority": figures["majority"], "rows": figures["rows"],
            "fact": "all" if best == shortcuts.ALL else best}
