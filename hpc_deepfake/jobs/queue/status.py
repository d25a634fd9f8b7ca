"""``hpc-deepfake job status``: what the jobs of a run, a study or a user are doing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.outputs import check_file
from hpc_deepfake.jobs.queue import progress, table
from hpc_deepfake.jobs.queue.lookup import Selection, look

_EXAMPLES = """examples:
  hpc-deepfake job status
  hpc-deepfake job status runs/first
  hpc-deepfake job status runs/scaling-2026-11-25T10-00-00 --json status.json
  hpc-deepfake job status 1234

exit codes: 0 no job has failed; 1 a job has failed, and no later one resumes its work; 2 wrong
usage, or there are no such jobs"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake job status", config=False, epilog=_EXAMPLES, description=(
        "Show the jobs of a run, a study, a pipeline or a sweep, of a job and its chain of\n"
        "successors, or all of yours that are in the queue: state, why they wait and until when,\n"
        "how far they are, their last error. From the records in RUN/jobs/, and from squeue and\n"
        "sacct or qstat, whichever exist; for one that hangs it waits once, 20 seconds."))
    cli.add_argument("subject", nargs="?", metavar="RUN|JOBID",
                     help="run directory, folder of runs, data file or job id (default: all jobs "
                          "of yours)")
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the facts to this file")
    return cli


def main(argv: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    options = parser().parse(argv)
    check_file("--json", options.json, "JSON")
    selection = look(options.subject)
    for job in selection.jobs:
        progress.add(job)
    for note in selection.notes:
        log.warning("note: %s", note)
    print(table.text(selection, table.width()))
    if options.json is not None:
        _write(options.json, selection)
    return 1 if selection.bad else 0


def _write(path: Path, selection: Selection) -> None:
    chains = [[job.id for job in chain] for chain in table.chains(selection.jobs)]
    try:
        write_json(path, {"jobs": [job.as_dict() for job in selection.jobs], "chains": chains,
                          "notes": selection.notes})
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another path with "
                         "--json") from None
