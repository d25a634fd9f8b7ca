"""The accuracy that the files' containers alone reach: to stand beside a network's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.audit import facts, shortcuts
from hpc_deepfake.audit.rows import Rows, facts_of, files_of, open_rows, stored_roots
from hpc_deepfake.core.errors import InputError
from preprocessing.split import TRAIN, VALIDATION

_ENOUGH = 0.99  # of the files must be found: else it would be over other pictures


def container_baseline(data_path: Path, root: Path | None = None) -> dict | None:
    """How well format, coding, quantisation tables and chroma subsampling of the files alone
    predict the labels of the validation part, fitted on the training part; no pixels are read.

    Args:
        data_path: a data file. root: folder of its pictures, by default those that
            ``<data_path>.json`` names.

    Returns:
        ``accuracy``, ``auc`` (None with one class only), ``majority`` (accuracy of always saying
        the validation part's more frequent class), ``fact`` (which one, or ``all``: the best
        within the training part, cross-validated), ``rows`` (pictures of the validation part).
        None where the files aren't found any more, or a part is empty or of one class.

    Raises:
        InputError: ``data_path`` is no data file.
    """
    rows = open_rows(Path(data_path))
    roots = stored_roots(rows.header.path) if root is None else {"": Path(root)}
    try:
        files = files_of(rows, roots)
    except InputError:  # no folder is known
        return None
    return of(rows, facts_of(files, say=False))


def of(rows: Rows, found: list[facts.Facts | None]) -> dict | None:
    """``container_baseline`` from the facts of each row's file, None for one that isn't there."""
    there = np.array([one is not None for one in found])
    train, validation = (there & (rows.parts == part) for part in (TRAIN, VALIDATION))
    if not validation.any() or set(rows.labels[train].tolist()) != {0, 1} \
            or there.mean() < _ENOUGH:
        return None
    table = facts.columns(found)
    coded = {name: shortcuts.code(table[name]) for name in facts.CONTAINER}
    inside = shortcuts.measure(
        {name: shortcuts.Coded(one.codes[train], one.names) for name, one in coded.items()},
        rows.labels[train], rows.groups[train])
    best = max(inside, key=lambda one: one.auc or 0).fact
    said = shortcuts.predict(list(coded.values()) if best == shortcuts.ALL else [coded[best]],
                             rows.labels, train)[validation]
    figures = metrics.evaluate(said, rows.labels[validation])
    return {"accuracy": figures["accuracy"], "auc": figures["auc"],
            "majority": figures["majority"], "rows": figures["rows"],
            "fact": "all" if best == shortcuts.ALL else best}
