"""``hpc-deepfake scaling``: studies of how training scales, their report, and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from preprocessing.cli import Parser

_WORDS = """words:
  plan        the runs of a study: how many, how large, how many node hours
  report      speed-up, efficiency, fitted laws and cost of a study's runs
  predict     a model of a step's time, for sizes that were not run
  microbench  latency and bandwidth of MPI and of shared files, on several ranks

examples:
  hpc-deepfake scaling plan runs/scaling --data casia2.h5 --nodes 8
  hpc-deepfake scaling report runs/scaling
  hpc-deepfake scaling predict runs/scaling
  mpirun -np 4 hpc-deepfake scaling microbench

jobs/slurm/scaling_study.sh and jobs/pbs/scaling_study.sh plan and submit a study and have the
report written. hpc-deepfake scaling WORD --help tells more."""


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    word, *words = argv or [""]
    if word == "plan":
        from hpc_deepfake.scaling import planning

        return planning.main(words)
    if word == "report":
        from hpc_deepfake.scaling import reporting

        return reporting.main(words)
    if word == "predict":
        from hpc_deepfake.scaling import predicting

        return predicting.main(words)
    if word == "microbench":
        return _microbench(words)
    cli = Parser(prog="hpc-deepfake scaling", usage="hpc-deepfake scaling WORD ...", epilog=_WORDS,
                 description="How training and preprocessing scale over ranks and nodes.")
    cli.add_argument("word", choices=("plan", "report", "predict", "microbench"), help="see below")
    cli.parse(argv)
    cli.error("the word comes first, then its options")


def _microbench(words: Sequence[str]) -> int:
    from hpc_deepfake.scaling import microbench
    from preprocessing import mpi

    if {"-h", "--help"} & set(words):  # without starting MPI
        microbench.parser().parse(words)
    mpi.run(partial(microbench.main, argv=words))
