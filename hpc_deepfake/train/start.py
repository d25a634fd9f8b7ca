"""The weights that a run starts from: those of ``--init``, and what is recorded of them."""

from __future__ import annotations

import os
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.network import initial
from hpc_deepfake.network.initial import Weights
from hpc_deepfake.network.pictures import RELATIONS, WORDS, Pictures
from preprocessing.split import TRAIN, VALIDATION

if TYPE_CHECKING:
    import keras

    from hpc_deepfake.train.rundir import RunDir

RECORD = "initial.json"  # of a run directory: what was taken, and what wasn't


def weights(options: Namespace, run: RunDir, resumed: bool) -> Weights | None:
    """The weights of ``--init``; None without it, or for a run that has begun. Rank 0 only.

    Args:
        options: of the training. Of a run that has begun with ``--init``, ``init`` is set.
        run: its run directory.
        resumed: whether the run continues from a checkpoint.

    Raises:
        InputError: the file can't be used; or the run has begun with other weights.
    """
    if not resumed:
        run.remove(RECORD)
        return None if options.init is None else initial.read(options.init)
    known = record(run.path)
    if options.init is not None and os.path.abspath(options.init) != (known or {}).get("path"):
        began = f"from the weights of {known['source']}" if known else "without --init"
        raise InputError(f"--resume: the run in {run.path} was started {began}: leave --init "
                         f"{options.init} out, or choose another --run")
    if known is not None:
        options.init = Path(str(known["source"]))
    return None


def take(model: keras.Model, found: Weights, run: RunDir) -> None:
    """Set the weights of a model to initial ones, print which, and record it. Rank 0 only.

    Raises:
        InputError: none of them fits.
    """
    taken = initial.take(model, found)
    print(taken, flush=True)
    run.write(RECORD, {**taken.as_dict(), "path": os.path.abspath(found.source),
                       **_seen(run.path, Path(found.source))})


def _seen(run: Path, source: Path) -> dict[str, int]:
    """How many of a run's validation pictures the initial weights were trained on; nothing where
    that isn't known. The figures on these are better than on new ones."""
    own = known = None
    with suppress(InputError):
        own, known = Pictures.read(run), Pictures.read(source)
    if own is None or known is None:
        return {}
    tested = own.part == VALIDATION
    count = sum(RELATIONS[known.relation(digest.tobytes(), row.tobytes(), None)] == WORDS[TRAIN]
                for digest, row in zip(own.digest[tested], own.row[tested], strict=True))
    if count:
        log.warning("warning: the initial weights of %s were trained on %d of the %d validation "
                    "pictures of this run: figures on them are better than on new ones", source,
                    count, int(tested.sum()))
    return {"seen": count, "validation": int(tested.sum())}


def record(run: Path) -> dict[str, Any] | None:
    """What is recorded of a run's initial weights: ``source``, ``path``, ``sha256``, ``taken`` of
    ``layers``, their ``names``, ``other_shape``, ``missing``, ``unused``, and where that is known
    ``seen`` of the ``validation`` pictures; None: it started from random ones."""
    with suppress(OSError, ValueError):
        known = json_data.dictionary(json_data.read(run / RECORD))
        if isinstance(known.get("source"), str):
            return known
    return None


def summary(run: Path) -> dict[str, Any] | None:
    """``record``, as the summary and the card have it."""
    known = record(run)
    names = ("source", "sha256", "taken", "layers", "seen", "validation")
    return known and {name: known[name] for name in names if name in known}
