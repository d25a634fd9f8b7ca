"""The command line of ``hpc-deepfake compare``."""

from __future__ import annotations

import argparse
import os
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake import strategies
from hpc_deepfake.compare.plan import base_first, default_methods
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser, at_least, between, default_data
from hpc_deepfake.jobs import DIALECTS

_EXAMPLES = """examples:
  hpc-deepfake compare --data casia2.h5 --ranks 4 --repeats 3 --out runs/methods
  hpc-deepfake compare --data casia2.h5 --methods sequential,sync --features ela,raw --epochs 10
  hpc-deepfake compare --data casia2.h5 --ranks 4 --plan
  hpc-deepfake compare --data casia2.h5 --out runs/methods --report-only --target 0.8
  hpc-deepfake compare --data casia2.h5 --ranks 4 --out runs/methods --submit slurm
  hpc-deepfake compare --data casia2.h5 --ranks 4 -- --device cpu --learning-rate 0.0002

Every method trains on ELA, and one of them, sync, on every feature: with the same data, epochs
and seeds. What follows -- goes to python -m hpc_deepfake.train, for each training. The same command
goes on where it was stopped; what is finished is not done again.
exit codes: 0 done; 2 wrong usage or input; 75 stopped by a signal, run the same command again;
else that of the training that failed"""
_MODES = ("--plan", "--report-only", "--next", "--submit")


def parser() -> Parser:
    """The command line before ``--``."""
    cli = Parser(prog="hpc-deepfake compare", epilog=_EXAMPLES, description=(
        "Train with several methods and on several features under the same conditions, and report "
        "time, speed and accuracy side by side."),
        usage="hpc-deepfake compare [OPTIONS] [-- OPTIONS OF TRAIN]")
    cli.add_argument("--data", type=Path, metavar="FILE",
                     help="data file (default: features.h5 in $HPC_DEEPFAKE_DATA or data)")
    cli.add_argument("--out", "--run", type=Path, metavar="DIR",
                     help="folder of the runs and of the report (default: runs/JOB_ID under a "
                          "scheduler, or runs/compare-TIME)")

    what = cli.add_argument_group("what is compared")
    what.add_argument("--methods", type=_words, default=",".join(default_methods()),
                      metavar="NAME,…", help=f"strategies of train: {', '.join(strategies.NAMES)}")
    what.add_argument("--features", type=_words, default="ela,raw", metavar="NAME,…",
                      help="features of the data file")
    what.add_argument("--epochs", type=at_least(1), default=30,
                      help="of each training; none stops early")
    what.add_argument("--repeats", type=at_least(1), default=1, metavar="N",
                      help="trainings of each kind, with seeds that count up")
    what.add_argument("--seed", type=at_least(0), default=0, help="of the first repeat")
    what.add_argument("--batch-size", type=at_least(1), default=32,
                      help="rows per rank and step")
    what.add_argument("--same-batch", action="store_true",
                      help="give sequential and async batches of batch size × ranks, so that an "
                           "update of theirs sees as many rows as one of sync")
    what.add_argument("--target", type=between(0, 1), metavar="A",
                      help="validation accuracy to measure the time to (default: the highest whole "
                           "per cent that all methods reached)")

    where = cli.add_argument_group("on what")
    where.add_argument("--ranks", type=at_least(1), default=2, metavar="N",
                       help="ranks that compute; sequential has the threads of all of them")
    where.add_argument("--threads", type=at_least(1), metavar="T",
                       help="CPU threads per rank (default: this machine's cores over the ranks)")
    where.add_argument("--nodes", type=at_least(1), default=1, metavar="N",
                       help="that the ranks are spread over; sequential has the threads of one")
    where.add_argument("--servers", type=at_least(1), default=1, metavar="S",
                       help="more ranks for async, on the same cores, that hold the weights")
    where.add_argument("--servers-within", action="store_true",
                       help="take the servers from the ranks: fewer compute")
    where.add_argument("--launcher", default="mpirun -np {ranks}", metavar="WORDS",
                       help="what starts a method of several ranks")

    mode = cli.add_argument_group("instead of running and reporting").add_mutually_exclusive_group()
    mode.add_argument("--plan", action="store_true", help="print the trainings, run none")
    mode.add_argument("--report-only", action="store_true",
                      help="report what is finished, run nothing")
    mode.add_argument("--next", action="store_true",
                      help="for job scripts: print the next training's name, number of ranks and "
                           "arguments of train, a line each; nothing when all are done")
    mode.add_argument("--submit", choices=sorted(DIALECTS),
                      help="submit a job for each training that isn't finished")
    return cli


def parse(argv: Sequence[str]) -> Namespace:
    """Options, with those after ``--`` as ``train`` (list of words).

    Raises:
        InputError: what can't be.
    """
    argv = list(argv)
    at = argv.index("--") if "--" in argv else len(argv)
    options = parser().parse(argv[:at])
    options.train = argv[at + 1:]
    options.data = options.data or default_data() / "features.h5"
    for name in ("methods", "features"):
        words = getattr(options, name)
        if len(set(words)) < len(words):
            raise InputError(f"--{name}: one comes twice in {','.join(words)}")
    options.features = base_first(options.features)
    if "{ranks}" not in options.launcher or not _is_words(options.launcher):
        raise InputError(f"--launcher {options.launcher}: give words with {{ranks}} in them, like "
                         "\"mpirun -np {ranks}\" or \"srun -n {ranks}\"")
    return options


def again(argv: Sequence[str], out: Path, *mode: str) -> str:
    """The command that goes on with the same comparison, in another mode or in none."""
    argv = list(argv)
    at = argv.index("--") if "--" in argv else len(argv)
    words = [word for place, word in enumerate(argv[:at])
             if word.partition("=")[0] not in _MODES and argv[place - 1:place] != ["--submit"]]
    named = any(word.partition("=")[0] in ("--out", "--run") for word in words)
    return shlex.join(["hpc-deepfake", "compare", *words,
                       *([] if named else ["--out", str(out)]), *mode, *argv[at:]])


def default_out() -> Path:
    """``runs/<job id>`` under a scheduler, ``runs/compare-<time>`` elsewhere."""
    from hpc_deepfake.train.rundir import default_run

    run = default_run()
    in_job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID")
    return run if in_job else run.with_name(f"compare-{run.name}")


def _words(text: str) -> list[str]:
    """Of a list with commas or spaces (``qsub -v`` takes no commas)."""
    words = text.replace(",", " ").split()
    for word in words or [""]:
        if not word or not all(one.isalnum() or one in "-_" for one in word):
            raise argparse.ArgumentTypeError(f"must be names with commas between, not {text!r}")
    return words


def _is_words(text: str) -> bool:
    try:
        return bool(shlex.split(text))
    except ValueError:
        return False
