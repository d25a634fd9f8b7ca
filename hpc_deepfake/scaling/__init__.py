"""``hpc-deepfake scaling``: studies of how training scales, their report, and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.streams import work_matters

_DESCRIPTION = """Measure and predict how training and preprocessing scale over ranks and nodes.

subcommands:
  plan        list the runs of a study, their sizes and their maximum node hours
  report      speed-up, efficiency, fitted laws and cost of a study's runs
  predict     predict the speed for numbers of ranks that were not run
  microbench  measure latency and bandwidth of MPI and of shared files, on several ranks
  emulate     measure strategies on more ranks and slower links than this machine has (as root)

jobs/slurm/scaling_study.sh and jobs/pbs/scaling_study.sh plan a study, submit its jobs and write
the report."""
_EXAMPLES = """examples:
  hpc-deepfake scaling plan runs/scaling --nodes 8 --ranks-per-node 4
  hpc-deepfake scaling report runs/scaling
  mpirun -np 4 hpc-deepfake scaling microbench --json mb.json
  hpc-deepfake scaling predict runs/scaling --microbench mb.json --max-ranks 1024
  hpc-deepfake scaling emulate --ranks 2 4 8 --links 1G --out runs/emulation

hpc-deepfake scaling SUBCOMMAND --help describes the options.
exit codes: 0 done; 2 wrong usage or input"""


def parser() -> Parser:
    """The command line without a subcommand."""
    return Parser(prog="hpc-deepfake scaling", config=False,
                  usage="hpc-deepfake scaling SUBCOMMAND [OPTIONS]",
                  description=_DESCRIPTION, epilog=_EXAMPLES)


def main(argv: Sequence[str]) -> int:
    """Run a subcommand.

    Args:
        argv: the subcommand and its arguments.

    Returns:
        The exit code.

    Raises:
        InputError: no such subcommand, or as the subcommand raises.
    """
    work_matters()
    subcommand, *arguments = argv or [""]
    if subcommand == "plan":
        from hpc_deepfake.scaling import planning

        return planning.main(arguments)
    if subcommand == "steps":
        from hpc_deepfake.scaling import planning

        return planning.print_steps(arguments)
    if subcommand == "report":
        from hpc_deepfake.scaling import reporting

        return reporting.main(arguments)
    if subcommand == "predict":
        from hpc_deepfake.scaling import predicting

        return predicting.main(arguments)
    if subcommand == "emulate":
        from hpc_deepfake.scaling import emulation

        return emulation.main(arguments)
    if subcommand == "microbench":
        return _microbench(arguments)
    if subcommand in ("-h", "--help"):
        parser().parse([subcommand])
    problem = f"unknown subcommand '{subcommand}'" if subcommand else "missing subcommand"
    raise InputError(f"{problem}: give plan, report, predict, microbench or emulate, like\n"
                     "  hpc-deepfake scaling report runs/scaling")


def _microbench(arguments: Sequence[str]) -> int:
    from hpc_deepfake.core import mpi
    from hpc_deepfake.scaling import microbench

    if {"-h", "--help"} & set(arguments):  # without starting MPI
        microbench.parser().parse(arguments)
    mpi.run(partial(microbench.main, argv=arguments))
