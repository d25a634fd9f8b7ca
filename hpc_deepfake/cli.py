"""The ``hpc-deepfake`` command: one program per word, loaded when it is called for."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from typing import NoReturn

from hpc_deepfake import __version__
from hpc_deepfake.core.errors import EXIT_USAGE, InputError
from hpc_deepfake.core.mpi import ended, launched_rank, report
from hpc_deepfake.core.streams import whole_lines

# word: module, whether it runs on several ranks, what it does
COMMANDS = {
    "sample": ("preprocessing.make_sample", True, "draw sample pictures to try everything on"),
    "preprocess": ("preprocessing.__main__", True, "pictures to features in one HDF5 file"),
    "verify": ("hpc_deepfake.data.verify", False, "check a data file's rows"),
    "audit": ("hpc_deepfake.audit", False, "what besides tampering gives labels away?"),
    "train": ("hpc_deepfake.train.__main__", True, "train the network"),
    "evaluate": ("hpc_deepfake.evaluate", False, "figures of a trained model"),
    "predict": ("hpc_deepfake.predict", True, "which of these pictures were tampered with?"),
    "report": ("hpc_deepfake.report", False, "one run as a page for the browser"),
    "compare": ("hpc_deepfake.compare", False, "training methods side by side, same conditions"),
    "scaling": ("hpc_deepfake.scaling", False, "how training scales: studies, predictions"),
    "summary": ("hpc_deepfake.report.summary", False, "finished runs side by side"),
    "doctor": ("hpc_deepfake.doctor", True, "would a job work here, and fast?"),
    "job": ("hpc_deepfake.jobs", False, "submit jobs to SLURM or PBS, and account for them"),
}
_HELP = """usage: hpc-deepfake COMMAND [OPTIONS]

Detect tampered pictures: error level analysis and a CNN, on one machine or a cluster.

{commands}

hpc-deepfake COMMAND --help tells more. On several ranks:
  mpirun -np 8 hpc-deepfake preprocess --data DIR --out casia.h5
  mpirun -np 8 hpc-deepfake train --data casia.h5 --run runs/first
"""


def main() -> NoReturn:
    """Entry point of the console script."""
    whole_lines()
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in ("-h", "--help", "help"):
        lines = (f"  {name:<11} {text}" for name, (_, _, text) in COMMANDS.items())
        _once(_HELP.format(commands="\n".join(lines)))
        sys.exit(0 if len(sys.argv) > 1 else EXIT_USAGE)
    if word == "--version":
        _once(f"hpc-deepfake {__version__}\n")
        sys.exit(0)
    if word not in COMMANDS:
        _once(f"error: no command '{word}'; there are {', '.join(COMMANDS)}\n", error=True)
        sys.exit(EXIT_USAGE)
    module, parallel, _ = COMMANDS[word]
    arguments = sys.argv[2:]
    program = importlib.import_module(module)
    if parallel:
        from hpc_deepfake.core import mpi

        if {"-h", "--help"} & set(arguments):  # without starting MPI
            program.parser().parse(arguments)
        before = getattr(program, "before_mpi", None)
        mpi.run(lambda comm: program.main(comm, arguments), before and partial(before, arguments))
    try:
        code = program.main(arguments)
    except InputError as error:
        if launched_rank() == 0:
            report(f"error: {error}")
        code = EXIT_USAGE
    except KeyboardInterrupt:
        _once("\ninterrupted\n", error=True)
        sys.exit(130)
    except BrokenPipeError:  # ``… | head``
        sys.stderr.close()
        sys.exit(0)
    if launched_rank() == 0:
        ended(code)
    sys.exit(code)


def _once(text: str, *, error: bool = False) -> None:
    """Print on rank 0 only."""
    if launched_rank() == 0:
        (sys.stderr if error else sys.stdout).write(text)


if __name__ == "__main__":
    main()
