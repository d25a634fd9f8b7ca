"""``hpc-deepfake scaling``: studies of how training scales, their report, and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser

_DESCRIPTION = """How training and preprocessing scale over ranks and nodes.

  plan        the runs of a study: how many, how large, how many node hours
  report      speed-up, efficiency, fitted laws and cost of a study's runs
  predict     a model of a step's time, for sizes that were not run
  microbench  latency and bandwidth of MPI and of shared files, on several ranks

jobs/slurm/scaling_study.sh and jobs/pbs/scaling_study.sh plan and submit a study and have the
report written."""
_EXAMPLES = """examples:
  hpc-deepfake scaling plan runs/scaling --nodes 8 --ranks-per-node 4
  hpc-deepfake scaling report runs/scaling
  mpirun -np 4 hpc-deepfake scaling microbench --json mb.json
  hpc-deepfake scaling predict runs/scaling --microbench mb.json --max-ranks 1024

hpc-deepfake scaling WORD --help tells more."""


def parser() -> Parser:
    """The command line without a word."""
    return Parser(prog="hpc-deepfake scaling", usage="hpc-deepfake scaling WORD [OPTIONS]",
                  description=_DESCRIPTION, epilog=_EXAMPLES)


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
    if word in ("-h", "--help"):
        parser().parse([word])
    raise InputError(f"{f'no word {word!r}' if word else 'a word is missing'}: plan, report, "
                     "predict or microbench, like\n  hpc-deepfake scaling report runs/scaling")


def _microbench(words: Sequence[str]) -> int:
    from hpc_deepfake.core import mpi
    from hpc_deepfake.scaling import microbench

    if {"-h", "--help"} & set(words):  # without starting MPI
        microbench.parser().parse(words)
    mpi.run(partial(microbench.main, argv=words))
