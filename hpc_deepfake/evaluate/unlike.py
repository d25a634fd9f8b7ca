"""How many of the pictures are unlike those that the model was trained on, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.core.text import number, percent
from hpc_deepfake.data.rows import DataFile, share
from hpc_deepfake.network import decision
from hpc_deepfake.network.guard import RAW, Guard
from preprocessing import facts
from preprocessing.ela import at_once

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.evaluate.material import Material
    from hpc_deepfake.network.card import Card

_BLOCK = 64  # rows of 128 × 128


def of_rows(guard: Guard, data: DataFile, rows: np.ndarray,
            comm: Comm | None = None) -> np.ndarray:
    """Whether rows of a data file, int64 (n), are unlike the training pictures: bool (n). With
    ``comm`` collective: the ranks share the work, and each gets all of it."""
    watchdog.enter("comparing with the training pictures")
    own = rows if comm is None else share(rows, comm.rank, comm.size)
    local = mpi.together(comm, lambda: _of_rows(guard, data, own))
    return mpi.concatenate(comm, local).astype(bool)


def _of_rows(guard: Guard, data: DataFile, rows: np.ndarray) -> np.ndarray:
    header = data.header
    shown = header.array(RAW) if RAW in header.features and data.feature != RAW else None
    known = facts.stored(header, rows)
    drawn = True if header.attributes.get("sample") else None  # copies may lack the mark
    unlike = np.zeros(len(rows), np.uint8)
    most = at_once(_BLOCK, header.parameters.size)
    for start in range(0, len(rows), most):
        block = rows[start:start + most]
        raw = None if shown is None else shown[block]
        for place, row in enumerate(data.batch(block)[0]):
            unlike[start + place] = bool(guard.unlike(
                row, None if raw is None else raw[place],
                known[start + place] if known else None, drawn))
        watchdog.advance()
    return unlike


def figures(material: Material, card: Card) -> dict[str, Any]:
    """How many pictures are unlike the training pictures, and what the model does on the others.

    Returns:
        ``rows`` and ``authentic``, the numbers of unlike pictures, and ``without``: figures of the
        others as of ``metrics.evaluate`` with ``false_positive_rate``; None if none is unlike, or
        all are.
    """
    unlike = material.unlike
    found: dict[str, Any] = {"rows": int(unlike.sum()),
                             "authentic": int((unlike & (material.labels == 0)).sum()),
                             "without": None}
    rest = material.take(~unlike)
    if unlike.any() and len(rest):
        q = decision.calibrated(card, rest.scores)
        authentic = q[rest.labels == 0]
        found["without"] = {
            **metrics.evaluate(q, rest.labels, card.threshold, card.lower),
            "false_positive_rate": float((authentic >= card.threshold).mean())
            if len(authentic) else None}
    return found


def line(found: dict[str, Any], rows: int) -> str:
    """The figures as a line; empty if all pictures are like the training pictures.

    Args:
        found: as of ``figures``.
        rows: all pictures.
    """
    if not found["rows"]:
        return ""
    rest = found["without"]
    words = [] if rest is None else [
        f"{name} {form(rest[figure])}" for name, figure, form in (
            ("accuracy", "accuracy", percent), ("ROC-AUC", "auc", number),
            ("false positives", "false_positive_rate", percent)) if rest[figure] is not None]
    left = f", but they count below; without them {', '.join(words)}" if words else \
        ": what is below is of their bare probabilities"
    return (f"unlike training    {percent(found['rows'] / rows):>7}   {found['rows']:,} of "
            f"{rows:,} images; predict gives no verdict on them{left}")
