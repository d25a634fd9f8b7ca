"""``hpc-deepfake job report``: what jobs and runs requested, and how much of it they used.

The figures come from ``sacct`` or ``qstat -xf``, whichever has a record of the job, and, for a run,
from the files that it wrote itself. Defined as in ``seff``:

- CPU efficiency = CPU time / (elapsed × allocated CPUs)
- memory efficiency = largest MaxRSS × tasks of any step / memory of the job; with PBS, which has no
  steps, resources_used.mem / Resource_List.mem
- GPU hours = allocated GPUs × elapsed

Energy and the use of GPUs are shown where the site has SLURM measure them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.outputs import check_file
from hpc_deepfake.jobs.accounting import energy, measured, table
from hpc_deepfake.jobs.accounting.pbs import ask_qstat
from hpc_deepfake.jobs.accounting.slurm import ask_sacct
from hpc_deepfake.jobs.accounting.usage import Report
from hpc_deepfake.jobs.accounting.values import ask_anew


def main(argv: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    cli = Parser(prog="hpc-deepfake job report", description=(
        "Show what a job, or all jobs of a run, requested and used: waiting and elapsed time, CPU\n"
        "and memory efficiency and GPU hours, with each step. The figures come from sacct or\n"
        "qstat -xf, and from the run's own records."), epilog=(
        "examples:\n  hpc-deepfake job report runs/first\n  hpc-deepfake job report 1234\n"
        "  hpc-deepfake job report casia2.h5 --json preprocessing-jobs.json"))
    cli.add_argument("subject", metavar="RUN|JOBID",
                     help="run directory, data file, or job id")
    cli.add_argument("--json", type=Path, metavar="FILE",
                     help="also write the figures to this file")
    options = cli.parse(argv)
    run = Path(options.subject)
    check_file("--json", options.json, "JSON", (
        Path(f"{run}.json"), *(run / f"{name}.json" for name in (
            "config", "environment", "summary", "model"))))
    report = account(options.subject)
    print(table.text(report))
    if options.json is not None:
        try:
            write_json(options.json, report.as_dict())
        except OSError as error:
            raise InputError(f"cannot write {options.json}: {error.strerror}; choose another path "
                             "with --json") from None
    return 0


def account(subject: str) -> Report:
    """The report on a run directory, a data file or a job.

    Raises:
        InputError: there is nothing to report; the message says where figures were looked for.
    """
    ask_anew()
    run = Path(subject)
    if run.exists():
        report = _of_jobs(subject, measured.job_ids(run))
        report.measured, report.outcome = measured.find(run), measured.outcome(run)
        if not report.jobs and not report.measured:
            raise InputError(f"{subject} holds no job records (jobs/*.env) and no figures of a "
                             f"run (metrics.jsonl, environment.json){_because(report)}")
        return report
    if not re.match(r"\d", subject):
        raise InputError(f"{subject} is neither a run directory nor a job id: give one, like "
                         "runs/first or 1234")
    report = _of_jobs(subject, [subject])
    if all(job.cpu is None for job in report.jobs):  # the run knows more than the scheduler
        directory = measured.run_of(subject)
        report.measured = measured.find(directory) if directory else []
        if not report.jobs and not report.measured:
            raise InputError(f"no record of job {subject}{_because(report)}\nruns/: no run with "
                             f"figures has jobs/{subject}.env; if the run directory is elsewhere, "
                             "name it instead of the job")
    return report


def _of_jobs(subject: str, ids: Iterable[str]) -> Report:
    """Figures of the jobs, each from the first scheduler that has a record of it."""
    report = Report(subject)
    for job in ids:
        problems = []
        for ask in (ask_sacct, ask_qstat):
            usages, problem = ask(job)
            if usages:
                if ask is ask_sacct:
                    energy.add(job, usages)
                report.jobs += usages
                break
            problems.append(problem)
        else:
            report.unknown[job] = "; ".join(problems)
    return report


def _because(report: Report) -> str:
    """Why jobs have no figures, a line for each reason."""
    return "".join(f"\n{why}" for why in dict.fromkeys(report.unknown.values()))
