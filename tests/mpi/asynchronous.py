"""Program of test_asynchronous: the same short trainings by several strategies.

    mpirun -np N python tests/mpi/asynchronous.py DATA FOLDER WORD…

Each WORD is a case of ``CASES`` or ``EQUAL`` below, trained into FOLDER/WORD in one process, since
starting TensorFlow takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import Diverged
from hpc_deepfake.train import __main__ as train

if TYPE_CHECKING:  # imported only when before_mpi was called
    from mpi4py.MPI import Comm

SGD = ("--precision", "float64", "--optimizer", "sgd", "--learning-rate", "0.01",
       "--warmup-steps", "4")
CASES = {
    "sgd": SGD,
    "adam": (),
    "accumulate": (*SGD, "--accumulate", "2", "--clip-norm", "2"),
    "fp16": ("--compression", "fp16"),
    "rate": (*SGD, "--staleness-rate"),
    "network": (*SGD, "--network",
                f"{Path(__file__).resolve().parents[1] / 'small_networks.py'}:branched"),
    "averaged": (*SGD[:2], "--optimizer", "adamw", "--weight-decay", "0.5", "--ema", "0.8",
                 "--rate-schedule", "cosine", "--label-smoothing", "0.1", "--class-weight",
                 "balanced"),
    # mistakes, which the comparison must find
    "stale": (*SGD, "--max-staleness", "1"),
    "statistics": SGD,
    "pieces": SGD,
    # ages of gradients
    "bounded": ("--max-staleness", "2", "--slow-rank", "1", "--slow-factor", "20"),
    "free": ("--slow-rank", "1", "--slow-factor", "20"),
    "local": (*SGD, "--sync-every", "1"),
    "diverging": ("--optimizer", "sgd", "--learning-rate", "10"),
}
UNBOUNDED = ("free",)


@contextmanager
def mistake(word: str) -> Iterator[None]:
    """Training within has a mistake, for some words."""
    from hpc_deepfake.strategies.asynchronous import server, wire

    right = wire.Wire.piece
    mistakes = {
        "statistics": (server, "update_moving", lambda *_: None),
        # the second server's begins one number too early
        "pieces": (wire.Wire, "piece", lambda self, place: slice(
            right(self, place).start - place, right(self, place).stop - place))}
    if word not in mistakes:
        yield
        return
    with mock.patch.object(*mistakes[word]):
        yield


def program(comm: Comm) -> int:
    data, folder, strategy, servers, *words = sys.argv[1:]
    for word in words:
        bound = () if word in UNBOUNDED else ("--max-staleness", "0")
        run = Path(folder) / word
        try:
            with mistake(word):
                code = train.main(comm, [
                    "--data", data, "--run", str(run), "--epochs", "2", "--batch-size", "3",
                    "--device", "cpu", "--threads", "1", "--no-report", "--patience", "0",
                    "--strategy", strategy, "--servers", servers, *bound, *CASES[word],
                    *["--sync-every", "2"] * (word == "diverging" and strategy == "local-sgd")])
        except Diverged as error:  # all ranks must raise it
            (run / f"diverged-{comm.rank}").write_text(str(error))
            code = 0
        if code:
            return code
    return 0


mpi.run(program, lambda: train.before_mpi(["--strategy", sys.argv[3]]))
