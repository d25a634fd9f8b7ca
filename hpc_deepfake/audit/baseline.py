"""The container baseline: the accuracy of a prediction from file properties, without pixels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
    names: list[bytes] = []  # on rank 0 alone: there may be a million

    def found() -> bool:
        names.extend(_files(open_rows(Path(data_path)), root) or ())
        return bool(names)

    if not mpi.on_root(comm, found):
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
    """Facts of files, given and returned on rank 0, of which each rank reads some; a file that
    another node doesn't see is read by rank 0. Collective."""
    if comm is None:
        return dict(zip(files, facts_of(files, show_progress=False), strict=True))
    own = comm.scatter([files[rank::comm.size] for rank in range(comm.size)]
                       if comm.rank == 0 else None)
    read = facts_of(own, show_progress=False)
    mpi.wait(comm.Ibarrier())
    known = dict(chain.from_iterable(
        zip(*part, strict=True) for part in comm.gather((own, read)) or ()))
    if comm.rank == 0 and comm.size > 1:
        known |= {file: facts.read(file) for file in files if known[file] is None}
    return known


def from_facts(rows: Rows, file_facts: list[facts.Facts | None]) -> dict[str, Any] | None:
    """``container_baseline`` from the facts of each row's file; None stands for a missing file."""
    own = Container(rows, file_facts)
    tested = own.take(own.present & (rows.parts == VALIDATION))
    found = own.onto(tested)
    if found is None or not len(tested.rows):
        return None
    figures = metrics.evaluate(found.probabilities, tested.rows.labels)
    return {"accuracy": figures["accuracy"], "auc": figures["auc"],
            "majority": figures["majority"], "rows": figures["rows"], "fact": found.fact}


class Predicted(NamedTuple):
    """A prediction from file properties.

    Attributes:
        probabilities: of tampered, float64 (M).
        fact: the property used, or ``all``.
    """

    probabilities: np.ndarray
    fact: str


@dataclass(frozen=True)
class Container:
    """The facts of a data file's pictures.

    Attributes:
        rows: of the data file, M.
        facts: of each row's file; None: it is missing.
    """

    rows: Rows
    facts: list[facts.Facts | None]

    @classmethod
    def of(cls, data_path: Path) -> Container | None:
        """Those of a data file; None if its pictures can't be found.

        Raises:
            InputError: ``data_path`` is not a data file.
        """
        rows = open_rows(data_path)
        names = _files(rows, None)
        own = None if names is None else cls(rows, facts_of(names))
        return own if own is not None and own._known else None

    @property
    def present(self) -> np.ndarray:
        """Which files exist, bool (M)."""
        return np.array([file is not None for file in self.facts], bool)

    @property
    def _known(self) -> bool:
        """Whether there are so many that figures aren't those of other pictures."""
        return len(self.facts) > 0 and bool(self.present.mean() >= _MIN_PRESENT)

    def take(self, chosen: np.ndarray) -> Container:
        """Those of the rows, bool (M)."""
        return Container(self.rows.take(chosen), [*compress(self.facts, chosen)])

    def onto(self, other: Container) -> Predicted | None:
        """What the training part of these rows predicts of the other's, by the property that is
        best in cross-validation within it; None where files are missing, or it has one class only.
        """
        fitted = np.concatenate([self.present & (self.rows.parts == TRAIN),
                                 np.zeros(len(other.rows), bool)])
        labels = np.concatenate([self.rows.labels, other.rows.labels])
        if not self._known or set(labels[fitted].tolist()) != {0, 1}:
            return None
        table = facts.columns([*self.facts, *other.facts])
        coded = {name: shortcuts.code(table[name]) for name in facts.CONTAINER}
        own = fitted[:len(self.rows)]
        findings = shortcuts.measure(
            {name: shortcuts.Coded(fact.codes[fitted], fact.names) for name, fact in coded.items()},
            labels[fitted], self.rows.groups[own])
        best = max(findings, key=lambda finding: finding.auc or 0).fact
        return Predicted(shortcuts.predict(
            list(coded.values()) if best == shortcuts.ALL else [coded[best]], labels,
            fitted)[len(self.rows):], "all" if best == shortcuts.ALL else best)

    def within(self) -> float | None:
        """ROC-AUC of all properties together, cross-validated within these rows by group; None
        where files are missing or there is one class only."""
        if not self._known or set(self.rows.labels.tolist()) != {0, 1}:
            return None
        table = facts.columns(self.facts)
        coded = {name: shortcuts.code(table[name]) for name in facts.CONTAINER}
        return next(finding.auc for finding in shortcuts.measure(
            coded, self.rows.labels, self.rows.groups) if finding.fact == shortcuts.ALL)
