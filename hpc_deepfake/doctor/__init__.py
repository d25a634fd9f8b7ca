"""``hpc-deepfake doctor``: the preflight check. Would a job work here, and at full speed?"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.options import MOST_THREADS, Parser, at_least
from hpc_deepfake.core.outputs import check_file
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.core.text import plural

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.doctor.place import Place
    from hpc_deepfake.doctor.report import Report

_EXAMPLES = """examples:
  hpc-deepfake doctor
  mpirun -np 8 hpc-deepfake doctor --for preprocess --dir /scratch/me
  srun --mpi=pmix hpc-deepfake doctor --device gpu --dir $SCRATCH --json doctor.json

Each line has a verdict, the subject and the finding; where something is to be done, it follows.
  ok    fine                      info  for information
  warn  works, but slow or risky  FAIL  a job would fail
Job scripts run this check first (DOCTOR=off skips it).
exit codes: 0 no FAIL; 1 at least one FAIL; 2 wrong options"""
_SILENT = 2.0  # seconds for which a process without output waits for the one that prints


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake doctor", epilog=_EXAMPLES, description=(
        "Preflight check: test the environment, the ranks, the nodes and the file system by using\n"
        "them, on all ranks at once."))
    cli.add_argument("--for", choices=("train", "preprocess"), default="train",
                     help="program to check for; preprocess skips TensorFlow, Horovod and GPUs")
    cli.add_argument("--dir", type=Path, default=Path("."), metavar="DIR",
                     help="folder in which data and runs will be written")
    cli.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto",
                     help="device of the training")
    cli.add_argument("--threads", type=at_least(0, MOST_THREADS), default=0, metavar="N",
                     help="CPU threads per rank, as for train; 0: $OMP_NUM_THREADS, or the node's "
                          "cores divided by its ranks")
    cli.add_argument("--json", type=Path, metavar="FILE",
                     help="also write the findings to this file")
    return cli


def main(comm: Comm, argv: Sequence[str] | None = None) -> int:
    """Run all checks; collective. Returns the exit code, the same on all ranks."""
    options = parser().parse(argv)
    if options.json is not None:
        work_matters()
    options.purpose = vars(options)["for"]  # "for" is a keyword of Python
    mpi.on_root(comm, lambda: check_file("--json", options.json, "JSON"))
    from hpc_deepfake.doctor import launch
    from hpc_deepfake.doctor.deadline import Deadline
    from hpc_deepfake.doctor.place import find, host_name
    from hpc_deepfake.doctor.report import Report

    began = time.perf_counter()
    alone = launch.started(comm.size, os.environ)
    speaks = comm.size > 1 or launch.number(os.environ) == 0
    with Deadline(f"rank {comm.rank} on {host_name()}") as deadline:
        place = find(comm, deadline)
        report = Report(place, speaks)
        report.say(_headline(place, options))
        if alone:
            report.section("ranks", [launch.world(place), alone])
        else:
            _sections(place, report, options)
        code = report.finish(time.perf_counter() - began)
    if options.json is not None and speaks:
        mpi.on_root(comm, lambda: _write(options, place, report))
    if not speaks:  # mpirun ends the others when the first one exits with an error code
        time.sleep(_SILENT)
    return code


def _sections(place: Place, report: Report, options: Namespace) -> None:
    """All checks, section by section; collective."""
    from hpc_deepfake.doctor import (
        clock,
        fabric,
        gpu,
        launch,
        machine,
        memory,
        software,
        stack,
        storage,
        training,
    )
    from hpc_deepfake.doctor.report import attempt
    from hpc_deepfake.network import gpus

    train = options.purpose == "train"
    place.deadline.stage("software")
    records = software.versions(place, options.purpose)
    records += attempt("other settings", software.other_settings)
    if place.comm.rank == 0:
        records += (attempt("Python stack", lambda: stack.judge(
            software.installed(options.purpose))) if stack.of_site() else
            attempt("tested versions", software.pinned))
    report.section("software", records)

    place.deadline.stage("ranks")
    report.section("ranks", [
        launch.world(place), *attempt("MPI threads", launch.thread_level),
        *clock.skew(place),
        *(attempt("scheduler", launch.scheduler, place.comm.size, os.environ)
          if place.comm.rank == 0 else [])])

    place.deadline.stage("nodes")
    network = fabric.find()
    cards = gpus.cards() if train and options.device != "cpu" else []
    report.section("nodes", [
        machine.cores(place, train),
        *attempt("memory", memory.memory, place, options.purpose),
        *attempt("shared memory", machine.shared_memory, place),
        *attempt("limits", machine.limits, place, bool(network.infiniband)),
        *attempt("network", fabric.network, place, network),
        *attempt("GPU memory", gpu.busy, cards, gpu.setting())])

    place.deadline.stage("storage")
    report.section("storage", storage.checks(place, options.dir))
    if train:
        place.deadline.stage("training")
        report.section("training", training.checks(place, options.device, options.threads, cards,
                                                   network))


def _headline(place: Place, options: Namespace) -> str:
    names = [place.hosts[rank] for rank in place.leaders]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return (f"doctor for {options.purpose}: {plural(place.comm.size, 'rank')} on "
            f"{', '.join(names[:4])}{more}")


def _write(options: Namespace, place: Place, report: Report) -> None:
    try:
        write_json(options.json, {"for": options.purpose, "dir": str(options.dir.absolute()),
                                  "hosts": place.hosts, "records": report.as_dicts()})
    except OSError as error:
        raise InputError(f"cannot write {options.json}: {error.strerror}; choose another path "
                         "with --json") from None
