"""``hpc-deepfake scaling plan``: the runs of a study, for a person or for the job script."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser, at_least
from hpc_deepfake.jobs import DIALECTS, read_time
from hpc_deepfake.scaling import study, submissions

_EXAMPLES = """examples:
  hpc-deepfake scaling plan runs/scaling --nodes 8 --ranks-per-node 4
  hpc-deepfake scaling plan runs/scaling --kinds strong weak --strategies sync local-sgd \\
      --inputs real synthetic --repeats 3 --nodes 8 --data casia2.h5 -- --epochs 3

What stands behind -- goes to each program. The sizes are 1, 2, 4 and so on ranks of one node, then
1, 2, 4 and so on whole nodes. Nothing is written without --lines, which the job script uses."""
_LEAST = 600  # seconds of a job's limit
_ROWS = 512  # of a rank in weak runs, where the data file has as many


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake scaling plan", epilog=_EXAMPLES, description=(
        "Print the runs of a scaling study: which are done already, and what the others cost at "
        "most."))
    cli.add_argument("study", type=Path, metavar="STUDY", help="folder of the study")
    cli.add_argument("--kinds", nargs="+", choices=study.KINDS, default=["strong", "weak"],
                     help="strong: the same work on more ranks; weak: as much more work as ranks; "
                          "preprocess: strong, of preprocessing; microbench: of MPI and files")
    cli.add_argument("--strategies", nargs="+", metavar="NAME", default=["sync"],
                     help="of train, and mesh:tensor=2,pipeline=2 and the like, whose data axis "
                          "grows with the ranks; on one rank it is sequential, once for all")
    cli.add_argument("--inputs", nargs="+", choices=study.INPUTS, default=["real"],
                     help="the data file, or random pictures in memory")
    cli.add_argument("--repeats", type=at_least(1), default=1, help="of each run")
    cli.add_argument("--nodes", type=at_least(1), default=4, help="at most")
    cli.add_argument("--ranks-per-node", type=at_least(1), metavar="N",
                     help="ranks of a full node (default: those of the training job with "
                          "--scripts, else 1)")
    cli.add_argument("--global-batch", type=at_least(1), default=256, metavar="ROWS",
                     help="strong: rows of a step over all ranks")
    cli.add_argument("--batch-size", type=at_least(1), default=32, metavar="ROWS",
                     help="weak, and async: rows of a step of each rank")
    cli.add_argument("--rows-per-rank", type=at_least(1), metavar="ROWS",
                     help=f"weak: rows of an epoch of each rank (default: {_ROWS}, or what the "
                          "data file has for the most ranks)")
    cli.add_argument("--synthetic", type=at_least(1), default=4096, metavar="ROWS",
                     help="strong, synthetic input: rows of an epoch")
    cli.add_argument("--data", type=Path, metavar="FILE", help="data file, to see what it has")
    cli.add_argument("--train-config", type=Path, metavar="FILE",
                     help="TOML file that the trainings will get, to see what it asks for")
    cli.add_argument("--job", default="train_multinode", help="job script of the trainings")
    cli.add_argument("--limit", default="0:30:00", metavar="TIME", help="time limit of each job")
    script = cli.add_argument_group("for jobs/*/scaling_study.sh")
    script.add_argument("--scripts", type=Path, metavar="DIR",
                        help="folder of the job scripts: jobs/slurm or jobs/pbs")
    script.add_argument("--lines", action="store_true",
                        help="write STUDY/study.json, and print a line of shell words for each job "
                             "to be submitted")
    script.add_argument("--device", default="cpu", metavar="cpu|gpu|auto",
                        help="device of the jobs")
    script.add_argument("--doctor", default="on", metavar="on|off",
                        help="off: jobs skip their preflight check")
    script.add_argument("--pictures", default="", metavar="DIR",
                        help="folder of pictures for preprocessing")
    script.add_argument("--train-options", default="", metavar="TEXT",
                        help="options of sbatch or qsub for training jobs")
    script.add_argument("--preprocess-options", default="", metavar="TEXT",
                        help="options of sbatch or qsub for preprocessing jobs")
    return cli


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    at = list(argv).index("--") if "--" in argv else len(argv)
    options = parser().parse(argv[:at])
    limit = read_time(options.limit)
    if limit < _LEAST:
        raise InputError(f"--limit {options.limit} (LIMIT): a job is told to stop five minutes "
                         "before its limit, so it would hardly begin; give 0:10:00 or more")
    jobs = _jobs(options)
    if options.ranks_per_node is None:
        options.ranks_per_node = jobs.ranks_per_node(options.job) if jobs else 1
    made = study.plan(
        kinds=options.kinds, strategies=options.strategies, inputs=options.inputs,
        repeats=options.repeats, ranks_per_node=options.ranks_per_node, nodes=options.nodes,
        global_batch=options.global_batch, batch_size=options.batch_size,
        rows_per_rank=_rows_per_rank(options), synthetic=options.synthetic, job=options.job,
        limit=limit, arguments=argv[at + 1:], config=options.train_config)
    if options.lines and jobs:
        study.write(options.study, made)
        for line in submissions.lines(options.study, made, jobs):
            print(line)
    else:
        print(study.table(options.study, made))
    return 0


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
    return submissions.Jobs(
        options.scripts, str(options.data or ""), str(options.train_config or ""),
        options.kinds == ["preprocess"], options.device, options.doctor, options.pictures,
        options.train_options, options.preprocess_options)


def _rows_per_rank(options) -> int:
    """What was asked for, if the data file has it for the most ranks; else what it has."""
    if options.data is None or "weak" not in options.kinds or "real" not in options.inputs:
        return options.rows_per_rank or _ROWS
    import numpy as np

    from preprocessing.split import PARTS
    from preprocessing.store import DONE, open_header

    header = open_header(options.data)
    usable = (header.array("status") == DONE) & (header.array("split") == PARTS.index("train"))
    have, ranks = int(np.count_nonzero(usable)), options.nodes * options.ranks_per_node
    wanted = options.rows_per_rank or min(_ROWS, have // ranks)
    if not wanted or wanted * ranks > have:
        raise InputError(f"weak runs on {ranks} ranks need {max(wanted, 1) * ranks:,} training "
                         f"rows, and {options.data} has {have:,}: take fewer --rows-per-rank "
                         "(ROWS_PER_RANK), fewer nodes, or synthetic input")
    return wanted
