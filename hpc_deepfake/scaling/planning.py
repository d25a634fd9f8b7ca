"""``hpc-deepfake scaling plan``: the runs of a study, for a person or for the job script."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.core import holder
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import Parser, at_least
from hpc_deepfake.core.text import whole_number
from hpc_deepfake.jobs import DIALECTS, read_time
from hpc_deepfake.scaling import study, submissions

_EXAMPLES = """examples:
  hpc-deepfake scaling plan runs/scaling --nodes 8 --ranks-per-node 4
  hpc-deepfake scaling plan runs/scaling --kinds strong weak --strategies sync local-sgd \\
      --inputs real synthetic --repeats 3 --nodes 8 --data casia2.h5 -- --epochs 3

Options after -- are passed to each program. The sizes are 1, 2, 4, … ranks of one node, then
1, 2, 4, … whole nodes. Nothing is written, except with --lines, which is for the job script."""
_MIN_LIMIT = 600  # seconds of a job
_ROWS = 512  # per rank in weak runs, where the data file has enough


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake scaling plan", epilog=_EXAMPLES, description=(
        "Print the runs of a scaling study: their state and sizes, and the maximum cost of those\n"
        "that are not done."))
    cli.add_argument("study", type=Path, metavar="STUDY", help="folder of the study")
    cli.add_argument("--kinds", nargs="+", choices=study.KINDS, default=["strong", "weak"],
                     help="strong: the same work on more ranks; weak: work proportional to the "
                          "ranks; preprocess: strong, of preprocessing; microbench: MPI and files")
    cli.add_argument("--strategies", nargs="+", metavar="NAME", default=["sync"],
                     help="strategies of train, or a mesh without its data axis, which grows with "
                          "the ranks, like mesh:tensor=2,pipeline=2; the run on one rank is "
                          "sequential, once for all strategies")
    cli.add_argument("--inputs", nargs="+", choices=study.INPUTS, default=["real"],
                     help="real: the data file; synthetic: random pictures in memory")
    cli.add_argument("--repeats", type=at_least(1), default=1, metavar="N",
                     help="repeats of each run")
    cli.add_argument("--nodes", type=at_least(1), default=4, metavar="N",
                     help="maximum number of nodes")
    cli.add_argument("--ranks-per-node", type=at_least(1), metavar="N",
                     help="ranks of a full node (default: those of the training job with "
                          "--scripts, else 1)")
    cli.add_argument("--global-batch", type=at_least(1), default=256, metavar="ROWS",
                     help="strong: rows per step over all ranks")
    cli.add_argument("--batch-size", type=at_least(1), default=32, metavar="ROWS",
                     help="weak, and async: rows per step of each rank")
    cli.add_argument("--rows-per-rank", type=at_least(1), metavar="ROWS",
                     help=f"weak: rows per epoch of each rank (default: {_ROWS}, or as many as the "
                          "data file has for the largest number of ranks)")
    cli.add_argument("--synthetic", type=at_least(1), default=4096, metavar="ROWS",
                     help="strong, synthetic input: rows per epoch")
    cli.add_argument("--data", type=Path, metavar="FILE",
                     help="data file, to check how many rows it has")
    cli.add_argument("--train-config", type=Path, metavar="FILE",
                     help="TOML file with options of the trainings, which the sizes depend on")
    cli.add_argument("--job", default="train_multinode", metavar="NAME",
                     help="job script of the trainings")
    cli.add_argument("--limit", default="0:30:00", metavar="TIME", help="time limit of each job")
    cli.add_argument("--one-job", action="store_true",
                     help="one job runs all, as steps of growing size; --limit is its limit")
    script = cli.add_argument_group("for jobs/*/scaling_study.sh")
    script.add_argument("--scripts", type=Path, metavar="DIR",
                        help="folder of the job scripts: jobs/slurm or jobs/pbs")
    script.add_argument("--lines", action="store_true",
                        help="write STUDY/study.json, and print a line of shell words for each job "
                             "to be submitted")
    script.add_argument("--holder", type=at_least(1), metavar="PID",
                        help="process that submits the jobs: until it ends, or removes "
                             f"STUDY/{holder.NAME}, nobody else submits this study")
    script.add_argument("--device", default="", choices=("cpu", "gpu", "auto"),
                        help="device of the trainings (default: that of their job script)")
    script.add_argument("--doctor", default="on", metavar="on|off",
                        help="off: jobs skip their preflight check")
    script.add_argument("--pictures", metavar="DIR",
                        help="folder of pictures for preprocessing")
    script.add_argument("--train-options", metavar="TEXT",
                        help="options of sbatch or qsub for training jobs")
    script.add_argument("--options-from", action="append", type=_options_from, default=[],
                        metavar="N:TEXT",
                        help="further options for training jobs of N nodes or more, until a "
                             "larger N that is given; may be given several times")
    script.add_argument("--preprocess-options", metavar="TEXT",
                        help="options of sbatch or qsub for preprocessing jobs")
    return cli


@holder.releases
def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments, without the program's name; those of the study's programs after
            ``--``.

    Returns:
        The exit code.

    Raises:
        InputError: impossible options, or a folder that can't be written or is held by another
            process.
    """
    end = list(argv).index("--") if "--" in argv else len(argv)
    options = parser().parse(argv[:end])
    limit = read_time(options.limit)
    if limit < _MIN_LIMIT:
        raise InputError(f"--limit {options.limit} (LIMIT): jobs are stopped five minutes before "
                         "their limit, so they would hardly start; give 0:10:00 or more")
    jobs = _jobs(options)
    if options.ranks_per_node is None:
        options.ranks_per_node = jobs.ranks_per_node(options.job) if jobs else 1
    plan = study.plan(
        kinds=options.kinds, strategies=options.strategies, inputs=options.inputs,
        repeats=options.repeats, ranks_per_node=options.ranks_per_node, nodes=options.nodes,
        global_batch=options.global_batch, batch_size=options.batch_size,
        rows_per_rank=_rows_per_rank(options), synthetic=options.synthetic, job=options.job,
        limit=limit, arguments=argv[end + 1:], config=options.train_config)
    if options.lines and jobs:
        study.create(options.study)
        holder.hold(options.study, "the submission of a study", "RUN", options.holder)
        study.write(options.study, plan)
        log.info("cost: %s", submissions.cost(options.study, plan, jobs))
        for line in submissions.lines(options.study, plan, jobs):
            print(line)
    else:
        print(study.table(options.study, plan, one_job=options.one_job))
        if jobs:
            print(f"cost of what is to be done, and of the report: "
                  f"{submissions.cost(options.study, plan, jobs)}")
    return 0


def print_steps(argv: Sequence[str]) -> int:
    """``scaling steps``: the runs of a study that aren't done, for the job that runs all of them.

    Args:
        argv: its arguments.

    Returns:
        The exit code.

    Raises:
        InputError: no study.
    """
    cli = Parser(prog="hpc-deepfake scaling steps", config=False, description=(
        "For job scripts: print the runs that are not done, a line of shell words for each: name,\n"
        "nodes, ranks, kind and arguments."))
    cli.add_argument("study", type=Path, metavar="STUDY", help="folder of the study")
    options = cli.parse(argv)
    for line in submissions.steps(options.study, study.read(options.study)):
        print(line)
    return 0


def _options_from(text: str) -> tuple[int, str]:
    number, colon, words = text.partition(":")
    nodes = whole_number(number)
    if not nodes or not colon:
        raise argparse.ArgumentTypeError(
            f"give a number of nodes and options, like 8:--partition=large (TRAIN_OPTIONS_8), not "
            f"{text!r}")
    return nodes, words


def _jobs(options: Namespace) -> submissions.Jobs | None:
    """What the jobs have in common; None without a folder of job scripts."""
    if options.scripts is None:
        if options.lines:
            raise InputError("--lines prints jobs to be submitted: name the folder of their "
                             "scripts, like --scripts jobs/slurm")
        return None
    if options.scripts.name not in DIALECTS:
        raise InputError(f"--scripts {options.scripts}: name a folder of job scripts, jobs/slurm "
                         "or jobs/pbs")
    for path, kind, name, used in (
            (options.data, "data file", "--data (DATA)", "real" in options.inputs),
            (options.pictures, "folder of pictures", "--pictures (PICTURES)",
             "preprocess" in options.kinds)):
        if path and used and not Path(path).exists():
            raise InputError(f"{name}: there is no {kind} {path}; name another one, or make it "
                             "before the study")
    return submissions.Jobs(
        options.scripts, str(options.data or ""), str(options.train_config or ""),
        options.kinds == ["preprocess"], options.device, options.doctor, options.pictures or "",
        options.train_options or "", options.preprocess_options or "", dict(options.options_from),
        options.job if options.one_job else "")


def _rows_per_rank(options: Namespace) -> int:
    """``--rows-per-rank``, if the data file has enough for the largest number of ranks; by default
    as many as it has.

    Raises:
        InputError: the data file has too few rows.
    """
    rows: int
    if options.data is None or "weak" not in options.kinds or "real" not in options.inputs:
        rows = options.rows_per_rank or _ROWS
        return rows
    import numpy as np

    from preprocessing.split import PARTS
    from preprocessing.store import DONE, open_header

    header = open_header(options.data)
    usable = (header.array("status") == DONE) & (header.array("split") == PARTS.index("train"))
    available, ranks = int(np.count_nonzero(usable)), options.nodes * options.ranks_per_node
    rows = options.rows_per_rank or min(_ROWS, available // ranks)
    if not rows or rows * ranks > available:
        raise InputError(f"weak runs on {ranks} ranks need {max(rows, 1) * ranks:,} training "
                         f"rows, and {options.data} has {available:,}: choose fewer "
                         "--rows-per-rank (ROWS_PER_RANK), fewer nodes, or synthetic input")
    return rows
