"""How many of the pictures the model was trained on, and what its figures are without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.core.text import number, percent
from hpc_deepfake.data.rows import DataFile, share
from hpc_deepfake.network import decision
from hpc_deepfake.network.guard import RAW, Guard
from hpc_deepfake.network.pictures import (
    COPIED,
    OF_SCENE,
    RELATIONS,
    THUMB,
    WORDS,
    Pictures,
    row_digest,
)
from preprocessing import similar
from preprocessing.ela import at_once

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.evaluate.material import Material
    from hpc_deepfake.network.card import Card

_BLOCK = 64  # rows of 128 × 128
_TOGETHER = 4096  # rows that are compared with the training pictures at once


def of_rows(guard: Guard, data: DataFile, rows: np.ndarray,
            comm: Comm | None = None) -> np.ndarray:
    """What the model's training has to do with rows of a data file, int64 (n): indices into
    ``pictures.RELATIONS``, uint8 (n). With ``comm`` collective, as ``unlike.of_rows``."""
    watchdog.enter("looking for training pictures")
    own = rows if comm is None else share(rows, comm.rank, comm.size)
    return mpi.concatenate(comm, mpi.together(comm, lambda: _of_rows(guard, data, own)))


def _of_rows(guard: Guard, data: DataFile, rows: np.ndarray) -> np.ndarray:
    if guard.pictures is None:
        return np.zeros(len(rows), np.uint8)
    return np.concatenate([_relations(guard.pictures, data, part)
                           for part in np.split(rows, range(_TOGETHER, len(rows), _TOGETHER))])


def _relations(pictures: Pictures, data: DataFile, rows: np.ndarray) -> np.ndarray:
    """``Pictures.relations`` of some rows; only what it needs of them is held in memory."""
    header = data.header
    raw = header.array(RAW) if RAW in header.features and data.feature != RAW else None
    digests: list[bytes] = []
    thumbs: list[np.ndarray] = []
    most = at_once(_BLOCK, header.parameters.size)
    for start in range(0, len(rows), most):
        block = rows[start:start + most]
        pixels = data.batch(block)[0]
        digests += map(row_digest, pixels)
        shown = pixels if data.feature == RAW else () if raw is None else raw[block]
        thumbs += [similar.thumbnail(picture, THUMB) for picture in shown]
        watchdog.advance()
    files = [digest.tobytes() for digest in header.array("digest")[rows]] \
        if header.has_facts else [None] * len(rows)
    return pictures.relations(files, digests, np.array(thumbs) if thumbs else None)


def figures(material: Material, card: Card) -> dict[str, Any] | None:
    """How many pictures the model was trained on, and what it does on the others.

    Returns:
        ``rows``: pictures that the training has to do with, ``relations``: their numbers by kind
        (``pictures.RELATIONS``), and ``without``: figures of the others as of ``metrics.evaluate``,
        None if there are none of either. None if it isn't known.
    """
    if material.seen is None:
        return None
    counts = np.bincount(material.seen, minlength=len(RELATIONS)).tolist()
    rest = material.take(material.seen == 0)
    without = None
    if 0 < len(rest) < len(material):
        without = metrics.evaluate(decision.calibrated(card, rest.scores), rest.labels,
                                   card.threshold, card.lower)
    return {"rows": len(material) - counts[0], "without": without, "relations": {
        words: count for words, count in zip(RELATIONS[1:], counts[1:], strict=True) if count}}


def line(found: dict[str, Any] | None, rows: int) -> str:
    """The figures as a line; empty if the model was trained on none of the pictures.

    Args:
        found: as of ``figures``.
        rows: all pictures.
    """
    if found is None or not found["rows"]:
        return ""
    rest = found["without"]
    words = "no others are left" if rest is None else "without them " + ", ".join(
        f"{name} {form(rest[figure])}" for name, figure, form in (
            ("accuracy", "accuracy", percent), ("ROC-AUC", "auc", number))
        if rest[figure] is not None)
    return (f"known to the model  {percent(found['rows'] / rows):>7}   {found['rows']:,} of "
            f"{rows:,} images{_kinds(found['relations'])}; {words}")


def _kinds(relations: dict[str, int]) -> str:
    """What the training has to do with the pictures, such as ``, 16 trained on (2 of them saved
    again)``."""
    text = ""
    for words in WORDS.values():
        copied = relations.get(COPIED + words, 0)
        if count := relations.get(words, 0) + copied:
            text += f", {count:,} {words}" + f" ({copied:,} of them saved again)" * bool(copied)
    scenes = sum(count for words, count in relations.items() if words.startswith(OF_SCENE))
    return text + f", {scenes:,} of the same scene as one of these" * bool(scenes)
