"""The command line of ``hpc-deepfake compare``."""

from __future__ import annotations

import argparse
import os
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake import strategies
from hpc_deepfake.compare.plan import base_first, default_methods, slug
from hpc_deepfake.core.child import LAUNCHER, check_launcher
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import (
    MOST_THREADS,
    Parser,
    at_least,
    between,
    default_data,
    seed,
)
from hpc_deepfake.jobs import DIALECTS
from hpc_deepfake.network import registry
from preprocessing import ela

_EXAMPLES = """examples:
  hpc-deepfake compare --data casia2.h5 --ranks 4 --repeats 3 --out runs/methods
  hpc-deepfake compare --data casia2.h5 --methods sequential,sync --features ela,raw --epochs 10
  hpc-deepfake compare --data casia2.h5 --methods sync --networks table,meso4,mine.py:build
  hpc-deepfake compare --data casia2.h5 --ranks 4 --plan
  hpc-deepfake compare --data casia2.h5 --out runs/methods --report-only --target 0.8
  hpc-deepfake compare --data casia2.h5 --ranks 4 --out runs/methods --submit slurm
  hpc-deepfake compare --data casia2.h5 --ranks 4 -- --device cpu --learning-rate 0.0002

Every method trains on ELA, and one of them (sync, if it is among them) every network on every
feature, all with the same data, epochs and seeds. Options after -- are passed to every training
(python -m hpc_deepfake.train --help). If the comparison is interrupted, the same command resumes
it: finished trainings are not repeated.

exit codes: 0 success; 2 wrong usage or input; 75 stopped by a signal, run the same command again
to resume; otherwise the exit code of the training that failed"""
_MODES = ("--plan", "--report-only", "--next", "--submit")


def parser() -> Parser:
    """The command line before ``--``."""
    cli = Parser(prog="hpc-deepfake compare", epilog=_EXAMPLES, description=(
        "Train with several methods, on several features and with several networks under the same\n"
        "conditions, and report time, speed and accuracy side by side."),
        usage="hpc-deepfake compare [OPTIONS] [-- OPTIONS OF TRAIN]")
    cli.add_argument("--data", type=Path, metavar="FILE",
                     help="data file (default: features.h5 in $HPC_DEEPFAKE_DATA or data)")
    cli.add_argument("--out", "--run", type=Path, metavar="DIR",
                     help="folder for the runs and the report (default: runs/JOB_ID in a job, "
                          "else runs/compare-TIME)")

    subject = cli.add_argument_group("what to compare")
    subject.add_argument("--methods", type=_names, default=",".join(default_methods()),
                         metavar="NAME,…",
                         help=f"training strategies: {', '.join(strategies.NAMES)}")
    subject.add_argument("--features", type=ela.feature_list, default="ela,raw", metavar="NAME,…",
                         help="features of the data file; several are stacked by ela+raw")
    subject.add_argument("--networks", type=_networks, default=registry.DEFAULT, metavar="NAME,…",
                         help=f"networks to train: {', '.join(registry.NAMES)}, "
                              f"{registry.OTHERS}; all methods train the first, or "
                              f"{registry.DEFAULT} if it is among them")
    subject.add_argument("--epochs", type=at_least(1), default=30, metavar="N",
                         help="epochs of each training; there is no early stopping")
    subject.add_argument("--repeats", type=at_least(1), default=1, metavar="N",
                         help="trainings of each method and feature, with consecutive seeds")
    subject.add_argument("--seed", type=seed(), default=0, metavar="N",
                         help="seed of the first repeat")
    subject.add_argument("--batch-size", type=at_least(1), default=32, metavar="ROWS",
                         help="rows per rank and step")
    subject.add_argument("--same-batch", action="store_true",
                         help="give sequential and async a batch of batch size × ranks, so that "
                              "each of their updates sees as many rows as one of sync")
    subject.add_argument("--target", type=between(0, 1), metavar="A",
                         help="report the time to this validation accuracy (default: the highest "
                              "whole percentage that all methods reached)")

    resources = cli.add_argument_group("resources")
    resources.add_argument("--ranks", type=at_least(1), default=2, metavar="N",
                           help="ranks that compute; sequential gets the CPU threads of all of "
                                "them")
    resources.add_argument("--threads", type=at_least(1, MOST_THREADS), metavar="T",
                           help="CPU threads per rank (default: the cores of this machine divided "
                                "by the ranks)")
    resources.add_argument("--nodes", type=at_least(1), default=1, metavar="N",
                           help="nodes that the ranks run on; sequential gets the threads of one "
                                "node")
    resources.add_argument("--servers", type=at_least(1), default=1, metavar="S",
                           help="parameter servers of async: additional ranks on the same cores")
    resources.add_argument("--servers-within", action="store_true",
                           help="take the servers from the ranks, so that fewer ranks compute")
    resources.add_argument("--launcher", default=LAUNCHER, metavar="COMMAND",
                           help="command that starts a method with several ranks")

    mode = cli.add_argument_group("instead of training and reporting") \
        .add_mutually_exclusive_group()
    mode.add_argument("--plan", action="store_true",
                      help="print the trainings and their commands; run nothing")
    mode.add_argument("--report-only", action="store_true",
                      help="write the report on the finished trainings; run nothing")
    mode.add_argument("--next", action="store_true",
                      help="for job scripts: print the next training's name, number of ranks and "
                           "arguments of train, one per line; nothing when all are finished")
    mode.add_argument("--submit", choices=sorted(DIALECTS),
                      help="submit a job for each unfinished training")
    return cli


def parse(argv: Sequence[str]) -> Namespace:
    """Options, with the arguments after ``--`` as ``train`` (list of str).

    Raises:
        InputError: a name given twice, or an unusable launcher.
    """
    argv = list(argv)
    end = argv.index("--") if "--" in argv else len(argv)
    options = parser().parse(argv[:end])
    options.train = argv[end + 1:]
    options.data = options.data or default_data() / "features.h5"
    for option in ("methods", "features"):
        names = getattr(options, option)
        if len(set(names)) < len(names):
            raise InputError(f"--{option} {','.join(names)}: a name is given twice; give each once")
    folders = list(map(slug, options.networks))
    for network, folder in zip(options.networks, folders):
        if folders.count(folder) > 1:
            raise InputError(f"--networks: {network} is given twice, or two files have the same "
                             "name: give each once, and files different names")
    options.features = base_first(options.features, "ela")
    options.networks = base_first(options.networks, registry.DEFAULT)
    check_launcher(options.launcher)
    return options


def command_line(argv: Sequence[str], out: Path, *mode: str) -> str:
    """The command that continues the same comparison, in another mode or in none."""
    argv = list(argv)
    end = argv.index("--") if "--" in argv else len(argv)
    words = [word for place, word in enumerate(argv[:end])
             if word.partition("=")[0] not in _MODES and argv[place - 1:place] != ["--submit"]]
    has_out = any(word.partition("=")[0] in ("--out", "--run") for word in words)
    return shlex.join(["hpc-deepfake", "compare", *words,
                       *([] if has_out else ["--out", str(out)]), *mode, *argv[end:]])


def default_out() -> Path:
    """``runs/<job id>`` under a scheduler, ``runs/compare-<time>`` elsewhere."""
    from hpc_deepfake.train.rundir import default_run

    run = default_run()
    in_job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID")
    return run if in_job else run.with_name(f"compare-{run.name}")


def _names(text: str) -> list[str]:
    """Names separated by commas or spaces (``qsub -v`` doesn't accept commas)."""
    names = text.replace(",", " ").split()
    for name in names or [""]:
        if not name or not all(character.isalnum() or character in "-_" for character in name):
            raise argparse.ArgumentTypeError(f"must be names separated by commas, not {text!r}")
    return names


def _networks(text: str) -> list[str]:
    """Networks separated by commas, as of ``registry.checked``."""
    return [registry.checked(name.strip()) for name in text.split(",")]
