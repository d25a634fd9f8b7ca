"""The container baseline: the accuracy of a prediction from file properties, without pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.audit import facts, shortcuts
from hpc_deepfake.audit.rows import Rows, facts_of, files_of, open_rows, stored_roots
from hpc_deepfake.core.errors import InputError
from preprocessing.split import TRAIN, VALIDATION

_MIN_PRESENT = 0.99  # share of the files; with fewer, the figures would be of other pictures


def container_baseline(data_path: Path, root: Path | None = None) -> dict[str, Any] | None:
    """Accuracy of predicting the label from format, coding, quantisation tables and chroma
    subsampling of the files alone.

    Fitted on the training part, measured on the validation part; no pixels are read.

    Args:
        data_path: data file.
        root: folder of its pictures; by default the folders named in ``<data_path>.json``.

    Returns:
        ``accuracy``, ``auc`` (None with one class only), ``majority`` (accuracy of always
        predicting the validation part's more frequent class), ``fact`` (the property used, or
        ``all``: the best in cross-validation within the training part) and ``rows`` (pictures of
        the validation part). None if the files can't be found, or a part is empty or has one
        class only.

    Raises:
        InputError: ``data_path`` is not a data file.
    """
    rows = open_rows(Path(data_path))
    roots = stored_roots(rows.header.path) if root is None else {"": Path(root)}
    try:
        files = files_of(rows, roots)
    except InputError:  # the folder is unknown
        return None
    return from_facts(rows, facts_of(files, show_progress=False))


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
