"""The ``hpc-deepfake`` command: one program per subcommand, loaded only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from functools import partial
from typing import NoReturn

from hpc_deepfake import __version__
from hpc_deepfake.core.errors import EXIT_USAGE, InputError, disk_errors
from hpc_deepfake.core.launcher import by_slurm, launched
from hpc_deepfake.core.log import start as start_log
from hpc_deepfake.core.mpi import Usage, ended, launched_rank, leave_after_rank_0
from hpc_deepfake.core.streams import EXIT_UNREAD, whole_lines
from hpc_deepfake.core.surroundings import settle

IF_LAUNCHED = 2  # on several ranks where a launcher started them; alone it needs no MPI
# subcommand: module, whether it runs on several ranks, summary for --help
COMMANDS = {
    "sample": ("preprocessing.make_sample", True, "generate sample pictures for trying everything"),
    "preprocess": ("preprocessing.__main__", True, "compute features into one HDF5 data file"),
    "verify": ("hpc_deepfake.data.verify", False, "check the rows of a data file"),
    "audit": ("hpc_deepfake.audit", False, "find what gives labels away besides tampering"),
    "networks": ("hpc_deepfake.networks", False, "list networks to train, and what they cost"),
    "train": ("hpc_deepfake.train.__main__", True, "train a network on a data file"),
    "evaluate": ("hpc_deepfake.evaluate", IF_LAUNCHED, "compute accuracy, AUC and more of a model"),
    "predict": ("hpc_deepfake.predict", IF_LAUNCHED, "tell which pictures or videos are tampered"),
    "export": ("hpc_deepfake.export", False, "write a model for TensorFlow, TFLite or ONNX"),
    "inspect": ("hpc_deepfake.inspect", False, "write a page about a picture: traces of editing"),
    "report": ("hpc_deepfake.report", False, "write the page of one run, for a web browser"),
    "compare": ("hpc_deepfake.compare", False, "compare training methods under equal conditions"),
    "crosseval": ("hpc_deepfake.crosseval", IF_LAUNCHED, "train on some data sets, test on others"),
    "sweep": ("hpc_deepfake.sweep", False, "train with many combinations of options, rank them"),
    "scaling": ("hpc_deepfake.scaling", False, "measure, report and predict how training scales"),
    "summary": ("hpc_deepfake.report.summary", False, "list finished runs side by side"),
    "doctor": ("hpc_deepfake.doctor", True, "check whether jobs will work here, and how fast"),
    "job": ("hpc_deepfake.jobs", False, "submit jobs to SLURM or PBS, and report what they used"),
}
_HELP = """usage: hpc-deepfake COMMAND [OPTIONS]

Detect tampered pictures with error level analysis and a CNN, on one machine or a cluster.

commands:
{commands}

examples:
  hpc-deepfake sample --out data/sample --count 1000
  mpirun -np 8 hpc-deepfake preprocess --data data/sample --out sample.h5
  mpirun -np 8 hpc-deepfake train --data sample.h5 --run runs/first
  hpc-deepfake evaluate --model runs/first --data sample.h5

hpc-deepfake COMMAND --help explains the options of a command.

environment variables:
  HPC_DEEPFAKE_DATA  default folder of pictures (default: data)
  HPC_DEEPFAKE_LOG   messages on standard error: debug, info (default), warning or error
"""


def main() -> NoReturn:
    """Entry point of the console script."""
    settle()
    whole_lines()
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help", "help"):
        lines = (f"  {name:<11} {text}" for name, (_, _, text) in COMMANDS.items())
        _once(_HELP.format(commands="\n".join(lines)))
        sys.exit(0 if len(sys.argv) > 1 else EXIT_USAGE)
    if command == "--version":
        _once(f"hpc-deepfake {__version__}\n")
        sys.exit(0)
    if command not in COMMANDS:
        wrong = Usage(f"error: there is no command '{command}'; give one of {', '.join(COMMANDS)}")
        if launched_rank() == 0:
            wrong.tell()
        leave_after_rank_0(wrong)
    module, parallel, _ = COMMANDS[command]
    arguments = sys.argv[2:]
    program = importlib.import_module(module)
    either = parallel == IF_LAUNCHED
    if (launched(os.environ) or by_slurm(os.environ)) if either else parallel:
        from hpc_deepfake.core import mpi

        if {"-h", "--help"} & set(arguments):  # without starting MPI
            program.parser().parse(arguments)
        before = getattr(program, "before_mpi", None)
        mpi.run(lambda comm: program.main(arguments, comm) if either
                else program.main(comm, arguments), before and partial(before, arguments))
    leave: Usage | None = None
    try:
        start_log(launched_rank())
        with disk_errors():
            code = program.main(arguments)
        sys.stdout.flush()
    except InputError as error:
        leave = Usage(f"error: {error}")
        code = EXIT_USAGE
    except KeyboardInterrupt:
        _once("\ninterrupted\n", error=True)
        sys.exit(130)
    except BrokenPipeError:  # of a stream that isn't ours; the rest must not fail at Python's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EXIT_UNREAD)
    if launched_rank() == 0:
        if leave is not None:
            leave.tell()
        ended(code)
    elif code:
        leave_after_rank_0(leave or code)
    sys.exit(code)


def _once(text: str, *, error: bool = False) -> None:
    """Print on rank 0 only."""
    if launched_rank() == 0:
        (sys.stderr if error else sys.stdout).write(text)


if __name__ == "__main__":
    main()
