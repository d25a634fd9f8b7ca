"""``hpc-deepfake job report``: what jobs and runs asked for, and what they used of it.

The figures come from ``sacct`` or ``qstat -xf``, whichever is there and knows the job, and, of a
run, from the files that it wrote itself. As ``seff`` does:

- CPU efficiency = CPU time / (elapsed × allocated CPUs)
- memory efficiency = largest MaxRSS × tasks of any step / memory of the job; of PBS, which knows
  no steps, resources_used.mem / Resource_List.mem
- GPU hours = allocated GPUs × elapsed
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser
from hpc_deepfake.jobs.accounting import measured, records, table
from hpc_deepfake.jobs.accounting.pbs import ask_qstat
from hpc_deepfake.jobs.accounting.slurm import ask_sacct
from hpc_deepfake.jobs.accounting.usage import Report


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    cli = Parser(prog="hpc-deepfake job report", description=(
        "Elapsed and waiting time, CPU and memory efficiency and GPU hours of a job, or of all "
        "jobs of a run, with their steps: from sacct or qstat -xf, and from what the run "
        "measured itself."), epilog=(
        "examples:\n  hpc-deepfake job report runs/first\n  hpc-deepfake job report 1234\n"
        "  hpc-deepfake job report casia2.h5 --json preprocessing-jobs.json"))
    cli.add_argument("subject", metavar="RUN|JOBID",
                     help="run directory, data file, or a job's id")
    cli.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = cli.parse(argv)
    report = account(options.subject)
    print(table.text(report))
    if options.json is not None:
        try:
            options.json.write_text(json.dumps(report.as_dict(), indent=2) + "\n", "utf-8")
        except OSError as error:
            raise InputError(f"cannot write {options.json}: {error.strerror}") from None
    return 0


def account(subject: str) -> Report:
    """The report on a run directory, a data file or a job.

    Raises:
        InputError: nothing is known of it; the message says where it was looked for.
    """
    run = Path(subject)
    if run.exists():
        report = _of_jobs(subject, records.job_ids(run))
        report.measured, report.outcome = measured.find(run), records.outcome(run)
        if not report.jobs and not report.measured:
            raise InputError(f"{subject} holds no records of a job (jobs/*.env) and no figures of "
                             f"a run (metrics.jsonl, environment.json){_because(report)}")
        return report
    if not re.match(r"\d", subject):
        raise InputError(f"no run directory {subject}, and no job's id: give one of them, like "
                         "runs/first or 1234")
    report = _of_jobs(subject, [subject])
    if not report.jobs:
        found = records.run_of(subject)
        report.measured = measured.find(found) if found else []
        if not report.measured:
            raise InputError(f"nothing is known of job {subject}{_because(report)}\nruns/: no "
                             f"jobs/{subject}.env of a run with figures; name the run directory if "
                             "it lies elsewhere")
    return report


def _of_jobs(subject: str, ids: Iterable[str]) -> Report:
    """What the first scheduler that knows a job says of it."""
    report = Report(subject)
    for job in ids:
        problems = []
        for ask in (ask_sacct, ask_qstat):
            found, problem = ask(job)
            if found:
                report.jobs += found
                break
            problems.append(problem)
        else:
            report.unknown[job] = "; ".join(problems)
    return report


def _because(report: Report) -> str:
    return "".join(f"\n{why}" for why in dict.fromkeys(report.unknown.values()))
