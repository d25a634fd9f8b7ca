"""The command line of ``hpc-deepfake crosseval``."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.compare import slug
from hpc_deepfake.core.child import LAUNCHER, check_launcher
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import MOST_THREADS, Parser, at_least, seed
from hpc_deepfake.crosseval.datasets import named
from hpc_deepfake.evaluate import rules
from hpc_deepfake.network import registry
from hpc_deepfake.train.rundir import default_run
from preprocessing import ela

_EXAMPLES = """examples:
  hpc-deepfake crosseval --train casia1.h5 casia2.h5 --test columbia.h5 coverage.h5 --out runs/cross
  hpc-deepfake crosseval --train casia2.h5 --test casia1=/scratch/c1.h5 --networks table,meso4
  hpc-deepfake crosseval --models runs/first runs/second --test columbia.h5 --out runs/cross
  hpc-deepfake crosseval --train a.h5 b.h5 --networks unet --features ela+raw --device gpu
  hpc-deepfake crosseval --train a.h5 b.h5 --out runs/cross --report-only --threshold fpr=0.05

A network is trained on each file of --train, or taken as it is (--models), and evaluated on all
files: of one that models are trained on its test part, else its validation part; of any other its
test part, else all pictures. Pictures that the training knows are taken out, and thresholds are
chosen on the validation part of the training's own file. Options after -- are passed to every
training (python -m hpc_deepfake.train --help). The same command resumes what was interrupted; with
more files it computes only what is missing.

exit codes: 0 success; 2 wrong usage or input; 75 stopped by a signal, run the same command again
to resume; otherwise the exit code of the program that failed"""
_MODES = ("--plan", "--report-only", "--next")
PARTS = ("test", "validation", "train", "all")


def parser() -> Parser:
    """The command line before ``--``."""
    cli = Parser(prog="hpc-deepfake crosseval", epilog=_EXAMPLES, description=(
        "Train on some data sets, test on others: a matrix of accuracy figures, without the\n"
        "pictures that both have, at thresholds that are chosen where the training was."),
        usage="hpc-deepfake crosseval [OPTIONS] [-- OPTIONS OF TRAIN]")
    subject = cli.add_argument_group("data sets and models")
    subject.add_argument("--train", type=named, nargs="+", metavar="[NAME=]FILE",
                         help="data files to train on, one network on each; NAME: for the report "
                              "(default: the file's)")
    subject.add_argument("--test", type=named, nargs="+", metavar="[NAME=]FILE",
                         help="further data files to evaluate on")
    subject.add_argument("--models", type=named, nargs="+", metavar="[NAME=]RUN",
                         help="finished runs to evaluate, instead of training or beside it")
    subject.add_argument("--networks", type=_networks, default=registry.DEFAULT, metavar="NAME,…",
                         help=f"networks to train: {', '.join(registry.NAMES)}, {registry.OTHERS}")
    subject.add_argument("--features", type=ela.feature_list, default="ela", metavar="NAME,…",
                         help="features to train each network on; ela+raw stacks two, which "
                              f"{registry.DEFAULT} is left out of")
    subject.add_argument("--part", choices=PARTS,
                         help="part of those files that nothing is trained on (default: the test "
                              "part if there is one, else all)")
    subject.add_argument("--shared", choices=("out", "in"), default="out",
                         help="what happens to test pictures that the training knows: they are "
                              "taken out, or stay in")
    subject.add_argument("--threshold", type=rules, default="auto", metavar="RULE[,RULE]",
                         help="how each model's threshold is chosen on its own validation part: "
                              "auto (best balanced accuracy), fpr=RATE, fnr=RATE, or a number")
    cli.add_argument("--out", "--run", type=Path, metavar="DIR",
                     help="folder for the runs and the report (default: runs/JOB_ID in a job, else "
                          "runs/crosseval-TIME)")

    training = cli.add_argument_group("training")
    training.add_argument("--epochs", type=at_least(1), default=30, metavar="N",
                          help="maximum number of epochs of each training")
    training.add_argument("--repeats", type=at_least(1), default=1, metavar="N",
                          help="trainings of each kind, with consecutive seeds")
    training.add_argument("--seed", type=seed(), default=0, metavar="N",
                          help="seed of the first repeat")

    resources = cli.add_argument_group("resources")
    resources.add_argument("--ranks", type=at_least(1), default=2, metavar="N",
                           help="ranks of each training and evaluation")
    resources.add_argument("--threads", type=at_least(1, MOST_THREADS), metavar="T",
                           help="CPU threads per rank (default: the cores of this machine divided "
                                "by the ranks)")
    resources.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                           help="device of the networks; auto takes a GPU if there is one")
    resources.add_argument("--launcher", default=LAUNCHER, metavar="COMMAND",
                           help="command that starts several ranks")

    mode = cli.add_argument_group("instead of computing and reporting") \
        .add_mutually_exclusive_group()
    mode.add_argument("--plan", action="store_true",
                      help="print the trainings and evaluations and their commands; run nothing")
    mode.add_argument("--report-only", action="store_true",
                      help="write the report on what is finished; run nothing")
    mode.add_argument("--next", action="store_true",
                      help="for job scripts: print the next program's name, number of ranks and "
                           "words for Python, one per line; nothing when all are finished")
    return cli


def parse(argv: Sequence[str]) -> Namespace:
    """Options, with the arguments after ``--`` as ``words`` (list of str).

    Raises:
        InputError: nothing to train or to evaluate, a name given twice, an unusable launcher.
    """
    argv = list(argv)
    end = argv.index("--") if "--" in argv else len(argv)
    options = parser().parse(argv[:end])
    options.words = argv[end + 1:]
    for option in ("train", "test", "models"):
        setattr(options, option, getattr(options, option) or [])
    if not options.train and not options.models:
        raise InputError("name data files to train on, --train FILE …, or finished runs, "
                         "--models RUN …")
    for option, names in (("--networks", [*map(slug, options.networks)]),
                          ("--features", options.features),
                          ("--models", [slug(each.name) for each in options.models])):
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"{option}: {twice[0]} is given twice"
                             + (", or two runs have the same name: give names, like "
                                "--models first=RUN" if option == "--models" else ""))
    if options.words and not options.train:
        raise InputError("options after -- are for trainings, and there is no --train")
    check_launcher(options.launcher)
    return options


def command_line(argv: Sequence[str], out: Path, *mode: str) -> str:
    """The command that continues the same matrix, in another mode or in none."""
    argv = list(argv)
    end = argv.index("--") if "--" in argv else len(argv)
    words = [word for word in argv[:end] if word not in _MODES]
    has_out = any(word.partition("=")[0] in ("--out", "--run") for word in words)
    return shlex.join(["hpc-deepfake", "crosseval", *words,
                       *([] if has_out else ["--out", str(out)]), *mode, *argv[end:]])


def default_out() -> Path:
    """``runs/<job id>`` under a scheduler, ``runs/crosseval-<time>`` elsewhere."""
    run = default_run()
    in_job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID")
    return run if in_job else run.with_name(f"crosseval-{run.name}")


def _networks(text: str) -> list[str]:
    """Networks separated by commas, as of ``registry.checked``; names alone also by spaces."""
    names = text.split()
    if set(names) <= set(registry.NAMES):
        return names
    return [registry.checked(name.strip()) for name in text.split(",")]

